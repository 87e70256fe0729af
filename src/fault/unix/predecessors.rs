//! The handlers that were installed before ours, which get each fault and signal that is not ours.

use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use libc::{sigaction, siginfo_t};

use super::{is_synchronous, ours, this_thread};
use crate::error::Error;

/// The Unix signature of a three-argument signal handler.
type Action = unsafe extern "C" fn(c_int, *mut siginfo_t, *mut c_void);

/// The handlers that were installed before ours, oldest first: one, and one more each time that another
/// handler displaced ours and `reinstall` put ours back. The actions of entries below `count` never change.
pub(super) struct Predecessors {
    count: AtomicUsize,
    entries: [Predecessor; MOST],
}

/// Most programs have one predecessor, or a few crash reporters. Those that displace ours again and again are one entry
/// as long as it is the same handler.
const MOST: usize = 8;

struct Predecessor {
    action: UnsafeCell<MaybeUninit<sigaction>>,
    /// The signal gets `SIG_DFL` from now on in place of this handler: it has `SA_RESETHAND` and was called,
    /// or it set `SIG_DFL` itself while it was called.
    is_default: AtomicBool,
    /// The thread (`pthread_self`) that is inside this handler, or was when it left by a jump; 0 for none.
    /// `called_at` is the address of the signal's context then, to tell how deep the stack was.
    called_on: AtomicUsize,
    called_at: AtomicUsize,
    /// The handler restored the action that it had saved (ours) and raised the signal again. It is skipped
    /// from then on.
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

pub(super) static PREDECESSORS: [Predecessors; 2] = [const { Predecessors::new() }; 2];

impl Predecessors {
    const fn new() -> Self {
        Self { count: AtomicUsize::new(0), entries: [const { Predecessor::new() }; MOST] }
    }

    fn of(signal: c_int) -> &'static Self {
        &PREDECESSORS[usize::from(signal == libc::SIGBUS)]
    }

    /// Appends a handler. The caller holds the lock of [`changing`](super::changing).
    pub(super) fn push(&self, action: sigaction) -> Result<(), Error> {
        let count = self.count.load(Ordering::Relaxed);
        if let Some((entry, last)) = count.checked_sub(1).and_then(|last| self.get(last)) {
            // The same handler again: it has an entry, which is in force again.
            if last.sa_sigaction == action.sa_sigaction {
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
        // SAFETY: the entry lies behind `count`, so no handler reads it yet.
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

/// Gives a fault or signal that is not ours to the handler that was installed before ours, as the kernel would have.
///
/// # Safety
/// The arguments are those of a signal handler.
#[cold]
#[inline(never)]
pub(super) unsafe fn hand_on(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let predecessors = Predecessors::of(signal);
    let count = predecessors.count.load(Ordering::Acquire);
    // SAFETY: `info` is valid.
    let rounds = unsafe { Rounds::of(info, count) };
    let this_thread = this_thread();
    // SAFETY: `info` is valid.
    let was_sent = !unsafe { is_synchronous(&*info) };
    let mut left = count.saturating_sub(rounds.done);
    let (entry, action) = loop {
        let Some((entry, action)) = left.checked_sub(1).and_then(|last| predecessors.get(last))
        else {
            return take_default(signal, info);
        };
        // CPython's faulthandler restores the action that it saved (ours, if it displaced us) and raises
        // the signal again. While it is still on this thread's stack, skip it and call the one before.
        // A handler that left by a jump is not on the stack any more: then the context lies above `called_at`.
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
        // The kernel does not honour SIG_IGN for a fault it raised: the instruction would fault for ever.
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

/// How often this delivery of a signal came back to our handler from one that had saved ours as its predecessor.
/// Counted in `si_errno` of the `siginfo_t`, which the kernel makes anew for each delivery: a count kept elsewhere
/// would be stale after a handler that leaves by a jump. Used only with more than one predecessor, so that handlers
/// see an unchanged record in the usual case.
struct Rounds {
    counter: Option<*mut c_int>,
    done: usize,
}

impl Rounds {
    /// "pag" in ASCII, above the count: no error number has this value.
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

/// Installs `SIG_DFL`. A fault then returns to its instruction, which faults again, so that the core dump
/// shows that instruction. A signal that a process sent is raised again.
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
        // Linux has 64 signals. Other systems have fewer, and say that the others are no members.
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

/// Called after a predecessor handled a signal that a process sent. Rust's handler takes such a signal for a fault that
/// will come again, and installs `SIG_DFL`, which displaces our handler: the next fault in a region would end the
/// process. So this records `SIG_DFL` as the action of that predecessor, and reinstalls our handler.
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
