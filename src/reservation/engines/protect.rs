//! The protect engine: access rights of runs of pages. Works everywhere.

use super::{Ground, Mechanism};
use crate::error::Error;
use crate::os::{self, HugePages, OsError};
use crate::page::PageRange;

/// Invariant, for pages that no thread holds: a committed page is readable and writable, unless `protect` set
/// other rights; a reserved page has no access rights.
#[derive(Debug)]
pub(crate) struct Protect;

impl Mechanism for Protect {
    fn check(_huge_pages: HugePages) -> Result<(), Error> {
        Ok(())
    }

    fn is_preferred(_huge_pages: HugePages) -> bool {
        true
    }

    fn new(_ground: Ground) -> Result<Self, Error> {
        Ok(Self)
    }

    unsafe fn commit(&self, ground: Ground, run: PageRange) -> Result<(), OsError> {
        // SAFETY: the caller's promise.
        unsafe { os::commit(ground.address(run), run.len()) }
    }

    unsafe fn decommit(
        &self,
        ground: Ground,
        part: PageRange,
        done: &mut dyn FnMut(PageRange),
    ) -> Result<(), OsError> {
        ground.for_each_committed_run(part, |run| {
            // SAFETY: the run is held and committed.
            unsafe { ground.map_over(run)? };
            done(run);
            Ok(())
        })
    }

    unsafe fn settle(
        &self,
        ground: Ground,
        run: PageRange,
        accessible: bool,
    ) -> Result<(), OsError> {
        // SAFETY: the caller's promise.
        unsafe {
            if accessible {
                os::commit(ground.address(run), run.len())
            } else {
                ground.map_over(run)
            }
        }
    }
}
