//! Memory whose pages come from a store, and go back to it.

mod builder;
mod cache;
mod core;
mod engines;
mod jobs;
mod moves;
mod pin;
mod region;
mod stats;
mod store;

pub use builder::{PagedRegionBuilder, WriteBack};
pub use pin::{Pinned, PinnedMut};
pub use region::{PagedError, PagedRegion, PagedState};
pub use stats::PagedStats;
pub use store::{InHandler, PageStore};
