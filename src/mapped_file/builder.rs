//! Options for a mapped file.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::ptr;

use super::MappedFile;
use super::serving::{Core, forked, serve};
use crate::error::Error;
use crate::fault::{self, Registered};
use crate::os::{self, Expected, FileAccess, HugePages};
use crate::page::PageSize;

/// Options for a [`MappedFile`].
///
/// ```
/// use pagewise::{FileAccess, MappedFile};
///
/// let middle = MappedFile::builder(std::env::current_exe()?)
///     .offset(100) // bytes from the start of the file
///     .len(50)
///     .access(FileAccess::CopyOnWrite)
///     .build()?;
/// assert_eq!(middle.len(), 50);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "a builder maps nothing until `build`"]
pub struct MappedFileBuilder {
    /// Open already, or to be opened by its path.
    file: Option<File>,
    path: PathBuf,
    offset: u64,
    len: Option<usize>,
    access: FileAccess,
    huge_pages: HugePages,
    populate: bool,
    lock: bool,
}

impl MappedFileBuilder {
    pub(super) fn of_path(path: &Path) -> Self {
        Self {
            file: None,
            path: path.to_owned(),
            offset: 0,
            len: None,
            access: FileAccess::Read,
            huge_pages: HugePages::System,
            populate: false,
            lock: false,
        }
    }

    pub(super) fn of_file(file: File, name: &Path) -> Self {
        Self { file: Some(file), ..Self::of_path(name) }
    }

    /// Maps the file from this byte on: any byte, not only a page's first one.
    ///
    /// ```
    /// let program = std::env::current_exe()?;
    /// let rest = pagewise::MappedFile::builder(&program).offset(5).build()?;
    /// assert_eq!(rest.len() as u64, std::fs::metadata(&program)?.len() - 5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn offset(mut self, bytes: u64) -> Self {
        self.offset = bytes;
        self
    }

    /// Maps this many bytes. All that the file has from the offset on, unless told otherwise.
    ///
    /// ```
    /// let header = pagewise::MappedFile::builder(std::env::current_exe()?).len(4).build()?;
    /// assert_eq!(header.len(), 4);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn len(mut self, bytes: usize) -> Self {
        self.len = Some(bytes);
        self
    }

    /// Sets what may be done with the file: reading only, unless told otherwise.
    ///
    /// ```
    /// use pagewise::{FileAccess, MappedFile};
    ///
    /// let program = MappedFile::builder(std::env::current_exe()?);
    /// let mut mine = program.access(FileAccess::CopyOnWrite).build()?;
    /// mine.write(0, b"mine")?; // the file stays as it is
    /// let mut start = [0; 4];
    /// mine.read(0, &mut start)?;
    /// assert_eq!(&start, b"mine");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn access(mut self, access: FileAccess) -> Self {
        self.access = access;
        self
    }

    /// Asks for huge pages: [`HugePages::Transparent`] where the file system has them (Linux; best effort). The
    /// other values have no effect.
    ///
    /// ```
    /// use pagewise::{HugePages, MappedFile};
    ///
    /// let program = MappedFile::builder(std::env::current_exe()?);
    /// let mapped = program.huge_pages(HugePages::Transparent).build()?;
    /// assert!(!mapped.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn huge_pages(mut self, huge_pages: HugePages) -> Self {
        self.huge_pages = huge_pages;
        self
    }

    /// Reads the range in the background at once. A hint, as [`Expected::Soon`].
    ///
    /// ```
    /// let mapped = pagewise::MappedFile::builder(std::env::current_exe()?).populate(true).build()?;
    /// assert!(!mapped.is_empty()); // the system reads it while the program goes on
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn populate(mut self, populate: bool) -> Self {
        self.populate = populate;
        self
    }

    /// Keeps the range in physical memory (`mlock`, `VirtualLock`), which reads all of it first.
    ///
    /// ```
    /// use pagewise::MappedFile;
    ///
    /// match MappedFile::builder(std::env::current_exe()?).len(100).lock(true).build() {
    ///     Ok(mapped) => assert_eq!(mapped.len(), 100), // no touch of it waits for the disk
    ///     Err(refused) => println!("{refused}"),       // `ulimit -l`, for instance
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn lock(mut self, lock: bool) -> Self {
        self.lock = lock;
        self
    }

    /// Opens the file, unless it is open, and maps it.
    ///
    /// # Errors
    /// [`File`](Error::File) where it cannot be opened, mapped or locked;
    /// [`FileTooShort`](Error::FileTooShort) where it has less than was asked for; [`Overflow`](Error::Overflow)
    /// where its length overflows the address space; [`System`](Error::System) if the fault handler cannot be
    /// installed; [`Unsupported`](Error::Unsupported) on the simulated system of tests.
    ///
    /// ```
    /// use pagewise::{Error, MappedFile};
    ///
    /// let missing = MappedFile::builder("no/such/file").build();
    /// assert!(matches!(missing, Err(Error::File { .. })));
    /// ```
    pub fn build(self) -> Result<MappedFile, Error> {
        if cfg!(any(miri, pagewise_model)) {
            return Err(Error::Unsupported { what: "mapped files on the simulated system" });
        }
        fault::install()?;
        let file_error = |operation, source| {
            let path = self.path.clone();
            Error::File { operation, path, source }
        };
        let file = match self.file {
            Some(file) => file,
            None => OpenOptions::new()
                .read(true)
                .write(self.access == FileAccess::Write)
                .open(&self.path)
                .map_err(|error| file_error("open", error))?,
        };
        let file_len =
            os::file_len(&file).map_err(|error| file_error("reading the length", error.into()))?;
        let len = part(self.offset, self.len, file_len)?;
        let skipped = (self.offset % os::reserve_granularity() as u64) as usize;
        let mapped = skipped.checked_add(len).and_then(|len| PageSize::system().round_up(len));
        let mapped_len = mapped.ok_or(Error::Overflow { requested: len })?;
        let start = self.offset - skipped as u64;
        // An empty range cannot be mapped, nor need it be.
        let mapping = (len > 0)
            .then(|| os::map_file(&file, start, skipped + len, self.access))
            .transpose()
            .map_err(|error| file_error("map", error.into()))?;
        let address = mapping.map_or(0, |mapping| mapping.addr().get());
        let end = address + mapped_len;
        let name = name_for_a_line(&self.path);
        let registered = Registered {
            guests: ptr::null(),
            start: address,
            end,
            owner: ptr::null(),
            file: &*name,
            serve,
            forked,
        };
        let mut core = Box::new(Core {
            file,
            path: self.path,
            _name: name,
            access: self.access,
            mapping,
            mapped_len,
            skipped,
            len,
            file_offset: self.offset,
            registered,
        });
        if let Some(mapping) = mapping {
            // SAFETY: the box keeps the core in its place until it is dropped.
            unsafe { core.register() };
            if self.huge_pages == HugePages::Transparent {
                // SAFETY: the whole mapping.
                unsafe { os::prefer_huge_pages(mapping, mapped_len) };
            }
            if self.lock {
                // SAFETY: the whole mapping.
                unsafe { os::lock(mapping, mapped_len) }
                    .map_err(|error| core.error("lock", error))?;
            }
        }
        let mapped = MappedFile { core };
        if self.populate {
            mapped.expect(.., Expected::Soon)?;
        }
        Ok(mapped)
    }
}

/// A file's name as the line about a refused access shows it: in printable ASCII, the end of a long one.
fn name_for_a_line(path: &Path) -> Box<[u8]> {
    const MOST: usize = 120;
    let name = path.as_os_str().as_encoded_bytes();
    let start = if name.len() > MOST { &b"..."[..] } else { &[] };
    let end = &name[name.len().saturating_sub(MOST)..];
    let printable = |&byte: &u8| if byte.is_ascii_graphic() || byte == b' ' { byte } else { b'?' };
    start.iter().chain(end).map(printable).collect()
}

/// How many bytes are mapped: those that were asked for, or what there is behind the offset.
fn part(offset: u64, len: Option<usize>, file_len: u64) -> Result<usize, Error> {
    let overflow = Error::Overflow { requested: usize::MAX };
    let too_short = |needed| Error::FileTooShort { needed, len: file_len };
    let there = file_len.checked_sub(offset).ok_or_else(|| too_short(offset))?;
    let Some(len) = len else { return usize::try_from(there).map_err(|_| overflow) };
    match offset.checked_add(len as u64) {
        None => Err(overflow),
        Some(needed) if needed > file_len => Err(too_short(needed)),
        Some(_) => Ok(len),
    }
}
