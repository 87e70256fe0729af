//! How many memory mappings the process has: counted now and then, estimated in between.
//!
//! Linux allows a process `vm.max_map_count` of them, 65,530 unless told otherwise, and a program has other
//! uses for them than pagewise. So the guard engine, which can do with few, stays within half.

use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering};

use crate::os;

/// Mappings at the last count, and how many more (or fewer) there were made by the engines since.
static COUNTED: AtomicIsize = AtomicIsize::new(0);
static CHANGED: AtomicIsize = AtomicIsize::new(0);
/// Changes since the last count: an estimate is worth so much.
static CHANGES: AtomicUsize = AtomicUsize::new(0);
/// From here on they are short. `isize::MAX` before the first count.
static SHORT_FROM: AtomicIsize = AtomicIsize::new(isize::MAX);
static COUNTING: AtomicBool = AtomicBool::new(false);

/// Notes that an engine has made so many mappings more, or fewer.
#[inline]
pub(super) fn changed(by: isize) {
    if by != 0 {
        CHANGED.fetch_add(by, Ordering::Relaxed);
        CHANGES.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether half of the mappings that the process may have are in use. Async-signal-safe.
#[inline]
pub(super) fn are_short() -> bool {
    let counted = COUNTED.load(Ordering::Relaxed);
    // Counting takes about as long as a page fault for every eight mappings.
    if CHANGES.load(Ordering::Relaxed) >= (counted.unsigned_abs() / 8).max(1024) {
        count();
    }
    COUNTED.load(Ordering::Relaxed) + CHANGED.load(Ordering::Relaxed)
        >= SHORT_FROM.load(Ordering::Relaxed)
}

#[cold]
#[inline(never)]
fn count() {
    if COUNTING.swap(true, Ordering::Acquire) {
        return;
    }
    CHANGES.store(0, Ordering::Relaxed);
    // Where `/proc` does not tell, the estimate goes on from the last count.
    if let Some((mappings, max)) = os::mappings() {
        CHANGED.store(0, Ordering::Relaxed);
        COUNTED.store(mappings as isize, Ordering::Relaxed);
        SHORT_FROM.store(short_from(max), Ordering::Relaxed);
    } else if SHORT_FROM.load(Ordering::Relaxed) == isize::MAX {
        SHORT_FROM.store(short_from(os::USUAL_MAPPINGS), Ordering::Relaxed);
    }
    COUNTING.store(false, Ordering::Release);
}

/// A little less than half: what is joined is joined after a commit.
fn short_from(max: usize) -> isize {
    (max / 2).saturating_sub(512).max(max / 4) as isize
}

/// In the child of a fork, whose only thread this is.
pub(super) fn end_abandoned_count() {
    COUNTING.store(false, Ordering::Relaxed);
}
