//! Changing many elements in place: retain, dedup, drain, resize, and moving between arrays.

use std::mem;
use std::ops::{Range, RangeBounds};
use std::ptr;

use super::super::frontier::Growth;
use super::{Drain, ExtractIf, PageVec, Splice};
use crate::error::Error;
use crate::page::index_range;

/// A walk over all elements that drops some and closes the gap that they leave. Whatever happens
/// on the way, elements that were not reached yet stay.
///
/// Invariant: slots `0..reached - dropped` and `reached..len` are initialised, those between are
/// not; `vec.len` is zero until the end, so that nothing is dropped twice.
pub(super) struct Sweep<'a, T> {
    vec: &'a mut PageVec<T>,
    len: usize,
    reached: usize,
    dropped: usize,
}

impl<'a, T> Sweep<'a, T> {
    fn new(vec: &'a mut PageVec<T>, reached: usize) -> Self {
        let len = mem::take(&mut vec.len);
        debug_assert!(reached <= len);
        Self { vec, len, reached, dropped: 0 }
    }

    /// How many elements were looked at.
    pub(super) fn reached(&self) -> usize {
        self.reached
    }

    /// The next element to be kept, dropped or taken.
    pub(super) fn next(&self) -> Option<*mut T> {
        // SAFETY: `reached < len`.
        (self.reached < self.len).then(|| unsafe { self.vec.start.as_ptr().add(self.reached) })
    }

    /// The last element that was kept. There must be one.
    fn last_kept(&self) -> *mut T {
        // SAFETY: inside the slots `0..reached - dropped`.
        unsafe { self.vec.start.as_ptr().add(self.reached - self.dropped - 1) }
    }

    pub(super) fn keep(&mut self) {
        if self.dropped > 0 {
            // SAFETY: `reached < len` is initialised; the slot that it goes to is not.
            unsafe {
                let slot = self.vec.start.as_ptr().add(self.reached);
                ptr::copy_nonoverlapping(slot, slot.sub(self.dropped), 1);
            }
        }
        self.reached += 1;
    }

    /// Hands the next element out; its slot is empty from now on, as those of dropped ones are.
    pub(super) fn take_next(&mut self) -> T {
        let slot = self.next().expect("an element to take");
        self.reached += 1;
        self.dropped += 1;
        // SAFETY: the element was initialised, and does not count any more.
        unsafe { slot.read() }
    }

    fn drop_next(&mut self) {
        let slot = self.next().expect("an element to drop");
        self.reached += 1;
        self.dropped += 1;
        // SAFETY: the element was initialised, and counts as dropped already.
        unsafe { ptr::drop_in_place(slot) };
    }
}

impl<T> Drop for Sweep<'_, T> {
    fn drop(&mut self) {
        let start = self.vec.start.as_ptr();
        if self.dropped > 0 {
            // SAFETY: what was not reached is initialised, and moves down over dropped slots.
            unsafe {
                let rest = start.add(self.reached);
                ptr::copy(rest, rest.sub(self.dropped), self.len - self.reached);
            }
        }
        self.vec.len = self.len - self.dropped;
        self.vec.removed();
    }
}

impl<T> PageVec<T> {
    /// Keeps the elements for which `keep` returns true, in order, and drops the others. Memory that is
    /// far more than needed goes back to the system.
    ///
    /// ```
    /// let mut sessions = pagewise::PageVec::try_from_iter(100, [("Ada", 5), ("Grace", 90)])?;
    /// sessions.retain(|&(_, idle)| idle < 60);
    /// assert_eq!(sessions, [("Ada", 5)]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.retain_mut(|element| keep(element));
    }

    /// Keeps the elements for which `keep`, which may change them, returns true, in order.
    ///
    /// ```
    /// let mut lives = pagewise::PageVec::try_from_iter(100, [3, 1, 2])?;
    /// lives.retain_mut(|left| {
    ///     *left -= 1;
    ///     *left > 0
    /// });
    /// assert_eq!(lives, [2, 1]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn retain_mut(&mut self, mut keep: impl FnMut(&mut T) -> bool) {
        let mut sweep = Sweep::new(self, 0);
        while let Some(element) = sweep.next() {
            // SAFETY: the element is initialised, and nobody else has it.
            if keep(unsafe { &mut *element }) { sweep.keep() } else { sweep.drop_next() }
        }
    }

    /// Drops every element that equals the one before it.
    ///
    /// ```
    /// let mut words = pagewise::PageVec::try_from_iter(100, ["b", "a", "b", "a"])?;
    /// words.sort();
    /// words.dedup();
    /// assert_eq!(words, ["a", "b"]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn dedup(&mut self)
    where
        T: PartialEq,
    {
        self.dedup_by(|a, b| a == b);
    }

    /// Drops every element whose key equals that of the one before it.
    ///
    /// ```
    /// let mut readings = pagewise::PageVec::try_from_iter(100, [(1, 'a'), (1, 'b'), (2, 'c')])?;
    /// readings.dedup_by_key(|&mut (second, _)| second);
    /// assert_eq!(readings, [(1, 'a'), (2, 'c')]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn dedup_by_key<K: PartialEq>(&mut self, mut key: impl FnMut(&mut T) -> K) {
        self.dedup_by(|a, b| key(a) == key(b));
    }

    /// Drops every element for which `same(element, the last one kept)` returns true.
    ///
    /// ```
    /// let mut counts = pagewise::PageVec::try_from_iter(100, [("a", 1), ("a", 2), ("b", 5)])?;
    /// counts.dedup_by(|next, kept| {
    ///     let same = next.0 == kept.0;
    ///     kept.1 += if same { next.1 } else { 0 };
    ///     same
    /// });
    /// assert_eq!(counts, [("a", 3), ("b", 5)]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn dedup_by(&mut self, mut same: impl FnMut(&mut T, &mut T) -> bool) {
        if self.len < 2 {
            return;
        }
        let mut sweep = Sweep::new(self, 1);
        while let Some(element) = sweep.next() {
            // SAFETY: two different elements, both initialised; nobody else has them.
            let is_same = unsafe { same(&mut *element, &mut *sweep.last_kept()) };
            if is_same { sweep.drop_next() } else { sweep.keep() }
        }
    }

    /// Takes a range of elements out, as an iterator. Those that the iterator does not hand out are
    /// dropped with it; the elements behind move down then.
    ///
    /// # Panics
    /// If the range is out of bounds.
    ///
    /// ```
    /// let mut pending = pagewise::PageVec::try_from_iter(100, 0..6)?;
    /// let batch: Vec<_> = pending.drain(..4).collect();
    /// assert_eq!(batch, [0, 1, 2, 3]);
    /// assert_eq!(pending, [4, 5]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    pub fn drain(&mut self, range: impl RangeBounds<usize>) -> Drain<'_, T> {
        let range = checked_range(range, self.len);
        Drain::new(self, range)
    }

    /// Takes a range of elements out, as an iterator, and puts others in their place when the
    /// iterator is dropped.
    ///
    /// # Panics
    /// If the range is out of bounds; when dropped, where growing is refused.
    ///
    /// ```
    /// let mut route = pagewise::PageVec::try_from_iter(100, ["A", "B", "D"])?;
    /// let skipped: Vec<_> = route.splice(1..2, ["C1", "C2", "C3"]).collect();
    /// assert_eq!(skipped, ["B"]);
    /// assert_eq!(route, ["A", "C1", "C2", "C3", "D"]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    pub fn splice<I: IntoIterator<Item = T>>(
        &mut self,
        range: impl RangeBounds<usize>,
        replace_with: I,
    ) -> Splice<'_, I::IntoIter> {
        Splice::new(self.drain(range), replace_with.into_iter())
    }

    /// Takes out the elements of a range for which `predicate`, which may change them, returns true:
    /// an iterator that asks about the next element when it is asked for the next one. Elements that it
    /// was not asked for stay, as do those outside of the range.
    ///
    /// ```
    /// let mut numbers = pagewise::PageVec::try_from_iter(100, 0..10)?;
    /// let even: Vec<_> = numbers.extract_if(..6, |n| *n % 2 == 0).collect();
    /// assert_eq!(even, [0, 2, 4]);
    /// assert_eq!(numbers, [1, 3, 5, 6, 7, 8, 9]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    ///
    /// # Panics
    /// If the range is out of bounds.
    #[track_caller]
    pub fn extract_if<F, R>(&mut self, range: R, predicate: F) -> ExtractIf<'_, T, F>
    where
        F: FnMut(&mut T) -> bool,
        R: RangeBounds<usize>,
    {
        let range = checked_range(range, self.len);
        ExtractIf::new(Sweep::new(self, range.start), range.end, predicate)
    }

    /// Moves all elements of `other` to the end of this array. They get new addresses; the elements that
    /// were here keep theirs.
    ///
    /// # Panics
    /// Where growing is refused; then nothing has changed.
    ///
    /// ```
    /// let mut all = pagewise::PageVec::try_from_iter(100, [1, 2])?;
    /// let mut more = pagewise::PageVec::try_from_iter(10, [3])?;
    /// let first = all.as_ptr();
    /// all.append(&mut more);
    /// assert_eq!((all.len(), more.len(), all.as_ptr()), (3, 0, first));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    pub fn append(&mut self, other: &mut Self) {
        super::granted(self.try_append(other))
    }

    /// Moves all elements of `other` to the end of this array, or none.
    ///
    /// # Errors
    /// As [`try_reserve`](Self::try_reserve): [`Full`](crate::Error::Full),
    /// [`LimitReached`](crate::Error::LimitReached), [`BudgetReached`](crate::Error::BudgetReached),
    /// [`CommitRefused`](crate::Error::CommitRefused), [`MappingsExhausted`](crate::Error::MappingsExhausted)
    /// or [`Locked`](crate::Error::Locked); then nothing has changed.
    ///
    /// ```
    /// let mut full = pagewise::PageVec::try_from_iter(2, [1, 2])?;
    /// let mut more = pagewise::PageVec::try_from_iter(10, [3])?;
    /// assert!(full.try_append(&mut more).is_err());
    /// assert_eq!((&full[..], &more[..]), (&[1, 2][..], &[3][..])); // each where it was
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn try_append(&mut self, other: &mut Self) -> Result<(), Error> {
        self.grow(other.len, Growth::Amortized)?;
        // SAFETY: there is room; the elements move, since `other` is empty afterwards.
        unsafe { self.move_in(other.start.as_ptr(), mem::take(&mut other.len)) };
        other.removed();
        Ok(())
    }

    /// Takes the elements from `at` on, into a new array with the same maximum length and options.
    /// They get new addresses; this array keeps its own, and what it reserved.
    ///
    /// # Panics
    /// If `at > len`, or where reserving or growing is refused; then nothing has changed.
    ///
    /// ```
    /// let mut head = pagewise::PageVec::try_from_iter(100, ['a', 'b', 'c'])?;
    /// let tail = head.split_off(1);
    /// assert_eq!((&head[..], &tail[..]), (&['a'][..], &['b', 'c'][..]));
    /// assert_eq!(tail.max_len(), 100);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    #[must_use = "use `truncate` to drop the elements"]
    pub fn split_off(&mut self, at: usize) -> Self {
        let len = self.len;
        assert!(at <= len, "`at` split index (is {at}) should be <= len (is {len})");
        let mut other = super::granted(self.new_alike());
        other.make_room(len - at);
        self.len = at;
        other.len = len - at;
        // SAFETY: there is room; the elements move, since this array ends before them now.
        unsafe {
            let tail = self.start.as_ptr().add(at);
            ptr::copy_nonoverlapping(tail, other.start.as_ptr(), other.len);
        }
        self.removed();
        other
    }

    /// Makes the length `len`: drops elements, or appends what `make` returns.
    ///
    /// # Panics
    /// Where growing is refused.
    ///
    /// ```
    /// let mut buckets = pagewise::PageVec::<Vec<u8>>::new(1 << 20)?;
    /// buckets.resize_with(16, Vec::new);
    /// assert!(buckets.len() == 16 && buckets.iter().all(Vec::is_empty));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    pub fn resize_with(&mut self, len: usize, make: impl FnMut() -> T) {
        super::granted(self.try_resize_with(len, make))
    }

    /// Makes the length `len`: drops elements, or appends what `make` returns.
    ///
    /// # Errors
    /// As [`try_reserve`](Self::try_reserve): [`Full`](crate::Error::Full),
    /// [`LimitReached`](crate::Error::LimitReached), [`BudgetReached`](crate::Error::BudgetReached),
    /// [`CommitRefused`](crate::Error::CommitRefused), [`MappingsExhausted`](crate::Error::MappingsExhausted)
    /// or [`Locked`](crate::Error::Locked); then nothing has changed, and `make` was not called.
    ///
    /// ```
    /// let mut buckets = pagewise::PageVec::<Vec<u8>>::new(16)?;
    /// assert!(buckets.try_resize_with(17, Vec::new).is_err());
    /// buckets.try_resize_with(16, Vec::new)?;
    /// assert!(buckets.is_full());
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn try_resize_with(
        &mut self,
        len: usize,
        mut make: impl FnMut() -> T,
    ) -> Result<(), Error> {
        let Some(additional) = len.checked_sub(self.len) else {
            self.truncate(len);
            return Ok(());
        };
        self.grow(additional, Growth::Amortized)?;
        let mut writer = self.writer();
        for _ in 0..additional {
            // SAFETY: there is room for all of them.
            unsafe { writer.write(make()) };
        }
        Ok(())
    }
}

impl<T, const N: usize> PageVec<[T; N]> {
    /// Makes an array of arrays one flat array at the same address: nothing is copied or moved. The
    /// maximum length becomes `N` times as large.
    ///
    /// ```
    /// let pairs = pagewise::PageVec::try_from_iter(100, [[1, 2], [3, 4]])?;
    /// let address = pairs.as_ptr().cast();
    /// let numbers = pairs.into_flattened();
    /// assert_eq!((&numbers[..], numbers.as_ptr()), (&[1, 2, 3, 4][..], address));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    ///
    /// # Panics
    /// If the new length overflows, which only that of elements without a size can.
    #[track_caller]
    pub fn into_flattened(self) -> PageVec<T> {
        let len = self.len.checked_mul(N).expect("vec len overflow");
        let this = mem::ManuallyDrop::new(self);
        // SAFETY: `this` is not used again, and not dropped.
        let mut backing = unsafe { ptr::read(&this.backing) };
        // More than there are addresses only where elements have no size.
        backing.max_len = backing.max_len.saturating_mul(N);
        let mut flat = PageVec::from_backing(this.start.cast(), backing);
        flat.len = len;
        flat.frontier_moved();
        flat
    }
}

/// A range of elements, checked as `Vec` checks it.
#[track_caller]
pub(super) fn checked_range(range: impl RangeBounds<usize>, len: usize) -> Range<usize> {
    match index_range(range, len) {
        Ok((start, end)) => start..end,
        Err(Error::ReversedRange { start, end }) => {
            panic!("slice index starts at {start} but ends at {end}")
        }
        Err(Error::OutOfBounds { end, .. }) => {
            panic!("range end index {end} out of range for slice of length {len}")
        }
        Err(_) => panic!("a bound of the range overflows"),
    }
}
