//! What a `PageVec` is to others: a slice, a value to compare, to clone, to convert.

use std::borrow::{Borrow, BorrowMut, Cow};
use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, DerefMut, Index, IndexMut};
use std::slice::SliceIndex;

use super::PageVec;

impl<T> Deref for PageVec<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        self.as_slice()
    }
}

impl<T> DerefMut for PageVec<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        self.as_mut_slice()
    }
}

impl<T, I: SliceIndex<[T]>> Index<I> for PageVec<T> {
    type Output = I::Output;

    #[inline]
    fn index(&self, index: I) -> &I::Output {
        &self.as_slice()[index]
    }
}

impl<T, I: SliceIndex<[T]>> IndexMut<I> for PageVec<T> {
    #[inline]
    fn index_mut(&mut self, index: I) -> &mut I::Output {
        &mut self.as_mut_slice()[index]
    }
}

/// A clone has the same maximum length and options, and shares the budget.
impl<T: Clone> Clone for PageVec<T> {
    /// # Panics
    /// Where reserving or growing is refused.
    #[track_caller]
    fn clone(&self) -> Self {
        super::granted(self.try_clone())
    }

    /// # Panics
    /// Where growing is refused.
    #[track_caller]
    fn clone_from(&mut self, source: &Self) {
        self.truncate(source.len);
        let (same, more) = source.split_at(self.len);
        self.clone_from_slice(same);
        self.extend_from_slice(more);
    }
}

impl<T> AsRef<[T]> for PageVec<T> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

impl<T> AsMut<[T]> for PageVec<T> {
    fn as_mut(&mut self) -> &mut [T] {
        self
    }
}

impl<T> AsRef<PageVec<T>> for PageVec<T> {
    fn as_ref(&self) -> &PageVec<T> {
        self
    }
}

impl<T> AsMut<PageVec<T>> for PageVec<T> {
    fn as_mut(&mut self) -> &mut PageVec<T> {
        self
    }
}

impl<T> Borrow<[T]> for PageVec<T> {
    fn borrow(&self) -> &[T] {
        self
    }
}

impl<T> BorrowMut<[T]> for PageVec<T> {
    fn borrow_mut(&mut self) -> &mut [T] {
        self
    }
}

impl<T: Hash> Hash for PageVec<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_slice().hash(state);
    }
}

impl<T: Eq> Eq for PageVec<T> {}

impl<T: PartialOrd> PartialOrd for PageVec<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.as_slice().partial_cmp(other.as_slice())
    }
}

impl<T: Ord> Ord for PageVec<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

equal_as_slices! {
    [] PageVec<T>, PageVec<U>;
    [] PageVec<T>, [U];
    [] PageVec<T>, &[U];
    [] PageVec<T>, &mut [U];
    [] PageVec<T>, Vec<U>;
    [const N: usize] PageVec<T>, [U; N];
    [const N: usize] PageVec<T>, &[U; N];
    [const N: usize] PageVec<T>, &mut [U; N];
    [const N: usize] [T; N], PageVec<U>;
    [const N: usize] &[T; N], PageVec<U>;
    [const N: usize] &mut [T; N], PageVec<U>;
    [] [T], PageVec<U>;
    [] &[T], PageVec<U>;
    [] &mut [T], PageVec<U>;
    [] Vec<T>, PageVec<U>;
    [] PageVec<T>, Box<[U]>;
    [] Box<[T]>, PageVec<U>;
    [] PageVec<T>, Cow<'_, [U]>, where U: Clone;
    [] Cow<'_, [T]>, PageVec<U>, where T: Clone;
}
