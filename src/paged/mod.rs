//! Memory whose pages come from a store, and go back to it.

mod store;

pub use store::{InHandler, PageStore};
