//! `fault::FilterCheck` ends a process whose filter allocates or frees memory, and no other.
//!
//! A program of its own, since a program has one allocator.
#![cfg(not(pagewise_model))]

mod common;

use std::alloc::System;
use std::hint::black_box;

use common::{each_in_a_process, in_a_process, poke};
use pagewise::{DemandRegion, FaultAnswer, fault::FilterCheck};

#[global_allocator]
static ALLOCATOR: FilterCheck<System> = FilterCheck(System);

fn touch_with(filter: fn()) {
    let ask = move |_: &pagewise::PageFault| {
        filter();
        FaultAnswer::Commit
    };
    // SAFETY: what is wrong about the filter ends the process before it can do harm.
    let region = unsafe { DemandRegion::builder(1 << 20).filter(ask) }.build().unwrap();
    poke(region.as_ptr(), 1);
}

#[test]
fn a_filter_that_allocates_or_frees_ends_the_process_with_a_line_that_says_why() {
    let cases: [(&str, fn()); 4] = [
        ("a box", || touch_with(|| drop(black_box(Box::new(1))))),
        ("zeros", || touch_with(|| drop(black_box(vec![0u8; 100])))),
        ("a longer vector", || {
            static KEPT: std::sync::Mutex<Vec<u8>> = std::sync::Mutex::new(Vec::new());
            KEPT.lock().unwrap().push(1);
            touch_with(|| KEPT.lock().unwrap().reserve(1000))
        }),
        ("a free", || {
            static KEPT: std::sync::Mutex<Option<Box<u8>>> = std::sync::Mutex::new(None);
            *KEPT.lock().unwrap() = Some(Box::new(1));
            touch_with(|| drop(KEPT.lock().unwrap().take()))
        }),
    ];
    let test = "a_filter_that_allocates_or_frees_ends_the_process_with_a_line_that_says_why";
    each_in_a_process(test, &cases, |case, ended| {
        #[cfg(unix)]
        ended.by_signal(libc::SIGABRT);
        assert!(!ended.status.success(), "{case}: {ended:#?}");
        let lines = ended.diagnostics();
        assert!(lines.len() == 1 && lines[0].contains("a filter allocates"), "{case}: {ended:#?}");
    });
}

#[test]
fn a_program_whose_filter_allocates_nothing_may_allocate_meanwhile() {
    in_a_process("a_program_whose_filter_allocates_nothing_may_allocate_meanwhile", || {
        use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
        static INSIDE: AtomicBool = AtomicBool::new(false);
        static LEAVE: AtomicBool = AtomicBool::new(false);
        let thread = std::thread::spawn(|| {
            touch_with(|| {
                INSIDE.store(true, Relaxed);
                while !LEAVE.load(Relaxed) {
                    std::hint::spin_loop();
                }
            });
            black_box(vec![1; 100]).len()
        });
        while !INSIDE.load(Relaxed) {
            std::thread::yield_now();
        }
        let mut vector = black_box(vec![0u8; 10]);
        vector.resize(1000, 1);
        drop(vector);
        LEAVE.store(true, Relaxed);
        assert_eq!(thread.join().unwrap(), 100);
    })
    .well();
}
