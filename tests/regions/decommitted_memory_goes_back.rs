//! Decommitting returns physical memory *and* commit charge, and changes nothing else of the mapping. Linux only,
//! since the numbers are read from `/proc`.
#![cfg(all(target_os = "linux", not(any(miri, pagewise_model))))]

use std::fs;

use crate::common;
use pagewise::{CommitStep, DemandRegion, Engine, Reservation, page_size};

/// Bytes of a range that are charged, and that are resident. (`Committed_AS` of the whole system is counted in
/// batches, and off by up to a gigabyte.)
fn charged_and_resident(start: *mut u8, len: usize) -> Option<(usize, usize)> {
    common::counted(start, len).map(|seen| (seen.charged, seen.resident))
}

/// Says why a check cannot run here.
fn not_told() {
    common::not_here(
        "this kernel or emulator does not tell the state of memory in /proc/self/smaps",
    );
}

#[test]
fn charge_and_resident_memory_are_back_where_they_started_after_decommit() {
    let len = 256 << 20;
    let memory = Reservation::builder(len).guard_pages(1).build().unwrap();
    let Some(before) = charged_and_resident(memory.as_ptr(), len) else { return not_told() };
    assert_eq!(before, (0, 0), "reserving costs nothing");
    for _ in 0..3 {
        memory.commit(..).unwrap();
        assert_eq!(charged_and_resident(memory.as_ptr(), len).unwrap(), (len, 0));
        // SAFETY: committed in the lines before.
        unsafe { memory.as_ptr().write_bytes(1, len) };
        assert_eq!(charged_and_resident(memory.as_ptr(), len).unwrap(), (len, len));
        memory.decommit(..).unwrap();
        assert_eq!(charged_and_resident(memory.as_ptr(), len).unwrap(), (0, 0));
    }
}

#[test]
fn a_region_that_was_touched_everywhere_gives_everything_back() {
    let len = 64 << 20;
    let mut region = DemandRegion::builder(len).guard_pages(1).build().unwrap();
    let (start, page) = (region.as_ptr(), page_size());
    region.fill(.., 1).unwrap();
    let Some((charged, resident)) = charged_and_resident(start, len) else { return not_told() };
    assert_eq!((charged, resident), (len, len));
    region.decommit(..).unwrap();
    assert_eq!(charged_and_resident(start, len).unwrap(), (0, 0));
    // And piece by piece, in an order that leaves holes.
    region.fill(.., 2).unwrap();
    for page_index in (0..len / page).step_by(2).chain((1..len / page).step_by(2)) {
        region.decommit(page_index * page..(page_index + 1) * page).unwrap();
    }
    assert_eq!(region.committed(), 0);
    assert_eq!(charged_and_resident(start, len).unwrap(), (0, 0));
}

/// The userfault engine makes all of a region accessible at once: charged, its whole length would count against the
/// system's commit limit. (Where `vm.overcommit_memory` is 2, the kernel charges it all the same.)
#[test]
fn a_committed_page_is_charged_alone_and_by_the_userfault_engine_not_at_all() {
    let strict = fs::read_to_string("/proc/sys/vm/overcommit_memory").unwrap().trim() == "2";
    let (len, page) = (256 << 20, page_size());
    for engine in common::engines() {
        let builder = DemandRegion::builder(len).engine(engine).guard_pages(1);
        let mut region = builder.step(CommitStep::page()).build().unwrap();
        region.write(len / 2, &[1]).unwrap();
        let seen = charged_and_resident(region.as_ptr(), len);
        let Some((charged, resident)) = seen else { return not_told() };
        let expected = match engine {
            Engine::UserFault if strict => len,
            Engine::UserFault => 0,
            _ => page,
        };
        assert_eq!((charged, resident), (expected, page), "{engine:?}");
    }
}

#[test]
fn zeroing_keeps_the_charge_and_returns_the_memory() {
    if common::emulated() {
        return not_told();
    }
    let len = 16 << 20;
    let memory = Reservation::builder(len).guard_pages(1).build().unwrap();
    memory.commit(..).unwrap();
    memory.prefault(..).unwrap();
    let Some(seen) = charged_and_resident(memory.as_ptr(), len) else { return not_told() };
    assert_eq!(seen, (len, len), "prefault makes resident");
    memory.zero(..).unwrap();
    assert_eq!(charged_and_resident(memory.as_ptr(), len).unwrap(), (len, 0));
}

#[test]
fn a_name_and_the_exclusion_from_dumps_survive_a_decommit() {
    if common::emulated() {
        return not_told();
    }
    let memory = Reservation::builder(1 << 20).name("survivor").dump(false).build().unwrap();
    for round in 0..2 {
        let maps = fs::read_to_string("/proc/self/smaps").unwrap();
        if !maps.contains("VmFlags") {
            return not_told();
        }
        let entry = maps.split_once(&format!("{:x}-", memory.as_ptr() as usize)).unwrap().1;
        let flags = entry.lines().find(|line| line.starts_with("VmFlags")).unwrap();
        assert!(flags.contains(" dd"), "round {round}: {flags}");
        if !entry.lines().next().unwrap().contains("[anon:survivor]") {
            common::not_here("this kernel does not show names of anonymous memory");
        }
        memory.commit(..).unwrap();
        memory.decommit(..).unwrap();
    }
}
