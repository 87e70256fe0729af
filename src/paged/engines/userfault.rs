//! `userfaultfd` (Linux 6.8): a page moves between its frame and the region, with its memory.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use super::super::cache::Number;
use super::{Besides, Ground, Mechanism};
use crate::os::{self, Attributes, HugePages, OsError, Span};
use crate::sync::relax;

/// Invariant: the region is registered for missing and for protected pages, the frames for missing ones. A page that is
/// not shown is missing in the region; a frame whose page is shown is missing, too, or [`LEFT`].
///
/// Giving memory back interrupts all processors that run the program, and so does moving a page. So both are avoided,
/// or done for many pages at once:
///
/// - A page of the system's size is read into a **buffer**, and copied to the region: the buffer serves the next one.
///   Where none is free, the frame gets memory of its own.
/// - A page that is copied from its frame has memory twice, for a while: that of the frame goes back to the system
///   together with that of others. No more than `besides.copies` pages have memory twice at any moment.
#[derive(Debug)]
pub(in crate::paged) struct UserFault {
    frames: NonNull<u8>,
    /// What is known of the memory of each frame.
    memory: Box<[AtomicU8]>,
    /// How many pages more may have memory twice.
    spare: AtomicU32,
    /// A bit for each buffer that no frame has.
    buffers: AtomicU32,
    /// The frames that are [`LEFT`], plus one; zero for none.
    left: [AtomicU32; MOST_BESIDES as usize],
}

/// The most pages that have memory twice.
const MOST_BESIDES: Number = 16;
/// The most buffers: so many threads read at once without memory of a frame.
const MOST_BUFFERS: usize = 8;

/// A frame has no memory, and its page is not shown.
const EMPTY: u8 = 0;
/// The frame has memory.
const HERE: u8 = 1;
/// The memory is in the region, where the page is.
const SHOWN: u8 = 2;
/// The page is in the region with other memory; the frame has memory that is worth nothing, and goes back soon.
const LEFT: u8 = 3;
/// The frame has no memory; what its page is going to be is in a buffer, whose number is added to this.
const BUFFERED: u8 = 8;

// SAFETY: the pointer is to memory that lives as long as this value, and whose parts belong to the holders of
// frames.
unsafe impl Send for UserFault {}
// SAFETY: as above.
unsafe impl Sync for UserFault {}

impl Mechanism for UserFault {
    /// At most a 64th. Where pages may become writable, two copies at least: one thread that copies must not wait for
    /// another.
    fn besides(limit: usize, page_bytes: usize, read_only: bool) -> Besides {
        let (limit, most) = (limit / 64, MOST_BESIDES as usize);
        let buffers = if is_small(page_bytes) { (limit / 2).min(MOST_BUFFERS) } else { 0 };
        let copies = if read_only { 0 } else { limit.min(most).saturating_sub(buffers).max(2) };
        Besides { copies: copies as Number, buffers: buffers as Number }
    }

    const MAY_STOP_HALF_WAY: bool = true;

    fn new(ground: Ground) -> Result<Self, OsError> {
        // What is not set aside cannot be used. (Whether there is this engine was asked before, and may have changed.)
        if ground.besides.copies < Self::besides(0, ground.page_bytes, ground.read_only).copies {
            return Err(OsError(0));
        }
        let len = memory_len(ground);
        let align = ground.page_bytes.max(os::reserve_granularity());
        let attributes = Attributes {
            huge_pages: if is_huge(ground) { HugePages::Transparent } else { HugePages::Never },
            charged: false,
            ..Attributes::PLAIN
        };
        let frames = os::reserve(len, align, &attributes)?;
        let memory = (0..ground.frames).map(|_| AtomicU8::new(EMPTY)).collect();
        let made = Self {
            frames,
            memory,
            spare: AtomicU32::new(ground.besides.copies),
            buffers: AtomicU32::new((1 << ground.besides.buffers) - 1),
            left: [const { AtomicU32::new(0) }; MOST_BESIDES as usize],
        };
        made.set_up(ground).inspect_err(|_| made.release(ground))?;
        Ok(made)
    }

    fn own(&self, ground: Ground, frame: Number, stays: bool) -> Result<NonNull<u8>, OsError> {
        // (A page that stays where it is would keep a buffer from others.)
        if self.state(frame) == EMPTY && (stays || !self.take_buffer(frame)) {
            let own = self.address(ground, frame);
            // SAFETY: the frame is the caller's, and has no memory.
            unsafe {
                if is_huge(ground) {
                    self.own_huge(ground, own)?;
                } else {
                    os::userfault_commit(own, ground.page_bytes)
                        .inspect_err(|_| _ = os::zero(own, ground.page_bytes))?;
                }
            }
            self.set_state(frame, HERE);
        }
        Ok(self.place(ground, frame))
    }

    fn bytes(&self, ground: Ground, frame: Number, page: Number, shown: bool) -> NonNull<u8> {
        if shown { ground.page(page) } else { self.place(ground, frame) }
    }

    fn show(
        &self,
        ground: Ground,
        frame: Number,
        page: Number,
        writable: bool,
    ) -> Result<(), OsError> {
        let (own, at, len) = (self.place(ground, frame), ground.page(page), ground.page_bytes);
        if let Some(buffer) = self.buffer_of(frame) {
            // SAFETY: the buffer is the frame's, the page has no memory, and both are the caller's. One page of the system
            // appears, or none.
            unsafe { os::copy_pages(at, own, len, writable || ground.read_only) }?;
            self.set_state(frame, SHOWN);
            self.return_buffer(buffer);
            return Ok(());
        }
        if writable || ground.read_only {
            // SAFETY: the frame has memory, the page has none, and both are the caller's.
            unsafe { os::move_pages(at, own, len, false) }.inspect_err(|_| {
                // What was moved before the kernel stopped goes back.
                // SAFETY: as above.
                unsafe { self.return_parts(ground, at, own) };
            })?;
            self.set_state(frame, SHOWN);
            return Ok(());
        }
        // A page that moves is writable at once; one that is copied can be protected as it appears.
        self.begin_copy(ground)?;
        // SAFETY: as above.
        unsafe {
            if let Err(error) = os::copy_pages(at, own, len, false) {
                let _ = os::zero(at, len);
                self.spare.fetch_add(1, Ordering::Release);
                return Err(error);
            }
        }
        self.leave(frame);
        Ok(())
    }

    fn hide(&self, ground: Ground, frame: Number, page: Number) -> Result<(), OsError> {
        let (own, at, len) = (self.address(ground, frame), ground.page(page), ground.page_bytes);
        self.until_taken_back(ground, frame)?;
        // SAFETY: the page is shown, and its frame has no memory.
        unsafe { os::move_pages(own, at, len, !ground.read_only) }.inspect_err(|_| {
            // What was moved before the kernel stopped goes back.
            // SAFETY: as above; pages that did not move are there already, which is no error.
            unsafe { self.return_parts(ground, own, at) };
        })?;
        self.set_state(frame, HERE);
        Ok(())
    }

    fn drops(ground: Ground) -> bool {
        ground.besides.buffers > 0
    }

    fn drop_pages(
        &self,
        ground: Ground,
        frames: &[(Number, Number)],
        spans: &mut [Span],
    ) -> Result<usize, OsError> {
        for (span, &(frame, page)) in spans.iter_mut().zip(frames) {
            self.until_taken_back(ground, frame)?;
            *span = Span { start: ground.page(page), len: ground.page_bytes };
        }
        let spans = spans.get(..frames.len()).unwrap_or_default();
        // SAFETY: the pages are shown, and the caller gives up what they hold.
        let mut result = unsafe { os::zero_each(spans) };
        let mut count = frames.len();
        if result.is_err() {
            // Some of them may be gone.
            // SAFETY: as above.
            let gone = |span: &&Span| unsafe {
                result = os::zero(span.start, span.len);
                result.is_ok()
            };
            count = spans.iter().take_while(gone).count();
        }
        frames.iter().take(count).for_each(|&(frame, _)| self.set_state(frame, EMPTY));
        if count > 0 { Ok(count) } else { result.map(|()| 0) }
    }

    fn protect(
        &self,
        ground: Ground,
        _frame: Number,
        page: Number,
        protected: bool,
    ) -> Result<(), OsError> {
        // SAFETY: the page is shown, and the caller's.
        unsafe {
            if protected {
                os::forbid_writing(ground.page(page), ground.page_bytes)
            } else {
                os::allow_writing(ground.page(page), ground.page_bytes)
            }
        }
    }

    fn empty(&self, ground: Ground, frame: Number) -> bool {
        if let Some(buffer) = self.buffer_of(frame) {
            self.set_state(frame, EMPTY);
            self.return_buffer(buffer);
        }
        if self.state(frame) != HERE {
            return self.state(frame) == EMPTY;
        }
        // SAFETY: the frame has no page.
        let emptied = unsafe { os::zero(self.address(ground, frame), ground.page_bytes) }.is_ok();
        if emptied {
            self.set_state(frame, EMPTY);
        }
        emptied
    }

    fn is_intact(&self) -> bool {
        os::userfault_is_open()
    }

    /// The region and the frames are not there (see `set_up`): takes their addresses.
    fn leave_to_parent(&self, ground: Ground) {
        for (start, len) in [(ground.start, ground.len()), (self.frames, memory_len(ground))] {
            if os::occupy(start, len).is_err() {
                // Another mapping is there by now, and the child might take it for the region.
                std::process::abort();
            }
        }
    }

    fn release(&self, ground: Ground) {
        // SAFETY: all of the frames, which nobody uses any more.
        let released = unsafe { os::release(self.frames, memory_len(ground)) };
        debug_assert!(released.is_ok(), "a mapping of our own can be unmapped: {released:?}");
    }
}

/// Whether a page of the region is made of whole huge pages.
fn is_huge(ground: Ground) -> bool {
    let page = os::page_size();
    ground.page_bytes >= page * (page / size_of::<u64>())
}

/// Whether a page of the region is one of the system: these are read into buffers. (Each appears whole, or not at all.)
fn is_small(page_bytes: usize) -> bool {
    page_bytes == os::page_size()
}

/// Bytes of the frames, and of the buffers behind them.
fn memory_len(ground: Ground) -> usize {
    ground.frames_len() + ground.besides.buffers as usize * ground.page_bytes
}

impl UserFault {
    fn set_up(&self, ground: Ground) -> Result<(), OsError> {
        // SAFETY: the region and the frames are new. In a child, pages that are missing would be zeros: neither is
        // there. `MADV_DONTFORK` comes first, since it may cut mappings.
        unsafe {
            os::keep_from_children(ground.start, ground.len())?;
            os::keep_from_children(self.frames, memory_len(ground))?;
            for (start, len) in [(ground.start, ground.len()), (self.frames, memory_len(ground))] {
                if !is_huge(ground) {
                    os::keep_pages_small_and_own(start, len);
                }
                // (Only what the program touches is protected. A frame must never fault.)
                os::userfault_pages(start, len, start == ground.start)?;
                os::commit(start, len)?;
            }
            let buffers = memory_len(ground) - ground.frames_len();
            os::userfault_commit(self.frames.add(ground.frames_len()), buffers)
        }
    }

    /// Gives a frame the memory of whole huge pages: the kernel makes these only where pages are not registered.
    ///
    /// # Safety
    /// The frame at `own` is the caller's, and has no memory.
    unsafe fn own_huge(&self, ground: Ground, own: NonNull<u8>) -> Result<(), OsError> {
        let len = ground.page_bytes;
        // SAFETY: the caller's promise.
        unsafe {
            os::userfault_forget(own, len)?;
            let populated = os::populate_for_writing(own, len);
            let registered = os::userfault_pages(own, len, false);
            populated.and(registered).inspect_err(|_| _ = os::zero(own, len))
        }
    }

    fn address(&self, ground: Ground, frame: Number) -> NonNull<u8> {
        // SAFETY: inside the frames.
        unsafe { self.frames.add(ground.offset(frame)) }
    }

    /// Where the bytes of a page are that is not shown, or will be.
    fn place(&self, ground: Ground, frame: Number) -> NonNull<u8> {
        match self.buffer_of(frame) {
            // SAFETY: behind the frames, where the buffers are.
            Some(buffer) => unsafe {
                self.frames.add(ground.frames_len() + buffer as usize * ground.page_bytes)
            },
            None => self.address(ground, frame),
        }
    }

    /// The number of the buffer that a frame has.
    fn buffer_of(&self, frame: Number) -> Option<u8> {
        self.state(frame).checked_sub(BUFFERED)
    }

    /// Gives a frame without memory a buffer; `false` where none is free. Each processor has one that it likes best, since
    /// the bytes of the last page are in its cache.
    fn take_buffer(&self, frame: Number) -> bool {
        let liked = os::processor() % MOST_BUFFERS as u32;
        let mut taken = 0;
        let take = |free: u32| {
            // The next free one, from the one that is liked on.
            let from = if free >> liked != 0 { free >> liked << liked } else { free };
            taken = from & from.wrapping_neg();
            (free != 0).then_some(free & !taken)
        };
        let found = self.buffers.fetch_update(Ordering::Acquire, Ordering::Relaxed, take).is_ok();
        if found {
            self.set_state(frame, BUFFERED + taken.trailing_zeros() as u8);
        }
        found
    }

    fn return_buffer(&self, buffer: u8) {
        self.buffers.fetch_or(1 << buffer, Ordering::Release);
    }

    fn state(&self, frame: Number) -> u8 {
        self.memory.get(frame as usize).map_or(EMPTY, |state| state.load(Ordering::Acquire))
    }

    fn set_state(&self, frame: Number, to: u8) {
        if let Some(state) = self.memory.get(frame as usize) {
            state.store(to, Ordering::Release);
        }
    }

    /// Takes the right to give one page memory twice.
    fn begin_copy(&self, ground: Ground) -> Result<(), OsError> {
        let mut round = 0;
        let one_less = |spare: u32| spare.checked_sub(1);
        while self.spare.fetch_update(Ordering::Acquire, Ordering::Relaxed, one_less).is_err() {
            if !self.take_back(ground)? {
                relax(&mut round); // other threads are copying
            }
        }
        Ok(())
    }

    /// The frame's page was copied. Its memory goes back later, and with it the right of [`begin_copy`](Self::begin_copy).
    fn leave(&self, frame: Number) {
        self.set_state(frame, LEFT);
        // One is free: there are as many as rights.
        let mut slots = self.left.iter().cycle();
        let take = |slot: &AtomicU32| {
            slot.compare_exchange(0, frame + 1, Ordering::Release, Ordering::Relaxed).is_ok()
        };
        slots.find(|slot| take(slot));
    }

    /// Gives back the memory of all frames that were left; `false` where there was none.
    #[inline(never)] // keeps its arrays off the stack of those who seldom call it
    fn take_back(&self, ground: Ground) -> Result<bool, OsError> {
        let mut frames = [0; MOST_BESIDES as usize];
        let mut spans =
            [Span { start: ground.start, len: ground.page_bytes }; MOST_BESIDES as usize];
        let mut count = 0;
        let left =
            self.left.iter().filter_map(|slot| slot.swap(0, Ordering::Acquire).checked_sub(1));
        for ((frame, span), left) in frames.iter_mut().zip(&mut spans).zip(left) {
            (*frame, span.start) = (left, self.address(ground, left));
            count += 1;
        }
        let frames = frames.iter().copied().take(count);
        // SAFETY: the frames' pages are elsewhere; nobody uses a frame that was left until it is `SHOWN`.
        let gone = unsafe { os::zero_each(spans.get(..count).unwrap_or_default()) };
        if let Err(error) = gone {
            frames.for_each(|frame| self.leave(frame));
            return Err(error);
        }
        frames.for_each(|frame| self.set_state(frame, SHOWN));
        self.spare.fetch_add(count as u32, Ordering::Release);
        Ok(count > 0)
    }

    /// Waits until a frame whose page is shown has no memory.
    fn until_taken_back(&self, ground: Ground, frame: Number) -> Result<(), OsError> {
        let mut round = 0;
        while self.state(frame) == LEFT {
            if !self.take_back(ground)? {
                relax(&mut round); // another thread is about to
            }
        }
        Ok(())
    }

    /// # Safety
    /// The page at `at` belongs to the caller, and `own` is its frame.
    unsafe fn return_parts(&self, ground: Ground, own: NonNull<u8>, at: NonNull<u8>) {
        let page = os::page_size();
        let mut offset = 0;
        while offset < ground.page_bytes {
            // SAFETY: the caller's promise.
            let _ = unsafe { os::move_pages(at.add(offset), own.add(offset), page, false) };
            offset += page;
        }
    }
}

#[cfg(all(test, target_os = "linux", not(loom), not(any(miri, pagewise_model))))]
mod tests {
    use super::super::ChosenEngine;
    use super::*;
    use crate::{FileStore, PagedRegion, SecondChance, page_size};

    /// Of a read that fails, the frame keeps the buffer; whoever takes the frame next uses it.
    #[test]
    fn buffers_come_back() {
        let path = std::env::temp_dir().join(format!("pagewise-buffers-{}", std::process::id()));
        let store = FileStore::create(&path, 2_000 * page_size() as u64).unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let builder = PagedRegion::builder(store).page_bytes(page_size()).read_ahead(0);
        let builder = builder.second_chance(SecondChance::Never);
        let region = builder.limit(1_024 * page_size()).build().unwrap();
        let ChosenEngine::UserFault(engine) = &region.core.engine else { return };
        let free = || engine.buffers.load(Ordering::Relaxed).count_ones();
        let read = |page: usize| region.read(page * page_size(), &mut [0]).is_ok();
        assert_eq!(free(), MOST_BUFFERS as u32);
        assert!((0..1_500).all(read));
        assert_eq!(free(), MOST_BUFFERS as u32);
        file.set_len(0).unwrap();
        assert!((1_900..2_000).all(|page| !read(page)));
        assert!(free() >= MOST_BUFFERS as u32 - 1);
        file.set_len(2_000 * page_size() as u64).unwrap();
        assert!((0..2_000).all(read));
        region.evict(..).unwrap();
        assert_eq!(free(), MOST_BUFFERS as u32);
        // Each is given once; then none is left.
        let frames = 0..MOST_BUFFERS as Number;
        assert!(frames.clone().all(|frame| engine.take_buffer(frame)) && !engine.take_buffer(99));
        let mut given: Vec<_> =
            frames.clone().filter_map(|frame| engine.buffer_of(frame)).collect();
        given.sort_unstable();
        assert_eq!(given, Vec::from_iter(0..MOST_BUFFERS as u8));
        assert!(frames.clone().all(|frame| engine.empty(region.core.ground, frame)));
        assert_eq!(free(), MOST_BUFFERS as u32);
        let aside = region.core.ground.besides.pages() * page_size();
        assert_eq!(region.stats().resident, aside);
    }

    /// The pages before it are gone, and their frames free; it and those behind it stay as they were.
    #[cfg(pagewise_refusals)]
    #[test]
    fn a_page_that_cannot_be_dropped_stays() {
        use crate::os::refusals::{Call, Refusal};

        let path = std::env::temp_dir().join(format!("pagewise-drop-{}", std::process::id()));
        let store = FileStore::create(&path, 2_000 * page_size() as u64).unwrap();
        std::fs::remove_file(&path).unwrap();
        let builder = PagedRegion::builder(store).page_bytes(page_size()).read_ahead(0);
        let builder = builder.second_chance(SecondChance::Never).limit(1_024 * page_size());
        let region = builder.build().unwrap();
        let frames = region.core.ground.frames as usize;
        // (In pairs that are no row: what a long one has passed leaves first.)
        let place = |page: usize| (page ^ 1) * page_size();
        let read = |page: usize| region.read(place(page), &mut [0]).unwrap();
        (0..frames).for_each(read);
        let page = |page: usize| {
            let start = region.as_ptr().wrapping_add(place(page)).cast_mut();
            start..start.wrapping_add(page_size())
        };
        let refusing = Refusal::of(Call::Zero).touching(page(3)).begin();
        read(1_500);
        // Seven leave at once where none is refused. It was asked for with others, and once by itself.
        assert_eq!((refusing.refused(), region.stats().evictions), (2, 3));
        let before = region.stats().loads;
        (3..frames).for_each(read);
        assert_eq!(region.stats().loads, before, "all others are there");
        drop(refusing);
        (0..2_000).for_each(read);
        assert!(region.stats().resident <= region.limit());
    }
}
