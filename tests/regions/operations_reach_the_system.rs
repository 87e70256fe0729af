//! Locking, discarding, prefaulting, releasing, naming, keeping out of dumps: Linux counts or shows the effect of each.
//! Each test has a process of its own, in which no other test maps or locks memory.
#![cfg(all(target_os = "linux", not(pagewise_model)))]

use crate::common::{self, Counted, counted, in_a_process, not_here, peek, poke};
use pagewise::{Arena, CommitStep, ConcurrentVec, DemandRegion, PageVec, Reservation, page_size};

/// Emulators answer from the emulating process, or not at all.
fn is_told() -> bool {
    let told = !common::emulated();
    if !told {
        not_here("what the kernel counts of this process's pages: the emulator does not tell");
    }
    told
}

/// A number of kibibytes from `/proc/self/status`, in bytes.
fn status(name: &str) -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

fn of(memory: &Reservation) -> Counted {
    counted(memory.as_ptr(), memory.len()).expect("the kernel tells")
}

fn guarded(pages: usize) -> Reservation {
    Reservation::builder(pages * page_size()).guard_pages(1).build().unwrap()
}

#[test]
fn locked_pages_count_as_locked_until_they_are_unlocked_or_decommitted() {
    if !is_told() {
        return;
    }
    let name = "locked_pages_count_as_locked_until_they_are_unlocked_or_decommitted";
    in_a_process(name, || {
        let page = page_size();
        let memory = guarded(8);
        memory.commit(..).unwrap();
        let before = status("VmLck");
        let locked = || (status("VmLck") - before, of(&memory).resident);
        assert_eq!(locked(), (0, 0));
        // Rounded outward: pages 1, 2 and 3, which are made resident.
        memory.lock(page + 1..3 * page + 1).unwrap();
        assert_eq!(locked(), (3 * page, 3 * page));
        memory.lock(page..2 * page).unwrap();
        assert_eq!(locked().0, 3 * page, "locking again locks nothing more");
        memory.unlock(2 * page + 5..2 * page + 6).unwrap();
        assert_eq!(locked().0, 2 * page);
        memory.decommit(3 * page..4 * page).unwrap();
        assert_eq!(locked().0, page);
        memory.commit(3 * page..4 * page).unwrap();
        assert_eq!(locked().0, page, "what is committed again is not locked");
        memory.unlock(..).unwrap();
        assert_eq!(locked().0, 0);
        memory.lock(..).unwrap();
        assert_eq!(locked(), (8 * page, 8 * page));
        memory.release().unwrap();
        assert_eq!(status("VmLck"), before);
    })
    .well();
}

/// The kernel takes discarded memory when it runs short, or when it is told to.
fn take_what_may_be_taken(start: *mut u8, len: usize) {
    // SAFETY: the kernel takes only pages that were discarded.
    let result = unsafe { libc::madvise(start.cast(), len, libc::MADV_PAGEOUT) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn discarded_pages_are_taken_under_pressure_and_their_neighbours_keep_what_they_hold() {
    if !is_told() {
        return;
    }
    let name = "discarded_pages_are_taken_under_pressure_and_their_neighbours_keep_what_they_hold";
    in_a_process(name, || {
        let page = page_size();
        let (memory, discarded) = (guarded(400), 100..300);
        memory.commit(..).unwrap();
        // SAFETY: everything is committed. (A huge page would be taken as a whole, or not at all.)
        unsafe {
            libc::madvise(memory.as_ptr().cast(), memory.len(), libc::MADV_NOHUGEPAGE);
            memory.as_ptr().write_bytes(7, memory.len());
        }
        let before = of(&memory);
        assert_eq!((before.resident, before.left_to_the_system), (400 * page, 0));
        // Rounded inward.
        memory.discard(discarded.start * page - 1..discarded.end * page + 1).unwrap();
        take_what_may_be_taken(memory.as_ptr(), memory.len());
        let after = of(&memory);
        assert_eq!((after.charged, memory.committed()), (400 * page, 400 * page));
        let kept = after.resident + after.swapped;
        assert!(kept >= 200 * page, "{kept} bytes: what was not discarded is gone");
        // The kernel marks pages in batches, so some may not be marked yet.
        assert!(kept <= 264 * page, "{kept} bytes: what was discarded is still there");
        for index in (0..400).filter(|index| !discarded.contains(index)) {
            assert_eq!(peek(memory.as_ptr().wrapping_add(index * page)), 7, "page {index}");
        }
        for index in discarded {
            let at = memory.as_ptr().wrapping_add(index * page);
            assert!(matches!(peek(at), 0 | 7));
            poke(at, 9);
            assert_eq!(peek(at), 9);
        }
    })
    .well();
}

#[test]
fn prefaulted_pages_are_resident_and_no_others() {
    if !is_told() {
        return;
    }
    in_a_process("prefaulted_pages_are_resident_and_no_others", || {
        let page = page_size();
        let memory = guarded(16);
        memory.commit(..12 * page).unwrap();
        assert_eq!(of(&memory).resident, 0);
        memory.prefault(3 * page + 7..6 * page + 1).unwrap();
        assert_eq!(of(&memory).resident, 4 * page);
        assert_eq!(memory.page_map().unwrap().to_string(), "cccrrrrccccc....");
        // Contents stay.
        poke(memory.as_ptr().wrapping_add(4 * page), 7);
        memory.prefault(..12 * page).unwrap();
        assert_eq!(memory.page_map().unwrap().to_string(), "rrrrrrrrrrrr....");
        assert_eq!(peek(memory.as_ptr().wrapping_add(4 * page)), 7);
    })
    .well();
}

#[test]
fn zeroing_takes_the_memory_of_whole_pages_and_keeps_their_charge() {
    if !is_told() {
        return;
    }
    in_a_process("zeroing_takes_the_memory_of_whole_pages_and_keeps_their_charge", || {
        let page = page_size();
        let memory = guarded(16);
        memory.commit(..).unwrap();
        memory.prefault(..).unwrap();
        memory.zero(2 * page + 1..6 * page).unwrap();
        let seen = of(&memory);
        assert_eq!((seen.charged, seen.resident), (16 * page, 13 * page));
        assert_eq!(memory.page_map().unwrap().to_string(), "rrrcccrrrrrrrrrr");
        // Also where the memory is locked.
        memory.lock(8 * page..10 * page).unwrap();
        memory.zero(8 * page..9 * page).unwrap();
        assert_eq!(memory.committed(), 16 * page);
    })
    .well();
}

/// Whether any mapping has this address.
fn is_mapped(at: *mut u8) -> bool {
    let mut state = 0u8;
    // SAFETY: `mincore` looks at the page tables only, and has a byte for the one page.
    let result = unsafe { libc::mincore(at.cast(), page_size(), (&raw mut state).cast()) };
    let code = std::io::Error::last_os_error().raw_os_error();
    assert!(result == 0 || code == Some(libc::ENOMEM), "{code:?}");
    result == 0
}

#[test]
fn what_is_released_or_dropped_is_unmapped_with_its_guard_pages() {
    if !is_told() {
        return;
    }
    in_a_process("what_is_released_or_dropped_is_unmapped_with_its_guard_pages", || {
        let page = page_size();
        let len = 16 * page;
        let mapped = |start: *mut u8| {
            (-2..18)
                .filter(|&index| is_mapped(start.wrapping_offset(index * page as isize)))
                .count()
        };
        let gone = |what: &str, start: *mut u8| assert_eq!(mapped(start), 0, "{what}");
        let reserve = || {
            let memory = Reservation::builder(len).guard_pages(2).build().unwrap();
            memory.commit(3 * page..9 * page).unwrap();
            poke(memory.as_ptr().wrapping_add(5 * page), 1);
            let start = memory.as_ptr();
            assert_eq!(mapped(start), 20);
            (memory, start)
        };
        let (memory, start) = reserve();
        memory.release().unwrap();
        gone("a reservation, released", start);
        let (memory, start) = reserve();
        drop(memory);
        gone("a reservation, dropped", start);
        for engine in common::engines() {
            for release in [true, false] {
                let builder = DemandRegion::builder(len).guard_pages(2).engine(engine);
                let mut region = builder.build().unwrap();
                region.fill(3 * page..9 * page, 1).unwrap();
                let start = region.as_ptr();
                assert_eq!(mapped(start), 20, "{engine:?}");
                if release {
                    region.release().unwrap();
                } else {
                    drop(region);
                }
                gone("a region", start);
            }
        }
        let mut vec = PageVec::<u8>::builder(len).guard_pages(2).build().unwrap();
        vec.resize(len, 1);
        let start = vec.as_mut_ptr();
        assert_eq!(mapped(start), 20);
        drop(vec);
        gone("PageVec", start);
        let shared = ConcurrentVec::<u8>::builder(len).guard_pages(2).build().unwrap();
        shared.push(1);
        let start = shared.as_slice().as_ptr().cast_mut();
        assert_eq!(mapped(start), 20);
        drop(shared);
        gone("ConcurrentVec", start);
        let arena = Arena::builder(len).guard_pages(2).build().unwrap();
        let start = std::ptr::from_mut(arena.alloc(1u8));
        assert_eq!(mapped(start), 20);
        drop(arena);
        gone("Arena", start);
    })
    .well();
}

#[test]
fn memory_is_kept_out_of_dumps_where_that_was_asked_for_and_nowhere_else() {
    if !is_told() {
        return;
    }
    let name = "memory_is_kept_out_of_dumps_where_that_was_asked_for_and_nowhere_else";
    in_a_process(name, || {
        let page = page_size();
        let len = 600 * page;
        for dump in [true, false] {
            let check = |what: &str, start: *const u8| {
                let seen = counted(start, len).expect("the kernel tells");
                let expected = if dump { 0 } else { len };
                assert_eq!((seen.not_dumped, seen.mapped), (expected, len), "{what}");
            };
            let memory = Reservation::builder(len).guard_pages(1).dump(dump).build().unwrap();
            // Guard pages are inaccessible, and may merge with other mappings.
            let start = memory.as_ptr();
            memory.commit(page..len - page).unwrap();
            memory.decommit(2 * page..3 * page).unwrap();
            memory.commit(..).unwrap();
            check("a reservation", start);
            for engine in common::engines() {
                let builder = DemandRegion::builder(len).guard_pages(1).engine(engine).dump(dump);
                let mut region = builder.step(CommitStep::page()).build().unwrap();
                for index in (0..600).step_by(3) {
                    region.write(index * page, &[1]).unwrap();
                }
                region.decommit(..).unwrap();
                region.fill(.., 1).unwrap();
                check(&format!("{engine:?}"), region.as_ptr());
            }
            let builder = PageVec::<u8>::builder(len).guard_pages(1).dump(dump);
            let mut vec = builder.build().unwrap();
            vec.resize(len, 1);
            check("PageVec", vec.as_ptr());
            let builder = ConcurrentVec::<u8>::builder(len).guard_pages(1).dump(dump);
            let shared = builder.build().unwrap();
            shared.try_extend_from_slice(&vec).unwrap();
            check("ConcurrentVec", shared.as_slice().as_ptr());
            let arena = Arena::builder(len).guard_pages(1).dump(dump).build().unwrap();
            check("Arena", arena.alloc_slice_copy(&vec).as_ptr());
        }
    })
    .well();
}

#[test]
fn the_start_is_aligned_as_asked_with_and_without_guard_pages() {
    for engine in common::engines() {
        for shift in [0, 13, 16, 21, 24, 27] {
            for guards in [0, 1] {
                // Several, since one alone may be aligned by chance.
                let regions: Vec<_> = (0..4)
                    .map(|_| {
                        let builder = DemandRegion::builder(3 * page_size()).engine(engine);
                        builder.align(1 << shift).guard_pages(guards).build().unwrap()
                    })
                    .collect();
                for region in &regions {
                    assert!(
                        region.as_ptr().addr().is_multiple_of(1 << shift),
                        "{engine:?} {shift}"
                    );
                    poke(region.as_ptr(), 1);
                }
            }
        }
    }
}

#[test]
fn memory_has_the_name_that_it_was_given() {
    in_a_process("memory_has_the_name_that_it_was_given", || {
        // SAFETY: a new mapping, named and looked at.
        let shown = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let at = libc::mmap(std::ptr::null_mut(), page_size(), 0, flags, -1, 0);
            let name = c"probe".as_ptr();
            libc::prctl(libc::PR_SET_VMA, libc::PR_SET_VMA_ANON_NAME, at, page_size(), name) == 0
        };
        if !shown || common::emulated() {
            return not_here("this kernel does not show names of anonymous memory");
        }
        let name_of = |start: *const u8| {
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
            let line = maps.lines().find(|line| {
                line.split_once('-')
                    .is_some_and(|(from, _)| usize::from_str_radix(from, 16) == Ok(start.addr()))
            });
            line.and_then(|line| line.split_once("[anon:"))
                .map(|(_, name)| name.trim_end_matches(']').to_owned())
        };
        let page = page_size();
        let memory =
            Reservation::builder(4 * page).guard_pages(1).name("a $store [x]").build().unwrap();
        memory.commit(page..2 * page).unwrap();
        assert_eq!(name_of(memory.as_ptr().wrapping_add(page)).as_deref(), Some("a _store _x_"));
        memory.decommit(page..2 * page).unwrap();
        memory.commit(2 * page..3 * page).unwrap();
        assert_eq!(
            name_of(memory.as_ptr().wrapping_add(2 * page)).as_deref(),
            Some("a _store _x_")
        );
        let long = Reservation::builder(page).guard_pages(1).name("n".repeat(200)).build().unwrap();
        long.commit(..).unwrap();
        assert_eq!(name_of(long.as_ptr()), Some("n".repeat(79)));
        let nameless = Reservation::builder(page).guard_pages(1).build().unwrap();
        nameless.commit(..).unwrap();
        assert_eq!(name_of(nameless.as_ptr()), None);
    })
    .well();
}
