//! The reservation below an array, as far as that cannot break the array.

use std::ops::{Bound, RangeBounds};

use super::PageVec;
use crate::error::Error;
use crate::page::index_range;
use crate::reservation::{PageMap, Reservation};

/// The memory of a [`PageVec`]: what its [`Reservation`] says of itself, and what may be done with its pages
/// without changing what is committed. From [`PageVec::memory`].
///
/// Ranges and lengths are in bytes from the first element. A range without an end goes up to the end of what
/// is committed. An array that needs no memory (elements without a size, or a maximum length of zero) has none:
/// its view is zero bytes long.
///
/// ```
/// let mut rows = pagewise::PageVec::builder(1 << 30).limit(1 << 20).build()?;
/// rows.extend(0..1000u64);
/// let memory = rows.memory();
/// assert_eq!(memory.committed(), rows.committed());
/// assert_eq!(memory.page_map()?.committed() * pagewise::page_size(), rows.committed());
/// # Ok::<(), pagewise::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct MemoryView<'a>(Option<&'a Reservation>);

type Bounds = (Bound<usize>, Bound<usize>);

impl<T> PageVec<T> {
    /// Returns a view of the memory below: page map, statistics, and `lock` and `prefault` of its pages.
    ///
    /// ```
    /// let mut orders = pagewise::PageVec::<u64>::new(1 << 30)?;
    /// orders.reserve(1000);
    /// orders.memory().prefault(..)?; // the first touches cost nothing
    /// assert_eq!(orders.memory().committed(), orders.committed());
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn memory(&self) -> MemoryView<'_> {
        MemoryView(self.backing.frontier.as_ref().map(|frontier| frontier.memory()))
    }

    /// Returns which pages are reserved, committed, resident, huge, swapped: now.
    ///
    /// # Errors
    /// [`System`](Error::System) where the system does not tell what is resident.
    ///
    /// ```
    /// let mut bytes = pagewise::PageVec::<u8>::new(1 << 20)?;
    /// bytes.push(1);
    /// let map = bytes.page_map()?;
    /// assert!(map.page(0).committed);
    /// assert_eq!(map.committed() * map.page_size(), bytes.committed());
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn page_map(&self) -> Result<PageMap, Error> {
        self.memory().page_map()
    }

    /// Returns the bytes that may be committed at most: the builder's `limit`, rounded down to whole pages, or
    /// what is reserved. Zero where no memory is needed.
    ///
    /// ```
    /// let names = pagewise::PageVec::<String>::builder(1 << 20).limit(1 << 18).build()?;
    /// assert_eq!(names.limit(), 1 << 18); // bytes; `max_len` counts elements
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn limit(&self) -> usize {
        self.memory().limit()
    }
}

impl MemoryView<'_> {
    /// Returns the bytes that are reserved.
    ///
    /// ```
    /// let bytes = pagewise::PageVec::<u8>::new(1000)?;
    /// assert_eq!(bytes.memory().len(), pagewise::page_size()); // rounded up to whole pages
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn len(&self) -> usize {
        self.0.map_or(0, Reservation::len)
    }

    /// Returns whether there is no memory below the array.
    ///
    /// ```
    /// assert!(pagewise::PageVec::<()>::new(1000)?.memory().is_empty());
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Returns the bytes that are committed now: whole pages, from the first element on.
    ///
    /// ```
    /// let mut words = pagewise::PageVec::<u64>::new(1 << 30)?;
    /// words.push(1);
    /// assert!(words.memory().committed() >= 8);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn committed(&self) -> usize {
        self.0.map_or(0, Reservation::committed)
    }

    /// Returns the most bytes that were ever committed at once.
    ///
    /// ```
    /// let mut words = pagewise::PageVec::<u64>::new(1 << 30)?;
    /// words.reserve_exact(1 << 17);
    /// words.shrink_to_fit();
    /// assert_eq!((words.memory().committed(), words.memory().peak()), (0, 1 << 20));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn peak(&self) -> usize {
        self.0.map_or(0, Reservation::peak)
    }

    /// Returns the bytes that may be committed at most: see [`PageVec::limit`].
    ///
    /// ```
    /// let words = pagewise::PageVec::<u64>::builder(1 << 30).limit(1 << 20).build()?;
    /// assert_eq!(words.memory().limit(), 1 << 20);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn limit(&self) -> usize {
        self.0.map_or(0, Reservation::limit)
    }

    /// Returns the bytes of a page: [`page_size`](crate::page_size), unless the memory is made of explicit huge
    /// pages.
    ///
    /// ```
    /// let words = pagewise::PageVec::<u64>::new(1 << 30)?;
    /// assert_eq!(words.memory().page_size(), pagewise::page_size());
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn page_size(&self) -> usize {
        self.0.map_or_else(crate::page_size, Reservation::page_size)
    }

    /// Returns which pages are reserved, committed, resident, huge, swapped: now.
    ///
    /// # Errors
    /// [`System`](Error::System) where the system does not tell what is resident.
    ///
    /// ```
    /// let mut words = pagewise::PageVec::<u64>::new(1 << 17)?;
    /// words.push(1);
    /// println!("{}", words.memory().page_map()?); // a letter for each page
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn page_map(&self) -> Result<PageMap, Error> {
        self.0.map_or_else(|| Ok(PageMap::of_nothing()), Reservation::page_map)
    }

    /// Makes committed pages resident now, so that the first touch costs nothing: see
    /// [`Reservation::prefault`]. Rounds outward to whole pages.
    ///
    /// # Errors
    /// [`NotCommitted`](Error::NotCommitted) where a page is not; [`OutOfBounds`](Error::OutOfBounds) or
    /// [`ReversedRange`](Error::ReversedRange) for a bad range.
    ///
    /// ```
    /// let mut ring = pagewise::PageVec::<u8>::new(1 << 20)?;
    /// assert!(ring.memory().prefault(..1).is_err()); // nothing is committed
    /// ring.reserve(1 << 16);
    /// ring.memory().prefault(..)?;
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn prefault(&self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        self.on_committed(range, Reservation::prefault)
    }

    /// Keeps committed pages in physical memory (`mlock`, `VirtualLock`): see [`Reservation::lock`]. Rounds
    /// outward to whole pages. What is committed later is not locked. The system may refuse to take back locked
    /// memory; it stays committed then, when elements are removed, until it is unlocked.
    ///
    /// # Errors
    /// [`Locked`](Error::Locked) beyond what the system lets a process lock,
    /// [`NotCommitted`](Error::NotCommitted); [`OutOfBounds`](Error::OutOfBounds) or
    /// [`ReversedRange`](Error::ReversedRange) for a bad range.
    ///
    /// ```
    /// let mut key = pagewise::PageVec::<u8>::new(4096)?;
    /// key.reserve(32);
    /// if key.memory().lock(..32).is_ok() {
    ///     key.extend_from_slice(b"never in swap space");
    ///     key.memory().unlock(..32)?;
    /// }
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn lock(&self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        self.on_committed(range, Reservation::lock)
    }

    /// Undoes [`lock`](Self::lock). Rounds outward to whole pages.
    ///
    /// # Errors
    /// [`NotCommitted`](Error::NotCommitted), [`OutOfBounds`](Error::OutOfBounds) or
    /// [`ReversedRange`](Error::ReversedRange) for a bad range, or [`System`](Error::System).
    ///
    /// ```
    /// let mut key = pagewise::PageVec::<u8>::new(4096)?;
    /// key.reserve(32);
    /// if key.memory().lock(..).is_ok() {
    ///     key.memory().unlock(..)?;
    /// }
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn unlock(&self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        self.on_committed(range, Reservation::unlock)
    }

    fn on_committed(
        &self,
        range: impl RangeBounds<usize>,
        operation: fn(&Reservation, Bounds) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let Some(memory) = self.0 else { return index_range(range, 0).map(drop) };
        let end = match range.end_bound() {
            Bound::Unbounded => Bound::Excluded(memory.committed()),
            end => end.cloned(),
        };
        operation(memory, (range.start_bound().cloned(), end))
    }
}
