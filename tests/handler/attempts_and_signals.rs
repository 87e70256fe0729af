//! `fault::attempt` with signal masks, alternate stacks, handlers of the program, and forks.
#![cfg(all(unix, not(pagewise_model)))]

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use pagewise::fault::{attempt, try_handle};
use pagewise::{DemandRegion, page_size};

use crate::common::signals::*;
use crate::common::{each_in_a_process, in_a_process, not_here, poke};

fn none_may_be_committed() -> DemandRegion {
    DemandRegion::builder(64 * page_size()).limit(0).build().unwrap()
}

/// A refused access from a depth of a few frames.
fn refused(place: *mut u8) -> usize {
    #[inline(never)]
    fn deep(frames: usize, place: *mut u8) -> usize {
        if frames == 0 {
            poke(place, 1);
        }
        frames + std::hint::black_box(deep as fn(usize, *mut u8) -> usize)(frames - 1, place)
    }
    // SAFETY: none of the frames has a destructor or holds a lock.
    unsafe { attempt(|| deep(20, place)) }.unwrap_err().offset
}

/// What a thread has of signals: which are blocked, and its alternate stack.
#[derive(Debug, PartialEq)]
struct Signals {
    blocked: Vec<c_int>,
    stack: (usize, usize, c_int),
}

impl Signals {
    fn now() -> Self {
        // SAFETY: asking only fills the record.
        let stack = unsafe {
            let mut stack: libc::stack_t = std::mem::zeroed();
            assert_eq!(libc::sigaltstack(std::ptr::null(), &mut stack), 0);
            stack
        };
        Self {
            blocked: (1..32).filter(|&signal| is_blocked(signal)).collect(),
            stack: (stack.ss_sp.addr(), stack.ss_size, stack.ss_flags),
        }
    }
}

extern "C" fn host(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the handler's own arguments.
    if !unsafe { try_handle(signal, info, context) }.is_served() {
        // SAFETY: leaves at once.
        unsafe { libc::_exit(77) };
    }
    SERVED.fetch_add(1, Relaxed);
}

static SERVED: AtomicUsize = AtomicUsize::new(0);

/// Our own handler, and a host's with every combination of the flags that matter: on the alternate stack or not,
/// with the signal itself blocked or not. Two threads, one of which has no alternate stack.
#[test]
fn the_mask_and_the_alternate_stack_are_as_before_whichever_handler_ran() {
    let test = "the_mask_and_the_alternate_stack_are_as_before_whichever_handler_ran";
    in_a_process(test, || {
        let region = none_may_be_committed();
        let hosts = [0, libc::SA_ONSTACK, libc::SA_NODEFER, libc::SA_ONSTACK | libc::SA_NODEFER];
        for flags in [None].into_iter().chain(hosts.map(Some)) {
            if let Some(flags) = flags {
                set_three(libc::SIGSEGV, host, flags, &[libc::SIGUSR1]);
                set_three(libc::SIGBUS, host, flags, &[libc::SIGUSR1]);
            }
            let attempts = |has_a_stack: bool| {
                if has_a_stack {
                    use_a_roomy_stack();
                } else {
                    let none = libc::stack_t {
                        ss_sp: std::ptr::null_mut(),
                        ss_flags: libc::SS_DISABLE,
                        ss_size: 0,
                    };
                    // SAFETY: plain data.
                    assert_eq!(unsafe { libc::sigaltstack(&none, std::ptr::null_mut()) }, 0);
                }
                block(libc::SIGUSR2, true);
                let before = Signals::now();
                assert_eq!(before.blocked, [libc::SIGUSR2]);
                for round in 0..500 {
                    assert_eq!(refused(region.as_ptr().wrapping_add(round)), round);
                    if round % 100 == 0 {
                        assert_eq!(Signals::now(), before, "{flags:?}");
                    }
                }
            };
            std::thread::scope(|scope| {
                scope.spawn(|| attempts(true));
                scope.spawn(|| attempts(false));
            });
        }
        assert_eq!((SERVED.load(Relaxed), region.stats().refused), (4000, 5000));
    })
    .well();
}

#[test]
fn what_the_closure_does_to_the_mask_stays_as_it_left_it() {
    in_a_process("what_the_closure_does_to_the_mask_stays_as_it_left_it", || {
        let region = none_may_be_committed();
        // SAFETY: nothing in it has a destructor or holds a lock.
        let ended = unsafe {
            attempt(|| {
                block(libc::SIGUSR1, true);
                poke(region.as_ptr(), 1);
            })
        };
        ended.unwrap_err();
        assert_eq!(Signals::now().blocked, [libc::SIGUSR1]);
    })
    .well();
}

static PLACE: AtomicUsize = AtomicUsize::new(0);
static ENDED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn attempts(_: c_int) {
    let place = std::ptr::with_exposed_provenance_mut(PLACE.load(Relaxed));
    ENDED.store(refused(place), Relaxed);
}

/// A signal handler of the program may make attempts, on the alternate stack, also where it interrupted one.
#[test]
fn a_signal_handler_has_attempts_of_its_own() {
    in_a_process("a_signal_handler_has_attempts_of_its_own", || {
        use_a_roomy_stack();
        let region = none_may_be_committed();
        PLACE.store(region.as_ptr().wrapping_add(5).expose_provenance(), Relaxed);
        set_one(libc::SIGUSR1, attempts, libc::SA_ONSTACK, &[]);
        let before = Signals::now();
        assert_eq!(refused(region.as_ptr()), 0); // the thread's first
        send(libc::SIGUSR1);
        assert_eq!(ENDED.swap(0, Relaxed), 5);
        // SAFETY: nothing in it has a destructor or holds a lock when an access is refused.
        let ended = unsafe {
            attempt(|| {
                send(libc::SIGUSR1);
                assert_eq!(ENDED.swap(0, Relaxed), 5);
                poke(region.as_ptr().wrapping_add(9), 1);
            })
        };
        assert_eq!(ended.unwrap_err().offset, 9);
        assert_eq!(Signals::now(), before);
    })
    .well();
}

/// A handler that was installed before ours gets a foreign fault inside an attempt, as outside of one; it may even
/// leave by a jump of its own. Here it ends the process.
#[test]
fn a_predecessor_gets_a_foreign_fault_inside_an_attempt() {
    extern "C" fn ends(_: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
        // SAFETY: the kernel's record; leaves at once.
        unsafe { libc::_exit(if (*info).si_addr().addr() == 8 { 55 } else { 56 }) };
    }
    let ended = in_a_process("a_predecessor_gets_a_foreign_fault_inside_an_attempt", || {
        set_three(libc::SIGSEGV, ends, 0, &[]);
        set_three(libc::SIGBUS, ends, 0, &[]);
        let region = none_may_be_committed();
        assert_eq!(refused(region.as_ptr()), 0);
        // SAFETY: nothing is refused in it.
        let _ = unsafe { attempt(|| poke(std::ptr::without_provenance_mut(8), 1)) };
    });
    assert_eq!(ended.status.code(), Some(55), "{ended:#?}");
}

fn wait_for(child: c_int) -> c_int {
    let mut status = 0;
    // SAFETY: our own child.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    status
}

/// The child of a fork inside an attempt is in that attempt, too.
#[test]
fn a_fork_inside_an_attempt_leaves_both_processes_in_it() {
    in_a_process("a_fork_inside_an_attempt_leaves_both_processes_in_it", || {
        let region = none_may_be_committed();
        let before = Signals::now();
        let mut child = -1;
        // SAFETY: nothing in it has a destructor or holds a lock.
        let ended = unsafe {
            attempt(|| {
                child = libc::fork();
                let inner = refused(region.as_ptr().wrapping_add(3));
                let page = if child == 0 { 1 } else { 2 };
                poke(region.as_ptr().wrapping_add(page * page_size() + inner), 1);
            })
        };
        let offset = ended.unwrap_err().offset;
        assert_eq!(Signals::now(), before);
        let again = refused(region.as_ptr().wrapping_add(5));
        if child == 0 {
            let is_right = offset == page_size() + 3 && again == 5;
            // SAFETY: leaves at once.
            unsafe { libc::_exit(if is_right { 7 } else { 8 }) };
        }
        assert_eq!((offset, again), (2 * page_size() + 3, 5));
        assert_eq!(libc::WEXITSTATUS(wait_for(child)), 7);
    })
    .well();
}

/// A thread of the parent is in an attempt when the process forks. A thread of the child gets its identity (the
/// C library gives it the same stack), and is in no attempt: also where the parent has no region, and no handler.
#[test]
fn a_thread_of_a_forked_child_is_in_no_attempt_of_the_parents_thread_that_it_replaces() {
    const OTHER: &str = "it has another identity";
    if crate::common::emulated() {
        return not_here("threads of a forked child: qemu ends at the first one");
    }
    let test = "a_thread_of_a_forked_child_is_in_no_attempt_of_the_parents_thread_that_it_replaces";
    let cases: [(&str, fn()); 2] = [
        ("with a region", || replace_a_thread_in_an_attempt(Some(none_may_be_committed()), OTHER)),
        ("without one", || replace_a_thread_in_an_attempt(None, OTHER)),
    ];
    each_in_a_process(test, &cases, |case, ended| {
        ended.well();
        if ended.stdout.contains(OTHER) {
            return not_here("a thread of a forked child with the identity of one of the parent");
        }
        // Without the line, the access would have ended the attempt of the parent's thread.
        assert_eq!(ended.diagnostics().len(), 1, "{case}: {ended:#?}");
    });
}

fn replace_a_thread_in_an_attempt(region: Option<DemandRegion>, other_identity: &str) {
    // SAFETY: a plain call.
    let this_thread = || unsafe { libc::pthread_self() as usize };
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // SAFETY: nothing is refused in it.
        unsafe {
            attempt(|| {
                sender.send(this_thread()).unwrap();
                loop {
                    std::thread::park();
                }
            })
        }
    });
    let replaced = receiver.recv().unwrap();
    // SAFETY: the child starts a thread, and leaves.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let region = region.unwrap_or_else(none_may_be_committed);
        let thread = std::thread::spawn(move || {
            if this_thread() != replaced {
                // SAFETY: leaves at once.
                unsafe { libc::_exit(99) };
            }
            poke(region.as_ptr(), 1);
        });
        let _ = thread.join();
        // SAFETY: leaves at once.
        unsafe { libc::_exit(98) };
    }
    let status = wait_for(child);
    if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 99 {
        return say(other_identity);
    }
    assert!(libc::WIFSIGNALED(status), "{status:#x}");
    assert!(matches!(libc::WTERMSIG(status), libc::SIGSEGV | libc::SIGBUS), "{status:#x}");
}
