//! Explicit commit and decommit: hold the pages, take from the account, call the system, publish.

use std::ops::RangeBounds;
use std::sync::atomic::Ordering;

use super::Reservation;
use crate::error::{Error, Refusal, RefusalReason};
use crate::os::{self, Cause, OsError};
use crate::page::PageRange;

/// What happens to the pages that a commit made accessible before the system refused the next one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnRefusal {
    RollBack,
    KeepPrefix,
}

impl Reservation {
    /// Makes a range usable: readable, writable, zero where it is new. Reserved → Committed.
    ///
    /// Rounds outward to whole pages. Pages that are committed already keep what they hold (and the
    /// access that [`protect`](Self::protect) gave them). All or nothing: where the system refuses half-way,
    /// the pages that this call committed are decommitted again.
    ///
    /// # Errors
    /// [`LimitReached`](Error::LimitReached), [`BudgetReached`](Error::BudgetReached),
    /// [`CommitRefused`](Error::CommitRefused), [`MappingsExhausted`](Error::MappingsExhausted),
    /// [`Locked`](Error::Locked); [`OutOfBounds`](Error::OutOfBounds) or
    /// [`ReversedRange`](Error::ReversedRange) for a bad range.
    ///
    /// ```
    /// use pagewise::{Reservation, page_size};
    ///
    /// let memory = Reservation::builder(1 << 30).limit(2 * page_size()).build()?;
    /// memory.commit(page_size() - 1..page_size() + 1)?; // two bytes on two pages
    /// assert_eq!(memory.committed(), 2 * page_size());
    /// assert!(memory.commit(..3 * page_size()).is_err()); // one page too many: nothing changes
    /// assert!(memory.is_committed(..2 * page_size()));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn commit(&self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        self.commit_pages(self.page.outward(range, self.len)?, OnRefusal::RollBack)
    }

    /// Like [`commit`](Self::commit), for memory that other threads may be faulting into: where the system refuses
    /// half-way, the pages before stay committed, since another thread may have written to them.
    pub(crate) fn commit_among_faults(&self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        self.commit_pages(self.page.outward(range, self.len)?, OnRefusal::KeepPrefix)
    }

    fn commit_pages(&self, range: PageRange, on_refusal: OnRefusal) -> Result<(), Error> {
        // (An empty range is.)
        if self.states.all_committed(range) {
            return Ok(());
        }
        self.hold(range, "commit")?;
        let missing = self.page.bytes() * (range.count() - self.states.count_committed(range));
        if let Err(reason) = self.account.take_exactly(missing) {
            self.states.unlock(range);
            return Err(Error::of_commit(self.refusal(range.offset(), reason), missing));
        }
        let (mut done, mut kept_end) = (range.first(), range.first());
        let result = self.states.for_each_run(range, |run, is_committed| {
            done = run.first();
            if is_committed {
                return Ok(());
            }
            // SAFETY: the run is held and reserved.
            unsafe { self.engine.commit(self.ground(), run) }.or_else(|error| {
                if on_refusal == OnRefusal::RollBack {
                    return Err(error);
                }
                // In pieces, the system may grant all of it.
                kept_end = self.commit_prefix(run);
                if kept_end == run.end() { Ok(()) } else { Err(error) }
            })
        });
        match result {
            Ok(()) => {
                self.account.committed(missing);
                self.states.unlock_committed(range);
                self.engine.after_commit(self.ground(), range);
                Ok(())
            }
            Err(error) => {
                let failed =
                    range.with(done, self.states.run(range.with(done, range.end())).0.end());
                Err(self.undo_commit(range, kept_end, failed, missing, error))
            }
        }
    }

    /// After the system refused `failed`: pages before `kept_end` become committed, and those behind it that were
    /// reserved become reserved again. Returns the error for the user.
    fn undo_commit(
        &self,
        range: PageRange,
        kept_end: usize,
        failed: PageRange,
        taken: usize,
        error: OsError,
    ) -> Error {
        let refusal = self.refusal(failed.offset(), refused_by_system(error));
        let (kept, rest) = (range.with(range.first(), kept_end), range.with(kept_end, range.end()));
        let mut kept_bytes = 0;
        let _ = self.states.for_each_run(kept, |run, is_committed| {
            kept_bytes += if is_committed { 0 } else { run.len() };
            Ok(())
        });
        let _ = self.states.for_each_run(rest, |run, is_committed| {
            // The first attempt may have made pages accessible behind `kept_end`, up to the end of `failed`.
            if !is_committed && run.first() < failed.end() {
                // Where the system refuses this, too, the pages stay accessible but count as reserved. That loses no
                // data, and the next commit of these pages succeeds.
                // SAFETY: the run is held and was never marked as committed.
                let _ = unsafe { self.engine.settle(self.ground(), run, false) };
            }
            Ok(())
        });
        self.account.return_untouched(taken - kept_bytes);
        self.account.committed(kept_bytes);
        self.states.unlock_committed(kept);
        self.states.unlock(rest);
        Error::of_commit(refusal, failed.len())
    }

    /// Commits as much as the system grants from the start of a held, reserved run, after it refused
    /// the whole, and returns the page index where it ended. Async-signal-safe.
    ///
    /// The system commits in ascending order, so that halving finds the edge in a few calls, and
    /// where a single page is refused, nothing behind it was committed by the calls before.
    pub(super) fn commit_prefix(&self, run: PageRange) -> usize {
        let (mut at, mut size) = (run.first(), run.count());
        while at < run.end() {
            let part = run.with(at, run.end().min(at + size));
            // SAFETY: the part lies inside the run, which the caller holds.
            match unsafe { self.engine.commit(self.ground(), part) } {
                Ok(()) => at = part.end(),
                Err(_) if size > 1 => size = size.div_ceil(2),
                Err(_) => break,
            }
        }
        at
    }

    /// Makes a range inaccessible and returns its memory and its commit charge to the system.
    /// Committed → Reserved.
    ///
    /// Rounds inward: only pages that lie whole inside the range. Pages that are not committed stay
    /// reserved. The next commit reads zero. Works from the end of the range towards its start: where
    /// the system refuses, pages before the refused ones stay as they were. (The refused ones stay committed,
    /// and may read zero.)
    ///
    /// # Errors
    /// [`MappingsExhausted`](Error::MappingsExhausted), [`Locked`](Error::Locked), or
    /// [`System`](Error::System); [`OutOfBounds`](Error::OutOfBounds) or
    /// [`ReversedRange`](Error::ReversedRange) for a bad range.
    ///
    /// ```
    /// use pagewise::{Reservation, page_size};
    ///
    /// let memory = Reservation::new(1 << 30)?;
    /// memory.commit(..3 * page_size())?;
    /// memory.decommit(1..3 * page_size())?; // byte 0 keeps its page
    /// assert_eq!(memory.committed(), page_size());
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn decommit(&self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        let range = self.page.inward(range, self.len)?;
        // From the end, so that a container whose committed pages are a prefix still has a prefix where the
        // system refuses half-way.
        for part in self.states.written_parts(range).rev() {
            self.decommit_part(part)?;
        }
        Ok(())
    }

    fn decommit_part(&self, part: PageRange) -> Result<(), Error> {
        let held = self.engine.decommit_unit(part);
        self.hold(held, "decommit")?;
        let mut done = |pages| {
            let bytes = self.states.count_committed(pages) * self.page.bytes();
            self.states.mark_reserved(pages);
            self.account.decommitted(bytes);
        };
        self.decommits.fetch_add(1, Ordering::AcqRel);
        // SAFETY: the part's decommit unit is held; the caller gives up the contents.
        let result = unsafe { self.engine.decommit(self.ground(), part, &mut done) };
        self.decommits.fetch_sub(1, Ordering::AcqRel);
        self.states.unlock(held);
        result.map_err(|error| self.operation_error("decommit", part, error))
    }

    pub(super) fn refusal(&self, offset: usize, reason: RefusalReason) -> Refusal {
        Refusal { offset, region: self.start.addr().get(), reason }
    }
}

/// Why the system did not commit pages. Async-signal-safe.
#[cold]
#[inline(never)] // keeps its stack use out of the path of served faults
pub(super) fn refused_by_system(error: OsError) -> RefusalReason {
    match os::diagnose(error) {
        Cause::Mappings { mappings, max } => RefusalReason::Mappings { mappings, max, error },
        Cause::Locked => RefusalReason::Locked(error),
        Cause::OutOfMemory | Cause::Unsupported | Cause::Other => RefusalReason::System(error),
    }
}

#[cfg(all(test, target_os = "linux", not(loom), not(any(miri, pagewise_model))))]
mod tests {
    use super::*;

    #[test]
    fn locked_memory_is_named_as_the_reason_of_a_refusal() {
        let reason = |error| refused_by_system(OsError(error));
        assert!(matches!(reason(libc::EAGAIN), RefusalReason::Locked(OsError(libc::EAGAIN))));
        assert!(matches!(reason(libc::EIO), RefusalReason::System(OsError(libc::EIO))));
    }

    #[cfg(pagewise_refusals)]
    #[test]
    fn tests_of_refusals_see_what_is_held() {
        let page = crate::page_size();
        let memory = Reservation::new(4 * page).unwrap();
        let region = crate::DemandRegion::new(4 * page).unwrap();
        memory.begin_a_commit(1..2);
        region.reservation().begin_a_commit(1..2);
        assert!(memory.holds_pages() && region.holds_pages());
        memory.end_a_commit(1..2);
        region.reservation().end_a_commit(1..2);
        assert!(!memory.holds_pages() && !region.holds_pages());
    }
}
