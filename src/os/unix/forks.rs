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
    is_told: AtomicBool::new(true),
};

/// What tells this process from its ancestors. Invariant: it lives for ever.
static SELF: AtomicPtr<Wiped> = AtomicPtr::new((&raw const KEPT).cast_mut());

fn of_this_process() -> &'static Wiped {
    // SAFETY: the invariant.
    unsafe { &*SELF.load(Ordering::Acquire) }
}

/// A number that differs from those of this process's ancestors, as far as [`watch_forks`] was called in them. A child
/// that was not told of its fork finds zero, and takes its number here.
#[inline]
pub(crate) fn forks() -> usize {
    match of_this_process().forks.load(Ordering::Relaxed) {
        0 => take_a_number(),
        number => number,
    }
}

#[cold]
#[inline(never)] // the fault handler has little stack
fn take_a_number() -> usize {
    let next = TOLD.fetch_add(1, Ordering::Relaxed) + 1;
    let forks = &of_this_process().forks;
    // Of several threads, one sets it.
    match forks.compare_exchange(0, next, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => next,
        Err(number) => number,
    }
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
    call_missed_handlers();
    if WATCHED.load(Ordering::Acquire) {
        return Ok(());
    }
    if ptr::eq(of_this_process(), &raw const KEPT)
        && let Some(wiped) = os::wiped_in_children()
    {
        wiped.forks.store(TOLD.load(Ordering::Relaxed), Ordering::Relaxed);
        wiped.is_told.store(true, Ordering::Relaxed);
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
    of_this_process().is_told.store(true, Ordering::Relaxed);
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

/// In a child that was not told of its fork: does once what would have been done then. Async-signal-safe.
#[inline]
pub(crate) fn call_missed_handlers() {
    if !of_this_process().is_told.load(Ordering::Relaxed) {
        call_handlers_late();
    }
}

#[cold]
#[inline(never)] // the fault handler has little stack
fn call_handlers_late() {
    if !of_this_process().is_told.swap(true, Ordering::AcqRel) {
        IS_LATE.store(true, Ordering::Relaxed);
        call_handlers();
    }
}

/// Whether this process was told of its fork later than it happened: by now, it may have other mappings where its parent had
/// some that it does not have.
pub(crate) fn was_told_late() -> bool {
    IS_LATE.load(Ordering::Relaxed)
}

static IS_LATE: AtomicBool = AtomicBool::new(false);
