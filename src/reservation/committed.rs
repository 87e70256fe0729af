//! Operations on committed pages that leave them committed: zero, discard, protect, prefault, lock, unlock.

use std::ops::{Range, RangeBounds};
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use super::Reservation;
use crate::error::Error;
use crate::os::{self, Access, OsError};
use crate::page::{PageRange, index_range};

impl Reservation {
    /// Makes exactly the bytes of a range read zero; committed pages stay committed and charged, and others
    /// stay reserved: they read zero once they are committed.
    ///
    /// Whole pages are zeroed by the system, which may take their memory; bytes of a page that is only
    /// partly inside the range are written. Pages that were [protected](Self::protect) may be read-write
    /// afterwards.
    ///
    /// # Errors
    /// [`OutOfBounds`](Error::OutOfBounds) or [`ReversedRange`](Error::ReversedRange) for a bad range,
    /// [`MappingsExhausted`](Error::MappingsExhausted), [`Locked`](Error::Locked), or
    /// [`System`](Error::System).
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
    pub fn zero(&self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        let (start, end) = index_range(range, self.len)?;
        let whole = self.page.inward(start..end, self.len)?;
        if whole.is_empty() {
            // The range contains no whole page: it lies in one page, or in parts of two.
            let cut = self.page.round_down(end).max(start);
            self.zero_part_of_page(start..cut)?;
            return self.zero_part_of_page(cut..end);
        }
        self.zero_part_of_page(start..whole.offset())?;
        self.on_committed(whole, "zero", |start, len| {
            // SAFETY: the run is held and committed; the caller gives up its contents.
            unsafe { self.engine.zero(start, len) }
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
                // The program may have taken the access away. A fault would wait for ever, since this thread holds
                // the page.
                os::protect(address, len, Access::ReadWrite)?;
                let target = self.start.add(bytes.start).as_ptr();
                os::expect_access(target, bytes.len(), Access::ReadWrite);
                target.write_bytes(0, bytes.len());
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
    /// [`OutOfBounds`](Error::OutOfBounds) or [`ReversedRange`](Error::ReversedRange) for a bad range,
    /// [`Locked`](Error::Locked), or [`System`](Error::System).
    ///
    /// ```
    /// let cache = pagewise::Reservation::new(1 << 30)?;
    /// cache.commit(..1 << 20)?;
    /// cache.discard(..1 << 20)?; // may be reused at once: no commit that could be refused
    /// unsafe { cache.as_ptr().write(1) };
    /// assert_eq!((cache.committed(), unsafe { cache.as_ptr().read() }), (1 << 20, 1));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
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
    /// [`NotCommitted`](Error::NotCommitted) where a page is not (and nothing is changed),
    /// [`OutOfBounds`](Error::OutOfBounds) or [`ReversedRange`](Error::ReversedRange) for a bad range,
    /// [`MappingsExhausted`](Error::MappingsExhausted), or [`System`](Error::System).
    ///
    /// ```
    /// use pagewise::{Access, Reservation};
    ///
    /// let table = Reservation::new(1 << 20)?;
    /// table.commit(..100)?;
    /// unsafe { table.as_ptr().write(7) };
    /// table.protect(..100, Access::Read)?; // a stray write faults from now on
    /// assert_eq!(unsafe { table.as_ptr().read() }, 7);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn protect(&self, range: impl RangeBounds<usize>, access: Access) -> Result<(), Error> {
        if access != Access::ReadWrite {
            self.was_protected.store(true, Ordering::Relaxed);
        }
        // SAFETY: the range is held and committed.
        self.on_all_committed(range, "protect", |pages| unsafe {
            os::protect(self.address(pages), pages.len(), access)
        })
    }

    /// Makes committed pages resident now, so that the first touch costs nothing. Committed →
    /// Resident.
    ///
    /// Best effort: does nothing where the system refuses, or where it prefaults by touching and a page of this
    /// reservation was [protected](Self::protect). The first touch then makes the page resident.
    /// Rounds outward to whole pages.
    ///
    /// # Errors
    /// [`NotCommitted`](Error::NotCommitted) where a page is not; [`OutOfBounds`](Error::OutOfBounds) or
    /// [`ReversedRange`](Error::ReversedRange) for a bad range.
    ///
    /// ```
    /// let ring = pagewise::Reservation::new(1 << 20)?;
    /// assert!(ring.prefault(..100).is_err()); // a page must be committed first
    /// ring.commit(..)?;
    /// ring.prefault(..)?; // no page fault where latency matters
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn prefault(&self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        let may_touch = !(os::PREFAULT_TOUCHES && self.was_protected.load(Ordering::Relaxed));
        self.on_all_committed(range, "prefault", |pages| {
            if may_touch {
                self.prefer_huge_pages(pages);
                // SAFETY: the range is held, committed, and accessible where that matters.
                unsafe { os::prefault(self.address(pages), pages.len()) };
            }
            Ok(())
        })
    }

    /// Keeps committed pages in physical memory (`mlock`, `VirtualLock`). Rounds outward to whole pages.
    ///
    /// # Errors
    /// [`Locked`](Error::Locked) beyond what the system lets a process lock,
    /// [`NotCommitted`](Error::NotCommitted); [`OutOfBounds`](Error::OutOfBounds) or
    /// [`ReversedRange`](Error::ReversedRange) for a bad range.
    ///
    /// ```
    /// use pagewise::{Error, Reservation};
    ///
    /// let key = Reservation::new(1 << 20)?;
    /// key.commit(..32)?;
    /// match key.lock(..32) {
    ///     Ok(()) => {} // never in swap space
    ///     Err(Error::Locked { .. }) => println!("raise `ulimit -l`"),
    ///     Err(error) => return Err(error),
    /// }
    /// # Ok::<(), Error>(())
    /// ```
    pub fn lock(&self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        // SAFETY: the range is held and committed.
        self.on_all_committed(range, "lock", |pages| unsafe {
            os::lock(self.address(pages), pages.len())
        })
    }

    /// Undoes [`lock`](Self::lock). Rounds outward to whole pages.
    ///
    /// # Errors
    /// [`NotCommitted`](Error::NotCommitted), [`OutOfBounds`](Error::OutOfBounds) or
    /// [`ReversedRange`](Error::ReversedRange) for a bad range, or [`System`](Error::System).
    ///
    /// ```
    /// let key = pagewise::Reservation::new(1 << 20)?;
    /// key.commit(..32)?;
    /// if key.lock(..32).is_ok() {
    ///     key.unlock(..32)?;
    /// }
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn unlock(&self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        // SAFETY: the range is held and committed.
        self.on_all_committed(range, "unlock", |pages| unsafe {
            os::unlock(self.address(pages), pages.len())
        })
    }

    fn on_all_committed(
        &self,
        range: impl RangeBounds<usize>,
        operation: &'static str,
        call: impl Fn(PageRange) -> Result<(), OsError>,
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
            call(range).map_err(|error| self.operation_error(operation, range, error))
        };
        self.states.unlock(range);
        result
    }
}
