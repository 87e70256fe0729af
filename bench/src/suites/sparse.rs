//! sparse: first touches scattered over a range that is much longer than memory.

use std::time::Duration;

use pagewise::{DemandRegion, Engine};

use super::Suite;
use crate::case::{Case, Size};
use crate::sample::Sample;
use crate::system;
use crate::work::{self, Opened, store};
use crate::{ours, rivals};

pub const SUITE: Suite = Suite {
    name: "sparse",
    about: "scattered first touches over a range much longer than memory",
    cases,
    // Each touch takes a page.
    needs: 1200 << 20,
    needs_huge: 0,
};

/// How many first touches a sample makes. Fewer over a longer range for `--quick`: there, each takes a page table of
/// its own.
fn touches(len: usize, size: Size) -> usize {
    size.pick(250_000, if len > OVER { 8_000 } else { 50_000 }, 2_000)
}

const OVER: usize = 64 << 30;

const MOST_MAPPINGS: usize = 40_000;

fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = [1, 2].map(over_64_gib).into();
    cases.extend([1, 2].map(over_64_gib_by_userfault));
    cases.extend([1, 2].map(over_64_gib_by_calls));
    cases[0] = cases[0].clone().control();
    cases.push(
        Case::new("mappings after the touches over 1 TiB", "mappings", mappings)
            .counted()
            .rival("40,000 mappings", |_| Sample::of(MOST_MAPPINGS as f64))
            .target(1.0, 1.0),
    );
    cases
}

/// Makes an area of some length.
type Open = fn(usize) -> Opened;

/// With default settings.
fn over_64_gib(threads: usize) -> Case {
    let case = against_kernel(threads, "", ours::by_default);
    if threads > 1 {
        return case;
    }
    case.rival("memmap2, no reserve", touches_over_64_gib(threads, rivals::memmap2))
        .rival("bare C handler, 1 page", touches_over_64_gib(threads, rivals::bare_handler))
        .rival("bare C userfaultfd handler", touches_over_64_gib(threads, rivals::bare_userfault))
        .target(1.15, 1.03)
}

/// `Engine::UserFault`, against the smallest handler in C that gets a signal for each touch.
fn over_64_gib_by_userfault(threads: usize) -> Case {
    against_kernel(threads, ", Engine::UserFault", ours::by_userfault)
        .rival("bare C userfaultfd handler", touches_over_64_gib(threads, rivals::bare_userfault))
        .target(1.15, 1.03)
}

/// `Engine::UserFault` with a `commit` before each touch, so that no signal is raised.
fn over_64_gib_by_calls(threads: usize) -> Case {
    let commits = move |size| match commit_and_store(OVER, touches(OVER, size), threads) {
        Ok(done) => Sample::per(done.time, touches(OVER, size)).note(done.note()),
        Err(why) => Sample::absent(why),
    };
    Case::new(name(threads, ", Engine::UserFault, commit before the touch"), "ns/touch", commits)
        .long()
        .rival("kernel demand paging, no reserve", touches_over_64_gib(threads, rivals::kernel))
        .target(2.0, 1.3)
}

fn commit_and_store(len: usize, count: usize, threads: usize) -> Result<Scattered, String> {
    let builder = DemandRegion::builder(len).engine(Engine::UserFault);
    let region = builder.build().map_err(|error| error.to_string())?;
    let base = region.as_ptr().expose_provenance();
    let time = work::scattered(pages(len).ilog2(), count, threads, |offset| {
        region.commit(offset..offset + 8).expect("there is no limit");
        // SAFETY: inside the region.
        unsafe { store(base, offset) };
    });
    Ok(Scattered { time, mappings: system::mappings(), remark: Some(ours::remark(&region)) })
}

fn pages(len: usize) -> usize {
    len / pagewise::page_size()
}

fn name(threads: usize, settings: &str) -> String {
    let plural = if threads == 1 { "thread" } else { "threads" };
    format!("over 64 GiB, {threads} {plural}{settings}")
}

fn against_kernel(threads: usize, settings: &str, ours: fn(usize) -> Opened) -> Case {
    Case::new(name(threads, settings), "ns/touch", touches_over_64_gib(threads, ours))
        .long()
        .rival("kernel demand paging, no reserve", touches_over_64_gib(threads, rivals::kernel))
        .target(2.0, 1.3)
}

fn touches_over_64_gib(threads: usize, open: Open) -> impl Fn(Size) -> Sample + 'static {
    scattered(OVER, threads, open)
}

fn scattered(len: usize, threads: usize, open: Open) -> impl Fn(Size) -> Sample + 'static {
    move |size| match scatter(len, touches(len, size), threads, open) {
        Ok(done) => Sample::per(done.time, touches(len, size)).note(done.note()),
        Err(why) => Sample::absent(why),
    }
}

struct Scattered {
    time: Duration,
    mappings: Option<usize>,
    remark: Option<String>,
}

impl Scattered {
    fn note(&self) -> String {
        let mappings = self.mappings.map(|count| format!("{count} mappings"));
        self.remark.clone().into_iter().chain(mappings).collect::<Vec<_>>().join(", ")
    }
}

fn scatter(len: usize, count: usize, threads: usize, open: Open) -> Result<Scattered, String> {
    let mut area = open(len)?;
    let base = area.base().expose_provenance();
    // SAFETY: an open area can be touched over its length, from any thread.
    let time = work::scattered(pages(len).ilog2(), count, threads, |offset| unsafe {
        store(base, offset)
    });
    Ok(Scattered { time, mappings: system::mappings(), remark: area.note() })
}

fn mappings(size: Size) -> Sample {
    match scatter(1 << 40, touches(1 << 40, size), 1, ours::by_default) {
        Ok(Scattered { mappings: Some(mappings), remark, .. }) => {
            Sample::of(mappings as f64).note(remark.unwrap_or_default())
        }
        Ok(_) => Sample::absent("mappings are counted on Linux only"),
        Err(why) => Sample::absent(why),
    }
}
