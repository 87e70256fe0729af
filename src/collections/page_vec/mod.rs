//! A growable array whose elements never move.

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
/// Covariant in `T`; `Send` and `Sync` where `T` is; a `T` with a borrow must outlive the array
/// strictly (as with every collection that is written without unstable features).
///
/// ```compile_fail,E0597
/// let mut names = pagewise::PageVec::new(1)?;
/// let name = String::from("gone too soon");
/// names.push(&name);
/// # Ok::<(), pagewise::Error>(())
/// ```
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
/// [`Reservation`]: crate::Reservation
pub struct PageVec<T> {
    /// Invariant: points to `capacity()` slots of `T` that are committed, aligned, and belong to
    /// this value alone; the first `len` are initialised. `len <= capacity() <= max_len`, and
    /// `ready <= capacity()`. Nothing behind `capacity()` is touched.
    start: NonNull<T>,
    len: usize,
    /// Elements that a push may go up to without asking the frontier.
    ready: usize,
    /// Where the length falls below this, there is memory to give back.
    give_back_below: usize,
    /// What only growing and shrinking need: kept apart, so that moving the array is cheap.
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

/// Making one, and asking it.
impl<T> PageVec<T> {
    const IS_ZERO_SIZED: bool = size_of::<T>() == 0;

    /// An empty array of at most `max_len` elements. Reserves addresses; commits nothing.
    ///
    /// # Errors
    /// [`Overflow`](Error::Overflow), or
    /// [`AddressSpaceExhausted`](Error::AddressSpaceExhausted).
    pub fn new(max_len: usize) -> Result<Self, Error> {
        Self::builder(max_len).build()
    }

    /// An array with options: limits, a shared budget, huge pages, a name.
    pub fn builder(max_len: usize) -> PageVecBuilder<T> {
        PageVecBuilder::new(max_len)
    }

    /// A new, empty array with the same maximum length and the same options as this one.
    fn new_alike(&self) -> Result<Self, Error> {
        builder::build(self.backing.max_len, self.backing.max_len, self.backing.options.clone())
    }

    fn from_backing(start: NonNull<T>, backing: Box<Backing>) -> Self {
        let ready = if Self::IS_ZERO_SIZED { backing.max_len } else { 0 };
        Self { start, len: 0, ready, give_back_below: 0, backing, owns: PhantomData }
    }

    /// Elements that there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Elements that there may be at most.
    pub fn max_len(&self) -> usize {
        self.backing.max_len
    }

    /// Elements that fit into the memory that is committed now.
    pub fn capacity(&self) -> usize {
        match &self.backing.frontier {
            Some(frontier) => (frontier.committed() / size_of::<T>()).min(self.backing.max_len),
            None => self.backing.max_len,
        }
    }

    /// Bytes that are committed now: whole pages.
    pub fn committed(&self) -> usize {
        self.backing.frontier.as_ref().map_or(0, Frontier::committed)
    }

    /// The first element's address, the same for the life of the array.
    #[inline]
    pub fn as_ptr(&self) -> *const T {
        self.start.as_ptr()
    }

    /// The first element's address, the same for the life of the array.
    #[inline]
    pub fn as_mut_ptr(&mut self) -> *mut T {
        self.start.as_ptr()
    }

    /// All elements.
    #[inline]
    pub fn as_slice(&self) -> &[T] {
        // SAFETY: the first `len` slots are initialised, and borrowed with `self`.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// All elements.
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: the first `len` slots are initialised, and borrowed with `self`.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }

    /// The slots behind the elements that are committed already, to be filled in place and then
    /// made elements with [`set_len`](Self::set_len).
    pub fn spare_capacity_mut(&mut self) -> &mut [MaybeUninit<T>] {
        let spare = self.capacity() - self.len;
        // SAFETY: the slots up to `capacity()` are committed, and borrowed with `self`.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr().add(self.len).cast(), spare) }
    }

    /// Sets the length without making or dropping elements.
    ///
    /// # Safety
    /// `len <= capacity()`, and the first `len` elements are initialised.
    pub unsafe fn set_len(&mut self, len: usize) {
        debug_assert!(len <= self.capacity());
        self.len = len;
    }

    /// Gives the elements, and their memory, to the rest of the program.
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
    #[track_caller]
    pub fn reserve(&mut self, additional: usize) {
        granted(self.try_reserve(additional))
    }

    /// Commits memory for exactly `additional` more elements, rounded up to whole pages.
    ///
    /// # Panics
    /// Where [`try_reserve_exact`](Self::try_reserve_exact) returns an error.
    #[track_caller]
    pub fn reserve_exact(&mut self, additional: usize) {
        granted(self.try_reserve_exact(additional))
    }

    /// Like [`reserve`](Self::reserve), but returns what went wrong.
    ///
    /// # Errors
    /// [`Full`](Error::Full), [`LimitReached`](Error::LimitReached), [`BudgetReached`](Error::BudgetReached),
    /// [`CommitRefused`](Error::CommitRefused): then nothing has changed.
    pub fn try_reserve(&mut self, additional: usize) -> Result<(), Error> {
        self.grow(additional, Growth::Amortized)?;
        self.keep(additional);
        Ok(())
    }

    /// Like [`reserve_exact`](Self::reserve_exact), but returns what went wrong.
    ///
    /// # Errors
    /// As [`try_reserve`](Self::try_reserve).
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

    /// Gives back every whole page behind the elements, and what was reserved.
    pub fn shrink_to_fit(&mut self) {
        self.shrink_to(0);
    }

    /// Gives back every whole page behind `min_capacity` elements, or behind the elements that there
    /// are, and what was reserved. A system that refuses leaves the memory committed.
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

    /// To be called when elements went away, as the last thing: slots behind `len` may lose their
    /// memory.
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
            // What is refused now is refused at every removal: ask again after the next growth.
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
    /// Appends an element.
    ///
    /// # Panics
    /// Where [`try_push`](Self::try_push) returns an error; the value is dropped.
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
    /// [`PushError`] with the value, and [`Full`](Error::Full),
    /// [`LimitReached`](Error::LimitReached), [`BudgetReached`](Error::BudgetReached), or [`CommitRefused`](Error::CommitRefused). Nothing
    /// has changed then.
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

    /// Takes the last element if `predicate` says so.
    pub fn pop_if(&mut self, predicate: impl FnOnce(&mut T) -> bool) -> Option<T> {
        let last = self.last_mut()?;
        if predicate(last) { self.pop() } else { None }
    }

    /// Inserts an element before position `index`, moving those behind it by one.
    ///
    /// # Panics
    /// If `index > len`, or where [`try_insert`](Self::try_insert) returns an error.
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
    /// As [`try_push`](Self::try_push).
    ///
    /// # Panics
    /// If `index > len`.
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
    #[track_caller]
    pub fn swap_remove(&mut self, index: usize) -> T {
        let len = self.len;
        assert!(index < len, "swap_remove index (is {index}) should be < len (is {len})");
        self.as_mut_slice().swap(index, len - 1);
        self.pop().expect("there is an element at `index`")
    }

    /// Keeps the first `len` elements and drops the others. No effect where there are fewer.
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

    /// Drops all elements.
    pub fn clear(&mut self) {
        self.truncate(0);
    }
}

/// What methods without `try_` return, or else panic with. (A function that is handed to
/// `unwrap_or_else` loses the caller: its panic would not name the line of whoever called the method.)
#[inline]
#[track_caller]
fn granted<R>(result: Result<R, Error>) -> R {
    match result {
        Ok(value) => value,
        Err(error) => refused(error),
    }
}

/// What methods without `try_` do with an error.
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
