//! Reservations: states of pages, contents, accounting.

use crate::common;
use pagewise::{Access, Budget, Error, HugePages, Reservation, page_size, reserve_granularity};

fn bytes(memory: &Reservation, range: std::ops::Range<usize>) -> &[u8] {
    // SAFETY: tests name ranges that are committed and readable, and change them in between only.
    unsafe { std::slice::from_raw_parts(memory.as_ptr().add(range.start), range.len()) }
}

fn fill(memory: &Reservation, range: std::ops::Range<usize>, value: u8) {
    // SAFETY: tests name ranges that are committed.
    unsafe { memory.as_ptr().add(range.start).write_bytes(value, range.len()) };
}

#[test]
fn new_pages_read_zero_and_committed_pages_keep_what_they_hold() {
    let page = page_size();
    let memory = Reservation::new(8 * page).unwrap();
    memory.commit(2 * page..4 * page).unwrap();
    assert!(bytes(&memory, 2 * page..4 * page).iter().all(|&byte| byte == 0));
    fill(&memory, 2 * page..4 * page, 7);
    memory.commit(..).unwrap();
    assert_eq!(memory.committed(), 8 * page);
    assert!(bytes(&memory, 2 * page..4 * page).iter().all(|&byte| byte == 7));
    memory.decommit(3 * page..5 * page).unwrap();
    memory.commit(3 * page..4 * page).unwrap();
    assert_eq!(memory.committed(), 7 * page);
    assert!(bytes(&memory, 3 * page..4 * page).iter().all(|&byte| byte == 0));
    assert!(bytes(&memory, 2 * page..3 * page).iter().all(|&byte| byte == 7));
}

#[test]
fn zeroed_pages_stay_committed_and_read_zero() {
    let page = page_size();
    let memory = Reservation::new(4 * page).unwrap();
    memory.commit(..).unwrap();
    fill(&memory, 0..4 * page, 7);
    memory.zero(page..3 * page).unwrap();
    assert_eq!(memory.committed(), 4 * page);
    assert!(bytes(&memory, page..3 * page).iter().all(|&byte| byte == 0));
    assert!(
        bytes(&memory, 0..page).iter().chain(bytes(&memory, 3 * page..4 * page)).all(|&b| b == 7)
    );
}

#[test]
fn discarded_pages_can_be_written_again() {
    let page = page_size();
    let memory = Reservation::new(4 * page).unwrap();
    memory.commit(..).unwrap();
    fill(&memory, 0..4 * page, 7);
    memory.discard(..).unwrap();
    assert_eq!(memory.committed(), 4 * page);
    fill(&memory, 0..4 * page, 8);
    assert!(bytes(&memory, 0..4 * page).iter().all(|&byte| byte == 8));
}

#[test]
fn protection_and_locks_come_and_go_without_a_trace() {
    let page = page_size();
    let memory = Reservation::new(4 * page).unwrap();
    memory.commit(..).unwrap();
    fill(&memory, 0..4 * page, 7);
    memory.protect(page..2 * page, Access::Read).unwrap();
    assert!(bytes(&memory, 0..4 * page).iter().all(|&byte| byte == 7));
    memory.protect(page..2 * page, Access::None).unwrap();
    memory.protect(.., Access::ReadWrite).unwrap();
    fill(&memory, page..2 * page, 8);
    memory.lock(..page).unwrap();
    memory.unlock(..page).unwrap();
    memory.prefault(..).unwrap();
    assert_eq!(memory.committed(), 4 * page);
}

#[test]
fn prefaulting_protected_memory_is_no_fault() {
    let memory = Reservation::new(4 * page_size()).unwrap();
    memory.commit(..).unwrap();
    memory.protect(.., Access::None).unwrap();
    memory.prefault(..).unwrap();
}

#[test]
fn alignment_and_guard_pages_are_kept() {
    for shift in [12, 16, 21, 26] {
        for guards in [0, 1, 3] {
            let memory = Reservation::builder(3 * page_size())
                .align(1 << shift)
                .guard_pages(guards)
                .build()
                .unwrap();
            assert_eq!(memory.as_ptr() as usize % (1 << shift).max(page_size()), 0);
            memory.commit(..).unwrap();
            fill(&memory, 0..3 * page_size(), 1);
        }
    }
    assert!(reserve_granularity() >= page_size());
}

#[test]
fn a_small_address_space_gets_what_fits() {
    if common::address_space_is_dear() {
        return common::not_here("an emulator pays for every page that fits");
    }
    // No address space is that large; the least length that the test accepts fits everywhere.
    let most = isize::MAX as usize / 2;
    let memory = Reservation::builder(most).at_least(1 << 20).build().unwrap();
    assert!(memory.len() >= 1 << 20 && memory.len() < most);
    memory.commit(memory.len() - 1..).unwrap();
    let stubborn = Reservation::builder(most).at_least(most).build();
    assert!(
        matches!(stubborn, Err(Error::AddressSpaceExhausted { requested, .. }) if requested >= most)
    );
}

#[test]
fn a_budget_is_shared_and_whatever_it_refuses_takes_nothing() {
    let page = page_size();
    let budget = Budget::new(10 * page);
    let reserve = || Reservation::builder(16 * page).budget(budget.clone()).build().unwrap();
    let (a, b) = (reserve(), reserve());
    a.commit(0..6 * page).unwrap();
    b.commit(0..4 * page).unwrap();
    let refused = b.commit(3 * page..5 * page).unwrap_err();
    assert!(matches!(
        refused,
        Error::BudgetReached { offset, requested, used, limit }
            if (offset, requested, used, limit) == (3 * page, page, 10 * page, 10 * page)
    ));
    assert_eq!((a.committed(), b.committed(), budget.used()), (6 * page, 4 * page, 10 * page));
    a.decommit(..).unwrap();
    b.commit(4 * page..10 * page).unwrap();
    drop(b);
    assert_eq!((budget.used(), budget.peak()), (0, 10 * page));
}

/// A refused commit is not counted anywhere, not even in a peak.
#[test]
fn peaks_are_of_what_was_committed_and_not_of_what_was_refused() {
    let page = page_size();
    let budget = Budget::new(10 * page);
    let reserve = |limit| {
        let builder = Reservation::builder(64 * page).limit(limit * page);
        builder.budget(budget.clone()).build().unwrap()
    };
    let (a, b) = (reserve(30), reserve(5));
    let numbers =
        || (a.committed(), a.peak(), b.committed(), b.peak(), budget.used(), budget.peak());
    let pages = |numbers: [usize; 6]| {
        let [a, b, c, d, e, f] = numbers.map(|number| number * page);
        (a, b, c, d, e, f)
    };
    a.commit(..4 * page).unwrap();
    assert_eq!(numbers(), pages([4, 4, 0, 0, 4, 4]));
    a.commit(..).unwrap_err(); // its own limit, at once
    a.commit(..20 * page).unwrap_err(); // its own limit grants it, the shared one does not
    b.commit(..6 * page).unwrap_err();
    assert_eq!(numbers(), pages([4, 4, 0, 0, 4, 4]));
    b.commit(..5 * page).unwrap();
    a.decommit(..2 * page).unwrap();
    assert_eq!(numbers(), pages([2, 4, 5, 5, 7, 9]));
    a.commit(..6 * page).unwrap_err();
    a.commit(..5 * page).unwrap();
    assert_eq!(numbers(), pages([5, 5, 5, 5, 10, 10]));
    b.decommit(..).unwrap();
    a.commit(..9 * page).unwrap();
    a.decommit(..).unwrap();
    assert_eq!(numbers(), pages([0, 9, 0, 5, 0, 10]));
}

/// Threads commit at the same time, some of them refused: no order makes `committed` or a peak show more than was
/// granted.
#[test]
fn peaks_are_exact_while_refusals_and_commits_race() {
    const THREADS: usize = 4;
    let page = page_size();
    let budget = Budget::new(THREADS * page);
    let memory =
        Reservation::builder(64 * page).limit(40 * page).budget(budget.clone()).build().unwrap();
    let barrier = std::sync::Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (memory, barrier) = (&memory, &barrier);
            scope.spawn(move || {
                let own = thread * page..(thread + 1) * page;
                for _ in 0..200 {
                    memory.commit(own.clone()).unwrap();
                    barrier.wait();
                    // Each thread has pages of its own, so that none waits for another.
                    let first = 8 + 8 * thread;
                    let refused = memory.commit(first * page..(first + 8) * page).unwrap_err();
                    let Error::BudgetReached { offset, requested, used, limit } = refused else {
                        panic!("{refused}")
                    };
                    let numbers = (offset, requested, used, limit);
                    assert_eq!(numbers, (first * page, 8 * page, 4 * page, 4 * page));
                    barrier.wait();
                    memory.decommit(own.clone()).unwrap();
                    barrier.wait();
                }
            });
        }
    });
    assert_eq!((memory.peak(), memory.committed()), (4 * page, 0));
    assert_eq!((budget.peak(), budget.used()), (4 * page, 0));
}

#[test]
fn threads_that_commit_and_decommit_the_same_pages_leave_an_exact_account() {
    let page = page_size();
    let budget = Budget::new(48 * page);
    let memory = Reservation::builder(64 * page).budget(budget.clone()).build().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (memory, budget) = (&memory, &budget);
            scope.spawn(move || {
                let mut state = thread as u64 + 1;
                for _ in 0..400 {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let (first, count) = ((state >> 40) as usize % 64, (state >> 50) as usize % 24);
                    let range = first * page..(first + count).min(64) * page;
                    if state >> 63 == 0 {
                        let _ = memory.commit(range);
                    } else {
                        memory.decommit(range).unwrap();
                    }
                    assert!(budget.used() <= budget.limit());
                }
            });
        }
    });
    assert_eq!(memory.page_map().unwrap().committed() * page, memory.committed());
    assert_eq!(budget.used(), memory.committed());
    memory.decommit(..).unwrap();
    assert_eq!((memory.committed(), budget.used()), (0, 0));
}

#[test]
fn transparent_huge_pages_align_the_start() {
    let memory = Reservation::builder(8 << 20).huge_pages(HugePages::Transparent).build().unwrap();
    assert_eq!(memory.as_ptr() as usize % (2 << 20), 0);
    memory.commit(..).unwrap();
    fill(&memory, 0..memory.len(), 1);
}

#[test]
fn the_page_map_shows_what_is_committed_and_touched() {
    let page = page_size();
    let memory = Reservation::new(100 * page).unwrap();
    memory.commit(10 * page..20 * page).unwrap();
    memory.commit(30 * page..31 * page).unwrap();
    fill(&memory, 30 * page..31 * page, 1);
    let map = memory.page_map().unwrap();
    assert_eq!((map.pages(), map.committed()), (100, 11));
    let committed: Vec<_> = (0..100).filter(|&index| map.page(index).committed).collect();
    assert_eq!(committed, (10..20).chain([30]).collect::<Vec<_>>());
    assert!(map.page(30).resident);
    let letters = map.to_string();
    assert_eq!(letters.chars().filter(|&letter| letter == '.').count(), 89);
    assert_eq!(letters.chars().filter(|&letter| "cr".contains(letter)).count(), 11);
}

#[test]
fn huge_reservations_cost_nothing_and_their_far_ends_work() {
    if cfg!(any(miri, pagewise_model)) {
        return; // the model has no room for them, and says so in `nothing_and_too_much…`
    }
    let most = if common::address_space_is_dear() { 4 << 30 } else { 64 << 40 };
    let memory = Reservation::builder(most).at_least(most >> 6).build().unwrap();
    let end = memory.len();
    memory.commit(end - 1..).unwrap();
    memory.commit(..1).unwrap();
    fill(&memory, end - page_size()..end, 3);
    assert_eq!(memory.committed(), 2 * page_size());
    assert_eq!(memory.page_map().unwrap().committed(), 2);
    memory.decommit(..).unwrap();
    assert_eq!(memory.committed(), 0);
}
