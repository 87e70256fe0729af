//! Faults are served on the main thread. A program of its own, without the test harness, which would run the test
//! on another thread.

mod common;

use common::{page_by_page, peek, poke};

fn main() {
    if cfg!(pagewise_model) {
        return common::not_here("the main thread (the model has no faults)");
    }
    #[cfg(target_os = "linux")]
    // SAFETY: plain calls.
    assert_eq!(unsafe { libc::gettid() }, unsafe { libc::getpid() });
    let region = page_by_page(4);
    let last = region.as_ptr().wrapping_add(region.len() - 1);
    poke(region.as_ptr(), 1);
    without_alternate_stack();
    poke(last, 2);
    assert_eq!((peek(region.as_ptr()), peek(last)), (1, 2));
    assert_eq!(region.stats().faults, 2);
    println!("test the_main_thread ... ok");
}

#[cfg(unix)]
fn without_alternate_stack() {
    let none = libc::stack_t {
        ss_sp: std::ptr::null_mut(),
        ss_flags: libc::SS_DISABLE,
        ss_size: libc::MINSIGSTKSZ,
    };
    // SAFETY: a plain call.
    unsafe { assert_eq!(libc::sigaltstack(&none, std::ptr::null_mut()), 0) };
}

#[cfg(not(unix))]
fn without_alternate_stack() {}
