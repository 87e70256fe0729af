//! Blocks that come and go beside blocks that stay.

use std::time::Instant;

use pagewise::{DemandRegion, Reservation};

use super::{BLOCK, BLOCKS, cycles};
use crate::case::{Case, Size};
use crate::sample::Sample;
use crate::work::touch_each_page;

pub(super) fn cases() -> [Case; 2] {
    let beside = |live| move |size| Sample::or_failed(explicit(size, live));
    let by_faults = |live| move |size| Sample::or_failed(by_faults(size, live));
    [
        Case::new(
            "commit, touch, decommit 64 KiB beside live neighbours",
            "ns/cycle",
            beside(true),
        )
        .rival("pagewise, without neighbours", beside(false)),
        Case::new(
            "touch (page faults), decommit 64 KiB beside live neighbours",
            "ns/cycle",
            by_faults(true),
        )
        .rival("pagewise, without neighbours", by_faults(false)),
    ]
}

/// Blocks at even places are cycled. Those at odd places are live, or were never used.
fn explicit(size: Size, live: bool) -> Result<Sample, pagewise::Error> {
    let pool = Reservation::new(BLOCK * BLOCKS)?;
    let block = |number: usize| number * BLOCK..(number + 1) * BLOCK;
    for number in (1..BLOCKS).step_by(2).filter(|_| live) {
        pool.commit(block(number))?;
        // SAFETY: committed just now.
        unsafe { touch_each_page(pool.as_ptr().add(number * BLOCK), BLOCK) };
    }
    let began = Instant::now();
    for cycle in 0..cycles(size) / 2 {
        let number = cycle * 2 % BLOCKS;
        pool.commit(block(number))?;
        // SAFETY: committed just now.
        unsafe { touch_each_page(pool.as_ptr().add(number * BLOCK), BLOCK) };
        pool.decommit(block(number))?;
    }
    Ok(Sample::per(began.elapsed(), cycles(size) / 2))
}

/// The same, where touching commits.
fn by_faults(size: Size, live: bool) -> Result<Sample, pagewise::Error> {
    let mut region = DemandRegion::new(BLOCK * BLOCKS)?;
    // SAFETY: touching commits, and there is no limit.
    let touch =
        |number: usize, base: *mut u8| unsafe { touch_each_page(base.add(number * BLOCK), BLOCK) };
    let base = region.as_mut_slice().as_mut_ptr();
    (1..BLOCKS).step_by(2).filter(|_| live).for_each(|number| touch(number, base));
    let began = Instant::now();
    for cycle in 0..cycles(size) / 2 {
        let number = cycle * 2 % BLOCKS;
        touch(number, region.as_ptr());
        region.decommit(number * BLOCK..(number + 1) * BLOCK)?;
    }
    Ok(Sample::per(began.elapsed(), cycles(size) / 2))
}
