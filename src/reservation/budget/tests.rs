//! Limits, budgets and peaks, to the byte.

use super::*;

fn numbers(ledger: &Ledger) -> (usize, usize, usize) {
    let taken = ledger.taken.load(Ordering::Relaxed);
    assert_eq!(taken / TENTATIVE, 0, "a tentative take was not ended");
    (bytes_of(taken), ledger.used(), ledger.peak())
}

fn commit(account: &Account, bytes: usize) {
    account.take_exactly(bytes).unwrap();
    account.committed(bytes);
}

#[test]
fn a_batch_is_clamped_to_what_is_left() {
    let account = Account::new(10_000, Some(Budget::new(9_000)));
    assert_eq!(account.take_up_to(65_536, 4096), Ok(8192));
    account.committed(8192);
    assert_eq!(
        account.take_up_to(4096, 4096),
        Err(RefusalReason::Limit { used: 8192, limit: 10_000 })
    );
    account.decommitted(4096);
    assert_eq!(account.take_exactly(8192), Err(RefusalReason::Limit { used: 4096, limit: 10_000 }));
    commit(&account, 4096);
    assert_eq!(numbers(account.own()), (8192, 8192, 8192));
}

#[test]
fn the_peak_is_what_was_committed_at_once_and_not_what_was_asked_for() {
    let budget = Budget::new(8192);
    let account = Account::new(16_384, Some(budget.clone()));
    assert_eq!(account.take_up_to(16_384, 4096), Ok(8192));
    // The system refuses half of it.
    account.return_untouched(4096);
    account.committed(4096);
    assert_eq!(numbers(account.own()), (4096, 4096, 4096));
    assert_eq!(numbers(&budget.0.ledger), (4096, 4096, 4096));
    account.decommitted(4096);
    assert_eq!(account.take_exactly(8193), Err(RefusalReason::Budget { used: 0, limit: 8192 }));
    commit(&account, 6000);
    account.decommitted(1000);
    commit(&account, 500);
    assert_eq!(numbers(account.own()), (5500, 5500, 6000));
    assert_eq!(numbers(&budget.0.ledger), (5500, 5500, 6000));
}

#[test]
fn a_take_is_no_use_until_it_is_committed() {
    let budget = Budget::new(10_000);
    let account = Account::new(20_000, Some(budget.clone()));
    account.take_exactly(4_000).unwrap();
    assert_eq!((numbers(account.own()), numbers(&budget.0.ledger)), ((4_000, 0, 0), (4_000, 0, 0)));
    // A take that is granted in part: what is over comes back to both.
    assert_eq!(account.take_up_to(20_000, 1_000), Ok(6_000));
    assert_eq!(numbers(account.own()), (10_000, 0, 0));
    assert_eq!(
        account.take_up_to(1, 1),
        Err(RefusalReason::Budget { used: 10_000, limit: 10_000 })
    );
    account.committed(4_000);
    assert_eq!(numbers(account.own()), (10_000, 4_000, 4_000));
    account.return_untouched(6_000);
    account.decommitted(3_000);
    assert_eq!(numbers(account.own()), (1_000, 1_000, 4_000));
    assert_eq!(numbers(&budget.0.ledger), (1_000, 1_000, 4_000));
    assert_eq!((budget.used(), budget.peak(), budget.limit()), (1_000, 4_000, 10_000));
}

/// Takes that another limit refuses come and go while others are granted: the peak is of these alone.
#[test]
fn takes_that_are_refused_leave_no_trace_whoever_races() {
    const THREADS: usize = 4;
    let budget = Budget::new(THREADS * 10);
    let accounts: Vec<_> = (0..2).map(|_| Account::new(1_000, Some(budget.clone()))).collect();
    let rounds = if cfg!(miri) { 20 } else { 2_000 };
    let held = std::sync::Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (account, held) = (&accounts[thread % 2], &held);
            scope.spawn(move || {
                for _ in 0..rounds {
                    account.take_exactly(10).unwrap();
                    account.committed(10);
                    // Everybody has ten, and the budget no more.
                    held.wait();
                    assert_eq!(
                        account.take_exactly(300),
                        Err(RefusalReason::Budget { used: 40, limit: 40 })
                    );
                    assert_eq!(
                        account.take_up_to(300, 300),
                        Err(RefusalReason::Budget { used: 40, limit: 40 })
                    );
                    held.wait();
                    account.decommitted(10);
                    held.wait();
                }
            });
        }
    });
    for account in &accounts {
        assert_eq!(numbers(account.own()), (0, 0, 20));
    }
    assert_eq!(numbers(&budget.0.ledger), (0, 0, 40));
}

#[test]
fn a_recount_after_a_fork_is_exact_and_leaves_other_accounts_alone() {
    let shared = Budget::new(100_000);
    let other = Account::new(usize::MAX, Some(shared.clone()));
    commit(&other, 40_000);
    let account = Account::new(50_000, Some(shared.clone()));
    commit(&account, 20_000);
    // Another thread was between its own limit and the shared one.
    account.own.take(1, 8_000, 1, TENTATIVE).unwrap();
    shared.add_up();
    account.recount(20_000);
    assert_eq!(numbers(account.own()), (20_000, 20_000, 20_000));
    assert_eq!(numbers(&shared.0.ledger), (60_000, 60_000, 60_000));
    // Another thread had taken what the child does not keep, and not said so.
    account.take_exactly(8_000).unwrap();
    account.recount(20_000);
    assert_eq!(numbers(&shared.0.ledger), (60_000, 60_000, 60_000));
    // Another thread had given back what the child keeps.
    account.decommitted(15_000);
    account.recount(20_000);
    assert_eq!((account.own().used(), shared.used()), (20_000, 60_000));
    // Pages were kept beyond the limit: no more of them until enough came back.
    account.recount(60_000);
    assert!(account.take_exactly(1).is_err());
    account.decommitted(20_000);
    commit(&account, 10_000);
    assert_eq!((account.own().used(), shared.used()), (50_000, 90_000));
}

#[test]
fn a_childs_budget_is_exact_wherever_a_thread_of_the_parent_stood() {
    fn place(account: &Account) -> &Place {
        account.shared.as_ref().unwrap()
    }
    let stops: [fn(&Account); 8] = [
        // Before and after the share is noted of what was taken from the budget.
        |account| {
            account.own.take(1, 8_000, 1, TENTATIVE).unwrap();
            place(account).ledger().take(1, 8_000, 1, 0).unwrap();
        },
        |account| {
            account.own.take(1, 8_000, 1, TENTATIVE).unwrap();
            place(account).take(1, 8_000, 1).unwrap();
        },
        // While pages become committed.
        |account| {
            account.take_exactly(8_000).unwrap();
            place(account).ledger().commit(8_000);
        },
        |account| {
            account.take_exactly(8_000).unwrap();
            place(account).commit(8_000);
        },
        // While committed pages come back.
        |account| account.own.decommit(8_000),
        |account| {
            account.own.decommit(8_000);
            place(account).share().used.fetch_sub(8_000, Ordering::Relaxed);
        },
        |account| {
            account.own.decommit(8_000);
            place(account).share().used.fetch_sub(8_000, Ordering::Relaxed);
            place(account).share().taken.fetch_sub(8_000, Ordering::Relaxed);
        },
        // While pages come back that were not committed after all.
        |account| {
            account.take_exactly(8_000).unwrap();
            account.own.give_back(8_000);
            place(account).share().taken.fetch_sub(8_000, Ordering::Relaxed);
        },
    ];
    for stop in stops {
        for kept in [12_000, 20_000, 28_000] {
            let shared = Budget::new(100_000);
            let [account, other, unused] =
                [(); 3].map(|()| Account::new(50_000, Some(shared.clone())));
            commit(&other, 40_000);
            commit(&account, 20_000);
            commit(&unused, 10_000);
            stop(&account);
            shared.add_up();
            assert!(bytes_of(shared.0.ledger.taken.load(Ordering::Relaxed)) <= 100_000);
            account.recount(kept);
            other.recount(40_000);
            let (taken, used, _) = numbers(&shared.0.ledger);
            assert_eq!((taken, used), (50_000 + kept, 50_000 + kept));
            for (account, committed) in [(account, kept), (other, 40_000), (unused, 10_000)] {
                account.decommitted(committed);
            }
            assert_eq!(numbers(&shared.0.ledger).1, 0);
            let last = Account::new(100_000, Some(shared.clone()));
            assert_eq!(last.take_exactly(100_000), Ok(()), "all of it can be had");
            last.return_untouched(100_000);
        }
    }
}

#[test]
fn what_the_shared_budget_refuses_is_not_kept_by_the_own_limit() {
    let shared = Budget::new(4096);
    let account = Account::new(usize::MAX, Some(shared.clone()));
    assert_eq!(account.take_exactly(8192), Err(RefusalReason::Budget { used: 0, limit: 4096 }));
    assert_eq!((numbers(account.own()), numbers(&shared.0.ledger)), ((0, 0, 0), (0, 0, 0)));
}

#[test]
fn a_budget_describes_itself_by_its_numbers() {
    let budget = Budget::new(10_000);
    let account = Account::new(9_000, Some(budget.clone()));
    assert_eq!((account.own().limit(), budget.limit()), (9_000, 10_000));
    commit(&account, 4_000);
    account.decommitted(1_000);
    assert_eq!(format!("{budget:?}"), "Budget { limit: 10000, used: 3000, peak: 4000 }");
}

/// Bytes of another account's tentative take may come back, so a take that does not fit waits for them.
#[test]
fn a_take_that_fits_once_a_tentative_one_came_back_is_granted() {
    use std::time::{Duration, Instant};

    // The wait has an end (MOST_ROUNDS, 40 ms or more). An attempt in which this thread was kept from running for
    // so long shows nothing.
    let in_time = (0..100).any(|_| {
        let ledger = Ledger::new(100);
        assert_eq!(ledger.take(80, 80, 1, TENTATIVE).unwrap(), 80);
        let start = Instant::now();
        let (granted, settled_after) = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| ledger.take(50, 50, 1, 0));
            // Long enough for a take that does not wait to be refused.
            std::thread::sleep(Duration::from_millis(1));
            ledger.settle(80);
            let settled_after = start.elapsed();
            (waiting.join().unwrap(), settled_after)
        });
        if settled_after > Duration::from_millis(20) {
            return false;
        }
        assert_eq!(granted.unwrap(), 50);
        assert_eq!(numbers(&ledger), (50, 0, 0));
        true
    });
    assert!(in_time, "the machine is too busy for this test");
}

/// Its thread may have been stopped for good.
#[test]
fn a_tentative_take_that_never_ends_refuses_others_in_the_end() {
    let ledger = Ledger::new(100);
    ledger.take(80, 80, 1, TENTATIVE).unwrap();
    let Full { used, limit } = ledger.take(50, 50, 1, 0).unwrap_err();
    assert_eq!((used, limit), (80, 100));
    assert_eq!(ledger.take(1, 50, 1, 0).unwrap(), 20, "what is left is granted at once");
}

#[test]
fn as_many_tentative_takes_as_can_be_counted_are_under_way_and_the_next_one_waits() {
    const MOST: usize = (u64::MAX / TENTATIVE) as usize;
    let ledger = Ledger::new(1_000);
    for _ in 0..MOST {
        assert_eq!(ledger.take(1, 1, 1, TENTATIVE).unwrap(), 1);
    }
    assert_eq!(ledger.take(2, 2, 1, 0).unwrap(), 2, "one that is final is not counted");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| ledger.take(3, 3, 1, TENTATIVE));
        std::thread::sleep(std::time::Duration::from_millis(1));
        ledger.settle(0);
        assert_eq!(waiting.join().unwrap().unwrap(), 3);
    });
    for _ in 0..MOST {
        ledger.settle(0);
    }
    assert_eq!(numbers(&ledger), (MOST + 5, 0, 0));
}

#[test]
fn what_an_account_still_has_when_it_ends_goes_back_to_the_budget() {
    let budget = Budget::new(10_000);
    let account = Account::new(10_000, Some(budget.clone()));
    commit(&account, 4_000);
    account.take_exactly(1_000).unwrap();
    drop(account);
    assert_eq!(numbers(&budget.0.ledger), (0, 0, 4_000));
    // The next account has its share, and only that one.
    let [first, second] = [(); 2].map(|()| Account::new(10_000, Some(budget.clone())));
    commit(&first, 6_000);
    commit(&second, 4_000);
    assert_eq!(budget.0.shares.sum(), (10_000, 10_000));
    first.decommitted(6_000);
    assert_eq!(budget.0.shares.sum(), (4_000, 4_000));
    second.decommitted(4_000);
}

/// Whichever way a process comes to a budget that a fork brought, it sees what the accounts have, and not what
/// a thread of the parent was changing.
#[test]
fn a_child_adds_a_budget_up_before_it_looks_at_it() {
    type Look = fn(&Budget, &Account) -> usize;
    let looks: [Look; 4] = [
        |budget, _| budget.used(),
        |budget, _| budget.peak(),
        |budget, _| {
            drop(Account::new(1, Some(budget.clone())));
            budget.0.ledger.used()
        },
        |budget, account| {
            account.recount(2_000);
            budget.0.ledger.used()
        },
    ];
    for (nth, look) in looks.into_iter().enumerate() {
        let mut budget = Budget::new(10_000);
        // As if this process had been forked since.
        Arc::get_mut(&mut budget.0).unwrap().forks = Forks::new(os::forks() + 1);
        let share = budget.0.shares.enter();
        let place = Place { budget: budget.clone(), share };
        let account = Account { own: Ledger::new(10_000), shared: Some(place) };
        commit(&account, 2_000);
        budget.0.ledger.used.store(0, Ordering::Relaxed);
        budget.0.ledger.peak.store(0, Ordering::Relaxed);
        assert_eq!(look(&budget, &account), 2_000, "way {nth}");
        assert_eq!(numbers(&budget.0.ledger), (2_000, 2_000, 2_000), "way {nth}");
        account.decommitted(2_000);
    }
}
