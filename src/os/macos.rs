//! macOS. Compile-checked, and run by the hosted workflow.

use std::ptr::NonNull;

use rustix::mm::{Advice, MapFlags, ProtFlags};

use super::{Attributes, Cause, OsError, Residency, unix};

pub(crate) use unix::{
    commit, lock, page_size, protect, release, reserve_granularity, unlock, write_stderr, yield_now,
};

/// Prefaulting writes to each page.
pub(crate) const PREFAULT_TOUCHES: bool = true;

pub(crate) fn reserve(
    len: usize,
    align: usize,
    _attributes: &Attributes,
) -> Result<NonNull<u8>, OsError> {
    unix::map_inaccessible(len, align, MapFlags::empty())
}

/// # Safety
/// See the contract of [`os`](super).
pub(crate) unsafe fn decommit(
    start: NonNull<u8>,
    len: usize,
    _attributes: &Attributes,
) -> Result<(), OsError> {
    // SAFETY: the caller's promise.
    unsafe { unix::map_over(start, len, ProtFlags::empty(), MapFlags::empty()) }
}

/// Maps fresh memory over the range: `MADV_DONTNEED` only lowers the priority of pages here.
///
/// # Safety
/// See the contract of [`os`](super).
pub(crate) unsafe fn zero(start: NonNull<u8>, len: usize) -> Result<(), OsError> {
    // SAFETY: the caller's promise.
    unsafe { unix::map_over(start, len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::empty()) }
}

/// `MADV_FREE`. (`MADV_FREE_REUSABLE` would lower the footprint at once, but raise it again only
/// for callers that announce reuse, which a plain write does not.)
///
/// # Safety
/// See the contract of [`os`](super).
pub(crate) unsafe fn discard(start: NonNull<u8>, len: usize) -> Result<(), OsError> {
    // SAFETY: the caller gives up the contents.
    match unsafe { libc::madvise(start.as_ptr().cast(), len, libc::MADV_FREE) } {
        0 => Ok(()),
        _ => Err(OsError(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))),
    }
}

/// `MADV_WILLNEED`, a hint; then one write that changes nothing to each page.
///
/// # Safety
/// See the contract of [`os`](super); the pages are writable.
pub(crate) unsafe fn prefault(start: NonNull<u8>, len: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let _ = rustix::mm::madvise(start.as_ptr().cast(), len, Advice::WillNeed);
        super::touch_each_page(start, len);
    }
}

pub(crate) fn explicit_huge_page_size() -> Option<usize> {
    None
}

pub(crate) fn diagnose(error: OsError) -> Cause {
    match error.0 {
        libc::ENOMEM => Cause::OutOfMemory,
        libc::EAGAIN => Cause::Locked,
        libc::EINVAL | libc::ENOTSUP => Cause::Unsupported,
        _ => Cause::Other,
    }
}

pub(crate) fn residency(
    start: NonNull<u8>,
    len: usize,
    each: &mut dyn FnMut(usize, usize, Residency),
) -> Result<(), OsError> {
    unix::residency_by_mincore(start, len, each)
}
