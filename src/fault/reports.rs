//! Where the line about a refused access goes.

use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::os;

/// A `fn(&[u8])`; null is `os::write_stderr`.
static REPORT: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());

/// Writes the line about each refused access to stderr: as it is unless told otherwise.
///
/// The line is written for an access that nothing else reports: outside of [`read`](crate::DemandRegion::read),
/// [`write`](crate::DemandRegion::write) and [`fill`](crate::DemandRegion::fill), which return the refusal.
///
/// ```
/// pagewise::fault::report_nowhere();
/// pagewise::fault::report_to_stderr(); // changed our mind
/// ```
pub fn report_to_stderr() {
    REPORT.store(ptr::null_mut(), Ordering::Release);
}

/// Writes no line about a refused access: for a host that learns of it by [`try_handle`](super::try_handle) and
/// says itself what happened.
///
/// ```
/// pagewise::fault::report_nowhere();
/// ```
pub fn report_nowhere() {
    fn nothing(_: &[u8]) {}
    REPORT.store(nothing as fn(&[u8]) as *mut (), Ordering::Release);
}

/// Gives the line about each refused access to a function, instead of writing it to stderr. The bytes are one line of
/// ASCII text with a line feed at its end.
///
/// # Safety
/// The function is called in the fault handler of the thread whose access was refused, which may have held any lock,
/// on a stack that may be small. It is async-signal-safe: no allocation, no lock, no panic, no formatting, and no access
/// to memory that may fault. It may be called by several threads at once, and stays callable for as long as the
/// process lives. (errno is saved for it.)
///
/// ```
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// static REFUSALS: AtomicUsize = AtomicUsize::new(0);
/// fn count(_line: &[u8]) {
///     REFUSALS.fetch_add(1, Ordering::Relaxed);
/// }
/// // SAFETY: counting is async-signal-safe.
/// unsafe { pagewise::fault::report_to(count) };
/// ```
pub unsafe fn report_to(report: fn(&[u8])) {
    REPORT.store(report as *mut (), Ordering::Release);
}

/// Async-signal-safe.
pub(super) fn emit(line: &[u8]) {
    let report = REPORT.load(Ordering::Acquire);
    os::preserving_error_code(|| {
        if report.is_null() {
            return os::write_stderr(line);
        }
        // SAFETY: stored by the functions above, from such a function.
        let report = unsafe { mem::transmute::<*mut (), fn(&[u8])>(report) };
        report(line);
    });
}
