//! Running code that a refused access ends: what `__try` and `__except` are in C.
//!
//! [`attempt`] notes where its own frame is, and calls the closure. A refused access of the same thread then ends
//! with the handler setting the interrupted thread's stack pointer and program counter to that frame's *landing*
//! (see [`leaf`]), and returning. The return from the handler is the system's own, so that the signal mask and
//! the alternate stack become what they were at the access. Nothing is unwound.

use std::any::Any;
use std::ffi::c_void;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::atomic::Ordering;

use super::registers;
use crate::error::Refusal;

mod leaf;
mod sanitizer;
mod threads;

#[cfg(unix)]
pub(super) use threads::forget_other_threads;

/// One running [`attempt`], on its thread's stack.
///
/// Invariant: while it is in the list of its thread's record, its leaf's frame is on the stack at `stack_pointer`,
/// and `outer` is the attempt around it, or null.
#[repr(C)]
struct Attempt {
    outer: *mut Attempt,
    /// Where the leaf saved what its caller keeps in registers.
    stack_pointer: usize,
    /// The instruction that restores it.
    landing: usize,
    /// The stack pointer of the access that was refused.
    left_at: usize,
    /// Written by the handler.
    refusal: MaybeUninit<Refusal>,
}

/// Runs a closure, and returns the refusal if an access inside it is refused, however deep: C's `__try` and
/// `__except`.
///
/// `Ok` has what the closure returned. `Err` means that this thread touched a page of a
/// [`DemandRegion`](crate::DemandRegion) that a limit, a filter or the system refused: nothing of the closure runs
/// after that access, whichever function it was in. A refused access outside of every attempt ends the process;
/// inside an attempt nothing is written to stderr. In statistics and events it counts as any refused fault.
///
/// Attempts nest, and the innermost one of the thread gets the refusal. Where the access is in a call of
/// [`read`](crate::DemandRegion::read), [`write`](crate::DemandRegion::write) or
/// [`fill`](crate::DemandRegion::fill), that call returns it as its own error. Faults outside of every region go
/// where they go without an attempt. A panic of the closure goes on in the caller.
///
/// A refused access costs the delivery of a signal, without a system call more; an attempt in which nothing is
/// refused costs a few nanoseconds, and no system call.
///
/// # What is as before
/// - The signal mask and the alternate signal stack are as they were at the refused access: as before the attempt,
///   unless the closure changed them.
/// - The registers that a call preserves, the stack pointer, and the control bits of the floating point unit
///   (x86-64: `MXCSR` and the x87 control word; AArch64: `FPCR`) are as before the attempt. On x86-64, the
///   direction flag is clear and the x87 register stack is empty. Shadow stacks of Linux (x86-64 and AArch64)
///   are followed.
/// - `errno` (Windows: the last error) is as it was at the refused access.
/// - What the closure wrote to memory before stays written.
///
/// # Safety
/// A refused access discards every frame between it and the attempt, as `longjmp` does. So, at each access in the
/// closure that may be refused:
///
/// - No frame in between has a destructor to run: no `Box`, `Vec`, `MutexGuard`, no borrow of a `RefCell`, and no
///   scope (`std::thread::scope`, `rayon`) that waits for others. A value that the closure *captured* by move is
///   leaked; that is safe, but it is never dropped.
/// - No function in between is in the middle of a change that it must complete: it holds no lock, and leaves no
///   data half-changed that anybody uses afterwards. That includes functions of libraries (an allocator, stdio)
///   which touch the region.
/// - No frame in between is that of a signal handler, of a panic's unwinding, or of a callback from a language
///   that does not allow its frames to be discarded.
/// - The closure returns or panics on the stack and the thread on which it began: it does not switch to a
///   coroutine that may resume elsewhere, and does not leave by `longjmp` past the attempt. No foreign exception
///   leaves it, and no `pthread_exit`.
/// - It is not called in a signal handler, unless the thread has made an attempt before: the first one of each
///   thread allocates.
/// - On AArch64, no access that may be refused happens in streaming mode (SME).
///
/// Calls of pagewise itself satisfy these rules. Plain loads, stores, loops over slices, `copy_from_slice`,
/// `memcpy` and functions that only do these do, too.
///
/// ```
/// use pagewise::{DemandRegion, RefusalReason, fault, page_size};
///
/// let mut region = DemandRegion::builder(1 << 30).limit(4 * page_size()).build()?;
/// let bytes = region.as_mut_slice();
/// // SAFETY: nothing in the closure has a destructor or holds a lock.
/// let refused = unsafe {
///     fault::attempt(|| bytes.iter_mut().step_by(page_size()).for_each(|byte| *byte = 7))
/// };
/// let refused = refused.unwrap_err();
/// assert_eq!(refused.offset, 4 * page_size());
/// assert!(matches!(refused.reason, RefusalReason::Limit { .. }));
/// assert_eq!(region.as_slice()[3 * page_size()], 7);
/// # Ok::<(), pagewise::Error>(())
/// ```
#[inline]
pub unsafe fn attempt<R>(body: impl FnOnce() -> R) -> Result<R, Refusal> {
    if cfg!(any(miri, pagewise_model)) {
        return Ok(body()); // There are no page faults here.
    }
    let mut call = Call { body: ManuallyDrop::new(body), result: MaybeUninit::uninit() };
    let (run, data) = (call.trampoline(), (&raw mut call).cast());
    // SAFETY: the trampoline is of this very call. What it may skip is the caller's promise.
    match unsafe { ended_by_refusal(run, data) } {
        Some(refusal) => Err(refusal),
        // SAFETY: the trampoline has returned, so that it has stored a result.
        None => match unsafe { call.result.assume_init() } {
            Ok(value) => Ok(value),
            Err(panic) => resume_unwind(panic),
        },
    }
}

/// A closure on its way through the leaf, which knows no types.
struct Call<F, R> {
    body: ManuallyDrop<F>,
    result: MaybeUninit<Result<R, Box<dyn Any + Send>>>,
}

type Trampoline = unsafe extern "C" fn(*mut c_void);

impl<F: FnOnce() -> R, R> Call<F, R> {
    fn trampoline(&self) -> Trampoline {
        Self::run
    }

    /// # Safety
    /// `data` is a `Self` that was not run before.
    unsafe extern "C" fn run(data: *mut c_void) {
        // SAFETY: the caller's promise.
        let call = unsafe { &mut *data.cast::<Self>() };
        // SAFETY: taken once, and never dropped in its place.
        let body = unsafe { ManuallyDrop::take(&mut call.body) };
        // A panic ends here and goes on in the caller of `attempt`, since it cannot cross the leaf. The frame of
        // `catch_unwind` has nothing to clean up, so that a refused access may discard it.
        call.result.write(catch_unwind(AssertUnwindSafe(body)));
    }
}

/// Runs a trampoline as this thread's innermost attempt; returns the refusal that ended it.
///
/// # Safety
/// `data` is what `run` needs; and each frame between the call of `run` and a refused access may be discarded.
#[inline]
unsafe fn ended_by_refusal(run: Trampoline, data: *mut c_void) -> Option<Refusal> {
    threads::with_own(|thread| {
        let mut attempt = Attempt {
            outer: thread.innermost.load(Ordering::Relaxed),
            stack_pointer: 0,
            landing: 0,
            left_at: 0,
            refusal: MaybeUninit::uninit(),
        };
        // SAFETY: the attempt outlives the call, which enters it in the list and takes it out again; the rest is
        // the caller's promise.
        let ended = unsafe { leaf::pagewise_attempt(&mut attempt, &thread.innermost, run, data) };
        (ended != 0).then(|| {
            sanitizer::forget_frames(attempt.left_at..attempt.stack_pointer);
            // SAFETY: the leaf returns nonzero only from its landing, and the handler writes the refusal before
            // it sends a thread there.
            unsafe { attempt.refusal.assume_init() }
        })
    })
}

/// Ends the innermost attempt of this thread by redirecting the thread to its landing; `false` where it is in
/// none. Called by the handler, on the interrupted thread. Async-signal-safe.
pub(super) fn leave(refusal: &Refusal, context: &mut registers::Context) -> bool {
    let Some(thread) = threads::own() else { return false };
    let innermost = thread.innermost.load(Ordering::Relaxed);
    if ptr::eq(innermost, ptr::null()) {
        return false;
    }
    // SAFETY: by the invariant of `Attempt`, since only its own thread changes the list, and that is this one.
    let attempt = unsafe { &mut *innermost };
    attempt.refusal.write(*refusal);
    attempt.left_at = registers::stack_pointer(context);
    thread.innermost.store(attempt.outer, Ordering::Relaxed);
    registers::set_stack_pointer(context, attempt.stack_pointer);
    registers::set_program_counter(context, attempt.landing);
    true
}
