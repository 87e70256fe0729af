//! Taking out the elements that a predicate names.

use std::fmt;

use super::edit::Sweep;

/// The elements that a [`PageVec::extract_if`](super::PageVec::extract_if) takes out.
///
/// ```
/// let mut numbers = pagewise::PageVec::try_from_iter(100, 0..10)?;
/// let odd: Vec<i32> = numbers.extract_if(.., |number| *number % 2 == 1).collect();
/// assert_eq!((odd, numbers.len()), (vec![1, 3, 5, 7, 9], 5));
/// # Ok::<(), pagewise::Error>(())
/// ```
#[must_use = "iterators are lazy and do nothing unless consumed: use `retain_mut` to drop the elements"]
pub struct ExtractIf<'a, T, F> {
    /// Whatever becomes of this iterator, its drop closes the gap that it made.
    sweep: Sweep<'a, T>,
    /// Where the range ends, in indices of before.
    end: usize,
    predicate: F,
}

impl<'a, T, F> ExtractIf<'a, T, F> {
    pub(super) fn new(sweep: Sweep<'a, T>, end: usize, predicate: F) -> Self {
        Self { sweep, end, predicate }
    }

    fn peek(&self) -> Option<*mut T> {
        self.sweep.next().filter(|_| self.sweep.reached() < self.end)
    }
}

impl<T, F: FnMut(&mut T) -> bool> Iterator for ExtractIf<'_, T, F> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        while let Some(element) = self.peek() {
            // An element on which the predicate panics counts as not reached, and stays.
            // SAFETY: the element is initialised, and nobody else has it.
            if (self.predicate)(unsafe { &mut *element }) {
                return Some(self.sweep.take_next());
            }
            self.sweep.keep();
        }
        None
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.end - self.sweep.reached()))
    }
}

impl<T: fmt::Debug, F> fmt::Debug for ExtractIf<'_, T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: the element is initialised, and borrowed with `self`.
        let peek = self.peek().map(|element| unsafe { &*element });
        f.debug_struct("ExtractIf").field("peek", &peek).finish_non_exhaustive()
    }
}
