//! More ways to append, and to commit memory ahead.

use super::super::push_error::PushError;
use super::{ConcurrentVec, granted};
use crate::error::Error;
use crate::sync::Ordering;

impl<T> ConcurrentVec<T> {
    /// Appends what `make` returns, which is told its index, and returns the index.
    ///
    /// The array is locked while `make` runs. It may read the array; whatever appends to it, reserves in it,
    /// or waits for it would wait for ever, and other threads' pushes wait for `make`. Where `make` panics,
    /// nothing is appended.
    ///
    /// # Panics
    /// As [`push`](Self::push), and where `make` does. The array stays usable.
    ///
    /// ```
    /// struct Node {
    ///     id: usize,
    /// }
    /// let nodes = pagewise::ConcurrentVec::new(100)?;
    /// let root = nodes.push_with(|id| Node { id });
    /// assert_eq!(nodes[root].id, root); // whoever finds it finds it complete
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    pub fn push_with(&self, make: impl FnOnce(usize) -> T) -> usize {
        granted(self.try_push_with(make))
    }

    /// Appends what `make` returns, which is told its index, or hands it back: see
    /// [`push_with`](Self::push_with).
    ///
    /// # Errors
    /// [`PushError`] with what `make` returned, and an error of [`try_reserve`](Self::try_reserve):
    /// [`Full`](crate::Error::Full), [`LimitReached`](crate::Error::LimitReached),
    /// [`BudgetReached`](crate::Error::BudgetReached), [`CommitRefused`](crate::Error::CommitRefused),
    /// [`MappingsExhausted`](crate::Error::MappingsExhausted) or [`Locked`](crate::Error::Locked). It has no
    /// value where the addresses of a [`lazy`](Self::lazy) array cannot be reserved: `make` was not called.
    ///
    /// ```
    /// let seats = pagewise::ConcurrentVec::new(1)?;
    /// seats.try_push_with(|seat| format!("seat {seat}"))?;
    /// let refused = seats.try_push_with(|seat| format!("seat {seat}")).unwrap_err();
    /// assert_eq!(refused.into_value().as_deref(), Some("seat 1"));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn try_push_with(
        &self,
        make: impl FnOnce(usize) -> T,
    ) -> Result<usize, PushError<Option<T>>> {
        let held = match self.hold() {
            Ok(held) => held,
            Err(error) => return Err(PushError::new(None, error)),
        };
        let value = make(self.published.load(Ordering::Relaxed));
        self.push_while(held, value).map_err(|refused| {
            let (value, error) = refused.into_parts();
            PushError::new(Some(value), error)
        })
    }

    /// Appends what an iterator yields, one by one: what other threads push may come between. Takes elements,
    /// or references to elements that are `Copy`. The array is not locked while the iterator runs, which may
    /// push to it, too.
    ///
    /// # Panics
    /// As [`push`](Self::push): the elements before it stay.
    ///
    /// ```
    /// let log = pagewise::ConcurrentVec::new(1000)?;
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| log.extend([1, 2, 3]));
    ///     scope.spawn(|| log.extend(&[4, 5, 6]));
    /// });
    /// assert_eq!(log.iter().sum::<i32>(), 21);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    pub fn extend<'a, A>(&'a self, elements: impl IntoIterator<Item = A>)
    where
        &'a Self: Extend<A>,
    {
        Extend::extend(&mut &*self, elements);
    }

    /// Appends what an iterator yields, one by one, until something is refused: that element comes back, those
    /// before it stay, and those behind it stay in the iterator (pass `&mut iterator` to keep it).
    ///
    /// # Errors
    /// As [`try_push`](Self::try_push): [`Full`](crate::Error::Full),
    /// [`LimitReached`](crate::Error::LimitReached), [`BudgetReached`](crate::Error::BudgetReached),
    /// [`CommitRefused`](crate::Error::CommitRefused), [`MappingsExhausted`](crate::Error::MappingsExhausted)
    /// or [`Locked`](crate::Error::Locked).
    ///
    /// ```
    /// let top = pagewise::ConcurrentVec::new(3)?;
    /// let mut source = 1..;
    /// let refused = top.try_extend(&mut source).unwrap_err();
    /// assert_eq!((refused.into_value(), source.next()), (4, Some(5))); // nothing is lost
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn try_extend(&self, elements: impl IntoIterator<Item = T>) -> Result<(), PushError<T>> {
        for element in elements {
            self.try_push(element)?;
        }
        Ok(())
    }

    /// Appends all elements of a slice, next to one another, and returns the index of the first. They are
    /// published together.
    ///
    /// # Panics
    /// Where [`try_extend_from_slice`](Self::try_extend_from_slice) returns an error.
    ///
    /// ```
    /// let text = pagewise::ConcurrentVec::new(1 << 20)?;
    /// let first = text.extend_from_slice(b"all of it, or nothing");
    /// assert_eq!(&text[first..first + 3], b"all");
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    pub fn extend_from_slice(&self, elements: &[T]) -> usize
    where
        T: Copy,
    {
        granted(self.try_extend_from_slice(elements))
    }

    /// Appends all elements of a slice, next to one another, or none, and returns the index of the
    /// first. They are published together. ([`extend`](Self::extend) takes an iterator, and publishes one by
    /// one.)
    ///
    /// # Errors
    /// As [`try_reserve`](Self::try_reserve): [`Full`](crate::Error::Full),
    /// [`LimitReached`](crate::Error::LimitReached), [`BudgetReached`](crate::Error::BudgetReached),
    /// [`CommitRefused`](crate::Error::CommitRefused), [`MappingsExhausted`](crate::Error::MappingsExhausted)
    /// or [`Locked`](crate::Error::Locked); then nothing has changed.
    ///
    /// ```
    /// let text = pagewise::ConcurrentVec::new(1 << 20)?;
    /// text.try_extend_from_slice(b"GET ")?;
    /// let path = text.try_extend_from_slice(b"/index.html")?;
    /// assert_eq!(&text[path..], b"/index.html"); // no other thread's bytes between
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn try_extend_from_slice(&self, elements: &[T]) -> Result<usize, Error>
    where
        T: Copy, // somebody's `clone` could push to this very array, and wait for itself
    {
        let held = self.hold()?;
        let first = self.published.load(Ordering::Relaxed);
        // SAFETY: the lock is held.
        unsafe { self.storage.with(|vec| vec.try_extend_from_copies(elements)) }?;
        self.publish(held, first + elements.len());
        Ok(first)
    }

    /// Commits memory for `additional` more elements, in steps: until so many are pushed, by whichever
    /// thread, no push can be refused.
    ///
    /// # Errors
    /// As [`PageVec::try_reserve`](crate::PageVec::try_reserve): [`Full`](crate::Error::Full),
    /// [`LimitReached`](crate::Error::LimitReached), [`BudgetReached`](crate::Error::BudgetReached),
    /// [`CommitRefused`](crate::Error::CommitRefused), [`MappingsExhausted`](crate::Error::MappingsExhausted)
    /// or [`Locked`](crate::Error::Locked); for a [`lazy`](Self::lazy) array, also as [`new`](Self::new).
    ///
    /// ```
    /// let log = pagewise::ConcurrentVec::<[u8; 64]>::new(1 << 20)?;
    /// log.try_reserve(1000)?;
    /// let committed = log.committed();
    /// (0..1000).for_each(|_| drop(log.push([0; 64])));
    /// assert_eq!(log.committed(), committed);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn try_reserve(&self, additional: usize) -> Result<(), Error> {
        let _held = self.hold()?;
        // SAFETY: the lock is held.
        unsafe { self.storage.with(|vec| vec.try_reserve(additional)) }
    }

    /// Commits memory for exactly `additional` more elements, rounded up to whole pages.
    ///
    /// # Errors
    /// As [`try_reserve`](Self::try_reserve): [`Full`](crate::Error::Full),
    /// [`LimitReached`](crate::Error::LimitReached), [`BudgetReached`](crate::Error::BudgetReached),
    /// [`CommitRefused`](crate::Error::CommitRefused), [`MappingsExhausted`](crate::Error::MappingsExhausted)
    /// or [`Locked`](crate::Error::Locked).
    ///
    /// ```
    /// let page = pagewise::ConcurrentVec::<u8>::new(1 << 30)?;
    /// page.try_reserve_exact(1)?;
    /// assert_eq!(page.committed(), pagewise::page_size()); // no step ahead
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn try_reserve_exact(&self, additional: usize) -> Result<(), Error> {
        let _held = self.hold()?;
        // SAFETY: the lock is held.
        unsafe { self.storage.with(|vec| vec.try_reserve_exact(additional)) }
    }

    /// Commits memory as [`try_reserve`](Self::try_reserve) does.
    ///
    /// # Panics
    /// Where it returns an error.
    ///
    /// ```
    /// let log = pagewise::ConcurrentVec::<u64>::new(1 << 20)?;
    /// log.reserve(1000);
    /// assert!(log.capacity() >= 1000);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    pub fn reserve(&self, additional: usize) {
        granted(self.try_reserve(additional));
    }

    /// Commits memory as [`try_reserve_exact`](Self::try_reserve_exact) does.
    ///
    /// # Panics
    /// Where it returns an error.
    ///
    /// ```
    /// let page = pagewise::ConcurrentVec::<u8>::new(1 << 30)?;
    /// page.reserve_exact(1);
    /// assert_eq!(page.capacity(), pagewise::page_size());
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    pub fn reserve_exact(&self, additional: usize) {
        granted(self.try_reserve_exact(additional));
    }
}
