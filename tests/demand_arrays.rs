//! A sparse array: zeros everywhere, memory where it was touched, limits as results.
#![cfg(feature = "zerocopy")]

use std::sync::atomic::{AtomicU64, Ordering};

use pagewise::{CommitStep, DemandArray, RefusedReason, page_size};

#[test]
fn elements_are_zero_until_they_are_set() {
    let mut array = DemandArray::<u64>::new(1 << 20).unwrap();
    assert_eq!(array.len(), 1 << 20);
    assert_eq!(array.try_get(1 << 19).unwrap(), 0);
    array[1 << 19] = 7;
    array.try_set((1 << 20) - 1, 8).unwrap();
    assert_eq!((array.try_get(1 << 19).unwrap(), array[(1 << 20) - 1], array[5]), (7, 8, 0));
    assert!(array.try_get(1 << 20).is_err() && array.try_set(usize::MAX, 1).is_err());
}

#[test]
fn atomics_are_shared_by_reference() {
    let array = DemandArray::<AtomicU64>::new(1 << 16).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for index in (0..1 << 16).step_by(97) {
                    array[index].fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let sum: u64 = array.iter().map(|counter| counter.load(Ordering::Relaxed)).sum();
    assert_eq!(sum, 4 * (1u64 << 16).div_ceil(97));
}

#[test]
fn a_limit_is_a_result_and_whole_elements_come_before_it() {
    type Element = [u8; 12]; // does not divide a page
    let fits = 2 * page_size() / 12;
    let new = || {
        let builder = DemandArray::<Element>::builder(1 << 16).limit(2 * page_size());
        builder.step(CommitStep::page()).build().unwrap()
    };
    let mut array = new();
    let stopped = array.try_fill(.., [9; 12]).unwrap_err();
    assert_eq!(stopped.copied, fits * 12);
    assert!(matches!(stopped.refused.reason, RefusedReason::Limit { .. }));
    assert_eq!(array.try_get(fits - 1).unwrap(), [9; 12]);
    assert!(array.try_get(fits).is_err() && array.try_set(fits, [1; 12]).is_err());
    let mut array = new();
    let source = vec![[5; 12]; fits + 10];
    assert_eq!(array.try_copy_from_slice(0, &source).unwrap_err().copied, fits * 12);
    array.try_copy_from_slice(0, &source[..fits]).unwrap();
    assert!(array.try_copy_from_slice((1 << 16) - 1, &source).is_err());
    assert_eq!(array.committed(), 2 * page_size());
    assert!(array.stats().refused > 0);
}

#[test]
fn decommitted_elements_are_zero_again_and_cost_nothing() {
    let mut array = DemandArray::<[u8; 3]>::new(100_000).unwrap();
    for (start, end) in
        [(0, 100_000), (1, 99_999), (5, 6), (10_000, 70_001), (7, 7), (99_998, 100_000)]
    {
        array.fill([1, 2, 3]);
        let before = array.committed();
        array.decommit(start..end).unwrap();
        let gone = (end - start) * 3;
        assert!(
            array.committed()
                <= before - gone.saturating_sub(2 * page_size()) / page_size() * page_size()
        );
        for (index, element) in array.iter().enumerate() {
            let expected = if (start..end).contains(&index) { [0; 3] } else { [1, 2, 3] };
            assert_eq!(*element, expected, "{index} after {start}..{end}");
        }
    }
    array.decommit(..).unwrap();
    assert_eq!(array.committed(), 0);
    assert!(array.decommit(..100_001).is_err());
}

#[test]
fn over_aligned_elements_are_aligned() {
    #[derive(zerocopy::FromZeros)]
    #[repr(C, align(65536))]
    struct Aligned([u8; 65536]);
    let array = DemandArray::<Aligned>::new(4).unwrap();
    assert_eq!(&raw const array[1] as usize % 65536, 0);
    assert_eq!(array[3].0[65535], 0);
}
