//! Slices and strings in an arena.

use std::alloc::Layout;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr::{self, NonNull};
use std::slice;

use super::values::{granted, initialised};
use super::{AllocOrInitError, Arena, Place};
use crate::error::Error;

/// As for values: every allocation is a new one.
#[allow(clippy::mut_from_ref)]
impl Arena {
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
    /// As [`try_alloc_layout`](Self::try_alloc_layout): [`ArenaFull`](crate::Error::ArenaFull),
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
    /// As [`try_alloc_layout`](Self::try_alloc_layout): [`ArenaFull`](crate::Error::ArenaFull),
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

    /// Allocates a slice of clones. Where a clone panics, those before it are dropped, and their place is taken back.
    ///
    /// # Panics
    /// Where [`try_alloc_slice_clone`](Self::try_alloc_slice_clone) returns an error.
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
        granted(self.try_alloc_slice_clone(source))
    }

    /// Allocates a slice of clones, or returns what went wrong.
    ///
    /// # Errors
    /// As [`try_alloc_layout`](Self::try_alloc_layout): [`ArenaFull`](crate::Error::ArenaFull),
    /// [`LimitReached`](crate::Error::LimitReached), [`BudgetReached`](crate::Error::BudgetReached),
    /// [`CommitRefused`](crate::Error::CommitRefused), [`MappingsExhausted`](crate::Error::MappingsExhausted)
    /// or [`Locked`](crate::Error::Locked); then nothing was cloned.
    ///
    /// ```
    /// let arena = pagewise::Arena::builder(1 << 20).limit(0).build()?;
    /// assert!(arena.try_alloc_slice_clone(&[String::new()]).is_err());
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn try_alloc_slice_clone<T: Clone>(&self, source: &[T]) -> Result<&mut [T], Error> {
        self.try_alloc_slice_fill_with(source.len(), |index| source[index].clone())
    }

    /// Allocates a slice of `len` values: what `make` returns for every index, written in place. `make` may itself
    /// allocate here. Where it panics, the values before are dropped, and their place is taken back, unless something
    /// was allocated behind it.
    ///
    /// # Panics
    /// Where [`try_alloc_slice_fill_with`](Self::try_alloc_slice_fill_with) returns an error.
    ///
    /// ```
    /// let arena = pagewise::Arena::new(1 << 20)?;
    /// let rows = arena.alloc_slice_fill_with(3, |row| arena.alloc_slice_fill_with(2, |_| row));
    /// assert_eq!(rows, [[0, 0], [1, 1], [2, 2]]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    pub fn alloc_slice_fill_with<T, F>(&self, len: usize, make: F) -> &mut [T]
    where
        F: FnMut(usize) -> T,
    {
        granted(self.try_alloc_slice_fill_with(len, make))
    }

    /// Allocates a slice of `len` values, or returns what went wrong, as
    /// [`alloc_slice_fill_with`](Self::alloc_slice_fill_with).
    ///
    /// # Errors
    /// As [`try_alloc_layout`](Self::try_alloc_layout): [`ArenaFull`](crate::Error::ArenaFull),
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
    pub fn try_alloc_slice_fill_with<T, F>(
        &self,
        len: usize,
        mut make: F,
    ) -> Result<&mut [T], Error>
    where
        F: FnMut(usize) -> T,
    {
        let mut filling = Filling::new(self, len)?;
        for index in 0..len {
            // SAFETY: there is room for `len` values, and this is the next one.
            unsafe { filling.push(make(index)) };
        }
        // SAFETY: all of them were pushed.
        Ok(unsafe { filling.finish() })
    }

    /// Allocates a slice of `len` values: what `make` returns for every index, until it returns an error. Then the
    /// values before are dropped, and their place is taken back, unless something was allocated behind it.
    ///
    /// # Errors
    /// What `make` returns.
    ///
    /// # Panics
    /// Where [`try_alloc_layout`](Self::try_alloc_layout) returns an error.
    ///
    /// ```
    /// let arena = pagewise::Arena::new(1 << 20)?;
    /// let words = ["1", "2", "x"];
    /// let parsed = arena.alloc_slice_try_fill_with(2, |n| words[n].parse::<u8>());
    /// assert_eq!(parsed.unwrap(), [1, 2]);
    /// assert!(arena.alloc_slice_try_fill_with(3, |n| words[n].parse::<u8>()).is_err());
    /// assert_eq!(arena.used(), 2);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    pub fn alloc_slice_try_fill_with<T, F, E>(&self, len: usize, make: F) -> Result<&mut [T], E>
    where
        F: FnMut(usize) -> Result<T, E>,
    {
        initialised(self.try_alloc_slice_try_fill_with(len, make))
    }

    /// Allocates a slice of `len` values, or returns what went wrong, as
    /// [`alloc_slice_try_fill_with`](Self::alloc_slice_try_fill_with).
    ///
    /// # Errors
    /// [`AllocOrInitError::Alloc`], as [`try_alloc_layout`](Self::try_alloc_layout)
    /// ([`ArenaFull`](crate::Error::ArenaFull), [`LimitReached`](crate::Error::LimitReached),
    /// [`BudgetReached`](crate::Error::BudgetReached), [`CommitRefused`](crate::Error::CommitRefused),
    /// [`MappingsExhausted`](crate::Error::MappingsExhausted) or [`Locked`](crate::Error::Locked)), and `make`
    /// was not called; [`AllocOrInitError::Init`] with the error of `make`.
    ///
    /// ```
    /// use pagewise::{AllocOrInitError, Arena};
    ///
    /// let arena = Arena::new(1 << 20)?;
    /// let refused = arena.try_alloc_slice_try_fill_with(2 << 20, |_| Ok::<u8, ()>(1));
    /// assert!(matches!(refused, Err(AllocOrInitError::Alloc(_))));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn try_alloc_slice_try_fill_with<T, F, E>(
        &self,
        len: usize,
        mut make: F,
    ) -> Result<&mut [T], AllocOrInitError<E>>
    where
        F: FnMut(usize) -> Result<T, E>,
    {
        let mut filling = Filling::new(self, len).map_err(AllocOrInitError::Alloc)?;
        for index in 0..len {
            let value = make(index).map_err(AllocOrInitError::Init)?;
            // SAFETY: there is room for `len` values, and this is the next one.
            unsafe { filling.push(value) };
        }
        // SAFETY: all of them were pushed.
        Ok(unsafe { filling.finish() })
    }

    /// Allocates a slice of `len` copies of a value.
    ///
    /// # Panics
    /// Where [`try_alloc_slice_fill_copy`](Self::try_alloc_slice_fill_copy) returns an error.
    ///
    /// ```
    /// let arena = pagewise::Arena::new(1 << 20)?;
    /// assert_eq!(arena.alloc_slice_fill_copy(3, 7), [7, 7, 7]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    pub fn alloc_slice_fill_copy<T: Copy>(&self, len: usize, value: T) -> &mut [T] {
        granted(self.try_alloc_slice_fill_copy(len, value))
    }

    /// Allocates a slice of `len` copies of a value, or returns what went wrong.
    ///
    /// # Errors
    /// As [`try_alloc_layout`](Self::try_alloc_layout): [`ArenaFull`](crate::Error::ArenaFull),
    /// [`LimitReached`](crate::Error::LimitReached), [`BudgetReached`](crate::Error::BudgetReached),
    /// [`CommitRefused`](crate::Error::CommitRefused), [`MappingsExhausted`](crate::Error::MappingsExhausted)
    /// or [`Locked`](crate::Error::Locked).
    ///
    /// ```
    /// let arena = pagewise::Arena::new(1 << 20)?;
    /// assert!(arena.try_alloc_slice_fill_copy(2 << 20, 0u8).is_err());
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn try_alloc_slice_fill_copy<T: Copy>(
        &self,
        len: usize,
        value: T,
    ) -> Result<&mut [T], Error> {
        self.try_alloc_slice_fill_with(len, |_| value)
    }

    /// Allocates a slice of `len` clones of a value.
    ///
    /// # Panics
    /// Where [`try_alloc_slice_fill_clone`](Self::try_alloc_slice_fill_clone) returns an error.
    ///
    /// ```
    /// let arena = pagewise::Arena::new(1 << 20)?;
    /// let names = arena.alloc_slice_fill_clone(2, &String::from("a"));
    /// assert_eq!(names, ["a", "a"]);
    /// # names.iter_mut().for_each(|name| drop(std::mem::take(name)));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    pub fn alloc_slice_fill_clone<T: Clone>(&self, len: usize, value: &T) -> &mut [T] {
        granted(self.try_alloc_slice_fill_clone(len, value))
    }

    /// Allocates a slice of `len` clones of a value, or returns what went wrong.
    ///
    /// # Errors
    /// As [`try_alloc_layout`](Self::try_alloc_layout): [`ArenaFull`](crate::Error::ArenaFull),
    /// [`LimitReached`](crate::Error::LimitReached), [`BudgetReached`](crate::Error::BudgetReached),
    /// [`CommitRefused`](crate::Error::CommitRefused), [`MappingsExhausted`](crate::Error::MappingsExhausted)
    /// or [`Locked`](crate::Error::Locked); then nothing was cloned.
    ///
    /// ```
    /// let arena = pagewise::Arena::builder(1 << 20).limit(0).build()?;
    /// assert!(arena.try_alloc_slice_fill_clone(1, &String::new()).is_err());
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn try_alloc_slice_fill_clone<T: Clone>(
        &self,
        len: usize,
        value: &T,
    ) -> Result<&mut [T], Error> {
        self.try_alloc_slice_fill_with(len, |_| value.clone())
    }

    /// Allocates a slice of `len` default values.
    ///
    /// # Panics
    /// Where [`try_alloc_slice_fill_default`](Self::try_alloc_slice_fill_default) returns an error.
    ///
    /// ```
    /// let arena = pagewise::Arena::new(1 << 20)?;
    /// let pairs = arena.alloc_slice_fill_default::<(u8, Option<char>)>(2);
    /// assert_eq!(pairs, [(0, None), (0, None)]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    pub fn alloc_slice_fill_default<T: Default>(&self, len: usize) -> &mut [T] {
        granted(self.try_alloc_slice_fill_default(len))
    }

    /// Allocates a slice of `len` default values, or returns what went wrong.
    ///
    /// # Errors
    /// As [`try_alloc_layout`](Self::try_alloc_layout): [`ArenaFull`](crate::Error::ArenaFull),
    /// [`LimitReached`](crate::Error::LimitReached), [`BudgetReached`](crate::Error::BudgetReached),
    /// [`CommitRefused`](crate::Error::CommitRefused), [`MappingsExhausted`](crate::Error::MappingsExhausted)
    /// or [`Locked`](crate::Error::Locked).
    ///
    /// ```
    /// let arena = pagewise::Arena::new(1 << 20)?;
    /// assert!(arena.try_alloc_slice_fill_default::<u64>(1 << 20).is_err());
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn try_alloc_slice_fill_default<T: Default>(&self, len: usize) -> Result<&mut [T], Error> {
        self.try_alloc_slice_fill_with(len, |_| T::default())
    }

    /// Allocates what an iterator yields that knows its length. ([`alloc_iter`](Self::alloc_iter) is for every
    /// iterator.) Where it panics, what it yielded is dropped, and its place is taken back, unless something was
    /// allocated behind it.
    ///
    /// # Panics
    /// Where [`try_alloc_slice_fill_iter`](Self::try_alloc_slice_fill_iter) returns an error, or where the iterator
    /// yields fewer elements than it said. Elements beyond its length are left in it.
    ///
    /// ```
    /// let arena = pagewise::Arena::new(1 << 20)?;
    /// let squares = arena.alloc_slice_fill_iter([1, 2, 3].iter().map(|n| n * n));
    /// assert_eq!(squares, [1, 4, 9]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    pub fn alloc_slice_fill_iter<T, I>(&self, elements: I) -> &mut [T]
    where
        I: IntoIterator<Item = T>,
        I::IntoIter: ExactSizeIterator,
    {
        granted(self.try_alloc_slice_fill_iter(elements))
    }

    /// Allocates what an iterator yields that knows its length, or returns what went wrong, as
    /// [`alloc_slice_fill_iter`](Self::alloc_slice_fill_iter).
    ///
    /// # Errors
    /// As [`try_alloc_layout`](Self::try_alloc_layout): [`ArenaFull`](crate::Error::ArenaFull),
    /// [`LimitReached`](crate::Error::LimitReached), [`BudgetReached`](crate::Error::BudgetReached),
    /// [`CommitRefused`](crate::Error::CommitRefused), [`MappingsExhausted`](crate::Error::MappingsExhausted)
    /// or [`Locked`](crate::Error::Locked); then the iterator was asked for nothing but its length.
    ///
    /// # Panics
    /// If the iterator yields fewer elements than it said.
    ///
    /// ```
    /// let arena = pagewise::Arena::new(1 << 20)?;
    /// assert!(arena.try_alloc_slice_fill_iter(vec![0u8; 2 << 20]).is_err());
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    pub fn try_alloc_slice_fill_iter<T, I>(&self, elements: I) -> Result<&mut [T], Error>
    where
        I: IntoIterator<Item = T>,
        I::IntoIter: ExactSizeIterator,
    {
        let mut elements = elements.into_iter();
        let mut filling = Filling::new(self, elements.len())?;
        for _ in 0..filling.room {
            let Some(element) = elements.next() else { too_few() };
            // SAFETY: there is room for as many values, and this is the next one.
            unsafe { filling.push(element) };
        }
        // SAFETY: all of them were pushed.
        Ok(unsafe { filling.finish() })
    }

    /// Allocates what an iterator yields that knows its length, until it yields an error. Then what it yielded
    /// before is dropped, and its place is taken back, unless something was allocated behind it.
    ///
    /// # Errors
    /// What the iterator yields.
    ///
    /// # Panics
    /// Where [`try_alloc_layout`](Self::try_alloc_layout) returns an error, or where the iterator yields fewer
    /// elements than it said.
    ///
    /// ```
    /// let arena = pagewise::Arena::new(1 << 20)?;
    /// let words = ["1", "2"].iter().map(|word| word.parse::<u8>());
    /// assert_eq!(arena.alloc_slice_try_fill_iter(words).unwrap(), [1, 2]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    pub fn alloc_slice_try_fill_iter<T, I, E>(&self, elements: I) -> Result<&mut [T], E>
    where
        I: IntoIterator<Item = Result<T, E>>,
        I::IntoIter: ExactSizeIterator,
    {
        initialised(self.try_alloc_slice_try_fill_iter(elements))
    }

    /// Allocates what an iterator yields that knows its length, or returns what went wrong, as
    /// [`alloc_slice_try_fill_iter`](Self::alloc_slice_try_fill_iter).
    ///
    /// # Errors
    /// [`AllocOrInitError::Alloc`], as [`try_alloc_layout`](Self::try_alloc_layout)
    /// ([`ArenaFull`](crate::Error::ArenaFull), [`LimitReached`](crate::Error::LimitReached),
    /// [`BudgetReached`](crate::Error::BudgetReached), [`CommitRefused`](crate::Error::CommitRefused),
    /// [`MappingsExhausted`](crate::Error::MappingsExhausted) or [`Locked`](crate::Error::Locked));
    /// [`AllocOrInitError::Init`] with the error that the iterator yields.
    ///
    /// # Panics
    /// If the iterator yields fewer elements than it said.
    ///
    /// ```
    /// use pagewise::{AllocOrInitError, Arena};
    ///
    /// let arena = Arena::new(1 << 20)?;
    /// let words = ["1", "x"].iter().map(|word| word.parse::<u8>());
    /// let failed = arena.try_alloc_slice_try_fill_iter(words);
    /// assert!(matches!(failed, Err(AllocOrInitError::Init(_))));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    pub fn try_alloc_slice_try_fill_iter<T, I, E>(
        &self,
        elements: I,
    ) -> Result<&mut [T], AllocOrInitError<E>>
    where
        I: IntoIterator<Item = Result<T, E>>,
        I::IntoIter: ExactSizeIterator,
    {
        let mut elements = elements.into_iter();
        let mut filling = Filling::new(self, elements.len()).map_err(AllocOrInitError::Alloc)?;
        for _ in 0..filling.room {
            let Some(element) = elements.next() else { too_few() };
            // SAFETY: there is room for as many values, and this is the next one.
            unsafe { filling.push(element.map_err(AllocOrInitError::Init)?) };
        }
        // SAFETY: all of them were pushed.
        Ok(unsafe { filling.finish() })
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
    /// As [`try_alloc_layout`](Self::try_alloc_layout): [`ArenaFull`](crate::Error::ArenaFull),
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
}

#[cold]
#[track_caller]
fn too_few() -> ! {
    panic!("the iterator yielded fewer elements than it said")
}

/// A slice that is being filled. Where that ends early, its elements are dropped, and then its place is taken back.
///
/// Invariant: the place has room for `room` elements from `start` on, of which the first `len` are initialised.
struct Filling<'a, T> {
    /// Dropped after the elements.
    _place: Place<'a>,
    start: NonNull<T>,
    len: usize,
    room: usize,
}

impl<'a, T> Filling<'a, T> {
    fn new(arena: &'a Arena, room: usize) -> Result<Self, Error> {
        let place = arena.place(array_of::<T>(room)?)?;
        Ok(Self { start: place.start.cast(), _place: place, len: 0, room })
    }

    /// # Safety
    /// There are fewer than `room` elements.
    unsafe fn push(&mut self, value: T) {
        debug_assert!(self.len < self.room);
        // SAFETY: the caller's promise, and the invariant.
        unsafe { self.start.add(self.len).write(value) };
        self.len += 1;
    }

    /// # Safety
    /// There are `room` elements.
    unsafe fn finish(self) -> &'a mut [T] {
        debug_assert_eq!(self.len, self.room);
        let this = ManuallyDrop::new(self);
        // SAFETY: initialised by the caller's promise; nobody else has the place.
        unsafe { slice::from_raw_parts_mut(this.start.as_ptr(), this.len) }
    }
}

impl<T> Drop for Filling<'_, T> {
    fn drop(&mut self) {
        let elements = ptr::slice_from_raw_parts_mut(self.start.as_ptr(), self.len);
        // SAFETY: initialised by the invariant; nobody else knows them. The place is taken back afterwards.
        unsafe { elements.drop_in_place() };
    }
}

pub(super) fn array_of<T>(len: usize) -> Result<Layout, Error> {
    Layout::array::<T>(len)
        .map_err(|_| Error::Overflow { requested: len.saturating_mul(size_of::<T>()) })
}
