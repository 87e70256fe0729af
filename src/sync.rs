//! Atomics (std's, or loom's when its models run), waiting, and locks and repairs that survive a fork.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

#[cfg(not(loom))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{
    AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
#[cfg(loom)]
pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};

/// Waits a moment for another thread that holds what this one needs. Async-signal-safe.
///
/// `round` counts how often the caller has waited: it starts at zero, and each call adds one. The first rounds spin, for a
/// holder that runs and is about to be done. The next ones yield, for a holder that has no processor. Later ones sleep:
/// under `SCHED_FIFO` a holder of lower priority runs only while this thread sleeps
/// ([`sched(7)`](https://man7.org/linux/man-pages/man7/sched.7.html)).
#[cfg(not(loom))]
pub(crate) fn relax(round: &mut u32) {
    wait(*round);
    *round = round.saturating_add(1);
}

#[cfg(not(loom))]
fn wait(round: u32) {
    const SPINNING_ROUNDS: u32 = 32;
    const YIELDING_ROUNDS: u32 = 128;
    match round {
        ..SPINNING_ROUNDS => std::hint::spin_loop(),
        SPINNING_ROUNDS..YIELDING_ROUNDS => crate::os::yield_now(),
        _ => crate::os::sleep_a_little(),
    }
}

/// Like [`relax`], but spins longer each round: for a lock that is held for a few instructions and taken again at once.
/// Reading it takes its cache line from the holder, so waiting threads read it less often.
#[cfg(not(loom))]
pub(crate) fn back_off(round: &mut u32) {
    const SPINNING_ROUNDS: u32 = 16;
    if *round >= SPINNING_ROUNDS {
        wait(round.saturating_add(SPINNING_ROUNDS));
    } else {
        for _ in 0..1u32 << (*round).min(6) {
            std::hint::spin_loop();
        }
    }
    *round = round.saturating_add(1);
}

#[cfg(loom)]
pub(crate) fn back_off(round: &mut u32) {
    relax(round);
}

#[cfg(loom)]
pub(crate) fn relax(round: &mut u32) {
    *round = round.saturating_add(1);
    loom::thread::yield_now();
}

/// The fork count (`os::forks`) of the process that last repaired some state.
///
/// A fork copies state that other threads of the parent were changing, but not those threads. So the first
/// thread that uses the state in the child repairs it, and other threads wait until it is done.
#[derive(Debug)]
pub(crate) struct Forks(AtomicUsize);

/// Set while a thread of the process with this fork count repairs the state.
const REPAIRING: usize = 1 << (usize::BITS - 1);

impl Forks {
    pub(crate) fn new(now: usize) -> Self {
        Self(AtomicUsize::new(now))
    }

    /// As if this process had been forked since.
    #[cfg(test)]
    pub(crate) fn forget(&self) {
        self.0.fetch_xor(REPAIRING >> 1, Ordering::Relaxed);
    }

    /// Calls `repair` once in each process. Async-signal-safe as far as `repair` is.
    #[inline]
    pub(crate) fn catch_up(&self, now: usize, repair: impl FnOnce()) {
        if self.0.load(Ordering::Acquire) != now {
            self.catch_up_slowly(now, repair);
        }
    }

    #[cold]
    fn catch_up_slowly(&self, now: usize, repair: impl FnOnce()) {
        // (First, since these repair the state, too.)
        crate::os::call_missed_handlers();
        let mut round = 0;
        loop {
            let seen = self.0.load(Ordering::Acquire);
            if seen == now {
                return;
            }
            if seen == now | REPAIRING {
                relax(&mut round);
                continue;
            }
            // Also where the parent's repair was under way when it forked: the child starts it anew.
            let repairing = now | REPAIRING;
            if self
                .0
                .compare_exchange(seen, repairing, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
            {
                repair();
                self.0.store(now, Ordering::Release);
                return;
            }
        }
    }
}

/// A lock that is held for a few instructions. It records the process of its holder, so that the child of a fork takes
/// over a lock that a thread of the parent held.
#[derive(Debug)]
pub(crate) struct SpinLock(AtomicU32);

const FREE: u32 = 0;
/// Free, and never taken before. (The values of a lock that is held are odd.)
const FRESH: u32 = 2;

/// How a [`SpinLock`] was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It was free.
    Free,
    /// It is the first time, in a lock that was made [fresh](SpinLock::fresh): what the lock protects is to be
    /// made.
    Fresh,
    /// A thread of the parent process held it when this process was forked: what the lock protects may
    /// be half changed.
    FromParent,
}

impl SpinLock {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Self {
        Self(AtomicU32::new(FREE))
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(FREE))
    }

    /// A lock that tells whoever takes it first, at no cost for the others.
    #[cfg(not(loom))]
    pub(crate) const fn fresh() -> Self {
        Self(AtomicU32::new(FRESH))
    }

    /// The value of a lock that is held by a thread of this process.
    fn held() -> u32 {
        (crate::os::forks() as u32).wrapping_mul(2) | 1
    }

    #[inline]
    pub(crate) fn try_lock(&self) -> bool {
        self.0.compare_exchange(FREE, Self::held(), Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[inline]
    pub(crate) fn lock(&self) -> Taken {
        if self.try_lock() { Taken::Free } else { self.wait::<true>() }
    }

    /// The same for a lock that was not made [fresh](Self::fresh). Async-signal-safe: nothing on the way is done for the
    /// first time.
    #[inline]
    pub(crate) fn lock_in_handler(&self) -> Taken {
        if self.try_lock() { Taken::Free } else { self.wait::<false>() }
    }

    #[cold]
    fn wait<const MAY_BE_FRESH: bool>(&self) -> Taken {
        let (held, mut round) = (Self::held(), 0);
        loop {
            let seen = self.0.load(Ordering::Relaxed);
            if MAY_BE_FRESH && seen == FRESH {
                // A child of a fork must tell this process's hold from its own.
                let _ = crate::os::watch_forks();
            }
            if seen != held
                && self.0.compare_exchange(seen, held, Ordering::Acquire, Ordering::Relaxed).is_ok()
            {
                return match seen {
                    FREE => Taken::Free,
                    FRESH => Taken::Fresh,
                    _ => Taken::FromParent,
                };
            }
            back_off(&mut round);
        }
    }

    #[inline]
    pub(crate) fn unlock(&self) {
        self.0.store(FREE, Ordering::Release);
    }

    /// Lets go of the lock as it was before it was ever taken.
    pub(crate) fn unlock_as_fresh(&self) {
        self.0.store(FRESH, Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Each call is a round more, or no wait would come to yield and sleep; a wait without end stays at sleeping.
    #[test]
    fn a_wait_counts_its_rounds_and_goes_on_sleeping_after_the_last_number() {
        for wait in [relax, back_off] {
            let mut round = 0;
            (0..200).for_each(|_| wait(&mut round));
            assert_eq!(round, 200);
            round = u32::MAX;
            wait(&mut round);
            assert_eq!(round, u32::MAX);
        }
    }
}
