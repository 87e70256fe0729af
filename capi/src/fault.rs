//! The fault handler, and code that a refused access ends.

use std::ffi::{c_char, c_int, c_void};
use std::fmt::Write;
use std::sync::atomic::{AtomicPtr, Ordering};

use pagewise::fault::Handled;
use pagewise::{Refusal as Cause, RefusalReason, fault};

use crate::constants::*;
use crate::status::*;

/// `pagewise_refusal`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    /// The first byte of the region that refused the access.
    pub region: *mut c_void,
    /// The byte that could not be accessed, from the start of the region.
    pub offset: usize,
    /// `PAGEWISE_ERROR_LIMIT` and others.
    pub reason: Status,
    /// The system's error code, or 0.
    pub system_error: c_int,
    /// Bytes that are used of the limit or the budget; mappings of the process.
    pub used: usize,
    /// The limit.
    pub limit: usize,
}

impl Refusal {
    fn of(cause: &Cause) -> Self {
        let (used, limit, system_error) = match cause.reason {
            RefusalReason::Limit { used, limit } | RefusalReason::Budget { used, limit } => {
                (used, limit, 0)
            }
            RefusalReason::Mappings { mappings, max, error } => (mappings, max, error.code()),
            RefusalReason::Locked(error) | RefusalReason::System(error) => (0, 0, error.code()),
            _ => (0, 0, 0),
        };
        Self {
            region: std::ptr::with_exposed_provenance_mut(cause.region),
            offset: cause.offset,
            reason: status_of_refusal(cause),
            system_error,
            used,
            limit,
        }
    }
}

/// `pagewise_function`.
pub type Function = unsafe extern "C" fn(context: *mut c_void);

/// Runs a function, and comes back from a refused access in it.
///
/// # Safety
/// As [`fault::attempt`], and the header: no frame between this call and a refused access needs to be left in order. The
/// place is null, or has room for a refusal.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_try(
    function: Option<Function>,
    context: *mut c_void,
    refusal: *mut Refusal,
) -> Status {
    let Some(function) = function else {
        return status(|| bad_argument("the function is NULL"));
    };
    // Not in `guarded`, which would cost as much as all the rest: nothing in here panics, and a C function cannot.
    // SAFETY: the caller's promise.
    match unsafe { fault::attempt(|| function(context)) } {
        Ok(()) => Status::Ok,
        Err(cause) => {
            if !refusal.is_null() {
                // SAFETY: the caller's promise.
                unsafe { refusal.write(Refusal::of(&cause)) };
            }
            status_of_refusal(&cause)
        }
    }
}

/// A text of at most so many bytes, cut where it is longer.
struct Cut<'a> {
    room: &'a mut [u8],
    len: usize,
}

impl Write for Cut<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for (place, &byte) in self.room[self.len..].iter_mut().zip(text.as_bytes()) {
            *place = byte;
            self.len += 1;
        }
        Ok(())
    }
}

/// Says a refusal in words.
///
/// # Safety
/// The refusal is null, or came from [`pagewise_try`]; the place is null, or has room for `room` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_refusal_text(
    refusal: *const Refusal,
    text: *mut c_char,
    room: usize,
) -> Status {
    status(|| {
        // SAFETY: the caller's promise.
        let refusal = unsafe { object(refusal)? };
        if text.is_null() || room == 0 {
            return bad_argument("there is no room for the text");
        }
        // SAFETY: the caller's promise; cleared first, since the program's memory may hold nothing yet.
        let room = unsafe {
            text.write_bytes(0, room);
            std::slice::from_raw_parts_mut(text.cast::<u8>(), room - 1)
        };
        let mut cut = Cut { room, len: 0 };
        let Refusal { offset, used, limit, system_error, .. } = *refusal;
        // (A cut text is no error.)
        let _ = write!(cut, "page at offset {offset:#x} refused");
        let _ = match refusal.reason {
            Status::Limit => write!(cut, ": {used} of {limit} bytes are used up"),
            Status::Filter => write!(cut, " by the region's filter"),
            _ if limit != 0 => write!(cut, ": {used} of at most {limit} memory mappings"),
            _ => write!(cut, " by the system: {}", std::io::Error::from_raw_os_error(system_error)),
        };
        Ok(())
    })
}

/// Installs the handler.
#[unsafe(no_mangle)]
pub extern "C" fn pagewise_install() -> Status {
    status(|| done(fault::install()))
}

/// Whether somebody replaced the handler: 1 or 0, or -1 after a panic.
#[unsafe(no_mangle)]
pub extern "C" fn pagewise_is_displaced() -> c_int {
    guarded(|| Ok(c_int::from(fault::is_displaced()))).unwrap_or(-1)
}

/// Puts the handler back in front.
#[unsafe(no_mangle)]
pub extern "C" fn pagewise_reinstall() -> Status {
    status(|| done(fault::reinstall()))
}

/// Whether the calling thread is inside a filter: 1 or 0. Async-signal-safe.
#[unsafe(no_mangle)]
pub extern "C" fn pagewise_in_filter() -> c_int {
    fault::in_filter().into()
}

/// `pagewise_report`: where the line about a refused access goes.
pub type Report = unsafe extern "C" fn(line: *const c_char, len: usize);

/// What [`pagewise_report_to`] was given, as a `Report`; null: nothing is called.
static REPORT: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());

/// Runs in the fault handler.
fn report(line: &[u8]) {
    let report = REPORT.load(Ordering::Acquire);
    // SAFETY: null, or stored by `pagewise_report_to` from such a function.
    let report = unsafe { std::mem::transmute::<*mut (), Option<Report>>(report) };
    if let Some(report) = report {
        // SAFETY: the program's promise.
        unsafe { report(line.as_ptr().cast(), line.len()) };
    }
}

/// Gives the line about each refused access to a function; null: to nobody.
///
/// # Safety
/// The function is async-signal-safe, and stays callable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_report_to(to: Option<Report>) {
    let to = to.map_or(std::ptr::null_mut(), |to| to as *mut ());
    REPORT.store(to, Ordering::Release);
    // SAFETY: the caller's promise.
    unsafe { fault::report_to(report) };
}

/// Writes the line to stderr, as it is in the beginning.
#[unsafe(no_mangle)]
pub extern "C" fn pagewise_report_to_stderr() {
    fault::report_to_stderr();
}

/// What a host learns of a fault: `PAGEWISE_HANDLED_…`.
///
/// # Safety
/// The place is null, or has room for a refusal.
unsafe fn handled(handled: Handled, refusal: *mut Refusal) -> c_int {
    match handled {
        Handled::Served => HANDLED_SERVED,
        Handled::Refused(cause) => {
            if !refusal.is_null() {
                // SAFETY: the caller's promise.
                unsafe { refusal.write(Refusal::of(&cause)) };
            }
            HANDLED_REFUSED
        }
        _ => HANDLED_NOT_OURS,
    }
}

/// Serves a fault for a host that owns the signal. Async-signal-safe.
///
/// # Safety
/// To be called from a signal handler only, with its own three arguments; the place is null, or has room for a refusal.
#[cfg(unix)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_try_handle(
    signal: c_int,
    info: *mut c_void,
    context: *mut c_void,
    refusal: *mut Refusal,
) -> c_int {
    if info.is_null() || context.is_null() {
        return HANDLED_NOT_OURS;
    }
    // SAFETY: the caller's promise.
    unsafe { handled(fault::try_handle(signal, info.cast(), context), refusal) }
}

/// Serves a fault for a host with a vectored handler in front of ours.
///
/// # Safety
/// To be called from a vectored exception handler only, with its own argument; the place is null, or has room for a
/// refusal.
#[cfg(windows)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_try_handle(
    exception: *mut c_void,
    refusal: *mut Refusal,
) -> c_int {
    if exception.is_null() {
        return HANDLED_NOT_OURS;
    }
    // SAFETY: the caller's promise.
    unsafe { handled(fault::try_handle(exception.cast()), refusal) }
}
