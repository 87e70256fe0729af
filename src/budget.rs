//! Commit limits: one number that any number of reservations take from, exactly.

use std::fmt;
use std::sync::Arc;

use crate::sync::{AtomicUsize, Ordering};

/// A commit limit, in bytes, that any number of reservations share.
///
/// Cheap to clone: every clone is the same budget. Taking from it is one compare-and-swap, so it is
/// never exceeded, however many threads and page faults race for the last page.
///
/// ```
/// use pagewise::{Budget, Error, Reservation, page_size};
///
/// let budget = Budget::new(3 * page_size());
/// let a = Reservation::builder(1 << 20).budget(budget.clone()).build()?;
/// let b = Reservation::builder(1 << 20).budget(budget.clone()).build()?;
/// a.commit(0..2 * page_size())?;
/// b.commit(0..page_size())?;
/// assert_eq!(budget.used(), budget.limit());
/// assert!(matches!(b.commit(..), Err(Error::BudgetReached { .. })));
/// drop(a);
/// assert_eq!(budget.used(), page_size());
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
pub struct Budget(Arc<Ledger>);

impl Budget {
    /// A budget of `bytes` bytes. Memory is taken from it in whole pages.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Ledger::new(bytes)))
    }

    /// Bytes that may be committed in all.
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// Bytes that are committed now.
    pub fn used(&self) -> usize {
        self.0.used()
    }

    /// The most bytes that were ever committed at once.
    pub fn peak(&self) -> usize {
        self.0.peak()
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// `used <= limit` at every moment (but see [`Account::recount`]); `peak` is the highest `used` that ever was.
#[derive(Debug)]
pub(crate) struct Ledger {
    limit: usize,
    used: AtomicUsize,
    peak: AtomicUsize,
}

impl Ledger {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, used: AtomicUsize::new(0), peak: AtomicUsize::new(0) }
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    pub(crate) fn peak(&self) -> usize {
        self.peak.load(Ordering::Relaxed)
    }

    /// Takes as much of `want` as is left, in multiples of `unit`, but at least `least`. The caller
    /// reports what it keeps to [`Ledger::reached`].
    fn take(&self, least: usize, want: usize, unit: usize) -> Result<Taken, Shortage> {
        let mut used = self.used.load(Ordering::Relaxed);
        loop {
            // More than the limit is in use only in a forked child: see `Account::recount`.
            let left = self.limit.saturating_sub(used) / unit * unit;
            let taken = want.min(left);
            if taken < least {
                return Err(Shortage { used, limit: self.limit });
            }
            match self.used.compare_exchange_weak(
                used,
                used + taken,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(Taken { bytes: taken, before: used }),
                Err(now) => used = now,
            }
        }
    }

    fn reached(&self, used: usize) {
        self.peak.fetch_max(used, Ordering::Relaxed);
    }

    /// Only for a process with a single thread.
    fn correct(&self, surplus: usize, deficit: usize) {
        let used = self.used.load(Ordering::Relaxed);
        self.used.store(used.saturating_sub(surplus).saturating_add(deficit), Ordering::Relaxed);
    }

    fn give_back(&self, bytes: usize) {
        let before = self.used.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "a ledger cannot give back more than was taken");
    }
}

/// What one reservation has committed, held against its own limit and the budget that it shares.
/// The only place where commits are counted. Async-signal-safe.
#[derive(Debug)]
pub(crate) struct Account {
    own: Ledger,
    shared: Option<Budget>,
    /// What `shared` has given this account, or less in the middle of a change, never more: so that
    /// the child of a fork takes nothing away that other accounts hold.
    from_shared: AtomicUsize,
}

/// Bytes taken from a ledger, and what it had given out before.
struct Taken {
    bytes: usize,
    before: usize,
}

/// How little a limit had left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shortage {
    pub(crate) used: usize,
    pub(crate) limit: usize,
}

impl Account {
    pub(crate) fn new(limit: usize, shared: Option<Budget>) -> Self {
        Self { own: Ledger::new(limit), shared, from_shared: AtomicUsize::new(0) }
    }

    pub(crate) fn own(&self) -> &Ledger {
        &self.own
    }

    /// Takes exactly `bytes`, or nothing.
    pub(crate) fn take_exactly(&self, bytes: usize) -> Result<(), Shortage> {
        self.take(bytes, bytes, 1).map(|_| ())
    }

    /// Takes as much of `want` as both limits have left, in multiples of `unit`, at least one.
    pub(crate) fn take_up_to(&self, want: usize, unit: usize) -> Result<usize, Shortage> {
        self.take(unit, want, unit)
    }

    fn take(&self, least: usize, want: usize, unit: usize) -> Result<usize, Shortage> {
        let own = self.own.take(least, want, unit)?;
        let kept = match &self.shared {
            None => own.bytes,
            Some(Budget(shared)) => match shared.take(least, own.bytes, unit) {
                Ok(taken) => {
                    self.from_shared.fetch_add(taken.bytes, Ordering::Relaxed);
                    shared.reached(taken.before + taken.bytes);
                    taken.bytes
                }
                Err(shortage) => {
                    self.give_back_own(own.bytes);
                    return Err(shortage);
                }
            },
        };
        self.own.reached(own.before + kept);
        self.give_back_own(own.bytes - kept);
        Ok(kept)
    }

    pub(crate) fn give_back(&self, bytes: usize) {
        self.give_back_own(bytes);
        if let Some(Budget(shared)) = &self.shared {
            self.from_shared.fetch_sub(bytes, Ordering::Relaxed);
            shared.give_back(bytes);
        }
    }

    /// Sets what is committed, where a fork left the count in the middle of a change. Only for a
    /// process with a single thread.
    ///
    /// Where another thread was just giving pages back, the child may keep them, and others may have
    /// taken what was given: then a limit is exceeded by what was under way, and grants nothing
    /// until as much came back. What a thread had taken from a shared budget without a note of it
    /// stays taken in the child. Either way, never more is granted than the limit.
    pub(crate) fn recount(&self, committed: usize) {
        self.own.correct(self.own.used(), committed);
        if let Some(Budget(shared)) = &self.shared {
            shared.correct(self.from_shared.swap(committed, Ordering::Relaxed), committed);
        }
    }

    fn give_back_own(&self, bytes: usize) {
        if bytes > 0 {
            self.own.give_back(bytes);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_clamped_to_what_is_left() {
        let account = Account::new(10_000, Some(Budget::new(9_000)));
        assert_eq!(account.take_up_to(65_536, 4096), Ok(8192));
        assert_eq!(account.take_up_to(4096, 4096), Err(Shortage { used: 8192, limit: 10_000 }));
        account.give_back(4096);
        assert_eq!(account.take_exactly(8192), Err(Shortage { used: 4096, limit: 10_000 }));
        assert_eq!(account.take_exactly(4096), Ok(()));
        assert_eq!((account.own().used(), account.own().peak()), (8192, 8192));
    }

    #[test]
    fn a_recount_after_a_fork_is_exact_and_leaves_other_accounts_alone() {
        let shared = Budget::new(100_000);
        let other = Account::new(usize::MAX, Some(shared.clone()));
        other.take_exactly(40_000).unwrap();
        let account = Account::new(50_000, Some(shared.clone()));
        account.take_exactly(20_000).unwrap();
        // Another thread was between its own limit and the shared one.
        account.own.take(1, 8_000, 1).unwrap();
        account.recount(20_000);
        assert_eq!((account.own().used(), shared.used()), (20_000, 60_000));
        // Another thread had given back what the child keeps.
        account.give_back(15_000);
        account.recount(20_000);
        assert_eq!((account.own().used(), shared.used()), (20_000, 60_000));
        // Pages were kept beyond the limit: no more of them until enough came back.
        account.recount(60_000);
        assert!(account.take_exactly(1).is_err());
        account.give_back(20_000);
        assert_eq!(account.take_exactly(10_000), Ok(()));
        assert_eq!((account.own().used(), shared.used()), (50_000, 90_000));
    }

    #[test]
    fn what_the_shared_budget_refuses_is_not_kept_by_the_own_limit() {
        let shared = Budget::new(4096);
        let account = Account::new(usize::MAX, Some(shared.clone()));
        assert_eq!(account.take_exactly(8192), Err(Shortage { used: 0, limit: 4096 }));
        assert_eq!((account.own().used(), shared.used()), (0, 0));
    }
}
