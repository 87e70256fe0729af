//! How many memory mappings the process has: counted after many changes, estimated in between.
//!
//! Linux allows a process `vm.max_map_count` of them (65,530 by default). The guard engine uses at most half,
//! and leaves the others to the program.

use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

use crate::os;

/// Mappings at the last count, and how many the engines have added to them since (negative: removed).
static COUNTED: AtomicIsize = AtomicIsize::new(0);
static CHANGED: AtomicIsize = AtomicIsize::new(0);
/// Changes since the last count, and after how many of them the next count is due.
static CHANGES: AtomicUsize = AtomicUsize::new(0);
static NEXT_COUNT: AtomicUsize = AtomicUsize::new(LEAST_CHANGES);
/// So many changes use up a small part of the default `vm.max_map_count`: a process with few mappings need not count
/// more often.
const LEAST_CHANGES: usize = 1024;
/// Mappings are short from this number on. `isize::MAX` before the first count.
static SHORT_FROM: AtomicIsize = AtomicIsize::new(isize::MAX);
/// The fork count of the process that is counting, plus one; zero if none is. In a forked child, the number of a thread
/// that only the parent has differs from the child's own, so the child counts all the same.
static COUNTING: AtomicUsize = AtomicUsize::new(0);

/// How many mappings an engine has added for one reservation. They are subtracted when the reservation is dropped.
#[derive(Debug, Default)]
pub(super) struct Share(AtomicIsize);

impl Share {
    /// Records that the engine changed the number of mappings by `by`.
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
    // Removed mappings need no new count: they cannot use up those that are left.
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

/// Whether an eighth more than that is in use.
pub(super) fn are_scarce() -> bool {
    let short_from = SHORT_FROM.load(Ordering::Relaxed);
    COUNTED.load(Ordering::Relaxed) + CHANGED.load(Ordering::Relaxed)
        >= short_from.saturating_add(short_from / 4)
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
    // Where `/proc` cannot be read, the estimate continues from the last count.
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

/// After how many changes to count again. A change makes at most two mappings, so a count is due after half as
/// many changes as mappings are left, and at the latest after a quarter of all that engines may use, since
/// other code makes mappings, too. But never before an eighth of the mappings changed: counting takes about as
/// long as one page fault for every eight mappings.
fn next_count(counted: usize, short_from: usize) -> usize {
    let left = short_from.saturating_sub(counted).min(short_from / 2);
    (left / 2).max(counted / 8).max(LEAST_CHANGES)
}

/// A little less than half of `max`, since joining runs after the commit that crosses the threshold.
fn short_from(max: usize) -> isize {
    (max / 2).saturating_sub(512).max(max / 4) as isize
}

#[cfg(all(test, target_os = "linux", not(loom), not(any(miri, pagewise_model))))]
mod tests {
    use super::*;

    #[test]
    fn the_next_count_is_due_before_mappings_can_be_short() {
        // Half of those that are left; not more than a quarter of all; not less than an eighth of what was counted.
        assert_eq!(next_count(20_000, 32_000), 6_000);
        assert_eq!(next_count(0, 32_000), 8_000);
        assert_eq!(next_count(31_000, 32_000), 3_875);
        assert_eq!((next_count(10, 600), next_count(700, 600)), (LEAST_CHANGES, LEAST_CHANGES));
    }

    #[test]
    fn mappings_are_short_a_little_before_half_of_them_is_used() {
        assert_eq!([65_530, 4_000, 1_001].map(short_from), [32_253, 1_488, 250]);
    }

    /// In a child, where nobody else changes the number.
    #[test]
    fn what_engines_make_and_take_back_is_counted() {
        os::assert_in_a_child(|| {
            COUNTED.store(3, Ordering::Relaxed);
            CHANGED.store(0, Ordering::Relaxed);
            CHANGES.store(0, Ordering::Relaxed);
            NEXT_COUNT.store(usize::MAX, Ordering::Relaxed);
            SHORT_FROM.store(10, Ordering::Relaxed);
            let share = Share::default();
            share.changed(6);
            let before = are_short();
            share.changed(1);
            let at = are_short();
            // What was made goes with its reservation; that is no change which could use mappings up.
            drop(share);
            drop(Share::default());
            let numbers = (CHANGED.load(Ordering::Relaxed), CHANGES.load(Ordering::Relaxed));
            (before, at, are_short()) == (false, true, false) && numbers == (0, 2)
        });
    }

    #[test]
    fn one_thread_counts_at_a_time_and_a_child_does_not_wait_for_its_parents() {
        os::assert_in_a_child(|| {
            CHANGES.store(5, Ordering::Relaxed);
            COUNTING.store(os::forks() + 1, Ordering::Relaxed);
            count();
            let by_another_thread = CHANGES.load(Ordering::Relaxed);
            COUNTING.store(os::forks(), Ordering::Relaxed);
            count();
            let (changes, counting) =
                (CHANGES.load(Ordering::Relaxed), COUNTING.load(Ordering::Relaxed));
            (by_another_thread, changes, counting) == (5, 0, 0)
        });
    }
}
