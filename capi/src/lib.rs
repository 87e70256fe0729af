//! The C interface: see `include/pagewise.h`, which documents it for those who call it.
//!
//! A panic never leaves a function: all work happens inside `guarded`. A null pointer for a region is
//! an error of the caller, which every function reports.
#![deny(unsafe_op_in_unsafe_fn, missing_docs)]

use std::cell::RefCell;
use std::ffi::{CString, c_char, c_int, c_void};
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use pagewise::{AccessError, CommitStep, DemandRegion, Error, RefusalReason};

/// The status that a call returns.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The call succeeded.
    Ok = 0,
    /// A null pointer, or a range that is not in the region.
    Argument = 1,
    /// The region's limit is used up.
    Limit = 2,
    /// The system has no memory, addresses or mappings left.
    Memory = 3,
    /// Another error of the system.
    System = 4,
    /// A bug in pagewise.
    Panic = 5,
}

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

fn fail(status: Status, why: &dyn Display) -> Status {
    let text = CString::new(why.to_string().replace('\0', " ")).unwrap_or_default();
    // `Err` while the thread ends, after its thread-local values are gone: the message is lost then.
    let _ = LAST_ERROR.try_with(|last| last.replace(text));
    status
}

fn status_of(error: &Error) -> Status {
    match error {
        Error::LimitReached { .. } | Error::BudgetReached { .. } => Status::Limit,
        Error::AddressSpaceExhausted { .. }
        | Error::CommitRefused { .. }
        | Error::MappingsExhausted { .. } => Status::Memory,
        Error::OutOfBounds { .. }
        | Error::ReversedRange { .. }
        | Error::ZeroLength
        | Error::Overflow { .. } => Status::Argument,
        _ => Status::System,
    }
}

fn refused(error: AccessError) -> Status {
    let status = match error.refusal.reason {
        RefusalReason::Limit { .. } | RefusalReason::Budget { .. } => Status::Limit,
        RefusalReason::NotReserved => Status::Argument,
        _ => Status::Memory,
    };
    fail(status, &error)
}

/// Runs `work`, and makes a panic an error. Every function of this interface does its work in here: a
/// panic that reached the C program would end it.
fn guarded<T>(work: impl FnOnce() -> Result<T, Status>) -> Result<T, Status> {
    let work = || {
        #[cfg(test)]
        tests::panic_if_wanted();
        work()
    };
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(fail(Status::Panic, &"a bug in pagewise: it panicked")))
}

/// `guarded`, for functions that return a status.
fn status(work: impl FnOnce() -> Result<(), Status>) -> Status {
    guarded(work).map_or_else(|status| status, |()| Status::Ok)
}

/// `guarded`, for functions that return a property of a region.
///
/// # Safety
/// The pointer is null, or to a living region.
unsafe fn property<T>(
    of: *const DemandRegion,
    otherwise: T,
    read: impl FnOnce(&DemandRegion) -> T,
) -> T {
    // SAFETY: the caller's promise.
    guarded(|| Ok(read(unsafe { region(of)? }))).unwrap_or(otherwise)
}

/// # Safety
/// The pointer is null, or to a region that lives for as long as the result is used.
unsafe fn region<'a>(pointer: *const DemandRegion) -> Result<&'a DemandRegion, Status> {
    // SAFETY: the caller's promise.
    unsafe { pointer.as_ref() }.ok_or_else(|| fail(Status::Argument, &"the region is NULL"))
}

fn end_of(offset: usize, len: usize) -> Result<usize, Status> {
    offset.checked_add(len).ok_or_else(|| fail(Status::Argument, &"the range overflows"))
}

/// Bytes of a page; 0 after a panic.
#[unsafe(no_mangle)]
pub extern "C" fn pagewise_page_size() -> usize {
    guarded(|| Ok(pagewise::page_size())).unwrap_or(0)
}

/// A region, or null.
#[unsafe(no_mangle)]
pub extern "C" fn pagewise_region_new(len: usize, limit: usize, step: usize) -> *mut DemandRegion {
    guarded(|| {
        let step = if step == 0 { CommitStep::adaptive() } else { CommitStep::fixed(step) };
        match DemandRegion::builder(len).limit(limit).step(step).build() {
            Ok(region) => Ok(Box::into_raw(Box::new(region))),
            Err(error) => Err(fail(status_of(&error), &error)),
        }
    })
    .unwrap_or(ptr::null_mut())
}

/// The first byte, or null.
///
/// # Safety
/// The pointer is null, or to a living region.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_region_ptr(region: *const DemandRegion) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe { property(region, ptr::null_mut(), |region| region.as_ptr().cast()) }
}

/// Bytes that are reserved.
///
/// # Safety
/// The pointer is null, or to a living region.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_region_len(region: *const DemandRegion) -> usize {
    // SAFETY: the caller's promise.
    unsafe { property(region, 0, DemandRegion::len) }
}

/// Bytes that are committed.
///
/// # Safety
/// The pointer is null, or to a living region.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_region_committed(region: *const DemandRegion) -> usize {
    // SAFETY: the caller's promise.
    unsafe { property(region, 0, DemandRegion::committed) }
}

/// Page faults that committed something.
///
/// # Safety
/// The pointer is null, or to a living region.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_region_faults(region: *const DemandRegion) -> usize {
    // SAFETY: the caller's promise.
    unsafe { property(region, 0, |region| region.stats().faults as usize) }
}

/// What the two copies have in common. `buffer` is the C program's; `copy` may assume that the range is
/// in the region, that the buffer is not null unless `len` is 0, and that the two are apart.
///
/// # Safety
/// The region is null or alive; `copied` has room for a number, or is null.
unsafe fn copy(
    pointer: *const DemandRegion,
    offset: usize,
    buffer: *const c_void,
    len: usize,
    copied: *mut usize,
    copy: impl FnOnce(&DemandRegion) -> Result<(), AccessError>,
) -> Status {
    let mut done = 0;
    let status = status(|| {
        // SAFETY: the caller's promise.
        let region = unsafe { region(pointer)? };
        // Checked before the slice is made: a slice longer than `isize::MAX` is undefined behaviour.
        if end_of(offset, len)? > region.len() {
            return Err(fail(Status::Argument, &"the range is not in the region"));
        }
        if len == 0 {
            return Ok(());
        }
        if buffer.is_null() {
            return Err(fail(Status::Argument, &"the buffer is NULL"));
        }
        // No longer than the region, so that two places overlap exactly if their distance is less.
        if (region.as_ptr().addr() + offset).abs_diff(buffer.addr()) < len {
            return Err(fail(Status::Argument, &"the buffer overlaps the range"));
        }
        match copy(region) {
            Ok(()) => done = len,
            Err(error) => {
                done = error.copied;
                return Err(refused(error));
            }
        }
        Ok(())
    });
    // SAFETY: the caller's promise.
    if let Some(copied) = unsafe { copied.as_mut() } {
        *copied = done;
    }
    status
}

/// Copies out of a region.
///
/// # Safety
/// The region is null or alive; `into` has room for `len` bytes, `copied` for one number, or is null. No
/// other thread writes to the bytes that are read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_region_read(
    from: *const DemandRegion,
    offset: usize,
    into: *mut c_void,
    len: usize,
    copied: *mut usize,
) -> Status {
    // SAFETY: the caller's promise. (What a C program hands over may hold anything, even nothing yet.)
    unsafe {
        copy(from, offset, into, len, copied, |from| {
            from.read(offset, std::slice::from_raw_parts_mut(into.cast(), len))
        })
    }
}

/// Copies into a region.
///
/// # Safety
/// The region is null or alive; `from` has `len` bytes, `copied` room for one number, or is null. No
/// other thread uses the bytes that are written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_region_write(
    to: *mut DemandRegion,
    offset: usize,
    from: *const c_void,
    len: usize,
    copied: *mut usize,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        copy(to, offset, from, len, copied, |to| {
            to.write_shared(offset, std::slice::from_raw_parts(from.cast(), len))
        })
    }
}

/// Commits a range.
///
/// # Safety
/// The region is null or alive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_region_commit(
    of: *mut DemandRegion,
    offset: usize,
    len: usize,
) -> Status {
    status(|| {
        // SAFETY: the caller's promise.
        let of = unsafe { region(of)? };
        let end = end_of(offset, len)?;
        of.commit(offset..end).map_err(|error| fail(status_of(&error), &error))
    })
}

/// Decommits a range.
///
/// # Safety
/// The region is null or alive, and nobody uses the pages of the range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_region_decommit(
    of: *mut DemandRegion,
    offset: usize,
    len: usize,
) -> Status {
    status(|| {
        // SAFETY: the caller's promise.
        let of = unsafe { region(of)? };
        let end = end_of(offset, len)?;
        // SAFETY: the caller's promise.
        unsafe { of.decommit_shared(offset..end) }.map_err(|error| fail(status_of(&error), &error))
    })
}

/// Releases a region.
///
/// # Safety
/// The region is null, or was made by [`pagewise_region_new`] and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_region_free(region: *mut DemandRegion) {
    if !region.is_null() {
        // SAFETY: the caller's promise.
        // The function returns nothing; `guarded` has recorded a panic in the last error.
        let _ = guarded(|| unsafe {
            drop(Box::from_raw(region));
            Ok(())
        });
    }
}

/// Why this thread's last failing call failed.
#[unsafe(no_mangle)]
pub extern "C" fn pagewise_last_error() -> *const c_char {
    // The borrow cannot panic: no other one lasts longer than a call of `fail` or of this function.
    LAST_ERROR.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

/// Whether somebody replaced the handler: 1 or 0, or -1 after a panic.
#[unsafe(no_mangle)]
pub extern "C" fn pagewise_is_displaced() -> c_int {
    guarded(|| Ok(c_int::from(pagewise::fault::is_displaced()))).unwrap_or(-1)
}

/// Puts the handler back in front.
#[unsafe(no_mangle)]
pub extern "C" fn pagewise_reinstall() -> Status {
    status(|| pagewise::fault::reinstall().map_err(|error| fail(status_of(&error), &error)))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::ffi::CStr;

    use super::*;

    thread_local! {
        static WANTED: Cell<bool> = const { Cell::new(false) };
    }

    /// Stands for a bug in whatever a function of this interface calls.
    pub(super) fn panic_if_wanted() {
        assert!(!WANTED.replace(false), "a panic that the test wants");
    }

    /// Calls a function whose work panics: its result, and the error's text.
    fn panicking<T>(call: impl FnOnce() -> T) -> (T, String) {
        fail(Status::System, &"an error of before");
        WANTED.set(true);
        let result = call();
        assert!(!WANTED.get(), "it did not go through the catch of panics");
        // SAFETY: a string of this thread, copied before the next call.
        let text = unsafe { CStr::from_ptr(pagewise_last_error()) };
        (result, text.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_panic_in_any_function_is_an_error_and_never_leaves_it() {
        // SAFETY: pointers are as the header says.
        unsafe {
            let region = pagewise_region_new(1, usize::MAX, 0);
            let (mut byte, mut copied) = (0u8, 99);
            let why = "a bug in pagewise: it panicked".to_string();
            macro_rules! check {
                ($($call:expr => $result:expr;)*) => {
                    $(assert_eq!(panicking(|| $call), ($result, why.clone()), stringify!($call));)*
                };
            }
            check! {
                pagewise_page_size() => 0;
                pagewise_region_new(1, usize::MAX, 0) => ptr::null_mut();
                pagewise_region_ptr(region) => ptr::null_mut();
                pagewise_region_len(region) => 0;
                pagewise_region_committed(region) => 0;
                pagewise_region_faults(region) => 0;
                pagewise_region_read(region, 0, (&raw mut byte).cast(), 1, &mut copied) => Status::Panic;
                pagewise_region_write(region, 0, (&raw const byte).cast(), 1, &mut copied) => Status::Panic;
                pagewise_region_commit(region, 0, 1) => Status::Panic;
                pagewise_region_decommit(region, 0, 1) => Status::Panic;
                pagewise_is_displaced() => -1;
                pagewise_reinstall() => Status::Panic;
            }
            assert_eq!(copied, 0);
            assert_eq!(panicking(|| pagewise_region_free(region)), ((), why.clone()));
        }
    }
}
