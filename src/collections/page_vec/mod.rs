//! A growable array whose elements never move.

// First, because the documentation shows methods in the order of these modules: how an array is made.
mod builder;

mod drain;
mod edit;
mod extend;
mod extract_if;
mod into_iter;
#[cfg(feature = "rayon")]
mod rayon;
#[cfg(feature = "serde")]
mod serde;
mod splice;
mod traits;

use std::fmt;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr::{self, NonNull};
use std::slice;

use super::frontier::{Frontier, Growth, Options};
use super::push_error::PushError;
use crate::error::Error;

pub use builder::PageVecBuilder;
pub use drain::Drain;
pub use extract_if::ExtractIf;
pub use into_iter::IntoIter;
#[cfg(feature = "rayon")]
pub use rayon::ParIntoIter;
pub use splice::Splice;

/// A growable array whose elements never move: `Vec`'s methods, on a [`Reservation`].
///
/// ```
/// use pagewise::PageVec;
///
/// let mut samples = PageVec::new(1_000_000_000)?; // addresses for a billion: costs nothing
/// samples.push(17u64);
/// let first = samples.as_ptr();
/// samples.extend(0..1_000_000);
/// assert_eq!(samples.as_ptr(), first); // nothing moved
/// assert!(samples.committed() < 10 << 20);
/// # Ok::<(), pagewise::Error>(())
/// ```
///
/// The maximum length is stated at the start and reserves addresses only. Memory is committed as the
/// array grows, ahead of it by at most 64 KiB or an eighth of what is committed, whichever is more.
/// Growing copies nothing: no push takes long, and pointers to elements stay good until the element
/// itself is removed.
///
/// Methods that `Vec` has behave as `Vec`'s do, and panic where the maximum length or a limit is
/// reached (the message says which); `try_` methods return the [`Error`] instead, and the value.
///
/// # Giving memory back
/// When elements are removed and more than a quarter of the committed memory (and more than 128 KiB)
/// is unused, the unused part goes back to the system but for one step, so that a length that
/// swings a little commits nothing. Memory that was asked for by [`reserve`](Self::reserve) stays
/// until [`shrink_to_fit`](Self::shrink_to_fit);
/// [`keep_committed`](PageVecBuilder::keep_committed) makes all of it stay.
///
/// # Variance, threads, drop check
/// Covariant in `T`; `Send` and `Sync` where `T` is. What a `T` borrows must outlive the array, even if
/// `T` has no destructor (`Vec` relaxes this with an unstable feature).
///
/// ```compile_fail,E0597
/// let mut names = pagewise::PageVec::new(1)?;
/// let name = String::from("gone too soon");
/// names.push(&name);
/// # Ok::<(), pagewise::Error>(())
/// ```
///
/// [`Reservation`]: crate::Reservation
pub struct PageVec<T> {
    /// Invariant: points to `capacity()` slots of `T` that are committed, aligned, and belong to
    /// this value alone; the first `len` are initialised. `len <= capacity() <= max_len`, and
    /// `ready <= capacity()`. Nothing behind `capacity()` is touched.
    start: NonNull<T>,
    len: usize,
    /// Number of elements up to which a push needs no call of the frontier.
    ready: usize,
    /// Once the length is below this number of elements, memory is given back.
    give_back_below: usize,
    /// State that only growing and shrinking use. Boxed, so that moving the array copies few bytes.
    backing: Box<Backing>,
    owns: PhantomData<T>,
}

struct Backing {
    /// `None` where no memory is needed: elements of size zero, or a maximum length of zero.
    frontier: Option<Frontier>,
    max_len: usize,
    options: Options,
}

// SAFETY: the slots belong to this value alone; sending it sends the elements.
unsafe impl<T: Send> Send for PageVec<T> {}
// SAFETY: `&self` gives out `&T` only.
unsafe impl<T: Sync> Sync for PageVec<T> {}

/// Length, addresses, slices.
impl<T> PageVec<T> {
    const IS_ZERO_SIZED: bool = size_of::<T>() == 0;

    /// A new, empty array with the same maximum length and the same options as this one.
    fn new_alike(&self) -> Result<Self, Error> {
        builder::build(self.backing.max_len, self.backing.max_len, self.backing.options.clone())
    }

    fn from_backing(start: NonNull<T>, backing: Box<Backing>) -> Self {
        let ready = if Self::IS_ZERO_SIZED { backing.max_len } else { 0 };
        Self { start, len: 0, ready, give_back_below: 0, backing, owns: PhantomData }
    }

    /// Returns the number of elements.
    ///
    /// ```
    /// let names = pagewise::PageVec::try_from_iter(1000, ["Ada", "Grace"])?;
    /// assert_eq!((names.len(), names.max_len()), (2, 1000));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there are no elements. An empty array may still have committed memory.
    ///
    /// ```
    /// let mut queue = pagewise::PageVec::new(100)?;
    /// queue.reserve(10);
    /// queue.push('x');
    /// queue.pop();
    /// assert!(queue.is_empty() && queue.committed() > 0);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the maximum number of elements, which was stated when the array was made.
    ///
    /// ```
    /// let mut bits = pagewise::PageVec::<bool>::new(3)?;
    /// bits.reserve(1); // commits a whole page, but the maximum stays what it was
    /// assert_eq!((bits.max_len(), bits.capacity()), (3, 3));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn max_len(&self) -> usize {
        self.backing.max_len
    }

    /// Returns how many elements fit into the memory that is committed now, at most `max_len`. Zero at
    /// first: unlike in `Vec`, reserving addresses is no capacity.
    ///
    /// ```
    /// let mut bytes = pagewise::PageVec::<u8>::new(1 << 30)?;
    /// assert_eq!(bytes.capacity(), 0);
    /// bytes.reserve_exact(1);
    /// assert_eq!(bytes.capacity(), pagewise::page_size());
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn capacity(&self) -> usize {
        match &self.backing.frontier {
            Some(frontier) => (frontier.committed() / size_of::<T>()).min(self.backing.max_len),
            None => self.backing.max_len,
        }
    }

    /// Returns the bytes that are committed now: whole pages.
    ///
    /// ```
    /// let mut words = pagewise::PageVec::<u64>::new(1 << 30)?;
    /// words.push(1);
    /// assert!(words.committed() >= 8);
    /// assert_eq!(words.committed() % pagewise::page_size(), 0);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn committed(&self) -> usize {
        self.backing.frontier.as_ref().map_or(0, Frontier::committed)
    }

    /// Returns the address of the first element, the same for the life of the array.
    ///
    /// ```
    /// let mut nodes = pagewise::PageVec::try_from_iter(1 << 20, [10, 20])?;
    /// let second = unsafe { nodes.as_ptr().add(1) };
    /// nodes.extend(0..100_000);
    /// assert_eq!(unsafe { *second }, 20); // would dangle with `Vec`
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[inline]
    pub fn as_ptr(&self) -> *const T {
        self.start.as_ptr()
    }

    /// Returns the address of the first element, for writing; the same for the life of the array.
    ///
    /// ```
    /// let mut pair = pagewise::PageVec::try_from_iter(2, [1, 2])?;
    /// // SAFETY: there are two elements.
    /// unsafe { pair.as_mut_ptr().add(1).write(7) };
    /// assert_eq!(pair, [1, 7]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[inline]
    pub fn as_mut_ptr(&mut self) -> *mut T {
        self.start.as_ptr()
    }

    /// Returns all elements as one slice, contiguous however often the array has grown. Methods of
    /// slices (`iter`, `get`, `first`, `binary_search`, `chunks`, …) are there without it, by `Deref`.
    ///
    /// ```
    /// let primes = pagewise::PageVec::try_from_iter(100, [2, 3, 5, 7])?;
    /// let slice: &[i32] = primes.as_slice();
    /// assert_eq!(primes.get(9), None);
    /// assert_eq!(primes.iter().sum::<i32>(), slice.iter().sum());
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[inline]
    pub fn as_slice(&self) -> &[T] {
        // SAFETY: the first `len` slots are initialised, and borrowed with `self`.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// Returns all elements as one slice, to be changed.
    ///
    /// ```
    /// let mut scores = pagewise::PageVec::try_from_iter(100, [3, 1, 2])?;
    /// scores.as_mut_slice().sort();
    /// scores.iter_mut().for_each(|score| *score *= 10); // the same slice, by `DerefMut`
    /// assert_eq!(scores, [10, 20, 30]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: the first `len` slots are initialised, and borrowed with `self`.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }

    /// Returns the slots behind the elements that are committed already, to be filled in place and then
    /// made elements with [`set_len`](Self::set_len).
    ///
    /// ```
    /// let mut bytes = pagewise::PageVec::<u8>::new(1 << 20)?;
    /// bytes.reserve(2);
    /// bytes.spare_capacity_mut()[0].write(b'a');
    /// // SAFETY: the first slot is initialised.
    /// unsafe { bytes.set_len(1) };
    /// assert_eq!(bytes, b"a");
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn spare_capacity_mut(&mut self) -> &mut [MaybeUninit<T>] {
        let spare = self.capacity() - self.len;
        // SAFETY: the slots up to `capacity()` are committed, and borrowed with `self`.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr().add(self.len).cast(), spare) }
    }

    /// Sets the length without making or dropping elements.
    ///
    /// # Safety
    /// `len <= capacity()`, and the first `len` elements are initialised.
    ///
    /// ```
    /// let mut names = pagewise::PageVec::try_from_iter(10, [String::from("moved out")])?;
    /// // SAFETY: the element is read once, and does not count any more.
    /// let name = unsafe {
    ///     names.set_len(0);
    ///     names.as_ptr().read()
    /// };
    /// assert_eq!(name, "moved out");
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub unsafe fn set_len(&mut self, len: usize) {
        debug_assert!(len <= self.capacity());
        self.len = len;
    }

    /// Gives the elements, and all addresses and memory of the array, to the rest of the program:
    /// nothing is dropped or released before the process ends.
    ///
    /// ```
    /// let table: &'static [u32] = pagewise::PageVec::try_from_iter(256, 0..256)?.leak();
    /// std::thread::spawn(|| assert_eq!(table[255], 255)).join().unwrap();
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn leak<'a>(self) -> &'a mut [T]
    where
        T: 'a,
    {
        let leaked = ManuallyDrop::new(self);
        // SAFETY: neither elements nor memory are ever freed.
        unsafe { slice::from_raw_parts_mut(leaked.start.as_ptr(), leaked.len) }
    }
}

/// Growing and shrinking.
impl<T> PageVec<T> {
    /// Commits memory for `additional` more elements, in steps, so that calling it again and again
    /// is cheap. The memory stays until [`shrink_to`](Self::shrink_to).
    ///
    /// # Panics
    /// Where [`try_reserve`](Self::try_reserve) returns an error.
    ///
    /// ```
    /// let mut frames = pagewise::PageVec::<u64>::new(1 << 30)?;
    /// frames.reserve(10_000); // no push of the next 10,000 can be refused
    /// let committed = frames.committed();
    /// frames.extend(0..10_000);
    /// assert_eq!(frames.committed(), committed);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    pub fn reserve(&mut self, additional: usize) {
        granted(self.try_reserve(additional))
    }

    /// Commits memory for exactly `additional` more elements, rounded up to whole pages.
    ///
    /// # Panics
    /// Where [`try_reserve_exact`](Self::try_reserve_exact) returns an error.
    ///
    /// ```
    /// let mut page = pagewise::PageVec::<u8>::new(1 << 30)?;
    /// page.reserve_exact(pagewise::page_size());
    /// assert_eq!(page.committed(), pagewise::page_size()); // no step ahead
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    pub fn reserve_exact(&mut self, additional: usize) {
        granted(self.try_reserve_exact(additional))
    }

    /// Commits memory as [`reserve`](Self::reserve) does, but returns what went wrong.
    ///
    /// # Errors
    /// [`Full`](Error::Full), [`LimitReached`](Error::LimitReached), [`BudgetReached`](Error::BudgetReached),
    /// [`CommitRefused`](Error::CommitRefused), [`Locked`](Error::Locked), or
    /// [`MappingsExhausted`](Error::MappingsExhausted): then nothing has changed.
    ///
    /// ```
    /// use pagewise::{Error, PageVec};
    ///
    /// let mut bytes = PageVec::<u8>::builder(1 << 30).limit(1 << 20).build()?;
    /// assert!(matches!(bytes.try_reserve(2 << 20), Err(Error::LimitReached { .. })));
    /// assert!(matches!(bytes.try_reserve(2 << 30), Err(Error::Full { .. })));
    /// bytes.try_reserve(1 << 20)?;
    /// # Ok::<(), Error>(())
    /// ```
    pub fn try_reserve(&mut self, additional: usize) -> Result<(), Error> {
        self.grow(additional, Growth::Amortized)?;
        self.keep(additional);
        Ok(())
    }

    /// Commits memory as [`reserve_exact`](Self::reserve_exact) does, but returns what went wrong.
    ///
    /// # Errors
    /// As [`try_reserve`](Self::try_reserve): [`Full`](crate::Error::Full),
    /// [`LimitReached`](crate::Error::LimitReached), [`BudgetReached`](crate::Error::BudgetReached),
    /// [`CommitRefused`](crate::Error::CommitRefused), [`MappingsExhausted`](crate::Error::MappingsExhausted)
    /// or [`Locked`](crate::Error::Locked).
    ///
    /// ```
    /// let budget = pagewise::Budget::new(pagewise::page_size());
    /// let mut bytes = pagewise::PageVec::<u8>::builder(1 << 20).budget(budget).build()?;
    /// bytes.try_reserve_exact(1)?; // takes the whole budget: one page
    /// assert!(bytes.try_reserve_exact(pagewise::page_size() + 1).is_err());
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn try_reserve_exact(&mut self, additional: usize) -> Result<(), Error> {
        self.grow(additional, Growth::Exact)?;
        self.keep(additional);
        Ok(())
    }

    fn keep(&mut self, additional: usize) {
        if let Some(frontier) = &mut self.backing.frontier {
            frontier.keep((self.len + additional) * size_of::<T>());
            self.frontier_moved();
        }
    }

    /// Gives back every whole page behind the elements, and what was reserved. The elements stay where
    /// they are. A system that refuses leaves the memory committed.
    ///
    /// ```
    /// let mut bytes = pagewise::PageVec::<u8>::new(1 << 30)?;
    /// bytes.reserve(1 << 20);
    /// bytes.push(1);
    /// bytes.shrink_to_fit();
    /// assert_eq!(bytes.committed(), pagewise::page_size());
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn shrink_to_fit(&mut self) {
        self.shrink_to(0);
    }

    /// Gives back every whole page behind `min_capacity` elements, or behind the elements that there
    /// are, and what was reserved. A system that refuses leaves the memory committed.
    ///
    /// ```
    /// let mut bytes = pagewise::PageVec::<u8>::new(1 << 30)?;
    /// bytes.reserve(1 << 20);
    /// bytes.shrink_to(64 << 10);
    /// assert_eq!(bytes.capacity(), 64 << 10);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn shrink_to(&mut self, min_capacity: usize) {
        if let Some(frontier) = &mut self.backing.frontier {
            let kept = self.len.max(min_capacity.min(self.backing.max_len)) * size_of::<T>();
            let _ = frontier.shrink_to(kept);
            self.frontier_moved();
        }
    }

    /// Commits memory for `additional` more elements.
    fn grow(&mut self, additional: usize, growth: Growth) -> Result<(), Error> {
        self.grow_behind(self.len, additional, growth)
    }

    /// Commits memory for `additional` more slots behind the first `len`, which are in use although
    /// they may not be elements now.
    #[cold]
    fn grow_behind(&mut self, len: usize, additional: usize, growth: Growth) -> Result<(), Error> {
        let max_len = self.backing.max_len;
        if additional > max_len - len {
            return Err(Error::Full { len, additional, max_len });
        }
        if additional == 0 {
            return Ok(());
        }
        if let Some(frontier) = &mut self.backing.frontier {
            frontier.grow((len + additional) * size_of::<T>(), growth)?;
            self.frontier_moved();
        }
        Ok(())
    }

    /// Makes room for elements that are written at once.
    #[inline]
    #[track_caller]
    fn make_room(&mut self, additional: usize) {
        granted(self.grow(additional, Growth::Amortized))
    }

    /// Gives memory back after elements were removed. Callers call it last: slots at and after `len`
    /// may be inaccessible afterwards.
    #[inline]
    fn removed(&mut self) {
        if self.len < self.give_back_below {
            self.give_back();
        }
    }

    #[cold]
    fn give_back(&mut self) {
        let Some(frontier) = &mut self.backing.frontier else { return };
        let given = frontier.give_back(self.len * size_of::<T>());
        self.frontier_moved();
        if given.is_err() {
            // The system would refuse at the next removal, too: do not ask before the next growth.
            self.give_back_below = 0;
        }
    }

    /// In the child of a fork, where a thread of the parent was appending: makes the array consist of its
    /// first `len` elements, and its memory of what is committed. What was being appended is forgotten.
    ///
    /// # Safety
    /// The first `len` elements are initialised.
    pub(crate) unsafe fn recover(&mut self, len: usize) {
        self.len = len;
        if let Some(frontier) = &mut self.backing.frontier {
            frontier.recover();
        }
        self.frontier_moved();
    }

    fn frontier_moved(&mut self) {
        let Some(frontier) = &self.backing.frontier else { return };
        self.ready = (frontier.ready() / size_of::<T>()).min(self.backing.max_len);
        self.give_back_below = frontier.give_back_below() / size_of::<T>();
    }
}

/// One element at a time.
impl<T> PageVec<T> {
    /// Appends an element. Nothing moves, however much the array grows.
    ///
    /// # Panics
    /// Where [`try_push`](Self::try_push) returns an error; the value is dropped.
    ///
    /// ```
    /// let mut log = pagewise::PageVec::new(1_000_000)?;
    /// for line in 0..100_000 {
    ///     log.push(line); // commits memory now and then; never copies
    /// }
    /// assert_eq!(log.last(), Some(&99_999));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[inline]
    #[track_caller]
    pub fn push(&mut self, value: T) {
        if self.len >= self.ready {
            self.grow_for_push();
        }
        // SAFETY: `len < ready <= capacity()`, or the frontier has just grown beyond `len`.
        unsafe { self.start.as_ptr().add(self.len).write(value) };
        self.len += 1;
    }

    #[cold]
    #[inline(never)]
    #[track_caller]
    fn grow_for_push(&mut self) {
        granted(self.grow(1, Growth::Append))
    }

    /// Appends an element, or hands it back.
    ///
    /// # Errors
    /// [`PushError`](crate::PushError) with the value, and an error of [`try_reserve`](Self::try_reserve):
    /// [`Full`](crate::Error::Full), [`LimitReached`](crate::Error::LimitReached),
    /// [`BudgetReached`](crate::Error::BudgetReached), [`CommitRefused`](crate::Error::CommitRefused),
    /// [`MappingsExhausted`](crate::Error::MappingsExhausted) or [`Locked`](crate::Error::Locked). Nothing has
    /// changed then.
    ///
    /// ```
    /// let mut jobs = pagewise::PageVec::new(1)?;
    /// jobs.try_push(Box::new(1))?;
    /// let refused = jobs.try_push(Box::new(2)).unwrap_err();
    /// assert_eq!(*refused.into_value(), 2); // the box comes back
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[inline]
    pub fn try_push(&mut self, value: T) -> Result<(), PushError<T>> {
        if self.len >= self.ready
            && let Err(error) = self.grow(1, Growth::Append)
        {
            return Err(PushError::new(value, error));
        }
        // SAFETY: as in `push`.
        unsafe { self.start.as_ptr().add(self.len).write(value) };
        self.len += 1;
        Ok(())
    }

    /// Takes the last element.
    ///
    /// ```
    /// let mut stack = pagewise::PageVec::try_from_iter(10, ["a", "b"])?;
    /// assert_eq!((stack.pop(), stack.pop(), stack.pop()), (Some("b"), Some("a"), None));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if self.len == 0 {
            return None;
        }
        self.len -= 1;
        // SAFETY: the slot was initialised, and is not part of the array any more.
        let value = unsafe { self.start.as_ptr().add(self.len).read() };
        self.removed();
        Some(value)
    }

    /// Takes the last element if `predicate`, which may change it, returns true for it.
    ///
    /// ```
    /// let mut due = pagewise::PageVec::try_from_iter(10, [90, 40, 10])?;
    /// let now = 50;
    /// while due.pop_if(|time| *time <= now).is_some() {}
    /// assert_eq!(due, [90]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn pop_if(&mut self, predicate: impl FnOnce(&mut T) -> bool) -> Option<T> {
        let last = self.last_mut()?;
        if predicate(last) { self.pop() } else { None }
    }

    /// Inserts an element before position `index`, moving those behind it by one.
    ///
    /// # Panics
    /// If `index > len`, or where [`try_insert`](Self::try_insert) returns an error.
    ///
    /// ```
    /// let mut sorted = pagewise::PageVec::try_from_iter(10, [1, 2, 4])?;
    /// let place = sorted.binary_search(&3).unwrap_err();
    /// sorted.insert(place, 3);
    /// assert_eq!(sorted, [1, 2, 3, 4]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    pub fn insert(&mut self, index: usize, value: T) {
        if let Err(refusal) = self.try_insert(index, value) {
            let (value, error) = refusal.into_parts();
            drop(value);
            refused(error)
        }
    }

    /// Inserts an element before position `index`, or hands it back.
    ///
    /// # Errors
    /// As [`try_push`](Self::try_push): [`Full`](crate::Error::Full),
    /// [`LimitReached`](crate::Error::LimitReached), [`BudgetReached`](crate::Error::BudgetReached),
    /// [`CommitRefused`](crate::Error::CommitRefused), [`MappingsExhausted`](crate::Error::MappingsExhausted)
    /// or [`Locked`](crate::Error::Locked).
    ///
    /// # Panics
    /// If `index > len`.
    ///
    /// ```
    /// let mut full = pagewise::PageVec::try_from_iter(2, ['b', 'c'])?;
    /// let refused = full.try_insert(0, 'a').unwrap_err();
    /// assert_eq!(refused.into_value(), 'a');
    /// assert_eq!(full, ['b', 'c']); // nothing was shifted
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    pub fn try_insert(&mut self, index: usize, value: T) -> Result<(), PushError<T>> {
        let len = self.len;
        assert!(index <= len, "insertion index (is {index}) should be <= len (is {len})");
        if len >= self.ready
            && let Err(error) = self.grow(1, Growth::Append)
        {
            return Err(PushError::new(value, error));
        }
        // SAFETY: `index <= len`, and slot `len` is committed, as in `push`.
        unsafe {
            let slot = self.start.as_ptr().add(index);
            ptr::copy(slot, slot.add(1), len - index);
            slot.write(value);
        }
        self.len = len + 1;
        Ok(())
    }

    /// Takes the element at `index`, moving those behind it by one.
    ///
    /// # Panics
    /// If `index >= len`.
    ///
    /// ```
    /// let mut queue = pagewise::PageVec::try_from_iter(10, ["first", "second", "third"])?;
    /// assert_eq!(queue.remove(0), "first");
    /// assert_eq!(queue, ["second", "third"]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    pub fn remove(&mut self, index: usize) -> T {
        let len = self.len;
        assert!(index < len, "removal index (is {index}) should be < len (is {len})");
        // SAFETY: `index < len`: the slot is initialised, and overwritten or cut off after the read.
        let value = unsafe {
            let slot = self.start.as_ptr().add(index);
            let value = slot.read();
            ptr::copy(slot.add(1), slot, len - index - 1);
            value
        };
        self.len = len - 1;
        self.removed();
        value
    }

    /// Takes the element at `index` and puts the last one in its place.
    ///
    /// # Panics
    /// If `index >= len`.
    ///
    /// ```
    /// let mut alive = pagewise::PageVec::try_from_iter(10, ["a", "b", "c", "d"])?;
    /// assert_eq!(alive.swap_remove(0), "a");
    /// assert_eq!(alive, ["d", "b", "c"]); // one element moved, whatever the length
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    pub fn swap_remove(&mut self, index: usize) -> T {
        let len = self.len;
        assert!(index < len, "swap_remove index (is {index}) should be < len (is {len})");
        self.as_mut_slice().swap(index, len - 1);
        self.pop().expect("there is an element at `index`")
    }

    /// Keeps the first `len` elements and drops the others. No effect where there are fewer. Memory that
    /// is far more than needed goes back to the system.
    ///
    /// ```
    /// let mut bytes = pagewise::PageVec::try_from_iter(1 << 30, (0..16 << 20).map(|n| n as u8))?;
    /// bytes.truncate(100);
    /// assert_eq!(bytes.len(), 100);
    /// assert!(bytes.committed() < 1 << 20); // `Vec` would keep 16 MiB
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn truncate(&mut self, len: usize) {
        if len >= self.len {
            return;
        }
        let dropped = ptr::slice_from_raw_parts_mut(
            // SAFETY: `len < self.len`.
            unsafe { self.start.as_ptr().add(len) },
            self.len - len,
        );
        // The elements are gone first: a drop that panics must not lead to a second one.
        self.len = len;
        // SAFETY: they were elements, and are not any more.
        unsafe { ptr::drop_in_place(dropped) };
        self.removed();
    }

    /// Drops all elements. Memory goes back as by [`truncate`](Self::truncate).
    ///
    /// ```
    /// let mut batch = pagewise::PageVec::<u32>::builder(1 << 20).keep_committed(true).build()?;
    /// batch.extend(0..100_000);
    /// let committed = batch.committed();
    /// batch.clear();
    /// assert_eq!((batch.len(), batch.committed()), (0, committed)); // ready for the next batch
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn clear(&mut self) {
        self.truncate(0);
    }
}

/// Returns the value, or panics with the error: for methods without `try_`. Not `unwrap_or_else`, whose
/// panic would name this file instead of the line that called the method.
#[inline]
#[track_caller]
fn granted<R>(result: Result<R, Error>) -> R {
    match result {
        Ok(value) => value,
        Err(error) => refused(error),
    }
}

/// Panics with an error: for methods without `try_`.
#[cold]
#[track_caller]
fn refused(error: Error) -> ! {
    panic!("a PageVec cannot grow: {error}")
}

impl<T> Drop for PageVec<T> {
    fn drop(&mut self) {
        // SAFETY: the elements are initialised and not used afterwards. Where one of their drops
        // panics, the memory is still released: it belongs to a field.
        unsafe { ptr::drop_in_place(self.as_mut_slice()) };
    }
}

impl<T: fmt::Debug> fmt::Debug for PageVec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_slice(), f)
    }
}
