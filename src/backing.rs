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

use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::os::{self, Attributes, OsError};
use crate::page::{PageRange, PageSize};
use crate::page_states::PageStates;

#[derive(Debug)]
pub(crate) enum Backing {
    Protect,
    Guard(Windows),
    UserFault(UserFault),
}

/// Invariant: unless this process was forked from the one that made it, the reservation is accessible
/// and registered, and its reserved pages that nobody holds are missing.
#[derive(Debug, Default)]
pub(crate) struct UserFault {
    forked: AtomicBool,
}

/// Invariants: an open window (its bit in `open` is set) is accessible as a whole but for guard markers
/// in all pages that are reserved and not held. A window that is not open is inaccessible but for pages
/// that are committed or held.
#[derive(Debug)]
pub(crate) struct Windows {
    open: PageStates,
    pages_per_window: NonZeroUsize,
    /// Pages of the reservation.
    pages: usize,
    /// Set once markers could not be installed, and never cleared. From then on no closed window is
    /// opened: another thread may be committing a page there without them, and installing markers
    /// would drop it. Read and written by the holder of a window, so that the next holder sees it.
    no_markers: AtomicBool,
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

impl Windows {
    /// So many windows at most: twice as many mappings is what a scattered pattern can make.
    const MOST: usize = 16 << 10;
    /// One page of page tables: nothing is gained by smaller windows.
    const SMALLEST: usize = 2 << 20;
    /// Opening takes about 20 ns a page: more would be felt.
    const LARGEST: usize = 64 << 20;

    fn new(pages: usize, size: PageSize) -> Self {
        let bytes = (pages / Self::MOST * size.bytes()).next_power_of_two();
        let pages_per_window = size.page_of(bytes.clamp(Self::SMALLEST, Self::LARGEST));
        let pages_per_window = NonZeroUsize::new(pages_per_window).unwrap_or(NonZeroUsize::MIN);
        Self {
            open: PageStates::new(pages.div_ceil(pages_per_window.get())),
            pages_per_window,
            pages,
            no_markers: AtomicBool::new(false),
        }
    }

    #[cfg(all(test, not(loom), not(any(miri, pagewise_model))))]
    pub(crate) fn lock_all_for_tests(&self) {
        let size = PageSize::system();
        let all = self.touched(size.pages(0, self.pages));
        self.open.lock(all).expect("a small table");
    }

    fn index(&self, page: usize) -> usize {
        page / self.pages_per_window
    }

    /// The windows that a range of pages touches, as a range in `open`.
    fn touched(&self, pages: PageRange) -> PageRange {
        // The last page's window, plus one. (The range is not empty.)
        pages.with(self.index(pages.first()), self.index(pages.end().wrapping_sub(1)) + 1)
    }

    fn pages_of(&self, windows: PageRange) -> PageRange {
        let end = (windows.end() * self.pages_per_window.get()).min(self.pages);
        windows.with(windows.first() * self.pages_per_window.get(), end)
    }

    fn around(&self, pages: PageRange) -> PageRange {
        self.pages_of(self.touched(pages))
    }

    /// Splits pages into parts that are a run of whole windows, or lie inside of one window.
    fn parts(&self, run: PageRange) -> impl Iterator<Item = PageRange> + '_ {
        let mut rest = run;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let one = self.around(rest.with(rest.first(), rest.first() + 1));
            let whole_end = if rest.end() == self.pages {
                rest.end()
            } else {
                rest.end() / self.pages_per_window * self.pages_per_window.get()
            };
            let end = if one.first() == rest.first() && whole_end >= one.end() {
                whole_end
            } else {
                rest.end().min(one.end())
            };
            let part = rest.with(rest.first(), end);
            rest = rest.with(end, rest.end());
            Some(part)
        })
    }

    /// In the child of a fork: makes a held window open, with markers in all pages that are reserved.
    /// It may have been anything: closed, being opened or closed, or open and held by somebody who came
    /// to open it and found that done. Returns whether it is open.
    ///
    /// # Safety
    /// No thread of this process holds the window.
    unsafe fn reopen(&self, ground: Ground, all: PageRange, was_open: bool) -> bool {
        // SAFETY: markers go where nothing is lost: pages that nobody has committed, or that were being
        // committed and hold nothing.
        unsafe {
            for index in all.first()..all.end() {
                let page = all.with(index, index + 1);
                let keeps = ground.states.is_committed(index)
                    || ground.states.is_held(index)
                        && ground.is_readable(page)
                        && !ground.reads_zero(page);
                if !keeps && os::guard_install(ground.address(page), page.len()).is_err() {
                    // Memory that is locked: then the window cannot have been open.
                    return was_open;
                }
            }
            if ground.make_accessible(all).is_ok() {
                return true;
            }
            // It was not accessible as a whole, so it was closed; such a window has no markers.
            let _ = os::guard_remove(ground.address(all), all.len());
            false
        }
    }

    unsafe fn commit(&self, ground: Ground, run: PageRange) -> Result<(), OsError> {
        for part in self.parts(run) {
            // SAFETY: the caller's promise.
            unsafe { self.commit_part(ground, part)? };
        }
        Ok(())
    }

    /// # Safety
    /// As [`Backing::commit`]; the part is as [`parts`](Self::parts) makes them.
    unsafe fn commit_part(&self, ground: Ground, part: PageRange) -> Result<(), OsError> {
        let windows = self.touched(part);
        if self.open.all_committed(windows) {
            // While this thread holds pages of an open window, nobody closes it.
            // SAFETY: the caller's promise; removing markers from held, reserved pages.
            return unsafe { os::guard_remove(ground.address(part), part.len()) };
        }
        self.open.lock(windows)?;
        // SAFETY: the caller's promise, and the windows are held.
        match unsafe { self.commit_in_held(ground, part, windows) } {
            Ok(true) => self.open.unlock_committed(windows),
            Ok(false) => self.open.unlock(windows),
            Err(error) => {
                self.open.unlock(windows);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Returns whether the windows are open from now on.
    ///
    /// # Safety
    /// As `commit_part`; the caller holds the windows, too.
    unsafe fn commit_in_held(
        &self,
        ground: Ground,
        part: PageRange,
        windows: PageRange,
    ) -> Result<bool, OsError> {
        let all = self.pages_of(windows);
        if part == all {
            // Whole windows, open or not, need no markers: there is nothing left to guard.
            // SAFETY: all of their pages are held and reserved.
            return unsafe {
                if self.open.count_committed(windows) > 0 {
                    os::guard_remove(ground.address(all), all.len())?;
                }
                ground.make_accessible(all)
            }
            .map(|()| true);
        }
        // SAFETY: the part is held and reserved. Markers may be installed (which drops contents) only
        // where nothing is committed: pages of a closed window become committed under its bit alone.
        unsafe {
            let open = self.open.is_committed(windows.first());
            let openable =
                open || ground.states.count_committed(all) == 0 && self.open_window(ground, all)?;
            if openable {
                os::guard_remove(ground.address(part), part.len())?;
            } else {
                ground.make_accessible(part)?;
            }
            Ok(openable)
        }
    }

    /// Whether it could be done: where markers are impossible (locked memory), pages are protected
    /// one run at a time.
    ///
    /// # Safety
    /// The caller holds the window, and nothing in it is committed.
    unsafe fn open_window(&self, ground: Ground, all: PageRange) -> Result<bool, OsError> {
        // SAFETY: nothing in the window is worth keeping; with markers in all of its pages, it stays
        // inaccessible when the access rights change.
        unsafe {
            if self.no_markers.load(Ordering::Relaxed)
                || os::guard_install(ground.address(all), all.len()).is_err()
            {
                self.no_markers.store(true, Ordering::Relaxed);
                return Ok(false);
            }
            if let Err(error) = ground.make_accessible(all) {
                // A closed window has no markers.
                let _ = os::guard_remove(ground.address(all), all.len());
                return Err(error);
            }
        }
        Ok(true)
    }

    /// # Safety
    /// As [`Backing::decommit`].
    unsafe fn decommit(
        &self,
        ground: Ground,
        part: PageRange,
        done: &mut dyn FnMut(PageRange),
    ) -> Result<(), OsError> {
        for piece in self.parts(part) {
            let windows = self.touched(piece);
            let all = self.pages_of(windows);
            let committed = ground.states.count_committed(piece);
            if committed == 0 {
                continue;
            }
            if committed == ground.states.count_committed(all) {
                // SAFETY: all pages of the windows are held, and nothing else in them is committed.
                unsafe { self.close(ground, windows)? };
                done(piece);
                continue;
            }
            let open = self.open.is_committed(windows.first());
            ground.states.for_each_run(piece, |run, is_committed| {
                if is_committed {
                    // SAFETY: the run is held and committed.
                    unsafe { if open { ground.mark(run)? } else { ground.map_over(run)? } }
                    done(run);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Maps over windows, which gives their charge back.
    ///
    /// # Safety
    /// The caller holds all of their pages, and their contents are its to give up.
    unsafe fn close(&self, ground: Ground, windows: PageRange) -> Result<(), OsError> {
        self.open.lock(windows)?;
        // SAFETY: the caller's promise.
        let closed = unsafe { ground.map_over(self.pages_of(windows)) };
        match closed {
            Ok(()) => self.open.unlock_reserved(windows),
            Err(_) => self.open.unlock(windows),
        }
        closed
    }
}

impl UserFault {
    fn is_forked(&self) -> bool {
        self.forked.load(Ordering::Relaxed)
    }

    #[inline(never)] // what it takes of the handler's stack is not for the other engines to pay
    unsafe fn commit(&self, ground: Ground, run: PageRange) -> Result<(), OsError> {
        // SAFETY: the run is held and reserved.
        unsafe {
            if !self.is_forked() {
                return os::userfault_commit(ground.address(run), run.len());
            }
            // Accessible and marked, or protected: whichever it was.
            if os::guards_work() {
                os::guard_remove(ground.address(run), run.len())?;
            }
            ground.make_accessible(run)
        }
    }

    unsafe fn decommit(&self, ground: Ground, run: PageRange) -> Result<(), OsError> {
        // SAFETY: the run is held, and its contents are the caller's to give up.
        unsafe {
            if !self.is_forked() {
                os::zero(ground.address(run), run.len())
            } else if os::guards_work() {
                os::guard_install(ground.address(run), run.len())
            } else {
                ground.map_over(run)
            }
        }
    }

    /// In the child of a fork: pages that are missing would come as zeros, past every limit, so they get
    /// markers, or lose access where there are no markers, or where nothing was ever committed.
    fn fork(&self, ground: Ground, size: PageSize) {
        if self.forked.swap(true, Ordering::Relaxed) {
            return;
        }
        os::userfault_forget();
        let mut reached = 0;
        let all = size.pages(0, ground.states.pages());
        for part in ground.states.written_parts(all) {
            ground.forbid(all.with(reached, part.first()));
            reached = part.end();
            let _ = ground.states.for_each_run(part, |run, is_committed| {
                // What was held by another thread is looked at afterwards, page by page.
                if !is_committed {
                    ground.states.for_each_free_run(run, |free| ground.guard_or_forbid(free));
                }
                Ok(())
            });
        }
        ground.forbid(all.with(reached, all.end()));
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn windows_are_few_and_neither_small_nor_large() {
        let size = PageSize::of(4096);
        for (bytes, window) in [
            (1usize << 20, 2usize << 20),
            (64 << 30, 4 << 20),
            (1 << 40, 64 << 20),
            (64 << 40, 64 << 20),
        ] {
            let windows = Windows::new(bytes / 4096, size);
            assert_eq!(windows.pages_per_window.get() * 4096, window, "{bytes:#x}");
        }
    }

    #[test]
    fn parts_are_whole_windows_or_inside_one() {
        let size = PageSize::of(4096);
        let windows = Windows::new(512 * 4 + 100, size);
        let parts = |first, end| -> Vec<_> {
            windows.parts(size.pages(first, end)).map(|p| (p.first(), p.end())).collect()
        };
        assert_eq!(parts(5, 9), [(5, 9)]);
        assert_eq!(parts(0, 512), [(0, 512)]);
        assert_eq!(parts(500, 1600), [(500, 512), (512, 1536), (1536, 1600)]);
        assert_eq!(parts(1024, 2148), [(1024, 2148)]);
        assert_eq!(parts(2048, 2100), [(2048, 2100)]);
        assert_eq!(parts(511, 513), [(511, 512), (512, 513)]);
    }
}
