//! What makes the values of an arena may fail, panic, or allocate: then the place is taken back, if it is the last one, and
//! what was made by then is dropped.

use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pagewise::{AllocOrInitError, Arena, Error, page_size};

/// Counts how many of its kind are alive.
struct Counted<'a>(&'a Cell<i32>, u64);

impl<'a> Counted<'a> {
    fn new(alive: &'a Cell<i32>) -> Self {
        alive.set(alive.get() + 1);
        Self(alive, 7)
    }
}

impl Clone for Counted<'_> {
    fn clone(&self) -> Self {
        assert!(self.0.get() < 5, "no sixth");
        Self::new(self.0)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[track_caller]
fn panics(work: impl FnOnce()) {
    assert!(catch_unwind(AssertUnwindSafe(work)).is_err());
}

fn arena() -> Arena {
    let arena = Arena::new(1 << 20).unwrap();
    arena.alloc(1u8); // so that there is a gap to take back, too
    arena
}

#[test]
fn a_place_is_taken_back_where_its_value_is_not_made() {
    let arena = arena();
    panics(|| _ = arena.alloc_with(|| -> u64 { panic!() }));
    assert_eq!(arena.used(), 1);
    assert_eq!(arena.alloc_try_with(|| Err::<u64, _>("no")), Err("no"));
    let failed = arena.try_alloc_try_with(|| Err::<u64, _>("no")).unwrap_err();
    assert!(matches!(failed, AllocOrInitError::Init("no")));
    assert_eq!(failed.to_string(), "the value was not made: no");
    assert_eq!(arena.used(), 1);
    assert_eq!(arena.alloc_try_with(|| Ok::<_, ()>(7u64)), Ok(&mut 7));
    assert_eq!(arena.try_alloc_with(|| 8u64).unwrap(), &8);
    assert_eq!(arena.used(), 24);
}

#[test]
fn elements_before_a_failure_are_dropped_and_their_place_is_taken_back() {
    type Fill = fn(&Arena, &Cell<i32>);
    /// The third one is not made.
    fn third<'a>(alive: &'a Cell<i32>, index: usize) -> Result<Counted<'a>, usize> {
        if index == 2 { Err(index) } else { Ok(Counted::new(alive)) }
    }
    let fills: [(&str, Fill); 8] = [
        ("fill_with", |arena, alive| {
            panics(|| _ = arena.alloc_slice_fill_with(5, |n| third(alive, n).ok().unwrap()));
        }),
        ("try_fill_with", |arena, alive| {
            assert_eq!(arena.alloc_slice_try_fill_with(5, |n| third(alive, n)).err(), Some(2));
        }),
        ("try_fill_with that panics", |arena, alive| {
            let panicking = |n| Ok::<_, ()>(third(alive, n).ok().unwrap());
            panics(|| _ = arena.alloc_slice_try_fill_with(5, panicking));
        }),
        ("try_fill_iter", |arena, alive| {
            let results = (0..5).map(|n| third(alive, n));
            assert_eq!(arena.alloc_slice_try_fill_iter(results).err(), Some(2));
        }),
        ("fill_iter", |arena, alive| {
            panics(|| {
                _ = arena.alloc_slice_fill_iter((0..5).map(|n| third(alive, n).ok().unwrap()))
            });
        }),
        ("alloc_iter", |arena, alive| {
            panics(|| _ = arena.alloc_iter((0..5).map(|n| third(alive, n).ok().unwrap())));
        }),
        ("clone", |arena, alive| {
            let originals = [(); 3].map(|()| Counted::new(alive));
            panics(|| _ = arena.alloc_slice_clone(&originals));
        }),
        ("fill_clone", |arena, alive| {
            panics(|| _ = arena.alloc_slice_fill_clone(9, &Counted::new(alive)));
        }),
    ];
    for (what, fill) in fills {
        let (arena, alive) = (arena(), Cell::new(0));
        fill(&arena, &alive);
        assert_eq!((arena.used(), alive.get()), (1, 0), "{what}");
    }
}

#[test]
fn a_place_stays_where_something_lies_behind_it() {
    let arena = arena();
    let mut kept = None;
    let failed = arena.alloc_try_with(|| {
        kept = Some(arena.alloc(5u64));
        Err::<u64, _>(())
    });
    assert!(failed.is_err());
    assert_eq!((arena.used(), kept.as_deref()), (24, Some(&5)));
    let failed = arena.alloc_slice_try_fill_with(3, |n| {
        if n == 2 {
            return Err(());
        }
        kept = Some(arena.alloc(n as u64));
        Ok(0u64)
    });
    assert!(failed.is_err());
    assert_eq!((arena.used(), kept.as_deref()), (64, Some(&1)));
    // What was allocated behind it and is gone again is no obstacle.
    let failed = arena.alloc_try_with(|| {
        assert!(arena.alloc_try_with(|| Err::<u64, _>(())).is_err());
        arena.scope(|scope| _ = scope.alloc(9u64));
        arena.alloc(()); // takes no place
        Err::<u64, _>(())
    });
    assert!(failed.is_err());
    assert_eq!((arena.used(), kept.as_deref()), (64, Some(&1)));
}

#[test]
fn slices_are_filled_in_all_ways() {
    let arena = arena();
    assert_eq!(arena.alloc_slice_fill_with::<u32, _>(3, |n| n as u32), [0, 1, 2]);
    assert_eq!(arena.alloc_slice_fill_copy(2, 7u16), [7, 7]);
    assert_eq!(arena.alloc_slice_fill_clone(2, &Some(1u8)), [Some(1); 2]);
    assert_eq!(arena.alloc_slice_fill_default::<u64>(2), [0, 0]);
    assert_eq!(arena.alloc_slice_fill_iter([1u8, 2].into_iter().rev()), [2, 1]);
    assert_eq!(arena.alloc_slice_try_fill_with(2, |n| u8::try_from(n + 254)).unwrap(), [254, 255]);
    assert!(arena.alloc_slice_try_fill_with(3, |n| u8::try_from(n + 254)).is_err());
    let results = || [1u16, 300].map(u8::try_from).into_iter();
    assert!(arena.alloc_slice_try_fill_iter(results()).is_err());
    assert_eq!(arena.alloc_slice_try_fill_iter(results().take(1)).unwrap(), [1]);
    assert_eq!(arena.alloc_slice_fill_default::<String>(0).len(), 0);
    let alive = Cell::new(0);
    let clones = arena.alloc_slice_fill_clone(3, &Counted::new(&alive));
    assert_eq!((clones.len(), clones[2].1, alive.get()), (3, 7, 3));
    // Elements without a size are counted and dropped as others are.
    assert_eq!(arena.alloc_slice_fill_default::<()>(1000).len(), 1000);
    assert_eq!(arena.alloc_iter([(); 3]).len(), 3);
}

/// An iterator whose length is a lie.
struct Lying(std::ops::Range<u8>, usize);

impl Iterator for Lying {
    type Item = u8;
    fn next(&mut self) -> Option<u8> {
        self.0.next()
    }
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.1, Some(self.1))
    }
}

impl ExactSizeIterator for Lying {}

#[test]
fn an_iterator_that_lies_about_its_length_does_no_harm() {
    let arena = Arena::new(1 << 20).unwrap();
    panics(|| _ = arena.alloc_slice_fill_iter(Lying(0..3, 4)));
    assert_eq!(arena.used(), 0);
    assert_eq!(arena.alloc_slice_fill_iter(Lying(0..3, 2)), [0, 1]);
    assert_eq!(arena.used(), 2);
}

#[test]
fn what_does_not_fit_makes_nothing() {
    let arena = Arena::builder(1 << 20).limit(page_size()).build().unwrap();
    let all = arena.alloc_slice_fill_copy(page_size(), 1u8);
    let made = Cell::new(0);
    let make = || made.set(made.get() + 1);
    assert!(arena.try_alloc_with(|| (make(), 1u8)).is_err());
    let failed = arena.try_alloc_try_with(|| Ok::<_, ()>((make(), 1u8))).unwrap_err();
    assert!(matches!(failed, AllocOrInitError::Alloc(Error::LimitReached { .. })), "{failed:?}");
    assert!(arena.try_alloc_slice_fill_with(1, |_| (make(), 1u8)).is_err());
    assert!(arena.try_alloc_slice_try_fill_with(1, |_| Ok::<_, ()>((make(), 1u8))).is_err());
    assert!(arena.try_alloc_slice_fill_copy(1, 1u8).is_err());
    assert!(arena.try_alloc_slice_fill_clone(1, &1u8).is_err());
    assert!(arena.try_alloc_slice_fill_default::<u8>(1).is_err());
    assert!(arena.try_alloc_slice_clone(&[1u8]).is_err());
    assert!(arena.try_alloc_slice_fill_iter([1u8]).is_err());
    assert!(arena.try_alloc_slice_try_fill_iter([Ok::<_, ()>(1u8)]).is_err());
    panics(|| _ = arena.alloc_try_with(|| Ok::<_, ()>((make(), 1u8))));
    assert_eq!((made.get(), arena.used(), arena.committed()), (0, page_size(), page_size()));
    // The last of them fits only in part: what was yielded by then is dropped.
    arena.set_limit(2 * page_size()).unwrap();
    let alive = Cell::new(0);
    let refused = arena.try_alloc_iter(std::iter::from_fn(|| Some(Counted::new(&alive))));
    assert!(matches!(refused, Err(Error::LimitReached { .. })));
    assert_eq!((alive.get(), arena.used()), (0, page_size()));
    assert!(all.iter().all(|&byte| byte == 1));
}

/// A `Display` that allocates in the arena between its parts, and may fail.
struct Nested<'a>(&'a Arena, u32);

impl fmt::Display for Nested<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for n in 0..self.1 {
            write!(f, "{}", self.0.alloc_fmt(format_args!("<{n}>")))?;
        }
        if self.1 == 0 { Err(fmt::Error) } else { Ok(()) }
    }
}

#[test]
fn a_string_is_formatted_in_place_and_only_its_own_bytes_stay() {
    let arena = Arena::new(1 << 20).unwrap();
    let text = arena.alloc_fmt(format_args!("{}-{:03}-{}", "a", 7, "ä"));
    assert_eq!((&*text, arena.used()), ("a-007-ä", 8));
    assert_eq!(arena.alloc_fmt(format_args!("")), "");
    let nested = arena.alloc_fmt(format_args!("[{}]", Nested(&arena, 4)));
    assert_eq!((&*nested, &*text), ("[<0><1><2><3>]", "a-007-ä"));
    let before = arena.used();
    panics(|| _ = arena.alloc_fmt(format_args!("long enough to see {}", Nested(&arena, 0))));
    assert_eq!(arena.used(), before);
    let refused = arena.try_alloc_fmt(format_args!("{}", "x".repeat(2 << 20))).unwrap_err();
    assert!(matches!(refused, Error::ArenaFull { .. }), "{refused:?}");
    assert_eq!(arena.used(), before);
}

#[test]
fn the_numbers_of_an_arena_follow_it() {
    let mut arena = Arena::builder(64 * page_size()).limit(8 * page_size()).build().unwrap();
    arena.try_reserve(6 * page_size()).unwrap();
    arena.alloc(1u8);
    arena.shrink_to_fit().unwrap();
    assert_eq!((arena.committed(), arena.peak() >= 6 * page_size()), (page_size(), true));
    assert_eq!(arena.allocated_bytes(), page_size());
    arena.set_limit(page_size()).unwrap();
    assert!(arena.try_alloc_slice_fill_copy(page_size(), 0u8).is_err());
    let refused = arena.set_limit(0).unwrap_err();
    assert!(matches!(refused, Error::LimitBelowUse { limit: 0, used } if used == page_size()));
    arena.set_limit(usize::MAX).unwrap();
    assert_eq!(arena.limit(), arena.max_bytes());
    arena.try_alloc_slice_fill_copy(63 * page_size(), 0u8).unwrap();
}

#[test]
#[cfg(feature = "allocator-api2")]
fn a_box_in_an_arena_drops_its_value_and_a_plain_allocation_does_not() {
    let (arena, alive) = (Arena::new(1 << 20).unwrap(), Cell::new(0));
    drop(allocator_api2::boxed::Box::new_in(Counted::new(&alive), &arena));
    assert_eq!(alive.get(), 0);
    arena.alloc(Counted::new(&alive));
    drop(arena);
    assert_eq!(alive.get(), 1);
}
