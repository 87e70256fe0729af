//! The signal handler: SIGSEGV and SIGBUS.
//!
//! The handler serves a signal that the kernel raised for an access inside a registered range, and returns.
//! Every other signal goes to the handler that was installed before. Nothing in the handler allocates, locks, panics or
//! formats. errno is saved only for faults in a registered range: for others, no thread-local state is touched.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::{sigaction, siginfo_t, sigset_t};

use super::{Fault, Handled, registers};
use crate::error::Error;
use crate::os;
use crate::sync::SpinLock;
use predecessors::{PREDECESSORS, hand_on};

mod predecessors;

const SIGNALS: [c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];

/// On BSD systems and macOS, signals that a process sent have this `si_code` (`SI_USER`) or a larger one. On Linux
/// they have zero or a negative one. The codes in between are the kernel's own, for faults.
const FIRST_PROCESS_CODE: c_int = 0x10000;

pub(super) fn install() -> Result<(), Error> {
    static DONE: AtomicBool = AtomicBool::new(false);
    if DONE.load(Ordering::Acquire) {
        return Ok(());
    }
    os::watch_forks()
        .map_err(|error| Error::System { operation: "pthread_atfork", source: error.into() })?;
    let _changing = changing();
    if DONE.load(Ordering::Relaxed) {
        return Ok(());
    }
    // Before the first region exists, so that every fork repairs all regions.
    os::call_in_children(super::after_fork_in_child);
    put_in_front()?;
    DONE.store(true, Ordering::Release);
    Ok(())
}

/// Takes the lock for changing signal actions and the lists of predecessors, until the result is dropped.
fn changing() -> impl Drop {
    #[cfg(not(loom))]
    static CHANGING: SpinLock = SpinLock::new();
    #[cfg(loom)]
    static CHANGING: std::sync::LazyLock<SpinLock> = std::sync::LazyLock::new(SpinLock::new);
    struct Changing;
    impl Drop for Changing {
        fn drop(&mut self) {
            CHANGING.unlock();
        }
    }
    CHANGING.lock();
    Changing
}

pub(super) fn reinstall() -> Result<(), Error> {
    install()?;
    let _changing = changing();
    put_in_front()
}

pub(super) fn is_displaced() -> bool {
    SIGNALS.iter().any(|&signal| !current(signal).is_ok_and(|action| is_ours(&action)))
}

/// Installs our action for each signal that has another one, which becomes a predecessor. The caller holds
/// the lock of [`changing`].
fn put_in_front() -> Result<(), Error> {
    for (signal, predecessors) in SIGNALS.into_iter().zip(&PREDECESSORS) {
        let action = current(signal)?;
        if is_ours(&action) {
            continue;
        }
        // Saved before our handler is installed: the first fault that it gets may have to be handed on.
        predecessors.push(action)?;
        let replaced = set(signal, &ours())?;
        if !is_ours(&replaced) {
            // Usually the same once more, which changes nothing; but another thread may have installed a
            // handler since `current`.
            predecessors.push(replaced)?;
        }
    }
    Ok(())
}

fn current(signal: c_int) -> Result<sigaction, Error> {
    let mut action = MaybeUninit::uninit();
    // SAFETY: asking changes nothing, and success fills the action.
    match unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) } {
        // SAFETY: as above.
        0 => Ok(unsafe { action.assume_init() }),
        _ => Err(signal_error()),
    }
}

/// Returns the action that was there until now.
fn set(signal: c_int, action: &sigaction) -> Result<sigaction, Error> {
    let mut before = MaybeUninit::uninit();
    // SAFETY: the action is complete, its handler is ours, and success fills the old one.
    match unsafe { libc::sigaction(signal, action, before.as_mut_ptr()) } {
        // SAFETY: as above.
        0 => Ok(unsafe { before.assume_init() }),
        _ => Err(signal_error()),
    }
}

fn signal_error() -> Error {
    Error::System { operation: "sigaction", source: std::io::Error::last_os_error() }
}

/// Our signal action ([`sigaction(2)`](https://man7.org/linux/man-pages/man2/sigaction.2.html)):
///
/// - `SA_SIGINFO`: the handler needs the fault's code, address and registers.
/// - `SA_ONSTACK`: the fault may be a stack overflow, where the thread's own stack has no room for a handler.
/// - `SA_NODEFER`: the signal stays unblocked, so that a fault inside a predecessor that we call reaches this
///   handler again. The kernel would kill the process otherwise.
/// - `sa_mask` blocks asynchronous signals: their handlers could fault on pages that the interrupted fault
///   handler holds, and wait for them on the same thread for ever.
fn ours() -> sigaction {
    // SAFETY: all-zero is a valid action.
    let mut action: sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
    action.sa_mask = asynchronous_signals();
    action
}

fn is_ours(action: &sigaction) -> bool {
    action.sa_sigaction == handler as *const () as usize
}

/// All signals except SIGSEGV, SIGBUS and SIGSYS. This library's own accesses may raise the first two, and a
/// seccomp filter may answer its system calls with the third; the kernel kills a process that has blocked a
/// signal which it raises itself. SIGABRT, SIGTRAP, SIGFPE and SIGILL can be blocked: our code does not raise
/// them, and `abort` unblocks SIGABRT.
fn asynchronous_signals() -> sigset_t {
    // SAFETY: all-zero is a valid set, and the calls only set bits in it.
    unsafe {
        let mut set: sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut set);
        for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGSYS] {
            libc::sigdelset(&mut set, signal);
        }
        set
    }
}

/// Runs `work` with asynchronous signals blocked. Used while a thread holds pages: a signal handler on the
/// same thread could fault on those pages, and would wait for ever for the thread that it interrupted.
pub(crate) fn uninterrupted<R>(work: impl FnOnce() -> R) -> R {
    struct Restore(sigset_t);
    impl Drop for Restore {
        fn drop(&mut self) {
            // SAFETY: the mask was filled by the call below.
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, ptr::null_mut()) };
        }
    }
    if cfg!(miri) {
        return work(); // Miri has no signals, and does not know these calls.
    }
    let mut before = MaybeUninit::zeroed();
    // SAFETY: both sets are valid; the old one is filled.
    let _restore = unsafe {
        libc::pthread_sigmask(libc::SIG_BLOCK, &asynchronous_signals(), before.as_mut_ptr());
        Restore(before.assume_init())
    };
    work()
}

/// What tells the calling thread from all others that live at the same time; never zero. Async-signal-safe.
pub(super) fn this_thread() -> usize {
    // SAFETY: has no preconditions.
    unsafe { libc::pthread_self() as usize }
}

unsafe extern "C" fn handler(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel, or another handler that calls this one as the kernel does, passes valid pointers.
    unsafe {
        if !try_handle(signal, info, context).is_served() {
            hand_on(signal, info, context);
        }
    }
}

/// Serves a fault for a host that keeps its own signal handler, and says what became of it.
///
/// A host that keeps its own handlers of SIGSEGV and SIGBUS calls this first in them. Where the fault is
/// [`Served`](Handled::Served), the host's handler returns; otherwise it does its own work. The host installs its handlers
/// after [`install`](super::install) has run (every [`DemandRegion`](crate::DemandRegion) calls it), with `SA_SIGINFO`, and
/// preferably `SA_ONSTACK` and `SA_NODEFER`. Async-signal-safe.
///
/// A refused plain access (past a limit, outside of `read`, `write`, `fill` and `attempt`) is
/// [`Refused`](Handled::Refused), and the host decides how it ends, as a trap or otherwise. The line about it is written to stderr all the same, unless
/// [`report_nowhere`](super::report_nowhere) or [`report_to`](super::report_to) says otherwise.
///
/// # Safety
/// Called from a signal handler only, with the handler's own three arguments.
///
/// ```
/// use pagewise::fault::{Handled, try_handle};
/// use std::ffi::{c_int, c_void};
///
/// unsafe extern "C" fn host_handler(
///     signal: c_int,
///     info: *mut libc::siginfo_t,
///     context: *mut c_void,
/// ) {
///     match unsafe { try_handle(signal, info, context) } {
///         Handled::Served => {}
///         Handled::Refused(_refusal) => unsafe { libc::_exit(3) }, // past a limit: a trap
///         _ => std::process::abort(), // the host's own faults
///     }
/// }
///
/// let mut region = pagewise::DemandRegion::new(1 << 20)?;
/// unsafe {
///     let mut action: libc::sigaction = std::mem::zeroed();
///     action.sa_sigaction = host_handler as *const () as usize;
///     action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
///     libc::sigaction(libc::SIGSEGV, &action, std::ptr::null_mut());
///     libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut());
/// }
/// assert!(pagewise::fault::is_displaced());
/// region.as_mut_slice()[70_000] = 1; // the host's handler passes the fault to us
/// # Ok::<(), pagewise::Error>(())
/// ```
pub unsafe fn try_handle(signal: c_int, info: *mut siginfo_t, context: *mut c_void) -> Handled {
    // SAFETY: the caller's promise.
    let Some(address) = (unsafe { faulting_address(signal, &*info) }) else {
        return Handled::NotOurs;
    };
    // SAFETY: the caller's promise: the context is the kernel's.
    let context = unsafe { &mut *context.cast::<registers::Context>() };
    if registers::program_counter(context) == address {
        // A jump into a region. Committing the page would not make it executable.
        return Handled::NotOurs;
    }
    let is_unavailable = signal == libc::SIGBUS;
    let fault = Fault { address, write: registers::is_write(context), is_unavailable };
    super::serve(fault, context)
}

/// The address of an access fault that the kernel raised; `None` for every other signal. Recognized by `si_code`
/// ([`sigaction(2)`](https://man7.org/linux/man-pages/man2/sigaction.2.html)): in a signal that a process sent (`kill`,
/// `sigqueue`), `si_addr` is not an address, or one that the sender chose.
///
/// `SEGV_MAPERR` and `SEGV_ACCERR` are served alike, since pages without access, without a mapping, and with a guard
/// marker raise one or the other. The codes for protection keys, memory tags and hardware errors are not served.
fn faulting_address(signal: c_int, info: &siginfo_t) -> Option<usize> {
    const SEGV_MAPERR: c_int = 1;
    const SEGV_ACCERR: c_int = 2;
    #[cfg(target_os = "linux")]
    const BUS_ADRERR: c_int = 2;
    let ours = match signal {
        libc::SIGSEGV => matches!(info.si_code, SEGV_MAPERR | SEGV_ACCERR),
        // On Linux, userfaultfd and hugetlb raise this one.
        #[cfg(target_os = "linux")]
        libc::SIGBUS => info.si_code == BUS_ADRERR,
        #[cfg(not(target_os = "linux"))]
        libc::SIGBUS => is_synchronous(info),
        _ => false,
    };
    // SAFETY: these codes come with an address.
    ours.then(|| unsafe { info.si_addr() }.addr())
}

/// Whether the kernel raised a signal for what the thread itself did.
fn is_synchronous(info: &siginfo_t) -> bool {
    (1..FIRST_PROCESS_CODE).contains(&info.si_code)
}

#[cfg(all(test, not(loom), not(any(miri, pagewise_model))))]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_others_can_send_interrupts_a_thread_that_holds_pages() {
        let is_blocked = |signal| {
            // SAFETY: asking only fills the set.
            unsafe {
                let mut set = std::mem::zeroed();
                libc::pthread_sigmask(libc::SIG_SETMASK, ptr::null(), &mut set);
                libc::sigismember(&set, signal) == 1
            }
        };
        let signals = [
            libc::SIGUSR1,
            libc::SIGALRM,
            libc::SIGABRT,
            libc::SIGTRAP,
            libc::SIGFPE,
            libc::SIGILL,
            libc::SIGCHLD,
        ];
        uninterrupted(|| assert!(signals.iter().all(|&signal| is_blocked(signal))));
        assert!(!signals.iter().any(|&signal| is_blocked(signal)));
        uninterrupted(|| assert!(!SIGNALS.iter().any(|&signal| is_blocked(signal))));
    }
}
