//! latency: how long the longest single push takes.

use std::time::{Duration, Instant};

use pagewise::PageVec;

use super::Suite;
use crate::case::{Case, Sample, Size};
use crate::system;

pub const SUITE: Suite = Suite {
    name: "latency",
    about: "the worst single push while growing to 1 GiB",
    cases,
    needs: 2 << 30,
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

fn cases() -> Vec<Case> {
    vec![
        worst_push("worst push of a cache line up to 1 GiB", Clock::Wall),
        worst_push("the same, time on the processor", Clock::Processor),
    ]
}

fn worst_push(name: &str, clock: Clock) -> Case {
    Case::new(name, "ns", worst(clock, page_vec, PageVec::push))
        .smallest()
        .rival("Vec::new", worst(clock, |_| Vec::new(), Vec::push))
        .target(0.20, 0.02)
        .rival("Vec::with_capacity", worst(clock, Vec::with_capacity, Vec::push))
        .rival("virtual-buffer Vec", worst(clock, virtual_buffer::vec::Vec::new, |v, x| v.push(x)))
        .rival("boxcar", worst(clock, |_| boxcar::Vec::new(), |v, x| v.push(x)))
}

fn page_vec(len: usize) -> PageVec<Element> {
    PageVec::new(len).expect("the address space is larger")
}

/// After a push that took `LOOK`, the processor's clock is read, too. One that took `LONG` is counted in the note.
const LOOK: Duration = Duration::from_micros(5);
const LONG: Duration = Duration::from_micros(100);

/// The time of the longest push.
fn worst<V, R>(
    clock: Clock,
    make: impl Fn(usize) -> V,
    push: impl Fn(&mut V, Element) -> R,
) -> impl Fn(Size) -> Sample {
    move |size| {
        if clock == Clock::Processor && system::time_on_processor().is_none() {
            return Sample::absent("time on the processor is known on Linux only");
        }
        let count = count(size);
        let (mut array, mut longest, mut long) = (make(count), Duration::ZERO, 0);
        let mut looked = Look::now();
        let mut before = Instant::now();
        for value in 0..count as u64 {
            push(&mut array, [value; 8]);
            let now = Instant::now();
            if now - before <= LOOK {
                before = now;
                continue;
            }
            let look = Look::now();
            let waited = if clock == Clock::Wall { Duration::ZERO } else { look.waited(&looked) };
            let took = (now - before).saturating_sub(waited);
            longest = longest.max(took);
            long += usize::from(took > LONG);
            looked = look;
            before = Instant::now();
        }
        std::hint::black_box(&mut array);
        let note = format!("{long} of {count} pushes over {} us", LONG.as_micros());
        Sample::of(longest.as_nanos() as f64).note(note)
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
