//! `par_extend` writes where the elements stay: what is allocated on the way does not grow with them.
//! A program of its own, since the allocator that counts is the whole program's.
#![cfg(feature = "rayon")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pagewise::PageVec;
use rayon::iter::{
    IndexedParallelIterator, IntoParallelIterator, IntoParallelRefIterator, ParallelExtend,
    ParallelIterator,
};

/// Counts the bytes that were ever asked for.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator, and a counter.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The counter is the whole process's: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

fn allocated_by(body: impl FnOnce()) -> usize {
    let before = ALLOCATED.load(Ordering::Relaxed);
    body();
    ALLOCATED.load(Ordering::Relaxed) - before
}

const LEN: usize = if cfg!(miri) { 1 << 10 } else { 1 << 20 };

#[test]
fn indexed_elements_are_written_in_place() {
    let _alone = alone();
    let mut vec = PageVec::new(4 * LEN).unwrap();
    vec.push(7);
    // The first use starts the threads.
    vec.par_extend([8u64].into_par_iter());
    let bytes = allocated_by(|| vec.par_extend((0..LEN as u64).into_par_iter().map(|n| 2 * n)));
    assert!(bytes < LEN, "{bytes} bytes were allocated to append {} bytes", LEN * 8);
    assert_eq!(vec[..2], [7, 8]);
    assert!(vec[2..].iter().copied().eq((0..LEN as u64).map(|n| 2 * n)));

    let source: Vec<u64> = vec[..LEN].to_vec();
    let bytes = allocated_by(|| vec.par_extend(source.par_iter().copied().rev().chain([1, 2])));
    assert!(bytes < LEN, "{bytes}");
    assert!(vec[LEN + 2..].iter().eq(source.iter().rev().chain(&[1, 2])));
}

#[test]
fn elements_of_unknown_number_come_in_order() {
    let _alone = alone();
    let mut vec = PageVec::new(LEN).unwrap();
    vec.push(String::from("first"));
    let names = (0..LEN).into_par_iter().filter(|n| n % 3 == 0).map(|n| n.to_string());
    vec.par_extend(names);
    assert_eq!(vec[0], "first");
    assert!(
        vec[1..].iter().eq((0..LEN).step_by(3).map(|n| n.to_string()).collect::<Vec<_>>().iter())
    );
}

#[test]
fn elements_without_a_size_are_counted() {
    let _alone = alone();
    let mut vec = PageVec::new(usize::MAX).unwrap();
    vec.par_extend((0..1000).into_par_iter().map(|_| ()));
    vec.par_extend((0..1000).into_par_iter().filter(|n| n % 2 == 0).map(|_| ()));
    assert_eq!(vec.len(), 1500);
}

#[test]
fn a_panic_on_the_way_appends_nothing_and_drops_everything_once() {
    let _alone = alone();
    let counted = Arc::new(());
    let mut vec = PageVec::new(LEN).unwrap();
    vec.push(Arc::clone(&counted));
    for bad in [0, 1, LEN / 4, LEN / 2 - 1] {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            vec.par_extend((0..LEN / 2).into_par_iter().map(|n| {
                assert_ne!(n, bad, "on purpose");
                Arc::clone(&counted)
            }));
        }));
        assert!(outcome.is_err());
        assert_eq!((vec.len(), Arc::strong_count(&counted)), (1, 2));
    }
    let refused = catch_unwind(AssertUnwindSafe(|| {
        vec.par_extend((0..LEN).into_par_iter().map(|_| Arc::clone(&counted)));
    }));
    assert!(refused.is_err(), "one too many");
    assert_eq!((vec.len(), Arc::strong_count(&counted)), (1, 2));
    vec.par_extend((0..10).into_par_iter().map(|_| Arc::clone(&counted)));
    assert_eq!((vec.len(), Arc::strong_count(&counted)), (11, 12));
}

#[test]
fn an_iterator_that_lies_about_its_length_is_a_panic_and_no_more() {
    use rayon::iter::plumbing::UnindexedConsumer;

    struct Lying {
        said: usize,
        elements: Vec<Arc<()>>,
    }

    impl ParallelIterator for Lying {
        type Item = Arc<()>;

        fn drive_unindexed<C: UnindexedConsumer<Arc<()>>>(self, consumer: C) -> C::Result {
            self.elements.into_par_iter().drive(consumer)
        }

        fn opt_len(&self) -> Option<usize> {
            Some(self.said)
        }
    }

    let _alone = alone();
    let counted = Arc::new(());
    let mut vec = PageVec::new(100).unwrap();
    for (said, there) in [(0, 1), (10, 9), (9, 10), (50, 0)] {
        let elements = vec![Arc::clone(&counted); there];
        let lie = AssertUnwindSafe(|| vec.par_extend(Lying { said, elements }));
        assert!(catch_unwind(lie).is_err(), "{said} instead of {there}");
        assert_eq!((vec.len(), Arc::strong_count(&counted)), (0, 1));
    }
}
