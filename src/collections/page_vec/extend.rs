//! Appending many elements.

use std::fmt;
use std::io;
use std::ops::RangeBounds;

use super::super::frontier::Growth;
use super::edit::checked_range;
use super::{PageVec, PushError};
use crate::error::Error;

/// Writes behind the last element; the array's length is set when this is dropped, so that the
/// compiler can keep it in a register, and a panic between two elements loses none.
pub(super) struct Writer<'a, T> {
    vec: &'a mut PageVec<T>,
    len: usize,
}

impl<T> Writer<'_, T> {
    /// # Safety
    /// There is room for one more: `len < capacity()`.
    #[inline]
    pub(super) unsafe fn write(&mut self, value: T) {
        // SAFETY: the caller's promise.
        unsafe { self.vec.start.as_ptr().add(self.len).write(value) };
        self.len += 1;
    }
}

impl<T> Drop for Writer<'_, T> {
    fn drop(&mut self) {
        self.vec.len = self.len;
    }
}

impl<T> PageVec<T> {
    pub(super) fn writer(&mut self) -> Writer<'_, T> {
        Writer { len: self.len, vec: self }
    }

    /// Makes an array of at most `max_len` elements that holds what an iterator yields: `collect`, with
    /// the maximum stated.
    ///
    /// # Errors
    /// As [`new`](Self::new): [`Overflow`](crate::Error::Overflow),
    /// [`AddressSpaceExhausted`](crate::Error::AddressSpaceExhausted) or
    /// [`MappingsExhausted`](crate::Error::MappingsExhausted). As [`try_push`](Self::try_push):
    /// [`Full`](crate::Error::Full), [`LimitReached`](crate::Error::LimitReached),
    /// [`BudgetReached`](crate::Error::BudgetReached), [`CommitRefused`](crate::Error::CommitRefused),
    /// [`MappingsExhausted`](crate::Error::MappingsExhausted) or [`Locked`](crate::Error::Locked).
    ///
    /// ```
    /// let squares = pagewise::PageVec::try_from_iter(1000, (0..10).map(|n| n * n))?;
    /// assert_eq!(squares[9], 81);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn try_from_iter(
        max_len: usize,
        elements: impl IntoIterator<Item = T>,
    ) -> Result<Self, Error> {
        let mut vec = Self::new(max_len)?;
        vec.try_extend(elements)?;
        Ok(vec)
    }

    /// Appends what an iterator yields until it ends: it is not asked again after that. Where growing
    /// is refused, one element is lost.
    pub(super) fn extend_until_refused(
        &mut self,
        elements: impl IntoIterator<Item = T>,
    ) -> Result<(), Error> {
        let mut elements = elements.into_iter();
        self.grow(elements.size_hint().0, Growth::Amortized)?;
        let room = self.capacity() - self.len;
        let mut writer = self.writer();
        // Two loops, so that the first one has nothing to check but the iterator.
        for _ in 0..room {
            let Some(element) = elements.next() else { return Ok(()) };
            // SAFETY: there is room for so many.
            unsafe { writer.write(element) };
        }
        drop(writer);
        for element in elements {
            if self.len >= self.ready {
                self.grow(1, Growth::Append)?;
            }
            // SAFETY: as in `push`.
            unsafe { self.start.as_ptr().add(self.len).write(element) };
            self.len += 1;
        }
        Ok(())
    }

    /// Appends what an iterator yields, until something is refused: that element comes back, those
    /// before it stay, and those behind it stay in the iterator (pass `&mut iterator` to keep it).
    ///
    /// # Errors
    /// As [`try_push`](Self::try_push): [`Full`](crate::Error::Full),
    /// [`LimitReached`](crate::Error::LimitReached), [`BudgetReached`](crate::Error::BudgetReached),
    /// [`CommitRefused`](crate::Error::CommitRefused), [`MappingsExhausted`](crate::Error::MappingsExhausted)
    /// or [`Locked`](crate::Error::Locked).
    ///
    /// ```
    /// let mut top = pagewise::PageVec::new(3)?;
    /// let mut source = 1..;
    /// let refused = top.try_extend(&mut source).unwrap_err();
    /// assert_eq!(top, [1, 2, 3]);
    /// assert_eq!((refused.into_value(), source.next()), (4, Some(5))); // nothing is lost
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn try_extend(
        &mut self,
        elements: impl IntoIterator<Item = T>,
    ) -> Result<(), PushError<T>> {
        for element in elements {
            self.try_push(element)?;
        }
        Ok(())
    }
}

impl<T: Clone> PageVec<T> {
    /// Appends clones of all elements of a slice. For an iterator there is `extend`, from [`Extend`].
    ///
    /// # Panics
    /// Where [`try_extend_from_slice`](Self::try_extend_from_slice) returns an error.
    ///
    /// ```
    /// let mut message = pagewise::PageVec::new(1 << 20)?;
    /// message.extend_from_slice(b"hello ");
    /// message.extend("world".bytes());
    /// assert_eq!(message, b"hello world");
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    pub fn extend_from_slice(&mut self, elements: &[T]) {
        super::granted(self.try_extend_from_slice(elements))
    }

    /// Appends clones of all elements of a slice, or none.
    ///
    /// # Errors
    /// As [`try_reserve`](Self::try_reserve): [`Full`](crate::Error::Full),
    /// [`LimitReached`](crate::Error::LimitReached), [`BudgetReached`](crate::Error::BudgetReached),
    /// [`CommitRefused`](crate::Error::CommitRefused), [`MappingsExhausted`](crate::Error::MappingsExhausted)
    /// or [`Locked`](crate::Error::Locked); then nothing has changed.
    ///
    /// ```
    /// let mut packet = pagewise::PageVec::try_from_iter(4, *b"abc")?;
    /// assert!(packet.try_extend_from_slice(b"de").is_err());
    /// assert_eq!(packet, b"abc"); // not even the `d`, for which there is room
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn try_extend_from_slice(&mut self, elements: &[T]) -> Result<(), Error> {
        self.grow(elements.len(), Growth::Amortized)?;
        let mut writer = self.writer();
        for element in elements {
            // SAFETY: there is room for all of them.
            unsafe { writer.write(element.clone()) };
        }
        Ok(())
    }

    /// Appends clones of a range of the array's own elements.
    ///
    /// # Panics
    /// If the range is out of bounds, or where growing is refused.
    ///
    /// ```
    /// let mut text = pagewise::PageVec::try_from_iter(100, *b"ab-")?;
    /// text.extend_from_within(..2);
    /// assert_eq!(text, b"ab-ab");
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    pub fn extend_from_within(&mut self, range: impl RangeBounds<usize>) {
        super::granted(self.try_extend_from_within(range))
    }

    /// Appends clones of a range of the array's own elements, or none.
    ///
    /// # Errors
    /// As [`try_reserve`](Self::try_reserve): [`Full`](crate::Error::Full),
    /// [`LimitReached`](crate::Error::LimitReached), [`BudgetReached`](crate::Error::BudgetReached),
    /// [`CommitRefused`](crate::Error::CommitRefused), [`MappingsExhausted`](crate::Error::MappingsExhausted)
    /// or [`Locked`](crate::Error::Locked); then nothing has changed.
    ///
    /// # Panics
    /// If the range is out of bounds.
    ///
    /// ```
    /// let mut text = pagewise::PageVec::try_from_iter(4, *b"abc")?;
    /// assert!(text.try_extend_from_within(1..).is_err());
    /// text.try_extend_from_within(2..)?;
    /// assert_eq!(text, b"abcc");
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    pub fn try_extend_from_within(&mut self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        let range = checked_range(range, self.len);
        self.grow(range.len(), Growth::Amortized)?;
        let start = self.start.as_ptr();
        let mut writer = self.writer();
        for index in range {
            // SAFETY: the element lies before `len`; writing behind `len` does not touch it, and
            // there is room for all of them.
            unsafe { writer.write((*start.add(index)).clone()) };
        }
        Ok(())
    }

    /// Makes the length `len`: drops elements, or appends clones of `value`.
    ///
    /// # Panics
    /// Where growing is refused.
    ///
    /// ```
    /// let mut grid = pagewise::PageVec::try_from_iter(100, [1, 2, 3])?;
    /// grid.resize(5, 0);
    /// assert_eq!(grid, [1, 2, 3, 0, 0]);
    /// grid.resize(2, 0);
    /// assert_eq!(grid, [1, 2]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    pub fn resize(&mut self, len: usize, value: T) {
        if let Err(refusal) = self.try_resize(len, value) {
            super::refused_value(refusal)
        }
    }

    /// Makes the length `len`: drops elements, or appends clones of `value`, or hands it back.
    ///
    /// # Errors
    /// [`PushError`](crate::PushError) with the value, and an error of [`try_reserve`](Self::try_reserve):
    /// [`Full`](crate::Error::Full), [`LimitReached`](crate::Error::LimitReached),
    /// [`BudgetReached`](crate::Error::BudgetReached), [`CommitRefused`](crate::Error::CommitRefused),
    /// [`MappingsExhausted`](crate::Error::MappingsExhausted) or [`Locked`](crate::Error::Locked). Nothing has
    /// changed then.
    ///
    /// ```
    /// let mut grid = pagewise::PageVec::try_from_iter(4, [String::from("a")])?;
    /// let refused = grid.try_resize(5, String::from("b")).unwrap_err();
    /// assert_eq!((grid.len(), refused.into_value().as_str()), (1, "b"));
    /// grid.try_resize(4, String::from("c"))?;
    /// assert_eq!(grid, ["a", "c", "c", "c"]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn try_resize(&mut self, len: usize, value: T) -> Result<(), PushError<T>> {
        if len <= self.len {
            self.truncate(len);
            return Ok(());
        }
        let additional = len - self.len;
        if let Err(error) = self.grow(additional, Growth::Amortized) {
            return Err(PushError::new(value, error));
        }
        let mut writer = self.writer();
        for _ in 1..additional {
            // SAFETY: there is room for all of them.
            unsafe { writer.write(value.clone()) };
        }
        // SAFETY: as above; the last one needs no clone.
        unsafe { writer.write(value) };
        Ok(())
    }

    /// Makes a clone, with the same maximum length and options.
    ///
    /// # Errors
    /// As [`new`](Self::new): [`Overflow`](crate::Error::Overflow),
    /// [`AddressSpaceExhausted`](crate::Error::AddressSpaceExhausted) or
    /// [`MappingsExhausted`](crate::Error::MappingsExhausted). As [`try_reserve`](Self::try_reserve):
    /// [`Full`](crate::Error::Full), [`LimitReached`](crate::Error::LimitReached),
    /// [`BudgetReached`](crate::Error::BudgetReached), [`CommitRefused`](crate::Error::CommitRefused),
    /// [`MappingsExhausted`](crate::Error::MappingsExhausted) or [`Locked`](crate::Error::Locked).
    ///
    /// ```
    /// let budget = pagewise::Budget::new(pagewise::page_size());
    /// let mut all = pagewise::PageVec::builder(100).budget(budget).build()?;
    /// all.push(1); // takes the whole budget, which a clone shares
    /// assert!(all.try_clone().is_err());
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn try_clone(&self) -> Result<Self, Error> {
        let mut clone = self.new_alike()?;
        clone.try_extend_from_slice(self)?;
        Ok(clone)
    }
}

impl<T: Copy> PageVec<T> {
    /// Appends copies of all elements of a slice, or none. Runs no `clone`, which could call back.
    pub(crate) fn try_extend_from_copies(&mut self, elements: &[T]) -> Result<(), Error> {
        self.grow(elements.len(), Growth::Amortized)?;
        // SAFETY: there is room, and a shared slice cannot lie in memory that is not initialised. Elements
        // that are `Copy` count at both places.
        unsafe { self.move_in(elements.as_ptr(), elements.len()) };
        Ok(())
    }
}

impl<T> Extend<T> for PageVec<T> {
    /// Appends what an iterator yields. ([`try_extend`](PageVec::try_extend) returns a refusal.)
    ///
    /// ```
    /// let mut lines = pagewise::PageVec::new(1000)?;
    /// let first = lines.as_ptr();
    /// lines.extend("a b c".split(' '));
    /// assert_eq!((lines.len(), lines.as_ptr()), (3, first));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    ///
    /// # Panics
    /// Where growing is refused: before the first element, where the lower bound of the iterator's
    /// `size_hint` already says that there is no room.
    #[track_caller]
    fn extend<I: IntoIterator<Item = T>>(&mut self, elements: I) {
        super::granted(self.extend_until_refused(elements));
    }
}

impl<'a, T: Copy + 'a> Extend<&'a T> for PageVec<T> {
    /// # Panics
    /// As the one that takes elements by value.
    #[track_caller]
    fn extend<I: IntoIterator<Item = &'a T>>(&mut self, elements: I) {
        self.extend(elements.into_iter().copied());
    }
}

/// Writing appends, all or nothing; a refusal is [`io::ErrorKind::OutOfMemory`].
impl io::Write for PageVec<u8> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.try_extend_from_copies(bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::OutOfMemory, error))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writing text appends its bytes, all or nothing: for `write!` without an `io::Error`.
///
/// ```
/// use std::fmt::Write;
///
/// let mut page = pagewise::PageVec::<u8>::new(1 << 20)?;
/// write!(page, "{} of {}", 1, 10).expect("there is room");
/// assert_eq!(page, b"1 of 10");
/// # Ok::<(), pagewise::Error>(())
/// ```
impl fmt::Write for PageVec<u8> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.try_extend_from_copies(text.as_bytes()).map_err(|_| fmt::Error)
    }
}
