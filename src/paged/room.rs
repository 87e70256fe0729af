//! Room for pages: how others leave the region, and the memory.

use super::cache::{COOL_SHARE, Number, Place};
use super::core::{Core, State, Trouble};
use super::moves::{Caller, Program, Wish};
use super::stats::add;
use crate::error::RefusalReason;
use crate::os::{self, Cause, OsError};

/// What has to be done so that a frame becomes free.
enum Step {
    /// Clean pages are dropped.
    Drop,
    Cool {
        frame: Number,
        page: Number,
        dirty: bool,
    },
    Write {
        frame: Number,
        page: Number,
    },
    Leave(Number),
    Stuck {
        pinned: usize,
    },
    /// There is room already.
    Again,
    Wait,
}

/// So many pages that cannot be written, or not taken out, are passed over before a fault is refused.
const MOST_FAILURES: u32 = 4;
/// So many pages cool at once at most, each time that room is needed.
const COOL_AT_ONCE: u32 = 2;
/// The same where clean pages are dropped: those that cool are all to be written, which takes longer than to look for a
/// clean one.
const COOL_BEFORE_DROP: u32 = 8;
/// So often a region tries to give up a page for a neighbour, while its own threads take the room.
const MOST_ROUNDS: u32 = 1_000;
/// So many pages give way to a mapping that the system refuses.
const MOST_GIVING_WAY: u32 = 64;

impl Core {
    /// Shows a page. Where the process has too many mappings, other pages give way.
    pub(super) fn show(&self, wish: Wish, frame: Number, writable: bool) -> Result<(), Trouble> {
        self.making_way(|| self.engine.show(self.ground, frame, wish.page, writable))
    }

    /// Does what may need a mapping; where the process has too many, other pages give way.
    pub(super) fn making_way(
        &self,
        operation: impl Fn() -> Result<(), OsError>,
    ) -> Result<(), Trouble> {
        let mut failures = 0;
        loop {
            let Err(error) = operation() else { return Ok(()) };
            failures += 1;
            let Cause::Mappings { mappings, max } = os::diagnose(error) else {
                return Err(Trouble::System(error));
            };
            if failures >= MOST_GIVING_WAY || !self.give_way() {
                let reason = RefusalReason::Mappings { mappings, max, error };
                return Err(Trouble::Refused(reason));
            }
        }
    }

    /// Takes a page out of the region; `false` where none can be. (One in the middle of a mapping cannot, where that
    /// would make two of it.)
    fn give_way(&self) -> bool {
        (0..MOST_GIVING_WAY).any(|_| {
            let next = self.with(|state| {
                let frame = state.cache.next_to_cool()?;
                let is_mark = state.cache.frame(frame).is_some_and(|frame| frame.mark);
                let (page, dirty) = state.cache.hold_with_page(frame);
                Some((frame, page, dirty, is_mark))
            });
            // (A mark has no mapping to give.)
            next.is_some_and(|(frame, page, dirty, is_mark)| {
                self.cool(frame, page, dirty).is_ok() && !is_mark
            })
        })
    }

    /// Makes a frame free, or returns early where another thread may have done so. `refused` says why there is no new
    /// one.
    pub(super) fn make_room<C: Caller>(
        &self,
        refused: Option<RefusalReason>,
        takes_own: bool,
    ) -> Result<(), Trouble> {
        // Whoever reads ahead takes nothing from neighbours, and of the region itself only in a row, and where that has much
        // to spare.
        let may = || takes_own && self.with(|state| state.cache.has_to_spare());
        match refused {
            Some(_) if C::READS_AHEAD && !may() => return Err(Trouble::GaveUp),
            Some(_) if !C::READS_AHEAD && self.take_from_neighbour::<C>() => return Ok(()),
            _ => {}
        }
        let (mut cooled, mut failures) = (0, 0);
        let most = if self.drops() { COOL_BEFORE_DROP } else { COOL_AT_ONCE };
        loop {
            let (step, moment) = self.with(|state| {
                let refused = refused.is_some();
                let step = self.next_step(state, cooled < most, failures, refused, !C::READS_AHEAD);
                (step, self.moment())
            });
            let failed = match step {
                Step::Drop => match self.drop_pages(usize::MAX, refused.is_none()) {
                    Ok(()) => return Ok(()), // another thread may take the room first
                    Err(error) => Err(Trouble::System(error)),
                },
                Step::Leave(frame) => {
                    self.with(|state| state.cache.free(frame));
                    self.changed();
                    add(&self.counters.evictions, 1);
                    return Ok(());
                }
                Step::Cool { frame, page, dirty } => {
                    cooled += 1;
                    match self.cool(frame, page, dirty) {
                        // (One in the middle of a mapping may need one more than there are: the next one, then.)
                        Err(_) if cooled < MOST_GIVING_WAY => continue,
                        hidden => hidden.map_err(Trouble::System),
                    }
                }
                Step::Write { frame, page } => {
                    let written = self.write_frame::<C>(frame, page);
                    if written.is_ok() {
                        return Ok(()); // another thread may take it first
                    }
                    written
                }
                Step::Stuck { pinned } => {
                    return Err(match refused {
                        Some(reason) if pinned == 0 => Trouble::Refused(reason),
                        _ => Trouble::Pinned { pinned },
                    });
                }
                Step::Again => return Ok(()),
                Step::Wait if C::READS_AHEAD => return Err(Trouble::GaveUp),
                Step::Wait => {
                    self.wait(moment);
                    return Ok(());
                }
            };
            if let Err(trouble) = failed {
                failures += 1;
                if failures >= MOST_FAILURES {
                    return Err(trouble);
                }
                trouble.discard::<C>();
            }
        }
    }

    /// Decides what makes room, and holds the frame.
    fn next_step(
        &self,
        state: &mut State,
        may_cool: bool,
        failures: u32,
        refused: bool,
        may_write: bool,
    ) -> Step {
        let cache = &mut state.cache;
        cache.turn();
        if cache.has_room(!refused) {
            return Step::Again;
        }
        let drops = failures == 0 && self.drops();
        if drops && !cache.has_cool_clean() && cache.next_to_cool_is_clean() {
            return Step::Drop;
        }
        let cools = cache.cooling();
        let goal = (cache.capacity() / COOL_SHARE).max(1);
        let next = match failures {
            0 if drops && cache.has_cool_clean() => None,
            0 => cache.next_to_cool().filter(|_| cools == 0 || may_cool && cools < goal),
            // What cools could not be written: one that needs no writing.
            _ => cache.next_clean_to_cool().or(cache.next_to_cool().filter(|_| cools == 0)),
        };
        if let Some(frame) = next {
            let (page, dirty) = cache.hold_with_page(frame);
            return Step::Cool { frame, page, dirty };
        }
        if !may_write && cache.cooling() > 0 && !cache.has_cool_clean() {
            return Step::Wait;
        }
        if let Some(frame) = cache.next_to_leave() {
            let (page, dirty) = cache.hold_with_page(frame);
            return if dirty { Step::Write { frame, page } } else { Step::Leave(frame) };
        }
        if cache.is_stuck() {
            return Step::Stuck { pinned: cache.pinned * self.ground.page_bytes };
        }
        Step::Wait
    }

    /// Takes a page, whose frame is held, out of the region, and settles the frame. A mark is not in the region.
    pub(super) fn cool(&self, frame: Number, page: Number, dirty: bool) -> Result<(), OsError> {
        let is_mark = self.with(|state| state.cache.frame(frame).is_some_and(|frame| frame.mark));
        let hidden = if is_mark { Ok(()) } else { self.engine.hide(self.ground, frame, page) };
        self.with(|state| match hidden {
            Ok(()) => state.cache.settle(frame, Place::Frame, dirty, false),
            // Parts of it may have been writable for a moment, and others may be protected.
            Err(_) if self.engine.may_stop_half_way() => {
                state.cache.settle(frame, Place::Region, dirty || !self.ground.read_only, false);
            }
            Err(_) => state.cache.settle_as_it_was(frame),
        });
        self.changed();
        if dirty {
            self.jobs.something_is_to_be_written();
        }
        hidden
    }

    /// For a neighbour: gives up the page that would be the next to leave, and its memory; `false` where none can.
    pub(super) fn give_up_one<C: Caller>(&self) -> bool {
        let can_write = !C::IS_HANDLER || self.store_in_handler || self.jobs.has_threads();
        let (mut failures, mut rounds) = (0, 0);
        while failures < MOST_FAILURES && rounds < MOST_ROUNDS {
            rounds += 1;
            match self.with(|state| self.next_step(state, false, failures, true, can_write)) {
                Step::Drop => failures += u32::from(self.drop_pages(1, false).is_err()),
                Step::Cool { frame, page, dirty } => {
                    failures += u32::from(self.cool(frame, page, dirty).is_err());
                }
                Step::Write { frame, page } => {
                    if let Err(trouble) = self.write_frame::<C>(frame, page) {
                        failures += 1;
                        trouble.discard::<C>();
                    }
                }
                Step::Leave(frame) => return self.drop_frame(frame),
                Step::Again => {
                    // (Unless a thread of that region was faster.)
                    let frame = self.with(|state| state.cache.take_free_to_empty());
                    if let Some(frame) = frame {
                        return self.drop_frame(frame);
                    }
                }
                Step::Stuck { .. } | Step::Wait => return false,
            }
        }
        false
    }

    /// Has a page leave the memory; its frame's memory goes back to the system. Pinned pages stay.
    pub(super) fn evict_page(&self, page: Number) -> Result<(), Trouble> {
        let Some(frame) = self.hold_page(page, |frame| frame.pins == 0) else { return Ok(()) };
        let (place, dirty) = self.with(|state| {
            state
                .cache
                .frame(frame)
                .map_or((Place::Frame, false), |frame| (frame.place, frame.dirty))
        });
        if place == Place::Region {
            self.cool(frame, page, dirty).map_err(Trouble::System)?;
            // Somebody may have touched it meanwhile: then it is in use.
            let still = self.hold_page(page, |held| held.pins == 0 && held.place == Place::Frame);
            if still != Some(frame) {
                if let Some(other) = still {
                    self.settle_as_it_was(other);
                }
                return Ok(());
            }
        }
        let dirty = self.with(|state| state.cache.frame(frame).is_some_and(|frame| frame.dirty));
        if dirty {
            self.write_frame::<Program>(frame, page)?;
            return match self.hold_page(page, |held| held.place == Place::Frame && !held.dirty) {
                Some(frame) => {
                    self.drop_frame(frame);
                    Ok(())
                }
                None => Ok(()),
            };
        }
        self.drop_frame(frame);
        Ok(())
    }

    /// Gives back what the frames without a page hold.
    pub(super) fn empty_free_frames(&self) {
        let most = self.with(|state| state.cache.used());
        for _ in 0..most {
            let free = self.with(|state| state.cache.take_free_to_empty());
            if !free.is_some_and(|frame| self.drop_frame(frame)) {
                return;
            }
        }
    }

    /// Gives back the memory of a frame that is held, whose page, if it has one, is in the store; `false` where the system
    /// could not take it.
    fn drop_frame(&self, frame: Number) -> bool {
        let emptied = self.engine.empty(self.ground, frame);
        let had_page = self.with(|state| {
            if emptied {
                state.cache.count(frame, false);
            }
            let had_page = state.cache.page_of(frame).is_some();
            state.cache.free(frame);
            had_page
        });
        if emptied {
            self.account.decommitted(self.ground.page_bytes);
        }
        self.changed();
        add(&self.counters.evictions, u64::from(had_page));
        emptied
    }
}

#[cfg(all(test, target_os = "linux", not(loom), not(any(miri, pagewise_model))))]
mod tests {
    use crate::{FileStore, PagedRegion, page_size};

    use super::*;

    /// Between the look for room and the making of it, another thread may have made some.
    #[test]
    fn room_that_is_there_by_now_is_taken() {
        let path = std::env::temp_dir().join(format!("pagewise-room-{}", std::process::id()));
        let store = FileStore::create(&path, 16 * page_size() as u64).unwrap();
        std::fs::remove_file(&path).unwrap();
        let builder = PagedRegion::builder(store).page_bytes(page_size()).read_ahead(0);
        let region = builder.limit(6 * page_size()).build().unwrap();
        let most = region.core.ground.frames as usize;
        let _pinned = region.pin(..(most - 1) * page_size()).unwrap();
        region.prefetch(10 * page_size()..11 * page_size()).unwrap();
        region.evict(..).unwrap();
        // All others are pinned: nothing can be given up.
        assert!(region.core.make_room::<Program>(None, true).is_ok());
        assert_eq!(region.stats().evictions, 1);
    }
}
