//! sparse: first touches scattered over a range that is much longer than memory.

use std::time::{Duration, Instant};

use pagewise::{DemandRegion, Engine};

use super::Suite;
use crate::case::{Case, Footprint, Sample, Size};
use crate::row::grouped;
use crate::system;
use crate::warm;
use crate::work::{self, Opened, store};
use crate::{ours, rivals};

pub const SUITE: Suite = Suite {
    name: "sparse",
    about: "scattered first touches over a range much longer than memory",
    cases,
    needs: 4500 << 20,
};

/// How many first touches a sample makes. Fewer over a longer range for `--quick`: there, each takes a page table of
/// its own.
fn touches(len: usize, size: Size) -> usize {
    size.pick(1_000_000, if len > OVER { 8_000 } else { 50_000 }, 2_000)
}

const OVER: usize = 64 << 30;

const MOST_MAPPINGS: usize = 40_000;

fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = [1, 2].map(over_64_gib).into();
    cases.extend([1, 2].map(over_64_gib_by_userfault));
    cases.extend([1, 2].map(over_64_gib_by_calls));
    cases.push(
        Case::new("over 1 TiB, 1 thread", "ns/touch", scattered(1 << 40, 1, ours::by_default))
            .rival("kernel demand paging, no reserve", scattered(1 << 40, 1, rivals::kernel)),
    );
    cases.push(
        Case::new("mappings after the touches over 1 TiB", "mappings", mappings)
            .counted()
            .rival("40,000 mappings", |_| Sample::of(MOST_MAPPINGS as f64))
            .target(1.0, 1.0),
    );
    cases.extend(few_to_many());
    cases
}

/// Few, some and many first touches, each over short and long ranges.
fn few_to_many() -> impl Iterator<Item = Case> {
    let lengths =
        [(1 << 30, "1 GiB"), (1 << 34, "16 GiB"), (1 << 36, "64 GiB"), (1 << 40, "1 TiB")];
    let counts = [100, 1_000, FEW, 100_000, 1_000_000];
    lengths.into_iter().flat_map(move |(len, name)| {
        // Where a large part of the pages is touched, touches are not scattered.
        let counts = counts.into_iter().filter(move |&count| count <= pages(len) / 4);
        counts.map(move |count| first_touches(len, name, count))
    })
}

/// So few touches that a mapping for each is below the limit.
const FEW: usize = 16_000;

/// Makes an area of some length.
type Open = fn(usize) -> Opened;

fn first_touches(len: usize, length: &str, count: usize) -> Case {
    let touches = |count, open| move |size| touch_first(len, count, size, open);
    let mut case = Case::new(
        format!("{} first touches over {length}", grouped(&count.to_string())),
        "µs/touch",
        touches(count, ours::by_default as _),
    );
    case = case.rival("kernel demand paging, no reserve", touches(count, rivals::kernel as _));
    let engines: [(_, Open); 2] =
        [("Engine::Protect", ours::by_protect), ("Engine::UserFault", ours::by_userfault)];
    for (name, open) in engines {
        case = case.rival(name, touches(count, open));
        if count <= FEW {
            case = case.target(1.3, 1.0);
        }
    }
    case = case
        .rival("bare C handler, mprotect of 1 page", touches(count, rivals::bare_handler as _))
        .rival(
            "bare C handler, UFFDIO_COPY of 1 page",
            touches(count, rivals::bare_userfault as _),
        );
    if count > FEW {
        let name = format!("Engine::Protect, {} touches", grouped(&FEW.to_string()));
        let few = touches(FEW, ours::by_protect as _);
        return case.rival(name, few).target(3.0, 1.0).full_only().long();
    }
    // The ends of the scale are enough for `--quick`.
    if len == 1 << 40 || len == 1 << 30 && count < FEW { case } else { case.full_only() }
}

/// The mappings of the process, and its page tables without those that it had before.
fn footprint(tables_before: Option<usize>) -> Option<Footprint> {
    let grown = system::page_tables()?.saturating_sub(tables_before?);
    Some(Footprint { page_tables_kib: grown >> 10, mappings: system::mappings()? })
}

/// Makes an area and touches scattered pages of it for the first time: the time of both, for each touch.
///
/// The time that it takes to look at page tables and mappings does not count.
fn touch_first(len: usize, count: usize, size: Size, open: Open) -> Sample {
    let count = size.pick(count, count, count.min(100));
    if size != Size::Tiny {
        // Each touch takes a page, and up to a page of page tables.
        warm::for_a_sample(count * 2 * pagewise::page_size() + (64 << 20));
    }
    let bits = pages(len).ilog2();
    let moments = if count > FEW { 64 } else { 16 };
    let tables_before = system::page_tables();
    let began = Instant::now();
    let mut area = match open(len) {
        Ok(area) => area,
        Err(why) => return Sample::absent(why),
    };
    let base = area.base().expose_provenance();
    let mut time = began.elapsed();
    let (mut most, stretch) = (None::<Footprint>, count.div_ceil(moments));
    for first in (0..count).step_by(stretch) {
        let began = Instant::now();
        for index in first..count.min(first + stretch) {
            let page = work::scatter(index as u64, bits) as usize;
            // SAFETY: an open area can be touched over its length.
            unsafe { store(base, page * pagewise::page_size()) };
        }
        time += began.elapsed();
        let now = footprint(tables_before);
        most = now.map(|now| now.max(most.unwrap_or_default()));
    }
    Sample::of(time.as_secs_f64() * 1e6 / count as f64).footprint(most)
}

/// With default settings.
fn over_64_gib(threads: usize) -> Case {
    let case = against_kernel(threads, "", ours::by_default);
    if threads > 1 {
        return case;
    }
    case.rival("memmap2, no reserve", touches_over_64_gib(threads, rivals::memmap2))
        .rival("bare C handler, 1 page", touches_over_64_gib(threads, rivals::bare_handler))
}

/// `Engine::UserFault`, against the smallest handler in C that gets a signal for each touch.
fn over_64_gib_by_userfault(threads: usize) -> Case {
    against_kernel(threads, ", Engine::UserFault", ours::by_userfault)
        .rival("bare C userfaultfd handler", touches_over_64_gib(threads, rivals::bare_userfault))
}

/// `Engine::UserFault` with a `commit` before each touch, so that no signal is raised.
fn over_64_gib_by_calls(threads: usize) -> Case {
    let commits = move |size| match commit_and_store(OVER, touches(OVER, size), threads) {
        Ok(done) => Sample::per(done.time, touches(OVER, size)).note(done.note()),
        Err(why) => Sample::absent(why),
    };
    Case::new(name(threads, ", Engine::UserFault, commit before the touch"), "ns/touch", commits)
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
