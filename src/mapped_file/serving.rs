//! What a mapping is, and what its faults mean.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::ptr::{self, NonNull};

use crate::error::{Error, Refusal, RefusalReason};
use crate::fault::{self, Fault, Outcome, Registered};
use crate::os::{self, FileAccess, OsError};

/// The mapping, and what the fault handler knows of it.
pub(super) struct Core {
    pub(super) file: File,
    /// The file's name in messages.
    pub(super) path: PathBuf,
    /// The bytes of `registered.file`.
    pub(super) _name: Box<[u8]>,
    pub(super) access: FileAccess,
    /// All that was mapped, from a multiple of the system's granularity on; none for an empty file.
    pub(super) mapping: Option<NonNull<u8>>,
    /// Bytes of the mapping, whole pages.
    pub(super) mapped_len: usize,
    /// Bytes of the mapping before the first one that was asked for.
    pub(super) skipped: usize,
    /// Bytes that were asked for, and that the file had.
    pub(super) len: usize,
    /// Where they start in the file.
    pub(super) file_offset: u64,
    pub(super) registered: Registered,
}

// SAFETY: the pointers are to the core itself and to its own mapping. Through `&Core`, both are only read, by copies
// that allow other processes to write.
unsafe impl Send for Core {}
// SAFETY: as above.
unsafe impl Sync for Core {}

impl Core {
    /// The first byte that was asked for; well aligned and dangling if there is none.
    pub(super) fn first_byte(&self) -> *mut u8 {
        match self.mapping {
            // SAFETY: inside the mapping.
            Some(mapping) => unsafe { mapping.as_ptr().add(self.skipped) },
            None => NonNull::dangling().as_ptr(),
        }
    }

    /// Bytes that the file has now; `None` where the system does not tell. Async-signal-safe.
    pub(super) fn file_len(&self) -> Option<u64> {
        os::file_len(&self.file).ok()
    }

    pub(super) fn error(&self, operation: &'static str, error: OsError) -> Error {
        let source = io::Error::from(error);
        Error::File { operation, path: self.path.clone(), source }
    }

    /// Has the faults of the mapping come here.
    ///
    /// # Safety
    /// The core stays where it is until it is dropped.
    pub(super) unsafe fn register(self: &mut Box<Self>) {
        self.registered.owner = ptr::from_ref(&**self).cast();
        // SAFETY: the caller's promise; the addresses belong to this mapping alone.
        unsafe { fault::register(&self.registered) };
    }

    /// A fault inside the mapping, which the system serves by itself whenever it can. Async-signal-safe.
    fn serve(&self, fault: Fault) -> Outcome {
        let forbidden = fault.write == Some(true) && self.access == FileAccess::Read;
        if !fault.is_unavailable || forbidden {
            return Outcome::NotOurs;
        }
        let offset = fault.address.saturating_sub(self.first_byte().addr());
        let reason = match self.file_len() {
            Some(len) if self.file_offset.saturating_add(offset as u64) >= len => {
                RefusalReason::FileTruncated { len }
            }
            _ => RefusalReason::FileUnreadable,
        };
        Outcome::Refused(Refusal { offset, region: self.first_byte().addr(), reason })
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        let Some(mapping) = self.mapping else { return };
        fault::unregister(&self.registered);
        // SAFETY: all of the mapping, which nobody uses any more.
        let unmapped = unsafe { os::unmap_file(mapping, self.mapped_len) };
        debug_assert!(unmapped.is_ok(), "a mapping of our own can be unmapped: {unmapped:?}");
    }
}

/// # Safety
/// `owner` is a living core.
pub(super) unsafe fn serve(owner: *const (), fault: Fault) -> Outcome {
    // SAFETY: the caller's promise.
    unsafe { &*owner.cast::<Core>() }.serve(fault)
}

/// A fork changes nothing about a file's mapping.
///
/// # Safety
/// None.
pub(super) unsafe fn forked(_owner: *const ()) {}
