//! Serving a fault: which pages to commit, what to count and record, and when to refuse.

use std::sync::atomic::{AtomicU64, Ordering};

use super::events::{EventRing, FaultEvent, FaultOutcome};
use super::repeats::Repeats;
use super::step::StepPolicy;
use crate::error::{AccessError, Refusal};
use crate::fault::{Fault, Outcome, Registered};
use crate::page::PageRange;
use crate::reservation::{Reservation, Served};

/// The part of a region that the fault handler uses.
pub(super) struct Core {
    pub(super) reservation: Reservation,
    pub(super) step: StepPolicy,
    pub(super) events: EventRing,
    pub(super) counters: Counters,
    pub(super) repeats: Repeats,
    pub(super) registered: Registered,
}

// SAFETY: the pointer in `registered` is to the core itself; everything else is shareable.
unsafe impl Send for Core {}
// SAFETY: as above: what changes through `&Core` is atomic.
unsafe impl Sync for Core {}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) faults: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) raced: AtomicU64,
}

impl Core {
    /// Serves a fault. Async-signal-safe.
    fn serve(&self, fault: Fault) -> Outcome {
        let offset = fault.address - self.reservation.as_ptr().addr();
        let size = self.reservation.page();
        let (page, pages) = (size.page_of(offset), size.page_of(self.reservation.len()));
        let mut round = 0;
        loop {
            let wanted = self.step.wanted(page, pages, size);
            match self.reservation.serve(offset, wanted) {
                Ok(Served::Committed(range)) => {
                    self.record(offset, fault.write, range);
                    return Outcome::Resolved;
                }
                Ok(Served::Already) => return self.already(page),
                Ok(Served::Busy) => {
                    crate::sync::relax(round);
                    round += 1;
                }
                Err(refusal) => return self.refused(fault.write, refusal),
            }
        }
    }

    fn record(&self, offset: usize, write: Option<bool>, range: PageRange) {
        self.step.note(range);
        self.counters.faults.fetch_add(1, Ordering::Relaxed);
        let outcome = FaultOutcome::Committed { start: range.offset(), len: range.len() };
        self.events.push(FaultEvent { offset, write, outcome });
    }

    /// For a fault at a committed page: tried again, since another thread may have committed it meanwhile;
    /// handed on if it faults too often (see [`Repeats`]).
    fn already(&self, page: usize) -> Outcome {
        self.counters.raced.fetch_add(1, Ordering::Relaxed);
        if self.repeats.is_too_often(page) { Outcome::NotOurs } else { Outcome::Resolved }
    }

    #[cold]
    #[inline(never)]
    fn refused(&self, write: Option<bool>, refusal: Refusal) -> Outcome {
        self.counters.refused.fetch_add(1, Ordering::Relaxed);
        let offset = refusal.offset;
        self.events.push(FaultEvent { offset, write, outcome: FaultOutcome::Refused });
        Outcome::Refused(refusal)
    }

    /// The address of a range, or an error where it does not lie inside the region.
    pub(super) fn check(&self, offset: usize, len: usize) -> Result<*mut u8, AccessError> {
        match offset.checked_add(len) {
            Some(end) if end <= self.reservation.len() => {
                // SAFETY: checked just now.
                Ok(unsafe { self.reservation.as_ptr().add(offset) })
            }
            _ => Err(AccessError::not_reserved(self.reservation.len())),
        }
    }

    /// Where there are no page faults (Miri, `os/model.rs`): commits a range as the handler would have.
    pub(super) fn touch_without_faults(
        &self,
        offset: usize,
        len: usize,
    ) -> Result<(), AccessError> {
        if !cfg!(any(miri, pagewise_model)) || len == 0 {
            return Ok(());
        }
        let size = self.reservation.page();
        let first = size.page_of(offset);
        for page in first..=size.page_of(offset + len - 1) {
            let at = size.pages(page, page + 1).offset().max(offset);
            let address = self.reservation.as_ptr().addr() + at;
            if self.reservation.states().is_committed(page) {
                continue;
            }
            if let Outcome::Refused(refusal) = self.serve(Fault { address, write: None }) {
                return Err(AccessError { copied: at - offset, refusal });
            }
        }
        Ok(())
    }
}

/// # Safety
/// `owner` is a living core.
pub(super) unsafe fn serve(owner: *const (), fault: Fault) -> Outcome {
    // SAFETY: the caller's promise.
    unsafe { &*owner.cast::<Core>() }.serve(fault)
}

/// # Safety
/// `owner` is a living core.
pub(super) unsafe fn forked(owner: *const ()) {
    // SAFETY: the caller's promise.
    let core = unsafe { &*owner.cast::<Core>() };
    core.reservation.end_what_the_parent_did();
    core.events.end_abandoned_changes();
}

#[cfg(all(test, target_os = "linux", not(loom), not(any(miri, pagewise_model))))]
mod tests {
    use super::*;
    use crate::os;
    use crate::{CommitStep, DemandRegion, Engine};

    /// On systems that prefault by touching, the handler touches what it commits. Another thread may
    /// decommit the neighbours of its own page at any time: not before the touching is done.
    #[test]
    fn a_neighbour_may_be_decommitted_while_a_batch_is_being_prefaulted() {
        os::PREFAULT_BY_TOUCHING.store(true, Ordering::Relaxed);
        let page = crate::page_size();
        let pages = 256;
        for engine in [Engine::Protect, Engine::Auto] {
            let region = DemandRegion::builder(pages * page)
                .engine(engine)
                .step(CommitStep::fixed(pages * page))
                .build()
                .unwrap();
            std::thread::scope(|threads| {
                let faults = threads.spawn(|| {
                    for _ in 0..300 {
                        // SAFETY: only this thread accesses the first page.
                        unsafe {
                            region.as_ptr().write_volatile(1);
                            region.decommit_shared(..page).unwrap();
                        }
                    }
                });
                while !faults.is_finished() {
                    // SAFETY: nobody accesses the other pages.
                    unsafe { region.decommit_shared(page..).unwrap() };
                }
            });
        }
        os::PREFAULT_BY_TOUCHING.store(false, Ordering::Relaxed);
    }
}
