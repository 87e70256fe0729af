//! Copies that return an error when a page fault inside them is refused.
//!
//! Each copy is an assembly function without calls (a leaf). The handler knows the offsets of its accessing
//! instructions and of its *landing*. When a fault at one of them is refused, the handler writes the reason
//! to the [`Refusal`] whose address the leaf keeps in a register, and sets the program counter to the
//! landing, which returns the number of bytes that are left. No unwinding, no `longjmp`, no thread-local
//! state.

use std::mem::MaybeUninit;

use crate::error::{AccessError, Refusal};
use crate::os::{self, Access};

/// Copies `len` bytes. A refused fault on either side ends it early.
///
/// # Safety
/// Every byte of `from` can be read and every byte of `to` written, or it lies in a registered range. The two do not
/// overlap.
pub(crate) unsafe fn copy(to: *mut u8, from: *const u8, len: usize) -> Result<(), AccessError> {
    if cfg!(any(miri, pagewise_model)) {
        os::expect_access(from, len, Access::Read);
        os::expect_access(to, len, Access::ReadWrite);
        // SAFETY: without page faults, the caller has made both ranges accessible.
        unsafe { std::ptr::copy_nonoverlapping(from, to, len) };
        return Ok(());
    }
    let mut refusal = MaybeUninit::uninit();
    // SAFETY: the caller's promise; the leaf touches nothing else.
    let left = unsafe { imp::pagewise_guarded_copy(to, from, len, refusal.as_mut_ptr()) };
    // SAFETY: where bytes are left, the handler wrote the refusal before it went to the landing.
    unsafe { result(len, left, refusal) }
}

/// Writes `len` bytes of the same value. A refused fault ends it early.
///
/// # Safety
/// Every byte of the range can be written, or lies in a registered range.
pub(crate) unsafe fn fill(to: *mut u8, value: u8, len: usize) -> Result<(), AccessError> {
    if cfg!(any(miri, pagewise_model)) {
        os::expect_access(to, len, Access::ReadWrite);
        // SAFETY: as in `copy`.
        unsafe { to.write_bytes(value, len) };
        return Ok(());
    }
    let mut refusal = MaybeUninit::uninit();
    // SAFETY: the caller's promise; the leaf touches nothing else.
    let left = unsafe { imp::pagewise_guarded_fill(to, value.into(), len, refusal.as_mut_ptr()) };
    // SAFETY: where bytes are left, the handler wrote the refusal before it went to the landing.
    unsafe { result(len, left, refusal) }
}

/// # Safety
/// Where anything is left, the handler has written the refusal.
unsafe fn result(
    len: usize,
    left: usize,
    refusal: MaybeUninit<Refusal>,
) -> Result<(), AccessError> {
    if left == 0 {
        return Ok(());
    }
    // SAFETY: the caller's promise.
    Err(AccessError { copied: len - left, refusal: unsafe { refusal.assume_init() } })
}

/// The landing of the guarded copy that has an access at `pc`; `None` if `pc` is elsewhere.
pub(super) fn landing(pc: usize) -> Option<usize> {
    let copy = imp::pagewise_guarded_copy as *const () as usize;
    let fill = imp::pagewise_guarded_fill as *const () as usize;
    [(copy, imp::COPY), (fill, imp::FILL)].into_iter().find_map(|(start, leaf)| {
        leaf.accesses.contains(&pc.wrapping_sub(start)).then_some(start + leaf.landing)
    })
}

/// Offsets in a leaf, in bytes from its start. Not labels in the assembly, which would be global symbols: two
/// versions of this library in one program would clash.
struct Leaf {
    /// The instructions that touch guarded memory.
    accesses: std::ops::Range<usize>,
    /// Returns how many bytes are left.
    landing: usize,
}

#[cfg(target_arch = "x86_64")]
mod imp {
    use std::arch::naked_asm;

    use super::{Leaf, Refusal};

    pub(super) const COPY: Leaf = Leaf { accesses: 6..8, landing: 8 };
    pub(super) const FILL: Leaf = Leaf { accesses: 8..10, landing: 10 };

    /// `rep movsb` keeps the exact number of bytes that are left in rcx whenever it is interrupted, and microcode
    /// makes it as fast as a loop. The refusal's address stays in r8, where the handler finds it. On Windows, too,
    /// these functions have the System V calling convention, so that one body serves every system.
    ///
    /// # Safety
    /// See [`copy`](super::copy).
    #[unsafe(naked)]
    pub(super) unsafe extern "sysv64" fn pagewise_guarded_copy(
        to: *mut u8,
        from: *const u8,
        len: usize,
        refusal: *mut Refusal,
    ) -> usize {
        naked_asm!("mov r8, rcx", "mov rcx, rdx", "rep movsb", "mov rax, rcx", "ret")
    }

    /// # Safety
    /// See [`fill`](super::fill).
    #[unsafe(naked)]
    pub(super) unsafe extern "sysv64" fn pagewise_guarded_fill(
        to: *mut u8,
        value: u32,
        len: usize,
        refusal: *mut Refusal,
    ) -> usize {
        naked_asm!(
            "mov r8, rcx",
            "mov rcx, rdx",
            "mov eax, esi",
            "rep stosb",
            "mov rax, rcx",
            "ret"
        )
    }

    #[test]
    fn the_access_is_where_the_leaf_says() {
        for (leaf, start, last_byte) in [
            (COPY, pagewise_guarded_copy as *const u8, 0xa4),
            (FILL, pagewise_guarded_fill as *const u8, 0xaa),
        ] {
            // SAFETY: code is readable, and the leaf is longer than this.
            let access = unsafe { start.add(leaf.accesses.start).cast::<[u8; 2]>().read() };
            assert_eq!(access, [0xf3, last_byte]);
            assert_eq!(leaf.landing, leaf.accesses.end);
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod imp {
    use std::arch::naked_asm;

    use super::{Leaf, Refusal};

    const INSTRUCTION: usize = 4;
    pub(super) const COPY: Leaf =
        Leaf { accesses: INSTRUCTION..19 * INSTRUCTION, landing: 19 * INSTRUCTION };
    pub(super) const FILL: Leaf =
        Leaf { accesses: 4 * INSTRUCTION..17 * INSTRUCTION, landing: 17 * INSTRUCTION };

    /// A loop of single bytes for what is unaligned, and of eight bytes where both sides are
    /// aligned: an aligned access never straddles a page, so that x2, the number of bytes that are
    /// left, is exact wherever a fault ends the loop. The refusal's address stays in x3.
    ///
    /// # Safety
    /// See [`copy`](super::copy).
    #[unsafe(naked)]
    pub(super) unsafe extern "C" fn pagewise_guarded_copy(
        to: *mut u8,
        from: *const u8,
        len: usize,
        refusal: *mut Refusal,
    ) -> usize {
        naked_asm!(
            "cbz x2, 4f",
            "1: orr x5, x0, x1",
            "tst x5, #7",
            "b.ne 3f",
            "2: cmp x2, #8",
            "b.lo 3f",
            "ldr x4, [x1]",
            "str x4, [x0]",
            "add x1, x1, #8",
            "add x0, x0, #8",
            "subs x2, x2, #8",
            "b.ne 2b",
            "b 4f",
            "3: ldrb w4, [x1]",
            "strb w4, [x0]",
            "add x1, x1, #1",
            "add x0, x0, #1",
            "subs x2, x2, #1",
            "b.ne 1b",
            "4: mov x0, x2",
            "ret",
        )
    }

    /// # Safety
    /// See [`fill`](super::fill).
    #[unsafe(naked)]
    pub(super) unsafe extern "C" fn pagewise_guarded_fill(
        to: *mut u8,
        value: u32,
        len: usize,
        refusal: *mut Refusal,
    ) -> usize {
        naked_asm!(
            "cbz x2, 4f",
            "and x4, x1, #0xff",
            "mov x5, #0x0101010101010101",
            "mul x4, x4, x5",
            "1: tst x0, #7",
            "b.ne 3f",
            "2: cmp x2, #8",
            "b.lo 3f",
            "str x4, [x0]",
            "add x0, x0, #8",
            "subs x2, x2, #8",
            "b.ne 2b",
            "b 4f",
            "3: strb w4, [x0]",
            "add x0, x0, #1",
            "subs x2, x2, #1",
            "b.ne 1b",
            "4: mov x0, x2",
            "ret",
        )
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!(
    "pagewise does not know this processor: src/fault/guarded.rs needs its two guarded copies, and \
     the handler files need to read its program counter"
);
