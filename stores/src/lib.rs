//! Stores of pages for [`pagewise`]: arrays in an object store, or in a Redis Cluster.
//!
//! - [`ObjectStore`]: S3, Google Cloud Storage, Azure, folders; each extent is an object.
//! - [`RedisStore`]: a Redis Cluster; each extent is a value.
//!
//! Both are [`PageStore`](pagewise::PageStore)s: a region on one of them is an array in the store, of which the program
//! keeps as much in memory as its limit allows.
//!
//! # What both promise
//!
//! - **A damaged extent is an error**, and never data. Each has a checksum over its bytes, its place and its store.
//! - **A call returns within the deadline** that the program sets: with an error where the server gave no good answer
//!   until then. What fails in passing is tried again, with pauses that become longer.
//! - **What nobody wrote reads zero**, and takes no space.
//! - **Nothing unasked**: no thread but those that the builder is told of, no credentials but those that are in the client
//!   that the program made.
//!
//! What they do not promise: transactions, an order between pages, or more than one writer at a time.
//!
//! `docs/stores.md` of the project has the layout, what survives what, and what a program must not do.
//!
//! # Features
//!
//! - `redis` (default): [`RedisStore`].
//! - `aws`, `gcp`, `azure`: `object_store`'s clients for these services. Its clients for folders and for memory are always
//!   there.
//!
//! # Public dependencies
//!
//! [`object_store`] 0.13 and [`redis`] 1 are part of the interface, and re-exported; so is the runtime's handle of tokio 1.
#![deny(unsafe_code, missing_docs)]

mod calls;
mod error;
mod extents;
mod layout;
mod objects;
#[cfg(feature = "redis")]
mod redis_cluster;
#[cfg(feature = "redis")]
mod redis_lanes;

pub use error::{Error, Operation};
pub use objects::{ObjectStore, ObjectStoreBuilder};
#[cfg(feature = "redis")]
pub use redis_cluster::{RedisStore, RedisStoreBuilder};

pub use object_store;
#[cfg(feature = "redis")]
pub use redis;
