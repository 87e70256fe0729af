//! macOS. Compile-checked, and run by the hosted workflow.

use std::ptr::NonNull;

use rustix::mm::{Advice, MapFlags, ProtFlags};

use super::{Attributes, Cause, OsError, unix};

pub(crate) use super::bsd::{
    PREFAULT_TOUCHES, empty, explicit_huge_page_size, forget_parent, prefaulting_pays,
    wiped_in_children, zero,
};
pub(crate) use unix::residency_by_mincore as residency;
pub(crate) use unix::{
    FILE_CALLS_ARE_SIGNAL_SAFE, call_in_children, call_missed_handlers, commit, discard,
    expect_file_access, file_len, flush_file, forks, lock, make_sparse, map_file, open_direct,
    page_size, preserving_error_code, protect, read_at, release, reserve_granularity,
    sleep_a_little, unlock, unmap_file, was_told_late, watch_forks, write_at, write_stderr,
    yield_now,
};

pub(crate) fn reserve(
    len: usize,
    align: usize,
    _attributes: &Attributes,
) -> Result<NonNull<u8>, OsError> {
    unix::map_inaccessible(len, align, page_size(), MapFlags::empty())
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

/// `MADV_WILLNEED`, a hint that may make the writes cheaper; then a write to each page that keeps its contents.
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

pub(crate) fn diagnose(error: OsError) -> Cause {
    match error.0 {
        libc::ENOMEM => Cause::OutOfMemory,
        libc::EAGAIN => Cause::Locked,
        libc::EINVAL | libc::ENOTSUP => Cause::Unsupported,
        _ => Cause::Other,
    }
}

/// The address of this thread's errno.
pub(crate) fn errno() -> *mut i32 {
    // SAFETY: has no preconditions.
    unsafe { libc::__error() }
}

// These functions of the C library are cancellation points. macOS has no supported way to make system calls without
// the C library.

/// `nanosleep`.
pub(crate) fn sleep(time: &libc::timespec) {
    // SAFETY: a complete time; null says that the rest of the time is not asked for.
    unsafe { libc::nanosleep(time, std::ptr::null_mut()) };
}

/// `poll` for one descriptor.
pub(crate) fn poll(descriptor: &mut libc::pollfd, milliseconds: i32) -> i32 {
    // SAFETY: one record.
    unsafe { libc::poll(descriptor, 1, milliseconds) }
}

/// `write`, once.
pub(crate) fn write(file: i32, bytes: &[u8]) {
    // SAFETY: the buffer is valid for its length.
    unsafe { libc::write(file, bytes.as_ptr().cast(), bytes.len()) };
}
