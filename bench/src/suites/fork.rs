//! fork: how long a fork takes in a process that has regions, and how long the child's first writes.

use super::Suite;
use crate::case::{Case, Size};
use crate::work::{Area, Opened, touch_each_page};
use crate::{ours, rivals};

pub const SUITE: Suite = Suite {
    name: "fork",
    about: "a fork with 64 regions of 1 MiB, of each engine",
    cases,
    needs: 512 << 20,
    needs_huge: 0,
};

/// Makes an area of some length.
type Open = fn(usize) -> Opened;

const REGIONS: usize = 64;
const LEN: usize = 1 << 20;

fn cases() -> Vec<Case> {
    let fork = |open, touch| move |size| imp::fork(size, open, touch);
    vec![
        engines(Case::new("fork, and the child ends", "ns/fork", fork(ours::by_default, 0)), 0)
            .control(),
        engines(
            Case::new(
                "fork, and the child writes to every page",
                "ns/fork",
                fork(ours::by_default, LEN),
            ),
            LEN,
        ),
        engines(
            Case::new("fork with scattered pages, and the child ends", "ns/fork", |size| {
                imp::fork_scattered(size, ours::by_default)
            }),
            usize::MAX,
        ),
    ]
}

/// The kernel's own memory and the other engines. `touch`: bytes of each region that the child writes; the most of all
/// numbers for scattered pages.
fn engines(case: Case, touch: usize) -> Case {
    let subjects: [(&str, Open); 3] = [
        ("kernel demand paging, 4 KiB", rivals::kernel),
        ("pagewise, Engine::Protect", ours::by_protect),
        ("pagewise, Engine::UserFault", ours::by_userfault),
    ];
    subjects.into_iter().fold(case, |case, (name, open)| {
        if touch == usize::MAX {
            case.rival(name, move |size| imp::fork_scattered(size, open))
        } else {
            case.rival(name, move |size| imp::fork(size, open, touch))
        }
    })
}

fn times(size: Size) -> usize {
    size.pick(50, 20, 2)
}

/// Regions, all of whose pages are touched.
fn filled(open: fn(usize) -> Opened) -> Result<Vec<Box<dyn Area>>, String> {
    let filled = |_| {
        let mut area = open(LEN)?;
        // SAFETY: an open area can be touched over its length.
        unsafe { touch_each_page(area.base(), LEN) };
        Ok(area)
    };
    (0..REGIONS).map(filled).collect()
}

#[cfg(target_os = "linux")]
mod imp {
    use std::time::Instant;

    use super::{filled, times};
    use crate::case::Size;
    use crate::sample::Sample;
    use crate::work::{Area, Opened, scatter, store, touch_each_page};

    pub(super) fn fork(size: Size, open: fn(usize) -> Opened, touch: usize) -> Sample {
        match filled(open) {
            Ok(mut areas) => timed(size, &mut areas, |area| {
                if touch > 0 {
                    // SAFETY: the area can be touched over its length, in a child, too.
                    unsafe { touch_each_page(area.base(), touch) };
                }
            }),
            Err(why) => Sample::absent(why),
        }
    }

    /// One long region with 10,000 pages that have no neighbours.
    pub(super) fn fork_scattered(size: Size, open: fn(usize) -> Opened) -> Sample {
        const BITS: u32 = 24;
        let page = pagewise::page_size();
        let mut area = match open(page << BITS) {
            Ok(area) => area,
            Err(why) => return Sample::absent(why),
        };
        let base = area.base().expose_provenance();
        for index in 0..size.pick(10_000, 10_000, 100) {
            // SAFETY: an open area can be touched over its length.
            unsafe { store(base, scatter(index, BITS) as usize * page) };
        }
        timed(size, &mut [area], |_| ())
    }

    /// Forks again and again. The time is from before the fork until the child has ended.
    fn timed(
        size: Size,
        areas: &mut [Box<dyn Area>],
        in_child: impl Fn(&mut Box<dyn Area>),
    ) -> Sample {
        let began = Instant::now();
        for _ in 0..times(size) {
            // SAFETY: this process has one thread, and the child calls nothing that needs another one.
            match unsafe { libc::fork() } {
                0 => {
                    areas.iter_mut().for_each(&in_child);
                    // SAFETY: ends the child without running what the parent has registered.
                    unsafe { libc::_exit(0) };
                }
                -1 => return Sample::Failed { why: std::io::Error::last_os_error().to_string() },
                child => {
                    let mut status = 0;
                    // SAFETY: waits for the child; the status is a place for a number.
                    let waited = unsafe { libc::waitpid(child, &mut status, 0) };
                    if waited != child || status != 0 {
                        return Sample::Failed { why: format!("the child ended with {status}") };
                    }
                }
            }
        }
        Sample::per(began.elapsed(), times(size))
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use crate::case::Size;
    use crate::sample::Sample;
    use crate::work::Opened;

    pub(super) fn fork(_: Size, _: fn(usize) -> Opened, _: usize) -> Sample {
        Sample::absent("written for Linux only")
    }

    pub(super) fn fork_scattered(_: Size, _: fn(usize) -> Opened) -> Sample {
        Sample::absent("written for Linux only")
    }
}
