//! The region: what the program holds.

use std::fmt;
use std::io;
use std::ops::RangeBounds;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::builder::PagedRegionBuilder;
use super::cache::{Frame, Number};
use super::core::{Core, Trouble};
use super::jobs;
use super::moves::Program;
use super::pin::{Pinned, PinnedMut, pin};
use super::stats::{PagedStats, add};
use super::store::PageStore;
use crate::error::Error;
use crate::fault::{self, FaultEvent};
use crate::os;
use crate::page::index_range;
use crate::reservation::Engine;

/// Memory whose pages come from a [`PageStore`] when they are touched, and go back to it when there are too many: so
/// that a program works with more than its memory holds, as one slice.
///
/// The builder's [`limit`](PagedRegionBuilder::limit) is the most memory that the region takes. Where a page needs room,
/// a page that has not been touched for long gives up its own; if it was changed, it is written to the
/// store first.
///
/// What [`flush`](Self::flush) returned `Ok` for is in the store, and synced. Nothing more is promised: no order between
/// pages, no transactions. A region that is dropped writes its changed pages back, but cannot tell of an error.
///
/// A plain access to a page that cannot be read ends the process, as any bad access does, with a line that says
/// so. [`read`](Self::read), [`write`](Self::write), [`fill`](Self::fill) and [`pin`](Self::pin) return an error
/// instead.
///
/// On Linux only. After a fork, the child cannot access the region; its own regions work.
///
/// ```
/// use pagewise::{FileStore, PagedRegion};
///
/// let path = std::env::temp_dir().join(format!("pagewise-paged-{}", std::process::id()));
/// // A gigabyte in a file (sparse), of which at most 4 MiB are in memory.
/// let store = FileStore::create(&path, 1 << 30)?;
/// let Ok(mut region) = PagedRegion::builder(store).limit(4 << 20).build() else {
///     return Ok(()); // this system has no paged regions
/// };
/// // SAFETY: nobody else writes to the file.
/// let bytes = unsafe { region.as_mut_slice() };
/// for at in (0..1 << 30).step_by(10_000_000) {
///     bytes[at] = 1;
/// }
/// assert_eq!(bytes.iter().step_by(10_000_000).map(|&byte| u32::from(byte)).sum::<u32>(), 108);
/// region.flush(..)?;
/// assert!(region.stats().resident <= 4 << 20);
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct PagedRegion<S: PageStore + 'static> {
    pub(super) core: Arc<Core>,
    store: Arc<S>,
    threads: Vec<JoinHandle<()>>,
}

/// Where a page is: see [`PagedRegion::page_map`].
///
/// ```
/// use pagewise::PagedState;
///
/// /// How a program may show it.
/// fn letter(state: PagedState) -> char {
///     match state {
///         PagedState::Absent => '.',
///         PagedState::Clean => 'o',
///         PagedState::Dirty => 'x',
///         _ => '~', // in flight
///     }
/// }
/// assert_eq!(letter(PagedState::InFlight), '~');
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PagedState {
    /// Only in the store.
    Absent,
    /// In memory, as the store has it.
    Clean,
    /// In memory, and changed.
    Dirty,
    /// On its way in, out, or to the store.
    InFlight,
}

impl<S: PageStore + 'static> PagedRegion<S> {
    /// Makes a builder for a region over a store.
    ///
    /// ```
    /// use pagewise::{FileStore, PagedRegion};
    ///
    /// let program = FileStore::builder(std::env::current_exe()?).read_only(true).open()?;
    /// let built = PagedRegion::builder(program).limit(1 << 20).read_only().build();
    /// # if let Err(pagewise::Error::Unsupported { .. }) = built { return Ok(()) }
    /// println!("{:?} begins with {:x?}", std::env::current_exe()?, &built?.pin(..4)?[..]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn builder(store: S) -> PagedRegionBuilder<S> {
        PagedRegionBuilder::new(store)
    }

    pub(super) fn new(core: Arc<Core>, store: Arc<S>) -> Self {
        Self { core, store, threads: Vec::new() }
    }

    pub(super) fn with_threads(mut self, threads: Vec<JoinHandle<()>>) -> Result<Self, Error> {
        self.threads = threads;
        Ok(self)
    }

    /// Bytes of the region: as many as its store had when it was built.
    ///
    /// ```
    /// # use pagewise::{FileStore, PagedRegion};
    /// # let program = FileStore::builder(std::env::current_exe()?).read_only(true).open()?;
    /// # let Ok(region) = PagedRegion::builder(program).limit(1 << 20).build() else { return Ok(()) };
    /// assert_eq!(region.len() as u64, std::fs::metadata(std::env::current_exe()?)?.len());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn len(&self) -> usize {
        self.core.len
    }

    /// Always `false`: an empty store has no region.
    ///
    /// ```
    /// # use pagewise::{FileStore, PagedRegion};
    /// # let program = FileStore::builder(std::env::current_exe()?).read_only(true).open()?;
    /// # let Ok(region) = PagedRegion::builder(program).limit(1 << 20).build() else { return Ok(()) };
    /// assert!(!region.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the region was built [read-only](PagedRegionBuilder::read_only).
    ///
    /// ```
    /// # use pagewise::{FileStore, PagedRegion};
    /// # let program = FileStore::builder(std::env::current_exe()?).read_only(true).open()?;
    /// # let Ok(region) = PagedRegion::builder(program).limit(1 << 20).build() else { return Ok(()) };
    /// assert!(!region.is_read_only());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_read_only(&self) -> bool {
        self.core.ground.read_only
    }

    /// Bytes that come and go at once.
    ///
    /// ```
    /// # use pagewise::{FileStore, PagedRegion};
    /// # let program = FileStore::builder(std::env::current_exe()?).read_only(true).open()?;
    /// # let Ok(region) = PagedRegion::builder(program).limit(1 << 20).build() else { return Ok(()) };
    /// assert!(region.page_bytes().is_power_of_two());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn page_bytes(&self) -> usize {
        self.core.ground.page_bytes
    }

    /// Bytes of memory that the region holds at most.
    ///
    /// ```
    /// # use pagewise::{FileStore, PagedRegion};
    /// # let program = FileStore::builder(std::env::current_exe()?).read_only(true).open()?;
    /// # let Ok(region) = PagedRegion::builder(program).limit(1 << 20).build() else { return Ok(()) };
    /// assert!(region.limit() <= 1 << 20);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn limit(&self) -> usize {
        self.core.account.own().limit()
    }

    /// How pages appear and leave: never [`Engine::Auto`].
    ///
    /// ```
    /// # use pagewise::{FileStore, PagedRegion};
    /// # let program = FileStore::builder(std::env::current_exe()?).read_only(true).open()?;
    /// # let Ok(region) = PagedRegion::builder(program).limit(1 << 20).build() else { return Ok(()) };
    /// println!("pages appear by {:?}", region.engine());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn engine(&self) -> Engine {
        self.core.engine.name()
    }

    /// The store.
    ///
    /// ```
    /// # use pagewise::{FileStore, PagedRegion};
    /// # let program = FileStore::builder(std::env::current_exe()?).read_only(true).open()?;
    /// # let Ok(region) = PagedRegion::builder(program).limit(1 << 20).build() else { return Ok(()) };
    /// use pagewise::PageStore;
    ///
    /// assert_eq!(region.store().len() as usize, region.len());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The address of the first byte. Aligned to [`page_bytes`](Self::page_bytes).
    ///
    /// ```
    /// # use pagewise::{FileStore, PagedRegion};
    /// # let program = FileStore::builder(std::env::current_exe()?).read_only(true).open()?;
    /// # let Ok(region) = PagedRegion::builder(program).limit(1 << 20).build() else { return Ok(()) };
    /// assert_eq!(region.as_ptr().addr() % region.page_bytes(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn as_ptr(&self) -> *const u8 {
        self.core.ground.start.as_ptr()
    }

    /// All of the store, as memory. A touch of a page that is not in memory reads it from the store.
    ///
    /// # Safety
    /// As long as the slice lives, the store gives for each page what it gave before, or what was written there: nobody
    /// else changes its bytes. (The compiler may read a byte twice, and expects the same value, while the page may have
    /// left and come back in between.) [`read`](Self::read) and [`pin`](Self::pin) ask for nothing.
    ///
    /// A system call on the slice fails with `EFAULT` where a page is not in memory: [`pin`](Self::pin) the range
    /// first.
    ///
    /// ```
    /// # use pagewise::{FileStore, PagedRegion};
    /// # let program = FileStore::builder(std::env::current_exe()?).read_only(true).open()?;
    /// # let Ok(region) = PagedRegion::builder(program).limit(1 << 20).build() else { return Ok(()) };
    /// // SAFETY: nobody writes to a program while it runs.
    /// let bytes = unsafe { region.as_slice() };
    /// let zeros = bytes.iter().filter(|&&byte| byte == 0).count(); // all of the file
    /// assert!(region.stats().resident <= 1 << 20);
    /// # assert!(zeros > 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub unsafe fn as_slice(&self) -> &[u8] {
        // SAFETY: the region lives as long as this value, and each access is served by the fault handler, or ends the
        // process, also in the child of a fork. Bytes change only by an exclusive borrow, and the caller's promise.
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.len()) }
    }

    /// The same for writing. Changed pages go back to the store when their room is needed, or by
    /// [`flush`](Self::flush). Threads may write to parts of the slice at the same time.
    ///
    /// In a [read-only](PagedRegionBuilder::read_only) region: an empty slice.
    ///
    /// # Safety
    /// As for [`as_slice`](Self::as_slice).
    ///
    /// ```
    /// # use pagewise::{FileStore, PagedRegion};
    /// # let path = std::env::temp_dir().join(format!("pagewise-doc-mut-{}", std::process::id()));
    /// # let store = FileStore::create(&path, 1 << 20)?;
    /// # std::fs::remove_file(&path)?;
    /// # let Ok(mut region) = PagedRegion::builder(store).limit(1 << 18).build() else { return Ok(()) };
    /// // SAFETY: nobody else writes to the file.
    /// let bytes = unsafe { region.as_mut_slice() };
    /// bytes[500_000..].fill(7);
    /// assert_eq!(bytes[499_999..500_001], [0, 7]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub unsafe fn as_mut_slice(&mut self) -> &mut [u8] {
        let len = if self.core.ground.read_only { 0 } else { self.len() };
        // SAFETY: as above; this value is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.core.ground.start.as_ptr(), len) }
    }

    /// Has the pages of a range read before they are touched: by the lent threads, while this one goes on, or else by
    /// this thread. Rounds outward to whole pages; no more pages than the limit has room for.
    ///
    /// # Errors
    /// [`OutOfBounds`](Error::OutOfBounds), [`ReversedRange`](Error::ReversedRange); where this thread reads, as
    /// [`read`](Self::read).
    ///
    /// ```
    /// # use pagewise::{FileStore, PagedRegion};
    /// # let program = FileStore::builder(std::env::current_exe()?).read_only(true).open()?;
    /// # let Ok(region) = PagedRegion::builder(program).limit(1 << 20).build() else { return Ok(()) };
    /// region.prefetch(..4096)?; // before it is needed
    /// assert!(region.pin(..4096)?.contains(&0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn prefetch(&self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        let (start, end) = index_range(range, self.len())?;
        self.check_process(start)?;
        let pages = self.core.pages(start, end);
        let pages = pages.start..pages.end.min(pages.start.saturating_add(self.core.ground.frames));
        if self.core.jobs.has_threads() {
            fault::uninterrupted(|| self.core.jobs.read_ahead(pages));
            return Ok(());
        }
        for page in pages {
            fault::uninterrupted(|| self.core.bring::<Program>(page))
                .map_err(|trouble| self.error(trouble, page))?;
        }
        Ok(())
    }

    /// Brings the pages of a range, and keeps them in memory until the guard is dropped: the guard is the slice, whose
    /// accesses never fault, and which system calls can use.
    ///
    /// # Errors
    /// As [`read`](Self::read), and [`ReversedRange`](Error::ReversedRange). No page stays pinned then.
    ///
    /// ```
    /// # use pagewise::{FileStore, PagedRegion};
    /// # let program = FileStore::builder(std::env::current_exe()?).read_only(true).open()?;
    /// # let Ok(region) = PagedRegion::builder(program).limit(1 << 20).build() else { return Ok(()) };
    /// let start = region.pin(..4096)?;
    /// assert!(region.stats().pinned >= 4096);
    /// drop(start);
    /// assert_eq!(region.stats().pinned, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn pin(&self, range: impl RangeBounds<usize>) -> Result<Pinned<'_>, Error> {
        let (start, end) = index_range(range, self.len())?;
        let pages = pin(&self.core, start, end, false)?;
        // SAFETY: inside the region; the borrow keeps the region, and others from writing. Pinned pages do not leave, so
        // that the store is not asked for them again.
        let bytes = unsafe { std::slice::from_raw_parts(self.as_ptr().add(start), end - start) };
        Ok(Pinned::new(pages, bytes))
    }

    /// The same for writing: all pages of the range count as changed.
    ///
    /// # Errors
    /// As [`pin`](Self::pin); [`Unsupported`](Error::Unsupported) in a read-only region.
    ///
    /// ```
    /// # use pagewise::{FileStore, PagedRegion};
    /// # let path = std::env::temp_dir().join(format!("pagewise-doc-pin-{}", std::process::id()));
    /// # let store = FileStore::create(&path, 1 << 20)?;
    /// # std::fs::remove_file(&path)?;
    /// # let Ok(mut region) = PagedRegion::builder(store).limit(1 << 18).build() else { return Ok(()) };
    /// let mut place = region.pin_mut(10_000..10_100)?;
    /// std::io::Read::read(&mut std::io::repeat(3), &mut place)?; // a system call could write there, too
    /// drop(place);
    /// assert_eq!(region.pin(10_050..10_051)?[..], [3]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn pin_mut(&mut self, range: impl RangeBounds<usize>) -> Result<PinnedMut<'_>, Error> {
        let (start, end) = index_range(range, self.len())?;
        let pages = pin(&self.core, start, end, true)?;
        let first = self.core.ground.start.as_ptr().wrapping_add(start);
        // SAFETY: inside the region, which is borrowed exclusively.
        let bytes = unsafe { std::slice::from_raw_parts_mut(first, end - start) };
        Ok(PinnedMut::new(pages, bytes))
    }

    /// Writes all changed pages of a range to the store, and has it sync. Rounds outward to whole pages.
    ///
    /// What other threads write meanwhile may or may not be among it.
    ///
    /// # Errors
    /// [`Store`](Error::Store): the first error, after all pages were tried. Pages that could not be written stay in
    /// memory, changed. [`OutOfBounds`](Error::OutOfBounds), [`ReversedRange`](Error::ReversedRange),
    /// [`System`](Error::System), [`Unsupported`](Error::Unsupported) in the child of a fork.
    ///
    /// ```
    /// # use pagewise::{FileStore, PagedRegion};
    /// # let path = std::env::temp_dir().join(format!("pagewise-doc-flush-{}", std::process::id()));
    /// # let store = FileStore::create(&path, 1 << 20)?;
    /// # std::fs::remove_file(&path)?;
    /// # let Ok(mut region) = PagedRegion::builder(store).limit(1 << 18).build() else { return Ok(()) };
    /// region.write(0, b"kept")?;
    /// assert!(region.stats().dirty > 0);
    /// region.flush(..)?; // in the file from here on
    /// assert_eq!(region.stats().dirty, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn flush(&self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        let (start, end) = index_range(range, self.len())?;
        self.check_process(start)?;
        self.write_back(start, end)?;
        self.store.sync().map_err(|source| {
            add(&self.core.counters.io_errors, 1);
            Error::Store { operation: "sync", offset: start as u64, source }
        })
    }

    pub(super) fn check_process(&self, offset: usize) -> Result<(), Error> {
        self.core.check().map_err(|trouble| self.core.error(trouble, offset))
    }

    fn write_back(&self, start: usize, end: usize) -> Result<(), Error> {
        let pages = self.resident(start, end, |frame| frame.dirty || frame.busy);
        let mut result = Ok(());
        let mut done = 0;
        for page in pages {
            if page < done {
                continue;
            }
            let last = self.core.pages(start, end).end;
            let (count, written) = fault::uninterrupted(|| self.core.write_run(page, last));
            done = page + count;
            result = result.and(written.map_err(|trouble| self.error(trouble, page)));
        }
        result
    }

    /// The pages of a range whose frame is as wanted, in ascending order.
    fn resident(&self, start: usize, end: usize, wanted: impl Fn(&Frame) -> bool) -> Vec<Number> {
        let pages = self.core.pages(start, end);
        // Room before the lock is taken: a page fault of the allocator could wait for the lock.
        let most = (self.core.ground.frames as usize).min(pages.len());
        let mut found = Vec::with_capacity(most);
        self.core.with_uninterrupted(|state| {
            let cache = &state.cache;
            let mut look = |frame| {
                if let (Some(page), Some(about)) = (cache.page_of(frame), cache.frame(frame))
                    && pages.contains(&page)
                    && wanted(about)
                    && found.len() < most
                {
                    found.push(page);
                }
            };
            if pages.len() < cache.used() as usize {
                pages.clone().filter_map(|page| cache.frame_of(page)).for_each(&mut look);
            } else {
                (0..cache.used()).for_each(&mut look);
            }
        });
        found.sort_unstable();
        found
    }

    /// Has the pages of a range leave the memory, which goes back to the system. Changed pages are written first; pinned
    /// ones stay. Rounds outward to whole pages.
    ///
    /// # Errors
    /// As [`flush`](Self::flush): [`Store`](Error::Store) and others.
    ///
    /// ```
    /// # use pagewise::{FileStore, PagedRegion};
    /// # let program = FileStore::builder(std::env::current_exe()?).read_only(true).open()?;
    /// # let Ok(region) = PagedRegion::builder(program).limit(1 << 20).build() else { return Ok(()) };
    /// region.prefetch(..100_000)?;
    /// let before = region.stats().resident;
    /// region.evict(..)?;
    /// assert!(region.stats().resident < before);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn evict(&self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        let (start, end) = index_range(range, self.len())?;
        self.check_process(start)?;
        let mut result = self.write_back(start, end);
        for page in self.resident(start, end, |frame| frame.pins == 0) {
            let evicted = fault::uninterrupted(|| self.core.evict_page(page));
            result = result.and(evicted.map_err(|trouble| self.error(trouble, page)));
        }
        fault::uninterrupted(|| self.core.empty_free_frames());
        result
    }

    /// Says that a range is not needed any more: its pages are the next that give up their room. Rounds inward to whole
    /// pages.
    ///
    /// # Errors
    /// [`OutOfBounds`](Error::OutOfBounds), [`ReversedRange`](Error::ReversedRange).
    ///
    /// ```
    /// # use pagewise::{FileStore, PagedRegion};
    /// # let program = FileStore::builder(std::env::current_exe()?).read_only(true).open()?;
    /// # let Ok(region) = PagedRegion::builder(program).limit(1 << 20).build() else { return Ok(()) };
    /// for part in (0..region.len()).step_by(1 << 16) {
    ///     let end = (part + (1 << 16)).min(region.len());
    ///     let _sum = region.pin(part..end)?.iter().fold(0u8, |sum, byte| sum ^ byte);
    ///     region.done_with(part..end)?; // others may need the room
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn done_with(&self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        let (start, end) = index_range(range, self.len())?;
        let size = self.page_bytes();
        let inner_end = if end == self.len() { end } else { end / size * size };
        let first = start.div_ceil(size) * size;
        // The last becomes the first: so the first of the range leaves first.
        for page in self.resident(first, inner_end.max(first), |_| true).into_iter().rev() {
            self.core.with_uninterrupted(|state| {
                if let Some(frame) = state.cache.frame_of(page) {
                    state.cache.expect_no_more(frame);
                }
            });
        }
        Ok(())
    }

    /// What happened so far, and what is in memory.
    ///
    /// ```
    /// # use pagewise::{FileStore, PagedRegion};
    /// # let program = FileStore::builder(std::env::current_exe()?).read_only(true).open()?;
    /// # let Ok(region) = PagedRegion::builder(program).limit(1 << 20).build() else { return Ok(()) };
    /// println!("{:?}", region.stats());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stats(&self) -> PagedStats {
        let size = self.page_bytes();
        let (dirty, pinned) = self
            .core
            .with_uninterrupted(|state| (state.cache.dirty * size, state.cache.pinned * size));
        let resident = self.core.held();
        let events_lost = self.core.events.lost();
        PagedStats { resident, dirty, pinned, events_lost, ..self.core.counters.read() }
    }

    /// Takes the fault events since the last call, oldest first: as many as the builder's
    /// [`events`](PagedRegionBuilder::events) made room for. What methods bring, such as [`pin`](Self::pin), and what is
    /// read ahead leaves no event.
    ///
    /// ```
    /// # use pagewise::{FaultOutcome, FileStore, PagedRegion};
    /// # let path = std::env::temp_dir().join(format!("pagewise-doc-events-{}", std::process::id()));
    /// # let store = FileStore::create(&path, 1 << 20)?;
    /// # std::fs::remove_file(&path)?;
    /// let builder = PagedRegion::builder(store).page_bytes(1 << 16).events(16);
    /// # let Ok(mut region) = builder.build() else { return Ok(()) };
    /// // SAFETY: nobody else writes to the file.
    /// unsafe { region.as_mut_slice()[100_000] = 1 };
    /// let event = region.events().next().expect("a page came");
    /// assert_eq!(event.outcome, FaultOutcome::Loaded { start: 1 << 16, len: 1 << 16 });
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn events(&self) -> impl Iterator<Item = FaultEvent> + '_ {
        std::iter::from_fn(|| self.core.events.pop())
    }

    /// Where the pages of a range are, in ascending order. Rounds outward to whole pages.
    ///
    /// # Errors
    /// [`OutOfBounds`](Error::OutOfBounds), [`ReversedRange`](Error::ReversedRange).
    ///
    /// ```
    /// # use pagewise::{FileStore, PagedRegion};
    /// # let path = std::env::temp_dir().join(format!("pagewise-doc-map-{}", std::process::id()));
    /// # let store = FileStore::create(&path, 1 << 20)?;
    /// # std::fs::remove_file(&path)?;
    /// # let Ok(mut region) = PagedRegion::builder(store).limit(1 << 18).build() else { return Ok(()) };
    /// use pagewise::PagedState;
    ///
    /// region.write(0, b"changed")?;
    /// let map = region.page_map(..)?;
    /// assert_eq!((map[0], map[1]), (PagedState::Dirty, PagedState::Absent));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn page_map(&self, range: impl RangeBounds<usize>) -> Result<Vec<PagedState>, Error> {
        let (start, end) = index_range(range, self.len())?;
        let state_of = |page| {
            self.core.with_uninterrupted(|state| {
                let frame = state.cache.frame_of(page).and_then(|frame| state.cache.frame(frame));
                match frame {
                    None => PagedState::Absent,
                    Some(frame) if frame.busy => PagedState::InFlight,
                    Some(frame) if frame.dirty => PagedState::Dirty,
                    Some(_) => PagedState::Clean,
                }
            })
        };
        Ok(self.core.pages(start, end).map(state_of).collect())
    }

    /// Takes the last error of the store that no call could return: of a lent thread, for a fault or of its own accord.
    ///
    /// ```
    /// # use pagewise::{FileStore, PagedRegion};
    /// # let program = FileStore::builder(std::env::current_exe()?).read_only(true).open()?;
    /// # let Ok(region) = PagedRegion::builder(program).limit(1 << 20).build() else { return Ok(()) };
    /// assert!(region.take_error().is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn take_error(&self) -> Option<io::Error> {
        self.core.counters.take_error()
    }

    fn error(&self, trouble: Trouble, page: Number) -> Error {
        self.core.error(trouble, page as usize * self.page_bytes())
    }
}

impl<S: PageStore + 'static> fmt::Debug for PagedRegion<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PagedRegion")
            .field("len", &self.len())
            .field("page_bytes", &self.page_bytes())
            .field("limit", &self.limit())
            .field("engine", &self.engine())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// Writes changed pages back, and ends the lent threads. Errors are ignored: [`flush`](PagedRegion::flush) first, to see
/// them.
impl<S: PageStore + 'static> Drop for PagedRegion<S> {
    fn drop(&mut self) {
        if !self.core.is_left() {
            let _ = self.write_back(0, self.len());
        }
        fault::uninterrupted(|| self.core.leave_neighbours());
        self.core.wait_for_guests();
        // (A signal that waited for the end of a lent thread may still touch the region.)
        jobs::stop(&self.core, std::mem::take(&mut self.threads));
        fault::unregister(&self.core.registered);
        self.core.wait_for_guests();
        let used = self.core.held();
        self.core.account.decommitted(used);
        let ground = self.core.ground;
        self.core.engine.release(ground);
        // SAFETY: all of the region, which nobody uses any more.
        let released = unsafe { os::release(ground.start, ground.len()) };
        debug_assert!(released.is_ok(), "a mapping of our own can be unmapped: {released:?}");
    }
}

#[allow(dead_code)]
const fn assert_shared<T: Send + Sync>() {}
const _: () = assert_shared::<PagedRegion<&'static dyn PageStore>>();
