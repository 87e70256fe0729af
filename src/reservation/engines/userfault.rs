//! The userfault engine (Linux 5.11): pages are given to a range that `userfaultfd` watches.

use std::sync::atomic::{AtomicBool, Ordering};

use super::Ground;
use crate::os::{self, OsError};
use crate::page::PageRange;

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
            ground.make_accessible(run)?;
            if os::guards_work() {
                os::guard_remove(ground.address(run), run.len())?;
            }
        }
        Ok(())
    }

    /// Takes committed pages away. Where that is refused half-way, the pages that lost their memory before
    /// get zeros: they count as committed, and must not fault.
    pub(super) unsafe fn decommit(&self, ground: Ground, run: PageRange) -> Result<(), OsError> {
        // SAFETY: the run is held, and its contents are the caller's to give up.
        unsafe {
            self.make_inaccessible(ground, run).inspect_err(|_| {
                let _ = self.commit(ground, run);
            })
        }
    }

    pub(super) unsafe fn make_inaccessible(
        &self,
        ground: Ground,
        run: PageRange,
    ) -> Result<(), OsError> {
        // SAFETY: the run is held, and its contents are the caller's to give up.
        unsafe {
            if !self.is_forked() {
                os::zero(ground.address(run), run.len())
            } else {
                ground.mark(run).or_else(|_| ground.map_over(run))
            }
        }
    }

    /// In the child of a fork, where nothing watches the range any more: pages that are missing would come
    /// as zeros, past every limit. Long gaps between committed pages lose access; so many short ones that
    /// mappings suffice get guard markers. Pages that a thread of the parent held are left alone.
    pub(super) fn fork(&self, ground: Ground) {
        if self.forked.swap(true, Ordering::Relaxed) {
            return;
        }
        let long = self.long_gap(ground);
        for_each_gap(ground, |gap| {
            if gap.count() < long {
                ground.guard_or_forbid(gap);
            } else {
                ground.forbid(gap);
            }
        });
    }

    /// From how many pages on a gap is long: so that those are an eighth of the mappings that a process
    /// may have.
    fn long_gap(&self, ground: Ground) -> usize {
        if !os::guards_work() {
            return 0;
        }
        let max = os::mappings().map_or(os::USUAL_MAPPINGS, |(_, max)| max);
        let mut of_length = [0usize; usize::BITS as usize];
        for_each_gap(ground, |gap| {
            if let Some(count) = of_length.get_mut(gap.count().ilog2() as usize) {
                *count += 1;
            }
        });
        let mut gaps = 0;
        for (log, count) in of_length.iter().enumerate().rev() {
            gaps += count;
            if gaps > max / 8 {
                return 2usize.checked_shl(log as u32).unwrap_or(usize::MAX);
            }
        }
        0
    }
}

/// Calls `each` for every run of reserved pages that nobody holds.
fn for_each_gap(ground: Ground, mut each: impl FnMut(PageRange)) {
    let all = ground.size.pages(0, ground.states.pages());
    let mut reached = 0;
    let mut gap_end = |end: usize, next: usize| {
        if reached < end {
            each(all.with(reached, end));
        }
        reached = next;
    };
    for part in ground.states.written_parts(all) {
        let _ = ground.states.for_each_run(part, |run, is_committed| {
            if is_committed {
                gap_end(run.first(), run.end());
            } else {
                ground.states.for_each_held_run(run, |held| gap_end(held.first(), held.end()));
            }
            Ok(())
        });
    }
    gap_end(all.end(), all.end());
}
