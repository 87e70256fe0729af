//! What a `ConcurrentVec` is to others: a slice, something to iterate over and to extend.

use std::fmt;
use std::ops::Index;

use super::{ConcurrentVec, Iter};

#[cfg(not(loom))]
impl<T> IntoIterator for ConcurrentVec<T> {
    type Item = T;
    type IntoIter = super::super::page_vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.into_page_vec().into_iter()
    }
}

#[cfg(not(loom))]
impl<T> AsRef<[T]> for ConcurrentVec<T> {
    fn as_ref(&self) -> &[T] {
        self.as_slice()
    }
}

impl<T> Index<usize> for ConcurrentVec<T> {
    type Output = T;

    #[track_caller]
    fn index(&self, index: usize) -> &T {
        match self.get(index) {
            Some(element) => element,
            None => panic!("index {index} out of bounds: {} are published", self.len()),
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for ConcurrentVec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().take(self.len())).finish()
    }
}

impl<T> Extend<T> for ConcurrentVec<T> {
    /// Appends what an iterator yields, before or after other threads share the array: it needs
    /// `&mut`. Threads that share it push one by one.
    ///
    /// ```
    /// let mut table = pagewise::ConcurrentVec::new(1000)?;
    /// table.extend(["root", "nobody"]); // set up by one thread
    /// let shared = &table; // from here on by many
    /// assert_eq!(shared.push("ada"), 2);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    ///
    /// # Panics
    /// Where growing is refused; the elements before it stay.
    #[track_caller]
    fn extend<I: IntoIterator<Item = T>>(&mut self, elements: I) {
        for element in elements {
            self.push(element);
        }
    }
}

impl<'a, T> IntoIterator for &'a ConcurrentVec<T> {
    type Item = &'a T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}
