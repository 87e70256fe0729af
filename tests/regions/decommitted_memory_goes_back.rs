//! Decommitting returns physical memory *and* commit charge; refusals by the system are errors.
//! Read from `/proc`, so: Linux only.
#![cfg(all(target_os = "linux", not(any(miri, pagewise_model))))]

use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::common;
use pagewise::{DemandRegion, Error, PageVec, RefusalReason, Reservation, page_size};

/// `/proc` shows the whole process, so the tests run one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes of the mappings inside `start .. start + len` that are charged (flag `ac`), and that are
/// resident. (`Committed_AS` of the whole system is counted in batches, and off by up to a gigabyte.)
/// `None` where the kernel does not tell, as under qemu's user mode.
fn charged_and_resident(start: *mut u8, len: usize) -> Option<(usize, usize)> {
    let smaps = fs::read_to_string("/proc/self/smaps").ok()?;
    let (mut charged, mut resident, mut size, mut ours) = (0, 0, 0, false);
    let (mut flags_seen, range) = (false, start as usize..start as usize + len);
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let first = words.next()?;
        let number = || line.split_whitespace().nth(1).and_then(|word| word.parse::<usize>().ok());
        if let Some((from, to)) = first.split_once('-').filter(|_| !first.ends_with(':')) {
            let (from, to) =
                (usize::from_str_radix(from, 16).ok()?, usize::from_str_radix(to, 16).ok()?);
            // Neighbours may have merged with our mappings: only what lies inside counts.
            ours = range.start < to && from < range.end;
            size = to.min(range.end).saturating_sub(from.max(range.start));
        } else if ours && first == "Rss:" {
            resident += number()? << 10;
        } else if ours && first == "VmFlags:" {
            flags_seen = true;
            charged += if words.any(|flag| flag == "ac") { size } else { 0 };
        }
    }
    flags_seen.then_some((charged, resident))
}

/// Says why a check cannot run here.
fn not_told() {
    common::not_here(
        "this kernel or emulator does not tell the state of memory in /proc/self/smaps",
    );
}

#[test]
fn charge_and_resident_memory_are_back_where_they_started_after_decommit() {
    let _alone = alone();
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
    let _alone = alone();
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

#[test]
fn zeroing_keeps_the_charge_and_returns_the_memory() {
    if common::emulated() {
        return not_told();
    }
    let _alone = alone();
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
    let _alone = alone();
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

#[test]
fn a_commit_that_the_system_refuses_is_an_error_and_the_region_goes_on_working() {
    if common::sanitized() {
        return common::not_here("what the system refuses (the sanitizer needs memory)");
    }
    let name = "a_commit_that_the_system_refuses_is_an_error_and_the_region_goes_on_working";
    common::in_a_process(name, || {
        let memory = Reservation::new(1 << 30).unwrap();
        memory.commit(..1 << 20).unwrap();
        let mut region = DemandRegion::new(1 << 30).unwrap();
        region.fill(..1 << 20, 7).unwrap();
        if !limit_data_to(256 << 20) {
            return common::not_here("RLIMIT_DATA is not enforced here (qemu user mode?)");
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

/// Whether the kernel holds this process to it.
fn limit_data_to(bytes: u64) -> bool {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: a plain call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_DATA, &limit) }, 0);
    let probe = Reservation::new(2 * bytes as usize).unwrap();
    probe.commit(..).is_err()
}

#[test]
fn running_out_of_mappings_is_told_apart_from_running_out_of_memory() {
    if common::sanitized() {
        return common::not_here("what the system refuses (the sanitizer needs memory)");
    }
    if common::emulated() {
        return common::not_here(
            "the mappings that run out are the emulator's, not this process's",
        );
    }
    let name = "running_out_of_mappings_is_told_apart_from_running_out_of_memory";
    common::in_a_process(name, || {
        let most: usize = match fs::read_to_string("/proc/sys/vm/max_map_count") {
            Ok(text) if text.trim().parse::<usize>().is_ok_and(|most| most <= 1 << 18) => {
                text.trim().parse().unwrap()
            }
            other => return common::not_here(&format!("vm.max_map_count is {other:?}")),
        };
        let page = page_size();
        let memory = Reservation::new(4 * most * page).unwrap();
        let every_other = |index: usize| 2 * index * page..(2 * index + 1) * page;
        let refused =
            (0..most).find_map(|index| memory.commit(every_other(index)).err().map(|e| (index, e)));
        let Some((index, error)) = refused else {
            return common::not_here(
                "this kernel allows more mappings than it says (qemu user mode?)",
            );
        };
        assert!(matches!(error, Error::MappingsExhausted { .. }), "{error:?}");
        assert!(error.to_string().contains("vm.max_map_count"), "{error}");
        assert_eq!(memory.committed(), index * page);
        // SAFETY: committed.
        unsafe { memory.as_ptr().write(1) };
        // What is refused changes nothing, and there is a way on: neighbours that close the gaps.
        memory.commit(..1000 * page).unwrap();
        memory.commit(every_other(index)).unwrap();
        memory.decommit(..).unwrap();
        assert_eq!(memory.committed(), 0);
    })
    .well();
}

#[test]
fn appending_moves_memory_from_one_array_to_the_other() {
    if common::emulated() {
        return not_told();
    }
    let _alone = alone();
    let (max, many, step) = (64 << 20, 16 << 20, 64 << 10);
    let new = || PageVec::<u8>::builder(max).guard_pages(1).build().unwrap();
    let (mut vec, mut other) = (new(), new());
    vec.extend_from_slice(&[1; 1000]);
    other.resize(many, 2);
    let seen = |vec: &PageVec<u8>| charged_and_resident(vec.as_ptr().cast_mut(), max);
    let Some((charged, resident)) = seen(&other) else { return not_told() };
    assert!(charged == other.committed() && resident >= many);
    vec.append(&mut other);
    for (vec, least) in [(&vec, many + 1000), (&other, 0)] {
        let (charged, resident) = seen(vec).unwrap();
        let most = least + least / 8 + 2 * step + page_size();
        assert_eq!(charged, vec.committed());
        assert!((least..=most).contains(&charged), "{charged} bytes for {least}");
        assert!((least..=most).contains(&resident), "{resident} bytes resident for {least}");
    }
    other.shrink_to_fit();
    assert_eq!((seen(&other), other.committed()), (Some((0, 0)), 0));
    assert_eq!((vec.len(), vec[999], vec[1000], vec[many + 999]), (many + 1000, 1, 2, 2));
}
