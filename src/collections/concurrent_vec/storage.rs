//! Where the elements are: a `PageVec` that only the holder of the lock touches.

use std::cell::UnsafeCell;
use std::ptr::NonNull;

use super::super::page_vec::PageVec;
use super::super::push_error::PushError;

pub(super) struct Storage<T> {
    /// Where the elements begin, which never changes: readers must not look into `vec`.
    start: NonNull<T>,
    vec: UnsafeCell<PageVec<T>>,
}

impl<T> Storage<T> {
    pub(super) fn new(mut vec: PageVec<T>) -> Self {
        let start = NonNull::new(vec.as_mut_ptr()).expect("elements are not at address zero");
        Self { start, vec: UnsafeCell::new(vec) }
    }

    /// # Safety
    /// Nobody else is in here or in [`with`](Self::with).
    #[inline]
    pub(super) unsafe fn try_push(&self, value: T) -> Result<(), PushError<T>> {
        // SAFETY: the caller's promise. Pushing writes behind every element that readers see.
        unsafe { (*self.vec.get()).try_push(value) }
    }

    /// # Safety
    /// Nobody else is in here or in [`try_push`](Self::try_push), and `change` neither touches
    /// elements nor moves or removes them.
    pub(super) unsafe fn with<R>(&self, change: impl FnOnce(&mut PageVec<T>) -> R) -> R {
        // SAFETY: the caller's promise.
        change(unsafe { &mut *self.vec.get() })
    }

    /// In the child of a fork: forgets what a thread of the parent was doing behind the first `len`
    /// elements.
    ///
    /// # Safety
    /// Nobody else is in here, and the first `len` elements were pushed.
    pub(super) unsafe fn recover(&self, len: usize) {
        // SAFETY: the caller's promise. What the parent's thread left half-done are plain numbers, each
        // old or new, and memory behind the elements.
        unsafe { (*self.vec.get()).recover(len) };
    }

    /// # Safety
    /// The element was pushed, and this thread knows of it.
    #[inline]
    pub(super) unsafe fn get(&self, index: usize) -> &T {
        // SAFETY: the caller's promise; elements are not written again.
        unsafe { self.start.add(index).as_ref() }
    }

    #[inline]
    pub(super) fn start(&self) -> *const T {
        self.start.as_ptr()
    }

    pub(super) fn get_mut(&mut self) -> &mut PageVec<T> {
        self.vec.get_mut()
    }

    pub(super) fn into_inner(self) -> PageVec<T> {
        self.vec.into_inner()
    }
}
