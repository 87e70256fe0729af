//! Parallel iterators.

use rayon::iter::{IntoParallelIterator, ParallelExtend, ParallelIterator};

use super::super::page_vec::ParIntoIter;
use super::{ConcurrentVec, granted};

/// Over the elements that are published now.
impl<'a, T: Sync> IntoParallelIterator for &'a ConcurrentVec<T> {
    type Item = &'a T;
    type Iter = rayon::slice::Iter<'a, T>;

    fn into_par_iter(self) -> Self::Iter {
        self.as_slice().into_par_iter()
    }
}

impl<'a, T: Send> IntoParallelIterator for &'a mut ConcurrentVec<T> {
    type Item = &'a mut T;
    type Iter = rayon::slice::IterMut<'a, T>;

    fn into_par_iter(self) -> Self::Iter {
        self.as_mut_slice().into_par_iter()
    }
}

impl<T: Send> IntoParallelIterator for ConcurrentVec<T> {
    type Item = T;
    type Iter = ParIntoIter<T>;

    /// # Panics
    /// As [`into_page_vec`](ConcurrentVec::into_page_vec).
    #[track_caller]
    fn into_par_iter(self) -> ParIntoIter<T> {
        self.into_page_vec().into_par_iter()
    }
}

impl<T: Send> ParallelExtend<T> for ConcurrentVec<T> {
    /// Appends in the order of the iterator, as to a [`PageVec`](crate::PageVec): it needs the array to itself.
    ///
    /// # Panics
    /// Where growing is refused, or where an element's making panics: then nothing is appended.
    #[track_caller]
    fn par_extend<I: IntoParallelIterator<Item = T>>(&mut self, elements: I) {
        granted(self.exclusive()).par_extend(elements);
    }
}

impl<T: Send + Sync> ParallelExtend<T> for &ConcurrentVec<T> {
    /// Each thread pushes what it has made, at once: in no order, and others may push meanwhile.
    ///
    /// # Panics
    /// As [`push`](ConcurrentVec::push), and where an element's making panics: what is published stays.
    #[track_caller]
    fn par_extend<I: IntoParallelIterator<Item = T>>(&mut self, elements: I) {
        let vec: &ConcurrentVec<T> = self;
        granted(elements.into_par_iter().try_for_each(|element| match vec.try_push(element) {
            Ok(_) => Ok(()),
            Err(refused) => Err(crate::error::Error::from(refused)),
        }));
    }
}
