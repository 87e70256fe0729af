//! What a host learns of a fault that it asked us to serve.

use crate::error::Refusal;

/// What [`try_handle`](super::try_handle) did about a fault.
///
/// ```
/// use pagewise::fault::Handled;
///
/// /// What a host's own handler does next.
/// fn next(handled: Handled) -> &'static str {
///     match handled {
///         Handled::Served => "return: the access runs again",
///         Handled::Refused(_) => "end the guest with a trap",
///         _ => "call the handler that was there before",
///     }
/// }
/// assert!(next(Handled::NotOurs).contains("before"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "the handler returns only if the fault was served"]
pub enum Handled {
    /// It was ours, and is served: the handler is to return, and the thread goes on. Also where a refused
    /// [`read`](crate::DemandRegion::read), [`write`](crate::DemandRegion::write) or
    /// [`fill`](crate::DemandRegion::fill) is to return its error, or an [`attempt`](super::attempt) is to end.
    Served,
    /// It was ours, and is refused: the access must not succeed, and would fault again. The host ends the access: as a
    /// trap, for instance.
    Refused(Refusal),
    /// It has nothing to do with pagewise, or the program itself took the access away from a committed page.
    NotOurs,
}

impl Handled {
    /// Returns whether the handler is to return, so that the thread goes on.
    ///
    /// ```
    /// use pagewise::fault::Handled;
    ///
    /// assert!(Handled::Served.is_served());
    /// assert!(!Handled::NotOurs.is_served());
    /// ```
    pub fn is_served(&self) -> bool {
        matches!(self, Self::Served)
    }
}
