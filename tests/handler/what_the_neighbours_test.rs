//! What libsigsegv, V8, HotSpot and the Linux kernel test of their own fault handling, tested of pagewise.
#![cfg(all(unix, not(pagewise_model)))]

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};

use crate::common::signals::*;
use crate::common::{self, in_a_process, page_by_page, peek, poke};
use pagewise::{CommitStep, DemandRegion, FaultOutcome, page_size};

/// libsigsegv's `sigsegv1`: the handler sees the exact address once; a second write is silent.
#[test]
fn one_event_with_the_exact_address_and_then_silence() {
    let builder = DemandRegion::builder(4 * page_size()).step(CommitStep::page()).events(8);
    let region = builder.build().unwrap();
    let at = page_size() + 678;
    poke(region.as_ptr().wrapping_add(at), 42);
    poke(region.as_ptr().wrapping_add(at), 43);
    poke(region.as_ptr().wrapping_add(at + 1), 44);
    let events: Vec<_> = region.events().collect();
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0].offset, at);
    // Some platforms do not tell: see `fault_events_are_exact`.
    assert!(matches!(events[0].write, Some(true)) || !cfg!(target_arch = "x86_64"), "{events:?}");
    let committed = FaultOutcome::Committed { start: page_size(), len: page_size() };
    assert_eq!(events[0].outcome, committed);
}

/// libsigsegv's `sigsegv3`: three areas, registered out of order of their addresses.
#[test]
fn each_area_has_its_own_faults() {
    let mut areas: Vec<_> = (0..3).map(|_| page_by_page(2)).collect();
    areas.sort_by_key(|area| [1, 0, 2][area.as_ptr().addr() / page_size() % 3]);
    for area in [1, 2, 1, 0] {
        poke(areas[area].as_ptr(), 1);
    }
    assert!(areas.iter().all(|area| area.stats().faults == 1));
    drop(areas.remove(1));
    areas.iter().for_each(|area| poke(area.as_ptr().wrapping_add(page_size()), 1));
    assert!(areas.iter().all(|area| area.stats().faults == 2));
}

/// libsigsegv's `sigsegv2`, where a handler leaves by a jump: two refusals in a row, after which the signal mask is as
/// before.
#[test]
fn refusals_in_a_row_leave_the_mask_alone() {
    let mut region = DemandRegion::builder(1 << 20).limit(0).build().unwrap();
    for round in 1..=3 {
        assert_eq!(region.fill(.., 1).unwrap_err().copied, 0);
        assert!([libc::SIGSEGV, libc::SIGBUS, libc::SIGUSR1].iter().all(|&s| !is_blocked(s)));
        assert_eq!(region.stats().refused, round);
    }
}

/// V8: an access at a known instruction recovers while the region exists; after its release, the same access
/// faults in the previous handler.
#[test]
fn what_was_ours_is_the_hosts_once_the_region_is_gone() {
    static SEEN: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn hosts(_: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
        // SAFETY: the kernel's record; the host gives its own memory to the place that faulted.
        unsafe {
            let at = (*info).si_addr().map_addr(|address| address & !(page_size() - 1));
            let flags = libc::MAP_PRIVATE | libc::MAP_ANON | libc::MAP_FIXED;
            let access = libc::PROT_READ | libc::PROT_WRITE;
            assert_eq!(libc::mmap(at, page_size(), access, flags, -1, 0), at);
        }
        SEEN.fetch_add(1, Relaxed);
    }
    in_a_process("what_was_ours_is_the_hosts_once_the_region_is_gone", || {
        set_three(libc::SIGSEGV, hosts, libc::SA_ONSTACK, &[]);
        set_three(libc::SIGBUS, hosts, libc::SA_ONSTACK, &[]);
        let region = page_by_page(1);
        let at = region.as_ptr();
        poke(at, 1);
        assert_eq!(SEEN.load(Relaxed), 0);
        region.release().unwrap();
        poke(at, 2);
        assert_eq!((SEEN.load(Relaxed), peek(at)), (1, 2));
    })
    .well();
}

/// HotSpot's SafeFetch: good memory, bad memory, from inside a signal handler, without any thread-local
/// state set up (a thread that the C library made).
#[test]
fn guarded_reads_work_inside_a_signal_handler_and_on_foreign_threads() {
    static GOOD: AtomicPtr<DemandRegion> = AtomicPtr::new(std::ptr::null_mut());
    static BAD: AtomicPtr<DemandRegion> = AtomicPtr::new(std::ptr::null_mut());
    static DONE: AtomicUsize = AtomicUsize::new(0);
    fn fetch() {
        // SAFETY: the test waits for the thread that runs this.
        let (good, bad) = unsafe { (&*GOOD.load(Relaxed), &*BAD.load(Relaxed)) };
        let mut byte = [9];
        let (fine, refused) = (good.read(5, &mut byte), bad.read(5, &mut byte));
        if fine.is_ok() && refused.is_err_and(|error| error.copied == 0) && byte == [7] {
            DONE.fetch_add(1, Relaxed);
        }
    }
    extern "C" fn in_handler(_: c_int) {
        fetch();
    }
    extern "C" fn on_thread(_: *mut c_void) -> *mut c_void {
        fetch();
        std::ptr::null_mut()
    }
    in_a_process("guarded_reads_work_inside_a_signal_handler_and_on_foreign_threads", || {
        use_a_roomy_stack();
        let mut good = page_by_page(1);
        good.write(5, &[7]).unwrap();
        let mut bad = DemandRegion::builder(1 << 20).limit(0).build().unwrap();
        GOOD.store(&raw mut good, Relaxed);
        BAD.store(&raw mut bad, Relaxed);
        fetch();
        for flags in [0, libc::SA_ONSTACK] {
            set_one(libc::SIGUSR1, in_handler, flags, &[]);
            send(libc::SIGUSR1);
        }
        // SAFETY: the thread ends before this one goes on.
        unsafe {
            let mut thread = std::mem::zeroed();
            libc::pthread_create(&mut thread, std::ptr::null(), on_thread, std::ptr::null_mut());
            libc::pthread_join(thread, std::ptr::null_mut());
        }
        assert_eq!(DONE.load(Relaxed), 4);
    })
    .well();
}

/// The kernel's tests of guard regions, with each engine: pages between decommitted ones keep their contents, and pages
/// that are committed again read zero.
#[test]
fn pages_come_and_go_alone_and_in_runs() {
    for engine in [pagewise::Engine::Protect, pagewise::Engine::Guard] {
        let builder = DemandRegion::builder(100 * page_size()).step(CommitStep::page());
        let Ok(mut region) = builder.engine(engine).build() else {
            common::not_here(&format!("{engine:?}"));
            continue;
        };
        let at = |page: usize| region.as_ptr().wrapping_add(page * page_size());
        (0..100).for_each(|page| poke(at(page), page as u8 + 1));
        let pages: Vec<*mut u8> = (0..100).map(at).collect();
        for page in (0..100).step_by(2) {
            region.decommit(page * page_size()..(page + 1) * page_size()).unwrap();
        }
        assert_eq!(region.committed(), 50 * page_size());
        for (page, &at) in pages.iter().enumerate() {
            assert_eq!(peek(at), if page % 2 == 0 { 0 } else { page as u8 + 1 });
        }
        region.decommit(10 * page_size()..90 * page_size()).unwrap();
        region.decommit(10 * page_size()..90 * page_size()).unwrap();
        assert_eq!(region.committed(), 20 * page_size());
        region.commit(20 * page_size()..21 * page_size()).unwrap();
        assert_eq!((peek(pages[20]), peek(pages[9]), peek(pages[91])), (0, 10, 92));
    }
}
