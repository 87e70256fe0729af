//! Commit limits: one number that any number of reservations take from, exactly.

mod shares;

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use self::shares::{Share, Shares};
use crate::error::RefusalReason;
use crate::os;
use crate::sync::{AtomicU64, AtomicUsize, Forks, Ordering, relax};

/// A commit limit, in bytes, that any number of reservations share.
///
/// Cheap to clone: every clone is the same budget. Taking from it is one compare-and-swap, so it is
/// never exceeded, however many threads and page faults race for the last page.
///
/// The child of a fork has a budget of its own, from which its copies of the reservations have taken what they
/// have committed. What threads of the parent had taken for a commit that was under way may be counted there,
/// too, until the child first uses the reservation; from then on the numbers are exact.
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
pub struct Budget(Arc<Shared>);

/// What the clones of a budget have in common.
struct Shared {
    ledger: Ledger,
    shares: Shares,
    /// The process that this state was last seen in.
    forks: Forks,
}

impl Budget {
    /// Makes a budget of `bytes` bytes. Memory is taken from it in whole pages.
    ///
    /// ```
    /// use pagewise::{Budget, PageVec, page_size};
    ///
    /// let less_than_a_page = Budget::new(page_size() - 1);
    /// let mut bytes = PageVec::<u8>::builder(100).budget(less_than_a_page).build()?;
    /// assert!(bytes.try_push(1).is_err());
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Shared {
            ledger: Ledger::new(bytes),
            shares: Shares::new(),
            forks: Forks::new(os::forks()),
        }))
    }

    /// Returns the bytes that may be committed in all, as they were given: not rounded.
    ///
    /// ```
    /// let budget = pagewise::Budget::new(100_000);
    /// let same = budget.clone();
    /// assert_eq!(same.limit(), 100_000);
    /// ```
    pub fn limit(&self) -> usize {
        self.0.ledger.limit
    }

    /// Returns the bytes that are committed now by all who share the budget: whole pages.
    ///
    /// ```
    /// let budget = pagewise::Budget::new(1 << 30);
    /// let arena = pagewise::Arena::builder(1 << 30).budget(budget.clone()).build()?;
    /// let mut log = pagewise::PageVec::builder(1 << 20).budget(budget.clone()).build()?;
    /// (arena.alloc(1u8), log.push(2u8));
    /// assert_eq!(budget.used(), arena.committed() + log.committed());
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn used(&self) -> usize {
        self.end_what_the_parent_did();
        self.0.ledger.used()
    }

    /// Returns the most bytes that were ever committed at once, by all together.
    ///
    /// ```
    /// let budget = pagewise::Budget::new(1 << 30);
    /// for _ in 0..3 {
    ///     let round = pagewise::Reservation::builder(1 << 20).budget(budget.clone()).build()?;
    ///     round.commit(..)?;
    /// }
    /// assert_eq!((budget.used(), budget.peak()), (0, 1 << 20)); // never two rounds at once
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn peak(&self) -> usize {
        self.end_what_the_parent_did();
        self.0.ledger.peak()
    }

    /// Where this process is a child that was forked since the last call: makes the ledger the sum of the
    /// shares. Called before any account of the budget is used in the child. Async-signal-safe.
    fn end_what_the_parent_did(&self) {
        self.0.forks.catch_up(os::forks(), || self.add_up());
    }

    fn add_up(&self) {
        let (taken, used) = self.0.shares.sum();
        self.0.ledger.set(taken, used);
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget")
            .field("limit", &self.limit())
            .field("used", &self.used())
            .field("peak", &self.peak())
            .finish()
    }
}

/// One number and its limit. Bytes are *taken* before the system is asked for them, and *used* once they
/// are committed.
///
/// Invariants: `used <= taken <= limit` whenever no thread is between two of its steps (but see
/// [`Account::recount`]); `taken <= limit` always. `peak` is the highest `used` that ever was.
#[derive(Debug)]
pub(crate) struct Ledger {
    limit: usize,
    /// Bytes in the lower bits; in the upper ones, how many takes are *tentative*: a second limit may still
    /// refuse them, and then their bytes come back. Both are in one word, so that a thread that finds too few
    /// bytes left also sees whether some may come back.
    taken: AtomicU64,
    used: AtomicUsize,
    peak: AtomicUsize,
}

/// The error of a ledger that has too little left: its numbers.
#[derive(Debug)]
struct Full {
    used: usize,
    limit: usize,
}

/// One tentative take. No address space has more than 2^56 bytes.
const TENTATIVE: u64 = 1 << 56;

fn bytes_of(taken: u64) -> usize {
    (taken & (TENTATIVE - 1)) as usize
}

/// How many rounds a thread waits for the end of a tentative take. Bounded, because a signal handler may have
/// interrupted that take on the same thread, which then ends only after the handler.
const MOST_ROUNDS: u32 = 1024;

impl Ledger {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            taken: AtomicU64::new(0),
            used: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
        }
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

    /// Takes as much of `want` as is left, in multiples of `unit`, but at least `least`. Where `tentative`
    /// is [`TENTATIVE`], the take is to be ended by [`settle`](Self::settle); otherwise it is zero.
    ///
    /// While tentative takes are open, a shortage is not reported but waited out: their bytes come back if
    /// the other limit refuses them.
    fn take(&self, least: usize, want: usize, unit: usize, tentative: u64) -> Result<usize, Full> {
        let mut round = 0;
        let mut seen = self.taken.load(Ordering::Relaxed);
        loop {
            let taken = bytes_of(seen);
            // More than the limit is taken only in a forked child: see `Account::recount`.
            let left = self.limit.saturating_sub(taken);
            // `checked_rem` cannot panic, which the fault handler must not.
            let left = left - left.checked_rem(unit).unwrap_or(0);
            let bytes = want.min(left);
            let others = seen / TENTATIVE;
            if bytes < least && (others == 0 || round == MOST_ROUNDS) {
                return Err(Full { used: taken, limit: self.limit });
            }
            if bytes < least || (tentative > 0 && others == u64::MAX / TENTATIVE) {
                relax(&mut round);
                seen = self.taken.load(Ordering::Relaxed);
                continue;
            }
            match self.taken.compare_exchange_weak(
                seen,
                seen + bytes as u64 + tentative,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(bytes),
                Err(now) => seen = now,
            }
        }
    }

    /// Ends a tentative take, of which `surplus` bytes come back.
    fn settle(&self, surplus: usize) {
        self.taken.fetch_sub(TENTATIVE + surplus as u64, Ordering::Relaxed);
    }

    /// Bytes that were taken are committed now.
    fn commit(&self, bytes: usize) {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        self.peak.fetch_max(before + bytes, Ordering::Relaxed);
    }

    /// Bytes that were committed are not any more.
    fn decommit(&self, bytes: usize) {
        let before = self.used.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "a ledger cannot give back more than was committed");
        self.give_back(bytes);
    }

    /// Bytes that were taken, and are not committed, come back.
    fn give_back(&self, bytes: usize) {
        let before = self.taken.fetch_sub(bytes as u64, Ordering::Relaxed);
        debug_assert!(bytes_of(before) >= bytes, "a ledger cannot give back more than was taken");
    }

    /// Corrects the part of one account, from what it is in this ledger to what is true of it. Other threads
    /// may take from the ledger for other accounts at the same time.
    fn correct(&self, part: Part, committed: usize) {
        // (Adding what wraps around is subtracting. No tentative take is in a ledger that accounts share.)
        let taken = (committed as u64).wrapping_sub(part.taken as u64);
        self.taken.fetch_add(taken, Ordering::Relaxed);
        let more = committed.wrapping_sub(part.used);
        let used = self.used.fetch_add(more, Ordering::Relaxed).wrapping_add(more);
        self.peak.fetch_max(used, Ordering::Relaxed);
    }

    /// Sets both numbers, and ends tentative takes. Only while no other thread uses the ledger.
    fn set(&self, taken: usize, used: usize) {
        self.taken.store(taken as u64, Ordering::Relaxed);
        self.used.store(used, Ordering::Relaxed);
        self.peak.fetch_max(used, Ordering::Relaxed);
    }
}

/// What a ledger has of one account.
struct Part {
    taken: usize,
    used: usize,
}

/// An account's place in a budget.
///
/// Invariant: `share` is one of the budget's, and this value's alone.
#[derive(Debug)]
struct Place {
    budget: Budget,
    share: NonNull<Share>,
}

// SAFETY: a share is made of atomics, and lives as long as the budget.
unsafe impl Send for Place {}
// SAFETY: as above.
unsafe impl Sync for Place {}

impl Place {
    fn new(budget: Budget) -> Self {
        budget.end_what_the_parent_did();
        let share = budget.0.shares.enter();
        Self { budget, share }
    }

    fn ledger(&self) -> &Ledger {
        &self.budget.0.ledger
    }

    fn share(&self) -> &Share {
        // SAFETY: the budget lives as long as this value, and its shares with it.
        unsafe { self.share.as_ref() }
    }

    // The share is behind the ledger when something is taken, and ahead of it when something comes back.

    fn take(&self, least: usize, want: usize, unit: usize) -> Result<usize, Full> {
        let bytes = self.ledger().take(least, want, unit, 0)?;
        self.share().taken.fetch_add(bytes, Ordering::Relaxed);
        Ok(bytes)
    }

    fn commit(&self, bytes: usize) {
        self.ledger().commit(bytes);
        self.share().used.fetch_add(bytes, Ordering::Relaxed);
    }

    fn decommit(&self, bytes: usize) {
        self.share().used.fetch_sub(bytes, Ordering::Relaxed);
        self.share().taken.fetch_sub(bytes, Ordering::Relaxed);
        self.ledger().decommit(bytes);
    }

    fn give_back(&self, bytes: usize) {
        self.share().taken.fetch_sub(bytes, Ordering::Relaxed);
        self.ledger().give_back(bytes);
    }

    /// Sets what is committed, in the share and in the budget, whatever stood there.
    fn recount(&self, committed: usize) {
        self.budget.end_what_the_parent_did();
        let share = self.share();
        let part = Part {
            taken: share.taken.swap(committed, Ordering::Relaxed),
            used: share.used.swap(committed, Ordering::Relaxed),
        };
        self.ledger().correct(part, committed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Nothing is left, as a rule: a reservation gives back what it has when it is released.
        self.recount(0);
        // SAFETY: the share is the budget's, and nobody uses it any more.
        unsafe { self.budget.0.shares.leave(self.share) };
    }
}

/// What one reservation has committed, held against its own limit and the budget that it shares.
/// The only place where commits are counted. Async-signal-safe.
#[derive(Debug)]
pub(crate) struct Account {
    own: Ledger,
    shared: Option<Place>,
}

impl Account {
    pub(crate) fn new(limit: usize, shared: Option<Budget>) -> Self {
        Self { own: Ledger::new(limit), shared: shared.map(Place::new) }
    }

    pub(crate) fn own(&self) -> &Ledger {
        &self.own
    }

    /// Takes exactly `bytes`, or nothing.
    pub(crate) fn take_exactly(&self, bytes: usize) -> Result<(), RefusalReason> {
        self.take(bytes, bytes, 1).map(|_| ())
    }

    /// Takes as much of `want` as both limits have left, in multiples of `unit`, at least one.
    pub(crate) fn take_up_to(&self, want: usize, unit: usize) -> Result<usize, RefusalReason> {
        self.take(unit, want, unit)
    }

    fn take(&self, least: usize, want: usize, unit: usize) -> Result<usize, RefusalReason> {
        let take_own = |tentative| {
            self.own
                .take(least, want, unit, tentative)
                .map_err(|Full { used, limit }| RefusalReason::Limit { used, limit })
        };
        let Some(shared) = &self.shared else { return take_own(0) };
        let own = take_own(TENTATIVE)?;
        match shared.take(least, own, unit) {
            Ok(kept) => {
                self.own.settle(own - kept);
                Ok(kept)
            }
            Err(Full { used, limit }) => {
                self.own.settle(own);
                Err(RefusalReason::Budget { used, limit })
            }
        }
    }

    /// Bytes that were taken are committed now.
    pub(crate) fn committed(&self, bytes: usize) {
        if let Some(shared) = &self.shared {
            shared.commit(bytes);
        }
        self.own.commit(bytes);
    }

    /// Bytes that were taken come back: they were not committed after all.
    pub(crate) fn return_untouched(&self, bytes: usize) {
        self.own.give_back(bytes);
        if let Some(shared) = &self.shared {
            shared.give_back(bytes);
        }
    }

    /// Bytes that were committed come back.
    pub(crate) fn decommitted(&self, bytes: usize) {
        self.own.decommit(bytes);
        if let Some(shared) = &self.shared {
            shared.decommit(bytes);
        }
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

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
mod models;
