//! How pages of a reservation become accessible and inaccessible: the engines.
//!
//! - *Protect*: every run of pages is its own piece of mapping, accessible or not. Works everywhere; but
//!   scattered pages make many mappings, of which Linux allows a process 65,530.
//! - *Guard* (Linux 6.13): as *protect* while mappings last; then guard markers, which need none.
//! - *User fault* (Linux 5.11): the whole reservation is accessible, and a page that is missing raises a
//!   signal. Committing a page is giving it one.
//!
//! Whoever calls holds the pages that it names (see [`PageStates`]), unless a function says otherwise.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

mod guard;
mod mappings;
mod userfault;

use crate::os::{self, Attributes, OsError, Residency};
use crate::page::{PageRange, PageSize};
use crate::page_states::PageStates;
use guard::Guard;
use userfault::UserFault;

#[derive(Debug)]
pub(crate) enum Backing {
    Protect,
    Guard(Guard),
    UserFault(UserFault),
}

/// What an operation on pages works on.
#[derive(Clone, Copy)]
pub(crate) struct Ground<'a> {
    pub(crate) start: NonNull<u8>,
    pub(crate) states: &'a PageStates,
    pub(crate) size: PageSize,
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

    /// Whether held, reserved pages can be read. Where there are no guard markers, they are made accessible
    /// for that.
    ///
    /// # Safety
    /// The caller holds the pages, or nobody in this process does.
    unsafe fn can_be_read(&self, pages: PageRange) -> bool {
        // SAFETY: the pages lie inside the reservation, and neither call changes contents.
        unsafe {
            if os::guards_work() {
                os::populate_for_reading(self.address(pages), pages.len()).is_ok()
            } else {
                self.make_accessible(pages).is_ok()
            }
        }
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
        // Caches the answer now: a forked child must not probe.
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
        Self::Guard(Guard::new(pages, size))
    }

    /// Makes held, reserved pages accessible; they read zero. Where it fails, a part of the pages before
    /// some page may be accessible, and none behind. Async-signal-safe.
    ///
    /// # Safety
    /// The caller holds the pages, and none of them is committed.
    pub(crate) unsafe fn commit(&self, ground: Ground, run: PageRange) -> Result<(), OsError> {
        debug_assert_eq!(ground.states.count_committed(run), 0, "committing what is committed");
        match self {
            // SAFETY: the caller's promise.
            Self::Protect => unsafe { ground.make_accessible(run) },
            // SAFETY: the caller's promise.
            Self::Guard(guard) => unsafe { guard.commit(ground, run) },
            // SAFETY: the caller's promise.
            Self::UserFault(userfault) => unsafe { userfault.commit(ground, run) },
        }
    }

    /// To be called after a commit, when the caller holds no page any more: time to prepare the next
    /// ones. Async-signal-safe.
    pub(crate) fn committed(&self, ground: Ground, run: PageRange) {
        if let Self::Guard(guard) = self {
            guard.committed(ground, run);
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
        if let Self::Guard(guard) = self {
            // SAFETY: the caller's promise.
            return unsafe { guard.decommit(ground, part, done) };
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

    /// Makes a held, committed run read zero.
    ///
    /// # Safety
    /// The run is held and committed; its contents are the caller's to give up.
    pub(crate) unsafe fn zero(
        &self,
        start: NonNull<u8>,
        len: usize,
        was_protected: &AtomicBool,
    ) -> Result<(), OsError> {
        // SAFETY: the caller's promise; pages are writable unless `protect` was used.
        unsafe {
            if !self.commits_resident() {
                return os::zero(start, len);
            }
            // A page whose memory goes back would be missing, although it is committed.
            if was_protected.load(Ordering::Relaxed) {
                os::protect(start, len, os::Access::ReadWrite)?;
            }
            start.as_ptr().write_bytes(0, len);
        }
        Ok(())
    }

    /// The pages that must be held together to decommit some of a range.
    pub(crate) fn decommit_unit(&self, range: PageRange) -> PageRange {
        match self {
            Self::Protect | Self::UserFault(_) => range,
            Self::Guard(guard) => guard.unit(range),
        }
    }

    /// In the child of a fork, before its pages are looked at. Async-signal-safe.
    pub(crate) fn fork(&self, ground: Ground) {
        match self {
            Self::Protect => {}
            Self::Guard(guard) => guard.end_abandoned_joining(),
            Self::UserFault(userfault) => userfault.fork(ground),
        }
    }

    /// In the child of a fork: calls `each` for the pages of a run, held and reserved, that are accessible
    /// and hold anything but zeros. Async-signal-safe.
    ///
    /// # Safety
    /// No thread of this process holds the pages.
    pub(crate) unsafe fn for_each_page_with_data(
        &self,
        ground: Ground,
        run: PageRange,
        each: &mut dyn FnMut(PageRange),
    ) {
        let mut look_at = |first: usize, end: usize| {
            for page in (first..end).map(|page| run.with(page, page + 1)) {
                // SAFETY: nobody holds the page, and it is read only where that is possible.
                if unsafe { ground.can_be_read(page) && !ground.reads_zero(page) } {
                    each(page);
                }
            }
        };
        // Only a page that is there can hold anything: most of a long run is not.
        let mut seen = |offset: usize, len: usize, _: Residency| {
            let (first, end) = (ground.size.page_of(offset), ground.size.page_of(offset + len));
            look_at(run.first() + first, run.first() + end.min(run.count()));
        };
        if os::residency(ground.address(run), run.len(), &mut seen).is_err() {
            look_at(run.first(), run.end());
        }
    }

    /// Gives pages one state, accessible or not, whatever they were: what a commit was refused, or a
    /// forked child found being changed. Accessible ones keep what they held. Async-signal-safe.
    ///
    /// # Safety
    /// No other thread of this process holds the pages; if they are to be inaccessible, nobody wants
    /// what they hold.
    pub(crate) unsafe fn settle(&self, ground: Ground, run: PageRange, accessible: bool) -> bool {
        // SAFETY: the caller's promise.
        unsafe {
            match (self, accessible) {
                (Self::Guard(guard), _) => guard.settle(ground, run, accessible),
                (Self::Protect, true) => ground.make_accessible(run),
                (Self::Protect, false) => ground.map_over(run),
                (Self::UserFault(userfault), true) => userfault.commit(ground, run),
                (Self::UserFault(userfault), false) => userfault.make_inaccessible(ground, run),
            }
        }
        .is_ok()
    }
}

/// In the child of a fork, before any reservation is looked at. Async-signal-safe.
pub(crate) fn end_abandoned_changes() {
    mappings::end_abandoned_count();
}
