//! What a `ConcurrentVec` is to others: a slice, a value to compare and to clone, something to iterate over, to
//! extend and to write to.

use std::cmp::Ordering;
use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut, Index, IndexMut};
use std::slice::{self, SliceIndex};

use super::super::page_vec::{self, PageVec};
use super::{ConcurrentVec, granted};
use crate::error::Error;

/// Every published element, as [`as_slice`](ConcurrentVec::as_slice) returns them.
impl<T> Deref for ConcurrentVec<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        self.as_slice()
    }
}

impl<T> DerefMut for ConcurrentVec<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        self.as_mut_slice()
    }
}

impl<T, I: SliceIndex<[T]>> Index<I> for ConcurrentVec<T> {
    type Output = I::Output;

    #[inline]
    fn index(&self, index: I) -> &I::Output {
        &self.as_slice()[index]
    }
}

impl<T, I: SliceIndex<[T]>> IndexMut<I> for ConcurrentVec<T> {
    #[inline]
    fn index_mut(&mut self, index: I) -> &mut I::Output {
        &mut self.as_mut_slice()[index]
    }
}

impl<T> AsRef<[T]> for ConcurrentVec<T> {
    fn as_ref(&self) -> &[T] {
        self.as_slice()
    }
}

impl<T> AsMut<[T]> for ConcurrentVec<T> {
    fn as_mut(&mut self) -> &mut [T] {
        self.as_mut_slice()
    }
}

impl<T> IntoIterator for ConcurrentVec<T> {
    type Item = T;
    type IntoIter = page_vec::IntoIter<T>;

    /// # Panics
    /// As [`into_page_vec`](ConcurrentVec::into_page_vec).
    #[track_caller]
    fn into_iter(self) -> Self::IntoIter {
        self.into_page_vec().into_iter()
    }
}

/// Over the elements that are published now; for those that follow, there is [`follow`](ConcurrentVec::follow).
impl<'a, T> IntoIterator for &'a ConcurrentVec<T> {
    type Item = &'a T;
    type IntoIter = slice::Iter<'a, T>;

    fn into_iter(self) -> slice::Iter<'a, T> {
        self.as_slice().iter()
    }
}

impl<'a, T> IntoIterator for &'a mut ConcurrentVec<T> {
    type Item = &'a mut T;
    type IntoIter = slice::IterMut<'a, T>;

    fn into_iter(self) -> slice::IterMut<'a, T> {
        self.as_mut_slice().iter_mut()
    }
}

impl<T: fmt::Debug> fmt::Debug for ConcurrentVec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_slice(), f)
    }
}

impl<T: Clone> ConcurrentVec<T> {
    /// Makes an array of clones of what is published now, with the same maximum length and options.
    ///
    /// # Errors
    /// As [`new`](Self::new): [`Overflow`](crate::Error::Overflow),
    /// [`AddressSpaceExhausted`](crate::Error::AddressSpaceExhausted) or
    /// [`MappingsExhausted`](crate::Error::MappingsExhausted). As [`try_reserve`](Self::try_reserve):
    /// [`Full`](crate::Error::Full), [`LimitReached`](crate::Error::LimitReached),
    /// [`BudgetReached`](crate::Error::BudgetReached), [`CommitRefused`](crate::Error::CommitRefused),
    /// [`MappingsExhausted`](crate::Error::MappingsExhausted) or [`Locked`](crate::Error::Locked).
    ///
    /// ```
    /// let log = pagewise::ConcurrentVec::new(100)?;
    /// log.push("first");
    /// let snapshot = log.try_clone()?;
    /// log.push("second");
    /// assert_eq!((snapshot.len(), snapshot.max_len()), (1, 100));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn try_clone(&self) -> Result<Self, Error> {
        let held = self.hold()?;
        // SAFETY: the lock is held.
        let alike = unsafe { self.storage.with(|vec| vec.new_alike()) };
        // The elements' own `clone` runs without the lock.
        drop(held);
        let mut clone = alike?;
        clone.try_extend_from_slice(self.as_slice())?;
        Ok(clone.into())
    }
}

/// A clone holds what is published now, has the same maximum length and options, and shares the budget.
impl<T: Clone> Clone for ConcurrentVec<T> {
    /// # Panics
    /// Where reserving or growing is refused.
    #[track_caller]
    fn clone(&self) -> Self {
        granted(self.try_clone())
    }
}

impl<T> Extend<T> for ConcurrentVec<T> {
    /// Appends what an iterator yields, before or after other threads share the array: it needs
    /// `&mut`. ([`ConcurrentVec::extend`] needs no more than `&`.)
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
        Extend::extend(&mut &*self, elements);
    }
}

impl<'a, T: Copy + 'a> Extend<&'a T> for ConcurrentVec<T> {
    /// # Panics
    /// As the one that takes elements by value.
    #[track_caller]
    fn extend<I: IntoIterator<Item = &'a T>>(&mut self, elements: I) {
        Extend::extend(&mut &*self, elements);
    }
}

impl<T> Extend<T> for &ConcurrentVec<T> {
    /// Appends what an iterator yields, one by one: see [`ConcurrentVec::extend`].
    ///
    /// # Panics
    /// As [`push`](ConcurrentVec::push); the elements before it stay.
    #[track_caller]
    fn extend<I: IntoIterator<Item = T>>(&mut self, elements: I) {
        for element in elements {
            self.push(element);
        }
    }
}

impl<'a, T: Copy + 'a> Extend<&'a T> for &ConcurrentVec<T> {
    /// # Panics
    /// As the one that takes elements by value.
    #[track_caller]
    fn extend<I: IntoIterator<Item = &'a T>>(&mut self, elements: I) {
        for element in elements {
            self.push(*element);
        }
    }
}

/// Each write appends its bytes next to one another, all or nothing, whatever other threads write; a refusal is
/// [`io::ErrorKind::OutOfMemory`]. `write!` writes a text in pieces: format it first where nothing may come
/// between.
///
/// ```
/// use std::io::Write;
///
/// let log = pagewise::ConcurrentVec::<u8>::new(1 << 20)?;
/// std::thread::scope(|scope| {
///     for line in ["one\n", "two\n"] {
///         let mut log = &log;
///         scope.spawn(move || log.write_all(line.as_bytes()));
///     }
/// });
/// assert_eq!(log.len(), 8);
/// # Ok::<(), pagewise::Error>(())
/// ```
impl io::Write for &ConcurrentVec<u8> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.try_extend_from_slice(bytes) {
            Ok(_) => Ok(()),
            Err(error) => Err(io::Error::new(io::ErrorKind::OutOfMemory, error)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// As through a shared reference.
impl io::Write for ConcurrentVec<u8> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        (&*self).write_all(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<T: Eq> Eq for ConcurrentVec<T> {}

impl<T: PartialOrd> PartialOrd for ConcurrentVec<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.as_slice().partial_cmp(other.as_slice())
    }
}

impl<T: Ord> Ord for ConcurrentVec<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

equal_as_slices! {
    [] ConcurrentVec<T>, ConcurrentVec<U>;
    [] ConcurrentVec<T>, PageVec<U>;
    [] ConcurrentVec<T>, Vec<U>;
    [] ConcurrentVec<T>, [U];
    [] ConcurrentVec<T>, &[U];
    [] ConcurrentVec<T>, &mut [U];
    [const N: usize] ConcurrentVec<T>, [U; N];
    [const N: usize] ConcurrentVec<T>, &[U; N];
    [] PageVec<T>, ConcurrentVec<U>;
    [] Vec<T>, ConcurrentVec<U>;
    [] [T], ConcurrentVec<U>;
    [] &[T], ConcurrentVec<U>;
    [] &mut [T], ConcurrentVec<U>;
    [const N: usize] [T; N], ConcurrentVec<U>;
    [const N: usize] &[T; N], ConcurrentVec<U>;
}
