//! Files in memory, and files that are read and written at an offset.

use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::windows::fs::{FileExt, OpenOptionsExt};
use std::os::windows::io::AsRawHandle;
use std::path::Path;
use std::ptr::{self, NonNull};

use windows_sys::Win32::Foundation::{CloseHandle, ERROR_INVALID_PARAMETER};
use windows_sys::Win32::Storage::FileSystem::{
    FILE_FLAG_NO_BUFFERING, FlushFileBuffers, GetFileSizeEx,
};
use windows_sys::Win32::System::IO::DeviceIoControl;
use windows_sys::Win32::System::Ioctl::FSCTL_SET_SPARSE;
use windows_sys::Win32::System::Memory::{
    CreateFileMappingW, FILE_MAP_COPY, FILE_MAP_READ, FILE_MAP_WRITE, FlushViewOfFile,
    MEMORY_MAPPED_VIEW_ADDRESS, MapViewOfFile, PAGE_READONLY, PAGE_READWRITE, PAGE_WRITECOPY,
    PrefetchVirtualMemory, UnmapViewOfFile, WIN32_MEMORY_RANGE_ENTRY,
};
use windows_sys::Win32::System::Threading::GetCurrentProcess;

use super::{OsError, check, last_error};
use crate::os::{Expected, FileAccess};

/// `CreateFileMapping` and `MapViewOfFile`. The view keeps the mapping object alive, so that its handle can be closed
/// at once.
/// [`MapViewOfFile`](https://learn.microsoft.com/windows/win32/api/memoryapi/nf-memoryapi-mapviewoffile)
pub(crate) fn map_file(
    file: &File,
    offset: u64,
    len: usize,
    access: FileAccess,
) -> Result<NonNull<u8>, OsError> {
    let (object_rights, view_rights) = match access {
        FileAccess::Read => (PAGE_READONLY, FILE_MAP_READ),
        FileAccess::CopyOnWrite => (PAGE_WRITECOPY, FILE_MAP_COPY),
        FileAccess::Write => (PAGE_READWRITE, FILE_MAP_WRITE),
    };
    // SAFETY: the handle is open; a length of zero is that of the file; the view is new memory.
    unsafe {
        let handle = file.as_raw_handle();
        let object = CreateFileMappingW(handle, ptr::null(), object_rights, 0, 0, ptr::null());
        if object.is_null() {
            return Err(last_error());
        }
        let (high, low) = ((offset >> 32) as u32, offset as u32);
        let view = MapViewOfFile(object, view_rights, high, low, len);
        let result = NonNull::new(view.Value.cast()).ok_or_else(last_error);
        CloseHandle(object);
        result
    }
}

/// `UnmapViewOfFile`.
///
/// # Safety
/// The range is all that [`map_file`] returned, and nobody uses it any more.
pub(crate) unsafe fn unmap_file(start: NonNull<u8>, _len: usize) -> Result<(), OsError> {
    // SAFETY: the caller's promise.
    check(unsafe { UnmapViewOfFile(MEMORY_MAPPED_VIEW_ADDRESS { Value: start.as_ptr().cast() }) })
}

/// `FlushViewOfFile` starts to write; `FlushFileBuffers` waits until the device has what was written.
///
/// # Safety
/// The range lies inside what [`map_file`] returned; both ends are aligned to pages.
pub(crate) unsafe fn flush_file(
    start: NonNull<u8>,
    len: usize,
    file: &File,
) -> Result<(), OsError> {
    // SAFETY: writing back changes nothing in memory; the handle is open.
    unsafe {
        check(FlushViewOfFile(start.as_ptr().cast(), len))?;
        check(FlushFileBuffers(file.as_raw_handle()))
    }
}

/// `PrefetchVirtualMemory` for what is needed soon. Windows has no advice for the other expectations. Errors are
/// ignored.
///
/// # Safety
/// As [`flush_file`].
pub(crate) unsafe fn expect_file_access(start: NonNull<u8>, len: usize, expected: Expected) {
    if expected != Expected::Soon {
        return;
    }
    let range = WIN32_MEMORY_RANGE_ENTRY {
        VirtualAddress: start.as_ptr().cast::<c_void>(),
        NumberOfBytes: len,
    };
    // SAFETY: one entry; reading pages in changes no contents.
    unsafe { PrefetchVirtualMemory(GetCurrentProcess(), 1, &range, 0) };
}

/// The length of an open file. May be called in an exception handler.
pub(crate) fn file_len(file: &File) -> Result<u64, OsError> {
    let mut len = 0;
    // SAFETY: the handle is open, and the number is there for the answer.
    check(unsafe { GetFileSizeEx(file.as_raw_handle(), &mut len) })?;
    Ok(len as u64)
}

/// Whether [`read_at`] and [`write_at`] may be called in an exception handler. Nothing says that they may.
pub(crate) const FILE_CALLS_ARE_SIGNAL_SAFE: bool = false;

/// Bytes that one call moves at most. `ReadFile` takes a 32-bit number.
const ONE_CALL: usize = 1 << 30;

/// `ReadFile` with an offset, which the handle's own position follows without being used. Fewer bytes than were asked
/// for, or none, where the file ends.
/// [`ReadFile`](https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-readfile)
pub(crate) fn read_at(file: &File, offset: u64, buffer: &mut [u8]) -> Result<usize, OsError> {
    let len = buffer.len().min(ONE_CALL);
    file.seek_read(&mut buffer[..len], offset).map_err(code)
}

/// `WriteFile` with an offset. May write only a part.
pub(crate) fn write_at(file: &File, offset: u64, bytes: &[u8]) -> Result<usize, OsError> {
    file.seek_write(&bytes[..bytes.len().min(ONE_CALL)], offset).map_err(code)
}

fn code(error: io::Error) -> OsError {
    OsError(error.raw_os_error().unwrap_or(0))
}

/// Opens a file whose reads and writes go past the system's cache. `None` where the file system has no such thing.
pub(crate) fn open_direct(options: &mut OpenOptions, path: &Path) -> io::Result<Option<File>> {
    match options.custom_flags(FILE_FLAG_NO_BUFFERING).open(path) {
        Err(error) if error.raw_os_error() == Some(ERROR_INVALID_PARAMETER as i32) => Ok(None),
        opened => opened.map(Some),
    }
}

/// `FSCTL_SET_SPARSE`: what is never written takes no space. Best effort: some file systems have no such files.
/// [`FSCTL_SET_SPARSE`](https://learn.microsoft.com/windows/win32/api/winioctl/ni-winioctl-fsctl_set_sparse)
pub(crate) fn make_sparse(file: &File) {
    let (handle, mut count) = (file.as_raw_handle(), 0);
    // SAFETY: an open handle, and a request that has neither input nor output.
    unsafe {
        let none = ptr::null_mut();
        DeviceIoControl(handle, FSCTL_SET_SPARSE, none, 0, none, 0, &mut count, ptr::null_mut());
    }
}
