//! Threads that read, write, flush, evict, pin and fault at once lose no element, and never exceed the limit.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use pagewise::{PagedArray, PagedRegion, page_size};

use crate::behaves_as_a_plain_array::engines;
use crate::stores::{Heap, InTheHandler};

#[test]
fn no_count_is_lost_while_pages_come_and_go() {
    for engine in engines() {
        for lent in [0, 2] {
            let pages = 24;
            let store = InTheHandler(Heap::new(vec![0; pages * page_size()]));
            let region = PagedRegion::builder(store)
                .engine(engine)
                .page_bytes(page_size())
                .limit(10 * page_size())
                .io_threads(lent)
                .build()
                .unwrap();
            let counters = PagedArray::<AtomicU64, _>::new(region).unwrap();
            let done = AtomicBool::new(false);
            let counted: u64 = std::thread::scope(|scope| {
                let (counters, done) = (&counters, &done);
                scope.spawn(move || disturb(counters, done));
                let counting: Vec<_> =
                    (0..3).map(|seed| scope.spawn(move || count(counters, seed))).collect();
                let counted = counting.into_iter().map(|thread| thread.join().unwrap()).sum();
                done.store(true, Relaxed);
                counted
            });
            assert_eq!(counters.iter().map(|counter| counter.load(Relaxed)).sum::<u64>(), counted);
            counters.flush(..).unwrap();
            let stats = counters.stats();
            assert_eq!((stats.dirty, stats.pinned, stats.io_errors), (0, 0, 0), "{stats:?}");
            let region = counters.into_region();
            let stored = region.store().0.bytes();
            let sum = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().unwrap());
            assert_eq!(stored.chunks_exact(8).map(sum).sum::<u64>(), counted, "{engine:?}");
        }
    }
}

type Counters = PagedArray<AtomicU64, InTheHandler<Heap>>;

fn count(counters: &Counters, seed: u64) -> u64 {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut counted = 0;
    for _ in 0..6_000 {
        let at = random.usize(..counters.len());
        if random.bool() {
            counters[at].fetch_add(1, Relaxed);
            counted += 1;
        } else {
            counters[at].load(Relaxed);
        }
    }
    counted
}

fn disturb(counters: &Counters, done: &AtomicBool) {
    let mut random = fastrand::Rng::with_seed(99);
    while !done.load(Relaxed) {
        let start = random.usize(..counters.len());
        let end = (start + random.usize(..3 * page_size() / 8)).min(counters.len());
        match random.u8(0..5) {
            0 => counters.flush(start..end).unwrap(),
            1 => counters.evict(start..end).unwrap(),
            2 => counters.done_with(start..end).unwrap(),
            3 => counters.prefetch(start..end.min(start + 64)).unwrap(),
            _ => drop(counters.pin(start..end.min(start + 64)).unwrap()),
        }
        let stats = counters.stats();
        assert!(stats.resident <= 10 * page_size(), "{stats:?}");
    }
}
