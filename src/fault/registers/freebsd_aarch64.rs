//! FreeBSD on AArch64: `mcontext_t` of `<machine/ucontext.h>`.

use crate::error::Refusal;

pub(in super::super) type Context = libc::ucontext_t;

pub(in super::super) fn program_counter(context: &Context) -> usize {
    context.uc_mcontext.mc_gpregs.gp_elr as usize
}

pub(in super::super) fn set_program_counter(context: &mut Context, pc: usize) {
    context.uc_mcontext.mc_gpregs.gp_elr = pc as _;
}

pub(in super::super) fn stack_pointer(context: &Context) -> usize {
    context.uc_mcontext.mc_gpregs.gp_sp as usize
}

pub(in super::super) fn set_stack_pointer(context: &mut Context, sp: usize) {
    context.uc_mcontext.mc_gpregs.gp_sp = sp as _;
}

pub(in super::super) fn refusal(context: &Context) -> *mut Refusal {
    context.uc_mcontext.mc_gpregs.gp_x[3] as usize as *mut Refusal
}

pub(in super::super) fn is_write(_: &Context) -> Option<bool> {
    None
}
