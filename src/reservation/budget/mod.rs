//! Commit limits: one number that any number of reservations take from, exactly.

mod account;
mod guard;
mod ledger;
mod shares;

use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use self::ledger::{Full, Ledger};
use self::shares::{Share, Shares, Tree};
use crate::error::Error;
use crate::os;
use crate::sync::{Forks, Ordering};

pub(crate) use self::account::Account;
pub use self::guard::BudgetGuard;

/// A commit limit, in bytes, that any number of reservations share.
///
/// Cheap to clone: every clone is the same budget. Taking from it is one compare-and-swap, so it is
/// never exceeded, however many threads and page faults race for the last page.
///
/// A budget may have [children](Self::child): what is taken from a child is taken from its parent, too, and both
/// limits hold at every moment. Memory that is not pagewise's is counted by [`try_take`](Self::try_take).
///
/// The child process of a fork has a budget of its own, from which its copies of the reservations have taken what
/// they have committed. What threads of the parent process had taken for a commit that was under way may be
/// counted there, too, until the child process first uses the reservation; from then on the numbers are exact.
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
    parent: Option<Budget>,
    tree: Arc<Tree>,
    /// What [guards](BudgetGuard) have of the budget, in `taken`. Every budget has it, so that a child process
    /// finds every budget by its shares.
    guards: NonNull<Share>,
}

// SAFETY: the pointer is to a share of `tree`, which is made of atomics.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

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
        let tree = Arc::new(Tree { shares: Shares::new(), forks: Forks::new(os::forks()) });
        Self::in_tree(tree, None, bytes)
    }

    /// Makes a budget of `bytes` bytes below this one, for instance a tenant's below that of all tenants. Whatever
    /// is taken from the child is taken from this budget and all above it, too: from each of them, or from none.
    /// A child may have children, to any depth; its limit may be larger than this one's.
    ///
    /// A refusal has the numbers of the budget that has too little left; of several, those of the lowest.
    ///
    /// ```
    /// use pagewise::{Budget, PageVec, page_size};
    ///
    /// let all = Budget::new(5 * page_size());
    /// let [mut ada, mut bob] = [(); 2].map(|()| {
    ///     PageVec::<u8>::builder(1 << 30).budget(all.child(3 * page_size())).build().unwrap()
    /// });
    /// ada.try_reserve_exact(3 * page_size())?;
    /// assert!(ada.try_reserve_exact(4 * page_size()).is_err()); // a tenant's limit
    /// assert!(bob.try_reserve_exact(3 * page_size()).is_err()); // the limit of all
    /// assert_eq!((all.used(), all.available()), (3 * page_size(), 2 * page_size()));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn child(&self, bytes: usize) -> Self {
        self.end_what_the_parent_did();
        Self::in_tree(self.0.tree.clone(), Some(self.clone()), bytes)
    }

    fn in_tree(tree: Arc<Tree>, parent: Option<Self>, bytes: usize) -> Self {
        // Nobody's until the budget is there: in a child process, the shares are walked whatever a thread of the
        // parent was doing.
        let guards = tree.shares.enter(ptr::null());
        let budget = Self(Arc::new(Shared { ledger: Ledger::new(bytes), parent, tree, guards }));
        budget.0.guards().budget.store(Arc::as_ptr(&budget.0).cast_mut(), Ordering::Release);
        budget
    }

    /// Returns the bytes that may be committed in all, as they were given: not rounded.
    ///
    /// ```
    /// let budget = pagewise::Budget::new(100_000);
    /// let same = budget.clone();
    /// assert_eq!(same.limit(), 100_000);
    /// ```
    pub fn limit(&self) -> usize {
        self.0.ledger.limit()
    }

    /// Changes the limit to `bytes` bytes, for all clones of the budget, at once.
    ///
    /// A limit below what is taken is refused, so that what is used never exceeds the limit, not even while other
    /// threads take at the same time. To stop all further commits, lower the limit to what is [used](Self::used).
    ///
    /// # Errors
    /// [`LimitBelowUse`](Error::LimitBelowUse), with what is taken; then the limit is as before.
    ///
    /// ```
    /// use pagewise::{Budget, Error};
    ///
    /// let budget = Budget::new(1 << 20);
    /// let image = budget.try_take(600_000)?;
    /// budget.set_limit(600_000)?;
    /// assert!(budget.try_take(1).is_err());
    /// let refused = budget.set_limit(100_000);
    /// assert!(matches!(refused, Err(Error::LimitBelowUse { limit: 100_000, used: 600_000 })));
    /// assert_eq!(budget.limit(), 600_000);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn set_limit(&self, bytes: usize) -> Result<(), Error> {
        self.end_what_the_parent_did();
        self.0
            .ledger
            .set_limit(bytes)
            .map_err(|Full { used, limit }| Error::LimitBelowUse { limit, used })
    }

    /// Returns the bytes that can be taken now: the least that this budget and those above it have left. What
    /// another thread is just asking for counts as taken.
    ///
    /// ```
    /// let all = pagewise::Budget::new(1000);
    /// let tenant = all.child(800);
    /// let theirs = all.try_take(500)?;
    /// assert_eq!((all.available(), tenant.available()), (500, 500));
    /// drop(theirs);
    /// assert_eq!((all.available(), tenant.available()), (1000, 800));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn available(&self) -> usize {
        self.end_what_the_parent_did();
        let least = self.ledgers().map(Ledger::left).min().unwrap_or(0);
        least.min(self.limit())
    }

    /// Takes `bytes` bytes for memory that is not pagewise's, such as a buffer on the heap or a mapped file. They
    /// come back when the guard is dropped.
    ///
    /// # Errors
    /// [`BudgetRefused`](Error::BudgetRefused), with the numbers of the budget that has too little left.
    ///
    /// ```
    /// let budget = pagewise::Budget::new(1 << 20);
    /// let cache = (budget.try_take(1000)?, vec![0u8; 1000]);
    /// assert_eq!(budget.used(), 1000); // exactly, not rounded to pages
    /// let refused = budget.try_take(1 << 20).unwrap_err();
    /// assert_eq!(refused.to_string(), "1 MiB refused: budget of 1 MiB is used up (1000 bytes in use): \
    ///     give something back, or give a larger budget");
    /// drop(cache);
    /// assert_eq!(budget.used(), 0);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn try_take(&self, bytes: usize) -> Result<BudgetGuard, Error> {
        BudgetGuard::new(self.clone(), bytes)
    }

    /// Returns the bytes that are committed now by all who share the budget or one below it, and those that
    /// [guards](Self::try_take) have.
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

    /// This budget's ledger, its parent's, and so on.
    fn ledgers(&self) -> Ledgers<'_> {
        self.0.ledgers()
    }

    /// A share for a new account. Lives as long as the budget.
    fn enter(&self) -> NonNull<Share> {
        self.0.tree.shares.enter(Arc::as_ptr(&self.0))
    }

    /// Takes back what [`enter`](Self::enter) gave. Nothing is in it any more.
    ///
    /// # Safety
    /// The share is one of this budget's, and the caller does not use it any more.
    unsafe fn leave(&self, share: NonNull<Share>) {
        // SAFETY: the caller's promise.
        unsafe { self.0.tree.shares.leave(share) };
    }

    /// Where this process is a child that was forked since the last call: makes every ledger of the tree the sum
    /// of its shares. Called before any account of the budget is used in the child. Async-signal-safe.
    fn end_what_the_parent_did(&self) {
        self.0.end_what_the_parent_did();
    }
}

/// The ledgers that a commit is taken from: a reservation's own, its budget's, that budget's parent's, and so on. An
/// iterator of two words, because the fault handler has several of them on a small stack.
#[derive(Clone, Copy)]
struct Ledgers<'a> {
    own: Option<&'a Ledger>,
    budget: Option<&'a Shared>,
}

impl<'a> Iterator for Ledgers<'a> {
    type Item = &'a Ledger;

    fn next(&mut self) -> Option<&'a Ledger> {
        if let Some(own) = self.own.take() {
            return Some(own);
        }
        let budget = self.budget?;
        self.budget = budget.parent.as_ref().map(|parent| &*parent.0);
        Some(&budget.ledger)
    }
}

impl Shared {
    fn ledgers(&self) -> Ledgers<'_> {
        Ledgers { own: None, budget: Some(self) }
    }

    fn end_what_the_parent_did(&self) {
        self.tree.forks.catch_up(os::forks(), || self.add_up());
    }

    fn add_up(&self) {
        self.tree.shares.for_each(|_, budget| budget.ledgers().for_each(|ledger| ledger.set(0, 0)));
        self.tree.shares.for_each(|share, budget| {
            let taken = share.taken.load(Ordering::Relaxed);
            // A guard uses all that it takes.
            let is_guards = ptr::eq(share, budget.guards.as_ptr());
            let used = if is_guards { taken } else { share.used.load(Ordering::Relaxed) };
            budget.ledgers().for_each(|ledger| ledger.add(taken, used));
        });
    }

    /// What guards have of this budget.
    fn guards(&self) -> &Share {
        // SAFETY: the share lives as long as the tree.
        unsafe { self.guards.as_ref() }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.end_what_the_parent_did();
        // SAFETY: one of the tree's; nobody has the budget any more, so no guard of it is left.
        unsafe { self.tree.shares.leave(self.guards) };
        // One after the other: a chain of budgets may be too long for recursion.
        let mut parent = self.parent.take();
        while let Some(Budget(shared)) = parent {
            parent = Arc::into_inner(shared).and_then(|mut shared| shared.parent.take());
        }
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

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
mod models;
