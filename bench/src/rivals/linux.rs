//! Rivals that only Linux has. Those written in C are in `native/`.

use std::ffi::c_int;

use crate::system::{Mapping, Pages};
use crate::work::{Area, Opened};

use super::opened;

/// The kernel's own demand paging, in pages of 4 KiB.
pub fn kernel(len: usize) -> Opened {
    opened(Mapping::writable(len, Pages::Small))
}

/// The kernel's own demand paging, in transparent huge pages.
pub fn kernel_huge(len: usize) -> Opened {
    opened(Mapping::writable(len, Pages::TransparentHuge))
}

/// The kernel's own demand paging of a small range: one system call makes it.
pub fn kernel_small(len: usize) -> Opened {
    opened(Mapping::writable_at_any_page(len))
}

/// One call makes everything resident before it is touched: the least time in which that can be done.
pub fn floor(len: usize) -> Opened {
    opened(
        Mapping::writable(len, Pages::Small)
            .and_then(|mapping| mapping.populate().map(|()| mapping)),
    )
}

unsafe extern "C" {
    fn pagewise_bench_jumps(
        start: *mut u8,
        len: usize,
        work: unsafe extern "C" fn(*mut u8),
        context: *mut u8,
        count: usize,
    ) -> usize;

    fn pagewise_bench_signals_alone(address: *mut u8, count: usize) -> c_int;

    fn pagewise_bench_handle_faults(
        start: *mut u8,
        len: usize,
        step: usize,
        populate: c_int,
    ) -> c_int;

    fn pagewise_bench_handle_guards(
        start: *mut u8,
        len: usize,
        page: usize,
        populate: c_int,
    ) -> c_int;

    fn pagewise_bench_handle_missing(start: *mut u8, len: usize, page: usize) -> c_int;

    #[cfg(libsigsegv)]
    fn pagewise_bench_sigsegv_area(start: *mut u8, len: usize, page: usize) -> c_int;
}

/// A handler in C that makes the one page accessible and returns.
pub fn bare_handler(len: usize) -> Opened {
    bare_handler_by(len, pagewise::page_size(), false)
}

/// The same for an aligned block around the page, made resident if asked to.
pub fn bare_handler_by(len: usize, step: usize, populate: bool) -> Opened {
    assert!(step.is_power_of_two() && len.is_multiple_of(step));
    let mapping = Mapping::inaccessible(len).map_err(|error| error.to_string())?;
    mapping.advise(libc::MADV_NOHUGEPAGE).map_err(|error| error.to_string())?;
    // SAFETY: the handler serves the mapping as long as the process touches it.
    match unsafe { pagewise_bench_handle_faults(mapping.as_ptr(), len, step, populate.into()) } {
        0 => Ok(Box::new(mapping)),
        _ => Err(std::io::Error::last_os_error().to_string()),
    }
}

/// A handler in C that removes the guard marker of the one page, and makes the page resident if asked to.
fn bare_guard_by(len: usize, populate: bool) -> Opened {
    let mapping = Mapping::writable(len, Pages::Small).map_err(|error| error.to_string())?;
    let (start, page) = (mapping.as_ptr(), pagewise::page_size());
    // SAFETY: the handler serves the mapping as long as the process touches it.
    match unsafe { pagewise_bench_handle_guards(start, len, page, populate.into()) } {
        0 => Ok(Box::new(mapping)),
        _ => Err(format!("guard markers: {}", std::io::Error::last_os_error())),
    }
}

/// A handler in C that removes the guard marker of the one page and returns.
pub fn bare_guard(len: usize) -> Opened {
    bare_guard_by(len, false)
}

/// The same, and it makes the page resident.
pub fn bare_guard_populating(len: usize) -> Opened {
    bare_guard_by(len, true)
}

/// A handler in C that gives the missing page to `userfaultfd` and returns: the least that catching
/// every first touch in a signal handler can cost.
pub fn bare_userfault(len: usize) -> Opened {
    let mapping = Mapping::writable(len, Pages::Small).map_err(|error| error.to_string())?;
    // SAFETY: the handler serves the mapping as long as the process touches it.
    match unsafe { pagewise_bench_handle_missing(mapping.as_ptr(), len, pagewise::page_size()) } {
        0 => Ok(Box::new(mapping)),
        _ => Err(format!("userfaultfd: {}", std::io::Error::last_os_error())),
    }
}

/// Signals whose handler returns at once.
pub fn signals_alone(count: usize) -> Result<(), String> {
    let mapping = Mapping::inaccessible(1 << 20).map_err(|error| error.to_string())?;
    // SAFETY: the store to the mapping, which nobody else knows, never happens.
    match unsafe { pagewise_bench_signals_alone(mapping.as_ptr(), count) } {
        0 => Ok(()),
        _ => Err("stepping over a store is written for x86-64 and AArch64 only".into()),
    }
}

/// Calls of `work` after a `sigsetjmp`, which a handler leaves by `siglongjmp`. `work` gets an address of an
/// inaccessible page. Returns how often it was left.
///
/// # Safety
/// `work` does nothing that a jump must not skip, and accesses no more than that byte.
pub unsafe fn jumps(work: unsafe extern "C" fn(*mut u8), count: usize) -> Result<usize, String> {
    let mapping = Mapping::inaccessible(1 << 20).map_err(|error| error.to_string())?;
    let start = mapping.as_ptr();
    // SAFETY: the caller's promise; the mapping lives as long as the call.
    Ok(unsafe { pagewise_bench_jumps(start, 1 << 20, work, start, count) })
}

/// Makes each page accessible by a call of its own, then touches it: the work of a fault without the fault.
pub fn protect_and_touch(len: usize) -> Result<(), String> {
    let mapping = Mapping::inaccessible(len).map_err(|error| error.to_string())?;
    mapping.advise(libc::MADV_NOHUGEPAGE).map_err(|error| error.to_string())?;
    let page = pagewise::page_size();
    for offset in (0..len).step_by(page) {
        mapping.commit(offset, page).map_err(|error| error.to_string())?;
        // SAFETY: committed just now.
        unsafe { mapping.as_ptr().add(offset).cast::<u64>().write_volatile(1) };
    }
    Ok(())
}

/// GNU libsigsegv's dispatcher with one area.
#[cfg(libsigsegv)]
pub fn libsigsegv(len: usize) -> Opened {
    let mapping = Mapping::inaccessible(len).map_err(|error| error.to_string())?;
    mapping.advise(libc::MADV_NOHUGEPAGE).map_err(|error| error.to_string())?;
    // SAFETY: the handler serves the mapping as long as the process touches it.
    match unsafe { pagewise_bench_sigsegv_area(mapping.as_ptr(), len, pagewise::page_size()) } {
        0 => Ok(Box::new(mapping)),
        _ => Err("libsigsegv does not install its handler here".into()),
    }
}

/// GNU libsigsegv's dispatcher with one area.
#[cfg(not(libsigsegv))]
pub fn libsigsegv(_len: usize) -> Opened {
    Err("GNU libsigsegv is not installed (libsigsegv-dev): build again once it is".into())
}

/// userspace-pagefault: a thread that answers faults, which it hears of through a pipe.
pub fn userspace_pagefault(len: usize) -> Opened {
    use userspace_pagefault::{AccessType, PageChunks, PageStore, PagedSegment};

    struct Zeros;
    impl PageStore for Zeros {
        fn page_fault(&mut self, _: usize, _: usize, _: AccessType) -> Option<PageChunks<'_>> {
            None
        }
    }
    struct Paged(PagedSegment<'static>);
    impl Area for Paged {
        fn base(&mut self) -> *mut u8 {
            self.0.as_raw_parts().0
        }
    }
    PagedSegment::new(len, Zeros, None)
        .map(|segment| Box::new(Paged(segment)) as Box<dyn Area>)
        .map_err(|error| format!("{error:?}"))
}
