//! Programs that crash do so in the same way as without pagewise; a refused plain access first writes one line
//! with the reason.
#![cfg(not(pagewise_model))]

use crate::common::{self, each_in_a_process, page_by_page, peek, poke};
use pagewise::{DemandRegion, page_size};

fn touch_null() {
    let null: *const u8 = std::ptr::without_provenance(8);
    std::hint::black_box(peek(std::hint::black_box(null)));
}

#[test]
fn a_null_access_dies_the_same_with_and_without_a_region() {
    const CASES: &[(&str, fn())] = &[
        ("no region was ever there", touch_null),
        ("a region is there", || {
            let region = page_by_page(2);
            poke(region.as_ptr(), 1);
            touch_null();
        }),
        ("a region was there", || {
            drop(page_by_page(2));
            touch_null();
        }),
        ("a write", || {
            let _region = page_by_page(2);
            poke(std::hint::black_box(std::ptr::without_provenance_mut(8)), 1);
        }),
        ("memory that was released", || {
            let region = page_by_page(2);
            let at = region.as_ptr();
            poke(at, 1);
            drop(region);
            poke(at, 1);
        }),
        ("behind the end", || {
            let region = DemandRegion::builder(2 * page_size()).guard_pages(1).build().unwrap();
            poke(region.as_ptr().wrapping_add(2 * page_size()), 1);
        }),
        ("before the start", || {
            let region = DemandRegion::builder(2 * page_size()).guard_pages(1).build().unwrap();
            poke(region.as_ptr().wrapping_sub(1), 1);
        }),
        ("in a thread", || {
            let _region = page_by_page(2);
            std::thread::spawn(touch_null).join().unwrap();
        }),
    ];
    each_in_a_process(
        "a_null_access_dies_the_same_with_and_without_a_region",
        CASES,
        |case, ended| {
            eprintln!("{case}");
            ended.by_access_violation();
            assert_eq!(ended.diagnostics(), [""; 0]);
        },
    );
}

/// A jump into a region commits no memory.
#[test]
fn a_jump_into_a_region_dies_at_once() {
    const CASES: &[(&str, fn())] = &[("a jump", || {
        let region = page_by_page(2);
        // SAFETY: none: this is a wild jump, which ends the process.
        let wild: extern "C" fn() = unsafe { std::mem::transmute(region.as_ptr()) };
        wild();
    })];
    each_in_a_process("a_jump_into_a_region_dies_at_once", CASES, |_, ended| {
        ended.by_access_violation();
        assert_eq!(ended.diagnostics(), [""; 0]);
    });
}

#[test]
fn a_refused_plain_access_says_why_and_dies_of_it() {
    const CASES: &[(&str, fn())] = &[
        ("a write past the limit", || {
            let builder = DemandRegion::builder(8 * page_size()).limit(page_size());
            let mut region = builder.step(pagewise::CommitStep::page()).build().unwrap();
            region.as_mut_slice()[0] = 1;
            region.as_mut_slice()[3 * page_size() + 5] = 1;
        }),
        ("a read past the limit", || {
            let region = DemandRegion::builder(8 * page_size()).limit(0).build().unwrap();
            std::hint::black_box(region.as_slice()[3 * page_size() + 5]);
        }),
        ("a write past a budget", || {
            let budget = pagewise::Budget::new(0);
            let builder = DemandRegion::builder(8 * page_size()).budget(budget);
            builder.build().unwrap().as_mut_slice()[3 * page_size() + 5] = 1;
        }),
        ("in a thread", || {
            let region = DemandRegion::builder(8 * page_size()).limit(0).build().unwrap();
            let touch = move || std::hint::black_box(region.as_slice()[3 * page_size() + 5]);
            std::thread::spawn(touch).join().unwrap();
        }),
    ];
    each_in_a_process("a_refused_plain_access_says_why_and_dies_of_it", CASES, |case, ended| {
        eprintln!("{case}: {}", ended.stderr);
        ended.by_access_violation();
        let lines = ended.diagnostics();
        assert_eq!(lines.len(), 1, "{ended:#?}");
        assert!(lines[0].contains(&format!("offset {:#x} ", 3 * page_size() + 5)), "{lines:?}");
        let which = if case.contains("budget") { "budget" } else { "limit" };
        let bytes = if case == "a write past the limit" { page_size() } else { 0 };
        let numbers = format!(": {which} of {bytes} bytes reached ({bytes} committed); ");
        assert!(lines[0].contains(&numbers) && lines[0].contains("read/write/fill"), "{lines:?}");
    });
}

/// A stderr that is closed, full or without a reader does not change how the process ends.
#[test]
#[cfg(unix)]
fn a_closed_stderr_changes_nothing() {
    const CASES: &[(&str, fn())] = &[
        ("closed", || {
            let region = DemandRegion::builder(page_size()).limit(0).build().unwrap();
            // SAFETY: it is not used afterwards.
            unsafe { libc::close(2) };
            poke(region.as_ptr(), 1);
        }),
        ("a pipe that nobody reads", || {
            let region = DemandRegion::builder(page_size()).limit(0).build().unwrap();
            into_a_pipe(|read| {
                // SAFETY: our own end.
                unsafe { libc::close(read) };
            });
            poke(region.as_ptr(), 1);
        }),
        ("a pipe that is full", || {
            let region = DemandRegion::builder(page_size()).limit(0).build().unwrap();
            if common::emulated() {
                common::not_here("a full pipe (the emulator has something to say there, too)");
                return poke(region.as_ptr(), 1);
            }
            into_a_pipe(|_| {
                // SAFETY: fills the pipe until it would wait.
                unsafe {
                    libc::fcntl(2, libc::F_SETFL, libc::O_NONBLOCK);
                    while libc::write(2, [0u8; 4096].as_ptr().cast(), 4096) > 0 {}
                    libc::fcntl(2, libc::F_SETFL, 0);
                }
            });
            poke(region.as_ptr(), 1);
        }),
    ];

    /// Makes stderr a pipe, with SIGPIPE as C programs have it.
    fn into_a_pipe(then: impl FnOnce(i32)) {
        let mut ends = [0; 2];
        // SAFETY: plain calls on descriptors of our own.
        unsafe {
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            assert_eq!(libc::pipe(ends.as_mut_ptr()), 0);
            libc::dup2(ends[1], 2);
        }
        then(ends[0]);
    }
    each_in_a_process("a_closed_stderr_changes_nothing", CASES, |_, ended| {
        ended.by_access_violation();
    });
}

#[test]
#[cfg(windows)]
fn a_stack_overflow_keeps_its_exit_code() {
    #[inline(never)]
    fn overflow(depth: usize) -> usize {
        let frame = std::hint::black_box([depth; 512]);
        if depth == usize::MAX { 0 } else { overflow(depth + 1) + frame[depth % 512] }
    }
    if common::under_wine() {
        return common::not_here("stack overflows: a Rust program that has one hangs under Wine");
    }
    const CASES: &[(&str, fn())] = &[
        ("without a region", || {
            std::hint::black_box(overflow(0));
        }),
        ("with a region", || {
            let region = page_by_page(2);
            poke(region.as_ptr(), 1);
            std::hint::black_box(overflow(0));
        }),
    ];
    each_in_a_process("a_stack_overflow_keeps_its_exit_code", CASES, |case, ended| {
        assert_eq!(ended.status.code(), Some(0xc000_00fd_u32 as i32), "{case}: {ended:#?}");
    });
}
