//! Reading and writing a file as a store allocates nothing, errors included: so they may be called in a fault handler.
//!
//! A program of its own, since a program has one allocator.
#![cfg(all(unix, not(pagewise_model)))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use pagewise::{FileStore, PageStore};

thread_local! {
    /// What this thread has allocated and freed.
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

struct Counted;

// SAFETY: the system's allocator, counted.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counted = Counted;

fn counted<R>(work: impl FnOnce() -> R) -> (usize, R) {
    let before = CALLS.get();
    let result = work();
    (CALLS.get() - before, result)
}

#[test]
fn reads_writes_and_their_errors_allocate_nothing() {
    let path = std::env::temp_dir().join(format!("pagewise-no-heap-{}", std::process::id()));
    let file = FileStore::create(&path, 100_000).unwrap();
    let only_read = FileStore::builder(&path).read_only(true).open().unwrap();
    let store: &dyn PageStore = &file;
    assert!(store.in_handler().is_some());
    let mut buffer = [7; 5000];
    let (allocated, worked) = counted(|| {
        store.write(95_000, &buffer).is_ok()
            && store.read(95_000, &mut buffer).is_ok()
            && store.read(99_999, &mut buffer).is_err()
            && store.write(99_999, &buffer).is_err()
            && only_read.write(0, &buffer).is_err()
    });
    assert!(worked);
    assert_eq!(allocated, 0);

    std::fs::File::options().write(true).open(&path).unwrap().set_len(10).unwrap();
    let (allocated, failed) =
        counted(|| (store.read(0, &mut buffer).is_err(), store.write(0, &buffer).is_err()));
    assert_eq!((allocated, failed), (0, (true, true)));
    std::fs::remove_file(&path).unwrap();

    // The counter counts.
    assert!(counted(|| drop(std::hint::black_box(Box::new(1)))).0 >= 2);
}
