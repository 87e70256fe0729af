//! Where the elements are: a `PageVec` that only the holder of the lock touches.

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use super::super::page_vec::PageVec;
use super::super::push_error::PushError;
use crate::error::Error;

/// What grows.
pub(super) type Array<T> = PageVec<T>;

#[repr(C)]
pub(super) struct Storage<T> {
    vec: UnsafeCell<MaybeUninit<PageVec<T>>>,
    /// Where the elements begin: readers must not look into `vec`. Dangling until `vec` is made, before the
    /// first element is published; it never changes after that. (Not a pointer to `T`, so that [`Elements`] can
    /// be covariant in `T`.)
    start: AtomicPtr<()>,
    max_len: usize,
    /// Invariant: `vec` is initialised if this is true, which it stays then.
    is_made: AtomicBool,
}

impl<T> Storage<T> {
    /// Bytes at the beginning that a push changes, and that readers look at.
    pub(super) const END_OF_WHAT_A_PUSH_CHANGES: usize =
        std::mem::offset_of!(Self, start) + size_of::<*const T>();

    /// A storage that reserves its addresses when it is [made](Self::make).
    pub(super) const fn unmade(max_len: usize) -> Self {
        Self {
            start: AtomicPtr::new(NonNull::<T>::dangling().as_ptr().cast()),
            max_len,
            is_made: AtomicBool::new(false),
            vec: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    pub(super) fn new(mut vec: PageVec<T>) -> Self {
        Self {
            start: AtomicPtr::new(vec.as_mut_ptr().cast()),
            max_len: vec.max_len(),
            is_made: AtomicBool::new(true),
            vec: UnsafeCell::new(MaybeUninit::new(vec)),
        }
    }

    pub(super) fn max_len(&self) -> usize {
        self.max_len
    }

    pub(super) fn is_made(&self) -> bool {
        self.is_made.load(Ordering::Acquire)
    }

    /// Reserves the addresses.
    ///
    /// # Safety
    /// Nobody else is in here or in another unsafe method, and the storage is not made yet.
    pub(super) unsafe fn make(&self) -> Result<(), Error> {
        let mut vec = PageVec::<T>::new(self.max_len)?;
        self.start.store(vec.as_mut_ptr().cast(), Ordering::Relaxed);
        // SAFETY: the caller's promise. (Where a thread of the parent of a fork was here, what it had made is
        // overwritten, and its addresses are lost to the child.)
        unsafe { (*self.vec.get()).write(vec) };
        self.is_made.store(true, Ordering::Release);
        Ok(())
    }

    /// # Safety
    /// The storage is made, and nobody else is in here or in [`with`](Self::with).
    #[inline]
    pub(super) unsafe fn try_push(&self, value: T) -> Result<(), PushError<T>> {
        // SAFETY: the caller's promise. Pushing writes behind every element that readers see.
        unsafe { (*self.vec.get()).assume_init_mut().try_push(value) }
    }

    /// # Safety
    /// The storage is made, nobody else is in here or in [`try_push`](Self::try_push), and `change` neither
    /// touches elements nor moves or removes them.
    pub(super) unsafe fn with<R>(&self, change: impl FnOnce(&mut PageVec<T>) -> R) -> R {
        // SAFETY: the caller's promise.
        change(unsafe { (*self.vec.get()).assume_init_mut() })
    }

    /// In the child of a fork: forgets what a thread of the parent was doing behind the first `len`
    /// elements.
    ///
    /// # Safety
    /// The storage is made, nobody else is in here, and the first `len` elements were pushed.
    pub(super) unsafe fn recover(&self, len: usize) {
        // SAFETY: the caller's promise. What the parent's thread left half-done are plain numbers, each
        // old or new, and memory behind the elements.
        unsafe { (*self.vec.get()).assume_init_mut().recover(len) };
    }

    /// The address of the first element. For readers: asked for after the number of elements.
    #[inline]
    pub(super) fn start(&self) -> *const T {
        self.start.load(Ordering::Relaxed).cast()
    }

    #[inline]
    pub(super) fn elements(&self) -> Elements<'_, T> {
        Elements { start: &self.start, borrows: PhantomData }
    }

    /// The array, if it is made.
    pub(super) fn get_mut(&mut self) -> Option<&mut PageVec<T>> {
        // SAFETY: the invariant of `is_made`.
        self.is_made().then(|| unsafe { self.vec.get_mut().assume_init_mut() })
    }

    /// The array, if it is made.
    pub(super) fn into_inner(self) -> Option<PageVec<T>> {
        let this = ManuallyDrop::new(self);
        // SAFETY: the invariant of `is_made`; the array moves, since this is not dropped.
        this.is_made().then(|| unsafe { ptr::read(this.vec.get()).assume_init() })
    }
}

impl<T> Drop for Storage<T> {
    fn drop(&mut self) {
        if let Some(vec) = self.get_mut() {
            // SAFETY: it is initialised, and not used again.
            unsafe { ptr::drop_in_place(vec) };
        }
    }
}

/// The elements for a reader, who knows how many there are. Covariant in `T`: nothing comes in through it.
pub(super) struct Elements<'a, T> {
    start: &'a AtomicPtr<()>,
    borrows: PhantomData<&'a T>,
}

impl<T> Clone for Elements<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Elements<'_, T> {}

impl<'a, T> Elements<'a, T> {
    /// # Safety
    /// The element was pushed, and this thread knows of it.
    #[inline]
    pub(super) unsafe fn get(self, index: usize) -> &'a T {
        let start = self.start.load(Ordering::Relaxed).cast::<T>();
        // SAFETY: the caller's promise: `start` was stored before the element was published. Elements are not
        // written again.
        unsafe { &*start.add(index) }
    }
}
