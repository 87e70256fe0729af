//! The system calls. Besides this folder, only the handlers and registers in `fault/` know an operating system. A port
//! adds one file here; see "Porting" in `docs/architecture.md`.
//!
//! Every system's file has the same functions, each of which makes one system call or a few. `table.rs` lists the
//! functions, each with its contract: what it does to pages, and what the caller promises.
//!
//! `model.rs` is a simulated operating system for Miri and for tests; it checks the contract. `refusals.rs` lies
//! between the library and that or the real system, for tests: it refuses calls on request.

use std::ffi::CString;
use std::fmt;
use std::io;
use std::ptr::NonNull;

mod table;

#[cfg(any(miri, pagewise_model))]
#[path = "model.rs"]
mod imp;

#[cfg(all(unix, not(any(miri, pagewise_model))))]
mod unix;

#[cfg(all(unix, not(target_os = "linux"), not(any(miri, pagewise_model))))]
mod bsd;

#[cfg(all(target_os = "linux", not(any(miri, pagewise_model))))]
#[path = "linux.rs"]
mod imp;

#[cfg(all(any(target_os = "macos", target_os = "ios"), not(any(miri, pagewise_model))))]
#[path = "macos.rs"]
mod imp;

#[cfg(all(target_os = "freebsd", not(any(miri, pagewise_model))))]
#[path = "freebsd.rs"]
mod imp;

#[cfg(all(windows, not(any(miri, pagewise_model))))]
#[path = "windows.rs"]
mod imp;

#[cfg(not(any(
    miri,
    pagewise_model,
    target_os = "linux",
    target_os = "macos",
    target_os = "ios",
    target_os = "freebsd",
    windows
)))]
compile_error!(
    "pagewise does not know this operating system: src/os/ needs a file for it, with the functions \
     that src/os/table.rs lists"
);

pub(crate) use system::*;

/// The functions of the system's file, without the layer of `refusals.rs`.
mod system {
    pub(crate) use super::imp::*;
    #[cfg(not(all(target_os = "linux", not(any(miri, pagewise_model)))))]
    pub(crate) use super::not_linux::*;
}

#[cfg(any(miri, pagewise_model, pagewise_refusals, all(test, loom)))]
pub mod refusals;

/// In place of the system's own functions of these names.
#[cfg(any(miri, pagewise_model, pagewise_refusals, all(test, loom)))]
pub(crate) use refusals::{
    commit, decommit, discard, guard_install, guard_remove, lock, protect, release, reserve,
    unlock, userfault_commit, zero, zero_each,
};

#[cfg(not(all(target_os = "linux", not(any(miri, pagewise_model)))))]
mod no_paging;

/// The functions of `table.rs` that only Linux has (guard markers, userfaultfd, a limit on mappings), for other
/// systems: they return an error, or have no effect.
#[cfg(not(all(target_os = "linux", not(any(miri, pagewise_model)))))]
mod not_linux {
    use std::ptr::NonNull;

    pub(crate) use super::no_paging::*;

    use super::OsError;

    pub(crate) fn guards_work() -> bool {
        false
    }

    pub(crate) fn commits_strictly() -> bool {
        cfg!(windows)
    }

    pub(crate) fn has_huge_pages() -> bool {
        false
    }

    /// # Safety
    /// None.
    pub(crate) unsafe fn prefer_huge_pages(_: NonNull<u8>, _: usize) {}

    pub(crate) const USUAL_MAPPINGS: usize = usize::MAX / 2;

    pub(crate) fn mappings() -> Option<(usize, usize)> {
        None
    }

    /// # Safety
    /// None.
    pub(crate) unsafe fn write_inaccessible_zero(_: NonNull<u8>) {}

    pub(crate) fn data_is_limited() -> bool {
        false
    }

    /// Called only where there are guard markers.
    ///
    /// # Safety
    /// None.
    pub(crate) unsafe fn populate_for_reading(_: NonNull<u8>, _: usize) -> Result<(), OsError> {
        Err(OsError(0))
    }

    /// # Safety
    /// None.
    pub(crate) unsafe fn userfault_register(_: NonNull<u8>, _: usize) -> Result<(), OsError> {
        Err(OsError(0))
    }

    /// # Safety
    /// None.
    pub(crate) unsafe fn userfault_commit(_: NonNull<u8>, _: usize) -> Result<(), OsError> {
        Err(OsError(0))
    }

    /// # Safety
    /// None.
    pub(crate) unsafe fn guard_install(_: NonNull<u8>, _: usize) -> Result<(), OsError> {
        Err(OsError(0))
    }

    /// # Safety
    /// None.
    pub(crate) unsafe fn guard_remove(_: NonNull<u8>, _: usize) -> Result<(), OsError> {
        Err(OsError(0))
    }
}

/// An error code of the operating system (`errno`, or Windows' last error). Unlike an [`io::Error`], which it can be
/// turned into, it is plain data: the fault handler can make one.
///
/// ```
/// use pagewise::{OsError, RefusalReason};
///
/// fn advice(reason: RefusalReason) -> String {
///     match reason {
///         RefusalReason::Locked(error) => format!("raise `ulimit -l`: {error}"),
///         RefusalReason::System(error) => format!("{}", std::io::Error::from(error)),
///         other => format!("{other:?}"),
///     }
/// }
/// assert!(advice(RefusalReason::Limit { used: 1, limit: 1 }).contains("Limit"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OsError(pub(crate) i32);

impl OsError {
    /// Returns the system's number of the error.
    ///
    /// ```
    /// use pagewise::{DemandRegion, RefusalReason};
    ///
    /// let mut region = DemandRegion::builder(1 << 20).limit(0).build()?;
    /// match region.write(0, &[1]).unwrap_err().refusal.reason {
    ///     RefusalReason::System(error) => println!("the system said no: {}", error.code()),
    ///     reason => assert!(matches!(reason, RefusalReason::Limit { limit: 0, .. })),
    /// }
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn code(self) -> i32 {
        self.0
    }
}

impl fmt::Display for OsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        io::Error::from(*self).fmt(f)
    }
}

impl std::error::Error for OsError {}

impl From<OsError> for io::Error {
    fn from(error: OsError) -> Self {
        io::Error::from_raw_os_error(error.0)
    }
}

/// The cause of an error, as far as it leads to different advice for the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code)] // no system reports all of these causes
pub(crate) enum Cause {
    /// Addresses, memory or commit charge ran out.
    OutOfMemory,
    /// The process has (nearly) as many mappings as it may have.
    Mappings { mappings: usize, max: usize },
    /// Memory would be locked beyond what the process may lock, or is locked and must not change.
    Locked,
    /// The kernel, its version or its configuration does not support the call.
    Unsupported,
    /// Anything else.
    Other,
}

/// Access rights of committed pages.
///
/// ```
/// use pagewise::{Access, Reservation};
///
/// let constants = Reservation::new(1 << 20)?;
/// constants.commit(..1 << 16)?;
/// // SAFETY: the page is committed, and nobody else has its address.
/// unsafe { constants.as_ptr().write(42) };
/// constants.protect(..1 << 16, Access::Read)?; // from here on, a write is a fault
/// // SAFETY: it is committed, and can be read.
/// assert_eq!(unsafe { constants.as_ptr().read() }, 42);
/// # Ok::<(), pagewise::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Access {
    /// No access: every touch is a fault.
    None,
    /// Reading only.
    Read,
    /// Reading and writing: what a commit gives.
    ReadWrite,
    /// Reading and execution, for code that was written before.
    ReadExecute,
}

/// What a program may do with a file in memory.
///
/// ```
/// use pagewise::{FileAccess, MappedFile};
///
/// let path = std::env::temp_dir().join(format!("pagewise-access-{}", std::process::id()));
/// std::fs::write(&path, "draft")?;
/// let mut file = MappedFile::builder(&path).access(FileAccess::Write).build()?;
/// file.write(0, b"final")?;
/// file.flush(..)?;
/// drop(file);
/// assert_eq!(std::fs::read(&path)?, b"final");
/// std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileAccess {
    /// Reading only.
    #[default]
    Read,
    /// Reading and writing, without changing the file: a page that is written becomes a copy of the process's own.
    CopyOnWrite,
    /// Reading and writing: what is written goes to the file, and other processes that map it see it.
    Write,
}

/// How a program is going to access a file in memory: a hint for the system, which may read ahead or not.
///
/// ```
/// use pagewise::{Expected, MappedFile};
///
/// let program = MappedFile::open(std::env::current_exe()?)?;
/// program.expect(.., Expected::Sequential)?; // the system reads far ahead
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expected {
    /// Nothing particular: the system's own policy.
    #[default]
    Anything,
    /// From the start to the end: reads far ahead.
    Sequential,
    /// Here and there: reads nothing ahead.
    Random,
    /// Soon: reads the range in the background now.
    Soon,
}

/// Whether a reservation uses huge pages: of 2 MiB where pages are 4 KiB.
///
/// Huge pages are filled several times faster, and take fewer entries of the processor's address translation
/// caches. But each takes 2 MiB, however little of it is used.
///
/// ```
/// use pagewise::{HugePages, PageVec};
///
/// let mut column = PageVec::builder(1 << 30).huge_pages(HugePages::Transparent).build()?;
/// column.extend(0..1_000_000u64); // fewer page faults, where the system has huge pages to give
/// assert_eq!(column[999_999], 999_999);
/// # Ok::<(), pagewise::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum HugePages {
    /// The system's own setting.
    #[default]
    System,
    /// None (`MADV_NOHUGEPAGE` on Linux; no effect on other systems): also where the system's own setting is to
    /// use them `always`.
    Never,
    /// Small pages where access is scattered or the memory is small, huge pages where a sequential run is so
    /// long that a whole one is not more than it may be ahead anyway: an eighth of its length, so from 16 MiB
    /// on. Nothing more is committed for their sake. Best effort, on Linux; elsewhere as
    /// [`System`](Self::System).
    ///
    /// A run is a sequence of page faults at neighbouring addresses, or the growth of an array or arena. What is
    /// committed explicitly stays small until it is [prefaulted](crate::Reservation::prefault). With
    /// [`Engine::UserFault`](crate::Engine::UserFault), all pages are small.
    Adaptive,
    /// Transparent huge pages (`MADV_HUGEPAGE` on Linux; no effect on other systems). Best effort. A page fault
    /// commits all of a huge page.
    Transparent,
    /// Pages from the explicit pool of huge pages (Linux `hugetlb`). An error where it is empty.
    Explicit,
}

/// A range of addresses, as `struct iovec` has it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Span {
    pub(crate) start: NonNull<u8>,
    pub(crate) len: usize,
}

/// Properties of a reservation that a new mapping of its pages does not have by itself.
#[derive(Debug)]
#[allow(dead_code)] // only Linux uses all of the fields
pub(crate) struct Attributes {
    pub(crate) huge_pages: HugePages,
    /// Bytes of an explicit huge page, where those are asked for.
    pub(crate) explicit_page: Option<usize>,
    pub(crate) dump: bool,
    pub(crate) name: Option<CString>,
    /// Whether accessible pages count against the system's commit limit.
    pub(crate) charged: bool,
}

impl Attributes {
    pub(crate) const PLAIN: Self = Self {
        huge_pages: HugePages::System,
        explicit_page: None,
        dump: true,
        name: None,
        charged: true,
    };
}

/// What is known of one page: see [`PageState`](crate::PageState).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Residency {
    pub(crate) resident: bool,
    pub(crate) huge: bool,
    pub(crate) swapped: bool,
}

/// What lies in memory that each child of a fork finds full of zeros.
#[cfg(all(unix, not(any(miri, pagewise_model))))]
#[derive(Debug)]
pub(crate) struct Wiped {
    /// See [`forks`].
    pub(crate) forks: std::sync::atomic::AtomicUsize,
    /// See `process_mark`.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code))]
    pub(crate) mark: std::sync::atomic::AtomicU64,
    /// Not set in a child whose fork called no handlers, until they are called late.
    pub(crate) is_told: std::sync::atomic::AtomicBool,
}

/// For systems that have no `fork`: none is ever seen.
#[cfg(any(windows, miri, pagewise_model))]
mod no_fork {
    pub(crate) fn forks() -> usize {
        0
    }

    pub(crate) fn watch_forks() -> Result<(), super::OsError> {
        Ok(())
    }

    pub(crate) fn call_in_children(_: fn()) {}

    pub(crate) fn call_missed_handlers() {}

    pub(crate) fn was_told_late() -> bool {
        false
    }
}

#[cfg(any(windows, miri, pagewise_model))]
pub(crate) use no_fork::*;

/// Announces that the library is about to read, or write, memory that may belong to a reservation. The model panics
/// where the pages do not allow that access. On real systems, where the access itself would fault, it does nothing.
#[cfg(not(any(miri, pagewise_model)))]
#[inline(always)]
pub(crate) fn expect_access(_start: *const u8, _len: usize, _access: Access) {}

/// Makes pages resident by a write to each that keeps its contents.
///
/// # Safety
/// The range is committed and writable.
#[cfg(all(unix, any(test, not(target_os = "linux"))))]
#[cfg_attr(any(miri, pagewise_model), allow(dead_code))]
unsafe fn touch_each_page(start: std::ptr::NonNull<u8>, len: usize) {
    use std::sync::atomic::{AtomicU8, Ordering};
    for offset in (0..len).step_by(page_size()) {
        // SAFETY: the caller's promise; an atomic `or` with zero races with nothing.
        let byte = unsafe { AtomicU8::from_ptr(start.as_ptr().add(offset)) };
        // `black_box`, since the compiler may drop an `or` with a number that it knows to be zero.
        byte.fetch_or(std::hint::black_box(0), Ordering::Relaxed);
    }
}

/// Asserts something in the child of a fork, which then leaves without running anything else of the program.
#[cfg(all(test, unix, not(loom), not(any(miri, pagewise_model))))]
#[track_caller]
pub(crate) fn assert_in_a_child(is_right: impl FnOnce() -> bool) {
    // SAFETY: the child does what the test says, on a copy of everything, and leaves.
    match unsafe { libc::fork() } {
        0 => {
            let is_right = std::panic::catch_unwind(std::panic::AssertUnwindSafe(is_right));
            // SAFETY: ends the process.
            unsafe { libc::_exit(i32::from(!is_right.unwrap_or(false))) }
        }
        child => {
            let mut status = 0;
            // SAFETY: our own child.
            assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
            assert_eq!(status, 0, "what the child did, or saw");
        }
    }
}

#[cfg(all(test, unix, not(loom), not(any(miri, pagewise_model))))]
mod tests {
    use super::*;

    #[test]
    fn touching_each_page_makes_it_resident_and_keeps_what_it_holds() {
        let len = 64 * page_size();
        let start = reserve(len, page_size(), &Attributes::PLAIN).unwrap();
        // SAFETY: the range is this test's own, and committed before it is touched.
        unsafe {
            commit(start, len).unwrap();
            start.add(page_size()).write(7);
            touch_each_page(start, len);
            let mut resident = 0;
            residency(start, len, &mut |_, len, seen| {
                resident += if seen.resident { len } else { 0 };
            })
            .unwrap();
            assert_eq!(resident, len);
            assert_eq!((start.read(), start.add(page_size()).read()), (0, 7));
            release(start, len).unwrap();
        }
    }
}
