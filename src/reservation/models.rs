//! Loom runs the real operations of a few pages, in every order that two threads can meet in. The system is
//! the real one, with refusals on request.

use loom::sync::Arc;
use std::collections::BTreeSet;

use super::*;
use crate::os::refusals::{Call, Refusal};
use crate::sync::relax;

fn reservation(engine: Engine, pages: usize, limit: usize) -> Arc<Reservation> {
    let page = os::page_size();
    let builder = Reservation::builder(pages * page).engine(engine).limit(limit * page);
    Arc::new(builder.build().unwrap())
}

impl Reservation {
    /// The addresses of some pages, in bytes from the start.
    fn bytes(&self, pages: Range<usize>) -> Range<usize> {
        pages.start * self.page_size()..pages.end * self.page_size()
    }

    fn addresses(&self, pages: Range<usize>) -> Range<*mut u8> {
        let bytes = self.bytes(pages);
        self.as_ptr().wrapping_add(bytes.start)..self.as_ptr().wrapping_add(bytes.end)
    }

    /// What the fault handler does about a fault: whether the page is committed now.
    fn fault(&self, page: usize, wanted: Range<usize>) -> bool {
        let wanted = self.page.pages(wanted.start, wanted.end);
        loop {
            match self.commit_for_fault(page * self.page_size(), wanted) {
                Ok(Served::Committed(pages)) => {
                    assert!((pages.first()..pages.end()).contains(&page));
                    return true;
                }
                Ok(Served::Already) => return true,
                Ok(Served::Busy) => relax(&mut 0),
                Err(_) => return false,
            }
        }
    }

    /// Called when no thread runs any more. Asserts that no page is held, that the account agrees with the pages, that
    /// exactly the rest of the limit can be taken, and that the access rights of each page agree with its state.
    /// Returns the committed pages.
    fn settled(&self) -> Vec<usize> {
        let all = 0..self.states.pages();
        assert!(all.clone().all(|page| !self.states.is_held(page)), "a page is still held");
        let committed: Vec<_> =
            all.clone().filter(|&page| self.states.is_committed(page)).collect();
        let used = committed.len() * self.page_size();
        assert_eq!(self.committed(), used, "the account differs from the pages: {committed:?}");
        assert!(used <= self.peak() && self.peak() <= self.limit());
        let left = self.limit() - used;
        self.account.take_exactly(left).expect("what is left of the limit can be had");
        assert!(self.account.take_exactly(1).is_err(), "more than the limit can be had");
        self.account.return_untouched(left);
        let accessible: Vec<_> = all.filter(|&page| self.can_be_read(page)).collect();
        assert_eq!(accessible, committed, "access rights");
        committed
    }

    fn can_be_read(&self, page: usize) -> bool {
        let pages = self.page.pages(page, page + 1);
        // SAFETY: populating changes no contents.
        unsafe { os::populate_for_reading(self.address(pages), pages.len()).is_ok() }
    }
}

type Work = fn(&Reservation) -> bool;

/// Runs both at the same time on what `prepare` returns, in every order with up to three changes of threads. Returns
/// each outcome that occurred: what both returned, and the committed pages.
fn outcomes(
    prepare: fn() -> Arc<Reservation>,
    refusal: Option<fn(&Reservation) -> Refusal>,
    work: [Work; 2],
) -> BTreeSet<([bool; 2], Vec<usize>)> {
    let outcomes = std::sync::Arc::new(std::sync::Mutex::new(BTreeSet::new()));
    let seen = outcomes.clone();
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let memory = prepare();
        let _refusing = refusal.map(|refusal| refusal(&memory).begin());
        // Both in threads of their own: loom would let the main thread run first in most orders.
        let threads = work.map(|work| {
            let memory = memory.clone();
            loom::thread::spawn(move || work(&memory))
        });
        let returned = threads.map(|thread| thread.join().unwrap());
        seen.lock().unwrap().insert((returned, memory.settled()));
    });
    std::sync::Mutex::into_inner(std::sync::Arc::into_inner(outcomes).unwrap()).unwrap()
}

fn four_pages() -> Arc<Reservation> {
    reservation(Engine::Protect, 4, 4)
}

/// Refuses commits that contain the page, after they have made the pages before it accessible.
fn refused_from<const PAGE: usize>(memory: &Reservation) -> Refusal {
    Refusal::of(Call::Commit).touching(memory.addresses(PAGE..PAGE + 1)).half_done()
}

fn set<const COUNT: usize>(
    outcomes: [([bool; 2], &[usize]); COUNT],
) -> BTreeSet<([bool; 2], Vec<usize>)> {
    outcomes.map(|(returned, pages)| (returned, pages.to_vec())).into()
}

#[test]
fn loom_two_faults_on_overlapping_windows() {
    let work: [Work; 2] = [|memory| memory.fault(0, 0..3), |memory| memory.fault(3, 1..4)];
    assert_eq!(outcomes(four_pages, None, work), set([([true; 2], &[0, 1, 2, 3])]));
}

#[test]
fn loom_two_faults_on_one_page_count_once() {
    let work: [Work; 2] = [|memory| memory.fault(1, 1..2), |memory| memory.fault(1, 1..2)];
    assert_eq!(outcomes(four_pages, None, work), set([([true; 2], &[1])]));
}

#[test]
fn loom_two_faults_for_the_last_page_of_a_limit() {
    let seen = outcomes(
        || reservation(Engine::Protect, 4, 1),
        None,
        [|memory| memory.fault(0, 0..2), |memory| memory.fault(3, 2..4)],
    );
    assert_eq!(seen, set([([true, false], &[0]), ([false, true], &[3])]));
}

#[test]
fn loom_two_reservations_for_the_last_page_of_a_budget() {
    loom::model(|| {
        let budget = Budget::new(os::page_size());
        let reservations = [(); 2].map(|()| {
            let builder = Reservation::builder(2 * os::page_size()).budget(budget.clone());
            Arc::new(builder.build().unwrap())
        });
        let threads = reservations.each_ref().map(|memory| {
            let (memory, budget) = (memory.clone(), budget.clone());
            loom::thread::spawn(move || {
                let granted = memory.fault(1, 0..2);
                assert!(budget.used() <= budget.limit());
                granted
            })
        });
        let granted = threads.map(|thread| thread.join().unwrap());
        assert!(granted[0] != granted[1], "{granted:?}");
        assert_eq!((budget.used(), budget.peak()), (os::page_size(), os::page_size()));
        for (memory, granted) in reservations.iter().zip(granted) {
            assert_eq!(memory.committed(), if granted { os::page_size() } else { 0 });
        }
    });
}

/// A thread that sees that a page is committed also sees that it is counted.
#[test]
fn loom_what_is_seen_as_committed_is_counted() {
    fn is_counted_where_it_is_committed(memory: &Reservation) -> bool {
        !memory.is_committed(memory.bytes(1..2)) || memory.committed() > 0
    }
    let by_faults: Work = |memory| memory.fault(1, 0..2);
    let by_commits: Work = |memory| memory.commit(memory.bytes(0..2)).is_ok();
    for work in [by_faults, by_commits] {
        let seen = outcomes(four_pages, None, [work, is_counted_where_it_is_committed]);
        assert_eq!(seen, set([([true; 2], &[0, 1])]));
    }
}

#[test]
fn loom_a_commit_against_a_fault() {
    let work: [Work; 2] =
        [|memory| memory.commit(memory.bytes(0..2)).is_ok(), |memory| memory.fault(1, 1..3)];
    // Where the commit comes first, the fault finds its page committed and takes no neighbour.
    let expected = set([([true; 2], &[0, 1]), ([true; 2], &[0, 1, 2])]);
    assert_eq!(outcomes(four_pages, None, work), expected);
}

#[test]
fn loom_a_fault_against_a_decommit() {
    let seen = outcomes(
        || {
            let memory = four_pages();
            memory.commit(memory.bytes(0..1)).unwrap();
            memory
        },
        None,
        [|memory| memory.fault(1, 0..3), |memory| memory.decommit(memory.bytes(0..2)).is_ok()],
    );
    // Before it, after it, and while the first page is being decommitted.
    let expected = set([([true; 2], &[2]), ([true; 2], &[0, 1, 2])]);
    assert_eq!(seen, expected);
}

#[test]
fn loom_a_commit_against_a_decommit_and_the_limit() {
    let seen = outcomes(
        || {
            let memory = reservation(Engine::Protect, 4, 2);
            memory.commit(memory.bytes(0..1)).unwrap();
            memory
        },
        None,
        [
            |memory| memory.commit(memory.bytes(1..3)).is_ok(),
            |memory| memory.decommit(memory.bytes(0..1)).is_ok(),
        ],
    );
    assert_eq!(seen, set([([false, true], &[]), ([true, true], &[1, 2])]));
}

/// Rolling back a commit that was refused at the third page leaves what a fault committed.
#[test]
fn loom_a_commit_that_is_rolled_back_against_a_fault() {
    let work: [Work; 2] = [|memory| memory.commit(..).is_ok(), |memory| memory.fault(1, 0..2)];
    let seen = outcomes(four_pages, Some(refused_from::<2>), work);
    assert_eq!(seen, set([([false, true], &[0, 1])]));
}

#[test]
fn loom_a_commit_that_keeps_its_beginning_against_a_fault() {
    let work: [Work; 2] =
        [|memory| memory.commit_among_faults(..).is_ok(), |memory| memory.fault(3, 3..4)];
    let seen = outcomes(four_pages, Some(refused_from::<2>), work);
    assert_eq!(seen, set([([false, true], &[0, 1, 3])]));
}

#[test]
fn loom_a_batch_that_becomes_one_page_against_a_commit() {
    let work: [Work; 2] =
        [|memory| memory.fault(2, 0..4), |memory| memory.commit(memory.bytes(3..4)).is_ok()];
    let seen = outcomes(four_pages, Some(refused_from::<1>), work);
    assert_eq!(seen, set([([true, true], &[0, 2, 3])]));
}

/// A commit that makes a block dense, against a decommit of another page of the block: the block is opened or not,
/// and no reserved page of it can be accessed.
#[test]
fn loom_a_block_that_is_opened_against_a_decommit() {
    if !os::guards_work() {
        return;
    }
    fn dense() -> usize {
        (os::page_size() / 8 / 64).max(2)
    }
    let seen = outcomes(
        || {
            let memory = reservation(Engine::Guard, 2 * dense() + 2, 2 * dense() + 2);
            (1..dense())
                .for_each(|index| assert!(memory.fault(2 * index, 2 * index..2 * index + 1)));
            memory
        },
        None,
        [
            |memory| memory.fault(0, 0..1) && memory.fault(1, 1..2),
            |memory| memory.decommit(memory.bytes(2..3)).is_ok(),
        ],
    );
    let mut left: Vec<_> = (0..dense()).map(|index| 2 * index).filter(|&page| page != 2).collect();
    left.insert(1, 1);
    assert_eq!(seen, set([([true, true], &left)]));
}
