//! The functions of the C interface, called as C calls them. (The C interface is also a Rust library, whose symbols this
//! program contains.)
#![cfg(not(pagewise_model))]

use std::ffi::{CStr, c_int, c_void};
use std::ptr;

use pagewise::DemandRegion;
use pagewise_c::*;

/// A region with a limit and a step.
///
/// # Safety
/// None.
unsafe fn region_of(len: usize, limit: usize, step: usize) -> *mut DemandRegion {
    // SAFETY: the places have room.
    unsafe {
        let mut options = std::mem::zeroed();
        let size = size_of::<Options>();
        assert_eq!(pagewise_options_default(&mut options, size), Status::Ok);
        let mut region = ptr::null_mut();
        options.limit = limit;
        options.step = step;
        assert_eq!(pagewise_region_new(len, &options, &mut region), Status::Ok);
        region
    }
}

#[test]
fn the_functions_do_what_the_header_says() {
    // SAFETY: pointers are as the header says, or null.
    unsafe {
        let page = pagewise_page_size();
        let region = region_of(8 * page, 2 * page, page);
        assert_eq!(pagewise_region_len(region), 8 * page);
        pagewise_region_ptr(region).cast::<u8>().write_volatile(7);
        assert_eq!(pagewise_region_committed(region), page);
        let (text, mut copied) = ([1u8; 100], 0);
        let status = pagewise_region_write(
            region,
            2 * page - 60,
            text.as_ptr().cast(),
            text.len(),
            &mut copied,
        );
        assert_eq!((status, copied), (Status::Limit, 60));
        assert!(CStr::from_ptr(pagewise_last_error()).to_str().unwrap().contains("refused"));
        let status =
            pagewise_region_write(region, 0, text.as_ptr().cast(), usize::MAX, &mut copied);
        assert_eq!((status, copied), (Status::Argument, 0));
        assert_eq!(pagewise_region_commit(region, 0, usize::MAX), Status::Argument);
        assert_eq!(pagewise_region_commit(std::ptr::null_mut(), 0, 1), Status::Argument);
        assert_eq!(pagewise_region_decommit(region, 0, 8 * page), Status::Ok);
        assert_eq!(pagewise_region_committed(region), 0);
        pagewise_region_free(region);
        let mut none = region;
        assert_eq!(pagewise_region_new(usize::MAX, ptr::null(), &mut none), Status::Argument);
        assert!(none.is_null());
    }
}

fn last_error() -> String {
    // SAFETY: a string of this thread, copied before the next call.
    unsafe { CStr::from_ptr(pagewise_last_error()) }.to_str().unwrap().to_owned()
}

/// Makes a call fail with another message, so that the next message is known to be new.
fn forget_the_last_error() {
    // SAFETY: the place has room.
    let status = unsafe { pagewise_region_new(0, ptr::null(), &mut ptr::null_mut()) };
    assert_eq!(status, Status::Argument);
    assert!(!last_error().contains("NULL"));
}

#[test]
fn a_range_outside_the_region_is_an_error_even_if_it_is_empty() {
    // SAFETY: pointers are as the header says, or null.
    unsafe {
        let page = pagewise_page_size();
        let region = region_of(page, usize::MAX, page);
        let (mut byte, mut copied) = (0u8, 99);
        let (into, from) = ((&raw mut byte).cast(), (&raw const byte).cast());
        for offset in [page + 1, usize::MAX] {
            let read = pagewise_region_read(region, offset, into, 0, &mut copied);
            assert_eq!((read, copied), (Status::Argument, 0), "read at {offset}");
            let write = pagewise_region_write(region, offset, from, 0, &mut copied);
            assert_eq!((write, copied), (Status::Argument, 0), "write at {offset}");
            let commit = pagewise_region_commit(region, offset, 0);
            assert_eq!(commit, Status::Argument, "commit at {offset}");
            let decommit = pagewise_region_decommit(region, offset, 0);
            assert_eq!(decommit, Status::Argument, "decommit at {offset}");
        }
        // The end of the region is where its last range ends; no buffer is needed for no bytes.
        for offset in [0, page] {
            let nothing = std::ptr::null_mut();
            let read = pagewise_region_read(region, offset, nothing, 0, &mut copied);
            let write = pagewise_region_write(region, offset, nothing, 0, &mut copied);
            assert_eq!((read, write, copied), (Status::Ok, Status::Ok, 0));
            assert_eq!(pagewise_region_commit(region, offset, 0), Status::Ok);
            assert_eq!(pagewise_region_decommit(region, offset, 0), Status::Ok);
        }
        assert_eq!(pagewise_region_committed(region), 0);
        pagewise_region_free(region);
    }
}

#[test]
fn a_buffer_that_overlaps_the_range_is_an_error_and_nothing_is_copied() {
    // SAFETY: pointers are as the header says.
    unsafe {
        let page = pagewise_page_size();
        let region = region_of(4 * page, usize::MAX, page);
        let bytes = pagewise_region_ptr(region).cast::<u8>();
        for i in 0..4 * page {
            bytes.add(i).write(i as u8);
        }
        let mut copied = 99;
        // The buffer begins before the range, in it, and at its last byte.
        for buffer in [1, page, page + 100, 2 * page - 1] {
            let at = bytes.add(buffer).cast();
            let read = pagewise_region_read(region, page, at, page, &mut copied);
            assert_eq!((read, copied), (Status::Argument, 0), "read into {buffer}");
            let write = pagewise_region_write(region, page, at, page, &mut copied);
            assert_eq!((write, copied), (Status::Argument, 0), "write from {buffer}");
            assert!(last_error().contains("overlap"), "{}", last_error());
        }
        assert!((0..4 * page).all(|i| bytes.add(i).read() == i as u8));
        // Right before and right behind the range is apart from it.
        for (i, buffer) in [0, 2 * page].into_iter().enumerate() {
            let at = bytes.add(buffer);
            at.write(200 + i as u8);
            let write = pagewise_region_write(region, page, at.cast(), page, &mut copied);
            assert_eq!((write, copied), (Status::Ok, page));
            assert_eq!(bytes.add(page).read(), 200 + i as u8);
        }
        pagewise_region_free(region);
    }
}

#[test]
fn a_function_that_gets_null_says_so_in_the_last_error() {
    let zero = |what: &str, call: &dyn Fn() -> usize| {
        forget_the_last_error();
        assert_eq!(call(), 0, "{what}");
        assert!(last_error().contains("NULL"), "{what}: {}", last_error());
    };
    macro_rules! zeros {
        ($($call:expr;)*) => {$(
            // SAFETY: null is what the header allows.
            zero(stringify!($call), &|| unsafe { $call } as usize);
        )*};
    }
    let status = |what: &str, call: &dyn Fn() -> Status| {
        forget_the_last_error();
        assert_eq!(call(), Status::Argument, "{what}");
        assert!(last_error().contains("NULL"), "{what}: {}", last_error());
    };
    macro_rules! errors {
        ($($call:expr;)*) => {$(
            // SAFETY: null is what the header allows.
            status(stringify!($call), &|| unsafe { $call });
        )*};
    }
    zeros! {
        pagewise_region_ptr(ptr::null());
        pagewise_region_len(ptr::null());
        pagewise_region_page_size(ptr::null());
        pagewise_region_committed(ptr::null());
        pagewise_reservation_ptr(ptr::null());
        pagewise_reservation_len(ptr::null());
        pagewise_reservation_page_size(ptr::null());
        pagewise_reservation_committed(ptr::null());
        pagewise_reservation_peak(ptr::null());
        pagewise_reservation_limit(ptr::null());
        pagewise_budget_limit(ptr::null());
        pagewise_budget_used(ptr::null());
        pagewise_budget_peak(ptr::null());
        pagewise_arena_used(ptr::null());
        pagewise_arena_committed(ptr::null());
        pagewise_arena_max_bytes(ptr::null());
        pagewise_page_map_runs(ptr::null());
    }
    let (mut number, mut byte) = (0usize, 0u8);
    let (number, byte) = (&raw mut number, (&raw mut byte).cast::<c_void>());
    let (null, nothing) = (ptr::null_mut::<c_int>(), ptr::null_mut::<c_void>());
    errors! {
        pagewise_options_default(ptr::null_mut(), 8);
        pagewise_region_new(1, ptr::null(), ptr::null_mut());
        pagewise_region_is_committed(ptr::null(), 0, 1, null);
        pagewise_region_stats(ptr::null(), ptr::null_mut(), 8);
        pagewise_region_events(ptr::null(), ptr::null_mut(), 0, number);
        pagewise_region_page_map(ptr::null(), &mut ptr::null_mut());
        pagewise_region_read(ptr::null(), 0, byte, 1, number);
        pagewise_region_peek(ptr::null(), 0, byte, 1);
        pagewise_region_write(ptr::null_mut(), 0, byte, 1, number);
        pagewise_region_fill(ptr::null_mut(), 0, 1, 1, number);
        pagewise_region_commit(ptr::null_mut(), 0, 1);
        pagewise_region_decommit(ptr::null_mut(), 0, 1);
        pagewise_region_zero(ptr::null_mut(), 0, 1);
        pagewise_region_release(ptr::null_mut());
        pagewise_reservation_new(1, ptr::null(), ptr::null_mut());
        pagewise_reservation_is_committed(ptr::null(), 0, 1, null);
        pagewise_reservation_page_map(ptr::null(), &mut ptr::null_mut());
        pagewise_reservation_commit(ptr::null_mut(), 0, 1);
        pagewise_reservation_decommit(ptr::null_mut(), 0, 1);
        pagewise_reservation_zero(ptr::null_mut(), 0, 1);
        pagewise_reservation_discard(ptr::null_mut(), 0, 1);
        pagewise_reservation_protect(ptr::null_mut(), 0, 1, 1);
        pagewise_reservation_prefault(ptr::null_mut(), 0, 1);
        pagewise_reservation_lock(ptr::null_mut(), 0, 1);
        pagewise_reservation_unlock(ptr::null_mut(), 0, 1);
        pagewise_reservation_release(ptr::null_mut());
        pagewise_page_map_run(ptr::null(), 0, ptr::null_mut());
        pagewise_budget_new(1, ptr::null_mut());
        pagewise_arena_new(1, ptr::null(), ptr::null_mut());
        pagewise_arena_alloc(ptr::null_mut(), 1, 1, &mut ptr::null_mut());
        pagewise_arena_alloc_zeroed(ptr::null_mut(), 1, 1, ptr::null_mut());
        pagewise_arena_reserve(ptr::null_mut(), 1);
        pagewise_arena_checkpoint(ptr::null_mut(), number);
        pagewise_arena_rewind(ptr::null_mut(), 0);
        pagewise_arena_reset(ptr::null_mut());
        pagewise_arena_shrink(ptr::null_mut());
        pagewise_try(None, nothing, ptr::null_mut());
        pagewise_refusal_text(ptr::null(), byte.cast(), 1);
    }
    // SAFETY: as above: nothing happens.
    unsafe {
        pagewise_region_free(ptr::null_mut());
        pagewise_reservation_free(ptr::null_mut());
        pagewise_page_map_free(ptr::null_mut());
        pagewise_budget_free(ptr::null_mut());
        pagewise_arena_free(ptr::null_mut());
    }
}

/// A host with its own handler: what is null, or not ours, is the host's.
#[test]
#[cfg(unix)]
fn what_is_not_ours_is_the_hosts() {
    // SAFETY: null is what the header allows; the record is complete, and of no fault.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let mut context: libc::ucontext_t = std::mem::zeroed();
        let (info, context) = ((&raw mut info).cast(), (&raw mut context).cast());
        assert_eq!(pagewise_try_handle(libc::SIGSEGV, ptr::null_mut(), context), 0);
        assert_eq!(pagewise_try_handle(libc::SIGSEGV, info, ptr::null_mut()), 0);
        assert_eq!(pagewise_try_handle(libc::SIGSEGV, info, context), 0);
    }
}

#[test]
fn the_last_error_is_a_threads_own() {
    forget_the_last_error();
    let before = last_error();
    std::thread::spawn(|| {
        assert_eq!(last_error(), "");
        // SAFETY: null is what the header allows.
        unsafe { assert!(pagewise_region_ptr(std::ptr::null()).is_null()) };
        assert!(last_error().contains("NULL"));
    })
    .join()
    .unwrap();
    assert_eq!(last_error(), before);
}
