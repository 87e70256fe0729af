//! Where there is no Linux, the kernel's demand paging is what memmap2 maps, and no rival handles
//! faults.

use crate::work::Opened;

/// The kernel's own demand paging.
pub fn kernel(len: usize) -> Opened {
    super::memmap2(len)
}

/// The kernel's own demand paging, in transparent huge pages.
pub fn kernel_huge(_len: usize) -> Opened {
    Err("transparent huge pages are measured on Linux only".into())
}

/// The kernel's own demand paging of a small range.
pub fn kernel_small(len: usize) -> Opened {
    super::memmap2(len)
}

/// One call makes everything resident before it is touched.
pub fn floor(_len: usize) -> Opened {
    Err("MADV_POPULATE_WRITE exists on Linux only".into())
}

/// A handler in C that makes the one page accessible and returns.
pub fn bare_handler(_len: usize) -> Opened {
    Err("the handler in C is written for Linux only".into())
}

/// The same for an aligned block around the page, made resident if asked to.
pub fn bare_handler_by(len: usize, _step: usize, _populate: bool) -> Opened {
    bare_handler(len)
}

/// A handler in C that removes the guard marker of the one page.
pub fn bare_guard(len: usize) -> Opened {
    bare_handler(len)
}

/// The same, and it makes the page resident.
pub fn bare_guard_populating(len: usize) -> Opened {
    bare_handler(len)
}

/// A handler in C that gives the missing page to `userfaultfd`.
pub fn bare_userfault(len: usize) -> Opened {
    bare_handler(len)
}

/// Signals that are delivered, and return, and do nothing else.
pub fn signals_alone(_count: usize) -> Result<(), String> {
    Err("written for Linux only".into())
}

/// Calls of `work` after a `sigsetjmp`.
///
/// # Safety
/// None.
pub unsafe fn jumps(_work: unsafe extern "C" fn(*mut u8), _count: usize) -> Result<usize, String> {
    Err("written for Linux only".into())
}

/// Every page made accessible by a call of its own, then touched.
pub fn protect_and_touch(_len: usize) -> Result<(), String> {
    Err("written for Linux only".into())
}

/// GNU libsigsegv's dispatcher with one area.
pub fn libsigsegv(_len: usize) -> Opened {
    Err("GNU libsigsegv is measured on Linux only".into())
}

/// userspace-pagefault: a thread that answers faults.
pub fn userspace_pagefault(_len: usize) -> Opened {
    Err("userspace-pagefault is measured on Linux only".into())
}
