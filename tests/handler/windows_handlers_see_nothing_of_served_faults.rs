//! On Windows, vectored handlers form lists. Handlers in front of pagewise's and behind it, and continue handlers
//! (the Go runtime has one), work as without it; those behind it do not see faults that pagewise served.
#![cfg(all(windows, not(pagewise_model)))]

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::common::{self, in_a_process, page_by_page, peek, poke};
use windows_sys::Win32::Foundation::EXCEPTION_ACCESS_VIOLATION;
use windows_sys::Win32::System::Diagnostics::Debug::{
    AddVectoredContinueHandler, AddVectoredExceptionHandler, EXCEPTION_CONTINUE_EXECUTION,
    EXCEPTION_CONTINUE_SEARCH, EXCEPTION_POINTERS, RaiseException,
};

static FRONT: AtomicUsize = AtomicUsize::new(0);
static BEHIND: AtomicUsize = AtomicUsize::new(0);
static CONTINUED: AtomicUsize = AtomicUsize::new(0);

const OWN: i32 = 0xe000_1234_u32 as i32;

fn code(pointers: *mut EXCEPTION_POINTERS) -> i32 {
    // SAFETY: the system's record.
    unsafe { (*(*pointers).ExceptionRecord).ExceptionCode }
}

unsafe extern "system" fn in_front(pointers: *mut EXCEPTION_POINTERS) -> i32 {
    FRONT.fetch_add(usize::from(code(pointers) == EXCEPTION_ACCESS_VIOLATION), Relaxed);
    EXCEPTION_CONTINUE_SEARCH
}

unsafe extern "system" fn behind(pointers: *mut EXCEPTION_POINTERS) -> i32 {
    BEHIND.fetch_add(1, Relaxed);
    if code(pointers) == OWN { EXCEPTION_CONTINUE_EXECUTION } else { EXCEPTION_CONTINUE_SEARCH }
}

unsafe extern "system" fn continued(_: *mut EXCEPTION_POINTERS) -> i32 {
    CONTINUED.fetch_add(1, Relaxed);
    EXCEPTION_CONTINUE_SEARCH
}

#[test]
fn served_faults_end_with_us() {
    in_a_process("served_faults_end_with_us", || {
        // SAFETY: the handlers are there for ever.
        unsafe {
            AddVectoredContinueHandler(1, Some(continued));
            AddVectoredExceptionHandler(1, Some(behind));
        }
        let region = page_by_page(64);
        // SAFETY: as above.
        unsafe { AddVectoredExceptionHandler(1, Some(in_front)) };
        for page in 0..64 {
            let at = region.as_ptr().wrapping_add(page * pagewise::page_size());
            poke(at, page as u8);
            assert_eq!(peek(at), page as u8);
        }
        let mut none = pagewise::DemandRegion::builder(1 << 20).limit(0).build().unwrap();
        assert!(none.fill(.., 1).is_err());
        assert_eq!(FRONT.load(Relaxed), 65);
        assert_eq!(BEHIND.load(Relaxed), 0);
        assert_eq!(CONTINUED.load(Relaxed), 0);
        // A fault outside of regions reaches every handler.
        // SAFETY: the handler behind us continues after it.
        unsafe { RaiseException(OWN as u32, 0, 0, std::ptr::null()) };
        assert_eq!(BEHIND.load(Relaxed), 1);
        if common::under_wine() {
            common::not_here("continue handlers (Wine does not call them)");
        } else {
            assert_eq!(CONTINUED.load(Relaxed), 1);
        }
        // After `reinstall`, pagewise's handler is called first.
        pagewise::fault::reinstall().unwrap();
        region.commit(..).unwrap();
        let other = page_by_page(1);
        poke(other.as_ptr(), 1);
        assert_eq!((FRONT.load(Relaxed), BEHIND.load(Relaxed)), (65, 1));
        assert!(!pagewise::fault::is_displaced());
    })
    .well();
}
