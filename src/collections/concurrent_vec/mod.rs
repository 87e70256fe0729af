//! An array that many threads append to and read as one slice.

mod append;
mod builder;
#[cfg(not(loom))]
mod convert;
#[cfg(not(loom))]
mod exclusive;
mod follow;
#[cfg(all(loom, test))]
mod models;
#[cfg(all(feature = "rayon", not(loom)))]
mod rayon;
#[cfg(all(feature = "serde", not(loom)))]
mod serde;
#[cfg_attr(loom, path = "model.rs")]
mod storage;
#[cfg(all(test, unix, not(loom), not(any(miri, pagewise_model))))]
mod tests;
#[cfg(not(loom))]
mod traits;
mod waiting;

use std::marker::PhantomData;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::slice::{self, SliceIndex};

use super::page_vec::PageVec;
use super::push_error::PushError;
use crate::error::Error;
use crate::sync::{AtomicUsize, Ordering, SpinLock, Taken};
use storage::{Array, Storage};
use waiting::Waiters;

pub use builder::ConcurrentVecBuilder;
pub use follow::Follow;

/// An array that many threads append to through `&self`, and read as one slice that never moves.
///
/// Elements are published in order: [`len`](Self::len) only grows, every element below it is
/// complete, and [`as_slice`](Self::as_slice) is all of them, contiguous. A slice that was taken
/// stays good while others push; there is no flag per element, so memory is what the elements take.
/// Methods of slices (`iter`, `first`, `binary_search`, `to_vec`, …) are there by `Deref`, for the
/// elements that are published when they are called; [`follow`](Self::follow) iterates over those that are
/// pushed meanwhile, too, and [`wait_for_len`](Self::wait_for_len) sleeps until there are more.
///
/// Appending holds a lock for the few instructions of a write (and, now and then, for a growth
/// step, as in [`PageVec`]); reading never waits for anybody. In the child of a fork the array holds
/// what was published; an element that a thread of the parent was pushing is not there. A signal
/// handler must not push to an array that the interrupted thread may be pushing to.
///
/// # In a `static`
/// [`lazy`](Self::lazy) makes an array in a constant; its addresses are reserved by the first push. With
/// options, or where a refusal is to be handled, a [`LazyLock`](std::sync::LazyLock) or
/// [`OnceLock`](std::sync::OnceLock) holds what [`builder`](Self::builder) builds.
///
/// # Comparing, hashing
/// Arrays compare as slices of what is published at that moment. There is no `Hash`: a hash that changes with
/// each push, through `&self`, makes no key. (Hash [`as_slice`](Self::as_slice), where nobody pushes.)
///
/// # Variance, threads
/// Invariant in `T`: a shorter-lived element could come in through a shared reference otherwise.
/// `Send` where `T: Send`; `Sync` where `T: Send + Sync`.
///
/// ```compile_fail,E0597
/// let shared = pagewise::ConcurrentVec::<&'static str>::new(1)?;
/// fn push<'a>(into: &pagewise::ConcurrentVec<&'a str>, text: &'a str) {
///     into.push(text);
/// }
/// let text = String::from("gone too soon");
/// push(&shared, &text);
/// # Ok::<(), pagewise::Error>(())
/// ```
///
/// ```
/// use pagewise::ConcurrentVec;
///
/// let events = ConcurrentVec::new(1_000_000)?;
/// let first = events.push(String::from("started"));
/// let reader = &events[first];
/// std::thread::scope(|scope| {
///     for worker in 0..4 {
///         let events = &events;
///         scope.spawn(move || events.push(format!("worker {worker} done")));
///     }
/// });
/// assert_eq!(reader, "started"); // still the same place
/// assert_eq!(events.as_slice().len(), 5);
/// # Ok::<(), pagewise::Error>(())
/// ```
// Aligned, and in this order, so that the few words which every push changes are one cache line, and nobody
// else's. What lies behind `storage.start` is only read, unless a thread waits.
#[repr(C, align(128))]
pub struct ConcurrentVec<T> {
    /// Held by whoever pushes to `storage`.
    lock: SpinLock,
    /// Invariant: elements `0..published` of `storage` are initialised and never written again;
    /// grows only, and only in the hands of whoever holds `lock`. (With `&mut self`, anything goes.)
    published: AtomicUsize,
    /// Invariant: made, unless `lock` is fresh.
    storage: Storage<T>,
    waiters: Waiters,
    takes: PhantomData<fn(T) -> T>,
}

#[cfg(not(loom))]
const _: () = {
    use std::mem::offset_of;
    assert!(
        offset_of!(ConcurrentVec<u8>, storage) + Storage::<u8>::END_OF_WHAT_A_PUSH_CHANGES <= 64
    );
};

// SAFETY: sending it sends the elements.
unsafe impl<T: Send> Send for ConcurrentVec<T> {}
// SAFETY: `&self` takes elements in from any thread (Send) and gives out `&T` (Sync). Everything
// that changes behind `&self` is atomic, or changed by the holder of `lock` only.
unsafe impl<T: Send + Sync> Sync for ConcurrentVec<T> {}

// A push that panics has changed nothing, and does not hold the lock.
impl<T: RefUnwindSafe> RefUnwindSafe for ConcurrentVec<T> {}
impl<T: UnwindSafe> UnwindSafe for ConcurrentVec<T> {}

impl<T> ConcurrentVec<T> {
    /// Appends an element and returns its index. Needs no `&mut`: any thread may push.
    ///
    /// # Panics
    /// Where [`try_push`](Self::try_push) returns an error; the value is dropped, and the array
    /// stays usable.
    ///
    /// ```
    /// let names = pagewise::ConcurrentVec::new(100)?;
    /// let (ada, grace) = (names.push("Ada"), names.push("Grace"));
    /// assert_eq!((ada, grace), (0, 1)); // an index is good for ever: nothing is removed
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[inline]
    #[track_caller]
    pub fn push(&self, value: T) -> usize {
        granted(self.try_push(value))
    }

    /// Appends an element and returns its index, or hands the element back.
    ///
    /// # Errors
    /// [`PushError`](crate::PushError) with the value, and an error of [`PageVec::try_reserve`]:
    /// [`Full`](crate::Error::Full), [`LimitReached`](crate::Error::LimitReached),
    /// [`BudgetReached`](crate::Error::BudgetReached), [`CommitRefused`](crate::Error::CommitRefused),
    /// [`MappingsExhausted`](crate::Error::MappingsExhausted) or [`Locked`](crate::Error::Locked). Nothing has
    /// changed then.
    ///
    /// ```
    /// use std::sync::atomic::Ordering::Relaxed;
    ///
    /// let slots = pagewise::ConcurrentVec::new(2)?;
    /// let refused = std::sync::atomic::AtomicU32::new(0);
    /// let claim = || slots.try_push(7).map_err(|_| refused.fetch_add(1, Relaxed));
    /// std::thread::scope(|scope| (0..3).for_each(|_| drop(scope.spawn(claim))));
    /// assert_eq!((slots.len(), refused.into_inner()), (2, 1)); // one of three threads
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[inline]
    pub fn try_push(&self, value: T) -> Result<usize, PushError<T>> {
        match self.hold() {
            Ok(held) => self.push_while(held, value),
            Err(error) => Err(PushError::new(value, error)),
        }
    }

    /// Appends an element, and lets go of the lock.
    #[inline]
    fn push_while(&self, held: Held<'_>, value: T) -> Result<usize, PushError<T>> {
        let index = self.published.load(Ordering::Relaxed);
        // SAFETY: the lock is held, and `published` is how many there are.
        unsafe { self.storage.try_push(value) }?;
        self.publish(held, index + 1);
        Ok(index)
    }

    /// Publishes the first `len` elements, lets go of the lock, and wakes those who wait for so many.
    #[inline]
    fn publish(&self, held: Held<'_>, len: usize) {
        // Readers that see the new length see the elements, too.
        self.published.store(len, Ordering::Release);
        let are_due = self.waiters.are_due(len);
        drop(held);
        if are_due {
            self.wake_those_who_wait();
        }
    }

    /// Takes the lock. A waiting thread reads a contended lock ever less often: each read takes the cache
    /// line from the thread that pushes, and pushing is fastest where one thread makes many pushes in a
    /// row.
    ///
    /// # Errors
    /// As [`PageVec::new`]: [`Overflow`](crate::Error::Overflow),
    /// [`AddressSpaceExhausted`](crate::Error::AddressSpaceExhausted) or
    /// [`MappingsExhausted`](crate::Error::MappingsExhausted), for a lazy array whose addresses are not
    /// reserved yet.
    #[inline]
    fn hold(&self) -> Result<Held<'_>, Error> {
        if self.lock.lock() != Taken::Free {
            self.make_whole()?;
        }
        Ok(Held(&self.lock))
    }

    /// Reserves the addresses of a lazy array. In the child of a fork, where a thread of the parent held the lock:
    /// resets the storage to the published elements, and forgets the push that was under way. Where that is
    /// refused, the lock is free again.
    #[cold]
    fn make_whole(&self) -> Result<(), Error> {
        // SAFETY: the lock is held; no thread that held it earlier without making the array whole exists
        // in this process.
        unsafe {
            if self.storage.is_made() {
                self.storage.recover(self.published.load(Ordering::Relaxed));
                return Ok(());
            }
            self.storage.make().inspect_err(|_| self.lock.unlock_as_fresh())
        }
    }

    /// Returns the number of published elements. It only grows, except by methods that take `&mut self`.
    ///
    /// ```
    /// let events = pagewise::ConcurrentVec::new(1000)?;
    /// let seen = events.len();
    /// events.push("connected");
    /// assert_eq!(events.as_slice()[seen..], ["connected"]); // what is new since
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[inline]
    pub fn len(&self) -> usize {
        self.published.load(Ordering::Acquire)
    }

    /// Returns whether no element is published.
    ///
    /// ```
    /// let errors = pagewise::ConcurrentVec::<String>::new(1000)?;
    /// errors.try_reserve(10)?; // memory is no element
    /// assert!(errors.is_empty());
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the maximum number of elements, which was stated when the array was made.
    ///
    /// ```
    /// let seats = pagewise::ConcurrentVec::new(3)?;
    /// seats.push("Ada");
    /// assert_eq!(seats.max_len() - seats.len(), 2);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn max_len(&self) -> usize {
        self.storage.max_len()
    }

    /// Returns how many elements fit into the memory that is committed now, at most `max_len`: see
    /// [`PageVec::capacity`].
    ///
    /// ```
    /// let bytes = pagewise::ConcurrentVec::<u8>::new(1 << 30)?;
    /// assert_eq!(bytes.capacity(), 0);
    /// bytes.push(1);
    /// assert!(bytes.capacity() >= pagewise::page_size());
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn capacity(&self) -> usize {
        let made = self.if_made(|vec| vec.capacity());
        made.unwrap_or(if size_of::<T>() == 0 { self.max_len() } else { 0 })
    }

    /// Returns the bytes that are committed now: whole pages.
    ///
    /// ```
    /// let words = pagewise::ConcurrentVec::<u64>::new(1 << 30)?;
    /// (0..1 << 17).for_each(|word| drop(words.push(word)));
    /// assert!(words.committed() >= 1 << 20);
    /// assert!(words.committed() < 2 << 20); // and not the 8 GiB that are reserved
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn committed(&self) -> usize {
        self.if_made(|vec| vec.committed()).unwrap_or(0)
    }

    /// Asks the array something, unless it is lazy and not made yet.
    fn if_made<R>(&self, ask: impl FnOnce(&Array<T>) -> R) -> Option<R> {
        if !self.storage.is_made() {
            return None;
        }
        let _held = self.hold().ok()?;
        // SAFETY: the lock is held.
        Some(unsafe { self.storage.with(|vec| ask(vec)) })
    }
}

/// The lock, until this is dropped.
struct Held<'a>(&'a SpinLock);

impl Drop for Held<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.unlock();
    }
}

/// Returns the value, or panics with the error: for methods without `try_`.
#[inline]
#[track_caller]
fn granted<R>(result: Result<R, impl Into<Error>>) -> R {
    match result {
        Ok(value) => value,
        Err(error) => refused(error.into()),
    }
}

#[cold]
#[track_caller]
fn refused(error: Error) -> ! {
    panic!("a ConcurrentVec cannot grow: {error}")
}

/// Methods that need the real storage, which the loom model does not have.
#[cfg(not(loom))]
impl<T> ConcurrentVec<T> {
    /// Makes an empty array of at most `max_len` elements. Reserves addresses; commits nothing.
    ///
    /// # Errors
    /// As [`PageVec::new`]: [`Overflow`](crate::Error::Overflow),
    /// [`AddressSpaceExhausted`](crate::Error::AddressSpaceExhausted) or
    /// [`MappingsExhausted`](crate::Error::MappingsExhausted).
    ///
    /// ```
    /// let samples = pagewise::ConcurrentVec::<f64>::new(1 << 30)?;
    /// assert_eq!((samples.max_len(), samples.committed()), (1 << 30, 0));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn new(max_len: usize) -> Result<Self, Error> {
        PageVec::new(max_len).map(Self::from)
    }

    /// Makes an array of at most `max_len` elements in a constant: for a `static`. It is empty, and reserves
    /// its addresses when it is first pushed to. The first push, and what else appends or reserves, returns the
    /// errors of [`new`](Self::new), too; once the addresses are reserved, such an array is like all others,
    /// and as fast.
    ///
    /// ```
    /// use pagewise::ConcurrentVec;
    ///
    /// static WARNINGS: ConcurrentVec<String> = ConcurrentVec::lazy(1_000_000);
    ///
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| WARNINGS.push(String::from("disk is full")));
    ///     scope.spawn(|| WARNINGS.push(String::from("fan has stopped")));
    /// });
    /// assert_eq!(WARNINGS.len(), 2);
    /// ```
    ///
    /// With options, a cell of the standard library makes the array when it is first used:
    ///
    /// ```
    /// use pagewise::ConcurrentVec;
    /// use std::sync::LazyLock;
    ///
    /// static EVENTS: LazyLock<ConcurrentVec<u64>> = LazyLock::new(|| {
    ///     let events = ConcurrentVec::builder(1 << 20).limit(1 << 20).name("events");
    ///     events.build().expect("there are addresses for a few megabytes")
    /// });
    /// EVENTS.push(1);
    /// ```
    pub const fn lazy(max_len: usize) -> Self {
        Self {
            lock: SpinLock::fresh(),
            published: AtomicUsize::new(0),
            waiters: Waiters::new(),
            storage: Storage::unmade(max_len),
            takes: PhantomData,
        }
    }

    /// Starts an array with options: those of a [`PageVec`].
    ///
    /// ```
    /// use pagewise::ConcurrentVec;
    ///
    /// let events = ConcurrentVec::<u64>::builder(1 << 20).limit(64 << 10).name("events").build()?;
    /// events.push(1);
    /// assert!(events.committed() <= 64 << 10);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn builder(max_len: usize) -> ConcurrentVecBuilder<T> {
        ConcurrentVecBuilder::new(max_len)
    }

    /// Returns every published element. The slice stays good, and does not move, while others push.
    ///
    /// ```
    /// let prices = pagewise::ConcurrentVec::new(1000)?;
    /// prices.push(10);
    /// let before = prices.as_slice();
    /// prices.push(20);
    /// assert_eq!((before, prices.as_slice()), (&[10][..], &[10, 20][..])); // no lock, no copy
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[inline]
    pub fn as_slice(&self) -> &[T] {
        let len = self.len();
        // SAFETY: these elements are published: initialised, and never written again. Their start is asked for
        // after their number: it was there before the first one.
        unsafe { slice::from_raw_parts(self.storage.start(), len) }
    }

    /// Returns the element at `index`, or the slice of a range, if it is published.
    ///
    /// ```
    /// let users = pagewise::ConcurrentVec::new(1000)?;
    /// users.push(String::from("Ada"));
    /// let ada = users.get(0).unwrap();
    /// users.push(String::from("Grace")); // `ada` is borrowed meanwhile, and does not move
    /// assert_eq!((ada.as_str(), users.get(2)), ("Ada", None));
    /// assert_eq!(users.get(1..).map(<[String]>::len), Some(1));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[inline]
    pub fn get<I: SliceIndex<[T]>>(&self, index: I) -> Option<&I::Output> {
        self.as_slice().get(index)
    }

    /// Returns the element at `index`, or the slice of a range, without a check that it is published.
    ///
    /// # Safety
    /// The index or range lies below a [length](Self::len) that this thread has seen, itself or by
    /// synchronising with a thread that has.
    ///
    /// ```
    /// let users = pagewise::ConcurrentVec::new(1000)?;
    /// let ada = users.push("Ada");
    /// // SAFETY: it was pushed just now.
    /// assert_eq!(unsafe { users.get_unchecked(ada) }, &"Ada");
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[inline]
    pub unsafe fn get_unchecked<I: SliceIndex<[T]>>(&self, index: I) -> &I::Output {
        // SAFETY: the caller's promise.
        unsafe { self.as_slice().get_unchecked(index) }
    }
}
