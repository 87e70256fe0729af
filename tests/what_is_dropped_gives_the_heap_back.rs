//! What is dropped gives back all that it took from the heap, budgets with the list of their shares, too.
//!
//! A program of its own, since a program has one allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use pagewise::{Arena, Budget, ConcurrentVec, DemandRegion, PageVec, Reservation, page_size};

thread_local! {
    /// Bytes that this thread has and did not give back. (Without a destructor: the allocator looks here.)
    static TAKEN: Cell<usize> = const { Cell::new(0) };
}

struct Counted;

// SAFETY: the system's allocator, counted.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        TAKEN.set(TAKEN.get().wrapping_add(layout.size()));
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    // (The default writes the zeros, to all of the memory of the simulated system.)
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        TAKEN.set(TAKEN.get().wrapping_add(layout.size()));
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        TAKEN.set(TAKEN.get().wrapping_sub(layout.size()));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counted = Counted;

/// Makes one of each, several of them at a time on one budget, and drops them.
fn use_everything() {
    let budget = Budget::new(64 * page_size());
    let memory = || Reservation::builder(1 << 20).budget(budget.clone()).build().unwrap();
    let (one, other) = (memory(), memory());
    one.commit(..1).unwrap();
    other.commit(..1).unwrap();
    drop(one);
    memory().commit(..1).unwrap();
    // Its table of page states is a reservation itself.
    let long = Reservation::new(if cfg!(miri) { 1 << 20 } else { 8 << 30 }).unwrap();
    long.commit(..1).unwrap();
    let region = DemandRegion::builder(1 << 20).budget(budget.clone()).events(4).build().unwrap();
    region.commit(..1).unwrap();
    let mut numbers = PageVec::builder(1000).budget(budget.clone()).build().unwrap();
    numbers.push(1u64);
    let shared = ConcurrentVec::new(1000).unwrap();
    shared.try_push(String::from("an element of its own")).unwrap();
    let mut arena = Arena::new(1 << 20).unwrap();
    arena.alloc(7);
    arena.reset();
    // Nobody ever used this one.
    drop(Budget::new(page_size()));
}

#[test]
fn nothing_is_left_on_the_heap() {
    // What is the process's own is made once: the registry's table, the watch for forks.
    (0..3).for_each(|_| use_everything());
    let before = TAKEN.get();
    for _ in 0..4 {
        use_everything();
        assert_eq!(TAKEN.get().wrapping_sub(before) as isize, 0, "bytes that are left");
    }
}
