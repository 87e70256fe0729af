//! What the Unix systems other than Linux share.

use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags};

use super::{OsError, unix};

/// `prefault` writes to each page.
pub(crate) const PREFAULT_TOUCHES: bool = true;

/// Where prefaulting touches, it costs what the touches of others would.
pub(crate) fn prefaulting_pays(_len: usize) -> bool {
    true
}

/// Maps fresh memory over the range: on these systems, `MADV_DONTNEED` keeps the contents.
///
/// # Safety
/// See the contract of [`os`](super).
pub(crate) unsafe fn zero(start: NonNull<u8>, len: usize) -> Result<(), OsError> {
    // SAFETY: the caller's promise.
    unsafe { unix::map_over(start, len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::empty()) }
}

/// Maps fresh, inaccessible memory over a reservation that cannot be released, so that its memory goes back.
///
/// # Safety
/// The range is what [`reserve`](super::reserve) returned, and it is not used any more.
pub(crate) unsafe fn empty(start: NonNull<u8>, len: usize) {
    // SAFETY: the caller's promise.
    let _ = unsafe { unix::map_over(start, len, ProtFlags::empty(), MapFlags::empty()) };
}

pub(crate) fn explicit_huge_page_size() -> Option<usize> {
    None
}

/// Does nothing: no state here belongs to one process.
pub(crate) fn forget_parent() {}

/// None is needed: `pthread_atfork` waits for a fork that has begun.
pub(crate) fn wiped_in_children() -> Option<&'static super::Wiped> {
    None
}
