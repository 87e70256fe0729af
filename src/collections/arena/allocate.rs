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
    ///
    /// ```
    /// struct Node<'a>(u32, Option<&'a Node<'a>>);
    ///
    /// let arena = pagewise::Arena::new(1 << 20)?;
    /// let leaf = arena.alloc(Node(1, None));
    /// let root = arena.alloc(Node(2, Some(leaf))); // references need no `Rc`
    /// assert_eq!(root.0 + root.1.map_or(0, |child| child.0), 3);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[inline]
    #[track_caller]
    pub fn alloc<T>(&self, value: T) -> &mut T {
        self.alloc_with(|| value)
    }

    /// Allocates what `make` returns. It may itself allocate here.
    ///
    /// # Panics
    /// Where [`try_alloc_uninit`](Self::try_alloc_uninit) returns an error.
    ///
    /// ```
    /// let arena = pagewise::Arena::new(1 << 20)?;
    /// let pair = arena.alloc_with(|| (arena.alloc_str("inner"), 7));
    /// assert_eq!((&*pair.0, pair.1), ("inner", 7));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[inline]
    #[track_caller]
    pub fn alloc_with<T>(&self, make: impl FnOnce() -> T) -> &mut T {
        self.alloc_uninit().write(make())
    }

    /// Allocates a value, or hands it back.
    ///
    /// # Errors
    /// [`PushError`](crate::PushError) with the value, and an error of
    /// [`try_alloc_layout`](Self::try_alloc_layout): the arena is too small, or
    /// [`LimitReached`](crate::Error::LimitReached), [`BudgetReached`](crate::Error::BudgetReached),
    /// [`CommitRefused`](crate::Error::CommitRefused), [`MappingsExhausted`](crate::Error::MappingsExhausted)
    /// or [`Locked`](crate::Error::Locked).
    ///
    /// ```
    /// let arena = pagewise::Arena::builder(1 << 20).limit(0).build()?;
    /// let refused = arena.try_alloc(String::from("precious")).unwrap_err();
    /// assert_eq!(refused.into_value(), "precious");
    /// # Ok::<(), pagewise::Error>(())
    /// ```
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
    ///
    /// ```
    /// let arena = pagewise::Arena::new(1 << 20)?;
    /// let slot = arena.alloc_uninit::<[u64; 2]>();
    /// assert_eq!(slot.write([1, 2]), &[1, 2]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[inline]
    #[track_caller]
    pub fn alloc_uninit<T>(&self) -> &mut MaybeUninit<T> {
        granted(self.try_alloc_uninit())
    }

    /// Allocates room for a value, to be written later, or returns what went wrong.
    ///
    /// # Errors
    /// As [`try_alloc_layout`](Self::try_alloc_layout): the arena is too small, or
    /// [`LimitReached`](crate::Error::LimitReached), [`BudgetReached`](crate::Error::BudgetReached),
    /// [`CommitRefused`](crate::Error::CommitRefused), [`MappingsExhausted`](crate::Error::MappingsExhausted)
    /// or [`Locked`](crate::Error::Locked).
    ///
    /// ```
    /// let arena = pagewise::Arena::builder(1 << 30).limit(1 << 20).build()?;
    /// assert!(arena.try_alloc_uninit::<[u8; 64 << 20]>().is_err()); // never on the stack
    /// # Ok::<(), pagewise::Error>(())
    /// ```
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
    ///
    /// ```
    /// let arena = pagewise::Arena::new(1 << 20)?;
    /// let slots = arena.alloc_slice_uninit::<u32>(100);
    /// slots[99].write(7); // each slot has a place; none is initialised before
    /// assert_eq!((slots.len(), arena.used()), (100, 400));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[inline]
    #[track_caller]
    pub fn alloc_slice_uninit<T>(&self, len: usize) -> &mut [MaybeUninit<T>] {
        granted(self.try_alloc_slice_uninit(len))
    }

    /// Allocates room for `len` values, to be written later, or returns what went wrong.
    ///
    /// # Errors
    /// As [`try_alloc_layout`](Self::try_alloc_layout): the arena is too small, or
    /// [`LimitReached`](crate::Error::LimitReached), [`BudgetReached`](crate::Error::BudgetReached),
    /// [`CommitRefused`](crate::Error::CommitRefused), [`MappingsExhausted`](crate::Error::MappingsExhausted)
    /// or [`Locked`](crate::Error::Locked).
    ///
    /// ```
    /// use pagewise::{Arena, Error};
    ///
    /// let arena = Arena::new(1 << 20)?;
    /// let too_long = arena.try_alloc_slice_uninit::<u64>(usize::MAX); // a length from outside
    /// assert!(matches!(too_long, Err(Error::Overflow { .. })));
    /// # Ok::<(), Error>(())
    /// ```
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
    ///
    /// ```
    /// let arena = pagewise::Arena::new(1 << 20)?;
    /// let kept = {
    ///     let buffer = [1, 2, 3];
    ///     arena.alloc_slice_copy(&buffer)
    /// };
    /// assert_eq!(kept, [1, 2, 3]); // outlives the buffer
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[inline]
    #[track_caller]
    pub fn alloc_slice_copy<T: Copy>(&self, source: &[T]) -> &mut [T] {
        granted(self.try_alloc_slice_copy(source))
    }

    /// Allocates a copy of a slice, or returns what went wrong.
    ///
    /// # Errors
    /// As [`try_alloc_layout`](Self::try_alloc_layout): the arena is too small, or
    /// [`LimitReached`](crate::Error::LimitReached), [`BudgetReached`](crate::Error::BudgetReached),
    /// [`CommitRefused`](crate::Error::CommitRefused), [`MappingsExhausted`](crate::Error::MappingsExhausted)
    /// or [`Locked`](crate::Error::Locked).
    ///
    /// ```
    /// use pagewise::{Arena, Error};
    ///
    /// let arena = Arena::builder(1 << 30).limit(1 << 20).build()?;
    /// arena.try_alloc_slice_copy(b"fits")?;
    /// let refused = arena.try_alloc_slice_copy(&vec![0u8; 2 << 20]);
    /// assert!(matches!(refused, Err(Error::LimitReached { .. })));
    /// # Ok::<(), Error>(())
    /// ```
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
    ///
    /// ```
    /// use std::rc::Rc;
    ///
    /// let arena = pagewise::Arena::new(1 << 20)?;
    /// let shared = Rc::new(7);
    /// let clones = arena.alloc_slice_clone(&[shared.clone(), shared.clone()]);
    /// assert_eq!((*clones[1], Rc::strong_count(&shared)), (7, 3)); // the arena will not drop them
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    pub fn alloc_slice_clone<T: Clone>(&self, source: &[T]) -> &mut [T] {
        self.alloc_slice_fill_with(source.len(), |index| source[index].clone())
    }

    /// Allocates a slice of `len` values: what `make` returns for every index.
    ///
    /// # Panics
    /// Where [`try_alloc_slice_fill_with`](Self::try_alloc_slice_fill_with) returns an error.
    ///
    /// ```
    /// let arena = pagewise::Arena::new(1 << 20)?;
    /// let rows = arena.alloc_slice_fill_with(3, |row| arena.alloc_slice_fill_with(2, |_| row));
    /// assert_eq!(rows, [[0, 0], [1, 1], [2, 2]]); // `make` may allocate, too
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    pub fn alloc_slice_fill_with<T>(&self, len: usize, make: impl FnMut(usize) -> T) -> &mut [T] {
        granted(self.try_alloc_slice_fill_with(len, make))
    }

    /// Allocates a slice of `len` values: what `make` returns for every index. It may itself
    /// allocate here.
    ///
    /// # Errors
    /// As [`try_alloc_layout`](Self::try_alloc_layout): the arena is too small, or
    /// [`LimitReached`](crate::Error::LimitReached), [`BudgetReached`](crate::Error::BudgetReached),
    /// [`CommitRefused`](crate::Error::CommitRefused), [`MappingsExhausted`](crate::Error::MappingsExhausted)
    /// or [`Locked`](crate::Error::Locked); then `make` was not called.
    ///
    /// ```
    /// let arena = pagewise::Arena::new(1 << 20)?;
    /// let refused = arena.try_alloc_slice_fill_with(2 << 20, |_| -> u8 { unreachable!() });
    /// assert!(refused.is_err());
    /// # Ok::<(), pagewise::Error>(())
    /// ```
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
    ///
    /// ```
    /// let arena = pagewise::Arena::new(1 << 20)?;
    /// let words: Vec<&str> = "b a".split(' ').map(|word| &*arena.alloc_str(word)).collect();
    /// assert_eq!(words, ["b", "a"]);
    /// assert_eq!(arena.used(), 2); // bytes of text, and nothing for each string
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[inline]
    #[track_caller]
    pub fn alloc_str(&self, source: &str) -> &mut str {
        granted(self.try_alloc_str(source))
    }

    /// Allocates a copy of a string, or returns what went wrong.
    ///
    /// # Errors
    /// As [`try_alloc_layout`](Self::try_alloc_layout): the arena is too small, or
    /// [`LimitReached`](crate::Error::LimitReached), [`BudgetReached`](crate::Error::BudgetReached),
    /// [`CommitRefused`](crate::Error::CommitRefused), [`MappingsExhausted`](crate::Error::MappingsExhausted)
    /// or [`Locked`](crate::Error::Locked).
    ///
    /// ```
    /// let names = pagewise::Arena::builder(1 << 30).limit(1 << 20).build()?;
    /// let longest = "x".repeat(2 << 20);
    /// let name = names.try_alloc_str(&longest).map_or("(too long)", |name| name);
    /// assert_eq!(name, "(too long)");
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[inline]
    pub fn try_alloc_str(&self, source: &str) -> Result<&mut str, Error> {
        let bytes = self.try_alloc_slice_copy(source.as_bytes())?;
        // SAFETY: a copy of a string.
        Ok(unsafe { std::str::from_utf8_unchecked_mut(bytes) })
    }

    /// Allocates what an iterator yields, as one slice. Its length need not be known; the iterator may
    /// itself allocate here (which costs a copy).
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

    /// Allocates what an iterator yields, as one slice, or returns what went wrong.
    ///
    /// # Errors
    /// As [`try_alloc_layout`](Self::try_alloc_layout): the arena is too small, or
    /// [`LimitReached`](crate::Error::LimitReached), [`BudgetReached`](crate::Error::BudgetReached),
    /// [`CommitRefused`](crate::Error::CommitRefused), [`MappingsExhausted`](crate::Error::MappingsExhausted)
    /// or [`Locked`](crate::Error::Locked). What was yielded by then is forgotten.
    ///
    /// ```
    /// let arena = pagewise::Arena::builder(1 << 30).limit(1 << 20).build()?;
    /// assert!(arena.try_alloc_iter(0u64..).is_err()); // endless input ends at the limit
    /// # Ok::<(), pagewise::Error>(())
    /// ```
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

    /// Makes room for another element after `len` elements that fill their memory; returns the new start
    /// and how many elements fit. Grows in place if they are the last allocation; otherwise moves them to
    /// an allocation of twice the size.
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
    ///
    /// ```
    /// use std::alloc::Layout;
    ///
    /// let arena = pagewise::Arena::new(1 << 20)?;
    /// let vector = arena.alloc_layout(Layout::from_size_align(100, 64).unwrap());
    /// assert_eq!(vector.addr().get() % 64, 0);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
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
    /// small, [`LimitReached`](Error::LimitReached), [`BudgetReached`](Error::BudgetReached),
    /// [`CommitRefused`](Error::CommitRefused), [`Locked`](Error::Locked), or
    /// [`MappingsExhausted`](Error::MappingsExhausted). Nothing has changed then.
    ///
    /// ```
    /// use pagewise::{Arena, Error};
    /// use std::alloc::Layout;
    ///
    /// let arena = Arena::new(1 << 20)?;
    /// arena.try_alloc_layout(Layout::new::<u64>())?;
    /// let refused = arena.try_alloc_layout(Layout::array::<u8>(1 << 20).unwrap());
    /// assert!(matches!(refused, Err(Error::OutOfBounds { start: 8, .. })));
    /// # Ok::<(), Error>(())
    /// ```
    #[inline]
    pub fn try_alloc_layout(&self, layout: Layout) -> Result<NonNull<u8>, Error> {
        self.bump(layout)
    }

    /// Allocates bytes of a layout that are all zero.
    ///
    /// # Panics
    /// Where [`try_alloc_layout`](Self::try_alloc_layout) returns an error.
    ///
    /// ```
    /// use std::alloc::Layout;
    ///
    /// let arena = pagewise::Arena::new(1 << 20)?;
    /// let counts = arena.alloc_layout_zeroed(Layout::array::<u32>(256).unwrap()).cast::<u32>();
    /// // SAFETY: aligned for `u32`, and initialised: zero.
    /// assert_eq!(unsafe { counts.add(255).read() }, 0);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[inline]
    #[track_caller]
    pub fn alloc_layout_zeroed(&self, layout: Layout) -> NonNull<u8> {
        granted(self.try_alloc_layout_zeroed(layout))
    }

    /// Allocates bytes of a layout that are all zero, or returns what went wrong. Memory that was never
    /// used before is zero already, and is not written.
    ///
    /// # Errors
    /// As [`try_alloc_layout`](Self::try_alloc_layout): the arena is too small, or
    /// [`LimitReached`](crate::Error::LimitReached), [`BudgetReached`](crate::Error::BudgetReached),
    /// [`CommitRefused`](crate::Error::CommitRefused), [`MappingsExhausted`](crate::Error::MappingsExhausted)
    /// or [`Locked`](crate::Error::Locked).
    ///
    /// ```
    /// use std::alloc::Layout;
    ///
    /// let mut arena = pagewise::Arena::new(1 << 20)?;
    /// arena.alloc_slice_copy(&[7u8; 100]);
    /// arena.reset();
    /// let zeros = arena.try_alloc_layout_zeroed(Layout::new::<[u8; 100]>())?;
    /// // SAFETY: 100 initialised bytes.
    /// assert_eq!(unsafe { zeros.cast::<[u8; 100]>().read() }, [0; 100]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn try_alloc_layout_zeroed(&self, layout: Layout) -> Result<NonNull<u8>, Error> {
        let start = self.bump(layout)?;
        self.zero_written(start, layout.size());
        Ok(start)
    }

    /// Zeroes those bytes of a new allocation that an earlier, freed allocation may have written.
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

/// Returns the value, or panics with the error: for methods without `try_`. Not `unwrap_or_else`, whose
/// panic would name this file instead of the line that called the method.
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
