//! The suites: one file for each, which lists its cases.

use std::time::Instant;

use crate::case::{Case, Sample, Size};
use crate::work::Opened;

mod append;
mod arena;
mod churn;
mod fault;
mod fill;
mod latency;
mod scale;
mod shared;
mod sparse;

/// Cases that belong together.
pub struct Suite {
    pub name: &'static str,
    /// What it is about, in one line.
    pub about: &'static str,
    pub cases: fn() -> Vec<Case>,
    /// Bytes that its largest sample makes resident.
    pub needs: usize,
}

/// All suites, in the order of `all`.
pub const SUITES: &[Suite] = &[
    fill::SUITE,
    fault::SUITE,
    sparse::SUITE,
    append::SUITE,
    latency::SUITE,
    shared::SUITE,
    arena::SUITE,
    churn::SUITE,
    scale::SUITE,
];

/// The suite of a name; all of them for `all`.
pub fn named(name: &str) -> Vec<&'static Suite> {
    SUITES.iter().filter(|suite| name == "all" || suite.name == name).collect()
}

/// Opens an area of `len` bytes and does some work on it: the time of both, for each page.
///
/// `work` gets an address at which `len` bytes can be touched.
fn time_pages(
    len: usize,
    open: impl FnOnce(usize) -> Opened,
    work: unsafe fn(*mut u8, usize),
) -> Sample {
    let began = Instant::now();
    let mut area = match open(len) {
        Ok(area) => area,
        Err(why) => return Sample::absent(why),
    };
    // SAFETY: an open area can be touched over its length.
    unsafe { work(area.base(), len) };
    let sample = Sample::per(began.elapsed(), len / pagewise::page_size());
    match area.note() {
        Some(note) => sample.note(note),
        None => sample,
    }
}

/// A subject that opens an area whose length depends on the size, and works on it.
fn pages(
    len: fn(Size) -> usize,
    open: impl Fn(usize) -> Opened + 'static,
    work: unsafe fn(*mut u8, usize),
) -> impl Fn(Size) -> Sample + 'static {
    move |size| time_pages(len(size), &open, work)
}
