//! The userfault engine (Linux 5.11): the reservation is registered with `userfaultfd`, which raises SIGBUS for
//! missing pages; a commit supplies them.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Ground, Mechanism};
use crate::error::Error;
use crate::os::{self, HugePages, OsError};
use crate::page::PageRange;

/// Invariant: unless this process was forked from the one that made it, the reservation is accessible
/// and registered, and its reserved pages that no thread holds are missing.
#[derive(Debug, Default)]
pub(crate) struct UserFault {
    forked: AtomicBool,
}

impl Mechanism for UserFault {
    const IS_CHARGED: bool = false;

    fn check(huge_pages: HugePages) -> Result<(), Error> {
        match huge_pages {
            HugePages::Explicit => {
                Err(Error::Unsupported { what: "explicit huge pages by the userfault engine" })
            }
            HugePages::System | HugePages::Never | HugePages::Adaptive | HugePages::Transparent => {
                Ok(())
            }
        }
    }

    /// Never: once the program closes the descriptor (`close_range`), no limit holds any more.
    fn is_preferred(_huge_pages: HugePages) -> bool {
        false
    }

    fn new(ground: Ground) -> Result<Self, Error> {
        // Caches the answer now: a forked child must not probe.
        os::guards_work();
        let all = ground.size.pages(0, ground.states.pages());
        // SAFETY: the reservation is new.
        unsafe { os::userfault_register(ground.start, all.len()) }.map_err(|_| {
            Error::Unsupported {
                what: "the userfault engine: it needs Linux 5.11, and a system (or container) that \
                       allows userfaultfd; `Engine::Auto` takes what there is",
            }
        })?;
        Ok(Self::default())
    }

    #[inline(never)] // keeps its stack use out of the handler's frame, which all engines share
    unsafe fn commit(&self, ground: Ground, run: PageRange) -> Result<(), OsError> {
        // SAFETY: the run is held and reserved.
        unsafe {
            if !self.is_forked() {
                return os::userfault_commit(ground.address(run), run.len());
            }
            // In a forked child, `fork` took the access away by access rights or by a marker: undo both.
            os::commit(ground.address(run), run.len())?;
            if os::guards_work() {
                os::guard_remove(ground.address(run), run.len())?;
            }
        }
        Ok(())
    }

    fn commits_resident(&self) -> bool {
        !self.is_forked()
    }

    unsafe fn decommit(
        &self,
        ground: Ground,
        part: PageRange,
        done: &mut dyn FnMut(PageRange),
    ) -> Result<(), OsError> {
        ground.for_each_committed_run(part, |run| {
            // SAFETY: the run is held and committed, and its contents are the caller's to give up. Where the
            // system refuses half-way, pages that lost their memory before get zeros: they go on
            // counting as committed, and must not fault.
            unsafe {
                self.make_missing(ground, run).inspect_err(|_| {
                    let _ = self.commit(ground, run);
                })?;
            }
            done(run);
            Ok(())
        })
    }

    unsafe fn zero(&self, start: NonNull<u8>, len: usize) -> Result<(), OsError> {
        // SAFETY: the caller's promise; pages are made writable first.
        unsafe {
            if self.is_forked() {
                return os::zero(start, len);
            }
            // Zeroed by writing: `MADV_DONTNEED` would make committed pages missing, and they would fault. Their
            // access rights may have been changed, by `protect` or by the program itself.
            os::protect(start, len, os::Access::ReadWrite)?;
            start.as_ptr().write_bytes(0, len);
        }
        Ok(())
    }

    unsafe fn settle(
        &self,
        ground: Ground,
        run: PageRange,
        accessible: bool,
    ) -> Result<(), OsError> {
        // SAFETY: the caller's promise.
        unsafe {
            if accessible { self.commit(ground, run) } else { self.make_missing(ground, run) }
        }
    }

    /// The child has no userfaultfd, so that a missing page would become a zero page, past every limit. Takes
    /// access away from each gap between committed pages: from long gaps by access rights, from short ones by
    /// guard markers, so that the mappings suffice. Skips pages that a thread of the parent held.
    fn fork(&self, ground: Ground) {
        if self.forked.swap(true, Ordering::Relaxed) {
            return;
        }
        let long = long_gap(ground);
        for_each_gap(ground, |gap| {
            if gap.count() < long {
                ground.guard_or_forbid(gap);
            } else {
                ground.forbid(gap);
            }
        });
    }
}

impl UserFault {
    fn is_forked(&self) -> bool {
        self.forked.load(Ordering::Relaxed)
    }

    /// # Safety
    /// The run is held, and its contents are the caller's to give up.
    unsafe fn make_missing(&self, ground: Ground, run: PageRange) -> Result<(), OsError> {
        // SAFETY: the caller's promise.
        unsafe {
            if !self.is_forked() {
                os::zero(ground.address(run), run.len())
            } else {
                ground.mark(run).or_else(|_| ground.map_over(run))
            }
        }
    }
}

/// The number of pages from which on a gap counts as long: so large that at most `vm.max_map_count` / 8 gaps are long.
/// Each of them takes two mappings, which leaves three quarters to the program. Zero where there are no guard markers
/// for short gaps.
fn long_gap(ground: Ground) -> usize {
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

/// Calls `each` for every run of reserved pages that no thread held.
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn only_explicit_huge_pages_are_refused() {
        let checked = UserFault::check(HugePages::Explicit);
        assert!(matches!(checked, Err(Error::Unsupported { .. })), "{checked:?}");
        for huge_pages in [HugePages::System, HugePages::Transparent] {
            UserFault::check(huge_pages).unwrap();
        }
    }
}
