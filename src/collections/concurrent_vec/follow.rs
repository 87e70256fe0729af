//! Reading on, while others push.

use std::fmt;

use super::ConcurrentVec;
use super::storage::Elements;
use crate::sync::{AtomicUsize, Ordering};

/// The elements of a [`ConcurrentVec`], including those that are pushed while it runs: from
/// [`ConcurrentVec::follow`].
///
/// Covariant in `T`. It ends when it has handed out the last element that is published at that moment, and goes
/// on when it is called later.
///
/// ```
/// let queue = pagewise::ConcurrentVec::new(1000)?;
/// queue.push(1);
/// let mut seen = queue.follow();
/// assert_eq!((seen.next(), seen.next()), (Some(&1), None));
/// queue.push(2);
/// assert_eq!(seen.next(), Some(&2)); // it was pushed in the meantime
/// # Ok::<(), pagewise::Error>(())
/// ```
pub struct Follow<'a, T> {
    published: &'a AtomicUsize,
    elements: Elements<'a, T>,
    /// Invariant: so many elements were published.
    next: usize,
}

impl<T> ConcurrentVec<T> {
    /// Returns an iterator over the elements, and over those that are pushed meanwhile: it ends when it
    /// has handed out the last one that is published at that moment, and goes on when called later.
    /// ([`wait_for_len`](Self::wait_for_len) sleeps until there is more.)
    ///
    /// ```
    /// let work = pagewise::ConcurrentVec::new(100)?;
    /// work.push(3);
    /// for &depth in work.follow() {
    ///     (0..depth).for_each(|child| drop(work.push(child))); // found by this same loop
    /// }
    /// assert_eq!(work, [3, 0, 1, 2, 0, 0, 1, 0]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn follow(&self) -> Follow<'_, T> {
        self.follow_from(0)
    }

    /// As [`follow`](Self::follow), from the element at `index` on.
    ///
    /// # Panics
    /// If so many elements are not published yet.
    ///
    /// ```
    /// let lines = pagewise::ConcurrentVec::new(100)?;
    /// lines.push("old");
    /// let mut news = lines.follow_from(lines.len());
    /// lines.push("new");
    /// assert_eq!((news.next(), news.next()), (Some(&"new"), None));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    pub fn follow_from(&self, index: usize) -> Follow<'_, T> {
        let len = self.len();
        assert!(index <= len, "index to follow from (is {index}) should be <= len (is {len})");
        Follow { published: &self.published, elements: self.storage.elements(), next: index }
    }
}

impl<T> Follow<'_, T> {
    /// Returns the index of the element that comes next, published or not.
    ///
    /// ```
    /// let lines = pagewise::ConcurrentVec::new(100)?;
    /// lines.push("first");
    /// let mut reader = lines.follow();
    /// reader.by_ref().for_each(drop);
    /// assert_eq!(reader.position(), 1);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn position(&self) -> usize {
        self.next
    }

    fn published(&self) -> usize {
        self.published.load(Ordering::Acquire)
    }
}

impl<T> Clone for Follow<'_, T> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

impl<T: fmt::Debug> fmt::Debug for Follow<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Only those that are published now: others may push faster than this prints.
        let count = self.published() - self.next;
        let rest: Vec<_> = self.clone().take(count).collect();
        f.debug_tuple("Follow").field(&rest).finish()
    }
}

impl<'a, T> Iterator for Follow<'a, T> {
    type Item = &'a T;

    #[inline]
    fn next(&mut self) -> Option<&'a T> {
        if self.next >= self.published() {
            return None;
        }
        // SAFETY: the element is published.
        let element = unsafe { self.elements.get(self.next) };
        self.next += 1;
        Some(element)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.published() - self.next, None)
    }
}
