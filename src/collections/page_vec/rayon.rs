//! Parallel iterators.

use std::collections::LinkedList;
use std::marker::PhantomData;
use std::ptr;
use std::slice;

use rayon::iter::plumbing::{
    Consumer, Folder, Producer, ProducerCallback, Reducer, UnindexedConsumer, bridge,
};
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
    /// Elements whose number is known are written where they stay, by all threads at once. Others are
    /// collected in pieces first, then moved.
    ///
    /// # Panics
    /// Where growing is refused, or where an element's making panics: then nothing is appended.
    #[track_caller]
    fn par_extend<I: IntoParallelIterator<Item = T>>(&mut self, elements: I) {
        let elements = elements.into_par_iter();
        let Some(count) = elements.opt_len() else {
            return self.append_pieces(pieces(elements));
        };
        self.make_room(count);
        // SAFETY: `len <= capacity()`.
        let slots = Slots::new(unsafe { self.start.as_ptr().add(self.len) }, count);
        let filled = elements.drive_unindexed(slots);
        // Every slot is filled at most once, so that this many are all of them.
        assert_eq!(filled.len, count, "a parallel iterator that yields as much as it says");
        self.len += filled.into_len();
    }
}

/// What many threads have collected each, in the order of the iterator.
fn pieces<T: Send>(elements: impl ParallelIterator<Item = T>) -> LinkedList<Vec<T>> {
    elements
        .fold(Vec::new, |mut piece, element| {
            piece.push(element);
            piece
        })
        .collect()
}

impl<T> PageVec<T> {
    #[track_caller]
    fn append_pieces(&mut self, pieces: LinkedList<Vec<T>>) {
        self.make_room(pieces.iter().map(Vec::len).sum());
        for mut piece in pieces {
            // SAFETY: there is room for all pieces, and the elements move: the piece is empty
            // afterwards, and frees its memory before the next one is moved.
            unsafe {
                self.move_in(piece.as_ptr(), piece.len());
                piece.set_len(0);
            }
        }
    }
}

/// Free slots, to be filled by several threads.
///
/// Invariant: `count` slots from `start` on are committed, hold nothing, and are this value's alone for
/// the lifetime `'a`.
struct Slots<'a, T> {
    start: *mut T,
    count: usize,
    borrows: PhantomData<&'a mut T>,
}

// SAFETY: the slots are this value's alone, and what is written to them may be sent.
unsafe impl<T: Send> Send for Slots<'_, T> {}

impl<T> Slots<'_, T> {
    fn new(start: *mut T, count: usize) -> Self {
        Self { start, count, borrows: PhantomData }
    }
}

/// [`Slots`] of which the first `len` are filled. It owns those elements until they are counted.
struct Filled<'a, T> {
    slots: Slots<'a, T>,
    len: usize,
}

impl<T> Filled<'_, T> {
    /// Gives the elements to whoever knows where they are.
    fn into_len(mut self) -> usize {
        std::mem::take(&mut self.len)
    }
}

impl<T> Drop for Filled<'_, T> {
    fn drop(&mut self) {
        // SAFETY: the first `len` slots are filled, and owned by this value.
        unsafe { ptr::drop_in_place(ptr::slice_from_raw_parts_mut(self.slots.start, self.len)) };
    }
}

impl<'a, T: Send> Consumer<T> for Slots<'a, T> {
    type Folder = Filled<'a, T>;
    type Reducer = Join;
    type Result = Filled<'a, T>;

    fn split_at(self, index: usize) -> (Self, Self, Join) {
        assert!(index <= self.count, "a split inside of the slots");
        // SAFETY: checked just now.
        let right = unsafe { self.start.add(index) };
        (Self::new(self.start, index), Self::new(right, self.count - index), Join)
    }

    fn into_folder(self) -> Filled<'a, T> {
        Filled { slots: self, len: 0 }
    }

    fn full(&self) -> bool {
        false
    }
}

/// An iterator that knows its length is driven as if it did not: nothing else tells the two apart
/// where the type does not. It never splits without an index.
impl<T: Send> UnindexedConsumer<T> for Slots<'_, T> {
    fn split_off_left(&self) -> Self {
        unreachable!("an iterator with a known length splits by index")
    }

    fn to_reducer(&self) -> Join {
        Join
    }
}

impl<T: Send> Folder<T> for Filled<'_, T> {
    type Result = Self;

    fn consume(mut self, element: T) -> Self {
        assert!(
            self.len < self.slots.count,
            "a parallel iterator that yields no more than it says"
        );
        // SAFETY: the slot is one of ours, and not filled yet.
        unsafe { self.slots.start.add(self.len).write(element) };
        self.len += 1;
        self
    }

    fn complete(self) -> Self {
        self
    }

    fn full(&self) -> bool {
        false
    }
}

/// Joins what was filled by two neighbours. Where there is a gap between them, the right one's elements
/// are dropped, and the number that is missing in the end tells.
struct Join;

impl<'a, T> Reducer<Filled<'a, T>> for Join {
    fn reduce(self, mut left: Filled<'a, T>, right: Filled<'a, T>) -> Filled<'a, T> {
        // SAFETY: so many slots are filled, so that the sum is at most behind the last slot.
        if unsafe { left.slots.start.add(left.len) } == right.slots.start {
            left.slots.count += right.slots.count;
            left.len += right.into_len();
        }
        left
    }
}

/// The elements of a [`PageVec`], handed out by value to many threads.
///
/// ```
/// use rayon::prelude::*;
///
/// let words = pagewise::PageVec::try_from_iter(100, [String::from("a"), String::from("bc")])?;
/// let lengths: usize = words.into_par_iter().map(|word| word.len()).sum();
/// assert_eq!(lengths, 3);
/// # Ok::<(), pagewise::Error>(())
/// ```
#[derive(Debug)]
pub struct ParIntoIter<T>(PageVec<T>);

impl<T: Clone> Clone for ParIntoIter<T> {
    /// # Panics
    /// As the clone of the array.
    #[track_caller]
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

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
