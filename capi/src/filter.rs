//! A C function as a region's filter.

use std::ffi::{c_int, c_void};

use pagewise::{FaultAnswer, PageFault};

use crate::constants::*;

/// `pagewise_fault`: what a filter sees of a page fault, and where it says how many pages to commit.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// The address that was touched.
    pub address: *mut c_void,
    /// The same in bytes from the start of the region.
    pub offset: usize,
    /// 0 for a read, 1 for a write, -1 where the system does not tell.
    pub access: c_int,
    /// Zero, for later versions.
    pub reserved: c_int,
    /// Pages to commit from the one that was touched on; 0: as the region's step says.
    pub pages: usize,
}

/// `pagewise_filter`.
pub type Filter = unsafe extern "C" fn(context: *mut c_void, fault: *mut Fault) -> c_int;

/// How `pagewise_fault` says whether an access was a write.
pub(crate) fn access(write: Option<bool>) -> c_int {
    write.map_or(-1, c_int::from)
}

/// A filter and its context. The program promised that any thread may call one with the other.
#[derive(Clone, Copy)]
pub(crate) struct WithContext {
    pub(crate) filter: Filter,
    pub(crate) context: *mut c_void,
}

// SAFETY: the program's promise, as the header states it.
unsafe impl Send for WithContext {}
// SAFETY: as above.
unsafe impl Sync for WithContext {}

impl WithContext {
    /// Runs in the fault handler: nothing here allocates or panics.
    pub(crate) fn ask(&self, fault: &PageFault) -> FaultAnswer {
        let mut seen = Fault {
            address: std::ptr::with_exposed_provenance_mut(fault.address),
            offset: fault.offset,
            access: access(fault.write),
            reserved: 0,
            pages: 0,
        };
        // SAFETY: the program's promise.
        match unsafe { (self.filter)(self.context, &mut seen) } {
            FILTER_COMMIT if seen.pages == 0 => FaultAnswer::Commit,
            FILTER_COMMIT => FaultAnswer::CommitPages(seen.pages),
            FILTER_NOT_MINE => FaultAnswer::NotMine,
            // FILTER_REFUSE, and what is no answer.
            _ => FaultAnswer::Refuse,
        }
    }
}
