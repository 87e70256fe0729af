//! Copies into a region and out of it, whose errors say how far they came.

use std::io;
use std::ops::RangeBounds;

use super::cache::Number;
use super::core::Trouble;
use super::moves::{Program, Source, Wish};
use super::region::PagedRegion;
use super::store::PageStore;
use crate::error::{AccessError, Error};
use crate::fault;
use crate::page::index_range;

/// A [`read`](PagedRegion::read), [`write`](PagedRegion::write) or [`fill`](PagedRegion::fill) that ended early.
///
/// ```
/// use pagewise::{FileStore, PagedRegion};
///
/// let path = std::env::temp_dir().join(format!("pagewise-error-{}", std::process::id()));
/// let store = FileStore::create(&path, 1 << 20)?;
/// let Ok(region) = PagedRegion::builder(store).build() else {
///     return Ok(()); // this system has no paged regions
/// };
/// std::fs::write(&path, [7; 100_000])?; // somebody truncates the file
/// let stopped = region.read(0, &mut vec![0; 1 << 20]).unwrap_err();
/// println!("{stopped}"); // says after how many bytes, and why
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[error("stopped after {copied} bytes: {source}")]
#[non_exhaustive]
pub struct PagedError {
    /// Bytes that were copied or written before: exact. They are intact.
    pub copied: usize,
    /// Why: [`Store`](Error::Store), [`AllPinned`](Error::AllPinned), [`OutOfBounds`](Error::OutOfBounds), and others.
    pub source: Error,
}

/// The error alone.
impl From<PagedError> for Error {
    fn from(error: PagedError) -> Self {
        error.source
    }
}

impl From<PagedError> for io::Error {
    fn from(error: PagedError) -> Self {
        error.source.into()
    }
}

impl<S: PageStore + 'static> PagedRegion<S> {
    /// Copies bytes from the region into a buffer, page by page; no signal is raised.
    ///
    /// # Errors
    /// With the number of bytes that are in the buffer: [`Store`](Error::Store), with the store's own error as its
    /// source; [`AllPinned`](Error::AllPinned); [`BudgetReached`](Error::BudgetReached) where this region has no page to
    /// give up for another; [`MappingsExhausted`](Error::MappingsExhausted); [`System`](Error::System);
    /// [`OutOfBounds`](Error::OutOfBounds), and nothing is copied; [`Unsupported`](Error::Unsupported) in the child of a
    /// fork.
    ///
    /// ```
    /// # use pagewise::{FileStore, PagedRegion};
    /// # let program = FileStore::builder(std::env::current_exe()?).read_only(true).open()?;
    /// # let Ok(region) = PagedRegion::builder(program).limit(1 << 20).build() else { return Ok(()) };
    /// let mut magic = [0; 4];
    /// region.read(0, &mut magic)?;
    /// let end = region.len();
    /// assert_eq!(region.read(end - 1, &mut magic).unwrap_err().copied, 0); // it reaches beyond the end
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read(&self, offset: usize, buffer: &mut [u8]) -> Result<(), PagedError> {
        self.each_part(offset, buffer.len(), false, |at, done, len| {
            let to = buffer.as_mut_ptr().wrapping_add(done);
            // SAFETY: the page is pinned, and the part inside it; the buffer has room.
            unsafe { fault::copy(to, self.as_ptr().add(at), len) }
        })
    }

    /// Copies bytes into the region. A page that is replaced as a whole is not read first.
    ///
    /// # Errors
    /// As [`read`](Self::read); [`Unsupported`](Error::Unsupported) in a read-only region.
    ///
    /// ```
    /// # use pagewise::{FileStore, PagedRegion};
    /// # let path = std::env::temp_dir().join(format!("pagewise-doc-write-{}", std::process::id()));
    /// # let store = FileStore::create(&path, 1 << 20)?;
    /// # std::fs::remove_file(&path)?;
    /// # let Ok(mut region) = PagedRegion::builder(store).limit(1 << 18).build() else { return Ok(()) };
    /// region.write(600_000, b"some bytes")?;
    /// assert_eq!(&region.pin(600_000..600_010)?[..], b"some bytes");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), PagedError> {
        let to = self.core.ground.start.as_ptr();
        let replace = |done: usize| Source::Bytes(bytes.as_ptr().wrapping_add(done));
        self.each_part_for_writing(offset, bytes.len(), replace, |at, done, len| {
            let from = bytes.as_ptr().wrapping_add(done);
            // SAFETY: the page is pinned and writable, and the part inside it.
            unsafe { fault::copy(to.add(at), from, len) }
        })
    }

    /// Sets all bytes of a range. A page that is replaced as a whole is not read first.
    ///
    /// # Errors
    /// As [`write`](Self::write), and [`ReversedRange`](Error::ReversedRange).
    ///
    /// ```
    /// # use pagewise::{FileStore, PagedRegion};
    /// # let path = std::env::temp_dir().join(format!("pagewise-doc-fill-{}", std::process::id()));
    /// # let store = FileStore::create(&path, 1 << 20)?;
    /// # std::fs::remove_file(&path)?;
    /// # let Ok(mut region) = PagedRegion::builder(store).limit(1 << 18).build() else { return Ok(()) };
    /// region.fill(100.., 9)?;
    /// assert_eq!(region.pin(99..101)?[..], [0, 9]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn fill(&mut self, range: impl RangeBounds<usize>, value: u8) -> Result<(), PagedError> {
        let (start, end) = index_range(range, self.len()).map_err(nothing_copied)?;
        let to = self.core.ground.start.as_ptr();
        self.each_part_for_writing(
            start,
            end - start,
            |_| Source::Value(value),
            |at, _, len| {
                // SAFETY: as above.
                unsafe { fault::fill(to.add(at), value, len) }
            },
        )
    }

    /// Calls a function for the part of each page in a range, while that page is pinned: where the part begins in the
    /// region, how many bytes came before it, and how many it has.
    fn each_part(
        &self,
        offset: usize,
        len: usize,
        write: bool,
        mut each: impl FnMut(usize, usize, usize) -> Result<(), AccessError>,
    ) -> Result<(), PagedError> {
        self.parts(offset, len, |page, at, done, part| {
            self.pinned(page, write, Source::Store, || each(at, done, part))
        })
    }

    fn each_part_for_writing(
        &mut self,
        offset: usize,
        len: usize,
        replace: impl Fn(usize) -> Source,
        mut each: impl FnMut(usize, usize, usize) -> Result<(), AccessError>,
    ) -> Result<(), PagedError> {
        self.parts(offset, len, |page, at, done, part| {
            let (begin, whole) = self.core.extent(page);
            let is_whole = at as u64 == begin && part == whole;
            let source = if is_whole { replace(done) } else { Source::Store };
            self.pinned(page, true, source, || each(at, done, part))
        })
    }

    /// Calls a function while a page is pinned. An error says how much of the part was copied.
    fn pinned(
        &self,
        page: Number,
        write: bool,
        source: Source,
        each: impl FnOnce() -> Result<(), AccessError>,
    ) -> Result<(), (usize, Trouble)> {
        let wish = Wish { pin: true, source, ..Wish::of_store(page, Some(write)) };
        fault::uninterrupted(|| {
            self.core.fulfil::<Program>(wish).map_err(|trouble| (0, trouble))?;
            let result = each();
            self.core.unpin(page);
            result.map_err(|error| (error.copied, Trouble::Refused(error.refusal.reason)))
        })
    }

    fn parts(
        &self,
        offset: usize,
        len: usize,
        mut each: impl FnMut(Number, usize, usize, usize) -> Result<(), (usize, Trouble)>,
    ) -> Result<(), PagedError> {
        let range = offset..offset.saturating_add(len);
        let (start, end) = index_range(range, self.len()).map_err(nothing_copied)?;
        self.check_process(start).map_err(nothing_copied)?;
        let size = self.page_bytes();
        let mut at = start;
        while at < end {
            let page = at / size;
            let part = ((page + 1) * size).min(end) - at;
            each(page as Number, at, at - start, part).map_err(|(copied, trouble)| {
                let copied = at - start + copied;
                let source = self.core.error(trouble, start + copied);
                PagedError { copied, source }
            })?;
            at += part;
        }
        Ok(())
    }
}

fn nothing_copied(source: Error) -> PagedError {
    PagedError { copied: 0, source }
}
