//! The vectored exception handler.

use std::ptr;
use std::sync::Mutex;
use std::sync::PoisonError;

use windows_sys::Win32::Foundation::{EXCEPTION_ACCESS_VIOLATION, EXCEPTION_IN_PAGE_ERROR};
use windows_sys::Win32::System::Diagnostics::Debug::{
    AddVectoredContinueHandler, AddVectoredExceptionHandler, EXCEPTION_CONTINUE_EXECUTION,
    EXCEPTION_CONTINUE_SEARCH, EXCEPTION_POINTERS, RemoveVectoredContinueHandler,
    RemoveVectoredExceptionHandler,
};
use windows_sys::Win32::System::Threading::GetCurrentThreadId;

use super::{Fault, Handled};
use crate::error::Error;

/// The two registrations, as addresses (the handles are opaque pointers); none before `install`.
static INSTALLED: Mutex<Option<(usize, usize)>> = Mutex::new(None);

pub(super) fn install() -> Result<(), Error> {
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if installed.is_none() {
        *installed = Some(add()?);
    }
    Ok(())
}

pub(super) fn reinstall() -> Result<(), Error> {
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    let front = add()?;
    if let Some((exception, resumption)) = installed.replace(front) {
        // SAFETY: both handles came from `add`.
        unsafe {
            RemoveVectoredExceptionHandler(ptr::with_exposed_provenance_mut(exception));
            RemoveVectoredContinueHandler(ptr::with_exposed_provenance_mut(resumption));
        }
    }
    Ok(())
}

pub(super) fn is_displaced() -> bool {
    false
}

/// Puts both handlers in front of their lists.
fn add() -> Result<(usize, usize), Error> {
    // SAFETY: the handlers live as long as the program.
    let (exception, resumption) = unsafe {
        (
            AddVectoredExceptionHandler(1, Some(handler)),
            AddVectoredContinueHandler(1, Some(resumed)),
        )
    };
    if exception.is_null() || resumption.is_null() {
        let source = std::io::Error::last_os_error();
        return Err(Error::System { operation: "AddVectoredExceptionHandler", source });
    }
    Ok((exception.expose_provenance(), resumption.expose_provenance()))
}

/// Windows has no asynchronous signals to block.
pub(crate) fn uninterrupted<R>(work: impl FnOnce() -> R) -> R {
    work()
}

/// What tells the calling thread from all others that live at the same time; never zero.
pub(super) fn this_thread() -> usize {
    // SAFETY: has no preconditions.
    unsafe { GetCurrentThreadId() as usize }
}

/// "pagewise" in ASCII. Stored in the exception record behind its parameters, where [`resumed`] recognizes a fault that
/// was served. (An access violation has two parameters, an in-page error three.)
const SERVED: usize = 0x7061_6765_7769_7365;
const SERVED_AT: usize = 3;

unsafe extern "system" fn handler(pointers: *mut EXCEPTION_POINTERS) -> i32 {
    // SAFETY: the system passes valid pointers.
    if unsafe { try_handle(pointers) }.is_served() {
        EXCEPTION_CONTINUE_EXECUTION
    } else {
        EXCEPTION_CONTINUE_SEARCH
    }
}

/// Our vectored continue handler. Windows calls continue handlers for every exception that a handler
/// resumes; those of a host (the Go runtime has one) must not see the faults that we served. Ours is first in
/// the list, and ends the search for them.
unsafe extern "system" fn resumed(pointers: *mut EXCEPTION_POINTERS) -> i32 {
    // SAFETY: the system passes valid pointers.
    let record = unsafe { &*(*pointers).ExceptionRecord };
    if matches!(record.ExceptionCode, EXCEPTION_ACCESS_VIOLATION | EXCEPTION_IN_PAGE_ERROR)
        && record.ExceptionInformation[SERVED_AT] == SERVED
    {
        EXCEPTION_CONTINUE_EXECUTION
    } else {
        EXCEPTION_CONTINUE_SEARCH
    }
}

/// Serves a fault for a host that has its own vectored handler in front of ours, and says what became of it. Where it is
/// [`Served`](Handled::Served), the host's handler must return `EXCEPTION_CONTINUE_EXECUTION`.
///
/// The line about a [`Refused`](Handled::Refused) plain access is written to stderr, unless
/// [`report_nowhere`](super::report_nowhere) or [`report_to`](super::report_to) says otherwise.
///
/// Rarely needed: on Windows, handlers form a list, and each passes on the exceptions that it does not know.
///
/// # Safety
/// Called from a vectored exception handler only, with the handler's own argument.
pub unsafe fn try_handle(pointers: *mut EXCEPTION_POINTERS) -> Handled {
    // SAFETY: the caller's promise: both are the system's.
    let (record, context) =
        unsafe { (&mut *(*pointers).ExceptionRecord, &mut *(*pointers).ContextRecord) };
    let is_unavailable = record.ExceptionCode == EXCEPTION_IN_PAGE_ERROR;
    if record.ExceptionCode != EXCEPTION_ACCESS_VIOLATION && !is_unavailable {
        return Handled::NotOurs;
    }
    // 0 is a read, 1 a write. 8 is an attempt to execute: committing a page would not make it executable.
    let write = match record.ExceptionInformation[0] {
        0 => false,
        1 => true,
        _ => return Handled::NotOurs,
    };
    let address = record.ExceptionInformation[1];
    let handled = super::serve(Fault { address, write: Some(write), is_unavailable }, context);
    if handled.is_served() {
        record.ExceptionInformation[SERVED_AT] = SERVED;
    }
    handled
}
