//! Telling AddressSanitizer, where a program has it, that frames of the stack are gone.

use std::ops::Range;

/// Makes the addresses of discarded frames usable again.
///
/// AddressSanitizer marks the space between the variables of a frame, and the frame's own return clears the marks:
/// those of frames that never return would be found by later frames at the same addresses. Where it keeps variables
/// elsewhere than on the stack (`detect_stack_use_after_return`), it takes them back after `handle_no_return`.
#[inline]
pub(super) fn forget_frames(frames: Range<usize>) {
    // Longer ones are no stack: the access was on another stack than the attempt, which nobody can tell.
    const LONGEST_STACK: usize = 1 << 28;
    if let Some((unpoison, handle_no_return)) = imp::functions() {
        // SAFETY: the sanitizer's own functions, of these signatures; they change nothing but its marks.
        unsafe {
            if frames.len() < LONGEST_STACK {
                unpoison(frames.start, frames.len());
            }
            handle_no_return();
        }
    }
}

type Unpoison = unsafe extern "C" fn(usize, usize);
type HandleNoReturn = unsafe extern "C" fn();

#[cfg(target_os = "linux")]
mod imp {
    use std::arch::asm;
    use std::mem::transmute;

    use super::{HandleNoReturn, Unpoison};

    /// The address of a weak symbol: null in a program that does not have it.
    macro_rules! weak {
        ($symbol:literal) => {{
            let address: usize;
            // SAFETY: reads an entry of the global offset table.
            #[cfg(target_arch = "x86_64")]
            unsafe {
                asm!(
                    concat!(".weak ", $symbol),
                    concat!("mov {}, qword ptr [rip + ", $symbol, "@GOTPCREL]"),
                    out(reg) address,
                    options(nostack, preserves_flags, readonly),
                );
            }
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            unsafe {
                asm!(
                    concat!(".weak ", $symbol),
                    concat!("adrp {0}, :got:", $symbol),
                    concat!("ldr {0}, [{0}, :got_lo12:", $symbol, "]"),
                    out(reg) address,
                    options(nostack, preserves_flags, readonly),
                );
            }
            address
        }};
    }

    #[inline]
    pub(super) fn functions() -> Option<(Unpoison, HandleNoReturn)> {
        let unpoison = weak!("__asan_unpoison_memory_region");
        let handle_no_return = weak!("__asan_handle_no_return");
        // SAFETY: the symbols are functions of these signatures, or null.
        unsafe {
            let unpoison: Option<Unpoison> = transmute(unpoison);
            let handle_no_return: Option<HandleNoReturn> = transmute(handle_no_return);
            unpoison.zip(handle_no_return)
        }
    }
}

/// Not told on these systems.
#[cfg(not(target_os = "linux"))]
mod imp {
    pub(super) fn functions() -> Option<(super::Unpoison, super::HandleNoReturn)> {
        None
    }
}
