//! Counts faults at pages that are committed already, to tell a lost race (another thread committed the page)
//! from an access that faults for ever (the program took the page's access rights away).

use crate::sync::{AtomicUsize, Ordering};

/// How often a page may fault although it is committed, before a decommit.
///
/// Each thread that waited while another one committed the page faults once. More faults than threads mean that
/// the program took the page's access away with `mprotect`: they are handed on to the previous handler.
pub(super) const TOO_OFTEN: usize = 1 << 14;

/// More pages than threads are stuck at, as a rule: each such thread faults at one page.
const PAGES: usize = 64;
const NO_PAGE: usize = usize::MAX;

/// The pages that faulted although they were committed, each with a count since the last decommit. One count
/// for each page, since threads that are stuck at different pages must not reset each other's. With more pages
/// than entries, a new page replaces the one with the lowest count.
#[derive(Debug)]
pub(super) struct Repeats([Repeat; PAGES]);

#[derive(Debug)]
struct Repeat {
    page: AtomicUsize,
    count: AtomicUsize,
}

impl Repeats {
    pub(super) fn new() -> Self {
        Self(std::array::from_fn(|_| Repeat {
            page: AtomicUsize::new(NO_PAGE),
            count: AtomicUsize::new(0),
        }))
    }

    /// Counts a fault at a committed page, and returns whether the page has faulted too often. Threads that race
    /// may lose a count, which only delays the answer. Async-signal-safe.
    pub(super) fn is_too_often(&self, page: usize) -> bool {
        let mut least: Option<(&Repeat, usize)> = None;
        for repeat in &self.0 {
            if repeat.page.load(Ordering::Relaxed) == page {
                return repeat.count.fetch_add(1, Ordering::Relaxed) >= TOO_OFTEN;
            }
            let count = repeat.count.load(Ordering::Relaxed);
            if least.is_none_or(|(_, least)| count < least) {
                least = Some((repeat, count));
            }
        }
        if let Some((repeat, _)) = least {
            repeat.page.store(page, Ordering::Relaxed);
            repeat.count.store(1, Ordering::Relaxed);
        }
        false
    }

    /// Resets all counts. Called at a decommit, after which pages are committed, and raced for, again.
    pub(super) fn forget(&self) {
        for repeat in &self.0 {
            repeat.count.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn threads_that_are_stuck_at_different_pages_are_all_told() {
        for stuck in [1, 2, 8, PAGES] {
            let repeats = Repeats::new();
            let rounds = (0..).take_while(|_| {
                // `filter`, not `all`: every page faults in each round.
                (0..stuck).filter(|&page| repeats.is_too_often(page)).count() < stuck
            });
            assert!(rounds.count() <= TOO_OFTEN + 1, "{stuck} pages");
        }
    }

    /// Where there are more pages than counts, the page that faulted least makes room.
    #[test]
    fn a_new_page_takes_the_place_of_the_one_with_the_lowest_count() {
        let repeats = Repeats::new();
        let lowest = 40;
        for _ in 0..2 {
            assert!((0..PAGES).all(|page| !repeats.is_too_often(page)));
        }
        assert!((0..PAGES).filter(|&page| page != lowest).all(|page| !repeats.is_too_often(page)));
        assert!((1_000..1_003).all(|page| !repeats.is_too_often(page)));
        for page in (0..PAGES).filter(|&page| page != lowest) {
            assert!((3..TOO_OFTEN).all(|_| !repeats.is_too_often(page)), "page {page}");
            assert!(repeats.is_too_often(page), "page {page} was forgotten");
        }
    }

    #[test]
    fn a_page_may_come_back_often_between_decommits() {
        let repeats = Repeats::new();
        for _ in 0..3 {
            assert!((0..TOO_OFTEN).all(|_| !repeats.is_too_often(7)));
            assert!((100..10_000).all(|page| !repeats.is_too_often(page)));
            repeats.forget();
        }
    }
}
