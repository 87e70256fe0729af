//! Noticing that this process is the child of a fork.

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use super::super as os;
use os::{OsError, Wiped};

/// The number of the last process of this line that was told of its fork.
static TOLD: AtomicUsize = AtomicUsize::new(FIRST);
const FIRST: usize = 1;

/// Where no memory is wiped, and until it is asked for.
static KEPT: Wiped = Wiped {
    forks: AtomicUsize::new(FIRST),
    mark: AtomicU64::new(0),
    knows: AtomicBool::new(false),
};

/// What tells this process from its ancestors. Invariant: it lives for ever.
static SELF: AtomicPtr<Wiped> = AtomicPtr::new((&raw const KEPT).cast_mut());

fn of_this_process() -> &'static Wiped {
    // SAFETY: the invariant.
    unsafe { &*SELF.load(Ordering::Acquire) }
}

/// A number that differs from those of this process's ancestors, as far as [`watch_forks`] was called in them. A child
/// that was not told of its fork has zero.
pub(crate) fn forks() -> usize {
    of_this_process().forks.load(Ordering::Relaxed)
}

/// What [`call_in_children`] was given: a function, or null.
static IN_CHILDREN: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());

/// From now on, [`forks`] tells children from their parents.
/// [`pthread_atfork(3)`](https://man7.org/linux/man-pages/man3/pthread_atfork.3.html)
///
/// A fork that another thread has begun may not call what is registered now: glibc (from 2.28 on) decides first which
/// functions it is going to call. Its child finds the number zero (see `wiped_in_children`).
pub(crate) fn watch_forks() -> Result<(), OsError> {
    static WATCHED: AtomicBool = AtomicBool::new(false);
    if WATCHED.load(Ordering::Acquire) {
        return Ok(());
    }
    if ptr::eq(of_this_process(), &raw const KEPT)
        && let Some(wiped) = os::wiped_in_children()
    {
        // (Set before it counts, and not again: in a child that was not told, it stays zero.)
        wiped.forks.store(TOLD.load(Ordering::Relaxed), Ordering::Relaxed);
        SELF.store(ptr::from_ref(wiped).cast_mut(), Ordering::Release);
    }
    // Two threads at once may register `forked` twice. Then each fork counts as two, and the function of
    // `call_in_children` is called twice, which does no harm: what the first call repaired is not broken any more.
    // SAFETY: the function is as `pthread_atfork` wants it, and lives as long as the program.
    match unsafe { libc::pthread_atfork(None, None, Some(forked)) } {
        0 => {
            WATCHED.store(true, Ordering::Release);
            Ok(())
        }
        error => Err(OsError(error)),
    }
}

/// Has `work` called in every child from now on, before the program's code runs there and after [`forks`] has changed.
/// `work` is async-signal-safe, and the same function in every call. Needs [`watch_forks`].
pub(crate) fn call_in_children(work: fn()) {
    IN_CHILDREN.store(work as *mut (), Ordering::Release);
}

unsafe extern "C" fn forked() {
    let number = TOLD.fetch_add(1, Ordering::Relaxed) + 1;
    of_this_process().forks.store(number, Ordering::Relaxed);
    call_handlers();
}

fn call_handlers() {
    os::forget_parent();
    let work = IN_CHILDREN.load(Ordering::Acquire);
    if !work.is_null() {
        // SAFETY: only `call_in_children` stores here, and it stores such functions.
        let work: fn() = unsafe { std::mem::transmute(work) };
        work();
    }
}

/// In a child that was not told of its fork: does once what would have been done then. (Its number stays zero: it may
/// hold locks by it.) Async-signal-safe.
#[cold]
#[inline(never)] // the fault handler has little stack
pub(crate) fn call_missed_handlers() {
    if forks() == 0 && !of_this_process().knows.swap(true, Ordering::AcqRel) {
        call_handlers();
    }
}
