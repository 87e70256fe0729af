//! Joining committed pages that lie close together, so that they need fewer mappings.

use std::sync::atomic::{AtomicBool, AtomicUsize};

use super::super::Ground;
use super::Guard;
use crate::sync::Ordering;

/// The search for pages to join when mappings are short. One thread at a time searches, and each commit does a
/// small part of it, so that no single page fault takes long.
#[derive(Debug, Default)]
pub(super) struct Joining {
    is_under_way: AtomicBool,
    /// The block where the search continues.
    next: AtomicUsize,
    /// The most unused blocks that may lie between two committed pages to join. Grows each time that the search
    /// has passed the whole reservation.
    distance: AtomicUsize,
    /// Commits that are left before the next attempt, after the system refused one.
    pause: AtomicUsize,
}

/// Joining two pages across more unused blocks than this (1 GiB) is not worth its page tables.
const MOST_DISTANCE: usize = 512;

/// Commits for which joining rests after the system refused it.
const PAUSE: usize = 1024;

impl Joining {
    /// In the child of a fork, on its only thread: ends the search of a thread of the parent.
    pub(super) fn end_abandoned(&self) {
        self.is_under_way.store(false, Ordering::Relaxed);
    }

    /// Called when the system refused to open a block: no attempt for the next [`PAUSE`] commits.
    pub(super) fn rest(&self) {
        self.pause.store(PAUSE, Ordering::Relaxed);
    }

    /// Whether joining is paused; counts one commit of the pause down.
    pub(super) fn is_paused(&self) -> bool {
        let pause = self.pause.load(Ordering::Relaxed);
        if pause > 0 {
            self.pause.store(pause - 1, Ordering::Relaxed);
        }
        pause > 0
    }
}

impl Guard {
    /// Joins the committed pages that lie closest together, a few at a time. Async-signal-safe.
    #[cold]
    #[inline(never)]
    pub(super) fn join_some(&self, ground: Ground) {
        const MOST_JOINED: usize = 4;
        const MOST_LOOKED_AT: usize = 4096;
        if self.joining.is_under_way.swap(true, Ordering::Acquire) {
            return;
        }
        let mut block = self.joining.next.load(Ordering::Relaxed);
        let mut distance = self.joining.distance.load(Ordering::Relaxed);
        let (mut joined, mut refused, mut looked_at) = (0, 0, 0);
        while joined < MOST_JOINED
            && refused < MOST_JOINED
            && (joined == 0 || looked_at < MOST_LOOKED_AT)
        {
            looked_at += 1;
            let Some(used) = self.next_used(ground, block) else {
                // The search has passed the whole reservation: start again with a larger distance.
                if distance >= MOST_DISTANCE {
                    break;
                }
                (block, distance) = (0, distance + (distance / 4).max(1));
                continue;
            };
            let (first, end) = self.to_open(ground, used, distance);
            block = end.max(used + 1);
            if first < end {
                if self.open(ground, first, end) {
                    joined += 1
                } else {
                    refused += 1
                }
                block = end - 1;
            }
        }
        self.joining.next.store(block, Ordering::Relaxed);
        self.joining.distance.store(distance, Ordering::Relaxed);
        self.joining.is_under_way.store(false, Ordering::Release);
    }

    /// The first block from `block` on that has a committed page.
    fn next_used(&self, ground: Ground, block: usize) -> Option<usize> {
        let first = block.saturating_mul(self.pages_per_block.get()).min(self.pages);
        ground.states.find_committed(first, self.pages).map(|page| page / self.pages_per_block)
    }

    /// The blocks to open to join a used block with the next used one. Empty where that is too far away, or all
    /// are open. A block with a gap between its committed pages is opened even without a near neighbour.
    fn to_open(&self, ground: Ground, used: usize, distance: usize) -> (usize, usize) {
        let is_next = |next: &usize| next - used - 1 <= distance;
        let next = self.next_used(ground, used + 1).filter(is_next);
        let mut closed = (used..next.map_or(used + 1, |next| next + 1))
            .skip_while(|&block| self.blocks.is_open(block));
        let Some(first) = closed.next() else { return (0, 0) };
        if next.is_none() {
            return if self.has_gap(ground, used) { (used, used + 1) } else { (0, 0) };
        }
        (first, first + 1 + closed.take_while(|&block| !self.blocks.is_open(block)).count())
    }

    /// Whether the committed pages of a block are more than one run.
    fn has_gap(&self, ground: Ground, block: usize) -> bool {
        let pages = self.pages_of(ground, block, block + 1);
        let count = ground.states.count_committed(pages);
        let first = ground.states.find_committed(pages.first(), pages.end());
        first.is_some_and(|first| {
            let one_run = pages.with(first, (first + count).min(pages.end()));
            ground.states.count_committed(one_run) < count
        })
    }
}
