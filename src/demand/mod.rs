//! Memory that commits itself when it is touched.

use std::fmt;
use std::io;
use std::ops::{Range, RangeBounds};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::budget::Budget;
use crate::error::{Bytes, Error};
use crate::fault::{self, Fault, Outcome, Refusal, RefusalReason, Registered, Stopped};
use crate::page::byte_range;
use crate::page_map::PageMap;
use crate::reservation::{Mechanism, Reservation, ReservationBuilder, ServeError, Served};
use crate::{HugePages, os};

#[cfg(feature = "zerocopy")]
mod array;
mod events;
mod repeats;
mod step;

#[cfg(feature = "zerocopy")]
pub use array::{DemandArray, DemandArrayBuilder};
use events::EventRing;
pub use events::{FaultEvent, FaultOutcome};
use repeats::Repeats;
pub use step::CommitStep;
use step::StepPolicy;

/// A range of zero bytes, as long as you like, that commits the pages you touch: in any order, from
/// any thread, up to a limit.
///
/// Plain access is a slice. Touching a page for the first time is a page fault, which pagewise's
/// handler serves by committing the page; then the program goes on where it stopped. A fault past the
/// limit is *refused*: in [`read`](Self::read), [`write`](Self::write) and [`fill`](Self::fill) that
/// is an `Err`, which says how far they came; in plain access it ends the process, after one line on
/// stderr that says why.
///
/// ```
/// use pagewise::{DemandRegion, RefusedReason, page_size};
///
/// // The classic: 80 pages reserved, none committed; at most 3 may be.
/// let mut region =
///     DemandRegion::builder(80 * page_size()).limit(3 * page_size()).step(pagewise::CommitStep::page()).build()?;
/// region.as_mut_slice()[17 * page_size()] = 1;      // a page fault commits page 17
/// assert_eq!(region.stats().committed, page_size());
///
/// let stopped = region.fill(.., 7).unwrap_err();    // two more pages, then refused
/// assert_eq!(stopped.copied, 2 * page_size());
/// assert!(matches!(stopped.refused.reason, RefusedReason::Limit { limit } if limit == 3 * page_size()));
/// assert_eq!(region.as_slice()[2 * page_size() - 1], 7);
/// # Ok::<(), pagewise::Error>(())
/// ```
///
/// System calls do not fault: `read(2)` into pages that are not committed fails with `EFAULT`, or
/// reads less (`ReadFile` on Windows fails). [`commit`](Self::commit) the range first, or use
/// [`read_from`](Self::read_from), which does.
pub struct DemandRegion {
    /// Invariant: registered from `build` until `drop`, and it stays where it is in between.
    core: Box<Core>,
}

/// What the fault handler needs to know of a region.
struct Core {
    reservation: Reservation,
    step: StepPolicy,
    events: EventRing,
    counters: Counters,
    repeats: Repeats,
    registered: Registered,
}

// SAFETY: the pointer in `registered` is to the core itself; everything else is shareable.
unsafe impl Send for Core {}
// SAFETY: as above: what changes through `&Core` is atomic.
unsafe impl Sync for Core {}

#[derive(Default)]
struct Counters {
    faults: AtomicU64,
    refused: AtomicU64,
    raced: AtomicU64,
}

/// What happened in a [`DemandRegion`] so far.
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
    /// Fault events that found no room.
    pub events_lost: u64,
}

/// Which mechanism catches and serves the faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Engine {
    /// [`Guard`](Self::Guard) where it works, the system overcommits, and huge pages are not asked for;
    /// else [`Protect`](Self::Protect).
    #[default]
    Auto,
    /// The handler changes the access rights of inaccessible pages. Works on every system. The system's
    /// commit charge is exactly what is committed; scattered pages take up to two memory mappings each, of
    /// which Linux allows a process 65,530.
    Protect,
    /// As [`Protect`](Self::Protect), and guard markers (Linux 6.13) where they are better: in blocks of
    /// 2 MiB that have many single pages, and where half of the process's mappings are in use. The
    /// system's commit charge counts such a block whole, until all of its pages are decommitted. (Limits,
    /// budgets and `committed` count pages, as always.)
    Guard,
    /// `userfaultfd` (Linux 5.11, where it is allowed; never chosen by itself). Scattered pages are
    /// cheapest, and take no mappings. Committed pages are resident at once, and the system's commit
    /// charge counts none of them.
    ///
    /// The limit holds only as long as the process keeps the descriptor: a program that closes it, for
    /// instance by `close_range(3, …)`, gets zeros for missing pages from then on, and nobody is told. A
    /// fork takes time in proportion to what was ever touched. A child by a bare `clone`, past the C library,
    /// has no limits, and neither have `pthread_atfork` handlers in a child that were registered before
    /// the first reservation.
    UserFault,
}

impl DemandRegion {
    /// Reserves at least `len` bytes, rounded up to whole pages, all of which may be committed.
    ///
    /// # Errors
    /// As [`Reservation::new`]; [`System`](Error::System) if the fault handler cannot be installed.
    pub fn new(len: usize) -> Result<Self, Error> {
        Self::builder(len).build()
    }

    /// Reserves with options: limit, budget, step, events, and those of a reservation.
    pub fn builder(len: usize) -> DemandRegionBuilder {
        DemandRegionBuilder {
            reservation: Reservation::builder(len),
            step: CommitStep::default(),
            engine: Engine::Auto,
            events: 0,
        }
    }

    /// The first byte.
    pub fn as_ptr(&self) -> *mut u8 {
        self.core.reservation.as_ptr()
    }

    /// Bytes that are reserved: what was asked for, rounded up to whole pages.
    #[allow(clippy::len_without_is_empty)] // a region is never empty
    pub fn len(&self) -> usize {
        self.core.reservation.len()
    }

    /// Bytes that are committed now.
    pub fn committed(&self) -> usize {
        self.core.reservation.committed()
    }

    /// Bytes of a page of this region.
    pub fn page_size(&self) -> usize {
        self.core.reservation.page_size()
    }

    /// All bytes, for plain reading. Reading a page commits it; a refused one ends the process.
    pub fn as_slice(&self) -> &[u8] {
        self.core.touch_all_without_faults();
        // SAFETY: the whole range is readable, by way of the fault handler, and zero is a valid byte.
        // Safe code changes it through `&mut self` only.
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.len()) }
    }

    /// All bytes, for plain writing. Touching a page commits it; a refused one ends the process.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.core.touch_all_without_faults();
        // SAFETY: as in `as_slice`; `&mut self` makes it exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.as_ptr(), self.len()) }
    }

    /// Copies bytes out of the region, from `offset`, until `into` is full. Pages that were never
    /// touched are committed, and read zero.
    ///
    /// # Errors
    /// [`AccessError`] with how much was copied, where a page was refused. A range that is out of
    /// bounds is refused as a whole, with nothing copied.
    pub fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), AccessError> {
        let from = self.core.check(offset, into.len())?;
        let ready = self.core.touch_without_faults(offset, into.len());
        // SAFETY: the source lies inside the region and the target is exclusive, so they are apart.
        let copied =
            unsafe { fault::copy(into.as_mut_ptr(), from, ready.map_or(into.len(), |r| r.done)) };
        self.core.result(copied, ready)
    }

    /// Copies bytes into the region, at `offset`. What comes before a refused page is written.
    ///
    /// # Errors
    /// [`AccessError`] with how much was copied, where a page was refused. A range that is out of
    /// bounds is refused as a whole, with nothing copied.
    pub fn write(&mut self, offset: usize, from: &[u8]) -> Result<(), AccessError> {
        // SAFETY: the region is borrowed exclusively.
        unsafe { self.write_shared(offset, from) }
    }

    /// [`write`](Self::write), for regions that several threads or raw pointers share.
    ///
    /// ```
    /// let region = pagewise::DemandRegion::new(1 << 20)?;
    /// std::thread::scope(|threads| {
    ///     for part in 0..4 {
    ///         let region = &region;
    ///         // SAFETY: each thread has bytes of its own.
    ///         threads.spawn(move || unsafe { region.write_shared(part << 18, &[7]) });
    ///     }
    /// });
    /// assert_eq!(region.as_slice().iter().filter(|&&byte| byte == 7).count(), 4);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`write`](Self::write).
    ///
    /// # Safety
    /// Nobody else accesses the same bytes at the same time, and no slice of them is borrowed.
    pub unsafe fn write_shared(&self, offset: usize, from: &[u8]) -> Result<(), AccessError> {
        let to = self.core.check(offset, from.len())?;
        let ready = self.core.touch_without_faults(offset, from.len());
        // SAFETY: the target lies inside the region, and is the caller's for now.
        let copied =
            unsafe { fault::copy(to, from.as_ptr(), ready.map_or(from.len(), |r| r.done)) };
        self.core.result(copied, ready)
    }

    /// Writes `value` to every byte of a range. What comes before a refused page is written.
    ///
    /// # Errors
    /// [`AccessError`] with how much was written, where a page was refused. A range that is reversed
    /// or out of bounds is refused as a whole, with nothing written.
    pub fn fill(&mut self, range: impl RangeBounds<usize>, value: u8) -> Result<(), AccessError> {
        let (start, end) =
            byte_range(range, self.len()).map_err(|_| AccessError::not_reserved(self.len()))?;
        let ready = self.core.touch_without_faults(start, end - start);
        // SAFETY: the range lies inside the region, which is borrowed exclusively.
        let filled = unsafe {
            fault::fill(self.as_ptr().add(start), value, ready.map_or(end - start, |r| r.done))
        };
        self.core.result(filled, ready)
    }

    /// Commits a range without touching it, for system calls and for memory that must be there.
    /// Reserved → Committed. Rounds outward to whole pages. Not counted as faults.
    ///
    /// A limit refuses all or nothing. Where the *system* refuses half-way, pages that it granted
    /// before stay committed, since other threads may have written to them.
    ///
    /// # Errors
    /// As [`Reservation::commit`].
    pub fn commit(&self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        fault::uninterrupted(|| self.core.reservation.commit_among_faults(range))
    }

    /// Gives a range's memory and commit charge back; it reads zero, and commits itself again, when
    /// it is touched next. Committed → Reserved. Rounds inward to whole pages.
    ///
    /// # Errors
    /// As [`Reservation::decommit`].
    pub fn decommit(&mut self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        // SAFETY: the region is borrowed exclusively.
        unsafe { self.decommit_shared(range) }
    }

    /// [`decommit`](Self::decommit), for regions that several threads or raw pointers share.
    ///
    /// # Errors
    /// As [`Reservation::decommit`].
    ///
    /// # Safety
    /// Nobody else accesses the pages of the range at the same time, and no slice of them is borrowed.
    pub unsafe fn decommit_shared(&self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        self.core.repeats.forget();
        fault::uninterrupted(|| self.core.reservation.decommit(range))
    }

    /// Makes exactly the bytes of a range read zero. Committed pages stay committed; others are left alone:
    /// they read zero already.
    ///
    /// # Errors
    /// As [`Reservation::zero`].
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

    /// Whether every byte of a range is committed, so that reading it commits nothing: `false`, too, where
    /// the range reaches outside. Other threads may commit pages at any time.
    pub fn is_committed(&self, range: impl RangeBounds<usize>) -> bool {
        fault::uninterrupted(|| self.core.reservation.is_committed(range))
    }

    /// The committed parts, in ascending order, as byte ranges from the start: whole pages, with a gap
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

    /// Copies bytes out of the region, from `offset`, and commits nothing: where no page is committed, they
    /// are zero, as they would be after a commit. For looking into a sparse table.
    ///
    /// # Errors
    /// [`AccessError`] for a range that is out of bounds, with nothing copied.
    ///
    /// ```
    /// let mut region = pagewise::DemandRegion::new(1 << 40)?;
    /// region.write(10, b"hello")?;
    /// let mut seen = [9; 8];
    /// region.peek(10, &mut seen)?;
    /// assert_eq!(&seen, b"hello\0\0\0");
    /// region.peek(1 << 39, &mut seen)?;
    /// assert_eq!(seen, [0; 8]);
    /// assert!(!region.is_committed(1 << 39..(1 << 39) + 8));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn peek(&self, offset: usize, into: &mut [u8]) -> Result<(), AccessError> {
        self.core.check(offset, into.len())?;
        let end = offset + into.len();
        self.for_each_part(offset..end, |part, is_committed| {
            let target = &mut into[part.start - offset..part.end - offset];
            if is_committed {
                self.read(part.start, target)
            } else {
                target.fill(0);
                Ok(())
            }
        })
    }

    /// Calls `each` for the parts of a range that are committed, and those that are not, in order.
    fn for_each_part<E>(
        &self,
        range: Range<usize>,
        mut each: impl FnMut(Range<usize>, bool) -> Result<(), E>,
    ) -> Result<(), E> {
        let (size, states) = (self.core.reservation.page(), self.core.reservation.states());
        let last = size.page_of(range.end.saturating_sub(1)) + 1;
        let mut at = range.start;
        while at < range.end {
            let page = size.page_of(at);
            let is_committed = states.is_committed(page);
            let next = if is_committed {
                states.find_reserved(page, last)
            } else {
                states.find_committed(page, last)
            };
            let end = next.map_or(range.end, |next| range.end.min(next * size.bytes()));
            // Another thread may have committed the page since it was looked at.
            let end = if end > at { end } else { continue };
            each(at..end, is_committed)?;
            at = end;
        }
        Ok(())
    }

    /// Fills a range from a reader until the reader ends or the range is full; returns how many bytes that
    /// were. Commits as it reads: what is ahead of the bytes that came is at most as much again, or a
    /// page, and never more than 1 MiB.
    ///
    /// ```
    /// let mut region = pagewise::DemandRegion::builder(1 << 40).limit(64 << 10).build()?;
    /// let read = region.read_from(10.., &mut &b"hello"[..])?;
    /// assert_eq!(&region.as_slice()[10..10 + read], b"hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The refusal of a commit, as an [`io::Error`] around [`Error`]; or what the reader says. The bytes that
    /// the reader gave before are in the region: those that it has not given are still to be read.
    pub fn read_from(
        &mut self,
        range: impl RangeBounds<usize>,
        reader: &mut (impl io::Read + ?Sized),
    ) -> io::Result<usize> {
        const MOST_AHEAD: usize = 1 << 20;
        let (start, end) = byte_range(range, self.len()).map_err(io::Error::other)?;
        let (mut done, mut ready) = (start, start);
        while done < end {
            if done == ready {
                let page_end = (done + 1).next_multiple_of(self.page_size());
                let ahead = done.saturating_add((done - start).min(MOST_AHEAD));
                ready = self.commit_some(
                    done,
                    page_end.min(end),
                    ahead.clamp(page_end, end.max(page_end)).min(end),
                )?;
            }
            // SAFETY: these bytes are committed, and the region is borrowed exclusively.
            let into =
                unsafe { std::slice::from_raw_parts_mut(self.as_ptr().add(done), ready - done) };
            match reader.read(into) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done - start)
    }

    /// Commits up to `wanted`, or where that is refused, up to `least`; returns which.
    fn commit_some(&self, from: usize, least: usize, wanted: usize) -> io::Result<usize> {
        if self.commit(from..wanted).is_ok() {
            return Ok(wanted);
        }
        self.commit(from..least).map_err(io::Error::other)?;
        Ok(least)
    }

    /// Writes a range whole to a writer. Commits nothing: where no page is committed, it writes zeros.
    ///
    /// # Errors
    /// What the writer says; an [`io::Error`] around [`Error`] for a bad range.
    pub fn write_to(
        &self,
        range: impl RangeBounds<usize>,
        writer: &mut (impl io::Write + ?Sized),
    ) -> io::Result<()> {
        static ZEROS: [u8; 4096] = [0; 4096];
        let (start, end) = byte_range(range, self.len()).map_err(io::Error::other)?;
        self.for_each_part(start..end, |part, is_committed| {
            if is_committed {
                return writer.write_all(self.committed_bytes(part));
            }
            let mut left = part.len();
            while left > 0 {
                let count = left.min(ZEROS.len());
                writer.write_all(&ZEROS[..count])?;
                left -= count;
            }
            Ok(())
        })
    }

    /// Bytes that are committed: also for builds without page faults.
    fn committed_bytes(&self, range: Range<usize>) -> &[u8] {
        // SAFETY: the range lies inside the region, and a committed page holds valid bytes; safe code
        // changes them through `&mut self` only.
        unsafe { std::slice::from_raw_parts(self.as_ptr().add(range.start), range.len()) }
    }

    /// What happened so far.
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

    /// Takes the fault events since the last call, oldest first: as many as the builder's
    /// [`events`](DemandRegionBuilder::events) made room for.
    pub fn events(&self) -> impl Iterator<Item = FaultEvent> + '_ {
        std::iter::from_fn(|| self.core.events.pop())
    }

    /// Which pages are reserved, committed, resident, huge, swapped: now.
    ///
    /// # Errors
    /// What the system says about residency.
    pub fn page_map(&self) -> Result<PageMap, Error> {
        self.core.reservation.page_map()
    }

    /// Gives the addresses back. Dropping does the same, and cannot report an error.
    ///
    /// # Errors
    /// As [`Reservation::release`].
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

impl Core {
    /// Serves a fault. Async-signal-safe.
    fn serve(&self, fault: Fault) -> Outcome {
        let offset = fault.address - self.reservation.as_ptr().addr();
        let size = self.reservation.page();
        let (page, pages) = (size.page_of(offset), size.page_of(self.reservation.len()));
        let mut round = 0;
        loop {
            let wanted = self.step.wanted(page, pages, size);
            match self.reservation.serve(page, wanted) {
                Ok(Served::Committed(range)) => {
                    self.committed(offset, fault.write, range);
                    return Outcome::Resolved;
                }
                Ok(Served::Already) => return self.already(page),
                Ok(Served::Busy) => {
                    crate::sync::relax(round);
                    round += 1;
                }
                Err(error) => return self.refused(offset, fault.write, error),
            }
        }
    }

    fn committed(&self, offset: usize, write: Option<bool>, range: crate::page::PageRange) {
        self.step.note(range);
        self.counters.faults.fetch_add(1, Ordering::Relaxed);
        let outcome = FaultOutcome::Committed { start: range.offset(), len: range.len() };
        self.events.push(FaultEvent { offset, write, outcome });
    }

    /// The page is committed: another thread was faster, and the access succeeds now; or somebody else took
    /// its access away.
    fn already(&self, page: usize) -> Outcome {
        self.counters.raced.fetch_add(1, Ordering::Relaxed);
        if self.repeats.is_too_often(page) { Outcome::NotOurs } else { Outcome::Resolved }
    }

    #[cold]
    #[inline(never)]
    fn refused(&self, offset: usize, write: Option<bool>, error: ServeError) -> Outcome {
        self.counters.refused.fetch_add(1, Ordering::Relaxed);
        self.events.push(FaultEvent { offset, write, outcome: FaultOutcome::Refused });
        let reason = match error {
            ServeError::Limit(shortage) => {
                RefusalReason::Limit { limit: shortage.limit, used: shortage.used }
            }
            ServeError::System(error) => RefusalReason::System { code: error.0 },
        };
        let region = self.reservation.as_ptr().addr();
        Outcome::Refused(Refusal { offset, region, reason })
    }

    /// The address of a range that lies inside the region.
    fn check(&self, offset: usize, len: usize) -> Result<*mut u8, AccessError> {
        match offset.checked_add(len) {
            Some(end) if end <= self.reservation.len() => {
                // SAFETY: checked just now.
                Ok(unsafe { self.reservation.as_ptr().add(offset) })
            }
            _ => Err(AccessError::not_reserved(self.reservation.len())),
        }
    }

    fn result(
        &self,
        copied: Result<(), Stopped>,
        ready: Option<Stopped>,
    ) -> Result<(), AccessError> {
        match (copied, ready) {
            (Ok(()), None) => Ok(()),
            (Err(stopped), _) | (Ok(()), Some(stopped)) => Err(stopped.into()),
        }
    }

    /// Where there are no page faults (Miri, the model), touches a range as the handler would have.
    fn touch_without_faults(&self, offset: usize, len: usize) -> Option<Stopped> {
        if !cfg!(any(miri, pagewise_model)) || len == 0 {
            return None;
        }
        let size = self.reservation.page();
        let first = size.page_of(offset);
        for page in first..=size.page_of(offset + len - 1) {
            let at = size.pages(page, page + 1).offset().max(offset);
            let address = self.reservation.as_ptr().addr() + at;
            if self.reservation.states().is_committed(page) {
                continue;
            }
            if let Outcome::Refused(refusal) = self.serve(Fault { address, write: None }) {
                return Some(Stopped { done: at - offset, refusal });
            }
        }
        None
    }

    fn touch_all_without_faults(&self) {
        if let Some(stopped) = self.touch_without_faults(0, self.reservation.len()) {
            panic!("a plain slice is refused: {}", AccessError::from(stopped));
        }
    }
}

/// # Safety
/// `owner` is a living core.
unsafe fn serve(owner: *const (), fault: Fault) -> Outcome {
    // SAFETY: the caller's promise.
    unsafe { &*owner.cast::<Core>() }.serve(fault)
}

/// # Safety
/// `owner` is a living core.
unsafe fn forked(owner: *const ()) {
    // SAFETY: the caller's promise.
    let core = unsafe { &*owner.cast::<Core>() };
    core.reservation.end_what_the_parent_did();
    core.events.end_abandoned_changes();
}

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
    reservation: ReservationBuilder,
    step: CommitStep,
    engine: Engine,
    events: usize,
}

impl DemandRegionBuilder {
    /// Commits at most `bytes`, rounded down to whole pages. Zero: every touch is refused.
    pub fn limit(mut self, bytes: usize) -> Self {
        self.reservation = self.reservation.limit(bytes);
        self
    }

    /// Takes every commit from a budget, which other reservations may share.
    pub fn budget(mut self, budget: Budget) -> Self {
        self.reservation = self.reservation.budget(budget);
        self
    }

    /// How much one fault commits. [`CommitStep::adaptive`] unless told otherwise.
    pub fn step(mut self, step: CommitStep) -> Self {
        self.step = step;
        self
    }

    /// Which mechanism serves the faults.
    pub fn engine(mut self, engine: Engine) -> Self {
        self.engine = engine;
        self
    }

    /// Remembers this many fault events (rounded up to a power of two) until they are taken. None
    /// unless told otherwise.
    pub fn events(mut self, capacity: usize) -> Self {
        self.events = capacity;
        self
    }

    /// As [`ReservationBuilder::align`].
    pub fn align(mut self, align: usize) -> Self {
        self.reservation = self.reservation.align(align);
        self
    }

    /// As [`ReservationBuilder::guard_pages`].
    pub fn guard_pages(mut self, pages: usize) -> Self {
        self.reservation = self.reservation.guard_pages(pages);
        self
    }

    /// As [`ReservationBuilder::huge_pages`].
    pub fn huge_pages(mut self, huge_pages: HugePages) -> Self {
        self.reservation = self.reservation.huge_pages(huge_pages);
        self
    }

    /// As [`ReservationBuilder::name`].
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.reservation = self.reservation.name(name);
        self
    }

    /// As [`ReservationBuilder::dump`].
    pub fn dump(mut self, dump: bool) -> Self {
        self.reservation = self.reservation.dump(dump);
        self
    }

    /// As [`ReservationBuilder::at_least`].
    pub fn at_least(mut self, min: usize) -> Self {
        self.reservation = self.reservation.at_least(min);
        self
    }

    /// Reserves, and registers with the fault handler, which the first region installs.
    ///
    /// # Errors
    /// As [`DemandRegion::new`].
    pub fn build(self) -> Result<DemandRegion, Error> {
        if !cfg!(any(miri, pagewise_model)) {
            fault::install()?;
        }
        let mechanism = match self.engine {
            Engine::Protect => Mechanism::Protect,
            Engine::Guard if !os::guards_work() => {
                return Err(Error::Unsupported {
                    what: "the guard engine: it needs Linux 6.13; `Engine::Auto` takes what there is",
                });
            }
            Engine::Guard => Mechanism::Guard,
            Engine::UserFault if self.reservation.wants_explicit_huge_pages() => {
                return Err(Error::Unsupported {
                    what: "explicit huge pages by the userfault engine",
                });
            }
            Engine::UserFault => Mechanism::UserFault,
            Engine::Auto if self.reservation.wants_guard_markers() => Mechanism::Guard,
            Engine::Auto => Mechanism::Protect,
        };
        let reservation = self.reservation.mechanism(mechanism).build()?;
        let block = reservation.page().page_of(reservation.huge_page_size());
        let start = reservation.as_ptr().addr();
        let registered =
            Registered { start, end: start + reservation.len(), owner: ptr::null(), serve, forked };
        let mut core = Box::new(Core {
            reservation,
            step: StepPolicy::new(self.step, block),
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

/// A [`read`](DemandRegion::read), [`write`](DemandRegion::write) or [`fill`](DemandRegion::fill)
/// that ended early, because a page was refused.
#[derive(Debug, thiserror::Error)]
#[error("refused after {} bytes: {refused}", .copied)]
#[non_exhaustive]
pub struct AccessError {
    /// Bytes that were copied or written before: exact. They are intact.
    pub copied: usize,
    /// Which page was refused, and why.
    #[source]
    pub refused: Refused,
}

/// A page fault that must not be served.
#[derive(Debug)]
#[non_exhaustive]
pub struct Refused {
    /// The first byte that could not be accessed, from the start of the region that refused it. (That
    /// is another region where the *buffer* of a copy lies in one.)
    pub offset: usize,
    /// Why.
    pub reason: RefusedReason,
}

/// Why a page fault was refused.
#[derive(Debug)]
#[non_exhaustive]
pub enum RefusedReason {
    /// The limit of the region, or of the budget that it shares, is used up.
    Limit {
        /// That limit, in bytes.
        limit: usize,
    },
    /// The system has no memory, or no mappings, left.
    System(io::Error),
    /// The range is not part of the region.
    NotReserved,
}

impl AccessError {
    fn not_reserved(len: usize) -> Self {
        Self { copied: 0, refused: Refused { offset: len, reason: RefusedReason::NotReserved } }
    }
}

impl From<Stopped> for AccessError {
    fn from(stopped: Stopped) -> Self {
        let Refusal { offset, reason, .. } = stopped.refusal;
        let reason = match reason {
            RefusalReason::Limit { limit, .. } => RefusedReason::Limit { limit },
            RefusalReason::System { code } => RefusedReason::System(os::OsError(code).into()),
        };
        Self { copied: stopped.done, refused: Refused { offset, reason } }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offset, reason } = self;
        match reason {
            RefusedReason::Limit { limit } => write!(
                f,
                "page at offset {offset:#x} refused: limit of {} is used up: decommit something, or \
                 give a larger limit",
                Bytes(*limit)
            ),
            RefusedReason::System(error) => {
                write!(f, "page at offset {offset:#x} refused by the system: {error}")
            }
            RefusedReason::NotReserved => {
                write!(f, "the range reaches beyond the region, which ends at offset {offset:#x}")
            }
        }
    }
}

impl std::error::Error for Refused {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.reason {
            RefusedReason::System(error) => Some(error),
            _ => None,
        }
    }
}

/// Faults that are played: also for builds without page faults.
#[cfg(all(test, not(loom)))]
mod tests_without_faults {
    use super::*;

    /// Pages may be committed anew after a decommit, and threads may race for them anew: as often as before.
    #[test]
    fn a_decommit_makes_a_page_good_for_as_many_races_as_before() {
        let page = crate::page_size();
        let mut region = DemandRegion::new(8 * page).unwrap();
        for round in 0..4 {
            region.commit(..2 * page).unwrap();
            // (Two pages in turn: each is counted on its own.)
            for index in 0..2 * repeats::TOO_OFTEN {
                let address = region.as_ptr().addr() + index % 2 * page + 5;
                let outcome = region.core.serve(Fault { address, write: Some(true) });
                assert!(matches!(outcome, Outcome::Resolved), "round {round}, fault {index}");
            }
            let fault = Fault { address: region.as_ptr().addr(), write: Some(true) };
            assert!(matches!(region.core.serve(fault), Outcome::NotOurs), "round {round}");
            match round {
                0 => region.decommit(..page).unwrap(),
                1 => region.decommit(..).unwrap(),
                // SAFETY: nobody accesses the region.
                _ => unsafe { region.decommit_shared(5 * page..6 * page).unwrap() },
            }
        }
        assert_eq!(region.stats().raced, 4 * (2 * repeats::TOO_OFTEN as u64 + 1));
        assert_eq!((region.stats().faults, region.stats().refused), (0, 0));
    }

    #[test]
    fn what_a_refusal_says_of_limit_and_use_is_not_swapped() {
        let page = crate::page_size();
        let budget = Budget::new(3 * page + 100);
        let builder = DemandRegion::builder(64 * page).budget(budget.clone());
        let region = builder.limit(5 * page).step(CommitStep::page()).build().unwrap();
        region.commit(8 * page..11 * page).unwrap();
        let offset = 20 * page + 7;
        let fault = Fault { address: region.as_ptr().addr() + offset, write: Some(true) };
        let Outcome::Refused(refusal) = region.core.serve(fault) else { panic!("not refused") };
        assert_eq!((refusal.offset, refusal.region), (offset, region.as_ptr().addr()));
        let RefusalReason::Limit { limit, used } = refusal.reason else { panic!("{refusal:?}") };
        assert_eq!((limit, used), (3 * page + 100, 3 * page));
    }
}

#[cfg(all(test, target_os = "linux", not(loom), not(any(miri, pagewise_model))))]
mod tests {
    use super::*;

    /// A fork in the middle of an event, played by one thread; the fork itself is a real one.
    #[test]
    fn a_forked_child_goes_on_with_events_that_others_were_putting_down_or_taking_out() {
        let page = crate::page_size();
        let region =
            DemandRegion::builder(64 * page).step(CommitStep::page()).events(8).build().unwrap();
        // SAFETY: the region is this test's own, and each page is its to write.
        let touch = |index: usize| unsafe { region.as_ptr().add(index * page).write_volatile(1) };
        (0..3).for_each(touch);
        // Threads of the parent that the child does not have.
        region.core.events.begin_and_abandon_a_pop();
        region.core.events.begin_and_abandon_a_push();
        touch(4);
        let numbers = || region.events().map(|event| event.offset / page);
        // SAFETY: the child faults, looks at events, and leaves.
        match unsafe { libc::fork() } {
            0 => {
                let kept = numbers().eq([1, 2, 4]) && region.stats().events_lost == 1;
                // All of the room is the child's.
                (10..20).for_each(touch);
                let full = numbers().eq(10..18) && region.stats().events_lost == 3;
                (20..28).for_each(touch);
                let again = numbers().eq(20..28) && region.stats().events_lost == 3;
                // SAFETY: leaves without running anything else of the program.
                unsafe {
                    libc::_exit(i32::from(!kept) | i32::from(!full) << 1 | i32::from(!again) << 2)
                }
            }
            child => {
                assert!(child > 0);
                let mut status = 0;
                // SAFETY: our own child.
                assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
                assert_eq!(status, 0, "1: events that were there, 2: new ones, 4: more of them");
            }
        }
    }

    /// On systems that prefault by touching, the handler touches what it commits. Another thread may
    /// decommit the neighbours of its own page at any time: not before the touching is done.
    #[test]
    fn a_neighbour_may_be_decommitted_while_a_batch_is_being_prefaulted() {
        os::PREFAULT_BY_TOUCHING.store(true, Ordering::Relaxed);
        let page = crate::page_size();
        let pages = 256;
        for engine in [Engine::Protect, Engine::Auto] {
            let region = DemandRegion::builder(pages * page)
                .engine(engine)
                .step(CommitStep::fixed(pages * page))
                .build()
                .unwrap();
            std::thread::scope(|threads| {
                let faults = threads.spawn(|| {
                    for _ in 0..300 {
                        // SAFETY: only this thread accesses the first page.
                        unsafe {
                            region.as_ptr().write_volatile(1);
                            region.decommit_shared(..page).unwrap();
                        }
                    }
                });
                while !faults.is_finished() {
                    // SAFETY: nobody accesses the other pages.
                    unsafe { region.decommit_shared(page..).unwrap() };
                }
            });
        }
        os::PREFAULT_BY_TOUCHING.store(false, Ordering::Relaxed);
    }
}
