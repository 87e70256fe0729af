//! What each reservation has of a shared budget, noted where the child of a fork can add all of it up.
//!
//! A budget and the shares in it are changed one after the other, and a fork may come in between. So the
//! budget of a child is not what stood in the parent's, but the sum of the shares.
//!
//! A budget and those below it are a tree, whose shares are in one list: the budgets of a tree are added up
//! together, because a share is in its own budget and in all above.

use std::ptr::{self, NonNull};

use super::Shared;
use crate::sync::{AtomicPtr, AtomicUsize, Forks, Ordering, SpinLock};

/// One account's share of a budget, or what guards have of it. During a change, both numbers may lag low, but
/// never high: so the sum of all shares never exceeds the limit.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) taken: AtomicUsize,
    pub(super) used: AtomicUsize,
    /// The budget; null while the share is nobody's. A budget lives as long as it has shares.
    pub(super) budget: AtomicPtr<Shared>,
    /// The share that was made before this one. Never changes.
    next: *mut Share,
    /// Of a share that no account has: the next such one.
    next_free: AtomicPtr<Share>,
}

/// What the budgets of a tree have in common.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) shares: Shares,
    /// The process that the budgets were last seen in.
    pub(super) forks: Forks,
}

/// All shares of a tree: a list that only grows, so that it can be walked at any time. What an account
/// leaves, another one takes over.
///
/// Invariant: every pointer is to a share that lives as long as this value. Each change of a list ends with
/// the one store that makes it, so both lists are whole in the child of a fork, whatever threads of the
/// parent were doing; such a thread may have taken its share with it, which then is as it left it.
#[derive(Debug)]
pub(super) struct Shares {
    last: AtomicPtr<Share>,
    free: AtomicPtr<Share>,
    /// Held to change `free`.
    lock: SpinLock,
}

impl Shares {
    pub(super) fn new() -> Self {
        Self {
            last: AtomicPtr::new(ptr::null_mut()),
            free: AtomicPtr::new(ptr::null_mut()),
            lock: SpinLock::new(),
        }
    }

    /// A share of a budget, with nothing in it. It lives as long as `self`.
    pub(super) fn enter(&self, budget: *const Shared) -> NonNull<Share> {
        self.lock.lock();
        let free = NonNull::new(self.free.load(Ordering::Relaxed));
        if let Some(share) = free {
            // SAFETY: the invariant of `Shares`.
            let next = unsafe { share.as_ref() }.next_free.load(Ordering::Relaxed);
            self.free.store(next, Ordering::Relaxed);
        }
        self.lock.unlock();
        let share = free.unwrap_or_else(|| self.add());
        // SAFETY: the invariant of `Shares`.
        unsafe { share.as_ref() }.budget.store(budget.cast_mut(), Ordering::Relaxed);
        share
    }

    fn add(&self) -> NonNull<Share> {
        let share = NonNull::from(Box::leak(Box::new(Share {
            taken: AtomicUsize::new(0),
            used: AtomicUsize::new(0),
            budget: AtomicPtr::new(ptr::null_mut()),
            next: ptr::null_mut(),
            next_free: AtomicPtr::new(ptr::null_mut()),
        })));
        let mut last = self.last.load(Ordering::Relaxed);
        loop {
            // SAFETY: nobody else knows the share yet.
            unsafe { (*share.as_ptr()).next = last };
            match self.last.compare_exchange_weak(
                last,
                share.as_ptr(),
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return share,
                Err(now) => last = now,
            }
        }
    }

    /// Takes back what [`enter`](Self::enter) gave. Nothing is in it any more.
    ///
    /// # Safety
    /// The share is one of these, and the caller does not use it any more.
    pub(super) unsafe fn leave(&self, share: NonNull<Share>) {
        // SAFETY: the caller's promise, and the invariant of `Shares`.
        let share = unsafe { share.as_ref() };
        debug_assert_eq!(share.taken.load(Ordering::Relaxed), 0, "an account that is still in use");
        debug_assert_eq!(share.used.load(Ordering::Relaxed), 0, "an account that is still in use");
        share.budget.store(ptr::null_mut(), Ordering::Relaxed);
        self.lock.lock();
        share.next_free.store(self.free.load(Ordering::Relaxed), Ordering::Relaxed);
        self.free.store(ptr::from_ref(share).cast_mut(), Ordering::Relaxed);
        self.lock.unlock();
    }

    /// Calls `each` with every share that a budget has, and that budget. Only while no budget of the tree is
    /// dropped. Async-signal-safe as far as `each` is.
    pub(super) fn for_each(&self, mut each: impl FnMut(&Share, &Shared)) {
        let mut at = self.last.load(Ordering::Acquire);
        // SAFETY: the invariant of `Shares`.
        while let Some(share) = unsafe { at.as_ref() } {
            // SAFETY: a budget lives as long as it has shares.
            if let Some(budget) = unsafe { share.budget.load(Ordering::Acquire).as_ref() } {
                each(share, budget);
            }
            at = share.next;
        }
    }
}

impl Drop for Shares {
    fn drop(&mut self) {
        let mut at = self.last.load(Ordering::Acquire);
        while !at.is_null() {
            // SAFETY: the invariant of `Shares`, each of which is in the list once. Nobody uses them any more.
            at = unsafe { Box::from_raw(at) }.next;
        }
    }
}

// SAFETY: what the pointers lead to is made of atomics, and of a pointer that does not change.
unsafe impl Send for Shares {}
// SAFETY: as above.
unsafe impl Sync for Shares {}
