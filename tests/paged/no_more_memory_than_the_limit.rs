//! What the kernel says of a region's memory: never more than its limit, and less after pages were evicted.

use std::fs;
use std::io::{BufRead, BufReader};

use pagewise::{Budget, Engine, Error, PagedRegion, page_size};

use crate::behaves_as_a_plain_array::{engines, some_bytes};
use crate::common::not_here;
use crate::stores::{Heap, InTheHandler, slice, slice_mut};

/// Bytes of memory of this process's mappings, as far as `/proc/self/smaps` tells: what a region's pages and frames
/// take, each byte once, however often it is mapped. Other memory counts, too: for differences.
fn memory() -> Option<usize> {
    // (Line by line: the whole text takes megabytes where each page is a mapping.)
    let smaps = BufReader::new(fs::File::open("/proc/self/smaps").ok()?);
    let (mut all, mut lines) = (0, 0);
    for line in smaps.lines() {
        let line = line.ok()?;
        let Some(number) = line.strip_prefix("Pss:") else { continue };
        all += number.trim().strip_suffix(" kB")?.trim().parse::<usize>().ok()? << 10;
        lines += 1;
    }
    (lines > 0).then_some(all)
}

fn region(engine: Engine, pages: usize, limit: usize) -> PagedRegion<InTheHandler<Heap>> {
    PagedRegion::builder(InTheHandler(Heap::new(some_bytes(pages * page_size()))))
        .engine(engine)
        .page_bytes(page_size())
        .limit(limit * page_size())
        .build()
        .unwrap()
}

#[test]
fn the_kernel_counts_no_more_than_the_limit() {
    let test = "the_kernel_counts_no_more_than_the_limit";
    let ended = crate::common::in_a_process(test, || {
        if crate::common::emulated() || crate::common::sanitized() || memory().is_none() {
            return not_here(
                "what the kernel counts: the emulator's or the sanitizer's memory would, too",
            );
        }
        for engine in engines() {
            let (pages, limit) = (4_000, 1_000);
            let mut region = region(engine, pages, limit);
            let mut random = fastrand::Rng::with_seed(1);
            // The tables of pages and frames grow with the first round.
            for round in 0..3 {
                let before = memory().unwrap().saturating_sub(region.stats().resident);
                for step in 0..4_000 {
                    let at = random.usize(..pages * page_size());
                    match random.u8(0..4) {
                        0 => slice_mut(&mut region)[at] = 1,
                        1 => region.write(at, &[2]).unwrap(),
                        _ => _ = std::hint::black_box(slice(&region)[at]),
                    }
                    if step % 500 == 0 && round > 0 {
                        let now = memory().unwrap();
                        let most = before + limit * page_size() + (256 << 10);
                        assert!(now <= most, "{engine:?}: {now} of {most} bytes");
                    }
                }
                assert!(region.stats().resident <= limit * page_size());
            }
            let before = memory().unwrap();
            assert!(region.stats().resident >= 900 * page_size());
            region.evict(..).unwrap();
            let gone = before.saturating_sub(memory().unwrap());
            assert!(gone >= 800 * page_size(), "{engine:?}: {gone} bytes went back");
            // What is set aside for pages that have memory twice.
            let kept = if engine == Engine::UserFault { limit / 64 } else { 0 };
            assert_eq!(region.stats().resident, kept * page_size());
        }
    });
    ended.well();
}

#[test]
fn regions_that_share_a_budget_give_way_to_each_other() {
    for engine in engines() {
        let budget = Budget::new(40 * page_size());
        let [one, two] = [1, 2].map(|_| {
            let store = InTheHandler(Heap::new(some_bytes(64 * page_size())));
            PagedRegion::builder(store)
                .engine(engine)
                .page_bytes(page_size())
                .budget(budget.clone())
                .build()
                .unwrap()
        });
        let touch_all = |region: &PagedRegion<InTheHandler<Heap>>| {
            assert!(slice(region) == region.store().0.bytes());
        };
        touch_all(&one);
        assert!(one.stats().resident >= 36 * page_size());
        touch_all(&two);
        assert!(two.stats().resident >= 12 * page_size(), "{:?} {:?}", one.stats(), two.stats());
        touch_all(&one);
        assert!(budget.peak() <= budget.limit());
        drop(one);
        touch_all(&two);
        assert!(two.stats().resident >= 36 * page_size());
        drop(two);
        assert_eq!(budget.used(), 0);
    }
}

#[test]
fn a_budget_that_others_use_up_is_an_error_with_its_numbers() {
    for engine in engines() {
        let budget = Budget::new(10 * page_size());
        let region = PagedRegion::builder(InTheHandler(Heap::new(some_bytes(64 * page_size()))))
            .engine(engine)
            .page_bytes(page_size())
            .budget(budget.clone())
            .build()
            .unwrap();
        let all = budget.try_take(budget.available()).unwrap();
        let refused = region.read(7, &mut [0]).unwrap_err();
        assert!(
            matches!(refused.source, Error::BudgetReached { limit, .. } if limit == 10 * page_size()),
            "{refused:?}"
        );
        drop(all);
        region.read(7, &mut [0]).unwrap();
    }
}

#[test]
fn options_that_cannot_be_are_errors() {
    let store = |len: usize| InTheHandler(Heap::new(vec![0; len]));
    let page = page_size();
    let built = |builder: pagewise::PagedRegionBuilder<InTheHandler<Heap>>| builder.build();
    let empty = built(PagedRegion::builder(store(0)));
    assert!(matches!(empty, Err(Error::ZeroLength)), "{empty:?}");
    for bytes in [0, 1, page - 1, page / 2, 3 * page, 4 << 20, usize::MAX] {
        let odd = built(PagedRegion::builder(store(page)).page_bytes(bytes));
        assert!(matches!(odd, Err(Error::Unsupported { .. })), "{bytes}: {odd:?}");
    }
    for engine in engines() {
        let least = if engine == Engine::UserFault { 6 } else { 4 };
        let small = |limit| {
            built(
                PagedRegion::builder(store(9 * page)).page_bytes(page).engine(engine).limit(limit),
            )
        };
        let refused = small(least * page - 1);
        assert!(
            matches!(refused, Err(Error::LimitReached { requested, .. }) if requested == least * page),
            "{refused:?}"
        );
        let mut region = small(least * page).unwrap();
        assert_eq!(region.limit(), least * page);
        slice_mut(&mut region).fill(3);
        assert!(slice(&region).iter().all(|&byte| byte == 3));
    }
    let guard = built(PagedRegion::builder(store(page)).engine(Engine::Guard));
    assert!(matches!(guard, Err(Error::Unsupported { .. })), "{guard:?}");
    let alone = PagedRegion::builder(Heap::new(vec![0; page])).build();
    assert!(matches!(alone, Err(Error::Unsupported { .. })), "{alone:?}");
}
