//! How a page appears in a region, and leaves it.

mod shared;
mod userfault;

use std::ptr::NonNull;

use super::cache::Number;
use crate::error::Error;
use crate::os::{OsError, Span};
use crate::reservation::Engine;

use shared::Shared;
use userfault::UserFault;

/// The addresses and sizes of a region.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ground {
    /// The region's first byte.
    pub(super) start: NonNull<u8>,
    /// Bytes of a page of the region: a power of two, and a multiple of the system's.
    pub(super) page_bytes: usize,
    pub(super) pages: Number,
    pub(super) frames: Number,
    pub(super) besides: Besides,
    /// The program never writes to the region.
    pub(super) read_only: bool,
}

/// How many pages more than there are frames may have memory.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Besides {
    /// Pages that were copied, and have memory twice for a while.
    pub(super) copies: Number,
    /// Pages of memory that a page is read into before it is copied to the region.
    pub(super) buffers: Number,
}

impl Besides {
    pub(super) fn pages(self) -> usize {
        self.copies as usize + self.buffers as usize
    }
}

impl Ground {
    /// Bytes of the region: whole pages.
    pub(super) fn len(&self) -> usize {
        self.pages as usize * self.page_bytes
    }

    /// How many whole pages so many bytes are. (A shift: a division could panic.)
    pub(super) fn whole_pages(&self, bytes: usize) -> usize {
        bytes >> self.page_bytes.trailing_zeros()
    }

    pub(super) fn page(&self, page: Number) -> NonNull<u8> {
        debug_assert!(page < self.pages);
        // SAFETY: inside the region.
        unsafe { self.start.add(page as usize * self.page_bytes) }
    }

    /// Bytes of all frames.
    fn frames_len(&self) -> usize {
        self.frames as usize * self.page_bytes
    }

    fn offset(&self, frame: Number) -> usize {
        debug_assert!(frame < self.frames);
        frame as usize * self.page_bytes
    }
}

/// What an engine does. All but [`new`](Self::new), [`empty`](Self::empty) and [`release`](Self::release) are
/// async-signal-safe.
///
/// For all functions: the caller holds the frame. A page is in the region from [`show`](Self::show) to
/// [`hide`](Self::hide); outside of that, each touch of it faults. Where a function fails, the page is where
/// it was.
trait Mechanism: Sized {
    /// What is needed beside the frames, of a limit of so many pages.
    fn besides(limit: usize, page_bytes: usize, read_only: bool) -> Besides;

    /// Whether [`hide`](Self::hide) that fails may have changed something.
    const MAY_STOP_HALF_WAY: bool;

    fn new(ground: Ground) -> Result<Self, OsError>;

    /// Gives a frame memory, with any contents, and returns its address: `page_bytes` bytes, readable and writable
    /// while the page is not in the region. `stays` says that the page is not to be shown at once.
    fn own(&self, ground: Ground, frame: Number, stays: bool) -> Result<NonNull<u8>, OsError>;

    /// Where the bytes of a page can be read, while nobody writes to them.
    fn bytes(&self, ground: Ground, frame: Number, page: Number, shown: bool) -> NonNull<u8>;

    /// The page appears in the region, as a whole, with what its frame holds. Where it is not `writable`, the first write
    /// faults, unless the region is read-only.
    fn show(
        &self,
        ground: Ground,
        frame: Number,
        page: Number,
        writable: bool,
    ) -> Result<(), OsError>;

    /// The page leaves the region; its frame holds its bytes.
    fn hide(&self, ground: Ground, frame: Number, page: Number) -> Result<(), OsError>;

    /// Whether [`drop_pages`](Self::drop_pages) takes less time than [`hide`](Self::hide) of the same pages.
    fn drops(ground: Ground) -> bool;

    /// Pages leave the region, and their bytes are lost: for each its frame, which has no memory then, and its number.
    /// `spans` is room for as many. Returns how many left: fewer, from the first one on, where one cannot.
    fn drop_pages(
        &self,
        ground: Ground,
        frames: &[(Number, Number)],
        spans: &mut [Span],
    ) -> Result<usize, OsError>;

    /// Whether the next write to a page in the region faults.
    fn protect(
        &self,
        ground: Ground,
        frame: Number,
        page: Number,
        protected: bool,
    ) -> Result<(), OsError>;

    /// Gives the memory of a frame without a page back to the system; `false` where it could not.
    fn empty(&self, ground: Ground, frame: Number) -> bool;

    /// Whether a touch of a page that is not shown still faults.
    fn is_intact(&self) -> bool;

    /// In the child of a fork: each touch of the region faults. Async-signal-safe.
    fn leave_to_parent(&self, ground: Ground);

    /// Unmaps everything.
    fn release(&self, ground: Ground);
}

/// The engines, and calls of the one that was chosen.
#[derive(Debug)]
pub(super) enum ChosenEngine {
    UserFault(UserFault),
    Shared(Shared),
}

macro_rules! chosen {
    ($self:ident, $engine:ident => $call:expr) => {
        match $self {
            ChosenEngine::UserFault($engine) => $call,
            ChosenEngine::Shared($engine) => $call,
        }
    };
}

impl ChosenEngine {
    /// See [`Mechanism::besides`].
    pub(super) fn besides(
        engine: Engine,
        limit: usize,
        page_bytes: usize,
        read_only: bool,
    ) -> Besides {
        match Self::decide(engine) {
            Engine::UserFault => UserFault::besides(limit, page_bytes, read_only),
            _ => Shared::besides(limit, page_bytes, read_only),
        }
    }

    /// [`Engine::Auto`] is the fastest one that the system allows.
    pub(super) fn decide(engine: Engine) -> Engine {
        match engine {
            Engine::Auto if crate::os::pages_move() => Engine::UserFault,
            Engine::Auto => Engine::Protect,
            other => other,
        }
    }

    pub(super) fn new(engine: Engine, ground: Ground) -> Result<Self, Error> {
        match Self::decide(engine) {
            Engine::UserFault => match UserFault::new(ground) {
                Ok(made) => Ok(Self::UserFault(made)),
                Err(_) if engine == Engine::Auto => Self::shared(ground),
                Err(_) => Err(Error::Unsupported {
                    what: "pages by the userfault engine: it needs Linux 6.8, and a system (or container) that \
                           allows userfaultfd; `Engine::Auto` takes what there is",
                }),
            },
            Engine::Protect => Self::shared(ground),
            _ => Err(Error::Unsupported {
                what: "pages from a store by the guard engine; `Engine::Auto` takes what there is",
            }),
        }
    }

    fn shared(ground: Ground) -> Result<Self, Error> {
        let made = Shared::new(ground).map_err(|error| Error::System {
            operation: "memory for pages",
            source: error.into(),
        })?;
        Ok(Self::Shared(made))
    }

    pub(super) fn name(&self) -> Engine {
        match self {
            Self::UserFault(_) => Engine::UserFault,
            Self::Shared(_) => Engine::Protect,
        }
    }

    pub(super) fn own(
        &self,
        ground: Ground,
        frame: Number,
        stays: bool,
    ) -> Result<NonNull<u8>, OsError> {
        chosen!(self, engine => engine.own(ground, frame, stays))
    }

    pub(super) fn bytes(
        &self,
        ground: Ground,
        frame: Number,
        page: Number,
        shown: bool,
    ) -> NonNull<u8> {
        chosen!(self, engine => engine.bytes(ground, frame, page, shown))
    }

    pub(super) fn show(
        &self,
        ground: Ground,
        frame: Number,
        page: Number,
        writable: bool,
    ) -> Result<(), OsError> {
        chosen!(self, engine => engine.show(ground, frame, page, writable))
    }

    pub(super) fn hide(&self, ground: Ground, frame: Number, page: Number) -> Result<(), OsError> {
        chosen!(self, engine => engine.hide(ground, frame, page))
    }

    pub(super) fn drops(&self, ground: Ground) -> bool {
        match self {
            Self::UserFault(_) => UserFault::drops(ground),
            Self::Shared(_) => Shared::drops(ground),
        }
    }

    pub(super) fn drop_pages(
        &self,
        ground: Ground,
        frames: &[(Number, Number)],
        spans: &mut [Span],
    ) -> Result<usize, OsError> {
        chosen!(self, engine => engine.drop_pages(ground, frames, spans))
    }

    pub(super) fn protect(
        &self,
        ground: Ground,
        frame: Number,
        page: Number,
        protected: bool,
    ) -> Result<(), OsError> {
        chosen!(self, engine => engine.protect(ground, frame, page, protected))
    }

    pub(super) fn empty(&self, ground: Ground, frame: Number) -> bool {
        chosen!(self, engine => engine.empty(ground, frame))
    }

    pub(super) fn may_stop_half_way(&self) -> bool {
        match self {
            Self::UserFault(_) => UserFault::MAY_STOP_HALF_WAY,
            Self::Shared(_) => Shared::MAY_STOP_HALF_WAY,
        }
    }

    pub(super) fn is_intact(&self) -> bool {
        chosen!(self, engine => engine.is_intact())
    }

    pub(super) fn leave_to_parent(&self, ground: Ground) {
        chosen!(self, engine => engine.leave_to_parent(ground));
    }

    pub(super) fn release(&self, ground: Ground) {
        chosen!(self, engine => engine.release(ground));
    }
}
