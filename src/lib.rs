//! pagewise
#![deny(unsafe_op_in_unsafe_fn, missing_docs)]
#![warn(clippy::undocumented_unsafe_blocks)]

mod budget;
mod demand;
mod error;
pub mod fault;
mod os;
mod page;
mod page_map;
mod page_states;
mod reservation;
mod sync;

pub use budget::Budget;
pub use demand::{
    AccessError, CommitStep, DemandRegion, DemandRegionBuilder, Engine, FaultEvent, FaultOutcome,
    Refused, RefusedReason, Stats,
};
pub use error::Error;
pub use os::{Access, HugePages};
pub use page::{page_size, reserve_granularity};
pub use page_map::{PageMap, PageRun, PageState};
pub use reservation::{Reservation, ReservationBuilder};

#[cfg(any(miri, pagewise_model))]
#[doc(hidden)]
pub use os::refuse_commits_after;
