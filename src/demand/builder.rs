//! Options for a region.

use std::ptr;

use super::events::EventRing;
use super::region::DemandRegion;
use super::repeats::Repeats;
use super::serving::{Core, Counters, forked, serve};
use super::step::{CommitStep, StepPolicy};
use crate::error::Error;
use crate::fault::{self, Registered};
use crate::reservation::{Engine, ReservationBuilder, reservation_options};

/// Options for a [`DemandRegion`].
///
/// ```
/// use pagewise::{CommitStep, DemandRegion};
///
/// let region = DemandRegion::builder(1 << 30)
///     .limit(64 << 20)                  // bytes that may be committed
///     .step(CommitStep::fixed(1 << 16)) // bytes that one fault commits
///     .events(1024)                     // faults to remember
///     .build()?;
/// assert_eq!(region.stats().limit, 64 << 20);
/// # Ok::<(), pagewise::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder reserves nothing until `build`"]
pub struct DemandRegionBuilder {
    pub(crate) reservation: ReservationBuilder,
    step: CommitStep,
    events: usize,
}

impl DemandRegionBuilder {
    pub(super) fn new(len: usize) -> Self {
        let reservation = ReservationBuilder::new(len).engine(Engine::Auto);
        Self { reservation, step: CommitStep::default(), events: 0 }
    }

    reservation_options!(reservation);

    /// As [`ReservationBuilder::align`].
    pub fn align(mut self, align: usize) -> Self {
        self.reservation = self.reservation.align(align);
        self
    }

    /// As [`ReservationBuilder::at_least`].
    pub fn at_least(mut self, min: usize) -> Self {
        self.reservation = self.reservation.at_least(min);
        self
    }

    /// How much one fault commits. [`CommitStep::adaptive`] unless told otherwise.
    pub fn step(mut self, step: CommitStep) -> Self {
        self.step = step;
        self
    }

    /// Which mechanism serves the faults.
    pub fn engine(mut self, engine: Engine) -> Self {
        self.reservation = self.reservation.engine(engine);
        self
    }

    /// Remembers this many fault events (rounded up to a power of two) until they are taken. None
    /// unless told otherwise.
    pub fn events(mut self, capacity: usize) -> Self {
        self.events = capacity;
        self
    }

    /// Reserves, and registers with the fault handler, which the first region installs.
    ///
    /// # Errors
    /// As [`DemandRegion::new`].
    pub fn build(self) -> Result<DemandRegion, Error> {
        if !cfg!(any(miri, pagewise_model)) {
            fault::install()?;
        }
        let reservation = self.reservation.build()?;
        let block = reservation.page().page_of(reservation.huge_page_size());
        let start = reservation.as_ptr().addr();
        let registered =
            Registered { start, end: start + reservation.len(), owner: ptr::null(), serve, forked };
        let mut core = Box::new(Core {
            reservation,
            step: StepPolicy::new(self.step, block),
            events: EventRing::new(self.events),
            counters: Counters::default(),
            repeats: Repeats::new(),
            registered,
        });
        core.registered.owner = ptr::from_ref(&*core).cast();
        // SAFETY: the box keeps the entry in its place until `drop` or `release` unregisters it; the
        // addresses belong to its reservation alone.
        unsafe { fault::register(&core.registered) };
        Ok(DemandRegion { core })
    }
}
