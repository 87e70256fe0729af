//! A growable array whose elements never move.

// First, because the documentation shows methods in the order of these modules: how an array is made, and filled.
mod builder;
mod elements;

mod convert;
mod drain;
mod edit;
mod extend;
mod extract_if;
mod into_iter;
mod memory;
mod memory_view;
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

use super::frontier::{Frontier, Options};
use super::push_error::PushError;
use crate::error::Error;

pub use builder::PageVecBuilder;
pub use drain::Drain;
pub use extract_if::ExtractIf;
pub use into_iter::IntoIter;
pub use memory_view::MemoryView;
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
    pub(crate) fn new_alike(&self) -> Result<Self, Error> {
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

    /// Returns whether there are as many elements as the maximum length allows.
    ///
    /// ```
    /// let mut pair = pagewise::PageVec::try_from_iter(2, ["left"])?;
    /// assert!(!pair.is_full());
    /// pair.push("right");
    /// assert!(pair.is_full());
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn is_full(&self) -> bool {
        self.len == self.backing.max_len
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

/// Drops a value that did not fit, and panics.
#[cold]
#[track_caller]
fn refused_value<T>(refusal: PushError<T>) -> ! {
    let (value, error) = refusal.into_parts();
    drop(value);
    refused(error)
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
