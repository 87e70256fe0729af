//! Pages that come from elsewhere: moving and protecting pages by
//! [`userfaultfd(2)`](https://man7.org/linux/man-pages/man2/userfaultfd.2.html), memory with two addresses, and waiting.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use rustix::mm::{MapFlags, ProtFlags};

use super::calls::check;
use super::unix;
use super::userfault::{self, register};
use super::{OsError, advise, page_size, wiped, zero};
use crate::os::{Access, Span};

/// Whether pages can be moved from one address to another (Linux 6.8), and the first write to a page be noticed.
pub(crate) fn pages_move() -> bool {
    userfault::has_pages()
}

/// Registers accessible memory: an access to a page that has no memory raises SIGBUS from then on, and (`protected`) so
/// does a write to a page that [`forbid_writing`] names. Async-signal-safe, but for the first call.
///
/// # Safety
/// See the contract of [`os`](super).
pub(crate) unsafe fn userfault_pages(
    start: NonNull<u8>,
    len: usize,
    protected: bool,
) -> Result<(), OsError> {
    let modes =
        if protected { userfault::MISSING | userfault::PROTECTED } else { userfault::MISSING };
    // SAFETY: the caller's promise.
    unsafe { register(start, len, modes) }
}

/// Ends [`userfault_pages`]. Async-signal-safe.
///
/// # Safety
/// See the contract of [`os`](super).
pub(crate) unsafe fn userfault_forget(start: NonNull<u8>, len: usize) -> Result<(), OsError> {
    const UNREGISTER: u32 = 0x8010_aa01;
    let mut range = [start.as_ptr().addr() as u64, len as u64];
    // SAFETY: `struct uffdio_range`.
    check(unsafe { libc::ioctl(userfault::descriptor(), UNREGISTER as _, range.as_mut_ptr()) })
}

/// Copies bytes to pages of a registered range that have no memory: each appears whole. Where `writable` is not set, the
/// first write to each of them raises SIGBUS. Async-signal-safe.
///
/// # Safety
/// See the contract of [`os`](super); `from` is readable for `len` bytes.
pub(crate) unsafe fn copy_pages(
    to: NonNull<u8>,
    from: NonNull<u8>,
    len: usize,
    writable: bool,
) -> Result<(), OsError> {
    const COPY: u32 = 0xc028_aa03;
    const PROTECTED: u64 = 2;
    let mode = if writable { 0 } else { PROTECTED };
    // SAFETY: the caller's promise.
    unsafe { advance(COPY, to, from, len, mode) }.1
}

/// Moves pages, with what they hold, from one registered range to another, where there is no memory yet: each appears
/// whole, and writable. Async-signal-safe.
///
/// A page that a device or another process is using at the moment cannot move (`EBUSY`): direct I/O may have returned
/// before it lets go of its pages. That is tried again for a while. Where it stays so, the page is copied, which takes a
/// page of memory more for a moment.
///
/// # Safety
/// See the contract of [`os`](super), for both ranges; nobody writes to `from`, unless it is protected
/// ([`forbid_writing`]) before the copy: `protect` asks for that.
pub(crate) unsafe fn move_pages(
    to: NonNull<u8>,
    from: NonNull<u8>,
    len: usize,
    protect: bool,
) -> Result<(), OsError> {
    const MOVE: u32 = 0xc028_aa05;
    // SAFETY: the caller's promise.
    let (mut done, stopped) = unsafe { advance(MOVE, to, from, len, 0) };
    let Err(error) = stopped else { return Ok(()) };
    if error != OsError(libc::EBUSY) {
        return Err(error);
    }
    // SAFETY: the rest of both ranges; a page of `from` goes once its copy is there.
    unsafe {
        if protect {
            forbid_writing(from.add(done), len - done)?;
        }
        while done < len {
            copy_pages(to.add(done), from.add(done), page_size(), true)?;
            zero(from.add(done), page_size())?;
            done += page_size();
        }
    }
    Ok(())
}

/// A request whose argument is target, source, length, mode, and room for the number of bytes that are done: goes on
/// where the kernel stopped in the middle. Returns how many bytes are done.
///
/// # Safety
/// As the request demands.
unsafe fn advance(
    request: u32,
    to: NonNull<u8>,
    from: NonNull<u8>,
    len: usize,
    mode: u64,
) -> (usize, Result<(), OsError>) {
    /// A tenth of a second, or so.
    const MOST_WAITS: u32 = 2_000;
    let (file, mut done, mut round) = (userfault::descriptor(), 0, 0);
    while done < len {
        let (target, source) = (to.as_ptr().addr() + done, from.as_ptr().addr() + done);
        let mut arguments = [target as u64, source as u64, (len - done) as u64, mode, 0];
        // SAFETY: the caller's promise.
        match check(unsafe { libc::ioctl(file, request as _, arguments.as_mut_ptr()) }) {
            Ok(()) => return (len, Ok(())),
            Err(error) => {
                done += (arguments[4] as i64).max(0) as usize;
                let may_pass = match error.0 {
                    libc::EAGAIN => true,
                    libc::EBUSY => round < MOST_WAITS,
                    _ => false,
                };
                if !may_pass {
                    return (done, Err(error));
                }
                later(&mut round);
            }
        }
    }
    (len, Ok(()))
}

/// Waits a moment for what made the kernel say "again".
fn later(round: &mut u32) {
    *round = round.saturating_add(1);
    if *round < 100 { unix::yield_now() } else { unix::sleep_a_little() }
}

/// From now on, the next write to each of the pages raises SIGBUS. Async-signal-safe.
///
/// # Safety
/// See the contract of [`os`](super); the pages are registered.
pub(crate) unsafe fn forbid_writing(start: NonNull<u8>, len: usize) -> Result<(), OsError> {
    // SAFETY: the caller's promise.
    unsafe { write_protect(start, len, 1) }
}

/// Ends [`forbid_writing`]. Async-signal-safe.
///
/// # Safety
/// See the contract of [`os`](super); the pages are registered.
pub(crate) unsafe fn allow_writing(start: NonNull<u8>, len: usize) -> Result<(), OsError> {
    // SAFETY: the caller's promise.
    unsafe { write_protect(start, len, 0) }
}

/// # Safety
/// See the contract of [`os`](super); the pages are registered.
unsafe fn write_protect(start: NonNull<u8>, len: usize, mode: u64) -> Result<(), OsError> {
    const WRITE_PROTECT: u32 = 0xc018_aa06;
    let file = userfault::descriptor();
    let mut round = 0;
    loop {
        let mut arguments = [start.as_ptr().addr() as u64, len as u64, mode];
        // SAFETY: `struct uffdio_writeprotect`: start, length, mode.
        match check(unsafe { libc::ioctl(file, WRITE_PROTECT as _, arguments.as_mut_ptr()) }) {
            Err(OsError(libc::EAGAIN)) => later(&mut round),
            other => return other,
        }
    }
}

/// Keeps a range out of the child processes of forks (`MADV_DONTFORK`).
///
/// # Safety
/// See the contract of [`os`](super).
pub(crate) unsafe fn keep_from_children(start: NonNull<u8>, len: usize) -> Result<(), OsError> {
    // SAFETY: the caller's promise.
    unsafe { advise(start, len, libc::MADV_DONTFORK) }
}

/// Maps inaccessible memory at addresses where nothing is mapped. Async-signal-safe.
pub(crate) fn occupy(start: NonNull<u8>, len: usize) -> Result<(), OsError> {
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED_NOREPLACE;
    // SAFETY: replaces no mapping.
    let mapped = unsafe {
        rustix::mm::mmap_anonymous(start.as_ptr().cast(), len, ProtFlags::empty(), flags)?
    };
    if mapped.cast() == start.as_ptr() { Ok(()) } else { Err(OsError(libc::EEXIST)) }
}

/// Maps inaccessible memory over a range. Async-signal-safe.
///
/// # Safety
/// See the contract of [`os`](super); what the range holds is the caller's to give up.
pub(crate) unsafe fn map_nothing(start: NonNull<u8>, len: usize) -> Result<(), OsError> {
    // SAFETY: the caller's promise.
    unsafe { unix::map_over(start, len, ProtFlags::empty(), MapFlags::NORESERVE) }
}

/// Memory that has no address yet (`memfd_create`): a file of zeros.
pub(crate) fn shared_memory(len: usize) -> Result<File, OsError> {
    // SAFETY: the name ends with a zero; the descriptor is new, and the file's.
    let file = unsafe {
        let file = libc::memfd_create(c"pagewise".as_ptr(), libc::MFD_CLOEXEC);
        check(file.min(0))?;
        File::from_raw_fd(file)
    };
    file.set_len(len as u64).map_err(|error| OsError(error.raw_os_error().unwrap_or(0)))?;
    Ok(file)
}

/// Maps a part of such memory: over `at`, or where the kernel chooses. Async-signal-safe.
///
/// # Safety
/// The range at `at` is the caller's to map over.
pub(crate) unsafe fn map_shared(
    file: &File,
    offset: u64,
    len: usize,
    at: Option<NonNull<u8>>,
    access: Access,
) -> Result<NonNull<u8>, OsError> {
    let rights = match access {
        Access::None => ProtFlags::empty(),
        Access::Read => ProtFlags::READ,
        _ => ProtFlags::READ | ProtFlags::WRITE,
    };
    let (address, fixed) = match at {
        Some(at) => (at.as_ptr().cast(), MapFlags::FIXED | MapFlags::POPULATE),
        None => (ptr::null_mut(), MapFlags::empty()),
    };
    let flags = MapFlags::SHARED | fixed;
    // SAFETY: the caller's promise.
    let start = unsafe { rustix::mm::mmap(address, len, rights, flags, file, offset)? };
    NonNull::new(start.cast()).ok_or(OsError(libc::ENOMEM))
}

/// Gives a part of such memory back: it reads zero afterwards. Async-signal-safe.
pub(crate) fn empty_shared(file: &File, offset: u64, len: u64) -> Result<(), OsError> {
    let flags = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: the file is open; by its number, the call is no cancellation point.
    check(unsafe {
        libc::syscall(libc::SYS_fallocate, file.as_raw_fd(), flags, offset, len) as i32
    })
}

/// Waits until another thread calls [`wake`] for `word`, unless the word is not `seen` any more. May return
/// early. Async-signal-safe.
pub(crate) fn wait_while(word: &AtomicU32, seen: u32) {
    use rustix::thread::futex;
    let _ = futex::wait(word, futex::Flags::PRIVATE, seen, None);
}

/// Wakes so many threads at most that wait for a word. Async-signal-safe. (Its address is all that counts: the memory may be
/// gone by now.)
pub(crate) fn wake(word: *const AtomicU32, most: u32) {
    let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    let most = most.min(i32::MAX as u32);
    // SAFETY: the kernel looks for threads that wait at that address, and reads nothing there.
    unsafe { libc::syscall(libc::SYS_futex, word, operation, most) };
}

/// Whether the descriptor of userfaultfd is still the one that was opened. Async-signal-safe.
pub(crate) fn userfault_is_open() -> bool {
    userfault::is_open()
}

/// A number that this process has, and no child of it, not even one by a bare `clone`, which calls no handlers: there it
/// is zero, or the child's own, from the first call of [`mark_process`] on. Async-signal-safe.
pub(crate) fn process_mark() -> u64 {
    wiped::made().map_or(0, |wiped| wiped.mark.load(Ordering::Relaxed))
}

/// Sees to it that this process has such a number.
pub(crate) fn mark_process() -> Result<(), OsError> {
    let wiped = wiped::make()?;
    // Of two threads, one sets it.
    let _ = wiped.mark.compare_exchange(0, now_ns() | 1, Ordering::Relaxed, Ordering::Relaxed);
    Ok(())
}

/// Has the system give memory to a part of shared memory now, or refuse. Async-signal-safe.
pub(crate) fn fill_shared(file: &File, offset: u64, len: u64) -> Result<(), OsError> {
    // SAFETY: the file is open; by its number, the call is no cancellation point.
    check(unsafe { libc::syscall(libc::SYS_fallocate, file.as_raw_fd(), 0, offset, len) as i32 })
}

/// Advice for memory whose pages move, or are shared between two mappings: no huge pages, and none that are merged with
/// equal ones of other processes, which cannot move.
///
/// # Safety
/// See the contract of [`os`](super).
pub(crate) unsafe fn keep_pages_small_and_own(start: NonNull<u8>, len: usize) {
    // SAFETY: neither changes contents.
    unsafe {
        let _ = advise(start, len, libc::MADV_NOHUGEPAGE);
        let _ = advise(start, len, libc::MADV_UNMERGEABLE);
    }
}

/// The number of the processor that runs this thread at the moment. Async-signal-safe.
pub(crate) fn processor() -> u32 {
    // SAFETY: a plain call. (Where the kernel cannot tell, it is an error, and the number any.)
    unsafe { libc::sched_getcpu() as u32 }
}

/// Nanoseconds since some moment in the past. Async-signal-safe.
pub(crate) fn now_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: room for the answer. (The clock is always there.)
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// [`zero`] for several ranges, at most 1,024. Linux 6.16 interrupts the other processors once for all of them
/// ([`process_madvise(2)`](https://man7.org/linux/man-pages/man2/process_madvise.2.html), which works on the caller's own
/// memory so from 6.13 on). Async-signal-safe.
///
/// # Safety
/// See the contract of [`os`](super), for each range.
pub(crate) unsafe fn zero_each(spans: &[Span]) -> Result<(), OsError> {
    if !zeroes_at_once() {
        // SAFETY: the caller's promise.
        return unsafe { zero_singly(spans) };
    }
    /// This thread, whose memory it is, without a descriptor (Linux 6.14).
    const PIDFD_SELF: i32 = -10_000;
    // (Laid out as `struct iovec`.)
    let (first, count, advice) = (spans.as_ptr(), spans.len(), libc::MADV_DONTNEED);
    // SAFETY: the caller gives up the contents.
    let advised =
        unsafe { libc::syscall(libc::SYS_process_madvise, PIDFD_SELF, first, count, advice, 0) };
    if usize::try_from(advised) == Ok(spans.iter().map(|span| span.len).sum()) {
        return Ok(());
    }
    if advised < 0 {
        ZEROES_AT_ONCE.store(false, Ordering::Relaxed);
    }
    // (Older kernels, a filter of system calls, and locked memory.)
    // SAFETY: as above.
    unsafe { zero_singly(spans) }
}

/// # Safety
/// As [`zero_each`].
unsafe fn zero_singly(spans: &[Span]) -> Result<(), OsError> {
    // SAFETY: the caller's promise.
    spans.iter().try_for_each(|span| unsafe { zero(span.start, span.len) })
}

static ZEROES_AT_ONCE: AtomicBool = AtomicBool::new(true);

/// Whether [`zero_each`] is one system call: until that was refused once. Async-signal-safe.
pub(crate) fn zeroes_at_once() -> bool {
    ZEROES_AT_ONCE.load(Ordering::Relaxed)
}

/// `MADV_POPULATE_WRITE` (Linux 5.14), for pages that are not registered. Async-signal-safe.
///
/// # Safety
/// See the contract of [`os`](super).
pub(crate) unsafe fn populate_for_writing(start: NonNull<u8>, len: usize) -> Result<(), OsError> {
    // SAFETY: populating keeps the contents.
    unsafe {
        rustix::mm::madvise(start.as_ptr().cast(), len, rustix::mm::Advice::LinuxPopulateWrite)?;
    }
    Ok(())
}
