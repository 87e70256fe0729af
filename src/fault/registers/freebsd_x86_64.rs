//! FreeBSD on x86-64: `mcontext_t` of `<machine/ucontext.h>`.

use crate::error::Refusal;

pub(in super::super) type Context = libc::ucontext_t;

/// Bit 1 of the x86 page fault error code: the access was a write.
const WRITE: u64 = 2;

pub(in super::super) fn program_counter(context: &Context) -> usize {
    context.uc_mcontext.mc_rip as usize
}

pub(in super::super) fn set_program_counter(context: &mut Context, pc: usize) {
    context.uc_mcontext.mc_rip = pc as _;
}

pub(in super::super) fn stack_pointer(context: &Context) -> usize {
    context.uc_mcontext.mc_rsp as usize
}

pub(in super::super) fn set_stack_pointer(context: &mut Context, sp: usize) {
    context.uc_mcontext.mc_rsp = sp as _;
}

pub(in super::super) fn refusal(context: &Context) -> *mut Refusal {
    context.uc_mcontext.mc_r8 as usize as *mut Refusal
}

pub(in super::super) fn is_write(context: &Context) -> Option<bool> {
    Some(context.uc_mcontext.mc_err as u64 & WRITE != 0)
}
