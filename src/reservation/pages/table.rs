//! The memory of the page states: on the heap for a short reservation, in a reservation of its own for a long one.

#[cfg(not(loom))]
use std::alloc::{self, Layout};
use std::num::NonZeroUsize;
use std::ptr::{self, NonNull};

use crate::os::{self, OsError};
use crate::sync::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

pub(super) const WORD_BYTES: usize = size_of::<u64>();

/// Words of the largest table that lives on the heap: 64 KiB, a gigabyte of 4 KiB pages.
pub(super) const SMALL_WORDS: usize = 8192;

/// For an index beyond the table, which no caller passes. An error and not an assertion, since the fault handler must
/// not contain a panic.
const NO_SUCH_WORD: OsError = OsError(0);

/// The memory of the words: on the heap for a small table, else a reservation of its own. The first write to a
/// part makes and commits it, possibly inside the fault handler, where the heap must not be used.
#[derive(Debug)]
pub(super) enum Table {
    Small(Box<[AtomicU64]>),
    Large(LargeTable),
}

impl Table {
    pub(super) fn new(words: usize) -> Self {
        if words <= SMALL_WORDS {
            Self::Small(zeroed(words))
        } else {
            Self::Large(LargeTable::new(words))
        }
    }

    /// The word for reading; `None` where nothing was ever written.
    pub(super) fn word(&self, index: usize) -> Option<&AtomicU64> {
        match self {
            Self::Small(words) => words.get(index),
            Self::Large(table) => table.word(index),
        }
    }

    pub(super) fn word_for_writing(&self, index: usize) -> Result<&AtomicU64, OsError> {
        match self {
            Self::Small(words) => words.get(index).ok_or(NO_SUCH_WORD),
            Self::Large(table) => table.word_for_writing(index),
        }
    }

    /// Words of a *part*: the table knows of each part whether it was written. A small table is one part.
    pub(super) fn part_words(&self) -> NonZeroUsize {
        match self {
            Self::Small(words) => NonZeroUsize::new(words.len()).unwrap_or(NonZeroUsize::MIN),
            Self::Large(table) => table.part_words,
        }
    }

    /// The parts of a group of [`PARTS_PER_WORD`]: a bit for each, set where the part was written.
    pub(super) fn written(&self, group: usize) -> u64 {
        match self {
            Self::Small(_) => u64::from(group == 0),
            Self::Large(table) => table.written(group),
        }
    }

    /// Where [`word`](Self::word) has none at `index`: the next one that it has.
    pub(super) fn next_written(&self, index: usize) -> Option<usize> {
        match self {
            // All of its words are there.
            Self::Small(_) => None,
            Self::Large(table) => table.next_written(index),
        }
    }

    pub(super) fn for_each_written_word(&self, mut each: impl FnMut(usize, &AtomicU64)) {
        match self {
            Self::Small(words) => {
                words.iter().enumerate().for_each(|(index, word)| each(index, word));
            }
            Self::Large(table) => table.for_each_written_word(each),
        }
    }
}

/// Parts of a large table whose bits are in one word of `written`.
pub(super) const PARTS_PER_WORD: usize = u64::BITS as usize;

/// Invariant: `base` is null or the start of a reservation of `words` words that this table owns;
/// where the bit of a part is set in `written`, that part is committed for as long as the table
/// lives.
#[derive(Debug)]
pub(super) struct LargeTable {
    words: usize,
    /// Bytes of the reservation: a multiple of what is committed at once.
    bytes: usize,
    /// A part is a page of the table: the least that becomes resident. It holds the states of 32 whole blocks of the
    /// guard engine.
    part_words: NonZeroUsize,
    /// How many parts are committed at once, where the table is not committed as a whole: so many that the table takes
    /// 4,096 calls and mappings at most, and 64 KiB at least.
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
        let parts_per_commit = non_zero(at_once / page);
        let committed_words = parts_per_commit.get() * part_words.get();
        Self {
            words,
            bytes: words.next_multiple_of(committed_words) * WORD_BYTES,
            part_words,
            parts_per_commit,
            base: AtomicPtr::new(ptr::null_mut()),
            is_whole: AtomicU32::new(0),
            written: zeroed(parts.div_ceil(PARTS_PER_WORD)),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
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
        #[cfg(all(test, not(any(loom, miri, pagewise_model))))]
        looked_at::count();
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
    #[inline(never)] // the fault handler has little stack
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

    pub(super) fn base(&self) -> Result<NonNull<u8>, OsError> {
        if let Some(base) = NonNull::new(self.base.load(Ordering::Acquire)) {
            return Ok(base);
        }
        let at_once = !os::commits_strictly() && !os::data_is_limited();
        let attributes = os::Attributes { charged: !at_once, ..os::Attributes::PLAIN };
        let fresh = os::reserve(self.bytes(), os::reserve_granularity(), &attributes)?;
        if at_once {
            // Under `mlockall(MCL_FUTURE)` new memory is locked, and Linux makes all of locked memory resident when it
            // becomes accessible. Errors are ignored: where nothing is locked, there is nothing to undo.
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
                // A thread that does not see this yet commits a part once more, which changes nothing.
                self.is_whole.store(u32::from(is_whole), Ordering::Release);
                Ok(fresh)
            }
            Err(winner) => {
                // SAFETY: the reservation that lost the race is this thread's alone.
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
            // SAFETY: the table owns this reservation, and `&mut self` says that no borrow of it is left.
            let released = unsafe { os::release(base, self.bytes()) };
            debug_assert!(released.is_ok(), "releasing a page table: {released:?}");
        }
    }
}

/// How many words of large tables this thread has looked at: tests count that instead of taking time.
#[cfg(all(test, not(any(loom, miri, pagewise_model))))]
pub(crate) mod looked_at {
    use std::cell::Cell;

    thread_local! {
        /// Without a destructor and without allocation, since the fault handler counts, too.
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
    if words == 0 {
        return Box::default();
    }
    let layout = Layout::array::<AtomicU64>(words).expect("no more words than bytes of addresses");
    // Zeroed by the allocator, so that untouched pages of a long table take no memory. Not made from a `Vec<u64>`: on
    // 32-bit x86, `AtomicU64` has a larger alignment.
    // SAFETY: the layout is not empty.
    let start = unsafe { alloc::alloc_zeroed(layout) };
    if start.is_null() {
        alloc::handle_alloc_error(layout);
    }
    // SAFETY: allocated for just such a slice, and zero is a value of an atomic.
    unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(start.cast::<AtomicU64>(), words)) }
}

#[cfg(loom)]
pub(crate) fn zeroed(words: usize) -> Box<[AtomicU64]> {
    (0..words).map(|_| AtomicU64::new(0)).collect()
}
