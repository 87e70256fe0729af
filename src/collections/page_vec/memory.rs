//! The memory under the elements: committed as the array grows, given back when it is far more than needed.

use super::super::frontier::Growth;
use super::{PageVec, granted};
use crate::error::Error;

impl<T> PageVec<T> {
    /// Commits memory for `additional` more elements, in steps, so that calling it again and again
    /// is cheap. The memory stays until [`shrink_to`](Self::shrink_to).
    ///
    /// # Panics
    /// Where [`try_reserve`](Self::try_reserve) returns an error.
    ///
    /// ```
    /// let mut frames = pagewise::PageVec::<u64>::new(1 << 30)?;
    /// frames.reserve(10_000); // no push of the next 10,000 can be refused
    /// let committed = frames.committed();
    /// frames.extend(0..10_000);
    /// assert_eq!(frames.committed(), committed);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    pub fn reserve(&mut self, additional: usize) {
        granted(self.try_reserve(additional))
    }

    /// Commits memory for exactly `additional` more elements, rounded up to whole pages.
    ///
    /// # Panics
    /// Where [`try_reserve_exact`](Self::try_reserve_exact) returns an error.
    ///
    /// ```
    /// let mut page = pagewise::PageVec::<u8>::new(1 << 30)?;
    /// page.reserve_exact(pagewise::page_size());
    /// assert_eq!(page.committed(), pagewise::page_size()); // no step ahead
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    pub fn reserve_exact(&mut self, additional: usize) {
        granted(self.try_reserve_exact(additional))
    }

    /// Commits memory as [`reserve`](Self::reserve) does, but returns what went wrong.
    ///
    /// # Errors
    /// [`Full`](Error::Full), [`LimitReached`](Error::LimitReached), [`BudgetReached`](Error::BudgetReached),
    /// [`CommitRefused`](Error::CommitRefused), [`Locked`](Error::Locked), or
    /// [`MappingsExhausted`](Error::MappingsExhausted): then nothing has changed.
    ///
    /// ```
    /// use pagewise::{Error, PageVec};
    ///
    /// let mut bytes = PageVec::<u8>::builder(1 << 30).limit(1 << 20).build()?;
    /// assert!(matches!(bytes.try_reserve(2 << 20), Err(Error::LimitReached { .. })));
    /// assert!(matches!(bytes.try_reserve(2 << 30), Err(Error::Full { .. })));
    /// bytes.try_reserve(1 << 20)?;
    /// # Ok::<(), Error>(())
    /// ```
    pub fn try_reserve(&mut self, additional: usize) -> Result<(), Error> {
        self.grow(additional, Growth::Amortized)?;
        self.keep(additional);
        Ok(())
    }

    /// Commits memory as [`reserve_exact`](Self::reserve_exact) does, but returns what went wrong.
    ///
    /// # Errors
    /// As [`try_reserve`](Self::try_reserve): [`Full`](crate::Error::Full),
    /// [`LimitReached`](crate::Error::LimitReached), [`BudgetReached`](crate::Error::BudgetReached),
    /// [`CommitRefused`](crate::Error::CommitRefused), [`MappingsExhausted`](crate::Error::MappingsExhausted)
    /// or [`Locked`](crate::Error::Locked).
    ///
    /// ```
    /// let budget = pagewise::Budget::new(pagewise::page_size());
    /// let mut bytes = pagewise::PageVec::<u8>::builder(1 << 20).budget(budget).build()?;
    /// bytes.try_reserve_exact(1)?; // takes the whole budget: one page
    /// assert!(bytes.try_reserve_exact(pagewise::page_size() + 1).is_err());
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn try_reserve_exact(&mut self, additional: usize) -> Result<(), Error> {
        self.grow(additional, Growth::Exact)?;
        self.keep(additional);
        Ok(())
    }

    fn keep(&mut self, additional: usize) {
        if let Some(frontier) = &mut self.backing.frontier {
            frontier.keep((self.len + additional) * size_of::<T>());
            self.frontier_moved();
        }
    }

    /// Gives back every whole page behind the elements, and what was reserved. The elements stay where
    /// they are. A system that refuses leaves the memory committed.
    ///
    /// ```
    /// let mut bytes = pagewise::PageVec::<u8>::new(1 << 30)?;
    /// bytes.reserve(1 << 20);
    /// bytes.push(1);
    /// bytes.shrink_to_fit();
    /// assert_eq!(bytes.committed(), pagewise::page_size());
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn shrink_to_fit(&mut self) {
        self.shrink_to(0);
    }

    /// Gives back every whole page behind `min_capacity` elements, or behind the elements that there
    /// are, and what was reserved. A system that refuses leaves the memory committed.
    ///
    /// ```
    /// let mut bytes = pagewise::PageVec::<u8>::new(1 << 30)?;
    /// bytes.reserve(1 << 20);
    /// bytes.shrink_to(64 << 10);
    /// assert_eq!(bytes.capacity(), 64 << 10);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn shrink_to(&mut self, min_capacity: usize) {
        if let Some(frontier) = &mut self.backing.frontier {
            let kept = self.len.max(min_capacity.min(self.backing.max_len)) * size_of::<T>();
            let _ = frontier.shrink_to(kept);
            self.frontier_moved();
        }
    }

    /// Commits memory for `additional` more elements.
    pub(super) fn grow(&mut self, additional: usize, growth: Growth) -> Result<(), Error> {
        self.grow_behind(self.len, additional, growth)
    }

    /// Commits memory for `additional` more slots behind the first `len`, which are in use although
    /// they may not be elements now.
    #[cold]
    pub(super) fn grow_behind(
        &mut self,
        len: usize,
        additional: usize,
        growth: Growth,
    ) -> Result<(), Error> {
        let max_len = self.backing.max_len;
        if additional > max_len - len {
            return Err(Error::Full { len, additional, max_len });
        }
        if additional == 0 {
            return Ok(());
        }
        if let Some(frontier) = &mut self.backing.frontier {
            frontier.grow((len + additional) * size_of::<T>(), growth)?;
            self.frontier_moved();
        }
        Ok(())
    }

    /// Makes room for elements that are written at once.
    #[inline]
    #[track_caller]
    pub(super) fn make_room(&mut self, additional: usize) {
        granted(self.grow(additional, Growth::Amortized))
    }

    /// Gives memory back after elements were removed. Callers call it last: slots at and after `len`
    /// may be inaccessible afterwards.
    #[inline]
    pub(super) fn removed(&mut self) {
        if self.len < self.give_back_below {
            self.give_back();
        }
    }

    #[cold]
    fn give_back(&mut self) {
        let Some(frontier) = &mut self.backing.frontier else { return };
        let given = frontier.give_back(self.len * size_of::<T>());
        self.frontier_moved();
        if given.is_err() {
            // The system would refuse at the next removal, too: do not ask before the next growth.
            self.give_back_below = 0;
        }
    }

    /// In the child of a fork, where a thread of the parent was appending: makes the array consist of its
    /// first `len` elements, and its memory of what is committed. What was being appended is forgotten.
    ///
    /// # Safety
    /// The first `len` elements are initialised.
    pub(crate) unsafe fn recover(&mut self, len: usize) {
        self.len = len;
        if let Some(frontier) = &mut self.backing.frontier {
            frontier.recover();
        }
        self.frontier_moved();
    }

    pub(super) fn frontier_moved(&mut self) {
        let Some(frontier) = &self.backing.frontier else { return };
        self.ready = (frontier.ready() / size_of::<T>()).min(self.backing.max_len);
        self.give_back_below = frontier.give_back_below() / size_of::<T>();
    }
}
