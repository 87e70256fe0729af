//! A file as a store of pages.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::{InHandler, PageStore};
use crate::error::Error;
use crate::os;

/// Direct reads and writes begin and end at multiples of this, and so do their buffers: what every usual device and
/// file system is content with.
const DIRECT_ALIGN: usize = 4096;

/// A file as a [`PageStore`]: read and written at offsets, on the thread that asks, without a lock.
///
/// - Its length is that of the file when the store was made. A file that is shorter later is an error where bytes
///   are missing ([`UnexpectedEof`](io::ErrorKind::UnexpectedEof)), for reads, and for all writes: a write would make
///   the file longer again, with zeros in place of what was lost. A file that somebody truncates and makes longer
///   again has such zeros, and nothing tells them from data.
/// - Holes of a sparse file read zero, and take no space until they are written. A full disk is an error of the write
///   that found it full.
/// - [`sync`](PageStore::sync) is `fdatasync`: what was written survives a crash of the machine, as far as its device
///   keeps what it says it has.
/// - On Unix, [`read`](PageStore::read) and [`write`](PageStore::write) are one system call or two each, and may be
///   called in the fault handler. Their errors are plain codes, since text would have to be allocated.
/// - Several processes may read the same file. If one of them writes, the others must not.
///
/// ```
/// use pagewise::{FileStore, PageStore};
///
/// let path = std::env::temp_dir().join(format!("pagewise-store-{}", std::process::id()));
/// let store = FileStore::create(&path, 1 << 30)?; // a gigabyte of zeros, which takes no space
/// store.write(123_456_789, b"some bytes")?;
/// store.sync()?;
///
/// let mut bytes = [1; 12];
/// FileStore::open(&path)?.read(123_456_788, &mut bytes)?;
/// assert_eq!(&bytes, b"\0some bytes\0");
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct FileStore {
    file: File,
    /// Where `file` is direct: from this offset on, the length is no multiple of the alignment, and this handle of the
    /// same file goes through the system's cache.
    tail: Option<(u64, File)>,
    direct: bool,
    len: u64,
    read_only: bool,
    /// Whether the length of the file is what `fstat` says: not so for a device.
    is_regular: bool,
}

impl FileStore {
    /// Opens a file for reading and writing. Its length is that of the store, in bytes.
    ///
    /// # Errors
    /// [`File`](Error::File) where it cannot be opened.
    ///
    /// ```
    /// use pagewise::{Error, FileStore};
    ///
    /// assert!(matches!(FileStore::open("/no/such/file"), Err(Error::File { .. })));
    /// ```
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::builder(path).open()
    }

    /// Creates a file of `len` bytes, all of them zeros that take no space. As [`File::create`], it empties a file that
    /// is there already; [`FileStoreBuilder::create_new`] does not.
    ///
    /// # Errors
    /// [`File`](Error::File) where it cannot be created, or not have that length.
    ///
    /// ```
    /// use pagewise::{FileStore, PageStore};
    ///
    /// let path = std::env::temp_dir().join(format!("pagewise-create-{}", std::process::id()));
    /// assert_eq!(FileStore::create(&path, 10_000)?.len(), 10_000);
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn create(path: impl AsRef<Path>, len: u64) -> Result<Self, Error> {
        Self::builder(path).create(len)
    }

    /// Begins to open or to create a file, with options.
    ///
    /// ```
    /// use pagewise::{FileStore, PageStore};
    ///
    /// let program = FileStore::builder(std::env::current_exe()?).read_only(true).open()?;
    /// assert!(program.write(0, b"x").is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn builder(path: impl AsRef<Path>) -> FileStoreBuilder {
        FileStoreBuilder {
            path: path.as_ref().to_owned(),
            read_only: false,
            direct: false,
            at_least: 0,
        }
    }

    /// What both ways of opening end in.
    fn of(
        file: File,
        path: &Path,
        tail: impl FnOnce() -> io::Result<Option<File>>,
    ) -> Result<Self, Error> {
        let measured = || -> io::Result<Self> {
            let about = file.metadata()?;
            if about.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            let is_regular = about.is_file();
            // A device's length is where its end is.
            let len = match is_regular {
                true => about.len(),
                false => io::Seek::seek(&mut &file, io::SeekFrom::End(0))?,
            };
            let tail = tail()?;
            let direct = tail.is_some();
            let whole = len / DIRECT_ALIGN as u64 * DIRECT_ALIGN as u64;
            let tail = tail.map(|tail| (whole, tail)).filter(|_| whole < len);
            Ok(Self { file, tail, direct, len, read_only: false, is_regular })
        };
        measured().map_err(|source| Error::File { operation: "open", path: path.into(), source })
    }

    /// The handle for what begins at an offset, and how many of `len` bytes it is for. Never more than the store has.
    fn handle(&self, offset: u64, len: usize) -> io::Result<(&File, usize)> {
        if len as u64 > self.len.saturating_sub(offset) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        match &self.tail {
            Some((start, tail)) if offset >= *start => Ok((tail, len)),
            Some((start, _)) => {
                Ok((&self.file, usize::try_from(start - offset).unwrap_or(len).min(len)))
            }
            None => Ok((&self.file, len)),
        }
    }

    /// Whether a direct file can take this call: the system's own answer may be any error, or a slow detour.
    fn check_alignment(
        &self,
        file: &File,
        offset: u64,
        at: *const u8,
        len: usize,
    ) -> io::Result<()> {
        let is_direct = self.direct && std::ptr::eq(file, &self.file);
        if is_direct && !(offset as usize | at.addr() | len).is_multiple_of(DIRECT_ALIGN) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(())
    }
}

/// Takes an open file. Writes are errors where it was opened for reading only.
///
/// ```
/// use pagewise::{FileStore, PageStore};
///
/// let file = std::fs::File::open(std::env::current_exe()?)?;
/// let len = file.metadata()?.len();
/// assert_eq!(FileStore::try_from(file)?.len(), len);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl TryFrom<File> for FileStore {
    type Error = Error;

    fn try_from(file: File) -> Result<Self, Error> {
        Self::of(file, Path::new("an open file"), || Ok(None))
    }
}

impl PageStore for FileStore {
    fn len(&self) -> u64 {
        self.len
    }

    fn read(&self, mut offset: u64, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            let (file, len) = self.handle(offset, buffer.len())?;
            self.check_alignment(file, offset, buffer.as_ptr(), len)?;
            let (part, rest) = buffer.split_at_mut(len);
            self.read_part(file, offset, part)?;
            offset += len as u64;
            buffer = rest;
        }
        Ok(())
    }

    fn write(&self, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
        if self.read_only {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        // A write behind the end of a truncated file would make zeros of what lies between.
        if self.is_regular && os::file_len(&self.file)? < self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        while !bytes.is_empty() {
            let (file, len) = self.handle(offset, bytes.len())?;
            self.check_alignment(file, offset, bytes.as_ptr(), len)?;
            let (part, rest) = bytes.split_at(len);
            Self::write_part(file, offset, part)?;
            offset += len as u64;
            bytes = rest;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        if self.read_only { Ok(()) } else { self.file.sync_data() }
    }

    fn in_handler(&self) -> Option<InHandler> {
        // SAFETY: `read` and `write` make system calls, which are async-signal-safe where the constant says so, and
        // arithmetic that cannot panic: every range was compared with the length, which fits the offset's type. Their
        // errors are codes and kinds, which allocate nothing.
        let promise = unsafe { InHandler::promise() };
        os::FILE_CALLS_ARE_SIGNAL_SAFE.then_some(promise)
    }
}

impl FileStore {
    /// Reads all of a part that one handle has.
    fn read_part(&self, file: &File, mut offset: u64, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            match os::read_at(file, offset, buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => {
                    offset += count as u64;
                    buffer = buffer.get_mut(count..).unwrap_or_default();
                }
            }
        }
        Ok(())
    }

    /// Writes all of a part that one handle has.
    fn write_part(file: &File, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match os::write_at(file, offset, bytes)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => {
                    offset += count as u64;
                    bytes = bytes.get(count..).unwrap_or_default();
                }
            }
        }
        Ok(())
    }
}

/// Options for a [`FileStore`].
///
/// ```
/// use pagewise::{FileStore, PageStore};
///
/// let path = std::env::temp_dir().join(format!("pagewise-options-{}", std::process::id()));
/// let store = FileStore::builder(&path).create_new(1 << 20)?;
/// drop(store);
/// let longer = FileStore::builder(&path).at_least(2 << 20).open()?;
/// assert_eq!(longer.len(), 2 << 20);
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder opens nothing until `open` or `create`"]
pub struct FileStoreBuilder {
    path: PathBuf,
    read_only: bool,
    direct: bool,
    at_least: u64,
}

impl FileStoreBuilder {
    /// Opens the file for reading only: each write is an error
    /// ([`PermissionDenied`](io::ErrorKind::PermissionDenied)).
    ///
    /// ```
    /// use pagewise::FileStore;
    ///
    /// FileStore::builder(std::env::current_exe()?).read_only(true).open()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Reads and writes past the system's cache (`O_DIRECT`; `F_NOCACHE` on macOS; `FILE_FLAG_NO_BUFFERING` on
    /// Windows), so that nothing is in memory twice.
    ///
    /// Buffers, offsets and lengths must then be multiples of 4096 bytes, as those of a region are; others are errors
    /// ([`InvalidInput`](io::ErrorKind::InvalidInput)). The last block of a file whose length is no such multiple goes
    /// through the system's cache.
    ///
    /// ```
    /// use pagewise::{Error, FileStore, PageStore};
    ///
    /// let program = FileStore::builder(std::env::current_exe()?).read_only(true).direct(true);
    /// match program.open() {
    ///     Ok(store) => assert!(store.read(1, &mut [0; 100]).is_err()), // not aligned
    ///     Err(Error::Unsupported { what }) => println!("{what}"),
    ///     Err(error) => return Err(error.into()),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn direct(mut self, direct: bool) -> Self {
        self.direct = direct;
        self
    }

    /// Makes a file that has fewer bytes so long, with zeros that take no space. Never makes it shorter.
    ///
    /// ```
    /// use pagewise::{FileStore, PageStore};
    ///
    /// let path = std::env::temp_dir().join(format!("pagewise-grow-{}", std::process::id()));
    /// std::fs::write(&path, "begun")?;
    /// assert_eq!(FileStore::builder(&path).at_least(1 << 30).open()?.len(), 1 << 30);
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn at_least(mut self, bytes: u64) -> Self {
        self.at_least = bytes;
        self
    }

    /// Opens a file that is there.
    ///
    /// # Errors
    /// [`File`](Error::File) where it cannot be opened, or not be made longer; [`Unsupported`](Error::Unsupported)
    /// where it must be direct, and its file system or device has no such thing for blocks of 4096 bytes.
    ///
    /// ```
    /// use pagewise::{FileStore, PageStore};
    ///
    /// let program = FileStore::builder(std::env::current_exe()?).read_only(true).open()?;
    /// assert!(!program.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(self) -> Result<FileStore, Error> {
        self.finish("open", OpenOptions::new(), None)
    }

    /// Creates a file of `len` bytes; empties one that is there already.
    ///
    /// # Errors
    /// As [`open`](Self::open): [`File`](Error::File) or [`Unsupported`](Error::Unsupported).
    ///
    /// ```
    /// use pagewise::{FileStore, PageStore};
    ///
    /// let path = std::env::temp_dir().join(format!("pagewise-anew-{}", std::process::id()));
    /// std::fs::write(&path, "old")?;
    /// let mut bytes = [1; 3];
    /// FileStore::builder(&path).create(3)?.read(0, &mut bytes)?;
    /// assert_eq!(bytes, [0; 3]);
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn create(self, len: u64) -> Result<FileStore, Error> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(true);
        self.finish("create", options, Some(len))
    }

    /// Creates a file of `len` bytes where there is none.
    ///
    /// # Errors
    /// As [`open`](Self::open): [`File`](Error::File) also where there is one already, or
    /// [`Unsupported`](Error::Unsupported).
    ///
    /// ```
    /// use pagewise::FileStore;
    ///
    /// let path = std::env::temp_dir().join(format!("pagewise-new-{}", std::process::id()));
    /// FileStore::builder(&path).create_new(10)?;
    /// assert!(FileStore::builder(&path).create_new(10).is_err());
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn create_new(self, len: u64) -> Result<FileStore, Error> {
        let mut options = OpenOptions::new();
        options.create_new(true);
        self.finish("create", options, Some(len))
    }

    fn finish(
        self,
        operation: &'static str,
        mut options: OpenOptions,
        len: Option<u64>,
    ) -> Result<FileStore, Error> {
        let Self { path, read_only, direct, at_least } = self;
        let failed = |source| Error::File { operation, path: path.clone(), source };
        options.read(true).write(!read_only);
        let file = options.open(&path).map_err(failed)?;
        let new_len = match len {
            Some(len) => Some(len.max(at_least)),
            None => Some(at_least).filter(|&least| least > 0),
        };
        if let Some(new_len) = new_len
            && file.metadata().map_err(failed)?.len() < new_len
        {
            os::make_sparse(&file);
            file.set_len(new_len).map_err(failed)?;
        }
        let mut store = if direct {
            // The file is there now, and has its length.
            let mut again = OpenOptions::new();
            again.read(true).write(!read_only);
            let direct = os::open_direct(&mut again, &path).map_err(failed)?.ok_or(NOT_DIRECT)?;
            FileStore::of(direct, &path, || Ok(Some(file)))?
        } else {
            FileStore::of(file, &path, || Ok(None))?
        };
        store.read_only = read_only;
        store.try_direct()?;
        Ok(store)
    }
}

const NOT_DIRECT: Error = Error::Unsupported {
    what: "direct reads in blocks of 4096 bytes of this file: open it without `direct`",
};

impl FileStore {
    /// Whether the device is content with the alignment: some file systems say so only when they read.
    fn try_direct(&self) -> Result<(), Error> {
        let whole = self.tail.as_ref().map_or(self.len, |&(start, _)| start);
        if !self.direct || whole < DIRECT_ALIGN as u64 {
            return Ok(());
        }
        let mut room = vec![0; 2 * DIRECT_ALIGN];
        let skipped = room.as_ptr().align_offset(DIRECT_ALIGN);
        match self.read(0, &mut room[skipped..][..DIRECT_ALIGN]) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Err(NOT_DIRECT),
            Err(source) => Err(Error::System { operation: "the first direct read", source }),
            Ok(()) => Ok(()),
        }
    }
}
