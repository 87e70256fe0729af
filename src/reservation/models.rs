//! Loom runs the real operations of a few pages, in every order that two threads can meet in. The system is
//! the real one, with refusals on request.

use loom::sync::Arc;

use super::*;
use crate::os::refusals::{Call, Refusal};
use crate::sync::relax;

const PAGES: usize = 4;

fn reservation(mechanism: Mechanism, pages: usize, limit: usize) -> Arc<Reservation> {
    let page = os::page_size();
    let builder = Reservation::builder(pages * page).mechanism(mechanism).limit(limit * page);
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
            match self.serve(page, wanted) {
                Ok(Served::Committed(pages)) => {
                    assert!((pages.first()..pages.end()).contains(&page));
                    return true;
                }
                Ok(Served::Already) => return true,
                Ok(Served::Busy) => relax(0),
                Err(_) => return false,
            }
        }
    }

    /// When all is quiet: no page is held, the account is what the pages say, what it has left can be had,
    /// and the access rights of every page are what its state says. Returns the committed pages.
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

/// Both at the same time, and what they returned.
fn race(memory: &Arc<Reservation>, [ours, theirs]: [Work; 2]) -> [bool; 2] {
    let other = loom::thread::spawn({
        let memory = memory.clone();
        move || theirs(&memory)
    });
    [ours(memory), other.join().unwrap()]
}

#[test]
fn loom_two_faults_on_overlapping_windows() {
    loom::model(|| {
        let memory = reservation(Mechanism::Protect, PAGES, PAGES);
        let both = race(&memory, [|memory| memory.fault(0, 0..3), |memory| memory.fault(3, 1..4)]);
        assert_eq!((both, memory.settled()), ([true, true], vec![0, 1, 2, 3]));
    });
}

#[test]
fn loom_two_faults_on_one_page_count_once() {
    loom::model(|| {
        let memory = reservation(Mechanism::Protect, PAGES, PAGES);
        let both = race(&memory, [|memory| memory.fault(1, 1..2), |memory| memory.fault(1, 1..2)]);
        assert_eq!((both, memory.settled()), ([true, true], vec![1]));
    });
}

#[test]
fn loom_two_faults_for_the_last_page_of_a_limit() {
    loom::model(|| {
        let memory = reservation(Mechanism::Protect, PAGES, 1);
        let both = race(&memory, [|memory| memory.fault(0, 0..2), |memory| memory.fault(3, 2..4)]);
        assert!(both[0] != both[1], "{both:?}");
        assert_eq!(memory.settled().len(), 1);
    });
}

#[test]
fn loom_two_reservations_for_the_last_page_of_a_budget() {
    loom::model(|| {
        let budget = Budget::new(os::page_size());
        let reservations = [(); 2].map(|()| {
            let builder = Reservation::builder(2 * os::page_size()).budget(budget.clone());
            Arc::new(builder.build().unwrap())
        });
        let other = loom::thread::spawn({
            let (memory, budget) = (reservations[0].clone(), budget.clone());
            move || {
                let granted = memory.fault(1, 0..2);
                assert!(budget.used() <= budget.limit());
                granted
            }
        });
        let ours = reservations[1].fault(0, 0..2);
        assert!(ours != other.join().unwrap());
        assert_eq!((budget.used(), budget.peak()), (os::page_size(), os::page_size()));
        let committed = reservations.each_ref().map(|memory| memory.committed());
        assert_eq!(committed[0] + committed[1], os::page_size());
    });
}

#[test]
fn loom_a_commit_against_a_fault() {
    loom::model(|| {
        let memory = reservation(Mechanism::Protect, PAGES, 3);
        let both = race(
            &memory,
            [|memory| memory.commit(memory.bytes(0..2)).is_ok(), |memory| memory.fault(1, 1..3)],
        );
        assert_eq!((both, memory.settled()), ([true, true], vec![0, 1, 2]));
    });
}

#[test]
fn loom_a_fault_against_a_decommit() {
    loom::model(|| {
        let memory = reservation(Mechanism::Protect, PAGES, PAGES);
        assert!(memory.fault(0, 0..1));
        let both = race(
            &memory,
            [|memory| memory.fault(1, 0..3), |memory| memory.decommit(memory.bytes(0..2)).is_ok()],
        );
        assert_eq!(both, [true, true]);
        // Pages that were decommitted are not new to the fault, unless it comes last.
        let committed = memory.settled();
        assert!(matches!(committed[..], [2] | [1, 2] | [0, 1, 2]), "{committed:?}");
    });
}

#[test]
fn loom_a_commit_against_a_decommit_and_the_limit() {
    loom::model(|| {
        let memory = reservation(Mechanism::Protect, PAGES, 2);
        assert!(memory.commit(memory.bytes(0..1)).is_ok());
        let both = race(
            &memory,
            [
                |memory| memory.commit(memory.bytes(1..3)).is_ok(),
                |memory| memory.decommit(memory.bytes(0..1)).is_ok(),
            ],
        );
        let expected: &[usize] = if both[0] { &[1, 2] } else { &[] };
        assert_eq!((both[1], &memory.settled()[..]), (true, expected));
    });
}

/// A commit that is refused at the third page and rolled back takes nothing away that a fault committed.
#[test]
fn loom_a_commit_that_is_rolled_back_against_a_fault() {
    loom::model(|| {
        let memory = reservation(Mechanism::Protect, PAGES, PAGES);
        let third = memory.addresses(2..3);
        let _refusing = Refusal::of(Call::Commit).touching(third).half_done().begin();
        let both =
            race(&memory, [|memory| memory.commit(..).is_ok(), |memory| memory.fault(1, 0..2)]);
        assert_eq!((both, memory.settled()), ([false, true], vec![0, 1]));
    });
}

#[test]
fn loom_a_commit_that_keeps_its_beginning_against_a_fault() {
    loom::model(|| {
        let memory = reservation(Mechanism::Protect, PAGES, PAGES);
        let third = memory.addresses(2..3);
        let _refusing = Refusal::of(Call::Commit).touching(third).half_done().begin();
        let both = race(
            &memory,
            [|memory| memory.commit_among_faults(..).is_ok(), |memory| memory.fault(3, 1..4)],
        );
        assert_eq!((both, memory.settled()), ([false, true], vec![0, 1, 3]));
    });
}

#[test]
fn loom_a_batch_that_becomes_one_page_against_a_commit() {
    loom::model(|| {
        let memory = reservation(Mechanism::Protect, PAGES, PAGES);
        let second = memory.addresses(1..2);
        let _refusing = Refusal::of(Call::Commit).touching(second).half_done().begin();
        let both = race(
            &memory,
            [|memory| memory.fault(2, 0..4), |memory| memory.commit(memory.bytes(3..4)).is_ok()],
        );
        assert_eq!((both, memory.settled()), ([true, true], vec![0, 2, 3]));
    });
}

/// The page that makes a block dense, against somebody who takes another page of it away: the block is
/// opened or not, and no reserved page of it can be accessed.
#[test]
fn loom_a_block_that_is_opened_against_a_decommit() {
    if !os::guards_work() {
        return;
    }
    loom::model(|| {
        let dense = (os::page_size() / 8 / 64).max(2);
        let memory = reservation(Mechanism::Guard, 2 * dense + 2, 2 * dense + 2);
        (1..dense).for_each(|index| assert!(memory.fault(2 * index, 2 * index..2 * index + 1)));
        let both = race(
            &memory,
            [|memory| memory.fault(0, 0..1), |memory| memory.decommit(memory.bytes(2..3)).is_ok()],
        );
        assert_eq!(both, [true, true]);
        let expected: Vec<_> =
            (0..dense).map(|index| 2 * index).filter(|&page| page != 2).collect();
        assert_eq!(memory.settled(), expected);
        assert!(memory.fault(1, 1..2));
        assert_eq!(memory.settled().len(), expected.len() + 1);
    });
}
