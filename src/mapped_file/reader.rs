//! Reading a mapped file as a stream.

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

use super::MappedFile;

/// A reader of a [`MappedFile`]: see [`MappedFile::reader`].
///
/// A part that cannot be read is an [`io::Error`] around the [`AccessError`](crate::AccessError), after everything
/// before it was read.
///
/// ```
/// use std::io::{Read, Seek, SeekFrom};
///
/// let program = pagewise::MappedFile::open(std::env::current_exe()?)?;
/// let mut reader = program.reader(..)?;
/// reader.seek(SeekFrom::End(-1))?;
/// let mut last = Vec::new();
/// assert_eq!(reader.read_to_end(&mut last)?, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct FileReader<'a> {
    file: &'a MappedFile,
    range: Range<usize>,
    /// The next byte, from the start of the mapping; may lie behind the end of the range.
    at: usize,
}

impl<'a> FileReader<'a> {
    pub(super) fn new(file: &'a MappedFile, range: Range<usize>) -> Self {
        let at = range.start;
        Self { file, range, at }
    }

    fn left(&self) -> usize {
        self.range.end.saturating_sub(self.at)
    }
}

impl Read for FileReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = buffer.len().min(self.left());
        if len == 0 {
            return Ok(0);
        }
        let copied = match self.file.read(self.at, &mut buffer[..len]) {
            Ok(()) => len,
            Err(error) if error.copied == 0 => return Err(error.into()),
            Err(error) => error.copied,
        };
        self.at += copied;
        Ok(copied)
    }
}

impl Seek for FileReader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (base, by) = match to {
            SeekFrom::Start(offset) => (offset, 0),
            SeekFrom::Current(by) => ((self.at - self.range.start) as u64, by),
            SeekFrom::End(by) => (self.range.len() as u64, by),
        };
        let place = base.checked_add_signed(by);
        let at = place
            .and_then(|place| usize::try_from(place).ok())
            .and_then(|place| self.range.start.checked_add(place));
        let (Some(place), Some(at)) = (place, at) else {
            let text = "a place before the start, or beyond all addresses";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        };
        self.at = at;
        Ok(place)
    }
}
