//! What pagewise does on Linux with locked memory, resource limits, an empty pool of huge pages, no mappings left, and
//! thread priorities.
#![cfg(all(target_os = "linux", not(pagewise_model)))]

use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::{self, emulated, in_a_process, not_here, poke, sanitized};
use pagewise::{
    CommitStep, DemandRegion, Engine, Error, HugePages, RefusalReason, Reservation, page_size,
};

/// Ends a process that hangs.
fn alarm(seconds: u32) {
    // SAFETY: a plain call.
    unsafe { libc::alarm(seconds) };
}

fn status(name: &str) -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

const CAP_IPC_LOCK: u32 = 14;
const CAP_SYS_NICE: u32 = 23;

/// Whether this process has a capability. Root lacks some in many containers.
fn may(capability: u32) -> bool {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with("CapEff:")).unwrap();
    let set = u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap();
    set >> capability & 1 != 0
}

#[test]
fn locked_memory_has_limits_in_every_engine() {
    if emulated() || sanitized() || !may(CAP_IPC_LOCK) {
        return not_here(
            "mlockall(MCL_FUTURE): it needs privileges, and memory for all that is mapped",
        );
    }
    in_a_process("locked_memory_has_limits_in_every_engine", || {
        // SAFETY: a plain call.
        assert_eq!(unsafe { libc::mlockall(libc::MCL_FUTURE) }, 0);
        let page = page_size();
        let engines = common::engines();
        assert!(engines.contains(&Engine::Protect));
        for engine in engines {
            let before = status("VmRSS");
            let builder = DemandRegion::builder(256 << 20).engine(engine).limit(2 * page);
            let mut region = builder.step(CommitStep::page()).build().unwrap();
            assert_eq!(region.fill(.., 7).unwrap_err().copied, 2 * page, "{engine:?}");
            assert_eq!(region.committed(), 2 * page);
            let grown = status("VmRSS").saturating_sub(before);
            assert!(grown < 64 << 20, "{engine:?}: {grown} bytes for two pages");
            region.decommit(..page).unwrap();
            region.write(5 * page, &[1]).unwrap();
            assert!(region.write(6 * page, &[1]).is_err());
        }
    })
    .well();
}

/// A region of a terabyte has a table of its pages' states, tens of megabytes long.
#[test]
fn where_all_that_comes_is_locked_a_touch_of_a_long_region_takes_little_memory() {
    if emulated() || sanitized() || !may(CAP_IPC_LOCK) {
        return not_here("mlockall(MCL_FUTURE): it needs privileges");
    }
    let name = "where_all_that_comes_is_locked_a_touch_of_a_long_region_takes_little_memory";
    in_a_process(name, || {
        // SAFETY: a plain call.
        assert_eq!(unsafe { libc::mlockall(libc::MCL_FUTURE) }, 0);
        for engine in common::engines() {
            let before = status("VmRSS");
            let len = page_size() << 28;
            let builder = DemandRegion::builder(len).engine(engine).limit(64 * page_size());
            let mut region = builder.step(CommitStep::page()).build().unwrap();
            for nth in 0..4 {
                region.write(len / 4 * nth, &[1]).unwrap();
            }
            let grown = status("VmRSS").saturating_sub(before);
            assert!(grown < 8 << 20, "{engine:?}: {grown} bytes for four pages");
        }
    })
    .well();
}

#[test]
fn what_locked_memory_had_to_do_with_an_engine_is_not_remembered() {
    // In a child, since a process tries guard markers once, and this child must do so after memory is locked.
    let is_child = common::is_child("the only one");
    if !is_child
        && (emulated() || !may(CAP_IPC_LOCK) || !common::engines().contains(&Engine::Guard))
    {
        return not_here("mlockall(MCL_FUTURE), or the guard engine");
    }
    in_a_process("what_locked_memory_had_to_do_with_an_engine_is_not_remembered", || {
        // SAFETY: plain calls.
        unsafe { assert_eq!(libc::mlockall(libc::MCL_FUTURE), 0) };
        drop(DemandRegion::new(1 << 20).unwrap());
        // SAFETY: as above.
        unsafe { assert_eq!(libc::munlockall(), 0) };
        DemandRegion::builder(1 << 20).engine(Engine::Guard).build().unwrap();
    })
    .well();
}

#[test]
fn a_locked_part_of_a_region_can_be_used_like_any_other() {
    if emulated() {
        return not_here("locked memory is the emulator's");
    }
    in_a_process("a_locked_part_of_a_region_can_be_used_like_any_other", || {
        const MLOCK_ONFAULT: libc::c_uint = 1;
        let page = page_size();
        for engine in common::engines() {
            let mut region = DemandRegion::builder(1 << 26)
                .engine(engine)
                .step(CommitStep::page())
                .build()
                .unwrap();
            let start = region.as_ptr().wrapping_add(8 * page);
            // SAFETY: a part of the region, whose pages are not accessed by this.
            unsafe { assert_eq!(libc::mlock2(start.cast(), 16 * page, MLOCK_ONFAULT), 0) };
            // Dense enough to open the block around it, and behind, before and inside the locked part.
            for index in (20..page / 8).chain(0..20).step_by(2) {
                region.write(index * page, &[1]).unwrap();
            }
            region.write(0, &[2]).unwrap();
            for index in 0..page / 8 {
                region.write(index * page + 1, &[3]).unwrap();
            }
            assert_eq!(region.committed(), page / 8 * page, "{engine:?}");
            region.decommit(..12 * page).unwrap();
            region.fill(..page / 8 * page, 4).unwrap();
            assert_eq!(region.committed(), page / 8 * page, "{engine:?}");
        }
    })
    .well();
}

#[test]
fn the_last_bytes_that_the_process_may_have_are_granted() {
    if emulated() || sanitized() {
        return not_here("RLIMIT_DATA: the emulator's or the sanitizer's memory would count");
    }
    in_a_process("the_last_bytes_that_the_process_may_have_are_granted", || {
        let page = page_size();
        let mut region = DemandRegion::builder(1 << 34).step(CommitStep::page()).build().unwrap();
        let mut memory = Vec::with_capacity(64);
        let most = status("VmData") + (2 << 20);
        let limit = libc::rlimit { rlim_cur: most as u64, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: a complete limit.
        unsafe { assert_eq!(libc::setrlimit(libc::RLIMIT_DATA, &limit), 0) };
        // The touched pages fit two mebibytes. The memory between them, and whole blocks of the guard engine, would
        // not.
        for index in 0..64 {
            memory.push(index);
            region.write(index << 25, &[1]).unwrap();
            region.write((index << 25) + 3 * page, &[1]).unwrap();
        }
        assert_eq!(region.committed(), 128 * page);
        // In the end the system refuses, and what was written before is there.
        let refused = region.fill(1 << 33..(1 << 33) + (4 << 20), 7).unwrap_err();
        assert!(matches!(refused.refusal.reason, RefusalReason::System(_)), "{refused}");
        assert!(refused.copied >= 512 << 10, "{refused}");
        assert_eq!(region.committed(), 128 * page + refused.copied);
        let mut byte = [0];
        region.read(63 << 25, &mut byte).unwrap();
        assert_eq!(byte, [1]);
        region.decommit(..).unwrap();
        assert_eq!(region.committed(), 0);
        region.fill(..512 << 10, 7).unwrap();
    })
    .well();
}

/// The number of explicit huge pages in the pool of the usual size, and of those that are reserved.
fn pool() -> (usize, usize) {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let number = |key: &str| {
        let line = text.lines().find(|line| line.starts_with(key))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    (number("HugePages_Total:").unwrap_or(0), number("HugePages_Rsvd:").unwrap_or(0))
}

#[test]
fn explicit_huge_pages_come_from_the_pool_and_go_back_to_it() {
    const POOL: &str = "/proc/sys/vm/nr_hugepages";
    let wanted = || {
        let before = pool().0;
        std::fs::write(POOL, (before + 8).to_string()).ok()?;
        Some(before).filter(|before| pool().0 >= before + 8)
    };
    let Some(before) = (!emulated()).then(wanted).flatten() else {
        return not_here("a pool of explicit huge pages: it needs privileges, and free memory");
    };
    let result = std::panic::catch_unwind(|| {
        let reserved = pool().1;
        for _ in 0..3 {
            for align in [1, 4 << 20] {
                let memory = Reservation::builder(6 << 20)
                    .huge_pages(HugePages::Explicit)
                    .align(align)
                    .build()
                    .unwrap();
                assert!((memory.as_ptr() as usize).is_multiple_of(align.max(memory.page_size())));
                memory.commit(..memory.page_size()).unwrap();
                // SAFETY: the page is committed.
                unsafe { memory.as_ptr().write_bytes(7, memory.page_size()) };
                memory.release().unwrap();
            }
        }
        assert_eq!(pool().1, reserved, "reserved pages of the pool were not given back");
        let mut region =
            DemandRegion::builder(6 << 20).huge_pages(HugePages::Explicit).build().unwrap();
        region.write(5 << 20, &[1]).unwrap();
        assert_eq!(region.committed(), region.page_size());
        region.decommit(..).unwrap();
        assert_eq!(region.committed(), 0);
    });
    std::fs::write(POOL, before.to_string()).unwrap();
    result.unwrap();
}

/// Makes mappings until the process has as many as it may have, and gives them back when it is dropped.
struct AllMappings {
    start: *mut libc::c_void,
    len: usize,
}

impl AllMappings {
    fn take() -> Self {
        let page = page_size();
        let most: usize =
            std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap().trim().parse().unwrap();
        let len = 2 * most * page;
        // SAFETY: a new mapping, of which every other page gets other rights.
        unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
            let start = libc::mmap(std::ptr::null_mut(), len, libc::PROT_NONE, flags, -1, 0);
            assert_ne!(start, libc::MAP_FAILED);
            for index in 0..most {
                let at = start.byte_add((2 * index + 1) * page);
                if libc::mprotect(at, page, libc::PROT_READ) != 0 {
                    return Self { start, len };
                }
            }
        }
        panic!("{most} mappings were no limit");
    }
}

impl Drop for AllMappings {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own.
        unsafe { libc::munmap(self.start, self.len) };
    }
}

#[test]
fn a_reservation_that_cannot_be_unmapped_gives_its_memory_back() {
    if emulated() || sanitized() {
        return not_here("the mappings are the emulator's or the sanitizer's");
    }
    in_a_process("a_reservation_that_cannot_be_unmapped_gives_its_memory_back", || {
        let len = 64 << 20;
        let budget = pagewise::Budget::new(4 * len);
        // Neighbouring reservations, which the kernel merges into one mapping.
        let mut three: Vec<_> = (0..3)
            .map(|_| Reservation::builder(len).budget(budget.clone()).build().unwrap())
            .collect();
        three.sort_by_key(|memory| memory.as_ptr());
        for memory in &three {
            memory.commit(..).unwrap();
            // SAFETY: all of it is committed.
            unsafe { memory.as_ptr().write_bytes(7, len) };
        }
        let middle = three.remove(1);
        let resident = status("VmRSS");
        let all = AllMappings::take();
        let released = middle.release();
        assert_eq!(budget.used(), 2 * len);
        assert!(resident - status("VmRSS") > len / 2, "the memory is still there");
        if let Err(error) = released {
            assert!(matches!(error, Error::MappingsExhausted { .. }), "{error}");
        }
        // Dropping cannot report the error, and must not panic.
        drop(three.pop());
        drop(all);
        drop(three);
        assert_eq!(budget.used(), 0);
        assert!(status("VmRSS") < resident - 2 * len);
    })
    .well();
}

#[test]
fn threads_that_lost_their_access_to_somebody_else_end_as_without_us() {
    if emulated() {
        return not_here("an emulator serialises faults");
    }
    let name = "threads_that_lost_their_access_to_somebody_else_end_as_without_us";
    let ended = in_a_process(name, || {
        alarm(60);
        let page = page_size();
        let region = DemandRegion::builder(64 * page).build().unwrap();
        region.commit(..).unwrap();
        // SAFETY: the region is this test's own.
        unsafe {
            assert_eq!(libc::mprotect(region.as_ptr().cast(), 64 * page, libc::PROT_NONE), 0)
        };
        let progress = DemandRegion::new(1 << 30).unwrap();
        std::thread::scope(|threads| {
            for thread in 0..8 {
                let region = &region;
                threads.spawn(move || poke(region.as_ptr().wrapping_add(thread * 7 * page), 1));
            }
            for index in 0.. {
                poke(progress.as_ptr().wrapping_add(index * page % (1 << 30)), 1);
            }
        });
    });
    ended.by_signal(libc::SIGSEGV);
}

#[test]
fn a_thread_of_high_priority_lets_the_holder_of_a_page_run() {
    if emulated() || !may(CAP_SYS_NICE) {
        return not_here("SCHED_FIFO: it needs privileges");
    }
    let name = "a_thread_of_high_priority_lets_the_holder_of_a_page_run";
    in_a_process(name, || {
        alarm(60);
        fn priority(priority: libc::c_int) -> bool {
            // SAFETY: complete structures, about the calling thread.
            unsafe {
                let mut cpus: libc::cpu_set_t = std::mem::zeroed();
                libc::CPU_SET(0, &mut cpus);
                let size = size_of::<libc::cpu_set_t>();
                assert_eq!(libc::sched_setaffinity(0, size, &cpus), 0);
                let mut parameters: libc::sched_param = std::mem::zeroed();
                parameters.sched_priority = priority;
                libc::sched_setscheduler(0, libc::SCHED_FIFO, &parameters) == 0
            }
        }
        let pages = 4096;
        let region = DemandRegion::builder(pages * page_size()).build().unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                assert!(priority(10));
                while !stop.load(Ordering::Relaxed) {
                    region.commit(..).unwrap();
                    // SAFETY: the bytes are this test's own, and never read.
                    unsafe { region.decommit_shared(..).unwrap() };
                }
            });
            threads.spawn(|| {
                assert!(priority(20));
                for round in 0..300 {
                    // Interrupts the other thread in the middle of a commit now and then.
                    std::thread::sleep(std::time::Duration::from_micros(100 + round * 7 % 400));
                    // SAFETY: no other thread writes here.
                    unsafe { region.write_shared(round as usize * page_size(), &[1]).unwrap() };
                }
                stop.store(true, Ordering::Relaxed);
            });
        });
    })
    .well();
}

#[test]
fn a_commit_that_the_system_refuses_is_an_error_and_the_region_goes_on_working() {
    if sanitized() {
        return not_here("what the system refuses (the sanitizer needs memory)");
    }
    let name = "a_commit_that_the_system_refuses_is_an_error_and_the_region_goes_on_working";
    in_a_process(name, || {
        let memory = Reservation::new(1 << 30).unwrap();
        memory.commit(..1 << 20).unwrap();
        let mut region = DemandRegion::new(1 << 30).unwrap();
        region.fill(..1 << 20, 7).unwrap();
        if !limit_data_to(256 << 20) {
            return not_here("RLIMIT_DATA is not enforced here (qemu user mode?)");
        }
        let refused = memory.commit(..).unwrap_err();
        assert!(
            matches!(refused, Error::CommitRefused { offset, .. } if offset == 1 << 20),
            "{refused:?}"
        );
        assert!(std::error::Error::source(&refused).is_some());
        assert_eq!(memory.committed(), 1 << 20, "all or nothing");

        let error = region.fill(.., 8).unwrap_err();
        assert!(matches!(error.refusal.reason, RefusalReason::System(_)), "{error}");
        assert_eq!(error.copied, error.refusal.offset);
        assert!(error.copied >= 1 << 20 && error.copied.is_multiple_of(page_size()));
        assert_eq!(region.committed(), error.copied, "a refused batch was used to its last page");
        assert!(region.as_slice()[..error.copied].iter().all(|&byte| byte == 8));
        region.decommit(1 << 20..).unwrap();
        region.fill(..8 << 20, 9).unwrap();
        assert!(region.as_slice()[..8 << 20].iter().all(|&byte| byte == 9));
    })
    .well();
}

/// Whether the kernel enforces the limit for this process.
fn limit_data_to(bytes: u64) -> bool {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: a plain call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_DATA, &limit) }, 0);
    let probe = Reservation::new(2 * bytes as usize).unwrap();
    probe.commit(..).is_err()
}

#[test]
fn running_out_of_mappings_is_told_apart_from_running_out_of_memory() {
    if sanitized() {
        return not_here("what the system refuses (the sanitizer needs memory)");
    }
    if emulated() {
        return not_here("the mappings that run out are the emulator's, not this process's");
    }
    let name = "running_out_of_mappings_is_told_apart_from_running_out_of_memory";
    in_a_process(name, || {
        let most: usize = match std::fs::read_to_string("/proc/sys/vm/max_map_count") {
            Ok(text) if text.trim().parse::<usize>().is_ok_and(|most| most <= 1 << 18) => {
                text.trim().parse().unwrap()
            }
            other => return not_here(&format!("vm.max_map_count is {other:?}")),
        };
        let page = page_size();
        let memory = Reservation::new(4 * most * page).unwrap();
        let every_other = |index: usize| 2 * index * page..(2 * index + 1) * page;
        let refused =
            (0..most).find_map(|index| memory.commit(every_other(index)).err().map(|e| (index, e)));
        let Some((index, error)) = refused else {
            return not_here("this kernel allows more mappings than it says (qemu user mode?)");
        };
        assert!(matches!(error, Error::MappingsExhausted { .. }), "{error:?}");
        assert!(error.to_string().contains("vm.max_map_count"), "{error}");
        assert_eq!(memory.committed(), index * page);
        // SAFETY: committed.
        unsafe { memory.as_ptr().write(1) };
        // A refusal changes nothing, and pages that close gaps between committed ones can still be committed.
        memory.commit(..1000 * page).unwrap();
        memory.commit(every_other(index)).unwrap();
        memory.decommit(..).unwrap();
        assert_eq!(memory.committed(), 0);
    })
    .well();
}
