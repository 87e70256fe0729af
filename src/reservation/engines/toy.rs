//! An example of an engine, for tests: counts the pages that it commits and decommits, and has the protect
//! engine do the work.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::protect::Protect;
use super::{Ground, Mechanism};
use crate::error::Error;
use crate::os::{HugePages, OsError};
use crate::page::PageRange;

/// Pages that this engine committed, and decommitted, in this process.
static COMMITTED: AtomicUsize = AtomicUsize::new(0);
static DECOMMITTED: AtomicUsize = AtomicUsize::new(0);

#[derive(Debug)]
pub(crate) struct Toy(Protect);

impl Mechanism for Toy {
    fn check(huge_pages: HugePages) -> Result<(), Error> {
        Protect::check(huge_pages)
    }

    fn is_preferred(_huge_pages: HugePages) -> bool {
        false
    }

    fn new(ground: Ground) -> Result<Self, Error> {
        Protect::new(ground).map(Self)
    }

    unsafe fn commit(&self, ground: Ground, run: PageRange) -> Result<(), OsError> {
        COMMITTED.fetch_add(run.count(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { self.0.commit(ground, run) }
    }

    unsafe fn decommit(
        &self,
        ground: Ground,
        part: PageRange,
        done: &mut dyn FnMut(PageRange),
    ) -> Result<(), OsError> {
        let mut count_and_pass_on = |pages: PageRange| {
            DECOMMITTED.fetch_add(pages.count(), Ordering::Relaxed);
            done(pages);
        };
        // SAFETY: the caller's promise.
        unsafe { self.0.decommit(ground, part, &mut count_and_pass_on) }
    }

    unsafe fn settle(
        &self,
        ground: Ground,
        run: PageRange,
        accessible: bool,
    ) -> Result<(), OsError> {
        // SAFETY: the caller's promise.
        unsafe { self.0.settle(ground, run, accessible) }
    }
}

#[cfg(not(loom))]
#[test]
fn an_engine_is_a_file_and_a_line() {
    use super::Engine;
    use crate::{CommitStep, DemandRegion};

    let page = crate::page_size();
    let mut region = DemandRegion::builder(80 * page)
        .engine(Engine::Toy)
        .step(CommitStep::page())
        .limit(5 * page)
        .build()
        .unwrap();
    for index in [17, 3, 79] {
        region.write(index * page, &[1]).unwrap();
    }
    region.commit(..2 * page).unwrap();
    assert!(region.write(40 * page, &[1]).is_err(), "the limit holds with any engine");
    region.decommit(..18 * page).unwrap();
    assert_eq!(region.committed(), page);
    let counted = (COMMITTED.load(Ordering::Relaxed), DECOMMITTED.load(Ordering::Relaxed));
    assert_eq!(counted, (5, 4));
}
