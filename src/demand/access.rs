//! Reading and writing a region: plain slices, and copies that return a refusal as an error.

use std::io;
use std::ops::{Range, RangeBounds};

use super::region::DemandRegion;
use crate::error::AccessError;
use crate::fault;
use crate::os;
use crate::page::index_range;
use crate::sync::relax;

impl DemandRegion {
    /// Returns all bytes, for plain reading. Reading a page commits it; a refused one ends the process.
    ///
    /// ```
    /// let region = pagewise::DemandRegion::new(1 << 40)?;
    /// let bytes = region.as_slice(); // making the slice commits nothing
    /// assert_eq!(region.committed(), 0);
    /// assert_eq!(bytes[1 << 39], 0); // reading does
    /// assert!(region.committed() > 0);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn as_slice(&self) -> &[u8] {
        self.touch_all_without_faults();
        // SAFETY: the whole range is readable, by way of the fault handler, and zero is a valid byte.
        // Safe code changes it through `&mut self` only.
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.len()) }
    }

    /// Returns all bytes, for plain writing. Touching a page commits it; a refused one ends the process.
    ///
    /// ```
    /// let mut disk = pagewise::DemandRegion::new(1 << 40)?;
    /// let sector = &mut disk.as_mut_slice()[1 << 33..][..512];
    /// sector.copy_from_slice(&[0xaa; 512]); // any code that takes a slice will do
    /// assert!(disk.committed() < 1 << 20);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.touch_all_without_faults();
        // SAFETY: as in `as_slice`; `&mut self` makes it exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.as_ptr(), self.len()) }
    }

    /// Copies bytes out of the region, from `offset`, until `into` is full. Pages that were never
    /// touched are committed, and read zero.
    ///
    /// # Errors
    /// [`AccessError`] with how much was copied, where a page is refused:
    /// [`Limit`](crate::RefusalReason::Limit), [`Budget`](crate::RefusalReason::Budget),
    /// [`Mappings`](crate::RefusalReason::Mappings), [`Locked`](crate::RefusalReason::Locked) or
    /// [`System`](crate::RefusalReason::System). For a range that is out of bounds,
    /// [`NotReserved`](crate::RefusalReason::NotReserved), and nothing is copied.
    ///
    /// ```
    /// let mut region = pagewise::DemandRegion::new(1 << 30)?;
    /// region.write(1000, b"abc")?;
    /// let mut word = [0; 4];
    /// region.read(1000, &mut word)?;
    /// assert_eq!(&word, b"abc\0");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), AccessError> {
        self.guarded(offset, into.len(), |from, len| {
            // SAFETY: the source lies inside the region and the target is exclusive, so they are apart.
            unsafe { fault::copy(into.as_mut_ptr(), from, len) }
        })
    }

    /// Copies bytes into the region, at `offset`. What comes before a refused page is written.
    ///
    /// # Errors
    /// [`AccessError`] with how much was copied, where a page is refused:
    /// [`Limit`](crate::RefusalReason::Limit), [`Budget`](crate::RefusalReason::Budget),
    /// [`Mappings`](crate::RefusalReason::Mappings), [`Locked`](crate::RefusalReason::Locked) or
    /// [`System`](crate::RefusalReason::System). For a range that is out of bounds,
    /// [`NotReserved`](crate::RefusalReason::NotReserved), and nothing is copied.
    ///
    /// ```
    /// use pagewise::{DemandRegion, page_size};
    ///
    /// let mut region = DemandRegion::builder(1 << 30).limit(page_size()).build()?;
    /// let stopped = region.write(page_size() - 3, b"hello").unwrap_err();
    /// assert_eq!(stopped.copied, 3); // up to the second page, which the limit refuses
    /// assert_eq!(&region.as_slice()[page_size() - 3..page_size()], b"hel");
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn write(&mut self, offset: usize, from: &[u8]) -> Result<(), AccessError> {
        // SAFETY: the region is borrowed exclusively.
        unsafe { self.write_shared(offset, from) }
    }

    /// Writes as [`write`](Self::write) does, for regions that several threads or raw pointers share.
    ///
    /// # Errors
    /// As [`write`](Self::write): [`Limit`](crate::RefusalReason::Limit),
    /// [`Budget`](crate::RefusalReason::Budget), [`Mappings`](crate::RefusalReason::Mappings),
    /// [`Locked`](crate::RefusalReason::Locked) or [`System`](crate::RefusalReason::System), or
    /// [`NotReserved`](crate::RefusalReason::NotReserved).
    ///
    /// # Safety
    /// No other thread accesses the same bytes at the same time, and no slice of them is borrowed.
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
    pub unsafe fn write_shared(&self, offset: usize, from: &[u8]) -> Result<(), AccessError> {
        self.guarded(offset, from.len(), |to, len| {
            // SAFETY: the target lies inside the region, and is the caller's for now.
            unsafe { fault::copy(to, from.as_ptr(), len) }
        })
    }

    /// Writes `value` to every byte of a range. What comes before a refused page is written.
    ///
    /// # Errors
    /// [`AccessError`] with how much was written, where a page is refused:
    /// [`Limit`](crate::RefusalReason::Limit), [`Budget`](crate::RefusalReason::Budget),
    /// [`Mappings`](crate::RefusalReason::Mappings), [`Locked`](crate::RefusalReason::Locked) or
    /// [`System`](crate::RefusalReason::System). For a range that is reversed or out of bounds,
    /// [`NotReserved`](crate::RefusalReason::NotReserved), and nothing is written.
    ///
    /// ```
    /// let mut region = pagewise::DemandRegion::builder(1 << 30).limit(64 << 10).build()?;
    /// let stopped = region.fill(.., 7).unwrap_err(); // as far as the limit goes
    /// assert_eq!(stopped.copied, 64 << 10);
    /// assert_eq!(region.fill(1 << 31.., 7).unwrap_err().copied, 0); // out of bounds
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn fill(&mut self, range: impl RangeBounds<usize>, value: u8) -> Result<(), AccessError> {
        let (start, end) =
            index_range(range, self.len()).map_err(|_| AccessError::not_reserved(self.len()))?;
        self.guarded(start, end - start, |to, len| {
            // SAFETY: the range lies inside the region, which is borrowed exclusively.
            unsafe { fault::fill(to, value, len) }
        })
    }

    /// Calls `access` with the address of `offset` and the number of bytes to access: `len`. Where there are no
    /// page faults (Miri, `os/model.rs`), commits the pages first, and passes the bytes before a refused page.
    pub(crate) fn guarded(
        &self,
        offset: usize,
        len: usize,
        access: impl FnOnce(*mut u8, usize) -> Result<(), AccessError>,
    ) -> Result<(), AccessError> {
        let start = self.core.check(offset, len)?;
        let touched = self.core.touch_without_faults(offset, len);
        access(start, touched.err().map_or(len, |error| error.copied))?;
        touched
    }

    /// Where there are no page faults: commits every page, before a plain slice is handed out.
    pub(crate) fn touch_all_without_faults(&self) {
        if let Err(error) = self.core.touch_without_faults(0, self.len()) {
            panic!("a plain slice is refused: {error}");
        }
    }

    /// Copies bytes out of the region, from `offset`, and commits nothing: where no page is committed, they
    /// are zero, as they would be after a commit. For looking into a sparse table.
    ///
    /// # Errors
    /// [`AccessError`] for a range that is out of bounds ([`NotReserved`](crate::RefusalReason::NotReserved)),
    /// with nothing copied.
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

    /// Calls `each` for the parts of a range that are committed, and those that are not, in order. Waits for
    /// pages that another thread is committing: this thread may have written to them already.
    pub(crate) fn for_each_part<E>(
        &self,
        range: Range<usize>,
        mut each: impl FnMut(Range<usize>, bool) -> Result<(), E>,
    ) -> Result<(), E> {
        let (size, states) = (self.reservation().page(), self.reservation().states());
        let last = size.page_of(range.end.saturating_sub(1)) + 1;
        let (mut at, mut round) = (range.start, 0);
        while at < range.end {
            let page = size.page_of(at);
            let is_committed = states.is_committed(page);
            if !is_committed && states.is_held(page) {
                relax(&mut round);
                continue;
            }
            let next = if is_committed {
                states.find_reserved(page, last)
            } else {
                states.find_used(page, last)
            };
            let end = next.map_or(range.end, |next| range.end.min(next * size.bytes()));
            // Another thread may have committed the page since it was read: then look again.
            let end = if end > at { end } else { continue };
            each(at..end, is_committed)?;
            (at, round) = (end, 0);
        }
        Ok(())
    }

    /// Fills a range from a reader until the reader ends or the range is full; returns the number of bytes read.
    /// Commits as it reads, ahead of the reader by at most as many bytes as were read, or a page if that is
    /// more, and never by more than 1 MiB.
    ///
    /// ```
    /// let mut region = pagewise::DemandRegion::builder(1 << 40).limit(64 << 10).build()?;
    /// let read = region.read_from(10.., &mut &b"hello"[..])?;
    /// assert_eq!(&region.as_slice()[10..10 + read], b"hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The refusal of a commit, as an [`io::Error`] around [`Error`](crate::Error):
    /// [`LimitReached`](crate::Error::LimitReached), [`BudgetReached`](crate::Error::BudgetReached),
    /// [`CommitRefused`](crate::Error::CommitRefused), [`MappingsExhausted`](crate::Error::MappingsExhausted),
    /// [`Locked`](crate::Error::Locked), [`OutOfBounds`](crate::Error::OutOfBounds) or
    /// [`ReversedRange`](crate::Error::ReversedRange); or an error of the reader. The bytes that were read
    /// before are in the region; no byte is read and lost.
    pub fn read_from(
        &mut self,
        range: impl RangeBounds<usize>,
        reader: &mut (impl io::Read + ?Sized),
    ) -> io::Result<usize> {
        const MOST_AHEAD: usize = 1 << 20;
        let (start, end) = index_range(range, self.len()).map_err(io::Error::from)?;
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
            os::expect_access(into.as_ptr(), into.len(), os::Access::ReadWrite);
            match reader.read(into) {
                Ok(0) => break,
                Ok(count) => {
                    // Safe code may implement `Read` wrongly: a count that is too large must not become a longer slice.
                    assert!(
                        count <= ready - done,
                        "the reader says that it read more than it could"
                    );
                    done += count;
                }
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
        self.commit(from..least).map_err(io::Error::from)?;
        Ok(least)
    }

    /// Writes a range whole to a writer. Commits nothing: where no page is committed, it writes zeros.
    ///
    /// # Errors
    /// An error of the writer; an [`io::Error`] around [`OutOfBounds`](crate::Error::OutOfBounds) or
    /// [`ReversedRange`](crate::Error::ReversedRange) for a bad range.
    ///
    /// ```
    /// let mut region = pagewise::DemandRegion::new(1 << 40)?;
    /// region.write(0, b"head")?;
    /// let mut file = Vec::new();
    /// region.write_to(..1 << 20, &mut file)?;
    /// assert_eq!((file.len(), &file[..5]), (1 << 20, &b"head\0"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn write_to(
        &self,
        range: impl RangeBounds<usize>,
        writer: &mut (impl io::Write + ?Sized),
    ) -> io::Result<()> {
        static ZEROS: [u8; 4096] = [0; 4096];
        let (start, end) = index_range(range, self.len()).map_err(io::Error::from)?;
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

    /// A committed range as a slice. Unlike `as_slice`, commits nothing where there are no page faults.
    fn committed_bytes(&self, range: Range<usize>) -> &[u8] {
        // SAFETY: the range lies inside the region, and a committed page holds valid bytes; safe code
        // changes them through `&mut self` only.
        let bytes =
            unsafe { std::slice::from_raw_parts(self.as_ptr().add(range.start), range.len()) };
        os::expect_access(bytes.as_ptr(), bytes.len(), os::Access::Read);
        bytes
    }
}

#[cfg(all(test, unix, not(loom), not(any(miri, pagewise_model))))]
mod tests {
    use super::*;
    use crate::{CommitStep, Engine};

    /// Another thread's fault makes a batch accessible before it marks the batch as committed. A thread that writes
    /// to the batch in between sees what it wrote.
    #[test]
    fn a_thread_sees_what_it_wrote_to_a_page_that_another_one_is_committing() {
        let page = crate::page_size();
        for engine in [Engine::Protect, Engine::Auto] {
            let builder = DemandRegion::builder(64 * page).engine(engine);
            let region = builder.step(CommitStep::page()).build().unwrap();
            let reservation = region.reservation();
            for round in 0..3 {
                reservation.begin_a_commit(8 + round * 8..12 + round * 8);
                let at = (9 + round * 8) * page + 5;
                // SAFETY: the page is accessible, and nobody else accesses it.
                unsafe { region.as_ptr().add(at).write(7) };
                std::thread::scope(|threads| {
                    threads.spawn(|| {
                        std::thread::sleep(std::time::Duration::from_millis(50));
                        reservation.end_a_commit(8 + round * 8..12 + round * 8);
                    });
                    let mut seen = [9; 3];
                    match round {
                        0 => region.peek(at - 1, &mut seen).unwrap(),
                        1 => {
                            let mut out = &mut seen[..];
                            region.write_to(at - 1..at + 2, &mut out).unwrap();
                        }
                        _ => {
                            assert!(region.is_committed(at..at + 1));
                            return;
                        }
                    }
                    assert_eq!(seen, [0, 7, 0], "{engine:?}");
                });
            }
            assert_eq!(region.committed(), 12 * page);
        }
    }
}
