//! The page tables and mappings that scattered touches take.
#![cfg(all(target_os = "linux", not(pagewise_model)))]

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::{self, address_space_is_dear, in_a_process, not_here, poke, sanitized};
use pagewise::{CommitStep, DemandRegion, Engine};

/// A number from `/proc/self/status`.
fn status(name: &str) -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

fn most_mappings() -> usize {
    std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap().trim().parse().unwrap()
}

/// Pseudo-random offsets, the same at each call.
fn offsets(len: usize) -> impl Iterator<Item = usize> {
    let mut state = 88_172_645_463_325_252_u64;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize & (len - 1)
    })
}

/// KiB of page tables that the kernel itself needs for these touches.
fn kernel_page_tables(len: usize, touches: usize) -> usize {
    // SAFETY: a new mapping, which is this function's own.
    unsafe {
        let before = status("VmPTE");
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let start = libc::mmap(std::ptr::null_mut(), len, access, flags, -1, 0);
        assert_ne!(start, libc::MAP_FAILED);
        libc::madvise(start, len, libc::MADV_NOHUGEPAGE);
        offsets(len).take(touches).for_each(|at| poke(start.cast::<u8>().add(at), 1));
        let tables = status("VmPTE") - before;
        libc::munmap(start, len);
        tables
    }
}

fn is_here() -> bool {
    if address_space_is_dear() || sanitized() {
        not_here("a terabyte of address space");
    }
    !address_space_is_dear() && !sanitized()
}

#[test]
fn few_touches_of_a_long_region_need_hardly_more_page_tables_than_the_kernel_itself() {
    if !is_here() {
        return;
    }
    let name = "few_touches_of_a_long_region_need_hardly_more_page_tables_than_the_kernel_itself";
    in_a_process(name, || {
        for (bits, touches) in [(40, 100), (40, 1000), (36, 1000), (30, 1000), (40, 8000)] {
            let len = 1 << bits;
            let kernel = kernel_page_tables(len, touches);
            let before = status("VmPTE");
            let region = DemandRegion::new(len).unwrap();
            offsets(len).take(touches).for_each(|at| poke(region.as_ptr().wrapping_add(at), 1));
            let ours = status("VmPTE") - before;
            assert!(
                ours * 4 <= kernel * 5 + 1024,
                "{touches} touches of 2^{bits} bytes: {ours} KiB, the kernel needs {kernel}"
            );
        }
    })
    .well();
}

#[test]
fn when_mappings_run_short_every_touch_is_served_within_half_of_them() {
    if !is_here() {
        return;
    }
    if !common::is_child("the only one") && !common::engines().contains(&Engine::Guard) {
        return not_here("half of the mappings: the guard engine alone can do with them");
    }
    let name = "when_mappings_run_short_every_touch_is_served_within_half_of_them";
    in_a_process(name, || {
        let (len, touches) = (1 << 36, 60_000);
        let kernel = kernel_page_tables(len, touches);
        // Other regions and the rest of the process have some mappings, too.
        let other = DemandRegion::builder(1 << 36).step(CommitStep::page()).build().unwrap();
        offsets(1 << 36).take(3000).for_each(|at| poke(other.as_ptr().wrapping_add(at), 1));
        let before = status("VmPTE");
        let region = DemandRegion::builder(len).step(CommitStep::page()).build().unwrap();
        let mut peak = 0;
        for (nth, at) in offsets(len).take(touches).enumerate() {
            poke(region.as_ptr().wrapping_add(at), nth as u8 | 1);
            if nth % 2500 == 0 {
                peak = peak.max(mappings());
            }
        }
        assert!(peak > 10_000, "{peak} mappings: nothing ran short");
        assert!(peak <= most_mappings() / 2, "{peak} of {} mappings", most_mappings());
        let ours = status("VmPTE") - before;
        assert!(ours <= 2 * kernel, "{ours} KiB of page tables, the kernel needs {kernel}");
        // Every page holds what the last touch wrote.
        let pages: std::collections::HashSet<_> =
            offsets(len).take(touches).map(|at| at / pagewise::page_size()).collect();
        assert_eq!(region.committed(), pages.len() * pagewise::page_size());
        for at in offsets(len).take(touches) {
            assert_ne!(common::peek(region.as_ptr().wrapping_add(at)), 0);
        }
        assert_eq!(region.committed(), pages.len() * pagewise::page_size());
        assert_eq!(
            region.committed_ranges().map(|range| range.len()).sum::<usize>(),
            region.committed()
        );
    })
    .well();
}

/// One thread joins at a time: others that commit meanwhile must not use up what is left.
#[test]
fn threads_that_touch_at_once_do_not_outrun_the_joining() {
    if !is_here() {
        return;
    }
    in_a_process("threads_that_touch_at_once_do_not_outrun_the_joining", || {
        const TOUCHES: usize = 200_000;
        let region = DemandRegion::new(64 << 30).unwrap();
        let start = region.as_ptr().addr();
        let (touched, worst) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|threads| {
            for thread in 0..2 {
                let touched = &touched;
                threads.spawn(move || {
                    for at in offsets(64 << 30).take(TOUCHES).skip(thread).step_by(2) {
                        poke(std::ptr::with_exposed_provenance_mut(start + at), 1);
                        touched.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            while touched.load(Ordering::Relaxed) < TOUCHES {
                worst.fetch_max(mappings(), Ordering::Relaxed);
                std::thread::sleep(std::time::Duration::from_millis(150));
            }
        });
        let (worst, most) = (worst.into_inner(), most_mappings());
        assert!(worst <= most / 5 * 4, "{worst} mappings of {most}");
    })
    .well();
}

#[test]
fn joined_pages_keep_limits_contents_and_decommits() {
    if !is_here() {
        return;
    }
    in_a_process("joined_pages_keep_limits_contents_and_decommits", || {
        let page = pagewise::page_size();
        let pages_per_block = page / 8;
        for every in [2, 3, 17, 61] {
            let pages = 16 * pages_per_block;
            let mut region =
                DemandRegion::builder(pages * page).step(CommitStep::page()).build().unwrap();
            let touched: Vec<usize> = (0..pages).step_by(every).collect();
            for &index in &touched {
                region.write(index * page + 3, &[index as u8 | 1]).unwrap();
            }
            assert_eq!(region.committed(), touched.len() * page);
            // Half of the pages are decommitted, some alone, some together with the range around them.
            let half = 7 * pages_per_block + 100;
            for &index in touched.iter().filter(|&&index| index < half && index.is_multiple_of(5)) {
                region.decommit(index * page..(index + 1) * page).unwrap();
            }
            region.decommit(half * page..12 * pages_per_block * page).unwrap();
            let left = |index: usize| {
                if index < half { !index.is_multiple_of(5) } else { index >= 12 * pages_per_block }
            };
            let kept: Vec<_> = touched.iter().copied().filter(|&index| left(index)).collect();
            assert_eq!(region.committed(), kept.len() * page, "every {every}");
            for index in 0..pages {
                let mut byte = [9];
                region.peek(index * page + 3, &mut byte).unwrap();
                let expected = if kept.contains(&index) { index as u8 | 1 } else { 0 };
                assert_eq!(byte[0], expected, "page {index}, every {every}");
            }
            // What was decommitted commits itself anew, and reads zero.
            for &index in &touched {
                let mut byte = [9];
                region.read(index * page + 3, &mut byte).unwrap();
                assert_eq!(byte[0], if left(index) { index as u8 | 1 } else { 0 });
            }
            assert_eq!(region.committed(), touched.len() * page);
        }
    })
    .well();
}

#[test]
fn a_batch_across_an_open_block_and_a_closed_one_is_accessible_everywhere() {
    if !is_here() {
        return;
    }
    let name = "a_batch_across_an_open_block_and_a_closed_one_is_accessible_everywhere";
    in_a_process(name, || {
        let page = pagewise::page_size();
        let block = page / 8 * page;
        let mut region = DemandRegion::builder(1 << 26).step(CommitStep::page()).build().unwrap();
        for index in (0..page / 8).step_by(page / 8 / 64) {
            region.write(index * page, &[1]).unwrap();
        }
        region.commit(block / 2 + page..block + block / 2).unwrap();
        let committed = region.committed();
        for at in (block / 2 + page..block + block / 2).step_by(page) {
            poke(region.as_ptr().wrapping_add(at + 1), 2);
        }
        assert_eq!(region.committed(), committed, "they were committed before");
        // And back again, across both.
        region.decommit(block / 2 + page..block + block / 4).unwrap();
        let mut byte = [9];
        region.read(block + page, &mut byte).unwrap();
        assert_eq!(byte, [0]);
    })
    .well();
}

#[test]
fn a_page_that_is_read_only_stays_so_when_its_neighbours_fill_the_block() {
    if !is_here() {
        return;
    }
    let name = "a_page_that_is_read_only_stays_so_when_its_neighbours_fill_the_block";
    in_a_process(name, || {
        let page = pagewise::page_size();
        let mut region = DemandRegion::builder(1 << 26).step(CommitStep::page()).build().unwrap();
        region.write(0, &[5]).unwrap();
        let end = region.as_ptr().wrapping_add(page);
        // The program itself protects a page, as a garbage collector's write barrier does.
        // SAFETY: the page is the region's, and nobody writes to it.
        unsafe { assert_eq!(libc::mprotect(end.sub(page).cast(), page, libc::PROT_READ), 0) };
        for index in (2..page / 8).step_by(2) {
            region.write(index * page, &[1]).unwrap();
        }
        // SAFETY: the system call checks whether the page is writable.
        unsafe {
            let zeros = libc::open(c"/dev/zero".as_ptr(), libc::O_RDONLY);
            assert_eq!(libc::read(zeros, region.as_ptr().cast(), 1), -1, "it became writable");
            assert_eq!(libc::read(zeros, region.as_ptr().add(2 * page).cast(), 1), 1);
        }
        assert_eq!(region.as_slice()[0], 5);
        // After a decommit and a commit, it is writable as any other page.
        region.decommit(..page).unwrap();
        region.write(0, &[6]).unwrap();
    })
    .well();
}

#[test]
fn a_plain_access_that_runs_out_of_mappings_says_so_and_names_the_way_out() {
    if !is_here() {
        return;
    }
    let name = "a_plain_access_that_runs_out_of_mappings_says_so_and_names_the_way_out";
    let ended = in_a_process(name, || {
        let page = pagewise::page_size();
        let region = DemandRegion::builder(1 << 36)
            .engine(Engine::Protect)
            .step(CommitStep::page())
            .build()
            .unwrap();
        for index in 0..most_mappings() {
            poke(region.as_ptr().wrapping_add(2 * index * page), 1);
        }
    });
    ended.by_signal(libc::SIGSEGV);
    let said = ended.diagnostics();
    assert_eq!(said.len(), 1, "{ended:#?}");
    assert!(said[0].contains("vm.max_map_count"), "{said:?}");
    assert!(
        said[0].contains(&format!("of at most {} memory mappings", most_mappings())),
        "{said:?}"
    );
}
