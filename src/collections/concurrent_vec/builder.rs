//! Options for a `ConcurrentVec`.

use std::fmt;

use super::super::page_vec::{PageVec, PageVecBuilder};
use super::ConcurrentVec;
use crate::error::Error;
use crate::reservation::reservation_options;

/// Options for a [`ConcurrentVec`]: those of a [`PageVecBuilder`].
///
/// ```
/// let events = pagewise::ConcurrentVec::builder(1 << 40) // elements: addresses only
///     .limit(64 << 20)                                   // bytes that may be committed
///     .name("events")                                    // shown in /proc/self/maps on Linux
///     .build()?;
/// assert_eq!(events.push("started"), 0);
/// # Ok::<(), pagewise::Error>(())
/// ```
#[must_use = "a builder reserves nothing until `build`"]
pub struct ConcurrentVecBuilder<T>(pub(super) PageVecBuilder<T>);

impl<T> Clone for ConcurrentVecBuilder<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> fmt::Debug for ConcurrentVecBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.describe(f.debug_struct("ConcurrentVecBuilder"))
    }
}

impl<T> ConcurrentVecBuilder<T> {
    #[cfg(not(loom))]
    pub(super) fn new(max_len: usize) -> Self {
        Self(PageVec::builder(max_len))
    }

    reservation_options!(0);

    /// Takes a smaller maximum length where the address space is small: see
    /// [`PageVecBuilder::at_least`].
    ///
    /// ```
    /// let ids = pagewise::ConcurrentVec::<u64>::builder(1 << 27).at_least(1 << 10).build()?;
    /// assert!(ids.max_len() >= 1 << 10);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn at_least(mut self, min_len: usize) -> Self {
        self.0 = self.0.at_least(min_len);
        self
    }

    /// Aligns the first element to `align` bytes, a power of two: see [`PageVecBuilder::align`].
    ///
    /// ```
    /// let tiles = pagewise::ConcurrentVec::<u64>::builder(1 << 20).align(1 << 20).build()?;
    /// assert_eq!(tiles.as_slice().as_ptr().addr() % (1 << 20), 0);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn align(mut self, align: usize) -> Self {
        self.0 = self.0.align(align);
        self
    }

    /// Reserves the addresses of the array; commits nothing.
    ///
    /// # Errors
    /// As [`PageVecBuilder::build`]: [`Overflow`](crate::Error::Overflow),
    /// [`AddressSpaceExhausted`](crate::Error::AddressSpaceExhausted),
    /// [`MappingsExhausted`](crate::Error::MappingsExhausted) or [`Unsupported`](crate::Error::Unsupported).
    ///
    /// ```
    /// let one = pagewise::ConcurrentVec::<u64>::builder(1000).guard_pages(1);
    /// let arrays = [one.clone().build()?, one.build()?]; // same options, memory of their own
    /// assert_ne!(arrays[0].as_slice().as_ptr(), arrays[1].as_slice().as_ptr());
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[cfg(not(loom))]
    pub fn build(self) -> Result<ConcurrentVec<T>, Error> {
        self.0.build().map(ConcurrentVec::from)
    }
}
