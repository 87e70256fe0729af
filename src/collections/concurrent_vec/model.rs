//! The storage for loom, which watches who touches the array, and who touches which slot, when.

use loom::cell::UnsafeCell;
use std::sync::Arc;

use super::super::push_error::PushError;
use crate::error::Error;

pub(super) struct Storage<T> {
    vec: UnsafeCell<Slots<T>>,
    /// The same slots, for readers: they must not look into `vec`.
    slots: Arc<[UnsafeCell<Option<T>>]>,
}

/// What grows.
pub(super) type Array<T> = Slots<T>;

/// What stands for the `PageVec`.
pub(super) struct Slots<T> {
    len: usize,
    slots: Arc<[UnsafeCell<Option<T>>]>,
}

impl<T> Slots<T> {
    fn try_push(&mut self, value: T) -> Result<(), PushError<T>> {
        if let Err(error) = self.try_reserve(1) {
            return Err(PushError::new(value, error));
        }
        // SAFETY: loom makes sure that nobody else is in this slot.
        self.slots[self.len].with_mut(|slot| unsafe { *slot = Some(value) });
        self.len += 1;
        Ok(())
    }

    pub(super) fn try_extend_from_copies(&mut self, elements: &[T]) -> Result<(), Error>
    where
        T: Copy,
    {
        self.try_reserve(elements.len())?;
        for &element in elements {
            self.try_push(element)?;
        }
        Ok(())
    }

    pub(super) fn try_reserve(&mut self, additional: usize) -> Result<(), Error> {
        let (len, max_len) = (self.len, self.max_len());
        if additional > max_len - len {
            Err(Error::Full { len, additional, max_len })
        } else {
            Ok(())
        }
    }

    pub(super) fn try_reserve_exact(&mut self, additional: usize) -> Result<(), Error> {
        self.try_reserve(additional)
    }

    fn max_len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn capacity(&self) -> usize {
        self.max_len()
    }

    pub(super) fn committed(&self) -> usize {
        self.max_len() * size_of::<T>()
    }
}

impl<T> Storage<T> {
    pub(super) fn with_room(max_len: usize) -> Self {
        let slots: Arc<[_]> = (0..max_len).map(|_| UnsafeCell::new(None)).collect();
        Self { vec: UnsafeCell::new(Slots { len: 0, slots: slots.clone() }), slots }
    }

    /// # Safety
    /// Nobody else is in here or in [`with`](Self::with): loom fails the model otherwise.
    pub(super) unsafe fn try_push(&self, value: T) -> Result<(), PushError<T>> {
        // SAFETY: the caller's promise.
        unsafe { self.with(|slots| slots.try_push(value)) }
    }

    /// # Safety
    /// Nobody else is in here or in [`try_push`](Self::try_push): loom fails the model otherwise.
    pub(super) unsafe fn with<R>(&self, change: impl FnOnce(&mut Slots<T>) -> R) -> R {
        // SAFETY: loom makes sure that this is the only one.
        self.vec.with_mut(|slots| change(unsafe { &mut *slots }))
    }

    pub(super) fn max_len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn is_made(&self) -> bool {
        true
    }

    /// # Safety
    /// None; no model is lazy.
    pub(super) unsafe fn make(&self) -> Result<(), Error> {
        unreachable!("no model is lazy");
    }

    /// # Safety
    /// None; no model forks.
    pub(super) unsafe fn recover(&self, _len: usize) {
        unreachable!("no model forks");
    }

    pub(super) fn elements(&self) -> Elements<'_, T> {
        Elements(self)
    }
}

/// The elements for a reader, who knows how many there are.
pub(super) struct Elements<'a, T>(&'a Storage<T>);

impl<T> Clone for Elements<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Elements<'_, T> {}

impl<'a, T> Elements<'a, T> {
    /// # Safety
    /// The element was pushed, and this thread knows of it: loom fails the model otherwise.
    pub(super) unsafe fn get(self, index: usize) -> &'a T {
        // SAFETY: loom makes sure that nobody writes it at the same time.
        let element = self.0.slots[index].with(|slot| unsafe { &*slot });
        element.as_ref().expect("what is published is complete")
    }
}
