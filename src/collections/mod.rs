//! Arrays and an arena whose elements never move.

#[macro_use]
mod equality;

pub mod arena;
#[cfg(all(feature = "serde", not(loom)))]
mod at_most;
pub mod concurrent_vec;
#[cfg(feature = "zerocopy")]
mod demand_array;
mod frontier;
pub mod page_vec;
mod push_error;

pub use arena::{AllocOrInitError, Arena, ArenaBuilder, Checkpoint};
#[cfg(all(feature = "serde", not(loom)))]
pub use at_most::AtMost;
pub use concurrent_vec::{ConcurrentVec, ConcurrentVecBuilder};
#[cfg(feature = "zerocopy")]
pub use demand_array::{DemandArray, DemandArrayBuilder};
pub use page_vec::{PageVec, PageVecBuilder};
pub use push_error::PushError;
