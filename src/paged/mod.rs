//! Memory whose pages come from a store, and go back to it.

mod access;
#[cfg(feature = "zerocopy")]
mod array;
mod builder;
mod cache;
mod calls;
mod core;
mod dropping;
mod engines;
mod file_store;
mod jobs;
#[cfg(feature = "lz4")]
mod memory_store;
mod moves;
mod neighbours;
mod pin;
mod region;
mod room;
mod rows;
mod serving;
mod stats;
mod store;
mod writing;

pub use access::PagedError;
#[cfg(feature = "zerocopy")]
pub use array::PagedArray;
pub use builder::{PagedRegionBuilder, SecondChance, WriteBack};
pub use file_store::{FileStore, FileStoreBuilder};
#[cfg(feature = "lz4")]
pub use memory_store::MemoryStore;
pub use pin::{Pinned, PinnedMut};
pub use region::{PagedRegion, PagedState};
pub use stats::PagedStats;
pub use store::{InHandler, PageStore};
