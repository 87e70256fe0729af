//! An arena: memory that is handed out by moving a pointer, and taken back all at once.

mod allocate;
#[cfg(feature = "allocator-api2")]
mod allocator;

use std::alloc::Layout;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use super::frontier::{Frontier, Growth, Options};
use crate::error::Error;
use crate::reservation::reservation_options;

/// An arena: allocation moves a pointer, and everything is freed at once.
///
/// Allocations live as long as the shared borrow of the arena; taking memory back
/// ([`reset`](Self::reset), [`rewind`](Self::rewind)) needs the arena to itself. The arena is one
/// contiguous range of addresses, committed as it fills: it never chains chunks, so the last
/// allocation grows in place, and a `Vec` on an arena grows without copying.
///
/// **Destructors do not run**: what is allocated here is forgotten, not dropped. Values that own
/// something outside of the arena leak it.
///
/// `Send`, not `Sync`: one thread allocates at a time. Nothing can outlive a reset:
///
/// ```compile_fail,E0502
/// let mut arena = pagewise::Arena::new(1 << 20)?;
/// let name = arena.alloc_str("gone too soon");
/// arena.reset();
/// println!("{name}");
/// # Ok::<(), pagewise::Error>(())
/// ```
///
/// ```
/// use pagewise::Arena;
///
/// let mut arena = Arena::new(1 << 30)?; // a gigabyte of addresses: costs nothing
/// let name = arena.alloc_str("pagewise");
/// let point = arena.alloc((3, 4));
/// point.0 += 1;
/// assert_eq!((&*name, *point), ("pagewise", (4, 4)));
/// arena.reset(); // `name` and `point` are gone; the memory stays, for the next round
/// assert_eq!(arena.used(), 0);
/// # Ok::<(), pagewise::Error>(())
/// ```
pub struct Arena {
    /// Invariant: addresses, `start <= next <= ready`; bytes `start..ready` are committed; what lies
    /// before `next` belongs to whoever allocated it, what lies behind to nobody.
    next: Cell<usize>,
    ready: Cell<usize>,
    start: NonNull<u8>,
    /// Address behind the last byte that may have been written: zero from there on.
    written: Cell<usize>,
    frontier: RefCell<Frontier>,
    identity: u64,
    /// How often memory was taken back: tells checkpoints from before and after apart.
    rewinds: u64,
}

// SAFETY: the memory belongs to this value alone, and allocations borrow it: where it is moved, none
// is left.
unsafe impl Send for Arena {}

/// A place in an [`Arena`] to [rewind](Arena::rewind) to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    arena: u64,
    rewinds: u64,
    offset: usize,
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoint").field("offset", &self.offset).finish_non_exhaustive()
    }
}

impl Arena {
    /// An arena of at most `max_bytes` bytes, rounded up to whole pages. Reserves addresses; commits
    /// nothing.
    ///
    /// # Errors
    /// [`ZeroLength`](Error::ZeroLength), [`Overflow`](Error::Overflow), or
    /// [`AddressSpaceExhausted`](Error::AddressSpaceExhausted).
    pub fn new(max_bytes: usize) -> Result<Self, Error> {
        Self::builder(max_bytes).build()
    }

    /// An arena with options: limits, a shared budget, huge pages, a name.
    pub fn builder(max_bytes: usize) -> ArenaBuilder {
        ArenaBuilder { max_bytes, at_least: max_bytes, options: Options::new() }
    }

    /// Bytes that are allocated now, with the gaps that alignment leaves.
    pub fn used(&self) -> usize {
        self.next.get() - self.start.as_ptr().addr()
    }

    /// Bytes that are committed now: whole pages.
    pub fn committed(&self) -> usize {
        self.frontier.borrow().committed()
    }

    /// Bytes that may be allocated at most.
    pub fn max_bytes(&self) -> usize {
        self.frontier.borrow().memory().len()
    }

    /// Bytes that may be committed at most: the limit given to the builder, or the maximum.
    pub fn limit(&self) -> usize {
        self.frontier.borrow().memory().limit()
    }

    /// Commits memory for `bytes` more bytes. A system that refuses changes nothing.
    ///
    /// # Errors
    /// As [`try_alloc_layout`](Self::try_alloc_layout).
    pub fn try_reserve(&self, bytes: usize) -> Result<(), Error> {
        let end = self.used().checked_add(bytes).ok_or(Error::Overflow { requested: bytes })?;
        self.grow(end, Growth::Amortized)
    }

    /// The place up to which memory is allocated now.
    ///
    /// ```
    /// let mut arena = pagewise::Arena::new(1 << 20)?;
    /// arena.alloc(1);
    /// let before = arena.checkpoint();
    /// arena.alloc_slice_copy(&[0u8; 1000]);
    /// arena.rewind(before);
    /// assert_eq!(arena.used(), 4);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint { arena: self.identity, rewinds: self.rewinds, offset: self.used() }
    }

    /// Frees everything that was allocated after the checkpoint. The memory stays committed.
    ///
    /// # Panics
    /// If the checkpoint is of another arena, or lies behind what is allocated since an earlier
    /// rewind or reset.
    #[track_caller]
    pub fn rewind(&mut self, checkpoint: Checkpoint) {
        assert_eq!(checkpoint.arena, self.identity, "a checkpoint of another arena");
        if checkpoint.offset > self.used() {
            // Without a rewind between, allocations were freed one by one: nothing is left to do.
            assert_eq!(checkpoint.rewinds, self.rewinds, "a checkpoint of what was freed before");
            return;
        }
        self.rewind_to(checkpoint.offset);
    }

    /// Frees everything. The memory stays committed, for the next round.
    pub fn reset(&mut self) {
        self.rewind_to(0);
    }

    /// Frees everything and gives the memory back.
    ///
    /// # Errors
    /// What the system says; everything is free all the same.
    pub fn reset_and_release(&mut self) -> Result<(), Error> {
        self.rewind_to(0);
        self.shrink_to_fit()
    }

    /// Gives back every whole page behind what is allocated.
    ///
    /// # Errors
    /// What the system says; then the memory stays committed.
    pub fn shrink_to_fit(&mut self) -> Result<(), Error> {
        let used = self.used();
        let frontier = self.frontier.get_mut();
        let shrunk = frontier.shrink_to(used);
        let end = self.start.as_ptr().addr() + frontier.committed();
        self.ready.set(self.ready.get().min(end));
        self.written.set(self.written.get().min(end));
        shrunk
    }

    fn rewind_to(&mut self, offset: usize) {
        self.rewinds += 1;
        self.move_back(self.start.as_ptr().addr() + offset);
    }

    /// The end moves back: what lies behind has been written, and belongs to nobody.
    fn move_back(&self, next: usize) {
        self.written.set(self.written.get().max(self.next.get()));
        self.next.set(next);
    }

    /// The pointer to an address in this arena.
    fn pointer(&self, address: usize) -> NonNull<u8> {
        let offset = address - self.start.as_ptr().addr();
        // SAFETY: addresses in use lie between `start` and the end of the reservation.
        unsafe { self.start.add(offset) }
    }

    /// Makes bytes `0..end` ready.
    #[cold]
    fn grow(&self, end: usize, growth: Growth) -> Result<(), Error> {
        let mut frontier = self.frontier.borrow_mut();
        let (len, used) = (frontier.memory().len(), self.used());
        if end > len {
            return Err(Error::OutOfBounds { start: used, end, len });
        }
        frontier.grow(end, growth)?;
        if growth == Growth::Append {
            self.ready.set(self.start.as_ptr().addr() + frontier.ready().max(end));
        }
        Ok(())
    }

    /// The heart: room for `layout`, not initialised.
    #[inline]
    fn bump(&self, layout: Layout) -> Result<NonNull<u8>, Error> {
        let (next, size, mask) = (self.next.get(), layout.size(), layout.align() - 1);
        // A layout's size, rounded up to its alignment, is at most `isize::MAX`; and no program is
        // given addresses of the upper half where they have 64 bits: the sums below stay in range.
        if cfg!(target_pointer_width = "64") || next.checked_add(mask + size).is_some() {
            let start = (next + mask) & !mask;
            let end = start + size;
            if end <= self.ready.get() {
                self.next.set(end);
                return Ok(self.pointer(start));
            }
        }
        self.bump_slowly(layout)
    }

    #[cold]
    #[inline(never)]
    fn bump_slowly(&self, layout: Layout) -> Result<NonNull<u8>, Error> {
        let overflow = Error::Overflow { requested: layout.size() };
        let mask = layout.align() - 1;
        let start = self.next.get().checked_add(mask).map(|next| next & !mask);
        let Some(start) = start else { return Err(overflow) };
        let Some(end) = start.checked_add(layout.size()) else { return Err(overflow) };
        self.grow(end - self.start.as_ptr().addr(), Growth::Append)?;
        self.next.set(end);
        Ok(self.pointer(start))
    }

    /// Makes the last allocation longer or shorter in place.
    #[cfg(feature = "allocator-api2")]
    #[inline]
    fn resize_last(&self, end: usize, new_end: usize) -> Result<bool, Error> {
        if end != self.next.get() {
            return Ok(false);
        }
        if new_end <= end {
            self.move_back(new_end);
            return Ok(true);
        }
        if new_end > self.ready.get() {
            self.grow(new_end - self.start.as_ptr().addr(), Growth::Append)?;
        }
        self.next.set(new_end);
        Ok(true)
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arena")
            .field("used", &self.used())
            .field("committed", &self.committed())
            .field("max_bytes", &self.max_bytes())
            .finish_non_exhaustive()
    }
}

/// Options for an [`Arena`].
#[derive(Clone)]
#[must_use = "a builder reserves nothing until `build`"]
pub struct ArenaBuilder {
    max_bytes: usize,
    at_least: usize,
    options: Options,
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
    pub fn at_least(mut self, min_bytes: usize) -> Self {
        self.at_least = min_bytes;
        self
    }

    /// Reserves the addresses of the arena; commits nothing.
    ///
    /// # Errors
    /// As [`Arena::new`], or [`Unsupported`](Error::Unsupported) for explicit huge pages where there
    /// are none.
    pub fn build(self) -> Result<Arena, Error> {
        static IDENTITIES: AtomicU64 = AtomicU64::new(0);
        let frontier = self.options.build(self.max_bytes, self.at_least)?;
        let start = NonNull::new(frontier.memory().as_ptr()).expect("not at address zero");
        let next = start.as_ptr().addr();
        Ok(Arena {
            next: Cell::new(next),
            ready: Cell::new(next),
            start,
            written: Cell::new(next),
            frontier: RefCell::new(frontier),
            identity: IDENTITIES.fetch_add(1, Ordering::Relaxed),
            rewinds: 0,
        })
    }
}
