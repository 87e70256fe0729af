//! Linux on AArch64: `ucontext_t`, and behind it records that the kernel adds.

use crate::error::Refusal;

pub(in super::super) type Context = libc::ucontext_t;

pub(in super::super) fn program_counter(context: &Context) -> usize {
    context.uc_mcontext.pc as usize
}

pub(in super::super) fn set_program_counter(context: &mut Context, pc: usize) {
    context.uc_mcontext.pc = pc as _;
}

pub(in super::super) fn stack_pointer(context: &Context) -> usize {
    context.uc_mcontext.sp as usize
}

pub(in super::super) fn set_stack_pointer(context: &mut Context, sp: usize) {
    context.uc_mcontext.sp = sp as _;
}

pub(in super::super) fn refusal(context: &Context) -> *mut Refusal {
    context.uc_mcontext.regs[3] as usize as *mut Refusal
}

/// The kernel adds a record with the exception syndrome, whose bit 6 says "write".
pub(in super::super) fn is_write(context: &Context) -> Option<bool> {
    const ESR_MAGIC: u32 = 0x4553_5201;
    const RESERVED: usize = 4096;
    // The records follow the general registers, aligned to 16 bytes.
    let after = (&raw const context.uc_mcontext.pstate).wrapping_add(1);
    let start = after.map_addr(|address| address.next_multiple_of(16)).cast::<u8>();
    let mut at = 0;
    while at + 16 <= RESERVED {
        // SAFETY: the kernel lays records out in the reserved space, one behind the other:
        // magic, size, payload; an empty one ends them.
        let (magic, size, syndrome) = unsafe {
            let record = start.add(at);
            let head = record.cast::<[u32; 2]>().read();
            (head[0], head[1] as usize, record.add(8).cast::<u64>().read())
        };
        match (magic, size) {
            (ESR_MAGIC, _) => return Some(syndrome >> 6 & 1 != 0),
            (0, _) | (_, 0) => return None,
            _ => at += size,
        }
    }
    None
}
