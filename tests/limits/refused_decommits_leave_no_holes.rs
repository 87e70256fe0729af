//! Memory that could not be given back stays committed and counted; what was given back is committed again before it is
//! used. Linux only: the system refuses because the process has no mappings left.
#![cfg(all(target_os = "linux", target_pointer_width = "64", not(any(miri, pagewise_model))))]

use std::fs;

use crate::common;
use pagewise::{Arena, Budget, PageVec, page_size};

/// More than the pages whose states are decommitted in one go, so that giving back takes several
/// system calls.
const LEN: usize = 2500 << 20;

/// A mapping of our own, in which every other page is made readable until the process may have no
/// more mappings.
struct Mappings {
    start: *mut u8,
    pages: usize,
    readable: usize,
}

impl Mappings {
    fn new(most: usize) -> Self {
        let (pages, flags) = (2 * most, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let start = map(pages * page_size(), flags | libc::MAP_NORESERVE);
        Self { start, pages, readable: 0 }
    }

    fn protect(&self, page: usize, rights: i32) -> bool {
        // SAFETY: a page of this mapping, which only this function uses.
        unsafe {
            let address = self.start.add(page * page_size());
            libc::mprotect(address.cast(), page_size(), rights) == 0
        }
    }

    /// Uses up all mappings but `left`.
    fn exhaust_but(&mut self, left: usize) {
        // Shared memory never merges with its neighbours: each is exactly one mapping.
        let spare: Vec<_> =
            (0..left).map(|_| map(page_size(), libc::MAP_SHARED | libc::MAP_ANONYMOUS)).collect();
        while self.protect(2 * self.readable + 1, libc::PROT_READ) {
            self.readable += 1;
        }
        for start in spare {
            // SAFETY: mapped above, and used by nobody.
            assert_eq!(unsafe { libc::munmap(start.cast(), page_size()) }, 0);
        }
    }

    fn give_back(&mut self) {
        for page in 0..self.readable {
            assert!(self.protect(2 * page + 1, libc::PROT_NONE));
        }
        self.readable = 0;
    }
}

fn map(len: usize, flags: i32) -> *mut u8 {
    // SAFETY: a new mapping; the result is checked.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_NONE, flags, -1, 0) };
    assert_ne!(start, libc::MAP_FAILED);
    start.cast()
}

impl Drop for Mappings {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's, and not used any more.
        unsafe { libc::munmap(self.start.cast(), self.pages * page_size()) };
    }
}

/// Runs `body` with no mapping left, with one, and so on.
fn short_of_mappings(body: fn(&mut Mappings, usize)) {
    let most: usize =
        fs::read_to_string("/proc/sys/vm/max_map_count").unwrap().trim().parse().unwrap();
    for left in 0..4 {
        body(&mut Mappings::new(most), left);
    }
}

fn cannot_be_shown() -> bool {
    let most = fs::read_to_string("/proc/sys/vm/max_map_count");
    let reason = if common::sanitized() {
        "what the system refuses (the sanitizer needs memory)"
    } else if common::address_space_is_dear() {
        "the mappings that run out are the emulator's, not this process's"
    } else if !most.is_ok_and(|text| text.trim().parse::<usize>().is_ok_and(|most| most <= 1 << 20))
    {
        "vm.max_map_count is not known, or more than a test should use up"
    } else if Arena::new(LEN).unwrap().try_reserve(LEN).is_err() {
        "this system does not commit 2,500 MiB"
    } else {
        return false;
    };
    common::not_here(reason);
    true
}

#[test]
fn an_array_that_could_not_give_all_of_its_memory_back_can_be_filled_again() {
    if !common::is_child("the only one") && cannot_be_shown() {
        return;
    }
    let test = "an_array_that_could_not_give_all_of_its_memory_back_can_be_filled_again";
    common::in_a_process(test, || {
        short_of_mappings(|mappings, left| {
            let budget = Budget::new(usize::MAX);
            let mut vec = PageVec::<u8>::builder(LEN).budget(budget.clone()).build().unwrap();
            vec.reserve_exact(LEN);
            vec.push(7);
            mappings.exhaust_but(left);
            vec.shrink_to_fit();
            let refused = vec.committed() > page_size();
            mappings.give_back();
            println!("{left} mappings left: {} bytes stayed", vec.committed());
            assert!(left > 0 || refused, "with no mapping left, nothing can be given back");
            assert_eq!(budget.used(), vec.committed());
            assert_eq!(vec.capacity(), vec.committed());
            vec.reserve_exact(LEN - 1);
            vec.spare_capacity_mut().iter_mut().step_by(1 << 20).for_each(|slot| {
                slot.write(1);
            });
            assert_eq!((vec[0], vec.committed()), (7, LEN));
            vec.shrink_to_fit();
            assert_eq!((budget.used(), vec.committed()), (page_size(), page_size()));
        });
    })
    .well();
}

#[test]
fn an_arena_that_could_not_give_all_of_its_memory_back_can_be_filled_again() {
    if !common::is_child("the only one") && cannot_be_shown() {
        return;
    }
    let test = "an_arena_that_could_not_give_all_of_its_memory_back_can_be_filled_again";
    common::in_a_process(test, || {
        short_of_mappings(|mappings, left| {
            let budget = Budget::new(usize::MAX);
            let mut arena = Arena::builder(LEN).budget(budget.clone()).build().unwrap();
            arena.alloc_slice_uninit::<u8>(LEN);
            arena.reset();
            *arena.alloc(0u8) = 7;
            mappings.exhaust_but(left);
            let shrunk = arena.shrink_to_fit();
            mappings.give_back();
            println!("{left} mappings left: {} bytes stayed", arena.committed());
            assert_eq!(shrunk.is_err(), arena.committed() > page_size());
            assert!(left > 0 || shrunk.is_err(), "with no mapping left, nothing can be given back");
            assert_eq!(budget.used(), arena.committed());
            let slots = arena.alloc_slice_uninit::<u8>(LEN - 1);
            slots.iter_mut().step_by(1 << 20).for_each(|slot| {
                slot.write(1);
            });
            assert_eq!(arena.used(), LEN);
            arena.reset_and_release().unwrap();
            assert_eq!((budget.used(), arena.committed()), (0, 0));
        });
    })
    .well();
}
