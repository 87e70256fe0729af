//! A host can keep its own handlers and call `try_handle` from them, or put pagewise's back by `reinstall`.
#![cfg(all(unix, not(pagewise_model)))]

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::common::signals::*;
use crate::common::{each_in_a_process, in_a_process, page_by_page, peek, poke};
use pagewise::RefusalReason;
use pagewise::fault::{self, Handled};

static ASKED: AtomicUsize = AtomicUsize::new(0);
static DECLINED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn asks_us(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    ASKED.fetch_add(1, Relaxed);
    // SAFETY: the handler's own arguments.
    let status = match unsafe { fault::try_handle(signal, info, context) } {
        Handled::Served => return,
        Handled::Refused(refusal) => {
            let is_exact = refusal.reason == RefusalReason::Limit { used: 0, limit: 0 }
                && (refusal.region, refusal.offset) == (REGION.load(Relaxed), 5);
            if is_exact { 78 } else { 1 }
        }
        _ => 77,
    };
    DECLINED.fetch_add(1, Relaxed);
    // SAFETY: a plain call.
    unsafe { libc::_exit(status) };
}

/// Of the region that refuses an access.
static REGION: AtomicUsize = AtomicUsize::new(0);

/// Accesses a byte that its region's limit refuses.
fn touch_past_the_limit() {
    let region = pagewise::DemandRegion::builder(1 << 20).limit(0).build().unwrap();
    own_both(asks_us, 0);
    REGION.store(region.as_ptr().addr(), Relaxed);
    poke(region.as_ptr().wrapping_add(5), 1);
}

/// Writes what it gets, and where it came from.
fn forwards(line: &[u8]) {
    for text in [b"host: ", line] {
        // SAFETY: initialised bytes; a plain call.
        unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
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
        ("refused", touch_past_the_limit),
        ("refused in silence", || {
            fault::report_nowhere();
            touch_past_the_limit();
        }),
        ("refused, after a change of mind", || {
            fault::report_nowhere();
            fault::report_to_stderr();
            touch_past_the_limit();
        }),
        ("refused to a function", || {
            // SAFETY: `write` is async-signal-safe.
            unsafe { fault::report_to(forwards) };
            touch_past_the_limit();
        }),
    ];
    each_in_a_process("a_host_gets_what_is_not_ours_or_refused", CASES, |case, ended| {
        let status = if case.starts_with("refused") { 78 } else { 77 };
        assert_eq!(ended.status.code(), Some(status), "{case}: {ended:#?}");
        let lines = ended.diagnostics();
        let says = match case {
            "refused" | "refused, after a change of mind" => {
                Some("pagewise: refused an access at offset 0x5 of")
            }
            "refused to a function" => Some("host: pagewise: refused an access at offset 0x5 of"),
            _ => None,
        };
        assert_eq!(lines.len(), usize::from(says.is_some()), "{case}: {lines:?}");
        assert!(says.is_none_or(|says| lines[0].starts_with(says)), "{case}: {lines:?}");
    });
}

/// The action that the host's handler replaced, for hosts that hand signals on to it.
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
            // The signal goes to ours, to the host's, to ours again (which the host had saved), and to Rust's, which
            // ends the process.
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

/// A host that asks several times about one signal gets the same answer each time, and its record back as it was.
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

/// Does what CPython's faulthandler does: prints, restores the action that it saved, and raises the signal again.
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
