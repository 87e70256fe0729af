//! fill: the first touch of a long range, in order, through page faults.

use pagewise::CommitStep;

use super::{Suite, pages};
use crate::case::{Case, Size};
use crate::sample::Sample;
use crate::work::{Opened, touch_each_page, write_every_byte};
use crate::{ours, rivals};

pub const SUITE: Suite = Suite {
    name: "fill",
    about: "first touch of 1 GiB in order, through page faults",
    cases,
    needs: 1 << 30,
    needs_huge: 1 << 30,
};

fn len(size: Size) -> usize {
    size.pick(1 << 30, 1 << 30, 4 << 20)
}

fn store(open: impl Fn(usize) -> Opened + 'static) -> impl Fn(Size) -> Sample + 'static {
    pages(len, open, touch_each_page)
}

fn write(open: impl Fn(usize) -> Opened + 'static) -> impl Fn(Size) -> Sample + 'static {
    pages(len, open, write_every_byte)
}

fn cases() -> Vec<Case> {
    vec![
        Case::new("a store to each page", "ns/page", store(ours::by_default))
            .control()
            .rival("kernel demand paging, 4 KiB", store(rivals::kernel))
            .target(0.75, 0.62)
            .rival("kernel demand paging, transparent huge pages", store(rivals::kernel_huge))
            .huge()
            .rival("floor: populated by one call", store(rivals::floor))
            .target(1.15, 1.05)
            .rival("bare C handler, 1 page", store(rivals::bare_handler))
            .rival("bare C handler, guard marker of 1 page", store(rivals::bare_guard))
            .rival("bare C handler, 64 KiB populated", store(bare(64 << 10)))
            .rival("bare C handler, 1 MiB populated", store(bare(1 << 20)))
            .rival("GNU libsigsegv, 1 page", store(rivals::libsigsegv))
            .rival("memmap2, populated", store(rivals::memmap2_populated)),
        Case::new("every byte", "ns/page", write(ours::by_default))
            .rival("kernel demand paging, 4 KiB", write(rivals::kernel))
            .target(0.75, 0.62)
            .rival("floor: populated by one call", write(rivals::floor))
            .target(1.15, 1.05),
        Case::new("a store to each page, HugePages::Never", "ns/page", store(ours::never_huge))
            .rival("kernel demand paging, 4 KiB", store(rivals::kernel))
            .rival("floor: populated by one call", store(rivals::floor))
            .target(1.10, 1.03),
        Case::new("a store to each page, adaptive huge pages", "ns/page", store(ours::adaptive))
            .huge()
            .rival("kernel demand paging, 4 KiB", store(rivals::kernel))
            .target(0.45, 0.28)
            .rival("kernel demand paging, transparent huge pages", store(rivals::kernel_huge))
            .huge()
            .target(1.10, 1.00),
        Case::new("every byte, adaptive huge pages", "ns/page", write(ours::adaptive))
            .huge()
            .rival("kernel demand paging, 4 KiB", write(rivals::kernel))
            .rival("kernel demand paging, transparent huge pages", write(rivals::kernel_huge))
            .huge(),
        Case::new(
            "a store to each page, transparent huge pages",
            "ns/page",
            store(ours::transparent),
        )
        .huge()
        .rival("kernel demand paging, 4 KiB", store(rivals::kernel))
        .target(0.50, 0.33)
        .rival("kernel demand paging, transparent huge pages", store(rivals::kernel_huge))
        .huge(),
        by_window(),
    ]
}

fn bare(step: usize) -> impl Fn(usize) -> Opened {
    move |len| rivals::bare_handler_by(len, step, true)
}

/// The adaptive step against fixed ones.
fn by_window() -> Case {
    let mut case = Case::new("steps: adaptive against fixed", "ns/page", store(ours::by_default))
        .ours_is("pagewise, adaptive");
    for shift in [16, 18, 20, 22] {
        let step = 1usize << shift;
        let fixed = move |len| ours::with(len, |b| b.step(CommitStep::fixed(step)));
        case = case.rival(format!("pagewise, fixed {} KiB", step >> 10), store(fixed));
    }
    case
}
