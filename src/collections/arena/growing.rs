//! Slices and strings in an arena whose length is known only when they are complete.

use std::fmt::{self, Write as _};
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};
use std::slice;

use super::Arena;
use super::slices::array_of;
use super::values::granted;
use crate::error::Error;

/// As for values: every allocation is a new one.
#[allow(clippy::mut_from_ref)]
impl Arena {
    /// Allocates what an iterator yields, as one slice. Its length need not be known; the iterator may
    /// itself allocate here (which costs a copy). Where it panics or allocating is refused, what was yielded by then is
    /// dropped, and its place is taken back, unless something was allocated behind it.
    ///
    /// # Panics
    /// Where [`try_alloc_iter`](Self::try_alloc_iter) returns an error.
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
    /// As [`try_alloc_layout`](Self::try_alloc_layout): [`ArenaFull`](crate::Error::ArenaFull),
    /// [`LimitReached`](crate::Error::LimitReached), [`BudgetReached`](crate::Error::BudgetReached),
    /// [`CommitRefused`](crate::Error::CommitRefused), [`MappingsExhausted`](crate::Error::MappingsExhausted)
    /// or [`Locked`](crate::Error::Locked).
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
        let mut growing = Growing::new(self)?;
        for element in elements {
            growing.push(element)?;
        }
        Ok(growing.finish())
    }

    /// Allocates a string that is made of format arguments, without a `String` in between.
    ///
    /// # Panics
    /// Where [`try_alloc_fmt`](Self::try_alloc_fmt) returns an error or panics.
    ///
    /// ```
    /// let arena = pagewise::Arena::new(1 << 20)?;
    /// let (x, y) = (3, 4);
    /// let label = arena.alloc_fmt(format_args!("({x}, {y})"));
    /// assert_eq!(label, "(3, 4)");
    /// assert_eq!(arena.used(), 6);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    pub fn alloc_fmt(&self, text: fmt::Arguments<'_>) -> &mut str {
        granted(self.try_alloc_fmt(text))
    }

    /// Allocates a string that is made of format arguments, or returns what went wrong; then its place is taken
    /// back.
    ///
    /// # Errors
    /// As [`try_alloc_layout`](Self::try_alloc_layout): [`ArenaFull`](crate::Error::ArenaFull),
    /// [`LimitReached`](crate::Error::LimitReached), [`BudgetReached`](crate::Error::BudgetReached),
    /// [`CommitRefused`](crate::Error::CommitRefused), [`MappingsExhausted`](crate::Error::MappingsExhausted)
    /// or [`Locked`](crate::Error::Locked).
    ///
    /// # Panics
    /// Where an argument's own formatting returns an error, as `format!` does.
    ///
    /// ```
    /// let arena = pagewise::Arena::builder(1 << 30).limit(0).build()?;
    /// assert!(arena.try_alloc_fmt(format_args!("{}", 7)).is_err());
    /// assert_eq!(arena.used(), 0);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    pub fn try_alloc_fmt(&self, text: fmt::Arguments<'_>) -> Result<&mut str, Error> {
        let mut writer = Writer { growing: Growing::new(self)?, refused: None };
        let written = writer.write_fmt(text);
        if let Some(error) = writer.refused {
            return Err(error);
        }
        assert!(written.is_ok(), "the formatting of an argument returned an error");
        // SAFETY: made of whole strings.
        Ok(unsafe { std::str::from_utf8_unchecked_mut(writer.growing.finish()) })
    }
}

/// Elements that are appended one by one, next to one another. Where that ends early, they are dropped, and their
/// place is taken back.
///
/// Invariant: there is room for `room` elements from `start` on, which nobody else has; the first `len` are
/// initialised. `before` is the address up to which the arena was used without that room.
struct Growing<'a, T> {
    arena: &'a Arena,
    before: usize,
    start: NonNull<T>,
    len: usize,
    room: usize,
}

impl<'a, T> Growing<'a, T> {
    fn new(arena: &'a Arena) -> Result<Self, Error> {
        let before = arena.next.get();
        let start = arena.bump(array_of::<T>(0)?)?.cast();
        Ok(Self { arena, before, start, len: 0, room: 0 })
    }

    fn push(&mut self, element: T) -> Result<(), Error> {
        if self.len == self.room {
            self.make_room(1)?;
        }
        // SAFETY: there is room for one more, which is nobody else's.
        unsafe { self.start.add(self.len).write(element) };
        self.len += 1;
        Ok(())
    }

    fn push_copies(&mut self, elements: &[T]) -> Result<(), Error>
    where
        T: Copy,
    {
        if elements.len() > self.room - self.len {
            self.make_room(elements.len())?;
        }
        // SAFETY: there is room for so many, which is nobody else's, so that the source lies elsewhere.
        unsafe {
            let end = self.start.add(self.len).as_ptr();
            ptr::copy_nonoverlapping(elements.as_ptr(), end, elements.len());
        }
        self.len += elements.len();
        Ok(())
    }

    /// Makes room for `more` elements behind those that there are. Grows in place if the room is the last
    /// allocation; otherwise moves the elements to an allocation of at least twice the size.
    #[cold]
    fn make_room(&mut self, more: usize) -> Result<(), Error> {
        let wanted = self.len.saturating_add(more);
        let bytes = array_of::<T>(wanted)?.size();
        let new_end = self.start.as_ptr().addr().checked_add(bytes);
        let new_end = new_end.ok_or(Error::Overflow { requested: bytes })?;
        if self.arena.resize_last(self.end(), new_end)? {
            self.room = wanted;
            return Ok(());
        }
        let room = wanted.max(self.len.saturating_mul(2)).max(4);
        let before = self.arena.next.get();
        // Not by way of a slice: a pointer that comes from one must not go beyond its end, and the
        // next elements may be appended there.
        let moved = self.arena.bump(array_of::<T>(room)?)?.cast::<T>();
        // SAFETY: initialised elements, which move to new, larger memory.
        unsafe { ptr::copy_nonoverlapping(self.start.as_ptr(), moved.as_ptr(), self.len) };
        (self.before, self.start, self.room) = (before, moved, room);
        Ok(())
    }

    /// The address behind the room.
    fn end(&self) -> usize {
        self.start.as_ptr().addr() + self.room * size_of::<T>()
    }

    /// Returns the elements, and gives back the room behind them.
    fn finish(self) -> &'a mut [T] {
        let this = ManuallyDrop::new(self);
        this.arena.take_back(this.end(), this.start.as_ptr().addr() + this.len * size_of::<T>());
        // SAFETY: so many are initialised, next to one another, and nobody else has them.
        unsafe { slice::from_raw_parts_mut(this.start.as_ptr(), this.len) }
    }
}

impl<T> Drop for Growing<'_, T> {
    fn drop(&mut self) {
        let elements = ptr::slice_from_raw_parts_mut(self.start.as_ptr(), self.len);
        // SAFETY: initialised by the invariant; nobody else knows them.
        unsafe { elements.drop_in_place() };
        self.arena.take_back(self.end(), self.before);
    }
}

/// Appends text, and keeps the error of the arena, which `fmt::Error` has no room for.
struct Writer<'a> {
    growing: Growing<'a, u8>,
    refused: Option<Error>,
}

impl fmt::Write for Writer<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.growing.push_copies(text.as_bytes()).map_err(|error| {
            self.refused = Some(error);
            fmt::Error
        })
    }
}
