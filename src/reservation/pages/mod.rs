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

use std::num::NonZeroUsize;
use std::ptr::{self, NonNull};

use crate::os::{self, OsError};
use crate::page::{PageRange, PageSize};
use crate::sync::{AtomicPtr, AtomicU32, AtomicU64, Ordering, relax};

pub(super) const PAGES_PER_WORD: usize = 32;
const WORD_BYTES: usize = size_of::<u64>();

/// Words of the largest table that lives on the heap: 64 KiB, a gigabyte of 4 KiB pages.
const SMALL_WORDS: usize = 8192;

/// Returned where other code would have an assertion: the fault handler must not panic.
const NO_SUCH_WORD: OsError = OsError(0);

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
                relax(round);
                round += 1;
            }
        })
    }

    /// The first reserved page in `first..end`. An unlocked read.
    pub(crate) fn find_reserved(&self, first: usize, end: usize) -> Option<usize> {
        let mut page = first;
        while page < end {
            let reserved = !committed(self.read(page / PAGES_PER_WORD)) >> (page % PAGES_PER_WORD);
            // The shift brings in zeros at the top, which count as committed here: the next word has them.
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
                let starts = bits & !(bits << 1 | last_of_word_before);
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
                    relax(round);
                    round += 1;
                    state = word.load(Ordering::Relaxed);
                    continue;
                }
                match exchange(word, state, state | to_busy(mask)) {
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
                    match exchange(word, state, state | to_busy(mask)) {
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
                let free = !(to_busy(mask) | u64::from(mask));
                expect_held(word.fetch_and(free, Ordering::Release), mask);
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

    /// The first page in `first..end` that is committed, or held by somebody. As
    /// [`find_committed`](Self::find_committed).
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
            match exchange(word, state, state | to_busy(mask)) {
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

    /// Claims the free pages of a word that touch its bit `edge`: the word's first or last.
    fn claim_at_edge(&self, index: usize, wanted: PageRange, edge: usize) -> u32 {
        // Neighbours are optional: none where there is no memory for their part of the table.
        let Ok(word) = self.table.word_for_writing(index) else { return 0 };
        let allowed = mask_within(index, wanted);
        let mut state = word.load(Ordering::Relaxed);
        loop {
            let mask = run_around(!(committed(state) | busy(state)) & allowed, edge);
            if mask == 0 {
                return 0;
            }
            match exchange(word, state, state | to_busy(mask)) {
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

/// Who frees or changes pages holds them: checked in debug builds and by loom only, since the fault handler
/// comes here.
fn expect_held(state: u64, mask: u32) {
    if cfg!(any(debug_assertions, loom)) {
        assert!(busy(state) & mask == mask, "pages that nobody holds: {state:#x}, {mask:#x}");
    }
}

fn exchange(word: &AtomicU64, old: u64, new: u64) -> Result<(), u64> {
    word.compare_exchange_weak(old, new, Ordering::Acquire, Ordering::Relaxed).map(|_| ())
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
    if bits & (1 << bit) == 0 {
        return 0;
    }
    let above = (!(bits >> bit)).trailing_zeros() as usize;
    let below = (!(bits << (PAGES_PER_WORD - 1 - bit))).leading_zeros() as usize;
    let (first, end) = (bit + 1 - below, bit + above);
    (((1u64 << end) - 1) & !((1u64 << first) - 1)) as u32
}

/// The memory of the words: on the heap for a small table, else a reservation of its own. The first write to a
/// part makes and commits it, possibly inside the fault handler, where the heap must not be used.
#[derive(Debug)]
enum Table {
    Small(Box<[AtomicU64]>),
    Large(LargeTable),
}

impl Table {
    fn new(words: usize) -> Self {
        if words <= SMALL_WORDS {
            Self::Small(zeroed(words))
        } else {
            Self::Large(LargeTable::new(words))
        }
    }

    /// The word for reading; `None` where nothing was ever written.
    fn word(&self, index: usize) -> Option<&AtomicU64> {
        #[cfg(all(test, not(any(loom, miri, pagewise_model))))]
        looked_at::count();
        match self {
            Self::Small(words) => words.get(index),
            Self::Large(table) => table.word(index),
        }
    }

    fn word_for_writing(&self, index: usize) -> Result<&AtomicU64, OsError> {
        match self {
            Self::Small(words) => words.get(index).ok_or(NO_SUCH_WORD),
            Self::Large(table) => table.word_for_writing(index),
        }
    }

    /// Words of the parts of which is known whether they were written: all of a small table.
    fn part_words(&self) -> NonZeroUsize {
        match self {
            Self::Small(words) => NonZeroUsize::new(words.len()).unwrap_or(NonZeroUsize::MIN),
            Self::Large(table) => table.part_words,
        }
    }

    /// A bit for each of some parts: whether it was written.
    fn written(&self, group: usize) -> u64 {
        match self {
            Self::Small(_) => u64::from(group == 0),
            Self::Large(table) => table.written(group),
        }
    }

    /// The first word, from `index` on, of a part that was written.
    fn next_written(&self, index: usize) -> Option<usize> {
        match self {
            Self::Small(words) => (index < words.len()).then_some(index),
            Self::Large(table) => table.next_written(index),
        }
    }

    fn for_each_written_word(&self, mut each: impl FnMut(usize, &AtomicU64)) {
        match self {
            Self::Small(words) => {
                words.iter().enumerate().for_each(|(index, word)| each(index, word));
            }
            Self::Large(table) => table.for_each_written_word(each),
        }
    }
}

/// Parts of a large table whose bits are in one word of `written`.
const PARTS_PER_WORD: usize = u64::BITS as usize;

/// Invariant: `base` is null or the start of a reservation of `words` words that this table owns;
/// where the bit of a part is set in `written`, that part is committed for as long as the table
/// lives.
#[derive(Debug)]
struct LargeTable {
    words: usize,
    /// A part is a page of the table: the least of which the system makes memory. (It has the states of 32
    /// blocks of the guard engine, which takes pages of whole blocks.)
    part_words: NonZeroUsize,
    /// Parts that are committed at once, where the table is not committed as a whole: fewer calls, and fewer
    /// mappings.
    parts_per_commit: NonZeroUsize,
    base: AtomicPtr<u8>,
    /// Set once all of the table is committed at once, so that the kernel supplies pages as they are written.
    /// Only where the system overcommits: elsewhere the whole table would be charged.
    is_whole: AtomicU32,
    written: Box<[AtomicU64]>,
}

impl LargeTable {
    fn new(words: usize) -> Self {
        let page = os::page_size();
        let at_once = (words * WORD_BYTES / 4096).next_power_of_two().max(SMALL_WORDS * WORD_BYTES);
        let non_zero = |number| NonZeroUsize::new(number).unwrap_or(NonZeroUsize::MIN);
        let part_words = non_zero(page / WORD_BYTES);
        let parts = words.div_ceil(part_words.get());
        Self {
            words,
            part_words,
            parts_per_commit: non_zero(at_once / page),
            base: AtomicPtr::new(ptr::null_mut()),
            is_whole: AtomicU32::new(0),
            written: zeroed(parts.div_ceil(PARTS_PER_WORD)),
        }
    }

    fn bytes(&self) -> usize {
        let at_once = self.parts_per_commit.get() * self.part_words.get();
        self.words.next_multiple_of(at_once) * WORD_BYTES
    }

    fn written(&self, group: usize) -> u64 {
        self.written.get(group).map_or(0, |bits| bits.load(Ordering::Acquire))
    }

    fn is_written(&self, part: usize) -> bool {
        self.written(part / PARTS_PER_WORD) >> (part % PARTS_PER_WORD) & 1 != 0
    }

    fn next_written(&self, index: usize) -> Option<usize> {
        let part = index / self.part_words;
        let first = part / PARTS_PER_WORD;
        let next = (first..self.written.len()).find_map(|group| {
            let before = if group == first { part % PARTS_PER_WORD } else { 0 };
            let bits = self.written(group) >> before;
            let part = group * PARTS_PER_WORD + before + bits.trailing_zeros() as usize;
            (bits != 0).then_some(part)
        })?;
        // (The last parts that are committed at once may lie behind the words.)
        Some(index.max(next * self.part_words.get())).filter(|&index| index < self.words)
    }

    fn word(&self, index: usize) -> Option<&AtomicU64> {
        debug_assert!(index < self.words);
        if index >= self.words || !self.is_written(index / self.part_words) {
            return None;
        }
        let base = self.base.load(Ordering::Relaxed).cast::<AtomicU64>();
        // SAFETY: by the invariant, the part of this word is committed while `self` is borrowed,
        // and it reads zero, a valid atomic, until it is written.
        Some(unsafe { &*base.add(index) })
    }

    fn word_for_writing(&self, index: usize) -> Result<&AtomicU64, OsError> {
        if let Some(word) = self.word(index) {
            return Ok(word);
        }
        self.back(index / self.part_words)?;
        self.word(index).ok_or(NO_SUCH_WORD)
    }

    /// Commits a part, which is about to be written. Several threads may do so at once: committing again
    /// changes nothing.
    fn back(&self, part: usize) -> Result<(), OsError> {
        let base = self.base()?;
        let mut parts = part..part + 1;
        if self.is_whole.load(Ordering::Acquire) == 0 {
            let count = self.parts_per_commit.get();
            let first = part / self.parts_per_commit * count;
            let part_len = self.part_words.get() * WORD_BYTES;
            // SAFETY: these parts lie inside the table's own reservation, whose length is a multiple of
            // what is committed at once.
            unsafe { os::commit(base.add(first * part_len), count * part_len)? };
            parts = first..first + count;
        }
        for part in parts {
            if let Some(bits) = self.written.get(part / PARTS_PER_WORD) {
                bits.fetch_or(1 << (part % PARTS_PER_WORD), Ordering::Release);
            }
        }
        Ok(())
    }

    fn base(&self) -> Result<NonNull<u8>, OsError> {
        if let Some(base) = NonNull::new(self.base.load(Ordering::Acquire)) {
            return Ok(base);
        }
        let at_once = !os::commits_strictly() && !os::data_is_limited();
        let attributes = os::Attributes { charged: !at_once, ..os::Attributes::PLAIN };
        let fresh = os::reserve(self.bytes(), os::reserve_granularity(), &attributes)?;
        if at_once {
            // Linux populates locked memory as it becomes accessible: all of the table, in a process that
            // locks what comes (`mlockall(MCL_FUTURE)`). Where nothing is locked, a refusal does no harm.
            // SAFETY: the reservation is this thread's alone.
            let _ = unsafe { os::unlock(fresh, self.bytes()) };
        }
        // SAFETY: the reservation is this thread's alone.
        let is_whole = at_once && unsafe { os::commit(fresh, self.bytes()).is_ok() };
        let exchange = self.base.compare_exchange(
            ptr::null_mut(),
            fresh.as_ptr(),
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        match exchange {
            Ok(_) => {
                // A thread that does not see this yet commits a granule again, which changes nothing.
                self.is_whole.store(u32::from(is_whole), Ordering::Release);
                Ok(fresh)
            }
            Err(winner) => {
                // SAFETY: nobody else knows the reservation that lost the race.
                unsafe { os::release(fresh, self.bytes())? };
                NonNull::new(winner).ok_or(NO_SUCH_WORD)
            }
        }
    }

    fn for_each_written_word(&self, mut each: impl FnMut(usize, &AtomicU64)) {
        let mut index = 0;
        while let Some(next) = self.next_written(index) {
            let Some(word) = self.word(next) else { return };
            each(next, word);
            index = next + 1;
        }
    }
}

impl Drop for LargeTable {
    fn drop(&mut self) {
        if let Some(base) = NonNull::new(self.base.load(Ordering::Relaxed)) {
            // SAFETY: the table owns this reservation, and nobody borrows it any more.
            let released = unsafe { os::release(base, self.bytes()) };
            debug_assert!(released.is_ok(), "releasing a page table: {released:?}");
        }
    }
}

/// How many words of page states this thread has looked at: tests count that instead of taking time.
#[cfg(all(test, not(any(loom, miri, pagewise_model))))]
pub(crate) mod looked_at {
    use std::cell::Cell;

    thread_local! {
        /// (Without a destructor and without allocation: fault handlers look at words, too.)
        static WORDS: Cell<usize> = const { Cell::new(0) };
    }

    pub(crate) fn count() {
        WORDS.set(WORDS.get() + 1);
    }

    pub(crate) fn words(by: impl FnOnce()) -> usize {
        let before = WORDS.get();
        by();
        WORDS.get() - before
    }
}

#[cfg(not(loom))]
pub(crate) fn zeroed(words: usize) -> Box<[AtomicU64]> {
    // `vec![0; n]` asks for zeroed memory, so that untouched pages of a long table take no memory.
    let plain = vec![0u64; words].into_boxed_slice();
    // SAFETY: an atomic has the size, alignment and values of what it holds.
    unsafe { Box::from_raw(Box::into_raw(plain) as *mut [AtomicU64]) }
}

#[cfg(loom)]
pub(crate) fn zeroed(words: usize) -> Box<[AtomicU64]> {
    (0..words).map(|_| AtomicU64::new(0)).collect()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn pages(first: usize, end: usize) -> PageRange {
        PageSize::system().pages(first, end)
    }

    #[test]
    fn a_claim_grows_both_ways_over_words_and_stops_at_committed_pages() {
        let states = PageStates::new(200);
        states.lock(pages(10, 11)).unwrap();
        states.unlock_committed(pages(10, 11));
        assert_eq!(states.claim(100, pages(0, 200)), Ok(Claim::Claimed(pages(11, 200))));
        assert_eq!(states.claim(10, pages(0, 200)), Ok(Claim::Committed));
        assert_eq!(states.claim(150, pages(0, 200)), Ok(Claim::Busy));
        states.unlock_reserved(pages(11, 200));
        assert_eq!(states.claim(5, pages(5, 6)), Ok(Claim::Claimed(pages(5, 6))));
        assert_eq!(states.claim(4, pages(0, 200)), Ok(Claim::Claimed(pages(0, 5))));
    }

    #[test]
    fn runs_follow_the_committed_bits() {
        let states = PageStates::new(100);
        states.lock(pages(0, 100)).unwrap();
        states.unlock_committed(pages(30, 70));
        states.unlock(pages(0, 30));
        states.unlock(pages(70, 100));
        let mut runs = Vec::new();
        states
            .for_each_run(pages(0, 100), |run, committed| {
                runs.push((run.first(), run.end(), committed));
                Ok(())
            })
            .unwrap();
        assert_eq!(runs, [(0, 30, false), (30, 70, true), (70, 100, false)]);
        let last = |first, end| {
            let (run, is_committed) = states.last_run(pages(first, end));
            (run.first(), run.end(), is_committed)
        };
        assert_eq!([last(0, 100), last(0, 70)], [(70, 100, false), (30, 70, true)]);
        assert_eq!([last(0, 30), last(33, 65)], [(0, 30, false), (33, 65, true)]);
        assert_eq!([last(29, 31), last(69, 71)], [(30, 31, true), (70, 71, false)]);
        assert_eq!(states.count_committed(pages(0, 100)), 40);
        assert_eq!(states.count_runs(pages(0, 100)), 1);
        states.lock(pages(63, 65)).unwrap();
        states.unlock_reserved(pages(63, 65));
        assert_eq!(states.count_runs(pages(0, 100)), 2);
        assert_eq!((states.count_runs(pages(0, 30)), states.count_runs(pages(33, 64))), (0, 1));
        states.lock(pages(63, 65)).unwrap();
        states.unlock_committed(pages(63, 65));
        assert!(states.all_committed(pages(30, 70)) && !states.all_committed(pages(29, 70)));
    }

    /// What a claim must take: the page, and what is free around it.
    fn free_around(page: usize, wanted: PageRange, is_free: impl Fn(usize) -> bool) -> PageRange {
        let first = (wanted.first()..page).rev().take_while(|&page| is_free(page)).count();
        let behind = (page + 1..wanted.end()).take_while(|&page| is_free(page)).count();
        wanted.with(page - first, page + 1 + behind)
    }

    /// Pages around the borders of words, which hold 32 pages each.
    const AT_BORDERS: &[usize] = if cfg!(miri) {
        &[31, 32, 63, 64] // Miri takes its time
    } else {
        &[0, 1, 30, 31, 32, 33, 63, 64, 65, 95, 96]
    };

    /// Every claim of a page at a border of words, in windows that end at borders or inside words, with a
    /// page that is not free on either side: it is committed, or held by somebody.
    #[test]
    fn a_claim_takes_exactly_what_is_free_around_the_page_over_every_border() {
        const PAGES: usize = 128;
        let mut cases = 0;
        for (page, before, behind) in triples(AT_BORDERS).step_by(if cfg!(miri) { 29 } else { 1 }) {
            for (first, end) in [(0, PAGES), (before, behind + 1), (1, PAGES - 1), (before, PAGES)]
            {
                if !(first..end).contains(&page) {
                    continue;
                }
                for committed in [[true, true], [true, false], [false, true], [false, false]] {
                    let states = PageStates::new(PAGES);
                    let obstacles: Vec<_> = [before, behind]
                        .into_iter()
                        .zip(committed)
                        .filter(|&(obstacle, _)| obstacle != page)
                        .collect();
                    for &(obstacle, committed) in &obstacles {
                        states.lock(pages(obstacle, obstacle + 1)).unwrap();
                        if committed {
                            states.unlock_committed(pages(obstacle, obstacle + 1));
                        }
                    }
                    let is_free = |page| obstacles.iter().all(|&(obstacle, _)| obstacle != page);
                    let expected = free_around(page, pages(first, end), is_free);
                    let claimed = states.claim(page, pages(first, end));
                    assert_eq!(claimed, Ok(Claim::Claimed(expected)), "{page} {obstacles:?}");
                    for page in 0..PAGES {
                        let claimed = (expected.first()..expected.end()).contains(&page);
                        let held = obstacles.contains(&(page, false));
                        assert_eq!(states.is_held(page), claimed || held, "page {page}");
                        assert_eq!(states.is_committed(page), obstacles.contains(&(page, true)));
                    }
                    cases += 1;
                }
            }
        }
        assert!(cases > if cfg!(miri) { 10 } else { 100 }, "{cases} cases");
    }

    /// A number, one that is not larger, and one that is not smaller.
    fn triples(numbers: &[usize]) -> impl Iterator<Item = (usize, usize, usize)> {
        numbers.iter().flat_map(move |&middle| {
            let smaller = numbers.iter().filter(move |&&number| number <= middle);
            smaller.flat_map(move |&smaller| {
                let larger = numbers.iter().filter(move |&&number| number >= middle);
                larger.map(move |&larger| (middle, smaller, larger))
            })
        })
    }

    #[test]
    fn a_claim_of_a_page_that_is_not_free_takes_no_neighbour() {
        let states = PageStates::new(128);
        states.lock(pages(31, 33)).unwrap();
        states.unlock_committed(pages(31, 32));
        assert_eq!(states.claim(31, pages(0, 128)), Ok(Claim::Committed));
        assert_eq!(states.claim(32, pages(0, 128)), Ok(Claim::Busy));
        assert!((0..128).all(|page| states.is_held(page) == (page == 32)));
    }

    #[test]
    fn a_lock_that_never_waits_holds_all_of_a_range_or_nothing() {
        for &held in AT_BORDERS {
            let states = PageStates::new(128);
            states.lock(pages(held, held + 1)).unwrap();
            for (first, end) in [(0, 128), (held, held + 1), (held, 128), (0, held + 1)] {
                assert!(!states.try_lock(pages(first, end)), "{first}..{end} with {held} held");
                assert!((0..128).all(|page| states.is_held(page) == (page == held)));
            }
            assert!(states.try_lock(pages(held + 1, 128)));
            assert!((0..128).all(|page| states.is_held(page) == (page >= held)));
        }
    }

    /// A table of three granules, whose first granule alone the system backs.
    #[cfg(any(pagewise_model, pagewise_refusals))]
    fn half_backed() -> (PageStates, usize, [crate::os::refusals::Refusing; 2]) {
        use crate::os::refusals::{Call, Refusal};
        let granule = SMALL_WORDS * PAGES_PER_WORD;
        let states = PageStates::new(3 * granule);
        let whole = Refusal::of(Call::Commit).longer_than(SMALL_WORDS * WORD_BYTES).begin();
        assert!(states.table.word_for_writing(0).is_ok());
        (states, granule, [whole, Refusal::of(Call::Commit).begin()])
    }

    #[cfg(any(pagewise_model, pagewise_refusals))]
    #[test]
    fn a_table_that_is_committed_piece_by_piece_ends_with_its_last_page() {
        use crate::os::refusals::{Call, Refusal};
        let count = (SMALL_WORDS + 1) * PAGES_PER_WORD;
        let states = PageStates::new(count);
        let _whole = Refusal::of(Call::Commit).longer_than(SMALL_WORDS * WORD_BYTES).begin();
        states.lock(pages(count - 1, count)).unwrap();
        states.unlock_committed(pages(count - 1, count));
        assert_eq!(states.count_all_committed(), 1);
        assert_eq!(states.find_committed(0, count), Some(count - 1));
        let last = pages(count - PAGES_PER_WORD, count);
        assert_eq!(states.written_parts(pages(0, count)).collect::<Vec<_>>(), [last]);
    }

    #[cfg(any(pagewise_model, pagewise_refusals))]
    #[test]
    fn a_lock_whose_table_is_not_backed_holds_nothing() {
        let (states, edge, refusing) = half_backed();
        for first in [0, edge - 40, edge - 1, edge, edge + 5] {
            let range = pages(first, edge + 40);
            assert!(states.lock(range).is_err());
            assert!(!states.try_lock(range));
            assert!((first..edge + 40).all(|page| !states.is_held(page)), "from {first}");
        }
        let parts: Vec<_> = states.written_parts(pages(0, 3 * edge)).collect();
        assert_eq!((parts[0].first(), parts[parts.len() - 1].end()), (0, edge));
        assert!(parts.windows(2).all(|parts| parts[0].end() == parts[1].first()));
        drop(refusing);
        let range = pages(edge - 40, edge + 40);
        states.lock(range).unwrap();
        assert!((edge - 40..edge + 40).all(|page| states.is_held(page)));
    }

    #[cfg(any(pagewise_model, pagewise_refusals))]
    #[test]
    fn a_claim_whose_table_is_not_backed_is_refused_and_neighbours_are_left_out() {
        let (states, edge, refusing) = half_backed();
        let wanted = pages(edge - 10, edge + 10);
        assert!(states.claim(edge, wanted).is_err());
        assert!((edge - 10..edge + 10).all(|page| !states.is_held(page)));
        assert_eq!(states.claim(edge - 3, wanted), Ok(Claim::Claimed(pages(edge - 10, edge))));
        states.unlock(pages(edge - 10, edge));
        drop(refusing);
        assert_eq!(states.claim(edge, wanted), Ok(Claim::Claimed(wanted)));
    }

    #[test]
    fn the_largest_table_is_backed_only_where_it_is_written() {
        let total = (64usize << 40) / 4096;
        let states = PageStates::new(total);
        assert_eq!(states.count_committed(pages(total - 9, total)), 0);
        let far = pages(total - 3, total);
        assert_eq!(states.claim(total - 1, far), Ok(Claim::Claimed(far)));
        states.unlock_committed(far);
        assert!(states.all_committed(far));
        assert!(!states.is_committed(0));
    }
}

/// What operations on all of a long, sparse reservation visit, and what they leave behind.
#[cfg(all(test, unix, not(loom), not(any(miri, pagewise_model))))]
mod sparse {
    use super::*;
    use crate::{Engine, Reservation};

    const USED: usize = 256;

    /// Sixteen terabytes, with committed pages 4 GiB apart. (Of another page size than 4 KiB, as many pages.)
    fn reservation(engine: Engine) -> Reservation {
        let page = os::page_size();
        let memory = Reservation::builder(page << 32).engine(engine).build().unwrap();
        for nth in 0..USED {
            memory.commit(nth * (page << 20)..nth * (page << 20) + 1).unwrap();
        }
        memory
    }

    fn engines() -> impl Iterator<Item = Engine> {
        let guard = os::guards_work().then_some(Engine::Guard);
        [Engine::Protect].into_iter().chain(guard)
    }

    /// Bytes of the table that are in memory.
    fn resident(memory: &Reservation) -> usize {
        let Table::Large(table) = &memory.states().table else { panic!("a small table") };
        let mut resident = 0;
        let mut add = |_, len, seen: os::Residency| resident += if seen.resident { len } else { 0 };
        os::residency(table.base().unwrap(), table.bytes(), &mut add).unwrap();
        resident
    }

    #[test]
    fn operations_on_all_of_a_sparse_reservation_visit_what_was_written_and_no_more() {
        if os::commits_strictly() {
            return eprintln!("NOT TESTED HERE: a table that is committed as a whole");
        }
        let page = os::page_size();
        for engine in engines() {
            let memory = reservation(engine);
            let check = |what, words: usize| {
                // Each used page has a page of the table, in memory, some of them with a neighbour.
                let most = USED * (page / WORD_BYTES);
                assert!(words <= 16 * most, "{engine:?}: {what} looked at {words} words");
                let resident = resident(&memory);
                assert!(resident <= USED * page, "{engine:?}: {resident} bytes after {what}");
            };
            check("a commit", 0);
            let ranges = || assert_eq!(memory.committed_ranges().count(), USED);
            check("committed_ranges", looked_at::words(ranges));
            check("zero", looked_at::words(|| memory.zero(..).unwrap()));
            check("a fork", looked_at::words(|| memory.end_abandoned_changes()));
            assert_eq!(memory.committed(), USED * page);
            check("decommit", looked_at::words(|| memory.decommit(..).unwrap()));
            assert_eq!((memory.committed(), memory.committed_ranges().count()), (0, 0));
        }
    }
}

/// Loom runs the reservation's own operations in `reservation/models.rs`. Here: who holds a page has it to
/// itself, and sees what those before it did.
#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;

    /// Any page size will do: there is no memory behind these pages.
    const PAGE: PageSize = PageSize::of(1 << 12);

    struct Subject {
        states: PageStates,
        /// What belongs to the holder of a page: loom fails the model where two threads are in it, and where
        /// one does not see what another one did before.
        holders: [UnsafeCell<usize>; 4],
    }

    // SAFETY: only the holder of a page touches what belongs to it, which is what the models check.
    unsafe impl Sync for Subject {}

    impl Subject {
        fn new() -> Arc<Self> {
            let holders = std::array::from_fn(|_| UnsafeCell::new(0));
            Arc::new(Self { states: PageStates::new(4), holders })
        }

        fn alone(&self, range: PageRange) {
            for page in range.first()..range.end() {
                // SAFETY: loom has made sure that this is the only one.
                self.holders[page].with_mut(|count| unsafe { *count += 1 });
            }
        }

        /// As a fault: whether the page was this thread's to commit.
        fn claim(&self, page: usize, wanted: PageRange) -> bool {
            loop {
                match self.states.claim(page, wanted).unwrap() {
                    Claim::Committed => return false,
                    Claim::Busy => relax(0),
                    Claim::Claimed(claimed) => {
                        self.alone(claimed);
                        self.states.unlock_committed(claimed);
                        return true;
                    }
                }
            }
        }

        /// As an explicit operation.
        fn lock(&self, range: PageRange, end: fn(&PageStates, PageRange)) {
            self.states.lock(range).unwrap();
            self.alone(range);
            end(&self.states, range);
        }

        fn try_lock(&self, range: PageRange) -> bool {
            let locked = self.states.try_lock(range);
            if locked {
                self.alone(range);
                self.states.unlock(range);
            }
            locked
        }
    }

    fn race(subject: &Arc<Subject>, ours: fn(&Subject), theirs: fn(&Subject)) {
        // (Not in this thread: loom lets it run first too often.)
        let threads = [ours, theirs].map(|work| {
            let subject = subject.clone();
            loom::thread::spawn(move || work(&subject))
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!((0..4).all(|page| !subject.states.is_held(page)));
    }

    #[test]
    fn loom_claims_on_overlapping_windows_never_share_a_page() {
        loom::model(|| {
            let subject = Subject::new();
            race(
                &subject,
                |subject| assert!(subject.claim(0, PAGE.pages(0, 3))),
                |subject| assert!(subject.claim(3, PAGE.pages(1, 4))),
            );
            assert!(subject.states.all_committed(PAGE.pages(0, 4)));
        });
    }

    #[test]
    fn loom_a_page_is_claimed_once() {
        loom::model(|| {
            let subject = Subject::new();
            race(
                &subject,
                |subject| _ = subject.claim(1, PAGE.pages(1, 2)),
                |subject| _ = subject.claim(1, PAGE.pages(0, 2)),
            );
            // SAFETY: nobody else is left.
            let claims = subject.holders[1].with(|count| unsafe { *count });
            assert_eq!(claims, 1);
        });
    }

    #[test]
    fn loom_an_operation_on_pages_waits_for_claims_and_other_operations() {
        for end in [PageStates::unlock, PageStates::unlock_reserved, PageStates::unlock_committed] {
            loom::model(move || {
                let subject = Subject::new();
                let claiming = loom::thread::spawn({
                    let subject = subject.clone();
                    move || subject.claim(2, PAGE.pages(0, 4))
                });
                let locking = loom::thread::spawn({
                    let subject = subject.clone();
                    move || subject.lock(PAGE.pages(1, 3), end)
                });
                claiming.join().unwrap();
                locking.join().unwrap();
                subject.lock(PAGE.pages(0, 4), end);
                assert!((0..4).all(|page| !subject.states.is_held(page)));
            });
        }
    }

    #[test]
    fn loom_a_lock_that_never_waits_is_as_exclusive_as_the_others() {
        loom::model(|| {
            let subject = Subject::new();
            race(
                &subject,
                |subject| _ = subject.try_lock(PAGE.pages(0, 4)),
                |subject| _ = subject.claim(1, PAGE.pages(0, 2)),
            );
            assert!(subject.try_lock(PAGE.pages(0, 4)), "nobody holds anything any more");
        });
    }
}
