//! Corners: threads that wait for each other, signals, pages that a device holds, the most mappings, bare clones, locked
//! memory. Each in a process of its own, which an alarm ends where it hangs.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::*};
use std::time::Duration;

use pagewise::{
    Budget, DemandRegion, Engine, Error, InHandler, PageStore, PagedArray, PagedRegion,
    PagedRegionBuilder, PagedState, page_size,
};

use crate::behaves_as_a_plain_array::{engines, some_bytes};
use crate::common::{in_a_process, not_here};
use crate::stores::{Heap, InTheHandler, slice, slice_mut};

/// Runs a body in a process of its own, for a minute at most.
#[track_caller]
fn well(test: &str, body: impl FnOnce()) {
    in_a_process(test, || {
        // SAFETY: nothing else uses the alarm.
        unsafe { libc::alarm(60) };
        body();
    })
    .well();
}

fn heap(pages: usize) -> InTheHandler<Heap> {
    InTheHandler(Heap::new(some_bytes(pages * page_size())))
}

fn builder(engine: Engine, pages: usize) -> PagedRegionBuilder<InTheHandler<Heap>> {
    PagedRegion::builder(heap(pages)).engine(engine).page_bytes(page_size())
}

fn touch<S: PageStore + 'static>(region: &PagedRegion<S>, pages: std::ops::Range<usize>) {
    pages.for_each(|page| _ = std::hint::black_box(slice(region)[page * page_size()]));
}

/// Whether a plain write succeeds.
fn write(at: *mut u8, value: u8) -> Result<(), pagewise::Refusal> {
    // SAFETY: the closure's frames have no destructors; the address is inside a region.
    unsafe { pagewise::fault::attempt(|| at.write_volatile(value)) }
}

#[test]
fn a_lent_thread_does_not_wait_for_those_who_wait_for_it() {
    well("a_lent_thread_does_not_wait_for_those_who_wait_for_it", || {
        for engine in engines() {
            for lent in [1, 2] {
                let region = PagedRegion::builder(Heap::new(vec![1; 256 * page_size()]))
                    .engine(engine)
                    .page_bytes(page_size())
                    .limit(40 * page_size())
                    .io_threads(lent)
                    .build()
                    .unwrap();
                std::thread::scope(|scope| {
                    for start in 0..lent {
                        let region = &region;
                        scope.spawn(move || {
                            for round in 0..8 {
                                touch(region, start * 50..256);
                                let at = round * 9 * page_size();
                                region.prefetch(at..at + 1).unwrap();
                                touch(region, round * 9..round * 9 + 1);
                            }
                        });
                    }
                });
            }
        }
    });
}

/// Free frames whose memory went back are no room, where the budget has none.
#[test]
fn a_budget_that_is_used_up_after_an_eviction_is_an_error() {
    well("a_budget_that_is_used_up_after_an_eviction_is_an_error", || {
        for engine in engines() {
            let budget = Budget::new(40 * page_size());
            let region = builder(engine, 64).budget(budget.clone()).build().unwrap();
            region.read(0, &mut [0]).unwrap();
            region.evict(..).unwrap();
            let all = budget.try_take(budget.available()).unwrap();
            let refused = region.read(0, &mut [0]).unwrap_err();
            assert!(matches!(refused.source, Error::BudgetReached { .. }), "{refused:?}");
            drop(all);
            region.read(0, &mut [0]).unwrap();
        }
    });
}

#[test]
fn the_largest_neighbour_is_not_the_only_one() {
    for engine in engines() {
        let budget = Budget::new(48 * page_size());
        let make = || builder(engine, 64).budget(budget.clone()).build().unwrap();
        let (one, two, three) = (make(), make(), make());
        let pinned = one.pin(..22 * page_size()).unwrap();
        two.read(0, &mut vec![0; 18 * page_size()]).unwrap();
        let rest = budget.try_take(budget.available()).unwrap();
        three.read(0, &mut [0]).unwrap();
        drop((pinned, rest));
    }
}

/// Pages that cannot be written do not keep those from leaving that need no writing.
#[test]
fn clean_pages_leave_where_dirty_ones_cannot_be_written() {
    for engine in engines() {
        let mut region = builder(engine, 200).limit(66 * page_size()).build().unwrap();
        (0..8).for_each(|page| region.write(page * page_size(), &[1]).unwrap());
        region.store().0.writes_fail.store(1, Relaxed);
        for page in 8..200 {
            region.read(page * page_size(), &mut [0]).unwrap();
        }
        region.store().0.writes_fail.store(0, Relaxed);
        region.flush(..).unwrap();
        assert!((0..8).all(|page| region.store().0.bytes()[page * page_size()] == 1));
    }
}

/// A store that has a region of its own for a moment: whoever removes one waits for those who look one up, which is not the
/// thread that waits for the store.
#[test]
fn a_store_may_make_and_drop_regions() {
    struct Scratch(Heap);
    impl PageStore for Scratch {
        fn len(&self) -> u64 {
            self.0.len()
        }
        fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
            let mut scratch = DemandRegion::new(1 << 20).map_err(io::Error::other)?;
            scratch.as_mut_slice()[0] = 1;
            drop(scratch);
            self.0.read(offset, buffer)
        }
        fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
            self.0.write(offset, bytes)
        }
        fn sync(&self) -> io::Result<()> {
            Ok(())
        }
    }
    well("a_store_may_make_and_drop_regions", || {
        let store = Scratch(Heap::new(vec![1; 64 * page_size()]));
        let region =
            PagedRegion::builder(store).page_bytes(page_size()).io_threads(2).build().unwrap();
        region.read(0, &mut [0]).unwrap();
        touch(&region, 0..64);
    });
}

/// The fewest frames suffice for an instruction that needs two pages, also with threads that take them from each other.
#[test]
fn accesses_across_two_pages_come_to_an_end() {
    well("accesses_across_two_pages_come_to_an_end", || {
        for engine in engines() {
            let least = if engine == Engine::UserFault { 6 } else { 4 };
            let region = builder(engine, 64).limit(least * page_size()).build().unwrap();
            std::thread::scope(|scope| {
                for seed in 0..3 {
                    let region = &region;
                    scope.spawn(move || {
                        let mut random = fastrand::Rng::with_seed(seed);
                        for _ in 0..300 {
                            let at = random.usize(1..64) * page_size() - 4;
                            let across = region.as_ptr().wrapping_add(at).cast::<u64>();
                            // SAFETY: inside the region.
                            std::hint::black_box(unsafe { across.read_unaligned() });
                        }
                    });
                }
            });
        }
    });
}

/// What the handler of a signal touches.
static TOUCHED: AtomicUsize = AtomicUsize::new(0);
static ENTERED: AtomicUsize = AtomicUsize::new(0);
static LEFT: AtomicUsize = AtomicUsize::new(0);

extern "C" fn touch_in_a_signal(_: i32) {
    ENTERED.fetch_add(1, SeqCst);
    let at = TOUCHED.load(SeqCst) as *const u8;
    // SAFETY: an address inside a region that lives.
    std::hint::black_box(unsafe { at.read_volatile() });
    LEFT.fetch_add(1, SeqCst);
}

fn on_signals_touch() {
    // SAFETY: a handler that reads a byte.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = touch_in_a_signal as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
    }
}

#[test]
fn signals_may_touch_the_region_while_its_methods_run() {
    well("signals_may_touch_the_region_while_its_methods_run", || {
        on_signals_touch();
        for engine in engines() {
            let region = builder(engine, 256).limit(128 * page_size()).build().unwrap();
            TOUCHED.store(region.as_ptr().addr(), SeqCst);
            // SAFETY: the thread's own name.
            let me = unsafe { libc::pthread_self() } as usize;
            let done = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let done = &done;
                scope.spawn(move || {
                    while !done.load(Relaxed) {
                        // SAFETY: the thread lives until the scope ends.
                        unsafe { libc::pthread_kill(me as _, libc::SIGUSR1) };
                        std::thread::sleep(Duration::from_micros(20));
                    }
                });
                for round in 0..6_000 {
                    let at = round * 37 % 256 * page_size();
                    TOUCHED.store(region.as_ptr().addr() + at, SeqCst);
                    region.read(0, &mut [0]).unwrap();
                    region.stats();
                    region.page_map(..4 * page_size()).unwrap();
                    drop(region.pin(..1).unwrap());
                    region.done_with(..2 * page_size()).unwrap();
                }
                done.store(true, Relaxed);
            });
            TOUCHED.store((&raw const TOUCHED).addr(), SeqCst);
        }
        assert!(ENTERED.load(SeqCst) > 0);
    });
}

/// A signal that would run on a lent thread waits, since that thread may hold the page which its handler touches.
#[test]
fn signals_do_not_interrupt_lent_threads() {
    struct Slow {
        inner: Heap,
        thread: AtomicUsize,
        offset: AtomicU64,
    }
    impl PageStore for Slow {
        fn len(&self) -> u64 {
            self.inner.len()
        }
        fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
            self.inner.read(offset, buffer)
        }
        fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
            if std::thread::current().name() == Some("pagewise-io") {
                self.offset.store(offset, SeqCst);
                // SAFETY: the thread's own name.
                self.thread.store(unsafe { libc::pthread_self() } as usize, SeqCst);
                std::thread::sleep(Duration::from_millis(200));
                self.thread.store(0, SeqCst);
            }
            self.inner.write(offset, bytes)
        }
        fn sync(&self) -> io::Result<()> {
            Ok(())
        }
        fn in_handler(&self) -> Option<InHandler> {
            // SAFETY: as for `InTheHandler`.
            Some(unsafe { InHandler::promise() })
        }
    }
    well("signals_do_not_interrupt_lent_threads", || {
        on_signals_touch();
        let inner = Heap::new(some_bytes(64 * page_size()));
        let (thread, offset) = (AtomicUsize::new(0), AtomicU64::new(0));
        let store = Arc::new(Slow { inner, thread, offset });
        let mut region = PagedRegion::builder(store.clone())
            .page_bytes(page_size())
            .limit(40 * page_size())
            .io_threads(1)
            .build()
            .unwrap();
        (0..36).for_each(|page| slice_mut(&mut region)[page * page_size()] = 1);
        // (Backwards: where a long row goes on, dirty pages stay.)
        (36..48).rev().for_each(|page| touch(&region, page..page + 1));
        let thread = loop {
            match store.thread.load(SeqCst) {
                0 => std::thread::yield_now(),
                thread => break thread,
            }
        };
        let page = store.offset.load(SeqCst) as usize;
        TOUCHED.store(region.as_ptr().addr() + page, SeqCst);
        // SAFETY: the thread lives until the region is dropped.
        unsafe { libc::pthread_kill(thread as _, libc::SIGUSR1) };
        // The thread goes on with its work, and the region can be dropped.
        while store.thread.load(SeqCst) != 0 {
            std::thread::yield_now();
        }
        drop(region);
        assert_eq!(ENTERED.load(SeqCst), LEFT.load(SeqCst));
    });
}

/// Has the kernel hold a page, as a device does while it reads or writes it. Returns a descriptor that ends it.
fn held_by_a_device(at: *const u8) -> Option<i32> {
    let mut parameters = [0u8; 120];
    let part = libc::iovec { iov_base: at.cast_mut().cast(), iov_len: page_size() };
    // SAFETY: room for the answer; one part.
    unsafe {
        let ring = libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) as i32;
        if ring < 0 {
            return None;
        }
        let held = libc::syscall(libc::SYS_io_uring_register, ring, 0, &raw const part, 1);
        (held == 0).then_some(ring)
    }
}

const NO_RING: &str = "pages that a device holds: io_uring is not allowed here";

#[test]
fn a_page_that_a_device_holds_appears_whole() {
    struct Holds {
        inner: InTheHandler<Heap>,
        ring: AtomicUsize,
    }
    impl PageStore for Holds {
        fn len(&self) -> u64 {
            self.inner.len()
        }
        fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
            self.inner.read(offset, buffer)?;
            if self.ring.load(SeqCst) == 0 {
                let ring = held_by_a_device(buffer[buffer.len() / 2..].as_ptr());
                self.ring.store(ring.map_or(usize::MAX, |ring| ring as usize), SeqCst);
            }
            Ok(())
        }
        fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
            self.inner.write(offset, bytes)
        }
        fn sync(&self) -> io::Result<()> {
            Ok(())
        }
        fn in_handler(&self) -> Option<InHandler> {
            self.inner.in_handler()
        }
    }
    well("a_page_that_a_device_holds_appears_whole", || {
        for engine in engines() {
            let large = 16 * page_size();
            let store = Arc::new(Holds { inner: heap(256), ring: AtomicUsize::new(0) });
            let mut region = PagedRegion::builder(store.clone())
                .engine(engine)
                .page_bytes(large)
                .limit(6 * large)
                .build()
                .unwrap();
            let mut expected = store.inner.0.bytes();
            let start = slice_mut(&mut region).as_mut_ptr();
            for at in [5, large - 10] {
                write(start.wrapping_add(at), 0x55).unwrap();
                expected[at] = 0x55;
            }
            if store.ring.load(SeqCst) == usize::MAX {
                return not_here(NO_RING);
            }
            region.flush(..).unwrap();
            assert!(store.inner.0.bytes() == expected && slice(&region) == expected);
            // SAFETY: the ring is this test's.
            unsafe { libc::close(store.ring.load(SeqCst) as i32) };
        }
    });
}

#[test]
fn a_page_that_a_device_holds_can_leave_and_be_written() {
    well("a_page_that_a_device_holds_can_leave_and_be_written", || {
        for engine in engines() {
            let mut region = builder(engine, 64).limit(8 * page_size()).build().unwrap();
            let mut expected = region.store().0.bytes();
            slice_mut(&mut region)[0] = 1;
            let Some(ring) = held_by_a_device(region.as_ptr()) else { return not_here(NO_RING) };
            region.flush(..).unwrap();
            touch(&region, 1..20);
            slice_mut(&mut region)[0] = 77;
            expected[0] = 77;
            touch(&region, 1..20);
            region.flush(..).unwrap();
            assert!(region.store().0.bytes() == expected);
            assert!(slice(&region) == expected);
            // SAFETY: the ring is this test's.
            unsafe { libc::close(ring) };
        }
    });
}

/// A debugger or profiler that reads the region holds pages for a moment, too.
#[test]
fn no_write_is_lost_while_another_process_reads_the_region() {
    well("no_write_is_lost_while_another_process_reads_the_region", || {
        for engine in engines() {
            let page = 16 * page_size();
            let region = PagedRegion::builder(InTheHandler(Heap::new(vec![0; 24 * page])))
                .engine(engine)
                .page_bytes(page)
                .limit(10 * page)
                .build()
                .unwrap();
            // SAFETY: nobody else changes the store.
            let array = unsafe { PagedArray::<AtomicU64, _>::new(region) }.unwrap();
            let per = page / 8;
            let wrote: Vec<AtomicU64> = (0..24).map(|_| AtomicU64::new(0)).collect();
            let working = AtomicUsize::new(2);
            std::thread::scope(|scope| {
                let (array, wrote, working) = (&array, &wrote, &working);
                for seed in 0..2 {
                    scope.spawn(move || {
                        let mut random = fastrand::Rng::with_seed(seed);
                        for _ in 0..4_000 {
                            let which = random.usize(..24);
                            array[which * per].fetch_add(1, Relaxed);
                            wrote[which].fetch_add(1, Relaxed);
                        }
                        working.fetch_sub(1, Relaxed);
                    });
                }
                let mut buffer = vec![0u8; page];
                while working.load(Relaxed) > 0 {
                    for which in 0..24 {
                        let to =
                            libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: page };
                        let base = array[which * per..].as_ptr().cast_mut().cast();
                        let from = libc::iovec { iov_base: base, iov_len: page };
                        // SAFETY: room for as many bytes. (Where a page is not there, it fails.)
                        unsafe { libc::process_vm_readv(libc::getpid(), &to, 1, &from, 1, 0) };
                    }
                }
            });
            array.flush(..).unwrap();
            let bytes = array.into_region().store().0.bytes();
            for (which, wrote) in wrote.iter().enumerate() {
                let stored = bytes[which * page..][..8].try_into().unwrap();
                assert_eq!(u64::from_ne_bytes(stored), wrote.load(Relaxed), "{engine:?} {which}");
            }
        }
    });
}

/// Makes mappings until the system has no more. Returns what to unmap.
fn use_up_the_mappings() -> Option<(usize, usize)> {
    let (len, step) = (140_000 * page_size(), 2 * page_size());
    // SAFETY: a mapping of our own, whose parts get other access rights.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let start = libc::mmap(std::ptr::null_mut(), len, libc::PROT_NONE, flags, -1, 0).addr();
        let mut parts = (start + page_size()..start + len).step_by(step);
        parts
            .any(|at| libc::mprotect(at as _, page_size(), libc::PROT_READ) != 0)
            .then_some((start, len))
    }
}

const MANY: &str = "mappings that run out: they are the emulator's, the sanitizer's, or too many";

/// Where the process has no mapping left, a page may be refused, for that reason; nothing is lost.
#[test]
fn no_page_is_lost_where_no_mapping_is_left() {
    well("no_page_is_lost_where_no_mapping_is_left", || {
        if crate::common::emulated() || crate::common::sanitized() {
            return not_here(MANY);
        }
        for engine in engines() {
            let mut region = builder(engine, 64).limit(18 * page_size()).build().unwrap();
            let mut expected = region.store().0.bytes();
            touch(&region, 0..16);
            let Some((start, len)) = use_up_the_mappings() else { return not_here(MANY) };
            let is_of_mappings =
                |reason| matches!(reason, pagewise::RefusalReason::Mappings { .. });
            for page in (16..20).chain([3, 5, 7, 30]).chain(0..40) {
                let at = page * page_size();
                match write(slice_mut(&mut region)[at..].as_mut_ptr(), 0xab) {
                    Ok(()) => expected[at] = 0xab,
                    Err(refusal) => {
                        assert!(engine == Engine::Protect, "{refusal:?}");
                        assert!(is_of_mappings(refusal.reason), "{refusal:?}");
                    }
                }
            }
            // SAFETY: our own mapping.
            unsafe { libc::munmap(start as _, len) };
            region.flush(..).unwrap();
            assert!(region.store().0.bytes() == expected && slice(&region) == expected);
        }
    });
}

/// Where no other page can give way, the page that cannot be mapped stays in its frame, and comes with the next touch.
#[test]
fn a_page_that_could_not_be_shown_is_shown_later() {
    well("a_page_that_could_not_be_shown_is_shown_later", || {
        if crate::common::emulated() || crate::common::sanitized() {
            return not_here(MANY);
        }
        for engine in engines() {
            let mut region = builder(engine, 64).limit(18 * page_size()).build().unwrap();
            let mut expected = region.store().0.bytes();
            let Some((start, len)) = use_up_the_mappings() else { return not_here(MANY) };
            let at = 5 * page_size() + 3;
            let written = write(slice_mut(&mut region)[at..].as_mut_ptr(), 0xab);
            // SAFETY: our own mapping.
            unsafe { libc::munmap(start as _, len) };
            assert_eq!(written.is_err(), engine == Engine::Protect);
            slice_mut(&mut region)[at] = 0xcd;
            expected[at] = 0xcd;
            assert!(slice(&region) == expected);
            region.flush(..).unwrap();
            assert!(region.store().0.bytes() == expected);
        }
    });
}

#[test]
fn large_frames_are_whole_after_the_mappings_ran_out() {
    well("large_frames_are_whole_after_the_mappings_ran_out", || {
        if crate::common::emulated() || crate::common::sanitized() {
            return not_here(MANY);
        }
        for engine in engines() {
            let page = 2 << 20;
            let store = InTheHandler(Heap::new(some_bytes(16 * page)));
            let builder = PagedRegion::builder(store).engine(engine).page_bytes(page);
            let region = builder.limit(10 * page).build().unwrap();
            (0..6).for_each(|at| region.read(at * page, &mut [0]).unwrap());
            let Some((start, len)) = use_up_the_mappings() else { return not_here(MANY) };
            let _ = region.evict(3 * page..4 * page);
            // SAFETY: our own mapping.
            unsafe { libc::munmap(start as _, len) };
            assert!(slice(&region) == region.store().0.bytes());
        }
    });
}

/// A bare `clone` calls no handlers of forks: its child is refused all the same, and changes nothing of its parent's.
#[test]
fn a_child_by_a_bare_clone_changes_nothing_of_its_parents() {
    well("a_child_by_a_bare_clone_changes_nothing_of_its_parents", || {
        if crate::common::emulated() {
            return not_here("a bare clone: the emulator does not know it");
        }
        for engine in engines() {
            let mut region = builder(engine, 64).limit(10 * page_size()).build().unwrap();
            touch(&region, 0..4);
            slice_mut(&mut region)[5 * page_size()] = 0x11;
            for page in [5, 0, 20] {
                // SAFETY: the child writes a byte, and leaves.
                unsafe {
                    let child = libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) as i32;
                    if child == 0 {
                        region.as_ptr().cast_mut().add(page * page_size()).write_volatile(0xcc);
                        libc::_exit(0);
                    }
                    let mut status = 0;
                    assert_eq!(libc::waitpid(child, &mut status, 0), child);
                    assert_ne!(status, 0, "{engine:?}: the child's write succeeded");
                }
            }
            slice_mut(&mut region)[0] = 0xa5;
            assert_eq!(region.page_map(..1).unwrap(), [PagedState::Dirty]);
            region.flush(..).unwrap();
            region.evict(..).unwrap();
            let seen = [0, 5, 20].map(|page| slice(&region)[page * page_size()]);
            assert_eq!(seen, [0xa5, 0x11, region.store().0.bytes()[20 * page_size()]]);
        }
    });
}

/// A program that closes all descriptors, as daemons do: methods say so, rather than take zeros for pages.
#[test]
fn a_descriptor_that_is_closed_is_an_error() {
    well("a_descriptor_that_is_closed_is_an_error", || {
        if !engines().contains(&Engine::UserFault) {
            return;
        }
        let mut region = builder(Engine::UserFault, 64).build().unwrap();
        touch(&region, 0..1);
        for descriptor in 3..64 {
            let link = std::fs::read_link(format!("/proc/self/fd/{descriptor}"));
            if link.is_ok_and(|name| name.to_string_lossy().contains("userfaultfd")) {
                // SAFETY: what a careless program does.
                unsafe { libc::close(descriptor) };
            }
        }
        assert!(region.read(page_size(), &mut [0]).is_err());
        assert!(region.write(page_size(), &[0]).is_err());
        assert!(region.flush(..).is_err());
        assert!(region.pin(..1).is_err());
        assert_eq!(region.store().0.writes.load(Relaxed), 0);
    });
}

#[test]
fn locked_memory_gets_no_more_than_the_budget() {
    well("locked_memory_gets_no_more_than_the_budget", || {
        // SAFETY: locks this process's memory.
        let lock = || unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) };
        if crate::common::emulated() || crate::common::sanitized() || lock() != 0 {
            return not_here(
                "mlockall(MCL_FUTURE): it needs privileges, and memory for all that is mapped",
            );
        }
        let sizes = [2 << 20, page_size()];
        for (engine, size) in
            engines().into_iter().flat_map(|engine| sizes.map(|size| (engine, size)))
        {
            let budget = Budget::new(12 << 20);
            let store = InTheHandler(Heap::new(some_bytes(64 << 20)));
            let before = resident();
            let region = PagedRegion::builder(store)
                .engine(engine)
                .page_bytes(size)
                .limit(64 << 20)
                .budget(budget.clone())
                .build()
                .unwrap();
            assert!(slice(&region) == region.store().0.bytes());
            let grown = resident().saturating_sub(before);
            assert!(grown < 13 << 20, "{engine:?}: {grown} bytes");
        }
    });
}

/// Bytes of the process that are in memory, each once, however often it is mapped.
fn resident() -> usize {
    let all = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = all.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse::<usize>().unwrap() << 10
}
