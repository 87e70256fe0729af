//! The functions of `table.rs` for pages that come from elsewhere, for systems other than Linux: they return an error, or
//! have no effect. Only the first two are ever called.

use std::fs::File;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;

use super::{Access, OsError, Span};

const NONE: OsError = OsError(0);

pub(crate) fn pages_move() -> bool {
    false
}

pub(crate) fn shared_memory(_: usize) -> Result<File, OsError> {
    Err(NONE)
}

/// Functions of a range that fail.
macro_rules! of_ranges {
    ($($name:ident),*) => {$(
        /// # Safety
        /// None.
        pub(crate) unsafe fn $name(_: NonNull<u8>, _: usize) -> Result<(), OsError> {
            Err(NONE)
        }
    )*};
}

of_ranges!(
    populate_for_writing,
    userfault_forget,
    forbid_writing,
    allow_writing,
    keep_from_children,
    map_nothing
);

/// # Safety
/// None.
pub(crate) unsafe fn copy_pages(
    _: NonNull<u8>,
    _: NonNull<u8>,
    _: usize,
    _: bool,
) -> Result<(), OsError> {
    Err(NONE)
}

/// # Safety
/// None.
pub(crate) unsafe fn move_pages(
    _: NonNull<u8>,
    _: NonNull<u8>,
    _: usize,
    _: bool,
) -> Result<(), OsError> {
    Err(NONE)
}

pub(crate) fn occupy(_: NonNull<u8>, _: usize) -> Result<(), OsError> {
    Err(NONE)
}

/// # Safety
/// None.
pub(crate) unsafe fn map_shared(
    _: &File,
    _: u64,
    _: usize,
    _: Option<NonNull<u8>>,
    _: Access,
) -> Result<NonNull<u8>, OsError> {
    Err(NONE)
}

pub(crate) fn empty_shared(_: &File, _: u64, _: u64) -> Result<(), OsError> {
    Err(NONE)
}

pub(crate) fn wait_while(_: &AtomicU32, _: u32) {}

pub(crate) fn wake(_: *const AtomicU32, _: u32) {}

pub(crate) fn now_ns() -> u64 {
    0
}

/// # Safety
/// None.
pub(crate) unsafe fn userfault_pages(_: NonNull<u8>, _: usize, _: bool) -> Result<(), OsError> {
    Err(NONE)
}

pub(crate) fn userfault_is_open() -> bool {
    false
}

pub(crate) fn process_mark() -> u64 {
    0
}

pub(crate) fn zeroes_at_once() -> bool {
    false
}

pub(crate) fn processor() -> u32 {
    0
}

pub(crate) fn mark_process() -> Result<(), OsError> {
    Err(NONE)
}

/// # Safety
/// None.
pub(crate) unsafe fn zero_each(_: &[Span]) -> Result<(), OsError> {
    Err(NONE)
}

pub(crate) fn fill_shared(_: &File, _: u64, _: u64) -> Result<(), OsError> {
    Err(NONE)
}

/// # Safety
/// None.
pub(crate) unsafe fn keep_pages_small_and_own(_: NonNull<u8>, _: usize) {}
