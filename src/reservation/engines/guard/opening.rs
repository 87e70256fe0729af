//! Opening blocks: from then on, guard markers and not access rights make their reserved pages inaccessible.

use super::super::Ground;
use super::Guard;
use crate::os;
use crate::page::PageRange;

impl Guard {
    /// Opens blocks: installs markers in all reserved pages, then makes those accessible. Returns `false` where
    /// another thread holds a page of the blocks, or the system refuses. Leaves the access rights of committed
    /// pages alone, since the program may have changed them (a garbage collector's write barrier).
    /// Async-signal-safe; never waits.
    #[cold]
    #[inline(never)]
    pub(super) fn open(&self, ground: Ground, first: usize, end: usize) -> bool {
        let pages = self.pages_of(ground, first, end);
        if self.joining.is_paused() || !ground.states.try_lock(pages) {
            return false;
        }
        // Another thread may have opened some since the caller looked.
        if (first..end).any(|block| self.blocks.is_open(block)) {
            ground.states.unlock(pages);
            return self.blocks.kind((first, end)).all_open;
        }
        let opened = !os::data_is_limited() && {
            let was_marked = self.blocks.kind((first, end)).any_marked;
            self.blocks.set_marked((first, end));
            // SAFETY: all of the pages are held by this thread.
            unsafe { self.open_held(ground, pages, was_marked) }
        };
        if opened {
            self.blocks.set_open((first, end));
        } else {
            self.joining.pause();
        }
        ground.states.unlock(pages);
        opened
    }

    /// Opens blocks whose pages are held: see [`open`](Self::open). `was_marked` says whether some of the blocks may
    /// have had markers before.
    ///
    /// # Safety
    /// The caller holds the pages: whole blocks, none of them open, whose marked bits are set.
    unsafe fn open_held(&self, ground: Ground, pages: PageRange, was_marked: bool) -> bool {
        let change = self.change_by_opening(ground, pages);
        // The run that was changed last, and whether it has its markers.
        let mut last = (pages.first(), false);
        let result = ground.states.for_each_run(pages, |run, is_committed| {
            if is_committed {
                return Ok(());
            }
            // Not `ground.mark`, which unlocks locked memory: then the block stays closed instead.
            // SAFETY: the run is held; reserved pages hold nothing.
            unsafe {
                last = (run.first(), false);
                os::guard_install(ground.address(run), run.len())?;
                last = (run.first(), true);
                os::commit(ground.address(run), run.len())
            }
        });
        if result.is_ok() {
            self.mappings.changed(change);
            return true;
        }
        // The reserved pages that were changed become inaccessible by their access rights again. The run in which
        // markers were refused may have some before a part that is locked; mapping over it would end the lock.
        let (failed, has_markers) = last;
        let undone = ground.states.for_each_run(pages, |run, is_committed| {
            if is_committed || run.first() > failed {
                return Ok(());
            }
            // SAFETY: as above.
            unsafe {
                if run.first() < failed || has_markers {
                    ground.map_over(run)
                } else if was_marked {
                    // Markers from before may be all that makes these pages inaccessible, so all markers stay.
                    Ok(())
                } else {
                    os::guard_remove(ground.address(run), run.len())
                }
            }
        });
        // Blocks that had markers before may have some behind the refused run, too: their bits stay.
        if undone.is_ok() && !was_marked {
            self.blocks.clear(self.blocks_of(pages));
        }
        false
    }
}
