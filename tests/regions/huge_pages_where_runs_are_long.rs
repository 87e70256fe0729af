//! Which pages become huge ones. Linux shows in `/proc/self/smaps` which mappings may have them (the flag `hg`),
//! must not (`nh`), and how many bytes are in huge pages. Whether there are free ones is the machine's affair.
#![cfg(all(target_os = "linux", not(pagewise_model)))]

use crate::common::{self, Counted, counted, not_here, poke};
use pagewise::{
    Arena, ConcurrentVec, DemandRegion, DemandRegionBuilder, Engine, HugePages, PageVec,
    Reservation, page_size,
};

const MIB: usize = 1 << 20;

/// Whether the kernel has transparent huge pages of 2 MiB, and tells of them.
fn are_there() -> bool {
    let setting = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
    let there = setting.is_ok_and(|setting| !setting.contains("[never]"))
        && page_size() == 4096
        && !common::emulated();
    if !there {
        not_here("transparent huge pages");
    }
    there
}

fn of(memory: &Reservation) -> Counted {
    counted(memory.as_ptr(), memory.len()).expect("the kernel tells")
}

fn of_region(region: &DemandRegion) -> Counted {
    counted(region.as_ptr(), region.len()).expect("the kernel tells")
}

/// Guard pages keep the mappings from merging with a neighbour's.
fn adaptive(len: usize) -> DemandRegionBuilder {
    DemandRegion::builder(len).huge_pages(HugePages::Adaptive).guard_pages(1)
}

/// Asserts that a run of so many bytes may have huge pages in all but its beginning and its end, and has some.
#[track_caller]
fn assert_mostly_huge(counted: Counted, len: usize) {
    let asked = counted.asked_for_huge_pages;
    assert!(asked + 20 * MIB >= len && asked <= len - 14 * MIB, "{asked} of {len} bytes");
    if counted.huge == 0 {
        return not_here("free huge pages");
    }
    assert!(counted.huge <= asked, "{counted:?}");
}

#[test]
fn a_long_run_of_faults_gets_huge_pages_and_is_no_further_ahead_for_it() {
    if !are_there() {
        return;
    }
    for engine in [Engine::Auto, Engine::Protect] {
        for down in [false, true] {
            let len = 64 * MIB;
            let mut region = adaptive(len).engine(engine).build().unwrap();
            for done in (0..len).step_by(page_size()) {
                let at = if down { len - page_size() - done } else { done };
                region.as_mut_slice()[at] = 1;
                let ahead = region.committed() - done - page_size();
                let allowed = (64 << 10).max(done / 8);
                assert!(ahead <= allowed, "{ahead} bytes ahead after {done}: {engine:?}");
            }
            assert!(region.as_slice().iter().step_by(page_size()).all(|&byte| byte == 1));
            assert_mostly_huge(of_region(&region), len);
        }
    }
}

#[test]
fn scattered_pages_short_runs_and_explicit_commits_stay_small() {
    if !are_there() {
        return;
    }
    let region = adaptive(1 << 30).build().unwrap();
    for nth in 0..2000 {
        // SAFETY: inside the region, which is this test's own.
        poke(unsafe { region.as_ptr().add(nth * 7919 % 262_144 * page_size()) }, 1);
    }
    // A run of 8 MiB, and 64 MiB that are committed but not touched.
    region.write_zeros_for_a_run(512 * MIB..520 * MIB);
    region.commit(600 * MIB..664 * MIB).unwrap();
    assert_eq!(of_region(&region).asked_for_huge_pages, 0);
    let memory =
        Reservation::builder(64 * MIB).huge_pages(HugePages::Adaptive).guard_pages(1).build();
    let memory = memory.unwrap();
    memory.commit(..).unwrap();
    poke(memory.as_ptr(), 1);
    let before = of(&memory);
    assert_eq!((before.asked_for_huge_pages, before.resident), (0, page_size()));
    // Prefaulting says that all of it is wanted: whole huge pages, and no more.
    memory.prefault(3 * MIB..9 * MIB - 5).unwrap();
    let after = of(&memory);
    assert_eq!(after.asked_for_huge_pages, 4 * MIB);
    assert_eq!(after.resident, 6 * MIB + page_size());
}

trait Run {
    fn write_zeros_for_a_run(&self, range: std::ops::Range<usize>);
}

impl Run for DemandRegion {
    fn write_zeros_for_a_run(&self, range: std::ops::Range<usize>) {
        for offset in range.step_by(page_size()) {
            // SAFETY: inside the region, which is the test's own.
            poke(unsafe { self.as_ptr().add(offset) }, 0);
        }
    }
}

#[test]
fn a_limit_that_is_no_multiple_of_a_huge_page_is_reached_to_the_page() {
    if !are_there() {
        return;
    }
    let limit = 41 * MIB + 3 * page_size();
    for engine in [Engine::Auto, Engine::Protect] {
        let mut region = adaptive(64 * MIB).engine(engine).limit(limit).build().unwrap();
        for offset in (0..limit).step_by(page_size()) {
            region.as_mut_slice()[offset] = 1;
        }
        assert_eq!(region.committed(), limit);
        assert_eq!(region.fill(.., 2).unwrap_err().copied, limit);
        assert!(of_region(&region).resident <= limit);
    }
}

#[test]
fn arrays_and_arenas_that_grow_long_get_huge_pages() {
    if !are_there() {
        return;
    }
    let len = 64 * MIB;
    let mut vec =
        PageVec::<u64>::builder(2 * len / 8).huge_pages(HugePages::Adaptive).guard_pages(1);
    let mut pushed = vec.clone().build().unwrap();
    (0..len / 8).for_each(|nth| pushed.push(nth as u64));
    assert!(pushed.committed() <= len + len / 8);
    assert_mostly_huge(counted(pushed.as_ptr().cast(), 2 * len).unwrap(), len);
    assert!(pushed.iter().enumerate().all(|(nth, &value)| nth as u64 == value));

    vec = vec.name("extended");
    let mut extended = vec.build().unwrap();
    extended.extend_from_slice(&pushed);
    let seen = counted(extended.as_ptr().cast(), 2 * len).unwrap();
    assert_eq!(seen.asked_for_huge_pages, len);

    let shared = ConcurrentVec::<u64>::builder(2 * len / 8).huge_pages(HugePages::Adaptive);
    let shared = shared.guard_pages(1).build().unwrap();
    (0..len / 8).for_each(|nth| _ = shared.push(nth as u64));
    assert_mostly_huge(counted(shared.as_slice().as_ptr().cast(), 2 * len).unwrap(), len);

    let arena = Arena::builder(2 * len).huge_pages(HugePages::Adaptive).guard_pages(1);
    let arena = arena.build().unwrap();
    let first = std::ptr::from_ref(arena.alloc(0u64));
    (1..len / 8).for_each(|nth| _ = arena.alloc(nth as u64));
    assert_mostly_huge(counted(first.cast(), 2 * len).unwrap(), len);
}

#[test]
fn what_was_decommitted_comes_back_in_small_pages() {
    if !are_there() {
        return;
    }
    let mut region = adaptive(64 * MIB).build().unwrap();
    region.write_zeros_for_a_run(0..64 * MIB);
    assert_mostly_huge(of_region(&region), 64 * MIB);
    region.decommit(..).unwrap();
    let gone = of_region(&region);
    assert_eq!((gone.asked_for_huge_pages, gone.resident, gone.huge), (0, 0, 0));
    region.write_zeros_for_a_run(20 * MIB..24 * MIB);
    assert_eq!(of_region(&region).asked_for_huge_pages, 0);
}

/// A huge page that is decommitted in part keeps the other part's bytes, and gives back what it must.
#[test]
fn a_part_of_a_huge_page_goes_back_and_the_rest_keeps_what_it_holds() {
    if !are_there() {
        return;
    }
    let mut region = adaptive(64 * MIB).build().unwrap();
    region.as_mut_slice().fill(7);
    region.decommit(33 * MIB + 5 * page_size()..35 * MIB - 3 * page_size()).unwrap();
    assert_eq!(of_region(&region).resident, 62 * MIB + 8 * page_size());
    let gone = 33 * MIB + 5 * page_size()..35 * MIB - 3 * page_size();
    assert!(!region.is_committed(gone.clone()));
    assert!(region.as_slice()[..gone.start].iter().all(|&byte| byte == 7));
    assert!(region.as_slice()[gone.end..].iter().all(|&byte| byte == 7));
    assert!(region.as_slice()[gone].iter().all(|&byte| byte == 0));
}

#[test]
fn who_wants_no_huge_pages_tells_the_system() {
    if !are_there() {
        return;
    }
    let never = DemandRegion::builder(64 * MIB).huge_pages(HugePages::Never).guard_pages(1);
    let mut region = never.build().unwrap();
    region.write_zeros_for_a_run(0..64 * MIB);
    region.decommit(10 * MIB..30 * MIB).unwrap();
    let seen = of_region(&region);
    assert_eq!((seen.asked_for_small_pages, seen.huge), (64 * MIB, 0));
    assert_eq!(seen.asked_for_huge_pages, 0);
    // The userfault engine gives each page its memory, so it asks for none, either.
    let Ok(region) = adaptive(64 * MIB).engine(Engine::UserFault).build() else { return };
    region.write_zeros_for_a_run(0..64 * MIB);
    assert_eq!(of_region(&region).asked_for_huge_pages, 0);
}

#[test]
#[cfg(target_os = "linux")]
fn huge_pages_come_when_they_are_asked_for_and_the_page_map_shows_them() {
    if !are_there() {
        return;
    }
    let mut region =
        DemandRegion::builder(64 << 20).huge_pages(HugePages::Transparent).build().unwrap();
    region.fill(.., 1).unwrap();
    let map = region.page_map().unwrap();
    let huge = map.count(|state| state.huge);
    if huge == 0 {
        return not_here("huge pages in the page map, or free ones");
    }
    assert!(huge * 2 > map.pages(), "{huge} of {} pages are huge", map.pages());
    let plain = DemandRegion::builder(64 << 20).build().unwrap();
    plain.commit(..).unwrap();
    assert_eq!(plain.page_map().unwrap().count(|state| state.huge), 0);
}
