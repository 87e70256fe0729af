//! Stores, each for itself: where the pages of a paged region come from.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/store_contract.rs"]
mod store_contract;

#[cfg(feature = "lz4")]
mod compressed_memory_is_a_store;
mod files_are_stores;
