//! `fault::attempt`: a refused access, however deep, ends the attempt with its refusal, and leaves the thread as it
//! was before.
#![cfg(not(pagewise_model))]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use pagewise::fault::attempt;
use pagewise::{Budget, CommitStep, DemandRegion, FaultOutcome, Refusal, RefusalReason, page_size};

use crate::common::{self, each_in_a_process, in_a_process, page_by_page, peek, poke};

/// A region of which `pages` pages may be committed, one at a time.
fn limited(pages: usize) -> DemandRegion {
    let page = page_size();
    let builder = DemandRegion::builder(64 * page).limit(pages * page);
    builder.step(CommitStep::page()).events(64).build().unwrap()
}

fn at(region: &DemandRegion, page: usize) -> *mut u8 {
    region.as_ptr().wrapping_add(page * page_size())
}

/// Touches a page from a depth of so many frames.
#[inline(never)]
fn touch_deep(frames: usize, place: *mut u8) -> usize {
    let local = std::hint::black_box([frames; 4]);
    if frames == 0 {
        poke(place, 1);
        return local[0];
    }
    // (Not a tail call: each frame has something to add.)
    touch_deep(frames - 1, place) + std::hint::black_box(&local)[1]
}

fn touch_refused(place: *mut u8) -> Refusal {
    // SAFETY: none of the frames has a destructor or holds a lock.
    unsafe { attempt(|| touch_deep(3, place)) }.unwrap_err()
}

#[test]
fn a_refused_access_comes_back_with_what_any_refusal_says_and_counts_as_one() {
    let page = page_size();
    let region = limited(2);
    // SAFETY: none of the frames has a destructor or holds a lock.
    let ended = unsafe {
        attempt(|| {
            (0..5).for_each(|page| {
                touch_deep(10, at(&region, page).wrapping_add(7));
            });
        })
    };
    let refusal = ended.unwrap_err();
    assert_eq!((refusal.offset, refusal.region), (2 * page + 7, region.as_ptr().addr()));
    let expected = RefusalReason::Limit { used: 2 * page, limit: 2 * page };
    assert_eq!(refusal.reason, expected);
    assert_eq!((region.stats().faults, region.stats().refused), (2, 1));
    let outcomes: Vec<_> = region.events().map(|event| (event.offset, event.outcome)).collect();
    assert_eq!(outcomes.len(), 3);
    assert_eq!(outcomes[2], (2 * page + 7, FaultOutcome::Refused));
    assert_eq!((peek(at(&region, 1).wrapping_add(7)), region.committed()), (1, 2 * page));
}

#[test]
fn the_reason_may_be_a_budget_and_a_read_is_refused_as_a_write_is() {
    let page = page_size();
    let builder = DemandRegion::builder(8 * page).budget(Budget::new(0));
    let region = builder.build().unwrap();
    // SAFETY: none of the frames has a destructor or holds a lock.
    let refusal = unsafe { attempt(|| peek(at(&region, 3))) }.unwrap_err();
    assert_eq!(refusal.offset, 3 * page);
    assert!(matches!(refusal.reason, RefusalReason::Budget { used: 0, limit: 0 }));
}

#[test]
fn what_is_not_refused_comes_back_as_the_closure_returned_it() {
    let region = limited(1);
    let owned = vec![1, 2, 3];
    // SAFETY: nothing is refused in it.
    let returned = unsafe {
        attempt(move || {
            poke(at(&region, 5), 8);
            (owned, peek(at(&region, 5)))
        })
    };
    assert_eq!(returned, Ok((vec![1, 2, 3], 8)));
}

#[test]
fn the_innermost_attempt_gets_the_refusal_and_the_outer_one_goes_on() {
    let (inner, outer) = (limited(0), limited(0));
    // SAFETY: none of the frames has a destructor or holds a lock.
    let ended = unsafe {
        attempt(|| {
            let first = attempt(|| poke(at(&inner, 1), 1)).unwrap_err();
            let second = attempt(|| attempt(|| poke(at(&inner, 2), 1)).unwrap_err());
            let third = attempt(|| 5);
            assert_eq!(first.offset, page_size());
            assert_eq!(second.unwrap().offset, 2 * page_size());
            assert_eq!(third, Ok(5));
            poke(at(&outer, 9), 1);
        })
    };
    assert_eq!(ended.unwrap_err().region, outer.as_ptr().addr());
    assert_eq!((inner.stats().refused, outer.stats().refused), (2, 1));
}

#[test]
fn a_guarded_copy_inside_an_attempt_returns_its_own_error() {
    let page = page_size();
    let mut region = limited(1);
    // SAFETY: nothing but guarded copies is refused in it.
    let ended = unsafe { attempt(|| region.fill(.., 7).unwrap_err().copied) };
    assert_eq!(ended, Ok(page));
}

#[test]
fn a_panic_goes_on_in_the_caller_and_ends_the_attempt() {
    let (outer, inner) = (limited(0), limited(0));
    // SAFETY: none of the frames has a destructor or holds a lock.
    let ended = unsafe {
        attempt(|| {
            let panicked = catch_unwind(AssertUnwindSafe(|| attempt(|| std::panic::panic_any(17))));
            assert_eq!(*panicked.unwrap_err().downcast::<i32>().unwrap(), 17);
            assert!(!std::thread::panicking());
            // The attempt that panicked is not there any more.
            touch_refused(at(&inner, 0));
            poke(at(&outer, 1), 1)
        })
    };
    assert_eq!(ended.unwrap_err().region, outer.as_ptr().addr());
}

#[test]
fn threads_have_attempts_of_their_own() {
    const THREADS: usize = 8;
    let region = limited(0);
    let counted = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (region, counted) = (&region, &counted);
            scope.spawn(move || {
                for round in 0..200 {
                    let page = thread * 8 + round % 8;
                    let refusal = touch_refused(at(region, page));
                    assert_eq!(refusal.offset, page * page_size());
                    counted.fetch_add(1, Relaxed);
                }
            });
        }
    });
    assert_eq!((counted.load(Relaxed), region.stats().refused), (THREADS * 200, 1600));
}

#[test]
fn what_an_attempt_does_not_end_ends_the_process_as_without_it() {
    let cases: [(&str, fn()); 5] = [
        ("a foreign fault inside an attempt", || {
            let region = page_by_page(1);
            poke(region.as_ptr(), 1);
            // SAFETY: nothing is refused in it.
            let _ = unsafe { attempt(|| poke(std::ptr::without_provenance_mut(8), 1)) };
        }),
        ("a refused access after an attempt that returned", || {
            let region = limited(0);
            // SAFETY: nothing is refused in it.
            unsafe { attempt(|| ()) }.unwrap();
            poke(region.as_ptr(), 1);
        }),
        ("a refused access after an attempt that was refused", || {
            let region = limited(0);
            touch_refused(region.as_ptr());
            poke(region.as_ptr(), 1);
        }),
        ("a refused access after an attempt that panicked", || {
            let region = limited(0);
            // SAFETY: nothing is refused in it.
            let attempt = || unsafe { attempt(|| std::panic::panic_any(1)) };
            catch_unwind(AssertUnwindSafe(attempt)).unwrap_err();
            poke(region.as_ptr(), 1);
        }),
        ("a refused access while another thread is in an attempt", || {
            let region = limited(0);
            let (sender, receiver) = std::sync::mpsc::channel::<()>();
            std::thread::spawn(move || {
                // SAFETY: nothing is refused in it.
                unsafe {
                    attempt(|| {
                        sender.send(()).unwrap();
                        loop {
                            std::thread::park();
                        }
                    })
                }
            });
            receiver.recv().unwrap();
            poke(region.as_ptr(), 1);
        }),
    ];
    let test = "what_an_attempt_does_not_end_ends_the_process_as_without_it";
    each_in_a_process(test, &cases, |case, ended| {
        ended.by_access_violation();
        let lines = usize::from(case.contains("refused access"));
        assert_eq!(ended.diagnostics().len(), lines, "{case}: {ended:#?}");
    });
}

/// Debuggers and profilers walk the stack by the same tables.
#[test]
fn a_backtrace_goes_through_an_attempt() {
    #[inline(never)]
    fn below_the_attempt() -> String {
        std::backtrace::Backtrace::force_capture().to_string()
    }
    #[inline(never)]
    fn around_the_attempt() -> String {
        // SAFETY: nothing is refused in it.
        std::hint::black_box(unsafe { attempt(below_the_attempt) }.unwrap())
    }
    if common::sanitized() {
        // The sanitizer's own functions have no unwind tables. The compiler puts the table of a leaf that it compiles
        // together with such functions only where debuggers look for it (`.debug_frame`), and backtraces do not.
        return common::not_here("backtraces (not with a sanitizer)");
    }
    let trace = around_the_attempt();
    if !trace.contains("below_the_attempt") {
        return common::not_here("backtraces (this build has no names)");
    }
    assert!(trace.contains("around_the_attempt"), "{trace}");
}

/// Where the thread stands: the address of a local variable of a function that is called from here.
#[inline(never)]
fn stack() -> usize {
    let local = 0u8;
    std::hint::black_box(&raw const local).addr()
}

/// A hundred thousand times from each of two threads, an attempt in an attempt, refused in both.
#[test]
fn refusals_cost_no_stack_and_no_memory_however_many_there_are() {
    let test = "refusals_cost_no_stack_and_no_memory_however_many_there_are";
    let ended = in_a_process(test, || {
        // The sanitizer collects the variables of discarded frames, each time in all of its memory.
        let is_slow = common::address_space_is_dear() || common::sanitized();
        let rounds = if is_slow { 2_000 } else { 50_000 };
        let (inner, outer) = (limited(0), limited(0));
        let both = || {
            // SAFETY: none of the frames has a destructor or holds a lock.
            let ended = unsafe {
                attempt(|| {
                    let ended = attempt(|| touch_deep(100, at(&inner, 3)));
                    assert_eq!(ended.unwrap_err().offset, 3 * page_size());
                    touch_deep(100, at(&outer, 4))
                })
            };
            assert_eq!(ended.unwrap_err().offset, 4 * page_size());
        };
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    (0..100).for_each(|_| both());
                    let (place, memory) = (stack(), memory());
                    for _ in 0..rounds {
                        both();
                        assert_eq!(stack(), place);
                    }
                    let grown = self::memory().saturating_sub(memory);
                    // (An emulator keeps the code that it translates, a sanitizer what it notes.)
                    let is_told = !common::emulated() && !common::sanitized();
                    assert!(grown < 1 << 20 || !is_told, "{grown} bytes");
                });
            }
        });
        assert_eq!(inner.stats().refused + outer.stats().refused, 4 * (rounds + 100));
    });
    ended.well();
    assert_eq!(ended.diagnostics(), [""; 0]);
    if common::emulated() {
        common::not_here("residency: the emulator's own memory would count");
    }
}

/// Bytes of the process that are in memory; zero where the system is not asked.
fn memory() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.unwrap_or(0) * page_size()
}

/// Rounding, masked exceptions, the direction flag and the register stack of the closure stay inside.
#[test]
#[cfg(target_arch = "x86_64")]
fn the_floating_point_unit_and_the_direction_flag_are_as_before() {
    use std::arch::asm;
    let region = limited(0);
    let control = || {
        let (mut sse, mut x87) = (0u32, 0u16);
        let flags: u64;
        // SAFETY: stores to both variables; the flags go through the stack.
        unsafe {
            asm!("stmxcsr [{}]", "fnstcw [{}]", "pushfq", "pop {}", in(reg) &raw mut sse,
                 in(reg) &raw mut x87, lateout(reg) flags);
        }
        (sse & 0xffc0, x87, flags >> 10 & 1)
    };
    let set = |sse: u32, x87: u16| {
        // SAFETY: all exceptions stay masked, and the rounding is put back below.
        unsafe {
            asm!("ldmxcsr [{}]", "fldcw [{}]", in(reg) &raw const sse, in(reg) &raw const x87)
        };
    };
    let usual = control();
    // Neither what a new thread has, nor what the closure sets.
    set(0x3f80, 0x087f);
    let before = control();
    assert_ne!(before, usual);
    for _ in 0..10 {
        // SAFETY: nothing in it has a destructor. What it does to the processor is undone by the attempt, which is
        // what is tested: the access is always refused.
        let ended = unsafe {
            attempt(|| {
                let (sse, x87) = (0x7f80u32, 0x0c7fu16);
                asm!("ldmxcsr [{}]", "fldcw [{}]", "fld1", "fld1", "fld1", "fld1", "fld1", "fld1", "fld1",
                     "fld1", "std", "mov byte ptr [{}], 1", "cld", "ud2",
                     in(reg) &raw const sse, in(reg) &raw const x87, in(reg) at(&region, 1));
            })
        };
        assert_eq!(ended.unwrap_err().offset, page_size());
        assert_eq!(control(), before);
        let mut sum = 0f64;
        // SAFETY: takes eight places of the register stack, and gives them back.
        unsafe {
            asm!("fld1", "fld1", "fld1", "fld1", "fld1", "fld1", "fld1", "fld1", "faddp", "faddp", "faddp",
                 "faddp", "faddp", "faddp", "faddp", "fstp qword ptr [{}]", in(reg) &raw mut sum);
        }
        assert_eq!(sum, 8.0, "a full register stack makes it a NaN");
    }
    set(usual.0, usual.1);
}

/// Every register that a function preserves, the frame pointer included: filled before the attempt, and changed by
/// the closure before its access is refused.
#[test]
#[cfg(target_arch = "x86_64")]
fn the_registers_that_a_call_preserves_are_as_before() {
    use std::arch::asm;
    unsafe extern "sysv64" fn refused(place: *mut u8) -> usize {
        // SAFETY: nothing in it has a destructor; changed registers are the attempt's to restore.
        let ended = unsafe {
            attempt(|| {
                asm!("xor ebx, ebx", "xor ebp, ebp", "xor r12d, r12d", "xor r13d, r13d", "xor r14d, r14d",
                     "xor r15d, r15d", "sub rsp, 128", "mov byte ptr [{}], 1", "ud2", in(reg) place);
            })
        };
        ended.unwrap_err().offset
    }
    let region = limited(0);
    for round in 1..50usize {
        let seed = 0x0123_4567_89ab_cdef_u64.rotate_left(round as u32);
        let mut seen = [0u64; 6];
        let offset: usize;
        // SAFETY: a call, whose clobbered registers are declared; what is changed besides is put back.
        unsafe {
            asm!(
                "push rbx", "push rbp", "mov rbp, rsp", "push rdx", "push rdx", "and rsp, -16",
                "mov rbx, rcx", "mov r12, rcx", "rol r12, 1", "mov r13, rcx",
                "rol r13, 2", "mov r14, rcx", "rol r14, 3", "mov r15, rcx", "rol r15, 4",
                "call rax",
                "mov rdx, [rbp - 8]", "mov [rdx], rbx", "mov [rdx + 8], r12", "mov [rdx + 16], r13",
                "mov [rdx + 24], r14", "mov [rdx + 32], r15", "mov [rdx + 40], rbp",
                "mov rsp, rbp", "sub [rdx + 40], rsp", "pop rbp", "pop rbx",
                inlateout("rax") refused as *const () as usize => offset,
                in("rdi") at(&region, round), in("rcx") seed, in("rdx") &raw mut seen,
                out("r12") _, out("r13") _, out("r14") _, out("r15") _, clobber_abi("sysv64"),
            );
        }
        let rolled = |by| seed.rotate_left(by);
        assert_eq!(seen, [seed, rolled(1), rolled(2), rolled(3), rolled(4), 0]);
        assert_eq!(offset, round * page_size());
    }
}

/// As on x86-64: x19 to x28, the frame pointer, the lower halves of v8 to v15, and FPCR.
#[test]
#[cfg(target_arch = "aarch64")]
fn the_registers_that_a_call_preserves_are_as_before() {
    use std::arch::asm;
    unsafe extern "C" fn refused(place: *mut u8) -> usize {
        // SAFETY: nothing in it has a destructor; changed registers are the attempt's to restore.
        let ended = unsafe {
            attempt(|| {
                asm!("mov x19, #1", "mov x20, #1", "mov x21, #1", "mov x22, #1", "mov x23, #1", "mov x24, #1",
                     "mov x25, #1", "mov x26, #1", "mov x27, #1", "mov x28, #1", "mov x29, #1",
                     "fmov d8, #1.0", "fmov d9, #1.0", "fmov d14, #1.0", "fmov d15, #1.0",
                     "mov x9, #0xc00000", "msr fpcr, x9", "sub sp, sp, #128",
                     "strb w9, [{}]", "brk #1", in(reg) place);
            })
        };
        ended.unwrap_err().offset
    }
    let region = limited(0);
    for round in 1..50usize {
        let seed = 0x0123_4567_89ab_cdef_u64.rotate_left(round as u32);
        let mut seen = [0u64; 8];
        let offset: usize;
        // SAFETY: a call, whose clobbered registers are declared; what is changed besides is put back.
        unsafe {
            asm!(
                "stp x19, x29, [sp, #-48]!", "stp x3, x30, [sp, #16]", "mov x29, sp",
                "mov x19, x2", "ror x20, x2, #1", "ror x27, x2, #2", "ror x28, x2, #3",
                "fmov d8, x19", "fmov d15, x20",
                "blr x1",
                "ldr x3, [x29, #16]", "stp x19, x20, [x3]", "stp x27, x28, [x3, #16]",
                "stp d8, d15, [x3, #32]", "mov x9, sp", "sub x9, x9, x29", "mrs x10, fpcr",
                "stp x9, x10, [x3, #48]",
                "ldp x3, x30, [sp, #16]", "ldp x19, x29, [sp], #48",
                inlateout("x0") at(&region, round) => offset,
                in("x1") refused as *const () as usize, in("x2") seed, in("x3") &raw mut seen,
                out("x20") _, out("x27") _, out("x28") _, out("d8") _, out("d15") _, clobber_abi("C"),
            );
        }
        let rolled = |by| seed.rotate_right(by);
        let expected = [seed, rolled(1), rolled(2), rolled(3), seed, rolled(1), 0, 0];
        assert_eq!(seen, expected);
        assert_eq!(offset, round * page_size());
    }
}
