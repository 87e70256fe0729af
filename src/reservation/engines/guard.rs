//! Pages become accessible by removing their guard markers, window by window (Linux 6.13).

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Ground;
use crate::os::{self, OsError};
use crate::page::{PageRange, PageSize};
use crate::page_states::PageStates;

/// Invariants: an open window (its bit in `open` is set) is accessible as a whole but for guard markers
/// in all pages that are reserved and not held. A window that is not open is inaccessible but for pages
/// that are committed or held.
#[derive(Debug)]
pub(crate) struct Windows {
    pub(super) open: PageStates,
    pages_per_window: NonZeroUsize,
    /// Pages of the reservation.
    pages: usize,
    /// Set once markers could not be installed, and never cleared. From then on no closed window is
    /// opened: another thread may be committing a page there without them, and installing markers
    /// would drop it. Read and written by the holder of a window, so that the next holder sees it.
    no_markers: AtomicBool,
}

impl Windows {
    /// So many windows at most: twice as many mappings is what a scattered pattern can make.
    const MOST: usize = 16 << 10;
    /// One page of page tables: nothing is gained by smaller windows.
    const SMALLEST: usize = 2 << 20;
    /// Opening takes about 20 ns a page: more would be felt.
    const LARGEST: usize = 64 << 20;

    pub(super) fn new(pages: usize, size: PageSize) -> Self {
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
    pub(super) fn touched(&self, pages: PageRange) -> PageRange {
        // The last page's window, plus one. (The range is not empty.)
        pages.with(self.index(pages.first()), self.index(pages.end().wrapping_sub(1)) + 1)
    }

    pub(super) fn pages_of(&self, windows: PageRange) -> PageRange {
        let end = (windows.end() * self.pages_per_window.get()).min(self.pages);
        windows.with(windows.first() * self.pages_per_window.get(), end)
    }

    pub(super) fn around(&self, pages: PageRange) -> PageRange {
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
    pub(super) unsafe fn reopen(&self, ground: Ground, all: PageRange, was_open: bool) -> bool {
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

    pub(super) unsafe fn commit(&self, ground: Ground, run: PageRange) -> Result<(), OsError> {
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
    pub(super) unsafe fn decommit(
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
