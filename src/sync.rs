//! The atomics that the lock-free parts are written with: std's, or loom's when the models run.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{
    AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};

/// Waits a moment for another thread that holds what this one needs. Async-signal-safe.
///
/// The first rounds only spin, later ones give the processor away: whoever is waited for may be
/// preempted, and on a machine with few cores it can only go on when this thread steps aside.
#[cfg(not(loom))]
pub(crate) fn relax(round: u32) {
    if round < 32 {
        std::hint::spin_loop();
    } else {
        crate::os::yield_now();
    }
}

/// Like [`relax`], but waits ever longer: for a lock that is held for a few instructions and taken
/// again at once, where every look costs the holder its cache line.
#[cfg(not(loom))]
pub(crate) fn back_off(round: u32) {
    const SPINNING_ROUNDS: u32 = 16;
    if round >= SPINNING_ROUNDS {
        return crate::os::yield_now();
    }
    for _ in 0..1u32 << round.min(6) {
        std::hint::spin_loop();
    }
}

#[cfg(loom)]
pub(crate) fn back_off(round: u32) {
    relax(round);
}

#[cfg(loom)]
pub(crate) fn relax(_round: u32) {
    loom::thread::yield_now();
}
