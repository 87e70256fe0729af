//! Threads that sleep until the array has a certain length.
//!
//! A thread that wants to wait enters a list while it holds the array's lock, and finds that the length is not
//! reached. Whoever publishes elements holds the lock, too, and looks at [`Waiters::wake_at`] before it lets go:
//! either it sees the entry, or the waiting thread sees what it published. So no wakeup is lost, and a push
//! costs one comparison more, with a word of the cache line that it writes anyway.
//!
//! In the child of a fork, no thread of the list exists: the list is forgotten, with the memory of its entries. (A
//! thread that waits cannot be the one that forks, except in a signal handler, where `fork` is not
//! async-signal-safe.)

use std::ptr;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::ConcurrentVec;
use crate::os;
use crate::sync::{AtomicPtr, AtomicUsize, Condvar, Mutex, MutexGuard, Ordering};

/// The threads that wait. Only the holder of the array's lock changes it, which orders all accesses.
pub(super) struct Waiters {
    /// The least length that a thread of this process waits for; `usize::MAX` where none does.
    wake_at: AtomicUsize,
    /// Invariant: a list of pointers from `Arc::into_raw`, one count each, if `forks` is that of this process.
    first: AtomicPtr<Waiter>,
    /// The fork count of the process whose threads are in the list.
    forks: AtomicUsize,
}

pub(super) struct Waiter {
    len: usize,
    next: AtomicPtr<Waiter>,
    is_due: Mutex<bool>,
    became_due: Condvar,
}

impl Waiters {
    #[cfg(not(loom))]
    pub(super) const fn new() -> Self {
        Self {
            wake_at: AtomicUsize::new(usize::MAX),
            first: AtomicPtr::new(ptr::null_mut()),
            forks: AtomicUsize::new(0),
        }
    }

    #[cfg(loom)]
    pub(super) fn new() -> Self {
        Self {
            wake_at: AtomicUsize::new(usize::MAX),
            first: AtomicPtr::new(ptr::null_mut()),
            forks: AtomicUsize::new(0),
        }
    }

    /// Whether somebody waits for `len` elements, or fewer.
    #[inline]
    pub(super) fn are_due(&self, len: usize) -> bool {
        self.wake_at.load(Ordering::Relaxed) <= len
    }

    /// Enters a waiter. The array's lock is held.
    fn add(&self, waiter: &Arc<Waiter>) {
        self.forget_those_of_the_parent();
        waiter.next.store(self.first.load(Ordering::Relaxed), Ordering::Relaxed);
        self.first.store(Arc::into_raw(Arc::clone(waiter)).cast_mut(), Ordering::Relaxed);
        self.wake_at.store(self.least(), Ordering::Relaxed);
    }

    /// Takes out one waiter that is `wanted`. The array's lock is held.
    fn take(&self, wanted: impl Fn(&Waiter) -> bool) -> Option<Arc<Waiter>> {
        self.forget_those_of_the_parent();
        let mut link = &self.first;
        // SAFETY: the invariant of `first`.
        while let Some(waiter) = unsafe { link.load(Ordering::Relaxed).as_ref() } {
            if wanted(waiter) {
                link.store(waiter.next.load(Ordering::Relaxed), Ordering::Relaxed);
                self.wake_at.store(self.least(), Ordering::Relaxed);
                // SAFETY: the invariant of `first`; the list does not count it any more.
                return Some(unsafe { Arc::from_raw(waiter) });
            }
            link = &waiter.next;
        }
        None
    }

    fn least(&self) -> usize {
        let (mut link, mut least) = (&self.first, usize::MAX);
        // SAFETY: the invariant of `first`.
        while let Some(waiter) = unsafe { link.load(Ordering::Relaxed).as_ref() } {
            least = least.min(waiter.len);
            link = &waiter.next;
        }
        least
    }

    fn forget_those_of_the_parent(&self) {
        let now = os::forks();
        if self.forks.load(Ordering::Relaxed) != now {
            self.first.store(ptr::null_mut(), Ordering::Relaxed);
            self.wake_at.store(usize::MAX, Ordering::Relaxed);
            self.forks.store(now, Ordering::Relaxed);
        }
    }
}

impl Waiter {
    fn new(len: usize) -> Self {
        Self {
            len,
            next: AtomicPtr::new(ptr::null_mut()),
            is_due: Mutex::new(false),
            became_due: Condvar::new(),
        }
    }

    fn is_due(&self) -> MutexGuard<'_, bool> {
        self.is_due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        *self.is_due() = true;
        self.became_due.notify_one();
    }

    /// Sleeps until it is woken, or until the deadline, if there is one.
    fn sleep(&self, deadline: Option<Instant>) {
        let mut is_due = self.is_due();
        while !*is_due {
            is_due = match deadline {
                None => self.became_due.wait(is_due).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return;
                    }
                    let waited = self.became_due.wait_timeout(is_due, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

impl<T> ConcurrentVec<T> {
    /// Sleeps until `len` elements are published, or until the timeout has passed, and returns whether they are.
    /// [`Duration::MAX`] has no end. A push costs nothing more while nobody waits, but wakes those whose length
    /// it reaches.
    ///
    /// Returns `false` at once where the length cannot be reached: beyond [`max_len`](Self::max_len), or where
    /// the addresses of a [`lazy`](Self::lazy) array cannot be reserved.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let lines = pagewise::ConcurrentVec::new(1000)?;
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| {
    ///         let mut reader = lines.follow();
    ///         while lines.wait_for_len(reader.position() + 1, Duration::MAX) {
    ///             for line in &mut reader {
    ///                 if *line == "end" {
    ///                     return;
    ///                 }
    ///             }
    ///         }
    ///     });
    ///     lines.push("beginning");
    ///     lines.push("end");
    /// });
    /// assert!(!lines.wait_for_len(3, Duration::from_millis(1)));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn wait_for_len(&self, len: usize, timeout: Duration) -> bool {
        if self.len() >= len || len > self.max_len() || timeout.is_zero() {
            return self.len() >= len;
        }
        let deadline = Instant::now().checked_add(timeout);
        // Made before the lock is taken, so that nobody waits for the allocator.
        let waiter = Arc::new(Waiter::new(len));
        let Ok(held) = self.hold() else { return false };
        if self.published.load(Ordering::Relaxed) >= len {
            return true;
        }
        self.waiters.add(&waiter);
        drop(held);
        waiter.sleep(deadline);
        if self.len() >= len {
            // Whoever published the last of them takes the entry out, now or soon.
            return true;
        }
        let Ok(held) = self.hold() else { return false };
        let entry = self.waiters.take(|other| ptr::eq(other, &*waiter));
        drop(held);
        drop(entry);
        self.len() >= len
    }

    /// Wakes every thread that waits for a length that is reached.
    #[cold]
    pub(super) fn wake_those_who_wait(&self) {
        loop {
            let Ok(held) = self.hold() else { return };
            let len = self.published.load(Ordering::Relaxed);
            let due = self.waiters.take(|waiter| waiter.len <= len);
            drop(held);
            // Outside of the lock: waking is a system call.
            let Some(waiter) = due else { return };
            waiter.wake();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn waiting_for(len: usize) -> Arc<Waiter> {
        Arc::new(Waiter::new(len))
    }

    #[test]
    fn the_list_has_whom_it_was_given_and_knows_the_least_length() {
        let waiters = Waiters::new();
        assert!(!waiters.are_due(usize::MAX - 1));
        let all = [5, 3, 9, 3].map(waiting_for);
        all.iter().for_each(|waiter| waiters.add(waiter));
        assert!(waiters.are_due(3) && !waiters.are_due(2));
        assert!(waiters.take(|waiter| waiter.len <= 2).is_none());
        // One from the middle, by name; then those that are due, one by one.
        let taken = waiters.take(|waiter| ptr::eq(waiter, &*all[1])).unwrap();
        assert!(Arc::ptr_eq(&taken, &all[1]) && waiters.are_due(3));
        assert!(waiters.take(|waiter| ptr::eq(waiter, &*all[1])).is_none());
        let due = waiters.take(|waiter| waiter.len <= 4).unwrap();
        assert!(Arc::ptr_eq(&due, &all[3]) && !waiters.are_due(4) && waiters.are_due(5));
        let mut rest = [(); 2].map(|()| waiters.take(|waiter| waiter.len <= 9).unwrap().len);
        rest.sort_unstable();
        assert_eq!(rest, [5, 9]);
        assert!(!waiters.are_due(usize::MAX - 1));
        drop((taken, due));
        assert!(all.iter().all(|waiter| Arc::strong_count(waiter) == 1));
    }

    #[test]
    fn a_child_forgets_the_threads_of_the_parent() {
        let (waiters, parents, own) = (Waiters::new(), waiting_for(1), waiting_for(7));
        waiters.add(&parents);
        // As in a child: the list is that of a process with another fork count.
        waiters.forks.store(os::forks().wrapping_add(1), Ordering::Relaxed);
        assert!(waiters.take(|_| true).is_none() && !waiters.are_due(1));
        waiters.forks.store(os::forks().wrapping_add(1), Ordering::Relaxed);
        waiters.add(&own);
        assert!(!waiters.are_due(6) && waiters.are_due(7));
        assert!(Arc::ptr_eq(&waiters.take(|_| true).unwrap(), &own));
        assert_eq!(Arc::strong_count(&parents), 2, "it is not touched, in whatever state it is");
        // SAFETY: the list has forgotten its count.
        drop(unsafe { Arc::from_raw(Arc::as_ptr(&parents)) });
    }
}
