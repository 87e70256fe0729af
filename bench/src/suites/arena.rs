//! arena: many small allocations that are freed together, and a vector that grows among them.

use std::alloc::Layout;
use std::time::Instant;

use allocator_api2::alloc::Allocator;
use bumpalo::Bump;
use pagewise::{Arena, HugePages};

use super::Suite;
use crate::case::{Case, Size};
use crate::sample::Sample;

pub const SUITE: Suite = Suite {
    name: "arena",
    about: "small allocations, and a vector that grows in an arena",
    cases,
    needs: 1 << 30,
    needs_huge: 256 << 20,
};

/// More than any case needs: addresses cost nothing.
const MOST: usize = 8 << 30;

fn allocations(size: Size) -> usize {
    size.pick(10_000_000, 10_000_000, 1_000)
}

fn elements(size: Size) -> usize {
    size.pick(256 << 20, 256 << 20, 256 << 10) / size_of::<u64>()
}

fn cases() -> Vec<Case> {
    vec![
        Case::new("small allocations (16 bytes), new arena", "ns/allocation", |size| {
            once(allocations(size), arena(), |arena, i| keep(arena.alloc([i, i])))
        })
        .control()
        .rival("bumpalo", |size| {
            once(allocations(size), Bump::new(), |bump, i| keep(bump.alloc([i, i])))
        })
        .target(1.05, 0.9),
        Case::new("small allocations (16 bytes), after reset", "ns/allocation", |size| {
            again(allocations(size), arena(), |a, i| keep(a.alloc([i, i])), Arena::reset)
        })
        .rival("bumpalo", |size| {
            again(allocations(size), Bump::new(), |b, i| keep(b.alloc([i, i])), Bump::reset)
        })
        .target(1.05, 0.9),
        Case::new("small allocations (8 to 128 bytes), after reset", "ns/allocation", |size| {
            again(allocations(size), arena(), |a, i| keep(a.alloc_layout(mixed(i))), Arena::reset)
        })
        .rival("bumpalo", |size| {
            again(
                allocations(size),
                Bump::new(),
                |b, i| keep(b.alloc_layout(mixed(i))),
                Bump::reset,
            )
        })
        .target(1.05, 0.9),
        Case::new("a Vec of 256 MiB that grows inside", "ns/push", |size| {
            growing(elements(size), &arena())
        })
        .rival("bumpalo's Vec", |size| {
            let (bump, count, began) = (Bump::new(), elements(size), Instant::now());
            let mut array = bumpalo::collections::Vec::new_in(&bump);
            (0..count as u64).for_each(|value| array.push(value));
            keep(&mut array);
            Sample::per(began.elapsed(), count)
        })
        .target(0.45, 0.2)
        .rival("the same Vec in bumpalo", |size| growing(elements(size), &Bump::new()))
        .target(0.45, 0.2)
        .rival("pagewise, HugePages::Adaptive", |size| growing(elements(size), &adaptive()))
        .huge(),
        Case::new("many Vecs of 1,000 u64 that grow inside", "ns/push", |size| {
            many(elements(size), &arena())
        })
        .rival("the same Vecs in bumpalo", |size| many(elements(size), &Bump::new())),
    ]
}

fn arena() -> Arena {
    Arena::new(MOST).expect("the address space is larger")
}

fn adaptive() -> Arena {
    let builder = Arena::builder(MOST).huge_pages(HugePages::Adaptive);
    builder.build().expect("the address space is larger")
}

/// Keeps the compiler from removing what is not used otherwise.
fn keep<T>(allocated: T) {
    std::hint::black_box(allocated);
}

/// Sizes in a scattered order, aligned to a word.
fn mixed(index: u64) -> Layout {
    let words = 1 + crate::work::scatter(index, 16) % 16;
    Layout::array::<u64>(words as usize).expect("a few words")
}

fn once<A>(count: usize, arena: A, allocate: impl Fn(&A, u64)) -> Sample {
    let began = Instant::now();
    (0..count as u64).for_each(|index| allocate(&arena, index));
    Sample::per(began.elapsed(), count)
}

/// Fills and empties an arena a few times, so that its memory is resident (bumpalo keeps only its last chunk, which is
/// large enough by then). Then measures one more round.
fn again<A>(
    count: usize,
    mut arena: A,
    allocate: impl Fn(&A, u64),
    reset: impl Fn(&mut A),
) -> Sample {
    for _ in 0..3 {
        (0..count as u64).for_each(|index| allocate(&arena, index));
        reset(&mut arena);
    }
    once(count, arena, allocate)
}

fn growing(count: usize, arena: impl Allocator) -> Sample {
    let began = Instant::now();
    let mut array = allocator_api2::vec::Vec::new_in(arena);
    (0..count as u64).for_each(|value| array.push(value));
    keep(&mut array);
    Sample::per(began.elapsed(), count)
}

fn many(count: usize, arena: impl Allocator + Copy) -> Sample {
    const EACH: usize = 1_000;
    let began = Instant::now();
    for _ in 0..count / EACH {
        let mut array = allocator_api2::vec::Vec::new_in(arena);
        (0..EACH as u64).for_each(|value| array.push(value));
        keep(&mut array);
        std::mem::forget(array);
    }
    Sample::per(began.elapsed(), count / EACH * EACH)
}
