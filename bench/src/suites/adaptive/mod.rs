//! adaptive: `HugePages::Adaptive` against `HugePages::Never` where huge pages are known to hurt.

use std::time::Instant;

use pagewise::{DemandRegion, HugePages, PageVec};

use super::Suite;
use crate::case::{Case, Size};
use crate::percentiles::Percentiles;
use crate::sample::Sample;
use crate::work::touch_each_page;

mod full;
mod parts;

pub const SUITE: Suite = Suite {
    name: "adaptive",
    about: "HugePages::Adaptive where huge pages may hurt, against HugePages::Never",
    cases,
    needs: 512 << 20,
    needs_huge: 512 << 20,
};

fn cases() -> Vec<Case> {
    let mut cases = vec![
        against_never("256 MiB in ordinary memory", PARTS, both).control_of(FILL),
        full::fragmented(),
        full::nearly_full(),
        parts::decommitted(),
        parts::copied_on_write(),
    ];
    cases.extend(["always", "defer", "defer+madvise", "madvise", "never"].map(defrag));
    cases
}

/// The bound for everything but the slowest pushes in ordinary memory.
const COSTS: (f64, f64) = (1.2, 1.0);

/// Adaptive's run and Never's.
fn against_never(
    name: impl Into<String>,
    parts: &'static [&'static str],
    run: fn(Size, HugePages) -> Sample,
) -> Case {
    let unit = if parts.is_empty() { "ns/page" } else { "ns" };
    let case = Case::new(name, unit, move |size| run(size, HugePages::Adaptive))
        .ours_is("pagewise, HugePages::Adaptive")
        .parts(parts)
        .huge()
        .rival("pagewise, HugePages::Never", move |size| run(size, HugePages::Never));
    match parts {
        [] => case.target(COSTS.0, COSTS.1),
        _ => case.target_of(FILL, COSTS.0, COSTS.1).target_of(PUSH, COSTS.0, COSTS.1).target_of(
            "push, p99.999",
            2.0,
            1.0,
        ),
    }
}

const FILL: &str = "fill, each page";
const PUSH: &str = "push of 64 bytes, mean";
const PARTS: &[&str] = &[FILL, PUSH, "push, p99.9", "push, p99.99", "push, p99.999", "push, worst"];

/// Bytes that a fill touches, and that pushes need.
fn len(size: Size) -> usize {
    size.pick(256 << 20, 128 << 20, 32 << 20)
}

/// Fills a region by faults, then an array by pushes: the time of a page, and the distribution of the pushes.
fn both(size: Size, huge: HugePages) -> Sample {
    Sample::or_failed(fill_and_push(len(size), huge))
}

fn fill_and_push(len: usize, huge: HugePages) -> Result<Sample, pagewise::Error> {
    let began = Instant::now();
    let region = filled(len, huge)?;
    let each = began.elapsed().as_nanos() as f64 / (len / pagewise::page_size()) as f64;
    drop(region);
    let (mut times, count) = (Percentiles::new(), len / 64);
    let mut array = PageVec::<[u64; 8]>::builder(count).huge_pages(huge).build()?;
    let began = Instant::now();
    let mut before = began;
    for value in 0..count as u64 {
        array.push([value; 8]);
        let now = Instant::now();
        times.add((now - before).as_nanos() as u64);
        before = now;
    }
    std::hint::black_box(&mut array);
    let mean = (before - began).as_nanos() as f64 / count as f64;
    let tail = [0.999, 0.9999, 0.99999].map(|part| times.at(part));
    Ok(Sample::of_parts([each, mean].into_iter().chain(tail).chain([times.most()]).collect()))
}

/// A region, all of whose pages are touched in order.
fn filled(len: usize, huge: HugePages) -> Result<DemandRegion, pagewise::Error> {
    let mut region = DemandRegion::builder(len).huge_pages(huge).align(2 << 20).build()?;
    // SAFETY: the region is as long, and has no limit.
    unsafe { touch_each_page(region.as_mut_slice().as_mut_ptr(), len) };
    Ok(region)
}

/// With one of the settings that say who works for a huge page when none is free. It is the whole machine's, and is put
/// back after each sample.
fn defrag(setting: &'static str) -> Case {
    against_never(format!("256 MiB with defrag set to {setting}"), PARTS, both)
        .defrag(setting)
        .full_only()
}
