//! Regions whose pages come from a store. (On systems without them: that they say so.)

#[path = "../common/mod.rs"]
mod common;
mod stores;

#[cfg(target_os = "linux")]
mod behaves_as_a_plain_array;
