//! macOS and iOS on AArch64: the context points at the thread state that the kernel saved.

use crate::error::Refusal;

pub(in super::super) type Context = libc::ucontext_t;

// SAFETY (all of these): the kernel's context points at its own machine context.
pub(in super::super) fn program_counter(context: &Context) -> usize {
    // SAFETY: see above.
    unsafe { (*context.uc_mcontext).__ss.__pc as usize }
}

pub(in super::super) fn set_program_counter(context: &mut Context, pc: usize) {
    // SAFETY: see above.
    unsafe { (*context.uc_mcontext).__ss.__pc = pc as u64 };
}

pub(in super::super) fn stack_pointer(context: &Context) -> usize {
    // SAFETY: see above.
    unsafe { (*context.uc_mcontext).__ss.__sp as usize }
}

pub(in super::super) fn set_stack_pointer(context: &mut Context, sp: usize) {
    // SAFETY: see above.
    unsafe { (*context.uc_mcontext).__ss.__sp = sp as u64 };
}

pub(in super::super) fn refusal(context: &Context) -> *mut Refusal {
    // SAFETY: see above.
    unsafe { (*context.uc_mcontext).__ss.__x[3] as usize as *mut Refusal }
}

/// Bit 6 of the exception syndrome: the access was a write.
pub(in super::super) fn is_write(context: &Context) -> Option<bool> {
    // SAFETY: see above.
    Some(unsafe { (*context.uc_mcontext).__es.__esr } >> 6 & 1 != 0)
}
