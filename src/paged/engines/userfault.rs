//! `userfaultfd` (Linux 6.8): a page moves between its frame and the region, with its memory.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use super::super::cache::Number;
use super::{Ground, Mechanism};
use crate::os::{self, Attributes, HugePages, OsError};
use crate::sync::relax;

/// Invariant: the region is registered for missing and for protected pages, the frames for missing ones. A page that is
/// not shown is missing in the region; a frame whose page is shown is missing, too, or [`LEFT`].
///
/// A page that is copied has memory twice, for a while: what it was copied from goes back to the system together with
/// that of others, since each time all processors that run the program are interrupted. No more than `besides` pages
/// have memory twice at any moment.
#[derive(Debug)]
pub(in crate::paged) struct UserFault {
    frames: NonNull<u8>,
    /// What is known of the memory of each frame.
    memory: Box<[AtomicU8]>,
    /// How many pages more may have memory twice.
    spare: AtomicU32,
    /// The frames that are [`LEFT`], plus one; zero for none.
    left: [AtomicU32; MOST_BESIDES as usize],
}

/// The most pages that have memory twice.
const MOST_BESIDES: Number = 16;

/// A frame has no memory, and its page is not shown.
const EMPTY: u8 = 0;
/// The frame has memory.
const HERE: u8 = 1;
/// The memory is in the region, where the page is.
const SHOWN: u8 = 2;
/// The page is in the region with other memory; the frame has memory that is worth nothing, and goes back soon.
const LEFT: u8 = 3;

// SAFETY: the pointer is to memory that lives as long as this value, and whose parts belong to the holders of
// frames.
unsafe impl Send for UserFault {}
// SAFETY: as above.
unsafe impl Sync for UserFault {}

impl Mechanism for UserFault {
    /// Of a region whose pages may become writable, at most a 64th. Two at least: one thread that copies must not wait
    /// for another.
    fn besides(limit: usize, read_only: bool) -> Number {
        if read_only { 0 } else { (limit / 64).clamp(2, MOST_BESIDES as usize) as Number }
    }

    const MAY_STOP_HALF_WAY: bool = true;

    fn new(ground: Ground) -> Result<Self, OsError> {
        // What is not set aside cannot be used. (Whether there is this engine was asked before, and may have changed.)
        if ground.besides < Self::besides(0, ground.read_only) {
            return Err(OsError(0));
        }
        let len = ground.frames_len();
        let align = ground.page_bytes.max(os::reserve_granularity());
        let attributes = Attributes {
            huge_pages: if is_huge(ground) { HugePages::Transparent } else { HugePages::Never },
            charged: false,
            ..Attributes::PLAIN
        };
        let frames = os::reserve(len, align, &attributes)?;
        let memory = (0..ground.frames).map(|_| AtomicU8::new(EMPTY)).collect();
        let spare = AtomicU32::new(ground.besides);
        let made = Self {
            frames,
            memory,
            spare,
            left: [const { AtomicU32::new(0) }; MOST_BESIDES as usize],
        };
        made.set_up(ground).inspect_err(|_| made.release(ground))?;
        Ok(made)
    }

    fn own(&self, ground: Ground, frame: Number) -> Result<NonNull<u8>, OsError> {
        let own = self.address(ground, frame);
        if self.state(frame) == EMPTY {
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
        Ok(own)
    }

    fn bytes(&self, ground: Ground, frame: Number, page: Number, shown: bool) -> NonNull<u8> {
        if shown { ground.page(page) } else { self.address(ground, frame) }
    }

    fn show(
        &self,
        ground: Ground,
        frame: Number,
        page: Number,
        writable: bool,
    ) -> Result<(), OsError> {
        let (own, at, len) = (self.address(ground, frame), ground.page(page), ground.page_bytes);
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
        for (start, len) in [(ground.start, ground.len()), (self.frames, ground.frames_len())] {
            if os::occupy(start, len).is_err() {
                // Another mapping is there by now, and the child might take it for the region.
                std::process::abort();
            }
        }
    }

    fn release(&self, ground: Ground) {
        // SAFETY: all of the frames, which nobody uses any more.
        let released = unsafe { os::release(self.frames, ground.frames_len()) };
        debug_assert!(released.is_ok(), "a mapping of our own can be unmapped: {released:?}");
    }
}

/// Whether a page of the region is made of whole huge pages.
fn is_huge(ground: Ground) -> bool {
    let page = os::page_size();
    ground.page_bytes >= page * (page / size_of::<u64>())
}

impl UserFault {
    fn set_up(&self, ground: Ground) -> Result<(), OsError> {
        // SAFETY: the region and the frames are new. In a child, pages that are missing would be zeros: neither is
        // there. `MADV_DONTFORK` comes first, since it may cut mappings.
        unsafe {
            os::keep_from_children(ground.start, ground.len())?;
            os::keep_from_children(self.frames, ground.frames_len())?;
            for (start, len) in [(ground.start, ground.len()), (self.frames, ground.frames_len())] {
                if !is_huge(ground) {
                    os::keep_pages_small_and_own(start, len);
                }
                // (Only what the program touches is protected. A frame must never fault.)
                os::userfault_pages(start, len, start == ground.start)?;
                os::commit(start, len)?;
            }
            Ok(())
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
        let mut starts = [ground.start; MOST_BESIDES as usize];
        let mut count = 0;
        let left =
            self.left.iter().filter_map(|slot| slot.swap(0, Ordering::Acquire).checked_sub(1));
        for ((frame, start), left) in frames.iter_mut().zip(&mut starts).zip(left) {
            (*frame, *start) = (left, self.address(ground, left));
            count += 1;
        }
        let frames = frames.iter().copied().take(count);
        // SAFETY: the frames' pages are elsewhere; nobody uses a frame that was left until it is `SHOWN`.
        let gone =
            unsafe { os::zero_each(starts.get(..count).unwrap_or_default(), ground.page_bytes) };
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
