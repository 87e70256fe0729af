//! Pages become accessible by being given to a range that `userfaultfd` watches (Linux 5.11).

use std::sync::atomic::{AtomicBool, Ordering};

use super::Ground;
use crate::os::{self, OsError};
use crate::page::{PageRange, PageSize};

/// Invariant: unless this process was forked from the one that made it, the reservation is accessible
/// and registered, and its reserved pages that nobody holds are missing.
#[derive(Debug, Default)]
pub(crate) struct UserFault {
    forked: AtomicBool,
}

impl UserFault {
    pub(super) fn is_forked(&self) -> bool {
        self.forked.load(Ordering::Relaxed)
    }

    #[inline(never)] // what it takes of the handler's stack is not for the other engines to pay
    pub(super) unsafe fn commit(&self, ground: Ground, run: PageRange) -> Result<(), OsError> {
        // SAFETY: the run is held and reserved.
        unsafe {
            if !self.is_forked() {
                return os::userfault_commit(ground.address(run), run.len());
            }
            // Accessible and marked, or protected: whichever it was.
            if os::guards_work() {
                os::guard_remove(ground.address(run), run.len())?;
            }
            ground.make_accessible(run)
        }
    }

    pub(super) unsafe fn decommit(&self, ground: Ground, run: PageRange) -> Result<(), OsError> {
        // SAFETY: the run is held, and its contents are the caller's to give up.
        unsafe {
            if !self.is_forked() {
                os::zero(ground.address(run), run.len())
            } else if os::guards_work() {
                os::guard_install(ground.address(run), run.len())
            } else {
                ground.map_over(run)
            }
        }
    }

    /// In the child of a fork: pages that are missing would come as zeros, past every limit, so they get
    /// markers, or lose access where there are no markers, or where nothing was ever committed.
    pub(super) fn fork(&self, ground: Ground, size: PageSize) {
        if self.forked.swap(true, Ordering::Relaxed) {
            return;
        }
        os::userfault_forget();
        let mut reached = 0;
        let all = size.pages(0, ground.states.pages());
        for part in ground.states.written_parts(all) {
            ground.forbid(all.with(reached, part.first()));
            reached = part.end();
            let _ = ground.states.for_each_run(part, |run, is_committed| {
                // What was held by another thread is looked at afterwards, page by page.
                if !is_committed {
                    ground.states.for_each_free_run(run, |free| ground.guard_or_forbid(free));
                }
                Ok(())
            });
        }
        ground.forbid(all.with(reached, all.end()));
    }
}
