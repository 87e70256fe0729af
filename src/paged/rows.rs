//! Pages that are touched one after the other: how far such a row came, what is read ahead of it, and what it leaves behind.
//!
//! Only touches that fault are seen: those of pages that have to be loaded, and of marks (see `cache.rs`). Several rows are
//! known at once, since several threads go through a region, and one goes through several of its parts.

use super::cache::{COOL_SHARE, Number};
use super::core::State;

/// Pages that were touched one after the other.
#[derive(Clone, Copy, Debug)]
struct Row {
    /// The page that was touched last, how many were touched in a row before it, and when that was: as which of all touches.
    last: Number,
    len: Number,
    at: Number,
    /// The pages that lent threads are to read ahead: the next one, and the end of those that they were asked for.
    next: Number,
    asked: Number,
    /// The next page that becomes a mark when it is read ahead, and the distance from one mark to the next.
    mark: Number,
    marks: Number,
    /// It goes through pages that a long row went through, long ago.
    is_again: bool,
    /// Since it went on last, a page behind it was touched, so soon that it would have been in memory.
    is_needed: bool,
    /// Until it has this length, such pages stay as others do: somebody follows it.
    followed: Number,
}

const NONE: Row = Row {
    last: Number::MAX,
    len: 0,
    at: 0,
    next: 0,
    asked: 0,
    mark: 0,
    marks: 1,
    is_again: false,
    is_needed: false,
    followed: 0,
};

impl Row {
    /// How many pages a touch goes on by; `None` where it does not belong to the row. Between two touches that are seen may
    /// lie pages that were in memory: those that were read ahead, or a few others; or as many as there are, if the one
    /// right before is among them (`is_joined`), and the row is long, or was so in the last round.
    fn steps_to(&self, page: Number, is_joined: bool, frames: Number) -> Option<Number> {
        let steps = page.checked_sub(self.last)?;
        let goes_far = is_joined && (self.len >= frames || self.is_again);
        let few = self.len.min(frames / COOL_SHARE as Number).saturating_add(1);
        let most = few.max(self.asked.saturating_sub(self.last));
        (1..=if goes_far { frames.max(most) } else { most }).contains(&steps).then_some(steps)
    }

    /// Whether it is longer than what is in memory, so that a page behind it will be touched only when it would have left: in
    /// the next round, where the program goes through the same pages again. (Unless somebody follows it.)
    fn is_long(&self, frames: Number) -> bool {
        (self.len >= frames || self.is_again) && self.len >= self.followed
    }

    fn is_over(&self, touches: Number) -> bool {
        touches.wrapping_sub(self.at) >= IS_OVER
    }

    /// The row has come to another page.
    fn go_on(self, steps: Number, at: Number, frames: Number) -> Self {
        /// Then it is tried again: the one who follows, as long as it finds all pages, is not seen.
        const AGAIN: Number = 16;
        let len = self.len.saturating_add(steps);
        let until = len.saturating_add(frames.saturating_mul(AGAIN));
        let followed = if self.is_needed { until } else { self.followed };
        Self { last: self.last + steps, len, at, is_needed: false, followed, ..self }
    }
}

/// How many rows are known: those that went on, the latest first, and behind them those that may go on.
const ROWS: usize = 16;
const WENT_ON: usize = 4;
/// A row that did not go on for so many touches is over: nothing is read ahead of it.
const IS_OVER: Number = 64;

#[derive(Debug)]
pub(super) struct Rows {
    rows: [Row; ROWS],
    /// How many touches there were, from zero again where they cannot be counted.
    touches: Number,
}

/// What a touch says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Touch {
    /// How many pages before this one were touched in a row.
    row: Number,
    /// The page before it in the row, if there is one.
    from: Option<Number>,
    /// Whether the pages behind it can leave.
    is_long: bool,
}

const ALONE: Touch = Touch { row: 0, from: None, is_long: false };

impl Rows {
    pub(super) fn new() -> Self {
        Self { rows: [NONE; ROWS], touches: 0 }
    }

    /// A page was touched; whether the one before it is in memory, where there is room for so many.
    fn touch(&mut self, page: Number, is_joined: bool, frames: Number) -> Touch {
        self.touches = self.touches.wrapping_add(1);
        let (rows, at) = (&mut self.rows, self.touches);
        let (mut nearest, mut is_again) = (None, false);
        for (index, row) in rows.iter_mut().enumerate() {
            let is_over = row.is_over(at);
            if let Some(steps) = row.steps_to(page, is_joined, frames) {
                // One that is over goes on where no other does.
                let place = (is_over, steps, index);
                nearest = Some(nearest.map_or(place, |other| place.min(other)));
                continue;
            }
            match row.last.checked_sub(page) {
                // One instruction touches two pages, or the page was lost again.
                Some(0 | 1) if !is_over => return ALONE,
                Some(behind) if behind <= row.len => {
                    row.is_needed |= behind <= frames;
                    is_again |= row.is_long(frames);
                }
                _ => {}
            }
        }
        let (_, steps, place) = nearest.unwrap_or((false, 0, ROWS - 1));
        let Some(before) = rows.get(place).copied() else { return ALONE };
        let (front, row) = match nearest {
            Some(_) => (0, before.go_on(steps, at, frames)),
            None => (WENT_ON, Row { last: page, at, is_again, ..NONE }),
        };
        rows.copy_within(front..place, front + 1);
        if let Some(first) = rows.get_mut(front) {
            *first = row;
        }
        Touch { row: row.len, from: nearest.map(|_| before.last), is_long: row.is_long(frames) }
    }

    /// Has lent threads read pages ahead of the row that came to `page`: of the `ahead` pages after it those that they were
    /// not asked for before, `at_once` at most, and none from `end` on. Rows that go on at once share the `most` that may be
    /// ahead. Returns how many pages were asked for. A quarter of what is ahead lies between two marks, so that the next
    /// quarter is asked for while three are still to come.
    fn ask(
        &mut self,
        page: Number,
        ahead: Number,
        most: Number,
        at_once: Number,
        end: Number,
    ) -> Number {
        let goes_on = |row: &&Row| row.len > 0 && !row.is_over(self.touches);
        let rows = self.rows.iter().filter(goes_on).count().max(1) as Number;
        let ahead = ahead.min(most / rows);
        // (Where another thread went on meanwhile, that one asks.)
        let Some(row) = self.rows.iter_mut().find(|row| row.last == page) else { return 0 };
        let next = page.saturating_add(1);
        let start = row.asked.max(next);
        let asked = next.saturating_add(ahead).min(start.saturating_add(at_once)).min(end);
        row.asked = asked.max(start);
        row.marks = (ahead / 4).max(1);
        row.asked - start
    }

    /// Takes the next page that is to be read ahead, and whether it becomes a mark: for the row that went on last, and only
    /// what it has not passed yet.
    pub(super) fn take_ahead(&mut self) -> Option<(Number, bool)> {
        let touches = self.touches;
        self.rows.iter_mut().filter(|row| !row.is_over(touches)).find_map(|row| {
            let page = row.next.max(row.last.saturating_add(1));
            if page >= row.asked {
                return None;
            }
            row.next = page + 1;
            let is_mark = page >= row.mark;
            if is_mark {
                row.mark = page.saturating_add(row.marks);
            }
            Some((page, is_mark))
        })
    }
}

impl State {
    /// A page was loaded for a touch, or a mark was touched. Returns how many pages before it were touched in a row.
    pub(super) fn note_touch(&mut self, page: Number) -> Number {
        let is_joined =
            page.checked_sub(1).is_some_and(|before| self.cache.frame_of(before).is_some());
        let frames = self.cache.in_reach().saturating_sub(self.cache.pinned).max(1);
        let touch = self.rows.touch(page, is_joined, frames as Number);
        match touch.from {
            Some(from) if self.is_sequential || touch.is_long => self.is_done_with(from, page),
            _ => {}
        }
        touch.row
    }

    /// A row has come from one page to another: those behind it are not needed any more. (The one right before it is, where an
    /// instruction touches both.) The first of them leaves first.
    fn is_done_with(&mut self, from: Number, to: Number) {
        /// The lock is held meanwhile. Where there are more of them, the others leave in their turn.
        const MOST: Number = 256;
        for page in
            (from.max(to.saturating_sub(MOST)).saturating_sub(1)..to.saturating_sub(1)).rev()
        {
            let Some(number) = self.cache.frame_of(page) else { continue };
            if self.is_sequential || self.cache.is_passing(number) {
                self.cache.expect_no_more(number);
            }
        }
    }

    /// Has lent threads read `ahead` of the `pages` of the region, where a row has come to `page`, but no more than `most`.
    /// Returns how many these are.
    pub(super) fn ask_ahead(
        &mut self,
        page: Number,
        ahead: Number,
        most: Number,
        pages: Number,
    ) -> Number {
        // What is read ahead comes to the end of the pages before the hand. Where these are few, since most pages are in
        // use, pages that are read ahead would take the room of others that are not touched yet, or of pages in use that
        // cool.
        let (before, frames) = (self.cache.before_hand(), self.cache.in_reach());
        let most = if before < frames / 4 { 0 } else { most.min((before / 2) as Number) };
        // So few at once that pages in use, of which some cool, have the time to come back.
        let at_once = ((frames / COOL_SHARE / 2) as Number).max(1);
        self.rows.ask(page, ahead, most, at_once, pages)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const FRAMES: Number = 64;

    /// How many pages before each of these were touched in a row.
    fn rows_of(rows: &mut Rows, pages: impl IntoIterator<Item = Number>) -> Vec<Number> {
        pages.into_iter().map(|page| rows.touch(page, false, FRAMES).row).collect()
    }

    fn taken(rows: &mut Rows) -> Vec<Number> {
        std::iter::from_fn(|| rows.take_ahead()).map(|(page, _)| page).collect()
    }

    #[test]
    fn a_row_goes_on_over_pages_that_were_in_memory() {
        let mut rows = Rows::new();
        assert_eq!(rows_of(&mut rows, [0, 1, 2, 3, 6]), [0, 1, 2, 3, 6]);
        // A step may be as long as the row, and one more; but no longer than an eighth of what is in memory, and one more.
        assert_eq!(rows_of(&mut rows, [13, 22, 32]), [13, 22, 0]);
        // Where pages were read ahead, it may reach over these.
        assert_eq!(rows.ask(32, 40, 99, 99, 200), 40);
        assert_eq!(rows_of(&mut rows, [73]), [41]);
        assert_eq!(rows_of(&mut rows, [200, 202]), [0, 0]);
        assert_eq!(rows_of(&mut rows, [74]), [42]);
    }

    #[test]
    fn backwards_is_no_row() {
        assert_eq!(rows_of(&mut Rows::new(), (0..20).rev()), [0; 20]);
        assert_eq!(rows_of(&mut Rows::new(), [Number::MAX - 3, Number::MAX - 2, 0]), [0, 1, 0]);
    }

    #[test]
    fn rows_at_once_do_not_disturb_each_other() {
        let mut rows = Rows::new();
        for step in 0..100 {
            for row in 0..WENT_ON as Number {
                assert_eq!(rows_of(&mut rows, [row * 1000 + step]), [step]);
            }
            // Pages here and there between them.
            let random = (0..8).map(|number| 10_000 + 7919 * (8 * step + number) % 5000);
            random.for_each(|page| _ = rows.touch(page, false, FRAMES));
        }
        // Where two are near, the nearest goes on.
        let mut rows = Rows::new();
        rows_of(&mut rows, (0..20).chain(40..50).chain(20..46));
        assert_eq!(rows_of(&mut rows, [50, 51, 46, 52]), [10, 11, 46, 12]);
    }

    #[test]
    fn a_page_that_is_touched_again_changes_nothing() {
        let mut rows = Rows::new();
        assert_eq!(rows_of(&mut rows, [5, 6, 7, 6, 7, 8]), [0, 1, 2, 0, 0, 3]);
    }

    #[test]
    fn lent_threads_get_what_a_row_has_not_passed_and_the_latest_row_first() {
        let mut rows = Rows::new();
        rows_of(&mut rows, 0..4);
        assert_eq!(rows.ask(3, 8, 99, 3, 100), 3);
        assert_eq!(rows.ask(3, 8, 99, 3, 100), 3);
        assert_eq!(rows.ask(3, 8, 99, 3, 100), 2);
        assert_eq!(rows.ask(3, 8, 99, 3, 100), 0);
        // Every second one is a mark.
        assert_eq!(rows.take_ahead(), Some((4, true)));
        assert_eq!(rows.take_ahead(), Some((5, false)));
        rows.touch(8, false, FRAMES);
        rows_of(&mut rows, 50..52);
        assert_eq!(rows.ask(51, 100, 99, 99, 54), 2, "up to the end");
        assert_eq!(rows.ask(50, 9, 99, 9, 100), 0, "the row is further");
        assert_eq!(taken(&mut rows), [52, 53, 9, 10, 11]);
        assert_eq!(rows.ask(8, 8, 99, 8, 100), 5);
        assert_eq!(taken(&mut rows), [12, 13, 14, 15, 16]);
        // Two rows share what may be ahead, until one of them is over.
        assert_eq!(rows_of(&mut rows, [52, 9]), [2, 9]);
        assert_eq!((rows.ask(9, 50, 20, 50, 100), rows.ask(52, 50, 20, 50, 100)), (3, 9));
        rows_of(&mut rows, (1..IS_OVER).map(|number| 1000 * number).chain([10]));
        assert_eq!(rows.ask(10, 50, 20, 50, 100), 11);
    }

    #[test]
    fn marks_keep_their_distance_where_it_changes() {
        let mut rows = Rows::new();
        rows_of(&mut rows, 0..8);
        rows.ask(7, 14, 99, 9, 100);
        let mut taken: Vec<_> = (0..2).map_while(|_| rows.take_ahead()).collect();
        rows.touch(8, false, FRAMES);
        rows.ask(8, 16, 99, 9, 100);
        taken.extend(std::iter::from_fn(|| rows.take_ahead()));
        let marks: Vec<_> = taken.iter().filter(|(_, is_mark)| *is_mark).map(|at| at.0).collect();
        assert_eq!(taken.len(), 24 - 7);
        assert_eq!(marks, [8, 11, 15, 19, 23]);
    }

    /// As long as nobody touches pages that it left behind a moment ago.
    #[test]
    fn a_row_is_long_when_it_is_longer_than_what_is_in_memory() {
        let mut rows = Rows::new();
        let long = |rows: &mut Rows, page| rows.touch(page, false, FRAMES).is_long;
        assert!((0..FRAMES).all(|page| !long(&mut rows, page)));
        assert!((FRAMES..100).all(|page| long(&mut rows, page)));
        // One before (an instruction touches two), and one far behind.
        assert!(!long(&mut rows, 98));
        assert!(long(&mut rows, 99 - FRAMES - 1), "the same pages again");
        assert!(long(&mut rows, 100));
        // One that was left a short time ago is needed: by another thread, perhaps.
        long(&mut rows, 101 - FRAMES);
        let until = 101 + 16 * FRAMES;
        assert!((101..until).all(|page| !long(&mut rows, page)));
        assert!(long(&mut rows, until), "it was needed once");
    }

    /// Also where the limit is more than half of what is gone through.
    #[test]
    fn the_next_round_does_not_follow_the_last_one() {
        let mut rows = Rows::new();
        for _ in 0..20 {
            for page in 1..90 {
                rows.touch(page, false, FRAMES);
            }
            for page in 20..100 {
                assert!(rows.touch(page, false, FRAMES).is_long || page < FRAMES);
            }
        }
    }

    /// Where the program went before, and stopped, a row goes on.
    #[test]
    fn a_row_that_is_over_stops_no_other() {
        let mut rows = Rows::new();
        rows_of(&mut rows, 0..200);
        for _ in 0..5 {
            let seen = rows_of(&mut rows, 0..400);
            assert_eq!(seen, Vec::from_iter(0..400));
        }
        // It goes on where no other does.
        assert_eq!(rows_of(&mut rows, [200 - 1 + 201]), [400]);
    }

    /// In the next round, a row comes to pages that are still in memory.
    #[test]
    fn a_long_row_goes_on_over_all_that_is_in_memory() {
        let mut rows = Rows::new();
        rows_of(&mut rows, 0..200);
        assert_eq!(rows_of(&mut rows, [0, 1]), [0, 1]);
        let mut next = |page, is_joined| rows.touch(page, is_joined, FRAMES).row;
        assert_eq!(next(1 + FRAMES, true), 1 + FRAMES);
        assert_eq!(next(2 + 2 * FRAMES, true), 0, "too far");
        assert_eq!(next(FRAMES + 30, false), 0, "something else is touched");
        assert_eq!(next(FRAMES + 2, false), FRAMES + 2);
        // Others go on over a few.
        rows_of(&mut rows, 500..510);
        assert_eq!(rows.touch(530, true, FRAMES).row, 0);
    }
}
