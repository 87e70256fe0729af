//! small: regions and containers that are small, short-lived, or many.

use std::hint::black_box;
use std::time::Instant;

use super::Suite;
use crate::case::{Case, Size};
use crate::sample::Sample;

mod fills;
mod many;
mod short_lived;

pub const SUITE: Suite = Suite {
    name: "small",
    about: "small regions, short-lived containers, and 32,000 containers at once",
    cases,
    needs: 256 << 20,
    needs_huge: 256 << 20,
};

fn cases() -> Vec<Case> {
    let mut cases = fills::cases();
    // The same memory, again and again.
    cases.extend(short_lived::cases().into_iter().map(|case| case.needs(8 << 20)));
    cases.extend(many::cases());
    cases
}

/// Does something again and again: the time of each, in nanoseconds. Once before, so that what is made once is there.
fn repeatedly<R>(count: usize, work: impl Fn() -> R) -> Sample {
    black_box(work());
    let began = Instant::now();
    for _ in 0..count {
        black_box(work());
    }
    Sample::per(began.elapsed(), count)
}

fn times(size: Size) -> usize {
    size.pick(20_000, 5_000, 20)
}
