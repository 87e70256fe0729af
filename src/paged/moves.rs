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
    /// Whether the page, if it has to be loaded, becomes a mark: see `cache.rs`. Only for callers that read ahead.
    pub(super) mark: bool,
    /// Whether somebody touches the page now, and not perhaps later.
    pub(super) is_touch: bool,
    /// Only for callers that read ahead: whether others of the region's pages may leave for it where the budget is used up.
    pub(super) takes_own: bool,
    /// The budget had no memory for it.
    pub(super) was_refused: bool,
}

impl Wish {
    /// To have a page with what the store has of it.
    pub(super) fn of_store(page: Number, write: Option<bool>) -> Self {
        let source = Source::Store;
        Self {
            page,
            write,
            pin: false,
            source,
            mark: false,
            is_touch: true,
            takes_own: true,
            was_refused: false,
        }
    }
}

/// Why a page is brought before it is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ahead {
    /// The program said so.
    AsTold,
    /// Pages before it were touched in a row.
    InRow,
    /// The same, and it becomes a mark.
    Mark,
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
    /// The first touch of a mark; so many pages before it were touched in a row.
    Reached {
        row: Number,
    },
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
    /// Brings a page into the region for reading, and no others.
    pub(super) fn bring<C: Caller>(&self, page: Number) -> Result<(), Trouble> {
        let wish = Wish { is_touch: false, ..Wish::of_store(page, Some(false)) };
        self.fulfil_one::<C>(wish).map(|_| ())
    }

    /// For a lent thread: brings a page before it is touched.
    pub(super) fn bring_ahead(&self, page: Number, ahead: Ahead) -> Result<(), Trouble> {
        let (mark, takes_own) = (ahead == Ahead::Mark, ahead != Ahead::AsTold);
        let wish = Wish { mark, takes_own, is_touch: false, ..Wish::of_store(page, Some(false)) };
        self.fulfil_one::<Lent>(wish).map(|_| ())
    }

    /// Does what is wished; afterwards the page is in the region, at least for a moment (pinned: until it is unpinned).
    pub(super) fn fulfil<C: Caller>(&self, wish: Wish) -> Result<Done, Trouble> {
        let done = self.fulfil_one::<C>(wish)?;
        let (Done::Loaded { row } | Done::Reached { row }) = done else { return Ok(done) };
        // Lent threads begin after the second page in a row, since all that a wrong guess costs is their time. This thread
        // begins after the third. And a page that is read ahead faults again when it is written: so where this thread
        // would have to read it, and the program writes, reading ahead saves no fault.
        let is_worth_it = match self.jobs.has_threads() {
            true => row >= 1,
            false => row >= 2 && wish.write != Some(true),
        };
        if is_worth_it {
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
                Next::MakeRoom(refused) => {
                    wish.was_refused |= refused.is_some();
                    self.make_room::<C>(refused, wish.takes_own)?;
                }
                Next::Load(frame) => return self.load::<C>(wish, frame),
                Next::Rescue { frame, dirty } => return self.rescue(wish, frame, dirty),
                Next::Open { frame, dirty } => return self.open(wish, frame, dirty),
            }
        }
    }

    fn look<C: Caller>(&self, state: &mut State, wish: Wish) -> Next {
        let Some(number) = state.cache.frame_of(wish.page) else {
            return self.look_for_room(state, wish);
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
            // Whoever reads ahead is not who is to touch it.
            Place::Frame if C::READS_AHEAD && frame.mark => Next::Nothing,
            Place::Frame | Place::Nowhere => {
                state.cache.hold(number);
                Next::Rescue { frame: number, dirty }
            }
        }
    }

    /// A frame for a page that has none: one that has memory already, or else one for which the budget has some.
    fn look_for_room(&self, state: &mut State, wish: Wish) -> Next {
        let counted = state.cache.free_is_counted();
        if counted != Some(true) && (counted.is_some() || state.cache.has_new()) {
            let taken = self.account.take_exactly(self.ground.page_bytes);
            // (What a neighbour gave for this page is no more than that.)
            state.cache.note_budget(taken.is_err() || wish.was_refused);
            if let Err(refused) = taken {
                return Next::MakeRoom(Some(refused));
            }
            self.account.committed(self.ground.page_bytes);
        }
        let taken = match counted {
            Some(_) => state.cache.take_free(wish.page),
            None => state.cache.take_new(wish.page),
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
        if is_filled && wish.mark && !C::IS_HANDLER {
            self.with(|state| state.cache.settle_as_mark(frame));
            self.changed();
            return Ok(Done::Loaded { row: 0 });
        }
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
            let is_read = matches!(wish.source, Source::Store) && wish.is_touch;
            if is_read { state.note_touch(wish.page) } else { 0 }
        });
        self.changed();
        came.map(|()| Done::Loaded { row })
    }

    /// Reads the pages after `page`, where the last `row` pages were touched one after the other: by lent threads, while
    /// this one goes on, or else by this thread, and then fewer.
    fn look_ahead<C: Caller>(&self, page: Number, row: Number) {
        // Pages that one instruction needs at once must not leave for those behind them.
        let eighth = self.with(|state| state.cache.in_reach()) / 8;
        if self.jobs.has_threads() {
            let most = self.ground.whole_pages(self.read_ahead).min(2 * eighth);
            let (ahead, most) = (row.saturating_mul(2), most as Number);
            let asked = self.with(|state| state.ask_ahead(page, ahead, most, self.ground.pages));
            return self.jobs.more_to_do(asked);
        }
        let most = self.ground.whole_pages(self.read_ahead.min(MOST_AHEAD)).min(eighth);
        let most = row.min(most as Number);
        let last = page.saturating_add(most).min(self.ground.pages - 1);
        for page in page + 1..=last {
            if self.with(|state| state.cache.frame_of(page).is_some()) {
                continue;
            }
            if let Err(trouble) = self.bring::<C::Ahead>(page) {
                // It was a wish: whoever touches the page gets the error.
                return trouble.discard::<C>();
            }
        }
    }

    /// Gives a frame memory, and the memory its bytes.
    fn fill<C: Caller>(&self, wish: Wish, frame: Number) -> Result<(), Trouble> {
        let own = self.engine.own(self.ground, frame, wish.mark).map_err(Trouble::System)?;
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
        let done = self.with(|state| {
            let was_mark = state.cache.frame(frame).is_some_and(|frame| frame.mark);
            if shown.is_ok() {
                // (That of a mark is its first touch.)
                if !was_mark && wish.is_touch {
                    state.cache.is_wanted(frame);
                }
                state.cache.settle(frame, Place::Region, dirty, dirty);
                if wish.pin {
                    state.cache.pin(frame);
                }
            } else {
                // Parts of it may have been seen, and written.
                state.cache.settle(frame, Place::Frame, dirty, false);
            }
            match wish.source {
                _ if !was_mark => Done::Rescued,
                Source::Store => Done::Reached { row: state.note_touch(wish.page) },
                // What is replaced as a whole says nothing about what will be read.
                _ => Done::Reached { row: 0 },
            }
        });
        self.changed();
        if done == Done::Rescued && wish.is_touch {
            add(&self.counters.rescues, 1);
        }
        shown.map(|()| done)
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

impl Trouble {
    /// The caller's own bytes could not be read.
    fn of_source(error: AccessError) -> Self {
        Self::Refused(error.refusal.reason)
    }
}

#[cfg(all(test, target_os = "linux", not(loom), not(any(miri, pagewise_model))))]
mod tests {
    use super::*;
    use crate::{
        Budget, FaultOutcome, FileStore, PagedRegion, PagedRegionBuilder, WriteBack, page_size,
    };

    fn builder(name: &str) -> PagedRegionBuilder<FileStore> {
        let path = std::env::temp_dir().join(format!("pagewise-{name}-{}", std::process::id()));
        let store = FileStore::create(&path, 64 * page_size() as u64).unwrap();
        std::fs::remove_file(&path).unwrap();
        PagedRegion::builder(store).page_bytes(page_size())
    }

    fn cool(core: &Core, page: Number) {
        let (frame, dirty) = core.with(|state| {
            let frame = state.cache.frame_of(page).unwrap();
            (frame, state.cache.hold_with_page(frame).1)
        });
        core.cool(frame, page, dirty).unwrap();
    }

    #[test]
    fn a_mark_is_no_rescue_and_reading_ahead_again_leaves_it() {
        let region = builder("mark").events(4).build().unwrap();
        let mark_of = |page| {
            region.core.with(|state| {
                let frame = state.cache.frame_of(page)?;
                state.cache.frame(frame).map(|frame| (frame.place, frame.mark))
            })
        };
        for _ in 0..2 {
            region.core.bring_ahead(5, Ahead::Mark).unwrap();
            assert_eq!(mark_of(5), Some((Place::Frame, true)));
        }
        // SAFETY: nobody else writes to the file.
        assert_eq!(unsafe { region.as_slice() }[5 * page_size()], 0);
        assert_eq!(mark_of(5), Some((Place::Region, false)));
        let stats = region.stats();
        assert_eq!((stats.faults, stats.loads, stats.rescues), (1, 1, 0));
        assert_eq!(region.events().count(), 0);
        // The first write to a page is told, also where it is the first touch of a mark.
        let mut region = region;
        region.core.bring_ahead(7, Ahead::Mark).unwrap();
        // SAFETY: nobody else writes to the file.
        let bytes = unsafe { region.as_mut_slice() };
        bytes[7 * page_size()] = 1;
        let last = region.events().last().unwrap().outcome;
        assert_eq!(last, FaultOutcome::Changed { start: 7 * page_size(), len: page_size() });
        assert_eq!(region.stats().dirty, page_size());
    }

    /// It brings back what is about to leave; but nobody touched that.
    #[test]
    fn reading_ahead_rescues_nothing() {
        let region = builder("cool").build().unwrap();
        (5..7).for_each(|page| region.core.bring::<Program>(page).unwrap());
        let before = region.core.with(|state| state.cache.before_hand());
        let place = || {
            region.core.with(|state| {
                state.cache.frame_of(5).map(|frame| state.cache.frame(frame).unwrap().place)
            })
        };
        for is_touch in [false, true] {
            cool(&region.core, 5);
            assert_eq!(place(), Some(Place::Frame));
            if is_touch {
                region.read(5 * page_size(), &mut [0]).unwrap();
            } else {
                region.core.bring_ahead(5, Ahead::InRow).unwrap();
            }
            assert_eq!(place(), Some(Place::Region));
            assert_eq!(region.stats().rescues, u64::from(is_touch));
            let now = region.core.with(|state| state.cache.before_hand());
            assert_eq!(now, before - usize::from(is_touch), "what is touched is behind the hand");
        }
    }

    #[test]
    fn a_mark_that_nobody_touches_leaves_as_any_page() {
        let region = builder("left-mark").limit(20 * page_size()).build().unwrap();
        (0..4).for_each(|page| region.core.bring_ahead(page, Ahead::Mark).unwrap());
        (4..64).for_each(|page| region.core.bring::<Program>(page).unwrap());
        assert!((0..4).all(|page| region.core.with(|state| state.cache.frame_of(page)).is_none()));
        assert!(region.stats().resident <= 20 * page_size());
    }

    /// What is read ahead comes behind the other pages before the hand, and would take the room of its own first ones.
    #[test]
    fn less_is_read_ahead_where_most_pages_are_in_use() {
        const FRAMES: usize = 48;
        let region = builder("in-use").limit(FRAMES * page_size()).read_only().build().unwrap();
        (0..FRAMES as Number).for_each(|page| region.core.bring::<Program>(page).unwrap());
        let all = region.core.with(|state| state.cache.before_hand());
        assert_eq!((all, region.core.ground.frames as usize), (FRAMES, FRAMES));
        let ask = |page| {
            region.core.with(|state| {
                state.note_touch(page);
                let asked = state.ask_ahead(page, 12, 12, 1 << 20);
                let taken = std::iter::from_fn(|| state.rows.take_ahead()).collect::<Vec<_>>();
                assert_eq!(taken.len(), asked as usize);
                taken
            })
        };
        // A sixteenth of the frames at once, of which every third is a mark.
        assert_eq!(ask(100), [(101, true), (102, false), (103, false)]);
        assert_eq!(ask(103), [(104, true), (105, false), (106, false)]);
        let are_in_use = |pages: std::ops::Range<Number>| {
            region.core.with(|state| {
                for page in pages {
                    let Some(frame) = state.cache.frame_of(page) else { continue };
                    state.cache.hold(frame);
                    state.cache.is_wanted(frame);
                    state.cache.settle(frame, Place::Region, false, false);
                }
            });
        };
        are_in_use(0..34);
        // Fourteen are left: so seven are ahead, of which the other row has a half.
        let pages = |page| ask(page).into_iter().map(|(page, _)| page).collect::<Vec<_>>();
        assert_eq!(pages(200), [201, 202, 203]);
        assert_eq!(pages(202), [204, 205]);
        assert_eq!(pages(203), [206]);
        assert_eq!(pages(204), [207]);
        // Less than a quarter is left.
        are_in_use(34..37);
        assert!(ask(300).is_empty());
    }

    #[test]
    fn reading_ahead_writes_nothing_back() {
        let builder = builder("dirty").limit(20 * page_size()).write_back(WriteBack::Late);
        let mut region = builder.build().unwrap();
        let frames = region.core.ground.frames as usize;
        region.fill(..frames * page_size(), 1).unwrap();
        // Two cool, and keep their order.
        [3, 1].into_iter().for_each(|page| cool(&region.core, page));
        let is_next = |page| {
            region.core.with(|state| state.cache.next_to_write() == state.cache.frame_of(page))
        };
        for ahead in [Ahead::AsTold, Ahead::InRow, Ahead::Mark] {
            for page in frames as Number..64 {
                let brought = region.core.bring_ahead(page, ahead);
                assert!(matches!(brought, Err(Trouble::GaveUp)), "{brought:?}");
                assert!(is_next(3));
            }
        }
        let stats = region.stats();
        assert_eq!((stats.write_backs, stats.loads), (0, 0));
        assert_eq!(stats.dirty, frames * page_size());
        // A touch may.
        region.read(63 * page_size(), &mut [0]).unwrap();
        assert_eq!(region.stats().write_backs, 1);
    }

    #[test]
    fn reading_ahead_takes_nothing_from_neighbours() {
        let budget = Budget::new(40 * page_size());
        let [rich, poor] =
            ["rich", "poor"].map(|name| builder(name).budget(budget.clone()).build().unwrap());
        poor.read(0, &mut [0]).unwrap();
        for page in 0..64 {
            rich.read(page * page_size(), &mut [0]).unwrap();
        }
        let (held, page) = (rich.stats().resident, poor.core.pages(page_size(), page_size() + 1));
        for ahead in [Ahead::AsTold, Ahead::InRow, Ahead::Mark] {
            let brought = poor.core.bring_ahead(page.start, ahead);
            assert!(matches!(brought, Err(Trouble::GaveUp)), "{brought:?}");
            assert_eq!(rich.stats().resident, held);
        }
        // A touch may.
        poor.read(page_size(), &mut [0]).unwrap();
        assert!(rich.stats().resident < held);
    }
}
