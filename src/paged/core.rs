//! What a region is: everything that the program, the fault handler and the lent threads share.

use std::cell::{Cell, UnsafeCell};
use std::io;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::builder::SecondChance;
use super::cache::{Cache, Number};
use super::dropping::Lists;
use super::engines::{ChosenEngine, Ground};
use super::jobs::Jobs;
use super::rows::Rows;
use super::stats::Counters;
use super::store::PageStore;
use crate::error::{Error, RefusalReason};
use crate::fault::{self, EventRing, Registered};
use crate::os::{self, Expected, OsError};
use crate::reservation::Account;
use crate::sync::{AtomicUsize, SpinLock};

/// Everything but the store's type.
pub(super) struct Core {
    pub(super) ground: Ground,
    /// Bytes of the store.
    pub(super) len: usize,
    pub(super) engine: ChosenEngine,
    pub(super) store: Arc<dyn PageStore>,
    /// Whether the handler may call the store.
    pub(super) store_in_handler: bool,
    pub(super) account: Account,
    /// Bytes that are read at once where pages are touched one after the other.
    pub(super) read_ahead: usize,
    pub(super) second_chance: SecondChance,
    lock: SpinLock,
    /// Only for the holder of the lock.
    state: UnsafeCell<State>,
    /// Changes whenever a held frame settles, or a pin ends.
    changes: AtomicU32,
    waiting: AtomicU32,
    pub(super) jobs: Jobs,
    pub(super) dropping: Lists,
    pub(super) counters: Counters,
    pub(super) events: EventRing,
    /// This process is a child of the one that made the region.
    pub(super) is_left: AtomicBool,
    pub(super) registered: Registered,
    /// The number of the process that made the region.
    process: u64,
    /// See `neighbours.rs`.
    pub(super) next_region: Cell<*const Core>,
    /// Threads that use the core, and are not its region's: handlers that serve a fault, and neighbours that take a page.
    pub(super) guests: AtomicUsize,
}

/// What the lock protects.
pub(super) struct State {
    pub(super) cache: Cache,
    pub(super) rows: Rows,
    /// The program goes through the region from its start to its end.
    pub(super) is_sequential: bool,
}

// SAFETY: the state is used by the holder of the lock alone, the link by that of the list's; the pointers are to the
// core itself and to its own memory, whose parts belong to the holders of frames.
unsafe impl Send for Core {}
// SAFETY: as above.
unsafe impl Sync for Core {}

/// Why a page cannot be had.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Every page that could leave is pinned.
    Pinned {
        pinned: usize,
    },
    /// The budget is used up, and this region has no page to give up for another.
    Refused(RefusalReason),
    System(OsError),
    /// (Dropped by hand: the handler must not free memory, and what it may call allocates none.)
    Store {
        operation: &'static str,
        page: Number,
        error: ManuallyDrop<io::Error>,
    },
    ReadOnly,
    /// This process is a child of the one that made the region.
    Left,
    /// The program closed the descriptor of userfaultfd: what is missing reads zero.
    Closed,
    /// A lent thread gave up, since it must not wait.
    GaveUp,
    /// The page is there, and keeps faulting: the program took its access away.
    NotOurs,
}

impl Core {
    #[allow(clippy::too_many_arguments)] // each is a field
    pub(super) fn new(
        ground: Ground,
        len: usize,
        engine: ChosenEngine,
        store: Arc<dyn PageStore>,
        account: Account,
        read_ahead: usize,
        second_chance: SecondChance,
        expected: Expected,
        write_early: bool,
        events: usize,
        registered: Registered,
    ) -> Self {
        let cache = Cache::new(ground.pages, ground.frames);
        let store_in_handler = store.in_handler().is_some();
        Self {
            ground,
            len,
            engine,
            store,
            store_in_handler,
            account,
            read_ahead,
            second_chance,
            lock: SpinLock::new(),
            state: UnsafeCell::new(State {
                cache,
                rows: Rows::new(),
                is_sequential: expected == Expected::Sequential,
            }),
            changes: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            jobs: Jobs::new(write_early),
            dropping: Lists::default(),
            counters: Counters::default(),
            events: EventRing::new(events),
            is_left: AtomicBool::new(false),
            registered,
            process: os::process_mark(),
            next_region: Cell::new(std::ptr::null()),
            guests: AtomicUsize::new(0),
        }
    }

    /// Calls a function that neither waits nor makes system calls.
    pub(super) fn with<R>(&self, use_it: impl FnOnce(&mut State) -> R) -> R {
        self.lock.lock_in_handler();
        // SAFETY: this thread holds the lock.
        let result = use_it(unsafe { &mut *self.state.get() });
        self.lock.unlock();
        result
    }

    /// The same for a method of the program: a signal that comes meanwhile must not find the lock held by its own thread.
    pub(super) fn with_uninterrupted<R>(&self, use_it: impl FnOnce(&mut State) -> R) -> R {
        fault::uninterrupted(|| self.with(use_it))
    }

    /// Why nothing can be done with the region any more, if that is so.
    pub(super) fn check(&self) -> Result<(), Trouble> {
        if self.is_left() {
            return Err(Trouble::Left);
        }
        if self.engine.is_intact() { Ok(()) } else { Err(Trouble::Closed) }
    }

    /// Waits until nobody uses the core but its region.
    pub(super) fn wait_for_guests(&self) {
        let mut round = 0;
        while self.guests.load(Ordering::Acquire) > 0 && !self.is_left() {
            crate::sync::relax(&mut round);
        }
    }

    /// To be read while the lock is held; see [`wait`](Self::wait).
    pub(super) fn moment(&self) -> u32 {
        self.changes.load(Ordering::Acquire)
    }

    /// Waits until something [changed](Self::changed) after that moment. May return early.
    pub(super) fn wait(&self, moment: u32) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        os::wait_while(&self.changes, moment);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// A frame settled, or a pin ended.
    pub(super) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            os::wake(&self.changes, u32::MAX);
        }
    }

    pub(super) fn is_left(&self) -> bool {
        // (Also in a child by a bare `clone`, which calls no handlers: it would change the parent's pages.)
        self.is_left.load(Ordering::Relaxed) || os::process_mark() != self.process
    }

    /// Where a page begins in the store, and how many bytes of it the store has.
    pub(super) fn extent(&self, page: Number) -> (u64, usize) {
        let offset = page as usize * self.ground.page_bytes;
        (offset as u64, self.ground.page_bytes.min(self.len.saturating_sub(offset)))
    }

    /// The pages of a range of bytes.
    pub(super) fn pages(&self, start: usize, end: usize) -> std::ops::Range<Number> {
        let size = self.ground.page_bytes;
        if start >= end {
            return 0..0;
        }
        (start / size) as Number..end.div_ceil(size) as Number
    }

    /// Bytes of memory that the region holds.
    pub(super) fn held(&self) -> usize {
        self.account.own().used()
    }

    /// Bytes that all frames have.
    pub(super) fn capacity(&self) -> usize {
        self.ground.frames as usize * self.ground.page_bytes
    }

    /// What a user is told of a trouble.
    pub(super) fn error(&self, trouble: Trouble, offset: usize) -> Error {
        match trouble {
            Trouble::Pinned { pinned } => {
                Error::AllPinned { offset, pinned, limit: self.capacity() }
            }
            Trouble::Refused(reason) => {
                let refusal = crate::error::Refusal { offset, region: 0, reason };
                Error::of_commit(refusal, self.ground.page_bytes)
            }
            Trouble::System(error) => {
                Error::System { operation: "moving a page", source: error.into() }
            }
            Trouble::Store { operation, page, error } => {
                let source = ManuallyDrop::into_inner(error);
                Error::Store { operation, offset: self.extent(page).0, source }
            }
            Trouble::ReadOnly => Error::Unsupported { what: "writing to a read-only region" },
            Trouble::Left => Error::Unsupported {
                what: "a paged region in the child of a fork: make a new one there",
            },
            Trouble::Closed => Error::Unsupported {
                what: "a paged region after its descriptor of userfaultfd was closed (`close_range`): make regions \
                       afterwards, or use `Engine::Protect`",
            },
            Trouble::GaveUp | Trouble::NotOurs => {
                Error::Unsupported { what: "pages whose access the program took away by itself" }
            }
        }
    }

    /// The same for a plain access, without allocation.
    pub(super) fn reason(&self, trouble: &Trouble) -> RefusalReason {
        match trouble {
            Trouble::Pinned { pinned } => {
                RefusalReason::Pinned { pinned: *pinned, limit: self.capacity() }
            }
            Trouble::Refused(reason) => *reason,
            Trouble::System(error) => RefusalReason::System(*error),
            Trouble::Store { error, .. } => RefusalReason::Store(error.kind()),
            Trouble::ReadOnly => RefusalReason::ReadOnly,
            Trouble::Left | Trouble::Closed | Trouble::GaveUp | Trouble::NotOurs => {
                RefusalReason::Left
            }
        }
    }
}

impl Trouble {
    pub(super) fn store(operation: &'static str, page: Number, error: io::Error) -> Self {
        Self::Store { operation, page, error: ManuallyDrop::new(error) }
    }

    /// The store's error, if it is one. Not in the handler.
    pub(super) fn into_store_error(self) -> Option<io::Error> {
        match self {
            Self::Store { error, .. } => Some(ManuallyDrop::into_inner(error)),
            _ => None,
        }
    }
}
