//! Faults are served with any alternate signal stack or none, on every kind of thread. The handler uses less
//! than 1 KiB of the stack beyond the kernel's signal frame.
#![cfg(all(unix, not(pagewise_model)))]

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};

use crate::common::signals::*;
use crate::common::{self, each_in_a_process, in_a_process, page_by_page, peek, poke};

static FREE: AtomicUsize = AtomicUsize::new(0);

/// A page of a shared region that was not touched yet.
fn fresh_page(region: &pagewise::DemandRegion) -> *mut u8 {
    region.as_ptr().wrapping_add(FREE.fetch_add(1, Relaxed) * pagewise::page_size())
}

/// Uses `size` bytes (or none) as this thread's stack for signals while `body` runs.
fn with_alternate_stack<R>(memory: Option<&mut [u8]>, body: impl FnOnce() -> R) -> R {
    // SAFETY: the memory outlives its use; the old stack is put back.
    unsafe {
        let stack = match memory {
            Some(memory) => libc::stack_t {
                ss_sp: memory.as_mut_ptr().cast(),
                ss_flags: 0,
                ss_size: memory.len(),
            },
            None => {
                libc::stack_t { ss_sp: ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 4096 }
            }
        };
        let mut before: libc::stack_t = std::mem::zeroed();
        let set = libc::sigaltstack(&stack, &mut before);
        assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
        let result = body();
        if before.ss_flags & libc::SS_DISABLE != 0 {
            before.ss_size = 1 << 16;
        }
        assert_eq!(libc::sigaltstack(&before, ptr::null_mut()), 0);
        result
    }
}

/// The least that the kernel accepts: its signal frame, which grows with the processor's registers.
fn smallest_stack() -> usize {
    #[cfg(target_os = "linux")]
    {
        const AT_MINSIGSTKSZ: libc::c_ulong = 51;
        // SAFETY: a plain call.
        let told = unsafe { libc::getauxval(AT_MINSIGSTKSZ) } as usize;
        told.max(libc::MINSIGSTKSZ)
    }
    #[cfg(not(target_os = "linux"))]
    {
        libc::MINSIGSTKSZ
    }
}

#[test]
fn threads_without_with_a_tiny_and_with_their_own_stack_for_signals() {
    let region = page_by_page(64);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            with_alternate_stack(None, || poke(fresh_page(&region), 1));
            let mut tiny = vec![0u8; smallest_stack() + spare()];
            with_alternate_stack(Some(&mut tiny), || poke(fresh_page(&region), 1));
            let mut roomy = vec![0u8; 1 << 17];
            with_alternate_stack(Some(&mut roomy), || poke(fresh_page(&region), 1));
            poke(fresh_page(&region), 1);
        });
    });
    assert_eq!(region.stats().faults, 4);
}

/// The bytes of stack that the handler may use. Debug builds inline nothing, and keep every value on the stack.
fn spare() -> usize {
    if cfg!(debug_assertions) { 8192 } else { 1024 }
}

static EMPTY_HANDLER_CALLS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn nothing(_: c_int, _: *mut libc::siginfo_t, _: *mut c_void) {
    EMPTY_HANDLER_CALLS.fetch_add(1, Relaxed);
}

/// How many bytes of an alternate stack are used while `body` runs: it is filled with a pattern first.
fn depth(body: impl FnOnce()) -> usize {
    const PAINT: u8 = 0xa5;
    let mut stack = vec![PAINT; 1 << 17];
    with_alternate_stack(Some(&mut stack), body);
    stack.len() - stack.iter().position(|&byte| byte != PAINT).expect("something ran there")
}

/// In a process of its own, so that no other thread changes the path that the handler takes.
#[test]
fn less_than_a_kibibyte_of_stack() {
    let ended = in_a_process("less_than_a_kibibyte_of_stack", || {
        // Large steps take the longest path: claims over several words, prefault, events.
        let batch = || {
            pagewise::DemandRegion::builder(1 << 30)
                .step(pagewise::CommitStep::fixed(1 << 20))
                .events(8)
                .build()
                .unwrap()
        };
        set_three(libc::SIGUSR1, nothing, libc::SA_ONSTACK, &[]);
        let kernel = depth(|| send(libc::SIGUSR1));
        assert!(EMPTY_HANDLER_CALLS.load(Relaxed) > 0);
        let mut measured = Vec::new();
        for (what, region) in [("one page", page_by_page(4)), ("a batch", batch())] {
            let served = depth(|| poke(region.as_ptr().wrapping_add(region.len() / 2), 1));
            measured.push((what, served.saturating_sub(kernel)));
        }
        let budget = pagewise::Budget::new(1 << 30).child(1 << 29).child(1 << 28);
        let tenant = pagewise::DemandRegion::builder(1 << 30).budget(budget).build().unwrap();
        let served = depth(|| poke(tenant.as_ptr(), 1));
        measured.push(("a budget below two others", served.saturating_sub(kernel)));
        let huge = pagewise::DemandRegion::new(1 << 40).unwrap();
        let served = depth(|| poke(huge.as_ptr().wrapping_add(huge.len() / 2), 1));
        measured.push(("a page table that is itself lazy", served.saturating_sub(kernel)));
        let mut none = pagewise::DemandRegion::builder(1 << 20).limit(0).build().unwrap();
        let refused = depth(|| assert!(none.fill(.., 1).is_err()));
        measured.push(("refused in a guarded copy", refused.saturating_sub(kernel)));
        // SAFETY: nothing in it has a destructor or holds a lock.
        let attempt = || unsafe { pagewise::fault::attempt(|| poke(none.as_ptr(), 1)) };
        let refused = depth(|| assert!(attempt().is_err()));
        measured.push(("refused in an attempt", refused.saturating_sub(kernel)));
        eprintln!("{MEASURED}{kernel} bytes; beyond it: {measured:?}");
        if common::emulated() {
            return common::not_here(
                "the depth of the stack (the emulator builds frames of its own)",
            );
        }
        for (what, bytes) in measured {
            assert!(bytes < spare(), "{what}: {bytes} bytes");
        }
    });
    tell(&ended);
}

/// The same for pages from a file, among them changed ones that make room: calls of the store come on top.
#[cfg(target_os = "linux")]
#[test]
fn less_than_two_kibibytes_where_pages_come_from_a_file() {
    use pagewise::{Engine, FileStore, PagedRegion, SecondChance, page_size};

    let ended = in_a_process("less_than_two_kibibytes_where_pages_come_from_a_file", || {
        set_three(libc::SIGUSR1, nothing, libc::SA_ONSTACK, &[]);
        let kernel = depth(|| send(libc::SIGUSR1));
        let path = std::env::temp_dir().join(format!("pagewise-depth-{}", std::process::id()));
        let mut measured = Vec::new();
        for engine in [Engine::UserFault, Engine::Protect] {
            for chance in [SecondChance::Always, SecondChance::Never] {
                let store = FileStore::create(&path, 4_096 * page_size() as u64).unwrap();
                std::fs::remove_file(&path).unwrap();
                let builder = PagedRegion::builder(store).page_bytes(page_size());
                let builder = builder.limit(1_024 * page_size()).second_chance(chance);
                let Ok(mut region) = builder.engine(engine).events(4).build() else {
                    common::not_here(&format!("the stack that {engine:?} needs for pages"));
                    continue;
                };
                let all = region.len();
                // SAFETY: the file has no other name.
                let bytes = unsafe { region.as_mut_slice() };
                let used = depth(|| {
                    for at in (0..all).step_by(page_size()) {
                        std::hint::black_box(bytes[at]);
                    }
                    for at in (0..all).step_by(3 * page_size()) {
                        bytes[at] = 1;
                    }
                });
                measured.push(((engine, chance), used.saturating_sub(kernel)));
            }
        }
        eprintln!("{MEASURED}{kernel} bytes; beyond it: {measured:?}");
        if common::emulated() {
            return common::not_here(
                "the depth of the stack (the emulator builds frames of its own)",
            );
        }
        for (what, bytes) in measured {
            assert!(bytes < 2 * spare(), "{what:?}: {bytes} bytes");
        }
    });
    tell(&ended);
}

/// Hands on the line that tells the depth.
fn tell(ended: &common::Ended) {
    ended.well();
    ended
        .stderr
        .lines()
        .filter(|line| line.starts_with(MEASURED))
        .for_each(|line| eprintln!("{line}"));
}

/// The beginning of the line that tells the depth.
const MEASURED: &str = "the kernel's frame: ";

extern "C" fn plain_thread(region: *mut c_void) -> *mut c_void {
    // SAFETY: the test waits for this thread.
    let region = unsafe { &*region.cast::<pagewise::DemandRegion>() };
    poke(fresh_page(region), 1);
    ptr::null_mut()
}

#[test]
fn threads_that_rust_did_not_create() {
    let region = page_by_page(64);
    // SAFETY: the thread ends before the region does.
    unsafe {
        let mut thread = std::mem::zeroed();
        let argument = (&raw const region).cast_mut().cast();
        assert_eq!(libc::pthread_create(&mut thread, ptr::null(), plain_thread, argument), 0);
        assert_eq!(libc::pthread_join(thread, ptr::null_mut()), 0);
    }
    assert_eq!(region.stats().faults, 1);
}

static IN_HANDLER: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());

extern "C" fn touches(_: c_int, _: *mut libc::siginfo_t, _: *mut c_void) {
    poke(IN_HANDLER.load(Relaxed), 9);
}

#[test]
fn inside_another_signals_handler() {
    in_a_process("inside_another_signals_handler", || {
        use_a_roomy_stack();
        let region = page_by_page(4);
        for (page, flags) in [(0, 0), (1, libc::SA_ONSTACK), (2, libc::SA_NODEFER)] {
            IN_HANDLER.store(region.as_ptr().wrapping_add(page * pagewise::page_size()), Relaxed);
            set_three(libc::SIGUSR2, touches, flags, &[libc::SIGUSR1, libc::SIGALRM]);
            send(libc::SIGUSR2);
            assert_eq!(peek(IN_HANDLER.load(Relaxed)), 9);
        }
        assert_eq!(region.stats().faults, 3);
    })
    .well();
}

/// The kernel does not deliver a fault's signal while it is blocked, but ends the process, with any handler.
/// The process must die of the signal, and not hang.
#[test]
fn a_fault_while_its_signal_is_blocked_ends_the_process() {
    let ended = in_a_process("a_fault_while_its_signal_is_blocked_ends_the_process", || {
        let region = page_by_page(4);
        poke(region.as_ptr(), 1);
        block(libc::SIGSEGV, true);
        block(libc::SIGBUS, true);
        region.commit(pagewise::page_size()..2 * pagewise::page_size()).unwrap();
        poke(region.as_ptr().wrapping_add(pagewise::page_size()), 1);
        say("committed first");
        poke(region.as_ptr().wrapping_add(2 * pagewise::page_size()), 1);
        say("not reached");
    });
    assert!(ended.stdout.contains("committed first") && !ended.stdout.contains("not reached"));
    if cfg!(target_os = "linux") {
        ended.by_signal(libc::SIGSEGV);
    } else {
        assert!(!ended.status.success());
    }
}

#[inline(never)]
fn overflow(depth: usize) -> usize {
    let frame = std::hint::black_box([depth; 512]);
    if depth == usize::MAX { 0 } else { overflow(depth + 1) + frame[depth % 512] }
}

/// Rust's handler, which was installed before, still recognizes its guard page, prints its message, and aborts.
#[test]
fn a_stack_overflow_still_gets_rusts_message() {
    const CASES: &[(&str, fn())] = &[
        ("main", || {
            let region = page_by_page(4);
            poke(region.as_ptr(), 1);
            std::hint::black_box(overflow(0));
        }),
        ("a named thread", || {
            let region = page_by_page(4);
            poke(region.as_ptr(), 1);
            let deep = std::thread::Builder::new().name("deep".into());
            deep.spawn(|| std::hint::black_box(overflow(0))).unwrap().join().unwrap();
        }),
    ];
    if cfg!(target_vendor = "apple") || common::emulated() {
        common::not_here("stack overflow: std's guard is the system's here");
        return;
    }
    each_in_a_process("a_stack_overflow_still_gets_rusts_message", CASES, |case, ended| {
        assert!(ended.stderr.contains("has overflowed its stack"), "{case}: {ended:#?}");
        assert!(case != "a named thread" || ended.stderr.contains("deep"), "{ended:#?}");
        ended.by_signal(libc::SIGABRT);
    });
}
