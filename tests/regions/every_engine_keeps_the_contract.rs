//! All engines have the same contract, also where they work differently: in large regions, in blocks that open and
//! close, and with patterns that make many mappings.
#![cfg(not(any(miri, pagewise_model)))]

use crate::common;
use pagewise::{CommitStep, DemandRegion, Engine, Error, HugePages, page_size};

fn region(engine: Engine, len: usize) -> DemandRegion {
    DemandRegion::builder(len).engine(engine).step(CommitStep::page()).build().unwrap()
}

/// Large enough for many blocks of the guard engine.
const LEN: usize = 64 << 20;

#[test]
fn decommitted_pages_read_zero_again_and_their_neighbours_keep_what_they_hold() {
    let page = page_size();
    for engine in common::engines() {
        let mut region = region(engine, LEN);
        let pages = LEN / page;
        for index in (0..pages).step_by(3) {
            region.write(index * page + 5, &[index as u8 | 1]).unwrap();
        }
        assert_eq!(region.committed(), pages.div_ceil(3) * page, "{engine:?}");
        // Across several blocks, with ends inside of blocks.
        let (from, to) = (pages / 5, pages / 2 + 7);
        region.decommit(from * page..to * page).unwrap();
        let kept = (0..pages).step_by(3).filter(|index| !(from..to).contains(index)).count();
        assert_eq!(region.committed(), kept * page, "{engine:?}");
        for index in (0..pages).step_by(3) {
            let mut byte = [9];
            region.read(index * page + 5, &mut byte).unwrap();
            let expected = if (from..to).contains(&index) { 0 } else { index as u8 | 1 };
            assert_eq!(byte, [expected], "{engine:?}, page {index}");
        }
        region.decommit(..).unwrap();
        assert_eq!((region.committed(), region.page_map().unwrap().committed()), (0, 0));
        region.fill(.., 3).unwrap();
        assert!(region.as_slice().iter().all(|&byte| byte == 3), "{engine:?}");
    }
}

#[test]
fn explicit_commits_over_touched_pages_and_windows_keep_everything() {
    let page = page_size();
    for engine in common::engines() {
        let mut region = region(engine, LEN);
        for index in [0, 1, 511, 512, 513, 2000, 5000] {
            region.write(index * page, &[7]).unwrap();
        }
        let faults = region.stats().faults;
        region.commit(page..LEN - page).unwrap();
        region.commit(..).unwrap();
        assert_eq!(region.committed(), LEN, "{engine:?}");
        let touched = region.as_slice().iter().step_by(page).filter(|&&byte| byte == 7).count();
        assert_eq!(touched, 7, "{engine:?}");
        assert_eq!(region.stats().faults, faults, "{engine:?}: what is committed does not fault");
    }
}

#[test]
fn a_limit_holds_to_the_page_in_every_order() {
    let page = page_size();
    for engine in common::engines() {
        for stride in [1, 7, 1021] {
            let mut region = DemandRegion::builder(LEN)
                .engine(engine)
                .step(CommitStep::page())
                .limit(100 * page)
                .build()
                .unwrap();
            for step in 0..100 {
                region.write(step * stride % (LEN / page) * page, &[step as u8 | 1]).unwrap();
            }
            let beyond = 100 * stride % (LEN / page) * page;
            let refused = region.write(beyond, &[1]).unwrap_err();
            assert_eq!((refused.copied, refused.refusal.offset), (0, beyond), "{engine:?}");
            assert_eq!(region.committed(), 100 * page);
            region.decommit(..page).unwrap();
            region.write(beyond, &[1]).unwrap();
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn scattered_pages_take_few_mappings_where_the_engine_says_so() {
    if common::emulated() {
        return common::not_here("the mappings are the emulator's");
    }
    // Only mappings that begin inside of the region, since other tests map memory next to it at the same time.
    let mappings_of = |region: &DemandRegion| {
        let inside = region.as_ptr() as usize..region.as_ptr() as usize + region.len();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines()
            .filter_map(|line| usize::from_str_radix(line.split_once('-')?.0, 16).ok())
            .filter(|start| inside.contains(start))
            .count()
    };
    let page = page_size();
    for engine in common::engines() {
        let mut region = region(engine, 1 << 30);
        for index in (0..1 << 30).step_by(page * 64) {
            region.write(index, &[1]).unwrap();
        }
        let mappings = mappings_of(&region);
        match engine {
            Engine::Protect => assert!(mappings > 1000, "{mappings}: nothing was scattered"),
            _ => assert!(mappings < 16, "{engine:?} took {mappings} mappings"),
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_region_of_a_terabyte_takes_scattered_pages_or_says_why_not() {
    if common::address_space_is_dear() {
        return common::not_here("a terabyte of address space");
    }
    let len = 1 << 40;
    let mut region = DemandRegion::builder(len).step(CommitStep::page()).build().unwrap();
    let mut state = 1_u64;
    for _ in 0..2_000 {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let offset = state as usize % len;
        region.write(offset, &[1]).unwrap();
        assert_eq!(region.as_slice()[offset], 1);
    }
    let before = region.committed();
    assert!(before >= 1_900 * page_size() && before <= 2_000 * page_size());
    region.decommit(..).unwrap();
    assert_eq!(region.committed(), 0);
}

#[test]
fn engines_that_cannot_be_are_refused_clearly() {
    for engine in [Engine::Guard, Engine::UserFault] {
        match DemandRegion::builder(1).engine(engine).build() {
            Ok(region) => drop(region),
            Err(Error::Unsupported { what }) => assert!(what.contains("Engine::Auto"), "{what}"),
            Err(error) => panic!("{engine:?}: {error}"),
        }
    }
    let both = DemandRegion::builder(1 << 21)
        .engine(Engine::UserFault)
        .huge_pages(HugePages::Explicit)
        .build();
    assert!(matches!(both, Err(Error::Unsupported { .. })));
}

/// `mlock2` with `MLOCK_ONFAULT`: pages are locked when they become resident, so that locking a region commits nothing.
#[cfg(target_os = "linux")]
const MLOCK_ONFAULT: libc::c_uint = 1;

/// The kernel installs no guard markers in locked memory: there, regions use access rights, and lose no data.
#[test]
#[cfg(target_os = "linux")]
fn locked_memory_takes_no_markers_and_works_all_the_same() {
    const NAME: &str = "locked_memory_takes_no_markers_and_works_all_the_same";
    if common::emulated() || !common::engines().contains(&Engine::Guard) {
        return common::not_here("guard markers in locked memory");
    }
    let ended = common::in_a_process(NAME, || {
        let page = page_size();
        let mut region = region(Engine::Guard, 2048 * page);
        region.write(0, &[1]).unwrap();
        // SAFETY: pages of the region, whose contents this does not touch.
        if unsafe { libc::mlock2(region.as_ptr().cast(), region.len(), MLOCK_ONFAULT) } != 0 {
            return common::not_here("guard markers in locked memory");
        }
        let is_locked = locked();
        assert!(is_locked >= region.len(), "{is_locked} bytes are locked");
        // No block can be opened any more.
        for index in (0..2048).step_by(3) {
            region.write(index * page, &[index as u8 | 1]).unwrap();
        }
        assert_eq!(locked(), is_locked, "a commit ended a lock");
        for index in (0..2048).step_by(3) {
            assert_eq!(region.as_slice()[index * page], index as u8 | 1);
        }
        assert_eq!(region.committed(), 683 * page);
        region.decommit(..).unwrap();
        region.fill(.., 5).unwrap();
        assert!(region.as_slice().iter().all(|&byte| byte == 5));
    });
    ended.well();
}

/// Bytes of this process's memory that are locked.
#[cfg(target_os = "linux")]
fn locked() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with("VmLck:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

/// A block that could not be opened because a part of it was locked is as it was, and the lock is still there. After
/// the memory was unlocked, threads that race for its pages find the right contents in each.
#[test]
#[cfg(target_os = "linux")]
fn a_block_that_was_locked_in_part_can_be_opened_by_racing_threads_once_it_is_not() {
    const NAME: &str =
        "a_block_that_was_locked_in_part_can_be_opened_by_racing_threads_once_it_is_not";
    if common::emulated() || !common::engines().contains(&Engine::Guard) {
        return common::not_here("guard markers in locked memory");
    }
    common::in_a_process(NAME, || {
        const THREADS: usize = 4;
        let page = page_size();
        // As many pages as one page of page tables has entries: a block.
        let (block, blocks) = (page / 8, 24);
        let pages = blocks * block;
        let builder = DemandRegion::builder(pages * page).engine(Engine::Guard);
        let mut region = builder.guard_pages(1).step(CommitStep::page()).build().unwrap();
        let at = |index: usize| region.as_ptr().wrapping_add(index * page);
        // The last quarter of each block is locked: markers before it can be installed, and must be removed again.
        let (tail, tail_len) = (block / 4 * 3, block / 4 * page);
        for nth in 0..blocks {
            // SAFETY: pages of the region, whose contents this does not touch.
            let result =
                unsafe { libc::mlock2(at(nth * block + tail).cast(), tail_len, MLOCK_ONFAULT) };
            assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
        }
        assert_eq!(locked(), blocks * tail_len);
        // Dense enough that opening is tried in each block, and more often than the engine pauses after a refusal.
        let before = |index: usize| index.is_multiple_of(5);
        (0..pages).filter(|&index| before(index)).for_each(|index| common::poke(at(index), 1));
        assert_eq!(locked(), blocks * tail_len, "opening blocks ended a lock");
        let check = |expected: &dyn Fn(usize) -> bool| {
            let wrong = (0..pages).find(|&index| common::rights(at(index)).1 != expected(index));
            assert_eq!(wrong.map(|index| (index / block, index % block)), None, "block and page");
        };
        check(&before);
        // SAFETY: as above.
        assert_eq!(unsafe { libc::munlock(at(0).cast(), pages * page) }, 0);
        let wanted = |index: usize| index % 5 < 3;
        let barrier = std::sync::Barrier::new(THREADS);
        std::thread::scope(|threads| {
            for thread in 0..THREADS {
                let (barrier, region) = (&barrier, &region);
                threads.spawn(move || {
                    barrier.wait();
                    for index in (0..pages).filter(|&index| wanted(index)) {
                        // Every thread touches all pages, at its own byte and in its own order.
                        let index = if thread % 2 == 0 { index } else { pages - 1 - index };
                        if wanted(index) {
                            let at = region.as_ptr().wrapping_add(index * page + 64 + thread);
                            common::poke(at, thread as u8 + 1);
                        }
                    }
                });
            }
        });
        for index in (0..pages).filter(|&index| wanted(index)) {
            assert_eq!(common::peek(at(index)), u8::from(before(index)), "page {index}");
            for thread in [0, 2] {
                assert_eq!(common::peek(at(index).wrapping_add(64 + thread)), thread as u8 + 1);
            }
        }
        check(&wanted);
        let count = (0..pages).filter(|&index| wanted(index)).count();
        assert_eq!(region.committed(), count * page);
        region.decommit(..).unwrap();
        assert_eq!(common::rights(region.as_ptr()), (false, false));
        region.fill(.., 5).unwrap();
        assert!(region.as_slice().iter().step_by(page).all(|&byte| byte == 5));
    })
    .well();
}

/// One fault commits at most so much, in each direction, by one run alone and by several.
#[test]
fn no_fault_commits_more_than_half_a_mebibyte_or_an_eighth_of_its_run() {
    let page = page_size();
    let longest = |region: &DemandRegion| {
        let lengths = region.events().map(|event| match event.outcome {
            pagewise::FaultOutcome::Committed { len, .. } => len,
            other => panic!("{other:?}"),
        });
        lengths.max().unwrap_or(0)
    };
    for engine in common::engines() {
        let build = || {
            let builder = DemandRegion::builder(LEN).engine(engine).events(1 << 16);
            builder.build().unwrap()
        };
        for down in [false, true] {
            let region = build();
            let (mut longest_of_all, mut touched) = (0, 0);
            for index in 0..LEN / page {
                let index = if down { LEN / page - 1 - index } else { index };
                common::poke(region.as_ptr().wrapping_add(index * page), 1);
                touched += page;
                let len = longest(&region);
                longest_of_all = longest_of_all.max(len);
                let ahead = (64 << 10).max(touched / 8).min(512 << 10).max(page);
                assert!(len <= ahead, "{engine:?}: {len} bytes for one fault after {touched}");
                assert!(region.committed() <= touched + ahead, "{engine:?}, after {touched}");
            }
            assert_eq!(longest_of_all, (512 << 10).max(page), "{engine:?}");
        }
        // Scattered pages, none of which is a neighbour of another.
        let region = build();
        let (count, mut state) = (LEN / page / 3, 1_usize);
        for _ in 0..1000 {
            state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345);
            let index = (state >> 16) % count * 3;
            common::poke(region.as_ptr().wrapping_add(index * page), 1);
            assert!(longest(&region) <= page, "{engine:?}");
        }
    }
    // Huge pages come whole, one at a time.
    let huge = 2 << 20;
    let builder = DemandRegion::builder(LEN).huge_pages(HugePages::Transparent).events(64);
    let mut region = builder.build().unwrap();
    region.fill(.., 1).unwrap();
    let mut reached = 0;
    for event in region.events() {
        let expected = pagewise::FaultOutcome::Committed { start: reached, len: huge };
        assert_eq!((event.offset, event.outcome), (reached, expected));
        reached += huge;
    }
    assert_eq!(reached, LEN);
}
