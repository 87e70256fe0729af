//! An arena: memory that is handed out by moving a pointer, and taken back all at once.

#[cfg(feature = "allocator-api2")]
mod allocator;
mod builder;
mod growing;
mod scope;
mod slices;
mod values;

use std::alloc::Layout;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::mem;
use std::panic::UnwindSafe;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::frontier::{Frontier, Growth, Options};
use crate::error::Error;

pub use builder::ArenaBuilder;
pub use values::AllocOrInitError;

/// An arena: allocation moves a pointer, and everything is freed at once.
///
/// Allocations live as long as the shared borrow of the arena; taking memory back
/// ([`reset`](Self::reset), [`rewind`](Self::rewind)) needs the arena to itself. The arena is one
/// contiguous range of addresses, committed as it fills: it never chains chunks, so the last
/// allocation grows in place, and a `Vec` on an arena grows without copying.
///
/// **Destructors do not run**: what is allocated here is forgotten, not dropped. Values that own
/// something outside of the arena leak it. A `Box` in the arena (of allocator-api2, `Box::new_in(value, &arena)`) does run
/// the destructor of its value when it is dropped, as a `Vec` or a map in the arena does for its elements.
///
/// Methods that bumpalo's `Bump` has, too, have the same names and shapes, but for the limit: what is
/// `set_allocation_limit(Some(bytes))` there is [`set_limit(bytes)`](Self::set_limit) here, and an arena has a
/// [maximum](Self::max_bytes) besides, since it never moves and never chains chunks.
///
/// Memory that is needed for a while only is taken back by a [`scope`](Self::scope), also while older allocations
/// are in use.
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
    /// Invariant: addresses. `start <= next`; bytes `start..ready` are committed, where `ready` is not zero. While no
    /// scope is open, `next <= ready`; what lies before `next` belongs to whoever allocated it, what lies behind to
    /// nobody. While one is open, what lies behind `next` belongs to the scope's arena.
    next: Cell<usize>,
    /// Zero while a scope is open, so that every allocation comes to `bump_slowly`.
    ready: Cell<usize>,
    start: NonNull<u8>,
    ground: Rc<Ground>,
    /// The arena of the scope that is open, which lives until it is closed.
    scope: Cell<Option<NonNull<Arena>>>,
    identity: u64,
    /// How often memory was taken back: tells checkpoints from before and after apart.
    rewinds: u64,
}

/// What an arena and those of its scopes have in common.
struct Ground {
    frontier: RefCell<Frontier>,
    /// Address behind the last byte that may have been written: zero from there on, but for what lies before `next` of
    /// any of the arenas.
    written: Cell<usize>,
}

// SAFETY: the memory belongs to this value alone, and allocations borrow it: where it is moved, none
// is left. Nor is a scope, which borrows it, too; so that the ground has one owner.
unsafe impl Send for Arena {}

/// Whatever panics while it uses the arena leaves it whole: a place is either taken back or stays allocated.
impl UnwindSafe for Arena {}

fn new_identity() -> u64 {
    static IDENTITIES: AtomicU64 = AtomicU64::new(0);
    IDENTITIES.fetch_add(1, Ordering::Relaxed)
}

/// A place in an [`Arena`] to [rewind](Arena::rewind) to.
///
/// ```
/// let mut arena = pagewise::Arena::new(1 << 30)?;
/// arena.alloc_str("kept");
/// let here = arena.checkpoint();
/// arena.alloc_str("for a while");
/// arena.rewind(here);
/// assert_eq!(arena.used(), 4);
/// # Ok::<(), pagewise::Error>(())
/// ```
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
    /// Makes an arena of at most `max_bytes` bytes, rounded up to whole pages. Reserves addresses; commits
    /// nothing.
    ///
    /// # Errors
    /// [`ZeroLength`](Error::ZeroLength), [`Overflow`](Error::Overflow) beyond `isize::MAX`, or
    /// [`AddressSpaceExhausted`](Error::AddressSpaceExhausted); on Linux also
    /// [`MappingsExhausted`](Error::MappingsExhausted).
    ///
    /// ```
    /// let arena = pagewise::Arena::new(1)?;
    /// assert_eq!(arena.max_bytes(), pagewise::page_size());
    /// assert_eq!(arena.committed(), 0);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn new(max_bytes: usize) -> Result<Self, Error> {
        Self::builder(max_bytes).build()
    }

    /// Starts an arena with options: a limit, a shared budget, huge pages, a name.
    ///
    /// ```
    /// let requests = pagewise::Budget::new(64 << 20); // for the arenas of all requests together
    /// let arena = pagewise::Arena::builder(1 << 30).budget(requests.clone()).build()?;
    /// arena.alloc([0u8; 100]);
    /// assert_eq!(requests.used(), arena.committed());
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn builder(max_bytes: usize) -> ArenaBuilder {
        ArenaBuilder { max_bytes, at_least: max_bytes, options: Options::new() }
    }

    /// Returns the bytes that are allocated now, with the gaps that alignment leaves. What an open
    /// [scope](Self::scope) allocated counts in the scope's own arena.
    ///
    /// ```
    /// let arena = pagewise::Arena::new(1 << 20)?;
    /// arena.alloc(1u8);
    /// arena.alloc(2u32); // three bytes behind the first value stay unused
    /// assert_eq!(arena.used(), 8);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn used(&self) -> usize {
        self.next.get() - self.start.as_ptr().addr()
    }

    /// Returns the bytes that are committed now: whole pages, at least what is used.
    ///
    /// ```
    /// let mut arena = pagewise::Arena::new(1 << 30)?;
    /// arena.alloc_slice_copy(&[0u8; 1000]);
    /// assert!(arena.committed() >= 1000);
    /// arena.reset_and_release()?;
    /// assert_eq!(arena.committed(), 0);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn committed(&self) -> usize {
        self.ground.frontier.borrow().committed()
    }

    /// Returns the bytes that are committed now: [`committed`](Self::committed), by the name that bumpalo has for
    /// it.
    ///
    /// ```
    /// let arena = pagewise::Arena::new(1 << 30)?;
    /// arena.alloc_slice_fill_default::<u32>(5);
    /// assert!(arena.allocated_bytes() >= 20);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn allocated_bytes(&self) -> usize {
        self.committed()
    }

    /// Returns the most bytes that were ever committed at once.
    ///
    /// ```
    /// let mut arena = pagewise::Arena::new(1 << 30)?;
    /// arena.try_reserve(1 << 20)?;
    /// arena.reset_and_release()?;
    /// assert_eq!((arena.committed(), arena.peak()), (0, 1 << 20));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn peak(&self) -> usize {
        self.ground.frontier.borrow().memory().peak()
    }

    /// Returns the bytes that may be allocated at most: whole pages.
    ///
    /// ```
    /// let arena = pagewise::Arena::new(1 << 20)?;
    /// let all = arena.alloc_slice_uninit::<u8>(arena.max_bytes());
    /// assert_eq!(all.len(), 1 << 20);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn max_bytes(&self) -> usize {
        self.ground.frontier.borrow().memory().len()
    }

    /// Returns the bytes that may be committed at most: the limit given to the builder or to
    /// [`set_limit`](Self::set_limit), rounded down to whole pages, or the maximum.
    ///
    /// ```
    /// let arena = pagewise::Arena::builder(1 << 30).limit(1 << 20).build()?;
    /// assert_eq!((arena.limit(), arena.max_bytes()), (1 << 20, 1 << 30));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn limit(&self) -> usize {
        self.ground.frontier.borrow().memory().limit()
    }

    /// Changes the limit to `bytes`, rounded down to whole pages; the maximum is the most.
    ///
    /// # Errors
    /// [`LimitBelowUse`](Error::LimitBelowUse) below what is committed (which
    /// [`shrink_to_fit`](Self::shrink_to_fit) makes the least that it can be); then the limit is as before.
    ///
    /// ```
    /// let mut arena = pagewise::Arena::builder(1 << 30).limit(1 << 20).build()?;
    /// assert!(arena.try_reserve(2 << 20).is_err());
    /// arena.set_limit(2 << 20)?;
    /// arena.try_reserve(2 << 20)?;
    /// assert!(arena.set_limit(1 << 20).is_err());
    /// arena.shrink_to_fit()?;
    /// arena.set_limit(1 << 20)?;
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn set_limit(&self, bytes: usize) -> Result<(), Error> {
        self.ground.frontier.borrow().memory().set_limit(bytes)
    }

    /// Commits memory for `bytes` more bytes, gaps that alignment leaves included. What is refused changes
    /// nothing.
    ///
    /// # Errors
    /// As [`try_alloc_layout`](Self::try_alloc_layout): the arena is too small, or
    /// [`LimitReached`](crate::Error::LimitReached), [`BudgetReached`](crate::Error::BudgetReached),
    /// [`CommitRefused`](crate::Error::CommitRefused), [`MappingsExhausted`](crate::Error::MappingsExhausted)
    /// or [`Locked`](crate::Error::Locked).
    ///
    /// ```
    /// let arena = pagewise::Arena::new(1 << 30)?;
    /// arena.try_reserve(1 << 20)?; // the next mebibyte cannot be refused
    /// let committed = arena.committed();
    /// arena.alloc_slice_fill_with(1 << 17, |index| index as u64);
    /// assert_eq!(arena.committed(), committed);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn try_reserve(&self, bytes: usize) -> Result<(), Error> {
        let end = self.used().checked_add(bytes).ok_or(Error::Overflow { requested: bytes })?;
        self.grow(end, Growth::Amortized)
    }

    /// Returns the place up to which memory is allocated now, to [rewind](Self::rewind) to.
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
    ///
    /// ```
    /// let mut arena = pagewise::Arena::new(1 << 20)?;
    /// let start = arena.checkpoint();
    /// for size in [10, 10_000, 100] {
    ///     arena.alloc_slice_copy(&vec![0u8; size]); // scratch memory of one iteration
    ///     arena.rewind(start);
    /// }
    /// assert!(arena.used() == 0 && arena.committed() >= 10_000);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    pub fn rewind(&mut self, checkpoint: Checkpoint) {
        assert_eq!(checkpoint.arena, self.identity, "a checkpoint of another arena");
        if checkpoint.offset > self.used() {
            // Without a rewind since the checkpoint, only collections that freed their blocks can have
            // moved the end below it: everything after the checkpoint is free already.
            assert_eq!(checkpoint.rewinds, self.rewinds, "a checkpoint of what was freed before");
            return;
        }
        self.rewind_to(checkpoint.offset);
    }

    /// Frees everything. The memory stays committed, for the next round.
    ///
    /// ```
    /// let mut arena = pagewise::Arena::new(1 << 20)?;
    /// let first = arena.alloc_str("one request").as_ptr();
    /// arena.reset();
    /// assert_eq!(arena.alloc_str("the next one").as_ptr(), first); // the same memory
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn reset(&mut self) {
        self.rewind_to(0);
    }

    /// Frees everything and gives the memory back. The addresses stay reserved.
    ///
    /// # Errors
    /// As [`shrink_to_fit`](Self::shrink_to_fit): [`MappingsExhausted`](crate::Error::MappingsExhausted) or
    /// [`System`](crate::Error::System); everything is free all the same.
    ///
    /// ```
    /// let mut arena = pagewise::Arena::new(1 << 30)?;
    /// arena.alloc_slice_uninit::<u64>(1 << 20);
    /// arena.reset_and_release()?; // a peak of 8 MiB is no reason to keep them
    /// assert_eq!((arena.used(), arena.committed()), (0, 0));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn reset_and_release(&mut self) -> Result<(), Error> {
        self.rewind_to(0);
        self.shrink_to_fit()
    }

    /// Gives back every whole page behind what is allocated.
    ///
    /// # Errors
    /// [`MappingsExhausted`](Error::MappingsExhausted), or [`System`](Error::System); then what could not be
    /// given back stays committed.
    ///
    /// ```
    /// let mut arena = pagewise::Arena::new(1 << 30)?;
    /// arena.try_reserve(1 << 20)?;
    /// arena.alloc(1u64);
    /// arena.shrink_to_fit()?;
    /// assert_eq!(arena.committed(), pagewise::page_size());
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn shrink_to_fit(&mut self) -> Result<(), Error> {
        let used = self.used();
        let mut frontier = self.ground.frontier.borrow_mut();
        let shrunk = frontier.shrink_to(used);
        let end = self.start.as_ptr().addr() + frontier.committed();
        self.ready.set(self.ready.get().min(end));
        self.ground.written.set(self.ground.written.get().min(end));
        shrunk
    }

    fn rewind_to(&mut self, offset: usize) {
        self.rewinds += 1;
        self.move_back(self.start.as_ptr().addr() + offset);
    }

    /// Moves `next` back and records that the bytes after it may have been written.
    fn move_back(&self, next: usize) {
        self.ground.written.set(self.ground.written.get().max(self.next.get()));
        self.next.set(next);
    }

    /// Takes back the last allocation, down to `before`, if `end` is where it ends. Otherwise something was allocated
    /// behind it, and it stays.
    fn take_back(&self, end: usize, before: usize) {
        if end == self.next.get() {
            self.move_back(before);
        }
    }

    /// Room for a value that is being made.
    #[inline]
    fn place(&self, layout: Layout) -> Result<Place<'_>, Error> {
        let before = self.next.get();
        let start = self.bump(layout)?;
        Ok(Place { arena: self, start, before, end: start.as_ptr().addr() + layout.size() })
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
        let mut frontier = self.ground.frontier.borrow_mut();
        let (len, used) = (frontier.memory().len(), self.used());
        if end > len {
            return Err(Error::ArenaFull { requested: end - used, used, max_bytes: len });
        }
        frontier.grow(end, growth)?;
        if growth == Growth::Append {
            self.ready.set(self.start.as_ptr().addr() + frontier.ready().max(end));
        }
        Ok(())
    }

    /// Moves `next` past memory for `layout`, which is not initialised. Every allocation comes here.
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
        if let Some(scope) = self.open_scope() {
            // What is allocated here while a scope is open outlives the scope: it lies behind what the scope has
            // now, all of which the scope then cannot take back.
            let start = scope.bump(layout)?;
            self.next.set(start.as_ptr().addr() + layout.size());
            return Ok(start);
        }
        let overflow = Error::Overflow { requested: layout.size() };
        let mask = layout.align() - 1;
        let start = self.next.get().checked_add(mask).map(|next| next & !mask);
        let Some(start) = start else { return Err(overflow) };
        let Some(end) = start.checked_add(layout.size()) else { return Err(overflow) };
        self.grow(end - self.start.as_ptr().addr(), Growth::Append)?;
        self.next.set(end);
        Ok(self.pointer(start))
    }

    /// Makes the last allocation longer or shorter in place, where it is the last and nothing is in the way.
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
            if self.scope.get().is_some() {
                return Ok(false);
            }
            self.grow(new_end - self.start.as_ptr().addr(), Growth::Append)?;
        }
        self.next.set(new_end);
        Ok(true)
    }
}

/// Room for a value that is being made. Where that ends early, the room is taken back.
///
/// Invariant: the bytes from `start` to the address `end` are an allocation that nobody else knows; `before` is where the
/// arena's `next` was before it.
struct Place<'a> {
    arena: &'a Arena,
    start: NonNull<u8>,
    before: usize,
    end: usize,
}

impl<'a> Place<'a> {
    /// # Safety
    /// The place was made with the layout of a `T`.
    #[inline]
    unsafe fn write<T>(self, value: T) -> &'a mut T {
        let start = self.start.cast();
        mem::forget(self);
        // SAFETY: room for a `T`, by the caller's promise, that nobody else has.
        unsafe {
            start.write(value);
            &mut *start.as_ptr()
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.arena.take_back(self.end, self.before);
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
