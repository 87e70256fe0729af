//! The signal handler: SIGSEGV and SIGBUS.
//!
//! Order of work: the kernel sent it? the address is ours? serve it, and return; else be invisible.
//! Nothing here allocates, locks, panics, formats, or touches thread-local state before the range
//! check (errno is saved only after it).

use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use libc::{sigaction, siginfo_t, sigset_t};

use super::{Fault, Outcome, REGISTRY, guarded, report};
use crate::error::Error;
use crate::sync::SpinLock;

const SIGNALS: [c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];

/// Codes from here on say on BSD systems that a process sent the signal (`SI_USER` and others);
/// Linux uses zero and negative numbers for that.
const FIRST_PROCESS_CODE: c_int = 0x10000;

/// The Unix signature of a three-argument signal handler.
type Action = unsafe extern "C" fn(c_int, *mut siginfo_t, *mut c_void);

pub(super) fn install() -> Result<(), Error> {
    static DONE: AtomicBool = AtomicBool::new(false);
    if DONE.load(Ordering::Acquire) {
        return Ok(());
    }
    // Registered before `after_fork`, so that it runs before it: what is repaired there asks which process
    // this is.
    crate::os::watch_forks()
        .map_err(|error| Error::System { operation: "pthread_atfork", source: error.into() })?;
    let _changing = changing();
    if DONE.load(Ordering::Relaxed) {
        return Ok(());
    }
    // First: a fork must never happen between a region and this. And once only, also where a handler
    // could not be installed the first time.
    static FORKS: AtomicBool = AtomicBool::new(false);
    if !FORKS.load(Ordering::Relaxed) {
        // SAFETY: the function is as `pthread_atfork` wants it, and lives as long as the program.
        let result = unsafe { libc::pthread_atfork(None, None, Some(after_fork)) };
        if result != 0 {
            let source = std::io::Error::from_raw_os_error(result);
            return Err(Error::System { operation: "pthread_atfork", source });
        }
        FORKS.store(true, Ordering::Relaxed);
    }
    put_in_front()?;
    DONE.store(true, Ordering::Release);
    Ok(())
}

/// Held by whoever changes signal actions here.
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

unsafe extern "C" fn after_fork() {
    crate::reservation::end_abandoned_changes();
    REGISTRY.after_fork_in_child();
}

pub(super) fn reinstall() -> Result<(), Error> {
    install()?;
    let _changing = changing();
    put_in_front()
}

pub(super) fn is_displaced() -> bool {
    SIGNALS.iter().any(|&signal| !current(signal).is_ok_and(|action| is_ours(&action)))
}

/// For the holder of [`changing`].
fn put_in_front() -> Result<(), Error> {
    for (signal, predecessors) in SIGNALS.into_iter().zip(&PREDECESSORS) {
        let action = current(signal)?;
        if is_ours(&action) {
            continue;
        }
        // Saved before ours can run: it may be needed by the first fault.
        predecessors.push(action)?;
        let replaced = set(signal, &ours())?;
        if !is_ours(&replaced) && replaced.sa_sigaction != action.sa_sigaction {
            // Somebody else came in between, and saved the same action as we did.
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

/// `SA_NODEFER`: a fault inside a handler that we forward to reaches us again. Everything that is
/// asynchronous stays out while ours runs, so that nobody can interrupt it and wait for what it holds.
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

/// All signals but those that this library's own instructions and system calls may raise: the kernel kills
/// a process that blocks such a one. An access may fault, and a filter of system calls may send SIGSYS.
/// (SIGABRT, SIGTRAP, SIGFPE and SIGILL come from others while our code runs, as `kill` sends them;
/// `abort` unblocks its own.)
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

/// Runs `work` with asynchronous signals blocked. While a thread holds pages that a fault may wait
/// for, no signal handler may run on it: it could fault on those very pages and wait for itself.
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

unsafe extern "C" fn handler(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel, or a handler before us that behaves like it, passes valid pointers.
    unsafe {
        if !try_handle(signal, info, context) {
            hand_on(signal, info, context);
        }
    }
}

/// Serves a fault for a host that owns the signal itself: true if it was ours, and the handler is to
/// return.
///
/// A host that keeps its own SIGSEGV and SIGBUS handlers calls this first, and goes on with its own
/// work when it says `false`. Before that, [`install`](super::install) has run (every
/// [`DemandRegion`](crate::DemandRegion) sees to it), and the host's handlers have replaced ours, with
/// `SA_SIGINFO`, and preferably `SA_ONSTACK` and `SA_NODEFER`. Async-signal-safe.
///
/// A refused plain access (past a limit, outside of `read`, `write` and `fill`) writes its line to
/// stderr and returns `false`: it is then the host's to end.
///
/// # Safety
/// To be called from a signal handler only, with its own three arguments.
///
/// ```
/// use std::ffi::{c_int, c_void};
///
/// unsafe extern "C" fn host_handler(
///     signal: c_int,
///     info: *mut libc::siginfo_t,
///     context: *mut c_void,
/// ) {
///     if unsafe { pagewise::fault::try_handle(signal, info, context) } {
///         return;
///     }
///     // The host's own faults.
///     std::process::abort();
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
pub unsafe fn try_handle(signal: c_int, info: *mut siginfo_t, context: *mut c_void) -> bool {
    // SAFETY: the caller's promise.
    let Some(address) = (unsafe { faulting_address(signal, &*info) }) else { return false };
    // SAFETY: the caller's promise: the context is the kernel's.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    if machine::program_counter(context) == address {
        // A jump into a region: memory that was never executable is not to be committed for it.
        return false;
    }
    let fault = Fault { address, write: machine::is_write(context) };
    match super::serve(fault) {
        None | Some(Outcome::NotOurs) => false,
        Some(Outcome::Resolved) => true,
        Some(Outcome::Refused(refusal)) => {
            match guarded::landing(machine::program_counter(context)) {
                Some(landing) => {
                    // SAFETY: the thread is inside a guarded copy, whose register holds the address of a
                    // refusal that lives until the copy returns.
                    unsafe { *machine::refusal(context) = refusal };
                    machine::set_program_counter(context, landing);
                    true
                }
                None => {
                    report(&refusal);
                    false
                }
            }
        }
    }
}

/// The address of an access fault that the kernel found, if the signal is one.
///
/// After `kill` and its kin the address field holds whatever the sender put there: only the code
/// tells. Codes beyond the plain ones (protection keys, memory tags, hardware errors) are not ours.
fn faulting_address(signal: c_int, info: &siginfo_t) -> Option<usize> {
    #[cfg(target_os = "linux")]
    const BUS_ADRERR: c_int = 2;
    let ours = match signal {
        libc::SIGSEGV => matches!(info.si_code, 1 | 2),
        #[cfg(target_os = "linux")]
        libc::SIGBUS => info.si_code == BUS_ADRERR,
        #[cfg(not(target_os = "linux"))]
        libc::SIGBUS => is_synchronous(info),
        _ => false,
    };
    // SAFETY: these codes come with an address.
    ours.then(|| unsafe { info.si_addr() }.addr())
}

fn is_synchronous(info: &siginfo_t) -> bool {
    (1..FIRST_PROCESS_CODE).contains(&info.si_code)
}

/// Whatever the interrupted code does with errno, it does not see our calls in it.
pub(super) fn preserving_error_code<R>(work: impl FnOnce() -> R) -> R {
    // SAFETY: errno's place is the thread's own.
    unsafe {
        let place = machine::errno();
        let saved = *place;
        let result = work();
        *place = saved;
        result
    }
}

/// The handlers that were there before, oldest first: one, unless we were displaced and put ourselves
/// back. Entries below `count` are complete and never change.
struct Predecessors {
    count: AtomicUsize,
    entries: [Predecessor; 8],
}

struct Predecessor {
    action: UnsafeCell<MaybeUninit<sigaction>>,
    /// Set when an `SA_RESETHAND` handler had its one call, or the predecessor itself went back to
    /// the default while it was called.
    is_default: AtomicBool,
    /// The thread (as `pthread_self` names it) that it was called on last and has not returned from,
    /// or 0; and where that thread's stack was.
    called_on: AtomicUsize,
    called_at: AtomicUsize,
    /// It has sent itself the signal again, and is asked no more.
    gave_up: AtomicBool,
}

impl Predecessor {
    const fn new() -> Self {
        Self {
            action: UnsafeCell::new(MaybeUninit::uninit()),
            is_default: AtomicBool::new(false),
            called_on: AtomicUsize::new(0),
            called_at: AtomicUsize::new(0),
            gave_up: AtomicBool::new(false),
        }
    }
}

// SAFETY: an action is written by `push` alone, for the holder of `changing`, before `count` makes it readable.
unsafe impl Sync for Predecessor {}

static PREDECESSORS: [Predecessors; 2] = [const { Predecessors::new() }; 2];

impl Predecessors {
    const fn new() -> Self {
        Self { count: AtomicUsize::new(0), entries: [const { Predecessor::new() }; 8] }
    }

    fn of(signal: c_int) -> &'static Self {
        &PREDECESSORS[usize::from(signal == libc::SIGBUS)]
    }

    /// For the holder of [`changing`].
    fn push(&self, action: sigaction) -> Result<(), Error> {
        let count = self.count.load(Ordering::Relaxed);
        if let Some((entry, last)) = count.checked_sub(1).and_then(|last| self.get(last)) {
            // The same handler again: it has our place in its chain already.
            if last.sa_sigaction == action.sa_sigaction && action.sa_sigaction > libc::SIG_IGN {
                entry.is_default.store(false, Ordering::Relaxed);
                entry.gave_up.store(false, Ordering::Relaxed);
                return Ok(());
            }
        }
        let Some(entry) = self.entries.get(count) else {
            return Err(Error::Unsupported {
                what: "so many handlers in turn: one that displaces ours again and again must call \
                       `fault::try_handle` instead",
            });
        };
        // SAFETY: the entry lies behind `count`: nobody reads it yet.
        unsafe { (*entry.action.get()).write(action) };
        self.count.store(count + 1, Ordering::Release);
        Ok(())
    }

    /// `None` for an index from `count` onwards.
    fn get(&self, index: usize) -> Option<(&Predecessor, &sigaction)> {
        if index >= self.count.load(Ordering::Acquire) {
            return None;
        }
        let entry = self.entries.get(index)?;
        // SAFETY: the index is below `count`, so that the entry is complete.
        Some((entry, unsafe { (*entry.action.get()).assume_init_ref() }))
    }
}

/// Gives a fault or signal that is not ours to the handler before us, as the kernel would have.
#[cold]
#[inline(never)]
unsafe fn hand_on(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let predecessors = Predecessors::of(signal);
    let count = predecessors.count.load(Ordering::Acquire);
    // SAFETY: `info` is valid.
    let rounds = unsafe { Rounds::of(info, count) };
    // SAFETY: has no preconditions.
    let this_thread = unsafe { libc::pthread_self() } as usize;
    // SAFETY: `info` is valid.
    let was_sent = !unsafe { is_synchronous(&*info) };
    let mut left = count.saturating_sub(rounds.done);
    let (entry, action) = loop {
        let Some((entry, action)) = left.checked_sub(1).and_then(|last| predecessors.get(last))
        else {
            // There is nobody (left) before us.
            return take_default(signal, info);
        };
        // A handler may end by putting back what it saved, which is us where it once displaced us,
        // and sending itself the signal again (CPython's faulthandler does): it means the one before.
        // (One that left by a jump is not under way any more: the stack is above it again.)
        let under_way = entry.called_on.load(Ordering::Relaxed) == this_thread
            && context.addr() < entry.called_at.load(Ordering::Relaxed);
        if was_sent && count > 1 && under_way {
            entry.gave_up.store(true, Ordering::Relaxed);
        }
        if entry.gave_up.load(Ordering::Relaxed) {
            left -= 1;
            continue;
        }
        break (entry, action);
    };
    match action.sa_sigaction {
        libc::SIG_DFL => take_default(signal, info),
        _ if entry.is_default.load(Ordering::Relaxed) => take_default(signal, info),
        // The kernel lets nobody ignore a fault: the instruction would fault for ever.
        libc::SIG_IGN if !was_sent => take_default(signal, info),
        libc::SIG_IGN => {}
        _ => {
            if action.sa_flags & libc::SA_RESETHAND != 0 {
                entry.is_default.store(true, Ordering::Relaxed);
            }
            rounds.next();
            entry.called_at.store(context.addr(), Ordering::Relaxed);
            entry.called_on.store(this_thread, Ordering::Relaxed);
            // SAFETY: the action is a handler, with the signature that its flags say.
            unsafe { call(action, signal, info, context) };
            entry.called_on.store(0, Ordering::Relaxed);
            rounds.back();
            if was_sent {
                keep_our_place(signal, entry);
            }
        }
    }
}

/// How often this very signal came back to us from a handler that had saved us as its predecessor.
/// Counted in the signal's own record, which is the kernel's fresh copy for this delivery, because
/// the handler may leave by a jump: whatever we kept elsewhere would be stale then. Only where there
/// is more than one predecessor, so that usually nobody sees it.
struct Rounds {
    counter: Option<*mut c_int>,
    done: usize,
}

impl Rounds {
    const MARK: c_int = 0x7061_6700;

    /// # Safety
    /// `info` is valid as long as the result is used.
    unsafe fn of(info: *mut siginfo_t, predecessors: usize) -> Self {
        if predecessors < 2 {
            return Self { counter: None, done: 0 };
        }
        // SAFETY: the caller's promise.
        let counter = unsafe { &raw mut (*info).si_errno };
        // SAFETY: as above.
        let value = unsafe { *counter };
        let done = if value & !0xff == Self::MARK { (value & 0xff) as usize } else { 0 };
        Self { counter: Some(counter), done }
    }

    fn next(&self) {
        self.set(Self::MARK | (self.done + 1) as c_int);
    }

    fn back(&self) {
        self.set(if self.done == 0 { 0 } else { Self::MARK | self.done as c_int });
    }

    fn set(&self, value: c_int) {
        if let Some(counter) = self.counter {
            // SAFETY: the record outlives the handler that looks at it.
            unsafe { *counter = value };
        }
    }
}

/// The default, and its core dump, should show the faulting instruction: so a fault goes back to it,
/// and finds the default in place. A signal that was sent is sent again.
fn take_default(signal: c_int, info: *mut siginfo_t) {
    // SAFETY: plain calls on a valid record; all-zero is the default action.
    unsafe {
        let mut action: sigaction = std::mem::zeroed();
        action.sa_sigaction = libc::SIG_DFL;
        libc::sigaction(signal, &action, ptr::null_mut());
        if !is_synchronous(&*info) {
            libc::raise(signal);
        }
    }
}

/// Calls a handler with the mask and the signature that it was installed with.
///
/// # Safety
/// The action holds a function, of the signature that its flags say.
unsafe fn call(action: &sigaction, signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the context is the kernel's; masks are plain data; the handler is what it says.
    unsafe {
        let mut mask = (*context.cast::<libc::ucontext_t>()).uc_sigmask;
        for other in 1..=64 {
            if libc::sigismember(&action.sa_mask, other) == 1 {
                libc::sigaddset(&mut mask, other);
            }
        }
        if action.sa_flags & libc::SA_NODEFER == 0 {
            libc::sigaddset(&mut mask, signal);
        }
        let mut before = MaybeUninit::uninit();
        libc::pthread_sigmask(libc::SIG_SETMASK, &mask, before.as_mut_ptr());
        if action.sa_flags & libc::SA_SIGINFO != 0 {
            let handler: Action = std::mem::transmute(action.sa_sigaction);
            handler(signal, info, context);
        } else {
            let handler: extern "C" fn(c_int) = std::mem::transmute(action.sa_sigaction);
            handler(signal);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut());
    }
}

/// After a signal that was sent: a handler that answered it by going back to the default (as Rust's
/// own does, which takes it for a fault that will come again) meant itself, not us. It has the
/// default from now on; we stay, or the next commit would kill the process.
fn keep_our_place(signal: c_int, entry: &Predecessor) {
    // SAFETY: plain calls on valid actions.
    unsafe {
        let mut now = MaybeUninit::<sigaction>::uninit();
        let asked = libc::sigaction(signal, ptr::null(), now.as_mut_ptr());
        if asked == 0 && now.assume_init_ref().sa_sigaction == libc::SIG_DFL {
            entry.is_default.store(true, Ordering::Relaxed);
            libc::sigaction(signal, &ours(), ptr::null_mut());
        }
    }
}

/// Where the registers are.
mod machine {
    use super::super::Refusal;
    use libc::ucontext_t;
    use std::ffi::c_int;

    pub(super) use registers::{is_write, program_counter, refusal, set_program_counter};

    /// # Safety
    /// None; the pointer is the thread's own.
    pub(super) unsafe fn errno() -> *mut c_int {
        // SAFETY: has no preconditions.
        unsafe {
            #[cfg(target_os = "linux")]
            return libc::__errno_location();
            #[cfg(not(target_os = "linux"))]
            return libc::__error();
        }
    }

    /// Bit 1 of the x86 page fault error code: the access was a write.
    #[cfg(target_arch = "x86_64")]
    const WRITE: u64 = 2;

    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    mod registers {
        use super::*;

        pub(in super::super) fn program_counter(context: &ucontext_t) -> usize {
            context.uc_mcontext.gregs[libc::REG_RIP as usize] as usize
        }

        pub(in super::super) fn set_program_counter(context: &mut ucontext_t, pc: usize) {
            context.uc_mcontext.gregs[libc::REG_RIP as usize] = pc as _;
        }

        pub(in super::super) fn refusal(context: &ucontext_t) -> *mut Refusal {
            context.uc_mcontext.gregs[libc::REG_R8 as usize] as usize as *mut Refusal
        }

        pub(in super::super) fn is_write(context: &ucontext_t) -> Option<bool> {
            Some(context.uc_mcontext.gregs[libc::REG_ERR as usize] as u64 & WRITE != 0)
        }
    }

    #[cfg(all(target_os = "linux", target_arch = "aarch64"))]
    mod registers {
        use super::*;

        pub(in super::super) fn program_counter(context: &ucontext_t) -> usize {
            context.uc_mcontext.pc as usize
        }

        pub(in super::super) fn set_program_counter(context: &mut ucontext_t, pc: usize) {
            context.uc_mcontext.pc = pc as _;
        }

        pub(in super::super) fn refusal(context: &ucontext_t) -> *mut Refusal {
            context.uc_mcontext.regs[3] as usize as *mut Refusal
        }

        /// The kernel adds a record with the exception syndrome, whose bit 6 says "write".
        pub(in super::super) fn is_write(context: &ucontext_t) -> Option<bool> {
            const ESR_MAGIC: u32 = 0x4553_5201;
            const RESERVED: usize = 4096;
            // The records follow the general registers, aligned to 16 bytes.
            let after = (&raw const context.uc_mcontext.pstate).wrapping_add(1);
            let start = after.map_addr(|address| address.next_multiple_of(16)).cast::<u8>();
            let mut at = 0;
            while at + 16 <= RESERVED {
                // SAFETY: the kernel lays records out in the reserved space, one behind the other:
                // magic, size, payload; an empty one ends them.
                let (magic, size, syndrome) = unsafe {
                    let record = start.add(at);
                    let head = record.cast::<[u32; 2]>().read();
                    (head[0], head[1] as usize, record.add(8).cast::<u64>().read())
                };
                match (magic, size) {
                    (ESR_MAGIC, _) => return Some(syndrome >> 6 & 1 != 0),
                    (0, _) | (_, 0) => return None,
                    _ => at += size,
                }
            }
            None
        }
    }

    #[cfg(all(any(target_os = "macos", target_os = "ios"), target_arch = "x86_64"))]
    mod registers {
        use super::*;

        // SAFETY (all four): the kernel's context points at its own machine context.
        pub(in super::super) fn program_counter(context: &ucontext_t) -> usize {
            // SAFETY: see above.
            unsafe { (*context.uc_mcontext).__ss.__rip as usize }
        }

        pub(in super::super) fn set_program_counter(context: &mut ucontext_t, pc: usize) {
            // SAFETY: see above.
            unsafe { (*context.uc_mcontext).__ss.__rip = pc as u64 };
        }

        pub(in super::super) fn refusal(context: &ucontext_t) -> *mut Refusal {
            // SAFETY: see above.
            unsafe { (*context.uc_mcontext).__ss.__r8 as usize as *mut Refusal }
        }

        pub(in super::super) fn is_write(context: &ucontext_t) -> Option<bool> {
            // SAFETY: see above.
            Some(unsafe { u64::from((*context.uc_mcontext).__es.__err) } & WRITE != 0)
        }
    }

    #[cfg(all(any(target_os = "macos", target_os = "ios"), target_arch = "aarch64"))]
    mod registers {
        use super::*;

        // SAFETY (all four): the kernel's context points at its own machine context.
        pub(in super::super) fn program_counter(context: &ucontext_t) -> usize {
            // SAFETY: see above.
            unsafe { (*context.uc_mcontext).__ss.__pc as usize }
        }

        pub(in super::super) fn set_program_counter(context: &mut ucontext_t, pc: usize) {
            // SAFETY: see above.
            unsafe { (*context.uc_mcontext).__ss.__pc = pc as u64 };
        }

        pub(in super::super) fn refusal(context: &ucontext_t) -> *mut Refusal {
            // SAFETY: see above.
            unsafe { (*context.uc_mcontext).__ss.__x[3] as usize as *mut Refusal }
        }

        /// Bit 6 of the exception syndrome: the access was a write.
        pub(in super::super) fn is_write(context: &ucontext_t) -> Option<bool> {
            // SAFETY: see above.
            Some(unsafe { (*context.uc_mcontext).__es.__esr } >> 6 & 1 != 0)
        }
    }

    #[cfg(all(target_os = "freebsd", target_arch = "x86_64"))]
    mod registers {
        use super::*;

        pub(in super::super) fn program_counter(context: &ucontext_t) -> usize {
            context.uc_mcontext.mc_rip as usize
        }

        pub(in super::super) fn set_program_counter(context: &mut ucontext_t, pc: usize) {
            context.uc_mcontext.mc_rip = pc as _;
        }

        pub(in super::super) fn refusal(context: &ucontext_t) -> *mut Refusal {
            context.uc_mcontext.mc_r8 as usize as *mut Refusal
        }

        pub(in super::super) fn is_write(context: &ucontext_t) -> Option<bool> {
            Some(context.uc_mcontext.mc_err as u64 & WRITE != 0)
        }
    }

    #[cfg(all(target_os = "freebsd", target_arch = "aarch64"))]
    mod registers {
        use super::*;

        pub(in super::super) fn program_counter(context: &ucontext_t) -> usize {
            context.uc_mcontext.mc_gpregs.gp_elr as usize
        }

        pub(in super::super) fn set_program_counter(context: &mut ucontext_t, pc: usize) {
            context.uc_mcontext.mc_gpregs.gp_elr = pc as _;
        }

        pub(in super::super) fn refusal(context: &ucontext_t) -> *mut Refusal {
            context.uc_mcontext.mc_gpregs.gp_x[3] as usize as *mut Refusal
        }

        pub(in super::super) fn is_write(_: &ucontext_t) -> Option<bool> {
            None
        }
    }
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
