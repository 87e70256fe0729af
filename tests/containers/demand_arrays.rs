//! A sparse array: zeros everywhere, memory where it was touched, limits as results.
#![cfg(feature = "zerocopy")]

use std::sync::atomic::{AtomicU64, Ordering};

use pagewise::{
    Budget, CommitStep, DemandArray, Engine, Error, HugePages, RefusalReason, page_size,
};

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
fn a_loop_over_an_array_is_one_over_its_elements() {
    let mut array = DemandArray::<u16>::new(1000).unwrap();
    for (index, element) in (&mut array).into_iter().enumerate() {
        *element = index as u16;
    }
    let mut sum = 0;
    for element in &array {
        sum += usize::from(*element);
    }
    assert_eq!(sum, 499_500);
}

#[test]
fn a_builder_passes_every_option_on_and_can_be_used_again() {
    let budget = Budget::new(3 * page_size());
    let builder = DemandArray::<u64>::builder(1 << 16)
        .limit(2 * page_size())
        .budget(budget.clone())
        .step(CommitStep::page())
        .name("cells")
        .dump(false)
        .guard_pages(1)
        .events(4)
        .huge_pages(HugePages::System)
        .engine(Engine::Protect)
        .align(1 << 17);
    let [mut first, mut second] =
        [builder.clone(), builder].map(|builder| builder.build().unwrap());
    assert_eq!(first.region().as_ptr().addr() % (1 << 17), 0);
    assert_eq!(first.try_fill(.., 1).unwrap_err().copied, 2 * page_size());
    let refused = second.try_fill(.., 1).unwrap_err();
    assert_eq!(refused.copied, page_size());
    let full = RefusalReason::Budget { used: 3 * page_size(), limit: 3 * page_size() };
    assert_eq!((refused.refusal.reason, budget.available()), (full, 0));
    first.decommit(..).unwrap();
    second.set_limit(usize::MAX).unwrap();
    assert_eq!(second.limit(), 8 << 16);
    assert_eq!(second.try_fill(.., 1).unwrap_err().copied, 3 * page_size());
}

#[test]
fn an_alignment_is_at_least_that_of_the_elements() {
    #[derive(zerocopy::FromZeros)]
    #[repr(C, align(65536))]
    struct Aligned([u8; 65536]);
    let array = DemandArray::<Aligned>::builder(2).align(1).build().unwrap();
    assert_eq!(array.as_ptr().addr() % 65536, 0);
    let refused = DemandArray::<Aligned>::builder(2).align(3).build();
    assert!(matches!(refused, Err(Error::BadAlignment { align: 3 })));
}

/// More addresses than any system has; less than all of them is granted.
#[test]
#[cfg(not(miri))]
fn an_array_that_takes_less_has_as_many_elements_as_it_has_room_for() {
    if crate::common::address_space_is_dear() {
        crate::common::not_here("an emulator pays for every page that fits");
    } else {
        let array = DemandArray::<[u8; 12]>::builder(1 << 59).at_least(1000).build().unwrap();
        assert!(array.len() >= 1000 && array.len() < 1 << 59);
        assert!(array.try_get(array.len() - 1).is_ok() && array.try_get(array.len()).is_err());
    }
    assert_eq!(DemandArray::<[u8; 12]>::builder(1001).at_least(9).build().unwrap().len(), 1001);
}

#[test]
fn atomics_are_shared_by_reference() {
    let len = if cfg!(miri) { 1 << 12 } else { 1 << 16 };
    let array = DemandArray::<AtomicU64>::new(len).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for index in (0..len).step_by(97) {
                    array[index].fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let sum: u64 = array.iter().map(|counter| counter.load(Ordering::Relaxed)).sum();
    assert_eq!(sum, 4 * (len as u64).div_ceil(97));
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
    assert!(matches!(stopped.refusal.reason, RefusalReason::Limit { .. }));
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

/// Elements of three bytes on several pages, the last of which is not full.
const MANY: usize = if cfg!(miri) { 12_000 } else { 100_000 };

fn parts_of_many() -> Vec<(usize, usize)> {
    let inside = (MANY / 10, MANY * 7 / 10 + 1);
    let parts = [(0, MANY), (1, MANY - 1), (5, 6), inside, (7, 7), (MANY - 2, MANY)];
    if cfg!(miri) { parts[2..4].to_vec() } else { parts.to_vec() }
}

#[test]
fn decommitted_elements_are_zero_again_and_cost_nothing() {
    let mut array = DemandArray::<[u8; 3]>::new(MANY).unwrap();
    for (start, end) in parts_of_many() {
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
    assert!(array.decommit(..=MANY).is_err());
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

#[test]
fn elements_with_padding_are_set_and_read_back() {
    #[derive(Clone, Copy, Debug, PartialEq, zerocopy::FromZeros)]
    #[repr(C)]
    struct Padded(u8, u32);
    let mut array = DemandArray::<Padded>::new(1000).unwrap();
    array.try_set(3, Padded(1, 2)).unwrap();
    array.try_fill(4..6, Padded(3, 4)).unwrap();
    let read = [2, 3, 5].map(|index| array.try_get(index).unwrap());
    assert_eq!(read, [Padded(0, 0), Padded(1, 2), Padded(3, 4)]);
    assert_eq!(array.get_if_committed(3), Some(Padded(1, 2)));
}

#[test]
fn looking_at_what_is_not_committed_commits_nothing() {
    type Element = [u8; 12]; // does not divide a page
    let last = 1 << 16;
    let builder = DemandArray::<Element>::builder(last + 1).limit(2 * page_size());
    let mut array = builder.step(CommitStep::page()).build().unwrap();
    assert_eq!(array.get_if_committed(0), None);
    assert_eq!(array.get_if_committed(last + 1), None, "out of bounds");
    assert!(!array.is_committed(..));
    assert!(array.is_committed(7..7), "nothing is missing of nothing");
    assert!(!array.is_committed(..last + 2));
    assert_eq!(array.committed(), 0);

    array.try_set(5, [9; 12]).unwrap();
    assert_eq!(array.get_if_committed(5), Some([9; 12]));
    assert_eq!(array.get_if_committed(6), Some([0; 12]), "on the same page");
    assert_eq!(array.get_if_committed(last), None);
    assert!(array.is_committed(..=5) && !array.is_committed(5..=last));
    assert_eq!(array.committed(), page_size());

    // At the limit, too, reading goes on.
    array.try_set(last, [8; 12]).unwrap();
    assert!(array.try_get(last / 2).is_err());
    assert_eq!(array.get_if_committed(last / 2), None);
    assert_eq!(array.get_if_committed(last), Some([8; 12]));
}

#[test]
fn an_element_over_two_pages_is_complete_although_one_of_them_is_not_committed() {
    type Element = [u8; 12];
    let straddling = page_size() / 12; // page sizes are powers of two: never a multiple of 12
    let builder = DemandArray::<Element>::builder(1 << 16).step(CommitStep::page());
    let mut array = builder.build().unwrap();
    array.commit(straddling + 1..straddling + 2).unwrap(); // the second page alone
    assert!(!array.is_committed(straddling..=straddling));
    assert_eq!(array.get_if_committed(straddling), Some([0; 12]));
    array[straddling][11] = 7; // a byte of the second page
    assert_eq!(array.get_if_committed(straddling), Some([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]));
    if cfg!(not(any(miri, pagewise_model))) {
        assert_eq!(array.committed(), page_size(), "the first page was not needed");
    }
}

#[test]
fn zeroing_zeroes_the_named_elements_and_commits_nothing() {
    let len = MANY;
    let mut array = DemandArray::<[u8; 3]>::builder(len).step(CommitStep::page()).build().unwrap();
    for (start, end) in parts_of_many() {
        array.fill([1, 2, 3]);
        let before = array.committed();
        array.zero(start..end).unwrap();
        assert_eq!(array.committed(), before);
        for (index, element) in array.iter().enumerate() {
            let expected = if (start..end).contains(&index) { [0; 3] } else { [1, 2, 3] };
            assert_eq!(*element, expected, "{index} after {start}..{end}");
        }
    }
    array.decommit(..).unwrap();
    array.try_set(len / 2, [1; 3]).unwrap();
    let committed = array.committed();
    array.zero(..).unwrap();
    assert_eq!(array.committed(), committed, "pages that are not committed stay so");
    assert_eq!(array.get_if_committed(len / 2), Some([0; 3]));
    assert!(array.zero(..=len).is_err());
}

#[test]
fn what_happened_can_be_seen_without_the_bytes() {
    let builder = DemandArray::<AtomicU64>::builder(1 << 16).limit(4 * page_size());
    let array = builder.events(8).step(CommitStep::page()).build().unwrap();
    array.commit(..1).unwrap();
    assert_eq!(array.page_map().unwrap().committed(), 1);
    assert_eq!((array.page_size(), array.limit()), (page_size(), 4 * page_size()));
    if cfg!(not(any(miri, pagewise_model))) {
        array[(1 << 16) - 1].store(1, Ordering::Relaxed);
        let offsets: Vec<_> = array.events().map(|event| event.offset).collect();
        assert_eq!(offsets, [((1 << 16) - 1) * 8]);
    }
}

#[test]
fn what_is_refused_says_how_many_bytes_of_elements_came_before_it() {
    let page = pagewise::page_size();
    let per_page = page / 8;
    let step = pagewise::CommitStep::page();
    let mut array =
        DemandArray::<u64>::builder(16 * per_page).limit(2 * page).step(step).build().unwrap();
    let refused = array.try_copy_from_slice(5 * per_page, &vec![7; 3 * per_page]).unwrap_err();
    assert_eq!((refused.copied, refused.refusal.offset), (2 * page, 7 * page));
    assert!((5 * per_page..7 * per_page).all(|index| array.try_get(index).unwrap() == 7));
    // Out of bounds: refused as a whole, at the end of the elements.
    let mut refusals = vec![
        array.try_fill(.., 1).map(|()| 0).unwrap_err(),
        array.try_copy_from_slice(16 * per_page - 1, &[1, 2]).map(|()| 0).unwrap_err(),
        array.try_copy_from_slice(16 * per_page, &[1]).map(|()| 0).unwrap_err(),
        array.try_fill(..16 * per_page + 1, 1).map(|()| 0).unwrap_err(),
    ];
    assert_eq!(refusals.remove(0).copied, 0);
    for refused in refusals {
        assert_eq!((refused.copied, refused.refusal.offset), (0, 16 * page), "{refused:?}");
    }
    array.try_copy_from_slice(16 * per_page, &[]).unwrap();
    assert_eq!(array.committed(), 2 * page);
}
