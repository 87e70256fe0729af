//! Moving elements in from other containers, and out into them.

use std::marker::PhantomData;

use super::super::page_vec::PageVec;
use super::super::push_error::PushError;
use super::storage::Storage;
use super::waiting::Waiters;
use super::{ConcurrentVec, granted};
use crate::os;
use crate::sync::{AtomicUsize, SpinLock};

/// The same elements at the same addresses, for many threads that append.
impl<T> From<PageVec<T>> for ConcurrentVec<T> {
    fn from(vec: PageVec<T>) -> Self {
        // An array of elements without a size has no reservation, which would see to that. (Where the system
        // refuses, it refuses the reservation, too.)
        let _ = os::watch_forks();
        Self {
            lock: SpinLock::new(),
            published: AtomicUsize::new(vec.len()),
            waiters: Waiters::new(),
            storage: Storage::new(vec),
            takes: PhantomData,
        }
    }
}

/// An empty array of at most [`PageVec::DEFAULT_MAX_LEN`] elements, for fields of structs that derive `Default`.
/// It reserves its addresses when it is first pushed to.
///
/// ```
/// #[derive(Default)]
/// struct Session {
///     requests: pagewise::ConcurrentVec<String>,
/// }
/// let session = Session::default();
/// session.requests.push(String::from("GET /"));
/// assert_eq!(session.requests.len(), 1);
/// ```
impl<T> Default for ConcurrentVec<T> {
    fn default() -> Self {
        Self::lazy(PageVec::<T>::DEFAULT_MAX_LEN)
    }
}

macro_rules! by_way_of_a_page_vec {
    ($($what:literal [$($parameters:tt)*] $source:ty;)*) => {$(
        #[doc = $what]
        /// into an array of at most [`PageVec::DEFAULT_MAX_LEN`] elements, or of as many as there are where
        /// that is more. What cannot be reserved or committed comes back in the error.
        impl<T, $($parameters)*> TryFrom<$source> for ConcurrentVec<T> {
            type Error = PushError<$source>;

            fn try_from(elements: $source) -> Result<Self, Self::Error> {
                PageVec::try_from(elements).map(Self::from)
            }
        }
    )*};
}

by_way_of_a_page_vec! {
    "Moves the elements" [] Vec<T>;
    "Moves the elements" [] Box<[T]>;
    "Moves the elements" [const N: usize] [T; N];
}

impl<T> ConcurrentVec<T> {
    /// Returns the same elements at the same addresses, for one thread that changes them at will.
    ///
    /// # Panics
    /// Where the addresses of a [`lazy`](Self::lazy) array that was never pushed to cannot be reserved.
    ///
    /// ```
    /// let shared = pagewise::ConcurrentVec::new(100)?;
    /// shared.try_extend_from_slice(&[1, 2, 3])?;
    /// let mut own = shared.into_page_vec();
    /// own.retain(|n| n % 2 == 1);
    /// assert_eq!(own, [1, 3]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[track_caller]
    pub fn into_page_vec(self) -> PageVec<T> {
        let max_len = self.max_len();
        match self.storage.into_inner() {
            Some(vec) => vec,
            None => granted(PageVec::new(max_len)),
        }
    }

    /// Moves the elements into a `Vec`: they get new addresses, and the array's memory is released.
    ///
    /// ```
    /// let results = pagewise::ConcurrentVec::new(100)?;
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| results.push(1));
    /// });
    /// assert_eq!(results.into_vec(), vec![1]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn into_vec(self) -> Vec<T> {
        self.storage.into_inner().map_or_else(Vec::new, PageVec::into_vec)
    }
}

/// The same elements at the same addresses.
impl<T> From<ConcurrentVec<T>> for PageVec<T> {
    /// # Panics
    /// As [`ConcurrentVec::into_page_vec`].
    #[track_caller]
    fn from(vec: ConcurrentVec<T>) -> Self {
        vec.into_page_vec()
    }
}

/// Moves the elements: they get new addresses.
impl<T> From<ConcurrentVec<T>> for Vec<T> {
    fn from(vec: ConcurrentVec<T>) -> Self {
        vec.into_vec()
    }
}
