//! Telling AddressSanitizer, where a program has it, that frames of the stack are gone.

use std::ops::Range;

/// Makes the addresses of discarded frames usable again. AddressSanitizer marks the space between the variables
/// of a frame, and the frame's own return clears the marks: those of frames that never return would be found by
/// later frames at the same addresses.
#[inline]
pub(super) fn forget_frames(frames: Range<usize>) {
    // Longer ones are no stack: the access was on another stack than the attempt, which nobody can tell.
    const LONGEST_STACK: usize = 1 << 28;
    if let Some(unpoison) = imp::unpoison_memory_region()
        && frames.len() < LONGEST_STACK
    {
        // SAFETY: the sanitizer's own function, of this signature; it changes nothing but marks.
        unsafe { unpoison(frames.start, frames.len()) };
    }
}

type Unpoison = unsafe extern "C" fn(usize, usize);

#[cfg(target_os = "linux")]
mod imp {
    use std::arch::asm;
    use std::mem::transmute;

    /// A weak symbol: its address is null in a program without the sanitizer.
    #[inline]
    pub(super) fn unpoison_memory_region() -> Option<super::Unpoison> {
        let address: usize;
        // SAFETY: reads an entry of the global offset table.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            asm!(
                ".weak __asan_unpoison_memory_region",
                "mov {}, qword ptr [rip + __asan_unpoison_memory_region@GOTPCREL]",
                out(reg) address,
                options(nostack, preserves_flags, readonly),
            );
        }
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        unsafe {
            asm!(
                ".weak __asan_unpoison_memory_region",
                "adrp {0}, :got:__asan_unpoison_memory_region",
                "ldr {0}, [{0}, :got_lo12:__asan_unpoison_memory_region]",
                out(reg) address,
                options(nostack, preserves_flags, readonly),
            );
        }
        // SAFETY: the symbol is a function of this signature, or null.
        unsafe { transmute::<usize, Option<super::Unpoison>>(address) }
    }
}

/// Not told on these systems.
#[cfg(not(target_os = "linux"))]
mod imp {
    pub(super) fn unpoison_memory_region() -> Option<super::Unpoison> {
        None
    }
}
