//! Clean pages that are read again as quickly as they could be moved are dropped: no byte is lost, none is kept too long,
//! and others get their second chance.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use pagewise::{
    Budget, Engine, PageStore, PagedRegion, PagedRegionBuilder, SecondChance, page_size,
};

use crate::behaves_as_a_plain_array::{engines, one_operation, some_bytes};
use crate::stores::{Heap, InTheHandler, slice};

/// From so many pages on, some are set aside for buffers.
pub const LIMIT: usize = 256;
pub const PAGES: usize = 1_000;

pub fn builder<S: PageStore + 'static>(store: S, chance: SecondChance) -> PagedRegionBuilder<S> {
    let builder = PagedRegion::builder(store).page_bytes(page_size()).read_ahead(0);
    builder.limit(LIMIT * page_size()).second_chance(chance)
}

pub fn heap() -> InTheHandler<Heap> {
    InTheHandler(Heap::new(some_bytes(PAGES * page_size())))
}

/// Touches pages until some have left, and others are about to; then some of these. Returns how many of the latter were
/// rescued, and how many loaded.
fn touches_what_cools<S: PageStore + 'static>(region: &PagedRegion<S>) -> (u64, u64) {
    let touch = |page: usize| _ = std::hint::black_box(slice(region)[page * page_size()]);
    // (In pairs that are no row, since the pages behind a long row leave first.)
    (0..(LIMIT + LIMIT / 16) / 2)
        .for_each(|pair| [2 * pair + 1, 2 * pair].into_iter().for_each(touch));
    let before = region.stats();
    assert!((1..COOL.start).contains(&(before.evictions as usize)), "{before:?}");
    COOL.for_each(touch);
    let after = region.stats();
    (after.rescues - before.rescues, after.loads - before.loads)
}

/// Pages that are about to leave then.
const COOL: std::ops::Range<usize> = LIMIT / 8 - 6..LIMIT / 8;

#[test]
fn only_pages_that_get_a_second_chance_are_taken_out_before_they_leave() {
    for engine in engines() {
        let of = |chance| builder(heap(), chance).engine(engine).build().unwrap();
        let region = of(SecondChance::Always);
        let cool = COOL.len() as u64;
        assert_eq!(touches_what_cools(&region), (cool, 0), "{engine:?}: {:?}", region.stats());

        let region = of(SecondChance::Never);
        // (The other engine has its pages at their frames anyway.)
        let rescued = if engine == Engine::UserFault { 0 } else { cool };
        assert_eq!(touches_what_cools(&region), (rescued, 0), "{engine:?}: {:?}", region.stats());
        assert!(slice(&region) == region.store().0.bytes());
    }
}

/// Each of its reads takes a while.
struct Slow(Heap);

impl PageStore for Slow {
    fn len(&self) -> u64 {
        self.0.len()
    }
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let began = Instant::now();
        while began.elapsed() < Duration::from_micros(50) {
            std::hint::spin_loop();
        }
        self.0.read(offset, buffer)
    }
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write(offset, bytes)
    }
    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}

#[test]
fn pages_of_a_store_that_takes_long_get_a_second_chance() {
    for engine in engines() {
        let store = InTheHandler(Slow(Heap::new(some_bytes(PAGES * page_size()))));
        let region = builder(store, SecondChance::Measured).engine(engine).build().unwrap();
        let cool = COOL.len() as u64;
        assert_eq!(touches_what_cools(&region), (cool, 0), "{engine:?}: {:?}", region.stats());
    }
}

#[test]
fn what_is_dropped_and_read_again_is_a_plain_array() {
    for engine in engines() {
        for (chance, threads) in
            [(SecondChance::Never, 0), (SecondChance::Never, 2), (SecondChance::Measured, 0)]
        {
            let len = PAGES * page_size() - 99;
            let mut array = some_bytes(len);
            let store = InTheHandler(Heap::new(array.clone()));
            let builder = builder(store, chance).engine(engine).io_threads(threads);
            let mut region = builder.build().unwrap();
            let mut random = fastrand::Rng::with_seed(5);
            for step in 0..6_000 {
                one_operation(&mut region, &mut array, &mut random);
                let stats = region.stats();
                assert!(stats.resident <= region.limit(), "{stats:?}");
                // Reads that fail now and then leave nothing behind.
                if step % 1_000 == 0 {
                    region.store().0.reads_fail.store(1, Relaxed);
                    let failed = (0..40).filter(|at| region.read(at * len / 40, &mut [0]).is_err());
                    assert!(failed.count() > 0, "some pages are not in memory");
                    region.store().0.reads_fail.store(0, Relaxed);
                }
            }
            assert!(region.stats().evictions > 0);
            region.flush(..).unwrap();
            assert!(region.store().0.bytes() == array, "{engine:?} {chance:?}");
            assert!(slice(&region) == array);
            region.evict(..).unwrap();
            // What is set aside for copies and buffers.
            let kept = if engine == Engine::UserFault { LIMIT / 64 * page_size() } else { 0 };
            assert_eq!(region.stats().resident, kept, "{engine:?}");
        }
    }
}

#[test]
fn pages_of_a_quick_store_get_no_second_chance() {
    if crate::common::emulated() || crate::common::sanitized() {
        return crate::common::not_here("a store that is as quick as memory");
    }
    let dropped = || {
        let region = builder(heap(), SecondChance::Measured).build().unwrap();
        region.engine() != Engine::UserFault || touches_what_cools(&region) == (0, 0)
    };
    // (On a busy machine, the store may look slow for a while.)
    assert!((0..20).any(|_| dropped()));
}

/// However many pages the store has, a region that may hold few drops few at once.
#[test]
fn what_is_dropped_early_is_little_of_what_is_held() {
    for engine in engines() {
        let loads = [SecondChance::Always, SecondChance::Never].map(|chance| {
            let budget = Budget::new(144 * page_size());
            let store = InTheHandler(Heap::new(vec![1; 8_192 * page_size()]));
            let builder = PagedRegion::builder(store).engine(engine).page_bytes(page_size());
            let builder = builder.read_ahead(0).second_chance(chance).budget(budget);
            let region = builder.build().unwrap();
            let mut random = fastrand::Rng::with_seed(8);
            for _ in 0..20_000 {
                std::hint::black_box(slice(&region)[random.usize(..150) * page_size()]);
            }
            region.stats().loads
        });
        assert!(loads[1] < loads[0] * 11 / 10, "{engine:?}: {loads:?}");
    }
}

/// Free room is seen, whatever was evicted before.
#[test]
fn a_page_that_nobody_needs_hides_no_free_room() {
    for engine in engines() {
        let region = builder(heap(), SecondChance::Always).engine(engine).build().unwrap();
        touches_what_cools(&region);
        region.store().0.reads_fail.store(1, Relaxed);
        region.read(900 * page_size(), &mut [0]).unwrap_err();
        region.store().0.reads_fail.store(0, Relaxed);
        for page in COOL.end..COOL.end + 6 {
            let page = page * page_size()..(page + 1) * page_size();
            region.done_with(page.clone()).unwrap();
            region.evict(page).unwrap();
        }
        region.evict(..).unwrap();
        let stats = region.stats();
        assert_eq!(stats.evictions, stats.loads, "every page that came has left: {stats:?}");
        let kept = if engine == Engine::UserFault { LIMIT / 64 * page_size() } else { 0 };
        assert_eq!(region.stats().resident, kept, "{engine:?}");
    }
}

/// A neighbour without a page gets one, though the threads of the larger region take all room that they make.
#[test]
fn a_neighbour_gets_its_page_from_a_region_whose_threads_miss() {
    let page = page_size();
    let budget = Budget::new(1_024 * page);
    let of = |pages: usize| {
        let store = InTheHandler(Heap::new(vec![7; pages * page]));
        let builder = PagedRegion::builder(store).page_bytes(page).read_ahead(0);
        builder.second_chance(SecondChance::Never).budget(budget.clone()).build().unwrap()
    };
    let (large, small) = (of(4_096), of(64));
    let (done, misses) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for seed in 0..3 {
            let (large, done, misses) = (&large, &done, &misses);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                while !done.load(Relaxed) {
                    large.read(random.usize(..4_096) * page, &mut [0]).unwrap();
                    misses.fetch_add(1, Relaxed);
                }
            });
        }
        let results: Vec<_> = (0..600)
            .map(|_| {
                small.evict(..).unwrap();
                let before = misses.load(Relaxed);
                while misses.load(Relaxed) < before + 20 {
                    std::thread::yield_now();
                }
                small.read(0, &mut [0])
            })
            .collect();
        done.store(true, Relaxed);
        let refused: Vec<_> = results.into_iter().filter_map(Result::err).collect();
        assert!(refused.is_empty(), "{} refusals: {:?}", refused.len(), refused[0]);
    });
}

/// A page that was dropped for a neighbour gives its memory to the budget.
#[test]
fn neighbours_drop_pages_for_each_other() {
    for engine in engines() {
        let budget = Budget::new(600 * page_size());
        let [one, two] = [1, 2].map(|_| {
            let builder = PagedRegion::builder(heap()).engine(engine).page_bytes(page_size());
            let builder = builder.second_chance(SecondChance::Never).budget(budget.clone());
            builder.build().unwrap()
        });
        let all = |region: &PagedRegion<InTheHandler<Heap>>| {
            assert!(slice(region) == region.store().0.bytes(), "{engine:?}");
        };
        all(&one);
        assert!(one.stats().resident >= 550 * page_size());
        // (What is read ahead takes nothing from a neighbour.)
        (0..2).for_each(|_| all(&two));
        assert!(two.stats().resident >= 180 * page_size(), "{:?} {:?}", one.stats(), two.stats());
        assert!(budget.peak() <= budget.limit());
        assert_eq!(budget.used(), one.stats().resident + two.stats().resident);
        drop(one);
        all(&two);
        drop(two);
        assert_eq!(budget.used(), 0);
    }
}
