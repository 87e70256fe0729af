//! What can be allocated in an arena: values, slices, strings, layouts.

use std::alloc::Layout;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};
use std::slice;

use super::super::push_error::PushError;
use super::Arena;
use crate::error::Error;

/// The mutable references that `&self` gives out are to memory that nobody else has: every
/// allocation is a new one, until `&mut self` takes all of them back.
#[allow(clippy::mut_from_ref)]
impl Arena {
    /// Allocates a value.
    ///
    /// # Panics
    /// Where [`try_alloc`](Self::try_alloc) returns an error; the value is dropped.
    #[inline]
    #[track_caller]
    pub fn alloc<T>(&self, value: T) -> &mut T {
        self.alloc_with(|| value)
    }

    /// Allocates what `make` returns. It may itself allocate here.
    ///
    /// # Panics
    /// Where [`try_alloc_uninit`](Self::try_alloc_uninit) returns an error.
    #[inline]
    #[track_caller]
    pub fn alloc_with<T>(&self, make: impl FnOnce() -> T) -> &mut T {
        self.alloc_uninit().write(make())
    }

    /// Allocates a value, or hands it back.
    ///
    /// # Errors
    /// [`PushError`] with the value, and what [`try_alloc_layout`](Self::try_alloc_layout) says.
    #[inline]
    pub fn try_alloc<T>(&self, value: T) -> Result<&mut T, PushError<T>> {
        match self.try_alloc_uninit() {
            Ok(slot) => Ok(slot.write(value)),
            Err(error) => Err(PushError::new(value, error)),
        }
    }

    /// Allocates room for a value, to be written later.
    ///
    /// # Panics
    /// Where [`try_alloc_uninit`](Self::try_alloc_uninit) returns an error.
    #[inline]
    #[track_caller]
    pub fn alloc_uninit<T>(&self) -> &mut MaybeUninit<T> {
        granted(self.try_alloc_uninit())
    }

    /// Allocates room for a value, to be written later.
    ///
    /// # Errors
    /// As [`try_alloc_layout`](Self::try_alloc_layout).
    #[inline]
    pub fn try_alloc_uninit<T>(&self) -> Result<&mut MaybeUninit<T>, Error> {
        let slot = self.bump(Layout::new::<T>())?;
        // SAFETY: new memory of that layout, which nobody else has.
        Ok(unsafe { slot.cast().as_mut() })
    }

    /// Allocates room for `len` values, to be written later.
    ///
    /// # Panics
    /// Where [`try_alloc_slice_uninit`](Self::try_alloc_slice_uninit) returns an error.
    #[inline]
    #[track_caller]
    pub fn alloc_slice_uninit<T>(&self, len: usize) -> &mut [MaybeUninit<T>] {
        granted(self.try_alloc_slice_uninit(len))
    }

    /// Allocates room for `len` values, to be written later.
    ///
    /// # Errors
    /// As [`try_alloc_layout`](Self::try_alloc_layout).
    #[inline]
    pub fn try_alloc_slice_uninit<T>(&self, len: usize) -> Result<&mut [MaybeUninit<T>], Error> {
        let slots = self.bump(array_of::<T>(len)?)?;
        // SAFETY: new memory of that layout, which nobody else has.
        Ok(unsafe { slice::from_raw_parts_mut(slots.cast().as_ptr(), len) })
    }

    /// Allocates a copy of a slice.
    ///
    /// # Panics
    /// Where [`try_alloc_slice_copy`](Self::try_alloc_slice_copy) returns an error.
    #[inline]
    #[track_caller]
    pub fn alloc_slice_copy<T: Copy>(&self, source: &[T]) -> &mut [T] {
        granted(self.try_alloc_slice_copy(source))
    }

    /// Allocates a copy of a slice.
    ///
    /// # Errors
    /// As [`try_alloc_layout`](Self::try_alloc_layout).
    #[inline]
    pub fn try_alloc_slice_copy<T: Copy>(&self, source: &[T]) -> Result<&mut [T], Error> {
        let slots: &mut [MaybeUninit<T>] = self.try_alloc_slice_uninit(source.len())?;
        // SAFETY: as long as the source, new, and initialised by the copy.
        unsafe {
            ptr::copy_nonoverlapping(source.as_ptr(), slots.as_mut_ptr().cast(), source.len());
            Ok(&mut *(ptr::from_mut(slots) as *mut [T]))
        }
    }

    /// Allocates a slice of clones. Where a clone panics, those before it are forgotten.
    ///
    /// # Panics
    /// Where [`try_alloc_slice_uninit`](Self::try_alloc_slice_uninit) returns an error.
    #[track_caller]
    pub fn alloc_slice_clone<T: Clone>(&self, source: &[T]) -> &mut [T] {
        self.alloc_slice_fill_with(source.len(), |index| source[index].clone())
    }

    /// Allocates a slice of `len` values: what `make` returns for every index.
    ///
    /// # Panics
    /// Where [`try_alloc_slice_fill_with`](Self::try_alloc_slice_fill_with) returns an error.
    #[track_caller]
    pub fn alloc_slice_fill_with<T>(&self, len: usize, make: impl FnMut(usize) -> T) -> &mut [T] {
        granted(self.try_alloc_slice_fill_with(len, make))
    }

    /// Allocates a slice of `len` values: what `make` returns for every index. It may itself
    /// allocate here.
    ///
    /// # Errors
    /// As [`try_alloc_layout`](Self::try_alloc_layout).
    pub fn try_alloc_slice_fill_with<T>(
        &self,
        len: usize,
        mut make: impl FnMut(usize) -> T,
    ) -> Result<&mut [T], Error> {
        let slots = self.try_alloc_slice_uninit(len)?;
        for (index, slot) in slots.iter_mut().enumerate() {
            slot.write(make(index));
        }
        // SAFETY: all of them were written.
        Ok(unsafe { &mut *(ptr::from_mut(slots) as *mut [T]) })
    }

    /// Allocates a copy of a string.
    ///
    /// # Panics
    /// Where [`try_alloc_str`](Self::try_alloc_str) returns an error.
    #[inline]
    #[track_caller]
    pub fn alloc_str(&self, source: &str) -> &mut str {
        granted(self.try_alloc_str(source))
    }

    /// Allocates a copy of a string.
    ///
    /// # Errors
    /// As [`try_alloc_layout`](Self::try_alloc_layout).
    #[inline]
    pub fn try_alloc_str(&self, source: &str) -> Result<&mut str, Error> {
        let bytes = self.try_alloc_slice_copy(source.as_bytes())?;
        // SAFETY: a copy of a string.
        Ok(unsafe { std::str::from_utf8_unchecked_mut(bytes) })
    }

    /// Allocates what an iterator yields, as one slice: however much it is, and even where the
    /// iterator itself allocates here (which costs a copy).
    ///
    /// # Panics
    /// Where allocating is refused. What was yielded by then is forgotten.
    ///
    /// ```
    /// let arena = pagewise::Arena::new(1 << 20)?;
    /// let even = arena.alloc_iter((0..10).filter(|n| n % 2 == 0));
    /// assert_eq!(even, [0, 2, 4, 6, 8]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    pub fn alloc_iter<T>(&self, elements: impl IntoIterator<Item = T>) -> &mut [T] {
        granted(self.try_alloc_iter(elements))
    }

    /// Allocates what an iterator yields, as one slice.
    ///
    /// # Errors
    /// As [`try_alloc_layout`](Self::try_alloc_layout). What was yielded by then is forgotten.
    pub fn try_alloc_iter<T>(
        &self,
        elements: impl IntoIterator<Item = T>,
    ) -> Result<&mut [T], Error> {
        let mut start = self.bump(Layout::array::<T>(0).expect("a layout of nothing"))?.cast::<T>();
        let (mut len, mut room) = (0, 0);
        for element in elements {
            if len == room {
                (start, room) = self.one_more(start, len)?;
            }
            // SAFETY: there is room for one more, which is nobody else's.
            unsafe { start.add(len).write(element) };
            len += 1;
        }
        let behind = |count: usize| start.as_ptr().addr() + count * size_of::<T>();
        if behind(room) == self.next.get() {
            self.move_back(behind(len));
        }
        // SAFETY: so many were written, next to one another, and nobody else has them.
        Ok(unsafe { slice::from_raw_parts_mut(start.as_ptr(), len) })
    }

    /// Makes room behind `len` elements that fill theirs: in place, or where somebody has allocated
    /// behind them, in another place, twice as large.
    fn one_more<T>(&self, start: NonNull<T>, len: usize) -> Result<(NonNull<T>, usize), Error> {
        let end = start.as_ptr().addr() + len * size_of::<T>();
        if end == self.next.get() {
            // Aligned already: no gap can come between.
            self.bump(Layout::new::<T>())?;
            return Ok((start, len + 1));
        }
        let room = (2 * len).max(4);
        // Not by way of a slice: a pointer that comes from one must not go beyond its end, and the
        // next elements may be appended there.
        let moved = self.bump(array_of::<T>(room)?)?.cast::<T>();
        // SAFETY: initialised elements, which move to new, larger memory.
        unsafe { ptr::copy_nonoverlapping(start.as_ptr(), moved.as_ptr(), len) };
        Ok((moved, room))
    }

    /// Allocates bytes of a layout, not initialised.
    ///
    /// # Panics
    /// Where [`try_alloc_layout`](Self::try_alloc_layout) returns an error.
    #[inline]
    #[track_caller]
    pub fn alloc_layout(&self, layout: Layout) -> NonNull<u8> {
        granted(self.try_alloc_layout(layout))
    }

    /// Allocates bytes of a layout, not initialised. They are the caller's until the arena is
    /// rewound, reset, or dropped.
    ///
    /// # Errors
    /// [`OutOfBounds`](Error::OutOfBounds) or [`Overflow`](Error::Overflow) where the arena is too
    /// small, [`LimitReached`](Error::LimitReached), [`BudgetReached`](Error::BudgetReached), [`CommitRefused`](Error::CommitRefused).
    /// Nothing has changed then.
    #[inline]
    pub fn try_alloc_layout(&self, layout: Layout) -> Result<NonNull<u8>, Error> {
        self.bump(layout)
    }

    /// Allocates bytes of a layout that are all zero.
    ///
    /// # Panics
    /// Where [`try_alloc_layout`](Self::try_alloc_layout) returns an error.
    #[inline]
    #[track_caller]
    pub fn alloc_layout_zeroed(&self, layout: Layout) -> NonNull<u8> {
        granted(self.try_alloc_layout_zeroed(layout))
    }

    /// Allocates bytes of a layout that are all zero. Memory that was never used before is zero
    /// already, and is not written.
    ///
    /// # Errors
    /// As [`try_alloc_layout`](Self::try_alloc_layout).
    pub fn try_alloc_layout_zeroed(&self, layout: Layout) -> Result<NonNull<u8>, Error> {
        let start = self.bump(layout)?;
        self.zero_written(start, layout.size());
        Ok(start)
    }

    /// Zeroes what may have been written before of memory that was allocated just now.
    pub(super) fn zero_written(&self, start: NonNull<u8>, len: usize) {
        let written = self.written.get().saturating_sub(start.as_ptr().addr()).min(len);
        // SAFETY: inside the new allocation.
        unsafe { start.write_bytes(0, written) };
    }
}

fn array_of<T>(len: usize) -> Result<Layout, Error> {
    Layout::array::<T>(len)
        .map_err(|_| Error::Overflow { requested: len.saturating_mul(size_of::<T>()) })
}

/// What methods without `try_` return, or else panic with. (A function that is handed to
/// `unwrap_or_else` loses the caller: its panic would not name the line of whoever called the method.)
#[inline]
#[track_caller]
fn granted<R>(result: Result<R, Error>) -> R {
    match result {
        Ok(value) => value,
        Err(error) => refused(error),
    }
}

#[cold]
#[track_caller]
fn refused(error: Error) -> ! {
    panic!("an Arena cannot grow: {error}")
}
