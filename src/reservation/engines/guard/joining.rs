//! Joining committed pages that lie close together, so that they need fewer mappings.

use std::sync::atomic::{AtomicBool, AtomicUsize};

use super::super::Ground;
use super::Guard;
use crate::sync::Ordering;

/// The search for pages to join, when mappings are short: one thread at a time, a little with every
/// commit, so that no single page fault pays for all of it.
#[derive(Debug, Default)]
pub(super) struct Joining {
    is_under_way: AtomicBool,
    /// The block where it goes on.
    next: AtomicUsize,
    /// Unused blocks that may lie between two committed pages that it joins. Grows when the search has
    /// passed the whole reservation.
    distance: AtomicUsize,
    /// Commits before the next attempt, after one that the system refused.
    pause: AtomicUsize,
    /// Commits before the next search, after one that found nothing to join.
    rest: AtomicUsize,
}

/// Joining two pages across more unused blocks than this (1 GiB) is not worth its page tables.
const MOST_DISTANCE: usize = 512;

/// Commits for which joining rests after the system refused it.
const PAUSE: usize = 1024;

/// Commits for which the search rests after it has found nothing to join. So few that the mappings which they
/// take are not missed.
const REST: usize = 128;

impl Joining {
    /// In the child of a fork, whose only thread this is.
    pub(super) fn end_abandoned(&self) {
        self.is_under_way.store(false, Ordering::Relaxed);
    }

    /// After a refusal: joining rests for a while.
    pub(super) fn rest(&self) {
        self.pause.store(PAUSE, Ordering::Relaxed);
    }

    /// Whether it rests; counts that down.
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
        let rest = self.joining.rest.load(Ordering::Relaxed);
        if rest > 0 {
            self.joining.rest.store(rest - 1, Ordering::Relaxed);
            self.joining.is_under_way.store(false, Ordering::Release);
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
                // Passed all of it, and mappings are still short.
                if distance >= MOST_DISTANCE {
                    // What is committed from now on may lie anywhere.
                    (block, distance) = (0, 0);
                    self.joining.rest.store(REST, Ordering::Relaxed);
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

    /// The blocks to open for joining a used block with the next one: nothing where that is too far away,
    /// or done already. A block with gaps inside is opened in any case.
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

#[cfg(all(test, not(loom), not(any(miri, pagewise_model))))]
mod tests {
    use super::super::super::ChosenEngine;
    use super::*;
    use crate::os;
    use crate::{Engine, Reservation};

    /// A reservation of so many blocks; `None`, and a word about it, where there are no guard markers.
    fn of_blocks(blocks: usize) -> Option<Reservation> {
        if !os::guards_work() {
            eprintln!("NOT TESTED HERE: the guard engine");
            return None;
        }
        Some(Reservation::builder(blocks * block_len()).engine(Engine::Guard).build().unwrap())
    }

    fn block_len() -> usize {
        os::page_size() / 8 * os::page_size()
    }

    fn guard(memory: &Reservation) -> &Guard {
        let ChosenEngine::Guard(guard) = &memory.engine else { unreachable!("it was asked for") };
        guard
    }

    /// Commits the first page of a block.
    fn commit(memory: &Reservation, block: usize) {
        memory.commit(block * block_len()..block * block_len() + 1).unwrap();
    }

    fn join(memory: &Reservation) {
        guard(memory).join_some(memory.ground());
    }

    /// How many calls it takes to open a block: no more than so many.
    #[track_caller]
    fn assert_joined(memory: &Reservation, blocks: std::ops::RangeInclusive<usize>, most: usize) {
        let is_joined = || blocks.clone().all(|block| guard(memory).blocks.is_open(block));
        let joined = (0..most).any(|_| {
            join(memory);
            is_joined()
        });
        assert!(joined, "{blocks:?} are not joined after {most} attempts");
    }

    #[test]
    fn a_search_that_found_nothing_to_join_begins_anew() {
        let Some(memory) = of_blocks(4096) else { return };
        let far = [0, 1000, 2000, 3000];
        far.iter().for_each(|&block| commit(&memory, block));
        (0..1000).for_each(|_| join(&memory));
        assert!(far.iter().all(|&block| !guard(&memory).blocks.is_open(block)));
        // Pages below the end of that search, and other ones once they are joined.
        commit(&memory, 1010);
        commit(&memory, 1012);
        assert_joined(&memory, 1010..=1012, 1000);
        commit(&memory, 100);
        commit(&memory, 101);
        assert_joined(&memory, 100..=101, 1000);
    }
}
