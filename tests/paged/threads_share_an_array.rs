//! Threads that read, write, flush, evict, pin and fault at once lose no element, and never exceed the limit.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use pagewise::{PagedArray, PagedRegion, SecondChance, page_size};

use crate::behaves_as_a_plain_array::engines;
use crate::stores::{Heap, InTheHandler, slice};

#[test]
fn no_count_is_lost_while_pages_come_and_go() {
    for engine in engines() {
        for (lent, pages, limit, each) in
            [(0, 24, 10, 6_000), (2, 24, 10, 6_000), (2, 9_000, 8_400, 30_000)]
        {
            let store = InTheHandler(Heap::new(vec![0; pages * page_size()]));
            let region = PagedRegion::builder(store)
                .engine(engine)
                .page_bytes(page_size())
                .limit(limit * page_size())
                .second_chance(SecondChance::Never)
                .io_threads(lent)
                .build()
                .unwrap();
            // SAFETY: nobody else writes to the store.
            let counters = unsafe { PagedArray::<AtomicU64, _>::new(region) }.unwrap();
            let done = AtomicBool::new(false);
            let counted: u64 = std::thread::scope(|scope| {
                let (counters, done) = (&counters, &done);
                scope.spawn(move || disturb(counters, limit, done));
                let counting: Vec<_> =
                    (0..3).map(|seed| scope.spawn(move || count(counters, each, seed))).collect();
                let counted = counting.into_iter().map(|thread| thread.join().unwrap()).sum();
                done.store(true, Relaxed);
                counted
            });
            assert_eq!(counters.iter().map(|counter| counter.load(Relaxed)).sum::<u64>(), counted);
            counters.flush(..).unwrap();
            let stats = counters.stats();
            assert!(stats.evictions > 0, "{stats:?}");
            assert_eq!((stats.dirty, stats.pinned, stats.io_errors), (0, 0, 0), "{stats:?}");
            let region = counters.into_region();
            let stored = region.store().0.bytes();
            let sum = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().unwrap());
            assert_eq!(stored.chunks_exact(8).map(sum).sum::<u64>(), counted, "{engine:?}");
        }
    }
}

type Counters = PagedArray<AtomicU64, InTheHandler<Heap>>;

fn count(counters: &Counters, each: usize, seed: u64) -> u64 {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut counted = 0;
    for _ in 0..each {
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

fn disturb(counters: &Counters, limit: usize, done: &AtomicBool) {
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
        assert!(stats.resident <= limit * page_size(), "{stats:?}");
    }
}

/// A store that hangs: only those who touch the page that it is asked for wait.
#[test]
fn others_go_on_while_the_store_hangs() {
    use std::sync::{Arc, Condvar, Mutex};

    #[derive(Default)]
    struct Gate {
        is_open: Mutex<bool>,
        opens: Condvar,
    }
    struct Hangs(Arc<Gate>);
    impl pagewise::PageStore for Hangs {
        fn len(&self) -> u64 {
            32 * page_size() as u64
        }
        fn read(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<()> {
            if offset as usize == 5 * page_size() {
                let is_open = self.0.is_open.lock().unwrap();
                drop(self.0.opens.wait_while(is_open, |is_open| !*is_open).unwrap());
            }
            buffer.fill((offset as usize / page_size()) as u8);
            Ok(())
        }
        fn write(&self, _: u64, _: &[u8]) -> std::io::Result<()> {
            Ok(())
        }
        fn sync(&self) -> std::io::Result<()> {
            Ok(())
        }
    }
    for engine in engines() {
        let gate = Arc::new(Gate::default());
        let region = PagedRegion::builder(Hangs(gate.clone()))
            .engine(engine)
            .page_bytes(page_size())
            .limit(10 * page_size())
            .io_threads(2)
            .build()
            .unwrap();
        let byte = |page: usize| slice(&region)[page * page_size()];
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| byte(5));
            for round in 0..3 {
                for page in (0..32).filter(|&page| page != 5) {
                    assert_eq!(byte(page), page as u8, "{round}");
                }
            }
            assert!(!waiting.is_finished());
            *gate.is_open.lock().unwrap() = true;
            gate.opens.notify_all();
            assert_eq!(waiting.join().unwrap(), 5);
        });
    }
}
