//! Files in memory.

use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
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
