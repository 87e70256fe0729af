//! Options for an arena.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ptr::NonNull;
use std::rc::Rc;

use super::super::frontier::Options;
use super::{Arena, Ground, new_identity};
use crate::error::Error;
use crate::reservation::reservation_options;

/// Options for an [`Arena`].
///
/// ```
/// let arena = pagewise::Arena::builder(1 << 40) // addresses
///     .limit(64 << 20)                          // bytes that may be committed
///     .name("nodes")                            // shown in /proc/self/maps on Linux
///     .build()?;
/// assert!(arena.try_alloc_slice_fill_with(64 << 20, |_| 1u16).is_err());
/// # Ok::<(), pagewise::Error>(())
/// ```
#[derive(Clone)]
#[must_use = "a builder reserves nothing until `build`"]
pub struct ArenaBuilder {
    pub(super) max_bytes: usize,
    pub(super) at_least: usize,
    pub(super) options: Options,
}

impl fmt::Debug for ArenaBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let builder = f.debug_struct("ArenaBuilder");
        self.options.describe(builder, ("max_bytes", self.max_bytes), self.at_least)
    }
}

impl ArenaBuilder {
    reservation_options!(options.reservation);

    /// Takes less where the address space is small, but not below `min_bytes`.
    /// [`max_bytes`](Arena::max_bytes) says what it came to.
    ///
    /// ```
    /// let arena = pagewise::Arena::builder(1 << 40).at_least(1 << 20).build()?;
    /// assert!(arena.max_bytes() >= 1 << 20);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn at_least(mut self, min_bytes: usize) -> Self {
        self.at_least = min_bytes;
        self
    }

    /// Reserves the addresses of the arena; commits nothing.
    ///
    /// # Errors
    /// As [`Arena::new`], or [`Unsupported`](Error::Unsupported) for explicit huge pages where there
    /// are none.
    ///
    /// ```
    /// use pagewise::{Arena, Error};
    ///
    /// let arena = Arena::builder(1 << 20).name("scratch").dump(false).build()?;
    /// assert_eq!(arena.committed(), 0);
    /// assert!(matches!(Arena::builder(0).build(), Err(Error::ZeroLength)));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn build(self) -> Result<Arena, Error> {
        let frontier = self.options.build(self.max_bytes, self.at_least)?;
        let start = NonNull::new(frontier.memory().as_ptr()).expect("not at address zero");
        let next = start.as_ptr().addr();
        let ground = Ground { frontier: RefCell::new(frontier), written: Cell::new(next) };
        Ok(Arena {
            next: Cell::new(next),
            ready: Cell::new(next),
            start,
            ground: Rc::new(ground),
            scope: Cell::new(None),
            identity: new_identity(),
            rewinds: 0,
        })
    }
}
