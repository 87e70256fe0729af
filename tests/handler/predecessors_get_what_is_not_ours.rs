//! A fault or signal outside of pagewise's regions reaches the handler that was installed before, with the
//! signature, mask and flags that it would have without pagewise.
#![cfg(all(unix, not(pagewise_model)))]

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicUsize, Ordering::Relaxed};

use crate::common::signals::*;
use crate::common::{each_in_a_process, in_a_process, page_by_page, peek, poke};

static SEEN: AtomicUsize = AtomicUsize::new(0);
static ADDRESS: AtomicUsize = AtomicUsize::new(0);
static CODE: AtomicI32 = AtomicI32::new(0);
static BLOCKED: AtomicUsize = AtomicUsize::new(0);
static OURS: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());

/// A page of the host's own that faults until `repair` was called.
static HOSTS: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());

fn hosts_page() -> *mut u8 {
    // SAFETY: a fresh mapping.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            pagewise::page_size(),
            libc::PROT_NONE,
            libc::MAP_PRIVATE | libc::MAP_ANON,
            -1,
            0,
        )
    };
    assert_ne!(page, libc::MAP_FAILED);
    HOSTS.store(page.cast(), Relaxed);
    page.cast()
}

fn repair() {
    // SAFETY: the host's own page.
    let done = unsafe {
        libc::mprotect(
            HOSTS.load(Relaxed).cast(),
            pagewise::page_size(),
            libc::PROT_READ | libc::PROT_WRITE,
        )
    };
    assert_eq!(done, 0);
}

const WATCHED: [c_int; 5] =
    [libc::SIGUSR1, libc::SIGUSR2, libc::SIGSEGV, libc::SIGBUS, libc::SIGALRM];

fn note_mask() {
    let blocked = WATCHED.iter().enumerate().filter(|(_, s)| is_blocked(**s));
    BLOCKED.store(blocked.map(|(bit, _)| 1 << bit).sum(), Relaxed);
}

fn blocked_then() -> Vec<c_int> {
    let bits = BLOCKED.load(Relaxed);
    WATCHED.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 != 0).map(|(_, s)| *s).collect()
}

/// A host's handler that serves its own page, as a garbage collector does.
extern "C" fn three(_: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: a valid record.
    unsafe {
        ADDRESS.store((*info).si_addr().addr(), Relaxed);
        CODE.store((*info).si_code, Relaxed);
    }
    assert!(!context.is_null());
    note_mask();
    SEEN.fetch_add(1, Relaxed);
    repair();
}

extern "C" fn one(_: c_int) {
    note_mask();
    SEEN.fetch_add(1, Relaxed);
    repair();
}

/// Faults in regions are served with any previous handler, which is not called for them.
fn ours_still_work(region: &mut pagewise::DemandRegion, page: usize) {
    let seen = SEEN.load(Relaxed);
    poke(region.as_ptr().wrapping_add(page * pagewise::page_size()), 7);
    assert_eq!(peek(region.as_ptr().wrapping_add(page * pagewise::page_size())), 7);
    assert_eq!(SEEN.load(Relaxed), seen);
}

#[test]
fn a_three_argument_handler_gets_the_kernels_record() {
    in_a_process("a_three_argument_handler_gets_the_kernels_record", || {
        for signal in [libc::SIGSEGV, libc::SIGBUS] {
            set_three(signal, three, libc::SA_ONSTACK, &[libc::SIGUSR2]);
        }
        let mut region = page_by_page(8);
        ours_still_work(&mut region, 0);
        block(libc::SIGUSR1, true);
        let page = hosts_page();
        poke(page.wrapping_add(123), 9);
        assert_eq!(peek(page.wrapping_add(123)), 9);
        assert_eq!(SEEN.load(Relaxed), 1);
        assert_eq!(ADDRESS.load(Relaxed), page.addr() + 123);
        assert!(CODE.load(Relaxed) > 0);
        // Blocked in the handler: what was blocked before, what its mask has, and the signal itself.
        let blocked = blocked_then();
        assert_eq!(blocked.len(), 3, "{blocked:?}");
        assert!(blocked.contains(&libc::SIGUSR1) && blocked.contains(&libc::SIGUSR2));
        // Afterwards only what was blocked before.
        assert!(is_blocked(libc::SIGUSR1) && !is_blocked(libc::SIGUSR2));
        assert!(!is_blocked(libc::SIGSEGV));
        ours_still_work(&mut region, 1);
    })
    .well();
}

#[test]
fn a_one_argument_handler_is_called_as_one() {
    in_a_process("a_one_argument_handler_is_called_as_one", || {
        for signal in [libc::SIGSEGV, libc::SIGBUS] {
            set_one(signal, one, libc::SA_NODEFER, &[]);
        }
        let mut region = page_by_page(8);
        ours_still_work(&mut region, 0);
        poke(hosts_page(), 9);
        assert_eq!(SEEN.load(Relaxed), 1);
        // SA_NODEFER: not even its own signal is blocked.
        assert!(blocked_then().is_empty());
        ours_still_work(&mut region, 1);
    })
    .well();
}

/// A handler that touches a region while it handles a fault of its own.
extern "C" fn touches_ours(_: c_int, _: *mut libc::siginfo_t, _: *mut c_void) {
    poke(OURS.load(Relaxed), 5);
    SEEN.fetch_add(1, Relaxed);
    repair();
}

#[test]
fn a_predecessor_that_touches_a_region_is_served_in_turn() {
    in_a_process("a_predecessor_that_touches_a_region_is_served_in_turn", || {
        use_a_roomy_stack();
        // Without SA_NODEFER the signal would be blocked, and the kernel ends a process that faults while it is
        // blocked.
        set_three(libc::SIGSEGV, touches_ours, libc::SA_NODEFER, &[]);
        set_three(libc::SIGBUS, touches_ours, libc::SA_NODEFER, &[]);
        let region = page_by_page(8);
        OURS.store(region.as_ptr(), Relaxed);
        poke(hosts_page(), 1);
        assert_eq!(SEEN.load(Relaxed), 1);
        assert_eq!(peek(region.as_ptr()), 5);
        assert_eq!(region.stats().faults, 1);
    })
    .well();
}

fn touch_null() {
    std::hint::black_box(peek(std::hint::black_box(std::ptr::without_provenance(8))));
}

#[test]
fn the_default_ends_the_process_as_before() {
    const CASES: &[(&str, fn())] = &[
        ("default", || {
            set(libc::SIGSEGV, libc::SIG_DFL, 0, &[]);
            let mut region = page_by_page(8);
            ours_still_work(&mut region, 0);
            touch_null();
        }),
        ("default, sent", || {
            set(libc::SIGSEGV, libc::SIG_DFL, 0, &[]);
            let mut region = page_by_page(8);
            ours_still_work(&mut region, 0);
            send(libc::SIGSEGV);
        }),
        // SIG_DFL is not a function, even with SA_SIGINFO.
        ("default with flags", || {
            set(libc::SIGSEGV, libc::SIG_DFL, libc::SA_SIGINFO, &[]);
            page_by_page(8);
            touch_null();
        }),
        // The kernel does not honour SIG_IGN for a fault.
        ("ignored", || {
            set(libc::SIGSEGV, libc::SIG_IGN, libc::SA_SIGINFO, &[]);
            page_by_page(8);
            touch_null();
        }),
        ("once only", || {
            set_one(libc::SIGSEGV, does_nothing, libc::SA_RESETHAND, &[]);
            page_by_page(8);
            touch_null();
        }),
        ("blocked while it runs", || {
            set_one(libc::SIGSEGV, faults_itself, 0, &[]);
            page_by_page(8);
            touch_null();
        }),
    ];
    each_in_a_process("the_default_ends_the_process_as_before", CASES, |case, ended| {
        eprintln!("{case}");
        ended.by_signal(libc::SIGSEGV);
        assert_eq!(ended.diagnostics(), [""; 0]);
        // Once each: `SA_RESETHAND` and a blocked signal both end the process at the second fault.
        let called = ended.stdout.matches("called").count();
        assert_eq!(called, usize::from(matches!(case, "once only" | "blocked while it runs")));
    });
}

extern "C" fn does_nothing(_: c_int) {
    say("called");
}

extern "C" fn faults_itself(_: c_int) {
    say("called");
    touch_null();
}

#[test]
fn an_ignored_signal_that_was_sent_stays_ignored() {
    in_a_process("an_ignored_signal_that_was_sent_stays_ignored", || {
        set(libc::SIGSEGV, libc::SIG_IGN, 0, &[]);
        set(libc::SIGBUS, libc::SIG_IGN, libc::SA_SIGINFO, &[]);
        let mut region = page_by_page(8);
        for page in 0..4 {
            send(libc::SIGSEGV);
            send(libc::SIGBUS);
            ours_still_work(&mut region, page);
        }
    })
    .well();
}

#[test]
fn a_handler_for_one_call_gets_one_call() {
    in_a_process("a_handler_for_one_call_gets_one_call", || {
        set_one(libc::SIGSEGV, one, libc::SA_RESETHAND, &[]);
        set_one(libc::SIGBUS, one, libc::SA_RESETHAND, &[]);
        let mut region = page_by_page(8);
        poke(hosts_page(), 1);
        assert_eq!(SEEN.load(Relaxed), 1);
        ours_still_work(&mut region, 0);
        say("the second is the default's");
        touch_null();
    })
    .by_signal(libc::SIGSEGV);
}

#[test]
fn a_predecessor_may_let_the_thread_go_on_elsewhere() {
    in_a_process("a_predecessor_may_let_the_thread_go_on_elsewhere", || {
        set_three(libc::SIGSEGV, skips, libc::SA_ONSTACK, &[]);
        set_three(libc::SIGBUS, skips, libc::SA_ONSTACK, &[]);
        let mut region = page_by_page(8);
        for page in 0..3 {
            skip_a_load();
            ours_still_work(&mut region, page);
            assert!(!is_blocked(libc::SIGSEGV) && !is_blocked(libc::SIGUSR1));
        }
        assert_eq!(SEEN.load(Relaxed), 3);
    })
    .well();
}

/// A load from address 0 that takes exactly `SKIP` bytes of code.
#[cfg(target_arch = "x86_64")]
fn skip_a_load() {
    // SAFETY: the handler steps over the load. (8a 00: mov al, [rax])
    unsafe { std::arch::asm!("xor eax, eax", ".byte 0x8a, 0x00", out("rax") _) };
}

#[cfg(target_arch = "aarch64")]
fn skip_a_load() {
    // SAFETY: the handler steps over the load.
    unsafe { std::arch::asm!("mov x9, #0", "ldrb w9, [x9]", out("x9") _) };
}

extern "C" fn skips(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    SEEN.fetch_add(1, Relaxed);
    // SAFETY: the kernel's context.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    {
        context.uc_mcontext.gregs[libc::REG_RIP as usize] += 2;
    }
    #[cfg(all(target_os = "linux", target_arch = "aarch64"))]
    {
        context.uc_mcontext.pc += 4;
    }
    #[cfg(all(target_os = "macos", target_arch = "aarch64"))]
    // SAFETY: the kernel's context.
    unsafe {
        (*context.uc_mcontext).__ss.__pc += 4;
    }
    #[cfg(all(target_os = "macos", target_arch = "x86_64"))]
    // SAFETY: the kernel's context.
    unsafe {
        (*context.uc_mcontext).__ss.__rip += 2;
    }
    #[cfg(all(target_os = "freebsd", target_arch = "x86_64"))]
    {
        context.uc_mcontext.mc_rip += 2;
    }
}

#[test]
fn installing_again_changes_nothing() {
    in_a_process("installing_again_changes_nothing", || {
        pagewise::fault::install().unwrap();
        let first = get(libc::SIGSEGV);
        pagewise::fault::install().unwrap();
        drop(page_by_page(1));
        drop(page_by_page(1));
        pagewise::fault::reinstall().unwrap();
        let last = get(libc::SIGSEGV);
        assert_eq!((first.sa_sigaction, first.sa_flags), (last.sa_sigaction, last.sa_flags));
        assert_eq!(get(libc::SIGBUS).sa_sigaction, first.sa_sigaction);
    })
    .well();
}

#[test]
fn nothing_is_installed_before_the_first_region() {
    in_a_process("nothing_is_installed_before_the_first_region", || {
        let before = get(libc::SIGSEGV);
        let reservation = pagewise::Reservation::new(1 << 20).unwrap();
        reservation.commit(..).unwrap();
        assert_eq!(get(libc::SIGSEGV).sa_sigaction, before.sa_sigaction);
        let _region = page_by_page(1);
        assert_ne!(get(libc::SIGSEGV).sa_sigaction, before.sa_sigaction);
        let flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
        assert_eq!(get(libc::SIGSEGV).sa_flags & flags, flags);
    })
    .well();
}

/// A committed page may fault because another thread committed it meanwhile. So the access is tried again, many times,
/// before the fault is handed on; as many times after each decommit.
#[test]
fn a_page_that_lost_its_access_is_tried_as_often_after_each_decommit() {
    in_a_process("a_page_that_lost_its_access_is_tried_as_often_after_each_decommit", || {
        for signal in [libc::SIGSEGV, libc::SIGBUS] {
            set_three(signal, three, libc::SA_ONSTACK, &[]);
        }
        let mut region = page_by_page(8);
        HOSTS.store(region.as_ptr(), Relaxed);
        let mut tried = Vec::new();
        for round in 0..3 {
            poke(region.as_ptr(), 1);
            // SAFETY: a page of the region; only its access rights change.
            let done = unsafe {
                libc::mprotect(region.as_ptr().cast(), pagewise::page_size(), libc::PROT_NONE)
            };
            assert_eq!((done, SEEN.load(Relaxed)), (0, round));
            let before = region.stats().raced;
            poke(region.as_ptr(), 2);
            assert_eq!((SEEN.load(Relaxed), peek(region.as_ptr())), (round + 1, 2));
            tried.push(region.stats().raced - before);
            region.decommit(..).unwrap();
        }
        assert!(tried[0] > 1000 && tried.iter().all(|&times| times == tried[0]), "{tried:?}");
        assert_eq!((region.stats().faults, region.stats().refused), (3, 0));
    })
    .well();
}
