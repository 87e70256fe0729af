//! Linux on x86-64: `ucontext_t` of `<sys/ucontext.h>`, the general registers by their index.

use crate::error::Refusal;

pub(in super::super) type Context = libc::ucontext_t;

/// Bit 1 of the x86 page fault error code: the access was a write.
const WRITE: u64 = 2;

pub(in super::super) fn program_counter(context: &Context) -> usize {
    context.uc_mcontext.gregs[libc::REG_RIP as usize] as usize
}

pub(in super::super) fn set_program_counter(context: &mut Context, pc: usize) {
    context.uc_mcontext.gregs[libc::REG_RIP as usize] = pc as _;
}

pub(in super::super) fn stack_pointer(context: &Context) -> usize {
    context.uc_mcontext.gregs[libc::REG_RSP as usize] as usize
}

pub(in super::super) fn set_stack_pointer(context: &mut Context, sp: usize) {
    context.uc_mcontext.gregs[libc::REG_RSP as usize] = sp as _;
}

pub(in super::super) fn refusal(context: &Context) -> *mut Refusal {
    context.uc_mcontext.gregs[libc::REG_R8 as usize] as usize as *mut Refusal
}

pub(in super::super) fn is_write(context: &Context) -> Option<bool> {
    Some(context.uc_mcontext.gregs[libc::REG_ERR as usize] as u64 & WRITE != 0)
}
