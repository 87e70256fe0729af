//! errno (or the last error) and every register are the same after a fault as before.
#![cfg(not(pagewise_model))]

use crate::common::{page_by_page, poke};

#[test]
fn the_error_code_is_preserved() {
    let region = page_by_page(4);
    let limited = pagewise::DemandRegion::builder(1 << 20).limit(0).build().unwrap();
    let mut byte = [0];
    for code in [0, 1, 4711] {
        set_error(code);
        poke(region.as_ptr().wrapping_add(code as usize % 4 * pagewise::page_size()), 1);
        assert_eq!(error(), code);
        set_error(code);
        let refused = limited.read(0, &mut byte);
        assert_eq!(error(), code);
        refused.unwrap_err();
    }
    assert_eq!(region.stats().faults, 3);
}

/// The same where the commit fails in the handler, which gets an error code of its own.
#[test]
#[cfg(target_os = "linux")]
fn the_error_code_is_preserved_when_the_system_refuses() {
    if crate::common::sanitized() {
        return crate::common::not_here("what the system refuses (the sanitizer needs memory)");
    }
    crate::common::in_a_process("the_error_code_is_preserved_when_the_system_refuses", || {
        let mut region = page_by_page(1 << 14);
        region.commit(..pagewise::page_size()).unwrap();
        if !no_more_data() {
            return crate::common::not_here("a system that refuses memory (the emulator does not)");
        }
        set_error(4711);
        let refused = region.fill(.., 1);
        assert_eq!(error(), 4711);
        assert!(matches!(refused.unwrap_err().refusal.reason, pagewise::RefusalReason::System(_)));
    })
    .well();
}

#[cfg(target_os = "linux")]
fn no_more_data() -> bool {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a plain call with a valid limit.
    unsafe { libc::setrlimit(libc::RLIMIT_DATA, &none) };
    let probe = pagewise::Reservation::new(1).unwrap();
    probe.commit(..).is_err()
}

#[cfg(target_os = "linux")]
fn errno() -> *mut i32 {
    // SAFETY: a plain call.
    unsafe { libc::__errno_location() }
}

#[cfg(target_vendor = "apple")]
fn errno() -> *mut i32 {
    // SAFETY: a plain call.
    unsafe { libc::__error() }
}

#[cfg(target_os = "freebsd")]
fn errno() -> *mut i32 {
    // SAFETY: a plain call.
    unsafe { libc::__error() }
}

#[cfg(unix)]
fn set_error(code: i32) {
    // SAFETY: the thread's own.
    unsafe { *errno() = code };
}

#[cfg(unix)]
fn error() -> i32 {
    // SAFETY: the thread's own.
    unsafe { *errno() }
}

#[cfg(windows)]
fn set_error(code: i32) {
    // SAFETY: a plain call.
    unsafe { windows_sys::Win32::Foundation::SetLastError(code as u32) };
}

#[cfg(windows)]
fn error() -> i32 {
    // SAFETY: a plain call.
    unsafe { windows_sys::Win32::Foundation::GetLastError() as i32 }
}

/// Fills registers, stores through a pointer that faults, and reads the registers back.
#[test]
#[cfg(target_arch = "x86_64")]
fn all_registers_are_preserved() {
    let region = page_by_page(64);
    for page in 0..64 {
        let at = region.as_ptr().wrapping_add(page * pagewise::page_size());
        let (mut general, mut vector, mut flags) = ([0u64; 8], [[0u64; 2]; 8], 0u64);
        let seed = 0x0123_4567_89ab_cdef_u64.rotate_left(page as u32);
        // SAFETY: the store is to a page of the region; everything that is changed is declared.
        unsafe {
            std::arch::asm!(
                "mov rax, r11",
                "mov r8, rax", "rol r8, 1", "mov r9, rax", "rol r9, 2", "mov r12, rax", "rol r12, 3",
                "mov r13, rax", "rol r13, 4",
                "movq xmm0, rax", "punpcklqdq xmm0, xmm0", "movdqa xmm7, xmm0", "paddq xmm7, xmm0",
                "movq xmm15, r8", "punpcklqdq xmm15, xmm0",
                "stc",
                "mov byte ptr [rdi], 1",
                "pushfq", "pop rcx",
                "mov [rsi], rax", "mov [rsi + 8], r8", "mov [rsi + 16], r9", "mov [rsi + 24], r12",
                "mov [rsi + 32], r13", "mov [rsi + 40], r11",
                "movdqu [rdx], xmm0", "movdqu [rdx + 16], xmm7", "movdqu [rdx + 32], xmm15",
                in("rdi") at, in("rsi") &raw mut general, in("rdx") &raw mut vector,
                in("r11") seed, out("rcx") flags, out("rax") _, out("r8") _, out("r9") _,
                out("r12") _, out("r13") _, out("xmm0") _, out("xmm7") _, out("xmm15") _,
            );
        }
        let rolled = |by| seed.rotate_left(by);
        assert_eq!(general[..6], [seed, rolled(1), rolled(2), rolled(3), rolled(4), seed]);
        assert_eq!(vector[0], [seed; 2]);
        assert_eq!(vector[1], [seed.wrapping_mul(2); 2]);
        assert_eq!(vector[2], [rolled(1), seed]);
        assert_eq!(flags & 1, 1, "carry");
    }
    assert_eq!(region.stats().faults, 64);
}

/// The upper halves of the vector registers, which a signal frame keeps apart from the lower ones.
#[test]
#[cfg(target_arch = "x86_64")]
fn wide_vector_registers_are_preserved() {
    if !std::is_x86_feature_detected!("avx") {
        return crate::common::not_here("AVX registers (this processor has none)");
    }
    let region = page_by_page(16);
    for page in 0..16u64 {
        let at = region.as_ptr().wrapping_add(page as usize * pagewise::page_size());
        let (value, mut seen) = ([page + 1, !page, page << 40, 0x5555], [0u64; 4]);
        // SAFETY: AVX is there; the store is to a page of the region.
        unsafe {
            std::arch::asm!(
                "vmovdqu ymm3, [{value}]",
                "mov byte ptr [{at}], 1",
                "vmovdqu [{seen}], ymm3",
                value = in(reg) &raw const value, at = in(reg) at, seen = in(reg) &raw mut seen,
                out("ymm3") _,
            );
        }
        assert_eq!(seen, value);
    }
    assert_eq!(region.stats().faults, 16);
}

#[test]
#[cfg(target_arch = "aarch64")]
fn all_registers_are_preserved() {
    let region = page_by_page(64);
    for page in 0..64 {
        let at = region.as_ptr().wrapping_add(page * pagewise::page_size());
        let (mut general, mut vector, mut flags) = ([0u64; 4], [0u64; 4], 0u64);
        let seed = 0x0123_4567_89ab_cdef_u64.rotate_left(page as u32);
        // SAFETY: the store is to a page of the region; everything that is changed is declared.
        unsafe {
            std::arch::asm!(
                "mov x9, x3", "ror x10, x3, #1", "ror x16, x3, #2", "ror x17, x3, #3",
                "dup v0.2d, x9", "dup v31.2d, x10",
                "cmp xzr, xzr",
                "strb w9, [x0]",
                "mrs x4, nzcv",
                "stp x9, x10, [x1]", "stp x16, x17, [x1, #16]",
                "str q0, [x2]", "str q31, [x2, #16]",
                in("x0") at, in("x1") &raw mut general, in("x2") &raw mut vector, in("x3") seed,
                out("x4") flags, out("x9") _, out("x10") _, out("x16") _, out("x17") _,
                out("v0") _, out("v31") _,
            );
        }
        let rolled = |by| seed.rotate_right(by);
        assert_eq!(general, [seed, rolled(1), rolled(2), rolled(3)]);
        assert_eq!(vector, [seed, seed, rolled(1), rolled(1)]);
        assert_eq!(flags >> 28, 0b0110, "zero and carry");
    }
    assert_eq!(region.stats().faults, 64);
}
