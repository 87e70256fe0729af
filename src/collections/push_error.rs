//! What a refused push hands back.

use std::fmt;
use std::io;

use crate::error::Error;

/// A value that did not fit, and why: the value comes back to whoever wanted to store it.
///
/// ```
/// use pagewise::{Error, PageVec};
///
/// let mut names = PageVec::new(1)?;
/// names.push(String::from("Ada"));
/// let refused = names.try_push(String::from("Grace")).unwrap_err();
/// assert!(matches!(refused.error(), Error::Full { max_len: 1, .. }));
/// assert_eq!(refused.into_value(), "Grace");
/// # Ok::<(), Error>(())
/// ```
pub struct PushError<T> {
    value: T,
    error: Error,
}

impl<T> PushError<T> {
    pub(crate) fn new(value: T, error: Error) -> Self {
        Self { value, error }
    }

    /// Returns why the value did not fit.
    ///
    /// ```
    /// let arena = pagewise::Arena::builder(1 << 20).limit(0).build()?;
    /// let refused = arena.try_alloc(7).unwrap_err();
    /// assert!(matches!(refused.error(), pagewise::Error::LimitReached { limit: 0, .. }));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// Returns the value that did not fit.
    ///
    /// ```
    /// let mut cache = pagewise::PageVec::try_from_iter(1, [1])?;
    /// if let Err(refused) = cache.try_push(2) {
    ///     cache[0] = refused.into_value(); // replaces the oldest
    /// }
    /// assert_eq!(cache, [2]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn into_value(self) -> T {
        self.value
    }

    /// Changes the value, and keeps the reason: for a caller who stored something made of what it was given.
    ///
    /// ```
    /// use pagewise::{PageVec, PushError};
    ///
    /// fn log(lines: &mut PageVec<String>, line: &'static str) -> Result<(), PushError<&'static str>> {
    ///     lines.try_push(line.to_owned()).map_err(|refused| refused.map(|_| line))
    /// }
    /// let mut none = PageVec::new(0)?;
    /// assert_eq!(log(&mut none, "hello").unwrap_err().into_value(), "hello");
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> PushError<U> {
        PushError { value: change(self.value), error: self.error }
    }

    /// Returns the value and the reason.
    ///
    /// ```
    /// let log = pagewise::ConcurrentVec::new(0)?;
    /// let (line, error) = log.try_push("started").unwrap_err().into_parts();
    /// assert!(error.to_string().contains("0 of at most 0"));
    /// assert_eq!(line, "started");
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn into_parts(self) -> (T, Error) {
        (self.value, self.error)
    }
}

impl<T> From<PushError<T>> for Error {
    fn from(refused: PushError<T>) -> Self {
        refused.error
    }
}

/// The value is dropped.
impl<T> From<PushError<T>> for io::Error {
    fn from(refused: PushError<T>) -> Self {
        refused.error.into()
    }
}

impl<T> fmt::Debug for PushError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushError").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<T> fmt::Display for PushError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl<T> std::error::Error for PushError<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.error)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_reason_outlives_the_value() {
        let refused = || PushError::new(7, Error::Full { len: 1, additional: 1, max_len: 1 });
        let mapped = refused().map(|value| value.to_string());
        assert!(matches!(mapped.error(), Error::Full { len: 1, .. }));
        assert_eq!(mapped.into_value(), "7");
        let through = io::Error::from(refused());
        assert_eq!(through.kind(), io::ErrorKind::QuotaExceeded);
        assert!(matches!(Error::from(through), Error::Full { .. }));
    }
}
