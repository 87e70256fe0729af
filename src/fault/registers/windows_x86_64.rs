//! Windows on x86-64: `CONTEXT` of `winnt.h`.

use crate::error::Refusal;

pub(in super::super) type Context = windows_sys::Win32::System::Diagnostics::Debug::CONTEXT;

pub(in super::super) fn program_counter(context: &Context) -> usize {
    context.Rip as usize
}

pub(in super::super) fn set_program_counter(context: &mut Context, pc: usize) {
    context.Rip = pc as u64;
}

pub(in super::super) fn stack_pointer(context: &Context) -> usize {
    context.Rsp as usize
}

pub(in super::super) fn set_stack_pointer(context: &mut Context, sp: usize) {
    context.Rsp = sp as u64;
}

pub(in super::super) fn refusal(context: &Context) -> *mut Refusal {
    context.R8 as usize as *mut Refusal
}
