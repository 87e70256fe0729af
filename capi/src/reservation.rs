//! Reservations: memory that is committed explicitly.

use std::ffi::{c_int, c_void};
use std::ptr;

use pagewise::{Access, Reservation};

use crate::constants::*;
use crate::options::{Options, common_options};
use crate::page_map::PageMap;
use crate::status::*;

/// Makes a reservation.
///
/// # Safety
/// The options are null or as the header says, and so is what they point to; the place has room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_reservation_new(
    len: usize,
    options: *const Options,
    reservation: *mut *mut Reservation,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        make(reservation, || {
            let options = Options::read(options)?;
            options.without_faults()?;
            let mut builder = common_options!(Reservation::builder(len), options);
            if options.align != 0 {
                builder = builder.align(options.align);
            }
            done(builder.build())
        })
    }
}

/// The first byte, or null.
///
/// # Safety
/// The pointer is null, or to a living reservation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_reservation_ptr(reservation: *const Reservation) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe { property(reservation, ptr::null_mut(), |memory| memory.as_ptr().cast()) }
}

/// Bytes that are reserved.
///
/// # Safety
/// The pointer is null, or to a living reservation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_reservation_len(reservation: *const Reservation) -> usize {
    // SAFETY: the caller's promise.
    unsafe { property(reservation, 0, Reservation::len) }
}

/// Bytes of a page of the reservation.
///
/// # Safety
/// The pointer is null, or to a living reservation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_reservation_page_size(reservation: *const Reservation) -> usize {
    // SAFETY: the caller's promise.
    unsafe { property(reservation, 0, Reservation::page_size) }
}

/// Bytes that are committed.
///
/// # Safety
/// The pointer is null, or to a living reservation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_reservation_committed(reservation: *const Reservation) -> usize {
    // SAFETY: the caller's promise.
    unsafe { property(reservation, 0, Reservation::committed) }
}

/// The most bytes that were ever committed at once.
///
/// # Safety
/// The pointer is null, or to a living reservation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_reservation_peak(reservation: *const Reservation) -> usize {
    // SAFETY: the caller's promise.
    unsafe { property(reservation, 0, Reservation::peak) }
}

/// Bytes that may be committed.
///
/// # Safety
/// The pointer is null, or to a living reservation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_reservation_limit(reservation: *const Reservation) -> usize {
    // SAFETY: the caller's promise.
    unsafe { property(reservation, 0, Reservation::limit) }
}

/// Whether all of a range is committed.
///
/// # Safety
/// The pointer is null, or to a living reservation; the place has room for a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_reservation_is_committed(
    reservation: *const Reservation,
    offset: usize,
    len: usize,
    answer: *mut c_int,
) -> Status {
    // SAFETY: the caller's promise.
    status(|| unsafe {
        let reservation = object(reservation)?;
        store(answer, reservation.is_committed(range(offset, len)?).into())
    })
}

/// Which pages are committed and resident.
///
/// # Safety
/// The pointer is null, or to a living reservation; the place has room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_reservation_page_map(
    reservation: *const Reservation,
    map: *mut *mut PageMap,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe { make(map, || Ok(PageMap(done(object(reservation)?.page_map())?))) }
}

/// Runs an operation on a range.
///
/// # Safety
/// The pointer is null, or to a living reservation; what the operation does to the bytes of the range is the caller's
/// business.
unsafe fn on_range(
    reservation: *const Reservation,
    offset: usize,
    len: usize,
    operation: impl FnOnce(&Reservation, std::ops::Range<usize>) -> Result<(), pagewise::Error>,
) -> Status {
    // SAFETY: the caller's promise.
    status(|| done(operation(unsafe { object(reservation)? }, range(offset, len)?)))
}

/// Commits a range.
///
/// # Safety
/// The pointer is null, or to a living reservation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_reservation_commit(
    reservation: *mut Reservation,
    offset: usize,
    len: usize,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe { on_range(reservation, offset, len, |memory, range| memory.commit(range)) }
}

/// Decommits a range.
///
/// # Safety
/// The pointer is null, or to a living reservation; nobody uses the pages of the range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_reservation_decommit(
    reservation: *mut Reservation,
    offset: usize,
    len: usize,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe { on_range(reservation, offset, len, |memory, range| memory.decommit(range)) }
}

/// Makes a range of committed pages read zero.
///
/// # Safety
/// The pointer is null, or to a living reservation; nobody uses the range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_reservation_zero(
    reservation: *mut Reservation,
    offset: usize,
    len: usize,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe { on_range(reservation, offset, len, |memory, range| memory.zero(range)) }
}

/// Lets the system take the contents of a range of committed pages.
///
/// # Safety
/// The pointer is null, or to a living reservation; nobody uses the range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_reservation_discard(
    reservation: *mut Reservation,
    offset: usize,
    len: usize,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe { on_range(reservation, offset, len, |memory, range| memory.discard(range)) }
}

/// Gives committed pages other access rights.
///
/// # Safety
/// The pointer is null, or to a living reservation; nobody uses the range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_reservation_protect(
    reservation: *mut Reservation,
    offset: usize,
    len: usize,
    access: c_int,
) -> Status {
    let access = match access {
        ACCESS_NONE => Access::None,
        ACCESS_READ => Access::Read,
        ACCESS_READ_WRITE => Access::ReadWrite,
        ACCESS_READ_EXECUTE => Access::ReadExecute,
        _ => return fail(Status::Argument, &"the access is no pagewise_access"),
    };
    // SAFETY: the caller's promise.
    unsafe { on_range(reservation, offset, len, |memory, range| memory.protect(range, access)) }
}

/// Makes committed pages resident.
///
/// # Safety
/// The pointer is null, or to a living reservation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_reservation_prefault(
    reservation: *mut Reservation,
    offset: usize,
    len: usize,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe { on_range(reservation, offset, len, |memory, range| memory.prefault(range)) }
}

/// Keeps committed pages resident.
///
/// # Safety
/// The pointer is null, or to a living reservation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_reservation_lock(
    reservation: *mut Reservation,
    offset: usize,
    len: usize,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe { on_range(reservation, offset, len, |memory, range| memory.lock(range)) }
}

/// Ends that.
///
/// # Safety
/// The pointer is null, or to a living reservation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_reservation_unlock(
    reservation: *mut Reservation,
    offset: usize,
    len: usize,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe { on_range(reservation, offset, len, |memory, range| memory.unlock(range)) }
}

/// Changes the limit.
///
/// # Safety
/// The pointer is null, or to a living reservation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_reservation_set_limit(
    reservation: *mut Reservation,
    bytes: usize,
) -> Status {
    // SAFETY: the caller's promise.
    status(|| done(unsafe { object(reservation)? }.set_limit(bytes)))
}

/// Releases a reservation, and says whether that went well.
///
/// # Safety
/// The pointer is null, or came from [`pagewise_reservation_new`] and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_reservation_release(reservation: *mut Reservation) -> Status {
    status(|| {
        // SAFETY: the caller's promise.
        unsafe { object(reservation)? };
        // SAFETY: as above.
        done(unsafe { Box::from_raw(reservation) }.release())
    })
}

/// Releases a reservation.
///
/// # Safety
/// The pointer is null, or came from [`pagewise_reservation_new`] and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pagewise_reservation_free(reservation: *mut Reservation) {
    // SAFETY: the caller's promise.
    unsafe { free(reservation) }
}
