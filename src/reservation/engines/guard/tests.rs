//! The engine on the real system: blocks, what a decommit does to mappings, and refusals while a block is opened.

use super::*;

#[test]
fn whole_blocks_are_told_from_parts_of_one() {
    let size = PageSize::of(4096);
    let guard = Guard::for_pages(512 * 4 + 100, size);
    let whole = |first, end| {
        let pages = guard.whole_blocks(size.pages(first, end));
        (pages.first(), pages.end())
    };
    assert_eq!(whole(5, 9), (9, 9));
    assert_eq!(whole(0, 512), (0, 512));
    assert_eq!(whole(500, 1600), (512, 1536));
    assert_eq!(whole(1024, 2148), (1024, 2148));
    assert_eq!(whole(2048, 2100), (2048, 2048));
    assert_eq!(whole(2048, 2148), (2048, 2148));
    let unit = guard.decommit_unit(size.pages(511, 513));
    assert_eq!((unit.first(), unit.end()), (0, 1024));
}

/// Mappings that a part of the addresses has, by the system's own list.
#[cfg(target_os = "linux")]
fn listed_mappings(start: usize, end: usize) -> isize {
    let list = std::fs::read_to_string("/proc/self/maps").unwrap();
    let overlaps = |line: &&str| {
        let (first, rest) = line.split_once('-').unwrap();
        let (behind, _) = rest.split_once(' ').unwrap();
        let number = |text| usize::from_str_radix(text, 16).unwrap();
        number(first) < end && start < number(behind)
    };
    list.lines().filter(overlaps).count() as isize
}

/// Where the system does not tell the number of mappings, the engine relies on its own count.
#[test]
#[cfg(target_os = "linux")]
fn mappings_that_a_decommit_gives_back_are_counted_down() {
    use crate::{Engine, Reservation};
    if !os::guards_work() || os::data_is_limited() {
        return crate::not_here::not_here("the guard engine");
    }
    let page = os::page_size();
    let (per_block, blocks) = (page / 8, 12);
    let builder = Reservation::builder(blocks * per_block * page).engine(Engine::Guard);
    let memory = builder.guard_pages(1).build().unwrap();
    let super::super::ChosenEngine::Guard(guard) = &memory.engine else { unreachable!() };
    let (start, pages) = (memory.as_ptr().addr(), blocks * per_block);
    let (mut state, mut opened) = (1_u32, 0);
    let mut random = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below
    };
    for round in 0..3000 {
        let first = if round % 2 == 0 { random(pages) } else { random(3 * per_block) };
        let count = [1, 1, 1, 7, per_block, 3 * per_block][random(6)];
        let bytes = first * page..(first + count).min(pages) * page;
        match random(3) {
            0 => memory.decommit(bytes.clone()).unwrap(),
            _ if count > 7 => memory.decommit(bytes.clone()).unwrap(),
            _ => memory.commit(bytes.clone()).unwrap(),
        }
        let listed = listed_mappings(start - page, start + memory.len() + page);
        assert_eq!(guard.mappings.get() + 1, listed, "round {round}: {bytes:?}");
        opened += (0..blocks).filter(|&block| guard.blocks.is_open(block)).count();
    }
    assert!(opened > 100, "blocks were open {opened} times");
    memory.decommit(..).unwrap();
    assert_eq!(guard.mappings.get(), 0);
}

/// A reservation of some blocks, of which the first is open and has one committed page, the sixth.
#[cfg(pagewise_refusals)]
fn with_an_open_block() -> Option<crate::Reservation> {
    if !os::guards_work() || os::data_is_limited() {
        crate::not_here::not_here("the guard engine");
        return None;
    }
    let page = os::page_size();
    let builder = crate::Reservation::builder(page / 8 * page * 12);
    let memory = builder.engine(crate::Engine::Guard).build().unwrap();
    memory.commit(5 * page..6 * page).unwrap();
    assert!(guard(&memory).open(memory.ground(), 0, 1));
    assert_eq!(accessible(&memory), [5]);
    Some(memory)
}

#[cfg(pagewise_refusals)]
fn guard(memory: &crate::Reservation) -> &Guard {
    let super::super::ChosenEngine::Guard(guard) = &memory.engine else { unreachable!() };
    guard
}

/// The pages of the first block that can be read.
#[cfg(pagewise_refusals)]
fn accessible(memory: &crate::Reservation) -> Vec<usize> {
    let pages = (0..os::page_size() / 8).map(|page| memory.page().pages(page, page + 1));
    // SAFETY: reading changes nothing.
    let can_be_read = |page: &PageRange| unsafe {
        os::populate_for_reading(memory.address(*page), page.len()).is_ok()
    };
    pages.filter(can_be_read).map(|page| page.first()).collect()
}

#[cfg(pagewise_refusals)]
#[test]
fn a_block_that_another_thread_opened_meanwhile_is_left_as_it_is() {
    use os::refusals::{Call, Refusal};
    let Some(memory) = with_an_open_block() else { return };
    let page = os::page_size();
    // Stands for a thread that saw the block closed before another thread opened it. If it changed pages, the system
    // would refuse it half-way.
    let second_run = memory.as_ptr().wrapping_add(6 * page)..memory.as_ptr().wrapping_add(7 * page);
    for undone in [true, false] {
        let marking = Refusal::of(Call::GuardInstall).touching(second_run.clone()).begin();
        let undoing =
            (!undone).then(|| Refusal::of(Call::GuardRemove).touching(second_run.clone()).begin());
        guard(&memory).open(memory.ground(), 0, 1);
        drop((marking, undoing));
        assert_eq!(accessible(&memory), [5]);
        memory.commit(2 * page..3 * page).unwrap();
        assert_eq!(accessible(&memory), [2, 5]);
        memory.decommit(2 * page..3 * page).unwrap();
    }
}

#[cfg(pagewise_refusals)]
#[test]
fn a_block_that_could_not_be_opened_again_keeps_its_markers() {
    use os::refusals::{Call, Refusal};
    let Some(memory) = with_an_open_block() else { return };
    let page = os::page_size();
    memory.commit(2 * page..3 * page).unwrap();
    let marking = Refusal::of(Call::GuardInstall).begin();
    // Decommitted by its access rights: so the block is not open any more.
    memory.decommit(2 * page..3 * page).unwrap();
    assert!(!guard(&memory).open(memory.ground(), 0, 1));
    drop(marking);
    assert_eq!(accessible(&memory), [5]);
    memory.commit(..8 * page).unwrap();
    assert_eq!(accessible(&memory), [0, 1, 2, 3, 4, 5, 6, 7]);
}
