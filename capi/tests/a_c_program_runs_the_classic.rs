//! A C program, compiled against the header and linked with the library.
//!
//! Linked with the static library that cargo built beside this test: for that, the C API is also a
//! Rust library, whose symbols this program contains; what C calls is exercised directly, too.
#![cfg(not(pagewise_model))]

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

/// Where cargo puts what it builds, with this test's profile and target.
fn built() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    program.parent().unwrap().parent().unwrap().to_path_buf()
}

#[test]
fn a_c_program_links_and_runs() {
    if cfg!(not(all(unix, target_arch = "x86_64"))) {
        eprintln!("NOT TESTED HERE: a C program (only with a native compiler)");
        return;
    }
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    if Command::new(&compiler).arg("--version").output().is_err() {
        eprintln!("NOT TESTED HERE: a C program (there is no C compiler)");
        return;
    }
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Not built as a dependency of a test: only the Rust library is.
    let archive = ["libpagewise_c.a", "deps/libpagewise_c.a"].map(|name| built().join(name));
    let Some(archive) = archive.iter().find(|path| path.exists()) else {
        eprintln!("NOT TESTED HERE: a C program (build the workspace first: no static library)");
        return;
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
