//! The storage for loom, which watches who touches which slot when, and the models.

use loom::cell::UnsafeCell;
use std::mem::MaybeUninit;

use super::super::push_error::PushError;
use crate::error::Error;

pub(super) struct Storage<T> {
    len: UnsafeCell<usize>,
    slots: Vec<UnsafeCell<MaybeUninit<T>>>,
}

impl<T> Storage<T> {
    pub(super) fn with_room(max_len: usize) -> Self {
        let slots = (0..max_len).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect();
        Self { len: UnsafeCell::new(0), slots }
    }

    /// # Safety
    /// Nobody else is in here: loom fails the model otherwise.
    pub(super) unsafe fn try_push(&self, value: T) -> Result<(), PushError<T>> {
        self.len.with_mut(|len| {
            // SAFETY: loom has made sure that this is the only one.
            let len = unsafe { &mut *len };
            if *len == self.slots.len() {
                let error = Error::Full { len: *len, additional: 1, max_len: *len };
                return Err(PushError::new(value, error));
            }
            // SAFETY: as above, for the slot.
            self.slots[*len].with_mut(|slot| unsafe { (*slot).write(value) });
            *len += 1;
            Ok(())
        })
    }

    /// # Safety
    /// None; no model forks.
    pub(super) unsafe fn recover(&self, _len: usize) {
        unreachable!("no model forks");
    }

    /// # Safety
    /// The element was pushed, and this thread knows of it: loom fails the model otherwise.
    pub(super) unsafe fn get(&self, index: usize) -> &T {
        // SAFETY: loom has made sure that nobody writes it at the same time.
        self.slots[index].with(|slot| unsafe { (*slot).assume_init_ref() })
    }
}
