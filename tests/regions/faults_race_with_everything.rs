//! Faults are served while other threads fault on the same page, make, decommit and release regions; and the limit is
//! never exceeded.
#![cfg(not(pagewise_model))]

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::common::{self, page_by_page, peek, poke};
use pagewise::{Budget, CommitStep, DemandRegion, page_size};

/// An address that several threads may use.
#[derive(Clone, Copy)]
struct Address(*mut u8);
// SAFETY: the tests see to it that what threads write to is apart.
unsafe impl Send for Address {}
// SAFETY: as above.
unsafe impl Sync for Address {}

impl Address {
    fn of(region: &DemandRegion) -> Self {
        Self(region.as_ptr())
    }

    fn page(self, page: usize) -> *mut u8 {
        self.0.wrapping_add(page * page_size())
    }
}

fn scale(native: usize) -> usize {
    if common::emulated() { native / 10 } else { native }
}

#[test]
fn many_threads_on_one_page_count_one_fault() {
    const THREADS: usize = 4;
    let rounds = scale(300);
    let region = page_by_page(rounds);
    let (start, barrier) = (Address::of(&region), Barrier::new(THREADS));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let barrier = &barrier;
            scope.spawn(move || {
                for page in 0..rounds {
                    barrier.wait();
                    poke(start.page(page).wrapping_add(thread * 8), thread as u8 + 1);
                }
            });
        }
    });
    let stats = region.stats();
    assert_eq!((stats.faults, stats.committed), (rounds as u64, rounds * page_size()));
    for page in 0..rounds {
        for thread in 0..THREADS {
            assert_eq!(peek(start.page(page).wrapping_add(thread * 8)), thread as u8 + 1);
        }
    }
}

/// A thread that loses many races for one page is not mistaken for one whose access rights were taken away.
#[test]
fn racing_for_the_same_page_for_ever_is_fine() {
    let mut region = page_by_page(1);
    let start = Address::of(&region);
    let barrier = Barrier::new(2);
    let rounds = scale(20_000);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            loop {
                barrier.wait();
                if stop.load(Relaxed) {
                    break;
                }
                poke(start.page(0), 1);
                barrier.wait();
            }
        });
        for _ in 0..rounds {
            barrier.wait();
            poke(start.page(0), 1);
            barrier.wait();
            region.decommit(..).unwrap();
        }
        stop.store(true, Relaxed);
        barrier.wait();
    });
    assert_eq!(region.stats().faults, rounds as u64);
}

#[test]
fn racing_threads_never_exceed_a_shared_limit() {
    let budget = Budget::new(100 * page_size());
    let build = |step| {
        DemandRegion::builder(64 * page_size()).budget(budget.clone()).step(step).build().unwrap()
    };
    let steps = [CommitStep::page(), CommitStep::adaptive(), CommitStep::fixed(4 * page_size())];
    let mut regions = steps.map(build);
    let barrier = Barrier::new(regions.len());
    for _ in 0..scale(60) {
        let done = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for region in &mut regions {
                let (barrier, done, budget) = (&barrier, &done, &budget);
                scope.spawn(move || {
                    barrier.wait();
                    let copied = region
                        .fill(.., 1)
                        .map_or_else(|stopped| stopped.copied, |()| 64 * page_size());
                    assert!(budget.used() <= budget.limit());
                    done.fetch_add(copied / page_size(), Relaxed);
                });
            }
        });
        // Steps may have committed pages that no thread touched, but never past the limit.
        assert!(budget.used() <= budget.limit() && budget.peak() <= budget.limit());
        assert!(done.load(Relaxed) * page_size() <= budget.used());
        let total: usize = regions.iter().map(DemandRegion::committed).sum();
        assert_eq!(total, budget.used());
        regions.iter_mut().for_each(|region| region.decommit(..).unwrap());
        assert_eq!(budget.used(), 0);
    }
}

/// As the churn test of umap (a library for page faults in user space): a hot set that is read, a hot set that is
/// written, and a large cold set that is committed and decommitted. Every word holds its own position.
#[test]
fn churning_threads_find_every_word_where_it_belongs() {
    const HOT: usize = 32;
    const COLD: usize = 2048;
    let pages = HOT + COLD;
    let mut read_only = DemandRegion::new(HOT * page_size()).unwrap();
    let word = |page: usize, salt: u64| (page as u64) << 32 ^ salt.wrapping_mul(0x9e37_79b9);
    for page in 0..HOT {
        read_only.write(page * page_size(), &word(page, 1).to_le_bytes()).unwrap();
    }
    let checked = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..3u64 {
            let (read_only, checked) = (&read_only, &checked);
            scope.spawn(move || {
                let mut own = DemandRegion::new(pages * page_size()).unwrap();
                let mut random = 0x1234_5678_9abc_def0 ^ thread;
                for round in 0..scale(40) as u64 {
                    for _ in 0..100 {
                        random ^= random << 13;
                        random ^= random >> 7;
                        random ^= random << 17;
                        let (hot, cold) = (random as usize % HOT, HOT + random as usize % COLD);
                        let mut bytes = [0; 8];
                        read_only.read(hot * page_size(), &mut bytes).unwrap();
                        assert_eq!(u64::from_le_bytes(bytes), word(hot, 1));
                        for page in [hot, cold] {
                            own.write(page * page_size(), &word(page, round).to_le_bytes())
                                .unwrap();
                            own.read(page * page_size(), &mut bytes).unwrap();
                            assert_eq!(u64::from_le_bytes(bytes), word(page, round));
                        }
                        checked.fetch_add(3, Relaxed);
                    }
                    own.decommit(HOT * page_size()..).unwrap();
                    let mut byte = [1];
                    own.read((HOT + round as usize % COLD) * page_size(), &mut byte).unwrap();
                    assert_eq!(byte, [0], "given back pages read zero");
                }
            });
        }
    });
    assert_eq!(checked.load(Relaxed), 3 * scale(40) as u64 * 300);
}

/// Every thread makes, touches and drops regions; all lookups go through the same table.
#[test]
fn registering_and_releasing_go_on_while_others_fault() {
    let fixed = page_by_page(scale(2000));
    let (start, stop) = (Address::of(&fixed), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut sizes = (1..40).cycle();
                while !stop.load(Relaxed) {
                    let region = page_by_page(sizes.next().unwrap());
                    poke(region.as_ptr(), 1);
                    poke(region.as_ptr().wrapping_add(region.len() - 1), 1);
                    region.release().unwrap();
                }
            });
        }
        for page in 0..scale(2000) {
            poke(start.page(page), 1);
        }
        stop.store(true, Relaxed);
    });
    assert_eq!(fixed.stats().faults, scale(2000) as u64);
}

/// Threads that touch other pages of a word or block in which a decommit is under way do not wait for ever, and pages
/// that are touched after a decommit read zero.
#[test]
fn explicit_commits_and_faults_on_neighbouring_pages() {
    let region = DemandRegion::new(1024 * page_size()).unwrap();
    let start = Address::of(&region);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for page in (0..1024).step_by(4) {
                region.commit(page * page_size()..(page + 2) * page_size()).unwrap();
            }
        });
        scope.spawn(move || {
            (0..1024).step_by(2).for_each(|page| poke(start.page(page), 1));
        });
        (0..1024).rev().step_by(2).for_each(|page| poke(start.page(page), 2));
    });
    assert_eq!(region.committed(), 1024 * page_size());
    for page in 0..1024 {
        assert_eq!(peek(start.page(page)), if page % 2 == 0 { 1 } else { 2 });
    }
}

/// In a process of its own, since the regions take many of the mappings that a process may have.
#[test]
fn ten_thousand_regions_live_at_once() {
    common::in_a_process("ten_thousand_regions_live_at_once", || {
        let count = if common::emulated() { 1000 } else { 10_000 };
        let mut regions: Vec<_> = (0..count).map(|index| page_by_page(1 + index % 3)).collect();
        for (index, region) in regions.iter_mut().enumerate().rev() {
            poke(region.as_ptr(), index as u8);
            let last = region.len() - 1;
            region.write(last, &[!(index as u8)]).unwrap();
        }
        for (index, region) in regions.iter().enumerate() {
            assert_eq!(peek(region.as_ptr()), index as u8);
            assert_eq!(peek(region.as_ptr().wrapping_add(region.len() - 1)), !(index as u8));
            assert_eq!(region.stats().faults, if index % 3 == 0 { 1 } else { 2 });
        }
        // Every other region is dropped; the others are used further.
        let mut rest: Vec<_> = regions.into_iter().step_by(2).collect();
        for region in &mut rest {
            region.decommit(..).unwrap();
            poke(region.as_ptr(), 1);
        }
    })
    .well();
}
