//! Address space that is reserved once and committed as it is needed.
//!
//! A page of a reservation is in one of these states; each function says which transition it makes.
//!
//! ```text
//! None ──reserve──▶ Reserved ──commit──▶ Committed ──touch/prefault──▶ Resident
//!                      ▲                    │                              │
//!                      └──────decommit──────┴──────────────────────────────┘      release: any ──▶ None
//! ```
//!
//! Every operation on pages holds them in [`PageStates`] while it works, counts in [`Account`], and has
//! the engine ([`ChosenEngine`]) call the system in between:
//!
//! - `commit.rs`: explicit commit and decommit.
//! - `serving.rs`: commits for the fault handler.
//! - `committed.rs`: operations on pages that stay committed (zero, discard, protect, lock, …).
//! - `forks.rs`: in the child of a fork, ends operations that threads of the parent had begun.

use std::fmt;
use std::ops::{Range, RangeBounds};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use crate::error::Error;
use crate::os::{self, Attributes, Cause, HugePages, OsError};
use crate::page::{PageRange, PageSize};
use crate::sync::Forks;
pub(crate) use budget::Account;
use engines::{ChosenEngine, Ground};
use pages::PageStates;

mod budget;
mod builder;
mod commit;
mod committed;
mod engines;
mod forks;
#[cfg(all(test, loom, target_os = "linux"))]
mod models;
mod page_map;
mod pages;
mod serving;

pub use budget::{Budget, BudgetGuard};
pub use builder::ReservationBuilder;
pub(crate) use builder::reservation_options;
pub use engines::Engine;
pub use page_map::{PageMap, PageRun, PageState};
pub(crate) use serving::Served;

/// A range of addresses whose pages are committed and decommitted explicitly.
///
/// A reservation never moves and never grows: its addresses are its own until it is dropped. It
/// hands out a raw pointer; reading or writing through it is sound for pages that are
/// [committed](Self::commit), until they are decommitted.
///
/// All methods may be called from any thread, at the same time. An operation on a range holds its
/// pages while it works; others that want the same pages wait.
///
/// ```
/// use pagewise::{Reservation, page_size};
///
/// let memory = Reservation::new(1 << 30)?; // a gigabyte of addresses: costs nothing
/// memory.commit(0..10)?;                   // the page that holds bytes 0 to 9
/// assert_eq!(memory.committed(), page_size());
/// unsafe { memory.as_ptr().write(42) };    // sound: the page is committed
/// memory.decommit(0..page_size())?;
/// assert_eq!(memory.committed(), 0);
/// memory.release()?;
/// # Ok::<(), pagewise::Error>(())
/// ```
pub struct Reservation {
    /// Invariant: `mapping` is the start of `mapping_len` bytes of addresses that belong to this
    /// value alone, and `start .. start + len` lies inside them, aligned to pages.
    mapping: NonNull<u8>,
    mapping_len: usize,
    start: NonNull<u8>,
    len: usize,
    page: PageSize,
    /// Bytes of the huge pages that long runs get; zero if they get none.
    huge_pages_of_runs: usize,
    /// Invariants: a page that is committed and not busy is readable and writable, unless `protect` set other
    /// rights. `account` counts the pages that are committed here, and those that an operation holds to
    /// commit or decommit them.
    states: PageStates,
    account: Account,
    engine: ChosenEngine,
    attributes: Attributes,
    was_protected: AtomicBool,
    /// How many operations are taking access away from committed pages. Each is counted before its first system
    /// call: while this is zero, a held page that is committed has the access that it had before.
    decommits: AtomicUsize,
    /// Repairs the reservation on its first use in the child of a fork.
    forks: Forks,
    /// Keeps `drop` from releasing the mapping a second time.
    is_released: bool,
}

// SAFETY: the addresses belong to this value alone, whichever thread uses it.
unsafe impl Send for Reservation {}
// SAFETY: what methods change through `&self` is atomic, or held in `states` while it changes.
unsafe impl Sync for Reservation {}

/// Bytes of a transparent huge page where pages are 4 KiB. Systems with larger pages have larger huge pages,
/// to which reservations are not aligned.
pub(crate) const HUGE_PAGE: usize = 2 << 20;

/// With [`HugePages::Adaptive`], runs get huge pages from this length on: an eighth of it is a huge page.
pub(crate) const LONG_RUN: usize = 8 * HUGE_PAGE;

impl Reservation {
    /// Reserves at least `len` bytes, rounded up to whole pages, with no access. None → Reserved.
    ///
    /// # Errors
    /// [`ZeroLength`](Error::ZeroLength), [`Overflow`](Error::Overflow) beyond `isize::MAX`,
    /// [`AddressSpaceExhausted`](Error::AddressSpaceExhausted),
    /// [`MappingsExhausted`](Error::MappingsExhausted) where the process has no mapping left, or
    /// [`Locked`](Error::Locked) where new memory would be locked and no more may be.
    ///
    /// ```
    /// use pagewise::{Error, Reservation};
    ///
    /// let huge = Reservation::new(1 << 42)?; // 4 TiB: fine, they are only addresses
    /// assert_eq!(huge.committed(), 0);
    /// assert!(matches!(Reservation::new(0), Err(Error::ZeroLength)));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn new(len: usize) -> Result<Self, Error> {
        Self::builder(len).build()
    }

    /// Starts a reservation with options: alignment, guard pages, limits, a name, and more.
    ///
    /// ```
    /// let stack = pagewise::Reservation::builder(1 << 20).guard_pages(1).build()?;
    /// stack.commit(..)?; // the guards around it stay inaccessible
    /// assert_eq!(stack.committed(), stack.len());
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn builder(len: usize) -> ReservationBuilder {
        ReservationBuilder::new(len)
    }

    /// Returns the address of the first byte. Aligned to
    /// [`reserve_granularity`](crate::reserve_granularity) at least (to the page size where there are
    /// guard pages).
    ///
    /// ```
    /// let memory = pagewise::Reservation::new(1 << 30)?;
    /// let page = memory.as_ptr().wrapping_add(1 << 20);
    /// memory.commit(1 << 20..(1 << 20) + 8)?; // sound to access only from now on
    /// unsafe { page.cast::<u64>().write(7) };
    /// assert_eq!(unsafe { page.cast::<u64>().read() }, 7);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Returns the bytes that are reserved: what was asked for, rounded up to whole pages.
    ///
    /// ```
    /// let memory = pagewise::Reservation::new(1)?;
    /// assert_eq!(memory.len(), pagewise::page_size());
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[allow(clippy::len_without_is_empty)] // a reservation is never empty
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns the bytes that are committed now: whole pages. Exact whenever no operation is under way.
    ///
    /// ```
    /// let memory = pagewise::Reservation::new(1 << 30)?;
    /// memory.commit(0..1)?;
    /// memory.commit(0..10)?; // the same page: counted once
    /// assert_eq!(memory.committed(), memory.page_size());
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn committed(&self) -> usize {
        self.end_what_the_parent_did();
        self.account.own().used()
    }

    /// Returns the most bytes that were ever committed at once.
    ///
    /// ```
    /// let memory = pagewise::Reservation::new(1 << 30)?;
    /// memory.commit(..1 << 20)?;
    /// memory.decommit(..)?;
    /// assert_eq!((memory.committed(), memory.peak()), (0, 1 << 20));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn peak(&self) -> usize {
        self.account.own().peak()
    }

    /// Returns the bytes that may be committed at most: the limit given to the builder or to
    /// [`set_limit`](Self::set_limit), rounded down to whole pages, or the length.
    ///
    /// ```
    /// use pagewise::{Reservation, page_size};
    ///
    /// let memory = Reservation::builder(1 << 30).limit(2 * page_size() - 1).build()?;
    /// assert_eq!(memory.limit(), page_size());
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn limit(&self) -> usize {
        self.account.own().limit()
    }

    /// Changes the limit to `bytes`, rounded down to whole pages; all of the reservation is the most.
    ///
    /// A limit below what is committed is refused, so that the limit holds at every moment, whatever other threads
    /// commit meanwhile. To stop all further commits, lower it to what is [committed](Self::committed).
    ///
    /// # Errors
    /// [`LimitBelowUse`](Error::LimitBelowUse), with what is committed; then the limit is as before.
    ///
    /// ```
    /// use pagewise::{Error, Reservation, page_size};
    ///
    /// let memory = Reservation::builder(1 << 30).limit(page_size()).build()?;
    /// assert!(memory.commit(..2 * page_size()).is_err());
    /// memory.set_limit(2 * page_size())?;
    /// memory.commit(..2 * page_size())?;
    /// assert!(matches!(memory.set_limit(page_size()), Err(Error::LimitBelowUse { .. })));
    /// memory.set_limit(usize::MAX)?; // everything that is reserved
    /// assert_eq!(memory.limit(), memory.len());
    /// # Ok::<(), Error>(())
    /// ```
    pub fn set_limit(&self, bytes: usize) -> Result<(), Error> {
        self.end_what_the_parent_did();
        let limit = self.page.round_down(bytes.min(self.len));
        self.account.set_limit(limit).map_err(|used| Error::LimitBelowUse { limit, used })
    }

    /// Returns the bytes of a page of this reservation: [`page_size`](crate::page_size), unless it is made
    /// of explicit huge pages.
    ///
    /// ```
    /// let memory = pagewise::Reservation::new(1 << 30)?;
    /// assert_eq!(memory.page_size(), pagewise::page_size());
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn page_size(&self) -> usize {
        self.page.bytes()
    }

    pub(crate) fn page(&self) -> PageSize {
        self.page
    }

    /// Bytes of the transparent huge pages that were asked for; zero if none were.
    pub(crate) fn huge_page_size(&self) -> usize {
        let wanted = self.attributes.huge_pages == HugePages::Transparent && self.len >= HUGE_PAGE;
        if wanted { HUGE_PAGE } else { 0 }
    }

    pub(crate) fn huge_pages(&self) -> HugePages {
        self.attributes.huge_pages
    }

    /// Bytes of the huge pages that long runs get; zero if they get none. The start is aligned to them.
    pub(crate) fn huge_pages_of_runs(&self) -> usize {
        self.huge_pages_of_runs
    }

    /// Returns which pages are reserved, committed, resident, huge, swapped: now.
    ///
    /// # Errors
    /// [`System`](Error::System) where the system does not tell what is resident.
    ///
    /// ```
    /// use pagewise::{Reservation, page_size};
    ///
    /// let memory = Reservation::new(4 * page_size())?;
    /// memory.commit(page_size()..3 * page_size())?;
    /// let map = memory.page_map()?;
    /// assert_eq!((map.committed(), map.resident()), (2, 0)); // nothing was touched
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn page_map(&self) -> Result<PageMap, Error> {
        PageMap::of(self)
    }

    /// Returns whether every byte of a range is committed: `false`, too, where the range reaches outside. Exact
    /// whenever no operation on the range is under way.
    ///
    /// ```
    /// use pagewise::{Reservation, page_size};
    ///
    /// let memory = Reservation::new(4 * page_size())?;
    /// memory.commit(page_size()..2 * page_size())?;
    /// assert!(memory.is_committed(page_size()..page_size() + 1));
    /// assert!(!memory.is_committed(0..2 * page_size()));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn is_committed(&self, range: impl RangeBounds<usize>) -> bool {
        self.end_what_the_parent_did();
        self.page.outward(range, self.len).is_ok_and(|pages| self.states.are_committed(pages))
    }

    /// Returns the committed parts, in ascending order, as byte ranges from the start: whole pages, with a gap
    /// between any two. Visits only parts where something was ever committed, so it is cheap for a
    /// sparse reservation of any length.
    ///
    /// Pages that other threads commit or decommit meanwhile may or may not be in it.
    ///
    /// ```
    /// use pagewise::{Reservation, page_size};
    ///
    /// let memory = Reservation::new(1 << 40)?;
    /// memory.commit(1 << 30..(1 << 30) + 1)?;
    /// memory.commit(1 << 35..(1 << 35) + 1)?;
    /// let starts: Vec<usize> = memory.committed_ranges().map(|range| range.start).collect();
    /// assert_eq!(starts, [1 << 30, 1 << 35]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn committed_ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.end_what_the_parent_did();
        let end = self.page.page_of(self.len);
        let mut reached = 0;
        std::iter::from_fn(move || {
            let first = self.states.find_committed(reached, end)?;
            reached = self.states.find_reserved(first, end).unwrap_or(end);
            Some(first * self.page.bytes()..reached * self.page.bytes())
        })
    }

    pub(crate) fn states(&self) -> &PageStates {
        &self.states
    }

    /// Whether any page is held, so that the next operation on it would wait. For tests of refusals.
    #[cfg(any(pagewise_model, pagewise_refusals))]
    #[doc(hidden)]
    pub fn holds_pages(&self) -> bool {
        let mut held = false;
        let all = self.page.pages(0, self.states.pages());
        self.states.for_each_held_run(all, |_| held = true);
        held
    }

    /// Gives the addresses back. Any → None. Dropping does the same, and cannot report an error.
    ///
    /// # Errors
    /// [`MappingsExhausted`](Error::MappingsExhausted) (Linux merges neighbouring mappings, and unmapping the middle of
    /// one needs another), or [`System`](Error::System) (for instance for memory that the program sealed, `mseal(2)`).
    /// The memory is given back all the same, where the system allows that; the addresses stay taken.
    ///
    /// ```
    /// let memory = pagewise::Reservation::new(1 << 30)?;
    /// memory.commit(..1 << 20)?;
    /// memory.release()?; // committed or not, everything is gone
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn release(mut self) -> Result<(), Error> {
        self.release_now()
    }

    fn release_now(&mut self) -> Result<(), Error> {
        // Also where releasing fails: a second attempt could unmap addresses that were reused meanwhile.
        self.is_released = true;
        self.end_what_the_parent_did();
        // SAFETY: the mapping belongs to this value, which is not used afterwards.
        let result = unsafe { os::release(self.mapping, self.mapping_len) };
        if result.is_err() {
            // Linux merges neighbouring mappings, and needs a free mapping to cut this one out. At
            // `vm.max_map_count` it cannot: the addresses stay mapped, and only the memory is returned.
            // SAFETY: as above.
            unsafe { os::empty(self.mapping, self.mapping_len) };
        }
        // After the memory is free, so that another reservation that takes these bytes from the budget can
        // get them from the system.
        self.account.decommitted(self.account.own().used());
        result.map_err(|error| {
            self.operation_error("release", self.page.pages(0, self.page.page_of(self.len)), error)
        })
    }

    /// Takes pages for an operation, waiting for those that others hold.
    fn hold(&self, range: PageRange, operation: &'static str) -> Result<(), Error> {
        self.end_what_the_parent_did();
        self.states.lock(range).map_err(|error| self.operation_error(operation, range, error))
    }

    fn ground(&self) -> Ground<'_> {
        Ground {
            start: self.start,
            states: &self.states,
            size: self.page,
            attributes: &self.attributes,
        }
    }

    pub(crate) fn address(&self, range: PageRange) -> NonNull<u8> {
        // SAFETY: page ranges are made by checking against `len`.
        unsafe { self.start.add(range.offset()) }
    }

    fn operation_error(&self, operation: &'static str, range: PageRange, error: OsError) -> Error {
        let source = error.into();
        match os::diagnose(error) {
            Cause::Mappings { mappings, max } => {
                Error::MappingsExhausted { operation, mappings, max, source }
            }
            Cause::Locked => Error::Locked { operation, len: range.len(), source },
            // Beyond `RLIMIT_MEMLOCK`, `mlock(2)` returns `ENOMEM`, too.
            Cause::OutOfMemory if operation == "lock" => {
                Error::Locked { operation, len: range.len(), source }
            }
            Cause::OutOfMemory | Cause::Unsupported | Cause::Other => {
                Error::System { operation, source }
            }
        }
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation")
            .field("start", &self.start)
            .field("len", &self.len)
            .field("committed", &self.committed())
            .field("limit", &self.limit())
            .finish_non_exhaustive()
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.is_released {
            // `drop` cannot return the error; `release` does.
            let _ = self.release_now();
        }
    }
}
