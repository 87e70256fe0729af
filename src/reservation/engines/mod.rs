//! How pages of a reservation become accessible and inaccessible: the engines.
//!
//! - *Protect*: changes the access rights of runs of pages. Works everywhere, but scattered pages make many
//!   mappings, of which Linux allows a process 65,530.
//! - *Guard* (Linux 6.13): as *protect*; where pages are dense or mappings short, guard markers, which live in
//!   page tables and need no mappings.
//! - *User fault* (Linux 5.11): the whole reservation is accessible, and touching a missing page raises SIGBUS.
//!   A commit gives the page its memory.
//!
//! Adding an engine is a file with the functions of [`Mechanism`], and a line in `engines!` below.

use std::ptr::NonNull;

mod ground;
mod guard;
mod mappings;
mod protect;
#[cfg(test)]
mod toy;
mod userfault;

use crate::error::Error;
use crate::os::{self, HugePages, OsError};
use crate::page::PageRange;
pub(super) use ground::Ground;

/// The operations of an engine. The caller of each holds the pages that it passes (see
/// [`PageStates`](super::pages::PageStates)), unless the function says otherwise.
pub(super) trait Mechanism: Sized {
    /// Whether accessible pages count against the system's commit limit.
    const IS_CHARGED: bool = true;

    /// Whether the engine works here, for a reservation with such huge pages.
    ///
    /// # Errors
    /// [`Unsupported`](Error::Unsupported), with what the engine needs.
    fn check(huge_pages: HugePages) -> Result<(), Error>;

    /// Whether [`Engine::Auto`] chooses this engine where it works.
    fn is_preferred(huge_pages: HugePages) -> bool;

    /// The engine of a new reservation, which no other thread uses yet.
    ///
    /// # Errors
    /// As [`check`](Self::check), for what only the attempt shows.
    fn new(ground: Ground) -> Result<Self, Error>;

    /// Makes held, reserved pages accessible; they read zero. On an error, a prefix of the run may be
    /// accessible, and no page behind it. Async-signal-safe.
    ///
    /// # Safety
    /// The caller holds the pages, and none of them is committed.
    unsafe fn commit(&self, ground: Ground, run: PageRange) -> Result<(), OsError>;

    /// Called after a commit, when the caller holds no page any more, for work that makes later commits
    /// cheaper. Async-signal-safe.
    fn after_commit(&self, _ground: Ground, _run: PageRange) {}

    /// Whether a commit makes pages resident, too, so that prefaulting them is needless.
    fn commits_resident(&self) -> bool {
        false
    }

    /// The pages that must be held together to decommit some of a range.
    fn decommit_unit(&self, range: PageRange) -> PageRange {
        range
    }

    /// Makes all committed pages of a part inaccessible, and gives their memory back. Works from the end: on an
    /// error, all pages before the refused run are unchanged. Calls `done` for each range in which no page is
    /// accessible any more.
    ///
    /// # Safety
    /// The caller holds the part's [unit](Self::decommit_unit), and its contents are its to give up.
    unsafe fn decommit(
        &self,
        ground: Ground,
        part: PageRange,
        done: &mut dyn FnMut(PageRange),
    ) -> Result<(), OsError>;

    /// Makes held, committed pages read zero; they stay accessible. Their access rights may be any.
    ///
    /// # Safety
    /// The pages are held and committed; their contents are the caller's to give up.
    unsafe fn zero(&self, start: NonNull<u8>, len: usize) -> Result<(), OsError> {
        // SAFETY: the caller's promise.
        unsafe { os::zero(start, len) }
    }

    /// Makes all pages of a run accessible, or all inaccessible, where some are and some are not: after a
    /// refused commit, and in a forked child. Pages that become accessible keep what they hold.
    /// Async-signal-safe.
    ///
    /// # Safety
    /// No other thread of this process holds the pages; if they become inaccessible, the caller gives up their
    /// contents.
    unsafe fn settle(
        &self,
        ground: Ground,
        run: PageRange,
        accessible: bool,
    ) -> Result<(), OsError>;

    /// Repairs the engine in the child of a fork. Called before the pages are repaired. Async-signal-safe.
    fn fork(&self, _ground: Ground) {}
}

/// The engine of a reservation that is about to be made: what [`Engine::resolve`] returns.
#[derive(Clone, Copy)]
pub(super) struct Resolved {
    /// As [`Mechanism::IS_CHARGED`].
    pub(super) is_charged: bool,
    /// As [`Mechanism::new`].
    pub(super) set_up: fn(Ground) -> Result<ChosenEngine, Error>,
}

/// Declares the engines: what users choose by name, and what a reservation has after that choice. Every decision
/// by engine is made here.
macro_rules! engines {
    ($($(#[doc = $about:literal])* $(#[cfg($condition:meta)])? $name:ident: $engine:ty,)+) => {
        /// Which mechanism makes pages accessible when they are committed, and so catches and serves the
        /// faults of a [`DemandRegion`](crate::DemandRegion).
        ///
        /// ```
        /// use pagewise::{DemandRegion, Engine, Error};
        ///
        /// // Cheapest for scattered pages, where the system allows it.
        /// let region = match DemandRegion::builder(1 << 40).engine(Engine::UserFault).build() {
        ///     Err(Error::Unsupported { .. }) => DemandRegion::new(1 << 40)?,
        ///     other => other?,
        /// };
        /// assert_eq!(region.as_slice()[1 << 39], 0);
        /// # Ok::<(), pagewise::Error>(())
        /// ```
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Engine {
            /// [`Guard`](Self::Guard) where it works, the system overcommits, and huge pages are not asked
            /// for everywhere; else [`Protect`](Self::Protect).
            #[default]
            Auto,
            $($(#[doc = $about])* $(#[cfg($condition)])? $name,)+
        }

        impl Engine {
            /// Which engine a reservation gets.
            ///
            /// # Errors
            /// [`Unsupported`](Error::Unsupported) where the chosen one does not work here.
            pub(super) fn resolve(self, huge_pages: HugePages) -> Result<Resolved, Error> {
                match self {
                    Self::Auto => Self::preferred(huge_pages).resolve(huge_pages),
                    $($(#[cfg($condition)])? Self::$name => {
                        <$engine>::check(huge_pages)?;
                        Ok(Resolved {
                            is_charged: <$engine>::IS_CHARGED,
                            set_up: |ground| <$engine>::new(ground).map(ChosenEngine::$name),
                        })
                    })+
                }
            }

            /// What `Auto` stands for: the last engine in the list that prefers to be taken. *Protect*, which works
            /// everywhere, is the first one.
            fn preferred(huge_pages: HugePages) -> Self {
                let mut preferred = Self::Protect;
                $($(#[cfg($condition)])? if <$engine>::is_preferred(huge_pages) {
                    preferred = Self::$name;
                })+
                preferred
            }
        }

        /// The engine of one reservation, with its state. Its functions are those of [`Mechanism`].
        #[derive(Debug)]
        pub(super) enum ChosenEngine {
            $($(#[cfg($condition)])? $name($engine),)+
        }

        impl ChosenEngine {
            pub(super) unsafe fn commit(&self, ground: Ground, run: PageRange) -> Result<(), OsError> {
                debug_assert_eq!(ground.states.count_committed(run), 0, "committing what is committed");
                // SAFETY: the caller's promise.
                unsafe { match self { $($(#[cfg($condition)])? Self::$name(engine) => engine.commit(ground, run),)+ } }
            }

            pub(super) fn after_commit(&self, ground: Ground, run: PageRange) {
                match self { $($(#[cfg($condition)])? Self::$name(engine) => engine.after_commit(ground, run),)+ }
            }

            pub(super) fn commits_resident(&self) -> bool {
                match self { $($(#[cfg($condition)])? Self::$name(engine) => engine.commits_resident(),)+ }
            }

            pub(super) fn decommit_unit(&self, range: PageRange) -> PageRange {
                match self { $($(#[cfg($condition)])? Self::$name(engine) => engine.decommit_unit(range),)+ }
            }

            pub(super) unsafe fn decommit(
                &self,
                ground: Ground,
                part: PageRange,
                done: &mut dyn FnMut(PageRange),
            ) -> Result<(), OsError> {
                // SAFETY: the caller's promise.
                unsafe { match self { $($(#[cfg($condition)])? Self::$name(engine) => engine.decommit(ground, part, done),)+ } }
            }

            pub(super) unsafe fn zero(&self, start: NonNull<u8>, len: usize) -> Result<(), OsError> {
                // SAFETY: the caller's promise.
                unsafe { match self { $($(#[cfg($condition)])? Self::$name(engine) => engine.zero(start, len),)+ } }
            }

            pub(super) unsafe fn settle(
                &self,
                ground: Ground,
                run: PageRange,
                accessible: bool,
            ) -> Result<(), OsError> {
                // SAFETY: the caller's promise.
                unsafe { match self { $($(#[cfg($condition)])? Self::$name(engine) => engine.settle(ground, run, accessible),)+ } }
            }

            pub(super) fn fork(&self, ground: Ground) {
                match self { $($(#[cfg($condition)])? Self::$name(engine) => engine.fork(ground),)+ }
            }
        }
    };
}

engines! {
    /// The handler changes the access rights of inaccessible pages. Works on every system. The system's
    /// commit charge is exactly what is committed; scattered pages take up to two memory mappings each, of
    /// which Linux allows a process 65,530.
    Protect: protect::Protect,

    /// As [`Protect`](Self::Protect), and guard markers (Linux 6.13) where they are better: in blocks of
    /// 2 MiB that have many single pages, and where half of the process's mappings are in use. The
    /// system's commit charge counts such a block whole, until all of its pages are decommitted. (Limits,
    /// budgets and `committed` count pages, as always.)
    Guard: guard::Guard,

    /// `userfaultfd` (Linux 5.11, where it is allowed; never chosen by itself). Scattered pages are
    /// cheapest, and take no mappings. Committed pages are resident at once, and the system's commit
    /// charge counts none of them.
    ///
    /// The limit holds only as long as the process keeps the descriptor: a program that closes it, for
    /// instance by `close_range(3, …)`, gets zeros for missing pages from then on, without an error. A
    /// fork takes time in proportion to what was ever touched. A child by a bare `clone`, past the C library,
    /// has no limits, and neither have `pthread_atfork` handlers in a child that were registered before
    /// the first reservation.
    UserFault: userfault::UserFault,

    /// For tests.
    #[cfg(test)]
    Toy: toy::Toy,
}
