//! Changed pages go back to the store.

use super::cache::{Number, Place};
use super::core::{Core, State, Trouble};
use super::moves::{Caller, Lent, Program};

impl Core {
    /// Writes a page that cools, and whose frame is held, to the store, and settles the frame.
    pub(super) fn write_frame<C: Caller>(
        &self,
        frame: Number,
        page: Number,
    ) -> Result<(), Trouble> {
        let bytes = self.engine.bytes(self.ground, frame, page, false);
        let (offset, len) = self.extent(page);
        // SAFETY: the frame is held, and its page not in the region: nobody changes its bytes.
        let written = unsafe { self.write_store::<C>(page, offset, bytes, len) };
        self.with(|state| state.cache.settle(frame, Place::Frame, written.is_err(), false));
        self.changed();
        written
    }

    /// For a lent thread: writes one dirty page that cools; `false` where it could not be written.
    pub(super) fn write_one_back(&self) -> bool {
        let next = self.with(|state| {
            let frame = state.cache.next_to_write()?;
            Some((frame, state.cache.hold_with_page(frame).0))
        });
        let Some((frame, page)) = next else { return true }; // another thread was faster
        match self.write_frame::<Lent>(frame, page) {
            Ok(()) => true,
            Err(trouble) => {
                if let Some(error) = trouble.into_store_error() {
                    self.counters.remember(error);
                }
                false
            }
        }
    }

    /// Writes a run of dirty pages, from `first` on and before `end`, as far as they are neighbours in the region.
    /// Returns how many pages it has dealt with.
    pub(super) fn write_run(&self, first: Number, end: Number) -> (Number, Result<(), Trouble>) {
        const MOST: usize = 1 << 20;
        let Some(frame) = self.hold_page(first, |frame| frame.dirty) else { return (1, Ok(())) };
        let place = self.with(|state| state.cache.frame(frame).map(|frame| frame.place));
        if place != Some(Place::Region) {
            return (1, self.write_frame::<Program>(frame, first));
        }
        let most = (MOST / self.ground.page_bytes).max(1) as Number;
        let last = first.saturating_add(most).min(end);
        let run = self.with(|state| {
            (first + 1..last)
                .take_while(|&page| state.hold_if_dirty_in_region(page))
                .last()
                .map_or(first..first + 1, |last| first..last + 1)
        });
        let written = self.write_held(run.clone());
        let dirty = written.is_err();
        self.with(|state| {
            for page in run.clone() {
                let Some(frame) = state.cache.frame_of(page) else { continue };
                state.cache.settle(frame, Place::Region, dirty, false);
            }
        });
        self.changed();
        (run.end - run.start, written)
    }

    /// Writes pages that are held, and in the region.
    fn write_held(&self, run: std::ops::Range<Number>) -> Result<(), Trouble> {
        for page in run.clone() {
            let frame = self.with(|state| state.cache.frame_of(page)).unwrap_or_default();
            self.engine.protect(self.ground, frame, page, true).map_err(Trouble::System)?;
        }
        let (offset, _) = self.extent(run.start);
        let (last, last_len) = self.extent(run.end - 1);
        let len = (last - offset) as usize + last_len;
        // SAFETY: the pages are held and protected: whoever writes to one waits.
        unsafe { self.write_store::<Program>(run.start, offset, self.ground.page(run.start), len) }
    }
}

impl State {
    fn hold_if_dirty_in_region(&mut self, page: Number) -> bool {
        let Some(number) = self.cache.frame_of(page) else { return false };
        let fits = self
            .cache
            .frame(number)
            .is_some_and(|frame| !frame.busy && frame.dirty && frame.place == Place::Region);
        if fits {
            self.cache.hold(number);
        }
        fits
    }
}
