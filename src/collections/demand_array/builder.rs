//! Options for a sparse array.

use std::fmt;
use std::marker::PhantomData;

use zerocopy::FromZeros;

use super::DemandArray;
use crate::demand::{CommitStep, DemandRegion, DemandRegionBuilder};
use crate::error::Error;
use crate::reservation::{Engine, reservation_options};

/// Options for a [`DemandArray`]: those of a [`DemandRegionBuilder`].
///
/// ```
/// use pagewise::{Budget, CommitStep, DemandArray};
///
/// let layer = DemandArray::<f32>::builder(1 << 30)
///     .budget(Budget::new(1 << 20)) // bytes that may be committed, by all who share it
///     .step(CommitStep::page());    // one page for each fault
/// let [mut heat, mut height] = [layer.clone().name("heat").build()?, layer.name("height").build()?];
/// (heat[7], height[7]) = (36.6, 0.5);
/// assert!(heat.committed() + height.committed() <= 1 << 20);
/// # Ok::<(), pagewise::Error>(())
/// ```
///
/// ```
/// use pagewise::{CommitStep, DemandArray};
///
/// let mut table = DemandArray::<u64>::builder(1 << 40) // elements: addresses only
///     .limit(64 << 20)                                 // bytes that may be committed
///     .step(CommitStep::page())                        // one page for each fault
///     .build()?;
/// table[1 << 39] = 7;
/// assert_eq!(table.committed(), table.page_size());
/// # Ok::<(), pagewise::Error>(())
/// ```
#[must_use = "a builder reserves nothing until `build`"]
pub struct DemandArrayBuilder<T> {
    len: usize,
    region: DemandRegionBuilder,
    makes: PhantomData<fn() -> T>,
}

// (Not derived: that would ask for `T: Clone`.)
impl<T> Clone for DemandArrayBuilder<T> {
    fn clone(&self) -> Self {
        Self { len: self.len, region: self.region.clone(), makes: PhantomData }
    }
}

impl<T: FromZeros> DemandArrayBuilder<T> {
    pub(super) fn new(len: usize) -> Self {
        let bytes = len.saturating_mul(size_of::<T>());
        let region = DemandRegion::builder(bytes).align(align_of::<T>());
        Self { len, region, makes: PhantomData }
    }

    reservation_options!(region);

    /// Aligns the first element to `align` bytes, a power of two; at least as `T` needs it.
    ///
    /// ```
    /// let tables = pagewise::DemandArray::<u64>::builder(1 << 20).align(1 << 21).build()?;
    /// assert_eq!(tables.as_ptr().addr() % (1 << 21), 0);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn align(mut self, align: usize) -> Self {
        // What is no power of two is left for `build` to refuse.
        let is_less = align.is_power_of_two() && align < align_of::<T>();
        self.region = self.region.align(if is_less { align_of::<T>() } else { align });
        self
    }

    /// Takes less where the address space is small, but not below `min_len` elements.
    ///
    /// ```
    /// let sparse = pagewise::DemandArray::<u64>::builder(1 << 40).at_least(1 << 20).build()?;
    /// assert!(sparse.len() >= 1 << 20); // `len` says what it came to
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn at_least(mut self, min_len: usize) -> Self {
        self.region = self.region.at_least(min_len.saturating_mul(size_of::<T>()));
        self
    }

    /// Sets how much one fault commits: see [`CommitStep`].
    ///
    /// ```
    /// use pagewise::{CommitStep, DemandArray};
    ///
    /// let mut blocks = DemandArray::<u64>::builder(1 << 30).step(CommitStep::fixed(1 << 20)).build()?;
    /// blocks[1 << 29] = 1;
    /// assert_eq!(blocks.committed(), 1 << 20);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn step(mut self, step: CommitStep) -> Self {
        self.region = self.region.step(step);
        self
    }

    /// Sets which mechanism catches and serves the faults.
    ///
    /// ```
    /// use pagewise::{DemandArray, Engine};
    ///
    /// let mut bytes = DemandArray::<u8>::builder(1 << 30).engine(Engine::Protect).build()?;
    /// bytes[7] = 1; // `Protect` works on every system
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn engine(mut self, engine: Engine) -> Self {
        self.region = self.region.engine(engine);
        self
    }

    /// Makes room for `capacity` fault events until they are taken: see [`DemandRegionBuilder::events`].
    ///
    /// ```
    /// let mut probed = pagewise::DemandArray::<u8>::builder(1 << 30).events(2).build()?;
    /// (0..8).for_each(|n| probed[n << 24] = 1);
    /// assert_eq!(probed.events().count(), 2);
    /// assert_eq!(probed.stats().events_lost, 6); // what found no room is counted
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn events(mut self, capacity: usize) -> Self {
        self.region = self.region.events(capacity);
        self
    }

    /// Reserves the addresses of the array; commits nothing. None → Reserved.
    ///
    /// # Errors
    /// As [`DemandRegionBuilder::build`]: [`ZeroLength`](crate::Error::ZeroLength),
    /// [`Overflow`](crate::Error::Overflow), [`AddressSpaceExhausted`](crate::Error::AddressSpaceExhausted),
    /// [`MappingsExhausted`](crate::Error::MappingsExhausted), [`Locked`](crate::Error::Locked),
    /// [`System`](crate::Error::System), [`BadAlignment`](crate::Error::BadAlignment) or
    /// [`Unsupported`](crate::Error::Unsupported).
    ///
    /// ```
    /// use pagewise::{DemandArray, Error};
    ///
    /// let all = DemandArray::<u64>::builder(usize::MAX).build();
    /// assert!(matches!(all, Err(Error::Overflow { .. })));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn build(self) -> Result<DemandArray<T>, Error> {
        let region = self.region.build()?;
        // Fewer where addresses are scarce.
        let len = self.len.min(region.len() / size_of::<T>());
        Ok(DemandArray { region, len, owns: PhantomData })
    }
}

impl<T> fmt::Debug for DemandArrayBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut builder = f.debug_struct("DemandArrayBuilder");
        builder.field("len", &self.len);
        self.region.reservation.describe(&mut builder);
        builder.finish_non_exhaustive()
    }
}
