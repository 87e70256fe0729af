//! Stores, each for itself: where the pages of a paged region come from.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/store_contract.rs"]
mod store_contract;

mod files_are_stores;
