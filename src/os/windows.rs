//! Windows.

use std::ffi::c_void;
use std::ptr::{self, NonNull};

use windows_sys::Win32::Foundation::{
    ERROR_COMMITMENT_LIMIT, ERROR_INVALID_ADDRESS, ERROR_INVALID_PARAMETER,
    ERROR_NOT_ENOUGH_MEMORY, ERROR_OUTOFMEMORY, ERROR_WORKING_SET_QUOTA, GetLastError,
    SetLastError,
};
use windows_sys::Win32::Storage::FileSystem::WriteFile;
use windows_sys::Win32::System::Console::{GetStdHandle, STD_ERROR_HANDLE};
use windows_sys::Win32::System::Memory::{
    MEM_COMMIT, MEM_DECOMMIT, MEM_RELEASE, MEM_RESERVE, MEM_RESET, PAGE_EXECUTE_READ,
    PAGE_NOACCESS, PAGE_PROTECTION_FLAGS, PAGE_READONLY, PAGE_READWRITE, VIRTUAL_ALLOCATION_TYPE,
    VirtualAlloc, VirtualFree, VirtualLock, VirtualProtect, VirtualUnlock,
};
use windows_sys::Win32::System::ProcessStatus::{
    K32QueryWorkingSetEx, PSAPI_WORKING_SET_EX_INFORMATION,
};
use windows_sys::Win32::System::SystemInformation::{GetSystemInfo, SYSTEM_INFO};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, Sleep, SwitchToThread};

use super::{Access, Attributes, Cause, OsError, Residency};
use std::sync::atomic::{AtomicUsize, Ordering};

#[path = "windows/files.rs"]
mod files;
pub(crate) use files::{
    FILE_CALLS_ARE_SIGNAL_SAFE, expect_file_access, file_len, flush_file, make_sparse, map_file,
    open_direct, read_at, unmap_file, write_at,
};

/// `prefault` reads from each page.
pub(crate) const PREFAULT_TOUCHES: bool = true;

pub(crate) fn page_size() -> usize {
    static SIZE: AtomicUsize = AtomicUsize::new(0);
    ask_once(&SIZE, |info| info.dwPageSize)
}

pub(crate) fn reserve_granularity() -> usize {
    static SIZE: AtomicUsize = AtomicUsize::new(0);
    ask_once(&SIZE, |info| info.dwAllocationGranularity)
}

/// A number that `GetSystemInfo` tells, asked once.
fn ask_once(answer: &AtomicUsize, field: impl Fn(&SYSTEM_INFO) -> u32) -> usize {
    let known = answer.load(Ordering::Relaxed);
    if known != 0 {
        return known;
    }
    let mut info = SYSTEM_INFO::default();
    // SAFETY: the call only fills the structure.
    unsafe { GetSystemInfo(&mut info) };
    answer.store(field(&info) as usize, Ordering::Relaxed);
    field(&info) as usize
}

/// `VirtualAlloc(MEM_RESERVE, PAGE_NOACCESS)`. For an alignment beyond the granularity, it reserves more to find an
/// aligned address, releases that, and reserves at the aligned address. Another thread may take the addresses in
/// between, so it tries several times.
/// [`VirtualAlloc`](https://learn.microsoft.com/windows/win32/api/memoryapi/nf-memoryapi-virtualalloc)
pub(crate) fn reserve(
    len: usize,
    align: usize,
    _attributes: &Attributes,
) -> Result<NonNull<u8>, OsError> {
    const TRIES: usize = 16;
    let allocate = |at: *mut u8, len| {
        // SAFETY: reserving takes only addresses that are free.
        unsafe { allocate(at, len, MEM_RESERVE, PAGE_NOACCESS) }
    };
    if align <= reserve_granularity() {
        return allocate(ptr::null_mut(), len);
    }
    let total = len.checked_add(align).ok_or(OsError(ERROR_NOT_ENOUGH_MEMORY as i32))?;
    let mut result = Err(OsError(ERROR_INVALID_ADDRESS as i32));
    for _ in 0..TRIES {
        let probe = allocate(ptr::null_mut(), total)?;
        let aligned = probe.as_ptr().map_addr(|address| address.next_multiple_of(align));
        // SAFETY: the probe is this function's own.
        unsafe { release(probe, total)? };
        result = allocate(aligned, len);
        if result.is_ok() {
            break;
        }
    }
    result
}

/// # Safety
/// As [`VirtualAlloc`] for a range that is free or ours.
unsafe fn allocate(
    at: *mut u8,
    len: usize,
    kind: VIRTUAL_ALLOCATION_TYPE,
    access: PAGE_PROTECTION_FLAGS,
) -> Result<NonNull<u8>, OsError> {
    // SAFETY: the caller's promise.
    let start = unsafe { VirtualAlloc(at.cast(), len, kind, access) };
    NonNull::new(start.cast()).ok_or_else(last_error)
}

/// `VirtualAlloc(MEM_COMMIT, PAGE_READWRITE)`. Charges the pages at once; Windows never overcommits. Pages that are
/// committed already keep their contents.
///
/// # Safety
/// See the contract of [`os`](super).
pub(crate) unsafe fn commit(start: NonNull<u8>, len: usize) -> Result<(), OsError> {
    // SAFETY: the caller's promise.
    unsafe { allocate(start.as_ptr(), len, MEM_COMMIT, PAGE_READWRITE).map(|_| ()) }
}

/// `VirtualFree(MEM_DECOMMIT)`. The length must not be zero, which stands for the whole reservation.
///
/// # Safety
/// See the contract of [`os`](super).
pub(crate) unsafe fn decommit(
    start: NonNull<u8>,
    len: usize,
    _attributes: &Attributes,
) -> Result<(), OsError> {
    debug_assert!(len > 0);
    // SAFETY: the caller's promise.
    check(unsafe { VirtualFree(start.as_ptr().cast(), len, MEM_DECOMMIT) })
}

/// Writes zeros. Decommit and commit would be cheaper for long ranges, but another process may take the
/// commit charge in between: then the commit is refused, and committed pages are lost.
///
/// # Safety
/// See the contract of [`os`](super).
pub(crate) unsafe fn zero(start: NonNull<u8>, len: usize) -> Result<(), OsError> {
    // SAFETY: the caller gives up the contents, and the pages are writable after `protect`.
    unsafe {
        protect(start, len, Access::ReadWrite)?;
        start.as_ptr().write_bytes(0, len);
    }
    Ok(())
}

/// `VirtualAlloc(MEM_RESET)`: the system takes the memory when it runs short, without writing it to the page file.
///
/// # Safety
/// See the contract of [`os`](super).
pub(crate) unsafe fn discard(start: NonNull<u8>, len: usize) -> Result<(), OsError> {
    // SAFETY: the caller gives up the contents.
    unsafe { allocate(start.as_ptr(), len, MEM_RESET, PAGE_READWRITE).map(|_| ()) }
}

/// `VirtualProtect`.
/// [`VirtualProtect`](https://learn.microsoft.com/windows/win32/api/memoryapi/nf-memoryapi-virtualprotect)
///
/// # Safety
/// See the contract of [`os`](super).
pub(crate) unsafe fn protect(
    start: NonNull<u8>,
    len: usize,
    access: Access,
) -> Result<(), OsError> {
    let access = match access {
        Access::None => PAGE_NOACCESS,
        Access::Read => PAGE_READONLY,
        Access::ReadWrite => PAGE_READWRITE,
        Access::ReadExecute => PAGE_EXECUTE_READ,
    };
    let mut before = 0;
    // SAFETY: the caller's promise.
    check(unsafe { VirtualProtect(start.as_ptr().cast(), len, access, &mut before) })
}

/// Where prefaulting touches, it costs what the touches of others would.
pub(crate) fn prefaulting_pays(_len: usize) -> bool {
    true
}

/// Reads a byte of each page. On Windows that makes a private page resident: there is no shared page of zeros.
///
/// # Safety
/// See the contract of [`os`](super); the pages are readable.
pub(crate) unsafe fn prefault(start: NonNull<u8>, len: usize) {
    for offset in (0..len).step_by(page_size()) {
        // SAFETY: the caller's promise.
        unsafe { start.as_ptr().add(offset).read_volatile() };
    }
}

/// `VirtualLock`. The system locks no more than a little less than the process's minimum working set.
///
/// # Safety
/// See the contract of [`os`](super).
pub(crate) unsafe fn lock(start: NonNull<u8>, len: usize) -> Result<(), OsError> {
    // SAFETY: locking changes residency only.
    check(unsafe { VirtualLock(start.as_ptr().cast(), len) })
}

/// `VirtualUnlock`.
///
/// # Safety
/// See the contract of [`os`](super).
pub(crate) unsafe fn unlock(start: NonNull<u8>, len: usize) -> Result<(), OsError> {
    // SAFETY: unlocking changes residency only.
    check(unsafe { VirtualUnlock(start.as_ptr().cast(), len) })
}

/// `VirtualFree(MEM_RELEASE)`, whose length must be zero.
///
/// # Safety
/// The range is what [`reserve`] returned, and it is not used any more.
pub(crate) unsafe fn release(start: NonNull<u8>, _len: usize) -> Result<(), OsError> {
    // SAFETY: the caller's promise.
    check(unsafe { VirtualFree(start.as_ptr().cast(), 0, MEM_RELEASE) })
}

pub(crate) fn yield_now() {
    // SAFETY: gives the processor away.
    unsafe { SwitchToThread() };
}

/// `Sleep(1)`, so that a thread of lower priority can run. (`SwitchToThread` yields only to threads that are
/// ready on the same processor.)
pub(crate) fn sleep_a_little() {
    // SAFETY: gives the processor away.
    unsafe { Sleep(1) };
}

pub(crate) fn write_stderr(text: &[u8]) {
    let mut written = 0;
    // SAFETY: the buffer is valid for its length, which fits for any diagnostic line.
    unsafe {
        WriteFile(
            GetStdHandle(STD_ERROR_HANDLE),
            text.as_ptr(),
            text.len() as u32,
            &mut written,
            ptr::null_mut(),
        )
    };
}

pub(crate) fn explicit_huge_page_size() -> Option<usize> {
    None
}

pub(crate) fn diagnose(error: OsError) -> Cause {
    match error.0 as u32 {
        ERROR_NOT_ENOUGH_MEMORY | ERROR_OUTOFMEMORY | ERROR_COMMITMENT_LIMIT => Cause::OutOfMemory,
        ERROR_WORKING_SET_QUOTA => Cause::Locked,
        ERROR_INVALID_PARAMETER => Cause::Unsupported,
        _ => Cause::Other,
    }
}

/// `QueryWorkingSetEx`, which tells of each page by itself. In `PSAPI_WORKING_SET_EX_BLOCK`, bit 0 is *valid*
/// (resident) and bit 26 is *large page*.
pub(crate) fn residency(
    start: NonNull<u8>,
    len: usize,
    each: &mut dyn FnMut(usize, usize, Residency),
) -> Result<(), OsError> {
    const BATCH: usize = 512;
    let (page, mut query) = (page_size(), [PSAPI_WORKING_SET_EX_INFORMATION::default(); BATCH]);
    for batch in (0..len).step_by(BATCH * page) {
        let count = (len - batch).div_ceil(page).min(BATCH);
        for (index, entry) in query[..count].iter_mut().enumerate() {
            entry.VirtualAddress = start.as_ptr().wrapping_add(batch + index * page).cast();
        }
        let bytes = size_of_val(&query[..count]) as u32;
        let entries = query.as_mut_ptr().cast::<c_void>();
        // SAFETY: the entries are initialised, and as many as the byte count says.
        check(unsafe { K32QueryWorkingSetEx(GetCurrentProcess(), entries, bytes) })?;
        for (index, entry) in query[..count].iter().enumerate() {
            // SAFETY: the call filled the attributes; all of the union's fields are plain bits.
            let flags = unsafe { entry.VirtualAttributes.Flags };
            if flags & 1 != 0 {
                let residency =
                    Residency { resident: true, huge: flags >> 26 & 1 != 0, swapped: false };
                each(batch + index * page, page, residency);
            }
        }
    }
    Ok(())
}

fn check(result: i32) -> Result<(), OsError> {
    if result != 0 { Ok(()) } else { Err(last_error()) }
}

fn last_error() -> OsError {
    // SAFETY: has no preconditions.
    OsError(unsafe { GetLastError() } as i32)
}

/// Decommits all of a reservation that cannot be released, so that its memory goes back.
///
/// # Safety
/// The range is what [`reserve`] returned, and it is not used any more.
pub(crate) unsafe fn empty(start: NonNull<u8>, len: usize) {
    // SAFETY: the caller's promise.
    unsafe { VirtualFree(start.as_ptr().cast(), len, MEM_DECOMMIT) };
}

/// Runs `work` and restores the last error: the code that the fault handler interrupted may be about to read
/// it.
pub(crate) fn preserving_error_code<R>(work: impl FnOnce() -> R) -> R {
    // SAFETY: the last error is the thread's own.
    let last_error = unsafe { GetLastError() };
    let result = work();
    // SAFETY: as above.
    unsafe { SetLastError(last_error) };
    result
}
