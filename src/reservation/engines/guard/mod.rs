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
mod joining;

use super::{Ground, Mechanism, mappings};
use crate::error::Error;
use crate::os::{self, HugePages, OsError};
use crate::page::{PageRange, PageSize};
use blocks::Blocks;
use joining::{Joining, Urgency};

/// Invariants, for pages that nobody holds:
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
            if let Err(error) = ground.make_accessible(run) {
                // Perhaps the process has too many mappings: join pages to free some, and try once more.
                self.join_some(ground, Urgency::Refused);
                ground.make_accessible(run).map_err(|_| error)?;
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
                // (In a block that is still open, markers did it.)
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
            unsafe { ground.make_accessible(run)? };
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

    /// Takes access away from pages of blocks that are alike: by markers if `marked`, else by mapping over them.
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
            if marked && ground.mark(run).is_ok() && ground.make_accessible(run).is_ok() {
                return Ok(());
            }
            ground.map_over(run)?;
        }
        if marked {
            self.blocks.set_not_open(self.blocks_of(run));
        }
        Ok(())
    }

    /// Opens blocks: installs markers in all reserved pages, then makes those accessible. Returns `false` where
    /// another thread holds a page of the blocks, or the system refuses. Leaves the access rights of committed
    /// pages alone, since the program may have changed them (a garbage collector's write barrier).
    /// Async-signal-safe; never waits.
    #[cold]
    #[inline(never)]
    fn open(&self, ground: Ground, first: usize, end: usize) -> bool {
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

    /// `was_marked` says whether some of the blocks may have had markers before.
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
                ground.make_accessible(run)
            }
        });
        if result.is_ok() {
            self.mappings.changed(change);
            return true;
        }
        // Back to access rights, for the reserved pages that were changed. A run in which markers were
        // refused may have some in front of the part that is locked; mapping over it would end the lock.
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
                    // Markers of before may be all that makes these pages inaccessible. All of them stay.
                    Ok(())
                } else {
                    os::guard_remove(ground.address(run), run.len())
                }
            }
        });
        // (What had markers before may have some behind the run that was refused, too.)
        if undone.is_ok() && !was_marked {
            self.blocks.clear(self.blocks_of(pages));
        }
        false
    }

    /// By how much the number of mappings changes when a held, reserved run becomes accessible: a mapping ends
    /// wherever neighbouring pages have different access rights.
    fn change_by(&self, ground: Ground, run: PageRange) -> isize {
        let side = |page| if self.is_accessible(ground, page) { -1 } else { 1 };
        side(run.first().wrapping_sub(1)) + side(run.end())
    }

    /// By how much the number of mappings changes when held blocks that are not open are opened.
    fn change_by_opening(&self, ground: Ground, pages: PageRange) -> isize {
        let mut change = 0;
        let mut before = self.is_accessible(ground, pages.first().wrapping_sub(1));
        change += isize::from(!before);
        let _ = ground.states.for_each_run(pages, |_, is_committed| {
            change -= isize::from(is_committed != before);
            before = is_committed;
            Ok(())
        });
        let behind = self.is_accessible(ground, pages.end());
        change - isize::from(behind != before) + isize::from(!behind)
    }

    /// The same for held pages that become inaccessible, by their access rights: whole blocks, or pages of one.
    fn change_by_closing(&self, ground: Ground, pages: PageRange) -> isize {
        let before = self.is_accessible(ground, pages.first().wrapping_sub(1));
        let behind = self.is_accessible(ground, pages.end());
        let (mut edges, mut last) = (0, before);
        let mut see = |is_accessible| {
            edges += isize::from(is_accessible != last);
            last = is_accessible;
        };
        let (first, end) = self.blocks_of(pages);
        for block in first..end {
            if self.blocks.is_open(block) {
                see(true);
                continue;
            }
            let whole = self.pages_of(ground, block, block + 1);
            let part = pages.with(whole.first().max(pages.first()), whole.end().min(pages.end()));
            let _ = ground.states.for_each_run(part, |_, is_committed| {
                see(is_committed);
                Ok(())
            });
        }
        see(behind);
        isize::from(before) + isize::from(behind) - edges
    }

    /// Whether the access rights of a page allow access, whatever its marker says. An unlocked read.
    fn is_accessible(&self, ground: Ground, page: usize) -> bool {
        page < self.pages
            && (ground.states.is_committed(page)
                || self.blocks.is_open(page / self.pages_per_block))
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
mod tests {
    use super::*;

    #[test]
    fn whole_blocks_are_told_from_parts_of_one() {
        let size = PageSize::of(4096);
        let guard = Guard::for_pages(512 * 4 + 100, size);
        let whole = |first, end| {
            let pages = guard.whole_blocks(size.pages(first, end));
            (pages.first(), pages.end())
        };
        assert_eq!(whole(5, 9), (9, 9));
        assert_eq!(whole(0, 512), (0, 512));
        assert_eq!(whole(500, 1600), (512, 1536));
        assert_eq!(whole(1024, 2148), (1024, 2148));
        assert_eq!(whole(2048, 2100), (2048, 2048));
        assert_eq!(whole(2048, 2148), (2048, 2148));
        let unit = guard.decommit_unit(size.pages(511, 513));
        assert_eq!((unit.first(), unit.end()), (0, 1024));
    }

    /// Mappings that a part of the addresses has, by the system's own list.
    #[cfg(target_os = "linux")]
    fn listed_mappings(start: usize, end: usize) -> isize {
        let list = std::fs::read_to_string("/proc/self/maps").unwrap();
        let overlaps = |line: &&str| {
            let (first, rest) = line.split_once('-').unwrap();
            let (behind, _) = rest.split_once(' ').unwrap();
            let number = |text| usize::from_str_radix(text, 16).unwrap();
            number(first) < end && start < number(behind)
        };
        list.lines().filter(overlaps).count() as isize
    }

    /// Where the system does not tell how many mappings there are, the engine's own account must not drift.
    #[test]
    #[cfg(target_os = "linux")]
    fn mappings_that_a_decommit_gives_back_are_counted_down() {
        use crate::{Engine, Reservation};
        if !os::guards_work() || os::data_is_limited() {
            return eprintln!("NOT TESTED HERE: the guard engine");
        }
        let page = os::page_size();
        let (per_block, blocks) = (page / 8, 12);
        let builder = Reservation::builder(blocks * per_block * page).engine(Engine::Guard);
        let memory = builder.guard_pages(1).build().unwrap();
        let super::super::ChosenEngine::Guard(guard) = &memory.engine else { unreachable!() };
        let (start, pages) = (memory.as_ptr().addr(), blocks * per_block);
        let (mut state, mut opened) = (1_u32, 0);
        let mut random = |below: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as usize % below
        };
        for round in 0..3000 {
            let first = if round % 2 == 0 { random(pages) } else { random(3 * per_block) };
            let count = [1, 1, 1, 7, per_block, 3 * per_block][random(6)];
            let bytes = first * page..(first + count).min(pages) * page;
            match random(3) {
                0 => memory.decommit(bytes.clone()).unwrap(),
                _ if count > 7 => memory.decommit(bytes.clone()).unwrap(),
                _ => memory.commit(bytes.clone()).unwrap(),
            }
            let listed = listed_mappings(start - page, start + memory.len() + page);
            assert_eq!(guard.mappings.get() + 1, listed, "round {round}: {bytes:?}");
            opened += (0..blocks).filter(|&block| guard.blocks.is_open(block)).count();
        }
        assert!(opened > 100, "blocks were open {opened} times");
        memory.decommit(..).unwrap();
        assert_eq!(guard.mappings.get(), 0);
    }

    /// A reservation of some blocks, of which the first is open and has one committed page, the sixth.
    #[cfg(pagewise_refusals)]
    fn with_an_open_block() -> Option<crate::Reservation> {
        if !os::guards_work() || os::data_is_limited() {
            eprintln!("NOT TESTED HERE: the guard engine");
            return None;
        }
        let page = os::page_size();
        let builder = crate::Reservation::builder(page / 8 * page * 12);
        let memory = builder.engine(crate::Engine::Guard).build().unwrap();
        memory.commit(5 * page..6 * page).unwrap();
        assert!(guard(&memory).open(memory.ground(), 0, 1));
        assert_eq!(accessible(&memory), [5]);
        Some(memory)
    }

    #[cfg(pagewise_refusals)]
    fn guard(memory: &crate::Reservation) -> &Guard {
        let super::super::ChosenEngine::Guard(guard) = &memory.engine else { unreachable!() };
        guard
    }

    /// The pages of the first block that can be read.
    #[cfg(pagewise_refusals)]
    fn accessible(memory: &crate::Reservation) -> Vec<usize> {
        let pages = (0..os::page_size() / 8).map(|page| memory.page().pages(page, page + 1));
        // SAFETY: reading changes nothing.
        let can_be_read = |page: &PageRange| unsafe {
            os::populate_for_reading(memory.address(*page), page.len()).is_ok()
        };
        pages.filter(can_be_read).map(|page| page.first()).collect()
    }

    #[cfg(pagewise_refusals)]
    #[test]
    fn a_block_that_another_thread_opened_meanwhile_is_left_as_it_is() {
        use os::refusals::{Call, Refusal};
        let Some(memory) = with_an_open_block() else { return };
        let page = os::page_size();
        // Whoever finds the block closed, and comes when another thread has opened it, is refused half-way.
        let second_run =
            memory.as_ptr().wrapping_add(6 * page)..memory.as_ptr().wrapping_add(7 * page);
        for undone in [true, false] {
            let marking = Refusal::of(Call::GuardInstall).touching(second_run.clone()).begin();
            let undoing = (!undone)
                .then(|| Refusal::of(Call::GuardRemove).touching(second_run.clone()).begin());
            guard(&memory).open(memory.ground(), 0, 1);
            drop((marking, undoing));
            assert_eq!(accessible(&memory), [5]);
            memory.commit(2 * page..3 * page).unwrap();
            assert_eq!(accessible(&memory), [2, 5]);
            memory.decommit(2 * page..3 * page).unwrap();
        }
    }

    #[cfg(pagewise_refusals)]
    #[test]
    fn a_block_that_could_not_be_opened_again_keeps_its_markers() {
        use os::refusals::{Call, Refusal};
        let Some(memory) = with_an_open_block() else { return };
        let page = os::page_size();
        memory.commit(2 * page..3 * page).unwrap();
        let marking = Refusal::of(Call::GuardInstall).begin();
        // Decommitted by its access rights: so the block is not open any more.
        memory.decommit(2 * page..3 * page).unwrap();
        assert!(!guard(&memory).open(memory.ground(), 0, 1));
        drop(marking);
        assert_eq!(accessible(&memory), [5]);
        memory.commit(..8 * page).unwrap();
        assert_eq!(accessible(&memory), [0, 1, 2, 3, 4, 5, 6, 7]);
    }
}
