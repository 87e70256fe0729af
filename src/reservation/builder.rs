//! Options for a reservation, and how it is made.

use std::ffi::CString;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use super::budget::{Account, Budget};
use super::engines::{ChosenEngine, Engine, Ground, Resolved};
use super::pages::PageStates;
use super::{HUGE_PAGE, LONG_RUN, Reservation};
use crate::error::Error;
use crate::os::{self, Attributes, Cause, HugePages, OsError};
use crate::page::PageSize;
use crate::sync::Forks;

/// Options for a [`Reservation`].
///
/// ```
/// use pagewise::Reservation;
///
/// let memory = Reservation::builder(64 << 20)
///     .align(2 << 20)        // bytes; a power of two
///     .guard_pages(1)        // one inaccessible page before and one behind
///     .name("column store")  // shown in /proc/self/maps on Linux
///     .dump(false)           // keep it out of core dumps
///     .build()?;
/// assert_eq!(memory.as_ptr() as usize % (2 << 20), 0);
/// # Ok::<(), pagewise::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder reserves nothing until `build`"]
pub struct ReservationBuilder {
    len: usize,
    at_least: usize,
    engine: Engine,
    align: usize,
    guard_pages: usize,
    huge_pages: HugePages,
    limit: usize,
    budget: Option<Budget>,
    name: Option<String>,
    dump: bool,
}

impl ReservationBuilder {
    pub(crate) fn new(len: usize) -> Self {
        Self {
            len,
            at_least: len,
            engine: Engine::Protect,
            align: 1,
            guard_pages: 0,
            huge_pages: HugePages::System,
            limit: usize::MAX,
            budget: None,
            name: None,
            dump: true,
        }
    }

    /// Sets which engine makes pages accessible.
    pub(crate) fn engine(mut self, engine: Engine) -> Self {
        self.engine = engine;
        self
    }

    /// Adds the options that a user of a container's builder may have set to its `Debug` output.
    pub(crate) fn describe(&self, builder: &mut fmt::DebugStruct<'_, '_>) {
        if self.limit != usize::MAX {
            builder.field("limit", &self.limit);
        }
        if let Some(name) = &self.name {
            builder.field("name", name);
        }
    }

    /// Sets another length, for containers that compute theirs in `build`.
    pub(crate) fn len(mut self, len: usize) -> Self {
        self.len = len;
        self.at_least = len;
        self
    }

    /// Aligns the start to `align` bytes, a power of two. Smaller than the granularity: no effect.
    /// What is no power of two is refused by [`build`](Self::build).
    ///
    /// ```
    /// let memory = pagewise::Reservation::builder(1 << 20).align(1 << 24).build()?;
    /// assert_eq!(memory.as_ptr().addr() % (1 << 24), 0);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn align(mut self, align: usize) -> Self {
        self.align = align;
        self
    }

    /// Aligns the start for elements that need `align` bytes, a power of two: to more where more was asked for.
    pub(crate) fn align_for(mut self, align: usize) -> Self {
        if self.align.is_power_of_two() {
            self.align = self.align.max(align);
        }
        self
    }

    /// Keeps `pages` inaccessible pages before the start and behind the end. They are not part of
    /// the length and can never be committed.
    ///
    /// ```
    /// use pagewise::{Error, Reservation, page_size};
    ///
    /// let guarded = Reservation::builder(page_size()).guard_pages(2).build()?;
    /// assert_eq!(guarded.len(), page_size());
    /// assert!(matches!(guarded.commit(..=page_size()), Err(Error::OutOfBounds { .. })));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn guard_pages(mut self, pages: usize) -> Self {
        self.guard_pages = pages;
        self
    }

    /// Sets where memory is in huge pages: see [`HugePages`]. The start is aligned to 2 MiB where it may be in
    /// transparent ones; explicit ones round everything to their size.
    ///
    /// ```
    /// use pagewise::{HugePages, Reservation};
    ///
    /// let table = Reservation::builder(64 << 20).huge_pages(HugePages::Transparent).build()?;
    /// assert_eq!(table.as_ptr().addr() % (2 << 20), 0);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn huge_pages(mut self, huge_pages: HugePages) -> Self {
        self.huge_pages = huge_pages;
        self
    }

    /// Commits at most `bytes`, rounded down to whole pages. Zero: nothing can be committed.
    ///
    /// ```
    /// use pagewise::{Error, Reservation};
    ///
    /// let memory = Reservation::builder(1 << 30).limit(1 << 20).build()?;
    /// memory.commit(..1 << 20)?;
    /// assert!(matches!(memory.commit(1 << 29..=1 << 29), Err(Error::LimitReached { .. })));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }

    /// Takes every commit from a budget, which other reservations may share.
    ///
    /// ```
    /// let budget = pagewise::Budget::new(1 << 20);
    /// let memory = pagewise::Reservation::builder(1 << 30).budget(budget.clone()).build()?;
    /// memory.commit(..64 << 10)?;
    /// assert_eq!(budget.used(), 64 << 10);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Names the memory in `/proc/self/maps` (Linux 5.17 with `CONFIG_ANON_VMA_NAME`). Best effort: a
    /// name is cut to 79 bytes, and what is no printable ASCII (and `[`, `]`, `\`, `$`, `` ` ``) becomes `_`.
    ///
    /// ```
    /// let name = format!("shard {}", 7); // anything that makes a `String`
    /// let shard = pagewise::Reservation::builder(1 << 30).name(name).build()?;
    /// shard.commit(..1)?;
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets whether core dumps contain the memory (Linux, FreeBSD). They do by default.
    ///
    /// ```
    /// let secrets = pagewise::Reservation::builder(1 << 20).dump(false).build()?;
    /// secrets.commit(..4096)?;
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn dump(mut self, dump: bool) -> Self {
        self.dump = dump;
        self
    }

    /// Takes less where the address space is small: halves the length until it fits, but not below
    /// `min` bytes.
    ///
    /// ```
    /// let memory = pagewise::Reservation::builder(1 << 62).at_least(1 << 20).build()?;
    /// assert!(memory.len() >= 1 << 20 && memory.len() < 1 << 62); // no system has so many
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn at_least(mut self, min: usize) -> Self {
        self.at_least = min;
        self
    }

    /// Reserves. None → Reserved.
    ///
    /// # Errors
    /// As [`Reservation::new`]; [`BadAlignment`](Error::BadAlignment);
    /// [`Unsupported`](Error::Unsupported) for explicit huge pages where there are none.
    ///
    /// ```
    /// let options = pagewise::Reservation::builder(1 << 20).limit(64 << 10);
    /// let (a, b) = (options.clone().build()?, options.build()?);
    /// a.commit(..64 << 10)?;
    /// b.commit(..64 << 10)?; // a limit is each one's own; a budget is shared
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn build(self) -> Result<Reservation, Error> {
        if self.len == 0 {
            return Err(Error::ZeroLength);
        }
        if !self.align.is_power_of_two() {
            return Err(Error::BadAlignment { align: self.align });
        }
        let page = self.page()?;
        let engine = self.engine.resolve(self.huge_pages)?;
        let (mut len, least) = (self.len, self.at_least.clamp(1, self.len));
        loop {
            match self.reserve(len, page, engine) {
                Err(Error::AddressSpaceExhausted { .. }) if len > least => {
                    len = (len / 2).max(least);
                }
                other => return other,
            }
        }
    }

    fn page(&self) -> Result<PageSize, Error> {
        if self.huge_pages != HugePages::Explicit {
            return Ok(PageSize::system());
        }
        let size = os::explicit_huge_page_size().ok_or(Error::Unsupported {
            what: "explicit huge pages: the pool is empty (Linux: raise `vm.nr_hugepages`), or this \
                   system has none; transparent ones need no pool",
        })?;
        Ok(PageSize::of(size))
    }

    fn reserve(&self, len: usize, page: PageSize, engine: Resolved) -> Result<Reservation, Error> {
        let overflow = Error::Overflow { requested: self.len };
        let guard = self.guard_pages.checked_mul(page.bytes());
        let rounded = page.round_up(len).filter(|&len| len <= isize::MAX as usize);
        let (Some(len), Some(guard)) = (rounded, guard) else { return Err(overflow) };
        let align = self.align.max(page.bytes()).max(self.huge_page_alignment(len));
        // The guard before the start is rounded up to the alignment, so that the start is aligned, too.
        let before = if guard == 0 { Some(0) } else { guard.checked_next_multiple_of(align) };
        let mapping_len = before.and_then(|before| before.checked_add(len)?.checked_add(guard));
        let (Some(before), Some(mapping_len)) = (before, mapping_len) else { return Err(overflow) };
        let attributes = self.attributes(page, engine.is_charged);
        os::watch_forks()
            .map_err(|error| Error::System { operation: "pthread_atfork", source: error.into() })?;
        let mapping = os::reserve(mapping_len, align.max(os::reserve_granularity()), &attributes)
            .map_err(|error| self.reserve_error(mapping_len, error))?;
        // SAFETY: `before` lies inside the mapping.
        let start = unsafe { mapping.add(before) };
        let states = PageStates::new(page.page_of(len));
        let ground = Ground { start, states: &states, size: page, attributes: &attributes };
        let engine = (engine.set_up)(ground).inspect_err(|_| {
            // SAFETY: the mapping is this function's own.
            let _ = unsafe { os::release(mapping, mapping_len) };
        })?;
        Ok(Reservation {
            mapping,
            mapping_len,
            start,
            len,
            page,
            huge_pages_of_runs: self.huge_pages_of_runs(len, &engine),
            states,
            account: Account::new(page.round_down(self.limit.min(len)), self.budget.clone()),
            engine,
            attributes,
            was_protected: AtomicBool::new(false),
            decommits: AtomicUsize::new(0),
            forks: Forks::new(os::forks()),
            is_released: false,
        })
    }

    /// The kernel backs only whole aligned ranges with transparent huge pages.
    fn huge_page_alignment(&self, len: usize) -> usize {
        let wanted = match self.huge_pages {
            HugePages::Transparent => len >= HUGE_PAGE,
            HugePages::Adaptive => len > LONG_RUN,
            HugePages::System | HugePages::Never | HugePages::Explicit => false,
        };
        if wanted { HUGE_PAGE } else { 1 }
    }

    /// See [`Reservation::huge_pages_of_runs`].
    fn huge_pages_of_runs(&self, len: usize, engine: &ChosenEngine) -> usize {
        let adaptive = self.huge_pages == HugePages::Adaptive && len > LONG_RUN;
        // (An engine that gives each page its memory gives small ones.)
        let possible = !engine.commits_resident() && os::has_huge_pages();
        if adaptive && possible { HUGE_PAGE } else { 0 }
    }

    fn attributes(&self, page: PageSize, charged: bool) -> Attributes {
        let printable = |byte: u8| match byte {
            b'[' | b']' | b'\\' | b'$' | b'`' => b'_',
            b' '..=b'~' => byte,
            _ => b'_',
        };
        let name = self.name.as_ref().map(|name| {
            let bytes: Vec<u8> = name.bytes().take(79).map(printable).collect();
            CString::new(bytes).expect("printable bytes are not zero")
        });
        let is_explicit = self.huge_pages == HugePages::Explicit;
        Attributes {
            huge_pages: self.huge_pages,
            explicit_page: is_explicit.then_some(page.bytes()),
            dump: self.dump,
            name,
            charged,
        }
    }

    fn reserve_error(&self, requested: usize, error: OsError) -> Error {
        let source = error.into();
        match os::diagnose(error) {
            Cause::Mappings { mappings, max } => {
                Error::MappingsExhausted { operation: "reserve", mappings, max, source }
            }
            Cause::Locked => Error::Locked { operation: "reserve", len: requested, source },
            Cause::OutOfMemory if self.huge_pages == HugePages::Explicit => Error::Unsupported {
                what: "so many explicit huge pages: the pool is too small (Linux: \
                       `vm.nr_hugepages`)",
            },
            // For a length beyond the address space, Windows returns `ERROR_INVALID_PARAMETER`.
            Cause::OutOfMemory | Cause::Unsupported => {
                Error::AddressSpaceExhausted { requested, source }
            }
            Cause::Other => Error::System { operation: "reserve", source },
        }
    }
}

/// The methods of a reservation's builder that other builders offer, too: forwarded to the one in a field.
macro_rules! reservation_options {
    ($($field:tt).+) => {
        /// Commits at most `bytes`, rounded down to whole pages: a hard limit on memory, apart from the
        /// length. Zero: nothing can be committed. See
        /// [`ReservationBuilder::limit`](crate::ReservationBuilder::limit).
        ///
        /// ```
        /// // An arena and an array; it is the same for every builder.
        /// let arena = pagewise::Arena::builder(1 << 30).limit(1 << 20).build()?;
        /// let mut array = pagewise::PageVec::<u8>::builder(1 << 30).limit(1 << 20).build()?;
        /// assert!(arena.try_reserve(2 << 20).is_err());
        /// assert!(array.try_reserve(2 << 20).is_err());
        /// # Ok::<(), pagewise::Error>(())
        /// ```
        pub fn limit(mut self, bytes: usize) -> Self {
            self.$($field).+ = self.$($field).+.limit(bytes);
            self
        }

        /// Takes every commit from a [`Budget`](crate::Budget), which others may share. See
        /// [`ReservationBuilder::budget`](crate::ReservationBuilder::budget).
        ///
        /// ```
        /// let both = pagewise::Budget::new(1 << 20);
        /// let arena = pagewise::Arena::builder(1 << 30).budget(both.clone()).build()?;
        /// let region = pagewise::DemandRegion::builder(1 << 30).budget(both.clone()).build()?;
        /// region.commit(..1 << 20)?; // takes all of it
        /// assert!(arena.try_alloc(1).is_err());
        /// # Ok::<(), pagewise::Error>(())
        /// ```
        pub fn budget(mut self, budget: crate::Budget) -> Self {
            self.$($field).+ = self.$($field).+.budget(budget);
            self
        }

        /// Asks for huge pages: transparent (steps past 2 MiB are whole huge pages), or explicit ones. See
        /// [`ReservationBuilder::huge_pages`](crate::ReservationBuilder::huge_pages).
        ///
        /// ```
        /// use pagewise::{Arena, DemandRegion, HugePages};
        ///
        /// let arena = Arena::builder(1 << 30).huge_pages(HugePages::Transparent).build()?;
        /// let region = DemandRegion::builder(1 << 30).huge_pages(HugePages::Transparent).build()?;
        /// assert!(arena.alloc_layout(std::alloc::Layout::new::<u8>()).addr().get() % (2 << 20) == 0);
        /// assert!(region.as_ptr().addr() % (2 << 20) == 0);
        /// # Ok::<(), pagewise::Error>(())
        /// ```
        pub fn huge_pages(mut self, huge_pages: crate::HugePages) -> Self {
            self.$($field).+ = self.$($field).+.huge_pages(huge_pages);
            self
        }

        /// Names the memory in `/proc/self/maps`: see
        /// [`ReservationBuilder::name`](crate::ReservationBuilder::name).
        ///
        /// ```
        /// let nodes = pagewise::Arena::builder(1 << 30).name("nodes").build()?;
        /// let edges = pagewise::PageVec::builder(1 << 30).name("edges").build()?;
        /// (nodes.alloc(1), { edges }.push(2)); // two lines of /proc/self/maps to tell apart
        /// # Ok::<(), pagewise::Error>(())
        /// ```
        pub fn name(mut self, name: impl Into<String>) -> Self {
            self.$($field).+ = self.$($field).+.name(name);
            self
        }

        /// Keeps `pages` inaccessible pages before the start and behind the end: see
        /// [`ReservationBuilder::guard_pages`](crate::ReservationBuilder::guard_pages).
        ///
        /// ```
        /// let arena = pagewise::Arena::builder(1 << 20).guard_pages(1).build()?;
        /// let region = pagewise::DemandRegion::builder(1 << 20).guard_pages(1).build()?;
        /// assert_eq!((arena.max_bytes(), region.len()), (1 << 20, 1 << 20)); // guards do not count
        /// # Ok::<(), pagewise::Error>(())
        /// ```
        pub fn guard_pages(mut self, pages: usize) -> Self {
            self.$($field).+ = self.$($field).+.guard_pages(pages);
            self
        }

        /// Sets whether core dumps contain the memory (Linux, FreeBSD). They do by default. See
        /// [`ReservationBuilder::dump`](crate::ReservationBuilder::dump).
        ///
        /// ```
        /// let secrets = pagewise::Arena::builder(1 << 20).dump(false).build()?;
        /// secrets.alloc(7);
        /// # Ok::<(), pagewise::Error>(())
        /// ```
        pub fn dump(mut self, dump: bool) -> Self {
            self.$($field).+ = self.$($field).+.dump(dump);
            self
        }
    };
}
pub(crate) use reservation_options;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn names_keep_what_the_kernel_takes_in_names_and_nothing_else() {
        let named = |name| ReservationBuilder::new(1).name(name);
        let name = named("a b~[c]\\$`\n\u{e9}").attributes(PageSize::system(), true).name;
        assert_eq!(name.as_deref(), Some(c"a b~_c_______"));
    }

    #[cfg(unix)]
    #[test]
    fn a_pool_of_huge_pages_that_is_too_small_is_not_taken_for_scarce_addresses() {
        let refused = |huge_pages| {
            let builder = ReservationBuilder::new(1).huge_pages(huge_pages);
            builder.reserve_error(1 << 30, OsError(libc::ENOMEM))
        };
        let error = refused(HugePages::Explicit);
        assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
        let error = refused(HugePages::System);
        assert!(
            matches!(error, Error::AddressSpaceExhausted { requested, .. } if requested == 1 << 30)
        );
    }

    #[cfg(any(pagewise_model, pagewise_refusals))]
    #[test]
    fn where_addresses_are_scarce_the_length_is_halved_down_to_the_least() {
        use crate::os::refusals::{Call, Refusal};
        const MIB: usize = 1 << 20;
        let _scarce = Refusal::of(Call::Reserve).longer_than(9 * MIB).begin();
        let len =
            |least| ReservationBuilder::new(64 * MIB).at_least(least).build().map(|m| m.len());
        assert_eq!(len(MIB).unwrap(), 8 * MIB);
        assert_eq!(len(9 * MIB).unwrap(), 9 * MIB);
        assert!(matches!(len(10 * MIB), Err(Error::AddressSpaceExhausted { .. })));
    }
}
