//! Many threads, one region: every count stays exact.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common;
use pagewise::{Budget, CommitStep, DemandRegion, RefusalReason, page_size};

const THREADS: usize = 8;

/// All page indices, in an order that differs from thread to thread.
fn order(thread: usize, pages: usize) -> impl Iterator<Item = usize> {
    // The number of pages is a power of two, so an odd stride visits all of them.
    let (start, stride) = (thread * 7, 2 * thread + 1);
    (0..pages).map(move |step| (start + step * stride) % pages)
}

#[test]
fn every_page_is_served_once_whoever_touches_it_first() {
    const PAGES: usize = 64;
    let rounds = if cfg!(any(miri, pagewise_model)) { 10 } else { 1_000 };
    let engines = common::engines();
    let barrier = Barrier::new(THREADS);
    let region = std::sync::Mutex::new(None);
    // Results are collected and checked at the end: other threads would wait for one that panics.
    let wrong = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (barrier, region, engines, wrong) = (&barrier, &region, &engines, &wrong);
            scope.spawn(move || {
                for round in 0..rounds {
                    if barrier.wait().is_leader() {
                        let step = if round % 2 == 0 {
                            CommitStep::page()
                        } else {
                            CommitStep::adaptive()
                        };
                        let fresh = DemandRegion::builder(PAGES * page_size())
                            .engine(engines[round / 2 % engines.len()])
                            .step(step)
                            .build();
                        *region.lock().unwrap() = Some(std::sync::Arc::new(fresh.unwrap()));
                    }
                    barrier.wait();
                    let shared = region.lock().unwrap().clone().unwrap();
                    for page in order(thread, PAGES) {
                        let mut byte = [1];
                        let result = shared.read(page * page_size() + thread, &mut byte);
                        if result.is_err() || byte != [0] {
                            wrong.lock().unwrap().push(format!("{page}: {byte:?}, {result:?}"));
                        }
                    }
                    if barrier.wait().is_leader() {
                        let stats = shared.stats();
                        // With steps of one page, one fault for each page.
                        let exact = round % 2 == 1 || stats.faults == PAGES as u64;
                        if !exact || stats.committed != PAGES * page_size() || stats.refused != 0 {
                            wrong.lock().unwrap().push(format!("round {round}: {stats:?}"));
                        }
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_limit_that_all_of_them_race_for_is_reached_exactly_and_never_exceeded() {
    const PAGES: usize = 64;
    const ALLOWED: usize = 29;
    let rounds = if cfg!(any(miri, pagewise_model)) { 5 } else { 200 };
    let engines = common::engines();
    for round in 0..rounds {
        let step = [CommitStep::page(), CommitStep::adaptive(), CommitStep::fixed(5 * page_size())];
        let budget = Budget::new(ALLOWED * page_size());
        let region = DemandRegion::builder(PAGES * page_size())
            .budget(budget.clone())
            .engine(engines[round / 3 % engines.len()])
            .step(step[round % 3])
            .build()
            .unwrap();
        let (granted, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (region, budget, granted, refused) = (&region, &budget, &granted, &refused);
                scope.spawn(move || {
                    for page in order(thread, PAGES) {
                        match region.read(page * page_size(), &mut [0]) {
                            Ok(()) => granted.fetch_add(1, Ordering::Relaxed),
                            Err(error) => {
                                assert!(matches!(
                                    error.refusal.reason,
                                    RefusalReason::Budget { .. }
                                ));
                                assert_eq!(error.refusal.offset, page * page_size());
                                refused.fetch_add(1, Ordering::Relaxed)
                            }
                        };
                        assert!(budget.used() <= budget.limit() && budget.peak() <= budget.limit());
                    }
                });
            }
        });
        assert_eq!(region.committed(), ALLOWED * page_size());
        assert_eq!((budget.used(), budget.peak()), (budget.limit(), budget.limit()));
        assert_eq!(region.page_map().unwrap().committed(), ALLOWED);
        let (granted, refused) = (granted.into_inner(), refused.into_inner());
        assert_eq!(granted + refused, THREADS * PAGES);
        assert_eq!(region.stats().refused, refused as u64);
        drop(region);
        assert_eq!(budget.used(), 0);
    }
}

#[test]
fn threads_commit_explicitly_while_others_fault() {
    const PAGES: usize = 256;
    let engines = common::engines();
    for round in 0..if cfg!(any(miri, pagewise_model)) { 2 } else { 60 } {
        let engine = engines[round % engines.len()];
        let region = DemandRegion::builder(PAGES * page_size()).engine(engine).build().unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let region = &region;
                scope.spawn(move || {
                    for page in order(thread, PAGES) {
                        if thread % 2 == 0 {
                            let end = (page + 9).min(PAGES);
                            region.commit(page * page_size()..end * page_size()).unwrap();
                        }
                        region.read(page * page_size(), &mut [0; 2]).unwrap();
                    }
                });
            }
        });
        assert_eq!(region.committed(), PAGES * page_size());
    }
}
