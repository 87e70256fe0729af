//! One element at a time: push, pop, insert, remove; and cutting off the end.

use std::ptr;

use super::super::frontier::Growth;
use super::super::push_error::PushError;
use super::{PageVec, granted, refused_value};

impl<T> PageVec<T> {
    /// Appends an element. Nothing moves, however much the array grows.
    ///
    /// # Panics
    /// Where [`try_push`](Self::try_push) returns an error; the value is dropped.
    ///
    /// ```
    /// let mut log = pagewise::PageVec::new(1_000_000)?;
    /// for line in 0..100_000 {
    ///     log.push(line); // commits memory now and then; never copies
    /// }
    /// assert_eq!(log.last(), Some(&99_999));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[inline]
    #[track_caller]
    pub fn push(&mut self, value: T) {
        if self.len >= self.ready {
            self.grow_for_push();
        }
        // SAFETY: `len < ready <= capacity()`, or the frontier has just grown beyond `len`.
        unsafe { self.start.as_ptr().add(self.len).write(value) };
        self.len += 1;
    }

    #[cold]
    #[inline(never)]
    #[track_caller]
    fn grow_for_push(&mut self) {
        granted(self.grow(1, Growth::Append))
    }

    /// Appends an element, and returns it where it is now.
    ///
    /// # Panics
    /// As [`push`](Self::push).
    ///
    /// ```
    /// let mut scores = pagewise::PageVec::new(100)?;
    /// let own = scores.push_mut(0);
    /// *own += 7;
    /// assert_eq!(scores, [7]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[inline]
    #[track_caller]
    #[must_use = "`push` appends without returning the element"]
    pub fn push_mut(&mut self, value: T) -> &mut T {
        self.push(value);
        // SAFETY: the last element is there since just now.
        unsafe { self.start.add(self.len - 1).as_mut() }
    }

    /// Appends an element, or hands it back.
    ///
    /// # Errors
    /// [`PushError`](crate::PushError) with the value, and an error of [`try_reserve`](Self::try_reserve):
    /// [`Full`](crate::Error::Full), [`LimitReached`](crate::Error::LimitReached),
    /// [`BudgetReached`](crate::Error::BudgetReached), [`CommitRefused`](crate::Error::CommitRefused),
    /// [`MappingsExhausted`](crate::Error::MappingsExhausted) or [`Locked`](crate::Error::Locked). Nothing has
    /// changed then.
    ///
    /// ```
    /// let mut jobs = pagewise::PageVec::new(1)?;
    /// jobs.try_push(Box::new(1))?;
    /// let refused = jobs.try_push(Box::new(2)).unwrap_err();
    /// assert_eq!(*refused.into_value(), 2); // the box comes back
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[inline]
    pub fn try_push(&mut self, value: T) -> Result<(), PushError<T>> {
        if self.len >= self.ready
            && let Err(error) = self.grow(1, Growth::Append)
        {
            return Err(PushError::new(value, error));
        }
        // SAFETY: as in `push`.
        unsafe { self.start.as_ptr().add(self.len).write(value) };
        self.len += 1;
        Ok(())
    }

    /// Takes the last element.
    ///
    /// ```
    /// let mut stack = pagewise::PageVec::try_from_iter(10, ["a", "b"])?;
    /// assert_eq!((stack.pop(), stack.pop(), stack.pop()), (Some("b"), Some("a"), None));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if self.len == 0 {
            return None;
        }
        self.len -= 1;
        // SAFETY: the slot was initialised, and is not part of the array any more.
        let value = unsafe { self.start.as_ptr().add(self.len).read() };
        self.removed();
        Some(value)
    }

    /// Takes the last element if `predicate`, which may change it, returns true for it.
    ///
    /// ```
    /// let mut due = pagewise::PageVec::try_from_iter(10, [90, 40, 10])?;
    /// let now = 50;
    /// while due.pop_if(|time| *time <= now).is_some() {}
    /// assert_eq!(due, [90]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn pop_if(&mut self, predicate: impl FnOnce(&mut T) -> bool) -> Option<T> {
        let last = self.last_mut()?;
        if predicate(last) { self.pop() } else { None }
    }

    /// Inserts an element before position `index`, moving those behind it by one.
    ///
    /// # Panics
    /// If `index > len`, or where [`try_insert`](Self::try_insert) returns an error.
    ///
    /// ```
    /// let mut sorted = pagewise::PageVec::try_from_iter(10, [1, 2, 4])?;
    /// let place = sorted.binary_search(&3).unwrap_err();
    /// sorted.insert(place, 3);
    /// assert_eq!(sorted, [1, 2, 3, 4]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    pub fn insert(&mut self, index: usize, value: T) {
        if let Err(refusal) = self.try_insert(index, value) {
            refused_value(refusal)
        }
    }

    /// Inserts an element before position `index`, or hands it back.
    ///
    /// # Errors
    /// As [`try_push`](Self::try_push): [`Full`](crate::Error::Full),
    /// [`LimitReached`](crate::Error::LimitReached), [`BudgetReached`](crate::Error::BudgetReached),
    /// [`CommitRefused`](crate::Error::CommitRefused), [`MappingsExhausted`](crate::Error::MappingsExhausted)
    /// or [`Locked`](crate::Error::Locked).
    ///
    /// # Panics
    /// If `index > len`.
    ///
    /// ```
    /// let mut full = pagewise::PageVec::try_from_iter(2, ['b', 'c'])?;
    /// let refused = full.try_insert(0, 'a').unwrap_err();
    /// assert_eq!(refused.into_value(), 'a');
    /// assert_eq!(full, ['b', 'c']); // nothing was shifted
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    pub fn try_insert(&mut self, index: usize, value: T) -> Result<(), PushError<T>> {
        let len = self.len;
        assert!(index <= len, "insertion index (is {index}) should be <= len (is {len})");
        if len >= self.ready
            && let Err(error) = self.grow(1, Growth::Append)
        {
            return Err(PushError::new(value, error));
        }
        // SAFETY: `index <= len`, and slot `len` is committed, as in `push`.
        unsafe {
            let slot = self.start.as_ptr().add(index);
            ptr::copy(slot, slot.add(1), len - index);
            slot.write(value);
        }
        self.len = len + 1;
        Ok(())
    }

    /// Takes the element at `index`, moving those behind it by one.
    ///
    /// # Panics
    /// If `index >= len`.
    ///
    /// ```
    /// let mut queue = pagewise::PageVec::try_from_iter(10, ["first", "second", "third"])?;
    /// assert_eq!(queue.remove(0), "first");
    /// assert_eq!(queue, ["second", "third"]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    pub fn remove(&mut self, index: usize) -> T {
        let len = self.len;
        assert!(index < len, "removal index (is {index}) should be < len (is {len})");
        // SAFETY: `index < len`: the slot is initialised, and overwritten or cut off after the read.
        let value = unsafe {
            let slot = self.start.as_ptr().add(index);
            let value = slot.read();
            ptr::copy(slot.add(1), slot, len - index - 1);
            value
        };
        self.len = len - 1;
        self.removed();
        value
    }

    /// Takes the element at `index` and puts the last one in its place.
    ///
    /// # Panics
    /// If `index >= len`.
    ///
    /// ```
    /// let mut alive = pagewise::PageVec::try_from_iter(10, ["a", "b", "c", "d"])?;
    /// assert_eq!(alive.swap_remove(0), "a");
    /// assert_eq!(alive, ["d", "b", "c"]); // one element moved, whatever the length
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    pub fn swap_remove(&mut self, index: usize) -> T {
        let len = self.len;
        assert!(index < len, "swap_remove index (is {index}) should be < len (is {len})");
        self.as_mut_slice().swap(index, len - 1);
        self.pop().expect("there is an element at `index`")
    }

    /// Keeps the first `len` elements and drops the others. No effect where there are fewer. Memory that
    /// is far more than needed goes back to the system.
    ///
    /// ```
    /// let mut bytes = pagewise::PageVec::try_from_iter(1 << 30, (0..16 << 20).map(|n| n as u8))?;
    /// bytes.truncate(100);
    /// assert_eq!(bytes.len(), 100);
    /// assert!(bytes.committed() < 1 << 20); // `Vec` would keep 16 MiB
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn truncate(&mut self, len: usize) {
        if len >= self.len {
            return;
        }
        let dropped = ptr::slice_from_raw_parts_mut(
            // SAFETY: `len < self.len`.
            unsafe { self.start.as_ptr().add(len) },
            self.len - len,
        );
        // The elements are gone first: a drop that panics must not lead to a second one.
        self.len = len;
        // SAFETY: they were elements, and are not any more.
        unsafe { ptr::drop_in_place(dropped) };
        self.removed();
    }

    /// Drops all elements. Memory goes back as by [`truncate`](Self::truncate).
    ///
    /// ```
    /// let mut batch = pagewise::PageVec::<u32>::builder(1 << 20).keep_committed(true).build()?;
    /// batch.extend(0..100_000);
    /// let committed = batch.committed();
    /// batch.clear();
    /// assert_eq!((batch.len(), batch.committed()), (0, committed)); // ready for the next batch
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn clear(&mut self) {
        self.truncate(0);
    }
}
