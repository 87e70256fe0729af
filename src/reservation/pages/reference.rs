//! Random changes of page states. After each of them, every question is asked for many ranges, and the answers are
//! compared with those of a plain list.

use super::*;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Page {
    committed: bool,
    held: bool,
}

/// A table, a plain list of what must be in it, and the pages at which ranges begin and end.
struct Pair {
    states: PageStates,
    plain: Vec<Page>,
    edges: Vec<usize>,
    random: fastrand::Rng,
}

fn range(first: usize, end: usize) -> PageRange {
    PageSize::system().pages(first, end)
}

/// The runs of neighbouring pages with the same key. Pages whose key is `None` are in no run.
fn runs<K: PartialEq + Copy>(
    range: PageRange,
    key: impl Fn(usize) -> Option<K>,
) -> Vec<(usize, usize, K)> {
    let mut runs: Vec<(usize, usize, K)> = Vec::new();
    for page in range.first()..range.end() {
        let Some(key) = key(page) else { continue };
        match runs.last_mut() {
            Some((_, end, same)) if *end == page && *same == key => *end += 1,
            _ => runs.push((page, page + 1, key)),
        }
    }
    runs
}

impl Pair {
    fn new(pages: usize, edges: Vec<usize>) -> Self {
        let random = fastrand::Rng::with_seed(pages as u64);
        Self { states: PageStates::new(pages), plain: vec![Page::default(); pages], edges, random }
    }

    fn range(&mut self) -> PageRange {
        let mut edge = || self.edges[self.random.usize(0..self.edges.len())];
        let (a, b) = (edge(), edge());
        range(a.min(b), a.max(b))
    }

    fn set(&mut self, range: PageRange, change: impl Fn(&mut Page)) {
        self.plain[range.first()..range.end()].iter_mut().for_each(change);
    }

    fn is_held(&self, range: PageRange) -> bool {
        self.plain[range.first()..range.end()].iter().any(|page| page.held)
    }

    /// One random change.
    fn change(&mut self) {
        let range = self.range();
        let holds_all = self.plain[range.first()..range.end()].iter().all(|page| page.held);
        match self.random.u32(0..8) {
            0 => {
                let free = !self.is_held(range);
                assert_eq!(self.states.try_lock(range), free, "{range:?}");
                if free {
                    self.set(range, |page| page.held = true);
                }
            }
            1 if !self.is_held(range) => {
                self.states.lock(range).unwrap();
                self.set(range, |page| page.held = true);
            }
            2 if !range.is_empty() => {
                let page = self.random.usize(range.first()..range.end());
                self.claim(page, range);
            }
            3 if holds_all => {
                self.states.unlock(range);
                self.set(range, |page| page.held = false);
            }
            4 if holds_all => {
                self.states.unlock_committed(range);
                self.set(range, |page| *page = Page { committed: true, held: false });
            }
            5 if holds_all => {
                self.states.unlock_reserved(range);
                self.set(range, |page| *page = Page::default());
            }
            6 if holds_all => {
                self.states.mark_reserved(range);
                self.set(range, |page| page.committed = false);
            }
            7 => self.release_all(),
            _ => {}
        }
    }

    /// Claims as the fault handler does: the page, and what is free around it.
    fn claim(&mut self, page: usize, wanted: PageRange) {
        let is_free = |&page: &usize| self.plain[page] == Page::default();
        let expected = match self.plain[page] {
            Page { held: true, .. } => Claim::Busy,
            Page { committed: true, .. } => Claim::Committed,
            _ => {
                let before = (wanted.first()..page).rev().take_while(is_free).count();
                let behind = (page..wanted.end()).take_while(is_free).count();
                Claim::Claimed(range(page - before, page + behind))
            }
        };
        assert_eq!(self.states.claim(page, wanted), Ok(expected), "{page} of {wanted:?}");
        if let Claim::Claimed(range) = expected {
            self.set(range, |page| page.held = true);
        }
    }

    /// As after a fork: pages that are held become committed if they were, and reserved otherwise.
    fn release_all(&mut self) {
        let all = range(0, self.plain.len());
        let plain = self.plain.clone();
        let expected = runs(all, |page| plain[page].held.then_some(plain[page].committed));
        let mut found = Vec::new();
        self.states.for_each_abandoned_run(PageSize::system(), |run, committed| {
            found.push((run.first(), run.end(), committed));
        });
        assert_eq!(found, expected);
        self.states.for_each_abandoned_run(PageSize::system(), |run, committed| {
            if committed {
                self.states.unlock_committed(run);
            } else {
                self.states.unlock_reserved(run);
            }
        });
        self.set(all, |page| page.held = false);
    }

    /// Every question about the whole table.
    fn check_all(&self) {
        let committed = self.plain.iter().filter(|page| page.committed).count();
        assert_eq!(self.states.count_all_committed(), committed);
        assert_eq!(self.states.pages(), self.plain.len());
    }

    /// Every question about one range.
    fn check(&self, range: PageRange) {
        let (states, plain) = (&self.states, &self.plain[range.first()..range.end()]);
        let (first, end) = (range.first(), range.end());
        let find = |wanted: fn(&Page) -> bool| plain.iter().position(wanted).map(|nth| first + nth);
        let count = |wanted: fn(&&Page) -> bool| plain.iter().filter(wanted).count();
        assert_eq!(states.all_committed(range), plain.iter().all(|p| p.committed && !p.held));
        if !plain.iter().any(|page| page.held && !page.committed) {
            assert_eq!(states.are_committed(range), plain.iter().all(|p| p.committed));
        }
        assert_eq!(states.find_reserved(first, end), find(|page| !page.committed), "{range:?}");
        assert_eq!(states.find_committed(first, end), find(|page| page.committed), "{range:?}");
        assert_eq!(states.find_used(first, end), find(|page| page.committed || page.held));
        assert_eq!(states.count_committed(range), count(|page| page.committed));
        let committed = runs(range, |page| self.plain[page].committed.then_some(()));
        assert_eq!(states.count_runs(range), committed.len(), "{range:?}");
        self.check_runs(range);
        self.check_written_parts(range);
    }

    fn check_runs(&self, range: PageRange) {
        let alike = runs(range, |page| Some(self.plain[page].committed));
        let mut found = Vec::new();
        let each = |run: PageRange, committed| {
            found.push((run.first(), run.end(), committed));
            Ok(())
        };
        self.states.for_each_run(range, each).unwrap();
        assert_eq!(found, alike, "{range:?}");
        if let (Some(&first), Some(&last)) = (alike.first(), alike.last()) {
            let plain = |(run, committed): (PageRange, bool)| (run.first(), run.end(), committed);
            assert_eq!(plain(self.states.run(range)), first, "{range:?}");
            assert_eq!(plain(self.states.last_run(range)), last, "{range:?}");
        }
        // Held runs are told word by word.
        let held = runs(range, |page| self.plain[page].held.then_some(page / PAGES_PER_WORD));
        let mut found = Vec::new();
        self.states.for_each_held_run(range, |run| found.push((run.first(), run.end())));
        let expected: Vec<_> = held.iter().map(|&(first, end, _)| (first, end)).collect();
        assert_eq!(found, expected, "{range:?}");
    }

    /// The parts are whole, inside the range, each once and in order, and every page that is used lies in one.
    fn check_written_parts(&self, range: PageRange) {
        let part = self.states.table.part_words().get() * PAGES_PER_WORD;
        let found: Vec<_> = self.states.written_parts(range).collect();
        let mut backwards: Vec<_> = self.states.written_parts(range).rev().collect();
        backwards.reverse();
        assert_eq!(found, backwards);
        let mut end = range.first();
        for run in &found {
            assert!(end <= run.first() && !run.is_empty() && run.end() <= range.end(), "{run:?}");
            let last = run.end() - 1;
            assert_eq!(run.first() / part, last / part);
            assert!(run.first() == range.first() || run.first() % part == 0);
            assert!(run.end() == range.end() || run.end() % part == 0);
            end = run.end();
        }
        for page in range.first()..range.end() {
            let is_inside = found.iter().any(|run| (run.first()..run.end()).contains(&page));
            assert!(is_inside || self.plain[page] == Page::default(), "page {page} in {found:?}");
        }
    }

    fn run(&mut self, changes: usize, checks: usize) {
        for _ in 0..changes {
            self.change();
            self.check_all();
            for _ in 0..checks {
                let range = self.range();
                self.check(range);
            }
        }
        for page in 0..self.plain.len().min(300) {
            assert_eq!(self.states.is_committed(page), self.plain[page].committed);
            assert_eq!(self.states.is_held(page), self.plain[page].held);
        }
    }
}

const SLOW: bool = cfg!(any(miri, pagewise_model));

#[test]
fn a_small_table_answers_as_a_plain_list_does() {
    for pages in [1, 31, 32, 33, 64, 150] {
        let mut pair = Pair::new(pages, (0..=pages).collect());
        pair.run(if SLOW { 40 } else { 1_500 }, 10);
    }
}

/// A table that is too long for the heap. Ranges are around its ends and around some borders of its parts, one of which
/// lies between two groups whose bits share a word.
#[test]
fn a_large_table_answers_as_a_plain_list_does() {
    let part = crate::page_size() / table::WORD_BYTES * PAGES_PER_WORD;
    let pages = table::SMALL_WORDS * PAGES_PER_WORD + 5 * part + 17;
    let around = |page: usize| [page - 33, page - 1, page, page + 1, page + 31];
    let edges = [part, 2 * part, PARTS_PER_WORD.min(pages / part - 1) * part].map(around);
    let ends = [0, 1, 32, 40, pages - 18, pages - 1, pages];
    let mut pair = Pair::new(pages, edges.into_iter().flatten().chain(ends).collect());
    pair.run(if SLOW { 4 } else { 40 }, 2);
}

#[test]
fn questions_beyond_the_last_page_find_nothing() {
    let states = PageStates::new(40);
    states.lock(range(0, 40)).unwrap();
    states.unlock_committed(range(0, 40));
    assert_eq!(states.find_committed(40, 64), None);
    assert_eq!(states.find_committed(33, 1_000), Some(33));
    assert_eq!(states.find_used(39, usize::MAX), Some(39));
    assert_eq!(states.find_reserved(0, 40), None);
}

/// Asking whether pages are committed waits for a page that is being committed, and for no other.
#[test]
fn pages_that_are_being_committed_are_waited_for() {
    let states = PageStates::new(64);
    states.lock(range(0, 40)).unwrap();
    states.unlock_committed(range(0, 30));
    assert!(states.are_committed(range(0, 30)), "nobody waits for pages outside of the range");
    assert!(!states.are_committed(range(40, 64)), "nor for reserved pages that nobody holds");
    states.unlock(range(30, 40));
    states.lock(range(0, 30)).unwrap();
    assert!(states.are_committed(range(0, 30)), "nor for committed pages that somebody holds");
    states.unlock(range(0, 30));
    states.lock(range(35, 36)).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| states.are_committed(range(35, 36)));
        // Time for a wrong answer, if the thread did not wait.
        std::thread::sleep(std::time::Duration::from_millis(1));
        states.unlock_committed(range(35, 36));
        assert!(waiting.join().unwrap());
    });
}
