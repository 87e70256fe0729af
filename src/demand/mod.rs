//! Memory that commits itself when it is touched, by way of page faults.

mod access;
mod builder;
mod filter;
mod region;
mod repeats;
mod serving;
mod step;

pub use builder::DemandRegionBuilder;
pub use filter::{FaultAnswer, PageFault};
pub use region::{DemandRegion, Stats};
pub use step::CommitStep;
