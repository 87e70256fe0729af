//! A file in memory whose errors are errors: see [`MappedFile`].

use std::fmt;
use std::fs::File;
use std::ops::RangeBounds;
use std::path::Path;

mod builder;
mod reader;
mod serving;

pub use builder::MappedFileBuilder;
pub use reader::FileReader;

use crate::error::{AccessError, Error, Refusal, RefusalReason};
use crate::fault;
use crate::os::{self, Expected, FileAccess};
use crate::page::{PageSize, index_range};
use serving::Core;

/// A file in memory, of which a part that cannot be read is an `Err` and not the end of the process.
///
/// Where a mapped file is truncated by another process, or its disk fails, the system ends a program that touches
/// what is missing (SIGBUS; an in-page error on Windows). [`read`](Self::read), [`write`](Self::write) and
/// [`reader`](Self::reader) return an error instead, in any thread, which says how many bytes were copied. A plain
/// access through [`as_slice`](Self::as_slice) still ends the process, after one line on stderr.
///
/// ```
/// use pagewise::{MappedFile, RefusalReason};
///
/// let path = std::env::temp_dir().join(format!("pagewise-{}.txt", std::process::id()));
/// std::fs::write(&path, vec![7; 100_000])?;
/// let mapped = MappedFile::open(&path)?;
/// let mut bytes = [0; 4];
/// mapped.read(99_996, &mut bytes)?;
/// assert_eq!(bytes, [7; 4]);
///
/// # #[cfg(not(windows))] { // Windows lets nobody truncate a file that is mapped.
/// // Another process truncates the file.
/// std::fs::OpenOptions::new().write(true).open(&path)?.set_len(10)?;
/// let mut all = vec![0; 100_000];
/// let stopped = mapped.read(0, &mut all).unwrap_err();
/// assert_eq!(stopped.copied, 10);
/// assert!(matches!(stopped.refusal.reason, RefusalReason::FileTruncated { len: 10, .. }));
/// # }
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The file stays open as long as the value lives. A child of a fork has the mapping, too.
pub struct MappedFile {
    /// Invariant: registered from `build` until `drop` unless it is empty, and it stays where it is in between.
    core: Box<Core>,
}

impl MappedFile {
    /// Maps a whole file for reading.
    ///
    /// # Errors
    /// [`File`](Error::File) where it cannot be opened, or not be mapped; [`Overflow`](Error::Overflow) where it is
    /// longer than the address space; [`System`](Error::System) if the fault handler cannot be installed.
    ///
    /// ```
    /// let program = pagewise::MappedFile::open(std::env::current_exe()?)?;
    /// assert_eq!(program.len() as u64, std::fs::metadata(std::env::current_exe()?)?.len());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::builder(path).build()
    }

    /// Starts a mapping of a file with options: which part of it, and what may be done with it.
    ///
    /// ```
    /// use pagewise::MappedFile;
    ///
    /// let start = MappedFile::builder(std::env::current_exe()?).len(64).build()?;
    /// assert_eq!(start.len(), 64);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn builder(path: impl AsRef<Path>) -> MappedFileBuilder {
        MappedFileBuilder::of_path(path.as_ref())
    }

    /// Starts a mapping of a file that is open already. `name` stands for it in messages.
    ///
    /// ```
    /// use pagewise::MappedFile;
    ///
    /// let file = std::fs::File::open(std::env::current_exe()?)?;
    /// assert!(MappedFile::builder_of(file, "this program").build()?.len() > 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn builder_of(file: File, name: impl AsRef<Path>) -> MappedFileBuilder {
        MappedFileBuilder::of_file(file, name.as_ref())
    }

    /// Returns the bytes that are mapped: those that the file had then. It may have fewer by now.
    ///
    /// ```
    /// let program = pagewise::MappedFile::open(std::env::current_exe()?)?;
    /// assert!(program.len() > 0 && !program.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn len(&self) -> usize {
        self.core.len
    }

    /// Returns whether nothing is mapped: the file was empty.
    ///
    /// ```
    /// let path = std::env::temp_dir().join(format!("pagewise-empty-{}", std::process::id()));
    /// std::fs::write(&path, "")?;
    /// assert!(pagewise::MappedFile::open(&path)?.is_empty());
    /// std::fs::remove_file(&path)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_empty(&self) -> bool {
        self.core.len == 0
    }

    /// Returns the address of the first byte. Touching what the file does not have (any more) through it ends the
    /// process.
    ///
    /// ```
    /// let program = pagewise::MappedFile::open(std::env::current_exe()?)?;
    /// // SAFETY: the file is not empty, and nobody truncates it meanwhile.
    /// let first = unsafe { program.as_ptr().read() };
    /// let mut copy = [0];
    /// program.read(0, &mut copy)?;
    /// assert_eq!(copy, [first]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn as_ptr(&self) -> *const u8 {
        self.core.first_byte()
    }

    /// Returns the bytes as a slice: as fast as memory, without any check.
    ///
    /// Touching what cannot be read ends the process, after one line on stderr that names the file and the offset.
    ///
    /// # Safety
    /// As long as the slice lives, nobody changes the bytes: not another process, not this one by the file, nor by
    /// another mapping of it. (The compiler may read a byte twice, and expects the same value.)
    ///
    /// ```
    /// let program = pagewise::MappedFile::open(std::env::current_exe()?)?;
    /// // SAFETY: nobody writes to a program while it runs.
    /// let bytes = unsafe { program.as_slice() };
    /// assert_eq!(bytes.len(), program.len());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub unsafe fn as_slice(&self) -> &[u8] {
        // SAFETY: the mapping lives as long as this value; the caller's promise.
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.len()) }
    }

    /// Copies bytes from the file into a buffer.
    ///
    /// Besides the copy, it asks the system for the file's length: where a file is truncated in the middle of a page,
    /// the rest of that page reads zero, and only the length tells. (A file that is truncated and made longer again
    /// during the call may read zero, too, without an error.)
    ///
    /// # Errors
    /// [`FileTruncated`](RefusalReason::FileTruncated) where the file does not have all of the range any more,
    /// [`FileUnreadable`](RefusalReason::FileUnreadable) where its device fails: the bytes before, of which there are
    /// `copied`, are in the buffer. [`NotReserved`](RefusalReason::NotReserved) for a range outside, of which
    /// nothing is copied.
    ///
    /// ```
    /// let program = pagewise::MappedFile::open(std::env::current_exe()?)?;
    /// let mut magic = [0; 2];
    /// program.read(0, &mut magic)?;
    /// assert!(program.read(program.len() - 1, &mut magic).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read(&self, offset: usize, buffer: &mut [u8]) -> Result<(), AccessError> {
        let from = self.check(offset, buffer.len())?;
        // SAFETY: the range lies inside the mapping, which is registered; a buffer that is borrowed exclusively does
        // not overlap it.
        let result = unsafe { fault::copy(buffer.as_mut_ptr(), from, buffer.len()) };
        self.cut_to_the_file(offset, buffer.len(), result)
    }

    /// Copies bytes into the file ([`FileAccess::Write`]), or into this process's copy of it
    /// ([`FileAccess::CopyOnWrite`]).
    ///
    /// # Errors
    /// As [`read`](Self::read), and [`FileUnreadable`](RefusalReason::FileUnreadable) where a hole of the file is to
    /// be filled and its disk is full; [`ReadOnly`](RefusalReason::ReadOnly) where the file is mapped for reading.
    ///
    /// ```
    /// use pagewise::{FileAccess, MappedFile};
    ///
    /// let mut copy = MappedFile::builder(std::env::current_exe()?).access(FileAccess::CopyOnWrite).build()?;
    /// copy.write(0, b"changed, but not in the file")?;
    /// let mut bytes = [0; 7];
    /// copy.read(0, &mut bytes)?;
    /// assert_eq!(&bytes, b"changed");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), AccessError> {
        let to = self.check(offset, bytes.len())?;
        if self.core.access == FileAccess::Read {
            return Err(self.stopped(offset, 0, RefusalReason::ReadOnly));
        }
        // SAFETY: as in `read`; the mapping is writable, and borrowed exclusively.
        let result = unsafe { fault::copy(to, bytes.as_ptr(), bytes.len()) };
        self.cut_to_the_file(offset, bytes.len(), result)
    }

    /// Returns a reader of a range: it implements [`Read`](std::io::Read) and [`Seek`](std::io::Seek), by
    /// [`read`](Self::read).
    ///
    /// # Errors
    /// [`OutOfBounds`](Error::OutOfBounds) or [`ReversedRange`](Error::ReversedRange) for a bad range.
    ///
    /// ```
    /// use std::io::Read;
    ///
    /// let program = pagewise::MappedFile::open(std::env::current_exe()?)?;
    /// let mut start = Vec::new();
    /// program.reader(..16)?.read_to_end(&mut start)?;
    /// assert_eq!(start.len(), 16);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reader(&self, range: impl RangeBounds<usize>) -> Result<FileReader<'_>, Error> {
        let (start, end) = index_range(range, self.len())?;
        Ok(FileReader::new(self, start..end))
    }

    /// Calls `each` with one part of a range after the other, copied into `buffer`: the offset of its first byte, and
    /// its bytes. Ends at the first error, of the file or of `each`.
    ///
    /// # Errors
    /// That error; of the file, as an [`AccessError`] whose `copied` counts from the start of the range (the bytes
    /// before it were given to `each`). A bad range is [`OutOfBounds`](Error::OutOfBounds) or
    /// [`ReversedRange`](Error::ReversedRange), an empty buffer [`ZeroLength`](Error::ZeroLength).
    ///
    /// ```
    /// let program = pagewise::MappedFile::open(std::env::current_exe()?)?;
    /// let mut sum = 0u64;
    /// program.for_each_chunk(.., &mut vec![0; 1 << 20], |_offset, bytes| {
    ///     sum += bytes.iter().map(|&byte| u64::from(byte)).sum::<u64>();
    ///     Ok::<(), pagewise::Error>(())
    /// })?;
    /// assert!(sum > 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn for_each_chunk<E: From<Error>>(
        &self,
        range: impl RangeBounds<usize>,
        buffer: &mut [u8],
        mut each: impl FnMut(usize, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let (start, end) = index_range(range, self.len())?;
        if buffer.is_empty() {
            return Err(Error::ZeroLength.into());
        }
        let mut at = start;
        while at < end {
            let len = (end - at).min(buffer.len());
            let result = self.read(at, &mut buffer[..len]);
            let copied = result.map_or_else(|error| error.copied, |()| len);
            if copied > 0 {
                each(at, &buffer[..copied])?;
            }
            at += copied;
            if let Err(error) = result {
                return Err(Error::from(AccessError { copied: at - start, ..error }).into());
            }
        }
        Ok(())
    }

    /// Writes what was changed back to the file, and returns when its device has it. Rounds outward to whole pages.
    /// Does nothing unless the file is mapped by [`FileAccess::Write`].
    ///
    /// # Errors
    /// [`File`](Error::File) where the system cannot write; [`OutOfBounds`](Error::OutOfBounds) or
    /// [`ReversedRange`](Error::ReversedRange) for a bad range.
    ///
    /// ```
    /// use pagewise::{FileAccess, MappedFile};
    ///
    /// let path = std::env::temp_dir().join(format!("pagewise-flush-{}", std::process::id()));
    /// std::fs::write(&path, [0; 100])?;
    /// let mut mapped = MappedFile::builder(&path).access(FileAccess::Write).build()?;
    /// mapped.write(50, b"written")?;
    /// mapped.flush(..)?;
    /// assert_eq!(&std::fs::read(&path)?[50..57], b"written");
    /// # drop(mapped);
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn flush(&self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        let Some((start, len)) = self.pages(range)? else { return Ok(()) };
        if self.core.access != FileAccess::Write {
            return Ok(());
        }
        // SAFETY: the pages lie inside the mapping.
        unsafe { os::flush_file(start, len, &self.core.file) }
            .map_err(|error| self.core.error("flush", error))
    }

    /// Tells the system how a range is going to be accessed, so that it reads ahead or not. A hint: no effect where
    /// the system has no such advice. Rounds outward to whole pages.
    ///
    /// # Errors
    /// [`OutOfBounds`](Error::OutOfBounds) or [`ReversedRange`](Error::ReversedRange) for a bad range.
    ///
    /// ```
    /// use pagewise::{Expected, MappedFile};
    ///
    /// let program = MappedFile::open(std::env::current_exe()?)?;
    /// program.expect(..4096, Expected::Soon)?; // read in the background
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn expect(&self, range: impl RangeBounds<usize>, expected: Expected) -> Result<(), Error> {
        if let Some((start, len)) = self.pages(range)? {
            // SAFETY: the pages lie inside the mapping.
            unsafe { os::expect_file_access(start, len, expected) };
        }
        Ok(())
    }

    /// The pages of a range: address and length; none if the range is empty.
    fn pages(
        &self,
        range: impl RangeBounds<usize>,
    ) -> Result<Option<(std::ptr::NonNull<u8>, usize)>, Error> {
        let (start, end) = index_range(range, self.len())?;
        let Some(mapping) = self.core.mapping.filter(|_| start < end) else { return Ok(None) };
        let size = PageSize::system();
        let first = size.round_down(self.core.skipped + start);
        let end = size.round_up(self.core.skipped + end).unwrap_or(self.core.mapped_len);
        // SAFETY: inside the mapping.
        Ok(Some((unsafe { mapping.add(first) }, end - first)))
    }

    /// The address of a range, or an error where it does not lie inside the mapping.
    fn check(&self, offset: usize, len: usize) -> Result<*mut u8, AccessError> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len() => Ok(self.core.first_byte().wrapping_add(offset)),
            _ => Err(AccessError::not_reserved(self.len())),
        }
    }

    /// What became of an access to `len` bytes at `offset`, of which the copy says that `result`: bytes behind the
    /// end of the file do not count, although the last page has some.
    fn cut_to_the_file(
        &self,
        offset: usize,
        len: usize,
        result: Result<(), AccessError>,
    ) -> Result<(), AccessError> {
        let copied = result.map_or_else(|error| error.copied, |()| len);
        let last = self.core.file_offset.saturating_add((offset + copied) as u64);
        match self.core.file_len() {
            Some(file_len) if file_len < last => {
                let missing = usize::try_from(last - file_len).unwrap_or(usize::MAX);
                let kept = copied.saturating_sub(missing);
                let reason = RefusalReason::FileTruncated { len: file_len };
                Err(self.stopped(offset + kept, kept, reason))
            }
            _ => result,
        }
    }

    fn stopped(&self, offset: usize, copied: usize, reason: RefusalReason) -> AccessError {
        let region = self.as_ptr().addr();
        AccessError { copied, refusal: Refusal { offset, region, reason } }
    }
}

impl fmt::Debug for MappedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MappedFile")
            .field("path", &self.core.path)
            .field("len", &self.len())
            .field("access", &self.core.access)
            .finish_non_exhaustive()
    }
}
