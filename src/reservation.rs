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
//! Every operation on pages holds them in [`PageStates`] while it works, counts in [`Account`], and
//! calls the system in between: this file is the only one where the three meet.

use std::ffi::CString;
use std::fmt;
use std::ops::{Range, RangeBounds};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::budget::{Account, Budget, Shortage};
use crate::error::Error;
use crate::os::{self, Access, Attributes, Cause, HugePages, OsError};
use crate::page::{PageRange, PageSize, byte_range};
use crate::page_map::PageMap;
use crate::page_states::{Claim, PageStates};
use crate::sync::Forks;
use engines::{Backing, Ground};

mod engines;

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
    /// Invariant: a page that is committed here and not busy is accessible as far as `protect` was
    /// not asked otherwise; what is counted in `account` is what is committed here, or held by an
    /// operation that is about to say so.
    states: PageStates,
    account: Account,
    backing: Backing,
    attributes: Attributes,
    was_protected: AtomicBool,
    /// The process that this state was last seen in.
    forks: Forks,
    /// The mapping is gone, and not to be released again.
    is_released: bool,
}

// SAFETY: the addresses belong to this value alone, whichever thread uses it.
unsafe impl Send for Reservation {}
// SAFETY: what methods change through `&self` is atomic, or held in `states` while it changes.
unsafe impl Sync for Reservation {}

/// A transparent huge page where pages are 4 KiB. (Larger pages have larger huge pages, which come
/// where they happen to fit.)
const HUGE_PAGE: usize = 2 << 20;

/// What the fault handler did about a page.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Served {
    /// These pages were committed, the wanted one among them.
    Committed(PageRange),
    /// Somebody else had committed the page before.
    Already,
    /// Somebody else is changing the page: look again in a moment.
    Busy,
}

/// Why the fault handler did not commit a page.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ServeError {
    Limit(Shortage),
    System(OsError),
}

impl Reservation {
    /// Reserves at least `len` bytes, rounded up to whole pages, with no access. None → Reserved.
    ///
    /// # Errors
    /// [`ZeroLength`](Error::ZeroLength), [`Overflow`](Error::Overflow) beyond `isize::MAX`, or
    /// [`AddressSpaceExhausted`](Error::AddressSpaceExhausted).
    pub fn new(len: usize) -> Result<Self, Error> {
        Self::builder(len).build()
    }

    /// Reserves with options: alignment, guard pages, limits, a name, and more.
    pub fn builder(len: usize) -> ReservationBuilder {
        ReservationBuilder::new(len)
    }

    /// The first byte. Aligned to [`reserve_granularity`](crate::reserve_granularity) at least
    /// (to the page size where there are guard pages).
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Bytes that are reserved: what was asked for, rounded up to whole pages.
    #[allow(clippy::len_without_is_empty)] // a reservation is never empty
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes that are committed now. Exact whenever no operation is under way.
    pub fn committed(&self) -> usize {
        self.end_what_the_parent_did();
        self.account.own().used()
    }

    /// The most bytes that were ever committed at once.
    pub fn peak(&self) -> usize {
        self.account.own().peak()
    }

    /// Bytes that may be committed at most: the limit given to the builder, rounded down to whole
    /// pages, or the length.
    pub fn limit(&self) -> usize {
        self.account.own().limit()
    }

    /// Bytes of a page of this reservation: [`page_size`](crate::page_size), unless it is made of
    /// explicit huge pages.
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

    /// Makes a range usable: readable, writable, zero where it is new. Reserved → Committed.
    ///
    /// Rounds outward to whole pages. Pages that are committed already keep what they hold (and the
    /// access that [`protect`](Self::protect) gave them). All or nothing: what fails half-way is
    /// rolled back.
    ///
    /// # Errors
    /// [`BudgetReached`](Error::BudgetReached), [`CommitRefused`](Error::CommitRefused),
    /// [`MappingsExhausted`](Error::MappingsExhausted), or a bad range.
    pub fn commit(&self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        self.commit_pages(self.page.outward(range, self.len)?, OnRefusal::RollBack)
    }

    /// Like [`commit`](Self::commit), for memory that other threads may be faulting into: pages that
    /// were committed before the system refused stay, since somebody may have written to them.
    pub(crate) fn commit_among_faults(&self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        self.commit_pages(self.page.outward(range, self.len)?, OnRefusal::KeepPrefix)
    }

    fn commit_pages(&self, range: PageRange, on_refusal: OnRefusal) -> Result<(), Error> {
        if range.is_empty() || self.states.all_committed(range) {
            return Ok(());
        }
        self.hold(range, "commit")?;
        let missing = self.page.bytes() * (range.count() - self.states.count_committed(range));
        if let Err(Shortage { used, limit }) = self.account.take_exactly(missing) {
            self.states.unlock(range);
            let offset = range.offset();
            return Err(Error::BudgetReached { offset, requested: missing, used, limit });
        }
        let mut done = range.first();
        let result = self.states.for_each_run(range, |run, is_committed| {
            done = run.first();
            if is_committed {
                return Ok(());
            }
            // SAFETY: the run is held and reserved.
            unsafe { self.backing.commit(self.ground(), run) }
        });
        match result {
            Ok(()) => {
                self.account.committed(missing);
                self.states.unlock_committed(range);
                self.backing.committed(self.ground(), range);
                Ok(())
            }
            Err(error) => {
                let failed =
                    range.with(done, self.states.run(range.with(done, range.end())).0.end());
                Err(self.undo_commit(range, failed, missing, error, on_refusal))
            }
        }
    }

    /// After a refusal at `failed`: everything that was reserved goes back, or what comes before the
    /// refused page stays.
    fn undo_commit(
        &self,
        range: PageRange,
        failed: PageRange,
        taken: usize,
        error: OsError,
        on_refusal: OnRefusal,
    ) -> Error {
        let reason = self.commit_error(failed, error);
        let kept_end = match on_refusal {
            OnRefusal::RollBack => range.first(),
            OnRefusal::KeepPrefix => self.commit_prefix(failed),
        };
        let (kept, rest) = (range.with(range.first(), kept_end), range.with(kept_end, range.end()));
        let mut kept_bytes = 0;
        let _ = self.states.for_each_run(kept, |run, is_committed| {
            kept_bytes += if is_committed { 0 } else { run.len() };
            Ok(())
        });
        let _ = self.states.for_each_run(rest, |run, is_committed| {
            if !is_committed && on_refusal == OnRefusal::RollBack && run.first() <= failed.first() {
                // Where even this is refused, the pages are accessible but count as reserved: no
                // data is lost, and the next commit finds them as it expects.
                // SAFETY: the run is held, was reserved, and nobody was told that it is committed.
                let _ = unsafe { self.backing.settle(self.ground(), run, false) };
            }
            Ok(())
        });
        self.account.return_untouched(taken - kept_bytes);
        self.account.committed(kept_bytes);
        self.states.unlock_committed(kept);
        self.states.unlock(rest);
        reason
    }

    /// Commits as much as the system grants from the start of a held, reserved run, after it refused
    /// the whole, and returns the page index where it ended. Async-signal-safe.
    ///
    /// The system commits in ascending order, so that halving finds the edge in a few calls, and
    /// where a single page is refused, nothing behind it was committed by the calls before.
    fn commit_prefix(&self, run: PageRange) -> usize {
        let (mut at, mut size) = (run.first(), run.count());
        while at < run.end() {
            let part = run.with(at, run.end().min(at + size));
            // SAFETY: the part lies inside the run, which the caller holds.
            match unsafe { self.backing.commit(self.ground(), part) } {
                Ok(()) => at = part.end(),
                Err(_) if size > 1 => size = size.div_ceil(2),
                Err(_) => break,
            }
        }
        at
    }

    /// Commits pages for the fault handler: `page`, and of `wanted` what is free, without a gap, as
    /// far as limits and system allow. Async-signal-safe; the state of every page is exact on return.
    pub(crate) fn serve(&self, page: usize, wanted: PageRange) -> Result<Served, ServeError> {
        let claimed = match self.states.claim(page, wanted).map_err(ServeError::System)? {
            Claim::Claimed(claimed) => claimed,
            Claim::Committed => return Ok(Served::Already),
            Claim::Busy => return Ok(Served::Busy),
        };
        let granted = match self.account.take_up_to(claimed.len(), self.page.bytes()) {
            Ok(bytes) => self.shrink_claim(page, claimed, bytes),
            Err(shortage) => {
                self.states.unlock(claimed);
                return Err(ServeError::Limit(shortage));
            }
        };
        // SAFETY: the pages are held and reserved.
        match unsafe { self.backing.commit(self.ground(), granted) } {
            Ok(()) => {
                self.publish(granted);
                Ok(Served::Committed(granted))
            }
            Err(error) => self.serve_less(page, granted, error),
        }
    }

    /// Ends the commit of held pages that are accessible and paid for: prefaults, counts and frees them.
    ///
    /// Prefaulting comes first. Some systems prefault by touching, and once the pages are free, another
    /// thread may decommit them: then the touch would fault inside the fault handler.
    fn publish(&self, range: PageRange) {
        if range.is_empty() {
            return;
        }
        self.prefault_pages(range);
        self.account.committed(range.len());
        self.states.unlock_committed(range);
        self.backing.committed(self.ground(), range);
    }

    /// Frees what the limits did not grant of a claim: pages before `page` first, then those behind.
    fn shrink_claim(&self, page: usize, claimed: PageRange, bytes: usize) -> PageRange {
        let pages = bytes / self.page.bytes();
        let first = page.min(claimed.end() - pages);
        let granted = claimed.with(first, first + pages);
        self.states.unlock(claimed.with(claimed.first(), granted.first()));
        self.states.unlock(claimed.with(granted.end(), claimed.end()));
        granted
    }

    /// After the system refused a batch: the prefix that it grants, then the one page by itself.
    #[cold]
    #[inline(never)]
    fn serve_less(
        &self,
        page: usize,
        granted: PageRange,
        error: OsError,
    ) -> Result<Served, ServeError> {
        let end = self.commit_prefix(granted);
        let prefix = granted.with(granted.first(), end);
        if page < end {
            self.give_up_claim(granted.with(end, granted.end()));
            self.publish(prefix);
            return Ok(Served::Committed(prefix));
        }
        let one = granted.with(page, page + 1);
        // SAFETY: the page is part of the claim that is still held.
        let alone = unsafe { self.backing.commit(self.ground(), one) };
        self.give_up_claim(granted.with(end, page));
        self.give_up_claim(granted.with(page + 1, granted.end()));
        self.publish(prefix);
        match alone {
            Ok(()) => {
                self.publish(one);
                Ok(Served::Committed(one))
            }
            Err(_) => {
                self.give_up_claim(one);
                Err(ServeError::System(error))
            }
        }
    }

    /// Frees pages that were claimed and paid for, and did not become accessible.
    fn give_up_claim(&self, pages: PageRange) {
        self.account.return_untouched(pages.len());
        self.states.unlock(pages);
    }

    /// Makes a range inaccessible and returns its memory and its commit charge to the system.
    /// Committed → Reserved.
    ///
    /// Rounds inward: only pages that lie whole inside the range. Pages that are not committed stay
    /// reserved. The next commit reads zero. Works from the end of the range towards its start; what
    /// is refused, and everything before it, stays as it was.
    ///
    /// # Errors
    /// [`MappingsExhausted`](Error::MappingsExhausted), or a bad range.
    pub fn decommit(&self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        let range = self.page.inward(range, self.len)?;
        // From the end: where the system refuses half-way, what was a committed prefix still is one.
        for part in self.states.written_parts(range).rev() {
            self.decommit_part(part)?;
        }
        Ok(())
    }

    fn decommit_part(&self, part: PageRange) -> Result<(), Error> {
        let held = self.backing.decommit_unit(part);
        self.hold(held, "decommit")?;
        let mut done = |pages| {
            let bytes = self.states.count_committed(pages) * self.page.bytes();
            self.states.mark_reserved(pages);
            self.account.decommitted(bytes);
        };
        // SAFETY: all that belongs together is held; the contents are the caller's to give up.
        let result = unsafe { self.backing.decommit(self.ground(), part, &mut done) };
        self.states.unlock(held);
        result.map_err(|error| self.operation_error("decommit", part, error))
    }

    /// Makes exactly the bytes of a range read zero; committed pages stay committed and charged, and others
    /// stay reserved: they read zero once they are committed.
    ///
    /// Whole pages are zeroed by the system, which may take their memory; bytes of a page that is only
    /// partly inside the range are written. Pages that were [protected](Self::protect) may be read-write
    /// afterwards.
    ///
    /// ```
    /// let memory = pagewise::Reservation::new(1 << 20)?;
    /// memory.commit(0..100)?;
    /// let bytes = unsafe { std::slice::from_raw_parts_mut(memory.as_ptr(), 100) };
    /// bytes.fill(7);
    /// memory.zero(10..20)?;
    /// assert_eq!((bytes[9], bytes[10], bytes[19], bytes[20]), (7, 0, 0, 7));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    ///
    /// # Errors
    /// A bad range, or what the system says.
    pub fn zero(&self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        let (start, end) = byte_range(range, self.len)?;
        let whole = self.page.inward(start..end, self.len)?;
        if whole.is_empty() {
            // At most two pages, none of them whole.
            let cut = self.page.round_down(end).max(start);
            self.zero_part_of_page(start..cut)?;
            return self.zero_part_of_page(cut..end);
        }
        self.zero_part_of_page(start..whole.offset())?;
        self.on_committed(whole, "zero", |start, len| {
            // SAFETY: the run is held and committed; the caller gives up its contents.
            unsafe { self.backing.zero(start, len, &self.was_protected) }
        })?;
        self.zero_part_of_page(whole.offset() + whole.len()..end)
    }

    /// Zeroes bytes of one page, if it is committed.
    fn zero_part_of_page(&self, bytes: Range<usize>) -> Result<(), Error> {
        if bytes.is_empty() {
            return Ok(());
        }
        let page = self.page.page_of(bytes.start);
        let pages = self.page.pages(page, page + 1);
        self.on_committed(pages, "zero", |address, len| {
            // SAFETY: the page is held and committed, and the bytes lie inside it; the caller gives up
            // what they hold.
            unsafe {
                if self.was_protected.load(Ordering::Relaxed) {
                    os::protect(address, len, Access::ReadWrite)?;
                }
                self.start.add(bytes.start).write_bytes(0, bytes.len());
            }
            Ok(())
        })
    }

    /// Gives up the contents of a range without giving up its pages: it stays committed and charged,
    /// and holds anything until it is written again. The system takes the memory when it needs it.
    ///
    /// Rounds inward. Pages that are not committed are left alone.
    ///
    /// # Errors
    /// A bad range, or what the system says.
    pub fn discard(&self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        let range = self.page.inward(range, self.len)?;
        // SAFETY: the runs are held and committed; the caller gives up their contents.
        self.on_committed(range, "discard", |start, len| unsafe { os::discard(start, len) })
    }

    fn on_committed(
        &self,
        range: PageRange,
        operation: &'static str,
        call: impl Fn(NonNull<u8>, usize) -> Result<(), OsError>,
    ) -> Result<(), Error> {
        for part in self.states.written_parts(range) {
            self.hold(part, operation)?;
            let result = self.states.for_each_run(part, |run, is_committed| {
                if is_committed { call(self.address(run), run.len()) } else { Ok(()) }
            });
            self.states.unlock(part);
            result.map_err(|error| self.operation_error(operation, part, error))?;
        }
        Ok(())
    }

    /// Changes the access rights of committed pages. Never changes what is charged.
    ///
    /// Rounds outward to whole pages.
    ///
    /// # Errors
    /// [`NotCommitted`](Error::NotCommitted) where a page is not (and nothing is changed), a bad
    /// range, or what the system says.
    pub fn protect(&self, range: impl RangeBounds<usize>, access: Access) -> Result<(), Error> {
        if access != Access::ReadWrite {
            self.was_protected.store(true, Ordering::Relaxed);
        }
        // SAFETY: the range is held and committed.
        self.on_all_committed(range, "protect", |start, len| unsafe {
            os::protect(start, len, access)
        })
    }

    /// Makes committed pages resident now, so that the first touch costs nothing. Committed →
    /// Resident.
    ///
    /// Best effort: where the system cannot, or after a page of this reservation was
    /// [protected](Self::protect) on a system that prefaults by touching, the first touch does it.
    /// Rounds outward to whole pages.
    ///
    /// # Errors
    /// [`NotCommitted`](Error::NotCommitted) where a page is not, or a bad range.
    pub fn prefault(&self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        let may_touch = !(os::PREFAULT_TOUCHES && self.was_protected.load(Ordering::Relaxed));
        self.on_all_committed(range, "prefault", |start, len| {
            if may_touch {
                // SAFETY: the range is held, committed, and accessible where that matters.
                unsafe { os::prefault(start, len) };
            }
            Ok(())
        })
    }

    /// Prefaults pages that were committed just now. Async-signal-safe.
    pub(crate) fn prefault_pages(&self, range: PageRange) {
        if self.backing.commits_resident() {
            return;
        }
        // SAFETY: the pages are committed and accessible; populating changes no contents.
        unsafe { os::prefault(self.address(range), range.len()) };
    }

    /// Keeps committed pages in physical memory (`mlock`, `VirtualLock`). Rounds outward.
    ///
    /// # Errors
    /// [`Locked`](Error::Locked) beyond what the system lets a process lock,
    /// [`NotCommitted`](Error::NotCommitted), or a bad range.
    pub fn lock(&self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        // SAFETY: the range is held and committed.
        self.on_all_committed(range, "lock", |start, len| unsafe { os::lock(start, len) })
    }

    /// Undoes [`lock`](Self::lock). Rounds outward.
    ///
    /// # Errors
    /// [`NotCommitted`](Error::NotCommitted), a bad range, or what the system says.
    pub fn unlock(&self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        // SAFETY: the range is held and committed.
        self.on_all_committed(range, "unlock", |start, len| unsafe { os::unlock(start, len) })
    }

    fn on_all_committed(
        &self,
        range: impl RangeBounds<usize>,
        operation: &'static str,
        call: impl Fn(NonNull<u8>, usize) -> Result<(), OsError>,
    ) -> Result<(), Error> {
        let range = self.page.outward(range, self.len)?;
        if range.is_empty() {
            return Ok(());
        }
        if !self.states.is_committed(range.first()) {
            return Err(Error::NotCommitted { operation, offset: range.offset() });
        }
        self.hold(range, operation)?;
        let (run, is_committed) = self.states.run(range);
        let result = if !is_committed {
            Err(Error::NotCommitted { operation, offset: range.offset() })
        } else if run != range {
            let offset = range.with(run.end(), range.end()).offset();
            Err(Error::NotCommitted { operation, offset })
        } else {
            call(self.address(range), range.len())
                .map_err(|error| self.operation_error(operation, range, error))
        };
        self.states.unlock(range);
        result
    }

    /// Which pages are reserved, committed, resident, huge, swapped: now.
    ///
    /// # Errors
    /// What the system says about residency.
    pub fn page_map(&self) -> Result<PageMap, Error> {
        PageMap::of(self)
    }

    /// Whether every byte of a range is committed: `false`, too, where the range reaches outside. Exact
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

    /// The committed parts, in ascending order, as byte ranges from the start: whole pages, with a gap
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

    /// Gives the addresses back. Any → None. Dropping does the same, and cannot report an error.
    ///
    /// # Errors
    /// [`MappingsExhausted`](Error::MappingsExhausted) (Linux merges neighbouring mappings, and cutting one
    /// needs another), or what the system says (for instance about memory that somebody sealed). The
    /// memory was given back all the same, where the system allows that; the addresses stay taken.
    pub fn release(mut self) -> Result<(), Error> {
        self.release_now()
    }

    fn release_now(&mut self) -> Result<(), Error> {
        // Whatever happens, the value is gone: releasing twice could hit somebody else's memory.
        self.is_released = true;
        self.end_what_the_parent_did();
        // SAFETY: the mapping belongs to this value, which is not used afterwards.
        let result = unsafe { os::release(self.mapping, self.mapping_len) };
        if result.is_err() {
            // Linux needs a free mapping to cut a mapping that has merged with its neighbours. The addresses
            // stay taken then, but the memory goes back.
            // SAFETY: as above.
            unsafe { os::empty(self.mapping, self.mapping_len) };
        }
        // Only now: whoever takes from the budget what this gives back finds the memory free.
        self.account.decommitted(self.account.own().used());
        result.map_err(|error| {
            self.operation_error("release", self.page.pages(0, self.page.page_of(self.len)), error)
        })
    }

    /// In the child of a fork: ends what other threads of the parent were doing. Async-signal-safe. Only
    /// for one thread, while no other uses the reservation.
    fn end_abandoned_changes(&self) {
        self.backing.fork(self.ground());
        self.states.for_each_abandoned_run(self.page, |run, was_committed| {
            if was_committed {
                // It stays: whoever held it may have wanted only to look at it.
                return self.end_abandoned_change(run, true);
            }
            // A page that was being committed stays where it holds anything: a commit makes pages
            // accessible before it says so, and from then on any thread can have written to them. Reading
            // zero, it can go.
            let mut reached = run.first();
            // SAFETY: the thread that held the pages does not exist in this process.
            unsafe {
                self.backing.for_each_page_with_data(self.ground(), run, &mut |page| {
                    self.end_abandoned_change(run.with(reached, page.first()), false);
                    self.end_abandoned_change(page, true);
                    reached = page.end();
                });
            }
            self.end_abandoned_change(run.with(reached, run.end()), false);
        });
        self.account.recount(self.states.count_all_committed() * self.page.bytes());
    }

    fn end_abandoned_change(&self, run: PageRange, wanted: bool) {
        if run.is_empty() {
            return;
        }
        // SAFETY: the thread that held the pages does not exist in this process; where they are not
        // wanted, they hold nothing.
        if unsafe { self.backing.settle(self.ground(), run, wanted) } && wanted {
            self.states.unlock_committed(run);
        } else {
            self.states.unlock_reserved(run);
        }
    }

    /// Where this process is a child that was forked since the last call: ends what other threads of the
    /// parent were doing, before anything else is done here. Async-signal-safe.
    #[inline]
    pub(crate) fn end_what_the_parent_did(&self) {
        self.forks.catch_up(os::forks(), || self.end_abandoned_changes());
    }

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

    fn commit_error(&self, range: PageRange, error: OsError) -> Error {
        let (offset, len, source) = (range.offset(), range.len(), error.into());
        match os::diagnose(error) {
            Cause::Mappings { mappings, max } => {
                Error::MappingsExhausted { operation: "commit", mappings, max, source }
            }
            Cause::Locked => Error::Locked { operation: "commit", len, source },
            _ => Error::CommitRefused { offset, len, source },
        }
    }

    fn operation_error(&self, operation: &'static str, range: PageRange, error: OsError) -> Error {
        let source = error.into();
        match os::diagnose(error) {
            Cause::Mappings { mappings, max } => {
                Error::MappingsExhausted { operation, mappings, max, source }
            }
            Cause::Locked => Error::Locked { operation, len: range.len(), source },
            Cause::OutOfMemory if matches!(operation, "lock") => {
                Error::Locked { operation, len: range.len(), source }
            }
            _ => Error::System { operation, source },
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
            // What is refused now stays refused: `release` is for those who want to know.
            let _ = self.release_now();
        }
    }
}

/// In the child of a fork, before any reservation is looked at. Async-signal-safe.
#[cfg(unix)]
pub(crate) fn end_abandoned_changes() {
    engines::end_abandoned_changes();
}

/// What becomes of the pages before the one that the system refused.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnRefusal {
    RollBack,
    KeepPrefix,
}

/// How pages become accessible: see [`Backing`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mechanism {
    Protect,
    Guard,
    UserFault,
}

/// Options for a [`Reservation`].
///
/// ```
/// use pagewise::Reservation;
///
/// let memory = Reservation::builder(64 << 20)
///     .align(2 << 20)        // bytes; a power of two
///     .guard_pages(1)        // one inaccessible page before and one behind
///     .name("column store")  // shown in /proc/self/maps on Linux
///     .dump(false)           // keep it out of core dumps
///     .build()?;
/// assert_eq!(memory.as_ptr() as usize % (2 << 20), 0);
/// # Ok::<(), pagewise::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder reserves nothing until `build`"]
pub struct ReservationBuilder {
    len: usize,
    at_least: usize,
    mechanism: Mechanism,
    align: usize,
    guard_pages: usize,
    huge_pages: HugePages,
    limit: usize,
    budget: Option<Budget>,
    name: Option<String>,
    dump: bool,
}

impl ReservationBuilder {
    pub(crate) fn new(len: usize) -> Self {
        Self {
            len,
            at_least: len,
            mechanism: Mechanism::Protect,
            align: 1,
            guard_pages: 0,
            huge_pages: HugePages::System,
            limit: usize::MAX,
            budget: None,
            name: None,
            dump: true,
        }
    }

    /// How pages become accessible; what is not `Protect` must work here.
    pub(crate) fn mechanism(mut self, mechanism: Mechanism) -> Self {
        self.mechanism = mechanism;
        self
    }

    pub(crate) fn wants_explicit_huge_pages(&self) -> bool {
        self.huge_pages == HugePages::Explicit
    }

    /// Whether the guard engine would be the better one, by measured rules: see
    /// `docs/architecture.md`.
    pub(crate) fn wants_guard_markers(&self) -> bool {
        self.huge_pages == HugePages::System && os::guards_work() && !os::commits_strictly()
    }

    /// Adds what a user of a container's builder may have stated to its description.
    pub(crate) fn describe(&self, builder: &mut fmt::DebugStruct<'_, '_>) {
        if self.limit != usize::MAX {
            builder.field("limit", &self.limit);
        }
        if let Some(name) = &self.name {
            builder.field("name", name);
        }
    }

    /// Another length, for containers that know theirs last.
    pub(crate) fn len(mut self, len: usize) -> Self {
        self.len = len;
        self.at_least = len;
        self
    }

    /// Aligns the start to `align` bytes, a power of two. Smaller than the granularity: no effect.
    pub fn align(mut self, align: usize) -> Self {
        self.align = align;
        self
    }

    /// Keeps `pages` inaccessible pages before the start and behind the end. They are not part of
    /// the length and can never be committed.
    pub fn guard_pages(mut self, pages: usize) -> Self {
        self.guard_pages = pages;
        self
    }

    /// Huge pages, transparent or explicit; transparent ones align the start to them, too.
    pub fn huge_pages(mut self, huge_pages: HugePages) -> Self {
        self.huge_pages = huge_pages;
        self
    }

    /// Commits at most `bytes`, rounded down to whole pages.
    pub fn limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }

    /// Takes every commit from a budget, which other reservations may share.
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// A name for people who look at the process (Linux 5.17: `/proc/self/maps`). A wish: what does
    /// not fit (80 bytes of printable ASCII) is cut or replaced.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Whether core dumps contain the memory (Linux, FreeBSD). They do unless told otherwise.
    pub fn dump(mut self, dump: bool) -> Self {
        self.dump = dump;
        self
    }

    /// Takes less where the address space is small: halves the length until it fits, but not below
    /// `min` bytes.
    pub fn at_least(mut self, min: usize) -> Self {
        self.at_least = min;
        self
    }

    /// Reserves. None → Reserved.
    ///
    /// # Errors
    /// As [`Reservation::new`]; [`BadAlignment`](Error::BadAlignment);
    /// [`Unsupported`](Error::Unsupported) for explicit huge pages where there are none.
    pub fn build(self) -> Result<Reservation, Error> {
        if self.len == 0 {
            return Err(Error::ZeroLength);
        }
        if !self.align.is_power_of_two() {
            return Err(Error::BadAlignment { align: self.align });
        }
        let page = self.page()?;
        let (mut len, least) = (self.len, self.at_least.clamp(1, self.len));
        loop {
            match self.reserve(len, page) {
                Err(Error::AddressSpaceExhausted { .. }) if len > least => {
                    len = (len / 2).max(least);
                }
                other => return other,
            }
        }
    }

    fn page(&self) -> Result<PageSize, Error> {
        if self.huge_pages != HugePages::Explicit {
            return Ok(PageSize::system());
        }
        let size = os::explicit_huge_page_size().ok_or(Error::Unsupported {
            what: "explicit huge pages: the pool is empty (Linux: raise `vm.nr_hugepages`), or this \
                   system has none; transparent ones need no pool",
        })?;
        Ok(PageSize::of(size))
    }

    fn reserve(&self, len: usize, page: PageSize) -> Result<Reservation, Error> {
        let overflow = Error::Overflow { requested: self.len };
        let guard = self.guard_pages.checked_mul(page.bytes());
        let rounded = page.round_up(len).filter(|&len| len <= isize::MAX as usize);
        let (Some(len), Some(guard)) = (rounded, guard) else { return Err(overflow) };
        let align = self.align.max(page.bytes()).max(self.huge_page_alignment(len));
        // Guard pages come before the start: the start is aligned by leaving more room there.
        let before = if guard == 0 { Some(0) } else { guard.checked_next_multiple_of(align) };
        let mapping_len = before.and_then(|before| before.checked_add(len)?.checked_add(guard));
        let (Some(before), Some(mapping_len)) = (before, mapping_len) else { return Err(overflow) };
        let attributes = self.attributes(page);
        os::watch_forks()
            .map_err(|error| Error::System { operation: "pthread_atfork", source: error.into() })?;
        let mapping = os::reserve(mapping_len, align.max(os::reserve_granularity()), &attributes)
            .map_err(|error| self.reserve_error(mapping_len, error))?;
        // SAFETY: `before` lies inside the mapping.
        let start = unsafe { mapping.add(before) };
        let backing = self.backing(start, len, page).inspect_err(|_| {
            // SAFETY: nobody else knows the mapping.
            let _ = unsafe { os::release(mapping, mapping_len) };
        })?;
        Ok(Reservation {
            mapping,
            mapping_len,
            start,
            len,
            page,
            states: PageStates::new(page.page_of(len)),
            account: Account::new(page.round_down(self.limit.min(len)), self.budget.clone()),
            backing,
            attributes,
            was_protected: AtomicBool::new(false),
            forks: Forks::new(os::forks()),
            is_released: false,
        })
    }

    fn backing(&self, start: NonNull<u8>, len: usize, page: PageSize) -> Result<Backing, Error> {
        match self.mechanism {
            Mechanism::Protect => Ok(Backing::Protect),
            Mechanism::Guard => Ok(Backing::guard(page.page_of(len), page)),
            Mechanism::UserFault => Backing::user_fault(start, len).map_err(|_| Error::Unsupported {
                what: "the userfault engine: it needs Linux 5.11, and a system (or container) that \
                       allows userfaultfd; `Engine::Auto` takes what there is",
            }),
        }
    }

    /// Transparent huge pages come only to ranges that are aligned to them.
    fn huge_page_alignment(&self, len: usize) -> usize {
        let wanted = self.huge_pages == HugePages::Transparent && len >= HUGE_PAGE;
        if wanted { HUGE_PAGE } else { 1 }
    }

    fn attributes(&self, page: PageSize) -> Attributes {
        let printable = |byte: u8| match byte {
            b'[' | b']' | b'\\' | b'$' | b'`' => b'_',
            b' '..=b'~' => byte,
            _ => b'_',
        };
        let name = self.name.as_ref().map(|name| {
            let bytes: Vec<u8> = name.bytes().take(79).map(printable).collect();
            CString::new(bytes).expect("printable bytes are not zero")
        });
        let charged = self.mechanism != Mechanism::UserFault;
        let is_explicit = self.huge_pages == HugePages::Explicit;
        Attributes {
            huge_pages: self.huge_pages,
            explicit_page: is_explicit.then_some(page.bytes()),
            dump: self.dump,
            name,
            charged,
        }
    }

    fn reserve_error(&self, requested: usize, error: OsError) -> Error {
        let source = error.into();
        match os::diagnose(error) {
            Cause::Mappings { mappings, max } => {
                Error::MappingsExhausted { operation: "reserve", mappings, max, source }
            }
            Cause::Locked => Error::Locked { operation: "reserve", len: requested, source },
            Cause::OutOfMemory if self.huge_pages == HugePages::Explicit => Error::Unsupported {
                what: "so many explicit huge pages: the pool is too small (Linux: \
                       `vm.nr_hugepages`)",
            },
            // Windows calls a length beyond all addresses a bad parameter.
            Cause::OutOfMemory | Cause::Unsupported => {
                Error::AddressSpaceExhausted { requested, source }
            }
            Cause::Other => Error::System { operation: "reserve", source },
        }
    }
}

/// A fork in the middle of a change, played by one thread: what a child must make of each state.
#[cfg(all(test, not(loom), not(any(miri, pagewise_model))))]
mod tests {
    use super::*;

    fn engines() -> Vec<Reservation> {
        let protect = Reservation::builder(2 << 20).limit(1 << 20);
        let mut engines = vec![protect.clone().build().unwrap()];
        if os::guards_work() {
            engines.push(protect.mechanism(Mechanism::Guard).build().unwrap());
        }
        engines
    }

    fn byte(memory: &Reservation, page: usize) -> *mut u8 {
        memory.as_ptr().wrapping_add(page * memory.page_size())
    }

    /// Claims four pages for a fault, as far as `backing` has made them accessible.
    fn claim(memory: &Reservation, first: usize, accessible: bool) {
        let pages = memory.page().pages(first, first + 4);
        assert_eq!(memory.states.claim(first, pages), Ok(Claim::Claimed(pages)));
        memory.account.take_exactly(pages.len()).unwrap();
        if accessible {
            // SAFETY: the pages are held and reserved.
            unsafe { memory.backing.commit(memory.ground(), pages).unwrap() };
        }
    }

    #[test]
    fn a_child_keeps_what_was_written_while_the_commit_was_under_way() {
        for memory in engines() {
            memory.commit(..memory.page_size()).unwrap();
            // SAFETY: the page is committed.
            unsafe { byte(&memory, 0).write(1) };
            claim(&memory, 8, true);
            // Another thread writes to a page that it finds accessible.
            // SAFETY: it is.
            unsafe { byte(&memory, 9).write(2) };
            claim(&memory, 16, false);
            memory.end_abandoned_changes();
            assert_eq!(memory.committed(), 2 * memory.page_size());
            assert!(memory.states.is_committed(9) && !memory.states.is_committed(8));
            // (Guard markers are tried by their effect: where they work, this advice is known, too.)
            for reserved in [8, 10, 11, 16, 19].into_iter().filter(|_| os::guards_work()) {
                let at = NonNull::new(byte(&memory, reserved)).unwrap();
                // SAFETY: a page of the reservation, whose contents this does not change.
                let seen = unsafe { os::populate_for_reading(at, memory.page_size()) };
                assert!(seen.is_err(), "page {reserved} can be read");
            }
            // SAFETY: both are committed.
            assert_eq!(unsafe { (byte(&memory, 0).read(), byte(&memory, 9).read()) }, (1, 2));
            // Everything can be had, and reads zero where it is new.
            memory.commit(..64 * memory.page_size()).unwrap();
            // SAFETY: all of them are committed.
            unsafe {
                assert_eq!((byte(&memory, 8).read(), byte(&memory, 16).read()), (0, 0));
                assert_eq!((byte(&memory, 0).read(), byte(&memory, 9).read()), (1, 2));
            }
        }
    }

    #[test]
    fn a_child_keeps_committed_pages_that_were_held() {
        for memory in engines() {
            memory.commit(..4 * memory.page_size()).unwrap();
            // SAFETY: the pages are committed.
            unsafe { byte(&memory, 1).write(1) };
            memory.states.lock(memory.page().pages(0, 3)).unwrap();
            // A decommit had given up one of them, down to its charge.
            let given_up = memory.page().pages(2, 3);
            // SAFETY: the page is held, and nobody wants what it holds.
            unsafe { memory.backing.decommit(memory.ground(), given_up, &mut |_| ()).unwrap() };
            memory.account.decommitted(given_up.len());
            memory.end_abandoned_changes();
            assert_eq!(memory.committed(), 4 * memory.page_size());
            // SAFETY: the pages are committed.
            assert_eq!(unsafe { (byte(&memory, 1).read(), byte(&memory, 2).read()) }, (1, 0));
            memory.decommit(..).unwrap();
            assert_eq!(memory.committed(), 0);
        }
    }

    #[test]
    fn a_child_keeps_what_is_in_a_block_that_was_being_opened() {
        let Some(memory) = engines().into_iter().nth(1) else {
            return crate::not_here::not_here("the guard engine");
        };
        memory.commit(..memory.page_size()).unwrap();
        // SAFETY: the page is committed.
        unsafe { byte(&memory, 0).write(1) };
        claim(&memory, 8, false);
        // Another thread holds the rest of the block, to open it.
        let size = memory.page();
        assert!(memory.states.try_lock(size.pages(0, 8)));
        assert!(memory.states.try_lock(size.pages(12, 512)));
        memory.end_abandoned_changes();
        assert_eq!(memory.committed(), memory.page_size());
        // SAFETY: the page is committed.
        assert_eq!(unsafe { byte(&memory, 0).read() }, 1);
        memory.commit(8 * memory.page_size()..9 * memory.page_size()).unwrap();
        // SAFETY: the page is committed.
        assert_eq!(unsafe { byte(&memory, 8).read() }, 0);
    }

    /// Opening a block changes the rights of all of its reserved pages: they must be nobody else's.
    #[test]
    fn a_block_is_not_opened_while_somebody_holds_a_page_of_it() {
        if !os::guards_work() {
            return crate::not_here::not_here("the guard engine");
        }
        let page = os::page_size();
        let builder = Reservation::builder(1024 * page).mechanism(Mechanism::Guard);
        let memory = builder.build().unwrap();
        let held = memory.page().pages(700, 701);
        memory.states.lock(held).unwrap();
        // Dense enough several times over, whatever the page size.
        for index in (0..600).step_by(2) {
            memory.commit(index * page..(index + 1) * page).unwrap();
            assert_eq!(memory.states.claim(700, held), Ok(Claim::Busy), "after {index} commits");
        }
        memory.states.unlock(held);
        memory.commit(700 * page..701 * page).unwrap();
        // SAFETY: the page is committed.
        assert_eq!(unsafe { byte(&memory, 700).read() }, 0);
        assert_eq!(memory.committed(), 301 * page);
    }
}
