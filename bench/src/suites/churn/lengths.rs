//! Arrays whose lengths swing: where a short swing crosses the length below which memory is given back, each swing could
//! commit and give back.

use std::time::Instant;

use pagewise::PageVec;

use crate::case::{Case, Size};
use crate::sample::Sample;

/// Long, in elements; and how far it swings.
const LONG: usize = (64 << 20) / size_of::<u64>();

pub(super) fn cases() -> [Case; 2] {
    [
        Case::new(
            "a length that swings by 4 KiB around where memory is given back",
            "ns/push",
            around_give_back,
        )
        .rival("Vec::with_capacity, a length that swings by 4 KiB", |size| {
            let (from, to) = (LONG / 2 + 256, LONG / 2 - 256);
            let mut array = Vec::with_capacity(LONG);
            fill(&mut array, LONG, Vec::push);
            swings(size, from, to, array, Vec::truncate, Vec::push)
        }),
        Case::new("a length that swings between 1 MiB and 64 MiB", "ns/push", |size| {
            let array = PageVec::new(LONG).expect("the address space is larger");
            swing(size, LONG / 64, array, PageVec::truncate, PageVec::push)
        })
        .rival("Vec::with_capacity, which gives nothing back", |size| {
            swing(size, LONG / 64, Vec::with_capacity(LONG), Vec::truncate, Vec::push)
        }),
    ]
}

/// Finds the length below which the array gives memory back, by making it shorter page by page, and swings around it.
fn around_give_back(size: Size) -> Sample {
    let mut array = PageVec::new(LONG).expect("the address space is larger");
    fill(&mut array, LONG, PageVec::push);
    let full = array.committed();
    let mut at = LONG;
    while array.committed() == full && at > 512 {
        at -= 512;
        array.truncate(at);
    }
    let kib = at * size_of::<u64>() / 1024;
    swings(size, at + 256, at.saturating_sub(256), array, PageVec::truncate, PageVec::push)
        .note(format!("gives back below {kib} KiB of {} KiB", full >> 10))
}

/// Long swings: few, since each pushes 63 MiB.
fn swing<V>(
    size: Size,
    to: usize,
    mut array: V,
    truncate: impl Fn(&mut V, usize),
    push: impl Fn(&mut V, u64) + Copy,
) -> Sample {
    let times = size.pick(8, 4, 1);
    fill(&mut array, LONG, push);
    let began = Instant::now();
    for _ in 0..times {
        truncate(&mut array, to);
        fill(&mut array, LONG - to, push);
    }
    Sample::per(began.elapsed(), times * (LONG - to))
}

/// Short swings between two lengths.
fn swings<V>(
    size: Size,
    from: usize,
    to: usize,
    mut array: V,
    truncate: impl Fn(&mut V, usize),
    push: impl Fn(&mut V, u64) + Copy,
) -> Sample {
    let times = size.pick(20_000, 5_000, 10);
    truncate(&mut array, to);
    fill(&mut array, from - to, push);
    let began = Instant::now();
    for _ in 0..times {
        truncate(&mut array, to);
        fill(&mut array, from - to, push);
    }
    Sample::per(began.elapsed(), times * (from - to))
}

fn fill<V>(array: &mut V, count: usize, push: impl Fn(&mut V, u64)) {
    for value in 0..count as u64 {
        push(array, value);
    }
    std::hint::black_box(array);
}
