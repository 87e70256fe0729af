//! churn: memory that is committed, touched, and given back, again and again.

use std::time::Instant;

use pagewise::{DemandRegion, Reservation};

mod lengths;
mod neighbours;

use super::Suite;
use crate::case::{Case, Size};
use crate::sample::Sample;
use crate::system;
use crate::work::touch_each_page;

pub const SUITE: Suite = Suite {
    name: "churn",
    about: "100,000 times: commit 64 KiB, touch it, decommit it",
    cases,
    needs: 64 << 20,
    needs_huge: 0,
};

const BLOCK: usize = 64 << 10;
const BLOCKS: usize = 256;

fn cycles(size: Size) -> usize {
    size.pick(100_000, 50_000, 200)
}

/// Memory that is committed and given back in blocks.
trait Pool {
    fn base(&mut self) -> *mut u8;
    fn commit(&mut self, offset: usize) -> Result<(), String>;
    fn decommit(&mut self, offset: usize) -> Result<(), String>;
}

fn cases() -> Vec<Case> {
    let case = Case::new("commit, touch, decommit 64 KiB", "ns/cycle", |size| churn(size, ours()));
    let case = raw::rivals(case.control())
        .rival("virtual-buffer", |size| churn(size, virtual_buffer()))
        .rival("pagewise, commit and prefault", |size| churn(size, prefaulting()));
    let by_faults =
        Case::new("touch (page faults), decommit 64 KiB", "ns/cycle", |size| churn(size, demand()))
            .rival("pagewise, explicit commit", |size| churn(size, ours()))
            .rival("pagewise, commit and prefault", |size| churn(size, prefaulting()));
    let mut cases = vec![case, raw::discarding(by_faults)];
    cases.extend(neighbours::cases());
    cases.extend(lengths::cases());
    cases
}

fn churn(size: Size, pool: Result<impl Pool, String>) -> Sample {
    match pool.and_then(|mut pool| run(&mut pool, cycles(size))) {
        Ok(sample) => sample,
        Err(why) => Sample::Failed { why },
    }
}

fn run(pool: &mut impl Pool, cycles: usize) -> Result<Sample, String> {
    let left = left_behind(pool)?;
    let began = Instant::now();
    for index in 0..cycles {
        cycle(pool, index)?;
    }
    Ok(Sample::per(began.elapsed(), cycles).note(left))
}

fn cycle(pool: &mut impl Pool, index: usize) -> Result<(), String> {
    let offset = index % BLOCKS * BLOCK;
    pool.commit(offset)?;
    // SAFETY: the block was committed just now.
    unsafe { touch_each_page(pool.base().add(offset), BLOCK) };
    pool.decommit(offset)
}

/// Bytes that are resident, and bytes that are charged, after each of some cycles: zero, if all was given back.
fn left_behind(pool: &mut impl Pool) -> Result<String, String> {
    let (mut most_resident, mut most_charged) = (0, 0);
    for index in 0..BLOCKS.min(64) {
        cycle(pool, index)?;
        match system::resident_and_charged(pool.base(), BLOCK * BLOCKS) {
            None => return Ok("what is left behind is looked at on Linux only".into()),
            Some((resident, charged)) => {
                most_resident = resident.max(most_resident);
                most_charged = charged.max(most_charged);
            }
        }
    }
    Ok(format!(
        "left behind: {} KiB resident, {} KiB charged",
        most_resident >> 10,
        most_charged >> 10
    ))
}

fn ours() -> Result<impl Pool, String> {
    struct Ours(Reservation);
    impl Pool for Ours {
        fn base(&mut self) -> *mut u8 {
            self.0.as_ptr()
        }
        fn commit(&mut self, offset: usize) -> Result<(), String> {
            self.0.commit(offset..offset + BLOCK).map_err(|error| error.to_string())
        }
        fn decommit(&mut self, offset: usize) -> Result<(), String> {
            self.0.decommit(offset..offset + BLOCK).map_err(|error| error.to_string())
        }
    }
    Reservation::new(BLOCK * BLOCKS).map(Ours).map_err(|error| error.to_string())
}

/// Pages become resident by a call, too.
fn prefaulting() -> Result<impl Pool, String> {
    struct Prefaulting(Reservation);
    impl Pool for Prefaulting {
        fn base(&mut self) -> *mut u8 {
            self.0.as_ptr()
        }
        fn commit(&mut self, offset: usize) -> Result<(), String> {
            let block = offset..offset + BLOCK;
            let committed = self.0.commit(block.clone());
            committed.and_then(|()| self.0.prefault(block)).map_err(|error| error.to_string())
        }
        fn decommit(&mut self, offset: usize) -> Result<(), String> {
            self.0.decommit(offset..offset + BLOCK).map_err(|error| error.to_string())
        }
    }
    Reservation::new(BLOCK * BLOCKS).map(Prefaulting).map_err(|error| error.to_string())
}

/// A region whose pages are committed by touching them.
fn demand() -> Result<impl Pool, String> {
    struct Demand(DemandRegion);
    impl Pool for Demand {
        fn base(&mut self) -> *mut u8 {
            self.0.as_ptr()
        }
        fn commit(&mut self, _offset: usize) -> Result<(), String> {
            Ok(())
        }
        fn decommit(&mut self, offset: usize) -> Result<(), String> {
            self.0.decommit(offset..offset + BLOCK).map_err(|error| error.to_string())
        }
    }
    DemandRegion::new(BLOCK * BLOCKS).map(Demand).map_err(|error| error.to_string())
}

fn virtual_buffer() -> Result<impl Pool, String> {
    struct Theirs(virtual_buffer::Allocation);
    impl Pool for Theirs {
        fn base(&mut self) -> *mut u8 {
            self.0.ptr()
        }
        fn commit(&mut self, offset: usize) -> Result<(), String> {
            let block = self.0.ptr().wrapping_add(offset);
            self.0.commit(block, BLOCK).map_err(|error| error.to_string())
        }
        fn decommit(&mut self, offset: usize) -> Result<(), String> {
            let block = self.0.ptr().wrapping_add(offset);
            self.0.decommit(block, BLOCK).map_err(|error| error.to_string())
        }
    }
    virtual_buffer::Allocation::new(BLOCK * BLOCKS).map(Theirs).map_err(|error| error.to_string())
}

#[cfg(target_os = "linux")]
mod raw {
    use super::{BLOCK, BLOCKS, Case, Pool, churn};
    use crate::system::{Mapping, Pages};

    /// A mapping, and what is done with it.
    struct Raw {
        mapping: Mapping,
        commit: fn(&Mapping, usize) -> std::io::Result<()>,
        decommit: fn(&Mapping, usize) -> std::io::Result<()>,
    }

    impl Pool for Raw {
        fn base(&mut self) -> *mut u8 {
            self.mapping.as_ptr()
        }
        fn commit(&mut self, offset: usize) -> Result<(), String> {
            (self.commit)(&self.mapping, offset).map_err(|error| error.to_string())
        }
        fn decommit(&mut self, offset: usize) -> Result<(), String> {
            (self.decommit)(&self.mapping, offset).map_err(|error| error.to_string())
        }
    }

    fn mapping_over() -> std::io::Result<Raw> {
        Ok(Raw {
            mapping: Mapping::inaccessible(BLOCK * BLOCKS)?,
            commit: |mapping, offset| mapping.commit(offset, BLOCK),
            decommit: |mapping, offset| mapping.map_over(offset, BLOCK),
        })
    }

    /// Accessible all the time, so that nothing limits it and the charge stays; only the memory goes back.
    fn discards() -> std::io::Result<Raw> {
        Ok(Raw {
            mapping: Mapping::writable(BLOCK * BLOCKS, Pages::Small)?,
            commit: |_, _| Ok(()),
            decommit: |mapping, offset| mapping.discard(offset, BLOCK),
        })
    }

    pub(super) fn rivals(case: Case) -> Case {
        let mapping = || mapping_over().map_err(|error| error.to_string());
        case.rival("raw mprotect and mapping over", move |size| churn(size, mapping()))
            .target(1.15, 1.0)
    }

    pub(super) fn discarding(case: Case) -> Case {
        let discards = || discards().map_err(|error| error.to_string());
        case.rival("kernel demand paging and MADV_DONTNEED", move |size| churn(size, discards()))
    }
}

#[cfg(not(target_os = "linux"))]
mod raw {
    use super::{Case, Sample};

    pub(super) fn rivals(case: Case) -> Case {
        case.rival("raw mprotect and mapping over", |_| Sample::absent("written for Linux only"))
    }

    pub(super) fn discarding(case: Case) -> Case {
        let name = "kernel demand paging and MADV_DONTNEED";
        case.rival(name, |_| Sample::absent("written for Linux only"))
    }
}
