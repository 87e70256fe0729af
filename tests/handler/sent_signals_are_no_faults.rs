//! A signal that a process sends is never taken for a fault, not even with an address of a region in it. Faults are
//! served also after Rust's own handler answered such a signal by installing SIG_DFL.
#![cfg(all(unix, not(pagewise_model)))]

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering::Relaxed};

use crate::common::signals::*;
use crate::common::{in_a_process, page_by_page, poke};

static SEEN: AtomicUsize = AtomicUsize::new(0);
static CODE: AtomicI32 = AtomicI32::new(0);

extern "C" fn notes(_: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    SEEN.fetch_add(1, Relaxed);
    // SAFETY: the kernel's record.
    CODE.store(unsafe { (*info).si_code }, Relaxed);
}

#[test]
fn kill_and_raise_reach_the_handler_before_us() {
    in_a_process("kill_and_raise_reach_the_handler_before_us", || {
        for signal in [libc::SIGSEGV, libc::SIGBUS] {
            set_three(signal, notes, 0, &[]);
        }
        let region = page_by_page(4);
        for (times, signal) in [(1, libc::SIGSEGV), (2, libc::SIGBUS)] {
            send(signal);
            assert_eq!(SEEN.load(Relaxed), times);
            assert!(CODE.load(Relaxed) <= 0 || CODE.load(Relaxed) >= 0x10000);
        }
        // SAFETY: a plain call; this process has one thread that does not block the signal.
        unsafe { libc::kill(libc::getpid(), libc::SIGSEGV) };
        while SEEN.load(Relaxed) < 3 {
            std::hint::spin_loop(); // it may be the other thread of the test that gets it
        }
        assert_eq!(region.committed(), 0);
        poke(region.as_ptr(), 1);
        assert_eq!(region.committed(), pagewise::page_size());
    })
    .well();
}

/// `sigqueue` puts a value where a fault has its address, or next to it; `rt_sigqueueinfo` lets the
/// sender fill in everything.
#[test]
#[cfg(target_os = "linux")]
fn a_crafted_address_inside_a_region_commits_nothing() {
    in_a_process("a_crafted_address_inside_a_region_commits_nothing", || {
        set_three(libc::SIGSEGV, notes, 0, &[]);
        set_three(libc::SIGBUS, notes, 0, &[]);
        let region = page_by_page(4);
        let target = region.as_ptr().wrapping_add(pagewise::page_size());
        let mut expected = 0;
        for signal in [libc::SIGSEGV, libc::SIGBUS] {
            for code in [libc::SI_QUEUE, libc::SI_USER, libc::SI_TKILL, libc::SI_MESGQ, -60] {
                // SAFETY: plain data; the kernel copies it.
                let sent = unsafe {
                    let mut info: libc::siginfo_t = std::mem::zeroed();
                    info.si_signo = signal;
                    info.si_code = code;
                    // si_addr is the first field behind the head.
                    (&raw mut info).byte_add(16).cast::<*mut u8>().write(target);
                    assert_eq!(info.si_addr(), target.cast());
                    libc::syscall(
                        libc::SYS_rt_tgsigqueueinfo,
                        libc::getpid(),
                        libc::syscall(libc::SYS_gettid),
                        signal,
                        &raw const info,
                    )
                };
                if sent != 0 && crate::common::emulated() {
                    crate::common::not_here("crafted signals (the emulator refuses to send them)");
                    return;
                }
                assert_eq!(sent, 0, "{}", std::io::Error::last_os_error());
                expected += 1;
                assert_eq!(SEEN.load(Relaxed), expected, "signal {signal}, code {code}");
                assert_eq!((region.committed(), region.stats().faults), (0, 0));
            }
        }
        poke(target, 1);
        assert_eq!((region.committed(), SEEN.load(Relaxed)), (pagewise::page_size(), expected));
    })
    .well();
}

/// Rust's handler takes a SIGSEGV that is no stack overflow for a fault that will come again, and installs SIG_DFL.
/// pagewise's handler must be in force afterwards. The next signal that is sent gets the default action, as without
/// pagewise.
#[test]
fn rusts_own_handler_underneath_does_not_disarm_commits() {
    let ended = in_a_process("rusts_own_handler_underneath_does_not_disarm_commits", || {
        for signal in [libc::SIGSEGV, libc::SIGBUS] {
            let std = get(signal);
            assert!(std.sa_sigaction > libc::SIG_IGN, "std's handler is there");
        }
        let region = page_by_page(16);
        let page = pagewise::page_size();
        poke(region.as_ptr(), 1);
        send(libc::SIGSEGV);
        assert!(!pagewise::fault::is_displaced());
        poke(region.as_ptr().wrapping_add(page), 1);
        send(libc::SIGBUS);
        assert!(!pagewise::fault::is_displaced());
        std::thread::scope(|scope| {
            let first = region.as_ptr().addr();
            scope.spawn(move || {
                for i in 2..16 {
                    poke(std::ptr::with_exposed_provenance_mut::<u8>(first + i * page), 1);
                }
            });
        });
        assert_eq!(region.stats().faults, 16);
        say("all committed");
        send(libc::SIGSEGV);
        say("not reached");
    });
    ended.by_signal(libc::SIGSEGV);
    assert!(ended.stdout.contains("all committed") && !ended.stdout.contains("not reached"));
}
