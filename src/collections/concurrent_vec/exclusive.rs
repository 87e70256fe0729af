//! What needs the array to itself: changing elements, and removing them.

use std::ops::{Deref, DerefMut};
use std::slice::SliceIndex;

use super::super::page_vec::PageVec;
use super::{ConcurrentVec, granted};
use crate::error::Error;

/// The array as a `PageVec`, for whoever has it to itself. What it holds in the end is published, also after a
/// panic.
pub(super) struct Exclusive<'a, T> {
    vec: &'a mut PageVec<T>,
    published: &'a mut usize,
}

impl<T> Deref for Exclusive<'_, T> {
    type Target = PageVec<T>;

    fn deref(&self) -> &PageVec<T> {
        self.vec
    }
}

impl<T> DerefMut for Exclusive<'_, T> {
    fn deref_mut(&mut self) -> &mut PageVec<T> {
        self.vec
    }
}

impl<T> Drop for Exclusive<'_, T> {
    fn drop(&mut self) {
        *self.published = self.vec.len();
    }
}

impl<T> ConcurrentVec<T> {
    /// The array for its only user; none where it is lazy and not made yet.
    fn exclusive_if_made(&mut self) -> Option<Exclusive<'_, T>> {
        let vec = self.storage.get_mut()?;
        Some(Exclusive { vec, published: self.published.get_mut() })
    }

    /// The array for its only user.
    ///
    /// # Errors
    /// As [`PageVec::new`]: [`Overflow`](crate::Error::Overflow),
    /// [`AddressSpaceExhausted`](crate::Error::AddressSpaceExhausted) or
    /// [`MappingsExhausted`](crate::Error::MappingsExhausted), for a lazy array.
    pub(super) fn exclusive(&mut self) -> Result<Exclusive<'_, T>, Error> {
        drop(self.hold()?);
        Ok(self.exclusive_if_made().expect("whoever has held the lock has made the array"))
    }

    /// Returns every element, to be changed. Needs the array to itself. Methods of slices that change
    /// them (`iter_mut`, `sort`, …) are there without it, by `DerefMut`.
    ///
    /// ```
    /// let mut results = pagewise::ConcurrentVec::new(100)?;
    /// std::thread::scope(|scope| {
    ///     let results = &results;
    ///     (0..4).for_each(|n| drop(scope.spawn(move || results.push(n))));
    /// });
    /// results.sort(); // the threads are done
    /// results.iter_mut().for_each(|n| *n *= 10);
    /// assert_eq!(results.as_mut_slice(), [0, 10, 20, 30]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        self.storage.get_mut().map_or(&mut [], PageVec::as_mut_slice)
    }

    /// Returns the element at `index`, or the slice of a range, to be changed, if it is published. Needs the
    /// array to itself.
    ///
    /// ```
    /// let mut scores = pagewise::ConcurrentVec::new(100)?;
    /// let mine = scores.push(1);
    /// *scores.get_mut(mine).unwrap() += 1;
    /// assert_eq!((scores[mine], scores.get_mut(7)), (2, None));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[inline]
    pub fn get_mut<I: SliceIndex<[T]>>(&mut self, index: I) -> Option<&mut I::Output> {
        self.as_mut_slice().get_mut(index)
    }

    /// Appends an element, and returns it where it is now. Needs the array to itself, and no lock.
    ///
    /// # Panics
    /// As [`push`](Self::push).
    ///
    /// ```
    /// let mut names = pagewise::ConcurrentVec::new(100)?;
    /// names.push_mut(String::from("Ada")).push_str(" Lovelace");
    /// assert_eq!(names, ["Ada Lovelace"]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    pub fn push_mut(&mut self, value: T) -> &mut T {
        let mut vec = granted(self.exclusive());
        granted(vec.try_push(value));
        drop(vec);
        self.last_mut().expect("an element was pushed just now")
    }

    /// Takes the last element. Needs the array to itself.
    ///
    /// ```
    /// let mut names = pagewise::ConcurrentVec::new(100)?;
    /// names.push("Ada");
    /// assert_eq!((names.pop(), names.pop()), (Some("Ada"), None));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn pop(&mut self) -> Option<T> {
        self.exclusive_if_made()?.pop()
    }

    /// Drops all elements. The memory goes back as [`PageVec::clear`] gives it back.
    ///
    /// ```
    /// let mut round = pagewise::ConcurrentVec::new(100)?;
    /// round.push(String::from("first round"));
    /// round.clear();
    /// assert_eq!(round.push(String::from("second round")), 0); // indices start again
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn clear(&mut self) {
        if let Some(mut vec) = self.exclusive_if_made() {
            vec.clear();
        }
    }
}
