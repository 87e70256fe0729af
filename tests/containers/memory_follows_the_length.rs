//! A growing array commits memory in steps, a shrinking one gives it back, and a dropped one has none.

use pagewise::{Arena, ConcurrentVec, HugePages, PageVec, page_size};

const STEP: usize = 64 << 10;

#[test]
fn at_most_an_eighth_is_committed_ahead() {
    let mut vec = PageVec::new(1 << 24).unwrap();
    for n in 0..1u32 << 21 {
        vec.push(n);
        let ahead = vec.committed() - vec.len() * 4;
        assert!(ahead <= STEP.max(vec.committed() / 8) + page_size(), "{ahead} at {}", vec.len());
    }
}

#[test]
fn a_length_that_swings_a_little_commits_nothing() {
    let mut vec = PageVec::new(1 << 24).unwrap();
    vec.resize(1 << 20, 7u8);
    let committed = vec.committed();
    for _ in 0..10 {
        vec.truncate((1 << 20) - STEP);
        assert_eq!(vec.committed(), committed);
        vec.resize(1 << 20, 7);
        assert_eq!(vec.committed(), committed);
    }
}

#[test]
fn what_is_far_behind_the_length_goes_back() {
    let mut vec = PageVec::new(1 << 24).unwrap();
    vec.resize(8 << 20, 7u8);
    vec.truncate(1 << 20);
    assert!(vec.committed() <= (1 << 20) + 2 * STEP.max(1 << 17), "{}", vec.committed());
    while vec.pop().is_some() {}
    assert!(vec.committed() <= 2 * STEP + page_size(), "{}", vec.committed());
    vec.shrink_to_fit();
    assert_eq!(vec.committed(), 0);
    vec.resize(1 << 20, 9);
    assert!(vec.iter().all(|&byte| byte == 9));
}

#[test]
fn what_was_reserved_stays_until_it_is_shrunk() {
    let mut vec = PageVec::<u8>::new(1 << 24).unwrap();
    vec.reserve_exact(8 << 20);
    assert_eq!(vec.committed(), 8 << 20);
    vec.push(1);
    vec.clear();
    assert_eq!(vec.committed(), 8 << 20);
    vec.shrink_to(1 << 20);
    assert_eq!(vec.committed(), 1 << 20);
    vec.shrink_to_fit();
    assert_eq!(vec.committed(), 0);
}

#[test]
fn an_array_that_keeps_its_memory_keeps_it() {
    let mut vec = PageVec::builder(1 << 24).keep_committed(true).build().unwrap();
    vec.resize(8 << 20, 7u8);
    let committed = vec.committed();
    vec.clear();
    assert_eq!(vec.committed(), committed);
}

#[test]
fn every_way_of_removing_gives_memory_back() {
    type Remove = fn(&mut PageVec<u64>);
    let ways: [Remove; 7] = [
        |vec| vec.clear(),
        |vec| vec.retain(|n| *n == 1),
        |vec| vec.dedup(),
        |vec| drop(vec.drain(1..)),
        |vec| drop(vec.splice(.., [1])),
        |vec| {
            let _ = vec.split_off(1);
        },
        |vec| {
            while vec.len() > 1 {
                vec.swap_remove(0);
            }
        },
    ];
    for (index, remove) in ways.into_iter().enumerate() {
        let mut vec = PageVec::new(1 << 20).unwrap();
        vec.resize(1 << 17, 7);
        remove(&mut vec);
        assert!(vec.len() <= 1);
        assert!(vec.committed() <= 2 * STEP + page_size(), "way {index}: {}", vec.committed());
    }
}

#[test]
fn an_arena_keeps_or_returns_its_memory() {
    let mut arena = Arena::new(1 << 24).unwrap();
    arena.alloc_slice_fill_with(1 << 20, |_| 7u8);
    let committed = arena.committed();
    arena.reset();
    assert_eq!((arena.used(), arena.committed()), (0, committed));
    arena.alloc(1u8);
    arena.shrink_to_fit().unwrap();
    assert_eq!(arena.committed(), page_size());
    arena.reset_and_release().unwrap();
    assert_eq!(arena.committed(), 0);
    assert_eq!(*arena.alloc(5), 5);
}

#[test]
fn reserving_less_than_a_huge_page_below_the_limit_is_granted() {
    // Rounded up to whole huge pages, it would not fit the limit.
    let (limit, wanted) = (5 << 20, (4 << 20) + (1 << 19));
    let new = || PageVec::<u8>::builder(64 << 20).huge_pages(HugePages::Transparent).limit(limit);
    let shared = ConcurrentVec::from(new().build().unwrap());
    shared.try_reserve(wanted).unwrap();
    assert!((wanted..=limit).contains(&shared.committed()), "{}", shared.committed());
    shared.push(1);
    let mut vec = shared.into_page_vec();
    vec.clear();
    assert!(vec.committed() >= wanted, "what was reserved stays");
    vec.shrink_to_fit();
    assert_eq!(vec.committed(), 0);
}

#[test]
fn splitting_off_everything_leaves_the_array_where_it_is_with_what_it_reserved() {
    let mut vec = PageVec::builder(1 << 24).build().unwrap();
    vec.reserve(1 << 20);
    vec.extend([String::from("a"), String::from("b")]);
    let (start, committed) = (vec.as_ptr(), vec.committed());
    let other = vec.split_off(0);
    assert_eq!(other, ["a", "b"]);
    assert_eq!((vec.as_ptr(), vec.committed(), vec.len()), (start, committed, 0));
    assert_ne!(other.as_ptr(), start);
    assert!(other.committed() <= STEP.max(page_size()), "{}", other.committed());
}

#[test]
fn appending_takes_the_elements_and_the_other_gives_its_memory_back() {
    let mut vec = PageVec::new(1 << 24).unwrap();
    let mut other = PageVec::new(1 << 24).unwrap();
    vec.extend([1u8; 10]);
    other.resize(8 << 20, 2u8);
    vec.append(&mut other);
    assert_eq!((vec.len(), vec[9], vec[10], vec[vec.len() - 1]), (10 + (8 << 20), 1, 2, 2));
    assert!(vec.committed() >= vec.len() && vec.committed() <= vec.len() * 9 / 8 + 2 * STEP);
    assert!(
        other.is_empty() && other.committed() <= 2 * STEP + page_size(),
        "{}",
        other.committed()
    );
    vec.append(&mut other);
    assert_eq!(vec.len(), 10 + (8 << 20));
}

/// Memory as Linux counts it.
#[cfg(all(target_os = "linux", not(any(miri, pagewise_model))))]
mod the_system {
    use super::*;
    use crate::common;

    /// Bytes of a range of addresses that are charged, and that are resident.
    fn counted(start: *const u8, len: usize) -> Option<(usize, usize)> {
        common::counted(start, len).map(|seen| (seen.charged, seen.resident))
    }

    fn not_told() {
        common::not_here(
            "this kernel or emulator does not tell the state of memory in /proc/self/smaps",
        );
    }

    /// In a process of its own, so that no other test maps memory at the addresses that are released.
    #[test]
    fn residency_and_charge_follow_the_length_down_and_are_zero_after_drop() {
        let name =
            "the_system::residency_and_charge_follow_the_length_down_and_are_zero_after_drop";
        common::in_a_process(name, || {
            const MAX: usize = 256 << 20;
            let mut vec = PageVec::<u8>::builder(MAX).guard_pages(1).build().unwrap();
            let start = vec.as_ptr();
            let seen = || counted(start, MAX).expect("the kernel tells");
            vec.resize(64 << 20, 7);
            let (charged, resident) = seen();
            assert!(resident >= 64 << 20);
            assert_eq!(charged, vec.committed());
            vec.truncate(1 << 20);
            let (charged, resident) = seen();
            assert!((1 << 20..=3 << 19).contains(&resident), "{resident}");
            assert_eq!(charged, vec.committed());
            vec.clear();
            vec.shrink_to_fit();
            assert_eq!(seen(), (0, 0));
            vec.push(1);
            assert_eq!(vec.as_ptr(), start);
            drop(vec);
            assert_eq!(seen(), (0, 0));
        })
        .well();
    }

    #[test]
    fn appending_moves_memory_from_one_array_to_the_other() {
        if common::emulated() {
            return not_told();
        }
        let (max, many, step) = (64 << 20, 16 << 20, 64 << 10);
        let new = || PageVec::<u8>::builder(max).guard_pages(1).build().unwrap();
        let (mut vec, mut other) = (new(), new());
        vec.extend_from_slice(&[1; 1000]);
        other.resize(many, 2);
        let seen = |vec: &PageVec<u8>| counted(vec.as_ptr(), max);
        let Some((charged, resident)) = seen(&other) else { return not_told() };
        assert!(charged == other.committed() && resident >= many);
        vec.append(&mut other);
        for (vec, least) in [(&vec, many + 1000), (&other, 0)] {
            let (charged, resident) = seen(vec).unwrap();
            let most = least + least / 8 + 2 * step + page_size();
            assert_eq!(charged, vec.committed());
            assert!((least..=most).contains(&charged), "{charged} bytes for {least}");
            assert!((least..=most).contains(&resident), "{resident} bytes resident for {least}");
        }
        other.shrink_to_fit();
        assert_eq!((seen(&other), other.committed()), (Some((0, 0)), 0));
        assert_eq!((vec.len(), vec[999], vec[1000], vec[many + 999]), (many + 1000, 1, 2, 2));
    }
}
