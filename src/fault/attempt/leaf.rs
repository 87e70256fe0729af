//! The frame that an attempt comes back to: an assembly function for each processor.
//!
//! It saves what its caller keeps in registers, notes in the [`Attempt`] where it saved that and where its landing
//! is, makes the attempt the thread's innermost one, and calls the trampoline. It returns 0 where the trampoline
//! returned. The handler that ends the attempt has set the stack pointer to the note, and taken the attempt out of
//! the list; the landing then restores what the caller keeps, and returns 1.
//!
//! The control bits of the floating point unit are restored, since a function leaves them as it found them, and
//! the trampoline did not get the chance. The unwind tables are for debuggers, profilers, and exceptions that cross
//! the frame on Windows.

use std::ffi::c_void;
use std::mem::offset_of;
use std::sync::atomic::AtomicPtr;

use super::{Attempt, Trampoline};

pub(super) use imp::pagewise_attempt;

const OUTER: usize = offset_of!(Attempt, outer);
const STACK_POINTER: usize = offset_of!(Attempt, stack_pointer);
const LANDING: usize = offset_of!(Attempt, landing);

#[cfg(target_arch = "x86_64")]
mod imp {
    use std::arch::naked_asm;

    use super::*;

    /// Saves a register, and says so in the unwind tables. (Addresses are relative to the stack pointer, which is
    /// right at the landing at once. The base pointer is not, until it is restored.)
    #[cfg(not(windows))]
    macro_rules! push {
        ($register:literal) => {
            concat!(
                "push ",
                $register,
                "\n.cfi_adjust_cfa_offset 8\n.cfi_rel_offset ",
                $register,
                ", 0"
            )
        };
    }
    #[cfg(windows)]
    macro_rules! push {
        ($register:literal) => {
            concat!("push ", $register, "\n.seh_pushreg ", $register)
        };
    }
    #[cfg(not(windows))]
    macro_rules! pop {
        ($register:literal) => {
            concat!("pop ", $register, "\n.cfi_adjust_cfa_offset -8\n.cfi_restore ", $register)
        };
    }
    #[cfg(windows)]
    macro_rules! pop {
        ($register:literal) => {
            concat!("pop ", $register)
        };
    }
    #[cfg(not(windows))]
    macro_rules! unwind {
        (begin) => {
            ".cfi_startproc /* {this} */" // named, since only Windows needs the name
        };
        (allocated) => {
            ".cfi_adjust_cfa_offset 56"
        };
        (freed) => {
            ".cfi_adjust_cfa_offset -56"
        };
        (end) => {
            ".cfi_endproc"
        };
    }
    #[cfg(windows)]
    macro_rules! unwind {
        (begin) => {
            ".seh_proc {this}"
        };
        (allocated) => {
            ".seh_stackalloc 56\n.seh_endprologue"
        };
        (freed) => {
            ""
        };
        (end) => {
            ".seh_endproc"
        };
    }

    /// The System V convention on every system: Windows' own keeps more in registers, which the caller then saves.
    /// The trampoline has the system's convention: its argument is in rdi or rcx, and 32 bytes are left for it on
    /// the stack. Above these are MXCSR, the x87 control word, and the pointer of the shadow stack (zero where
    /// there is none: `rdssp` does nothing then).
    ///
    /// # Safety
    /// The attempt's `outer` is what `innermost` holds, which is the list of this thread. `run` may be called with
    /// `data`, and the frames of what it calls may be discarded where an access is refused.
    #[unsafe(naked)]
    pub(in super::super) unsafe extern "sysv64" fn pagewise_attempt(
        attempt: *mut Attempt,
        innermost: *const AtomicPtr<Attempt>,
        run: Trampoline,
        data: *mut c_void,
    ) -> u32 {
        naked_asm!(
            unwind!(begin),
            push!("rbp"),
            "mov rbp, rsp",
            push!("rbx"),
            push!("r12"),
            push!("r13"),
            push!("r14"),
            push!("r15"),
            "sub rsp, 56",
            unwind!(allocated),
            "stmxcsr [rsp + 32]",
            "fnstcw [rsp + 36]",
            "xor eax, eax",
            "rdsspq rax",
            "mov [rsp + 40], rax",
            "lea rax, [rip + 2f]",
            "mov [rdi + {LANDING}], rax",
            "mov [rdi + {STACK_POINTER}], rsp",
            "mov rbx, rdi",
            "mov r12, rsi",
            "mov [rsi], rdi",
            "mov rdi, rcx",
            "call rdx",
            "mov rax, [rbx + {OUTER}]",
            "mov [r12], rax",
            "xor eax, eax",
            "jmp 6f",
            // The landing.
            "2: cld",
            "fninit", // empties the register stack, and drops exceptions that are pending
            "fldcw [rsp + 36]",
            "ldmxcsr [rsp + 32]",
            "xor eax, eax",
            "rdsspq rax",
            "test rax, rax",
            "jz 5f",
            // Drops the return addresses of the discarded frames, up to 255 at a time.
            "mov rcx, [rsp + 40]",
            "sub rcx, rax",
            "shr rcx, 3",
            "3: jz 5f",
            "mov edx, 255",
            "cmp rcx, rdx",
            "cmovb rdx, rcx",
            "incsspq rdx",
            "sub rcx, rdx",
            "jmp 3b",
            "5: mov eax, 1",
            "6: add rsp, 56",
            unwind!(freed),
            pop!("r15"),
            pop!("r14"),
            pop!("r13"),
            pop!("r12"),
            pop!("rbx"),
            pop!("rbp"),
            "ret",
            unwind!(end),
            LANDING = const LANDING,
            STACK_POINTER = const STACK_POINTER,
            OUTER = const OUTER,
            this = sym pagewise_attempt,
        )
    }
}

#[cfg(target_arch = "aarch64")]
mod imp {
    use std::arch::naked_asm;

    use super::*;

    /// Saves or restores a pair of registers at an offset of the frame, and says so in the unwind tables.
    #[cfg(not(windows))]
    macro_rules! pair {
        (save $kind:ident $first:literal, $second:literal, $at:literal, $above:literal) => {
            concat!(
                "stp ",
                $first,
                ", ",
                $second,
                ", [sp, #",
                $at,
                "]\n.cfi_rel_offset ",
                $first,
                ", ",
                $at,
                "\n.cfi_rel_offset ",
                $second,
                ", ",
                $above
            )
        };
        (restore $kind:ident $first:literal, $second:literal, $at:literal) => {
            concat!(
                "ldp ",
                $first,
                ", ",
                $second,
                ", [sp, #",
                $at,
                "]\n.cfi_restore ",
                $first,
                "\n.cfi_restore ",
                $second
            )
        };
    }
    #[cfg(windows)]
    macro_rules! pair {
        (save $kind:ident $first:literal, $second:literal, $at:literal, $above:literal) => {
            concat!(
                "stp ",
                $first,
                ", ",
                $second,
                ", [sp, #",
                $at,
                "]\n.seh_save_",
                stringify!($kind),
                " ",
                $first,
                ", ",
                $at
            )
        };
        (restore $kind:ident $first:literal, $second:literal, $at:literal) => {
            concat!(
                "ldp ",
                $first,
                ", ",
                $second,
                ", [sp, #",
                $at,
                "]\n.seh_save_",
                stringify!($kind),
                " ",
                $first,
                ", ",
                $at
            )
        };
    }
    #[cfg(not(windows))]
    macro_rules! unwind {
        (begin) => {
            ".cfi_startproc /* {this} */" // named, since only Windows needs the name
        };
        (pushed) => {
            ".cfi_def_cfa_offset 192\n.cfi_rel_offset x29, 0\n.cfi_rel_offset x30, 8"
        };
        (saved) => {
            ""
        };
        (epilogue) => {
            ""
        };
        (popped) => {
            ".cfi_def_cfa_offset 0\n.cfi_restore x29\n.cfi_restore x30"
        };
        (end) => {
            ".cfi_endproc"
        };
    }
    #[cfg(windows)]
    macro_rules! unwind {
        (begin) => {
            ".seh_proc {this}"
        };
        (pushed) => {
            ".seh_save_fplr_x 192"
        };
        (saved) => {
            ".seh_endprologue"
        };
        (epilogue) => {
            ".seh_startepilogue"
        };
        (popped) => {
            ".seh_save_fplr_x 192\n.seh_endepilogue"
        };
        (end) => {
            ".seh_endproc"
        };
    }

    /// Keeps the pairs of registers that a function preserves, FPCR, and the pointer of the guarded control stack,
    /// zero where there is none: `chkfeat x16` (a hint, which older processors ignore) clears bit 0 of x16 where
    /// it is in use.
    ///
    /// # Safety
    /// The attempt's `outer` is what `innermost` holds, which is the list of this thread. `run` may be called with
    /// `data`, and the frames of what it calls may be discarded where an access is refused.
    #[unsafe(naked)]
    pub(in super::super) unsafe extern "C" fn pagewise_attempt(
        attempt: *mut Attempt,
        innermost: *const AtomicPtr<Attempt>,
        run: Trampoline,
        data: *mut c_void,
    ) -> u32 {
        naked_asm!(
            unwind!(begin),
            "stp x29, x30, [sp, #-192]!",
            unwind!(pushed),
            pair!(save regp "x19", "x20", 16, 24),
            pair!(save regp "x21", "x22", 32, 40),
            pair!(save regp "x23", "x24", 48, 56),
            pair!(save regp "x25", "x26", 64, 72),
            pair!(save regp "x27", "x28", 80, 88),
            pair!(save fregp "d8", "d9", 96, 104),
            pair!(save fregp "d10", "d11", 112, 120),
            pair!(save fregp "d12", "d13", 128, 136),
            pair!(save fregp "d14", "d15", 144, 152),
            unwind!(saved),
            "mov x29, sp",
            "mrs x9, fpcr",
            "mov x10, xzr",
            "mov x16, #1",
            "hint #40", // chkfeat x16
            "cbnz x16, 2f",
            "mrs x10, s3_3_c2_c5_1", // GCSPR_EL0
            "2: stp x9, x10, [sp, #160]",
            "adr x9, 4f",
            "str x9, [x0, #{LANDING}]",
            "mov x9, sp",
            "str x9, [x0, #{STACK_POINTER}]",
            "mov x19, x0",
            "mov x20, x1",
            "str x0, [x1]",
            "mov x0, x3",
            "blr x2",
            "ldr x9, [x19, #{OUTER}]",
            "str x9, [x20]",
            "mov w0, #0",
            "b 6f",
            // The landing.
            "4: hint #38", // bti jc: the access may have been the first instruction behind a branch
            "ldp x9, x10, [sp, #160]",
            "msr fpcr, x9",
            "mov w0, #1",
            "cbz x10, 6f",
            // Drops the return addresses of the discarded frames.
            "5: mrs x9, s3_3_c2_c5_1",
            "cmp x9, x10",
            "b.eq 6f",
            "sysl xzr, #3, c7, c7, #1", // GCSPOPM
            "b 5b",
            "6:",
            unwind!(epilogue),
            pair!(restore fregp "d14", "d15", 144),
            pair!(restore fregp "d12", "d13", 128),
            pair!(restore fregp "d10", "d11", 112),
            pair!(restore fregp "d8", "d9", 96),
            pair!(restore regp "x27", "x28", 80),
            pair!(restore regp "x25", "x26", 64),
            pair!(restore regp "x23", "x24", 48),
            pair!(restore regp "x21", "x22", 32),
            pair!(restore regp "x19", "x20", 16),
            "ldp x29, x30, [sp], #192",
            unwind!(popped),
            "ret",
            unwind!(end),
            LANDING = const LANDING,
            STACK_POINTER = const STACK_POINTER,
            OUTER = const OUTER,
            this = sym pagewise_attempt,
        )
    }
}
