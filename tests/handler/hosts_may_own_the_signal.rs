//! A host can keep its own handlers and call `try_handle` from them, or put pagewise's back by `reinstall`.
#![cfg(all(unix, not(pagewise_model)))]

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::common::signals::*;
use crate::common::{each_in_a_process, in_a_process, page_by_page, peek, poke};
use pagewise::fault;

static ASKED: AtomicUsize = AtomicUsize::new(0);
static DECLINED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn asks_us(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    ASKED.fetch_add(1, Relaxed);
    // SAFETY: the handler's own arguments.
    if !unsafe { fault::try_handle(signal, info, context) } {
        DECLINED.fetch_add(1, Relaxed);
        // SAFETY: a plain call.
        unsafe { libc::_exit(77) };
    }
}

fn own_both(handler: Three, flags: c_int) {
    set_three(libc::SIGSEGV, handler, flags, &[]);
    set_three(libc::SIGBUS, handler, flags, &[]);
}

#[test]
fn a_host_that_asks_gets_its_faults_served() {
    in_a_process("a_host_that_asks_gets_its_faults_served", || {
        let mut region = page_by_page(8);
        assert!(!fault::is_displaced());
        own_both(asks_us, libc::SA_ONSTACK);
        assert!(fault::is_displaced());
        poke(region.as_ptr(), 1);
        assert_eq!((ASKED.load(Relaxed), DECLINED.load(Relaxed)), (1, 0));
        // Guarded copies and refusals work the same way.
        let mut limited = pagewise::DemandRegion::builder(8 * pagewise::page_size())
            .limit(2 * pagewise::page_size())
            .step(pagewise::CommitStep::page())
            .build()
            .unwrap();
        let stopped = limited.fill(.., 3).unwrap_err();
        assert_eq!(stopped.copied, 2 * pagewise::page_size());
        assert_eq!((ASKED.load(Relaxed), DECLINED.load(Relaxed)), (4, 0));
        region.write(5, b"abc").unwrap();
        assert_eq!(region.as_slice()[..9], *b"\x01\0\0\0\0abc\0");
    })
    .well();
}

#[test]
fn a_host_gets_what_is_not_ours_or_refused() {
    const CASES: &[(&str, fn())] = &[
        ("null", || {
            let _region = page_by_page(8);
            own_both(asks_us, 0);
            std::hint::black_box(peek(ptr::without_provenance(8)));
        }),
        ("sent", || {
            let _region = page_by_page(8);
            own_both(asks_us, 0);
            send(libc::SIGBUS);
        }),
        ("refused", || {
            let region = pagewise::DemandRegion::builder(1 << 20).limit(0).build().unwrap();
            own_both(asks_us, 0);
            poke(region.as_ptr(), 1);
        }),
    ];
    each_in_a_process("a_host_gets_what_is_not_ours_or_refused", CASES, |case, ended| {
        assert_eq!(ended.status.code(), Some(77), "{case}: {ended:#?}");
        assert_eq!(ended.diagnostics().len(), usize::from(case == "refused"));
    });
}

/// What a handler found in its place, for hosts that chain.
struct Saved(Mutex<MaybeUninit<libc::sigaction>>);
static SAVED: Saved = Saved(Mutex::new(MaybeUninit::uninit()));

extern "C" fn chains(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    ASKED.fetch_add(1, Relaxed);
    // SAFETY: stored before this handler was installed; only one thread uses it.
    let before = unsafe { SAVED.0.lock().unwrap().assume_init() };
    assert_ne!(before.sa_flags & libc::SA_SIGINFO, 0);
    // SAFETY: SA_SIGINFO says that it takes three arguments.
    let handler: Three = unsafe { std::mem::transmute(before.sa_sigaction) };
    handler(signal, info, context);
}

#[test]
fn a_host_that_chains_keeps_us_working_and_putting_us_back_makes_no_circle() {
    const CASES: &[(&str, fn())] = &[
        ("a fault of ours", || {
            let region = page_by_page(8);
            SAVED.0.lock().unwrap().write(get(libc::SIGSEGV));
            own_both(chains, libc::SA_ONSTACK | libc::SA_NODEFER);
            assert!(fault::is_displaced());
            poke(region.as_ptr(), 1);
            assert_eq!(ASKED.load(Relaxed), 1);
            for _ in 0..100 {
                fault::reinstall().unwrap();
                assert!(!fault::is_displaced());
                own_both(chains, libc::SA_ONSTACK | libc::SA_NODEFER);
            }
            fault::reinstall().unwrap();
            poke(region.as_ptr().wrapping_add(pagewise::page_size()), 1);
            assert_eq!(ASKED.load(Relaxed), 1, "we are in front again");
            assert_eq!(region.stats().faults, 2);
        }),
        ("another fault", || {
            let _region = page_by_page(8);
            use_a_roomy_stack();
            SAVED.0.lock().unwrap().write(get(libc::SIGSEGV));
            own_both(chains, libc::SA_ONSTACK | libc::SA_NODEFER);
            fault::reinstall().unwrap();
            // Ours, the host's, ours again for what the host saved, Rust's own: the end.
            std::hint::black_box(peek(ptr::without_provenance(8)));
        }),
    ];
    let name = "a_host_that_chains_keeps_us_working_and_putting_us_back_makes_no_circle";
    each_in_a_process(name, CASES, |case, ended| match case {
        "another fault" => ended.by_signal(libc::SIGSEGV),
        _ => ended.well(),
    });
}

#[test]
fn hosts_that_take_turns_for_ever_are_told_so() {
    in_a_process("hosts_that_take_turns_for_ever_are_told_so", || {
        let region = page_by_page(32);
        let page = pagewise::page_size();
        let mut unsupported = 0;
        for turn in 0..32 {
            let handler: Three = if turn % 2 == 0 { asks_us } else { chains };
            SAVED.0.lock().unwrap().write(get(libc::SIGSEGV));
            own_both(handler, libc::SA_NODEFER);
            match fault::reinstall() {
                Ok(()) => assert!(!fault::is_displaced()),
                Err(pagewise::Error::Unsupported { .. }) => unsupported += 1,
                Err(other) => panic!("{other}"),
            }
            if turn % 2 == 0 {
                poke(region.as_ptr().wrapping_add(turn * page), 1);
            }
        }
        assert!(unsupported > 0 && unsupported < 32, "{unsupported}");
        assert_eq!(region.stats().faults, 16);
    })
    .well();
}

/// After the program installed SIG_DFL, `is_displaced` reports it, and `reinstall` undoes it.
#[test]
fn a_displacement_by_the_default_is_seen_and_undone() {
    in_a_process("a_displacement_by_the_default_is_seen_and_undone", || {
        let region = page_by_page(2);
        for signal in [libc::SIGSEGV, libc::SIGBUS] {
            set(signal, libc::SIG_DFL, 0, &[]);
            assert!(fault::is_displaced());
            fault::reinstall().unwrap();
            assert!(!fault::is_displaced());
        }
        // As often as it likes: it is the same predecessor each time, and ignoring is another one.
        for default in [[libc::SIG_DFL; 20], [libc::SIG_IGN; 20]].concat() {
            set(libc::SIGBUS, default, 0, &[]);
            fault::reinstall().unwrap();
        }
        poke(region.as_ptr(), 1);
    })
    .well();
}

/// Who asks us several times about one signal gets the same answer each time, and the record as it was.
#[test]
fn a_host_may_ask_twice() {
    static ASKED_TWICE: AtomicUsize = AtomicUsize::new(0);
    static LAST: AtomicUsize = AtomicUsize::new(0);

    extern "C" fn counts(_: c_int) {
        LAST.fetch_add(1, Relaxed);
    }

    extern "C" fn asks_twice(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
        ASKED_TWICE.fetch_add(1, Relaxed);
        // SAFETY: stored before this handler was installed; it takes three arguments; the record is valid.
        unsafe {
            let before = SAVED.0.lock().unwrap().assume_init();
            let ours: Three = std::mem::transmute(before.sa_sigaction);
            let record = (*info).si_errno;
            for _ in 0..2 {
                ours(signal, info, context);
                assert_eq!((*info).si_errno, record);
            }
        }
    }

    in_a_process("a_host_may_ask_twice", || {
        use_a_roomy_stack();
        set_one(libc::SIGSEGV, counts, libc::SA_NODEFER, &[]);
        fault::install().unwrap();
        SAVED.0.lock().unwrap().write(get(libc::SIGSEGV));
        set_three(libc::SIGSEGV, asks_twice, libc::SA_NODEFER, &[]);
        fault::reinstall().unwrap();
        // It saved ours; ours has it, and the first one before it.
        send(libc::SIGSEGV);
        assert_eq!((ASKED_TWICE.load(Relaxed), LAST.load(Relaxed)), (1, 2));
        // It is in front again, and asks twice what then asks twice.
        set_three(libc::SIGSEGV, asks_twice, libc::SA_NODEFER, &[]);
        send(libc::SIGSEGV);
        assert_eq!((ASKED_TWICE.load(Relaxed), LAST.load(Relaxed)), (1 + 3, 2 + 4));
    })
    .well();
}

/// As CPython's faulthandler: prints, restores the action that it saved, and raises the signal again.
extern "C" fn reports_and_gives_up(signal: c_int) {
    say("reported");
    // SAFETY: stored before this handler was installed; a plain call with it.
    unsafe {
        let before = SAVED.0.lock().unwrap().assume_init();
        libc::sigaction(signal, &before, ptr::null_mut());
    }
    send(signal);
}

#[test]
fn a_host_that_gives_up_by_sending_the_signal_again_is_not_asked_again() {
    let name = "a_host_that_gives_up_by_sending_the_signal_again_is_not_asked_again";
    let ended = in_a_process(name, || {
        use_a_roomy_stack();
        let region = page_by_page(8);
        SAVED.0.lock().unwrap().write(get(libc::SIGSEGV));
        set_one(libc::SIGSEGV, reports_and_gives_up, libc::SA_NODEFER, &[]);
        assert!(fault::is_displaced());
        fault::reinstall().unwrap();
        poke(region.as_ptr(), 1);
        std::hint::black_box(peek(ptr::without_provenance(8)));
    });
    ended.by_signal(libc::SIGSEGV);
    assert_eq!(ended.stdout.matches("reported").count(), 1, "{ended:#?}");
}
