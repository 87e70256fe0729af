//! How the containers grow: the committed beginning of a reservation, which moves forward in steps.
//!
//! ```text
//! 0 ───── used ───── ready ─────────── committed ───────────────── reservation's end
//!         │          │ populated, or    │ charged; touched later    │ addresses only
//!         │          │ left to a touch  │
//! ```
//!
//! `ready` and `committed` are two bounds because their costs differ. A commit is a system call whose
//! price hardly depends on its length: it takes steps of an eighth of what is committed. Populating
//! pages takes the time to clear them: it takes short steps, so that no single append waits long.

use std::fmt;
use std::num::NonZeroUsize;

use crate::error::Error;
use crate::os::{self, Access, HugePages};
use crate::reservation::{HUGE_PAGE, LONG_RUN, Reservation, ReservationBuilder};

/// Commit steps, in bytes: an eighth of what is committed, within these.
const LEAST_STEP: usize = 64 << 10;
const MOST_STEP: usize = 32 << 20;

/// The most bytes populated at once: larger steps make appending no faster (measured up to 1 MiB),
/// only the one append that pays for them slower.
const MOST_POPULATED: usize = 64 << 10;

/// The options of a container. The container keeps them, so that its clone gets the same.
#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) reservation: ReservationBuilder,
    pub(crate) keeps_committed: bool,
}

impl Options {
    pub(crate) fn new() -> Self {
        Self { reservation: ReservationBuilder::new(0), keeps_committed: false }
    }

    /// Describes a container's builder: its maximum, the least where another was stated, and what
    /// options it was given.
    pub(crate) fn describe(
        &self,
        mut builder: fmt::DebugStruct<'_, '_>,
        most: (&str, usize),
        at_least: usize,
    ) -> fmt::Result {
        builder.field(most.0, &most.1);
        if at_least != most.1 {
            builder.field("at_least", &at_least);
        }
        self.reservation.describe(&mut builder);
        if self.keeps_committed {
            builder.field("keep_committed", &true);
        }
        builder.finish_non_exhaustive()
    }

    /// Reserves `len` bytes, or at least `least` where addresses are scarce.
    pub(crate) fn build(&self, len: usize, least: usize) -> Result<Frontier, Error> {
        let memory = self.reservation.clone().len(len).at_least(least).build()?;
        Ok(Frontier {
            memory,
            committed: 0,
            ready: 0,
            kept: 0,
            keeps_committed: self.keeps_committed,
        })
    }
}

/// Why memory is wanted; decides how much is committed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Growth {
    /// One more append: in steps, and the next pages are populated.
    Append,
    /// Many appends, whose number is known: in steps.
    Amortized,
    /// Exactly what was asked for, rounded up to whole pages.
    Exact,
}

/// Invariant: bytes `0..committed` of `memory` are committed, whole pages, and none behind;
/// `ready <= committed <= memory.len()`; `memory` is not committed or decommitted by anybody else.
#[derive(Debug)]
pub(crate) struct Frontier {
    memory: Reservation,
    committed: usize,
    ready: usize,
    /// Bytes that somebody reserved explicitly: they are not given back without being asked.
    kept: usize,
    keeps_committed: bool,
}

impl Frontier {
    pub(crate) fn memory(&self) -> &Reservation {
        &self.memory
    }

    pub(crate) fn committed(&self) -> usize {
        self.committed
    }

    /// The end of what an append may write to without coming back here.
    pub(crate) fn ready(&self) -> usize {
        self.ready
    }

    /// Makes sure that bytes `0..end` are committed. What is refused changes nothing.
    pub(crate) fn grow(&mut self, end: usize, growth: Growth) -> Result<(), Error> {
        if end > self.committed {
            self.commit_to(end, growth)?;
        }
        // What the container is going to write to.
        os::expect_access(self.memory.as_ptr(), end, Access::ReadWrite);
        match growth {
            Growth::Append => self.populate(end),
            Growth::Amortized => self.prefer_huge_pages(end),
            Growth::Exact => {}
        }
        Ok(())
    }

    fn commit_to(&mut self, end: usize, growth: Growth) -> Result<(), Error> {
        let page = self.memory.page();
        let least = page.round_up(end).ok_or(Error::Overflow { requested: end })?;
        let mut wanted = match growth {
            Growth::Exact => least,
            Growth::Append | Growth::Amortized => self.step_end(least),
        };
        loop {
            match self.memory.commit(self.committed..wanted) {
                Ok(()) => break,
                // A whole step was refused; a shorter one, or what is needed alone, may be granted.
                Err(
                    Error::LimitReached { .. }
                    | Error::BudgetReached { .. }
                    | Error::CommitRefused { .. },
                ) if wanted > least => {
                    wanted = least + page.round_down((wanted - least) / 2);
                }
                Err(error) => return Err(error),
            }
        }
        self.committed = wanted;
        Ok(())
    }

    /// How far to commit at once: by a step, at least to `least`. Where long runs get huge pages, up to the
    /// start of one.
    fn step_end(&self, least: usize) -> usize {
        let end = self.round_up((self.committed + self.step()).max(least));
        match self.huge_page_before(end) {
            Some(huge_page) => huge_page.max(least),
            None => end,
        }
    }

    /// The start of the last huge page that starts at `end` or before it, where long runs get huge pages and
    /// this one is long enough.
    fn huge_page_before(&self, end: usize) -> Option<usize> {
        let huge = NonZeroUsize::new(self.memory.huge_pages_of_runs())?;
        Some(end / huge * huge.get()).filter(|&start| start >= LONG_RUN)
    }

    /// Makes the bytes before `end` ready, and some pages after it: populating many pages in one system
    /// call costs two thirds of touching them one by one.
    fn populate(&mut self, end: usize) {
        let page = self.memory.page();
        let least = page.round_up(end).unwrap_or(self.committed).min(self.committed);
        if os::PREFAULT_TOUCHES {
            self.ready = self.committed;
            return;
        }
        let ahead = page.round_down((least / 4).min(MOST_POPULATED));
        // A large growth is written by the caller at once. Its own touches are faster than populating
        // first: populate only the last page.
        let start = if least - self.ready.min(least) <= MOST_POPULATED {
            self.ready.min(least)
        } else {
            self.prefer_huge_pages(least);
            page.round_down(end - 1)
        };
        self.ready = self.end_of_huge_page(start, (least + ahead).min(self.committed));
        if self.ready > start {
            let pages = page.pages(page.page_of(start), page.page_of(self.ready));
            if self.memory.prefault_pages(pages) {
                self.ready = self.committed;
            }
        }
    }

    /// Where to stop populating: where long runs get huge pages, at the end of one rather than inside, if none of
    /// it is populated yet and all of it is committed.
    fn end_of_huge_page(&self, start: usize, end: usize) -> usize {
        let huge = self.memory.huge_pages_of_runs();
        match self.huge_page_before(end.saturating_sub(1)) {
            Some(huge_page) if huge_page >= start && huge_page + huge <= self.committed => {
                huge_page + huge
            }
            _ => end,
        }
    }

    /// Where long runs get huge pages: asks for them from `ready` to `end`, for a caller that fills that from the
    /// start.
    fn prefer_huge_pages(&self, end: usize) {
        let page = self.memory.page();
        let end = page.round_up(end).unwrap_or(self.committed).min(self.committed);
        if self.ready < end && self.huge_page_before(end).is_some() {
            let pages = page.pages(page.page_of(self.ready), page.page_of(end));
            self.memory.prefer_huge_pages(pages);
        }
    }

    /// From now on, bytes `0..end` are kept until [`shrink_to`](Self::shrink_to).
    pub(crate) fn keep(&mut self, end: usize) {
        self.kept = self.kept.max(end);
    }

    /// Bytes below which the used part must fall for [`give_back`](Self::give_back) to do anything. Low
    /// enough that the next append after giving back needs no commit.
    pub(crate) fn give_back_below(&self) -> usize {
        // `saturating`: rounded up to whole huge pages, `kept` may exceed what a limit let us commit.
        let beyond_kept = self.committed.saturating_sub(self.round_up(self.kept));
        if self.keeps_committed || beyond_kept <= self.slack() {
            return 0;
        }
        self.committed - self.slack()
    }

    /// Decommits what lies far behind the used part: all but one step. Where long runs get huge pages, whole
    /// ones only: the kernel takes a part of one back when memory is short, not before.
    pub(crate) fn give_back(&mut self, used: usize) -> Result<(), Error> {
        if used >= self.give_back_below() {
            return Ok(());
        }
        let step = step(used).max(self.memory.page_size());
        let end = self.round_up((used + step).max(self.kept));
        let huge = self.memory.huge_pages_of_runs();
        match self.huge_page_before(end) {
            Some(start) if start < end => self.decommit_from(start + huge),
            _ => self.decommit_from(end),
        }
    }

    /// Decommits every whole page behind `bytes`, and keeps nothing that was reserved.
    pub(crate) fn shrink_to(&mut self, bytes: usize) -> Result<(), Error> {
        self.kept = 0;
        self.decommit_from(self.memory.page().round_up(bytes).unwrap_or(self.committed))
    }

    fn decommit_from(&mut self, end: usize) -> Result<(), Error> {
        if end < self.committed {
            let result = self.memory.decommit(end..self.committed);
            self.committed =
                if result.is_ok() { end } else { self.committed_before(self.committed) };
            self.ready = self.ready.min(self.committed);
            return result;
        }
        Ok(())
    }

    /// In the child of a fork, where a thread of the parent was growing this: takes what the reservation
    /// has committed without a gap, and gives back what lies behind.
    pub(crate) fn recover(&mut self) {
        self.memory.end_what_the_parent_did();
        self.committed = self.committed_before(self.memory.len());
        self.ready = self.ready.min(self.committed);
        let _ = self.memory.decommit(self.committed..);
    }

    /// Bytes before `end` that are committed from the start without a gap.
    fn committed_before(&self, end: usize) -> usize {
        if !self.memory.states().is_committed(0) {
            return 0;
        }
        let page = self.memory.page();
        self.memory.states().run(page.pages(0, page.page_of(end))).0.len()
    }

    fn slack(&self) -> usize {
        (2 * self.step()).max(self.committed / 4)
    }

    fn step(&self) -> usize {
        step(self.committed).max(self.memory.page_size())
    }

    /// Rounds up to whole pages, or to huge pages where those are wanted and worth it, within the
    /// reservation.
    fn round_up(&self, bytes: usize) -> usize {
        let huge = self.memory.huge_pages() == HugePages::Transparent && bytes > HUGE_PAGE;
        let unit = if huge { HUGE_PAGE } else { self.memory.page_size() };
        let rounded = bytes.checked_next_multiple_of(unit).unwrap_or(usize::MAX);
        rounded.min(self.memory.len())
    }
}

fn step(committed: usize) -> usize {
    (committed / 8).clamp(LEAST_STEP, MOST_STEP)
}

// (Under Miri, no reservation is as long as these.)
#[cfg(all(test, not(loom), not(miri)))]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn frontier(limit: usize) -> Frontier {
        let mut options = Options::new();
        options.reservation = options.reservation.limit(limit);
        options.build(64 * MIB, 64 * MIB).unwrap()
    }

    fn page() -> usize {
        os::page_size()
    }

    /// What the containers see is what the reservation has.
    #[track_caller]
    fn assert_committed(frontier: &Frontier, bytes: usize) {
        assert_eq!((frontier.committed(), frontier.memory().committed()), (bytes, bytes));
        let range = frontier.memory().committed_ranges().next();
        assert_eq!(range, (bytes > 0).then_some(0..bytes));
        assert!(frontier.ready() <= bytes);
    }

    /// In a child where populating pays, whatever is measured on this machine.
    fn where_populating_pays(body: impl FnOnce()) {
        #[cfg(all(target_os = "linux", not(pagewise_model)))]
        os::assert_in_a_child(|| {
            os::pretend_that_prefaulting_pays(true);
            body();
            true
        });
        #[cfg(not(all(target_os = "linux", not(pagewise_model))))]
        body();
    }

    /// Where touches cost less than populating, nothing is resident before it is touched.
    #[test]
    #[cfg(all(target_os = "linux", not(any(loom, miri, pagewise_model))))]
    fn what_does_not_pay_is_left_to_the_first_touch() {
        if std::env::var_os("PAGEWISE_TEST_RUNNER").is_some() {
            return crate::not_here::not_here("residency: page tables are the emulator's");
        }
        for pays in [true, false] {
            os::assert_in_a_child(|| {
                os::pretend_that_prefaulting_pays(pays);
                let mut frontier = frontier(64 * MIB);
                for end in (0..=MIB).step_by(MIB / 32) {
                    frontier.grow(end, Growth::Append).unwrap();
                    assert!((end..=frontier.committed()).contains(&frontier.ready()));
                }
                let resident = frontier.memory().page_map().unwrap().resident();
                if pays { resident * page() >= MIB } else { resident == 0 }
            });
        }
    }

    #[test]
    fn steps_are_an_eighth_within_their_bounds() {
        assert_eq!([0, 1, 512 << 10].map(step), [64 << 10; 3]);
        assert_eq!([MIB, 8 * MIB].map(step), [MIB / 8, MIB]);
        assert_eq!([256 * MIB, 1 << 40].map(step), [32 * MIB; 2]);
    }

    /// Steps end where a huge page starts, and are no longer for it.
    #[cfg(all(target_os = "linux", not(pagewise_model)))]
    #[test]
    fn long_growth_ends_at_huge_pages_within_its_steps_and_populates_whole_ones() {
        let mut options = Options::new();
        options.reservation = options.reservation.huge_pages(HugePages::Adaptive);
        let mut frontier = options.build(128 * MIB, 128 * MIB).unwrap();
        if frontier.memory().huge_pages_of_runs() == 0 {
            return crate::not_here::not_here("transparent huge pages");
        }
        let (mut end, mut before, mut whole) = (0, 0, 0);
        while end < 128 * MIB {
            frontier.grow(end + 1, Growth::Append).unwrap();
            let (committed, ready) = (frontier.committed(), frontier.ready());
            let allowed = (64 << 10).max(before / 8 + page());
            assert!(committed - before <= allowed, "{} after {before}", committed - before);
            assert!(committed < 20 * MIB || committed % (2 * MIB) == 0, "{committed}");
            assert!(
                ready - end <= (64 << 10).max(end / 8).max(page()) + page(),
                "{ready} for {end}"
            );
            if end >= 20 * MIB {
                assert_eq!(ready % (2 * MIB), 0, "{ready} for {end}");
                whole += 1;
            }
            (end, before) = (ready, committed);
        }
        assert_eq!(whole, 54);
        // What goes back are whole ones, too; short growth is as without them.
        frontier.give_back(70 * MIB + 1).unwrap();
        assert_committed(&frontier, 80 * MIB);
        frontier.give_back(40 * MIB).unwrap();
        assert_committed(&frontier, 46 * MIB);
        frontier.give_back(8 * MIB + 1).unwrap();
        assert_committed(&frontier, 9 * MIB + page());
        frontier.shrink_to(8 * MIB + 1).unwrap();
        assert_committed(&frontier, 8 * MIB + page());
    }

    #[test]
    fn growth_commits_a_step_or_what_is_asked_for() {
        for growth in [Growth::Append, Growth::Amortized] {
            let mut frontier = frontier(usize::MAX);
            frontier.grow(1, growth).unwrap();
            assert_committed(&frontier, (64 << 10).max(page()));
            frontier.grow(64 << 10, growth).unwrap();
            assert_committed(&frontier, (64 << 10).max(page()));
            frontier.grow(8 * MIB - 1, growth).unwrap();
            assert_committed(&frontier, 8 * MIB);
            frontier.grow(8 * MIB + 1, growth).unwrap();
            assert_committed(&frontier, 9 * MIB);
            frontier.grow(64 * MIB, growth).unwrap();
            assert_committed(&frontier, 64 * MIB);
        }
        let mut frontier = frontier(usize::MAX);
        frontier.grow(page() + 1, Growth::Exact).unwrap();
        assert_committed(&frontier, 2 * page());
        frontier.grow(usize::MAX, Growth::Exact).unwrap_err();
        frontier.grow(64 * MIB + 1, Growth::Exact).unwrap_err();
        assert_committed(&frontier, 2 * page());
    }

    #[test]
    fn what_a_limit_refuses_as_a_step_it_grants_in_smaller_pieces() {
        let mut frontier = frontier(8 * MIB + (320 << 10));
        frontier.grow(8 * MIB, Growth::Exact).unwrap();
        // A step of 1 MiB is halved twice.
        frontier.grow(8 * MIB + 1, Growth::Append).unwrap();
        assert_committed(&frontier, 8 * MIB + (256 << 10));
        frontier.grow(8 * MIB + (320 << 10), Growth::Append).unwrap();
        assert_committed(&frontier, 8 * MIB + (320 << 10));
        let refused = frontier.grow(8 * MIB + (320 << 10) + 1, Growth::Append);
        assert!(matches!(refused, Err(Error::LimitReached { .. })), "{refused:?}");
        assert_committed(&frontier, 8 * MIB + (320 << 10));
    }

    #[test]
    fn an_append_may_go_on_as_far_as_a_quarter_ahead() {
        where_populating_pays(|| {
            let mut frontier = frontier(usize::MAX);
            frontier.grow(MIB, Growth::Exact).unwrap();
            assert_eq!(frontier.ready(), 0);
            for (end, ready) in
                [(4 * page(), 5 * page()), (MIB / 2, MIB / 2 + (64 << 10)), (MIB, MIB)]
            {
                frontier.grow(end, Growth::Append).unwrap();
                let expected = if os::PREFAULT_TOUCHES { MIB } else { ready };
                assert_eq!(frontier.ready(), expected, "up to {end}");
            }
            frontier.shrink_to(2 * page()).unwrap();
            assert_eq!(frontier.ready(), 2 * page());
        });
    }

    #[test]
    fn what_lies_far_behind_the_used_part_is_given_back_but_for_a_step() {
        let mut frontier = frontier(usize::MAX);
        frontier.grow(MIB, Growth::Exact).unwrap();
        // A quarter, which is two steps here, may be unused.
        assert_eq!(frontier.give_back_below(), MIB * 3 / 4);
        frontier.give_back(MIB * 3 / 4).unwrap();
        assert_committed(&frontier, MIB);
        frontier.give_back(MIB / 2).unwrap();
        assert_committed(&frontier, MIB / 2 + (64 << 10));
        frontier.shrink_to(3 * page() - 1).unwrap();
        assert_committed(&frontier, 3 * page());
        frontier.shrink_to(usize::MAX).unwrap();
        assert_committed(&frontier, 3 * page());
    }

    /// Two steps, or a quarter, may be unused: the least step counts below 512 KiB, a quarter above 256 MiB.
    #[test]
    fn how_much_may_be_unused_depends_on_what_is_committed() {
        let page = page().max(64 << 10);
        let mut small = frontier(usize::MAX);
        small.grow(4 * page, Growth::Exact).unwrap();
        assert_eq!(small.give_back_below(), 2 * page);
        let mut large = Options::new().build(512 * MIB, 512 * MIB).unwrap();
        large.grow(512 * MIB, Growth::Exact).unwrap();
        assert_eq!(large.give_back_below(), 384 * MIB);
    }

    /// Transparent huge pages: growth ends at their borders once there is more than one, but never behind the end.
    #[test]
    fn growth_is_rounded_to_huge_pages_where_those_are_wanted() {
        let mut options = Options::new();
        options.reservation = options.reservation.huge_pages(HugePages::Transparent);
        let mut frontier = options.build(3 * HUGE_PAGE + MIB, 1).unwrap();
        for (end, committed) in [
            (1, (64 << 10).max(page())),
            (HUGE_PAGE, HUGE_PAGE),
            (HUGE_PAGE + 1, 2 * HUGE_PAGE),
            (2 * HUGE_PAGE + 1, 3 * HUGE_PAGE),
            (3 * HUGE_PAGE + 1, 3 * HUGE_PAGE + MIB),
        ] {
            frontier.grow(end, Growth::Amortized).unwrap();
            assert_committed(&frontier, committed);
        }
    }

    /// Pages that are in memory.
    #[cfg(all(target_os = "linux", not(pagewise_model)))]
    fn resident(frontier: &Frontier) -> Vec<usize> {
        let map = frontier.memory().page_map().unwrap();
        (0..map.pages()).filter(|&page| map.page(page).resident).collect()
    }

    /// An append populates all before `ready`, if that is not far; or else only what its last byte is on, since
    /// whoever appends so much writes it at once.
    #[cfg(all(target_os = "linux", not(pagewise_model)))]
    #[test]
    fn an_append_populates_as_much_as_is_cheaper_than_touching_it() {
        if std::env::var_os("PAGEWISE_TEST_RUNNER").is_some() {
            return crate::not_here::not_here("residency: page tables are the emulator's");
        }
        where_populating_pays(|| {
            let mut frontier = frontier(usize::MAX);
            frontier.grow(MIB, Growth::Exact).unwrap();
            assert_eq!(resident(&frontier), Vec::<usize>::new());
            for _ in 0..3 {
                frontier.grow(frontier.ready() + MOST_POPULATED, Growth::Append).unwrap();
                assert!(resident(&frontier).into_iter().eq(0..frontier.ready() / page()));
            }
            let before = frontier.ready() / page();
            let last = (frontier.ready() + MOST_POPULATED) / page();
            frontier.grow((last + 1) * page(), Growth::Append).unwrap();
            let expected = (0..before).chain(last..frontier.ready() / page());
            assert!(resident(&frontier).into_iter().eq(expected), "{:?}", resident(&frontier));
            // Nothing is left to be populated: the system is not asked.
            frontier.grow(1, Growth::Append).unwrap();
        });
    }

    /// The system is asked for pages that there are: the simulated one panics at no page at all.
    #[test]
    fn an_append_to_what_is_ready_populates_nothing() {
        let mut frontier = frontier(page());
        for _ in 0..2 {
            frontier.grow(page(), Growth::Append).unwrap();
            assert_eq!(frontier.ready(), page());
        }
    }

    #[test]
    fn what_was_reserved_or_is_to_be_kept_is_not_given_back() {
        let mut frontier = frontier(usize::MAX);
        frontier.grow(4 * MIB, Growth::Exact).unwrap();
        frontier.keep(MIB);
        frontier.keep(MIB / 2);
        frontier.give_back(0).unwrap();
        assert_committed(&frontier, MIB);
        assert_eq!(frontier.give_back_below(), 0);
        frontier.shrink_to(0).unwrap();
        assert_committed(&frontier, 0);
        frontier.grow(4 * MIB, Growth::Exact).unwrap();
        frontier.give_back(0).unwrap();
        assert_committed(&frontier, (64 << 10).max(page()));
        frontier.grow(4 * MIB, Growth::Exact).unwrap();
        assert_eq!(frontier.give_back_below(), 3 * MIB);
        frontier.keeps_committed = true;
        frontier.give_back(0).unwrap();
        assert_committed(&frontier, 4 * MIB);
    }

    #[test]
    fn a_child_takes_what_is_committed_without_a_gap() {
        let mut frontier = frontier(usize::MAX);
        frontier.grow(5 * page(), Growth::Exact).unwrap();
        // Another thread was growing it when the process was forked, and another reservation of it, as it
        // were, left something behind a gap.
        frontier.memory.commit(5 * page()..7 * page()).unwrap();
        frontier.memory.commit(40 * page()..41 * page()).unwrap();
        frontier.recover();
        assert_committed(&frontier, 7 * page());
        // It was shrinking.
        frontier.memory.decommit(3 * page()..).unwrap();
        frontier.ready = 7 * page();
        frontier.recover();
        assert_committed(&frontier, 3 * page());
        frontier.memory.decommit(..page()).unwrap();
        frontier.recover();
        assert_committed(&frontier, 0);
    }

    #[cfg(any(pagewise_model, pagewise_refusals))]
    #[test]
    fn memory_that_the_system_does_not_take_back_stays() {
        use crate::os::refusals::{Call, Refusal};
        let mut frontier = frontier(usize::MAX);
        frontier.grow(MIB, Growth::Exact).unwrap();
        let refusing = Refusal::of(Call::Decommit).begin();
        frontier.shrink_to(0).unwrap_err();
        assert!(!frontier.memory().holds_pages());
        frontier.give_back(0).unwrap_err();
        assert_eq!(refusing.refused(), 2);
        drop(refusing);
        assert_committed(&frontier, MIB);
        frontier.shrink_to(0).unwrap();
        assert_committed(&frontier, 0);
    }
}
