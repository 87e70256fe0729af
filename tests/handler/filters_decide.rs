//! A region's filter sees each fault, and what it answers happens: commit, commit so many pages, refuse, hand on.
#![cfg(not(pagewise_model))]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use pagewise::{
    CommitStep, DemandRegion, DemandRegionBuilder, FaultAnswer, FaultOutcome, PageFault,
    RefusalReason, fault, page_size,
};

use crate::common::{each_in_a_process, in_a_process, peek, poke};

/// A region of 64 pages with a filter.
///
/// # Safety
/// As [`DemandRegionBuilder::filter`].
unsafe fn filtered(
    filter: impl Fn(&PageFault) -> FaultAnswer + Send + Sync + 'static,
) -> DemandRegionBuilder {
    let builder = DemandRegion::builder(64 * page_size()).step(CommitStep::page()).events(64);
    // SAFETY: the caller's promise.
    unsafe { builder.filter(filter) }
}

fn at(region: &DemandRegion, page: usize) -> *mut u8 {
    region.as_ptr().wrapping_add(page * page_size())
}

/// What a filter saw last, and how often it was asked.
#[derive(Default)]
struct Seen {
    times: AtomicUsize,
    address: AtomicUsize,
    offset: AtomicUsize,
    /// 0: a read, 1: a write, 2: unknown.
    access: AtomicUsize,
}

impl Seen {
    fn note(&self, fault: &PageFault) {
        self.times.fetch_add(1, Relaxed);
        self.address.store(fault.address, Relaxed);
        self.offset.store(fault.offset, Relaxed);
        self.access.store(fault.write.map_or(2, usize::from), Relaxed);
    }
}

#[test]
fn it_sees_each_fault_once_and_no_access_that_does_not_fault() {
    let seen = Arc::new(Seen::default());
    let noting = seen.clone();
    // SAFETY: the filter changes atomics.
    let builder = unsafe {
        filtered(move |fault| {
            noting.note(fault);
            FaultAnswer::Commit
        })
    };
    let mut region = builder.build().unwrap();
    let check = |times, offset, write: bool| {
        assert_eq!(seen.times.load(Relaxed), times);
        assert_eq!(seen.offset.load(Relaxed), offset);
        assert_eq!(seen.address.load(Relaxed), region.as_ptr().addr() + offset);
        let access = seen.access.load(Relaxed);
        assert!(access == usize::from(write) || access == 2 && !cfg!(target_arch = "x86_64"));
    };
    poke(at(&region, 3).wrapping_add(5), 1);
    check(1, 3 * page_size() + 5, true);
    peek(at(&region, 9).wrapping_add(77));
    check(2, 9 * page_size() + 77, false);
    // Committed pages do not fault, and explicit calls do not ask.
    poke(at(&region, 3), 1);
    region.commit(20 * page_size()..30 * page_size()).unwrap();
    poke(at(&region, 25), 1);
    check(2, 9 * page_size() + 77, false);
    // Guarded copies touch pages.
    region.fill(40 * page_size()..43 * page_size(), 7).unwrap();
    assert_eq!((seen.times.load(Relaxed), region.stats().faults), (5, 5));
    // A page that was decommitted faults again.
    region.decommit(..).unwrap();
    peek(at(&region, 25));
    assert_eq!((seen.times.load(Relaxed), region.committed()), (6, page_size()));
}

#[test]
fn commit_leaves_it_to_the_step_and_a_number_of_pages_replaces_it() {
    let page = page_size();
    for (step, answer, touched, expected) in [
        (CommitStep::fixed(4 * page), FaultAnswer::Commit, 6, 4..8),
        (CommitStep::fixed(4 * page), FaultAnswer::CommitPages(3), 6, 6..9),
        (CommitStep::adaptive(), FaultAnswer::CommitPages(17), 1, 1..18),
        (CommitStep::page(), FaultAnswer::CommitPages(0), 5, 5..6),
        // Clamped to the region.
        (CommitStep::page(), FaultAnswer::CommitPages(100), 60, 60..64),
        (CommitStep::page(), FaultAnswer::CommitPages(usize::MAX), 62, 62..64),
    ] {
        // SAFETY: the filter does nothing.
        let region = unsafe { filtered(move |_| answer) }.step(step).build().unwrap();
        poke(at(&region, touched), 1);
        let committed: Vec<_> = region.committed_ranges().collect();
        let bytes = expected.start * page..expected.end * page;
        assert_eq!(committed, std::slice::from_ref(&bytes), "{answer:?}");
        let event = region.events().next().unwrap();
        assert_eq!(event.outcome, FaultOutcome::Committed { start: bytes.start, len: bytes.len() });
    }
}

#[test]
fn a_limit_holds_whatever_the_filter_grants() {
    let page = page_size();
    // SAFETY: the filter does nothing.
    let builder = unsafe { filtered(|_| FaultAnswer::CommitPages(8)) }.limit(20 * page);
    let mut region = builder.build().unwrap();
    let stopped = region.fill(.., 1).unwrap_err();
    assert_eq!(stopped.copied, 20 * page);
    let expected = RefusalReason::Limit { used: 20 * page, limit: 20 * page };
    assert_eq!((stopped.refusal.reason, region.committed()), (expected, 20 * page));
}

#[test]
fn what_it_refuses_ends_copies_and_attempts_with_its_own_reason() {
    let page = page_size();
    // SAFETY: the filter does nothing.
    let builder = unsafe {
        filtered(|fault| match fault.offset < 5 * page_size() {
            true => FaultAnswer::Commit,
            false => FaultAnswer::Refuse,
        })
    };
    let mut region = builder.build().unwrap();
    let stopped = region.fill(3 * page.., 7).unwrap_err();
    assert_eq!((stopped.copied, stopped.refusal.offset), (2 * page, 5 * page));
    assert_eq!(stopped.refusal.reason, RefusalReason::Filter);
    assert!(stopped.to_string().ends_with("refused by the region's filter"), "{stopped}");
    // SAFETY: nothing in it has a destructor or holds a lock.
    let refusal = unsafe { fault::attempt(|| poke(at(&region, 9).wrapping_add(3), 1)) };
    let refusal = refusal.unwrap_err();
    assert_eq!((refusal.offset, refusal.region), (9 * page + 3, region.as_ptr().addr()));
    assert_eq!(refusal.reason, RefusalReason::Filter);
    let stats = region.stats();
    assert_eq!((stats.faults, stats.refused, stats.committed), (2, 2, 2 * page));
    let refused: Vec<_> =
        region.events().filter(|event| event.outcome == FaultOutcome::Refused).collect();
    assert_eq!(
        refused.iter().map(|event| event.offset).collect::<Vec<_>>(),
        [5 * page, 9 * page + 3]
    );
}

#[test]
fn the_process_ends_by_what_it_refuses_elsewhere_and_by_what_nobody_takes() {
    let cases: [(&str, fn()); 3] = [
        ("refused", || {
            // SAFETY: the filter does nothing.
            let region = unsafe { filtered(|_| FaultAnswer::Refuse) }.build().unwrap();
            poke(region.as_ptr(), 1);
        }),
        ("not its own", || {
            // SAFETY: the filter does nothing.
            let region = unsafe { filtered(|_| FaultAnswer::NotMine) }.build().unwrap();
            poke(region.as_ptr(), 1);
        }),
        ("not its own, in an attempt", || {
            // SAFETY: the filter does nothing.
            let region = unsafe { filtered(|_| FaultAnswer::NotMine) }.build().unwrap();
            // SAFETY: nothing in it has a destructor or holds a lock.
            let _ = unsafe { fault::attempt(|| poke(region.as_ptr(), 1)) };
        }),
    ];
    let test = "the_process_ends_by_what_it_refuses_elsewhere_and_by_what_nobody_takes";
    each_in_a_process(test, &cases, |case, ended| {
        ended.by_access_violation();
        let lines = ended.diagnostics();
        assert_eq!(lines.len(), usize::from(case == "refused"), "{case}: {ended:#?}");
        assert!(lines.iter().all(|line| line.contains("filter")), "{lines:?}");
    });
}

/// The handler that was there before makes the page accessible, so that the access goes on: pagewise knows nothing
/// of it.
#[test]
#[cfg(unix)]
fn what_is_not_its_own_reaches_the_previous_handler() {
    use crate::common::signals::set_three;
    static PLACE: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn opens(_: std::ffi::c_int, info: *mut libc::siginfo_t, _: *mut std::ffi::c_void) {
        // SAFETY: the kernel's record; the page is this test's.
        unsafe {
            let address = (*info).si_addr();
            PLACE.store(address.addr(), Relaxed);
            let page = address.map_addr(|address| address & !(page_size() - 1));
            libc::mprotect(page, page_size(), libc::PROT_READ | libc::PROT_WRITE);
        }
    }
    in_a_process("what_is_not_its_own_reaches_the_previous_handler", || {
        set_three(libc::SIGSEGV, opens, 0, &[]);
        set_three(libc::SIGBUS, opens, 0, &[]);
        // SAFETY: the filter does nothing.
        let builder = unsafe { filtered(|_| FaultAnswer::NotMine) };
        let region = builder.engine(pagewise::Engine::Protect).build().unwrap();
        let place = at(&region, 7).wrapping_add(8);
        poke(place, 9);
        assert_eq!((PLACE.load(Relaxed), peek(place)), (place.addr(), 9));
        let stats = region.stats();
        assert_eq!((stats.faults, stats.refused, stats.raced, stats.committed), (0, 0, 0, 0));
        assert_eq!(region.events().count(), 0);
    })
    .well();
}

#[test]
fn a_panic_in_it_ends_the_process() {
    let ended = in_a_process("a_panic_in_it_ends_the_process", || {
        // A panic takes more of the stack than std's own for signals has.
        #[cfg(unix)]
        crate::common::signals::use_a_roomy_stack();
        // SAFETY: it is not async-signal-safe to panic, but nothing is interrupted here that minds.
        let builder = unsafe { filtered(|_| panic!("in a filter")) };
        let region = builder.build().unwrap();
        // SAFETY: nothing in it has a destructor or holds a lock.
        let _ = unsafe { fault::attempt(|| poke(region.as_ptr(), 1)) };
    });
    #[cfg(unix)]
    ended.by_signal(libc::SIGABRT);
    #[cfg(windows)]
    assert!(!ended.status.success());
    assert!(ended.stderr.contains("in a filter"), "{ended:#?}");
}

/// The interrupted code keeps its error code, whatever the filter's system calls did to it.
#[test]
#[cfg(unix)]
fn the_error_code_of_the_interrupted_code_stays() {
    // SAFETY: a failing system call is async-signal-safe.
    let builder = unsafe {
        filtered(|_| {
            let failed = libc::close(-1);
            if failed == -1 { FaultAnswer::Commit } else { FaultAnswer::Refuse }
        })
    };
    let region = builder.build().unwrap();
    // SAFETY: fails, and stores an error code.
    unsafe { assert_eq!(libc::read(-1, std::ptr::null_mut(), 0), -1) };
    let code = std::io::Error::last_os_error().raw_os_error();
    // SAFETY: fails with another one.
    unsafe { assert_eq!(libc::chdir(c"/a/folder/that/does/not/exist".as_ptr()), -1) };
    let before = std::io::Error::last_os_error().raw_os_error();
    poke(region.as_ptr(), 1);
    assert_eq!(std::io::Error::last_os_error().raw_os_error(), before);
    assert_ne!(before, code);
}

#[test]
fn a_thread_knows_when_it_is_inside_a_filter() {
    static STARTED: AtomicBool = AtomicBool::new(false);
    static INSIDE: AtomicBool = AtomicBool::new(false);
    static LEAVE: AtomicBool = AtomicBool::new(false);
    // SAFETY: the filter reads and writes atomics, and waits for another thread which needs nothing of this one.
    let builder = unsafe {
        filtered(|_| {
            INSIDE.store(fault::in_filter(), Relaxed);
            STARTED.store(true, Relaxed);
            while !LEAVE.load(Relaxed) {
                std::hint::spin_loop();
            }
            FaultAnswer::Commit
        })
    };
    let region = builder.build().unwrap();
    let (before, meanwhile, after) = std::thread::scope(|scope| {
        let before = fault::in_filter();
        let faulting = scope.spawn(|| {
            poke(region.as_ptr(), 1);
            fault::in_filter()
        });
        while !STARTED.load(Relaxed) {
            std::thread::yield_now();
        }
        let meanwhile = fault::in_filter();
        LEAVE.store(true, Relaxed);
        (before, meanwhile, faulting.join().unwrap())
    });
    assert!(INSIDE.load(Relaxed), "the thread that is inside");
    assert!(!meanwhile, "another thread is inside");
    assert!(!before && !after, "nobody is inside");
}

/// The filter lives as long as its region, and what it captured is dropped with it.
#[test]
fn what_it_captured_is_dropped_with_the_region() {
    let token = Arc::new(());
    let captured = token.clone();
    // SAFETY: the filter does nothing.
    let builder = unsafe {
        filtered(move |_| {
            let _ = &captured;
            FaultAnswer::Commit
        })
    };
    let (first, second) = (builder.clone().build().unwrap(), builder.build().unwrap());
    assert_eq!(Arc::strong_count(&token), 2);
    drop(first);
    poke(second.as_ptr(), 1);
    second.release().unwrap();
    assert_eq!(Arc::strong_count(&token), 1);
}
