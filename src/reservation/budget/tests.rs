//! Limits, budgets and peaks, to the byte.

use super::account::Place;
use super::ledger::TENTATIVE;
use super::*;
use crate::error::RefusalReason;

fn numbers(ledger: &Ledger) -> (usize, usize, usize) {
    let (taken, tentative) = ledger.taken();
    assert_eq!(tentative, 0, "a tentative take was not ended");
    (taken, ledger.used(), ledger.peak())
}

/// What all shares of the tree have.
fn shares(budget: &Budget) -> (usize, usize) {
    let mut sum = (0, 0);
    budget.0.tree.shares.for_each(|share, _| {
        sum.0 += share.taken.load(Ordering::Relaxed);
        sum.1 += share.used.load(Ordering::Relaxed);
    });
    sum
}

/// As if this process had been forked since the budget was last used.
fn forked(budget: &Budget) {
    budget.0.tree.forks.forget();
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
    forked(&shared);
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
    fn ledger(account: &Account) -> &Ledger {
        &account.shared.as_ref().unwrap().budget.0.ledger
    }
    fn share(account: &Account) -> &Share {
        account.shared.as_ref().unwrap().share()
    }
    let stops: [fn(&Account); 8] = [
        // Before and after the share is noted of what was taken from the budget.
        |account| {
            account.own.take(1, 8_000, 1, TENTATIVE).unwrap();
            ledger(account).take(1, 8_000, 1, 0).unwrap();
        },
        |account| {
            account.own.take(1, 8_000, 1, TENTATIVE).unwrap();
            ledger(account).take(1, 8_000, 1, 0).unwrap();
            share(account).taken.fetch_add(8_000, Ordering::Relaxed);
        },
        // While pages become committed.
        |account| {
            account.take_exactly(8_000).unwrap();
            account.own.commit(8_000);
        },
        |account| {
            account.take_exactly(8_000).unwrap();
            account.own.commit(8_000);
            ledger(account).commit(8_000);
        },
        // While committed pages come back.
        |account| _ = share(account).used.fetch_sub(8_000, Ordering::Relaxed),
        |account| {
            share(account).used.fetch_sub(8_000, Ordering::Relaxed);
            share(account).taken.fetch_sub(8_000, Ordering::Relaxed);
        },
        |account| {
            share(account).used.fetch_sub(8_000, Ordering::Relaxed);
            share(account).taken.fetch_sub(8_000, Ordering::Relaxed);
            account.own.decommit(8_000);
        },
        // While pages come back that were not committed after all.
        |account| {
            account.take_exactly(8_000).unwrap();
            share(account).taken.fetch_sub(8_000, Ordering::Relaxed);
            account.own.give_back(8_000);
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
            forked(&shared);
            assert!(shared.used() <= 100_000 && shared.0.ledger.taken().0 <= 100_000);
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
    assert_eq!(shares(&budget), (10_000, 10_000));
    first.decommitted(6_000);
    assert_eq!(shares(&budget), (4_000, 4_000));
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
        let budget = Budget::new(10_000);
        forked(&budget);
        let place = Place { budget: budget.clone(), share: budget.enter() };
        let account = Account { own: Ledger::new(10_000), shared: Some(place) };
        account.take_exactly(2_000).unwrap();
        account.own.commit(2_000);
        // A thread of the parent had noted what it was going to count.
        account.shared.as_ref().unwrap().share().used.store(2_000, Ordering::Relaxed);
        assert_eq!(look(&budget, &account), 2_000, "way {nth}");
        assert_eq!(numbers(&budget.0.ledger), (2_000, 2_000, 2_000), "way {nth}");
        account.decommitted(2_000);
    }
}

#[test]
fn what_a_child_takes_its_parents_have_too_and_all_limits_hold() {
    let all = Budget::new(1_000);
    let [a, b] = [600, 5_000].map(|limit| all.child(limit));
    let deep = a.child(usize::MAX).child(500);
    let account = Account::new(10_000, Some(deep.clone()));
    commit(&account, 400);
    let guard = b.try_take(350).unwrap();
    let sums = || [&all, &a, &b, &deep].map(|budget| numbers(&budget.0.ledger));
    assert_eq!(sums(), [(750, 750, 750), (400, 400, 400), (350, 350, 350), (400, 400, 400)]);
    assert_eq!([&all, &a, &b, &deep].map(Budget::available), [250, 200, 250, 100]);
    // Each refusal has the numbers of the lowest budget that has too little.
    let refusal = |bytes| account.take_exactly(bytes).unwrap_err();
    assert_eq!(refusal(10_000), RefusalReason::Limit { used: 400, limit: 10_000 });
    assert_eq!(refusal(101), RefusalReason::Budget { used: 400, limit: 500 });
    deep.set_limit(900).unwrap();
    assert_eq!(refusal(201), RefusalReason::Budget { used: 400, limit: 600 });
    a.set_limit(900).unwrap();
    assert_eq!(refusal(251), RefusalReason::Budget { used: 750, limit: 1_000 });
    // Nothing is left of what was refused, and a part that all of them have is granted.
    assert_eq!(sums(), [(750, 750, 750), (400, 400, 400), (350, 350, 350), (400, 400, 400)]);
    assert_eq!(account.take_up_to(9_000, 100), Ok(200));
    assert_eq!(sums(), [(950, 750, 750), (600, 400, 400), (350, 350, 350), (600, 400, 400)]);
    assert_eq!(numbers(account.own()), (600, 400, 400));
    account.committed(150);
    account.return_untouched(50);
    drop(guard);
    assert_eq!(sums(), [(550, 550, 900), (550, 550, 550), (0, 0, 350), (550, 550, 550)]);
    drop((account, deep));
    assert_eq!((all.used(), a.used(), a.available()), (0, 0, 900));
}

#[test]
fn a_limit_is_changed_up_and_down_to_what_is_taken() {
    let budget = Budget::new(1_000);
    let account = Account::new(900, Some(budget.clone()));
    commit(&account, 400);
    account.take_exactly(100).unwrap(); // not committed yet, and not to be taken away
    for (limit, left) in [
        (800, 300),
        (500, 0),
        (usize::MAX, (1u64 << 56).min(usize::MAX as u64) as usize - 500),
        (600, 100),
    ] {
        budget.set_limit(limit).unwrap();
        assert_eq!((budget.limit(), budget.available()), (limit, left));
    }
    let refused = budget.set_limit(499).unwrap_err();
    assert!(matches!(refused, Error::LimitBelowUse { limit: 499, used: 500 }), "{refused:?}");
    assert_eq!((budget.limit(), budget.available()), (600, 100));
    assert_eq!(account.take_exactly(101), Err(RefusalReason::Budget { used: 500, limit: 600 }));
    assert_eq!(account.set_limit(499), Err(500));
    account.set_limit(500).unwrap();
    assert_eq!(account.take_exactly(1), Err(RefusalReason::Limit { used: 500, limit: 500 }));
    account.return_untouched(100);
    account.decommitted(400);
    budget.set_limit(0).unwrap();
    assert_eq!(account.take_exactly(1), Err(RefusalReason::Budget { used: 0, limit: 0 }));
    assert_eq!(numbers(&budget.0.ledger), (0, 0, 400));
}

/// Takes of every kind against limits that go up and down: what is used never exceeds what a limit was set to, at
/// any level, and in the end everything is back.
#[test]
fn every_limit_holds_while_threads_take_and_limits_change() {
    let all = Budget::new(1_000);
    let tenants = [all.child(700), all.child(900)];
    let below = tenants[0].child(800);
    let accounts = [&below, &tenants[1], &tenants[1]].map(|b| Account::new(650, Some(b.clone())));
    let rounds = if cfg!(miri) { 30 } else { 20_000 };
    let stop = crate::sync::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for (thread, account) in accounts.iter().enumerate() {
            let (tenants, stop) = (&tenants, &stop);
            scope.spawn(move || {
                for round in 0..rounds {
                    let wanted = 50 + (round * 37 + thread * 101) % 600;
                    if let Ok(bytes) = account.take_up_to(wanted, 10) {
                        assert!(bytes % 10 == 0 || bytes == wanted);
                        account.committed(bytes);
                        let guard = tenants[0].try_take(round % 90);
                        account.decommitted(bytes);
                        drop(guard);
                    }
                    if account.take_exactly(wanted).is_ok() {
                        account.return_untouched(wanted);
                    }
                }
                stop.fetch_add(1, Ordering::Relaxed);
            });
        }
        scope.spawn(|| {
            for round in 0.. {
                for (budget, low, high) in [(&all, 300, 1_000), (&tenants[0], 200, 700)] {
                    // Only this thread changes limits: the limit is at most `high`, and then at most `low`.
                    let limit = if budget.set_limit(low).is_ok() { low } else { high };
                    assert_eq!(budget.limit(), limit);
                    for _ in 0..round % 5 {
                        let (taken, used) = (budget.0.ledger.taken().0, budget.used());
                        assert!(taken <= limit && used <= limit, "{taken} and {used} of {limit}");
                    }
                    budget.set_limit(high).unwrap();
                }
                if stop.load(Ordering::Relaxed) == accounts.len() {
                    break;
                }
            }
        });
    });
    for budget in [&all, &tenants[0], &tenants[1], &below] {
        let (taken, used, peak) = numbers(&budget.0.ledger);
        assert_eq!((taken, used), (0, 0));
        assert!(peak > 0 && peak <= budget.limit());
    }
    assert_eq!((all.available(), below.available()), (1_000, 700));
}

#[test]
fn a_chain_of_budgets_may_be_long() {
    let depth = if cfg!(miri) { 200 } else { 100_000 };
    let all = Budget::new(100);
    let lowest = (0..depth).fold(all.clone(), |budget, _| budget.child(usize::MAX));
    let guard = lowest.try_take(60).unwrap();
    assert_eq!((all.used(), lowest.available()), (60, 40));
    let account = Account::new(1_000, Some(lowest.clone()));
    assert_eq!(account.take_up_to(70, 1), Ok(40));
    account.return_untouched(40);
    drop((account, guard));
    assert_eq!(all.used(), 0);
    drop(lowest);
    assert_eq!((all.available(), Arc::strong_count(&all.0)), (100, 1));
}

#[test]
fn a_child_process_adds_up_all_budgets_of_a_tree() {
    let all = Budget::new(1_000);
    let tenant = all.child(500);
    let [account, other] = [&tenant, &all].map(|b| Account::new(900, Some(b.clone())));
    commit(&account, 100);
    commit(&other, 200);
    let mut guard = tenant.try_take(30).unwrap();
    let unused = all.child(50);
    // Threads of the parent process stood everywhere: in a take, before notes, in a change of each limit.
    account.own.take(7, 7, 1, TENTATIVE).unwrap();
    tenant.0.ledger.take(7, 7, 1, TENTATIVE).unwrap();
    all.0.ledger.take(40, 40, 1, 0).unwrap();
    for (budget, bytes) in [(&all, 100), (&tenant, 50), (&unused, 50)] {
        budget.0.ledger.begin_to_lower_the_limit_by(bytes);
    }
    let _kept = all.try_take(11).unwrap(); // has a right to its memory here, too
    forked(&all);
    assert_eq!((unused.available(), unused.used()), (50, 0));
    assert_eq!((all.used(), tenant.used()), (341, 130));
    account.recount(100);
    other.recount(200);
    assert_eq!(numbers(&all.0.ledger), (341, 341, 341));
    assert_eq!(
        (numbers(&tenant.0.ledger), numbers(account.own())),
        ((130, 130, 130), (100, 100, 100))
    );
    // The limits can be changed again, and refusals have the right numbers.
    tenant.set_limit(400).unwrap();
    assert_eq!(account.take_exactly(271), Err(RefusalReason::Budget { used: 130, limit: 400 }));
    assert!(matches!(all.set_limit(340), Err(Error::LimitBelowUse { used: 341, .. })));
    guard.try_resize(5).unwrap();
    assert_eq!((tenant.used(), all.used()), (105, 316));
    // A page that the child keeps is counted at every level.
    account.recount(150);
    assert_eq!((tenant.used(), all.used()), (155, 366));
}

#[test]
fn a_guard_has_what_it_was_given_until_it_is_dropped() {
    let budget = Budget::new(100);
    let mut guard = budget.try_take(60).unwrap();
    let refused = budget.try_take(41).unwrap_err();
    assert!(matches!(refused, Error::BudgetRefused { requested: 41, used: 60, limit: 100 }));
    guard.try_resize(101).unwrap_err();
    assert_eq!((guard.bytes(), numbers(&budget.0.ledger)), (60, (60, 60, 60)));
    guard.try_resize(100).unwrap();
    guard.try_resize(70).unwrap();
    assert_eq!((guard.bytes(), numbers(&budget.0.ledger)), (70, (70, 70, 100)));
    assert_eq!(format!("{guard:?}"), "BudgetGuard { bytes: 70, .. }");
    assert_eq!(shares(&budget), (70, 0));
    drop(guard);
    assert_eq!((numbers(&budget.0.ledger), shares(&budget)), ((0, 0, 100), (0, 0)));
    assert!(budget.try_take(usize::MAX).is_err());
    assert_eq!(budget.try_take(0).unwrap().bytes(), 0);
}
