//! How a `PageVec` is made, and its options.

use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;

use super::super::frontier::Options;
use super::{Backing, PageVec};
use crate::error::Error;
use crate::reservation::reservation_options;

/// Construction.
impl<T> PageVec<T> {
    /// Makes an empty array of at most `max_len` elements. Reserves addresses; commits nothing.
    ///
    /// # Errors
    /// [`Overflow`](Error::Overflow) beyond `isize::MAX` bytes, or
    /// [`AddressSpaceExhausted`](Error::AddressSpaceExhausted); on Linux also
    /// [`MappingsExhausted`](Error::MappingsExhausted).
    ///
    /// ```
    /// let rows = pagewise::PageVec::<[u64; 8]>::new(1 << 30)?; // 64 GiB of addresses
    /// assert_eq!((rows.len(), rows.committed()), (0, 0));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn new(max_len: usize) -> Result<Self, Error> {
        Self::builder(max_len).build()
    }

    /// Starts an array with options: a limit, a shared budget, huge pages, a name.
    ///
    /// ```
    /// let mut rows = pagewise::PageVec::builder(1 << 30).limit(1 << 20).build()?;
    /// rows.extend(0..1000u32);
    /// assert!(rows.committed() <= 1 << 20); // bytes; the maximum length counts elements
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn builder(max_len: usize) -> PageVecBuilder<T> {
        PageVecBuilder::new(max_len)
    }
}

/// Options for a [`PageVec`].
///
/// ```
/// use pagewise::{Budget, PageVec};
///
/// let budget = Budget::new(1 << 20);
/// let mut log = PageVec::<u8>::builder(1 << 40)
///     .at_least(1 << 20)       // take less where addresses are scarce
///     .budget(budget.clone())  // shared with others
///     .name("log")             // shown in /proc/self/maps on Linux
///     .build()?;
/// log.extend_from_slice(b"started\n");
/// assert_eq!(budget.used(), log.committed());
/// # Ok::<(), pagewise::Error>(())
/// ```
#[must_use = "a builder reserves nothing until `build`"]
pub struct PageVecBuilder<T> {
    max_len: usize,
    at_least: usize,
    options: Options,
    makes: PhantomData<fn() -> T>,
}

impl<T> PageVecBuilder<T> {
    pub(super) fn new(max_len: usize) -> Self {
        Self { max_len, at_least: max_len, options: Options::new(), makes: PhantomData }
    }

    reservation_options!(options.reservation);

    pub(crate) fn describe(&self, builder: fmt::DebugStruct<'_, '_>) -> fmt::Result {
        self.options.describe(builder, ("max_len", self.max_len), self.at_least)
    }

    /// Takes a smaller maximum length where the address space is small, but not below `min_len`
    /// elements. [`max_len`](PageVec::max_len) says what it came to.
    ///
    /// ```
    /// let index = pagewise::PageVec::<u32>::builder(1 << 28).at_least(1 << 10).build()?;
    /// assert!((1 << 10..=1 << 28).contains(&index.max_len()));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn at_least(mut self, min_len: usize) -> Self {
        self.at_least = min_len;
        self
    }

    /// Aligns the first element to `align` bytes, a power of two, or to what the elements need where that is
    /// more. Smaller than the granularity: no effect. What is no power of two is refused by
    /// [`build`](Self::build), unless the array needs no memory.
    ///
    /// ```
    /// let tiles = pagewise::PageVec::<[f32; 16]>::builder(1 << 20).align(2 << 20).build()?;
    /// assert_eq!(tiles.as_ptr().addr() % (2 << 20), 0);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn align(mut self, align: usize) -> Self {
        self.options.reservation = self.options.reservation.align(align);
        self
    }

    /// Sets whether memory stays committed when elements are removed, until
    /// [`shrink_to_fit`](PageVec::shrink_to_fit) or [`shrink_to`](PageVec::shrink_to). For arrays that are
    /// emptied and filled again in a loop.
    ///
    /// ```
    /// let mut frame = pagewise::PageVec::<u64>::builder(1 << 20).keep_committed(true).build()?;
    /// frame.resize(1 << 20, 0);
    /// frame.clear();
    /// assert!(frame.committed() >= 8 << 20); // the next frame commits nothing
    /// frame.shrink_to_fit();
    /// assert_eq!(frame.committed(), 0);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn keep_committed(mut self, keep: bool) -> Self {
        self.options.keeps_committed = keep;
        self
    }

    /// Reserves the addresses of the array; commits nothing.
    ///
    /// # Errors
    /// As [`PageVec::new`], [`BadAlignment`](Error::BadAlignment), or
    /// [`Unsupported`](Error::Unsupported) for explicit huge pages where there are none.
    ///
    /// ```
    /// use pagewise::{Error, PageVec};
    ///
    /// let names = PageVec::<String>::builder(1000).name("names").build()?;
    /// assert_eq!(names.capacity(), 0);
    /// assert!(matches!(PageVec::<u64>::builder(usize::MAX).build(), Err(Error::Overflow { .. })));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn build(self) -> Result<PageVec<T>, Error> {
        build(self.max_len, self.at_least, self.options)
    }
}

pub(super) fn build<T>(
    max_len: usize,
    at_least: usize,
    mut options: Options,
) -> Result<PageVec<T>, Error> {
    let size = size_of::<T>();
    if size == 0 || max_len == 0 {
        let backing = Backing { frontier: None, max_len, options };
        return Ok(PageVec::from_backing(NonNull::dangling(), Box::new(backing)));
    }
    let bytes = max_len.checked_mul(size).ok_or(Error::Overflow { requested: usize::MAX })?;
    options.reservation = options.reservation.align_for(align_of::<T>());
    let frontier = options.build(bytes, at_least.clamp(1, max_len) * size)?;
    let memory = frontier.memory();
    let max_len = max_len.min(memory.len() / size);
    let start = NonNull::new(memory.as_ptr().cast()).expect("a reservation is not at address zero");
    let backing = Backing { frontier: Some(frontier), max_len, options };
    Ok(PageVec::from_backing(start, Box::new(backing)))
}

impl<T> Clone for PageVecBuilder<T> {
    fn clone(&self) -> Self {
        Self { options: self.options.clone(), ..*self }
    }
}

impl<T> fmt::Debug for PageVecBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe(f.debug_struct("PageVecBuilder"))
    }
}
