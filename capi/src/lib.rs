//! The C interface: see `include/pagewise.h`, which documents it for those who call it.
//!
//! A panic never leaves a function: all work happens inside `status::guarded`. A null pointer for an object is an error
//! of the caller, which every function reports.
#![deny(unsafe_op_in_unsafe_fn, missing_docs)]

use std::ffi::c_uint;

mod arena;
mod budget;
pub mod constants;
mod fault;
mod filter;
mod options;
mod page_map;
mod region;
mod reservation;
mod status;

pub use arena::*;
pub use budget::*;
pub use fault::*;
pub use filter::{Fault, Filter};
pub use options::{Options, pagewise_options_default};
pub use page_map::*;
pub use region::*;
pub use reservation::*;
pub use status::{Status, pagewise_last_error};

/// The version of the interface that the library has.
#[unsafe(no_mangle)]
pub extern "C" fn pagewise_abi_version() -> c_uint {
    constants::ABI_VERSION
}

/// Bytes of a page; 0 after a panic.
#[unsafe(no_mangle)]
pub extern "C" fn pagewise_page_size() -> usize {
    status::guarded(|| Ok(pagewise::page_size())).unwrap_or(0)
}

#[cfg(test)]
mod tests;
