//! Huge pages that are split: by giving parts back, and by writing after a fork.

use std::time::Instant;

use pagewise::HugePages;

use super::{against_never, filled, len};
use crate::case::{Case, Size};
use crate::sample::Sample;
use crate::system;
use crate::work::touch_each_page;

pub(super) fn decommitted() -> Case {
    against_never("decommit of every other 64 KiB of 256 MiB", &[], |size, huge| {
        Sample::or_failed(decommit(size, huge))
    })
}

fn decommit(size: Size, huge: HugePages) -> Result<Sample, pagewise::Error> {
    const BLOCK: usize = 64 << 10;
    let mut region = filled(len(size), huge)?;
    let blocks = len(size) / BLOCK / 2;
    let began = Instant::now();
    for block in 0..blocks {
        region.decommit(block * 2 * BLOCK..(block * 2 + 1) * BLOCK)?;
    }
    Ok(Sample::per(began.elapsed(), blocks * BLOCK / pagewise::page_size()))
}

pub(super) fn copied_on_write() -> Case {
    against_never("a store to each page of 256 MiB after a fork", &[], copy_on_write)
}

/// The parent's stores, while the child lives.
fn copy_on_write(size: Size, huge: HugePages) -> Sample {
    let len = len(size);
    let mut region = match filled(len, huge) {
        Ok(region) => region,
        Err(error) => return Sample::absent(error.to_string()),
    };
    let child = match system::forked() {
        Ok(child) => child,
        Err(why) => return Sample::absent(why),
    };
    let began = Instant::now();
    // SAFETY: the region is as long.
    unsafe { touch_each_page(region.as_mut_slice().as_mut_ptr(), len) };
    let sample = Sample::per(began.elapsed(), len / pagewise::page_size());
    drop(child);
    sample
}
