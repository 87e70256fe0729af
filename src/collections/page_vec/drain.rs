//! Taking a range of elements out.

use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::slice;

use super::super::frontier::Growth;
use super::PageVec;
use crate::error::Error;

/// The elements of a range that was taken out of a [`PageVec`]: see [`PageVec::drain`].
///
/// ```
/// let mut jobs = pagewise::PageVec::try_from_iter(100, ["a", "b", "c"])?;
/// let mut first_two = jobs.drain(..2);
/// assert_eq!((first_two.next(), first_two.as_slice()), (Some("a"), &["b"][..]));
/// drop(first_two); // "b" goes, too
/// assert_eq!(jobs, ["c"]);
/// # Ok::<(), pagewise::Error>(())
/// ```
pub struct Drain<'a, T> {
    /// Invariant: nobody else uses the array while this lives. `vec.len` is where the drained range
    /// began; of its slots `left` are still initialised; so are `tail_len` slots from `tail` on.
    vec: NonNull<PageVec<T>>,
    left: Range<usize>,
    tail: usize,
    tail_len: usize,
    // Covariant, as a `slice::Iter` would be: elements only come out.
    borrows: PhantomData<&'a [T]>,
}

// SAFETY: a drain owns elements and hands them out; nothing about it is bound to a thread.
unsafe impl<T: Send> Send for Drain<'_, T> {}
// SAFETY: `&Drain` gives out `&T` only.
unsafe impl<T: Sync> Sync for Drain<'_, T> {}

impl<'a, T> Drain<'a, T> {
    pub(super) fn new(vec: &'a mut PageVec<T>, range: Range<usize>) -> Self {
        let tail_len = vec.len - range.end;
        // A drain that is leaked leaks elements, but never lets one be dropped twice.
        vec.len = range.start;
        let tail = range.end;
        Self { vec: NonNull::from(vec), left: range, tail, tail_len, borrows: PhantomData }
    }

    fn slot(&self, index: usize) -> *mut T {
        // SAFETY: the array lives as long as the borrow; every index is below its capacity.
        unsafe { self.vec.as_ref().start.as_ptr().add(index) }
    }

    /// Returns the elements that were not handed out yet.
    ///
    /// ```
    /// let mut letters = pagewise::PageVec::try_from_iter(100, ['a', 'b', 'c'])?;
    /// let mut drain = letters.drain(..);
    /// drain.next();
    /// assert_eq!(drain.as_slice(), ['b', 'c']);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn as_slice(&self) -> &[T] {
        // SAFETY: the slots `left` are initialised.
        unsafe { slice::from_raw_parts(self.slot(self.left.start), self.left.len()) }
    }

    /// Puts the elements that were not handed out back, in place of the drained range.
    ///
    /// ```
    /// let mut tasks = pagewise::PageVec::try_from_iter(100, 1..=5)?;
    /// let mut drain = tasks.drain(..);
    /// assert_eq!(drain.find(|task| task % 2 == 0), Some(2));
    /// drain.keep_rest();
    /// assert_eq!(tasks, [3, 4, 5]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn keep_rest(mut self) {
        let (rest, count) = (self.left.clone(), self.left.len());
        // SAFETY: as `fill` says: the slots from `vec.len` on are free up to `tail`, and `rest` lies
        // among them.
        unsafe {
            let vec = self.vec.as_mut();
            let start = vec.start.as_ptr();
            ptr::copy(start.add(rest.start), start.add(vec.len), count);
            vec.len += count;
        }
        self.left = rest.end..rest.end;
    }

    pub(super) fn drop_rest(&mut self) {
        let rest = std::mem::replace(&mut self.left, 0..0);
        let rest = ptr::slice_from_raw_parts_mut(self.slot(rest.start), rest.len());
        // SAFETY: they were initialised, and count as handed out already.
        unsafe { ptr::drop_in_place(rest) };
    }

    /// Writes elements into the drained slots. All drained elements must be gone. Returns whether
    /// every slot before the tail is filled.
    pub(super) fn fill(&mut self, elements: &mut impl Iterator<Item = T>) -> bool {
        debug_assert!(self.left.is_empty());
        loop {
            // SAFETY: the invariant; the reference does not outlive the statement.
            let len = unsafe { self.vec.as_ref().len };
            if len == self.tail {
                return true;
            }
            let Some(element) = elements.next() else { return false };
            // SAFETY: slots from `vec.len` to `tail` are free; the new one counts at once.
            unsafe {
                self.slot(len).write(element);
                self.vec.as_mut().len = len + 1;
            }
        }
    }

    /// Moves the tail up, to make room for `additional` elements before it.
    pub(super) fn move_tail(&mut self, additional: usize) -> Result<(), Error> {
        // SAFETY: the invariant.
        let vec = unsafe { self.vec.as_mut() };
        // `vec.len` stays as it is meanwhile: the slots between it and the tail hold nothing, and must
        // not be dropped should growing panic.
        let end = self.tail + self.tail_len;
        vec.grow_behind(end, additional, Growth::Amortized)?;
        // SAFETY: there is room for the tail at its new place.
        unsafe {
            let tail = vec.start.as_ptr().add(self.tail);
            ptr::copy(tail, tail.add(additional), self.tail_len);
        }
        self.tail += additional;
        Ok(())
    }

    /// Closes the gap: the tail becomes part of the array again.
    fn rejoin(&mut self) {
        // SAFETY: the invariant; the slots between `vec.len` and the tail hold nothing.
        unsafe {
            let vec = self.vec.as_mut();
            let start = vec.start.as_ptr();
            if self.tail != vec.len {
                ptr::copy(start.add(self.tail), start.add(vec.len), self.tail_len);
            }
            vec.len += self.tail_len;
            vec.removed();
        }
        self.tail_len = 0;
    }

    pub(super) fn tail_len(&self) -> usize {
        self.tail_len
    }

    /// Returns the array. There must be no tail: appending would overwrite it.
    pub(super) fn vec_without_tail(&mut self) -> &mut PageVec<T> {
        assert_eq!(self.tail_len, 0);
        // SAFETY: the invariant. What is appended lies where the drained elements were, which are
        // gone, or behind.
        unsafe { self.vec.as_mut() }
    }
}

impl<T> Iterator for Drain<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        let index = self.left.next()?;
        // SAFETY: the slot was initialised, and does not count any more.
        Some(unsafe { self.slot(index).read() })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.left.size_hint()
    }
}

impl<T> DoubleEndedIterator for Drain<'_, T> {
    fn next_back(&mut self) -> Option<T> {
        let index = self.left.next_back()?;
        // SAFETY: the slot was initialised, and does not count any more.
        Some(unsafe { self.slot(index).read() })
    }
}

impl<T> ExactSizeIterator for Drain<'_, T> {}
impl<T> FusedIterator for Drain<'_, T> {}

impl<T> Drop for Drain<'_, T> {
    fn drop(&mut self) {
        /// The tail comes back even if an element's drop panics.
        struct Rejoin<'r, 'a, T>(&'r mut Drain<'a, T>);
        impl<T> Drop for Rejoin<'_, '_, T> {
            fn drop(&mut self) {
                self.0.rejoin();
            }
        }
        Rejoin(self).0.drop_rest();
    }
}

impl<T> AsRef<[T]> for Drain<'_, T> {
    fn as_ref(&self) -> &[T] {
        self.as_slice()
    }
}

impl<T: fmt::Debug> fmt::Debug for Drain<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Drain").field(&self.as_slice()).finish()
    }
}
