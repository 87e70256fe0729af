//! Regions: memory that commits itself when it is touched.

use std::ffi::{c_int, c_void};
use std::ptr;

use pagewise::{AccessError, CommitStep, DemandRegion, FaultOutcome};

use crate::filter::{WithContext, access};
use crate::options::{Options, common_options};
use crate::page_map::PageMap;
use crate::status::*;

/// `pagewise_stats`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Page faults that committed something.
    pub faults: u64,
    /// Page faults that were refused.
    pub refused: u64,
    /// Page faults that found the page committed by another thread.
    pub raced: u64,
    /// Events that found no room.
    pub events_lost: u64,
    /// Bytes that are committed now.
    pub committed: usize,
    /// The most bytes that were ever committed at once.
    pub peak: usize,
    /// Bytes that may be committed at most.
    pub limit: usize,
}

/// `pagewise_event`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Event {
    /// The byte that was touched, from the start of the region.
    pub offset: usize,
    /// First byte that was committed.
    pub start: usize,
    /// Bytes that were committed; 0 for a refused fault.
    pub len: usize,
    /// As in `pagewise_fault`.
    pub access: c_int,
    /// 1 for a refused fault.
    pub refused: c_int,
}

/// Makes a region.
///
/// # Safety
/// The options are null or as the header says, and so is what they point to; the place has room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_region_new(
    len: usize,
    options: *const Options,
    region: *mut *mut DemandRegion,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        make(region, || {
            let options = Options::read(options)?;
            let step = match options.step {
                0 => CommitStep::adaptive(),
                bytes => CommitStep::fixed(bytes),
            };
            let mut builder = common_options!(DemandRegion::builder(len), options)
                .step(step)
                .engine(options.engine()?)
                .events(options.events);
            if options.align != 0 {
                builder = builder.align(options.align);
            }
            if let Some(filter) = options.filter {
                let filter = WithContext { filter, context: options.filter_context };
                builder = builder.filter(move |fault| filter.ask(fault));
            }
            done(builder.build())
        })
    }
}

/// The first byte, or null.
///
/// # Safety
/// The pointer is null, or to a living region.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_region_ptr(region: *const DemandRegion) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe { property(region, ptr::null_mut(), |region| region.as_ptr().cast()) }
}

/// Bytes that are reserved.
///
/// # Safety
/// The pointer is null, or to a living region.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_region_len(region: *const DemandRegion) -> usize {
    // SAFETY: the caller's promise.
    unsafe { property(region, 0, DemandRegion::len) }
}

/// Bytes of a page of the region.
///
/// # Safety
/// The pointer is null, or to a living region.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_region_page_size(region: *const DemandRegion) -> usize {
    // SAFETY: the caller's promise.
    unsafe { property(region, 0, DemandRegion::page_size) }
}

/// Bytes that are committed.
///
/// # Safety
/// The pointer is null, or to a living region.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_region_committed(region: *const DemandRegion) -> usize {
    // SAFETY: the caller's promise.
    unsafe { property(region, 0, DemandRegion::committed) }
}

/// Whether all of a range is committed.
///
/// # Safety
/// The pointer is null, or to a living region; the place has room for a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_region_is_committed(
    region: *const DemandRegion,
    offset: usize,
    len: usize,
    answer: *mut c_int,
) -> Status {
    // SAFETY: the caller's promise.
    status(|| unsafe {
        let region = object(region)?;
        store(answer, region.is_committed(range(offset, len)?).into())
    })
}

/// What happened so far.
///
/// # Safety
/// The pointer is null, or to a living region; the place has room for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_region_stats(
    region: *const DemandRegion,
    stats: *mut Stats,
    size: usize,
) -> Status {
    // SAFETY: the caller's promise.
    status(|| unsafe {
        let now = object(region)?.stats();
        let value = Stats {
            faults: now.faults,
            refused: now.refused,
            raced: now.raced,
            events_lost: now.events_lost,
            committed: now.committed,
            peak: now.peak,
            limit: now.limit,
        };
        store_part(stats, size, value)
    })
}

/// Takes events out.
///
/// # Safety
/// The pointer is null, or to a living region; the places have room for `room` events, and for a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_region_events(
    region: *const DemandRegion,
    events: *mut Event,
    room: usize,
    taken: *mut usize,
) -> Status {
    // SAFETY: the caller's promise.
    status(|| unsafe {
        let region = object(region)?;
        store(taken, 0)?;
        if events.is_null() && room > 0 {
            return bad_argument("the place for the events is NULL");
        }
        for (index, event) in region.events().take(room).enumerate() {
            let (start, len, refused) = match event.outcome {
                FaultOutcome::Committed { start, len } => (start, len, 0),
                _ => (0, 0, 1),
            };
            let (offset, access) = (event.offset, access(event.write));
            store(events.add(index), Event { offset, start, len, access, refused })?;
            store(taken, index + 1)?;
        }
        Ok(())
    })
}

/// Which pages are committed and resident.
///
/// # Safety
/// The pointer is null, or to a living region; the place has room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_region_page_map(
    region: *const DemandRegion,
    map: *mut *mut PageMap,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe { make(map, || Ok(PageMap(done(object(region)?.page_map())?))) }
}

/// What the copies have in common. `buffer` is the C program's; `copy` may assume that the range is in the region, that
/// the buffer is not null unless `len` is 0, and that the two are apart.
///
/// # Safety
/// The region is null or alive; `copied` has room for a number, or is null.
unsafe fn copy(
    pointer: *const DemandRegion,
    offset: usize,
    buffer: Option<*const c_void>,
    len: usize,
    copied: *mut usize,
    copy: impl FnOnce(&DemandRegion) -> Result<(), AccessError>,
) -> Status {
    let mut done = 0;
    let status = status(|| {
        // SAFETY: the caller's promise.
        let region = unsafe { object(pointer)? };
        // Checked before the slice is made: a slice longer than `isize::MAX` is undefined behaviour.
        if range(offset, len)?.end > region.len() {
            return bad_argument("the range is not in the region");
        }
        if len == 0 {
            return Ok(());
        }
        if let Some(buffer) = buffer {
            if buffer.is_null() {
                return bad_argument("the buffer is NULL");
            }
            // No longer than the region, so that two places overlap exactly if their distance is less.
            if (region.as_ptr().addr() + offset).abs_diff(buffer.addr()) < len {
                return bad_argument("the buffer overlaps the range");
            }
        }
        match copy(region) {
            Ok(()) => done = len,
            Err(error) => {
                done = error.copied;
                return Err(refused(&error));
            }
        }
        Ok(())
    });
    // SAFETY: the caller's promise.
    if let Some(copied) = unsafe { copied.as_mut() } {
        *copied = done;
    }
    status
}

/// Copies out of a region.
///
/// # Safety
/// The region is null or alive; `into` has room for `len` bytes, `copied` for one number, or is null. No
/// other thread writes to the bytes that are read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_region_read(
    region: *const DemandRegion,
    offset: usize,
    into: *mut c_void,
    len: usize,
    copied: *mut usize,
) -> Status {
    // SAFETY: the caller's promise. (What a C program hands over may hold anything, even nothing yet.)
    unsafe {
        copy(region, offset, Some(into), len, copied, |from| {
            from.read(offset, std::slice::from_raw_parts_mut(into.cast(), len))
        })
    }
}

/// Copies out of a region, and commits nothing.
///
/// # Safety
/// As [`pagewise_region_read`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_region_peek(
    region: *const DemandRegion,
    offset: usize,
    into: *mut c_void,
    len: usize,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        copy(region, offset, Some(into), len, ptr::null_mut(), |from| {
            from.peek(offset, std::slice::from_raw_parts_mut(into.cast(), len))
        })
    }
}

/// Copies into a region.
///
/// # Safety
/// The region is null or alive; `from` has `len` bytes, `copied` room for one number, or is null. No
/// other thread uses the bytes that are written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_region_write(
    region: *mut DemandRegion,
    offset: usize,
    from: *const c_void,
    len: usize,
    copied: *mut usize,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        copy(region, offset, Some(from), len, copied, |to| {
            to.write_shared(offset, std::slice::from_raw_parts(from.cast(), len))
        })
    }
}

/// Writes the same byte to a range.
///
/// # Safety
/// The region is null or alive; `filled` has room for one number, or is null. Nobody else uses the region.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_region_fill(
    region: *mut DemandRegion,
    offset: usize,
    len: usize,
    byte: c_int,
    filled: *mut usize,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        copy(region, offset, None, len, filled, |_| {
            (*region).fill(offset..offset + len, byte as u8)
        })
    }
}

/// Commits a range.
///
/// # Safety
/// The region is null or alive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_region_commit(
    region: *mut DemandRegion,
    offset: usize,
    len: usize,
) -> Status {
    // SAFETY: the caller's promise.
    status(|| done(unsafe { object(region)? }.commit(range(offset, len)?)))
}

/// Decommits a range.
///
/// # Safety
/// The region is null or alive, and nobody uses the pages of the range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_region_decommit(
    region: *mut DemandRegion,
    offset: usize,
    len: usize,
) -> Status {
    // SAFETY: the caller's promise.
    status(|| unsafe { done(object(region)?.decommit_shared(range(offset, len)?)) })
}

/// Makes a range read zero.
///
/// # Safety
/// The region is null or alive, and nobody else uses it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_region_zero(
    region: *mut DemandRegion,
    offset: usize,
    len: usize,
) -> Status {
    // SAFETY: the caller's promise.
    status(|| done(unsafe { object_mut(region)? }.zero(range(offset, len)?)))
}

/// Releases a region, and says whether that went well.
///
/// # Safety
/// The region is null, or was made by [`pagewise_region_new`] and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_region_release(region: *mut DemandRegion) -> Status {
    status(|| {
        // SAFETY: the caller's promise.
        unsafe { object(region)? };
        // SAFETY: as above.
        done(unsafe { Box::from_raw(region) }.release())
    })
}

/// Releases a region.
///
/// # Safety
/// The region is null, or was made by [`pagewise_region_new`] and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_region_free(region: *mut DemandRegion) {
    // SAFETY: the caller's promise.
    unsafe { free(region) }
}
