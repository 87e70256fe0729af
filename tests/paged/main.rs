//! Regions whose pages come from a store. (On systems without them: that they say so.)

#[path = "../common/mod.rs"]
mod common;
mod stores;

#[cfg(target_os = "linux")]
mod behaves_as_a_plain_array;
#[cfg(target_os = "linux")]
mod threads_share_an_array;
#[cfg(target_os = "linux")]
mod what_a_store_cannot_do_is_an_error;
