//! The C interface: see `include/pagewise.h`, which documents it for those who call it.
//!
//! Every function catches panics, and takes null pointers for the errors that they are.
#![deny(unsafe_op_in_unsafe_fn, missing_docs)]

use std::cell::RefCell;
use std::ffi::{CString, c_char, c_int, c_void};
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use pagewise::{AccessError, CommitStep, DemandRegion, Error, RefusedReason};

/// How a call ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Well.
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
    // A thread that is ending has no place for it any more.
    let _ = LAST_ERROR.try_with(|last| last.replace(text));
    status
}

fn status_of(error: &Error) -> Status {
    match error {
        Error::BudgetReached { .. } => Status::Limit,
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
    let status = match error.refused.reason {
        RefusedReason::Limit { .. } => Status::Limit,
        RefusedReason::NotReserved => Status::Argument,
        _ => Status::Memory,
    };
    fail(status, &error)
}

/// Runs `work`, and makes a panic an error.
fn guarded(work: impl FnOnce() -> Result<(), Status>) -> Status {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => Status::Ok,
        Ok(Err(status)) => status,
        Err(_) => fail(Status::Panic, &"a bug in pagewise: it panicked"),
    }
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

/// Bytes of a page.
#[unsafe(no_mangle)]
pub extern "C" fn pagewise_page_size() -> usize {
    pagewise::page_size()
}

/// A region, or null.
#[unsafe(no_mangle)]
pub extern "C" fn pagewise_region_new(len: usize, limit: usize, step: usize) -> *mut DemandRegion {
    let mut made = ptr::null_mut();
    guarded(|| {
        let step = if step == 0 { CommitStep::adaptive() } else { CommitStep::fixed(step) };
        match DemandRegion::builder(len).limit(limit).step(step).build() {
            Ok(region) => made = Box::into_raw(Box::new(region)),
            Err(error) => return Err(fail(status_of(&error), &error)),
        }
        Ok(())
    });
    made
}

/// The first byte, or null.
///
/// # Safety
/// The pointer is null, or to a living region.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_region_ptr(region: *const DemandRegion) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe { region.as_ref() }.map_or(ptr::null_mut(), |region| region.as_ptr().cast())
}

/// Bytes that are reserved.
///
/// # Safety
/// The pointer is null, or to a living region.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_region_len(region: *const DemandRegion) -> usize {
    // SAFETY: the caller's promise.
    unsafe { region.as_ref() }.map_or(0, DemandRegion::len)
}

/// Bytes that are committed.
///
/// # Safety
/// The pointer is null, or to a living region.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_region_committed(region: *const DemandRegion) -> usize {
    // SAFETY: the caller's promise.
    unsafe { region.as_ref() }.map_or(0, DemandRegion::committed)
}

/// Page faults that committed something.
///
/// # Safety
/// The pointer is null, or to a living region.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_region_faults(region: *const DemandRegion) -> usize {
    // SAFETY: the caller's promise.
    unsafe { region.as_ref() }.map_or(0, |region| region.stats().faults as usize)
}

/// What the two copies have in common. `buffer` is the C program's.
///
/// # Safety
/// The region is null or alive; `copied` has room for a number, or is null.
unsafe fn copy(
    pointer: *const DemandRegion,
    buffer: *const c_void,
    len: usize,
    copied: *mut usize,
    copy: impl FnOnce(&DemandRegion) -> Result<(), AccessError>,
) -> Status {
    let mut done = 0;
    let status = guarded(|| {
        // SAFETY: the caller's promise.
        let region = unsafe { region(pointer)? };
        if len > 0 {
            if buffer.is_null() {
                return Err(fail(Status::Argument, &"the buffer is NULL"));
            }
            // No slice may be as long as C can say.
            if len > region.len() {
                return Err(fail(Status::Argument, &"the range is longer than the region"));
            }
            if let Err(error) = copy(region) {
                done = error.copied;
                return Err(refused(error));
            }
        }
        done = len;
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
/// The region is null or alive; `into` has room for `len` bytes, `copied` for one number, or is null.
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
        copy(from, into, len, copied, |from| {
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
        copy(to, from, len, copied, |to| {
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
    guarded(|| {
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
    guarded(|| {
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
        guarded(|| unsafe {
            drop(Box::from_raw(region));
            Ok(())
        });
    }
}

/// Why this thread's last failing call failed.
#[unsafe(no_mangle)]
pub extern "C" fn pagewise_last_error() -> *const c_char {
    LAST_ERROR.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

/// Whether somebody replaced the handler.
#[unsafe(no_mangle)]
pub extern "C" fn pagewise_is_displaced() -> c_int {
    c_int::from(pagewise::fault::is_displaced())
}

/// Puts the handler back in front.
#[unsafe(no_mangle)]
pub extern "C" fn pagewise_reinstall() -> Status {
    guarded(|| pagewise::fault::reinstall().map_err(|error| fail(status_of(&error), &error)))
}
