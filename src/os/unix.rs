//! What all Unix systems share. The differences are in `linux.rs`, `macos.rs` and `freebsd.rs`.

use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};

use super::{Access, OsError};

mod files;
mod forks;
pub(crate) use files::{
    FILE_CALLS_ARE_SIGNAL_SAFE, expect_file_access, file_len, flush_file, make_sparse, map_file,
    open_direct, read_at, unmap_file, write_at,
};
pub(crate) use forks::{call_in_children, call_missed_handlers, forks, was_told_late, watch_forks};

impl From<rustix::io::Errno> for OsError {
    fn from(errno: rustix::io::Errno) -> Self {
        Self(errno.raw_os_error())
    }
}

/// `sysconf(_SC_PAGESIZE)`, asked once. Not read from the auxiliary vector: that may allocate, and the fault
/// handler calls this.
pub(crate) fn page_size() -> usize {
    static SIZE: AtomicUsize = AtomicUsize::new(0);
    match SIZE.load(Ordering::Relaxed) {
        0 => {
            // SAFETY: has no preconditions; every system knows its page size.
            let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
            SIZE.store(size, Ordering::Relaxed);
            size
        }
        size => size,
    }
}

pub(crate) fn reserve_granularity() -> usize {
    page_size()
}

/// `mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANON)`, aligned by reserving more and unmapping the
/// ends. [`mmap(2)`](https://man7.org/linux/man-pages/man2/mmap.2.html)
///
/// - `PROT_NONE`: the kernel does not charge inaccessible private memory.
/// - `MAP_PRIVATE`, `MAP_ANON`: memory of this process alone, which reads zero at first.
/// - No `MAP_NORESERVE` (unless `flags` has it): `mprotect` then charges each later commit, and can refuse it with an
///   error. Without a charge, a commit beyond what there is would end in the out-of-memory killer.
///
/// `page` is the size of the pages that the mapping is made of. The kernel aligns to it, and unmaps only whole pages:
/// `munmap` of a part of an explicit huge page is an error.
pub(super) fn map_inaccessible(
    len: usize,
    align: usize,
    page: usize,
    flags: MapFlags,
) -> Result<NonNull<u8>, OsError> {
    let slack = align.saturating_sub(page);
    let total = len.checked_add(slack).ok_or(OsError(libc::ENOMEM))?;
    // SAFETY: a new mapping, at an address that the kernel chooses, replaces none.
    let start = unsafe {
        rustix::mm::mmap_anonymous(
            ptr::null_mut(),
            total,
            ProtFlags::empty(),
            MapFlags::PRIVATE | flags,
        )?
    };
    let before = start.addr().wrapping_neg() & (align - 1);
    let before = if slack == 0 { 0 } else { before };
    // SAFETY: both ends lie inside the new mapping, which only this function uses.
    unsafe {
        let base = start.byte_add(before);
        let cut = unmap(base.byte_add(len), slack - before).and_then(|()| unmap(start, before));
        if let Err(error) = cut {
            let _ = unmap(start, total);
            return Err(error);
        }
        Ok(NonNull::new_unchecked(base.cast()))
    }
}

/// # Safety
/// The range, which may be empty, is the caller's to unmap.
unsafe fn unmap(start: *mut c_void, len: usize) -> Result<(), OsError> {
    if len > 0 {
        // SAFETY: the caller's promise.
        unsafe { rustix::mm::munmap(start, len)? };
    }
    Ok(())
}

/// `mprotect(start, len, PROT_READ | PROT_WRITE)`: this charges the pages.
/// [`mprotect(2)`](https://man7.org/linux/man-pages/man2/mprotect.2.html)
///
/// # Safety
/// See the contract of [`os`](super).
pub(crate) unsafe fn commit(start: NonNull<u8>, len: usize) -> Result<(), OsError> {
    // SAFETY: the caller's promise.
    unsafe { change_access(start, len, MprotectFlags::READ | MprotectFlags::WRITE) }
}

/// `mmap(MAP_FIXED)` over the range, which replaces its mapping atomically. It returns the memory *and* the commit
/// charge, unlike `MADV_DONTNEED` and `mprotect(PROT_NONE)`, which keep the charge.
///
/// # Safety
/// See the contract of [`os`](super).
pub(super) unsafe fn map_over(
    start: NonNull<u8>,
    len: usize,
    access: ProtFlags,
    flags: MapFlags,
) -> Result<(), OsError> {
    let flags = MapFlags::PRIVATE | MapFlags::FIXED | flags;
    // SAFETY: the range lies inside one of our own reservations, and the caller gives up its contents.
    unsafe { rustix::mm::mmap_anonymous(start.as_ptr().cast(), len, access, flags)? };
    Ok(())
}

/// `mprotect`. The commit charge of committed pages stays as it is.
///
/// # Safety
/// See the contract of [`os`](super).
pub(crate) unsafe fn protect(
    start: NonNull<u8>,
    len: usize,
    access: Access,
) -> Result<(), OsError> {
    let flags = match access {
        Access::None => MprotectFlags::empty(),
        Access::Read => MprotectFlags::READ,
        Access::ReadWrite => MprotectFlags::READ | MprotectFlags::WRITE,
        Access::ReadExecute => MprotectFlags::READ | MprotectFlags::EXEC,
    };
    // SAFETY: the caller's promise.
    unsafe { change_access(start, len, flags) }
}

/// # Safety
/// The range lies inside one of our own reservations.
unsafe fn change_access(
    start: NonNull<u8>,
    len: usize,
    flags: MprotectFlags,
) -> Result<(), OsError> {
    // SAFETY: the caller's promise.
    unsafe { rustix::mm::mprotect(start.as_ptr().cast(), len, flags)? };
    Ok(())
}

/// `MADV_FREE`: the kernel takes the memory when it runs short. It refuses locked memory (`EINVAL`); discarded pages
/// may hold anything, so keeping their contents is a success, too.
/// [`madvise(2)`](https://man7.org/linux/man-pages/man2/madvise.2.html)
///
/// # Safety
/// See the contract of [`os`](super).
pub(crate) unsafe fn discard(start: NonNull<u8>, len: usize) -> Result<(), OsError> {
    // SAFETY: the caller gives up the contents.
    match unsafe { libc::madvise(start.as_ptr().cast(), len, libc::MADV_FREE) } {
        0 => Ok(()),
        _ => match last_error() {
            OsError(libc::EINVAL) => Ok(()),
            error => Err(error),
        },
    }
}

/// errno, read without a `std::io::Error`, whose destructor may free memory: the fault handler calls this.
pub(super) fn last_error() -> OsError {
    // SAFETY: errno's place is the thread's own.
    OsError(unsafe { *super::errno() })
}

/// Runs `work` and restores errno: the code that the fault handler interrupted may be about to read it.
pub(crate) fn preserving_error_code<R>(work: impl FnOnce() -> R) -> R {
    // SAFETY: errno's place is the thread's own.
    unsafe {
        let place = super::errno();
        let saved = *place;
        let result = work();
        *place = saved;
        result
    }
}

/// `mlock`. [`mlock(2)`](https://man7.org/linux/man-pages/man2/mlock.2.html)
///
/// # Safety
/// See the contract of [`os`](super).
pub(crate) unsafe fn lock(start: NonNull<u8>, len: usize) -> Result<(), OsError> {
    // SAFETY: locking changes residency only.
    unsafe { rustix::mm::mlock(start.as_ptr().cast(), len)? };
    Ok(())
}

/// `munlock`.
///
/// # Safety
/// See the contract of [`os`](super).
pub(crate) unsafe fn unlock(start: NonNull<u8>, len: usize) -> Result<(), OsError> {
    // SAFETY: unlocking changes residency only.
    unsafe { rustix::mm::munlock(start.as_ptr().cast(), len)? };
    Ok(())
}

/// `munmap` of a whole reservation. [`munmap(2)`](https://man7.org/linux/man-pages/man2/munmap.2.html)
///
/// # Safety
/// The range is what [`reserve`](super::reserve) returned, and it is not used any more.
pub(crate) unsafe fn release(start: NonNull<u8>, len: usize) -> Result<(), OsError> {
    // SAFETY: the caller's promise.
    unsafe { unmap(start.as_ptr().cast(), len) }
}

pub(crate) fn yield_now() {
    rustix::thread::sched_yield();
}

/// Sleeps for 50 µs, or less where a signal comes. A page is held for some microseconds as a rule; a longer sleep would
/// delay the waiting thread more than the holder. Async-signal-safe; a cancellation point on no system but macOS.
pub(crate) fn sleep_a_little() {
    super::sleep(&libc::timespec { tv_sec: 0, tv_nsec: 50_000 });
}

/// `write(2, text)`. Errors and short writes are ignored: there is no other place to report them. Writes nothing to a
/// pipe without a reader, which would raise SIGPIPE, nor to one that stays full, where the call would wait.
pub(crate) fn write_stderr(text: &[u8]) {
    /// How long to wait for the reader of a full pipe: a reader that lives needs less, and the program is about to end.
    const PATIENCE_MS: i32 = 200;
    let mut stderr = libc::pollfd { fd: 2, events: libc::POLLOUT, revents: 0 };
    let is_ready = super::poll(&mut stderr, PATIENCE_MS) != 0;
    if is_ready && stderr.revents & (libc::POLLERR | libc::POLLHUP) == 0 {
        super::write(2, text);
    }
}

/// Residency by `mincore`, which tells whether a page is resident, and no more.
/// [`mincore(2)`](https://man.freebsd.org/cgi/man.cgi?query=mincore)
pub(crate) fn residency_by_mincore(
    start: NonNull<u8>,
    len: usize,
    each: &mut dyn FnMut(usize, usize, super::Residency),
) -> Result<(), OsError> {
    /// Pages for each call: so many that few calls are needed, and their states fit a stack.
    const BATCH: usize = 4096;
    let page = page_size();
    let mut states = [0u8; BATCH];
    for batch in (0..len).step_by(BATCH * page) {
        let bytes = (len - batch).min(BATCH * page);
        // SAFETY: mincore reads nothing but page tables, and `states` has a byte for each page.
        let result = unsafe {
            libc::mincore(start.as_ptr().byte_add(batch).cast(), bytes, states.as_mut_ptr().cast())
        };
        if result != 0 {
            return Err(last_error());
        }
        for (page_index, &state) in states[..bytes / page].iter().enumerate() {
            if state & 1 != 0 {
                let resident = super::Residency { resident: true, ..Default::default() };
                each(batch + page_index * page, page, resident);
            }
        }
    }
    Ok(())
}
