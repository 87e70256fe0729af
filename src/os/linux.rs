//! Linux.

use std::ffi::CStr;
use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU64, Ordering};

use rustix::mm::{Advice, MapFlags, ProtFlags};

use super::{Attributes, Cause, HugePages, OsError, Residency, unix};

pub(crate) use unix::{
    call_in_children, commit, discard, forks, lock, page_size, preserving_error_code, protect,
    release, reserve_granularity, sleep_a_little, unlock, watch_forks, write_stderr, yield_now,
};

/// Prefaulting is a system call that needs no access rights of its own.
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

/// `MADV_DONTNEED`: private anonymous memory reads zero afterwards. It fails for locked memory, which needs
/// `MADV_DONTNEED_LOCKED` (Linux 5.18). [`madvise(2)`](https://man7.org/linux/man-pages/man2/madvise.2.html)
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

/// `MADV_DONTNEED` for a reservation that cannot be released: its memory goes back.
///
/// # Safety
/// The range is what [`reserve`] returned, and nobody uses it any more.
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

/// Lets a test see here what happens on systems that prefault by touching.
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

/// Whether guard markers work: tried once, by whether a marker clears what a page holds. What `madvise`
/// returns is not enough, since qemu's user mode reports success for advice that it does not know.
/// Async-signal-safe: threads that ask at the same time may both try, and none waits.
pub(crate) fn guards_work() -> bool {
    const YES: i32 = 1;
    const NO: i32 = 2;
    static ANSWER: AtomicI32 = AtomicI32::new(0);
    if ANSWER.load(Ordering::Relaxed) == 0 {
        ANSWER.store(if try_guards() { YES } else { NO }, Ordering::Relaxed);
    }
    ANSWER.load(Ordering::Relaxed) == YES
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

/// The process's userfaultfd, opened by the first region that wants one; -1 before that, and in the child of
/// a fork: an inherited descriptor still acts on the parent's memory.
static USERFAULT: AtomicI32 = AtomicI32::new(-1);

/// Device and inode of that file: the program may have closed it, and opened another one of that number.
static USERFAULT_IDENTITY: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

fn remember(identity: Option<[u64; 2]>) {
    for (place, number) in USERFAULT_IDENTITY.iter().zip(identity.unwrap_or_default()) {
        place.store(number, Ordering::Relaxed);
    }
}

/// Device and inode of an open file.
fn identity(file: i32) -> Option<[u64; 2]> {
    let mut about = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: room for the answer, which is there where the call succeeds.
    let about = unsafe {
        if libc::fstat(file, about.as_mut_ptr()) != 0 {
            return None;
        }
        about.assume_init()
    };
    Some([about.st_dev, about.st_ino])
}

/// Whether a descriptor is still the file that [`userfault`] opened. Async-signal-safe.
///
/// Since Linux 5.12 each userfaultfd has an inode of its own. In Linux 5.11 it shares one with many other
/// kinds of files, so that its name in `/proc` counts, too. In doubt, no.
fn is_our_userfault(file: i32) -> bool {
    let ours = USERFAULT_IDENTITY.each_ref().map(|number| number.load(Ordering::Relaxed));
    identity(file) == Some(ours) && is_named(file, b"anon_inode:[userfaultfd]")
}

/// Whether the link `/proc/self/fd/FILE` leads to such a name. Async-signal-safe.
fn is_named(file: i32, name: &[u8]) -> bool {
    const FOLDER: &[u8] = b"/proc/self/fd/";
    // (Zeros behind what is written end the path.)
    let (mut path, mut digits, mut rest) = ([0u8; 32], [0u8; 12], file);
    let mut count = 0;
    for digit in &mut digits {
        *digit = b'0' + (rest % 10) as u8;
        (rest, count) = (rest / 10, count + 1);
        if rest == 0 {
            break;
        }
    }
    let text = FOLDER.iter().chain(digits.iter().take(count).rev());
    path.iter_mut().zip(text).for_each(|(place, byte)| *place = *byte);
    let mut found = [0u8; 64];
    // SAFETY: the path ends with a zero, and the buffer has room for its length.
    let len = unsafe {
        let (to, room) = (found.as_mut_ptr(), found.len());
        libc::syscall(libc::SYS_readlinkat, libc::AT_FDCWD, path.as_ptr(), to, room)
    };
    usize::try_from(len).is_ok_and(|len| found.get(..len) == Some(name))
}

/// Makes pages of a range that are missing raise SIGBUS instead of becoming zeros, and the range
/// accessible: `userfaultfd` with `UFFD_FEATURE_SIGBUS`, for faults of user code only, which needs no
/// privilege (Linux 5.11). [`userfaultfd(2)`](https://man7.org/linux/man-pages/man2/userfaultfd.2.html)
///
/// # Safety
/// See the contract of [`os`](super); nothing in the range was ever touched.
pub(crate) unsafe fn userfault_register(start: NonNull<u8>, len: usize) -> Result<(), OsError> {
    const REGISTER: u32 = 0xc020_aa00;
    const MISSING: u64 = 1;
    let file = userfault()?;
    let mut arguments = [start.as_ptr().addr() as u64, len as u64, MISSING, 0];
    // Registered before it becomes accessible: under `mlockall(MCL_FUTURE)`, making the range accessible
    // populates all of it, unless userfaultfd handles its missing pages.
    // SAFETY: the arguments are start, length, mode and room for an answer, as the kernel has them.
    unsafe {
        check(libc::ioctl(file, REGISTER as _, arguments.as_mut_ptr()))?;
        commit(start, len)
    }
}

fn userfault() -> Result<i32, OsError> {
    const API: u32 = 0xc018_aa3f;
    const VERSION: u64 = 0xaa;
    const FEATURE_SIGBUS: u64 = 1 << 7;
    const USER_MODE_ONLY: i32 = 1;
    let known = USERFAULT.load(Ordering::Acquire);
    if known >= 0 {
        return Ok(known);
    }
    let mut api = [VERSION, FEATURE_SIGBUS, 0];
    // SAFETY: a new file descriptor, asked for one feature with the structure that the kernel has. It is
    // closed where another thread was faster: no lock, which a forked child might find locked.
    unsafe {
        let flags = libc::O_CLOEXEC | libc::O_NONBLOCK | USER_MODE_ONLY;
        let file = libc::syscall(libc::SYS_userfaultfd, flags) as i32;
        check(file.min(0))?;
        let ready = check(libc::ioctl(file, API as _, api.as_mut_ptr()));
        let first = ready.and_then(|()| {
            USERFAULT
                .compare_exchange(-1, file, Ordering::AcqRel, Ordering::Acquire)
                .map_or_else(Ok, |_| Ok(file))
        });
        if first == Ok(file) {
            remember(identity(file));
        } else {
            close(file);
        }
        first
    }
}

/// `UFFDIO_COPY` of zeros into the missing pages of a registered range. (`UFFDIO_ZEROPAGE` maps the shared
/// zero page: the first write would fault again, in the kernel.) Pages that are not missing keep their
/// contents. On an error, a prefix may be done. Async-signal-safe.
///
/// # Safety
/// See the contract of [`os`](super); the range was [registered](userfault_register).
pub(crate) unsafe fn userfault_commit(start: NonNull<u8>, len: usize) -> Result<(), OsError> {
    const COPY: u32 = 0xc028_aa03;
    const BATCH: usize = 64 << 10;
    #[repr(align(65536))]
    struct Zeros(#[allow(dead_code)] [u8; BATCH]);
    static ZEROS: Zeros = Zeros([0; BATCH]);
    let (file, page) = (USERFAULT.load(Ordering::Acquire), page_size());
    let mut done = 0;
    while done < len {
        let to = start.as_ptr().addr() + done;
        let from = (&raw const ZEROS).addr();
        let count = (len - done).min(BATCH);
        let mut arguments = [to as u64, from as u64, count as u64, 0, 0];
        // SAFETY: target, source, length, mode and room for the number of bytes, as the kernel has them.
        match check(unsafe { libc::ioctl(file, COPY as _, arguments.as_mut_ptr()) }) {
            Ok(()) => done += count,
            Err(OsError(libc::EEXIST)) => done += page,
            Err(OsError(libc::EAGAIN)) => done += (arguments[4] as i64).max(0) as usize,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// In the child of a fork: closes the parent's userfaultfd, and frees the buffer that a thread of the parent
/// may have been counting mappings with. Async-signal-safe.
pub(crate) fn forget_parent() {
    COUNTING.store(false, Ordering::Relaxed);
    let file = USERFAULT.swap(-1, Ordering::AcqRel);
    if file >= 0 && is_our_userfault(file) {
        // SAFETY: the child's copy, which nobody uses any more.
        unsafe { close(file) };
    }
}

fn check(result: i32) -> Result<(), OsError> {
    if result >= 0 { Ok(()) } else { Err(unix::last_error()) }
}

/// Whether the system promises no more than it has (`vm.overcommit_memory` is 2), asked once.
/// Async-signal-safe.
pub(crate) fn commits_strictly() -> bool {
    const YES: i32 = 1;
    const NO: i32 = 2;
    // Not a `OnceLock`: the child of a fork might find it locked by a thread that it does not have.
    static ANSWER: AtomicI32 = AtomicI32::new(0);
    if ANSWER.load(Ordering::Relaxed) == 0 {
        let mut strict = false;
        let buffer = [const { AtomicU8::new(0) }; 8];
        read_file(c"/proc/sys/vm/overcommit_memory", &buffer, |byte| strict |= byte == b'2');
        ANSWER.store(if strict { YES } else { NO }, Ordering::Relaxed);
    }
    ANSWER.load(Ordering::Relaxed) == YES
}

/// `madvise`. The error comes from errno without an `io::Error`, whose destructor may free memory: the fault
/// handler calls this.
///
/// # Safety
/// The caller wants the effect of the advice on the range.
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

/// Applies huge page advice, core dump exclusion and name, which the kernel keeps for each mapping: pages that
/// are mapped anew lack them.
///
/// # Safety
/// The range is one of our own mappings.
unsafe fn apply(start: NonNull<u8>, len: usize, attributes: &Attributes) {
    // Errors are ignored: an older kernel lacks some of these, and memory works without them.
    // SAFETY: none of these changes contents or access.
    unsafe {
        match attributes.huge_pages {
            HugePages::Transparent => {
                let _ = advise(start, len, libc::MADV_HUGEPAGE);
            }
            HugePages::Never => {
                let _ = advise(start, len, libc::MADV_NOHUGEPAGE);
            }
            // The engine makes everything accessible. Where huge pages are `always` on, each touch would take
            // 2 MiB, past the limit.
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

/// Whether the kernel uses transparent huge pages where they are asked for.
/// [`transhuge`](https://docs.kernel.org/admin-guide/mm/transhuge.html)
pub(crate) fn has_huge_pages() -> bool {
    std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled")
        .is_ok_and(|setting| !setting.contains("[never]"))
}

/// The size of the explicit huge pages that a reservation would get; `None` where the pool is empty.
pub(crate) fn explicit_huge_page_size() -> Option<usize> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let number = |key: &str| -> Option<usize> {
        let line = meminfo.lines().find(|line| line.starts_with(key))?;
        line[key.len()..].split_whitespace().next()?.parse().ok()
    };
    let (total, overcommit) = (number("HugePages_Total:")?, overcommit_huge_pages());
    if total + overcommit == 0 { None } else { Some(number("Hugepagesize:")? << 10) }
}

fn overcommit_huge_pages() -> usize {
    std::fs::read_to_string("/proc/sys/vm/nr_overcommit_hugepages")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

/// Linux returns ENOMEM for "no addresses", "no charge" and "too many mappings" alike. Counting the mappings
/// tells the last one apart. Reads `/proc`, without allocating.
pub(crate) fn diagnose(error: OsError) -> Cause {
    match error.0 {
        libc::ENOMEM => match mappings() {
            // Changing the middle of a mapping splits it into three: two more.
            Some((mappings, max)) if mappings + 2 >= max => Cause::Mappings { mappings, max },
            _ => Cause::OutOfMemory,
        },
        libc::EAGAIN | libc::EPERM => Cause::Locked,
        libc::EINVAL | libc::ENOSYS => Cause::Unsupported,
        _ => Cause::Other,
    }
}

/// The default of `vm.max_map_count`.
pub(crate) const USUAL_MAPPINGS: usize = 65_530;

/// Held by the thread that counts mappings.
static COUNTING: AtomicBool = AtomicBool::new(false);

/// How many mappings the process has, and may have; `None` where `/proc` does not tell, or another thread
/// is counting. Async-signal-safe, and needs little stack.
pub(crate) fn mappings() -> Option<(usize, usize)> {
    /// Static, because the alternate stack of a signal handler may be smaller.
    static BUFFER: [AtomicU8; 16 << 10] = [const { AtomicU8::new(0) }; 16 << 10];
    if COUNTING.swap(true, Ordering::Acquire) {
        return None;
    }
    let mut max = 0usize;
    let has_max = read_file(c"/proc/sys/vm/max_map_count", &BUFFER, |byte| {
        if byte.is_ascii_digit() {
            max = max.saturating_mul(10).saturating_add(usize::from(byte - b'0'));
        }
    });
    let mut count = 0;
    let has_count =
        read_file(c"/proc/self/maps", &BUFFER, |byte| count += usize::from(byte == b'\n'));
    COUNTING.store(false, Ordering::Release);
    (has_max && has_count).then_some((count, max))
}

/// Calls `each` for every byte of a file; `false` where it cannot be read. By plain system calls: the fault
/// handler comes here.
fn read_file(path: &CStr, buffer: &[AtomicU8], mut each: impl FnMut(u8)) -> bool {
    // SAFETY: the path ends with a zero. Atomics may be written through a shared reference, and a caller
    // lets nobody else use them.
    unsafe {
        let file = open(path, libc::O_RDONLY);
        if file < 0 {
            return false;
        }
        let len = loop {
            let to = buffer.as_ptr().cast_mut();
            let len = libc::syscall(libc::SYS_read, file, to, buffer.len());
            if len <= 0 {
                break len;
            }
            buffer.iter().take(len as usize).for_each(|byte| each(byte.load(Ordering::Relaxed)));
        };
        close(file);
        len == 0
    }
}

/// Writes a zero into inaccessible private memory, which makes its page resident and changes nothing else:
/// by way of `/proc/self/mem`, which asks for no access rights. Best effort: a kernel can be configured to
/// refuse it. [`proc_pid_mem(5)`](https://man7.org/linux/man-pages/man5/proc_pid_mem.5.html)
///
/// # Safety
/// See the contract of [`os`](super); the caller gives up what the first byte holds.
pub(crate) unsafe fn write_inaccessible_zero(at: NonNull<u8>) {
    let file = open(c"/proc/self/mem", libc::O_WRONLY);
    if file >= 0 {
        // SAFETY: one byte is written, at the caller's address; the file is this function's own.
        unsafe {
            libc::syscall(libc::SYS_pwrite64, file, [0u8].as_ptr(), 1usize, at.as_ptr().addr());
            close(file);
        }
    }
}

// By number, past the C library's functions of these names: those are cancellation points, where a pending
// `pthread_cancel` would end the thread in its memory access, or while it holds pages.
// [`pthreads(7)`](https://man7.org/linux/man-pages/man7/pthreads.7.html)

/// `openat` from the working directory, with `O_CLOEXEC`, which is no cancellation point here.
fn open(path: &CStr, flags: i32) -> i32 {
    let flags = flags | libc::O_CLOEXEC;
    // SAFETY: the path ends with a zero.
    unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, 0) as i32 }
}

/// `close`, which is no cancellation point here.
///
/// # Safety
/// The file is the caller's, and nobody uses it any more.
unsafe fn close(file: i32) {
    // SAFETY: the caller's promise.
    unsafe { libc::syscall(libc::SYS_close, file) };
}

/// `nanosleep`, which is no cancellation point here.
pub(crate) fn sleep(time: &libc::timespec) {
    let rest = ptr::null_mut::<libc::timespec>();
    // SAFETY: a complete time; nobody asks how much of it was left.
    unsafe { libc::syscall(libc::SYS_nanosleep, &raw const *time, rest) };
}

/// `ppoll` for one descriptor, which is no cancellation point here. (Some processors have no `poll`.)
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

/// `write`, once, which is no cancellation point here.
pub(crate) fn write(file: i32, bytes: &[u8]) {
    // SAFETY: the buffer is valid for its length.
    unsafe { libc::syscall(libc::SYS_write, file, bytes.as_ptr(), bytes.len()) };
}

/// Whether `RLIMIT_DATA` limits how much memory of the process may be writable. Async-signal-safe.
pub(crate) fn data_is_limited() -> bool {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the call only fills the structure.
    unsafe { libc::getrlimit(libc::RLIMIT_DATA, &mut limit) };
    limit.rlim_cur != libc::RLIM_INFINITY
}

/// `PAGEMAP_SCAN` (Linux 6.7), else `mincore`, which tells less.
/// [`pagemap`](https://docs.kernel.org/admin-guide/mm/pagemap.html)
pub(crate) fn residency(
    start: NonNull<u8>,
    len: usize,
    each: &mut dyn FnMut(usize, usize, Residency),
) -> Result<(), OsError> {
    let file = File::open("/proc/self/pagemap")
        .map_err(|error| OsError(error.raw_os_error().unwrap_or(libc::ENOENT)))?;
    match scan(&file, start, len, each) {
        Err(OsError(libc::ENOTTY | libc::EINVAL | libc::ENOSYS)) => {
            unix::residency_by_mincore(start, len, each)
        }
        other => other,
    }
}

#[repr(C)]
#[derive(Default)]
struct ScanArguments {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    regions: u64,
    regions_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_any_of_mask: u64,
    return_mask: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct ScanRegion {
    start: u64,
    end: u64,
    categories: u64,
}

fn scan(
    file: &File,
    start: NonNull<u8>,
    len: usize,
    each: &mut dyn FnMut(usize, usize, Residency),
) -> Result<(), OsError> {
    const PAGEMAP_SCAN: u32 = 0xc060_6610;
    const PRESENT: u64 = 1 << 3;
    const SWAPPED: u64 = 1 << 4;
    const HUGE: u64 = 1 << 6;
    let base = start.as_ptr().addr() as u64;
    let mut regions = [ScanRegion::default(); 256];
    let mut at = base;
    while at < base + len as u64 {
        let mut arguments = ScanArguments {
            size: size_of::<ScanArguments>() as u64,
            start: at,
            end: base + len as u64,
            regions: regions.as_mut_ptr().addr() as u64,
            regions_len: regions.len() as u64,
            category_any_of_mask: PRESENT | SWAPPED,
            return_mask: PRESENT | SWAPPED | HUGE,
            ..ScanArguments::default()
        };
        // SAFETY: the arguments are as the kernel lays them out, and `regions` outlives the call.
        let found = unsafe { libc::ioctl(file.as_raw_fd(), PAGEMAP_SCAN as _, &raw mut arguments) };
        if found < 0 {
            return Err(unix::last_error());
        }
        for region in &regions[..found as usize] {
            let residency = Residency {
                resident: region.categories & PRESENT != 0,
                huge: region.categories & HUGE != 0,
                swapped: region.categories & SWAPPED != 0,
            };
            each((region.start - base) as usize, (region.end - region.start) as usize, residency);
        }
        if arguments.walk_end <= at {
            break;
        }
        at = arguments.walk_end;
    }
    Ok(())
}
