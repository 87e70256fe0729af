//! Taking all elements out.

use std::fmt;
use std::iter::FusedIterator;
use std::ops::Range;
use std::ptr;
use std::slice;

use super::PageVec;

/// The elements of a [`PageVec`], handed out one by one; those that are not are dropped with it.
///
/// ```
/// let names = pagewise::PageVec::try_from_iter(100, [String::from("Ada"), String::from("Grace")])?;
/// let mut owned = names.into_iter();
/// assert_eq!(owned.next_back().as_deref(), Some("Grace"));
/// assert_eq!(owned.as_slice(), ["Ada"]);
/// # Ok::<(), pagewise::Error>(())
/// ```
pub struct IntoIter<T> {
    /// Invariant: its length is zero; of its slots, those in `left` are initialised.
    vec: PageVec<T>,
    left: Range<usize>,
}

impl<T> IntoIter<T> {
    fn slot(&self, index: usize) -> *mut T {
        // SAFETY: indices are below the length that the array had.
        unsafe { self.vec.start.as_ptr().add(index) }
    }

    /// Returns the elements that were not handed out yet.
    ///
    /// ```
    /// let mut parts = pagewise::PageVec::try_from_iter(100, ["GET", "/", "HTTP/1.1"])?.into_iter();
    /// assert_eq!(parts.next(), Some("GET"));
    /// assert_eq!(parts.as_slice(), ["/", "HTTP/1.1"]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn as_slice(&self) -> &[T] {
        // SAFETY: the slots `left` are initialised.
        unsafe { slice::from_raw_parts(self.slot(self.left.start), self.left.len()) }
    }

    /// Returns the elements that were not handed out yet, to be changed.
    ///
    /// ```
    /// let mut rest = pagewise::PageVec::try_from_iter(100, [1, 2, 3])?.into_iter();
    /// rest.as_mut_slice().reverse();
    /// assert_eq!(rest.collect::<Vec<_>>(), [3, 2, 1]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: the slots `left` are initialised.
        unsafe { slice::from_raw_parts_mut(self.slot(self.left.start), self.left.len()) }
    }
}

impl<T> IntoIterator for PageVec<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(mut self) -> IntoIter<T> {
        let left = 0..std::mem::take(&mut self.len);
        IntoIter { vec: self, left }
    }
}

impl<'a, T> IntoIterator for &'a PageVec<T> {
    type Item = &'a T;
    type IntoIter = slice::Iter<'a, T>;

    fn into_iter(self) -> slice::Iter<'a, T> {
        self.iter()
    }
}

impl<'a, T> IntoIterator for &'a mut PageVec<T> {
    type Item = &'a mut T;
    type IntoIter = slice::IterMut<'a, T>;

    fn into_iter(self) -> slice::IterMut<'a, T> {
        self.iter_mut()
    }
}

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        let index = self.left.next()?;
        // SAFETY: the slot was initialised, and does not count any more.
        Some(unsafe { self.slot(index).read() })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.left.size_hint()
    }
}

impl<T> DoubleEndedIterator for IntoIter<T> {
    #[inline]
    fn next_back(&mut self) -> Option<T> {
        let index = self.left.next_back()?;
        // SAFETY: the slot was initialised, and does not count any more.
        Some(unsafe { self.slot(index).read() })
    }
}

impl<T> ExactSizeIterator for IntoIter<T> {}
impl<T> FusedIterator for IntoIter<T> {}

impl<T> Drop for IntoIter<T> {
    fn drop(&mut self) {
        // SAFETY: the elements are initialised and not used afterwards; the memory belongs to a
        // field, which is released even if a drop panics.
        unsafe { ptr::drop_in_place(self.as_mut_slice()) };
    }
}

impl<T: Clone> Clone for IntoIter<T> {
    /// # Panics
    /// As the clone of the array.
    #[track_caller]
    fn clone(&self) -> Self {
        let mut vec = super::granted(self.vec.new_alike());
        vec.extend_from_slice(self.as_slice());
        vec.into_iter()
    }
}

impl<T> AsRef<[T]> for IntoIter<T> {
    fn as_ref(&self) -> &[T] {
        self.as_slice()
    }
}

impl<T: fmt::Debug> fmt::Debug for IntoIter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IntoIter").field(&self.as_slice()).finish()
    }
}
