//! Two mappings of the same memory: the library's own, in which every frame is always accessible, and the region, in
//! which a page is a mapping of its frame, or inaccessible.

use std::fs::File;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::cache::Number;
use super::{Besides, Ground, Mechanism};
use crate::os::{self, Access, OsError, Span};

/// Invariant: `own` maps all of `memory`, readable and writable. Each page of the region that is shown is a mapping of
/// its frame; the others are inaccessible.
#[derive(Debug)]
pub(in crate::paged) struct Shared {
    memory: File,
    own: NonNull<u8>,
    /// Which frames have memory.
    filled: Box<[AtomicBool]>,
}

// SAFETY: the pointer is to a mapping that lives as long as this value, and whose parts belong to the holders of
// frames.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Mechanism for Shared {
    fn besides(_limit: usize, _page_bytes: usize, _read_only: bool) -> Besides {
        Besides::default()
    }

    const MAY_STOP_HALF_WAY: bool = false;

    fn new(ground: Ground) -> Result<Self, OsError> {
        let memory = os::shared_memory(ground.frames_len())?;
        let filled = (0..ground.frames).map(|_| AtomicBool::new(false)).collect();
        // Inaccessible at first: under `mlockall(MCL_FUTURE)`, all of an accessible mapping would get memory.
        // SAFETY: a new mapping replaces none.
        let own = unsafe { os::map_shared(&memory, 0, ground.frames_len(), None, Access::None)? };
        let made = Self { memory, own, filled };
        // A child would share the memory with its parent, and write to the parent's store.
        // SAFETY: the mapping is our own.
        let ready = unsafe {
            os::keep_pages_small_and_own(own, ground.frames_len());
            os::keep_from_children(own, ground.frames_len())
                .and_then(|()| os::protect(own, ground.frames_len(), Access::ReadWrite))
        };
        match ready {
            Ok(()) => Ok(made),
            Err(error) => {
                made.unmap_own(ground);
                Err(error)
            }
        }
    }

    fn own(&self, ground: Ground, frame: Number, _stays: bool) -> Result<NonNull<u8>, OsError> {
        // Without memory, where the system has none, a touch would end the process.
        if !self.is_filled(frame).load(Ordering::Relaxed) {
            os::fill_shared(&self.memory, ground.offset(frame) as u64, ground.page_bytes as u64)?;
            self.is_filled(frame).store(true, Ordering::Relaxed);
        }
        // SAFETY: inside the mapping of all frames.
        Ok(unsafe { self.own.add(ground.offset(frame)) })
    }

    fn bytes(&self, ground: Ground, frame: Number, page: Number, shown: bool) -> NonNull<u8> {
        // Pages that are neighbours in the region are neighbours there only.
        // SAFETY: inside the mapping of all frames.
        if shown { ground.page(page) } else { unsafe { self.own.add(ground.offset(frame)) } }
    }

    fn show(
        &self,
        ground: Ground,
        frame: Number,
        page: Number,
        writable: bool,
    ) -> Result<(), OsError> {
        let access = if writable { Access::ReadWrite } else { Access::Read };
        let (offset, at) = (ground.offset(frame) as u64, ground.page(page));
        // SAFETY: the page is inaccessible, and belongs to the holder of the frame.
        unsafe {
            os::map_shared(&self.memory, offset, ground.page_bytes, Some(at), access)?;
            // (A bare `clone` calls no handlers: its child would write to the parent's page.)
            os::keep_from_children(at, ground.page_bytes)
                .inspect_err(|_| _ = os::map_nothing(at, ground.page_bytes))
        }
    }

    fn hide(&self, ground: Ground, _frame: Number, page: Number) -> Result<(), OsError> {
        // SAFETY: the page belongs to the holder of the frame, and its bytes stay in the frame.
        unsafe { os::map_nothing(ground.page(page), ground.page_bytes) }
    }

    /// A page that is hidden has its bytes at the frame anyway.
    fn drops(_ground: Ground) -> bool {
        false
    }

    fn drop_pages(
        &self,
        _: Ground,
        _: &[(Number, Number)],
        _: &mut [Span],
    ) -> Result<usize, OsError> {
        Ok(0)
    }

    fn protect(
        &self,
        ground: Ground,
        _frame: Number,
        page: Number,
        protected: bool,
    ) -> Result<(), OsError> {
        let access = if protected { Access::Read } else { Access::ReadWrite };
        // SAFETY: as above; the bytes stay.
        unsafe { os::protect(ground.page(page), ground.page_bytes, access) }
    }

    fn empty(&self, ground: Ground, frame: Number) -> bool {
        let (offset, len) = (ground.offset(frame) as u64, ground.page_bytes as u64);
        let emptied = os::empty_shared(&self.memory, offset, len).is_ok();
        if emptied {
            self.is_filled(frame).store(false, Ordering::Relaxed);
        }
        emptied
    }

    fn is_intact(&self) -> bool {
        true
    }

    fn leave_to_parent(&self, ground: Ground) {
        // The library's own mapping is not there: takes its addresses, so that nothing else comes there.
        let occupied = os::occupy(self.own, ground.frames_len());
        // SAFETY: in the child, the region is nobody's.
        let left = occupied.and_then(|()| unsafe { os::map_nothing(ground.start, ground.len()) });
        if left.is_err() {
            // The child would share pages with its parent.
            std::process::abort();
        }
    }

    fn release(&self, ground: Ground) {
        self.unmap_own(ground);
    }
}

impl Shared {
    fn is_filled(&self, frame: Number) -> &AtomicBool {
        static NONE: AtomicBool = AtomicBool::new(false);
        self.filled.get(frame as usize).unwrap_or(&NONE)
    }

    fn unmap_own(&self, ground: Ground) {
        // SAFETY: the mapping is our own, and nobody uses it any more. (In the child of a fork there is none.)
        let unmapped = unsafe { os::release(self.own, ground.frames_len()) };
        debug_assert!(unmapped.is_ok(), "a mapping of our own can be unmapped: {unmapped:?}");
    }
}
