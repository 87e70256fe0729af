//! Memory that is *reserved* once and *committed* as it is needed: explicitly, or by itself, at the
//! moment a page is touched.
//!
//! ```
//! use pagewise::DemandRegion;
//!
//! // A terabyte of zeros, of which at most 64 MiB can be committed.
//! let mut region = DemandRegion::builder(1 << 40).limit(64 << 20).build()?;
//! region.as_mut_slice()[123_456_789_012] = 1; // a page fault commits that page, and we go on
//! assert!(region.committed() <= 64 << 10);
//!
//! // Past the limit there is an error, not a crash; everything before it is there.
//! let stopped = region.fill(.., 7).unwrap_err();
//! println!("{stopped}");
//! assert_eq!(region.as_slice()[stopped.copied - 1], 7);
//! # Ok::<(), pagewise::Error>(())
//! ```
//!
//! # Which type
//!
//! | you want | take |
//! |---|---|
//! | `Vec` for something large, with elements that never move and a maximum | [`PageVec<T>`](PageVec) |
//! | to append from many threads, and read all of it as one slice | [`ConcurrentVec<T>`](ConcurrentVec) |
//! | a huge sparse table, or atomics that threads share | [`DemandArray<T>`](DemandArray) |
//! | many small things that are freed together; memory for other collections | [`Arena`] |
//! | bytes that commit themselves when touched, in any order, from any thread | [`DemandRegion`] |
//! | a file as memory, where truncation or a failing disk is an error | [`MappedFile`] |
//! | more than fits into memory, from a file or another store, in a cache of your size | [`PagedRegion`], [`PagedArray<T>`](PagedArray) |
//! | to decide yourself which pages are committed, protected, locked | [`Reservation`] |
//! | one limit for any number of these (files aside) | [`Budget`] |
//! | to keep your own fault handler, and call pagewise's from it | [`fault`] |
//!
//! Each is for memory that is large, grows, or is sparse. Small or short-lived things belong on the heap: each
//! array has addresses of its own, commits 64 KiB at once, and takes system calls to make and to drop.
//!
//! # Features
//!
//! - `zerocopy` (default): [`DemandArray`], for types of which all-zero bytes are a valid value.
//! - `allocator-api2` (default): `&`[`Arena`] as an allocator, for hashbrown and others.
//! - `serde`: [`PageVec`] and [`ConcurrentVec`] to and from serialised sequences, with a maximum.
//! - `rayon`: parallel iterators over [`PageVec`] and [`ConcurrentVec`].
//! - `lz4`: [`MemoryStore`], compressed memory as a store of pages.
//!
//! The crate needs `std`.
//!
//! # Words
//!
//! A page of a reservation is in one of these states:
//!
//! ```text
//! None ──reserve──▶ Reserved ──commit──▶ Committed ──touch──▶ Resident
//!                      ▲      or a fault     │   or prefault     │
//!                      └──────decommit───────┴───────────────────┘
//!
//! release: from any of them to None
//! ```
//!
//! - **Reserved**: addresses only. Access faults. Costs no memory and no commit charge.
//! - **Committed**: charged against the limit and against the system; reads zero until written.
//! - **Resident**: backed by physical memory now. The system decides this; [`PageMap`] shows it.
//! - To **zero** pages: they stay committed and read zero. To **discard** them: they stay committed and
//!   hold anything. To **protect** them: other access rights. To **prefault**: make them resident.
//! - A **fault** is an access to a page that is not accessible. It is **refused** when it must not be
//!   served: a limit is reached, or the system says no.
//! - A **step** is how much one fault or one growth commits. A **budget** is a commit limit that any
//!   number of reservations share.
//!
//! Commit rounds *outward* to whole pages; decommit and discard round *inward*: a page that is only partly
//! inside the range keeps its contents. Zeroing zeroes exactly the bytes that are named. Lengths, offsets
//! and limits are in bytes.
//!
//! Page tables are memory, too, and no limit counts them: the system needs 4 KiB for each 2 MiB in which a
//! page was touched (where pages are 4 KiB).
//!
//! # What runs unasked
//!
//! Nothing. [`PageVec`], [`ConcurrentVec`] and [`Arena`] commit explicitly, and raise no page faults;
//! [`DemandRegion`] and [`DemandArray`] are committed by faults, and the handler passes on all faults that are
//! not pagewise's. pagewise installs no signal handler before the first [`DemandRegion`], [`MappedFile`] or
//! [`PagedRegion`], starts no thread but those that a [`PagedRegion`] is [asked for](PagedRegionBuilder::io_threads), and
//! reads no environment variable. On Unix, the first reservation, or the first
//! [`attempt`](fault::attempt), registers a child handler by `pthread_atfork`.
//!
//! # Public dependencies
//!
//! zerocopy 0.8, allocator-api2 0.2, serde 1 and rayon 1 are part of the interface where their features are on:
//! a new major version of one of them is a new major version of pagewise. `docs/dependencies.md` in the package says
//! what of each, and why allocator-api2 stays at the version of hashbrown and bumpalo.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(unsafe_op_in_unsafe_fn, missing_docs)]
#![warn(clippy::undocumented_unsafe_blocks)]
// Loom's models use a part of the library.
#![cfg_attr(loom, allow(dead_code, unused_imports))]

mod collections;
mod demand;
mod error;
pub mod fault;
mod mapped_file;
mod os;
mod page;
mod paged;
mod reservation;
mod sync;

/// How tests say aloud what they cannot show here: the same for those in `src/` and in `tests/`.
#[cfg(test)]
#[path = "../tests/common/not_here.rs"]
mod not_here;

#[cfg(all(feature = "serde", not(loom)))]
#[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
#[doc(inline)]
pub use collections::AtMost;
#[doc(inline)]
pub use collections::{AllocOrInitError, Arena, ArenaBuilder, Checkpoint, arena};
#[doc(inline)]
pub use collections::{ConcurrentVec, ConcurrentVecBuilder, concurrent_vec};
#[cfg(feature = "zerocopy")]
#[cfg_attr(docsrs, doc(cfg(feature = "zerocopy")))]
#[doc(inline)]
pub use collections::{DemandArray, DemandArrayBuilder};
#[doc(inline)]
pub use collections::{PageVec, PageVecBuilder, PushError, page_vec};
#[doc(inline)]
pub use demand::{CommitStep, DemandRegion, DemandRegionBuilder, FaultAnswer, PageFault, Stats};
#[doc(inline)]
pub use error::{AccessError, Error, Refusal, RefusalReason};
#[doc(inline)]
pub use fault::{FaultEvent, FaultOutcome};
#[doc(inline)]
pub use mapped_file::{FileReader, MappedFile, MappedFileBuilder};
#[doc(inline)]
pub use os::{Access, Expected, FileAccess, HugePages, OsError};
#[doc(inline)]
pub use page::{page_size, reserve_granularity};
#[cfg(feature = "lz4")]
#[cfg_attr(docsrs, doc(cfg(feature = "lz4")))]
#[doc(inline)]
pub use paged::MemoryStore;
#[cfg(feature = "zerocopy")]
#[cfg_attr(docsrs, doc(cfg(feature = "zerocopy")))]
#[doc(inline)]
pub use paged::PagedArray;
#[doc(inline)]
pub use paged::{
    FileStore, FileStoreBuilder, InHandler, PageStore, PagedError, PagedRegion, PagedRegionBuilder,
    PagedState, PagedStats, Pinned, PinnedMut, SecondChance, WriteBack,
};
#[doc(inline)]
pub use reservation::{
    Budget, BudgetGuard, Engine, PageMap, PageRun, PageState, Reservation, ReservationBuilder,
};

#[cfg(any(miri, pagewise_model, pagewise_refusals))]
#[doc(hidden)]
pub use os::refusals;
