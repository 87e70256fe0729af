//! Explicit commit and decommit: hold the pages, take from the account, call the system, publish.

use std::ops::RangeBounds;

use super::Reservation;
use crate::error::{Error, Refusal, RefusalReason};
use crate::os::{self, Cause, OsError};
use crate::page::PageRange;

/// What becomes of the pages before the one that the system refused.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnRefusal {
    RollBack,
    KeepPrefix,
}

impl Reservation {
    /// Makes a range usable: readable, writable, zero where it is new. Reserved → Committed.
    ///
    /// Rounds outward to whole pages. Pages that are committed already keep what they hold (and the
    /// access that [`protect`](Self::protect) gave them). All or nothing: what fails half-way is
    /// rolled back.
    ///
    /// # Errors
    /// [`LimitReached`](Error::LimitReached), [`BudgetReached`](Error::BudgetReached),
    /// [`CommitRefused`](Error::CommitRefused), [`MappingsExhausted`](Error::MappingsExhausted), or a bad range.
    pub fn commit(&self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        self.commit_pages(self.page.outward(range, self.len)?, OnRefusal::RollBack)
    }

    /// Like [`commit`](Self::commit), for memory that other threads may be faulting into: pages that
    /// were committed before the system refused stay, since somebody may have written to them.
    pub(crate) fn commit_among_faults(&self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        self.commit_pages(self.page.outward(range, self.len)?, OnRefusal::KeepPrefix)
    }

    fn commit_pages(&self, range: PageRange, on_refusal: OnRefusal) -> Result<(), Error> {
        if range.is_empty() || self.states.all_committed(range) {
            return Ok(());
        }
        self.hold(range, "commit")?;
        let missing = self.page.bytes() * (range.count() - self.states.count_committed(range));
        if let Err(reason) = self.account.take_exactly(missing) {
            self.states.unlock(range);
            return Err(Error::of_commit(self.refusal(range.offset(), reason), missing));
        }
        let mut done = range.first();
        let result = self.states.for_each_run(range, |run, is_committed| {
            done = run.first();
            if is_committed {
                return Ok(());
            }
            // SAFETY: the run is held and reserved.
            unsafe { self.engine.commit(self.ground(), run) }
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
                Err(self.undo_commit(range, failed, missing, error, on_refusal))
            }
        }
    }

    /// After a refusal at `failed`: everything that was reserved goes back, or what comes before the
    /// refused page stays.
    fn undo_commit(
        &self,
        range: PageRange,
        failed: PageRange,
        taken: usize,
        error: OsError,
        on_refusal: OnRefusal,
    ) -> Error {
        let refusal = self.refusal(failed.offset(), refused_by_system(error));
        let kept_end = match on_refusal {
            OnRefusal::RollBack => range.first(),
            OnRefusal::KeepPrefix => self.commit_prefix(failed),
        };
        let (kept, rest) = (range.with(range.first(), kept_end), range.with(kept_end, range.end()));
        let mut kept_bytes = 0;
        let _ = self.states.for_each_run(kept, |run, is_committed| {
            kept_bytes += if is_committed { 0 } else { run.len() };
            Ok(())
        });
        let _ = self.states.for_each_run(rest, |run, is_committed| {
            // (What is kept may end earlier than the first attempt came.)
            if !is_committed && run.first() < failed.end() {
                // Where even this is refused, the pages are accessible but count as reserved: no
                // data is lost, and the next commit finds them as it expects.
                // SAFETY: the run is held, was reserved, and nobody was told that it is committed.
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
    /// reserved. The next commit reads zero. Where the system refuses, a part of the range may have been
    /// decommitted; what was committed without a gap then still is, from the start of the range to the
    /// end of what stays.
    ///
    /// # Errors
    /// [`MappingsExhausted`](Error::MappingsExhausted), or a bad range.
    pub fn decommit(&self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        let range = self.page.inward(range, self.len)?;
        // From the end: where the system refuses half-way, what was a committed prefix still is one.
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
        // SAFETY: all that belongs together is held; the contents are the caller's to give up.
        let result = unsafe { self.engine.decommit(self.ground(), part, &mut done) };
        self.states.unlock(held);
        result.map_err(|error| self.operation_error("decommit", part, error))
    }

    pub(super) fn refusal(&self, offset: usize, reason: RefusalReason) -> Refusal {
        Refusal { offset, region: self.start.addr().get(), reason }
    }
}

/// Why the system did not commit pages. Async-signal-safe.
#[cold]
#[inline(never)] // what it takes of the handler's stack is not for served faults to pay
pub(super) fn refused_by_system(error: OsError) -> RefusalReason {
    match os::diagnose(error) {
        Cause::Mappings { mappings, max } => RefusalReason::Mappings { mappings, max, error },
        Cause::Locked => RefusalReason::Locked(error),
        _ => RefusalReason::System(error),
    }
}
