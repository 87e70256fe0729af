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

const PAGES_PER_WORD: usize = 32;
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

    /// Whether every page of the range is committed, held or not. An unlocked read.
    pub(crate) fn are_committed(&self, range: PageRange) -> bool {
        words(range).all(|(index, mask)| committed(self.read(index)) & mask == mask)
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
    #[cfg(all(test, loom))]
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

    /// How many pages of the whole table are committed. Exact while no thread changes it.
    pub(crate) fn count_all_committed(&self) -> usize {
        let mut count = 0;
        self.table.for_each_backed_word(|_, word| {
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
                word.fetch_and(!to_busy(mask), Ordering::Release);
            }
        }
    }

    /// Marks a range that the caller holds as committed, and clears *busy*.
    pub(crate) fn unlock_committed(&self, range: PageRange) {
        for (index, mask) in words(range) {
            // Two steps: no other thread changes bits of these pages while they are busy.
            if let Some(word) = self.held(index) {
                word.fetch_or(u64::from(mask), Ordering::Release);
                word.fetch_and(!to_busy(mask), Ordering::Release);
            }
        }
    }

    /// Marks a range that the caller holds as reserved, and clears *busy*.
    pub(crate) fn unlock_reserved(&self, range: PageRange) {
        for (index, mask) in words(range) {
            if let Some(word) = self.held(index) {
                word.fetch_and(!(to_busy(mask) | u64::from(mask)), Ordering::Release);
            }
        }
    }

    /// Marks pages that the caller holds as reserved; they stay busy.
    pub(crate) fn mark_reserved(&self, range: PageRange) {
        for (index, mask) in words(range) {
            if let Some(word) = self.held(index) {
                word.fetch_and(!u64::from(mask), Ordering::Release);
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

    /// The first committed page in `first..end`. An unlocked read; skips parts of the table that were
    /// never written.
    pub(crate) fn find_committed(&self, first: usize, end: usize) -> Option<usize> {
        let (mut page, end) = (first, end.min(self.pages));
        while page < end {
            let index = page / PAGES_PER_WORD;
            let Some(word) = self.table.word(index) else {
                let granule = self.table.granule_words();
                page = (index / granule + 1) * granule.get() * PAGES_PER_WORD;
                continue;
            };
            let bits = committed(word.load(Ordering::Acquire)) >> (page % PAGES_PER_WORD);
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
        self.table.for_each_backed_word(|index, word| {
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
        let granule = self.table.granule_words().get() * PAGES_PER_WORD;
        let end = if range.is_empty() { 0 } else { range.end().div_ceil(granule) };
        (range.first() / granule..end)
            .filter(move |&index| self.table.word(index * granule / PAGES_PER_WORD).is_some())
            .map(move |index| {
                let first = (index * granule).max(range.first());
                range.with(first, ((index + 1) * granule).min(range.end()))
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

fn exchange(word: &AtomicU64, old: u64, new: u64) -> Result<(), u64> {
    word.compare_exchange_weak(old, new, Ordering::Acquire, Ordering::Relaxed).map(|_| ())
}

/// The words that a range touches, each with the bits of its pages.
fn words(range: PageRange) -> impl Iterator<Item = (usize, u32)> {
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

    fn granule_words(&self) -> NonZeroUsize {
        match self {
            Self::Small(words) => NonZeroUsize::new(words.len()).unwrap_or(NonZeroUsize::MIN),
            Self::Large(table) => table.granule_words,
        }
    }

    fn for_each_backed_word(&self, mut each: impl FnMut(usize, &AtomicU64)) {
        match self {
            Self::Small(words) => {
                words.iter().enumerate().for_each(|(index, word)| each(index, word));
            }
            Self::Large(table) => table.for_each_backed_word(each),
        }
    }
}

/// Invariant: `base` is null or the start of a reservation of `words` words that this table owns;
/// where the bit of a granule is set in `backed`, that granule is committed for as long as the table
/// lives.
#[derive(Debug)]
struct LargeTable {
    words: usize,
    granule_words: NonZeroUsize,
    base: AtomicPtr<u8>,
    /// Set once all of the table is committed at once, so that the kernel supplies pages as they are written.
    /// Only where the system overcommits: elsewhere the whole table would be charged.
    is_whole: AtomicU32,
    backed: Box<[AtomicU64]>,
}

impl LargeTable {
    fn new(words: usize) -> Self {
        let granule = (words * WORD_BYTES / 4096).next_power_of_two().max(SMALL_WORDS * WORD_BYTES);
        let granule_words = granule.max(os::page_size()) / WORD_BYTES;
        let granule_words = NonZeroUsize::new(granule_words).unwrap_or(NonZeroUsize::MIN);
        let granules = words.div_ceil(granule_words.get());
        Self {
            words,
            granule_words,
            base: AtomicPtr::new(ptr::null_mut()),
            is_whole: AtomicU32::new(0),
            backed: zeroed(granules.div_ceil(64)),
        }
    }

    fn bytes(&self) -> usize {
        self.words.next_multiple_of(self.granule_words.get()) * WORD_BYTES
    }

    fn is_backed(&self, granule: usize) -> bool {
        self.backed
            .get(granule / 64)
            .is_some_and(|bits| bits.load(Ordering::Acquire) & (1 << (granule % 64)) != 0)
    }

    fn word(&self, index: usize) -> Option<&AtomicU64> {
        debug_assert!(index < self.words);
        if index >= self.words || !self.is_backed(index / self.granule_words) {
            return None;
        }
        let base = self.base.load(Ordering::Relaxed).cast::<AtomicU64>();
        // SAFETY: by the invariant, the granule of this word is committed while `self` is borrowed,
        // and it reads zero, a valid atomic, until it is written.
        Some(unsafe { &*base.add(index) })
    }

    fn word_for_writing(&self, index: usize) -> Result<&AtomicU64, OsError> {
        if let Some(word) = self.word(index) {
            return Ok(word);
        }
        self.back(index / self.granule_words)?;
        self.word(index).ok_or(NO_SUCH_WORD)
    }

    /// Commits one granule. Several threads may do so at once: committing again changes nothing.
    fn back(&self, granule: usize) -> Result<(), OsError> {
        let base = self.base()?;
        let len = self.granule_words.get() * WORD_BYTES;
        if self.is_whole.load(Ordering::Acquire) == 0 {
            // SAFETY: the granule lies inside the table's own reservation, since its length is a
            // multiple of the granule.
            unsafe { os::commit(base.add(granule * len), len)? };
        }
        let bits = self.backed.get(granule / 64).ok_or(NO_SUCH_WORD)?;
        bits.fetch_or(1 << (granule % 64), Ordering::Release);
        Ok(())
    }

    fn base(&self) -> Result<NonNull<u8>, OsError> {
        if let Some(base) = NonNull::new(self.base.load(Ordering::Acquire)) {
            return Ok(base);
        }
        let at_once = !os::commits_strictly() && !os::data_is_limited();
        let attributes = os::Attributes { charged: !at_once, ..os::Attributes::PLAIN };
        let fresh = os::reserve(self.bytes(), os::reserve_granularity(), &attributes)?;
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

    fn for_each_backed_word(&self, mut each: impl FnMut(usize, &AtomicU64)) {
        let granule_words = self.granule_words.get();
        for granule in (0..self.words.div_ceil(granule_words)).filter(|&g| self.is_backed(g)) {
            let first = granule * granule_words;
            for index in first..(first + granule_words).min(self.words) {
                if let Some(word) = self.word(index) {
                    each(index, word);
                }
            }
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
        assert_eq!(states.count_committed(pages(0, 100)), 40);
        assert!(states.all_committed(pages(30, 70)) && !states.all_committed(pages(29, 70)));
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

#[cfg(all(test, loom))]
mod loom_models {
    use super::*;
    use crate::reservation::budget::{Account, Budget};
    use loom::sync::Arc;

    const PAGE: usize = 4096;

    /// What a fault does: claim, take the account, publish.
    fn serve(states: &PageStates, account: &Account, page: usize, size: PageSize) {
        let wanted = size.pages(page, page + 1);
        let Ok(Claim::Claimed(run)) = states.claim(page, wanted) else { return };
        match account.take_exactly(run.len()) {
            Ok(()) => {
                account.committed(run.len());
                states.unlock_committed(run);
            }
            Err(_) => states.unlock_reserved(run),
        }
    }

    /// What an explicit decommit does: hold, publish, give back.
    fn decommit(states: &PageStates, account: &Account, range: PageRange) {
        states.lock(range).unwrap();
        let bytes = states.count_committed(range) * PAGE;
        states.mark_reserved(range);
        account.decommitted(bytes);
        states.unlock(range);
    }

    fn check(
        states: &PageStates,
        account: &Account,
        budget: &Budget,
        size: PageSize,
        pages: usize,
    ) {
        let committed = states.count_committed(size.pages(0, pages)) * PAGE;
        assert_eq!((account.own().used(), budget.used()), (committed, committed));
        assert!(budget.peak() <= budget.limit());
        assert!((0..pages).all(|page| !states.is_held(page)));
    }

    /// Two faults for two pages, of which the budget has one: exactly one is granted.
    #[test]
    fn loom_a_limit_that_is_raced_for_is_exact() {
        loom::model(|| {
            let size = PageSize::of(PAGE);
            let budget = Budget::new(PAGE);
            let all = Arc::new((PageStates::new(2), Account::new(2 * PAGE, Some(budget.clone()))));
            let other = loom::thread::spawn({
                let all = all.clone();
                move || serve(&all.0, &all.1, 1, size)
            });
            serve(&all.0, &all.1, 0, size);
            other.join().unwrap();
            check(&all.0, &all.1, &budget, size, 2);
            assert_eq!(budget.used(), PAGE);
        });
    }

    /// Two faults for one page count once.
    #[test]
    fn loom_two_faults_on_one_page_count_once() {
        loom::model(|| {
            let size = PageSize::of(PAGE);
            let budget = Budget::new(8 * PAGE);
            let all = Arc::new((PageStates::new(1), Account::new(8 * PAGE, Some(budget.clone()))));
            let other = loom::thread::spawn({
                let all = all.clone();
                move || serve(&all.0, &all.1, 0, size)
            });
            serve(&all.0, &all.1, 0, size);
            other.join().unwrap();
            check(&all.0, &all.1, &budget, size, 1);
            assert_eq!(budget.used(), PAGE);
        });
    }

    /// A fault against a decommit of the same page: either order, never a page half in each.
    #[test]
    fn loom_a_fault_against_a_decommit_leaves_an_exact_account() {
        loom::model(|| {
            let size = PageSize::of(PAGE);
            let budget = Budget::new(2 * PAGE);
            let all = Arc::new((PageStates::new(2), Account::new(2 * PAGE, Some(budget.clone()))));
            serve(&all.0, &all.1, 0, size);
            let other = loom::thread::spawn({
                let all = all.clone();
                move || decommit(&all.0, &all.1, size.pages(0, 2))
            });
            serve(&all.0, &all.1, 1, size);
            other.join().unwrap();
            check(&all.0, &all.1, &budget, size, 2);
        });
    }
}

#[cfg(all(test, loom))]
mod loom_models_of_holding {
    use super::*;
    use crate::reservation::budget::{Account, Budget};
    use crate::sync::AtomicUsize;
    use loom::sync::Arc;

    /// Any page size will do: there is no memory behind these pages.
    const PAGE: PageSize = PageSize::of(1 << 12);

    /// The pages, who holds each of them (never two at once), and what is counted as committed.
    struct Subject {
        states: PageStates,
        holders: [AtomicUsize; 4],
        account: Account,
    }

    impl Subject {
        fn new(limit_pages: usize, shared: Option<Budget>) -> Arc<Self> {
            Arc::new(Self {
                states: PageStates::new(4),
                holders: std::array::from_fn(|_| AtomicUsize::new(0)),
                account: Account::new(limit_pages << 12, shared),
            })
        }

        /// Checks that no other thread holds these pages.
        fn alone(&self, range: PageRange) {
            for page in range.first()..range.end() {
                assert_eq!(self.holders[page].fetch_add(1, Ordering::Relaxed), 0, "held twice");
            }
            for page in range.first()..range.end() {
                self.holders[page].fetch_sub(1, Ordering::Relaxed);
            }
        }

        /// As `Reservation::serve`, without a system: whether the page is committed now.
        fn fault(&self, page: usize, wanted: PageRange) -> bool {
            loop {
                match self.states.claim(page, wanted).unwrap() {
                    Claim::Committed => return true,
                    Claim::Busy => relax(0),
                    Claim::Claimed(claimed) => {
                        self.alone(claimed);
                        let Ok(bytes) = self.account.take_up_to(claimed.len(), 1 << 12) else {
                            self.states.unlock(claimed);
                            return false;
                        };
                        let first = claimed.first().max((page + 1).saturating_sub(bytes >> 12));
                        let granted = claimed.with(first, first + (bytes >> 12));
                        self.states.unlock(claimed.with(claimed.first(), granted.first()));
                        self.states.unlock(claimed.with(granted.end(), claimed.end()));
                        self.alone(granted);
                        self.account.committed(granted.len());
                        self.states.unlock_committed(granted);
                        return true;
                    }
                }
            }
        }

        /// As `Reservation::commit`.
        fn commit(&self, range: PageRange) -> bool {
            self.states.lock(range).unwrap();
            self.alone(range);
            let missing = (range.count() - self.states.count_committed(range)) << 12;
            if self.account.take_exactly(missing).is_err() {
                self.states.unlock(range);
                return false;
            }
            self.account.committed(missing);
            self.states.unlock_committed(range);
            true
        }

        /// As `Reservation::decommit`.
        fn decommit(&self, range: PageRange) {
            self.states.lock(range).unwrap();
            self.alone(range);
            let committed = self.states.count_committed(range);
            self.states.mark_reserved(range);
            self.account.decommitted(committed << 12);
            self.states.unlock(range);
        }

        /// When all is quiet, the account is what the pages say.
        fn settled(&self) {
            let committed = self.states.count_all_committed();
            assert_eq!(self.account.own().used(), committed << 12);
            assert!(self.account.own().used() <= self.account.own().limit());
            let all = PAGE.pages(0, 4);
            self.states.lock(all).unwrap();
            self.states.unlock(all);
        }
    }

    fn race<const THREADS: usize>(
        subject: &Arc<Subject>,
        work: [fn(&Subject) -> bool; THREADS],
    ) -> [bool; THREADS] {
        let threads = work.map(|work| {
            let subject = subject.clone();
            loom::thread::spawn(move || work(&subject))
        });
        threads.map(|thread| thread.join().unwrap())
    }

    #[test]
    fn loom_overlapping_windows_never_share_a_page() {
        loom::model(|| {
            let subject = Subject::new(4, None);
            let both = race(
                &subject,
                [|s| s.fault(0, PAGE.pages(0, 3)), |s| s.fault(3, PAGE.pages(1, 4))],
            );
            assert_eq!(both, [true, true]);
            subject.settled();
        });
    }

    #[test]
    fn loom_a_shared_budget_is_never_exceeded() {
        loom::model(|| {
            let budget = Budget::new(1 << 12);
            let subjects = [(); 2].map(|()| Subject::new(2, Some(budget.clone())));
            let threads = subjects.each_ref().map(|subject| {
                let (subject, budget) = (subject.clone(), budget.clone());
                loom::thread::spawn(move || {
                    let granted = subject.fault(1, PAGE.pages(0, 2));
                    assert!(budget.used() <= budget.limit());
                    granted
                })
            });
            let granted = threads.map(|thread| thread.join().unwrap());
            assert!(granted[0] != granted[1], "{granted:?}");
            assert_eq!((budget.used(), budget.peak()), (1 << 12, 1 << 12));
            subjects.iter().for_each(|subject| subject.settled());
        });
    }

    #[test]
    fn loom_a_commit_against_a_decommit_and_the_limit() {
        loom::model(|| {
            let subject = Subject::new(2, None);
            assert!(subject.commit(PAGE.pages(0, 1)));
            race(
                &subject,
                [
                    |s| s.commit(PAGE.pages(0, 3)),
                    |s| {
                        s.decommit(PAGE.pages(0, 1));
                        true
                    },
                ],
            );
            subject.settled();
        });
    }

    #[test]
    fn loom_a_commit_against_a_fault() {
        loom::model(|| {
            let subject = Subject::new(3, None);
            let both =
                race(&subject, [|s| s.commit(PAGE.pages(0, 2)), |s| s.fault(1, PAGE.pages(1, 3))]);
            assert_eq!(both, [true, true]);
            subject.settled();
        });
    }
}
