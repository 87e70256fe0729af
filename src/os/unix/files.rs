//! Files in memory, and files that are read and written at an offset.

use std::fs::{File, OpenOptions};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::ptr::{self, NonNull};

use rustix::mm::{Advice, MapFlags, MsyncFlags, ProtFlags};

use super::{OsError, last_error};
use crate::os::{Expected, FileAccess};

/// `mmap` of a file. [`mmap(2)`](https://man7.org/linux/man-pages/man2/mmap.2.html)
///
/// - `MAP_SHARED`: what is written goes to the file. For reading, too: it is the file's own page cache.
/// - `MAP_PRIVATE`, for copy-on-write: a page that is written becomes a copy of this process's own.
pub(crate) fn map_file(
    file: &File,
    offset: u64,
    len: usize,
    access: FileAccess,
) -> Result<NonNull<u8>, OsError> {
    let (rights, flags) = match access {
        FileAccess::Read => (ProtFlags::READ, MapFlags::SHARED),
        FileAccess::CopyOnWrite => (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE),
        FileAccess::Write => (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED),
    };
    // SAFETY: a new mapping, at an address that the kernel chooses, replaces none.
    let start = unsafe { rustix::mm::mmap(ptr::null_mut(), len, rights, flags, file, offset)? };
    NonNull::new(start.cast()).ok_or(OsError(libc::ENOMEM))
}

/// `munmap`.
///
/// # Safety
/// The range is all that [`map_file`] returned, and nobody uses it any more.
pub(crate) unsafe fn unmap_file(start: NonNull<u8>, len: usize) -> Result<(), OsError> {
    // SAFETY: the caller's promise.
    unsafe { super::unmap(start.as_ptr().cast(), len) }
}

/// `msync(MS_SYNC)`: returns when the file's device has what was written.
/// [`msync(2)`](https://man7.org/linux/man-pages/man2/msync.2.html)
///
/// # Safety
/// The range lies inside what [`map_file`] returned; both ends are aligned to pages.
pub(crate) unsafe fn flush_file(
    start: NonNull<u8>,
    len: usize,
    _file: &File,
) -> Result<(), OsError> {
    // SAFETY: writing back changes nothing in memory.
    unsafe { rustix::mm::msync(start.as_ptr().cast(), len, MsyncFlags::SYNC)? };
    Ok(())
}

/// `madvise`: hints that change how much the kernel reads ahead. Errors are ignored.
///
/// # Safety
/// As [`flush_file`].
pub(crate) unsafe fn expect_file_access(start: NonNull<u8>, len: usize, expected: Expected) {
    let advice = match expected {
        Expected::Anything => Advice::Normal,
        Expected::Sequential => Advice::Sequential,
        Expected::Random => Advice::Random,
        Expected::Soon => Advice::WillNeed,
    };
    // SAFETY: none of these changes contents.
    let _ = unsafe { rustix::mm::madvise(start.as_ptr().cast(), len, advice) };
}

/// The length of an open file. Async-signal-safe.
pub(crate) fn file_len(file: &File) -> Result<u64, OsError> {
    let mut about = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: room for the answer, which is there where the call succeeds.
    unsafe {
        match libc::fstat(file.as_raw_fd(), about.as_mut_ptr()) {
            0 => Ok(about.assume_init().st_size as u64),
            _ => Err(last_error()),
        }
    }
}

/// Whether [`read_at`] and [`write_at`] may be called in a signal handler.
pub(crate) const FILE_CALLS_ARE_SIGNAL_SAFE: bool = true;

/// Bytes that one call moves at most. macOS refuses more than `INT_MAX`; Linux moves no more than 2 GiB less a page.
const ONE_CALL: usize = 1 << 30;

/// `pread`, again where a signal interrupted it. Fewer bytes than were asked for, or none, where the file ends.
/// Async-signal-safe. [`pread(2)`](https://man7.org/linux/man-pages/man2/pread.2.html)
pub(crate) fn read_at(file: &File, offset: u64, buffer: &mut [u8]) -> Result<usize, OsError> {
    let len = buffer.len().min(ONE_CALL);
    Ok(rustix::io::retry_on_intr(|| rustix::io::pread(file, &mut buffer[..len], offset))?)
}

/// `pwrite`, again where a signal interrupted it. May write only a part. Async-signal-safe.
/// [`pwrite(2)`](https://man7.org/linux/man-pages/man2/pwrite.2.html)
pub(crate) fn write_at(file: &File, offset: u64, bytes: &[u8]) -> Result<usize, OsError> {
    let bytes = &bytes[..bytes.len().min(ONE_CALL)];
    Ok(rustix::io::retry_on_intr(|| rustix::io::pwrite(file, bytes, offset))?)
}

/// Opens a file whose reads and writes go past the system's cache: `O_DIRECT`, on macOS `F_NOCACHE`. `None` where the
/// file system has no such thing. [`open(2)`](https://man7.org/linux/man-pages/man2/open.2.html)
#[cfg(not(target_vendor = "apple"))]
pub(crate) fn open_direct(options: &mut OpenOptions, path: &Path) -> io::Result<Option<File>> {
    use std::os::unix::fs::OpenOptionsExt;
    match options.custom_flags(libc::O_DIRECT).open(path) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(None),
        opened => opened.map(Some),
    }
}

/// As above.
#[cfg(target_vendor = "apple")]
pub(crate) fn open_direct(options: &mut OpenOptions, path: &Path) -> io::Result<Option<File>> {
    let file = options.open(path)?;
    // SAFETY: an open descriptor, and a command that takes a number.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_NOCACHE, 1) } {
        -1 => Ok(None),
        _ => Ok(Some(file)),
    }
}

/// Nothing to do: a hole takes no space, where the file system has holes.
pub(crate) fn make_sparse(_: &File) {}
