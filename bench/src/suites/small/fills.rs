//! Fills of regions that are small: each is made, and filled in order. (Giving them back is not part of the time.)

use std::time::Instant;

use crate::case::{Case, Size};
use crate::sample::Sample;
use crate::work::{Area, Opened, touch_each_page};
use crate::{ours, rivals};

pub(super) fn cases() -> Vec<Case> {
    let sizes = [
        (64 << 10, "64 KiB", (1.3, 1.0)),
        (256 << 10, "256 KiB", (1.1, 1.0)),
        (1 << 20, "1 MiB", (1.0, 0.9)),
        (16 << 20, "16 MiB", (1.0, 0.8)),
    ];
    let case = |(len, name, (bound, aim))| {
        let filled = move |open: fn(usize) -> Opened| move |size| fill(len, size, open);
        Case::new(format!("fill of regions of {name}"), "ns/page", filled(ours::small))
            .rival("kernel demand paging", filled(rivals::kernel_small))
            .target(bound, aim)
            .rival("kernel demand paging of aligned memory, 4 KiB", filled(rivals::kernel))
            .rival("memmap2, populated", filled(rivals::memmap2_populated))
            .rival("Vec<u8> of zeros", filled(zeros))
            .rival(
                "bare C handler, 64 KiB populated",
                filled(|len| rivals::bare_handler_by(len, 64 << 10, true)),
            )
            .rival("pagewise, adaptive huge pages", filled(ours::adaptive))
            .huge()
    };
    let mut cases: Vec<Case> = sizes.into_iter().map(case).collect();
    cases[0] = cases[0].clone().control();
    cases
}

/// Memory of the allocator, which has it from the kernel as zeros where that is cheaper.
fn zeros(len: usize) -> Opened {
    struct Zeros(Vec<u8>);
    impl Area for Zeros {
        fn base(&mut self) -> *mut u8 {
            self.0.as_mut_ptr()
        }
    }
    Ok(Box::new(Zeros(vec![0; len])))
}

/// Regions of 128 MiB in sum, one after the other. All live until the end.
fn fill(len: usize, size: Size, open: fn(usize) -> Opened) -> Sample {
    let count = (size.pick(128 << 20, 128 << 20, 32 << 20) / len).max(1);
    let mut live = Vec::with_capacity(count);
    let began = Instant::now();
    for _ in 0..count {
        let mut area = match open(len) {
            Ok(area) => area,
            Err(why) => return Sample::absent(why),
        };
        // SAFETY: an open area can be touched over its length.
        unsafe { touch_each_page(area.base(), len) };
        live.push(area);
    }
    Sample::per(began.elapsed(), count * len / pagewise::page_size())
}
