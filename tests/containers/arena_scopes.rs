//! What a scope of an arena allocated is free when it ends, and nothing else is, whatever both allocate meanwhile.

use std::alloc::Layout;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pagewise::{Arena, Error, page_size};
use proptest::prelude::*;

#[test]
fn a_scope_takes_back_what_it_allocated_while_older_things_are_in_use() {
    let arena = Arena::new(1 << 20).unwrap();
    let older = arena.alloc(1u64);
    let (mut reused, mut places) = (None, 0);
    for round in 0..3 {
        let sum = arena.scope(|scope| {
            let numbers = scope.alloc_slice_fill_with(1000, |n| n as u64 + round);
            assert!(
                reused.is_none_or(|at| at == numbers.as_ptr().addr()),
                "the same place each time"
            );
            reused = Some(numbers.as_ptr().addr());
            *older += 1;
            assert_eq!(scope.used(), 8008);
            places += 1;
            numbers.iter().sum::<u64>()
        });
        assert_eq!((sum, arena.used()), (499_500 + 1000 * round, 8));
    }
    assert_eq!((*older, places), (4, 3));
    assert!(arena.committed() >= 8008, "the memory stays for the next round");
}

#[test]
fn a_scope_ends_where_it_panics() {
    let arena = Arena::new(1 << 20).unwrap();
    arena.alloc(1u8);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        arena.scope(|scope| {
            scope.alloc_slice_copy(&[1u8; 100]);
            scope.scope(|inner| _ = inner.alloc_with(|| -> u64 { panic!() }));
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(arena.used(), 1);
    arena.alloc(2u8);
    assert_eq!(arena.used(), 2);
}

#[test]
fn what_the_outer_arena_allocates_meanwhile_outlives_the_scope() {
    let arena = Arena::new(1 << 20).unwrap();
    let (first, kept) = arena.scope(|scope| {
        let scratch = scope.alloc(1u64);
        let kept = arena.alloc(2u64);
        let more = scope.alloc(3u64);
        let all = scope.scope(|inner| {
            let deep = inner.alloc(4u64);
            (arena.alloc(5u64), *deep)
        });
        assert_eq!((*scratch, *more, all.1), (1, 3, 4));
        (kept, all.0)
    });
    assert_eq!(arena.used(), 40, "the last one is the fifth");
    let next = arena.alloc(6u64);
    assert_eq!((*first, *kept, *next, arena.used()), (2, 5, 6, 48));
}

#[test]
fn a_scope_of_the_outer_arena_inside_a_scope_frees_its_own() {
    let arena = Arena::new(1 << 20).unwrap();
    arena.scope(|scope| {
        let mine = scope.alloc(1u64);
        arena.scope(|inner| {
            inner.alloc(2u64);
            assert_eq!((inner.used(), scope.alloc(3u64)), (16, &mut 3));
        });
        let next = scope.alloc(4u64);
        assert_eq!((*mine, *next, scope.used()), (1, 4, 32));
    });
    assert_eq!(arena.used(), 0);
}

#[test]
fn zeroed_memory_is_zero_after_a_scope_and_inside_one() {
    let arena = Arena::new(1 << 20).unwrap();
    let zeros = |arena: &Arena| {
        let layout = Layout::new::<[u8; 3000]>();
        // SAFETY: so many initialised bytes.
        unsafe { arena.alloc_layout_zeroed(layout).cast::<[u8; 3000]>().read() == [0; 3000] }
    };
    arena.scope(|scope| {
        scope.scope(|inner| _ = inner.alloc_slice_fill_copy(10_000, 0xFFu8));
        assert!(zeros(&arena) && zeros(scope));
        scope.alloc_slice_fill_copy(10_000, 0xFFu8);
    });
    assert!(zeros(&arena) && zeros(&arena) && zeros(&arena));
}

#[test]
fn a_scope_has_the_limit_and_the_error_of_its_arena() {
    let arena = Arena::builder(64 * page_size()).limit(page_size()).build().unwrap();
    arena.scope(|scope| {
        scope.alloc_slice_fill_copy(page_size(), 1u8);
        assert!(matches!(scope.try_alloc_uninit::<u8>(), Err(Error::LimitReached { .. })));
        assert!(matches!(arena.try_alloc_uninit::<u8>(), Err(Error::LimitReached { .. })));
        assert!(matches!(
            scope.try_alloc_slice_uninit::<u8>(64 * page_size()),
            Err(Error::ArenaFull { .. })
        ));
        assert_eq!((arena.committed(), scope.limit()), (page_size(), page_size()));
    });
    arena.alloc_slice_fill_copy(page_size(), 1u8);
}

#[test]
fn a_checkpoint_of_a_scope_is_good_for_no_other_arena() {
    let mut arena = Arena::new(1 << 20).unwrap();
    let inner = arena.scope(Arena::checkpoint);
    assert!(catch_unwind(AssertUnwindSafe(|| arena.rewind(inner))).is_err());
    let before = arena.checkpoint();
    arena.scope(|scope| _ = scope.alloc(1));
    arena.alloc(1);
    arena.rewind(before);
    assert_eq!(arena.used(), 0);
}

#[test]
fn iterators_and_strings_grow_beside_a_scope() {
    let arena = Arena::new(1 << 20).unwrap();
    let numbers = arena.alloc_iter((0..100u64).map(|n| arena.scope(|scope| *scope.alloc(n))));
    assert!(numbers.iter().copied().eq(0..100));
    assert_eq!(arena.used(), 800, "in place");
    let (words, text) = arena.scope(|scope| {
        // Elements of the outer arena, with something of the scope between any two.
        let words = arena.alloc_iter((0..20u64).inspect(|_| _ = scope.alloc(0xFFu8)));
        let scratch = scope.alloc_fmt(format_args!("{}", words.len()));
        (words, arena.alloc_fmt(format_args!("{scratch}!")))
    });
    assert!(words.iter().copied().eq(0..20));
    assert_eq!(text, "20!");
}

#[cfg(feature = "allocator-api2")]
#[test]
fn collections_of_both_arenas_grow_side_by_side() {
    use allocator_api2::vec::Vec;

    let arena = Arena::new(1 << 20).unwrap();
    let mut outer = Vec::new_in(&arena);
    outer.push(0u32);
    arena.scope(|scope| {
        let mut inner = Vec::new_in(scope);
        let mut late = Vec::new_in(&arena);
        for n in 1..200u32 {
            inner.push(n);
            outer.push(n);
            late.push(n);
            if n % 50 == 0 {
                outer.shrink_to_fit();
                late.shrink_to_fit();
            }
        }
        assert!(inner.iter().copied().eq(1..200));
        assert!(late.iter().copied().eq(1..200));
    });
    let after = arena.alloc_slice_fill_copy(100, u64::MAX);
    outer.push(200);
    assert!(outer.iter().copied().eq(0..=200));
    assert!(after.iter().all(|&word| word == u64::MAX));
}

/// What a program does with an arena and the scopes in it.
#[derive(Clone, Debug)]
enum Step {
    /// Allocates so many bytes in the arena that lies so many scopes below the innermost one.
    Alloc(usize, usize),
    Fail(usize, usize),
    Scope(Vec<Step>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let alloc = (0usize..200, 0usize..3).prop_map(|(len, depth)| Step::Alloc(len, depth));
    let fail = (0usize..200, 0usize..3).prop_map(|(len, depth)| Step::Fail(len, depth));
    let leaf = prop_oneof![4 => alloc, 1 => fail];
    let tree = leaf
        .prop_recursive(4, 40, 8, |inner| prop::collection::vec(inner, 0..8).prop_map(Step::Scope));
    prop::collection::vec(tree, 0..12)
}

type Slices<'a> = Vec<(&'a mut [u8], u8)>;

fn assert_intact(slices: &Slices) {
    for (slice, stamp) in slices {
        assert!(slice.iter().all(|byte| byte == stamp));
    }
}

/// Runs steps in the innermost of some scopes, and checks that every slice of each arena has its contents for as long
/// as that arena lives. `kept` are those of the outermost one.
fn run<'o, 'a>(
    outermost: &'o Arena,
    scopes: &[&'a Arena],
    steps: &[Step],
    kept: &mut Slices<'o>,
    stamp: &mut u8,
) {
    let mut own: Slices<'a> = Vec::new();
    for step in steps {
        *stamp = stamp.wrapping_add(1);
        match step {
            Step::Alloc(len, depth) => match scopes.iter().rev().nth(*depth) {
                Some(scope) => own.push((scope.alloc_slice_fill_copy(*len, *stamp), *stamp)),
                None => kept.push((outermost.alloc_slice_fill_copy(*len, *stamp), *stamp)),
            },
            Step::Fail(len, depth) => {
                let arena = scopes.iter().rev().nth(*depth).copied().unwrap_or(outermost);
                let failed = arena.alloc_slice_try_fill_with(*len + 1, |n| {
                    if n == *len { Err(()) } else { Ok(0xEEu8) }
                });
                assert!(failed.is_err());
            }
            Step::Scope(steps) => {
                let innermost = scopes.last().copied().unwrap_or(outermost);
                innermost.scope(|scope| {
                    let scopes: Vec<&Arena> = scopes.iter().copied().chain([scope]).collect();
                    run(outermost, &scopes, steps, kept, stamp);
                });
            }
        }
        assert_intact(kept);
        assert_intact(&own);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 256 }, failure_persistence: None, ..Default::default()
    })]
    #[test]
    fn whatever_is_allocated_where_keeps_its_contents_as_long_as_it_may_be_used(steps in steps()) {
        let arena = Arena::new(4 << 20).unwrap();
        let mut kept = Vec::new();
        run(&arena, &[], &steps, &mut kept, &mut 0);
        let end = kept.iter().map(|(slice, _)| slice.as_ptr_range().end.addr()).max();
        let next = arena.alloc_slice_fill_copy(100, 0xAAu8);
        prop_assert!(end.is_none_or(|end| end <= next.as_ptr().addr()));
        assert_intact(&kept);
    }
}
