//! macOS on x86-64: the context points at the thread state that the kernel saved.

use crate::error::Refusal;

pub(in super::super) type Context = libc::ucontext_t;

/// Bit 1 of the x86 page fault error code: the access was a write.
const WRITE: u64 = 2;

// SAFETY (all of these): the kernel's context points at its own machine context.
pub(in super::super) fn program_counter(context: &Context) -> usize {
    // SAFETY: see above.
    unsafe { (*context.uc_mcontext).__ss.__rip as usize }
}

pub(in super::super) fn set_program_counter(context: &mut Context, pc: usize) {
    // SAFETY: see above.
    unsafe { (*context.uc_mcontext).__ss.__rip = pc as u64 };
}

pub(in super::super) fn stack_pointer(context: &Context) -> usize {
    // SAFETY: see above.
    unsafe { (*context.uc_mcontext).__ss.__rsp as usize }
}

pub(in super::super) fn set_stack_pointer(context: &mut Context, sp: usize) {
    // SAFETY: see above.
    unsafe { (*context.uc_mcontext).__ss.__rsp = sp as u64 };
}

pub(in super::super) fn refusal(context: &Context) -> *mut Refusal {
    // SAFETY: see above.
    unsafe { (*context.uc_mcontext).__ss.__r8 as usize as *mut Refusal }
}

pub(in super::super) fn is_write(context: &Context) -> Option<bool> {
    // SAFETY: see above.
    Some(unsafe { u64::from((*context.uc_mcontext).__es.__err) } & WRITE != 0)
}
