//! How many memory mappings the process has: counted now and then, estimated in between.
//!
//! Linux allows a process `vm.max_map_count` of them, 65,530 unless told otherwise, and a program has other
//! uses for them than pagewise. So the guard engine, which can do with few, stays within half.

use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

use crate::os;

/// Mappings at the last count, and how many more (or fewer) there were made by the engines since.
static COUNTED: AtomicIsize = AtomicIsize::new(0);
static CHANGED: AtomicIsize = AtomicIsize::new(0);
/// Changes since the last count, and after how many of them the next count is due.
static CHANGES: AtomicUsize = AtomicUsize::new(0);
static NEXT_COUNT: AtomicUsize = AtomicUsize::new(LEAST_CHANGES);
const LEAST_CHANGES: usize = 1024;
/// From here on they are short. `isize::MAX` before the first count.
static SHORT_FROM: AtomicIsize = AtomicIsize::new(isize::MAX);
/// One more than the number of forks that led to the process which is counting; zero if none is. A forked
/// child so takes over what a thread of its parent had begun.
static COUNTING: AtomicUsize = AtomicUsize::new(0);

/// How many mappings more there are by what an engine did to one reservation, which takes them along when it
/// is dropped.
#[derive(Debug, Default)]
pub(super) struct Share(AtomicIsize);

impl Share {
    /// Notes that the engine has made so many mappings more, or fewer.
    #[inline]
    pub(super) fn changed(&self, by: isize) {
        if by != 0 {
            self.0.fetch_add(by, Ordering::Relaxed);
            changed(by);
        }
    }

    #[cfg(all(test, target_os = "linux", not(any(loom, miri, pagewise_model))))]
    pub(super) fn get(&self) -> isize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        changed(-*self.0.get_mut());
    }
}

fn changed(by: isize) {
    CHANGED.fetch_add(by, Ordering::Relaxed);
    // Only what makes mappings can use up those that are left.
    if by > 0 {
        CHANGES.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether half of the mappings that the process may have are in use. Async-signal-safe.
#[inline]
pub(super) fn are_short() -> bool {
    if CHANGES.load(Ordering::Relaxed) >= NEXT_COUNT.load(Ordering::Relaxed) {
        count();
    }
    COUNTED.load(Ordering::Relaxed) + CHANGED.load(Ordering::Relaxed)
        >= SHORT_FROM.load(Ordering::Relaxed)
}

#[cold]
#[inline(never)]
fn count() {
    let this_process = os::forks() + 1;
    let seen = COUNTING.load(Ordering::Relaxed);
    let taken =
        || COUNTING.compare_exchange(seen, this_process, Ordering::Acquire, Ordering::Relaxed);
    if seen == this_process || taken().is_err() {
        return;
    }
    CHANGES.store(0, Ordering::Relaxed);
    // Where `/proc` does not tell, the estimate goes on from the last count.
    if let Some((mappings, max)) = os::mappings() {
        CHANGED.store(0, Ordering::Relaxed);
        COUNTED.store(mappings as isize, Ordering::Relaxed);
        let short_from = short_from(max);
        SHORT_FROM.store(short_from, Ordering::Relaxed);
        NEXT_COUNT.store(next_count(mappings, short_from.unsigned_abs()), Ordering::Relaxed);
    } else if SHORT_FROM.load(Ordering::Relaxed) == isize::MAX {
        SHORT_FROM.store(short_from(os::USUAL_MAPPINGS), Ordering::Relaxed);
    }
    COUNTING.store(0, Ordering::Release);
}

/// After how many changes to count again. Each makes two mappings at most. So a count is due when the engines
/// may have used up what was left; and after half as many mappings as they may use in all, since others make
/// some, too. Counting takes about as long as a page fault for every eight mappings: from then on, it is due
/// when an eighth has changed.
fn next_count(counted: usize, short_from: usize) -> usize {
    let left = short_from.saturating_sub(counted).min(short_from / 2);
    (left / 2).max(counted / 8).max(LEAST_CHANGES)
}

/// A little less than half: what is joined is joined after a commit.
fn short_from(max: usize) -> isize {
    (max / 2).saturating_sub(512).max(max / 4) as isize
}
