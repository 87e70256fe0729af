//! scale: operations whose time must not grow with the number of regions, or with their length.

use std::time::{Duration, Instant};

use pagewise::{CommitStep, DemandRegion, Reservation};

use super::Suite;
use crate::case::{Case, Size};
use crate::sample::Sample;
use crate::work::touch_each_page;

pub const SUITE: Suite = Suite {
    name: "scale",
    about: "10,000 regions, and the longest reservation",
    cases,
    needs: 256 << 20,
    needs_huge: 0,
};

const MANY: usize = 10_000;
const MANY_NAME: &str = "pagewise, among 10,000 regions";
const ALONE_NAME: &str = "pagewise, among 1";

fn cases() -> Vec<Case> {
    vec![
        Case::new("a fault", "ns/fault", |size| fault(size, MANY, alike))
            .ours_is(MANY_NAME)
            .control()
            .rival(ALONE_NAME, |size| fault(size, 1, alike))
            .target(1.15, 1.02)
            .rival("pagewise, among 10,000 regions of 20 lengths", |size| fault(size, MANY, mixed)),
        Case::new("create and drop a DemandRegion", "ns/region", |size| create(size, MANY))
            .ours_is(MANY_NAME)
            .rival(ALONE_NAME, |size| create(size, 1))
            .target(1.5, 1.1),
        Case::new("reserve", "ns", |size| reserve(size, 64 << 40))
            .ours_is("pagewise, 64 TiB")
            .rival("pagewise, 1 MiB", |size| reserve(size, 1 << 20))
            .target(2.0, 1.2),
        raw::rivals(
            Case::new("reserve and release", "ns", |size| reserve_and_release(size, 64 << 40))
                .ours_is("pagewise, 64 TiB")
                .rival("pagewise, 1 MiB", |size| reserve_and_release(size, 1 << 20)),
        ),
        Case::new("create and drop a DemandRegion, by length", "ns", |size| demand(size, 64 << 40))
            .ours_is("pagewise, 64 TiB")
            .rival("pagewise, 1 MiB", |size| demand(size, 1 << 20)),
    ]
}

fn alike(_index: usize) -> usize {
    1 << 20
}

/// From 4 KiB to 2 GiB.
fn mixed(index: usize) -> usize {
    4096 << (index % 20)
}

/// All regions but the one that is measured. Each has a committed page, since the kernel would merge untouched
/// neighbours into one mapping.
fn others(size: Size, count: usize, len: fn(usize) -> usize) -> Result<Vec<DemandRegion>, String> {
    let count = if count == 1 { 1 } else { size.pick(count, count, 20) };
    let live = |index| {
        let mut region = region(len(index))?;
        region.as_mut_slice()[0] = 1;
        Ok(region)
    };
    (1..count).map(live).collect()
}

fn region(len: usize) -> Result<DemandRegion, String> {
    let region = DemandRegion::builder(len).step(CommitStep::page()).build();
    region.map_err(|error| error.to_string())
}

fn fault(size: Size, regions: usize, len: fn(usize) -> usize) -> Sample {
    Sample::or_failed((|| {
        let others = others(size, regions, len)?;
        let bytes = size.pick(256 << 20, 256 << 20, 1 << 20);
        let mut region = region(bytes)?;
        let began = Instant::now();
        // SAFETY: the region is as long.
        unsafe { touch_each_page(region.as_mut_slice().as_mut_ptr(), bytes) };
        let sample = Sample::per(began.elapsed(), bytes / pagewise::page_size());
        drop(others);
        Ok::<_, String>(sample)
    })())
}

fn create(size: Size, regions: usize) -> Sample {
    let count = size.pick(20_000, 20_000, 20);
    Sample::or_failed((|| {
        let others = others(size, regions, alike)?;
        let began = Instant::now();
        for _ in 0..count {
            drop(region(1 << 20)?);
        }
        let sample = Sample::per(began.elapsed(), count);
        drop(others);
        Ok::<_, String>(sample)
    })())
}

/// The time to reserve, without the time to release.
fn reserve(size: Size, len: usize) -> Sample {
    let count = size.pick(20_000, 20_000, 20);
    Sample::or_failed((|| {
        let mut total = Duration::ZERO;
        for _ in 0..count {
            let began = Instant::now();
            let made = Reservation::new(len);
            total += began.elapsed();
            drop(made.map_err(|error| error.to_string())?);
        }
        Ok::<_, String>(Sample::per(total, count))
    })())
}

fn reserve_and_release(size: Size, len: usize) -> Sample {
    repeat(size, || Reservation::new(len))
}

fn demand(size: Size, len: usize) -> Sample {
    repeat(size, || DemandRegion::new(len))
}

fn repeat<T, E: ToString>(size: Size, make: impl Fn() -> Result<T, E>) -> Sample {
    let count = size.pick(20_000, 20_000, 20);
    Sample::or_failed((|| {
        drop(make().map_err(|error| error.to_string())?);
        let began = Instant::now();
        for _ in 0..count {
            drop(make().map_err(|error| error.to_string())?);
        }
        Ok::<_, String>(Sample::per(began.elapsed(), count))
    })())
}

#[cfg(target_os = "linux")]
mod raw {
    use super::{Case, repeat};
    use crate::system::Mapping;

    pub(super) fn rivals(case: Case) -> Case {
        case.rival("mmap and munmap, 64 TiB", |size| {
            repeat(size, || Mapping::inaccessible_at_any_page(64 << 40))
        })
        .rival("mmap and munmap, 1 MiB", |size| {
            repeat(size, || Mapping::inaccessible_at_any_page(1 << 20))
        })
    }
}

#[cfg(not(target_os = "linux"))]
mod raw {
    use super::{Case, Sample};

    pub(super) fn rivals(case: Case) -> Case {
        case.rival("mmap and munmap", |_| Sample::absent("written for Linux only"))
    }
}
