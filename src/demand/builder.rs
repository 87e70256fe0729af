//! Options for a region.

use std::ptr;

use super::filter::{FaultAnswer, Filter, PageFault};
use super::region::DemandRegion;
use super::repeats::Repeats;
use super::serving::{Core, Counters, forked, serve};
use super::step::{CommitStep, StepPolicy};
use crate::error::Error;
use crate::fault::{self, EventRing, Registered};
use crate::reservation::{Engine, ReservationBuilder, reservation_options};

/// Options for a [`DemandRegion`].
///
/// ```
/// use pagewise::{CommitStep, DemandRegion};
///
/// let region = DemandRegion::builder(1 << 30)
///     .limit(64 << 20)                  // bytes that may be committed
///     .step(CommitStep::fixed(1 << 16)) // bytes that one fault commits
///     .events(1024)                     // faults to remember
///     .build()?;
/// assert_eq!(region.stats().limit, 64 << 20);
/// # Ok::<(), pagewise::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder reserves nothing until `build`"]
pub struct DemandRegionBuilder {
    pub(crate) reservation: ReservationBuilder,
    step: CommitStep,
    events: usize,
    filter: Option<Filter>,
}

impl DemandRegionBuilder {
    pub(super) fn new(len: usize) -> Self {
        let reservation = ReservationBuilder::new(len).engine(Engine::Auto);
        Self { reservation, step: CommitStep::default(), events: 0, filter: None }
    }

    reservation_options!(reservation);

    /// Aligns the start to `align` bytes, a power of two, as [`ReservationBuilder::align`] does.
    ///
    /// ```
    /// let region = pagewise::DemandRegion::builder(1 << 30).align(1 << 21).build()?;
    /// assert_eq!(region.as_ptr().addr() % (1 << 21), 0);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn align(mut self, align: usize) -> Self {
        self.reservation = self.reservation.align(align);
        self
    }

    /// Takes less where the address space is small, but not below `min` bytes, as
    /// [`ReservationBuilder::at_least`] does.
    ///
    /// ```
    /// let region = pagewise::DemandRegion::builder(1 << 44).at_least(1 << 24).build()?;
    /// assert!(region.len() >= 1 << 24); // `len` says what it came to
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn at_least(mut self, min: usize) -> Self {
        self.reservation = self.reservation.at_least(min);
        self
    }

    /// Sets how much one fault commits. [`CommitStep::adaptive`] unless told otherwise.
    ///
    /// ```
    /// use pagewise::{CommitStep, DemandRegion};
    ///
    /// let mut region = DemandRegion::builder(1 << 30).step(CommitStep::fixed(1 << 18)).build()?;
    /// region.as_mut_slice()[..1 << 20].fill(1);
    /// assert_eq!(region.stats().faults, 4);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn step(mut self, step: CommitStep) -> Self {
        self.step = step;
        self
    }

    /// Sets which mechanism serves the faults. [`Engine::Auto`] unless told otherwise.
    ///
    /// ```
    /// use pagewise::{DemandRegion, Engine};
    ///
    /// let region = DemandRegion::builder(1 << 30).engine(Engine::Protect).build()?;
    /// assert_eq!(region.as_slice()[5], 0);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn engine(mut self, engine: Engine) -> Self {
        self.reservation = self.reservation.engine(engine);
        self
    }

    /// Remembers this many fault events (rounded up to a power of two, at least two) until they are taken.
    /// None unless told otherwise. Events that find no room are counted in
    /// [`events_lost`](crate::Stats::events_lost).
    ///
    /// ```
    /// let mut region = pagewise::DemandRegion::builder(1 << 30).events(3).build()?;
    /// (0..6).for_each(|n| region.as_mut_slice()[n << 24] = 1);
    /// let remembered: Vec<usize> = region.events().map(|event| event.offset >> 24).collect();
    /// assert_eq!(remembered, [0, 1, 2, 3]); // room for four; the first ones stay
    /// assert_eq!(region.stats().events_lost, 2);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn events(mut self, capacity: usize) -> Self {
        self.events = capacity;
        self
    }

    /// Has a function decide about each page fault of the region: commit, commit another number of pages, refuse, or
    /// hand on. It has the role of the filter expression of `__except` in C.
    ///
    /// The fault handler calls it on the thread that touched a page which is not committed, before anything is
    /// committed. The limit and the budget are asked afterwards, and may refuse what the filter grants. Where several
    /// threads touch the same page at once, each of them asks. Explicit calls ([`commit`](DemandRegion::commit) and
    /// others) do not ask; [`read`](DemandRegion::read), [`write`](DemandRegion::write) and
    /// [`fill`](DemandRegion::fill) touch, and so they do. A panic of the filter ends the process.
    ///
    /// # Safety
    /// The filter runs inside a signal handler (on Windows: an exception handler), in the middle of whatever the thread
    /// was doing: it must be async-signal-safe. It runs on the alternate signal stack, if the thread has one, of which
    /// it may use about a kibibyte.
    ///
    /// It may
    /// - read and write atomics, and memory that is not in a region with a filter;
    /// - call [`DemandRegion::stats`], [`DemandRegion::committed`], [`DemandRegion::is_committed`],
    ///   [`Budget::used`](crate::Budget::used), [`Budget::peak`](crate::Budget::peak) and
    ///   [`fault::in_filter`];
    /// - call functions that POSIX lists as async-signal-safe, such as `write(2)`. Its `errno` is not seen by the
    ///   interrupted code.
    ///
    /// It must not
    /// - allocate or free memory, which [`fault::FilterCheck`] checks in debug builds;
    /// - take a lock that the interrupted code may hold: `Mutex`, `println!`, stdio;
    /// - touch uncommitted memory of a region with a filter, which calls the filter again, and so on;
    /// - build, release, commit or decommit a region or a reservation, or take from a budget;
    /// - use thread-local values, or leave by `longjmp`.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    /// use pagewise::{DemandRegion, FaultAnswer, RefusalReason, page_size};
    ///
    /// static PAGES_LEFT: AtomicUsize = AtomicUsize::new(3);
    /// // SAFETY: the filter does nothing but change an atomic.
    /// let builder = unsafe {
    ///     DemandRegion::builder(80 * page_size()).filter(|_| {
    ///         let take = |left: usize| left.checked_sub(1);
    ///         match PAGES_LEFT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
    ///             Ok(_) => FaultAnswer::CommitPages(1),
    ///             Err(_) => FaultAnswer::Refuse, // out of pages
    ///         }
    ///     })
    /// };
    /// let mut region = builder.build()?;
    /// let stopped = region.fill(.., 7).unwrap_err();
    /// assert_eq!(stopped.copied, 3 * page_size());
    /// assert_eq!(stopped.refusal.reason, RefusalReason::Filter);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub unsafe fn filter(
        mut self,
        filter: impl Fn(&PageFault) -> FaultAnswer + Send + Sync + 'static,
    ) -> Self {
        // SAFETY: the caller's promise.
        self.filter = Some(unsafe { Filter::new(filter) });
        self
    }

    /// Reserves, and registers with the fault handler, which the first region installs. None → Reserved.
    ///
    /// # Errors
    /// As [`DemandRegion::new`]; [`BadAlignment`](Error::BadAlignment);
    /// [`Unsupported`](Error::Unsupported) for an engine or explicit huge pages that this system does not
    /// have.
    ///
    /// ```
    /// use pagewise::{DemandRegion, Error};
    ///
    /// let odd = DemandRegion::builder(1 << 30).align(3).build();
    /// assert!(matches!(odd, Err(Error::BadAlignment { align: 3 })));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn build(self) -> Result<DemandRegion, Error> {
        if !cfg!(any(miri, pagewise_model)) {
            fault::install()?;
        }
        let reservation = self.reservation.build()?;
        let block = reservation.page().page_of(reservation.huge_page_size());
        let huge = reservation.page().page_of(reservation.huge_pages_of_runs());
        let start = reservation.as_ptr().addr();
        let end = start + reservation.len();
        let registered = Registered {
            guests: ptr::null(),
            start,
            end,
            owner: ptr::null(),
            file: &[],
            serve,
            forked,
        };
        let mut core = Box::new(Core {
            reservation,
            step: StepPolicy::new(self.step, block, huge),
            filter: self.filter,
            events: EventRing::new(self.events),
            counters: Counters::default(),
            repeats: Repeats::new(),
            registered,
        });
        core.registered.owner = ptr::from_ref(&*core).cast();
        // SAFETY: the box keeps the entry in its place until `drop` or `release` unregisters it; the
        // addresses belong to its reservation alone.
        unsafe { fault::register(&core.registered) };
        Ok(DemandRegion { core })
    }
}
