//! Windows on AArch64: `CONTEXT` of `winnt.h`.

use crate::error::Refusal;

pub(in super::super) type Context = windows_sys::Win32::System::Diagnostics::Debug::CONTEXT;

pub(in super::super) fn program_counter(context: &Context) -> usize {
    context.Pc as usize
}

pub(in super::super) fn set_program_counter(context: &mut Context, pc: usize) {
    context.Pc = pc as u64;
}

pub(in super::super) fn stack_pointer(context: &Context) -> usize {
    context.Sp as usize
}

pub(in super::super) fn set_stack_pointer(context: &mut Context, sp: usize) {
    context.Sp = sp as u64;
}

pub(in super::super) fn refusal(context: &Context) -> *mut Refusal {
    // SAFETY: both views of the registers are plain numbers.
    unsafe { context.Anonymous.X[3] as usize as *mut Refusal }
}
