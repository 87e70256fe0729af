//! Lent threads read ahead all the time while a program goes through a region, each page once, and no further than they may.

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use pagewise::{Budget, Engine, PageStore, PagedRegion, PagedRegionBuilder, PagedState, page_size};

use crate::behaves_as_a_plain_array::{engines, some_bytes};
use crate::stores::{Heap, InTheHandler, slice, slice_mut};

/// Pages of the stores, and frames of the regions: an eighth of them is 8.
const PAGES: usize = 200;
const FRAMES: usize = 64;

fn builder<S: PageStore + 'static>(engine: Engine, store: S) -> PagedRegionBuilder<S> {
    // (Read-only, so that both engines have as many frames.)
    let builder = PagedRegion::builder(store).engine(engine).page_bytes(page_size());
    builder.limit(FRAMES * page_size()).read_only()
}

fn heap() -> Heap {
    Heap::new(some_bytes(PAGES * page_size()))
}

fn touch<S: PageStore + 'static>(region: &PagedRegion<S>, page: usize) -> u8 {
    std::hint::black_box(slice(region)[page * page_size() + 9])
}

/// Waits for what other threads are about to do.
#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(60), "it never happened: {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn in_memory<S: PageStore + 'static>(region: &PagedRegion<S>) -> Vec<bool> {
    let map = region.page_map(..).unwrap();
    map.into_iter().map(|state| matches!(state, PagedState::Clean | PagedState::Dirty)).collect()
}

#[test]
fn pages_are_asked_for_before_those_that_were_asked_for_are_used_up() {
    for engine in engines() {
        for threads in [1, 3] {
            let region = builder(engine, heap()).io_threads(threads).build().unwrap();
            let expected = region.store().bytes();
            for page in 0..PAGES {
                assert_eq!(touch(&region, page), expected[page * page_size() + 9]);
                // After a few pages, at least three sixteenths of the frames are ahead, and a quarter at most.
                let (least, most) = (if page < 12 { page.min(1) } else { 12 }, 16);
                let end = (page + 1 + least).min(PAGES);
                until("the next pages are there", || {
                    in_memory(&region)[page..end] == vec![true; end - page]
                });
                let beyond = in_memory(&region).split_off((page + 1 + most).min(PAGES));
                assert!(page + most < FRAMES / 2 || !beyond.contains(&true), "{engine:?}: {page}");
            }
            let stats = region.stats();
            assert_eq!((stats.loads, stats.rescues), (PAGES as u64, 0), "{engine:?}");
            assert!((2..PAGES as u64 / 2).contains(&stats.faults), "{engine:?}: {stats:?}");
        }
    }
}

/// Keeps each call waiting until it is let go.
struct Gate {
    heap: Heap,
    calls: Mutex<Calls>,
    changed: Condvar,
}

#[derive(Default)]
struct Calls {
    waiting: Vec<u64>,
    is_open: bool,
}

impl PageStore for Gate {
    fn len(&self) -> u64 {
        self.heap.len()
    }
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut calls = self.calls.lock().unwrap();
        calls.waiting.push(offset);
        let waits = |calls: &mut Calls| !calls.is_open && calls.waiting.contains(&offset);
        drop(self.changed.wait_while(calls, waits).unwrap());
        self.heap.read(offset, buffer)
    }
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.heap.write(offset, bytes)
    }
    fn sync(&self) -> io::Result<()> {
        self.heap.sync()
    }
}

/// Lets all calls go when it is dropped, so that a test that fails does not wait for ever.
struct Opens<'a>(&'a Gate);

impl Drop for Opens<'_> {
    fn drop(&mut self) {
        self.0.calls.lock().unwrap().is_open = true;
        self.0.changed.notify_all();
    }
}

#[test]
fn the_store_always_has_as_many_calls_as_there_are_threads() {
    const THREADS: usize = 4;
    for engine in engines() {
        let gate = Gate { heap: heap(), calls: Mutex::default(), changed: Condvar::new() };
        let region = builder(engine, gate).io_threads(THREADS).build().unwrap();
        let gate = region.store();
        std::thread::scope(|scope| {
            let _opens = Opens(gate);
            scope.spawn(|| assert!(slice(&region) == gate.heap.bytes()));
            for done in 0..PAGES {
                // Nothing is let go before so many calls wait. At the beginning, it is not known yet that there is a row; at
                // the end, there are not so many pages.
                let wanted = if done < 8 { 1 } else { THREADS.min(PAGES - done) };
                let waiting = || gate.calls.lock().unwrap().waiting.len();
                until("all threads are in the store", || waiting() >= wanted);
                let mut calls = gate.calls.lock().unwrap();
                let first = *calls.waiting.iter().min().unwrap();
                calls.waiting.retain(|&offset| offset != first);
                gate.changed.notify_all();
            }
        });
        assert_eq!(region.stats().loads, PAGES as u64, "{engine:?}");
    }
}

#[test]
fn a_round_through_more_than_the_limit_reads_few_pages_twice() {
    for engine in engines() {
        for (threads, read_only) in [(1, true), (2, false), (4, true)] {
            let builder = PagedRegion::builder(heap()).engine(engine).page_bytes(page_size());
            let builder = builder.limit(FRAMES * page_size()).io_threads(threads);
            let region = if read_only { builder.read_only() } else { builder }.build().unwrap();
            let expected = region.store().bytes();
            for round in 1..=3 {
                for (at, expected) in expected.chunks(page_size()).enumerate() {
                    assert!(slice(&region)[at * page_size()..][..page_size()] == *expected);
                    assert!(region.stats().resident <= FRAMES * page_size());
                }
                // How many more it is depends on how the threads run: one that comes late may read a page that has been there,
                // and left; a page may leave before its touch, or be there still in the next round.
                let stats = region.stats();
                let (all, few) = (round * PAGES as u64, round * PAGES as u64 / 4);
                assert!(stats.loads.abs_diff(all) <= few, "{engine:?}, {round}: {stats:?}");
            }
        }
    }
}

/// Pages that were read ahead and wait for their first touch are pages like others for every method.
#[test]
fn what_was_read_ahead_can_be_written_pinned_flushed_and_evicted() {
    for engine in engines() {
        let builder = PagedRegion::builder(heap()).engine(engine).page_bytes(page_size());
        let mut region = builder.io_threads(2).read_ahead(32 * page_size()).build().unwrap();
        let (mut expected, page) = (region.store().bytes(), page_size());
        let ahead = |region: &PagedRegion<Heap>, first: usize| {
            touch(region, first);
            touch(region, first + 1);
            until("the next two pages", || in_memory(region)[first + 2..first + 4] == [true; 2]);
        };

        ahead(&region, 0);
        slice_mut(&mut region)[2 * page] = 77;
        expected[2 * page] = 77;
        assert_eq!(region.page_map(2 * page..3 * page).unwrap(), [PagedState::Dirty]);
        region.flush(..).unwrap();
        assert!(region.store().bytes() == expected);

        ahead(&region, 20);
        region.write(22 * page, &vec![5; 2 * page]).unwrap();
        expected[22 * page..24 * page].fill(5);
        let pinned = region.pin(20 * page..25 * page).unwrap();
        assert!(pinned[..] == expected[20 * page..25 * page]);
        drop(pinned);

        ahead(&region, 40);
        let mut bytes = vec![0; 4 * page];
        region.read(40 * page, &mut bytes).unwrap();
        assert!(bytes == expected[40 * page..44 * page]);
        // That was a row, too: `read` came to what was read ahead.
        until("the pages behind what was read", || in_memory(&region)[44..46] == [true; 2]);

        ahead(&region, 80);
        region.done_with(80 * page..84 * page).unwrap();
        region.prefetch(82 * page..84 * page).unwrap();
        ahead(&region, 120);
        let loads = || region.store().reads.load(Relaxed);
        until("the threads rest", || {
            let before = loads();
            std::thread::sleep(Duration::from_millis(20));
            before == loads()
        });
        region.evict(..).unwrap();
        assert!(!in_memory(&region).contains(&true), "{engine:?}");
        assert_eq!(region.stats().dirty, 0);
        assert!(slice(&region) == expected && region.store().bytes() == expected, "{engine:?}");
    }
}

/// What is read ahead takes its room from pages that nobody needs: not from pages in use, nor from others that were read ahead
/// and are not touched yet.
#[test]
fn a_scan_beside_pages_that_are_in_use_drives_out_none_of_them() {
    const SCANNED: usize = 1_000;
    for engine in engines() {
        for in_use in [10, 30, 44] {
            let store = Heap::new(some_bytes((FRAMES + SCANNED) * page_size()));
            let region = builder(engine, store).io_threads(2).build().unwrap();
            for page in 0..SCANNED {
                (0..in_use).for_each(|used| _ = touch(&region, used));
                touch(&region, FRAMES + page);
            }
            // Without reading ahead, it is 1,142 at most. How many it is depends on how the threads run.
            let stats = region.stats();
            assert!(stats.loads < 1_800, "{engine:?}, {in_use} in use: {stats:?}");
        }
    }
}

#[test]
fn several_parts_that_are_gone_through_at_once_are_all_read_ahead() {
    const ROWS: usize = 3;
    const EACH: usize = 400;
    for engine in engines() {
        for threads in [0, 2] {
            let store = InTheHandler(Heap::new(some_bytes(ROWS * EACH * page_size())));
            let region = builder(engine, store).limit(4 * FRAMES * page_size());
            let region = region.io_threads(threads).build().unwrap();
            for step in 0..EACH {
                (0..ROWS).for_each(|row| _ = touch(&region, row * EACH + step));
                if threads > 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            let stats = region.stats();
            let all = (ROWS * EACH) as u64;
            assert!(stats.loads < all + all / 8, "{engine:?} {threads}: {stats:?}");
            assert!(stats.faults < all * 3 / 4, "{engine:?} {threads}: {stats:?}");
        }
    }
}

/// Regions whose budget is used up read ahead, too, of what they hold themselves.
#[test]
fn a_region_whose_budget_is_used_up_reads_ahead() {
    for engine in engines() {
        for threads in [0, 2] {
            let budget = Budget::new(2 * FRAMES * page_size());
            let of = |threads| {
                let builder = PagedRegion::builder(InTheHandler(heap())).engine(engine);
                let builder = builder.page_bytes(page_size()).read_only().budget(budget.clone());
                builder.io_threads(threads).build().unwrap()
            };
            let (other, region) = (of(0), of(threads));
            other.prefetch(..FRAMES * page_size()).unwrap();
            for page in (0..PAGES).cycle().take(2 * PAGES) {
                touch(&region, page);
                if threads > 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            let stats = region.stats();
            assert!(stats.evictions >= PAGES as u64, "{engine:?} {threads}: {stats:?}");
            assert!(
                stats.loads < (2 * PAGES + PAGES / 4) as u64,
                "{engine:?} {threads}: {stats:?}"
            );
            assert!(stats.faults < stats.loads * 3 / 4, "{engine:?} {threads}: {stats:?}");
            assert!(budget.peak() <= budget.limit());
        }
    }
}
