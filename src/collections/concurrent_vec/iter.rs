//! Iterating over what is published.

use std::fmt;

use super::ConcurrentVec;

/// The elements of a [`ConcurrentVec`], including those that are pushed while it runs.
pub struct Iter<'a, T> {
    pub(super) vec: &'a ConcurrentVec<T>,
    pub(super) next: usize,
}

impl<T: fmt::Debug> fmt::Debug for Iter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Only those that are published now: others may push faster than this prints.
        let count = self.vec.len() - self.next;
        let rest: Vec<_> = Iter { ..*self }.take(count).collect();
        f.debug_tuple("Iter").field(&rest).finish()
    }
}

impl<'a, T> Iterator for Iter<'a, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        let element = self.vec.get(self.next)?;
        self.next += 1;
        Some(element)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.vec.len() - self.next, None)
    }
}
