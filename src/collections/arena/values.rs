//! What can be allocated in an arena: values, and bytes of any layout.

use std::alloc::Layout;
use std::fmt;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use super::super::push_error::PushError;
use super::Arena;
use crate::error::Error;

/// The mutable references that `&self` gives out are to memory that nobody else has: every
/// allocation is a new one, until `&mut self` takes all of them back, or the [scope](Self::scope) ends that they
/// belong to.
#[allow(clippy::mut_from_ref)]
impl Arena {
    /// Allocates a value.
    ///
    /// The value is an argument, so that it lies on the stack first, unless the optimiser sees a way around that. A
    /// value too large for the stack is written in place: as a slice ([`alloc_slice_fill_with`]), or by
    /// [`alloc_uninit`](Self::alloc_uninit).
    ///
    /// [`alloc_slice_fill_with`]: Self::alloc_slice_fill_with
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

    /// Allocates what `make` returns. It may itself allocate here. Where it panics, its place is taken back, unless
    /// something was allocated behind it.
    ///
    /// # Panics
    /// Where [`try_alloc_uninit`](Self::try_alloc_uninit) returns an error; then `make` is not called.
    ///
    /// ```
    /// let arena = pagewise::Arena::new(1 << 20)?;
    /// let pair = arena.alloc_with(|| (arena.alloc_str("inner"), 7));
    /// assert_eq!((&*pair.0, pair.1), ("inner", 7));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[inline]
    #[track_caller]
    pub fn alloc_with<F, T>(&self, make: F) -> &mut T
    where
        F: FnOnce() -> T,
    {
        granted(self.try_alloc_with(make))
    }

    /// Allocates what `make` returns, or returns what went wrong, as [`alloc_with`](Self::alloc_with).
    ///
    /// # Errors
    /// As [`try_alloc_layout`](Self::try_alloc_layout): [`ArenaFull`](crate::Error::ArenaFull),
    /// [`LimitReached`](crate::Error::LimitReached), [`BudgetReached`](crate::Error::BudgetReached),
    /// [`CommitRefused`](crate::Error::CommitRefused), [`MappingsExhausted`](crate::Error::MappingsExhausted)
    /// or [`Locked`](crate::Error::Locked); then `make` was not called.
    ///
    /// ```
    /// let arena = pagewise::Arena::builder(1 << 20).limit(0).build()?;
    /// assert!(arena.try_alloc_with(|| -> u64 { unreachable!() }).is_err());
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[inline]
    pub fn try_alloc_with<F, T>(&self, make: F) -> Result<&mut T, Error>
    where
        F: FnOnce() -> T,
    {
        let place = self.place(Layout::new::<T>())?;
        let value = make();
        // SAFETY: of the layout of a `T`.
        Ok(unsafe { place.write(value) })
    }

    /// Allocates what `make` returns, unless it returns an error: then its place is taken back, unless something
    /// was allocated behind it.
    ///
    /// # Errors
    /// What `make` returns.
    ///
    /// # Panics
    /// Where [`try_alloc_uninit`](Self::try_alloc_uninit) returns an error; then `make` is not called.
    ///
    /// ```
    /// let arena = pagewise::Arena::new(1 << 20)?;
    /// let number = arena.alloc_try_with(|| "7".parse::<u32>()).unwrap();
    /// assert!(arena.alloc_try_with(|| "seven".parse::<u32>()).is_err());
    /// assert_eq!((*number, arena.used()), (7, 4));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[inline]
    #[track_caller]
    pub fn alloc_try_with<F, T, E>(&self, make: F) -> Result<&mut T, E>
    where
        F: FnOnce() -> Result<T, E>,
    {
        initialised(self.try_alloc_try_with(make))
    }

    /// Allocates what `make` returns, or returns what went wrong, as [`alloc_try_with`](Self::alloc_try_with).
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
    /// let failed = arena.try_alloc_try_with(|| "seven".parse::<u32>()).unwrap_err();
    /// assert!(matches!(failed, AllocOrInitError::Init(_)));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[inline]
    pub fn try_alloc_try_with<F, T, E>(&self, make: F) -> Result<&mut T, AllocOrInitError<E>>
    where
        F: FnOnce() -> Result<T, E>,
    {
        let place = self.place(Layout::new::<T>()).map_err(AllocOrInitError::Alloc)?;
        let value = make().map_err(AllocOrInitError::Init)?;
        // SAFETY: of the layout of a `T`.
        Ok(unsafe { place.write(value) })
    }

    /// Allocates a value, or hands it back.
    ///
    /// # Errors
    /// [`PushError`](crate::PushError) with the value, and an error of
    /// [`try_alloc_layout`](Self::try_alloc_layout): [`ArenaFull`](crate::Error::ArenaFull),
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
    /// As [`try_alloc_layout`](Self::try_alloc_layout): [`ArenaFull`](crate::Error::ArenaFull),
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
    /// [`ArenaFull`](Error::ArenaFull) or [`Overflow`](Error::Overflow) where the arena is too
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
    /// assert!(matches!(refused, Err(Error::ArenaFull { used: 8, .. })));
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
    /// As [`try_alloc_layout`](Self::try_alloc_layout): [`ArenaFull`](crate::Error::ArenaFull),
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
        let written = self.ground.written.get().saturating_sub(start.as_ptr().addr()).min(len);
        // SAFETY: inside the new allocation.
        unsafe { start.write_bytes(0, written) };
    }
}

/// Why a value was not allocated that its maker can fail to make.
///
/// ```
/// use pagewise::{AllocOrInitError, Arena};
///
/// let arena = Arena::builder(1 << 20).limit(0).build()?;
/// match arena.try_alloc_try_with(|| "17".parse::<u64>()) {
///     Ok(number) => assert_eq!(*number, 17),
///     Err(AllocOrInitError::Init(error)) => println!("not a number: {error}"),
///     Err(AllocOrInitError::Alloc(error)) => println!("no room: {error}"), // here
/// }
/// # Ok::<(), pagewise::Error>(())
/// ```
#[derive(Debug)]
pub enum AllocOrInitError<E> {
    /// There is no room for it.
    Alloc(Error),
    /// Its maker returned this error.
    Init(E),
}

impl<E: fmt::Display> fmt::Display for AllocOrInitError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alloc(error) => fmt::Display::fmt(error, f),
            Self::Init(error) => write!(f, "the value was not made: {error}"),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for AllocOrInitError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Alloc(error) => error.source(),
            Self::Init(error) => Some(error),
        }
    }
}

/// Returns the value, or panics with the error: for methods without `try_`. Not `unwrap_or_else`, whose
/// panic would name this file instead of the line that called the method.
#[inline]
#[track_caller]
pub(super) fn granted<R>(result: Result<R, Error>) -> R {
    match result {
        Ok(value) => value,
        Err(error) => refused(error),
    }
}

/// As [`granted`], for methods that return the error of what makes the value.
#[inline]
#[track_caller]
pub(super) fn initialised<R, E>(result: Result<R, AllocOrInitError<E>>) -> Result<R, E> {
    match result {
        Ok(value) => Ok(value),
        Err(AllocOrInitError::Init(error)) => Err(error),
        Err(AllocOrInitError::Alloc(error)) => refused(error),
    }
}

#[cold]
#[track_caller]
fn refused(error: Error) -> ! {
    panic!("an Arena cannot grow: {error}")
}
