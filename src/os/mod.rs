//! The only folder that knows an operating system, besides the handlers and registers in `fault/`. A port
//! adds one file here; see "Porting" in `docs/architecture.md`.
//!
//! Every file has the same functions, each of which makes a system call and decides nothing else. `table.rs` is
//! the list of them, each with its contract.
//!
//! `model.rs` is a simulated operating system for Miri and for tests; it checks the contract. `refusals.rs` is a
//! layer above that or the real system, for tests: it refuses calls on request.

use std::ffi::CString;
use std::fmt;
use std::io;

mod table;

#[cfg(any(miri, pagewise_model))]
#[path = "model.rs"]
mod imp;

#[cfg(all(unix, not(any(miri, pagewise_model))))]
mod unix;

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

/// The calls of the system, past the layer of `refusals.rs`.
mod system {
    pub(crate) use super::imp::*;
    #[cfg(not(all(target_os = "linux", not(any(miri, pagewise_model)))))]
    pub(crate) use super::not_linux::*;
}

#[cfg(any(miri, pagewise_model, pagewise_refusals, all(test, loom)))]
pub mod refusals;

/// These stand before the system's own.
#[cfg(any(miri, pagewise_model, pagewise_refusals, all(test, loom)))]
pub(crate) use refusals::{
    commit, decommit, discard, guard_install, guard_remove, lock, protect, release, reserve,
    unlock, userfault_commit, zero,
};

/// Stand-ins for functions that only Linux has (guard markers, userfaultfd, a limit on mappings): errors, or no
/// effect.
#[cfg(not(all(target_os = "linux", not(any(miri, pagewise_model)))))]
mod not_linux {
    use std::ptr::NonNull;

    use super::OsError;

    pub(crate) fn guards_work() -> bool {
        false
    }

    pub(crate) fn commits_strictly() -> bool {
        cfg!(windows)
    }

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

    /// Only asked where there are guard markers.
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

/// An error code of the operating system (`errno`, or Windows' last error): plain data, which the fault
/// handler can make. As an [`io::Error`] it has words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OsError(pub(crate) i32);

impl OsError {
    /// The system's number for it.
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

/// The causes of an error that lead to different advice for the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code)] // no system reports all of these causes
pub(crate) enum Cause {
    /// Addresses, memory or commit charge ran out.
    OutOfMemory,
    /// Too many mappings: how many there are, and the limit.
    Mappings { mappings: usize, max: usize },
    /// Locked memory forbids it.
    Locked,
    /// The kernel or the configuration cannot do it.
    Unsupported,
    /// Anything else.
    Other,
}

/// Access rights of committed pages.
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

/// Whether a reservation uses huge pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum HugePages {
    /// The system's own setting.
    #[default]
    System,
    /// Transparent huge pages (`MADV_HUGEPAGE` on Linux; no effect on other systems). Best effort.
    Transparent,
    /// Pages from the explicit pool of huge pages (Linux `hugetlb`). An error where it is empty.
    Explicit,
}

/// Properties of a reservation that are lost where its pages are mapped anew, and have to be applied again.
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

/// Stand-ins for systems that have no `fork`.
#[cfg(any(windows, miri, pagewise_model))]
mod no_fork {
    pub(crate) fn forks() -> usize {
        0
    }

    pub(crate) fn watch_forks() -> Result<(), super::OsError> {
        Ok(())
    }

    #[cfg(unix)]
    pub(crate) fn call_in_children(_: fn()) {}
}

#[cfg(any(windows, miri, pagewise_model))]
pub(crate) use no_fork::*;

/// The library is about to read, or write, memory that may be a reservation's: the model panics where the
/// pages do not allow it. Elsewhere the processor does.
#[cfg(not(any(miri, pagewise_model)))]
#[inline(always)]
pub(crate) fn expect_access(_start: *const u8, _len: usize, _access: Access) {}

/// Makes pages resident by writing to each, without changing what it holds.
///
/// # Safety
/// The range is committed and writable.
#[cfg(any(target_os = "macos", target_os = "ios", target_os = "freebsd", all(test, unix)))]
#[cfg_attr(any(miri, pagewise_model), allow(dead_code))]
unsafe fn touch_each_page(start: std::ptr::NonNull<u8>, len: usize) {
    use std::sync::atomic::{AtomicU8, Ordering};
    for offset in (0..len).step_by(page_size()) {
        // SAFETY: the caller's promise; an atomic `or` with zero races with nothing.
        let byte = unsafe { AtomicU8::from_ptr(start.as_ptr().add(offset)) };
        // The compiler would drop an `or` with a number that it knows to be zero.
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
