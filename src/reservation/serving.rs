//! Committing pages for the fault handler. Everything here is async-signal-safe, and holds no page while it
//! waits for one.

use std::num::NonZeroUsize;

use super::Reservation;
use super::commit::refused_by_system;
use super::pages::Claim;
use crate::error::{Refusal, RefusalReason};
use crate::os::{self, OsError};
use crate::page::PageRange;

/// What became of a page fault.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Served {
    /// These pages were committed, the wanted one among them.
    Committed(PageRange),
    /// The page was committed already.
    Already,
    /// Another thread is changing the page: the caller waits and tries again.
    Busy,
}

impl Reservation {
    /// Commits the page of the byte at `offset`, and those of its neighbours within `wanted` that are reserved,
    /// adjacent, and granted by the limits and the system. Holds no page on return. Async-signal-safe.
    #[inline(always)] // its one caller and it need less stack together
    pub(crate) fn commit_for_fault(
        &self,
        offset: usize,
        wanted: PageRange,
    ) -> Result<Served, Refusal> {
        self.commit_around(self.page.page_of(offset), wanted)
            .map_err(|reason| self.refusal(offset, reason))
    }

    #[inline(always)] // as above
    fn commit_around(&self, page: usize, wanted: PageRange) -> Result<Served, RefusalReason> {
        let claimed = match self.states.claim(page, wanted).map_err(refused_by_system)? {
            Claim::Claimed(claimed) => claimed,
            Claim::Committed => return Ok(Served::Already),
            Claim::Busy => return Ok(Served::Busy),
        };
        let granted = match self.account.take_up_to(claimed.len(), self.page.bytes()) {
            Ok(bytes) => self.shrink_claim(page, claimed, bytes),
            Err(reason) => {
                self.states.unlock(claimed);
                return Err(reason);
            }
        };
        // SAFETY: the pages are held and reserved.
        match unsafe { self.engine.commit(self.ground(), granted) } {
            Ok(()) => {
                self.publish(granted);
                Ok(Served::Committed(granted))
            }
            Err(error) => self.commit_less(page, granted, error),
        }
    }

    /// Ends the commit of held pages that are accessible and taken from the account: prefaults and counts them,
    /// then unlocks them as committed.
    ///
    /// Prefaulting comes first. Some systems prefault by touching, and once the pages are free, another
    /// thread may decommit them: then the touch would fault inside the fault handler.
    fn publish(&self, range: PageRange) {
        if range.is_empty() {
            return;
        }
        self.prefault_pages(range);
        self.account.committed(range.len());
        self.states.unlock_committed(range);
        self.engine.after_commit(self.ground(), range);
    }

    /// Reduces a claim to the `bytes` that the limits granted, and unlocks the rest. Keeps `page` and the pages
    /// behind it; pages before it only where there are too few behind.
    fn shrink_claim(&self, page: usize, claimed: PageRange, bytes: usize) -> PageRange {
        let pages = bytes / self.page.bytes();
        let first = page.min(claimed.end() - pages);
        let granted = claimed.with(first, first + pages);
        self.states.unlock(claimed.with(claimed.first(), granted.first()));
        self.states.unlock(claimed.with(granted.end(), claimed.end()));
        granted
    }

    /// After the system refused a batch: commits the prefix that it grants, and the faulting page alone if that lies
    /// behind the prefix.
    #[cold]
    #[inline(never)]
    fn commit_less(
        &self,
        page: usize,
        granted: PageRange,
        error: OsError,
    ) -> Result<Served, RefusalReason> {
        let end = self.commit_prefix(granted);
        let prefix = granted.with(granted.first(), end);
        if page < end {
            self.give_up_claim(granted.with(end, granted.end()));
            self.publish(prefix);
            return Ok(Served::Committed(prefix));
        }
        let one = granted.with(page, page + 1);
        // SAFETY: the page is part of the claim that is still held.
        let alone = unsafe { self.engine.commit(self.ground(), one) };
        self.give_up_claim(granted.with(end, page));
        self.give_up_claim(granted.with(page + 1, granted.end()));
        self.publish(prefix);
        match alone {
            Ok(()) => {
                self.publish(one);
                Ok(Served::Committed(one))
            }
            Err(_) => {
                self.give_up_claim(one);
                Err(refused_by_system(error))
            }
        }
    }

    /// Unlocks pages that were claimed and are not committed after all, and returns their bytes to the account.
    fn give_up_claim(&self, pages: PageRange) {
        if pages.is_empty() {
            return;
        }
        // The first attempt may have made more pages accessible than the later ones. Where the system refuses this,
        // too, the pages are accessible but count as reserved: no data is lost, and the next commit of them succeeds.
        // SAFETY: the pages are held and were never marked as committed.
        let _ = unsafe { self.engine.settle(self.ground(), pages, false) };
        self.account.return_untouched(pages.len());
        self.states.unlock(pages);
    }

    /// Prefaults pages that were committed just now, and are about to be written, unless their touches cost less.
    /// Returns whether they were left to these. Async-signal-safe.
    pub(crate) fn prefault_pages(&self, range: PageRange) -> bool {
        if self.engine.commits_resident() {
            return false;
        }
        // (Where huge pages are asked for, prefaulting gets them.)
        if !self.prefer_huge_pages(range) && !os::prefaulting_pays(range.len()) {
            return true;
        }
        // SAFETY: the pages are committed and accessible; populating changes no contents.
        unsafe { os::prefault(self.address(range), range.len()) };
        false
    }

    /// Where long runs get huge pages: asks the system for them, for those that lie whole inside a range of
    /// committed pages. All of the range is about to become resident, so that huge pages take no memory that
    /// small ones would not. Returns whether there are any. Async-signal-safe.
    pub(crate) fn prefer_huge_pages(&self, range: PageRange) -> bool {
        let Some(whole) = self.whole_huge_pages(range) else { return false };
        // SAFETY: the pages are committed.
        unsafe { os::prefer_huge_pages(self.address(whole), whole.len()) };
        true
    }

    fn whole_huge_pages(&self, range: PageRange) -> Option<PageRange> {
        let pages = NonZeroUsize::new(self.page.page_of(self.huge_pages_of_runs))?;
        let first = range.first().checked_next_multiple_of(pages.get())?;
        let end = range.end() / pages * pages.get();
        (first < end).then(|| range.with(first, end))
    }
}

/// A fault that is under way, for tests of what others see of it meanwhile.
#[cfg(all(test, unix, not(any(loom, miri, pagewise_model))))]
impl Reservation {
    /// Claims pages, pays for them, and makes them accessible.
    pub(crate) fn begin_a_commit(&self, pages: std::ops::Range<usize>) {
        let pages = self.page.pages(pages.start, pages.end);
        assert_eq!(self.states.claim(pages.first(), pages), Ok(Claim::Claimed(pages)));
        self.account.take_exactly(pages.len()).unwrap();
        // SAFETY: the pages are held and reserved.
        unsafe { self.engine.commit(self.ground(), pages).unwrap() };
    }

    /// Ends it.
    pub(crate) fn end_a_commit(&self, pages: std::ops::Range<usize>) {
        self.publish(self.page.pages(pages.start, pages.end));
    }
}
