//! A store that fails makes errors, with the numbers and the store's own error; nothing that was written is lost.

use std::error::Error as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use pagewise::{Engine, Error, PagedArray, PagedRegion, RefusalReason, page_size};

use crate::behaves_as_a_plain_array::{engines, some_bytes};
use crate::common::in_a_process;
use crate::stores::{Heap, InTheHandler, slice};

fn region(engine: Engine, pages: usize, limit: usize) -> PagedRegion<InTheHandler<Heap>> {
    PagedRegion::builder(InTheHandler(Heap::new(some_bytes(pages * page_size()))))
        .engine(engine)
        .page_bytes(page_size())
        .limit(limit * page_size())
        .build()
        .unwrap()
}

#[test]
fn a_read_says_how_many_bytes_came_before() {
    for engine in engines() {
        let region = region(engine, 8, 8);
        region.store().0.reads_fail.store(3, Relaxed);
        let mut bytes = vec![0; 8 * page_size()];
        let stopped = region.read(100, &mut bytes[..5 * page_size()]).unwrap_err();
        assert_eq!(stopped.copied, 2 * page_size() - 100);
        assert!(bytes[..stopped.copied] == region.store().0.bytes()[100..][..stopped.copied]);
        let Error::Store { operation: "read", offset, source } = &stopped.source else {
            panic!("{stopped:?}");
        };
        assert_eq!(*offset, 2 * page_size() as u64);
        assert_eq!(source.raw_os_error(), Some(libc::EPIPE));
        assert!(stopped.source().unwrap().source().is_some(), "the store's error is the source");
        // What half came is no page: the next read brings it.
        region.read(0, &mut bytes).unwrap_err();
        region.store().0.reads_fail.store(0, Relaxed);
        region.read(0, &mut bytes).unwrap();
        assert!(bytes == region.store().0.bytes());
    }
}

#[test]
fn a_failed_write_back_loses_nothing() {
    for engine in engines() {
        let mut region = region(engine, 40, 8);
        let mut array = region.store().0.bytes();
        let store_fails = |region: &PagedRegion<InTheHandler<Heap>>, every| {
            region.store().0.writes_fail.store(every, Relaxed);
        };
        store_fails(&region, 1); // every write
        let mut refused = None;
        for page in 0..40 {
            let at = page * page_size();
            match region.write(at, b"changed") {
                Ok(()) => array[at..at + 7].copy_from_slice(b"changed"),
                Err(stopped) => {
                    refused = Some(stopped);
                    break;
                }
            }
        }
        let stopped = refused.expect("pages that cannot be written take all room");
        assert_eq!(stopped.copied, 0);
        assert!(matches!(stopped.source, Error::Store { operation: "write", .. }), "{stopped:?}");
        let failed = region.flush(..).unwrap_err();
        assert!(matches!(failed, Error::Store { operation: "write", .. }), "{failed:?}");
        assert!(region.stats().dirty > 0 && region.stats().io_errors > 1);
        store_fails(&region, 3); // some writes
        for _ in 0..100 {
            if region.flush(..).is_ok() {
                break;
            }
        }
        store_fails(&region, 0);
        region.flush(..).unwrap();
        assert!(region.store().0.bytes() == array, "{engine:?}");
        assert!(slice(&region) == array);
    }
}

#[test]
fn a_flush_is_an_error_where_the_store_cannot_sync() {
    for engine in engines() {
        let mut region = region(engine, 2, 4);
        region.write(0, b"x").unwrap();
        region.flush(..).unwrap();
        assert_eq!(region.store().0.syncs.load(Relaxed), 1);
        region.store().0.syncs_fail.store(true, Relaxed);
        let failed = region.flush(..).unwrap_err();
        assert!(matches!(failed, Error::Store { operation: "sync", .. }), "{failed:?}");
    }
}

#[test]
fn pages_that_are_pinned_are_never_given_up() {
    for engine in engines() {
        let region = region(engine, 20, 6);
        let room = region.limit() / page_size() - usize::from(engine == Engine::UserFault) * 2;
        let pinned = region.pin(..room * page_size()).unwrap();
        let refused = region.read(room * page_size(), &mut [0]).unwrap_err();
        let all = room * page_size();
        assert!(
            matches!(refused.source, Error::AllPinned { pinned, offset, .. } if (pinned, offset) == (all, all)),
            "{refused:?}"
        );
        // One too many: then none more is pinned.
        assert!(region.pin(all - 1..all + 1).is_err());
        assert_eq!(region.stats().pinned, all);
        region.evict(..).unwrap();
        let loads = region.stats().loads;
        assert!(pinned[..] == region.store().0.bytes()[..all]);
        assert_eq!(region.stats().loads, loads, "they stayed");
        drop(pinned);
        region.read(all, &mut [0]).unwrap();
        assert_eq!(region.stats().pinned, 0);
    }
}

#[test]
fn a_plain_access_to_a_page_that_cannot_be_read_ends_an_attempt() {
    let test = "a_plain_access_to_a_page_that_cannot_be_read_ends_an_attempt";
    let ended = in_a_process(test, || {
        for engine in engines() {
            let region = region(engine, 4, 6);
            let at = 2 * page_size() + 5;
            region.store().0.reads_fail.store(1, Relaxed);
            let byte = &slice(&region)[at];
            // SAFETY: the closure's frames have no destructors.
            let refused = unsafe { pagewise::fault::attempt(|| std::ptr::read_volatile(byte)) };
            let refusal = refused.unwrap_err();
            assert_eq!(refusal.offset, at);
            assert_eq!(refusal.reason, RefusalReason::Store(std::io::ErrorKind::BrokenPipe));
            region.store().0.reads_fail.store(0, Relaxed);
            assert_eq!(*byte, region.store().0.bytes()[at]);
        }
    });
    ended.well();
}

#[test]
fn a_refused_access_ends_the_process_with_a_line() {
    let ended = in_a_process("a_refused_access_ends_the_process_with_a_line", || {
        let region = region(Engine::Auto, 4, 6);
        region.store().0.reads_fail.store(1, Relaxed);
        std::hint::black_box(slice(&region)[3]);
    });
    assert!(!ended.status.success(), "{ended:#?}");
    let [line] = ended.diagnostics()[..] else { panic!("{ended:#?}") };
    assert!(line.contains("at offset 0x3 of the region at "), "{line}");
    assert!(line.contains("the store could not read the page"), "{line}");
}

#[test]
fn a_store_that_panics_is_an_error() {
    struct Panics;
    impl pagewise::PageStore for Panics {
        fn len(&self) -> u64 {
            10 * page_size() as u64
        }
        fn read(&self, _: u64, _: &mut [u8]) -> std::io::Result<()> {
            panic!("a store's panic")
        }
        fn write(&self, _: u64, _: &[u8]) -> std::io::Result<()> {
            panic!("a store's panic")
        }
        fn sync(&self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut region = PagedRegion::builder(Panics).io_threads(1).build().unwrap();
    for _ in 0..2 {
        assert!(matches!(region.read(0, &mut [0]).unwrap_err().source, Error::Store { .. }));
    }
    let byte = &slice(&region)[0];
    // SAFETY: the closure's frames have no destructors.
    let refused = unsafe { pagewise::fault::attempt(|| std::ptr::read_volatile(byte)) };
    assert_eq!(refused.unwrap_err().reason, RefusalReason::Store(std::io::ErrorKind::Other));
    assert_eq!(region.take_error().unwrap().to_string(), "the store panicked");
    let len = region.len();
    region.fill(..len, 7).unwrap(); // pages that are replaced as a whole are not read
    assert!(region.flush(..).is_err());
    assert!(slice(&region).iter().all(|&byte| byte == 7));
}

/// Early write-back: pages that cool are written by lent threads, and their errors can be taken.
#[test]
fn what_a_lent_thread_could_not_write_can_be_asked_for() {
    let store = Heap::new(vec![0; 64 * page_size()]);
    let region = PagedRegion::builder(store)
        .page_bytes(page_size())
        .limit(16 * page_size())
        .io_threads(1)
        .build()
        .unwrap();
    region.store().writes_fail.store(1, Relaxed);
    // SAFETY: nobody else writes to the store.
    let counters = unsafe { PagedArray::<AtomicU64, _>::new(region) }.unwrap();
    let per_page = page_size() / 8;
    for page in 0..12 {
        counters[page * per_page].store(7, Relaxed);
    }
    // Reading the others makes the written ones cool; the thread comes when it does.
    let (mut error, began) = (None, std::time::Instant::now());
    while error.is_none() && began.elapsed().as_secs() < 60 {
        for page in 12..64 {
            let at = page * per_page;
            let _ = counters.pin(at..at + 1);
        }
        std::thread::yield_now();
        error = counters.take_error();
    }
    assert_eq!(error.expect("a write failed").raw_os_error(), Some(libc::ENOSPC));
}
