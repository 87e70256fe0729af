//! Page arithmetic: sizes, and ranges that are whole pages by construction.

use std::ops::{Bound, RangeBounds};

use crate::error::Error;
use crate::os;

/// The size of a page of memory, in bytes: the unit in which memory is committed.
///
/// A power of two, asked from the system once: 4 KiB on most x86-64 machines, 16 KiB on Apple
/// silicon, 4, 16 or 64 KiB on other AArch64 systems.
///
/// ```
/// assert!(pagewise::page_size().is_power_of_two());
/// ```
pub fn page_size() -> usize {
    PageSize::system().bytes()
}

/// The alignment, in bytes, that every reservation has without asking for more.
///
/// The page size on Unix, 64 KiB on Windows.
///
/// ```
/// let memory = pagewise::Reservation::new(1).unwrap();
/// assert_eq!(memory.as_ptr() as usize % pagewise::reserve_granularity(), 0);
/// ```
pub fn reserve_granularity() -> usize {
    os::reserve_granularity()
}

/// A page size: a power of two, so that rounding is a shift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageSize {
    shift: u32,
}

impl PageSize {
    pub(crate) fn system() -> Self {
        Self::of(os::page_size())
    }

    pub(crate) const fn of(bytes: usize) -> Self {
        assert!(bytes.is_power_of_two(), "a page size is a power of two");
        Self { shift: bytes.trailing_zeros() }
    }

    pub(crate) const fn bytes(self) -> usize {
        1 << self.shift
    }

    /// The index of the page that holds byte `offset`.
    pub(crate) const fn page_of(self, offset: usize) -> usize {
        offset >> self.shift
    }

    pub(crate) const fn round_down(self, bytes: usize) -> usize {
        bytes & !(self.bytes() - 1)
    }

    pub(crate) const fn round_up(self, bytes: usize) -> Option<usize> {
        match bytes.checked_add(self.bytes() - 1) {
            Some(sum) => Some(self.round_down(sum)),
            None => None,
        }
    }

    /// The whole pages from index `first` up to, not including, index `end`.
    pub(crate) const fn pages(self, first: usize, end: usize) -> PageRange {
        PageRange { first, end, size: self }
    }

    /// Every page that a byte range touches.
    pub(crate) fn outward(
        self,
        range: impl RangeBounds<usize>,
        len: usize,
    ) -> Result<PageRange, Error> {
        let (start, end) = index_range(range, len)?;
        if start == end {
            return Ok(self.pages(0, 0));
        }
        let end = self.round_up(end).ok_or(Error::Overflow { requested: end })?;
        Ok(self.pages(self.page_of(start), self.page_of(end)))
    }

    /// Every page that lies whole inside a byte range.
    pub(crate) fn inward(
        self,
        range: impl RangeBounds<usize>,
        len: usize,
    ) -> Result<PageRange, Error> {
        let (start, end) = index_range(range, len)?;
        let end = self.page_of(end);
        let first = match self.round_up(start) {
            Some(start) => self.page_of(start).min(end),
            None => end,
        };
        Ok(self.pages(first, end))
    }
}

/// A range of whole pages of one reservation, by index. Aligned by construction, so that functions that take
/// one need not check alignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageRange {
    first: usize,
    end: usize,
    size: PageSize,
}

impl PageRange {
    pub(crate) const fn first(self) -> usize {
        self.first
    }

    pub(crate) const fn end(self) -> usize {
        self.end
    }

    pub(crate) const fn count(self) -> usize {
        self.end - self.first
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.first == self.end
    }

    /// Bytes from the start of the reservation.
    pub(crate) const fn offset(self) -> usize {
        self.first << self.size.shift
    }

    pub(crate) const fn len(self) -> usize {
        self.count() << self.size.shift
    }

    pub(crate) const fn with(self, first: usize, end: usize) -> Self {
        Self { first, end, size: self.size }
    }
}

/// Resolves a range of indices (of bytes or elements) against a length, and checks it.
pub(crate) fn index_range(
    range: impl RangeBounds<usize>,
    len: usize,
) -> Result<(usize, usize), Error> {
    let overflow = || Error::Overflow { requested: usize::MAX };
    let start = match range.start_bound() {
        Bound::Included(&start) => start,
        Bound::Excluded(&start) => start.checked_add(1).ok_or_else(overflow)?,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&end) => end.checked_add(1).ok_or_else(overflow)?,
        Bound::Excluded(&end) => end,
        Bound::Unbounded => len,
    };
    if start > end {
        return Err(Error::ReversedRange { start, end });
    }
    if end > len {
        return Err(Error::OutOfBounds { start, end, len });
    }
    Ok((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: PageSize = PageSize { shift: 12 };

    #[test]
    fn outward_takes_every_page_that_is_touched() {
        assert_eq!(PAGE.outward(4095..4097, 1 << 20).unwrap(), PAGE.pages(0, 2));
        assert_eq!(PAGE.outward(4096..8192, 1 << 20).unwrap(), PAGE.pages(1, 2));
        assert!(PAGE.outward(77..77, 1 << 20).unwrap().is_empty());
    }

    #[test]
    fn inward_takes_only_whole_pages() {
        assert_eq!(PAGE.inward(1..8191, 1 << 20).unwrap().count(), 0);
        assert_eq!(PAGE.inward(1..8192, 1 << 20).unwrap(), PAGE.pages(1, 2));
        assert_eq!(PAGE.inward(.., 8192).unwrap(), PAGE.pages(0, 2));
    }

    #[test]
    fn bad_ranges_are_named() {
        let reversed = std::ops::Range { start: 2, end: 1 };
        assert!(matches!(index_range(reversed, 9), Err(Error::ReversedRange { start: 2, end: 1 })));
        assert!(matches!(
            index_range(3..10, 9),
            Err(Error::OutOfBounds { start: 3, end: 10, len: 9 })
        ));
        assert!(matches!(index_range(0..=usize::MAX, 9), Err(Error::Overflow { .. })));
    }
}
