//! Loom explores takes, changes of a limit, and repairs that meet on one budget.

use super::account::Place;
use super::*;

fn explore(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

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
        assert_eq!(account.own.taken(), (2, 0));
    });
}

/// Two tenants, one of them with a budget of its own below the tenants', for what the budget of all has left. In
/// the order in which both ask, one of them is granted all of it.
#[test]
fn loom_two_children_for_what_their_parent_has_left() {
    explore(|| {
        let all = Budget::new(5);
        let (tenant, other) = (all.child(4), all.child(9));
        let deep = Arc::new(Account::new(10, Some(tenant.child(8))));
        let refused = loom::thread::spawn({
            let deep = deep.clone();
            move || deep.take_exactly(4).is_err()
        });
        let guard = other.try_take(3);
        assert!(all.used() <= 5);
        let refused = refused.join().unwrap();
        assert_eq!(guard.is_err(), !refused, "exactly one is granted");
        let (deep_taken, others) = if refused { (0, 3) } else { (4, 0) };
        assert_eq!((tenant.0.ledger.taken(), other.used()), ((deep_taken, 0), others));
        assert_eq!(
            (deep.own.taken(), all.0.ledger.taken()),
            ((deep_taken, 0), (deep_taken + others, 0))
        );
        // Whatever was refused left nothing behind.
        assert_eq!(deep.take_exactly(if refused { 2 } else { 1 }).is_ok(), refused);
    });
}

/// What the parent refuses goes back to the child, and another one who asks the child meanwhile gets it.
#[test]
fn loom_a_refusal_by_the_parent_takes_nothing_from_others_of_the_child() {
    explore(|| {
        let child = Budget::new(5).child(10);
        let greedy = loom::thread::spawn({
            let child = child.clone();
            move || child.try_take(9).is_err()
        });
        let modest = child.try_take(3).unwrap();
        assert!(greedy.join().unwrap());
        assert_eq!((child.used(), child.available()), (3, 2));
        drop(modest);
        assert_eq!((child.0.ledger.taken(), child.available()), ((0, 0), 5));
    });
}

/// A limit is lowered while somebody takes: one of the two is refused, and the numbers are of one moment.
#[test]
fn loom_a_limit_is_never_below_what_is_taken() {
    explore(|| {
        let budget = Budget::new(10);
        let lowering = loom::thread::spawn({
            let budget = budget.clone();
            move || budget.set_limit(4)
        });
        let guard = budget.try_take(6);
        match (lowering.join().unwrap(), guard) {
            (Err(Error::LimitBelowUse { limit: 4, used: 6 }), Ok(guard)) => {
                assert_eq!((budget.limit(), guard.bytes()), (10, 6));
            }
            (Ok(()), Err(Error::BudgetRefused { requested: 6, used: 0, limit: 4 })) => {
                assert_eq!((budget.limit(), budget.available()), (4, 4));
            }
            both => panic!("{both:?}"),
        }
    });
}

/// In the child of a fork, two threads come to two reservations of a budget and its child for the first time, which
/// repairs the budgets and their accounts; one of them goes on working meanwhile.
#[test]
fn loom_a_recount_against_a_commit_of_another_account() {
    explore(|| {
        let budget = Budget::new(100);
        let tenant = budget.child(60);
        // As if this process had been forked since.
        budget.0.tree.forks.forget();
        let accounts = [&tenant, &budget].map(|budget| {
            let place = Place { budget: budget.clone(), share: budget.enter() };
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
        assert_eq!((budget.used(), tenant.used()), (25, 20));
        assert_eq!((budget.0.ledger.taken(), tenant.0.ledger.taken()), ((25, 0), (20, 0)));
    });
}
