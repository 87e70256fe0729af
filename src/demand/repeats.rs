//! Faults at pages that are committed: told apart into those that another thread was faster with, and
//! those that would come back for ever.

use crate::sync::{AtomicUsize, Ordering};

/// How often a page may fault although it is committed, before a decommit.
///
/// Each thread that was waiting for the page while another one committed it does so once. A page that comes
/// back more often had its access taken away by somebody else, with `mprotect`: its faults are not ours.
pub(super) const TOO_OFTEN: usize = 1 << 14;

const PAGES: usize = 64;
const NOBODY: usize = usize::MAX;

/// The pages that faulted although they were committed, and how often since the last decommit. Each page
/// is counted on its own: threads that are stuck at different pages must not reset one another's count.
/// Where there are more pages than room, the one that was seen least makes way.
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
            page: AtomicUsize::new(NOBODY),
            count: AtomicUsize::new(0),
        }))
    }

    /// Counts one more fault at a committed page: whether it has come too often. Async-signal-safe.
    ///
    /// Threads that race here may lose a count, which only makes it take longer.
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

    /// From here on, pages can be committed anew, and threads can race for them anew.
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
                // (All of them, not just the first that is told.)
                (0..stuck).filter(|&page| repeats.is_too_often(page)).count() < stuck
            });
            assert!(rounds.count() <= TOO_OFTEN + 1, "{stuck} pages");
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
