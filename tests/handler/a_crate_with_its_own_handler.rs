//! The crate signal-hook-registry installs a handler for SIGSEGV and calls the previous one first. Installed
//! before or after pagewise, both get their own faults.
#![cfg(all(unix, not(pagewise_model)))]

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::common::signals::{send, use_a_roomy_stack};
use crate::common::{self, in_a_process, page_by_page, peek, poke};
use pagewise::{CommitStep, DemandRegion, fault, page_size};

static SEEN: AtomicUsize = AtomicUsize::new(0);

fn let_the_crate_see_its_signals() {
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: the action only counts.
        unsafe {
            signal_hook_registry::register_unchecked(signal, |_| {
                SEEN.fetch_add(1, Relaxed);
            })
        }
        .expect("it registers");
    }
}

/// Touches pages of a region one by one, then past its limit. Returns the number of faults.
fn faults() -> usize {
    let mut region = DemandRegion::builder(8 * page_size())
        .limit(6 * page_size())
        .step(CommitStep::page())
        .build()
        .unwrap();
    for page in 0..4 {
        let at = region.as_ptr().wrapping_add(page * page_size());
        poke(at, 7);
        assert_eq!(peek(at), 7);
    }
    assert_eq!(region.fill(.., 3).unwrap_err().copied, 6 * page_size());
    assert_eq!((region.stats().faults, region.stats().refused), (6, 1));
    7
}

#[test]
fn a_crate_that_came_before_sees_nothing_of_our_faults() {
    in_a_process("a_crate_that_came_before_sees_nothing_of_our_faults", || {
        use_a_roomy_stack();
        let_the_crate_see_its_signals();
        faults();
        assert_eq!(SEEN.load(Relaxed), 0);
        assert!(!fault::is_displaced());
        // A sent signal reaches the crate, which calls Rust's handler, which installs SIG_DFL. pagewise's handler stays
        // installed. (The crate's does not, as without pagewise.)
        send(libc::SIGSEGV);
        assert_eq!(SEEN.load(Relaxed), 1);
        assert!(!fault::is_displaced());
        faults();
        assert_eq!(SEEN.load(Relaxed), 1);
    })
    .well();
}

#[test]
fn a_crate_that_came_after_sees_them_all_and_they_are_served() {
    in_a_process("a_crate_that_came_after_sees_them_all_and_they_are_served", || {
        use_a_roomy_stack();
        let early = page_by_page(4);
        let_the_crate_see_its_signals();
        assert!(fault::is_displaced());
        poke(early.as_ptr(), 1);
        assert_eq!(SEEN.load(Relaxed), 1);
        let count = faults();
        assert_eq!(SEEN.load(Relaxed), 1 + count);
        // With pagewise in front again, the crate's handler is not called for its faults.
        fault::reinstall().unwrap();
        assert!(!fault::is_displaced());
        faults();
        assert_eq!(SEEN.load(Relaxed), 1 + count);
        send(libc::SIGSEGV);
        faults();
        assert_eq!(SEEN.load(Relaxed), 2 + count);
    })
    .well();
}

#[test]
fn a_fault_of_neither_ends_the_process_whoever_comes_first() {
    const CASES: &[(&str, fn())] = &[
        ("the crate first", || {
            let_the_crate_see_its_signals();
            faults();
            poke(std::ptr::without_provenance_mut(16), 1);
        }),
        ("pagewise first", || {
            fault::install().unwrap();
            let_the_crate_see_its_signals();
            faults();
            poke(std::ptr::without_provenance_mut(16), 1);
        }),
    ];
    let name = "a_fault_of_neither_ends_the_process_whoever_comes_first";
    common::each_in_a_process(name, CASES, |_, ended| ended.by_signal(libc::SIGSEGV));
}
