//! read: memory that is committed and resident, read in order and at random: the processor's address translation, with
//! huge pages and without.

use std::hint::black_box;
use std::time::Instant;

use super::Suite;
use crate::case::{Case, Size};
use crate::sample::Sample;
use crate::work::{Opened, touch_each_page};
use crate::{ours, rivals};

pub const SUITE: Suite = Suite {
    name: "read",
    about: "reads of 1 GiB that is resident, at random and in order",
    cases,
    // The memory is there before the clock starts.
    needs: 0,
    needs_huge: 1 << 30,
};

fn len(size: Size) -> usize {
    size.pick(1 << 30, 512 << 20, 4 << 20)
}

fn cases() -> Vec<Case> {
    [
        ("random reads", "ns/read", at_random as fn(&[u64], Size) -> Sample),
        ("iteration over u64", "ns/element", in_order),
    ]
    .into_iter()
    .flat_map(|(name, unit, reads)| {
        let by = move |open: fn(usize) -> Opened| move |size| read(size, open, reads);
        let small = Case::new(name, unit, by(ours::by_default))
            .rival("kernel demand paging, 4 KiB", by(rivals::kernel))
            .target(1.05, 1.0)
            .rival("kernel demand paging, transparent huge pages", by(rivals::kernel_huge))
            .huge();
        let huge = Case::new(format!("{name}, adaptive huge pages"), unit, by(ours::adaptive))
            .huge()
            .rival("kernel demand paging, 4 KiB", by(rivals::kernel))
            .rival("kernel demand paging, transparent huge pages", by(rivals::kernel_huge))
            .huge()
            .rival("pagewise, transparent huge pages", by(ours::transparent))
            .huge();
        [if name.starts_with("random") { small.control() } else { small }, huge]
    })
    .collect()
}

/// Touches an area in order, which makes it resident; then reads it. Only the reads are timed.
fn read(size: Size, open: fn(usize) -> Opened, reads: fn(&[u64], Size) -> Sample) -> Sample {
    let len = len(size);
    let mut area = match open(len) {
        Ok(area) => area,
        Err(why) => return Sample::absent(why),
    };
    // SAFETY: an open area can be touched over its length.
    unsafe { touch_each_page(area.base(), len) };
    // SAFETY: as above, and nobody writes to it from here on.
    let words = unsafe { std::slice::from_raw_parts(area.base().cast::<u64>(), len / 8) };
    reads(words, size)
}

/// Each address needs the value that was read before it, so that reads do not overlap.
fn at_random(words: &[u64], size: Size) -> Sample {
    let count = size.pick(10_000_000, 3_000_000, 1_000);
    let mask = words.len() as u64 - 1;
    assert!(words.len().is_power_of_two());
    let mut place = 0u64;
    let began = Instant::now();
    for step in 0..count as u64 {
        let word = words[(place & mask) as usize];
        place = (word ^ place ^ step).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
    black_box(place);
    Sample::per(began.elapsed(), count)
}

fn in_order(words: &[u64], size: Size) -> Sample {
    let times = size.pick(3, 2, 1);
    let began = Instant::now();
    for _ in 0..times {
        black_box(black_box(words).iter().fold(0u64, |sum, word| sum.wrapping_add(*word)));
    }
    Sample::per(began.elapsed(), times * words.len())
}
