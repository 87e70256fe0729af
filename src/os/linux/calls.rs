//! System calls by their numbers. The C library's functions of these names are cancellation points
//! ([`pthreads(7)`](https://man7.org/linux/man-pages/man7/pthreads.7.html)): a pending `pthread_cancel` would end the
//! thread in its memory access, or while it holds pages. All of these are async-signal-safe.

use std::ffi::CStr;
use std::ptr;

use crate::os::OsError;
use crate::os::unix::last_error;

/// `openat` from the working directory, with `O_CLOEXEC`: a file that is open at the moment must not go to a program
/// that another thread starts. Negative where it fails.
pub(super) fn open(path: &CStr, flags: i32) -> i32 {
    let flags = flags | libc::O_CLOEXEC;
    // SAFETY: the path ends with a zero.
    unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, 0) as i32 }
}

/// `close`.
///
/// # Safety
/// The file is the caller's, and it is not used any more.
pub(super) unsafe fn close(file: i32) {
    // SAFETY: the caller's promise.
    unsafe { libc::syscall(libc::SYS_close, file) };
}

/// `nanosleep`. A signal may end it early.
pub(crate) fn sleep(time: &libc::timespec) {
    let rest = ptr::null_mut::<libc::timespec>();
    // SAFETY: a complete time; null says that the rest of the time is not asked for.
    unsafe { libc::syscall(libc::SYS_nanosleep, &raw const *time, rest) };
}

/// `poll` for one descriptor, by `ppoll`: Linux on AArch64 has no system call `poll`.
pub(crate) fn poll(descriptor: &mut libc::pollfd, milliseconds: i32) -> i32 {
    let mut time = libc::timespec {
        tv_sec: (milliseconds / 1000).into(),
        tv_nsec: (milliseconds % 1000 * 1_000_000).into(),
    };
    let signals = ptr::null::<libc::sigset_t>();
    // SAFETY: one record, a complete time, and the thread's own set of signals.
    unsafe {
        let record = &raw mut *descriptor;
        libc::syscall(libc::SYS_ppoll, record, 1usize, &raw mut time, signals, 0usize) as i32
    }
}

/// `write`, once. Errors and short writes are ignored.
pub(crate) fn write(file: i32, bytes: &[u8]) {
    // SAFETY: the buffer is valid for its length.
    unsafe { libc::syscall(libc::SYS_write, file, bytes.as_ptr(), bytes.len()) };
}

/// The address of this thread's errno.
pub(crate) fn errno() -> *mut i32 {
    // SAFETY: has no preconditions.
    unsafe { libc::__errno_location() }
}

/// The error of a call that returned a negative number.
pub(super) fn check(result: i32) -> Result<(), OsError> {
    if result >= 0 { Ok(()) } else { Err(last_error()) }
}
