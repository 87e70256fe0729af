//! [`userfaultfd(2)`](https://man7.org/linux/man-pages/man2/userfaultfd.2.html): the descriptor, and what the userfault
//! engine does with it.

use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use super::calls::{check, close};
use super::{OsError, commit, page_size};

/// The process's userfaultfd, opened by the first region of the userfault engine; -1 before that, and in the child of
/// a fork, where an inherited descriptor still acts on the parent's memory.
static USERFAULT: AtomicI32 = AtomicI32::new(-1);

/// Device and inode of that file, to recognize it: the program may have closed the descriptor, and another file may
/// have its number.
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

/// Whether the descriptor is still the file that was opened: by its inode, of which each has its own since Linux 5.12.
pub(super) fn is_open() -> bool {
    let ours = USERFAULT_IDENTITY.each_ref().map(|number| number.load(Ordering::Relaxed));
    identity(descriptor()) == Some(ours)
}

/// Whether a descriptor is still the file that [`userfault`] opened. Async-signal-safe.
///
/// Since Linux 5.12 each userfaultfd has an inode of its own. On Linux 5.11 it shares one with other kinds of files,
/// so its name in `/proc` is compared, too. `false` where that cannot be read.
fn is_our_userfault(file: i32) -> bool {
    let ours = USERFAULT_IDENTITY.each_ref().map(|number| number.load(Ordering::Relaxed));
    identity(file) == Some(ours) && is_named(file, b"anon_inode:[userfaultfd]")
}

/// Whether the link `/proc/self/fd/FILE` leads to such a name. Async-signal-safe.
fn is_named(file: i32, name: &[u8]) -> bool {
    const FOLDER: &[u8] = b"/proc/self/fd/";
    // The zeros behind what is written below end the path.
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

/// `UFFDIO_REGISTER_MODE_MISSING`: an access to a page that has no memory raises SIGBUS.
pub(super) const MISSING: u64 = 1;
/// `UFFDIO_REGISTER_MODE_WP`: a write to a page raises SIGBUS, where `UFFDIO_WRITEPROTECT` asked for that.
pub(super) const PROTECTED: u64 = 2;

/// `UFFDIO_REGISTER` with `UFFDIO_REGISTER_MODE_MISSING`, then makes the range accessible: from then on an access to a
/// page that has no memory (is *missing*) raises SIGBUS. Without it, the kernel would supply a page of zeros.
///
/// # Safety
/// See the contract of [`os`](super); nothing in the range was ever touched.
pub(crate) unsafe fn userfault_register(start: NonNull<u8>, len: usize) -> Result<(), OsError> {
    // Registered before it becomes accessible: under `mlockall(MCL_FUTURE)`, making the range accessible
    // populates all of it, unless userfaultfd handles its missing pages.
    // SAFETY: the caller's promise.
    unsafe {
        register(start, len, MISSING)?;
        commit(start, len)
    }
}

/// `UFFDIO_REGISTER`, in some modes.
///
/// # Safety
/// See the contract of [`os`](super).
pub(super) unsafe fn register(start: NonNull<u8>, len: usize, modes: u64) -> Result<(), OsError> {
    const REGISTER: u32 = 0xc020_aa00;
    let file = userfault()?;
    let mut arguments = [start.as_ptr().addr() as u64, len as u64, modes, 0];
    // SAFETY: the arguments are those of `struct uffdio_register`: start, length, mode, and room for an answer.
    check(unsafe { libc::ioctl(file, REGISTER as _, arguments.as_mut_ptr()) })
}

/// The process's userfaultfd; -1 before [`register`]. Async-signal-safe.
pub(super) fn descriptor() -> i32 {
    USERFAULT.load(Ordering::Acquire)
}

/// Whether the kernel knows what only [pages that come from elsewhere](super::paging) need.
static HAS_PAGES: AtomicBool = AtomicBool::new(false);

/// See [`HAS_PAGES`].
pub(super) fn has_pages() -> bool {
    userfault().is_ok() && HAS_PAGES.load(Ordering::Acquire)
}

/// The process's userfaultfd, which the first call opens:
///
/// - `UFFD_USER_MODE_ONLY` (Linux 5.11): only faults of user code, which needs no privilege.
/// - `UFFD_FEATURE_SIGBUS`: a fault raises SIGBUS on the thread that faulted. Without it, a fault would wait for
///   another thread to read an event from the descriptor.
/// - `UFFD_FEATURE_PAGEFAULT_FLAG_WP`, `UFFD_FEATURE_MOVE`, where the kernel has both (Linux 6.8): see
///   [`has_pages`].
/// - `O_CLOEXEC`: programs that this process starts do not get the descriptor.
/// - `O_NONBLOCK`: there are no events, and a stray `read` must not wait for one.
fn userfault() -> Result<i32, OsError> {
    const PAGEFAULT_FLAG_WP: u64 = 1;
    const SIGBUS: u64 = 1 << 7;
    const MOVE: u64 = 1 << 16;
    let known = descriptor();
    if known >= 0 {
        return Ok(known);
    }
    let (file, has_pages) = match open_for(SIGBUS | PAGEFAULT_FLAG_WP | MOVE) {
        Ok(file) => (file, true),
        Err(_) => (open_for(SIGBUS)?, false),
    };
    // Two threads may both open one: the slower thread closes its own. A lock could be found locked in a forked child.
    match USERFAULT.compare_exchange(-1, file, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {
            HAS_PAGES.store(has_pages, Ordering::Release);
            remember(identity(file));
            Ok(file)
        }
        Err(first) => {
            // SAFETY: a descriptor of our own, which nobody else knows.
            unsafe { close(file) };
            Ok(first)
        }
    }
}

/// Opens a userfaultfd with these features.
fn open_for(features: u64) -> Result<i32, OsError> {
    const API: u32 = 0xc018_aa3f;
    const VERSION: u64 = 0xaa;
    const USER_MODE_ONLY: i32 = 1;
    let mut api = [VERSION, features, 0];
    let flags = libc::O_CLOEXEC | libc::O_NONBLOCK | USER_MODE_ONLY;
    // SAFETY: a new descriptor, closed where it is of no use; `api` is laid out as `struct uffdio_api`.
    unsafe {
        let file = libc::syscall(libc::SYS_userfaultfd, flags) as i32;
        check(file.min(0))?;
        check(libc::ioctl(file, API as _, api.as_mut_ptr())).inspect_err(|_| close(file))?;
        Ok(file)
    }
}

/// `UFFDIO_COPY` of zeros into the missing pages of a registered range. Pages that are not missing keep their contents
/// (`EEXIST`). On an error, a prefix may be done. Async-signal-safe.
///
/// Not `UFFDIO_ZEROPAGE`, which maps the kernel's shared page of zeros: the first write would fault in the kernel
/// again.
///
/// # Safety
/// See the contract of [`os`](super); the range was [registered](userfault_register).
pub(crate) unsafe fn userfault_commit(start: NonNull<u8>, len: usize) -> Result<(), OsError> {
    const COPY: u32 = 0xc028_aa03;
    /// No page is larger on the processors that pagewise knows: a copy is of whole pages.
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
        // SAFETY: `struct uffdio_copy`: target, source, length, mode, and room for the number of bytes that were
        // copied.
        match check(unsafe { libc::ioctl(file, COPY as _, arguments.as_mut_ptr()) }) {
            Ok(()) => done += count,
            Err(OsError(libc::EEXIST)) => done += page,
            Err(OsError(libc::EAGAIN)) => done += (arguments[4] as i64).max(0) as usize,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// In the child of a fork: closes the copy of the parent's userfaultfd. Async-signal-safe.
pub(super) fn close_in_child() {
    let file = USERFAULT.swap(-1, Ordering::AcqRel);
    if file >= 0 && is_our_userfault(file) {
        // SAFETY: the child's copy, which is not used any more.
        unsafe { close(file) };
    }
}
