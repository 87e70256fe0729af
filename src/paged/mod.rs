//! Memory whose pages come from a store, and go back to it.

mod file_store;
mod store;

pub use file_store::{FileStore, FileStoreBuilder};
pub use store::{InHandler, PageStore};
