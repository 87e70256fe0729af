//! Joining committed pages that lie close together, so that they need fewer mappings.

use std::sync::atomic::{AtomicBool, AtomicUsize};

use super::super::super::pages::PAGES_PER_WORD;
use super::super::{Ground, mappings};
use super::Guard;
use super::blocks::Search;
use crate::sync::{Ordering, relax};

/// The search for pages to join when mappings are short. One thread at a time searches, and each commit does a
/// small part of it, so that no single page fault takes long.
#[derive(Debug, Default)]
pub(super) struct Joining {
    is_under_way: AtomicBool,
    /// How far the search has come: the fields of [`Pass`], which only the thread that searches uses.
    next: AtomicUsize,
    last: AtomicUsize,
    distance: AtomicUsize,
    nearest: AtomicUsize,
    has_joined: AtomicBool,
    /// After the system refused to open a block: how many more attempts to open one fail without being made.
    pause: AtomicUsize,
    /// After a search that found nothing to join: how many more commits do not search.
    rest: AtomicUsize,
}

/// One pass over the reservation, from the first block to the last.
struct Pass {
    /// The block where the pass goes on.
    next: usize,
    /// The last used block before that.
    last: Option<usize>,
    /// The most unused blocks that may lie between two committed pages that this pass joins. Grows from pass to pass.
    distance: usize,
    /// The fewest unused blocks between two used ones that were too far apart for this pass.
    nearest: usize,
    has_joined: bool,
}

/// Pages with more unused blocks (1 GiB) between them are not joined: that would save two mappings, and take 2 MiB of
/// page tables.
const MOST_DISTANCE: usize = 512;

/// Attempts to open a block that fail without being made after the system refused one: for the same reason (locked
/// memory, a limit), it will refuse most of them.
const PAUSE: usize = 1024;

/// Commits for which the search rests after it found nothing to join. They take 256 mappings at most, fewer than are
/// left between the threshold and half of the limit (see `mappings::short_from`).
const REST: usize = 128;

/// What one commit may spend on joining, so that no page fault takes long. The search goes on at the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// Mappings are short: about as much as a few page faults.
    Short,
    /// The commit was refused, for want of mappings perhaps: a few milliseconds, and the wait for a turn.
    Refused,
}

impl Urgency {
    /// Words of the tables of blocks and pages that the search may look at.
    fn most_looked_at(self) -> usize {
        match self {
            Self::Short => 2048,
            Self::Refused => 1 << 18,
        }
    }
}

impl Joining {
    pub(super) fn new() -> Self {
        let joining = Self::default();
        joining.keep(&Pass::new(0));
        joining
    }

    /// Begins a search; `false` where another thread is searching, and goes on doing so for longer than this one waits.
    fn begin(&self, waits: bool) -> bool {
        /// Some milliseconds. (A bound, since the other thread may be one that this one interrupted.)
        const MOST_ROUNDS: u32 = 200;
        let mut round = 0;
        while self.is_under_way.swap(true, Ordering::Acquire) {
            if !waits || round >= MOST_ROUNDS {
                return false;
            }
            relax(&mut round);
        }
        true
    }

    /// In the child of a fork, on its only thread: ends the search of a thread of the parent.
    pub(super) fn end_abandoned(&self) {
        self.is_under_way.store(false, Ordering::Relaxed);
    }

    /// Called when the system refused to open a block: the next [`PAUSE`] attempts fail at once.
    pub(super) fn pause(&self) {
        self.pause.store(PAUSE, Ordering::Relaxed);
    }

    /// Whether this attempt to open a block fails at once; counts the pause down.
    pub(super) fn is_paused(&self) -> bool {
        let pause = self.pause.load(Ordering::Relaxed);
        if pause > 0 {
            self.pause.store(pause - 1, Ordering::Relaxed);
        }
        pause > 0
    }

    /// Whether the search rests; counts that down. For the thread that searches.
    fn is_resting(&self) -> bool {
        let rest = self.rest.load(Ordering::Relaxed);
        self.rest.store(rest.saturating_sub(1), Ordering::Relaxed);
        rest > 0
    }

    /// The pass that is under way. For the thread that searches.
    fn pass(&self) -> Pass {
        let next = self.next.load(Ordering::Relaxed);
        // Stored plus one, so that zero is `None`. In a forked child, a thread of the parent may have stored only
        // some of these numbers: a block that does not lie before `next` is dropped.
        let last = self.last.load(Ordering::Relaxed).checked_sub(1).filter(|&last| last < next);
        Pass {
            next,
            last,
            distance: self.distance.load(Ordering::Relaxed),
            nearest: self.nearest.load(Ordering::Relaxed),
            has_joined: self.has_joined.load(Ordering::Relaxed),
        }
    }

    fn keep(&self, pass: &Pass) {
        self.next.store(pass.next, Ordering::Relaxed);
        self.last.store(pass.last.map_or(0, |block| block + 1), Ordering::Relaxed);
        self.distance.store(pass.distance, Ordering::Relaxed);
        self.nearest.store(pass.nearest, Ordering::Relaxed);
        self.has_joined.store(pass.has_joined, Ordering::Relaxed);
    }
}

impl Pass {
    fn new(distance: usize) -> Self {
        Self { next: 0, last: None, distance, nearest: usize::MAX, has_joined: false }
    }

    /// At the end of a pass, where mappings are still short: the next one; `None` where that would find nothing.
    fn following(&self) -> Option<Self> {
        if self.nearest <= MOST_DISTANCE {
            let farther = self.distance + (self.distance / 4).max(1);
            return Some(Self::new(farther.max(self.nearest).min(MOST_DISTANCE)));
        }
        // Pages were committed meanwhile, in blocks that this pass had behind it.
        self.has_joined.then(|| Self::new(self.distance))
    }

    /// Continues behind a used block.
    fn pass_by(&mut self, block: usize) {
        (self.last, self.next) = (Some(block), block + 1);
    }

    /// The first block to open so that a used block is joined with the used one before it; the block itself where that
    /// is too far away.
    fn reach(&mut self, block: usize) -> usize {
        let Some(last) = self.last else { return block };
        let gap = block - last - 1;
        if gap <= self.distance {
            return last;
        }
        self.nearest = self.nearest.min(gap);
        block
    }
}

impl Guard {
    /// Joins the committed pages that lie closest together, a few at a time. Waits for other threads only where mappings are
    /// scarce, and not for long. Async-signal-safe.
    #[cold]
    #[inline(never)]
    pub(super) fn join_some(&self, ground: Ground, urgency: Urgency) {
        // Where other threads commit faster than one joins, each waits for its turn.
        if !self.joining.begin(urgency == Urgency::Refused || mappings::are_scarce()) {
            return;
        }
        if urgency == Urgency::Refused || !self.joining.is_resting() {
            let mut pass = self.joining.pass();
            self.go_on(ground, &mut pass, urgency.most_looked_at());
            self.joining.keep(&pass);
        }
        self.joining.is_under_way.store(false, Ordering::Release);
    }

    fn go_on(&self, ground: Ground, pass: &mut Pass, mut words_left: usize) {
        /// A commit takes two mappings at most, and opening a block frees two or more: a few for each commit suffice.
        const MOST_JOINED: usize = 4;
        let words_per_block = self.pages_per_block.get().div_ceil(PAGES_PER_WORD);
        let (mut joined, mut refused) = (0, 0);
        while joined < MOST_JOINED && refused < MOST_JOINED && words_left > 0 {
            let used = match self.blocks.next_used(pass.next, &mut words_left) {
                Search::Found(used) => used,
                Search::EndedAt(block) => {
                    pass.next = block;
                    return;
                }
                Search::Nothing => match pass.following() {
                    Some(following) => {
                        *pass = following;
                        continue;
                    }
                    None => {
                        // Later commits may lie close together: the next search begins with the smallest distance.
                        *pass = Pass::new(0);
                        self.joining.rest.store(REST, Ordering::Relaxed);
                        return;
                    }
                },
            };
            words_left = words_left.saturating_sub(words_per_block);
            let (first, end) = self.to_open(ground, pass, used);
            if first == end {
                continue;
            }
            words_left = words_left.saturating_sub((end - first) * words_per_block);
            if self.open(ground, first, end) {
                joined += 1;
                pass.has_joined = true;
                // Between two used blocks, some may be open and others not. The search comes here again for
                // those that are left.
                if end <= used {
                    continue;
                }
            } else {
                refused += 1;
            }
            pass.pass_by(used);
        }
    }

    /// The blocks to open for joining a used block with the one before it: nothing where that is too far away,
    /// or done already. A block with gaps inside is opened in any case. Where there is nothing to open, the
    /// pass goes on behind the block.
    fn to_open(&self, ground: Ground, pass: &mut Pass, used: usize) -> (usize, usize) {
        let runs = if self.blocks.is_open(used) {
            1
        } else {
            ground.states.count_runs(self.pages_of(ground, used, used + 1))
        };
        if runs == 0 {
            // The *used* bit is stale: every page was decommitted.
            pass.next = used + 1;
            return (used, used);
        }
        let reach = pass.reach(used);
        if reach < used || runs > 1 {
            let mut closed = (reach..=used).skip_while(|&block| self.blocks.is_open(block));
            if let Some(first) = closed.next() {
                let others = closed.take_while(|&block| !self.blocks.is_open(block));
                return (first, first + 1 + others.count());
            }
        }
        pass.pass_by(used);
        (used, used)
    }
}

#[cfg(all(test, not(loom), not(any(miri, pagewise_model))))]
mod tests {
    use super::super::super::ChosenEngine;
    use super::*;
    use crate::os;
    use crate::reservation::engines::Mechanism;
    use crate::reservation::pages::looked_at;
    use crate::{Engine, Reservation};

    /// A reservation of some blocks. Where there are no guard markers, `None`, and a line that says so.
    fn of_blocks(blocks: usize) -> Option<Reservation> {
        if !os::guards_work() {
            crate::not_here::not_here("the guard engine");
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

    fn join(memory: &Reservation, urgency: Urgency) {
        guard(memory).join_some(memory.ground(), urgency);
    }

    /// Asserts that the blocks are open after at most `most` calls.
    #[track_caller]
    fn assert_joined(memory: &Reservation, blocks: std::ops::RangeInclusive<usize>, most: usize) {
        let is_joined = || blocks.clone().all(|block| guard(memory).blocks.is_open(block));
        let joined = (0..most).any(|_| {
            join(memory, Urgency::Short);
            is_joined()
        });
        assert!(joined, "{blocks:?} are not joined after {most} attempts");
    }

    #[test]
    fn a_pause_ends_after_so_many_commits_and_so_does_a_rest() {
        let joining = Joining::new();
        assert!(!joining.is_paused() && !joining.is_resting());
        joining.pause();
        assert!((0..PAUSE).all(|_| joining.is_paused()));
        assert!(!joining.is_paused());
        joining.rest.store(REST, Ordering::Relaxed);
        assert!((0..REST).all(|_| joining.is_resting()));
        assert!(!joining.is_resting());
    }

    #[test]
    fn a_search_that_is_needed_waits_for_its_turn_and_not_for_ever() {
        let joining = Joining::new();
        assert!(joining.begin(false));
        assert!(!joining.begin(false) && !joining.begin(true));
        std::thread::scope(|threads| {
            let next = threads.spawn(|| (0..1000).any(|_| joining.begin(true)));
            joining.is_under_way.store(false, Ordering::Release);
            assert!(next.join().unwrap());
        });
    }

    #[test]
    fn a_child_may_search_though_a_thread_of_its_parent_was_searching() {
        let Some(memory) = of_blocks(16) else { return };
        [1, 2].iter().for_each(|&block| commit(&memory, block));
        guard(&memory).joining.is_under_way.store(true, Ordering::Relaxed);
        join(&memory, Urgency::Short);
        assert!(!guard(&memory).blocks.is_open(1), "another thread is searching");
        guard(&memory).fork(memory.ground());
        assert_joined(&memory, 1..=2, 10);
    }

    #[test]
    fn a_search_goes_on_where_it_was_unless_that_makes_no_sense() {
        let joining = Joining::new();
        let kept = |pass: Pass| {
            joining.keep(&pass);
            let pass = joining.pass();
            (pass.next, pass.last, pass.distance, pass.nearest, pass.has_joined)
        };
        let pass = |next, last| Pass { next, last, distance: 3, nearest: 4, has_joined: true };
        assert_eq!(kept(pass(5, Some(4))), (5, Some(4), 3, 4, true));
        assert_eq!(kept(pass(1, Some(0))), (1, Some(0), 3, 4, true));
        assert_eq!(kept(pass(5, None)), (5, None, 3, 4, true));
        for last in [5, 6] {
            assert_eq!(kept(pass(5, Some(last))), (5, None, 3, 4, true));
        }
    }

    #[test]
    fn each_pass_reaches_farther_until_joining_is_not_worth_it() {
        let after = |distance, nearest, has_joined| {
            let pass = Pass { nearest, has_joined, ..Pass::new(distance) };
            pass.following().map(|pass| pass.distance)
        };
        assert_eq!(
            [after(0, 1, false), after(3, 4, true), after(8, 9, true)],
            [1, 4, 10].map(Some)
        );
        // As far as there is something to join, and no farther than the most.
        assert_eq!([after(8, 40, false), after(500, 501, false)], [Some(40), Some(MOST_DISTANCE)]);
        assert_eq!(after(8, MOST_DISTANCE, false), Some(MOST_DISTANCE));
        assert_eq!(after(8, MOST_DISTANCE + 1, false), None);
        // Once more, where something was joined.
        assert_eq!(after(8, usize::MAX, true), Some(8));
    }

    #[test]
    fn blocks_within_the_distance_are_joined_and_the_nearest_beyond_is_known() {
        let mut pass = Pass::new(2);
        assert_eq!((pass.reach(7), pass.nearest), (7, usize::MAX), "the first one");
        pass.pass_by(7);
        assert_eq!((pass.last, pass.next), (Some(7), 8));
        assert_eq!([pass.reach(8), pass.reach(10)], [7, 7]);
        assert_eq!((pass.reach(11), pass.nearest), (11, 3));
        assert_eq!((pass.reach(20), pass.nearest), (20, 3));
    }

    #[test]
    fn a_search_that_found_nothing_to_join_begins_anew() {
        let Some(memory) = of_blocks(4096) else { return };
        let far = [0, 1000, 2000, 3000];
        far.iter().for_each(|&block| commit(&memory, block));
        (0..1000).for_each(|_| join(&memory, Urgency::Short));
        assert!(far.iter().all(|&block| !guard(&memory).blocks.is_open(block)));
        // New pages before the end of that search are found, and after they are joined, further ones.
        commit(&memory, 1010);
        commit(&memory, 1012);
        assert_joined(&memory, 1010..=1012, 1000);
        commit(&memory, 100);
        commit(&memory, 101);
        assert_joined(&memory, 100..=101, 1000);
    }

    #[test]
    fn a_search_with_nothing_to_join_looks_at_few_pages_at_a_time() {
        let Some(memory) = of_blocks(600 * 1000) else { return };
        (0..1000).for_each(|nth| commit(&memory, nth * 600));
        for (urgency, most) in [(Urgency::Short, 4096), (Urgency::Refused, 1 << 18)] {
            for _ in 0..100 {
                let words = looked_at::words(|| join(&memory, urgency));
                assert!(words <= most, "{words} words for one commit: {urgency:?}");
            }
        }
        // In small steps, the search comes to every page.
        let last = 600 * 999;
        commit(&memory, last - 2);
        assert_joined(&memory, last - 2..=last, 1000);
    }
}
