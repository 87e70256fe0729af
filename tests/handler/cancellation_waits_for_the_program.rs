//! A memory access is no cancellation point: a pending `pthread_cancel` takes effect where the program says,
//! and neither in the fault handler nor while an operation holds pages.
#![cfg(all(any(target_os = "linux", target_os = "freebsd"), not(pagewise_model)))]

use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::common;
use pagewise::{DemandRegion, Reservation, page_size};

unsafe extern "C" {
    fn pthread_cancel(thread: libc::pthread_t) -> libc::c_int;
}

unsafe extern "C-unwind" {
    fn pthread_testcancel();
    fn pthread_create(
        thread: *mut libc::pthread_t,
        attributes: *const libc::pthread_attr_t,
        run: extern "C-unwind" fn(*mut c_void) -> *mut c_void,
        argument: *mut c_void,
    ) -> libc::c_int;
}

struct Work<'a> {
    work: &'a (dyn Fn() + Sync),
    is_done: AtomicBool,
}

/// Nothing in it has a destructor, since the cancelled thread is unwound from the last line.
extern "C-unwind" fn run(work: *mut c_void) -> *mut c_void {
    // SAFETY: `with_cancellation_pending` keeps the work until this thread has ended.
    unsafe {
        let work = &*work.cast::<Work>();
        pthread_cancel(libc::pthread_self());
        (work.work)();
        work.is_done.store(true, Ordering::Relaxed);
        pthread_testcancel();
    }
    ptr::null_mut()
}

/// Does the work in a thread that is to be cancelled at its next cancellation point. Returns whether the
/// work came to its end.
fn with_cancellation_pending(work: &(dyn Fn() + Sync)) -> bool {
    let mut work = Work { work, is_done: AtomicBool::new(false) };
    // SAFETY: the thread ends before what it works with.
    unsafe {
        let mut thread = std::mem::zeroed();
        assert_eq!(pthread_create(&mut thread, ptr::null(), run, (&raw mut work).cast()), 0);
        let mut result = ptr::null_mut();
        assert_eq!(libc::pthread_join(thread, &mut result), 0);
        assert_eq!(result.addr(), usize::MAX, "the thread was not cancelled at all");
    }
    work.is_done.load(Ordering::Relaxed)
}

#[test]
fn a_touch_comes_to_its_end() {
    for engine in common::engines() {
        // Leaked where the test fails: dropping it would wait for the held page.
        let builder = DemandRegion::builder(1 << 30).engine(engine);
        let region = std::mem::ManuallyDrop::new(builder.build().unwrap());
        assert!(
            with_cancellation_pending(&|| common::poke(region.as_ptr(), 7)),
            "{engine:?}: the thread ended in its memory access"
        );
        assert_eq!(common::peek(region.as_ptr()), 7);
        drop(std::mem::ManuallyDrop::into_inner(region));
    }
}

#[test]
fn an_operation_that_waits_for_pages_comes_to_its_end() {
    let len = 8192 * page_size();
    let memory = Reservation::new(len).unwrap();
    memory.commit(..).unwrap();
    let (stop, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|threads| {
        // Holds all pages nearly all of the time.
        threads.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                memory.prefault(..).unwrap();
                rounds.fetch_add(1, Ordering::Relaxed);
                memory.zero(..).unwrap();
            }
        });
        let mut ended_early = 0;
        for _ in 0..6 {
            let seen = rounds.load(Ordering::Relaxed);
            while rounds.load(Ordering::Relaxed) == seen {
                std::thread::yield_now();
            }
            let well = with_cancellation_pending(&|| memory.prefault(..page_size()).unwrap());
            ended_early += usize::from(!well);
        }
        stop.store(true, Ordering::Relaxed);
        assert_eq!(ended_early, 0, "threads that ended while they waited for a page");
    });
}
