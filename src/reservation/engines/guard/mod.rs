//! The guard engine (Linux 6.13): single pages by access rights while mappings last, then guard markers.
//!
//! A reservation starts inaccessible. A page that is committed alone becomes a mapping of its own, as in
//! the protect engine: that needs no page table which the touch itself does not need. Linux allows a
//! process a limited number of mappings, so the engine also has *blocks*: the 2 MiB (where pages are
//! 4 KiB) whose page table entries fill one page of page tables. An *open* block is accessible as a
//! whole, with a guard marker in every page that is reserved. Committing a page there removes its
//! marker; markers live in page tables, not in mappings.
//!
//! A block is opened in two cases. It is dense: many single pages of it are committed, and removing
//! markers is cheaper from then on than changing access rights. Or mappings run short: then committed
//! pages that lie closest together are joined first, by opening their blocks and those between them,
//! because each block between costs a page of page tables that nothing else needs.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};

mod blocks;
mod changes;
mod joining;
mod opening;

use super::{Ground, Mechanism, mappings};
use crate::error::Error;
use crate::os::{self, HugePages, OsError};
use crate::page::{PageRange, PageSize};
use blocks::Blocks;
use joining::{Joining, Urgency};

/// Invariants, for pages that no thread holds:
/// - A committed page is readable and writable, unless `protect` set other rights, and has no marker.
/// - A reserved page is inaccessible: by its access rights, or by a marker in accessible memory.
/// - Markers are only in blocks whose *marked* bit is set.
/// - In a block whose *open* bit is set, every reserved page has a marker and lies in accessible memory.
/// - The *used* bit of a block that has a committed page is set.
///
/// Only a thread that holds all pages of a block opens it, or clears both of its bits. A thread that holds one
/// page may clear *open* alone: commits then set access rights again, which is always correct. It may set *used*,
/// too: a search then looks there.
#[derive(Debug)]
pub(crate) struct Guard {
    blocks: Blocks,
    pages_per_block: NonZeroUsize,
    /// Pages of the reservation.
    pages: usize,
    primed: AtomicBool,
    joining: Joining,
    mappings: mappings::Share,
}

/// Reservations from this many blocks on are primed (see `prime`): shorter ones cannot use up the mappings.
const PRIMED_FROM_BLOCKS: usize = 8;

impl Mechanism for Guard {
    fn check(_huge_pages: HugePages) -> Result<(), Error> {
        if os::guards_work() {
            return Ok(());
        }
        Err(Error::Unsupported {
            what: "the guard engine: it needs Linux 6.13; `Engine::Auto` takes what there is",
        })
    }

    /// Not where huge pages are asked for everywhere, nor where `vm.overcommit_memory` is 2: charging whole blocks would
    /// refuse commits that fit.
    fn is_preferred(huge_pages: HugePages) -> bool {
        let small_pages =
            matches!(huge_pages, HugePages::System | HugePages::Never | HugePages::Adaptive);
        small_pages && os::guards_work() && !os::commits_strictly()
    }

    fn new(ground: Ground) -> Result<Self, Error> {
        Ok(Self::for_pages(ground.states.pages(), ground.size))
    }

    #[inline]
    unsafe fn commit(&self, ground: Ground, run: PageRange) -> Result<(), OsError> {
        let blocks = self.blocks_of(run);
        let kind = self.blocks.kind(blocks);
        self.blocks.set_used(blocks);
        // SAFETY: the run is held and reserved.
        unsafe {
            if kind.all_open {
                return os::guard_remove(ground.address(run), run.len());
            }
            self.prime(ground, run);
            let change = self.change_by(ground, run);
            // Access rights before markers: where `mprotect` fails half-way, the pages behind still have theirs.
            if let Err(error) = os::commit(ground.address(run), run.len()) {
                self.commit_again(ground, run, error)?;
            }
            self.mappings.changed(change);
            if kind.any_marked
                && let Err(error) = os::guard_remove(ground.address(run), run.len())
            {
                if self.settle(ground, run, false).is_ok() {
                    self.mappings.changed(-change);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    #[inline]
    fn after_commit(&self, ground: Ground, run: PageRange) {
        if run.count() == 1 {
            let block = run.first() / self.pages_per_block;
            if !self.blocks.is_open(block) && self.is_dense(ground, block) {
                self.open(ground, block, block + 1);
            }
        }
        if mappings::are_short() {
            self.join_some(ground, Urgency::Short);
        }
    }

    fn decommit_unit(&self, range: PageRange) -> PageRange {
        let (first, end) = self.blocks_of(range);
        range.with(
            first * self.pages_per_block.get(),
            (end * self.pages_per_block.get()).min(self.pages),
        )
    }

    unsafe fn decommit(
        &self,
        ground: Ground,
        part: PageRange,
        done: &mut dyn FnMut(PageRange),
    ) -> Result<(), OsError> {
        let whole = self.whole_blocks(part);
        // The last one first: see `Mechanism::decommit`.
        for piece in
            [part.with(whole.end(), part.end()), whole, part.with(part.first(), whole.first())]
        {
            if piece.is_empty() || ground.states.count_committed(piece) == 0 {
                continue;
            }
            let around = self.decommit_unit(piece);
            if ground.states.count_committed(piece) == ground.states.count_committed(around) {
                let change = self.change_by_closing(ground, around);
                // SAFETY: all pages of these blocks are held, and no other page of them is committed.
                unsafe { ground.map_over(around)? };
                self.mappings.changed(change);
                self.blocks.clear(self.blocks_of(around));
                self.blocks.set_unused(self.blocks_of(around));
                done(piece);
                continue;
            }
            let marked = self.blocks.kind(self.blocks_of(piece)).any_marked;
            ground.for_each_committed_run(piece, |run| {
                let change = self.change_by_closing(ground, run);
                // SAFETY: the run is held and committed.
                unsafe { self.decommit_run(ground, run, marked)? };
                // In a block that is still open, markers took the access away, and no mapping changed.
                if !self.blocks.kind(self.blocks_of(run)).all_open {
                    self.mappings.changed(change);
                }
                done(run);
                Ok(())
            })?;
        }
        Ok(())
    }

    unsafe fn settle(
        &self,
        ground: Ground,
        run: PageRange,
        accessible: bool,
    ) -> Result<(), OsError> {
        if accessible {
            // SAFETY: the caller's promise.
            unsafe { os::commit(ground.address(run), run.len())? };
            if self.blocks.kind(self.blocks_of(run)).any_marked {
                // SAFETY: the caller's promise.
                unsafe { os::guard_remove(ground.address(run), run.len())? };
            }
            return Ok(());
        }
        let mut rest = run;
        while !rest.is_empty() {
            // Neighbouring blocks with the same *marked* bit, in one call.
            let (first, end) = self.blocks_of(rest);
            let marked = self.blocks.is_marked(first);
            let alike = (first..end).take_while(|&block| self.blocks.is_marked(block) == marked);
            let pages_end = (first + alike.count()) * self.pages_per_block.get();
            let part = rest.with(rest.first(), pages_end.min(rest.end()));
            // SAFETY: the caller's promise.
            unsafe { self.make_inaccessible(ground, part, marked)? };
            rest = rest.with(part.end(), rest.end());
        }
        Ok(())
    }

    fn fork(&self, _ground: Ground) {
        self.joining.end_abandoned();
    }
}

impl Guard {
    fn for_pages(pages: usize, size: PageSize) -> Self {
        // A page of page tables holds entries of eight bytes.
        let pages_per_block = NonZeroUsize::new(size.bytes() / 8).unwrap_or(NonZeroUsize::MIN);
        Self {
            blocks: Blocks::new(pages.div_ceil(pages_per_block.get())),
            pages_per_block,
            pages,
            primed: AtomicBool::new(false),
            joining: Joining::new(),
            mappings: mappings::Share::default(),
        }
    }

    /// After a refusal. Perhaps the process has too many mappings: joins pages to free some, and tries again, several times,
    /// since other threads may take what was freed.
    ///
    /// # Safety
    /// As [`commit`](Self::commit).
    #[cold]
    #[inline(never)]
    unsafe fn commit_again(
        &self,
        ground: Ground,
        run: PageRange,
        error: OsError,
    ) -> Result<(), OsError> {
        const ATTEMPTS: u32 = 8;
        for _ in 0..ATTEMPTS {
            self.join_some(ground, Urgency::Refused);
            // SAFETY: the caller's promise.
            if unsafe { os::commit(ground.address(run), run.len()) }.is_ok() {
                return Ok(());
            }
            if !mappings::are_short() {
                break; // it is something else
            }
        }
        Err(error)
    }

    /// Whether a block is dense enough to be opened: 1/64 of its pages are committed (eight of 512), since
    /// opening costs about as much as eight changes of access rights.
    fn is_dense(&self, ground: Ground, block: usize) -> bool {
        let pages = self.pages_of(ground, block, block + 1);
        ground.states.count_committed(pages) >= (self.pages_per_block.get() / 64).max(2)
    }

    /// Makes the kernel give the whole mapping one `anon_vma` (its list of reverse mappings), before commits
    /// split it. Linux merges neighbouring mappings only if they share an `anon_vma`, and otherwise each piece
    /// gets its own at its first touch: joining pages would free half as many mappings.
    ///
    /// # Safety
    /// As [`commit`](Self::commit).
    #[inline]
    unsafe fn prime(&self, ground: Ground, run: PageRange) {
        if !self.primed.load(Ordering::Relaxed) {
            // SAFETY: the caller's promise.
            unsafe { self.prime_now(ground, run) };
        }
    }

    #[cold]
    #[inline(never)]
    unsafe fn prime_now(&self, ground: Ground, run: PageRange) {
        if self.primed.swap(true, Ordering::Relaxed)
            || self.pages / self.pages_per_block < PRIMED_FROM_BLOCKS
        {
            return;
        }
        // SAFETY: the page is held and reserved: it holds no data.
        unsafe { os::write_inaccessible_zero(ground.address(run)) };
    }

    /// The whole blocks inside a range, as pages. (The last block of the reservation may be shorter.)
    fn whole_blocks(&self, range: PageRange) -> PageRange {
        let per_block = self.pages_per_block.get();
        let first = range.first().next_multiple_of(per_block).min(range.end());
        let end = if range.end() == self.pages {
            range.end()
        } else {
            range.end() / self.pages_per_block * per_block
        };
        range.with(first, end.max(first))
    }

    /// Takes access away from committed pages of one block. Where that is refused, they keep it: markers
    /// that were installed before the refusal are removed.
    ///
    /// # Safety
    /// As [`make_inaccessible`](Self::make_inaccessible).
    unsafe fn decommit_run(
        &self,
        ground: Ground,
        run: PageRange,
        marked: bool,
    ) -> Result<(), OsError> {
        // SAFETY: the caller's promise.
        unsafe {
            self.make_inaccessible(ground, run, marked).inspect_err(|_| {
                if marked {
                    let _ = os::guard_remove(ground.address(run), run.len());
                }
            })
        }
    }

    /// Takes access away from pages of blocks whose *marked* bits are all `marked`: by markers if it is set, else by
    /// mapping over them.
    ///
    /// # Safety
    /// The caller holds the pages, and their contents are its to give up.
    unsafe fn make_inaccessible(
        &self,
        ground: Ground,
        run: PageRange,
        marked: bool,
    ) -> Result<(), OsError> {
        // SAFETY: the caller's promise.
        unsafe {
            // Also resets access rights that `protect` changed: in an open block, the next commit only removes
            // the marker.
            if marked
                && ground.mark(run).is_ok()
                && os::commit(ground.address(run), run.len()).is_ok()
            {
                return Ok(());
            }
            ground.map_over(run)?;
        }
        if marked {
            self.blocks.set_not_open(self.blocks_of(run));
        }
        Ok(())
    }

    /// The blocks that a range of pages touches. (The range is not empty.)
    fn blocks_of(&self, pages: PageRange) -> (usize, usize) {
        let last = pages.end().wrapping_sub(1);
        (pages.first() / self.pages_per_block, last / self.pages_per_block + 1)
    }

    fn pages_of(&self, ground: Ground, first: usize, end: usize) -> PageRange {
        let per_block = self.pages_per_block.get();
        ground.size.pages(first * per_block, (end * per_block).min(self.pages))
    }
}

#[cfg(all(test, not(loom), not(any(miri, pagewise_model))))]
mod tests;
