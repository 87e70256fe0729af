//! How pages come. (How they leave: `room.rs`; how changed ones go back to the store: `writing.rs`.)
//!
//! A thread decides under the lock what it is going to do, and holds the frame; it makes its system calls and calls
//! the store without the lock; then it settles the frame. It holds one frame at a time, except for a run of dirty
//! pages that it is writing, and waits for another's only while it holds none: so no cycle of threads waits.

use super::cache::{Number, Place};
use super::core::{Core, State, Trouble};
use super::stats::add;
use crate::error::{AccessError, RefusalReason};
use crate::fault;

/// On whose behalf a page is moved. A type, so that the handler's code contains nothing that only the others do.
pub(super) trait Caller {
    const IS_HANDLER: bool = false;
    /// It reads ahead: it gives up rather than wait for a thread that may wait for it.
    const READS_AHEAD: bool = false;
    /// The same thread, when it reads ahead.
    type Ahead: Caller;
}

/// The fault handler.
pub(super) struct Handler;
/// A method that the program called.
pub(super) struct Program;
/// The fault handler, when it reads ahead.
pub(super) struct HandlerAhead;
/// A lent thread, or a method that reads ahead.
pub(super) struct Lent;

impl Caller for Handler {
    const IS_HANDLER: bool = true;
    type Ahead = HandlerAhead;
}
impl Caller for HandlerAhead {
    const IS_HANDLER: bool = true;
    const READS_AHEAD: bool = true;
    type Ahead = Self;
}
impl Caller for Program {
    type Ahead = Lent;
}
impl Caller for Lent {
    const READS_AHEAD: bool = true;
    type Ahead = Self;
}

/// What a page that is not in memory begins with.
#[derive(Clone, Copy)]
pub(super) enum Source {
    Store,
    /// These bytes, as many as the store has of the page.
    Bytes(*const u8),
    /// This byte, everywhere.
    Value(u8),
}

/// What a thread wants of a page.
#[derive(Clone, Copy)]
pub(super) struct Wish {
    pub(super) page: Number,
    /// Whether it is going to write; `None` where it does not know.
    pub(super) write: Option<bool>,
    /// Whether the page is to stay in the region.
    pub(super) pin: bool,
    pub(super) source: Source,
}

/// What was done for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// It was there.
    Nothing,
    /// The page came; so many before it were touched in a row.
    Loaded {
        row: Number,
    },
    Rescued,
    /// The page can be written.
    Opened,
}

/// What has to be done for it.
enum Next {
    Nothing,
    Wait,
    MakeRoom(Option<RefusalReason>),
    Load(Number),
    Rescue { frame: Number, dirty: bool },
    Open { frame: Number, dirty: bool },
    NotOurs,
}

/// The most bytes that a thread reads ahead itself, while the page that it needs waits for it.
const MOST_AHEAD: usize = 128 << 10;

/// A page that faults more often than this although it is accessible lost its access to the program itself.
const MOST_REPEATS: u32 = 10_000;

impl Core {
    /// Brings a page into the region, and no others.
    pub(super) fn bring<C: Caller>(&self, page: Number, write: bool) -> Result<(), Trouble> {
        let write = Some(write);
        self.fulfil_one::<C>(Wish { page, write, pin: false, source: Source::Store }).map(|_| ())
    }

    /// Does what is wished; afterwards the page is in the region, at least for a moment (pinned: until it is unpinned).
    pub(super) fn fulfil<C: Caller>(&self, wish: Wish) -> Result<Done, Trouble> {
        let done = self.fulfil_one::<C>(wish)?;
        // A page that is read ahead faults again when it is written. So where this thread would have to read it, and the
        // program writes, reading ahead saves no fault.
        let is_worth_it = wish.write != Some(true) || self.jobs.has_threads();
        if let Done::Loaded { row: row @ 2.. } = done
            && is_worth_it
        {
            self.look_ahead::<C>(wish.page, row);
        }
        Ok(done)
    }

    fn fulfil_one<C: Caller>(&self, wish: Wish) -> Result<Done, Trouble> {
        if self.is_left() {
            return Err(Trouble::Left);
        }
        let mut wish = wish;
        if self.ground.read_only {
            if wish.write == Some(true) {
                return Err(Trouble::ReadOnly);
            }
            wish.write = Some(false);
        }
        loop {
            let (next, moment) = self.with(|state| (self.look::<C>(state, wish), self.moment()));
            match next {
                Next::Nothing => return Ok(Done::Nothing),
                Next::NotOurs => return Err(Trouble::NotOurs),
                // It may be the thread that the page's holder waits for.
                Next::Wait if C::READS_AHEAD => return Err(Trouble::GaveUp),
                Next::Wait => self.wait(moment),
                Next::MakeRoom(refused) => self.make_room::<C>(refused)?,
                Next::Load(frame) => return self.load::<C>(wish, frame),
                Next::Rescue { frame, dirty } => return self.rescue(wish, frame, dirty),
                Next::Open { frame, dirty } => return self.open(wish, frame, dirty),
            }
        }
    }

    fn look<C: Caller>(&self, state: &mut State, wish: Wish) -> Next {
        let Some(number) = state.cache.frame_of(wish.page) else {
            return self.look_for_room(state, wish.page);
        };
        let Some(frame) = state.cache.frame_mut(number) else { return Next::NotOurs };
        let dirty = frame.dirty;
        match frame.place {
            _ if frame.busy => Next::Wait,
            // A page that can be read, and faults: it was written. (Also one that should be writable, and faults again.)
            Place::Region
                if wish.write != Some(false)
                    && (!frame.writable || C::IS_HANDLER && frame.again > 0) =>
            {
                state.cache.hold(number);
                Next::Open { frame: number, dirty }
            }
            Place::Region => {
                if C::IS_HANDLER {
                    frame.again += 1;
                    if frame.again > MOST_REPEATS {
                        return Next::NotOurs;
                    }
                }
                if wish.pin {
                    state.cache.pin(number);
                }
                Next::Nothing
            }
            Place::Frame | Place::Nowhere => {
                state.cache.hold(number);
                Next::Rescue { frame: number, dirty }
            }
        }
    }

    /// A frame for a page that has none: one that has memory already, or else one for which the budget has some.
    fn look_for_room(&self, state: &mut State, page: Number) -> Next {
        let counted = state.cache.free_is_counted();
        if counted != Some(true) && (counted.is_some() || state.cache.has_new()) {
            if let Err(refused) = self.account.take_exactly(self.ground.page_bytes) {
                return Next::MakeRoom(Some(refused));
            }
            self.account.committed(self.ground.page_bytes);
        }
        let taken = match counted {
            Some(_) => state.cache.take_free(page),
            None => state.cache.take_new(page),
        };
        match taken {
            Some(frame) => {
                state.cache.count(frame, true);
                Next::Load(frame)
            }
            None => Next::MakeRoom(None),
        }
    }

    fn load<C: Caller>(&self, wish: Wish, frame: Number) -> Result<Done, Trouble> {
        let write = wish.write == Some(true);
        let filled = self.fill::<C>(wish, frame);
        let is_filled = filled.is_ok();
        let came = filled.and_then(|()| self.show(wish, frame, write));
        let row = self.with(|state| {
            if !is_filled {
                state.cache.free(frame);
                return 0;
            }
            if came.is_err() {
                // Parts of it may have been seen, and written.
                state.cache.settle(frame, Place::Frame, write, false);
                return 0;
            }
            state.cache.settle(frame, Place::Region, write, write);
            if wish.pin {
                state.cache.pin(frame);
            }
            // What is replaced as a whole says nothing about what will be read.
            let is_read = matches!(wish.source, Source::Store) && !C::READS_AHEAD;
            if is_read { state.note_load(wish.page) } else { 0 }
        });
        self.changed();
        came.map(|()| Done::Loaded { row })
    }

    /// Reads the pages after `page`, where the last `row` pages were touched one after the other: by lent threads, while
    /// this one goes on, or else by this thread, and then fewer.
    fn look_ahead<C: Caller>(&self, page: Number, row: Number) {
        let is_lent = self.jobs.has_threads();
        let bytes = if is_lent { self.read_ahead } else { self.read_ahead.min(MOST_AHEAD) };
        // (Pages that one instruction needs at once must not leave for those behind them.)
        let most = self.ground.whole_pages(bytes).min(self.ground.frames as usize / 8);
        let last = page.saturating_add(row.min(most as Number)).min(self.ground.pages - 1);
        for page in page + 1..=last {
            if self.with(|state| state.cache.frame_of(page).is_some()) {
                continue;
            }
            if is_lent {
                self.jobs.read_ahead(page);
                continue;
            }
            let (write, source) = (Some(false), Source::Store);
            let ahead = Wish { page, write, pin: false, source };
            if let Err(trouble) = self.fulfil_one::<C::Ahead>(ahead) {
                // It was a wish: whoever touches the page gets the error.
                return trouble.discard::<C>();
            }
        }
    }

    /// Gives a frame memory, and the memory its bytes.
    fn fill<C: Caller>(&self, wish: Wish, frame: Number) -> Result<(), Trouble> {
        let own = self.engine.own(self.ground, frame).map_err(Trouble::System)?;
        let (offset, len) = self.extent(wish.page);
        // SAFETY: the frame is held, and its page not in the region: nobody else uses its `page_bytes` bytes.
        unsafe {
            match wish.source {
                Source::Store => self.read_store::<C>(wish.page, offset, own, len)?,
                Source::Bytes(from) => {
                    fault::copy(own.as_ptr(), from, len).map_err(Trouble::of_source)?;
                }
                Source::Value(value) => own.as_ptr().write_bytes(value, len),
            }
            own.as_ptr().add(len).write_bytes(0, self.ground.page_bytes - len);
        }
        Ok(())
    }

    fn rescue(&self, wish: Wish, frame: Number, was_dirty: bool) -> Result<Done, Trouble> {
        let dirty = was_dirty || wish.write == Some(true);
        let shown = self.show(wish, frame, dirty);
        self.with(|state| {
            if shown.is_ok() {
                state.cache.is_wanted(frame);
                state.cache.settle(frame, Place::Region, dirty, dirty);
                if wish.pin {
                    state.cache.pin(frame);
                }
            } else {
                // Parts of it may have been seen, and written.
                state.cache.settle(frame, Place::Frame, dirty, false);
            }
        });
        self.changed();
        add(&self.counters.rescues, 1);
        shown.map(|()| Done::Rescued)
    }

    /// The first write to a page that can be read.
    fn open(&self, wish: Wish, frame: Number, was_dirty: bool) -> Result<Done, Trouble> {
        let opened = self.making_way(|| self.engine.protect(self.ground, frame, wish.page, false));
        self.with(|state| {
            let is_open = opened.is_ok();
            state.cache.settle(frame, Place::Region, was_dirty || is_open, is_open);
            if wish.pin && is_open {
                state.cache.pin(frame);
            }
        });
        self.changed();
        opened.map(|()| Done::Opened)
    }

    /// Waits until nobody holds a page's frame, and holds it, if there is one and `wanted` says so.
    pub(super) fn hold_page(
        &self,
        page: Number,
        wanted: impl Fn(&super::cache::Frame) -> bool,
    ) -> Option<Number> {
        loop {
            let moment = self.with(|state| {
                let Some(number) = state.cache.frame_of(page) else { return Ok(None) };
                let Some(frame) = state.cache.frame(number) else { return Ok(None) };
                if frame.busy {
                    return Err(self.moment());
                }
                if !wanted(frame) {
                    return Ok(None);
                }
                state.cache.hold(number);
                Ok(Some(number))
            });
            match moment {
                Ok(held) => return held,
                Err(moment) => self.wait(moment),
            }
        }
    }

    pub(super) fn settle_as_it_was(&self, number: Number) {
        self.with(|state| state.cache.settle_as_it_was(number));
        self.changed();
    }

    /// Ends a pin.
    pub(super) fn unpin(&self, page: Number) {
        self.with(|state| {
            if let Some(frame) = state.cache.frame_of(page) {
                state.cache.unpin(frame);
            }
        });
        self.changed();
    }
}

impl State {
    /// Returns how many pages before this one were touched in a row, by what was loaded: pages that were read ahead
    /// may lie between.
    fn note_load(&mut self, page: Number) -> Number {
        let steps = page.wrapping_sub(self.last_loaded);
        self.row = if (1..=self.row + 1).contains(&steps) { self.row + steps } else { 0 };
        self.last_loaded = page;
        self.row
    }
}

impl Trouble {
    /// The caller's own bytes could not be read.
    fn of_source(error: AccessError) -> Self {
        Self::Refused(error.refusal.reason)
    }
}
