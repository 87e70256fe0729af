//! The child of a fork can use pagewise, also where threads of the parent held pages or locks at the moment of the
//! fork.
#![cfg(all(unix, not(pagewise_model)))]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::{self, in_a_process, not_here};
use pagewise::{ConcurrentVec, DemandRegion, Engine, Reservation, page_size};

/// Forks. The child calls `work` and exits with its answer, without running anything else of the test. An alarm ends a
/// child that hangs.
fn child_of_a_fork(work: impl FnOnce() -> bool) -> libc::c_int {
    // SAFETY: the child runs `work` alone, and leaves at once.
    unsafe {
        match libc::fork() {
            0 => {
                libc::alarm(20);
                let well = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
                libc::_exit(if matches!(well, Ok(true)) { 0 } else { 1 })
            }
            child => {
                assert!(child > 0);
                let mut status = 0;
                assert_eq!(libc::waitpid(child, &mut status, 0), child);
                status
            }
        }
    }
}

/// Stops the threads of a test when it ends, also by a panic.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[track_caller]
fn well(status: libc::c_int) {
    assert!(
        libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0,
        "the child ended with status {status:#x} (14: its alarm)"
    );
}

#[test]
fn a_child_uses_reservations_that_threads_of_the_parent_were_changing() {
    let name = "a_child_uses_reservations_that_threads_of_the_parent_were_changing";
    in_a_process(name, || {
        const PAGES: usize = 64;
        let page = page_size();
        let budget = pagewise::Budget::new(2 * PAGES * page);
        let memory = Reservation::builder(PAGES * page).budget(budget.clone()).build().unwrap();
        let (stop, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|threads| {
            let _stop = Stop(&stop);
            for _ in 0..2 {
                threads.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        memory.commit(..).unwrap();
                        memory.decommit(page..).unwrap();
                        rounds.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            for _ in 0..40 {
                let seen = rounds.load(Ordering::Relaxed);
                while rounds.load(Ordering::Relaxed) < seen + 2 {
                    std::thread::yield_now();
                }
                well(child_of_a_fork(|| {
                    memory.commit(..).unwrap();
                    // SAFETY: all of it is committed.
                    unsafe { memory.as_ptr().write_bytes(7, PAGES * page) };
                    let full = memory.committed() == PAGES * page;
                    memory.decommit(..).unwrap();
                    memory.commit(3 * page..5 * page).unwrap();
                    // SAFETY: the page is committed.
                    let zero = unsafe { memory.as_ptr().add(3 * page).read() } == 0;
                    full && zero && memory.committed() == 2 * page
                }));
            }
        });
        drop(memory);
        assert_eq!(budget.used(), 0);
    })
    .well();
}

#[test]
fn a_child_pushes_to_an_array_that_threads_of_the_parent_were_pushing_to() {
    let name = "a_child_pushes_to_an_array_that_threads_of_the_parent_were_pushing_to";
    in_a_process(name, || {
        for _ in 0..2 {
            let array = ConcurrentVec::new(1 << 24).unwrap();
            let stop = AtomicBool::new(false);
            std::thread::scope(|threads| {
                let _stop = Stop(&stop);
                for thread in 0..2_usize {
                    let (array, stop) = (&array, &stop);
                    threads.spawn(move || {
                        while !stop.load(Ordering::Relaxed) && array.len() < 1 << 23 {
                            array.push(thread * 2 + 1);
                        }
                    });
                }
                for _ in 0..25 {
                    well(child_of_a_fork(|| {
                        let before = array.len();
                        let first = array.push(1000);
                        for number in 1..100_000 {
                            array.push(1000 + number);
                        }
                        let published = array.as_slice();
                        first == before
                            && published[..before].iter().all(|&element| element < 4)
                            && published[before..].iter().copied().eq(1000..101_000)
                    }));
                }
            });
        }
    })
    .well();
}

#[test]
fn a_child_has_a_userfault_region_of_its_own() {
    if !common::engines().contains(&Engine::UserFault) {
        return not_here("the userfault engine");
    }
    in_a_process("a_child_has_a_userfault_region_of_its_own", || {
        let page = page_size();
        let region = |limit: usize| {
            let builder = DemandRegion::builder(1 << 24).engine(Engine::UserFault);
            builder.limit(limit * page).build().unwrap()
        };
        // The parent has dropped its region before the fork, but its descriptor is still open.
        drop(region(1));
        well(child_of_a_fork(|| {
            let mut own = region(2);
            let refused = own.fill(..1000 * page, 7).unwrap_err();
            refused.copied == 2 * page && own.committed() == 2 * page
        }));
        let mut again = region(3);
        assert_eq!(again.fill(.., 7).unwrap_err().copied, 3 * page);
    })
    .well();
}

/// Daemons close all descriptors that they do not know, and the next file gets the number of one of them.
#[cfg(target_os = "linux")]
#[test]
fn a_child_of_a_userfault_region_closes_no_file_of_the_program() {
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    if !common::engines().contains(&Engine::UserFault) {
        return not_here("the userfault engine");
    }
    /// The descriptor that is a userfaultfd, if the process has one.
    fn userfault() -> Option<i32> {
        (3..100).find(|file| {
            let link = std::fs::read_link(format!("/proc/self/fd/{file}"));
            link.is_ok_and(|link| link.as_os_str() == "anon_inode:[userfaultfd]")
        })
    }
    fn is_open(file: i32) -> bool {
        // SAFETY: asks for flags.
        unsafe { libc::fcntl(file, libc::F_GETFD) != -1 }
    }
    let name = "a_child_of_a_userfault_region_closes_no_file_of_the_program";
    in_a_process(name, || {
        let region = DemandRegion::builder(1 << 24).engine(Engine::UserFault).build().unwrap();
        let Some(ours) = userfault() else { return not_here("userfaultfd's link in /proc") };
        // The library's own is closed in a child.
        well(child_of_a_fork(|| !is_open(ours)));
        let open: [fn() -> i32; 4] = [
            || {
                // SAFETY: a new descriptor.
                unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY) }
            },
            || {
                // SAFETY: as above.
                unsafe { libc::eventfd(0, 0) }
            },
            || {
                // SAFETY: as above.
                unsafe { libc::epoll_create1(0) }
            },
            || {
                const USER_MODE_ONLY: i32 = 1;
                // SAFETY: as above.
                unsafe { libc::syscall(libc::SYS_userfaultfd, USER_MODE_ONLY) as i32 }
            },
        ];
        for open in open {
            // SAFETY: closes the library's descriptor, after which the test uses no region of that engine.
            unsafe { libc::close(ours) };
            let file = open();
            assert_eq!(file, ours, "the lowest number that is free");
            // SAFETY: the file was opened just now.
            let file = unsafe { OwnedFd::from_raw_fd(file) };
            well(child_of_a_fork(|| is_open(file.as_raw_fd())));
            std::mem::forget(file);
        }
        std::mem::forget(region);
    })
    .well();
}

#[test]
fn a_child_of_a_long_userfault_region_keeps_pages_and_limit_far_from_them_too() {
    if !common::engines().contains(&Engine::UserFault) {
        return not_here("the userfault engine");
    }
    let name = "a_child_of_a_long_userfault_region_keeps_pages_and_limit_far_from_them_too";
    in_a_process(name, || {
        let page = page_size();
        let len = if common::address_space_is_dear() { 4 << 30 } else { 1 << 40 };
        let builder = DemandRegion::builder(len).engine(Engine::UserFault).limit(5000 * page);
        let mut region = builder.step(pagewise::CommitStep::page()).build().unwrap();
        let touched: Vec<usize> =
            (0..4000).map(|nth| (nth * 7919 * 977 % (len / page / 2)) * page).collect();
        for &at in &touched {
            region.write(at, &[3]).unwrap();
        }
        let committed = region.committed();
        well(child_of_a_fork(|| {
            assert!(touched.iter().all(|&at| common::peek(region.as_ptr().wrapping_add(at)) == 3));
            assert_eq!(region.committed(), committed);
            // A part in the second half that was never written, so that its table is not resident.
            let rest = 5000 * page - committed;
            let refused = region.fill(len - (2 << 30)..len, 9).unwrap_err();
            assert_eq!((refused.copied, region.committed()), (rest, 5000 * page));
            region.decommit(touched[0]..touched[0] + page).unwrap();
            region.write(touched[0], &[4]).unwrap();
            region.write(touched[1] + page, &[4]).is_err()
        }));
        assert_eq!(region.committed(), committed);
    })
    .well();
}

#[test]
fn a_child_of_a_userfault_region_with_more_gaps_than_mappings_keeps_its_limit_in_each() {
    if !common::engines().contains(&Engine::UserFault) {
        return not_here("the userfault engine");
    }
    let name = "a_child_of_a_userfault_region_with_more_gaps_than_mappings_keeps_its_limit_in_each";
    in_a_process(name, || {
        let (page, pages) = (page_size(), 72_000);
        let builder = DemandRegion::builder(pages * page).engine(Engine::UserFault);
        let builder = builder.limit(pages / 2 * page).step(pagewise::CommitStep::page());
        let mut region = builder.build().unwrap();
        for index in (0..pages).step_by(2) {
            region.write(index * page, &[3]).unwrap();
        }
        well(child_of_a_fork(|| {
            for index in 0..pages {
                let at = region.as_ptr().wrapping_add(index * page);
                let is_committed = index % 2 == 0;
                assert_eq!(common::rights(at), (is_committed, is_committed), "page {index}");
                assert!(!is_committed || common::peek(at) == 3);
            }
            assert!((1..pages).step_by(998).all(|index| region.write(index * page, &[1]).is_err()));
            region.decommit(100 * page..102 * page).unwrap();
            region.write(501 * page, &[1]).unwrap();
            region.committed() == pages / 2 * page && region.write(503 * page, &[1]).is_err()
        }));
        assert!(region.write(page, &[1]).is_err());
    })
    .well();
}

#[test]
fn fault_events_survive_a_fork() {
    in_a_process("fault_events_survive_a_fork", || {
        let region = DemandRegion::builder(1 << 30)
            .step(pagewise::CommitStep::page())
            .events(1 << 10)
            .build()
            .unwrap();
        let (stop, at) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|threads| {
            let _stop = Stop(&stop);
            for _ in 0..2 {
                threads.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let page = at.fetch_add(1, Ordering::Relaxed) % (1 << 17);
                        common::poke(region.as_ptr().wrapping_add(page * page_size()), 1);
                        if page % 64 == 0 {
                            region.events().for_each(drop);
                        }
                    }
                });
            }
            for round in 0..50 {
                well(child_of_a_fork(|| {
                    region.events().for_each(drop);
                    // The child can use the whole queue: as many events as there is room for, and none is lost.
                    let lost = region.stats().events_lost;
                    let first = (1 << 17) + round % 100 * 1024;
                    for page in first..first + 1000 {
                        common::poke(region.as_ptr().wrapping_add(page * page_size()), 1);
                    }
                    let seen: Vec<_> = region.events().map(|event| event.offset).collect();
                    let expected: Vec<_> =
                        (first..first + 1000).map(|page| page * page_size()).collect();
                    seen == expected && region.stats().events_lost == lost
                }));
            }
        });
    })
    .well();
}

/// An array of elements without a size makes no reservation, which would count forks.
#[test]
fn a_child_pushes_to_an_array_of_nothing_that_a_thread_of_the_parent_was_pushing_to() {
    let name = "a_child_pushes_to_an_array_of_nothing_that_a_thread_of_the_parent_was_pushing_to";
    in_a_process(name, || {
        let vec = ConcurrentVec::<()>::new(usize::MAX).unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    vec.push(());
                }
            });
            let _stop = Stop(&stop);
            for _ in 0..200 {
                well(child_of_a_fork(|| {
                    let before = vec.len();
                    vec.push(());
                    vec.len() > before
                }));
            }
        });
    })
    .well();
}

/// Threads of the parent wait for a length all the time. They do not exist in the child, which passes that length,
/// and whose own thread waits and wakes up.
#[test]
fn a_child_wakes_its_own_threads_and_not_those_of_the_parent() {
    if common::emulated() {
        return common::not_here("threads of a forked child: qemu ends at the first one");
    }
    in_a_process("a_child_wakes_its_own_threads_and_not_those_of_the_parent", || {
        let vec = ConcurrentVec::new(1000).unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|threads| {
            let _stop = Stop(&stop);
            for _ in 0..2 {
                threads.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        vec.wait_for_len(500, Duration::from_micros(20));
                    }
                });
            }
            for _ in 0..100 {
                well(child_of_a_fork(|| {
                    vec.extend(0..600);
                    let woken = std::thread::scope(|threads| {
                        let own = threads.spawn(|| vec.wait_for_len(700, Duration::MAX));
                        vec.extend(600..700);
                        own.join().unwrap()
                    });
                    woken && vec.iter().copied().eq(0..700)
                }));
            }
            // Those of the parent are woken by the parent.
            let waiting = threads.spawn(|| vec.wait_for_len(1000, Duration::MAX));
            vec.extend(0..1000);
            assert!(waiting.join().unwrap());
        });
    })
    .well();
}

/// The first push reserves the addresses of a lazy array, while the process forks.
#[test]
fn a_child_makes_an_array_that_a_thread_of_the_parent_was_making() {
    in_a_process("a_child_makes_an_array_that_a_thread_of_the_parent_was_making", || {
        for _ in 0..200 {
            let vec = ConcurrentVec::lazy(1 << 16);
            let started = AtomicBool::new(false);
            std::thread::scope(|threads| {
                threads.spawn(|| {
                    started.store(true, Ordering::Relaxed);
                    vec.push(1);
                });
                while !started.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
                well(child_of_a_fork(|| {
                    let first = vec.push(2);
                    vec.extend([3; 10_000]);
                    vec[first] == 2 && vec[..first].iter().all(|n| *n == 1) && vec.len() > 10_000
                }));
            });
            assert_eq!(vec, [1]);
        }
    })
    .well();
}

/// A bare `clone` calls no handlers, and neither does a fork that was under way when they were registered.
#[cfg(target_os = "linux")]
#[test]
fn a_child_that_is_told_nothing_takes_over_what_threads_of_the_parent_held() {
    let name = "a_child_that_is_told_nothing_takes_over_what_threads_of_the_parent_held";
    in_a_process(name, || {
        if common::emulated() {
            return not_here("a bare clone: the emulator does not know it");
        }
        let vec = ConcurrentVec::new(1 << 26).unwrap();
        let memory = Reservation::builder(64 * page_size()).build().unwrap();
        let budget = pagewise::Budget::new(1 << 20);
        let region = DemandRegion::builder(1 << 20).budget(budget.clone()).build().unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|threads| {
            let _stop = Stop(&stop);
            threads.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    // (Most of the time it holds the lock.)
                    (0..100).for_each(|_| _ = vec.extend_from_slice(&[]));
                    vec.push(1);
                    memory.commit(..).unwrap();
                    memory.decommit(..).unwrap();
                }
            });
            // SAFETY: the region is not written otherwise.
            threads.spawn(|| unsafe {
                while !stop.load(Ordering::Relaxed) {
                    region.write_shared(0, &[7; 100_000]).unwrap();
                    region.decommit_shared(..).unwrap();
                }
            });
            for nth in 0..300 {
                // SAFETY: the child uses what is here, and nothing of the C library's that a thread may hold.
                let child = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
                if child == 0 {
                    // SAFETY: ends a child that waits for ever, and in any case the child.
                    unsafe {
                        libc::alarm(20);
                        let pushed = vec.push(2);
                        let is_whole = vec[pushed] == 2 && vec[..pushed].iter().all(|n| *n == 1);
                        let is_usable = memory.decommit(..).is_ok() && memory.commit(..).is_ok();
                        // Whichever is used first repairs all of it.
                        let is_counted = nth % 2 == 0 || budget.used() <= 1 << 20;
                        let is_region = region.write_shared(0, &[8; 50_000]).is_ok()
                            && region.is_committed(..50_000)
                            && budget.used() >= 50_000;
                        let fine = is_whole && is_usable && is_counted && is_region;
                        libc::_exit(i32::from(!fine));
                    }
                }
                let mut status = 0;
                // SAFETY: waits for that child.
                unsafe {
                    assert_eq!(i64::from(libc::waitpid(child as i32, &mut status, 0)), child)
                };
                well(status);
            }
        });
    })
    .well();
}
