//! What every function has in common: its status, the last error of the thread, and no panic that leaves it.

use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::fmt::Display;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pagewise::{AccessError, Error, Refusal, RefusalReason};

/// The status that a call returns.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The call succeeded.
    Ok = 0,
    /// A null pointer, a bad option, or a range that is not in the region.
    Argument = 1,
    /// A limit or a budget is used up.
    Limit = 2,
    /// The system has no memory, addresses or mappings left.
    Memory = 3,
    /// Another error of the system.
    System = 4,
    /// A bug in pagewise.
    Panic = 5,
    /// A filter refused the page.
    Filter = 6,
    /// This system cannot do it.
    Unsupported = 7,
}

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

pub(crate) fn fail(status: Status, why: &dyn Display) -> Status {
    let text = CString::new(why.to_string().replace('\0', " ")).unwrap_or_default();
    // `Err` while the thread ends, after its thread-local values are gone: the message is lost then.
    let _ = LAST_ERROR.try_with(|last| last.replace(text));
    status
}

pub(crate) fn bad_argument<T>(why: &str) -> Result<T, Status> {
    Err(fail(Status::Argument, &why))
}

fn status_of(error: &Error) -> Status {
    match error {
        Error::LimitReached { .. } | Error::BudgetReached { .. } => Status::Limit,
        Error::AddressSpaceExhausted { .. }
        | Error::CommitRefused { .. }
        | Error::MappingsExhausted { .. }
        | Error::Locked { .. } => Status::Memory,
        Error::OutOfBounds { .. }
        | Error::ReversedRange { .. }
        | Error::NotCommitted { .. }
        | Error::ZeroLength
        | Error::BadAlignment { .. }
        | Error::Overflow { .. } => Status::Argument,
        Error::Unsupported { .. } => Status::Unsupported,
        Error::Access(error) => status_of_refusal(&error.refusal),
        _ => Status::System,
    }
}

pub(crate) fn status_of_refusal(refusal: &Refusal) -> Status {
    match refusal.reason {
        RefusalReason::Limit { .. } | RefusalReason::Budget { .. } => Status::Limit,
        RefusalReason::NotReserved => Status::Argument,
        RefusalReason::Filter => Status::Filter,
        _ => Status::Memory,
    }
}

/// The result of a call of the library, with its message noted.
pub(crate) fn done<T>(result: Result<T, Error>) -> Result<T, Status> {
    result.map_err(|error| fail(status_of(&error), &error))
}

pub(crate) fn refused(error: &AccessError) -> Status {
    fail(status_of_refusal(&error.refusal), error)
}

/// Runs `work`, and makes a panic an error. Every function of this interface does its work in here, but for those
/// that may run in a signal handler: a panic that reached the C program would end it.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T, Status>) -> Result<T, Status> {
    let work = || {
        #[cfg(test)]
        crate::tests::panic_if_wanted();
        work()
    };
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(fail(Status::Panic, &"a bug in pagewise: it panicked")))
}

/// `guarded`, for functions that return a status.
pub(crate) fn status(work: impl FnOnce() -> Result<(), Status>) -> Status {
    guarded(work).map_or_else(|status| status, |()| Status::Ok)
}

/// `guarded`, for functions that return a property of an object.
///
/// # Safety
/// The pointer is null, or to a living object that nobody changes meanwhile.
pub(crate) unsafe fn property<T, R>(of: *const T, otherwise: R, read: impl FnOnce(&T) -> R) -> R {
    // SAFETY: the caller's promise.
    guarded(|| Ok(read(unsafe { object(of)? }))).unwrap_or(otherwise)
}

/// # Safety
/// The pointer is null, or to an object that lives, and that nobody changes, for as long as the result is used.
pub(crate) unsafe fn object<'a, T>(pointer: *const T) -> Result<&'a T, Status> {
    // SAFETY: the caller's promise.
    match unsafe { pointer.as_ref() } {
        Some(object) => Ok(object),
        None => bad_argument("the object is NULL"),
    }
}

/// # Safety
/// The pointer is null, or to an object that nobody else uses for as long as the result is used.
pub(crate) unsafe fn object_mut<'a, T>(pointer: *mut T) -> Result<&'a mut T, Status> {
    // SAFETY: the caller's promise.
    match unsafe { pointer.as_mut() } {
        Some(object) => Ok(object),
        None => bad_argument("the object is NULL"),
    }
}

/// Stores a result at a place of the C program.
///
/// # Safety
/// The place is null, or has room for a `T`.
pub(crate) unsafe fn store<T>(place: *mut T, value: T) -> Result<(), Status> {
    if place.is_null() {
        return bad_argument("the place for the result is NULL");
    }
    // SAFETY: the caller's promise.
    unsafe { place.write(value) };
    Ok(())
}

/// Makes an object, and hands it over as a pointer; the place is null after an error. The place is looked at first, so
/// that no object is made for nothing.
///
/// # Safety
/// As [`store`].
pub(crate) unsafe fn make<T>(
    place: *mut *mut T,
    make: impl FnOnce() -> Result<T, Status>,
) -> Status {
    // SAFETY: the caller's promise.
    status(|| unsafe {
        store(place, std::ptr::null_mut())?;
        let object = Box::new(make()?);
        store(place, Box::into_raw(object))
    })
}

/// Drops what [`make`] made. Null is fine.
///
/// # Safety
/// The pointer is null, or came from [`make`] and is not used again.
pub(crate) unsafe fn free<T>(object: *mut T) {
    if !object.is_null() {
        // The caller has nothing to do about a panic; `guarded` has recorded it in the last error.
        // SAFETY: the caller's promise.
        let _ = guarded(|| unsafe {
            drop(Box::from_raw(object));
            Ok(())
        });
    }
}

/// Copies as much of a structure as the program has room for: it may have been compiled with a shorter one.
///
/// # Safety
/// The place is null, or has room for `size` bytes.
pub(crate) unsafe fn store_part<T: Copy>(
    place: *mut T,
    size: usize,
    value: T,
) -> Result<(), Status> {
    if place.is_null() {
        return bad_argument("the place for the result is NULL");
    }
    let len = size.min(size_of::<T>());
    // SAFETY: the caller's promise; the value has as many bytes. What is behind it is cleared.
    unsafe {
        std::ptr::copy_nonoverlapping((&raw const value).cast::<u8>(), place.cast(), len);
        place.cast::<u8>().add(len).write_bytes(0, size - len);
    }
    Ok(())
}

pub(crate) fn range(offset: usize, len: usize) -> Result<Range<usize>, Status> {
    match offset.checked_add(len) {
        Some(end) => Ok(offset..end),
        None => bad_argument("the range overflows"),
    }
}

/// Why this thread's last failing call failed.
#[unsafe(no_mangle)]
pub extern "C" fn pagewise_last_error() -> *const c_char {
    // The borrow cannot panic: no other one lasts longer than a call of `fail` or of this function.
    LAST_ERROR.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}
