//! Serving a fault: which pages to commit, what to count and record, and when to refuse.

use std::sync::atomic::{AtomicU64, Ordering};

use super::filter::{FaultAnswer, Filter, PageFault};
use super::repeats::Repeats;
use super::step::StepPolicy;
use crate::error::{AccessError, Refusal, RefusalReason};
use crate::fault::{EventRing, Fault, FaultEvent, FaultOutcome, Outcome, Registered};
use crate::page::PageRange;
use crate::reservation::{Reservation, Served};

/// The part of a region that the fault handler uses.
pub(super) struct Core {
    pub(super) reservation: Reservation,
    pub(super) step: StepPolicy,
    pub(super) filter: Option<Filter>,
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
        if cfg!(windows) && fault.is_unavailable {
            // The page file failed: nothing that a commit changes.
            return Outcome::NotOurs;
        }
        let offset = fault.address - self.reservation.as_ptr().addr();
        let size = self.reservation.page();
        let (page, pages) = (size.page_of(offset), size.page_of(self.reservation.len()));
        let of_filter = match self.ask_filter(fault, offset, page) {
            FaultAnswer::Commit => None,
            FaultAnswer::CommitPages(count) => {
                Some(size.pages(page, page.saturating_add(count.max(1)).min(pages)))
            }
            FaultAnswer::Refuse => return self.refused_by_filter(fault.write, offset),
            FaultAnswer::NotMine => return Outcome::NotOurs,
        };
        let mut round = 0;
        loop {
            let wanted = of_filter.unwrap_or_else(|| self.step.wanted(page, pages, size));
            match self.reservation.commit_for_fault(offset, wanted) {
                Ok(Served::Committed(range)) => {
                    self.record(offset, fault.write, range);
                    return Outcome::Resolved;
                }
                Ok(Served::Already) => return self.already(page),
                Ok(Served::Busy) => crate::sync::relax(&mut round),
                Err(refusal) => return self.refused(fault.write, refusal),
            }
        }
    }

    /// What the filter says, if there is one, about a fault at a page that is not committed.
    fn ask_filter(&self, fault: Fault, offset: usize, page: usize) -> FaultAnswer {
        match &self.filter {
            Some(filter) if !self.reservation.states().is_committed(page) => {
                let Fault { address, write, .. } = fault;
                filter.ask(&PageFault { address, offset, write })
            }
            _ => FaultAnswer::Commit,
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
    #[inline(never)] // keeps a refusal off the stack of faults that are served
    fn refused_by_filter(&self, write: Option<bool>, offset: usize) -> Outcome {
        let region = self.reservation.as_ptr().addr();
        self.refused(write, Refusal { offset, region, reason: RefusalReason::Filter })
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

    /// Where there are no page faults (Miri, `os/model.rs`), commits a range as the handler would. Elsewhere does
    /// nothing.
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
            match self.serve(Fault { address, write: None, is_unavailable: false }) {
                Outcome::Resolved => {}
                Outcome::Refused(refusal) => {
                    return Err(AccessError { copied: at - offset, refusal });
                }
                // A filter said so, and there is no other handler.
                Outcome::NotOurs => panic!("a fault at offset {at:#x} is nobody's"),
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

/// Calls the handler's function directly, so these tests also run in builds without page faults.
#[cfg(all(test, not(loom)))]
mod tests_without_faults {
    use super::super::repeats;
    use super::*;
    use crate::error::RefusalReason;
    use crate::{Budget, CommitStep, DemandRegion};

    /// After a decommit, threads may race for the same pages again, as often as before.
    #[test]
    fn a_decommit_makes_a_page_good_for_as_many_races_as_before() {
        let page = crate::page_size();
        let mut region = DemandRegion::new(8 * page).unwrap();
        for round in 0..4 {
            region.commit(..2 * page).unwrap();
            // Two pages in turn: each has a count of its own.
            for index in 0..2 * repeats::TOO_OFTEN {
                let address = region.as_ptr().addr() + index % 2 * page + 5;
                let outcome =
                    region.core.serve(Fault { address, write: Some(true), is_unavailable: false });
                assert!(matches!(outcome, Outcome::Resolved), "round {round}, fault {index}");
            }
            let fault =
                Fault { address: region.as_ptr().addr(), write: Some(true), is_unavailable: false };
            assert!(matches!(region.core.serve(fault), Outcome::NotOurs), "round {round}");
            match round {
                0 => region.decommit(..page).unwrap(),
                1 => region.decommit(..).unwrap(),
                // SAFETY: nobody accesses the region.
                _ => unsafe { region.decommit_shared(5 * page..6 * page).unwrap() },
            }
        }
        assert_eq!(region.stats().raced, 4 * (2 * repeats::TOO_OFTEN as u64 + 1));
        assert_eq!((region.stats().faults, region.stats().refused), (0, 0));
    }

    /// Committed pages keep what they hold while another thread holds them (it zeroes or locks them): who reads
    /// them does not wait. Pages that are being committed are waited for, since they may hold something already.
    #[test]
    fn reading_waits_for_pages_that_are_being_committed_and_for_no_others() {
        let page = crate::page_size();
        let region = DemandRegion::new(8 * page).unwrap();
        region.commit(..page).unwrap();
        let states = region.reservation().states();
        let pages = |first, end| region.reservation().page().pages(first, end);
        states.lock(pages(0, 1)).unwrap();
        let mut byte = [1];
        region.peek(7, &mut byte).unwrap();
        assert_eq!(byte, [0]);
        states.unlock(pages(0, 1));
        #[cfg(all(unix, not(any(miri, pagewise_model))))]
        std::thread::scope(|scope| {
            region.reservation().begin_a_commit(2..3);
            // SAFETY: the page is accessible, and nobody else writes there.
            unsafe { region.as_ptr().add(2 * page).write(9) };
            let reads = scope.spawn(|| {
                let mut byte = [0];
                region.peek(2 * page, &mut byte).unwrap();
                byte
            });
            // Time to read zero, if it did not wait.
            std::thread::sleep(std::time::Duration::from_millis(1));
            region.reservation().end_a_commit(2..3);
            assert_eq!(reads.join().unwrap(), [9]);
        });
    }

    #[cfg(any(pagewise_model, pagewise_refusals))]
    #[test]
    fn a_region_that_the_system_does_not_take_back_says_so() {
        use crate::os::refusals::{Call, Refusal};
        let region = DemandRegion::new(8 * crate::page_size()).unwrap();
        let _refusing = Refusal::of(Call::Release).begin();
        region.release().unwrap_err();
    }

    #[test]
    fn a_filter_is_asked_only_about_pages_that_are_not_committed_and_its_answer_is_what_happens() {
        let page = crate::page_size();
        // By the page: commit, refuse, hand on.
        // SAFETY: the filter does nothing.
        let builder = unsafe {
            DemandRegion::builder(64 * page).filter(move |fault| match fault.offset / page % 4 {
                0 => FaultAnswer::CommitPages(2),
                1 => FaultAnswer::Commit,
                2 => FaultAnswer::Refuse,
                _ => FaultAnswer::NotMine,
            })
        };
        let mut region = builder.step(CommitStep::page()).build().unwrap();
        let serve = |index: usize| {
            let address = region.as_ptr().addr() + index * page + 3;
            region.core.serve(Fault { address, write: None, is_unavailable: false })
        };
        assert!(matches!(serve(4), Outcome::Resolved));
        assert!(matches!(serve(9), Outcome::Resolved));
        let Outcome::Refused(refusal) = serve(14) else { panic!("not refused") };
        assert_eq!((refusal.offset, refusal.reason), (14 * page + 3, RefusalReason::Filter));
        assert!(matches!(serve(15), Outcome::NotOurs));
        let committed: Vec<_> = region.committed_ranges().collect();
        assert_eq!(committed, [4 * page..6 * page, 9 * page..10 * page]);
        region.commit(14 * page..16 * page).unwrap();
        assert!(matches!(serve(14), Outcome::Resolved) && matches!(serve(15), Outcome::Resolved));
        let stats = region.stats();
        assert_eq!((stats.faults, stats.refused, stats.raced), (2, 1, 2));
        let refused = region.write(18 * page, &[1]).unwrap_err();
        assert_eq!((refused.copied, refused.refusal.reason), (0, RefusalReason::Filter));
    }

    #[test]
    fn what_a_refusal_says_of_limit_and_use_is_not_swapped() {
        let page = crate::page_size();
        let budget = Budget::new(3 * page + 100);
        let builder = DemandRegion::builder(64 * page).budget(budget.clone());
        let region = builder.limit(5 * page).step(CommitStep::page()).build().unwrap();
        region.commit(8 * page..11 * page).unwrap();
        let offset = 20 * page + 7;
        let fault = Fault {
            address: region.as_ptr().addr() + offset,
            write: Some(true),
            is_unavailable: false,
        };
        let Outcome::Refused(refusal) = region.core.serve(fault) else { panic!("not refused") };
        assert_eq!((refusal.offset, refusal.region), (offset, region.as_ptr().addr()));
        let RefusalReason::Budget { limit, used } = refusal.reason else { panic!("{refusal:?}") };
        assert_eq!((limit, used), (3 * page + 100, 3 * page));
    }
}

#[cfg(all(test, target_os = "linux", not(loom), not(any(miri, pagewise_model))))]
mod tests {
    use super::*;
    use crate::os;
    use crate::{CommitStep, DemandRegion, Engine};

    /// One thread makes the first steps of what other threads do with events, then really forks.
    #[test]
    fn a_forked_child_goes_on_with_events_that_others_were_putting_down_or_taking_out() {
        let page = crate::page_size();
        let region =
            DemandRegion::builder(64 * page).step(CommitStep::page()).events(8).build().unwrap();
        // SAFETY: the region is this test's own, and each page is its to write.
        let touch = |index: usize| unsafe { region.as_ptr().add(index * page).write_volatile(1) };
        (0..3).for_each(touch);
        // Threads of the parent that the child does not have.
        region.core.events.begin_and_abandon_a_pop();
        region.core.events.begin_and_abandon_a_push();
        touch(4);
        let numbers = || region.events().map(|event| event.offset / page);
        // SAFETY: the child faults, looks at events, and leaves.
        match unsafe { libc::fork() } {
            0 => {
                let kept = numbers().eq([1, 2, 4]) && region.stats().events_lost == 1;
                // All of the room is the child's.
                (10..20).for_each(touch);
                let full = numbers().eq(10..18) && region.stats().events_lost == 3;
                (20..28).for_each(touch);
                let again = numbers().eq(20..28) && region.stats().events_lost == 3;
                // SAFETY: leaves without running anything else of the program.
                unsafe {
                    libc::_exit(i32::from(!kept) | i32::from(!full) << 1 | i32::from(!again) << 2)
                }
            }
            child => {
                assert!(child > 0);
                let mut status = 0;
                // SAFETY: our own child.
                assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
                assert_eq!(status, 0, "1: events that were there, 2: new ones, 4: more of them");
            }
        }
    }

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
