//! How pages come, and how they go: every change of a frame, by whoever holds it.
//!
//! A thread decides under the lock what it is going to do, and holds the frame; it makes its system calls and calls
//! the store without the lock; then it settles the frame. It holds one frame at a time, except for a run of dirty
//! pages that it is writing, and waits for another's only while it holds none: so no cycle of threads waits.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use super::cache::{Number, Place};
use super::core::{Core, State, Trouble};
use super::stats::add;
use crate::error::{AccessError, RefusalReason};
use crate::fault;
use crate::os::{self, Cause, OsError};

/// On whose behalf a page is moved. A type, so that the handler's code contains nothing that only the others do.
pub(super) trait Caller {
    const IS_HANDLER: bool = false;
    const IS_LENT: bool = false;
}

/// The fault handler.
pub(super) struct Handler;
/// A method that the program called.
pub(super) struct Program;
/// A lent thread.
pub(super) struct Lent;

impl Caller for Handler {
    const IS_HANDLER: bool = true;
}
impl Caller for Program {}
impl Caller for Lent {
    const IS_LENT: bool = true;
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

/// What has to be done so that a frame becomes free.
enum Step {
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

/// A page that faults more often than this although it is accessible lost its access to the program itself.
const MOST_REPEATS: u32 = 10_000;
/// So many pages that cannot be written, or not taken out, are passed over before a fault is refused.
const MOST_FAILURES: u32 = 4;
/// So many pages cool at once at most, each time that room is needed.
const COOL_AT_ONCE: u32 = 2;
/// So many pages give way to a mapping that the system refuses.
const MOST_GIVING_WAY: u32 = 64;

impl Core {
    /// Brings a page into the region.
    pub(super) fn bring<C: Caller>(&self, page: Number, write: bool) -> Result<(), Trouble> {
        let write = Some(write);
        self.fulfil::<C>(Wish { page, write, pin: false, source: Source::Store })
    }

    /// Does what is wished; afterwards the page is in the region, at least for a moment (pinned: until it is unpinned).
    pub(super) fn fulfil<C: Caller>(&self, wish: Wish) -> Result<(), Trouble> {
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
                Next::Nothing => return Ok(()),
                Next::NotOurs => return Err(Trouble::NotOurs),
                // It may be the thread that the page's holder waits for.
                Next::Wait if C::IS_LENT => return Err(Trouble::GaveUp),
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

    fn load<C: Caller>(&self, wish: Wish, frame: Number) -> Result<(), Trouble> {
        let write = wish.write == Some(true);
        let filled = self.fill::<C>(wish, frame);
        let is_filled = filled.is_ok();
        let came = filled.and_then(|()| self.show(wish, frame, write));
        let ahead = self.with(|state| {
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
            let is_read = matches!(wish.source, Source::Store) && !C::IS_LENT;
            if is_read { state.note_load(wish.page) } else { 0 }
        });
        self.changed();
        if came.is_ok() {
            self.look_ahead(wish.page, ahead);
        }
        came
    }

    /// Has the pages after `page` read, where the last `row` pages were loaded one after the other.
    fn look_ahead(&self, page: Number, row: Number) {
        if row < 2 || !self.jobs.has_threads() {
            return;
        }
        let most = self.ground.whole_pages(self.read_ahead).min(self.ground.frames as usize / 4);
        let last = page.saturating_add(row.min(most as Number)).min(self.ground.pages - 1);
        for next in page + 1..=last {
            if self.with(|state| state.cache.frame_of(next).is_none()) {
                self.jobs.read_ahead(next);
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

    /// # Safety
    /// The bytes are the caller's.
    unsafe fn read_store<C: Caller>(
        &self,
        page: Number,
        offset: u64,
        bytes: NonNull<u8>,
        len: usize,
    ) -> Result<(), Trouble> {
        // SAFETY: the caller's promise.
        let read = unsafe { self.call_store::<C>(false, offset, bytes, len) };
        if let Err(error) = read {
            add(&self.counters.io_errors, 1);
            return Err(Trouble::store("read", page, error));
        }
        add(&self.counters.loads, 1);
        add(&self.counters.bytes_read, len as u64);
        Ok(())
    }

    /// # Safety
    /// The bytes are the caller's: for writing to the store, nobody changes them; for reading, nobody else uses them.
    unsafe fn call_store<C: Caller>(
        &self,
        write: bool,
        offset: u64,
        bytes: NonNull<u8>,
        len: usize,
    ) -> io::Result<()> {
        if C::IS_HANDLER {
            // SAFETY: the caller's promise.
            return unsafe { self.call_in_handler(write, offset, bytes, len) };
        }
        // SAFETY: the caller's promise.
        let call = || unsafe { self.call_here(write, offset, bytes, len) };
        // A store that panics must not leave a frame held for ever.
        catch_unwind(AssertUnwindSafe(call))
            .unwrap_or_else(|_| Err(io::Error::other("the store panicked")))
    }

    /// By C's rules, so that a store that panics ends the process: nothing may unwind out of a handler.
    ///
    /// # Safety
    /// As [`call_store`](Self::call_store).
    #[allow(improper_ctypes_definitions)] // only called from here
    #[inline(never)]
    unsafe extern "C" fn call_in_handler(
        &self,
        write: bool,
        offset: u64,
        bytes: NonNull<u8>,
        len: usize,
    ) -> io::Result<()> {
        // SAFETY: the caller's promise.
        unsafe {
            if self.store_in_handler {
                self.call_here(write, offset, bytes, len)
            } else {
                self.jobs.call(write, offset, bytes.as_ptr(), len)
            }
        }
    }

    /// # Safety
    /// As [`call_store`](Self::call_store).
    unsafe fn call_here(
        &self,
        write: bool,
        offset: u64,
        bytes: NonNull<u8>,
        len: usize,
    ) -> io::Result<()> {
        // SAFETY: the caller's promise.
        unsafe {
            if write {
                self.store.write(offset, std::slice::from_raw_parts(bytes.as_ptr(), len))
            } else {
                self.store.read(offset, std::slice::from_raw_parts_mut(bytes.as_ptr(), len))
            }
        }
    }

    /// Shows a page. Where the process has too many mappings, other pages give way.
    fn show(&self, wish: Wish, frame: Number, writable: bool) -> Result<(), Trouble> {
        self.making_way(|| self.engine.show(self.ground, frame, wish.page, writable))
    }

    /// Does what may need a mapping; where the process has too many, other pages give way.
    fn making_way(&self, operation: impl Fn() -> Result<(), OsError>) -> Result<(), Trouble> {
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
                let (page, dirty) = (state.cache.page_of(frame)?, state.cache.frame(frame)?.dirty);
                state.cache.hold(frame);
                Some((frame, page, dirty))
            });
            next.is_some_and(|(frame, page, dirty)| self.cool(frame, page, dirty).is_ok())
        })
    }

    fn rescue(&self, wish: Wish, frame: Number, was_dirty: bool) -> Result<(), Trouble> {
        let dirty = was_dirty || wish.write == Some(true);
        let shown = self.show(wish, frame, dirty);
        self.with(|state| {
            if shown.is_ok() {
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
        shown
    }

    /// The first write to a page that can be read.
    fn open(&self, wish: Wish, frame: Number, was_dirty: bool) -> Result<(), Trouble> {
        let opened = self.making_way(|| self.engine.protect(self.ground, frame, wish.page, false));
        self.with(|state| {
            let is_open = opened.is_ok();
            state.cache.settle(frame, Place::Region, was_dirty || is_open, is_open);
            if wish.pin && is_open {
                state.cache.pin(frame);
            }
        });
        self.changed();
        opened
    }

    /// Makes a frame free, or returns early where another thread may have done so. `refused` says why there is no new
    /// one.
    fn make_room<C: Caller>(&self, refused: Option<RefusalReason>) -> Result<(), Trouble> {
        if refused.is_some() && self.take_from_neighbour::<C>() {
            return Ok(());
        }
        let (mut cooled, mut failures) = (0, 0);
        loop {
            let (step, moment) = self.with(|state| {
                (
                    self.next_step(state, cooled < COOL_AT_ONCE, failures, refused.is_some()),
                    self.moment(),
                )
            });
            let failed = match step {
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
                Step::Wait if C::IS_LENT => return Err(Trouble::GaveUp),
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

    /// Decides what makes room, and holds the frame. An eighth of the frames cools, so that pages that are in use have
    /// the time to come back.
    fn next_step(&self, state: &mut State, may_cool: bool, failures: u32, refused: bool) -> Step {
        let cache = &mut state.cache;
        if cache.has_room(!refused) {
            return Step::Again;
        }
        let cools = cache.cooling();
        let goal = (cache.capacity() / 8).max(1);
        let next = match failures {
            0 => cache.next_to_cool().filter(|_| cools == 0 || may_cool && cools < goal),
            // What cools could not be written: one that needs no writing.
            _ => cache.next_clean_to_cool().or(cache.next_to_cool().filter(|_| cools == 0)),
        };
        if let Some(frame) = next {
            let dirty = cache.frame(frame).is_some_and(|frame| frame.dirty);
            let page = cache.page_of(frame).unwrap_or_default();
            cache.hold(frame);
            return Step::Cool { frame, page, dirty };
        }
        if let Some(frame) = cache.next_to_leave() {
            let dirty = cache.frame(frame).is_some_and(|frame| frame.dirty);
            let page = cache.page_of(frame).unwrap_or_default();
            cache.hold(frame);
            return if dirty { Step::Write { frame, page } } else { Step::Leave(frame) };
        }
        if cache.is_stuck() {
            return Step::Stuck { pinned: cache.pinned * self.ground.page_bytes };
        }
        Step::Wait
    }

    /// Takes a page, whose frame is held, out of the region, and settles the frame.
    fn cool(&self, frame: Number, page: Number, dirty: bool) -> Result<(), OsError> {
        let hidden = self.engine.hide(self.ground, frame, page);
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

    /// Writes a page that cools, and whose frame is held, to the store, and settles the frame.
    fn write_frame<C: Caller>(&self, frame: Number, page: Number) -> Result<(), Trouble> {
        let bytes = self.engine.bytes(self.ground, frame, page, false);
        let (offset, len) = self.extent(page);
        // SAFETY: the frame is held, and its page not in the region: nobody changes its bytes.
        let written = unsafe { self.write_store::<C>(page, offset, bytes, len) };
        self.with(|state| state.cache.settle(frame, Place::Frame, written.is_err(), false));
        self.changed();
        written
    }

    /// # Safety
    /// As [`call_store`](Self::call_store).
    unsafe fn write_store<C: Caller>(
        &self,
        page: Number,
        offset: u64,
        bytes: NonNull<u8>,
        len: usize,
    ) -> Result<(), Trouble> {
        // SAFETY: the caller's promise.
        match unsafe { self.call_store::<C>(true, offset, bytes, len) } {
            Ok(()) => {
                add(
                    &self.counters.write_backs,
                    self.ground.whole_pages(len + self.ground.page_bytes - 1) as u64,
                );
                add(&self.counters.bytes_written, len as u64);
                Ok(())
            }
            Err(error) => {
                add(&self.counters.io_errors, 1);
                Err(Trouble::store("write", page, error))
            }
        }
    }

    /// For a lent thread: writes one dirty page that cools; `false` where it could not be written.
    pub(super) fn write_one_back(&self) -> bool {
        let next = self.with(|state| {
            let frame = state.cache.next_to_write()?;
            let page = state.cache.page_of(frame)?;
            state.cache.hold(frame);
            Some((frame, page))
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

    /// For a neighbour: gives up the page that would be the next to leave, and its memory; `false` where none can.
    pub(super) fn give_up_one<C: Caller>(&self) -> bool {
        let can_write = !C::IS_HANDLER || self.store_in_handler || self.jobs.has_threads();
        for _ in 0..MOST_FAILURES {
            match self.with(|state| self.next_step(state, false, 0, true)) {
                Step::Cool { frame, page, dirty } => _ = self.cool(frame, page, dirty),
                Step::Write { frame, .. } if !can_write => {
                    self.settle_as_it_was(frame);
                    return false;
                }
                Step::Write { frame, page } => {
                    if let Err(trouble) = self.write_frame::<C>(frame, page) {
                        trouble.discard::<C>();
                    }
                }
                Step::Leave(frame) => return self.drop_frame(frame),
                Step::Again => {
                    let frame = self.with(|state| state.cache.take_free_to_empty());
                    return frame.is_some_and(|frame| self.drop_frame(frame));
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

    fn settle_as_it_was(&self, number: Number) {
        self.with(|state| state.cache.settle_as_it_was(number));
        self.changed();
    }

    /// Gives back the memory of a frame that is held, whose page is in the store; `false` where the system could not take
    /// it.
    fn drop_frame(&self, frame: Number) -> bool {
        let emptied = self.engine.empty(self.ground, frame);
        self.with(|state| {
            if emptied {
                state.cache.count(frame, false);
            }
            state.cache.free(frame);
        });
        if emptied {
            self.account.decommitted(self.ground.page_bytes);
        }
        self.changed();
        add(&self.counters.evictions, 1);
        emptied
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

impl Trouble {
    /// Frees what the store's error holds; not in the handler, where it holds nothing.
    fn discard<C: Caller>(self) {
        if !C::IS_HANDLER {
            self.into_store_error();
        }
    }

    /// The caller's own bytes could not be read.
    fn of_source(error: AccessError) -> Self {
        Self::Refused(error.refusal.reason)
    }
}
