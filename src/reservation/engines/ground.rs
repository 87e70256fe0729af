//! What an engine sees of its reservation, and helpers that several engines use.

use std::ptr::NonNull;

use super::super::pages::PageStates;
use crate::os::{self, Attributes, OsError, Residency};
use crate::page::{PageRange, PageSize};

/// What an engine sees of its reservation: start address, page states, page size, and the attributes that a
/// new mapping of its pages gets.
#[derive(Clone, Copy)]
pub(crate) struct Ground<'a> {
    pub(crate) start: NonNull<u8>,
    pub(crate) states: &'a PageStates,
    pub(crate) size: PageSize,
    pub(crate) attributes: &'a Attributes,
}

impl Ground<'_> {
    pub(super) fn address(&self, pages: PageRange) -> NonNull<u8> {
        // SAFETY: page ranges lie inside the reservation.
        unsafe { self.start.add(pages.offset()) }
    }

    /// # Safety
    /// The caller holds the pages, and their contents are its to give up.
    pub(super) unsafe fn map_over(&self, pages: PageRange) -> Result<(), OsError> {
        // SAFETY: the pages lie inside the reservation; the caller's promise.
        unsafe { os::decommit(self.address(pages), pages.len(), self.attributes) }
    }

    /// Calls `each` for the committed runs of pages that the caller holds, from the last one to the first.
    pub(super) fn for_each_committed_run(
        &self,
        mut pages: PageRange,
        mut each: impl FnMut(PageRange) -> Result<(), OsError>,
    ) -> Result<(), OsError> {
        while !pages.is_empty() {
            let (run, is_committed) = self.states.last_run(pages);
            if is_committed {
                each(run)?;
            }
            pages = pages.with(pages.first(), run.first());
        }
        Ok(())
    }

    /// Installs guard markers. The kernel refuses them in locked memory, which is then unlocked first: its
    /// contents are given up anyway.
    ///
    /// # Safety
    /// The caller holds the pages, and their contents are its to give up.
    pub(super) unsafe fn mark(&self, pages: PageRange) -> Result<(), OsError> {
        let (address, len) = (self.address(pages), pages.len());
        // SAFETY: the pages lie inside the reservation; the caller's promise.
        unsafe {
            os::guard_install(address, len).or_else(|error| {
                os::unlock(address, len)?;
                os::guard_install(address, len).map_err(|_| error)
            })
        }
    }

    /// Takes all access away from reserved pages, by access rights. Best effort.
    pub(super) fn forbid(&self, pages: PageRange) {
        if !pages.is_empty() {
            // SAFETY: the pages lie inside the reservation, and are reserved.
            let _ = unsafe { os::protect(self.address(pages), pages.len(), os::Access::None) };
        }
    }

    /// Takes all access away from reserved pages: by guard markers, or by access rights where those fail.
    pub(super) fn guard_or_forbid(&self, pages: PageRange) {
        // SAFETY: the pages lie inside the reservation, and are reserved.
        if unsafe { os::guard_install(self.address(pages), pages.len()) }.is_err() {
            self.forbid(pages);
        }
    }

    /// Whether held, reserved pages can be read. Where guard markers do not work, makes them accessible first.
    ///
    /// # Safety
    /// The caller holds the pages, or no thread of this process does.
    pub(super) unsafe fn can_be_read(&self, pages: PageRange) -> bool {
        // SAFETY: the pages lie inside the reservation, and neither call changes contents.
        unsafe {
            if os::guards_work() {
                os::populate_for_reading(self.address(pages), pages.len()).is_ok()
            } else {
                os::commit(self.address(pages), pages.len()).is_ok()
            }
        }
    }

    /// # Safety
    /// The pages are readable, and no other thread runs.
    pub(super) unsafe fn reads_zero(&self, pages: PageRange) -> bool {
        let start = self.address(pages).as_ptr();
        // SAFETY: the caller's promise; any bytes are valid.
        unsafe { std::slice::from_raw_parts(start, pages.len()) }.iter().all(|&byte| byte == 0)
    }

    /// In the child of a fork: calls `each` for those pages of a run, held and reserved, that are accessible
    /// and do not read zero. Async-signal-safe.
    ///
    /// # Safety
    /// No thread of this process holds the pages.
    pub(in super::super) unsafe fn for_each_page_with_data(
        self,
        run: PageRange,
        each: &mut dyn FnMut(PageRange),
    ) {
        let mut look_at = |first: usize, end: usize| {
            for page in (first..end).map(|page| run.with(page, page + 1)) {
                // SAFETY: no thread holds the page, and it is read only where that is possible.
                if unsafe { self.can_be_read(page) && !self.reads_zero(page) } {
                    each(page);
                }
            }
        };
        // Only resident or swapped pages can hold data: in a long run, these are few.
        let mut seen = |offset: usize, len: usize, _: Residency| {
            let (first, end) = (self.size.page_of(offset), self.size.page_of(offset + len));
            look_at(run.first() + first, run.first() + end.min(run.count()));
        };
        if os::residency(self.address(run), run.len(), &mut seen).is_err() {
            look_at(run.first(), run.end());
        }
    }
}
