//! Page maps: which pages are reserved, committed, resident, huge, swapped.

use std::ffi::c_uint;

use crate::constants::*;
use crate::status::*;

/// `pagewise_page_map`.
pub struct PageMap(pub(crate) pagewise::PageMap);

/// `pagewise_page_run`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRun {
    /// Index of the first page.
    pub first: usize,
    /// How many pages.
    pub count: usize,
    /// `PAGEWISE_PAGE_COMMITTED` and others, added up.
    pub state: c_uint,
}

/// How many runs a map has.
///
/// # Safety
/// The map is null or alive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_page_map_runs(map: *const PageMap) -> usize {
    // SAFETY: the caller's promise.
    unsafe { property(map, 0, |map| map.0.runs().len()) }
}

/// One run of a map.
///
/// # Safety
/// The map is null or alive; the place has room for a run.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_page_map_run(
    map: *const PageMap,
    index: usize,
    run: *mut PageRun,
) -> Status {
    // SAFETY: the caller's promise.
    status(|| unsafe {
        let Some(found) = object(map)?.0.runs().get(index) else {
            return bad_argument("the map has no run of this index");
        };
        let flags = [
            (found.state.committed, PAGE_COMMITTED),
            (found.state.resident, PAGE_RESIDENT),
            (found.state.huge, PAGE_HUGE),
            (found.state.swapped, PAGE_SWAPPED),
        ];
        let state = flags.iter().map(|&(is_set, bit)| if is_set { bit } else { 0 }).sum();
        store(run, PageRun { first: found.first, count: found.count, state })
    })
}

/// Ends a map.
///
/// # Safety
/// The map is null, or is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_page_map_free(map: *mut PageMap) {
    // SAFETY: the caller's promise.
    unsafe { free(map) }
}
