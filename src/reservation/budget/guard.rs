//! Bytes of a budget for memory that is not pagewise's.

use std::fmt;

use super::Budget;
use super::ledger::{Full, take_from_all};
use crate::error::Error;
use crate::sync::Ordering;

/// Bytes that were [taken](Budget::try_take) from a [`Budget`], and come back when this is dropped.
///
/// In the child process of a fork, every guard that the parent process had is counted, as the memory that it stands
/// for is there, too; dropping a guard in one process changes nothing in the other.
///
/// ```
/// let budget = pagewise::Budget::new(1 << 20);
/// let guard = budget.try_take(1 << 19)?; // for memory that is not pagewise's
/// assert_eq!(budget.available(), 1 << 19);
/// drop(guard);
/// assert_eq!(budget.available(), 1 << 20);
/// # Ok::<(), pagewise::Error>(())
/// ```
#[must_use = "the bytes come back when the guard is dropped"]
pub struct BudgetGuard {
    budget: Budget,
    /// Invariant: so many bytes of the budget are taken and used for this value.
    bytes: usize,
}

impl BudgetGuard {
    pub(super) fn new(budget: Budget, bytes: usize) -> Result<Self, Error> {
        let mut guard = Self { budget, bytes: 0 };
        guard.take(bytes)?;
        Ok(guard)
    }

    /// Returns the bytes that this guard has.
    ///
    /// ```
    /// let guard = pagewise::Budget::new(1 << 20).try_take(1000)?;
    /// assert_eq!(guard.bytes(), 1000);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes more bytes, or gives some back, so that there are `bytes`.
    ///
    /// # Errors
    /// As [`Budget::try_take`]: [`BudgetRefused`](crate::Error::BudgetRefused); then the guard has what it
    /// had. Giving back is never refused.
    ///
    /// ```
    /// let budget = pagewise::Budget::new(1000);
    /// let mut buffer = budget.try_take(100)?;
    /// buffer.try_resize(900)?; // the buffer grew
    /// assert!(buffer.try_resize(1001).is_err());
    /// assert_eq!(budget.used(), 900);
    /// buffer.try_resize(10)?;
    /// assert_eq!(budget.used(), 10);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn try_resize(&mut self, bytes: usize) -> Result<(), Error> {
        if bytes > self.bytes {
            return self.take(bytes - self.bytes);
        }
        self.give_back(self.bytes - bytes);
        Ok(())
    }

    // What the budget notes of its guards is behind the ledgers when something is taken, and ahead of them when
    // something comes back.

    fn take(&mut self, bytes: usize) -> Result<(), Error> {
        self.budget.end_what_the_parent_did();
        take_from_all(self.budget.ledgers(), bytes, bytes, 1).map_err(|(_, full)| {
            let Full { used, limit } = full;
            Error::BudgetRefused { requested: bytes, used, limit }
        })?;
        self.budget.0.guards().taken.fetch_add(bytes, Ordering::Relaxed);
        self.budget.ledgers().for_each(|ledger| ledger.commit(bytes));
        self.bytes += bytes;
        Ok(())
    }

    fn give_back(&mut self, bytes: usize) {
        self.budget.end_what_the_parent_did();
        self.bytes -= bytes;
        self.budget.0.guards().taken.fetch_sub(bytes, Ordering::Relaxed);
        self.budget.ledgers().for_each(|ledger| ledger.decommit(bytes));
    }
}

impl Drop for BudgetGuard {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

impl fmt::Debug for BudgetGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BudgetGuard").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}
