//! The handler allocates nothing: the allocator of this program aborts when the thread that serves a fault
//! allocates.
//!
//! A handler around pagewise's stores that thread's number in an atomic while pagewise's runs. (Thread-local state
//! must not be used in a signal handler.)
//!
//! A program of its own, since a program has one allocator.
#![cfg(all(target_os = "linux", not(pagewise_model)))]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering::SeqCst};

use common::signals::*;
use common::{in_a_process, page_by_page, poke};
use pagewise::{CommitStep, DemandRegion, page_size};

/// The thread that is serving a fault, or 0.
static SERVING: AtomicI32 = AtomicI32::new(0);
static SERVED: AtomicUsize = AtomicUsize::new(0);

fn thread() -> i32 {
    // SAFETY: a plain system call.
    unsafe { libc::syscall(libc::SYS_gettid) as i32 }
}

struct Watched;

impl Watched {
    fn check() {
        let serving = SERVING.load(SeqCst);
        if serving != 0 && serving == thread() {
            say("allocated while serving a fault");
            // SAFETY: ends the process.
            unsafe { libc::abort() };
        }
    }
}

// SAFETY: the system's allocator, watched.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::check();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        Self::check();
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watched = Watched;

extern "C" fn wraps(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    SERVING.store(thread(), SeqCst);
    // SAFETY: the handler's own arguments.
    let ours = unsafe { pagewise::fault::try_handle(signal, info, context) }.is_served();
    if MUST_ALLOCATE.load(SeqCst) != 0 {
        drop(std::hint::black_box(Box::new(signal)));
    }
    SERVING.store(0, SeqCst);
    SERVED.fetch_add(1, SeqCst);
    if !ours {
        // SAFETY: leaves at once.
        unsafe { libc::_exit(77) };
    }
}

static MUST_ALLOCATE: AtomicUsize = AtomicUsize::new(0);

fn wrap() {
    set_three(libc::SIGSEGV, wraps, libc::SA_ONSTACK, &[]);
    set_three(libc::SIGBUS, wraps, libc::SA_ONSTACK, &[]);
}

#[test]
fn no_way_through_the_handler_allocates() {
    let ended = in_a_process("no_way_through_the_handler_allocates", || {
        let region = |step| DemandRegion::builder(1 << 30).step(step).events(64).build().unwrap();
        let steps = [CommitStep::page(), CommitStep::fixed(1 << 20), CommitStep::adaptive()];
        let regions = steps.map(region);
        // A region whose table of page states is made by its first fault.
        let huge_len = if common::emulated() { 4 << 30 } else { 1 << 40 };
        let huge = DemandRegion::new(huge_len).unwrap();
        let mut none = DemandRegion::builder(1 << 20).limit(0).build().unwrap();
        let mut expected = 0;
        wrap();
        for region in regions.iter().chain([&huge]) {
            for page in 0..100 {
                poke(
                    region.as_ptr().wrapping_add(region.len() / 2 + page * 7 % 50 * page_size()),
                    1,
                );
            }
            expected += region.stats().faults as usize;
        }
        assert!(none.write(5, b"abc").is_err());
        assert_eq!(SERVED.load(SeqCst), expected + 1);
        if common::sanitized() {
            common::not_here("what the system refuses (the sanitizer needs memory)");
            return poke(none.as_ptr(), 1);
        }
        // A refusal by the system takes the path that tries smaller batches.
        let full = region(CommitStep::fixed(1 << 20));
        let limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: a plain call with a valid limit.
        unsafe { libc::setrlimit(libc::RLIMIT_DATA, &limit) };
        let mut byte = [0];
        let refused = full.read(0, &mut byte).is_err();
        assert!(refused || common::emulated());
        // A refused plain access writes its line.
        poke(none.as_ptr(), 1);
    });
    assert_eq!(ended.status.code(), Some(77), "{ended:#?}");
    assert_eq!(ended.diagnostics().len(), 1);
}

/// Explicit operations hold pages while they call the system. The program's allocator may use these pages, so the
/// operations allocate nothing either, not even to find out why they were refused.
#[test]
fn no_explicit_operation_allocates() {
    in_a_process("no_explicit_operation_allocates", || {
        let quietly = |work: &mut dyn FnMut() -> bool| {
            SERVING.store(thread(), SeqCst);
            let well = work();
            SERVING.store(0, SeqCst);
            assert!(well);
        };
        for engine in common::engines() {
            let builder = DemandRegion::builder(64 * page_size()).engine(engine);
            let mut region = builder.limit(32 * page_size()).build().unwrap();
            quietly(&mut || region.commit(..9 * page_size()).is_ok());
            quietly(&mut || region.decommit(3 * page_size()..5 * page_size()).is_ok());
            quietly(&mut || region.commit(..33 * page_size()).is_err());
            quietly(&mut || region.commit(..65 * page_size()).is_err());
        }
        if common::sanitized() || common::emulated() {
            return common::not_here(
                "what the system refuses (it has to be the kernel, and alone)",
            );
        }
        let full = pagewise::Reservation::new(1 << 20).unwrap();
        let limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: a plain call with a valid limit.
        unsafe { libc::setrlimit(libc::RLIMIT_DATA, &limit) };
        quietly(&mut || matches!(full.commit(..), Err(pagewise::Error::CommitRefused { .. })));
    })
    .well();
}

/// The check itself works: a handler that allocates ends the process.
#[test]
fn an_allocation_would_be_noticed() {
    let ended = in_a_process("an_allocation_would_be_noticed", || {
        let region = page_by_page(2);
        wrap();
        MUST_ALLOCATE.store(1, SeqCst);
        poke(region.as_ptr(), 1);
    });
    ended.by_signal(libc::SIGABRT);
    assert!(ended.stdout.contains("allocated while serving a fault"));
}
