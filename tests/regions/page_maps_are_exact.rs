//! The page map of a reservation whose pages are in known states: every run, every page, every letter. Linux only,
//! where the map comes from page tables.
#![cfg(all(target_os = "linux", not(pagewise_model)))]

use crate::common::{self, not_here, peek, poke};
use pagewise::{DemandRegion, PageMap, PageState, Reservation, page_size};

const RESERVED: PageState =
    PageState { committed: false, resident: false, huge: false, swapped: false };
const COMMITTED: PageState = PageState { committed: true, ..RESERVED };
const RESIDENT: PageState = PageState { resident: true, ..COMMITTED };
const SWAPPED: PageState = PageState { swapped: true, ..COMMITTED };

/// Compares everything that a map tells with one letter for each page.
#[track_caller]
fn expect(map: &PageMap, letters: &str) {
    assert_eq!(map.to_string(), letters);
    assert_eq!((map.pages(), map.page_size()), (letters.len(), page_size()));
    let mut first = 0;
    for run in map.runs() {
        let state = match letters.as_bytes()[first] {
            b'.' => RESERVED,
            b'c' => COMMITTED,
            b'r' => RESIDENT,
            b's' => SWAPPED,
            letter => panic!("{letter}"),
        };
        assert_eq!((run.first, run.state), (first, state), "{letters}");
        assert!((first..first + run.count).all(|page| map.page(page) == state), "{letters}");
        let before = first.checked_sub(1).map(|page| map.page(page));
        assert_ne!(before, Some(state), "neighbouring runs differ");
        first += run.count;
    }
    assert_eq!(first, letters.len());
    let count = |wanted: &str| letters.chars().filter(|&letter| wanted.contains(letter)).count();
    assert_eq!((map.committed(), map.resident()), (count("crs"), count("r")), "{letters}");
    assert_eq!(map.count(|state| state.swapped), count("s"));
    assert_eq!(map.count(|state| !state.committed), count("."));
}

fn is_told() -> bool {
    let told = !common::emulated();
    if !told {
        not_here("residency: page tables are the emulator's");
    }
    told
}

fn reserve(pages: usize) -> Reservation {
    let memory = Reservation::builder(pages * page_size()).guard_pages(1).build().unwrap();
    // SAFETY: advice that changes no contents. Where huge pages come by themselves, a touch would make
    // neighbours resident.
    unsafe { libc::madvise(memory.as_ptr().cast(), memory.len(), libc::MADV_NOHUGEPAGE) };
    memory
}

fn touch(memory: &Reservation, page: usize) {
    poke(memory.as_ptr().wrapping_add(page * page_size()), 1);
}

#[test]
fn gaps_between_resident_pages_are_shown_as_gaps() {
    if !is_told() {
        return;
    }
    let page = page_size();
    let memory = reserve(16);
    expect(&memory.page_map().unwrap(), "................");
    memory.commit(2 * page..10 * page).unwrap();
    memory.commit(12 * page..14 * page).unwrap();
    expect(&memory.page_map().unwrap(), "..cccccccc..cc..");
    for index in [3, 4, 7, 9, 12] {
        touch(&memory, index);
    }
    expect(&memory.page_map().unwrap(), "..crrccrcr..rc..");
    memory.prefault(2 * page..3 * page).unwrap();
    memory.zero(4 * page..5 * page).unwrap();
    expect(&memory.page_map().unwrap(), "..rrcccrcr..rc..");
    memory.decommit(7 * page..13 * page).unwrap();
    expect(&memory.page_map().unwrap(), "..rrccc......c..");
    memory.commit(..).unwrap();
    expect(&memory.page_map().unwrap(), "ccrrcccccccccccc");
    // Reading makes a page resident, too: it maps the kernel's shared page of zeros.
    peek(memory.as_ptr());
    touch(&memory, 15);
    expect(&memory.page_map().unwrap(), "rcrrcccccccccccr");
    memory.prefault(..).unwrap();
    expect(&memory.page_map().unwrap(), "rrrrrrrrrrrrrrrr");
    memory.decommit(..).unwrap();
    expect(&memory.page_map().unwrap(), "................");
}

/// More runs than one call of the kernel returns.
#[test]
fn a_map_of_many_runs_is_exact_to_its_end() {
    if !is_told() {
        return;
    }
    let memory = reserve(2000);
    memory.commit(page_size()..).unwrap();
    let resident = |page: usize| page > 0 && (page % 3 == 1 || page == 1999);
    (0..2000).filter(|&page| resident(page)).for_each(|page| touch(&memory, page));
    let letter = |page| match page {
        0 => '.',
        page if resident(page) => 'r',
        _ => 'c',
    };
    expect(&memory.page_map().unwrap(), &(0..2000).map(letter).collect::<String>());
}

#[test]
fn pages_of_a_region_are_shown_resident_once_they_are_touched() {
    if !is_told() {
        return;
    }
    let page = page_size();
    for engine in common::engines() {
        let builder = DemandRegion::builder(1040 * page).engine(engine).guard_pages(1);
        let mut region = builder.step(pagewise::CommitStep::page()).build().unwrap();
        let mut letters = vec!['.'; 1040];
        // Dense in one block, sparse in another.
        for index in (4..40).step_by(2).chain([600, 1039]) {
            region.write(index * page, &[1]).unwrap();
            letters[index] = 'r';
        }
        expect(&region.page_map().unwrap(), &letters.iter().collect::<String>());
        region.decommit(6 * page..8 * page).unwrap();
        letters[6] = '.';
        expect(&region.page_map().unwrap(), &letters.iter().collect::<String>());
        region.commit(600 * page..603 * page).unwrap();
        // The userfault engine commits a page by supplying its memory, so the page is resident at once.
        letters[601..603].fill(if engine == pagewise::Engine::UserFault { 'r' } else { 'c' });
        expect(&region.page_map().unwrap(), &letters.iter().collect::<String>());
    }
}

#[test]
fn pages_in_swap_space_are_shown_as_swapped() {
    if !is_told() {
        return;
    }
    let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
    if swaps.lines().count() < 2 {
        return not_here("pages in swap space: this system has none");
    }
    let page = page_size();
    let memory = reserve(16);
    memory.commit(..12 * page).unwrap();
    (0..8).for_each(|index| touch(&memory, index));
    // SAFETY: advice that changes no contents.
    let result = unsafe { libc::madvise(memory.as_ptr().cast(), 4 * page, libc::MADV_PAGEOUT) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    let map = memory.page_map().unwrap();
    if map.count(|state| state.swapped) < 4 {
        return not_here("pages in swap space: the system did not take them");
    }
    expect(&map, "ssssrrrrcccc....");
    peek(memory.as_ptr());
    expect(&memory.page_map().unwrap(), "rsssrrrrcccc....");
}

#[test]
fn a_letter_is_the_most_that_is_known_of_a_page() {
    let huge = PageState { huge: true, ..RESIDENT };
    let letters = [RESERVED, COMMITTED, RESIDENT, huge, SWAPPED].map(PageState::letter);
    assert_eq!(letters, ['.', 'c', 'r', 'H', 's']);
}

/// The handler populates what it commits: touching the rest of a step costs no fault at all. (In a process of its own:
/// whether that pays is measured at a process's thousandth call, and it is not done where it does not.)
#[test]
fn the_pages_of_a_step_are_resident_after_its_fault() {
    if !is_told() {
        return;
    }
    common::in_a_process("the_pages_of_a_step_are_resident_after_its_fault", || {
        for engine in common::engines() {
            let step = pagewise::CommitStep::fixed(4 * page_size());
            let region =
                DemandRegion::builder(16 * page_size()).engine(engine).step(step).build().unwrap();
            poke(region.as_ptr().wrapping_add(5 * page_size()), 1);
            expect(&region.page_map().unwrap(), "....rrrr........");
        }
    })
    .well();
}

#[test]
fn protected_pages_keep_no_others_from_being_prefaulted() {
    if !is_told() {
        return;
    }
    let memory = reserve(4);
    memory.commit(..).unwrap();
    memory.protect(..page_size(), pagewise::Access::Read).unwrap();
    memory.prefault(page_size()..).unwrap();
    expect(&memory.page_map().unwrap(), "crrr");
}
