//! How pages of a reservation become accessible and inaccessible: the engines.
//!
//! *Protect*: every run of pages is its own piece of mapping, inaccessible or not. Everywhere; but
//! scattered pages make many mappings, of which Linux allows a process 65,530.
//!
//! *Guard* (Linux 6.13): the reservation is divided into windows. A window in which a scattered page is
//! wanted is *opened*: guard markers are installed in all of its pages, it is made accessible as a
//! whole, and from then on committing a page is removing its marker. Markers live in page tables, not
//! in mappings: whatever the pattern, there are never more mappings than windows.
//!
//! *User fault* (Linux 5.11, on request): the whole reservation is accessible, and pages that are missing
//! raise a signal; committing a page is giving it one. A fork's child has no such thing: there, missing
//! pages get guard markers, or are protected, and it goes on with those.
//!
//! Whoever calls holds the pages that it names (see [`PageStates`]). A window is held by its own bit in
//! a second table of the same kind, always after pages, and only by a thread that waits for nothing.

use std::ptr::NonNull;

mod guard;
mod userfault;

use crate::os::{self, Attributes, OsError};
use crate::page::{PageRange, PageSize};
use crate::page_states::PageStates;
use guard::Windows;
use userfault::UserFault;

#[derive(Debug)]
pub(crate) enum Backing {
    Protect,
    Guard(Windows),
    UserFault(UserFault),
}

/// What an operation on pages works on.
#[derive(Clone, Copy)]
pub(crate) struct Ground<'a> {
    pub(crate) start: NonNull<u8>,
    pub(crate) states: &'a PageStates,
    pub(crate) attributes: &'a Attributes,
}

impl Ground<'_> {
    fn address(&self, pages: PageRange) -> NonNull<u8> {
        // SAFETY: page ranges lie inside the reservation.
        unsafe { self.start.add(pages.offset()) }
    }

    /// # Safety
    /// The pages are held by the caller, or those that are not are committed.
    unsafe fn make_accessible(&self, pages: PageRange) -> Result<(), OsError> {
        // SAFETY: the pages lie inside the reservation; the caller's promise.
        unsafe { os::commit(self.address(pages), pages.len()) }
    }

    /// # Safety
    /// The caller holds the pages, and their contents are its to give up.
    unsafe fn map_over(&self, pages: PageRange) -> Result<(), OsError> {
        // SAFETY: the pages lie inside the reservation; the caller's promise.
        unsafe { os::decommit(self.address(pages), pages.len(), self.attributes) }
    }

    /// Installs guard markers, also where the memory is locked: giving it up ends that.
    ///
    /// # Safety
    /// The caller holds the pages, and their contents are its to give up.
    unsafe fn mark(&self, pages: PageRange) -> Result<(), OsError> {
        let (address, len) = (self.address(pages), pages.len());
        // SAFETY: the pages lie inside the reservation; the caller's promise.
        unsafe {
            os::guard_install(address, len).or_else(|error| {
                os::unlock(address, len)?;
                os::guard_install(address, len).map_err(|_| error)
            })
        }
    }

    /// Takes all access away from pages that hold nothing.
    fn forbid(&self, pages: PageRange) {
        if !pages.is_empty() {
            // SAFETY: the pages lie inside the reservation, and are reserved.
            let _ = unsafe { os::protect(self.address(pages), pages.len(), os::Access::None) };
        }
    }

    /// The same, by guard markers where they work.
    fn guard_or_forbid(&self, pages: PageRange) {
        // SAFETY: the pages lie inside the reservation, and are reserved.
        if unsafe { os::guard_install(self.address(pages), pages.len()) }.is_err() {
            self.forbid(pages);
        }
    }

    /// Whether reading the pages would not fault.
    fn is_readable(&self, pages: PageRange) -> bool {
        // SAFETY: the pages lie inside the reservation, and populating changes no contents.
        unsafe { os::populate_for_reading(self.address(pages), pages.len()).is_ok() }
    }

    /// # Safety
    /// The pages are readable, and no other thread runs.
    unsafe fn reads_zero(&self, pages: PageRange) -> bool {
        let start = self.address(pages).as_ptr();
        // SAFETY: the caller's promise; any bytes are valid.
        unsafe { std::slice::from_raw_parts(start, pages.len()) }.iter().all(|&byte| byte == 0)
    }
}

impl Backing {
    /// The user fault engine, for an untouched reservation that is not charged.
    pub(crate) fn user_fault(start: NonNull<u8>, len: usize) -> Result<Self, OsError> {
        // What a forked child needs to know must be known before.
        os::guards_work();
        // SAFETY: the reservation is new.
        unsafe { os::userfault_register(start, len)? };
        Ok(Self::UserFault(UserFault::default()))
    }

    /// Whether pages that were committed are resident already.
    pub(crate) fn commits_resident(&self) -> bool {
        matches!(self, Self::UserFault(userfault) if !userfault.is_forked())
    }

    /// The guard engine for a reservation of so many pages.
    pub(crate) fn guard(pages: usize, size: PageSize) -> Self {
        Self::Guard(Windows::new(pages, size))
    }

    /// Makes held, reserved pages accessible; they read zero. May fail with a prefix done, never with
    /// more. Async-signal-safe.
    ///
    /// # Safety
    /// The caller holds the pages, and none of them is committed.
    pub(crate) unsafe fn commit(&self, ground: Ground, run: PageRange) -> Result<(), OsError> {
        match self {
            // SAFETY: the caller's promise.
            Self::Protect => unsafe { ground.make_accessible(run) },
            // SAFETY: the caller's promise.
            Self::Guard(windows) => unsafe { windows.commit(ground, run) },
            // SAFETY: the caller's promise.
            Self::UserFault(userfault) => unsafe { userfault.commit(ground, run) },
        }
    }

    /// Makes all committed pages of a part inaccessible, and gives their memory back. Tells `done` of
    /// each range in which no page is accessible any more; where the system refuses, the rest is as it
    /// was.
    ///
    /// # Safety
    /// The caller holds the part's [unit](Self::decommit_unit), and its contents are its to give up.
    pub(crate) unsafe fn decommit(
        &self,
        ground: Ground,
        part: PageRange,
        done: &mut dyn FnMut(PageRange),
    ) -> Result<(), OsError> {
        if let Self::Guard(windows) = self {
            // SAFETY: the caller's promise.
            return unsafe { windows.decommit(ground, part, done) };
        }
        ground.states.for_each_run(part, |run, is_committed| {
            if is_committed {
                // SAFETY: the run is held and committed.
                unsafe {
                    match self {
                        Self::UserFault(userfault) => userfault.decommit(ground, run)?,
                        _ => ground.map_over(run)?,
                    }
                }
                done(run);
            }
            Ok(())
        })
    }

    /// The pages that must be held together to decommit some of a range: whole windows, so that one
    /// that becomes empty can be closed.
    pub(crate) fn decommit_unit(&self, range: PageRange) -> PageRange {
        match self {
            Self::Protect | Self::UserFault(_) => range,
            Self::Guard(windows) => windows.around(range),
        }
    }

    /// In the child of a fork, before its pages are looked at: windows that were held become open, or
    /// stay closed where that is impossible. Async-signal-safe.
    pub(crate) fn end_abandoned_windows(&self, ground: Ground, size: PageSize) {
        match self {
            Self::Protect => {}
            Self::Guard(windows) => windows.open.end_abandoned_changes(size, |window, was_open| {
                // SAFETY: nobody in this process holds the window.
                unsafe { windows.reopen(ground, windows.pages_of(window), was_open) }
            }),
            Self::UserFault(userfault) => userfault.fork(ground, size),
        }
    }

    /// In the child of a fork, after its windows: whether a page that was being committed is accessible
    /// already, and holds anything but zeros. May leave it accessible. Async-signal-safe.
    ///
    /// # Safety
    /// No thread of this process holds the page.
    pub(crate) unsafe fn holds_data(&self, ground: Ground, page: PageRange) -> bool {
        // SAFETY: the caller's promise. Where the page was inaccessible, it reads zero now; where the
        // system refuses, it was inaccessible.
        unsafe {
            match self {
                Self::Guard(windows) if windows.open.all_committed(windows.touched(page)) => {
                    ground.is_readable(page) && !ground.reads_zero(page)
                }
                _ => ground.make_accessible(page).is_ok() && !ground.reads_zero(page),
            }
        }
    }

    /// Gives pages one state, accessible or not, whatever they were: what a commit was refused, or a
    /// forked child found being changed. Accessible ones keep what they held. Async-signal-safe.
    ///
    /// # Safety
    /// No other thread of this process holds the pages; if they are to be inaccessible, nobody wants
    /// what they hold.
    pub(crate) unsafe fn settle(&self, ground: Ground, page: PageRange, accessible: bool) -> bool {
        let open = match self {
            Self::Protect => false,
            Self::Guard(windows) => windows.open.all_committed(windows.touched(page)),
            Self::UserFault(_) => os::guards_work(),
        };
        let (address, len) = (ground.address(page), page.len());
        // SAFETY: the caller's promise.
        unsafe {
            match (open, accessible) {
                (true, true) => os::guard_remove(address, len),
                (true, false) => os::guard_install(address, len),
                (false, true) => ground.make_accessible(page),
                (false, false) => ground.map_over(page),
            }
        }
        .is_ok()
    }
}
