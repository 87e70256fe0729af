//! What one reservation has committed.

use std::ptr::NonNull;

use super::ledger::{Full, Ledger, Part, take_from_all};
use super::shares::Share;
use super::{Budget, Ledgers};
use crate::error::RefusalReason;
use crate::sync::Ordering;

/// An account's place in a budget.
///
/// Invariant: `share` is one of the budget's, and this value's alone.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) budget: Budget,
    pub(super) share: NonNull<Share>,
}

// SAFETY: a share is made of atomics, and lives as long as the budget.
unsafe impl Send for Place {}
// SAFETY: as above.
unsafe impl Sync for Place {}

impl Place {
    fn new(budget: Budget) -> Self {
        budget.end_what_the_parent_did();
        let share = budget.enter();
        Self { budget, share }
    }

    pub(super) fn share(&self) -> &Share {
        // SAFETY: the budget lives as long as this value, and its shares with it.
        unsafe { self.share.as_ref() }
    }

    /// Sets what is committed, in the share and in the budget, whatever stood there.
    fn recount(&self, committed: usize) {
        self.budget.end_what_the_parent_did();
        let share = self.share();
        let (taken, used) = (
            share.taken.swap(committed, Ordering::Relaxed),
            share.used.swap(committed, Ordering::Relaxed),
        );
        self.budget.ledgers().for_each(|ledger| ledger.correct(Part { taken, used }, committed));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Nothing is left, as a rule: a reservation gives back what it has when it is released.
        self.recount(0);
        // SAFETY: the share is the budget's, and nobody uses it any more.
        unsafe { self.budget.leave(self.share) };
    }
}

/// What one reservation has committed, held against its own limit and the budget that it shares.
/// The only place where commits are counted. Async-signal-safe.
///
/// The share in the budget is behind the ledgers when something is taken, and ahead of them when something
/// comes back.
#[derive(Debug)]
pub(crate) struct Account {
    pub(super) own: Ledger,
    pub(super) shared: Option<Place>,
}

impl Account {
    pub(crate) fn new(limit: usize, shared: Option<Budget>) -> Self {
        Self { own: Ledger::new(limit), shared: shared.map(Place::new) }
    }

    /// Whether there is a budget.
    pub(crate) fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// Whether what this account gives back may help the other one: both take from the same tree of budgets.
    pub(crate) fn shares_with(&self, other: &Self) -> bool {
        match (&self.shared, &other.shared) {
            (Some(a), Some(b)) => std::ptr::eq(&*a.budget.0.tree, &*b.budget.0.tree),
            _ => false,
        }
    }

    pub(crate) fn own(&self) -> &Ledger {
        &self.own
    }

    /// Changes the reservation's own limit; where more is taken than it is to be, returns how much is.
    pub(crate) fn set_limit(&self, limit: usize) -> Result<(), usize> {
        self.own.set_limit(limit).map_err(|Full { used, .. }| used)
    }

    /// The own limit, the budget, and the budgets above it.
    fn ledgers(&self) -> Ledgers<'_> {
        let budget = self.shared.as_ref().map(|place| &*place.budget.0);
        Ledgers { own: Some(&self.own), budget }
    }

    /// Takes exactly `bytes`, or nothing.
    pub(crate) fn take_exactly(&self, bytes: usize) -> Result<(), RefusalReason> {
        self.take(bytes, bytes, 1).map(|_| ())
    }

    /// Takes as much of `want` as all limits have left, in multiples of `unit`, at least one.
    #[inline(never)] // the fault handler has little stack
    pub(crate) fn take_up_to(&self, want: usize, unit: usize) -> Result<usize, RefusalReason> {
        self.take(unit, want, unit)
    }

    fn take(&self, least: usize, want: usize, unit: usize) -> Result<usize, RefusalReason> {
        let Some(shared) = &self.shared else {
            let Full { used, limit } = match self.own.take(least, want, unit, 0) {
                Ok(bytes) => return Ok(bytes),
                Err(full) => full,
            };
            return Err(RefusalReason::Limit { used, limit });
        };
        let bytes = take_from_all(self.ledgers(), least, want, unit).map_err(|(index, full)| {
            let Full { used, limit } = full;
            match index {
                0 => RefusalReason::Limit { used, limit },
                _ => RefusalReason::Budget { used, limit },
            }
        })?;
        shared.share().taken.fetch_add(bytes, Ordering::Relaxed);
        Ok(bytes)
    }

    /// Bytes that were taken are committed now.
    pub(crate) fn committed(&self, bytes: usize) {
        self.ledgers().for_each(|ledger| ledger.commit(bytes));
        if let Some(shared) = &self.shared {
            shared.share().used.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Bytes that were taken come back: they were not committed after all.
    pub(crate) fn return_untouched(&self, bytes: usize) {
        if let Some(shared) = &self.shared {
            shared.share().taken.fetch_sub(bytes, Ordering::Relaxed);
        }
        self.ledgers().for_each(|ledger| ledger.give_back(bytes));
    }

    /// Bytes that were committed come back.
    pub(crate) fn decommitted(&self, bytes: usize) {
        if let Some(shared) = &self.shared {
            shared.share().used.fetch_sub(bytes, Ordering::Relaxed);
            shared.share().taken.fetch_sub(bytes, Ordering::Relaxed);
        }
        self.ledgers().for_each(|ledger| ledger.decommit(bytes));
    }

    /// Sets what is committed, where a fork left the count in the middle of a change. Only for one thread,
    /// while no other uses this account; others may use the accounts of other reservations of the budget.
    /// Async-signal-safe.
    ///
    /// The child may keep pages that a thread of the parent was giving back, whose bytes another account has
    /// taken since. Then the limit is exceeded by these pages, and grants nothing until as many bytes came back.
    pub(crate) fn recount(&self, committed: usize) {
        if let Some(shared) = &self.shared {
            shared.recount(committed);
        }
        self.own.set(committed, committed);
    }
}
