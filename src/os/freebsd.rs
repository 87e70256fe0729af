//! FreeBSD. Compile-checked only.

use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags};

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

/// `mmap(PROT_NONE)`. Not `MAP_GUARD`: `mprotect` returns success for guard pages, and leaves them inaccessible.
pub(crate) fn reserve(
    len: usize,
    align: usize,
    attributes: &Attributes,
) -> Result<NonNull<u8>, OsError> {
    unix::map_inaccessible(len, align, page_size(), map_flags(attributes))
}

/// # Safety
/// See the contract of [`os`](super).
pub(crate) unsafe fn decommit(
    start: NonNull<u8>,
    len: usize,
    attributes: &Attributes,
) -> Result<(), OsError> {
    // SAFETY: the caller's promise.
    unsafe { unix::map_over(start, len, ProtFlags::empty(), map_flags(attributes)) }
}

/// # Safety
/// See the contract of [`os`](super); the pages are writable.
pub(crate) unsafe fn prefault(start: NonNull<u8>, len: usize) {
    // SAFETY: the caller's promise.
    unsafe { super::touch_each_page(start, len) };
}

/// `MAP_NOCORE` keeps a mapping out of core dumps. Linux has advice for that.
fn map_flags(attributes: &Attributes) -> MapFlags {
    if attributes.dump {
        MapFlags::empty()
    } else {
        MapFlags::from_bits_retain(libc::MAP_NOCORE as _)
    }
}

pub(crate) fn diagnose(error: OsError) -> Cause {
    match error.0 {
        libc::ENOMEM => Cause::OutOfMemory,
        libc::EAGAIN | libc::EPERM => Cause::Locked,
        libc::EINVAL | libc::EOPNOTSUPP => Cause::Unsupported,
        _ => Cause::Other,
    }
}

/// The address of this thread's errno.
pub(crate) fn errno() -> *mut i32 {
    // SAFETY: has no preconditions.
    unsafe { libc::__error() }
}

// System calls by their numbers, which are those of `<sys/syscall.h>` and never change. The C library's functions of
// these names are cancellation points: a pending `pthread_cancel` would end the thread in its memory access.

/// `nanosleep`.
pub(crate) fn sleep(time: &libc::timespec) {
    const NANOSLEEP: i32 = 240;
    // SAFETY: a complete time; null says that the rest of the time is not asked for.
    unsafe { libc::syscall(NANOSLEEP, &raw const *time, std::ptr::null_mut::<libc::timespec>()) };
}

/// `poll` for one descriptor.
pub(crate) fn poll(descriptor: &mut libc::pollfd, milliseconds: i32) -> i32 {
    const POLL: i32 = 209;
    // SAFETY: one record.
    unsafe { libc::syscall(POLL, &raw mut *descriptor, 1usize, milliseconds) as i32 }
}

/// `write`, once.
pub(crate) fn write(file: i32, bytes: &[u8]) {
    const WRITE: i32 = 4;
    // SAFETY: the buffer is valid for its length.
    unsafe { libc::syscall(WRITE, file, bytes.as_ptr(), bytes.len()) };
}
