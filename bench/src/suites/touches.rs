//! touches: from few to many first touches, scattered over short and long ranges, and over many regions.

use std::time::{Duration, Instant};

use super::{Suite, footprint};
use crate::case::{Case, Size};
use crate::row::grouped;
use crate::sample::{Footprint, Sample};
use crate::system;
use crate::work::{self, Area, Opened, store};
use crate::{ours, rivals};

pub const SUITE: Suite = Suite {
    name: "touches",
    about: "100 to 100,000 scattered first touches, with the slowest one",
    cases,
    needs: 1 << 30,
    needs_huge: 0,
};

const PARTS: &[&str] = &["mean touch", "worst touch"];
const MEAN: &str = PARTS[0];

fn cases() -> Vec<Case> {
    let lengths = [(1 << 30, "1 GiB"), (1 << 36, "64 GiB"), (1 << 40, "1 TiB")];
    let counts = [100, 1_000, FEW, 100_000];
    let mut cases: Vec<Case> = lengths
        .into_iter()
        .flat_map(|(len, name)| {
            // Where a large part of the pages is touched, touches are not scattered.
            let counts = counts.into_iter().filter(move |&count| count <= pages(len) / 4);
            counts.map(move |count| over_one_region(len, name, count))
        })
        .collect();
    cases.push(over_many_regions().control_of(MEAN));
    cases
}

/// So few touches that a mapping for each is below the limit.
const FEW: usize = 10_000;

/// The longest range that the handler of guard markers is given.
const GUARDED: usize = 1 << 30;

/// Makes an area of some length.
type Open = fn(usize) -> Opened;

/// Scattered touches of some areas.
#[derive(Clone, Copy)]
struct Touches {
    len: usize,
    areas: usize,
    count: usize,
}

impl Touches {
    fn by(self, open: Open) -> impl Fn(Size) -> Sample + 'static {
        move |size| {
            let count = size.pick(self.count, self.count, self.count.min(100));
            touch(Self { count, ..self }, open)
        }
    }

    /// Against the kernel, and against the other engines with bounds for few touches.
    fn case(self, name: String) -> Case {
        // Each touch takes a page, and up to a page of page tables.
        let needs = self.count * 2 * pagewise::page_size() + (64 << 20);
        let mut case = Case::new(name, "µs/touch", self.by(ours::by_default))
            .parts(PARTS)
            .needs(needs)
            .rival("kernel demand paging, no reserve", self.by(rivals::kernel));
        let engines: [(_, Open); 2] = [
            ("pagewise, Engine::Protect", ours::by_protect),
            ("pagewise, Engine::UserFault", ours::by_userfault),
        ];
        for (name, open) in engines {
            case = case.rival(name, self.by(open));
            if self.count <= FEW {
                case = case.target_of(MEAN, 1.3, 1.0);
            }
        }
        case
    }
}

fn over_one_region(len: usize, length: &str, count: usize) -> Case {
    let touches = Touches { len, areas: 1, count };
    let name = format!("{} first touches over {length}", grouped(&count.to_string()));
    let case = touches
        .case(name)
        .rival("bare C handler, mprotect of 1 page", touches.by(rivals::bare_handler))
        .rival("bare C handler, UFFDIO_COPY of 1 page", touches.by(rivals::bare_userfault))
        .target_of(MEAN, 1.15, 1.03);
    // Markers for all of a longer range would fill gigabytes of page tables.
    let case = match len {
        0..=GUARDED => {
            case.rival("bare C handler, guard marker of 1 page", touches.by(rivals::bare_guard))
        }
        _ => case,
    };
    if count > FEW {
        let name = format!("pagewise, Engine::Protect, {} touches", grouped(&FEW.to_string()));
        let few = Touches { count: FEW, ..touches }.by(ours::by_protect);
        return case.rival(name, few).target_of(MEAN, 3.0, 1.0).full_only().long();
    }
    // The ends of the scale are enough for `--quick`.
    if len == 1 << 40 || len == 1 << 30 && count < FEW { case } else { case.full_only() }
}

fn over_many_regions() -> Case {
    let touches = Touches { len: 1 << 30, areas: 100, count: 10_000 };
    touches.case("10,000 first touches over 100 regions of 1 GiB".into())
}

/// Makes the areas and touches scattered pages of them for the first time, in turns: the time of both for each touch,
/// and the longest touch.
///
/// The time that it takes to look at page tables and mappings does not count.
fn touch(touches: Touches, open: Open) -> Sample {
    let Touches { len, areas, count } = touches;
    let bits = pages(len).ilog2();
    let moments = if count > FEW { 64 } else { 16 };
    let tables_before = system::page_tables();
    let began = Instant::now();
    let mut areas: Vec<Box<dyn Area>> = match (0..areas).map(|_| open(len)).collect() {
        Ok(areas) => areas,
        Err(why) => return Sample::absent(why),
    };
    let bases: Vec<usize> = areas.iter_mut().map(|area| area.base().expose_provenance()).collect();
    let (mut time, mut worst) = (began.elapsed(), Duration::ZERO);
    let (mut most, stretch) = (None::<Footprint>, count.div_ceil(moments));
    for first in (0..count).step_by(stretch) {
        let began = Instant::now();
        let mut before = began;
        for index in first..count.min(first + stretch) {
            let (base, page) = (bases[index % bases.len()], index / bases.len());
            let page = work::scatter(page as u64, bits) as usize;
            // SAFETY: an open area can be touched over its length.
            unsafe { store(base, page * pagewise::page_size()) };
            let now = Instant::now();
            worst = worst.max(now - before);
            before = now;
        }
        time += before - began;
        let now = footprint(tables_before);
        most = now.map(|now| now.max(most.unwrap_or_default()));
    }
    let microseconds = |time: Duration| time.as_secs_f64() * 1e6;
    Sample::of_parts(vec![microseconds(time) / count as f64, microseconds(worst)]).footprint(most)
}

fn pages(len: usize) -> usize {
    len / pagewise::page_size()
}
