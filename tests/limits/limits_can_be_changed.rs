//! Limits of reservations, regions and budgets go up and down while they are in use, and hold at every moment.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use pagewise::{Budget, CommitStep, DemandRegion, Error, RefusalReason, Reservation, page_size};

#[test]
fn a_limit_goes_down_as_far_as_what_is_committed() {
    let page = page_size();
    let memory = Reservation::builder(64 * page).limit(4 * page).build().unwrap();
    memory.commit(..3 * page).unwrap();
    let refused = memory.set_limit(3 * page - 1).unwrap_err();
    assert!(
        matches!(refused, Error::LimitBelowUse { limit, used } if (limit, used) == (2 * page, 3 * page)),
        "{refused:?}"
    );
    assert_eq!(memory.limit(), 4 * page);
    memory.set_limit(4 * page - 1).unwrap(); // rounded down
    assert_eq!(memory.limit(), 3 * page);
    let refused = memory.commit(9 * page..10 * page).unwrap_err();
    assert!(
        matches!(refused, Error::LimitReached { used, limit, .. } if (used, limit) == (3 * page, 3 * page)),
        "{refused:?}"
    );
    memory.decommit(..page).unwrap();
    memory.set_limit(2 * page).unwrap();
    memory.set_limit(usize::MAX).unwrap();
    assert_eq!(memory.limit(), 64 * page);
    memory.commit(..).unwrap();
    let refused = memory.set_limit(0).unwrap_err();
    assert!(matches!(refused, Error::LimitBelowUse { limit: 0, used } if used == 64 * page));
}

#[test]
fn a_region_grows_on_after_its_limit_was_raised() {
    let page = page_size();
    let builder = DemandRegion::builder(64 * page).limit(2 * page).step(CommitStep::page());
    let mut region = builder.build().unwrap();
    let stopped = region.fill(.., 1).unwrap_err();
    assert_eq!((stopped.copied, region.stats().limit), (2 * page, 2 * page));
    region.set_limit(5 * page).unwrap();
    let stopped = region.fill(.., 2).unwrap_err();
    let (copied, limit) = (stopped.copied, 5 * page);
    assert_eq!(
        (copied, stopped.refusal.reason),
        (limit, RefusalReason::Limit { used: limit, limit })
    );
    assert!(matches!(region.set_limit(page), Err(Error::LimitBelowUse { .. })));
    region.decommit(page..).unwrap();
    region.set_limit(page).unwrap();
    assert!(region.fill(.., 3).is_err());
    assert_eq!((region.stats().committed, region.stats().limit), (page, page));
}

/// One thread faults and decommits, another lowers the limit to what it finds, and looks.
#[test]
fn what_is_committed_never_exceeds_what_the_limit_was_lowered_to() {
    let page = page_size();
    let rounds = if cfg!(miri) { 20 } else { 300 };
    let builder = DemandRegion::builder(64 * page).step(CommitStep::fixed(4 * page));
    let (region, done) = (builder.build().unwrap(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..rounds {
                for index in 0..16 {
                    let at = (index * 4 + round % 4) * page;
                    let _ = region.commit(at..at + page);
                }
                // SAFETY: nobody has a slice of the region, or accesses it.
                unsafe { region.decommit_shared(..).unwrap() };
            }
            done.store(true, Relaxed);
        });
        let mut refused = 0;
        while !done.load(Relaxed) {
            let limit = region.committed() + page;
            match region.set_limit(limit) {
                Ok(()) => assert!(region.committed() <= limit),
                Err(Error::LimitBelowUse { limit: wanted, used }) => {
                    refused += 1;
                    assert!(wanted == limit && used > limit, "{used} of {limit}, {refused}");
                }
                Err(other) => panic!("{other:?}"),
            }
            assert!(region.committed() <= region.set_limit(usize::MAX).map_or(0, |()| 64 * page));
        }
    });
    assert_eq!(region.committed(), 0);
}

/// What a child grants, its parents grant, too; the error of each has that budget's numbers.
#[test]
fn tenants_share_what_all_have_and_keep_what_is_theirs() {
    let page = page_size();
    let all = Budget::new(7 * page);
    let [ada, bob] = [4, 5].map(|pages| all.child(pages * page));
    let region = |budget: &Budget| {
        let builder = DemandRegion::builder(64 * page).budget(budget.clone());
        builder.step(CommitStep::page()).build().unwrap()
    };
    let (mut first, mut second) = (region(&ada), region(&bob));
    let refused = first.fill(.., 1).unwrap_err();
    assert_eq!(refused.copied, 4 * page);
    let numbers = RefusalReason::Budget { used: 4 * page, limit: 4 * page };
    assert_eq!(refused.refusal.reason, numbers, "the tenant's");
    let refused = second.fill(.., 1).unwrap_err();
    assert_eq!(refused.copied, 3 * page);
    let numbers = RefusalReason::Budget { used: 7 * page, limit: 7 * page };
    assert_eq!(refused.refusal.reason, numbers, "those of all");
    let refused = second.commit(10 * page..11 * page).unwrap_err();
    assert!(
        matches!(refused, Error::BudgetReached { used, limit, .. } if used == 7 * page && limit == used)
    );
    assert_eq!((all.used(), ada.used(), bob.used()), (7 * page, 4 * page, 3 * page));
    drop(first);
    second.fill(..5 * page, 1).unwrap();
    assert_eq!((all.used(), ada.used(), bob.used()), (5 * page, 0, 5 * page));
    assert_eq!((all.peak(), ada.peak(), bob.peak()), (7 * page, 4 * page, 5 * page));
}
