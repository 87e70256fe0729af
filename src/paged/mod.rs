//! Memory whose pages come from a store, and go back to it.

mod file_store;
#[cfg(feature = "lz4")]
mod memory_store;
mod store;

pub use file_store::{FileStore, FileStoreBuilder};
#[cfg(feature = "lz4")]
pub use memory_store::MemoryStore;
pub use store::{InHandler, PageStore};
