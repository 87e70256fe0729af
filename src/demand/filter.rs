//! The program's own decision about each fault: what the filter expression of `__except` is in C.

use std::fmt;
use std::mem::MaybeUninit;
use std::sync::Arc;

use crate::fault;

/// A page fault, as a [filter](crate::DemandRegionBuilder::filter) sees it.
///
/// ```
/// use pagewise::{DemandRegion, FaultAnswer, PageFault};
///
/// fn first_half_only(fault: &PageFault) -> FaultAnswer {
///     if fault.offset < 1 << 29 { FaultAnswer::Commit } else { FaultAnswer::Refuse }
/// }
/// // SAFETY: the filter only compares numbers.
/// let mut region = unsafe { DemandRegion::builder(1 << 30).filter(first_half_only) }.build()?;
/// assert!(region.write(0, &[1]).is_ok() && region.write(1 << 29, &[1]).is_err());
/// # Ok::<(), pagewise::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PageFault {
    /// The address that was touched.
    pub address: usize,
    /// The same in bytes from the start of the region.
    pub offset: usize,
    /// Whether it was a write; `None` where the system does not tell.
    pub write: Option<bool>,
}

/// What a [filter](crate::DemandRegionBuilder::filter) says about a page fault.
///
/// ```
/// use pagewise::{DemandRegion, FaultAnswer, page_size};
///
/// // SAFETY: the filter does nothing but answer.
/// let builder = unsafe { DemandRegion::builder(1 << 30).filter(|_| FaultAnswer::CommitPages(4)) };
/// let mut region = builder.build()?;
/// region.as_mut_slice()[0] = 1;
/// assert_eq!(region.committed(), 4 * page_size());
/// # Ok::<(), pagewise::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultAnswer {
    /// Commit as the region's [`CommitStep`](crate::CommitStep) says.
    Commit,
    /// Commit this many pages from the one that was touched on, in place of the step. Zero is one page. Like a step,
    /// it is clamped to the region, to its limit and budget, and to the first page behind it that is not free.
    CommitPages(usize),
    /// Refuse the access, with [`RefusalReason::Filter`](crate::RefusalReason::Filter).
    Refuse,
    /// Hand the fault on to the handler that was installed before pagewise's, as if it were outside of every
    /// region. Nothing is counted, and nothing written to stderr.
    NotMine,
}

type Function = dyn Fn(&PageFault) -> FaultAnswer + Send + Sync;

/// A filter. Whoever made it promised that the handler may call it.
#[derive(Clone)]
pub(super) struct Filter(Arc<Function>);

impl Filter {
    /// # Safety
    /// As [`DemandRegionBuilder::filter`](crate::DemandRegionBuilder::filter).
    pub(super) unsafe fn new(
        filter: impl Fn(&PageFault) -> FaultAnswer + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(filter))
    }

    /// Async-signal-safe as far as the filter is.
    pub(super) fn ask(&self, fault: &PageFault) -> FaultAnswer {
        let mut answer = MaybeUninit::uninit();
        fault::in_a_filter(|| call(&self.0, fault, &mut answer));
        // SAFETY: `call` has returned, so that it has stored an answer.
        unsafe { answer.assume_init() }
    }
}

/// A panic of the filter ends the process here: it must not unwind through the handler's frames. (Not inlined, so that
/// the test of what the handler reaches knows the one place where a filter is called.)
#[inline(never)]
extern "C" fn call(
    filter: &Arc<Function>,
    fault: &PageFault,
    answer: &mut MaybeUninit<FaultAnswer>,
) {
    answer.write(filter(fault));
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Filter")
    }
}
