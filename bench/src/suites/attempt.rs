//! attempt: coming back from a refused access, and what it costs where nothing is refused.

use std::hint::black_box;
use std::time::Instant;

use pagewise::{DemandRegion, fault};

use super::Suite;
use crate::case::{Case, Size};
use crate::rivals;
use crate::sample::Sample;

pub const SUITE: Suite = Suite {
    name: "attempt",
    about: "coming back from a refused access",
    cases,
    needs: 1 << 20,
    needs_huge: 0,
};

fn cases() -> Vec<Case> {
    vec![
        // Both pay for the delivery of the signal, which is most of it. The jump saves and restores the signal mask by
        // two system calls; an attempt returns from the handler, which is one, and dearer than both.
        Case::new("refused", "ns/access", |size| ours(size.pick(200_000, 50_000, 100), touch))
            .control()
            .rival("sigsetjmp, siglongjmp", |size| jumps(size.pick(200_000, 50_000, 100), touch))
            .rival("a signal alone", signals_alone)
            .target(1.25, 1.10),
        Case::new("not refused", "ns/call", |size| ours(calls(size), nothing))
            .rival("sigsetjmp", |size| jumps(calls(size), nothing))
            .target(0.50, 0.10)
            .rival("a call", |size| plain(calls(size))),
    ]
}

fn calls(size: Size) -> usize {
    size.pick(20_000_000, 5_000_000, 100)
}

unsafe extern "C" fn touch(place: *mut u8) {
    // SAFETY: the caller's place, which faults.
    unsafe { place.write_volatile(1) }
}

unsafe extern "C" fn nothing(place: *mut u8) {
    black_box(place);
}

type Work = unsafe extern "C" fn(*mut u8);

/// Attempts that do some work on a page that may not be committed.
fn ours(count: usize, work: Work) -> Sample {
    let region = match DemandRegion::builder(1 << 20).limit(0).build() {
        Ok(region) => region,
        Err(error) => return Sample::absent(error.to_string()),
    };
    let (work, place) = (black_box(work), region.as_ptr());
    let mut refused = 0;
    let began = Instant::now();
    for _ in 0..count {
        // SAFETY: the work has no destructor, and holds no lock.
        refused += usize::from(unsafe { fault::attempt(|| work(place)) }.is_err());
    }
    let time = began.elapsed();
    checked(Sample::per(time, count), refused, count)
}

fn jumps(count: usize, work: Work) -> Sample {
    let began = Instant::now();
    // SAFETY: as in `ours`.
    match unsafe { rivals::jumps(black_box(work), count) } {
        Ok(jumps) => checked(Sample::per(began.elapsed(), count), jumps, count),
        Err(why) => Sample::absent(why),
    }
}

fn plain(count: usize) -> Sample {
    let work: Work = black_box(nothing);
    let began = Instant::now();
    for _ in 0..count {
        // SAFETY: does nothing.
        unsafe { work(std::ptr::null_mut()) };
    }
    Sample::per(began.elapsed(), count)
}

fn signals_alone(size: Size) -> Sample {
    let (count, began) = (size.pick(200_000, 50_000, 100), Instant::now());
    match rivals::signals_alone(count) {
        Ok(()) => Sample::per(began.elapsed(), count),
        Err(why) => Sample::absent(why),
    }
}

/// Every access is refused, or none.
fn checked(sample: Sample, refused: usize, count: usize) -> Sample {
    assert!(refused == 0 || refused == count, "{refused} of {count} were refused");
    sample
}
