//! Allocations of an arena are aligned, do not overlap, and keep their contents until they are freed.

use std::alloc::Layout;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pagewise::{Arena, Error, page_size};
use proptest::prelude::*;

/// More addresses than the tests need: all that the simulated system gives under Miri.
const LONG: usize = if cfg!(miri) { 16 << 20 } else { 1 << 30 };

/// Allocations of one round.
const MOST: usize = if cfg!(miri) { 20 } else { 80 };

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 64 }, failure_persistence: None, ..Default::default()
    })]
    #[test]
    fn allocations_are_aligned_and_apart(
        sizes in prop::collection::vec((0usize..5000, 0u32..14), 1..MOST)
    ) {
        let mut arena = Arena::new(4 << 20).unwrap();
        for round in 0..2 {
            let mut taken: Vec<(usize, usize)> = Vec::new();
            for (n, &(size, shift)) in sizes.iter().enumerate() {
                let layout = Layout::from_size_align(size, 1 << shift).unwrap();
                let start = if n % 2 == round {
                    arena.alloc_layout(layout)
                } else {
                    arena.alloc_layout_zeroed(layout)
                };
                // SAFETY: the allocation is that long, and no reference to it exists.
                let bytes = unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), size) };
                prop_assert!(n % 2 == round || bytes.iter().all(|&byte| byte == 0));
                bytes.fill(0xFF);
                let start = bytes.as_ptr() as usize;
                prop_assert_eq!(start % (1 << shift), 0);
                prop_assert!(taken.last().is_none_or(|&(_, end)| end <= start));
                taken.push((start, start + size));
            }
            prop_assert!(arena.used() <= arena.committed());
            arena.reset();
        }
    }
}

#[test]
fn values_slices_and_strings() {
    let arena = Arena::new(1 << 20).unwrap();
    let nested = arena.alloc_with(|| arena.alloc(1u8) as &u8);
    let copied = arena.alloc_slice_copy(&[1u64, 2, 3]);
    let cloned = arena.alloc_slice_clone(&[String::from("a"), String::from("b")]);
    let text = arena.alloc_str("text");
    let made = arena.alloc_slice_fill_with(3, |index| index * index);
    copied[0] += 10;
    text.make_ascii_uppercase();
    assert_eq!((**nested, &*copied, &*text, &*made), (1, &[11, 2, 3][..], "TEXT", &[0, 1, 4][..]));
    assert_eq!(cloned, ["a", "b"]);
    // Destructors do not run; these two have something to free.
    cloned.iter_mut().for_each(|string| drop(std::mem::take(string)));
}

#[test]
fn an_iterator_may_allocate_in_the_same_arena() {
    let arena = Arena::new(1 << 20).unwrap();
    let lines = arena.alloc_iter((0..100).map(|n| &*arena.alloc_str(&n.to_string())));
    assert!(lines.iter().enumerate().all(|(n, line)| *line == n.to_string()));
    assert_eq!(arena.alloc_iter(std::iter::empty::<u64>()).len(), 0);
    let before = arena.used().next_multiple_of(4);
    assert_eq!(arena.alloc_iter(0..1000u32).len(), 1000);
    assert_eq!(arena.used(), before + 4000, "grown in place");
}

#[test]
fn an_iterator_that_allocated_once_goes_on_in_place_where_its_elements_moved_to() {
    let arena = Arena::new(1 << 20).unwrap();
    let mut other = None;
    let numbers = arena.alloc_iter((0..100u64).inspect(|&n| {
        if n == 3 {
            other = Some(arena.alloc(n)); // in the way: the elements move behind it, once
        }
    }));
    assert!(numbers.iter().copied().eq(0..100));
    assert_eq!(other.as_deref(), Some(&3));
}

#[test]
fn a_limit_hands_the_value_back_and_leaves_the_arena_usable() {
    let arena = Arena::builder(LONG).limit(2 * page_size()).build().unwrap();
    let small = arena.alloc(7u64);
    assert!(matches!(arena.try_alloc_slice_uninit::<u64>(usize::MAX), Err(Error::Overflow { .. })));
    let full = arena.try_alloc_slice_uninit::<u8>(1 << 31).unwrap_err();
    assert!(
        matches!(full, Error::ArenaFull { requested, used: 8, max_bytes: LONG } if requested == 1 << 31)
    );
    let text = format!(
        "2 GiB do not fit in the arena: 8 bytes of at most {} are used: give it a larger maximum, or \
                        reset it",
        if cfg!(miri) { "16 MiB" } else { "1 GiB" }
    );
    assert_eq!(full.to_string(), text);
    arena.alloc_slice_copy(&vec![1u8; 2 * page_size() - 8]);
    let refused = arena.try_alloc(String::from("too much")).unwrap_err();
    assert!(matches!(refused.error(), Error::LimitReached { .. }));
    assert_eq!((refused.into_value(), *small), (String::from("too much"), 7));
}

#[test]
fn rewinding_frees_what_came_after_and_nothing_else() {
    let mut arena = Arena::new(1 << 20).unwrap();
    arena.alloc(1u64);
    let outer = arena.checkpoint();
    arena.alloc_slice_copy(&[2u8; 100]);
    let inner = arena.checkpoint();
    arena.alloc_slice_copy(&[3u8; 1000]);
    arena.rewind(inner);
    assert_eq!(arena.used(), 108);
    arena.rewind(outer);
    arena.rewind(outer);
    assert_eq!(arena.used(), 8);
    assert!(catch_unwind(AssertUnwindSafe(|| arena.rewind(inner))).is_err(), "freed before");
    assert_eq!(arena.used(), 8);
}

#[test]
fn a_checkpoint_of_another_arena_is_refused() {
    let (mut a, b) = (Arena::new(1 << 20).unwrap(), Arena::new(1 << 20).unwrap());
    a.alloc(1u64);
    let theirs = b.checkpoint();
    assert!(catch_unwind(AssertUnwindSafe(|| a.rewind(theirs))).is_err());
    assert_eq!(a.used(), 8);
}

#[cfg(feature = "allocator-api2")]
mod as_an_allocator {
    use super::*;
    use allocator_api2::alloc::Allocator;
    use allocator_api2::vec::Vec;
    use std::ptr::NonNull;

    #[test]
    fn a_vec_grows_in_place() {
        let count = if cfg!(miri) { 1 << 12 } else { 1 << 20 };
        let arena = Arena::new(LONG).unwrap();
        let mut numbers = Vec::new_in(&arena);
        numbers.push(0u64);
        let first = numbers.as_ptr();
        (1..count as u64).for_each(|n| numbers.push(n));
        assert_eq!(numbers.as_ptr(), first);
        numbers.shrink_to_fit();
        assert_eq!(arena.used(), 8 * count);
        assert!(numbers.iter().copied().eq(0..count as u64));
        drop(numbers);
        assert_eq!(arena.used(), 0, "freeing the last allocation frees it");
    }

    #[test]
    fn a_hash_map_lives_in_an_arena() {
        let mut arena = Arena::new(LONG).unwrap();
        let count = if cfg!(miri) { 50 } else { 1000 };
        for round in 0..3 {
            let mut map = hashbrown::HashMap::new_in(&arena);
            let mut names = Vec::new_in(&arena);
            for n in 0..count {
                map.insert(n, n * round);
                names.push(n.to_string());
            }
            map.retain(|n, _| n % 2 == 0);
            assert_eq!((map.len() as u64, map.get(&10)), (count / 2, Some(&(10 * round))));
            assert_eq!(names.last(), Some(&(count - 1).to_string()));
            drop((map, names));
            arena.reset();
        }
    }

    #[test]
    fn growing_shrinking_and_alignment() {
        let arena = &Arena::new(1 << 20).unwrap();
        let layout = |size, align| Layout::from_size_align(size, align).unwrap();
        let fill = |block: NonNull<[u8]>, byte| {
            // SAFETY: the block is ours.
            unsafe { block.cast::<u8>().write_bytes(byte, block.len()) }
        };
        let a = arena.allocate(layout(10, 1)).unwrap();
        fill(a, 1);
        // SAFETY: every block is passed with the layout that it has, and not used afterwards.
        unsafe {
            let b = arena.grow_zeroed(a.cast(), layout(10, 1), layout(20, 1)).unwrap();
            assert_eq!(b.cast::<u8>(), a.cast(), "the last one grows in place");
            assert_eq!(b.as_ref()[..10], [1; 10]);
            assert_eq!(b.as_ref()[10..], [0; 10]);
            let wall = arena.allocate(layout(1, 1)).unwrap();
            fill(wall, 9);
            let c = arena.grow_zeroed(b.cast(), layout(20, 1), layout(40, 64)).unwrap();
            assert_eq!(c.cast::<u8>().as_ptr() as usize % 64, 0);
            assert_eq!((c.as_ref()[9], c.as_ref()[10], c.as_ref()[39]), (1, 0, 0));
            let d = arena.shrink(c.cast(), layout(40, 64), layout(8, 1)).unwrap();
            assert_eq!((d.cast::<u8>(), arena.used() % 64), (c.cast(), 8));
            let e = arena.shrink(d.cast(), layout(8, 1), layout(4, 4096)).unwrap();
            assert_eq!(e.cast::<u8>().as_ptr() as usize % 4096, 0);
            assert_eq!(e.as_ref(), [1; 4]);
            assert_eq!(wall.as_ref(), [9]);
            fill(e, 7);
            arena.deallocate(e.cast(), layout(4, 4096));
            let zeroed = arena.allocate_zeroed(layout(4, 1)).unwrap();
            assert_eq!(zeroed.as_ref(), [0; 4], "what was written before is zeroed");
        }
        assert!(arena.allocate(layout(1 << 21, 1)).is_err());
    }

    #[test]
    fn what_a_block_grows_by_is_zero_where_the_arena_was_used_before() {
        let layout = |size, align| Layout::from_size_align(size, align).unwrap();
        let mut arena = Arena::new(1 << 20).unwrap();
        let start = arena.checkpoint();
        arena.alloc_slice_fill_with(10_000, |_| 0xFFu8);
        for (align, other_between) in [(1, false), (1, true), (64, false), (64, true)] {
            arena.rewind(start);
            let arena = &arena;
            arena.alloc(0xEEu8);
            let block = arena.allocate(layout(100, 1)).unwrap();
            // SAFETY: the blocks are passed with the layout that they have, and are ours.
            unsafe {
                block.cast::<u8>().write_bytes(1, 100);
                if other_between {
                    arena.alloc(0xEEu8);
                }
                let grown = arena.grow_zeroed(block.cast(), layout(100, 1), layout(5000, align));
                let bytes = grown.unwrap().as_ref();
                assert_eq!(bytes.len(), 5000);
                assert!(bytes[..100].iter().all(|&byte| byte == 1));
                assert!(bytes[100..].iter().all(|&byte| byte == 0), "{align} {other_between}");
            }
            arena.alloc_slice_fill_with(10_000, |_| 0xFFu8);
        }
    }

    #[test]
    fn a_block_that_came_back_through_a_reference_can_be_grown_and_shrunk_in_place() {
        // A pointer made of a reference is valid only for what the reference points to.
        // The returned block must be valid for its whole length all the same.
        let arena = &Arena::new(1 << 20).unwrap();
        let layout = |size| Layout::from_size_align(size, 8).unwrap();
        let block = arena.allocate(layout(8)).unwrap();
        // SAFETY: every block is passed with the layout that it has, and not used afterwards.
        unsafe {
            block.cast::<u64>().write(7);
            let narrow = NonNull::from(block.cast::<u64>().as_mut());
            let grown = arena.grow(narrow.cast(), layout(8), layout(64)).unwrap();
            assert_eq!(grown.cast::<u64>(), narrow, "in place");
            grown.cast::<u64>().add(7).write(8);
            assert_eq!((grown.cast::<u64>().read(), grown.as_ref()[56]), (7, 8));

            let narrow = NonNull::from(&mut *grown.cast::<[u64; 8]>().as_ptr());
            let shrunk = arena.shrink(narrow.cast(), layout(64), layout(16)).unwrap();
            let again = arena.grow(shrunk.cast(), layout(16), layout(1024)).unwrap();
            assert_eq!((again.cast::<[u64; 8]>(), again.len()), (narrow, 1024), "in place");
            again.cast::<u8>().add(1023).write(9);
            assert_eq!(again.cast::<u64>().read(), 7);
        }
    }
}

/// An iterator that uses the arena itself, so that what was collected is not the last allocation any more.
#[test]
fn what_is_collected_moves_to_twice_the_room_and_gives_back_what_it_does_not_need() {
    let arena = Arena::new(1 << 20).unwrap();
    let seen = std::cell::Cell::new(0);
    let numbers = |count: u64, disturbing: &'static [u64]| {
        let (arena, seen) = (&arena, &seen);
        (0..count).inspect(move |number| {
            if disturbing.contains(number) {
                arena.alloc(1u8);
            }
            seen.set(arena.used());
        })
    };
    assert_eq!(arena.alloc_iter(numbers(3, &[1])), [0, 1, 2]);
    // The first place, a byte, and after the gap three of the four new places.
    assert_eq!(arena.used(), 8 + 8 + 3 * 8);
    let start = arena.used();
    assert_eq!(arena.alloc_iter(numbers(8, &[1, 6])), [0, 1, 2, 3, 4, 5, 6, 7]);
    // Room for four, in place for six, a byte, and room for twelve, of which eight are needed.
    let moved = start + 8 + 8 + 6 * 8 + 8;
    assert_eq!((seen.get(), arena.used()), (moved + 12 * 8, moved + 8 * 8));
    // A byte at the end: nothing can be given back.
    assert_eq!(arena.alloc_iter(numbers(3, &[1, 2])), [0, 1, 2]);
}

/// What was freed and stays committed is dirty, also after the arena was shrunk.
#[test]
fn zeroed_memory_is_zero_after_a_rewind_and_a_shrink() {
    let mut arena = Arena::new(1 << 20).unwrap();
    arena.alloc_slice_copy(&[1u8; 100]);
    let checkpoint = arena.checkpoint();
    arena.alloc_slice_copy(&[0xffu8; 2000]);
    arena.rewind(checkpoint);
    arena.shrink_to_fit().unwrap();
    let layout = std::alloc::Layout::array::<u8>(1000).unwrap();
    let zeroed = arena.alloc_layout_zeroed(layout);
    // SAFETY: allocated and zeroed just now.
    assert!(unsafe { std::slice::from_raw_parts(zeroed.as_ptr(), 1000) }.iter().all(|&b| b == 0));
}
