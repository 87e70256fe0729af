//! Options for a paged region.

use std::ptr::{self, NonNull};
use std::sync::Arc;

use super::cache::{MOST_FRAMES, Number};
use super::core::Core;
use super::engines::{ChosenEngine, Ground};
use super::jobs;
use super::region::PagedRegion;
use super::serving::{forked, serve};
use super::store::PageStore;
use crate::error::Error;
use crate::fault::{self, Registered};
use crate::os::{self, Attributes, Expected, HugePages};
use crate::reservation::{Account, Budget, Engine};

/// When changed pages go back to the store: see [`PagedRegionBuilder::write_back`].
///
/// ```
/// assert_eq!(pagewise::WriteBack::default(), pagewise::WriteBack::Early);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriteBack {
    /// As soon as a page has not been touched for some time, by a lent thread, so that a fault seldom waits for a
    /// write. (Without [`io_threads`](PagedRegionBuilder::io_threads): as `Late`.)
    #[default]
    Early,
    /// When the page's room is needed, or at a [`flush`](PagedRegion::flush).
    Late,
}

/// Whether a page that is about to leave stays in memory for a while, out of the region, so that a touch brings it back
/// without the store: see [`PagedRegionBuilder::second_chance`].
///
/// ```
/// assert_eq!(pagewise::SecondChance::default(), pagewise::SecondChance::Measured);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecondChance {
    /// Unless the store's last reads took less than 8 µs each, in the mean, as those of a file in the system's cache do.
    #[default]
    Measured,
    /// Every page.
    Always,
    /// Changed pages alone, which have to be written first.
    Never,
}

/// Options for a [`PagedRegion`].
///
/// ```
/// use pagewise::{FileStore, PagedRegion, WriteBack};
///
/// let path = std::env::temp_dir().join(format!("pagewise-paged-builder-{}", std::process::id()));
/// let built = PagedRegion::builder(FileStore::create(&path, 1 << 30)?)
///     .page_bytes(1 << 16)  // bytes that one fault brings
///     .limit(64 << 20)      // bytes of memory
///     .io_threads(2)        // read ahead, and write back early
///     .read_ahead(1 << 20)
///     .write_back(WriteBack::Early)
///     .build();
/// # std::fs::remove_file(&path)?;
/// # if let Err(pagewise::Error::Unsupported { .. }) = built { return Ok(()) }
/// assert_eq!(built?.page_bytes(), 1 << 16);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder makes nothing until `build`"]
pub struct PagedRegionBuilder<S> {
    store: S,
    page_bytes: Option<usize>,
    limit: Option<usize>,
    budget: Option<Budget>,
    io_threads: usize,
    read_ahead: Option<usize>,
    write_back: WriteBack,
    second_chance: SecondChance,
    expected: Expected,
    read_only: bool,
    engine: Engine,
    events: usize,
}

/// One instruction may need so many pages at once: two that its source lies in, and two for its target.
const LEAST_FRAMES: usize = 4;

/// Bytes that are read ahead unless the program says otherwise, or lends many threads.
const LEAST_AHEAD: usize = 1 << 20;

/// The largest page: what a huge page has where pages are 4 KiB.
const MOST_PAGE_BYTES: usize = 2 << 20;

impl<S: PageStore + 'static> PagedRegionBuilder<S> {
    pub(super) fn new(store: S) -> Self {
        Self {
            store,
            page_bytes: None,
            limit: None,
            budget: None,
            io_threads: 0,
            read_ahead: None,
            write_back: WriteBack::default(),
            second_chance: SecondChance::default(),
            expected: Expected::default(),
            read_only: false,
            engine: Engine::Auto,
            events: 0,
        }
    }

    /// Bytes that come and go at once: a power of two, from the system's page size to 2 MiB. Small pages suit accesses
    /// here and there; pages of 2 MiB are the fastest way through all of a store.
    ///
    /// By default what the store [prefers](PageStore::preferred_bytes); otherwise 64 KiB, or less where the limit has
    /// fewer than 64 of these.
    ///
    /// ```
    /// use pagewise::{FileStore, PagedRegion};
    ///
    /// # let path = std::env::temp_dir().join(format!("pagewise-doc-b1-{}", std::process::id()));
    /// let store = FileStore::create(&path, 1 << 20)?;
    /// # std::fs::remove_file(&path)?;
    /// let built = PagedRegion::builder(store).page_bytes(1 << 16).build();
    /// # let Ok(mut region) = built else { return Ok(()) };
    /// assert_eq!(region.page_bytes(), 1 << 16);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn page_bytes(mut self, bytes: usize) -> Self {
        self.page_bytes = Some(bytes);
        self
    }

    /// The most bytes of memory that the region holds, at every moment: rounded down to whole pages. By default as many as
    /// the store has, so that no page ever leaves.
    ///
    /// Of that, the userfault engine sets some aside. Where the region is not [read-only](Self::read_only), a 64th, at least
    /// two pages and at most 16, for pages that were copied and have memory twice for a while. Where pages are the system's,
    /// a 128th, at most eight pages, for the buffers that they are read into; of the 16, as many fewer are for copies.
    ///
    /// ```
    /// use pagewise::{FileStore, PagedRegion};
    ///
    /// # let path = std::env::temp_dir().join(format!("pagewise-doc-b2-{}", std::process::id()));
    /// let store = FileStore::create(&path, 1 << 20)?;
    /// # std::fs::remove_file(&path)?;
    /// let built = PagedRegion::builder(store).limit(1 << 18).build();
    /// # let Ok(mut region) = built else { return Ok(()) };
    /// region.fill(.., 1)?;
    /// assert!(region.stats().resident <= 1 << 18);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn limit(mut self, bytes: usize) -> Self {
        self.limit = Some(bytes);
        self
    }

    /// Takes the memory from a budget that the region shares, too. Where the budget is used up, a page gives up its
    /// room: of the paged region of the same budget that holds the most, if that is more than twice what this
    /// one holds, or else of this one.
    ///
    /// ```
    /// use pagewise::{FileStore, PagedRegion};
    ///
    /// # let path = std::env::temp_dir().join(format!("pagewise-doc-b3-{}", std::process::id()));
    /// let store = FileStore::create(&path, 1 << 20)?;
    /// # std::fs::remove_file(&path)?;
    /// let built = PagedRegion::builder(store).budget(pagewise::Budget::new(1 << 18)).build();
    /// # let Ok(mut region) = built else { return Ok(()) };
    /// region.fill(.., 1)?;
    /// assert!(region.stats().resident <= 1 << 18);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Lends the region so many threads, named `pagewise-io`, from [`build`](Self::build) until it is dropped: they read
    /// ahead, write changed pages back, and call the store where the fault handler must not
    /// ([`PageStore::in_handler`]). None by default.
    ///
    /// ```
    /// use pagewise::{FileStore, PagedRegion};
    ///
    /// # let path = std::env::temp_dir().join(format!("pagewise-doc-b4-{}", std::process::id()));
    /// let store = FileStore::create(&path, 1 << 20)?;
    /// # std::fs::remove_file(&path)?;
    /// let built = PagedRegion::builder(store).io_threads(2).build();
    /// # let Ok(mut region) = built else { return Ok(()) };
    /// region.fill(.., 1)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn io_threads(mut self, count: usize) -> Self {
        self.io_threads = count;
        self
    }

    /// How many bytes at most are read ahead of pages that are touched one after the other: by the
    /// [`io_threads`](Self::io_threads), while the program goes on, and no more than a quarter of the limit. Each of these
    /// threads reads one page at a time; so many more pages as are read ahead make up for some that take longer than others.
    /// Without such threads, the touch that brings a page also reads those ahead, and waits for them: at most 128 KiB.
    ///
    /// By default 1 MiB, or two pages for each of the threads, if that is more; 0 reads nothing ahead.
    ///
    /// ```
    /// use pagewise::{FileStore, PagedRegion};
    ///
    /// # let path = std::env::temp_dir().join(format!("pagewise-doc-b5-{}", std::process::id()));
    /// let store = FileStore::create(&path, 1 << 20)?;
    /// # std::fs::remove_file(&path)?;
    /// let built = PagedRegion::builder(store).io_threads(1).read_ahead(256 << 10).build();
    /// # let Ok(mut region) = built else { return Ok(()) };
    /// assert!(region.pin(..1000)?.iter().all(|&byte| byte == 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read_ahead(mut self, bytes: usize) -> Self {
        self.read_ahead = Some(bytes);
        self
    }

    /// Remembers this many fault events (rounded up to a power of two, at least two) until they are
    /// [taken](crate::PagedRegion::events). None by default. What does not fit is counted
    /// ([`events_lost`](crate::PagedStats::events_lost)).
    ///
    /// ```
    /// use pagewise::{FileStore, PagedRegion};
    ///
    /// # let path = std::env::temp_dir().join(format!("pagewise-doc-b9-{}", std::process::id()));
    /// let store = FileStore::create(&path, 1 << 20)?;
    /// # std::fs::remove_file(&path)?;
    /// let built = PagedRegion::builder(store).page_bytes(1 << 16).read_ahead(0).events(2).build();
    /// # let Ok(region) = built else { return Ok(()) };
    /// // SAFETY: nobody else writes to the file.
    /// assert_eq!(unsafe { region.as_slice() }.iter().map(|&byte| u32::from(byte)).sum::<u32>(), 0);
    /// assert_eq!((region.events().count(), region.stats().events_lost), (2, 14)); // of 16 pages
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn events(mut self, capacity: usize) -> Self {
        self.events = capacity;
        self
    }

    /// When changed pages go back to the store. By default early.
    ///
    /// ```
    /// use pagewise::{FileStore, PagedRegion};
    ///
    /// # let path = std::env::temp_dir().join(format!("pagewise-doc-b6-{}", std::process::id()));
    /// let store = FileStore::create(&path, 1 << 20)?;
    /// # std::fs::remove_file(&path)?;
    /// let built = PagedRegion::builder(store).write_back(pagewise::WriteBack::Late).build();
    /// # let Ok(mut region) = built else { return Ok(()) };
    /// region.write(0, b"some time")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn write_back(mut self, when: WriteBack) -> Self {
        self.write_back = when;
        self
    }

    /// Whether a page that is about to leave gets a second chance. An eighth of the pages in memory wait for theirs. By
    /// default that is measured: where the store is as quick as memory, the room is worth more, and to drop pages takes
    /// less time than to move them (a third of it, where the kernel drops many at once: from Linux 6.16 on).
    ///
    /// This is about pages of the system's size (see [`page_bytes`](Self::page_bytes)), of the userfault engine, and where
    /// the limit and the store have at least 128 of them. All others get their chance always.
    ///
    /// ```
    /// use pagewise::{FileStore, PagedRegion, SecondChance};
    ///
    /// # let path = std::env::temp_dir().join(format!("pagewise-doc-b10-{}", std::process::id()));
    /// let store = FileStore::create(&path, 1 << 20)?;
    /// # std::fs::remove_file(&path)?;
    /// let builder = PagedRegion::builder(store).page_bytes(pagewise::page_size()).limit(3 << 18);
    /// let built = builder.second_chance(SecondChance::Never).build();
    /// # let Ok(region) = built else { return Ok(()) };
    /// assert!(region.pin(..1000)?.iter().all(|&byte| byte == 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn second_chance(mut self, which: SecondChance) -> Self {
        self.second_chance = which;
        self
    }

    /// How the program is going to access the region. [`Sequential`](Expected::Sequential): from its start to its end, so that
    /// pages leave as soon as the program has gone past them: a scan then uses the same few pages of memory again, which
    /// the processor has in its cache, and the others stay. [`Random`](Expected::Random): here and there, so that nothing is
    /// read ahead. The others have no effect: [`prefetch`](PagedRegion::prefetch) brings what is needed soon.
    ///
    /// ```
    /// use pagewise::{Expected, FileStore, PagedRegion};
    ///
    /// # let program = FileStore::builder(std::env::current_exe()?).read_only(true).open()?;
    /// let built = PagedRegion::builder(program).limit(1 << 20).expected(Expected::Sequential).build();
    /// # let Ok(region) = built else { return Ok(()) };
    /// // SAFETY: nobody writes to the file.
    /// let sum: u64 = unsafe { region.as_slice() }.iter().map(|&byte| u64::from(byte)).sum();
    /// # assert!(sum > 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn expected(mut self, expected: Expected) -> Self {
        self.expected = expected;
        self
    }

    /// Forbids writing to the region. Pages then come and go by the fastest way.
    ///
    /// ```
    /// use pagewise::{FileStore, PagedRegion};
    ///
    /// # let path = std::env::temp_dir().join(format!("pagewise-doc-b7-{}", std::process::id()));
    /// let store = FileStore::create(&path, 1 << 20)?;
    /// # std::fs::remove_file(&path)?;
    /// let built = PagedRegion::builder(store).read_only().build();
    /// # let Ok(mut region) = built else { return Ok(()) };
    /// assert!(region.write(0, b"no").is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// How pages appear and leave: [`Engine::UserFault`] (Linux 6.8, where userfaultfd is allowed), or
    /// [`Engine::Protect`], which takes a mapping for each page in memory. By default the first of them that works.
    ///
    /// ```
    /// use pagewise::{FileStore, PagedRegion};
    ///
    /// # let path = std::env::temp_dir().join(format!("pagewise-doc-b8-{}", std::process::id()));
    /// let store = FileStore::create(&path, 1 << 20)?;
    /// # std::fs::remove_file(&path)?;
    /// let built = PagedRegion::builder(store).engine(pagewise::Engine::Protect).build();
    /// # let Ok(mut region) = built else { return Ok(()) };
    /// assert_eq!(region.engine(), pagewise::Engine::Protect);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn engine(mut self, engine: Engine) -> Self {
        self.engine = engine;
        self
    }

    /// Makes the region. Reads nothing yet.
    ///
    /// # Errors
    /// [`Unsupported`](Error::Unsupported) on systems other than Linux, for an engine that does not work here, for a page
    /// size that is none of those above, and for a store that cannot be called in a fault handler without
    /// [`io_threads`](Self::io_threads); [`ZeroLength`](Error::ZeroLength) for an empty store;
    /// [`Overflow`](Error::Overflow) for one that is larger than the address space or has 2³² pages or more;
    /// [`LimitReached`](Error::LimitReached) for a limit of less than four pages (or all pages, if the store has fewer; two more where pages are copied);
    /// [`AddressSpaceExhausted`](Error::AddressSpaceExhausted); [`BudgetReached`](Error::BudgetReached);
    /// [`System`](Error::System).
    ///
    /// ```
    /// use pagewise::{FileStore, PagedRegion};
    ///
    /// # let path = std::env::temp_dir().join(format!("pagewise-doc-b9-{}", std::process::id()));
    /// let store = FileStore::create(&path, 1 << 20)?;
    /// # std::fs::remove_file(&path)?;
    /// let built = PagedRegion::builder(store).page_bytes(3).build();
    /// assert!(matches!(built, Err(pagewise::Error::Unsupported { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn build(self) -> Result<PagedRegion<S>, Error> {
        if cfg!(any(not(target_os = "linux"), miri, pagewise_model)) {
            return Err(Error::Unsupported { what: "paged regions on systems other than Linux" });
        }
        if self.store.in_handler().is_none() && self.io_threads == 0 {
            return Err(Error::Unsupported {
                what: "a store that a fault handler must not call, without threads: lend some by `.io_threads`",
            });
        }
        fault::install()?;
        let len = usize::try_from(self.store.len())
            .ok()
            .filter(|&len| len <= isize::MAX as usize - MOST_PAGE_BYTES)
            .ok_or(Error::Overflow { requested: usize::MAX })?;
        let ground = self.ground(len)?;
        let io_threads = self.io_threads;
        let (core, store) = self.core(len, ground)?;
        let threads = jobs::start(&core, io_threads);
        let region = PagedRegion::new(core, store);
        region.with_threads(threads?)
    }

    /// The sizes; the addresses come later.
    fn ground(&self, len: usize) -> Result<Ground, Error> {
        if len == 0 {
            return Err(Error::ZeroLength);
        }
        let page_bytes = self.size(len)?;
        let pages = Number::try_from(len.div_ceil(page_bytes))
            .ok()
            .filter(|&pages| pages < Number::MAX - 1)
            .ok_or(Error::Overflow { requested: len })?;
        let limit = self.limit.unwrap_or(usize::MAX) / page_bytes;
        let read_only = self.read_only;
        let needed = limit.min(pages as usize);
        let besides = ChosenEngine::besides(self.engine, needed, page_bytes, read_only);
        let frames = limit.saturating_sub(besides.pages()).min(pages as usize).min(MOST_FRAMES);
        let least = LEAST_FRAMES.min(pages as usize);
        if frames < least {
            let requested = (besides.pages() + least) * page_bytes;
            let limit = self.limit.unwrap_or_default();
            return Err(Error::LimitReached { offset: 0, requested, used: 0, limit });
        }
        let (start, frames) = (NonNull::dangling(), frames as Number);
        Ok(Ground { start, page_bytes, pages, frames, besides, read_only })
    }

    fn size(&self, len: usize) -> Result<usize, Error> {
        let least = os::page_size();
        let size = self.page_bytes.or(self.store.preferred_bytes()).unwrap_or_else(|| {
            let most = (self.limit.unwrap_or(len) / 64).max(1).ilog2();
            (1usize << most).clamp(least, (64 << 10).max(least))
        });
        if !size.is_power_of_two() || size < least || size > MOST_PAGE_BYTES.max(least) {
            return Err(Error::Unsupported {
                what: "a page size that is no power of two from the system's page size to 2 MiB",
            });
        }
        Ok(size)
    }

    /// Reserves the addresses, and registers them.
    fn core(self, len: usize, mut ground: Ground) -> Result<(Arc<Core>, Arc<S>), Error> {
        let besides = ground.besides.pages() * ground.page_bytes;
        let account =
            Account::new(ground.frames as usize * ground.page_bytes + besides, self.budget);
        if besides > 0 {
            account.take_exactly(besides).map_err(|reason| {
                let refusal = crate::error::Refusal { offset: 0, region: 0, reason };
                Error::of_commit(refusal, besides)
            })?;
            account.committed(besides);
        }
        let align = ground.page_bytes.max(os::reserve_granularity());
        let attributes =
            Attributes { huge_pages: HugePages::Never, charged: false, ..Attributes::PLAIN };
        os::watch_forks().map_err(|error| Error::System {
            operation: "watching for forks",
            source: error.into(),
        })?;
        // From now on, a child knows that it is one.
        os::mark_process().map_err(|error| Error::System {
            operation: "marking the process",
            source: error.into(),
        })?;
        ground.start = os::reserve(ground.len(), align, &attributes).map_err(|error| {
            Error::AddressSpaceExhausted { requested: ground.len(), source: error.into() }
        })?;
        let engine = match ChosenEngine::new(self.engine, ground) {
            Ok(engine) => engine,
            Err(error) => {
                // SAFETY: the addresses were reserved above.
                let _ = unsafe { os::release(ground.start, ground.len()) };
                return Err(error);
            }
        };
        let start = ground.start.addr().get();
        let end = start + ground.len();
        let registered = Registered {
            guests: ptr::null(),
            start,
            end,
            owner: ptr::null(),
            file: &[],
            serve,
            forked,
        };
        let store = Arc::new(self.store);
        let usual = LEAST_AHEAD.max(self.io_threads.saturating_mul(2 * ground.page_bytes));
        let read_ahead = match self.expected {
            Expected::Random => 0,
            _ => self.read_ahead.unwrap_or(usual),
        };
        let write_early = self.write_back == WriteBack::Early;
        let mut core = Arc::new(Core::new(
            ground,
            len,
            engine,
            store.clone(),
            account,
            read_ahead,
            self.second_chance,
            self.expected,
            write_early,
            self.events,
            registered,
        ));
        let owner = Arc::as_ptr(&core).cast();
        if let Some(core) = Arc::get_mut(&mut core) {
            core.registered.owner = owner;
            // The store may take long, and may drop regions itself.
            core.registered.guests = &raw const core.guests;
        }
        // SAFETY: the core stays where it is until the region is dropped, which ends both first.
        unsafe {
            fault::register(&core.registered);
            fault::uninterrupted(|| core.join_neighbours());
        }
        Ok((core, store))
    }
}
