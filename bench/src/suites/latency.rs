//! latency: how long single pushes take, up to the slowest of all.

use std::time::{Duration, Instant};

use pagewise::{HugePages, PageVec};

use super::Suite;
use crate::case::{Case, Size};
use crate::percentiles::Percentiles;
use crate::sample::Sample;
use crate::system;

pub const SUITE: Suite = Suite {
    name: "latency",
    about: "single pushes while growing to 1 GiB",
    cases,
    needs: 1 << 30,
    needs_huge: 1 << 30,
};

/// A cache line: so few elements fill a gigabyte that the clock can be read for each push.
type Element = [u64; 8];

fn count(size: Size) -> usize {
    size.pick(1 << 30, 1 << 30, 1 << 20) / size_of::<Element>()
}

/// Which time of a push counts.
#[derive(Clone, Copy, PartialEq)]
enum Clock {
    /// The time that passes.
    Wall,
    /// The thread's time on a processor, without the time in which another program ran.
    Processor,
}

const PARTS: &[&str] = &["p50", "p99", "p99.9", "p99.99", "p99.999", "worst"];

fn cases() -> Vec<Case> {
    vec![
        pushes("push of a cache line up to 1 GiB", Clock::Wall).control_of("p99.99"),
        pushes("the same, time on the processor", Clock::Processor),
    ]
}

fn pushes(name: &str, clock: Clock) -> Case {
    let push_line = |array: &mut Vec<Element>, line| array.push(line);
    let case = Case::new(name, "ns", times(clock, page_vec, PageVec::push))
        .parts(PARTS)
        .rival("Vec::new", times(clock, |_| Vec::new(), push_line))
        .target_of("worst", 0.20, 0.05)
        .rival("Vec::with_capacity", times(clock, Vec::with_capacity, push_line))
        .rival("pagewise, HugePages::Adaptive", times(clock, adaptive, PageVec::push))
        .huge();
    if clock == Clock::Processor {
        return case;
    }
    case.rival("virtual-buffer Vec", times(clock, virtual_buffer::vec::Vec::new, |v, x| v.push(x)))
        .rival("boxcar::new", times(clock, |_| boxcar::Vec::new(), |v, x| v.push(x)))
        .rival("boxcar::with_capacity", times(clock, boxcar::Vec::with_capacity, |v, x| v.push(x)))
}

fn page_vec(len: usize) -> PageVec<Element> {
    PageVec::new(len).expect("the address space is larger")
}

fn adaptive(len: usize) -> PageVec<Element> {
    let builder = PageVec::builder(len).huge_pages(HugePages::Adaptive);
    builder.build().expect("the address space is larger")
}

/// After a push that took as long as this, the processor's clock is read, too.
const LOOK: Duration = Duration::from_micros(5);

/// The distribution of the times of all pushes.
fn times<V, R>(
    clock: Clock,
    make: impl Fn(usize) -> V,
    push: impl Fn(&mut V, Element) -> R,
) -> impl Fn(Size) -> Sample {
    move |size| {
        if clock == Clock::Processor && system::time_on_processor().is_none() {
            return Sample::absent("time on the processor is known on Linux only");
        }
        let count = count(size);
        let (mut array, mut times) = (make(count), Percentiles::new());
        let mut looked = Look::now();
        let mut before = Instant::now();
        for value in 0..count as u64 {
            push(&mut array, [value; 8]);
            let now = Instant::now();
            let mut took = now - before;
            before = now;
            if took > LOOK && clock == Clock::Processor {
                let look = Look::now();
                took = took.saturating_sub(look.waited(&looked));
                looked = look;
                before = Instant::now();
            }
            times.add(took.as_nanos() as u64);
        }
        std::hint::black_box(&mut array);
        let parts = [0.5, 0.99, 0.999, 0.9999, 0.99999].map(|part| times.at(part));
        Sample::of_parts(parts.into_iter().chain([times.most()]).collect())
    }
}

/// Both clocks. Reading the processor's clock takes a system call, so it is read only after long pushes.
struct Look {
    wall: Instant,
    worked: Duration,
}

impl Look {
    fn now() -> Self {
        let worked = system::time_on_processor().unwrap_or_default();
        Self { wall: Instant::now(), worked }
    }

    /// How long the thread waited for a processor since an earlier look. The long push that has just ended gets all
    /// of it, since the pushes before were short.
    fn waited(&self, since: &Self) -> Duration {
        (self.wall - since.wall).saturating_sub(self.worked - since.worked)
    }
}
