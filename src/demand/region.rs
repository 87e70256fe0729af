//! The region: what it is, and everything but access to its bytes.

use std::fmt;
use std::ops::{Range, RangeBounds};
use std::ptr;
use std::sync::atomic::Ordering;

use super::builder::DemandRegionBuilder;
use super::serving::Core;
use crate::error::Error;
use crate::fault::{self, FaultEvent};
use crate::reservation::{PageMap, Reservation};

/// A range of zero bytes, as long as you like, that commits the pages you touch: in any order, from
/// any thread, up to a limit.
///
/// Plain access is a slice. Touching a page for the first time is a page fault, which pagewise's
/// handler serves by committing the page; then the program goes on where it stopped. A fault past the
/// limit is *refused*: in [`read`](Self::read), [`write`](Self::write) and [`fill`](Self::fill) that
/// is an `Err`, which says how far they came; in plain access it ends the
/// [`attempt`](crate::fault::attempt) that the thread is in, or else the process, after one line on stderr that says
/// why. A [`filter`](DemandRegionBuilder::filter) may refuse faults, too.
///
/// ```
/// use pagewise::{DemandRegion, RefusalReason, page_size};
///
/// // The classic: 80 pages reserved, none committed; at most 3 may be.
/// let mut region =
///     DemandRegion::builder(80 * page_size()).limit(3 * page_size()).step(pagewise::CommitStep::page()).build()?;
/// region.as_mut_slice()[17 * page_size()] = 1;      // a page fault commits page 17
/// assert_eq!(region.stats().committed, page_size());
///
/// let stopped = region.fill(.., 7).unwrap_err();    // two more pages, then refused
/// assert_eq!(stopped.copied, 2 * page_size());
/// assert!(matches!(stopped.refusal.reason, RefusalReason::Limit { limit, .. } if limit == 3 * page_size()));
/// assert_eq!(region.as_slice()[2 * page_size() - 1], 7);
/// # Ok::<(), pagewise::Error>(())
/// ```
///
/// System calls do not fault: `read(2)` into pages that are not committed fails with `EFAULT`, or
/// reads less (`ReadFile` on Windows fails). [`commit`](Self::commit) the range first, or use
/// [`read_from`](Self::read_from), which does.
pub struct DemandRegion {
    /// Invariant: registered from `build` until `drop`, and it stays where it is in between.
    pub(super) core: Box<Core>,
}

/// Counts of faults and committed bytes of a [`DemandRegion`].
///
/// ```
/// let mut region = pagewise::DemandRegion::builder(1 << 30).limit(1 << 20).build()?;
/// let _ = region.fill(.., 7); // as far as the limit goes
/// let stats = region.stats();
/// assert_eq!((stats.committed, stats.limit, stats.refused), (1 << 20, 1 << 20, 1));
/// # Ok::<(), pagewise::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Page faults that committed something. (What [`DemandRegion::commit`] commits is no fault.)
    pub faults: u64,
    /// Page faults that were refused.
    pub refused: u64,
    /// Page faults that found the page committed by another thread in the meantime.
    pub raced: u64,
    /// Bytes that are committed now.
    pub committed: usize,
    /// The most bytes that were ever committed at once.
    pub peak: usize,
    /// Bytes that may be committed at most.
    pub limit: usize,
    /// Fault events that were dropped because the queue was full.
    pub events_lost: u64,
}

impl DemandRegion {
    /// Reserves at least `len` bytes, rounded up to whole pages, all of which may be committed.
    ///
    /// # Errors
    /// As [`Reservation::new`]; [`System`](Error::System) if the fault handler cannot be installed.
    ///
    /// ```
    /// let zeros = pagewise::DemandRegion::new(1 << 40)?; // a terabyte
    /// assert_eq!((zeros.len(), zeros.committed()), (1 << 40, 0));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn new(len: usize) -> Result<Self, Error> {
        Self::builder(len).build()
    }

    /// Starts a region with options: limit, budget, step, events, and those of a reservation.
    ///
    /// ```
    /// let region = pagewise::DemandRegion::builder(1 << 40).limit(1 << 20).build()?;
    /// assert_eq!(region.len() / region.stats().limit, 1 << 20);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn builder(len: usize) -> DemandRegionBuilder {
        DemandRegionBuilder::new(len)
    }

    /// Returns the address of the first byte. Touching bytes through it commits them, as through a slice;
    /// a refused touch ends the process.
    ///
    /// ```
    /// let heap = pagewise::DemandRegion::new(1 << 30)?;
    /// // SAFETY: inside the region, which no slice borrows.
    /// let value = unsafe { heap.as_ptr().add(1 << 29).read() }; // a page fault commits the page
    /// assert!(value == 0 && heap.is_committed(1 << 29..=1 << 29));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn as_ptr(&self) -> *mut u8 {
        self.core.reservation.as_ptr()
    }

    /// The reservation that holds the region's memory.
    pub(crate) fn reservation(&self) -> &Reservation {
        &self.core.reservation
    }

    /// Returns the bytes that are reserved: what was asked for, rounded up to whole pages.
    ///
    /// ```
    /// let region = pagewise::DemandRegion::new(pagewise::page_size() + 1)?;
    /// assert_eq!(region.len(), 2 * pagewise::page_size());
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[allow(clippy::len_without_is_empty)] // a region is never empty
    pub fn len(&self) -> usize {
        self.core.reservation.len()
    }

    /// Returns the bytes that are committed now: whole pages.
    ///
    /// ```
    /// use pagewise::{CommitStep, DemandRegion};
    ///
    /// let mut region = DemandRegion::builder(1 << 30).step(CommitStep::page()).build()?;
    /// region.as_mut_slice()[1 << 20] = 1;
    /// region.as_mut_slice()[1 << 25] = 1;
    /// assert_eq!(region.committed(), 2 * region.page_size());
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn committed(&self) -> usize {
        self.core.reservation.committed()
    }

    /// Returns the bytes of a page of this region: [`page_size`](crate::page_size), unless it is made of
    /// explicit huge pages.
    ///
    /// ```
    /// let region = pagewise::DemandRegion::new(1 << 30)?;
    /// region.commit(0..1)?;
    /// assert_eq!(region.committed(), region.page_size());
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn page_size(&self) -> usize {
        self.core.reservation.page_size()
    }

    /// Commits a range without touching it, for system calls and for memory that must be there.
    /// Reserved → Committed. Rounds outward to whole pages. Not counted as faults.
    ///
    /// A limit refuses all or nothing. Where the *system* refuses half-way, pages that it granted
    /// before stay committed, since other threads may have written to them.
    ///
    /// # Errors
    /// As [`Reservation::commit`]: [`LimitReached`](crate::Error::LimitReached),
    /// [`BudgetReached`](crate::Error::BudgetReached), [`CommitRefused`](crate::Error::CommitRefused),
    /// [`MappingsExhausted`](crate::Error::MappingsExhausted), [`Locked`](crate::Error::Locked),
    /// [`OutOfBounds`](crate::Error::OutOfBounds) or [`ReversedRange`](crate::Error::ReversedRange).
    ///
    /// ```
    /// use std::io::Read;
    ///
    /// let mut buffer = pagewise::DemandRegion::new(1 << 30)?;
    /// buffer.commit(..100)?; // the kernel's own write would fail, not fault
    /// let read = std::fs::File::open("Cargo.toml")?.read(&mut buffer.as_mut_slice()[..100])?;
    /// assert!(read > 0 && buffer.stats().faults == 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn commit(&self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        fault::uninterrupted(|| self.core.reservation.commit_among_faults(range))
    }

    /// Gives a range's memory and commit charge back; it reads zero, and commits itself again, when
    /// it is touched next. Committed → Reserved. Rounds inward to whole pages.
    ///
    /// # Errors
    /// As [`Reservation::decommit`]: [`OutOfBounds`](crate::Error::OutOfBounds),
    /// [`ReversedRange`](crate::Error::ReversedRange), [`MappingsExhausted`](crate::Error::MappingsExhausted),
    /// [`Locked`](crate::Error::Locked) or [`System`](crate::Error::System).
    ///
    /// ```
    /// let mut region = pagewise::DemandRegion::new(1 << 30)?;
    /// region.as_mut_slice()[0] = 7;
    /// region.decommit(..)?;
    /// assert_eq!(region.committed(), 0);
    /// assert_eq!(region.as_slice()[0], 0); // a new page
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn decommit(&mut self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        // SAFETY: the region is borrowed exclusively.
        unsafe { self.decommit_shared(range) }
    }

    /// Gives a range back as [`decommit`](Self::decommit) does, for regions that several threads or raw
    /// pointers share.
    ///
    /// # Errors
    /// As [`Reservation::decommit`]: [`OutOfBounds`](crate::Error::OutOfBounds),
    /// [`ReversedRange`](crate::Error::ReversedRange), [`MappingsExhausted`](crate::Error::MappingsExhausted),
    /// [`Locked`](crate::Error::Locked) or [`System`](crate::Error::System).
    ///
    /// # Safety
    /// No other thread accesses the pages of the range at the same time, and no slice of them is borrowed.
    ///
    /// ```
    /// let pool = std::sync::Arc::new(pagewise::DemandRegion::new(1 << 30)?);
    /// pool.commit(..1 << 20)?;
    /// // SAFETY: no other thread has the pool.
    /// unsafe { pool.decommit_shared(..1 << 20)? }; // `&`, not `&mut`
    /// assert_eq!(pool.committed(), 0);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub unsafe fn decommit_shared(&self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        self.core.repeats.forget();
        fault::uninterrupted(|| self.core.reservation.decommit(range))
    }

    /// Makes exactly the bytes of a range read zero. Committed pages stay committed; others are left alone:
    /// they read zero already.
    ///
    /// # Errors
    /// As [`Reservation::zero`]: [`OutOfBounds`](crate::Error::OutOfBounds),
    /// [`ReversedRange`](crate::Error::ReversedRange), [`MappingsExhausted`](crate::Error::MappingsExhausted),
    /// [`Locked`](crate::Error::Locked) or [`System`](crate::Error::System).
    ///
    /// ```
    /// let mut region = pagewise::DemandRegion::new(1 << 40)?;
    /// region.fill(0..100, 7)?;
    /// let committed = region.committed();
    /// region.zero(50..)?;
    /// assert_eq!((region.as_slice()[49], region.as_slice()[50]), (7, 0));
    /// assert_eq!(region.committed(), committed);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn zero(&mut self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        fault::uninterrupted(|| self.core.reservation.zero(range))
    }

    /// Returns whether every byte of a range is committed, so that reading it commits nothing: `false`, too,
    /// where the range reaches outside. Other threads may commit pages at any time.
    ///
    /// ```
    /// let region = pagewise::DemandRegion::new(1 << 30)?;
    /// region.commit(..4096)?;
    /// assert!(region.is_committed(100..200));
    /// assert!(!region.is_committed(..)); // asking commits nothing
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn is_committed(&self, range: impl RangeBounds<usize>) -> bool {
        fault::uninterrupted(|| self.core.reservation.is_committed(range))
    }

    /// Returns the committed parts, in ascending order, as byte ranges from the start: whole pages, with a gap
    /// between any two. Cheap for a sparse region of any length: see [`Reservation::committed_ranges`].
    ///
    /// ```
    /// let mut region = pagewise::DemandRegion::new(1 << 40)?;
    /// region.write(123_456_789_012, &[1])?;
    /// let parts: Vec<_> = region.committed_ranges().collect();
    /// assert_eq!(parts.len(), 1);
    /// assert!(parts[0].contains(&123_456_789_012));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn committed_ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.core.reservation.committed_ranges()
    }

    /// Returns what happened so far: faults, refusals, and bytes.
    ///
    /// ```
    /// let mut region = pagewise::DemandRegion::builder(1 << 30).limit(0).build()?;
    /// assert!(region.write(0, b"x").is_err());
    /// assert_eq!((region.stats().faults, region.stats().refused), (0, 1));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn stats(&self) -> Stats {
        let (core, counters) = (&self.core, &self.core.counters);
        Stats {
            faults: counters.faults.load(Ordering::Relaxed),
            refused: counters.refused.load(Ordering::Relaxed),
            raced: counters.raced.load(Ordering::Relaxed),
            committed: core.reservation.committed(),
            peak: core.reservation.peak(),
            limit: core.reservation.limit(),
            events_lost: core.events.lost(),
        }
    }

    /// Changes the limit to `bytes`, rounded down to whole pages; all of the region is the most. Faults of other
    /// threads never exceed it, not even meanwhile.
    ///
    /// # Errors
    /// [`LimitBelowUse`](Error::LimitBelowUse), as [`Reservation::set_limit`].
    ///
    /// ```
    /// let mut heap = pagewise::DemandRegion::builder(1 << 40).limit(1 << 20).build()?;
    /// let stopped = heap.fill(..2 << 20, 1).unwrap_err();
    /// heap.set_limit(2 << 20)?; // the heap may grow
    /// heap.fill(stopped.copied..2 << 20, 1)?;
    /// assert_eq!((heap.committed(), heap.stats().limit), (2 << 20, 2 << 20));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_limit(&self, bytes: usize) -> Result<(), Error> {
        fault::uninterrupted(|| self.core.reservation.set_limit(bytes))
    }

    /// Takes the fault events since the last call, oldest first: as many as the builder's
    /// [`events`](DemandRegionBuilder::events) made room for.
    ///
    /// ```
    /// use pagewise::{DemandRegion, FaultOutcome};
    ///
    /// let mut region = DemandRegion::builder(1 << 30).events(16).build()?;
    /// region.as_mut_slice()[123_456] = 1;
    /// let event = region.events().next().unwrap();
    /// assert_eq!(event.offset, 123_456);
    /// assert!(matches!(event.outcome, FaultOutcome::Committed { start, .. } if start <= 123_456));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn events(&self) -> impl Iterator<Item = FaultEvent> + '_ {
        std::iter::from_fn(|| self.core.events.pop())
    }

    /// Whether any page is held: for tests of refusals.
    #[cfg(any(pagewise_model, pagewise_refusals))]
    #[doc(hidden)]
    pub fn holds_pages(&self) -> bool {
        self.core.reservation.holds_pages()
    }

    /// Returns which pages are reserved, committed, resident, huge, swapped: now.
    ///
    /// # Errors
    /// [`System`](Error::System) where the system does not tell what is resident.
    ///
    /// ```
    /// use pagewise::{DemandRegion, page_size};
    ///
    /// let mut region = DemandRegion::new(6 * page_size())?;
    /// region.as_mut_slice()[2 * page_size()] = 1;
    /// println!("{}", region.page_map()?); // ..r...
    /// assert_eq!(region.page_map()?.resident(), 1);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn page_map(&self) -> Result<PageMap, Error> {
        self.core.reservation.page_map()
    }

    /// Gives the addresses back. Dropping does the same, and cannot report an error.
    ///
    /// # Errors
    /// As [`Reservation::release`]: [`MappingsExhausted`](crate::Error::MappingsExhausted) or
    /// [`System`](crate::Error::System).
    ///
    /// ```
    /// let budget = pagewise::Budget::new(1 << 20);
    /// let region = pagewise::DemandRegion::builder(1 << 30).budget(budget.clone()).build()?;
    /// region.commit(..1 << 20)?;
    /// region.release()?;
    /// assert_eq!(budget.used(), 0);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn release(self) -> Result<(), Error> {
        fault::unregister(&self.core.registered);
        let this = std::mem::ManuallyDrop::new(self);
        // SAFETY: `this` is not used again, and not dropped.
        let core = unsafe { ptr::read(&this.core) };
        core.reservation.release()
    }
}

impl Drop for DemandRegion {
    fn drop(&mut self) {
        fault::unregister(&self.core.registered);
    }
}

impl fmt::Debug for DemandRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DemandRegion")
            .field("start", &self.as_ptr())
            .field("len", &self.len())
            .field("stats", &self.stats())
            .finish()
    }
}
