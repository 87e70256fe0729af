//! Parallel iterators.

use std::ptr;
use std::slice;

use rayon::iter::plumbing::{Consumer, Producer, ProducerCallback, UnindexedConsumer, bridge};
use rayon::iter::{
    IndexedParallelIterator, IntoParallelIterator, ParallelExtend, ParallelIterator,
};

use super::PageVec;

impl<'a, T: Sync> IntoParallelIterator for &'a PageVec<T> {
    type Item = &'a T;
    type Iter = rayon::slice::Iter<'a, T>;

    fn into_par_iter(self) -> Self::Iter {
        self.as_slice().into_par_iter()
    }
}

impl<'a, T: Send> IntoParallelIterator for &'a mut PageVec<T> {
    type Item = &'a mut T;
    type Iter = rayon::slice::IterMut<'a, T>;

    fn into_par_iter(self) -> Self::Iter {
        self.as_mut_slice().into_par_iter()
    }
}

impl<T: Send> IntoParallelIterator for PageVec<T> {
    type Item = T;
    type Iter = ParIntoIter<T>;

    fn into_par_iter(self) -> ParIntoIter<T> {
        ParIntoIter(self)
    }
}

impl<T: Send> ParallelExtend<T> for PageVec<T> {
    /// # Panics
    /// Where growing is refused.
    fn par_extend<I: IntoParallelIterator<Item = T>>(&mut self, elements: I) {
        // Collected first, in parallel, then moved: how many come is known only afterwards.
        self.extend(elements.into_par_iter().collect::<Vec<T>>());
    }
}

/// The elements of a [`PageVec`], handed out by value to many threads.
#[derive(Debug, Clone)]
pub struct ParIntoIter<T>(PageVec<T>);

impl<T: Send> ParallelIterator for ParIntoIter<T> {
    type Item = T;

    fn drive_unindexed<C: UnindexedConsumer<T>>(self, consumer: C) -> C::Result {
        bridge(self, consumer)
    }

    fn opt_len(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

impl<T: Send> IndexedParallelIterator for ParIntoIter<T> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn drive<C: Consumer<T>>(self, consumer: C) -> C::Result {
        bridge(self, consumer)
    }

    fn with_producer<P: ProducerCallback<T>>(mut self, callback: P) -> P::Output {
        let elements = ptr::slice_from_raw_parts_mut(self.0.as_mut_ptr(), self.0.len());
        // SAFETY: the array is empty from now on, so the elements are the producer's alone; the
        // memory outlives it, since `self` does.
        unsafe {
            self.0.set_len(0);
            callback.callback(Owned { elements: &mut *elements })
        }
    }
}

/// Elements that are owned although they are borrowed.
///
/// Invariant: every element of the slice is initialised, and dropped or handed out by this alone.
struct Owned<'a, T> {
    elements: &'a mut [T],
}

impl<'a, T: Send> Producer for Owned<'a, T> {
    type Item = T;
    type IntoIter = OwnedIter<'a, T>;

    fn into_iter(mut self) -> OwnedIter<'a, T> {
        OwnedIter(std::mem::take(&mut self.elements).iter_mut())
    }

    fn split_at(mut self, index: usize) -> (Self, Self) {
        let (left, right) = std::mem::take(&mut self.elements).split_at_mut(index);
        (Self { elements: left }, Self { elements: right })
    }
}

impl<T> Drop for Owned<'_, T> {
    fn drop(&mut self) {
        let elements = ptr::from_mut(std::mem::take(&mut self.elements));
        // SAFETY: the invariant; they are not reachable any more.
        unsafe { ptr::drop_in_place(elements) };
    }
}

/// Invariant: as [`Owned`].
struct OwnedIter<'a, T>(slice::IterMut<'a, T>);

impl<T> Iterator for OwnedIter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        // SAFETY: the invariant: the element is handed out once.
        self.0.next().map(|element| unsafe { ptr::read(element) })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<T> DoubleEndedIterator for OwnedIter<'_, T> {
    fn next_back(&mut self) -> Option<T> {
        // SAFETY: the invariant: the element is handed out once.
        self.0.next_back().map(|element| unsafe { ptr::read(element) })
    }
}

impl<T> ExactSizeIterator for OwnedIter<'_, T> {}

impl<T> Drop for OwnedIter<'_, T> {
    fn drop(&mut self) {
        let rest = ptr::from_mut(std::mem::take(&mut self.0).into_slice());
        // SAFETY: the invariant; they are not reachable any more.
        unsafe { ptr::drop_in_place(rest) };
    }
}
