//! `&Arena` as an allocator for collections.

use std::alloc::Layout;
use std::ptr::{self, NonNull};

use allocator_api2::alloc::{AllocError, Allocator};

use super::Arena;

/// Freeing anything but the last allocation does nothing; growing and shrinking the last one happens
/// in place.
// SAFETY: blocks stay valid until the arena is rewound, reset or dropped, which needs it without a
// borrow, so after every copy of `&Arena`. The arena does not move its memory.
unsafe impl Allocator for &Arena {
    #[inline]
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        let start = self.bump(layout).map_err(|_| AllocError)?;
        Ok(NonNull::slice_from_raw_parts(start, layout.size()))
    }

    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        let start = self.try_alloc_layout_zeroed(layout).map_err(|_| AllocError)?;
        Ok(NonNull::slice_from_raw_parts(start, layout.size()))
    }

    #[inline]
    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        let start = block.as_ptr().addr();
        let _ = self.resize_last(start + layout.size(), start);
    }

    #[inline]
    unsafe fn grow(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        if self.fits_in_place(block, old, new)? {
            return Ok(self.block(block, new.size()));
        }
        let moved = self.allocate(new)?;
        // SAFETY: the caller's block is `old` long, and the new one, which is not shorter, is new.
        unsafe { ptr::copy_nonoverlapping(block.as_ptr(), moved.cast().as_ptr(), old.size()) };
        Ok(moved)
    }

    unsafe fn grow_zeroed(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's promise.
        let grown = unsafe { self.grow(block, old, new)? };
        // SAFETY: behind the old contents, inside the new block.
        let added = unsafe { grown.cast::<u8>().add(old.size()) };
        self.zero_written(added, new.size() - old.size());
        Ok(grown)
    }

    unsafe fn shrink(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        if is_aligned(block, new) {
            let start = block.as_ptr().addr();
            // Where it is not the last allocation, the surplus stays unused.
            let _ = self.resize_last(start + old.size(), start + new.size());
            return Ok(self.block(block, new.size()));
        }
        let moved = self.allocate(new)?;
        // SAFETY: the new block is new, and not longer than the old one.
        unsafe { ptr::copy_nonoverlapping(block.as_ptr(), moved.cast().as_ptr(), new.size()) };
        Ok(moved)
    }
}

impl Arena {
    /// Makes the block at an address from the arena's own pointer. The caller's pointer may come from a
    /// reference to fewer bytes, and may then not be used to access more.
    #[inline]
    fn block(&self, start: NonNull<u8>, len: usize) -> NonNull<[u8]> {
        NonNull::slice_from_raw_parts(self.pointer(start.as_ptr().addr()), len)
    }

    #[inline]
    fn fits_in_place(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<bool, AllocError> {
        let start = block.as_ptr().addr();
        let Some(end) = start.checked_add(new.size()) else { return Err(AllocError) };
        if !is_aligned(block, new) {
            return Ok(false);
        }
        self.resize_last(start + old.size(), end).map_err(|_| AllocError)
    }
}

fn is_aligned(block: NonNull<u8>, layout: Layout) -> bool {
    block.as_ptr().addr().is_multiple_of(layout.align())
}
