//! Loom explores takes and repairs that meet on one budget.

use super::*;

/// One thread wants more than the shared budget has, another one a page that both limits have.
#[test]
fn loom_what_every_order_grants_is_granted() {
    loom::model(|| {
        let account = Arc::new(Account::new(10, Some(Budget::new(5))));
        account.take_exactly(1).unwrap();
        account.committed(1);
        let greedy = loom::thread::spawn({
            let account = account.clone();
            move || account.take_exactly(9)
        });
        assert_eq!(account.take_exactly(1), Ok(()));
        assert!(greedy.join().unwrap().is_err());
        assert_eq!(bytes_of(account.own.taken.load(Ordering::Relaxed)), 2);
    });
}

/// In the child of a fork, two threads come to two reservations of one budget for the first time, which
/// repairs the budget and their accounts; one of them goes on working meanwhile.
#[test]
fn loom_a_recount_against_a_commit_of_another_account() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let mut budget = Budget::new(100);
        // As if this process had been forked since.
        Arc::get_mut(&mut budget.0).unwrap().forks = Forks::new(os::forks() + 1);
        let accounts = [(); 2].map(|()| {
            let share = budget.0.shares.enter();
            let place = Place { budget: budget.clone(), share };
            Arc::new(Account { own: Ledger::new(100), shared: Some(place) })
        });
        let [repaired, other] = accounts.clone();
        repaired.take_exactly(20).unwrap();
        repaired.committed(20);
        // Threads of the parent stood between a take and the note of it, and before a commit.
        budget.0.ledger.take(5, 5, 1, 0).unwrap();
        repaired.take_exactly(3).unwrap();
        let recounting = loom::thread::spawn(move || repaired.recount(20));
        let working = loom::thread::spawn(move || {
            other.recount(0);
            other.take_exactly(7).unwrap();
            other.committed(7);
            other.decommitted(2);
        });
        recounting.join().unwrap();
        working.join().unwrap();
        assert_eq!(budget.used(), 25);
        assert_eq!(budget.0.ledger.taken.load(Ordering::Relaxed), 25);
    });
}
