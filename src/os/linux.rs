//! Linux: mappings, advice and guard markers.

use std::ptr::NonNull;
#[cfg(test)]
use std::sync::atomic::AtomicBool;
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::mm::{Advice, MapFlags, ProtFlags};

use super::{Attributes, Cause, HugePages, OsError, unix};

#[path = "linux/calls.rs"]
mod calls;
#[path = "linux/paging.rs"]
mod paging;
#[path = "linux/populating.rs"]
mod populating;
#[path = "linux/proc.rs"]
mod proc;
#[path = "linux/userfault.rs"]
mod userfault;
#[path = "linux/wiped.rs"]
mod wiped;

pub(crate) use calls::{errno, poll, sleep, write};
pub(crate) use paging::{
    allow_writing, copy_pages, empty_shared, fill_shared, forbid_writing, keep_from_children,
    keep_pages_small_and_own, map_nothing, map_shared, mark_process, move_pages, now_ns, occupy,
    pages_move, populate_for_writing, process_mark, processor, shared_memory, userfault_forget,
    userfault_is_open, userfault_pages, wait_while, wake, zero_each, zeroes_at_once,
};
pub(crate) use populating::prefaulting_pays;
#[cfg(test)]
pub(crate) use populating::pretend_that_prefaulting_pays;
pub(crate) use proc::{
    commits_strictly, explicit_huge_page_size, has_huge_pages, mappings, residency,
    write_inaccessible_zero,
};

pub(crate) use unix::{
    FILE_CALLS_ARE_SIGNAL_SAFE, call_in_children, call_missed_handlers, commit, discard,
    expect_file_access, file_len, flush_file, forks, lock, make_sparse, map_file, open_direct,
    page_size, preserving_error_code, protect, read_at, release, reserve_granularity,
    sleep_a_little, unlock, unmap_file, was_told_late, watch_forks, write_at, write_stderr,
    yield_now,
};
pub(crate) use userfault::{userfault_commit, userfault_register};
pub(crate) use wiped::wiped_in_children;

/// `MADV_POPULATE_WRITE` returns an error for pages that are not writable; a touch would fault.
pub(crate) const PREFAULT_TOUCHES: bool = false;

pub(crate) fn reserve(
    len: usize,
    align: usize,
    attributes: &Attributes,
) -> Result<NonNull<u8>, OsError> {
    let page = attributes.explicit_page.unwrap_or(page_size());
    let start = unix::map_inaccessible(len, align, page, map_flags(attributes))?;
    // SAFETY: the mapping is new and ours.
    unsafe { apply(start, len, attributes) };
    Ok(start)
}

/// Maps inaccessible memory over the range, then applies the attributes (name, advice) to the new mapping.
///
/// # Safety
/// See the contract of [`os`](super).
pub(crate) unsafe fn decommit(
    start: NonNull<u8>,
    len: usize,
    attributes: &Attributes,
) -> Result<(), OsError> {
    // SAFETY: the caller's promise.
    unsafe {
        unix::map_over(start, len, ProtFlags::empty(), map_flags(attributes))?;
        apply(start, len, attributes);
    }
    Ok(())
}

/// `MADV_DONTNEED`: private anonymous memory reads zero afterwards. Linux refuses it for locked memory (`EINVAL`),
/// which needs `MADV_DONTNEED_LOCKED` (Linux 5.18).
/// [`madvise(2)`](https://man7.org/linux/man-pages/man2/madvise.2.html)
///
/// # Safety
/// See the contract of [`os`](super).
pub(crate) unsafe fn zero(start: NonNull<u8>, len: usize) -> Result<(), OsError> {
    const MADV_DONTNEED_LOCKED: i32 = 24;
    // SAFETY: the caller gives up the contents.
    unsafe {
        match rustix::mm::madvise(start.as_ptr().cast(), len, Advice::LinuxDontNeed) {
            Err(rustix::io::Errno::INVAL) => advise(start, len, MADV_DONTNEED_LOCKED),
            other => Ok(other?),
        }
    }
}

/// Zeroes a reservation that cannot be released, so that its memory goes back.
///
/// # Safety
/// The range is what [`reserve`] returned, and it is not used any more.
pub(crate) unsafe fn empty(start: NonNull<u8>, len: usize) {
    // SAFETY: the caller's promise.
    let _ = unsafe { zero(start, len) };
}

/// `MADV_POPULATE_WRITE` (Linux 5.14). Errors are ignored: the first touch makes a page resident, too.
///
/// # Safety
/// See the contract of [`os`](super).
pub(crate) unsafe fn prefault(start: NonNull<u8>, len: usize) {
    #[cfg(test)]
    if PREFAULT_BY_TOUCHING.load(Ordering::Relaxed) {
        // SAFETY: the caller's promise.
        return unsafe { super::touch_each_page(start, len) };
    }
    // SAFETY: populating keeps the contents.
    let _ = unsafe { rustix::mm::madvise(start.as_ptr().cast(), len, Advice::LinuxPopulateWrite) };
}

/// Set by a test: prefault by touching, as other systems do.
#[cfg(test)]
pub(crate) static PREFAULT_BY_TOUCHING: AtomicBool = AtomicBool::new(false);

/// Installs guard markers (`MADV_GUARD_INSTALL`, Linux 6.13): every access faults, whatever the access
/// rights; contents are dropped. Unlike access rights, markers split no mappings.
///
/// # Safety
/// See the contract of [`os`](super); the caller gives up the contents.
pub(crate) unsafe fn guard_install(start: NonNull<u8>, len: usize) -> Result<(), OsError> {
    const MADV_GUARD_INSTALL: i32 = 102;
    // SAFETY: the caller's promise.
    unsafe { advise(start, len, MADV_GUARD_INSTALL) }
}

/// Removes guard markers (`MADV_GUARD_REMOVE`): pages read zero where there was one; others keep what
/// they hold.
///
/// # Safety
/// See the contract of [`os`](super).
pub(crate) unsafe fn guard_remove(start: NonNull<u8>, len: usize) -> Result<(), OsError> {
    const MADV_GUARD_REMOVE: i32 = 103;
    // SAFETY: the caller's promise.
    unsafe { advise(start, len, MADV_GUARD_REMOVE) }
}

/// `MADV_POPULATE_READ` (Linux 5.14): an error where reading would fault. Async-signal-safe.
///
/// # Safety
/// See the contract of [`os`](super).
pub(crate) unsafe fn populate_for_reading(start: NonNull<u8>, len: usize) -> Result<(), OsError> {
    // SAFETY: populating keeps the contents.
    unsafe { rustix::mm::madvise(start.as_ptr().cast(), len, Advice::LinuxPopulateRead)? };
    Ok(())
}

/// Whether guard markers work: tried once, on a page that must read zero after a marker was installed and removed.
/// That `madvise` succeeds is not enough, since qemu's user mode reports success for advice that it does not know.
/// Async-signal-safe: threads that ask at the same time may all try, and none waits for another.
pub(crate) fn guards_work() -> bool {
    static ANSWER: AtomicI32 = AtomicI32::new(0);
    ask_once(&ANSWER, try_guards)
}

/// The answer to a question that is asked once in a process, and again by threads that come before there is an answer.
/// Not a `OnceLock`: in the child of a fork, it might be locked by a thread that only the parent has.
fn ask_once(answer: &AtomicI32, ask: impl FnOnce() -> bool) -> bool {
    const YES: i32 = 1;
    const NO: i32 = 2;
    if answer.load(Ordering::Relaxed) == 0 {
        answer.store(if ask() { YES } else { NO }, Ordering::Relaxed);
    }
    answer.load(Ordering::Relaxed) == YES
}

fn try_guards() -> bool {
    let page = page_size();
    let Ok(start) = reserve(page, page, &Attributes::PLAIN) else { return false };
    // SAFETY: the page is our own, and committed before it is touched.
    unsafe {
        let works = commit(start, page).is_ok() && {
            // Under `mlockall(MCL_FUTURE)` the page is locked, and locked memory takes no markers.
            let _ = unlock(start, page);
            start.write(1);
            guard_install(start, page).is_ok()
                && guard_remove(start, page).is_ok()
                && start.read() == 0
        };
        release(start, page).is_ok() && works
    }
}

/// `madvise`, for advice that rustix does not have. Async-signal-safe.
///
/// # Safety
/// As the advice demands for the range.
unsafe fn advise(start: NonNull<u8>, len: usize, advice: i32) -> Result<(), OsError> {
    // SAFETY: the caller's promise.
    match unsafe { libc::madvise(start.as_ptr().cast(), len, advice) } {
        0 => Ok(()),
        _ => Err(unix::last_error()),
    }
}

/// The flags by which a reservation is mapped:
///
/// - `MAP_HUGETLB`: pages from the pool of explicit huge pages.
/// - `MAP_NORESERVE`, for engines that make all of a reservation accessible at once: without it the kernel
///   would charge its whole length. (The kernel ignores the flag where `vm.overcommit_memory` is 2.)
fn map_flags(attributes: &Attributes) -> MapFlags {
    let huge = match attributes.huge_pages {
        HugePages::Explicit => MapFlags::HUGETLB,
        HugePages::System | HugePages::Never | HugePages::Adaptive | HugePages::Transparent => {
            MapFlags::empty()
        }
    };
    if attributes.charged { huge } else { huge | MapFlags::NORESERVE }
}

/// Applies what the kernel keeps for each mapping, so that pages which are mapped anew lack it:
///
/// - `MADV_HUGEPAGE`, where transparent huge pages are asked for.
/// - `MADV_NOHUGEPAGE`, where none are wanted, and for engines that make all of a reservation accessible at once:
///   where huge pages are always on, each touch would take 2 MiB, past the limit.
/// - `MADV_DONTDUMP`: keeps the memory out of core dumps.
/// - `PR_SET_VMA_ANON_NAME` (Linux 5.17 with `CONFIG_ANON_VMA_NAME`): the name in `/proc/self/maps`.
///
/// # Safety
/// The range is one of our own mappings.
unsafe fn apply(start: NonNull<u8>, len: usize, attributes: &Attributes) {
    // Errors are ignored: older kernels lack some of these, and the memory works without them.
    // SAFETY: none of these changes contents or access rights.
    unsafe {
        match attributes.huge_pages {
            HugePages::Transparent => {
                let _ = advise(start, len, libc::MADV_HUGEPAGE);
            }
            HugePages::Never => {
                let _ = advise(start, len, libc::MADV_NOHUGEPAGE);
            }
            HugePages::System | HugePages::Adaptive if !attributes.charged => {
                let _ = advise(start, len, libc::MADV_NOHUGEPAGE);
            }
            HugePages::System | HugePages::Adaptive | HugePages::Explicit => {}
        }
        if !attributes.dump {
            let _ = advise(start, len, libc::MADV_DONTDUMP);
        }
        if let Some(name) = &attributes.name {
            libc::prctl(
                libc::PR_SET_VMA,
                libc::PR_SET_VMA_ANON_NAME,
                start.as_ptr(),
                len,
                name.as_ptr(),
            );
        }
    }
}

/// `MADV_HUGEPAGE`: the kernel may back whole huge pages of the range by huge pages when they are touched or
/// populated. Errors are ignored: small pages do as well. Async-signal-safe.
///
/// # Safety
/// See the contract of [`os`](super).
pub(crate) unsafe fn prefer_huge_pages(start: NonNull<u8>, len: usize) {
    // SAFETY: advice about huge pages changes no contents.
    let _ = unsafe { advise(start, len, libc::MADV_HUGEPAGE) };
}

/// Linux returns `ENOMEM` where addresses, commit charge or mappings run out. Counting the mappings tells the last case
/// from the others. Async-signal-safe.
pub(crate) fn diagnose(error: OsError) -> Cause {
    match error.0 {
        libc::ENOMEM => match mappings() {
            // A change in the middle of a mapping makes three of it, so the system refuses it when fewer than two
            // more are allowed.
            Some((mappings, max)) if mappings + 2 >= max => Cause::Mappings { mappings, max },
            _ => Cause::OutOfMemory,
        },
        libc::EAGAIN | libc::EPERM => Cause::Locked,
        libc::EINVAL | libc::ENOSYS => Cause::Unsupported,
        _ => Cause::Other,
    }
}

/// In the child of a fork: drops what belonged to the parent. Async-signal-safe.
pub(crate) fn forget_parent() {
    proc::end_count_of_parent();
    userfault::close_in_child();
}

/// The default of `vm.max_map_count`.
pub(crate) const USUAL_MAPPINGS: usize = 65_530;

/// Whether `RLIMIT_DATA` limits how much private writable memory the process may have. Async-signal-safe.
pub(crate) fn data_is_limited() -> bool {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the call only fills the structure.
    unsafe { libc::getrlimit(libc::RLIMIT_DATA, &mut limit) };
    limit.rlim_cur != libc::RLIM_INFINITY
}
