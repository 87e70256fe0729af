//! fault: one page for each page fault, the classic; and what such a fault consists of.

use std::time::Instant;

use super::{Suite, pages};
use crate::case::{Case, Size};
use crate::sample::Sample;
use crate::work::{Opened, touch_each_page};
use crate::{ours, rivals};

pub const SUITE: Suite = Suite {
    name: "fault",
    about: "one page for each page fault",
    cases,
    needs: 256 << 20,
    needs_huge: 0,
};

fn len(size: Size) -> usize {
    size.pick(256 << 20, 256 << 20, 1 << 20)
}

fn touch(open: impl Fn(usize) -> Opened + 'static) -> impl Fn(Size) -> Sample + 'static {
    pages(len, open, touch_each_page)
}

fn cases() -> Vec<Case> {
    vec![
        Case::new("one page per fault", "ns/fault", touch(ours::by_page))
            .control()
            // The better of the first two counts, so that both have the bound.
            .rival("bare C handler", touch(rivals::bare_handler))
            .target(1.08, 1.03)
            .rival("bare C handler that also populates the page", touch(populating))
            .target(1.08, 1.03)
            .rival("bare C handler, guard marker", touch(rivals::bare_guard))
            .rival(
                "bare C handler, guard marker, that also populates the page",
                touch(rivals::bare_guard_populating),
            )
            .rival("GNU libsigsegv", touch(rivals::libsigsegv))
            .target(1.00, 0.95)
            .rival("userspace-pagefault", touch(rivals::userspace_pagefault)),
        Case::new("what one fault consists of", "ns/page", touch(ours::by_page))
            .ours_is("pagewise, one page per fault")
            .rival("a signal alone", signals_alone)
            .rival("mprotect of the page and its first touch, no signal", protect_and_touch)
            .rival("first touch alone (kernel demand paging)", touch(rivals::kernel)),
    ]
}

fn populating(len: usize) -> Opened {
    rivals::bare_handler_by(len, pagewise::page_size(), true)
}

fn signals_alone(size: Size) -> Sample {
    timed(size, rivals::signals_alone)
}

fn protect_and_touch(size: Size) -> Sample {
    timed(size, |pages| rivals::protect_and_touch(pages * pagewise::page_size()))
}

fn timed(size: Size, work: impl FnOnce(usize) -> Result<(), String>) -> Sample {
    let (pages, began) = (len(size) / pagewise::page_size(), Instant::now());
    match work(pages) {
        Ok(()) => Sample::per(began.elapsed(), pages),
        Err(why) => Sample::absent(why),
    }
}
