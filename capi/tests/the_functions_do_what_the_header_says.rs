//! A C program, compiled against the header and linked with the library.
//!
//! Linked with the static library that cargo built beside this test: for that, the C API is also a
//! Rust library, whose symbols this program contains; what C calls is exercised directly, too.
#![cfg(not(pagewise_model))]

mod common;

use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use pagewise_c::*;

#[test]
fn the_functions_do_what_the_header_says() {
    // SAFETY: pointers are as the header says, or null.
    unsafe {
        let page = pagewise_page_size();
        let region = pagewise_region_new(8 * page, 2 * page, page);
        assert_eq!(pagewise_region_len(region), 8 * page);
        pagewise_region_ptr(region).cast::<u8>().write_volatile(7);
        assert_eq!((pagewise_region_committed(region), pagewise_region_faults(region)), (page, 1));
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
        assert!(pagewise_region_new(usize::MAX, 0, 0).is_null());
    }
}

fn last_error() -> String {
    // SAFETY: a string of this thread, copied before the next call.
    unsafe { CStr::from_ptr(pagewise_last_error()) }.to_str().unwrap().to_owned()
}

/// Makes a call fail with another message, so that the next message is known to be new.
fn forget_the_last_error() {
    assert!(pagewise_region_new(0, usize::MAX, 0).is_null());
    assert!(!last_error().contains("NULL"));
}

#[test]
fn a_range_outside_the_region_is_an_error_even_if_it_is_empty() {
    // SAFETY: pointers are as the header says, or null.
    unsafe {
        let page = pagewise_page_size();
        let region = pagewise_region_new(page, usize::MAX, page);
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
        let region = pagewise_region_new(4 * page, usize::MAX, page);
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
    // SAFETY: null is what the header allows.
    unsafe {
        let null = std::ptr::null_mut();
        forget_the_last_error();
        assert!(pagewise_region_ptr(null).is_null());
        assert!(last_error().contains("NULL"), "ptr: {}", last_error());
        for getter in [pagewise_region_len, pagewise_region_committed, pagewise_region_faults] {
            forget_the_last_error();
            assert_eq!(getter(null), 0);
            assert!(last_error().contains("NULL"), "{}", last_error());
        }
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

/// Where cargo puts what it builds, with this test's profile and target.
fn built() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    program.parent().unwrap().parent().unwrap().to_path_buf()
}

#[test]
fn a_c_program_links_and_runs() {
    if cfg!(not(all(unix, target_arch = "x86_64"))) {
        return common::not_here("a C program (only with a native compiler)");
    }
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    if Command::new(&compiler).arg("--version").output().is_err() {
        return common::not_here("a C program (there is no C compiler)");
    }
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Not built as a dependency of a test: only the Rust library is.
    let archive = ["libpagewise_c.a", "deps/libpagewise_c.a"].map(|name| built().join(name));
    let Some(archive) = archive.iter().find(|path| path.exists()) else {
        return common::not_here("a C program (build the workspace first: no static library)");
    };
    let program = built().join("pagewise-classic");
    let output = Command::new(&compiler)
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-I"])
        .arg(manifest.join("include"))
        .arg(manifest.join("tests/classic.c"))
        .arg(archive)
        .args(["-lpthread", "-ldl", "-lm", "-o"])
        .arg(&program)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = Command::new(&program).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout, b"the classic works\n");
}
