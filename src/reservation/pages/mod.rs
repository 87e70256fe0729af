//! The state of every page of a reservation, in one atomic table.
//!
//! Two bits a page: *committed*, and *busy* while a thread changes it. Together they are the four
//! states of a page:
//!
//! | committed | busy | the page is                                                            |
//! |-----------|------|------------------------------------------------------------------------|
//! | 0         | 0    | reserved                                                               |
//! | 0         | 1    | committing: reserved, and held by one thread                           |
//! | 1         | 1    | decommitting, or changed in another way: committed, held by one thread |
//! | 1         | 0    | committed                                                              |
//!
//! The thread that sets *busy* owns the page until it clears the bit. Explicit operations [`lock`] a range in
//! ascending order, so that no cycle of threads can form which wait for one another. The fault handler
//! [`claim`]s only pages that are free, and never waits while it holds one.
//!
//! A word of the table holds 32 pages: committed bits below, busy bits above. The table of a
//! reservation beyond a gigabyte is itself a reservation, committed where it is first written, so
//! that reserving 64 TiB costs no more than reserving a page.
//!
//! [`lock`]: PageStates::lock
//! [`claim`]: PageStates::claim

use crate::os::OsError;
use crate::page::{PageRange, PageSize};
use crate::sync::{AtomicU64, Ordering, relax};
use table::{PARTS_PER_WORD, Table};

#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, not(loom)))]
mod reference;
#[cfg(all(test, unix, not(loom), not(any(miri, pagewise_model))))]
mod sparse;
mod table;
#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, not(any(loom, miri, pagewise_model))))]
pub(crate) use table::looked_at;
pub(crate) use table::zeroed;

pub(super) const PAGES_PER_WORD: usize = 32;

/// What the fault handler finds at a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// These pages were reserved and are now the caller's, the wanted page among them.
    Claimed(PageRange),
    /// The page is committed.
    Committed,
    /// Another thread is changing the page.
    Busy,
}

#[derive(Debug)]
pub(crate) struct PageStates {
    pages: usize,
    table: Table,
}

impl PageStates {
    pub(crate) fn new(pages: usize) -> Self {
        Self { pages, table: Table::new(pages.div_ceil(PAGES_PER_WORD)) }
    }

    /// Whether every page of the range is committed and not busy. An unlocked read: may be stale at once.
    pub(crate) fn all_committed(&self, range: PageRange) -> bool {
        words(range).all(|(index, mask)| {
            let state = self.read(index);
            committed(state) & mask == mask && busy(state) & mask == 0
        })
    }

    /// Whether every page of the range is committed. Waits for pages that another thread is committing: they
    /// may be accessible already.
    pub(crate) fn are_committed(&self, range: PageRange) -> bool {
        words(range).all(|(index, mask)| {
            let mut round = 0;
            loop {
                let state = self.read(index);
                if !committed(state) & busy(state) & mask == 0 {
                    return committed(state) & mask == mask;
                }
                relax(&mut round);
            }
        })
    }

    /// The first reserved page in `first..end`. An unlocked read.
    pub(crate) fn find_reserved(&self, first: usize, end: usize) -> Option<usize> {
        let mut page = first;
        while page < end {
            let reserved = !committed(self.read(page / PAGES_PER_WORD)) >> (page % PAGES_PER_WORD);
            // The shift brings in zeros at the top, as if those pages were committed. They belong to the next word.
            if reserved != 0 {
                return Some(page + reserved.trailing_zeros() as usize)
                    .filter(|&found| found < end);
            }
            page = (page / PAGES_PER_WORD + 1) * PAGES_PER_WORD;
        }
        None
    }

    /// Whether one page is committed. An unlocked read.
    pub(crate) fn is_committed(&self, page: usize) -> bool {
        committed(self.read(page / PAGES_PER_WORD)) & (1 << (page % PAGES_PER_WORD)) != 0
    }

    /// Whether a page is busy. An unlocked read.
    pub(crate) fn is_held(&self, page: usize) -> bool {
        busy(self.read(page / PAGES_PER_WORD)) & (1 << (page % PAGES_PER_WORD)) != 0
    }

    /// How many pages of the range are committed. An unlocked read, exact while the range is
    /// locked.
    pub(crate) fn count_committed(&self, range: PageRange) -> usize {
        words(range)
            .map(|(index, mask)| (committed(self.read(index)) & mask).count_ones() as usize)
            .sum()
    }

    /// How many runs of committed pages there are in the range. An unlocked read.
    pub(crate) fn count_runs(&self, range: PageRange) -> usize {
        let mut last_of_word_before = 0;
        words(range)
            .map(|(index, mask)| {
                let bits = committed(self.read(index)) & mask;
                let starts = bits & !(bits << 1) & !last_of_word_before;
                last_of_word_before = bits >> (PAGES_PER_WORD - 1);
                starts.count_ones() as usize
            })
            .sum()
    }

    /// How many pages of the whole table are committed. Exact while no thread changes it.
    pub(crate) fn count_all_committed(&self) -> usize {
        let mut count = 0;
        self.table.for_each_written_word(|_, word| {
            count += committed(word.load(Ordering::Relaxed)).count_ones() as usize;
        });
        count
    }

    /// Makes every page of the range busy, waiting for those that others hold. Fails only where the system
    /// has no memory for the table; then nothing is held.
    pub(crate) fn lock(&self, range: PageRange) -> Result<(), OsError> {
        for (index, mask) in words(range) {
            let word = match self.table.word_for_writing(index) {
                Ok(word) => word,
                Err(error) => {
                    self.unlock(
                        range.with(range.first(), range.first().max(index * PAGES_PER_WORD)),
                    );
                    return Err(error);
                }
            };
            let mut round = 0;
            let mut state = word.load(Ordering::Relaxed);
            loop {
                if busy(state) & mask != 0 {
                    relax(&mut round);
                    state = word.load(Ordering::Relaxed);
                    continue;
                }
                match hold(word, state, mask) {
                    Ok(()) => break,
                    Err(now) => state = now,
                }
            }
        }
        Ok(())
    }

    /// Makes every page of the range busy, unless another thread holds one of them, or the system has no
    /// memory for the table: then nothing is held. Async-signal-safe, never waits.
    pub(crate) fn try_lock(&self, range: PageRange) -> bool {
        for (index, mask) in words(range) {
            let free = self.table.word_for_writing(index).is_ok_and(|word| {
                let mut state = word.load(Ordering::Relaxed);
                loop {
                    if busy(state) & mask != 0 {
                        return false;
                    }
                    match hold(word, state, mask) {
                        Ok(()) => return true,
                        Err(now) => state = now,
                    }
                }
            });
            if !free {
                let held_end = range.first().max(index * PAGES_PER_WORD);
                self.unlock(range.with(range.first(), held_end));
                return false;
            }
        }
        true
    }

    /// Clears *busy* for a range that the caller holds; its pages keep their committed bits.
    pub(crate) fn unlock(&self, range: PageRange) {
        for (index, mask) in words(range) {
            if let Some(word) = self.held(index) {
                expect_held(word.fetch_and(!to_busy(mask), Ordering::Release), mask);
            }
        }
    }

    /// Marks a range that the caller holds as committed, and clears *busy*.
    pub(crate) fn unlock_committed(&self, range: PageRange) {
        for (index, mask) in words(range) {
            // Two steps: no other thread changes bits of these pages while they are busy.
            if let Some(word) = self.held(index) {
                word.fetch_or(u64::from(mask), Ordering::Release);
                expect_held(word.fetch_and(!to_busy(mask), Ordering::Release), mask);
            }
        }
    }

    /// Marks a range that the caller holds as reserved, and clears *busy*.
    pub(crate) fn unlock_reserved(&self, range: PageRange) {
        for (index, mask) in words(range) {
            if let Some(word) = self.held(index) {
                let others = !to_busy(mask) & !u64::from(mask);
                expect_held(word.fetch_and(others, Ordering::Release), mask);
            }
        }
    }

    /// Marks pages that the caller holds as reserved; they stay busy.
    pub(crate) fn mark_reserved(&self, range: PageRange) {
        for (index, mask) in words(range) {
            if let Some(word) = self.held(index) {
                expect_held(word.fetch_and(!u64::from(mask), Ordering::Release), mask);
            }
        }
    }

    /// The longest run of pages in one state that starts at `range.first()`, and whether it is
    /// committed. The caller holds the range, which is not empty.
    pub(crate) fn run(&self, range: PageRange) -> (PageRange, bool) {
        let kind = self.is_committed(range.first());
        let mut end = range.first();
        for (index, mask) in words(range) {
            let state = committed(self.read(index));
            let other = mask & if kind { !state } else { state };
            if other != 0 {
                end = index * PAGES_PER_WORD + other.trailing_zeros() as usize;
                return (range.with(range.first(), end), kind);
            }
            end = (index + 1) * PAGES_PER_WORD;
        }
        (range.with(range.first(), end.min(range.end())), kind)
    }

    /// The longest run of pages in one state that ends where the range ends, and whether it is committed. The
    /// caller holds the range, which is not empty.
    pub(crate) fn last_run(&self, range: PageRange) -> (PageRange, bool) {
        let kind = self.is_committed(range.end() - 1);
        for (index, mask) in words(range).rev() {
            let state = committed(self.read(index));
            let other = mask & if kind { !state } else { state };
            if other != 0 {
                let first = (index + 1) * PAGES_PER_WORD - other.leading_zeros() as usize;
                return (range.with(first, range.end()), kind);
            }
        }
        (range, kind)
    }

    /// The first committed page in `first..end`. An unlocked read; skips parts of the table that were
    /// never written.
    pub(crate) fn find_committed(&self, first: usize, end: usize) -> Option<usize> {
        self.find(first, end, committed)
    }

    /// The first page in `first..end` that is committed or held. As [`find_committed`](Self::find_committed).
    pub(crate) fn find_used(&self, first: usize, end: usize) -> Option<usize> {
        self.find(first, end, |state| committed(state) | busy(state))
    }

    fn find(&self, first: usize, end: usize, wanted: impl Fn(u64) -> u32) -> Option<usize> {
        let (mut page, end) = (first, end.min(self.pages));
        while page < end {
            let index = page / PAGES_PER_WORD;
            let Some(word) = self.table.word(index) else {
                page = self.table.next_written(index)? * PAGES_PER_WORD;
                continue;
            };
            let bits = wanted(word.load(Ordering::Acquire)) >> (page % PAGES_PER_WORD);
            if bits != 0 {
                return Some(page + bits.trailing_zeros() as usize).filter(|&found| found < end);
            }
            page = (index + 1) * PAGES_PER_WORD;
        }
        None
    }

    /// How many pages there are.
    pub(crate) fn pages(&self) -> usize {
        self.pages
    }

    /// Calls `each` for every run of busy pages in the range. Async-signal-safe.
    pub(crate) fn for_each_held_run(&self, range: PageRange, mut each: impl FnMut(PageRange)) {
        for (index, mask) in words(range) {
            let mut held = busy(self.read(index)) & mask;
            while held != 0 {
                let bit = held.trailing_zeros() as usize;
                let run = run_around(held, bit);
                let first = index * PAGES_PER_WORD + bit;
                each(range.with(first, first + run.count_ones() as usize));
                held &= !run;
            }
        }
    }

    /// Calls `each` for every run of pages in one state, committed or reserved, in a range that the caller
    /// holds, in ascending order; with whether the run is committed.
    pub(crate) fn for_each_run(
        &self,
        mut range: PageRange,
        mut each: impl FnMut(PageRange, bool) -> Result<(), OsError>,
    ) -> Result<(), OsError> {
        while !range.is_empty() {
            let (run, is_committed) = self.run(range);
            each(run, is_committed)?;
            range = range.with(run.end(), range.end());
        }
        Ok(())
    }

    /// Claims reserved pages for the fault handler: `page`, and as many of its neighbours within
    /// `wanted` as are reserved and free, without a gap. Async-signal-safe, never waits.
    pub(crate) fn claim(&self, page: usize, wanted: PageRange) -> Result<Claim, OsError> {
        debug_assert!(wanted.first() <= page && page < wanted.end() && wanted.end() <= self.pages);
        let index = page / PAGES_PER_WORD;
        let word = self.table.word_for_writing(index)?;
        let bit = page % PAGES_PER_WORD;
        let allowed = mask_within(index, wanted);
        let mut state = word.load(Ordering::Relaxed);
        let claimed = loop {
            let bits = committed(state);
            if busy(state) & (1 << bit) != 0 {
                return Ok(Claim::Busy);
            }
            if bits & (1 << bit) != 0 {
                return Ok(Claim::Committed);
            }
            let free = !(bits | busy(state)) & allowed;
            let mask = run_around(free, bit);
            match hold(word, state, mask) {
                Ok(()) => break mask,
                Err(now) => state = now,
            }
        };
        let base = index * PAGES_PER_WORD;
        let mut first = base + claimed.trailing_zeros() as usize;
        let mut end = base + PAGES_PER_WORD - claimed.leading_zeros() as usize;
        while first.is_multiple_of(PAGES_PER_WORD) && first > wanted.first() {
            match self.claim_at_edge(first / PAGES_PER_WORD - 1, wanted, PAGES_PER_WORD - 1) {
                0 => break,
                mask => first -= mask.count_ones() as usize,
            }
        }
        while end.is_multiple_of(PAGES_PER_WORD) && end < wanted.end() {
            match self.claim_at_edge(end / PAGES_PER_WORD, wanted, 0) {
                0 => break,
                mask => end += mask.count_ones() as usize,
            }
        }
        Ok(Claim::Claimed(wanted.with(first, end)))
    }

    /// Claims the run of free pages at the first or the last bit of a word: `edge`.
    fn claim_at_edge(&self, index: usize, wanted: PageRange, edge: usize) -> u32 {
        // Without memory for this part of the table, the claim does without these neighbours.
        let Ok(word) = self.table.word_for_writing(index) else { return 0 };
        let allowed = mask_within(index, wanted);
        let mut state = word.load(Ordering::Relaxed);
        loop {
            let mask = run_around(!(committed(state) | busy(state)) & allowed, edge);
            if mask == 0 {
                return 0;
            }
            match hold(word, state, mask) {
                Ok(()) => return mask,
                Err(now) => state = now,
            }
        }
    }

    /// In the child of a fork, where the threads that held pages do not exist: calls `end` for each run of
    /// held pages in one state, with whether it is committed. `end` unlocks the run. Async-signal-safe.
    pub(crate) fn for_each_abandoned_run(
        &self,
        size: PageSize,
        mut end: impl FnMut(PageRange, bool),
    ) {
        let mut found: Option<(PageRange, bool)> = None;
        self.table.for_each_written_word(|index, word| {
            let state = word.load(Ordering::Relaxed);
            let (base, mut held) = (index * PAGES_PER_WORD, busy(state));
            while held != 0 {
                let bit = held.trailing_zeros();
                let is_committed = committed(state) >> bit & 1 != 0;
                let alike = held & if is_committed { committed(state) } else { !committed(state) };
                let run = run_around(alike, bit as usize);
                let (first, count) = (base + bit as usize, run.count_ones() as usize);
                held &= !run;
                match &mut found {
                    Some((pages, was)) if pages.end() == first && *was == is_committed => {
                        *pages = pages.with(pages.first(), first + count);
                    }
                    other => {
                        if let Some((pages, was)) =
                            other.replace((size.pages(first, first + count), is_committed))
                        {
                            end(pages, was);
                        }
                    }
                }
            }
        });
        if let Some((pages, was)) = found {
            end(pages, was);
        }
    }

    /// The parts of a range whose words were ever written, in ascending order; pages elsewhere are reserved.
    /// Used so that an operation on all of 64 TiB visits only the parts that were used.
    pub(crate) fn written_parts(
        &self,
        range: PageRange,
    ) -> impl DoubleEndedIterator<Item = PageRange> {
        let part = self.table.part_words().get() * PAGES_PER_WORD;
        let end = if range.is_empty() { 0 } else { range.end().div_ceil(part) };
        let parts = range.first() / part..end;
        (parts.start / PARTS_PER_WORD..end.div_ceil(PARTS_PER_WORD))
            .map(|group| (group * PARTS_PER_WORD, self.table.written(group)))
            .filter(|&(_, written)| written != 0)
            .flat_map(|(base, written)| {
                let is_written = move |bit: &usize| written >> bit & 1 != 0;
                (0..PARTS_PER_WORD).filter(is_written).map(move |bit| base + bit)
            })
            .filter(move |index| parts.contains(index))
            .map(move |index| {
                let first = (index * part).max(range.first());
                range.with(first, ((index + 1) * part).min(range.end()))
            })
    }

    fn read(&self, index: usize) -> u64 {
        self.table.word(index).map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// The word of pages that the caller holds. Never `None`, since holding a page has written the word;
    /// an option because the fault handler must not contain a panic.
    fn held(&self, index: usize) -> Option<&AtomicU64> {
        let word = self.table.word(index);
        debug_assert!(word.is_some(), "a page that is held has a word");
        word
    }
}

const fn committed(state: u64) -> u32 {
    state as u32
}

const fn busy(state: u64) -> u32 {
    (state >> 32) as u32
}

const fn to_busy(mask: u32) -> u64 {
    (mask as u64) << 32
}

/// Asserts that the pages which a caller frees or changes are held. In debug builds and under loom only, since the
/// fault handler must not contain a panic.
fn expect_held(state: u64, mask: u32) {
    if cfg!(any(debug_assertions, loom)) {
        assert!(busy(state) & mask == mask, "pages that nobody holds: {state:#x}, {mask:#x}");
    }
}

/// Makes pages busy that are not, in a word that is as it was seen.
fn hold(word: &AtomicU64, seen: u64, mask: u32) -> Result<(), u64> {
    word.compare_exchange_weak(seen, seen + to_busy(mask), Ordering::Acquire, Ordering::Relaxed)
        .map(|_| ())
}

/// The words that a range touches, each with the bits of its pages.
fn words(range: PageRange) -> impl DoubleEndedIterator<Item = (usize, u32)> {
    let end = if range.is_empty() { 0 } else { range.end().div_ceil(PAGES_PER_WORD) };
    (range.first() / PAGES_PER_WORD..end).map(move |index| (index, mask_within(index, range)))
}

/// The bits of word `index` whose pages lie in the range.
fn mask_within(index: usize, range: PageRange) -> u32 {
    let base = index * PAGES_PER_WORD;
    let low = range.first().saturating_sub(base).min(PAGES_PER_WORD);
    let high = range.end().saturating_sub(base).min(PAGES_PER_WORD);
    (((1u64 << high) - 1) & !((1u64 << low) - 1)) as u32
}

/// The unbroken run of ones around `bit`; nothing where `bit` is not set.
fn run_around(bits: u32, bit: usize) -> u32 {
    let above = (!(bits >> bit)).trailing_zeros() as usize;
    let below = (!(bits << (PAGES_PER_WORD - 1 - bit))).leading_zeros() as usize;
    let (first, end) = (bit + 1 - below, bit + above);
    (((1u64 << end) - 1) & !((1u64 << first) - 1)) as u32
}
