//! Committing pages for the fault handler. Everything here is async-signal-safe, and holds no page while it
//! waits for one.

use super::Reservation;
use super::commit::refused_by_system;
use super::pages::Claim;
use crate::error::{Refusal, RefusalReason};
use crate::os::{self, OsError};
use crate::page::PageRange;

/// What the fault handler did about a page.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Served {
    /// These pages were committed, the wanted one among them.
    Committed(PageRange),
    /// Somebody else had committed the page before.
    Already,
    /// Somebody else is changing the page: look again in a moment.
    Busy,
}

impl Reservation {
    /// Commits pages for the fault handler: the one of the byte at `offset`, and of `wanted` what is free,
    /// without a gap, as far as limits and system allow. Async-signal-safe; the state of every page is
    /// exact on return.
    pub(crate) fn serve(&self, offset: usize, wanted: PageRange) -> Result<Served, Refusal> {
        self.try_serve(self.page.page_of(offset), wanted)
            .map_err(|reason| self.refusal(offset, reason))
    }

    fn try_serve(&self, page: usize, wanted: PageRange) -> Result<Served, RefusalReason> {
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
            Err(error) => self.serve_less(page, granted, error),
        }
    }

    /// Ends the commit of held pages that are accessible and paid for: prefaults, counts and frees them.
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

    /// Frees what the limits did not grant of a claim: pages before `page` first, then those behind.
    fn shrink_claim(&self, page: usize, claimed: PageRange, bytes: usize) -> PageRange {
        let pages = bytes / self.page.bytes();
        let first = page.min(claimed.end() - pages);
        let granted = claimed.with(first, first + pages);
        self.states.unlock(claimed.with(claimed.first(), granted.first()));
        self.states.unlock(claimed.with(granted.end(), claimed.end()));
        granted
    }

    /// After the system refused a batch: the prefix that it grants, then the one page by itself.
    #[cold]
    #[inline(never)]
    fn serve_less(
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

    /// Frees pages that were claimed and paid for, and are not committed after all.
    fn give_up_claim(&self, pages: PageRange) {
        if pages.is_empty() {
            return;
        }
        // The first attempt may have come farther than the later ones. Where the system refuses this, too, the
        // pages are accessible but count as reserved: no data is lost, and the next commit finds them as it
        // expects.
        // SAFETY: the pages are held, and nobody was told that they are committed.
        let _ = unsafe { self.engine.settle(self.ground(), pages, false) };
        self.account.return_untouched(pages.len());
        self.states.unlock(pages);
    }

    /// Prefaults pages that were committed just now. Async-signal-safe.
    pub(crate) fn prefault_pages(&self, range: PageRange) {
        if self.engine.commits_resident() {
            return;
        }
        // SAFETY: the pages are committed and accessible; populating changes no contents.
        unsafe { os::prefault(self.address(range), range.len()) };
    }
}
