//! The child of a fork has the same regions, contents and limits, and counts its own faults and commits.
#![cfg(all(unix, not(pagewise_model)))]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use crate::common::{self, in_a_process, page_by_page, peek, poke};
use pagewise::{Access, Budget, CommitStep, DemandRegion, Engine, Reservation, page_size};

/// Forks. The child runs `body`, which is async-signal-safe, and returns whether everything was as expected.
#[track_caller]
fn forked(body: impl FnOnce() -> bool) {
    // SAFETY: the child runs the body, and leaves.
    match unsafe { libc::fork() } {
        // SAFETY: leaves without running anything else of the program.
        0 => unsafe { libc::_exit(i32::from(!body())) },
        child if child > 0 => {
            let mut status = 0;
            // SAFETY: our own child.
            assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
            assert_eq!(status, 0, "the child's status");
        }
        _ => panic!("fork: {}", std::io::Error::last_os_error()),
    }
}

#[test]
fn a_child_faults_on_its_own() {
    for engine in common::engines() {
        let builder = DemandRegion::builder(64 * page_size()).engine(engine);
        let region = builder.step(CommitStep::page()).build().unwrap();
        poke(region.as_ptr(), 1);
        forked(|| {
            let own = region.as_ptr().wrapping_add(9 * page_size());
            poke(own, 2);
            poke(region.as_ptr(), 3);
            peek(own) == 2
                && region.committed() == 2 * page_size()
                && region.stats().faults == 2
                && !pagewise::fault::is_displaced()
        });
        assert_eq!(peek(region.as_ptr()), 1);
        assert_eq!((region.committed(), region.stats().faults), (page_size(), 1));
    }
}

#[test]
fn a_child_has_the_same_limit_with_what_is_left_of_it() {
    for engine in common::engines() {
        let budget = Budget::new(5 * page_size());
        let builder = || {
            DemandRegion::builder(64 * page_size())
                .limit(4 * page_size())
                .budget(budget.clone())
                .step(CommitStep::page())
                .engine(engine)
        };
        let (mut region, mut other) = (builder().build().unwrap(), builder().build().unwrap());
        region.fill(..2 * page_size(), 1).unwrap();
        // Each child starts from this state.
        for _ in 0..3 {
            forked(|| {
                let copied = region.fill(.., 2).unwrap_err().copied;
                let others = other.fill(.., 3).unwrap_err().copied;
                copied == 4 * page_size()
                    && others == page_size()
                    && budget.used() == budget.limit()
                    && region.decommit(..page_size()).is_ok()
                    && other.fill(page_size()..2 * page_size(), 3).is_ok()
            });
        }
        assert_eq!(budget.used(), 2 * page_size());
        assert_eq!(region.fill(.., 2).unwrap_err().copied, 4 * page_size());
        assert_eq!(other.fill(.., 2).unwrap_err().copied, page_size());
    }
}

/// Each process counts on its own from what was there at the fork, at every level.
#[test]
fn a_child_has_the_budgets_above_its_own_too() {
    let page = page_size();
    let all = Budget::new(8 * page);
    let tenants = [all.child(5 * page), all.child(6 * page)];
    let [mut region, mut other] = [0, 1].map(|tenant| {
        let builder = DemandRegion::builder(64 * page).budget(tenants[tenant].child(7 * page));
        builder.step(CommitStep::page()).build().unwrap()
    });
    region.fill(..2 * page, 1).unwrap();
    let mut guard = Some(tenants[1].try_take(page).unwrap());
    for _ in 0..3 {
        forked(|| {
            let before =
                all.used() == 3 * page && tenants.each_ref().map(Budget::used) == [2 * page, page];
            let copied = region.fill(.., 2).unwrap_err().copied == 5 * page;
            let others = other.fill(.., 3).unwrap_err().copied == 2 * page;
            let full =
                all.available() == 0 && all.used() == 8 * page && tenants[1].used() == 3 * page;
            guard = None;
            let given_back = all.used() == 7 * page && other.fill(..3 * page, 4).is_ok();
            let raised = all.set_limit(9 * page).is_ok() && other.fill(..4 * page, 4).is_ok();
            before && copied && others && full && given_back && raised
        });
        assert_eq!((all.used(), all.limit(), all.available()), (3 * page, 8 * page, 5 * page));
    }
    assert_eq!(other.fill(.., 3).unwrap_err().copied, 5 * page);
    assert_eq!(all.used(), 8 * page);
}

/// Threads take from budgets of a tree, change a limit, and make and drop budgets, while the process forks. The
/// child's numbers are what its reservations and guards have.
#[test]
fn a_fork_while_other_threads_use_a_tree_of_budgets_leaves_exact_numbers() {
    const NAME: &str = "a_fork_while_other_threads_use_a_tree_of_budgets_leaves_exact_numbers";
    in_a_process(NAME, || {
        let page = page_size();
        let all = Budget::new(64 * page);
        let tenant = all.child(48 * page);
        let memories = [&tenant, &tenant, &all].map(|budget| {
            Reservation::builder(64 * page).budget(budget.child(usize::MAX)).build().unwrap()
        });
        let stop = AtomicBool::new(false);
        std::thread::scope(|threads| {
            for memory in &memories {
                threads.spawn(|| {
                    for round in 0.. {
                        let _ = memory.commit(..(1 + round % 40) * page);
                        memory.decommit(round % 7 * page..).unwrap();
                        if stop.load(Relaxed) {
                            break;
                        }
                    }
                });
            }
            threads.spawn(|| {
                for round in 0.. {
                    let guards = [0, 1].map(|_| tenant.child(round).try_take(round % 100));
                    let _ = all.set_limit((40 + round % 40) * page);
                    drop(guards);
                    if stop.load(Relaxed) {
                        break;
                    }
                }
            });
            for _ in 0..if common::emulated() { 20 } else { 200 } {
                forked(|| {
                    let committed: Vec<usize> =
                        memories.iter().map(Reservation::committed).collect();
                    // A guard of a thread that the child does not have stays in its numbers.
                    let guards = tenant.used() - committed[0] - committed[1];

                    let sum = all.used() == tenant.used() + committed[2] && guards < 200;
                    let left = all.limit().saturating_sub(all.used());
                    let exact = all.try_take(left).is_ok() && all.try_take(left + 1).is_err();
                    let changed = all.set_limit(1 << 40).is_ok();
                    memories.iter().for_each(|memory| memory.decommit(..).unwrap());
                    sum && exact && changed && all.used() == guards
                });
            }
            stop.store(true, Relaxed);
        });
        assert_eq!(all.used(), memories.iter().map(Reservation::committed).sum::<usize>());
    })
    .well();
}

#[test]
fn a_grandchild_too() {
    let region = page_by_page(64);
    poke(region.as_ptr(), 1);
    forked(|| {
        poke(region.as_ptr().wrapping_add(page_size()), 1);
        forked(|| {
            poke(region.as_ptr().wrapping_add(2 * page_size()), 1);
            region.committed() == 3 * page_size()
        });
        true
    });
}

/// Threads commit and decommit in windows of several pages, and note each word that they wrote in memory that a child
/// inherits. A child must find every word that was noted before the fork, and its count must agree with its pages.
#[test]
fn a_fork_while_other_threads_fault_and_commit_loses_nothing() {
    const NAME: &str = "a_fork_while_other_threads_fault_and_commit_loses_nothing";
    in_a_process(NAME, || {
        for engine in common::engines() {
            fork_under_fire(engine);
        }
    })
    .well();
}

const THREADS: usize = 3;
const PAGES: usize = 4096;

fn fork_under_fire(engine: Engine) {
    static STOP: AtomicBool = AtomicBool::new(false);
    STOP.store(false, Relaxed);
    let budget = Budget::new(usize::MAX);
    let regions: Vec<DemandRegion> = (0..THREADS)
        .map(|_| {
            DemandRegion::builder(PAGES * page_size())
                .budget(budget.clone())
                .engine(engine)
                .step(CommitStep::fixed(8 * page_size()))
                .build()
                .unwrap()
        })
        .collect();
    // Two threads share each region: one is ahead, so that the other one writes to pages of a window that the first is
    // still committing.
    let noted: Vec<AtomicUsize> = (0..2 * THREADS).map(|_| AtomicUsize::new(0)).collect();
    let rounds = if common::emulated() { 20 } else { 60 };
    std::thread::scope(|scope| {
        for (index, note) in noted.iter().enumerate() {
            let start = regions[index / 2].as_ptr().addr();
            scope.spawn(move || {
                // Odd pages for one thread, even ones for the other.
                for step in 0.. {
                    if STOP.load(Relaxed) || step == PAGES / 2 {
                        break;
                    }
                    let page = 2 * step + index % 2;
                    let at = std::ptr::with_exposed_provenance_mut(start + page * page_size());
                    poke(at, 0x5a);
                    note.store(step + 1, Relaxed);
                    if step % 8 == 0 {
                        std::thread::yield_now();
                    }
                }
            });
        }
        let mut done = 0;
        while done < rounds {
            done += 1;
            let before: Vec<usize> = noted.iter().map(|note| note.load(Relaxed)).collect();
            forked(|| {
                let mut pages = 0;
                for (index, &steps) in before.iter().enumerate() {
                    let region = &regions[index / 2];
                    for step in 0..steps {
                        let page = 2 * step + index % 2;
                        if peek(region.as_ptr().wrapping_add(page * page_size())) != 0x5a {
                            return false;
                        }
                    }
                    if index % 2 == 0 {
                        // The child's own faults do not hang, and are counted.
                        let last = region.as_ptr().wrapping_add(region.len() - 1);
                        poke(last, 1);
                        pages += region.committed();
                        if !region.committed().is_multiple_of(page_size())
                            || region.committed() > region.len()
                        {
                            return false;
                        }
                    }
                }
                budget.used() == pages
            });
        }
        STOP.store(true, Relaxed);
    });
    let total: usize = regions.iter().map(|region| region.committed()).sum();
    assert_eq!(budget.used(), total);
}

/// What the child counts as committed is what the system lets it access, and what its page map shows.
#[test]
fn a_childs_count_is_what_its_pages_say() {
    in_a_process("a_childs_count_is_what_its_pages_say", || {
        let region = DemandRegion::builder(512 * page_size())
            .step(CommitStep::fixed(4 * page_size()))
            .build()
            .unwrap();
        let (start, stop) = (region.as_ptr().addr(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for page in (0..512).step_by(2) {
                    if stop.load(Relaxed) {
                        break;
                    }
                    poke(std::ptr::with_exposed_provenance_mut(start + page * page_size()), 1);
                    std::thread::yield_now();
                }
            });
            for _ in 0..20 {
                // SAFETY: the child allocates, which glibc allows after a fork.
                let child = unsafe { libc::fork() };
                if child == 0 {
                    let map = region.page_map().unwrap();
                    let committed = map.runs().iter().filter(|run| run.state.committed);
                    let counted: usize = committed.map(|run| run.count).sum();
                    let accessible = |page: &usize| {
                        let at = region.as_ptr().wrapping_add(page * page_size());
                        common::rights(at) == (true, true)
                    };
                    // An emulator does not know about guard markers.
                    let accessible = if common::emulated() {
                        counted
                    } else {
                        (0..512).filter(accessible).count()
                    };
                    let same = counted * page_size() == region.committed() && accessible == counted;
                    // SAFETY: leaves without running anything else.
                    unsafe { libc::_exit(i32::from(!same)) };
                }
                let mut status = 0;
                // SAFETY: our own child.
                assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
                assert_eq!(status, 0);
            }
            stop.store(true, Relaxed);
        });
    })
    .well();
}

/// Threads of the parent hold the pages nearly all of the time, and take no access away. The child tries its access by
/// system calls, which fail where a touch would fault.
#[test]
fn a_childs_access_rights_are_its_parents() {
    const PAGES: usize = 1024;
    let page = page_size();
    let memory = Reservation::new(PAGES * page).unwrap();
    memory.commit(..).unwrap();
    memory.protect(.., Access::Read).unwrap();
    let mut pipe = [0; 2];
    // SAFETY: room for two descriptors.
    assert_eq!(unsafe { libc::pipe(pipe.as_mut_ptr()) }, 0);
    let (stop, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !stop.load(Relaxed) {
                memory.prefault(..).unwrap();
                memory.discard(..).unwrap();
                rounds.fetch_add(1, Relaxed);
            }
        });
        let mut changed = 0;
        for _ in 0..20 {
            let seen = rounds.load(Relaxed);
            while rounds.load(Relaxed) == seen {
                std::thread::yield_now();
            }
            // SAFETY: the child calls the system, and leaves.
            let child = unsafe { libc::fork() };
            if child == 0 {
                // Pages that a thread of the parent held are free in the child.
                let committed = memory.committed() == PAGES * page;
                let same = [0, PAGES / 2, PAGES - 1].iter().all(|&index| {
                    let at = memory.as_ptr().wrapping_add(index * page).cast();
                    // SAFETY: one byte of a committed page; the kernel looks whether it may.
                    unsafe { libc::write(pipe[1], at, 1) == 1 && libc::read(pipe[0], at, 1) == -1 }
                });
                // SAFETY: leaves without running anything else.
                unsafe { libc::_exit(i32::from(!(committed && same))) };
            }
            let mut status = 0;
            // SAFETY: our own child.
            assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
            changed += i32::from(status != 0);
        }
        stop.store(true, Relaxed);
        assert_eq!(changed, 0, "children with other rights");
    });
    // SAFETY: both are this test's own.
    pipe.iter().for_each(|&file| _ = unsafe { libc::close(file) });
}

/// Children by `posix_spawn` and `exec` run to their end: they inherit no state of pagewise.
#[test]
fn spawned_programs_are_unaffected() {
    let region = page_by_page(64);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let touched = scope.spawn(|| {
            let mut page = 0;
            while !stop.load(Relaxed) && page < 64 {
                poke(region.as_ptr().wrapping_add(page * page_size()), 1);
                page += 1;
            }
        });
        for _ in 0..8 {
            let output = std::process::Command::new("/bin/sh").args(["-c", "echo fine"]).output();
            assert_eq!(output.unwrap().stdout, b"fine\n");
        }
        stop.store(true, Relaxed);
        touched.join().unwrap();
    });
}

/// A program that uses its regions under a lock of its own, and takes that lock in a `pthread_atfork` handler,
/// as allocators do. It registered before pagewise, so that its prepare handler runs after pagewise's would.
#[test]
fn a_program_may_hold_its_own_lock_around_regions_and_forks() {
    // A fair lock: the thread that forks gets its turn among threads that take the lock again and again.
    static TICKETS: AtomicUsize = AtomicUsize::new(0);
    static SERVED: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn lock() {
        let ticket = TICKETS.fetch_add(1, Relaxed);
        while SERVED.load(std::sync::atomic::Ordering::Acquire) != ticket {
            std::thread::yield_now();
        }
    }
    extern "C" fn unlock() {
        SERVED.fetch_add(1, std::sync::atomic::Ordering::Release);
    }
    /// Threads of the parent that wait with a ticket do not exist in the child.
    extern "C" fn unlock_in_child() {
        SERVED.store(TICKETS.load(Relaxed), std::sync::atomic::Ordering::Release);
    }
    fn one_region() -> bool {
        lock();
        let region = page_by_page(3);
        poke(region.as_ptr().wrapping_add(page_size()), 1);
        let well = region.committed() == page_size();
        drop(region);
        unlock();
        well
    }
    in_a_process("a_program_may_hold_its_own_lock_around_regions_and_forks", || {
        // Ends the process if the two locks wait for each other.
        // SAFETY: plain calls; the functions are as `pthread_atfork` wants them.
        unsafe {
            libc::alarm(120);
            assert_eq!(libc::pthread_atfork(Some(lock), Some(unlock), Some(unlock_in_child)), 0);
        }
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !stop.load(Relaxed) {
                        assert!(one_region());
                    }
                });
            }
            for _ in 0..if common::emulated() { 20 } else { 200 } {
                forked(one_region);
            }
            stop.store(true, Relaxed);
        });
    })
    .well();
}
