//! An array that many threads append to and read as one slice.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Index;
use std::panic::{RefUnwindSafe, UnwindSafe};

use super::page_vec::{PageVec, PageVecBuilder};
use super::push_error::PushError;
use crate::error::Error;
#[cfg(not(loom))]
use crate::os;
use crate::reservation::reservation_options;
use crate::sync::{AtomicUsize, Ordering, SpinLock, Taken};
use storage::Storage;

#[cfg_attr(loom, path = "model.rs")]
mod storage;
#[cfg(all(test, unix, not(loom), not(any(miri, pagewise_model))))]
mod tests;

/// An array that many threads append to through `&self`, and read as one slice that never moves.
///
/// Elements are published in order: [`len`](Self::len) only grows, every element below it is
/// complete, and [`as_slice`](Self::as_slice) is all of them, contiguous. A slice that was taken
/// stays good while others push; there is no flag per element, so memory is what the elements take.
///
/// Appending holds a lock for the few instructions of a write (and, now and then, for a growth
/// step, as in [`PageVec`]); reading never waits for anybody. In the child of a fork the array holds
/// what was published; an element that a thread of the parent was pushing is not there. A signal
/// handler must not push to an array that the interrupted thread may be pushing to.
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
// Aligned so that the few words which every push changes are one cache line, and nobody else's.
#[repr(align(128))]
pub struct ConcurrentVec<T> {
    /// Held by whoever pushes to `storage`.
    lock: SpinLock,
    /// Invariant: elements `0..published` of `storage` are initialised and never written again;
    /// grows only, and only in the hands of whoever holds `lock`.
    published: AtomicUsize,
    storage: Storage<T>,
    takes: PhantomData<fn(T) -> T>,
}

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
        match self.try_push(value) {
            Ok(index) => index,
            Err(refusal) => refused(refusal),
        }
    }

    /// Appends an element and returns its index, or hands the element back.
    ///
    /// # Errors
    /// [`PushError`] with the value, and an error of [`PageVec::try_reserve`]. Nothing has changed then.
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
        let held = self.hold();
        let index = self.published.load(Ordering::Relaxed);
        // SAFETY: the lock is held, and `published` is how many there are.
        unsafe { self.storage.try_push(value) }?;
        // Readers that see the new length see the element, too.
        self.published.store(index + 1, Ordering::Release);
        drop(held);
        Ok(index)
    }

    /// Takes the lock. A waiting thread reads a contended lock ever less often: each read takes the cache
    /// line from the thread that pushes, and pushing is fastest where one thread makes many pushes in a
    /// row.
    #[inline]
    fn hold(&self) -> Held<'_> {
        if self.lock.lock() == Taken::FromParent {
            self.end_what_the_parent_did();
        }
        Held(&self.lock)
    }

    /// In the child of a fork, where a thread of the parent held the lock: resets the storage to the
    /// published elements, and forgets the push that was under way.
    #[cold]
    fn end_what_the_parent_did(&self) {
        // SAFETY: the lock is held, and the thread that held it does not exist in this process.
        unsafe { self.storage.recover(self.published.load(Ordering::Relaxed)) };
    }

    /// Returns the number of published elements. It only grows, except by [`clear`](Self::clear).
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

    /// Returns the element at `index`, if it is published.
    ///
    /// ```
    /// let users = pagewise::ConcurrentVec::new(1000)?;
    /// users.push(String::from("Ada"));
    /// let ada = users.get(0).unwrap();
    /// users.push(String::from("Grace")); // `ada` is borrowed meanwhile, and does not move
    /// assert_eq!((ada.as_str(), users.get(2)), ("Ada", None));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[inline]
    pub fn get(&self, index: usize) -> Option<&T> {
        // SAFETY: the element is published.
        (index < self.len()).then(|| unsafe { self.storage.get(index) })
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
        let _held = self.hold();
        // SAFETY: the lock is held.
        unsafe { self.storage.with(|vec| vec.max_len()) }
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
        let _held = self.hold();
        // SAFETY: the lock is held.
        unsafe { self.storage.with(|vec| vec.committed()) }
    }

    /// Commits memory for `additional` more elements, in steps: until so many are pushed, by whichever
    /// thread, no push can be refused.
    ///
    /// # Errors
    /// As [`PageVec::try_reserve`].
    ///
    /// ```
    /// let log = pagewise::ConcurrentVec::<[u8; 64]>::new(1 << 20)?;
    /// log.try_reserve(1000)?;
    /// let committed = log.committed();
    /// (0..1000).for_each(|_| drop(log.push([0; 64])));
    /// assert_eq!(log.committed(), committed);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn try_reserve(&self, additional: usize) -> Result<(), Error> {
        let _held = self.hold();
        // SAFETY: the lock is held.
        unsafe { self.storage.with(|vec| vec.try_reserve(additional)) }
    }

    /// Appends all elements of a slice, next to one another, or none, and returns the index of the
    /// first. They are published together. (`extend`, from [`Extend`], takes an iterator, and needs the
    /// array to itself.)
    ///
    /// # Errors
    /// As [`PageVec::try_extend_from_slice`].
    ///
    /// ```
    /// let text = pagewise::ConcurrentVec::new(1 << 20)?;
    /// text.try_extend_from_slice(b"GET ")?;
    /// let path = text.try_extend_from_slice(b"/index.html")?;
    /// assert_eq!(&text.as_slice()[path..], b"/index.html"); // no other thread's bytes between
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn try_extend_from_slice(&self, elements: &[T]) -> Result<usize, Error>
    where
        T: Copy, // somebody's `clone` could push to this very array, and wait for itself
    {
        let _held = self.hold();
        let first = self.published.load(Ordering::Relaxed);
        // SAFETY: the lock is held.
        unsafe { self.storage.with(|vec| vec.try_extend_from_copies(elements)) }?;
        self.published.store(first + elements.len(), Ordering::Release);
        Ok(first)
    }

    /// Returns an iterator over the elements, and over those that are pushed meanwhile: it ends when it
    /// has handed out the last one that is published at that moment, and goes on when called later.
    ///
    /// ```
    /// let work = pagewise::ConcurrentVec::new(100)?;
    /// work.push(3);
    /// for &depth in work.iter() {
    ///     (0..depth).for_each(|child| drop(work.push(child))); // found by this same loop
    /// }
    /// assert_eq!(work.as_slice(), [3, 0, 1, 2, 0, 0, 1, 0]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { vec: self, next: 0 }
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

#[cold]
#[track_caller]
fn refused<T>(refusal: PushError<T>) -> ! {
    panic!("a ConcurrentVec cannot grow: {}", refusal.error())
}

/// Methods that need the real storage, which the loom model does not have.
#[cfg(not(loom))]
impl<T> ConcurrentVec<T> {
    /// Makes an empty array of at most `max_len` elements. Reserves addresses; commits nothing.
    ///
    /// # Errors
    /// As [`PageVec::new`].
    ///
    /// ```
    /// let samples = pagewise::ConcurrentVec::<f64>::new(1 << 30)?;
    /// assert_eq!((samples.max_len(), samples.committed()), (1 << 30, 0));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn new(max_len: usize) -> Result<Self, Error> {
        PageVec::new(max_len).map(Self::from)
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
        ConcurrentVecBuilder(PageVec::builder(max_len))
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
        // SAFETY: these elements are published: initialised, and never written again.
        unsafe { std::slice::from_raw_parts(self.storage.start(), self.len()) }
    }

    /// Returns every element, to be changed. Needs the array to itself.
    ///
    /// ```
    /// let mut results = pagewise::ConcurrentVec::new(100)?;
    /// std::thread::scope(|scope| {
    ///     let results = &results;
    ///     (0..4).for_each(|n| drop(scope.spawn(move || results.push(n))));
    /// });
    /// results.as_mut_slice().sort(); // the threads are done
    /// assert_eq!(results.as_slice(), [0, 1, 2, 3]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        self.storage.get_mut().as_mut_slice()
    }

    /// Drops all elements. The memory goes back as [`PageVec::clear`] gives it back.
    ///
    /// ```
    /// let mut round = pagewise::ConcurrentVec::new(100)?;
    /// round.push(String::from("first round"));
    /// round.clear();
    /// assert_eq!(round.push(String::from("second round")), 0); // indices start again
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn clear(&mut self) {
        // Before dropping: if an element's drop panics, no dropped element may still be published.
        self.published.store(0, Ordering::Relaxed);
        self.storage.get_mut().clear();
    }

    /// Returns the same elements at the same addresses, for one thread that changes them at will.
    ///
    /// ```
    /// let shared = pagewise::ConcurrentVec::new(100)?;
    /// shared.try_extend_from_slice(&[1, 2, 3])?;
    /// let mut own = shared.into_page_vec();
    /// own.retain(|n| n % 2 == 1);
    /// assert_eq!(own, [1, 3]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn into_page_vec(self) -> PageVec<T> {
        self.storage.into_inner()
    }
}

/// The same elements at the same addresses, for many threads that append.
#[cfg(not(loom))]
impl<T> From<PageVec<T>> for ConcurrentVec<T> {
    fn from(vec: PageVec<T>) -> Self {
        // An array of elements without a size has no reservation, which would see to that. (Where the system
        // refuses, it refuses the reservation, too.)
        let _ = os::watch_forks();
        Self {
            lock: SpinLock::new(),
            published: AtomicUsize::new(vec.len()),
            storage: Storage::new(vec),
            takes: PhantomData,
        }
    }
}

#[cfg(not(loom))]
impl<T> IntoIterator for ConcurrentVec<T> {
    type Item = T;
    type IntoIter = super::page_vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.into_page_vec().into_iter()
    }
}

#[cfg(not(loom))]
impl<T> AsRef<[T]> for ConcurrentVec<T> {
    fn as_ref(&self) -> &[T] {
        self.as_slice()
    }
}

impl<T> Index<usize> for ConcurrentVec<T> {
    type Output = T;

    #[track_caller]
    fn index(&self, index: usize) -> &T {
        match self.get(index) {
            Some(element) => element,
            None => panic!("index {index} out of bounds: {} are published", self.len()),
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for ConcurrentVec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().take(self.len())).finish()
    }
}

impl<T> Extend<T> for ConcurrentVec<T> {
    /// Appends what an iterator yields, before or after other threads share the array: it needs
    /// `&mut`. Threads that share it push one by one.
    ///
    /// ```
    /// let mut table = pagewise::ConcurrentVec::new(1000)?;
    /// table.extend(["root", "nobody"]); // set up by one thread
    /// let shared = &table; // from here on by many
    /// assert_eq!(shared.push("ada"), 2);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    ///
    /// # Panics
    /// Where growing is refused; the elements before it stay.
    #[track_caller]
    fn extend<I: IntoIterator<Item = T>>(&mut self, elements: I) {
        for element in elements {
            self.push(element);
        }
    }
}

/// The elements of a [`ConcurrentVec`], including those that are pushed while it runs.
pub struct Iter<'a, T> {
    vec: &'a ConcurrentVec<T>,
    next: usize,
}

impl<T: fmt::Debug> fmt::Debug for Iter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Only those that are published now: others may push faster than this prints.
        let count = self.vec.len() - self.next;
        let rest: Vec<_> = Iter { ..*self }.take(count).collect();
        f.debug_tuple("Iter").field(&rest).finish()
    }
}

impl<'a, T> Iterator for Iter<'a, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        let element = self.vec.get(self.next)?;
        self.next += 1;
        Some(element)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.vec.len() - self.next, None)
    }
}

impl<'a, T> IntoIterator for &'a ConcurrentVec<T> {
    type Item = &'a T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

/// Options for a [`ConcurrentVec`]: those of a [`PageVecBuilder`].
#[must_use = "a builder reserves nothing until `build`"]
pub struct ConcurrentVecBuilder<T>(PageVecBuilder<T>);

impl<T> Clone for ConcurrentVecBuilder<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> fmt::Debug for ConcurrentVecBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.describe(f.debug_struct("ConcurrentVecBuilder"))
    }
}

impl<T> ConcurrentVecBuilder<T> {
    reservation_options!(0);

    /// Takes a smaller maximum length where the address space is small: see
    /// [`PageVecBuilder::at_least`].
    ///
    /// ```
    /// let ids = pagewise::ConcurrentVec::<u64>::builder(1 << 27).at_least(1 << 10).build()?;
    /// assert!(ids.max_len() >= 1 << 10);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn at_least(mut self, min_len: usize) -> Self {
        self.0 = self.0.at_least(min_len);
        self
    }

    /// Reserves the addresses of the array; commits nothing.
    ///
    /// # Errors
    /// As [`PageVecBuilder::build`].
    ///
    /// ```
    /// let one = pagewise::ConcurrentVec::<u64>::builder(1000).guard_pages(1);
    /// let arrays = [one.clone().build()?, one.build()?]; // same options, memory of their own
    /// assert_ne!(arrays[0].as_slice().as_ptr(), arrays[1].as_slice().as_ptr());
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    #[cfg(not(loom))]
    pub fn build(self) -> Result<ConcurrentVec<T>, Error> {
        self.0.build().map(ConcurrentVec::from)
    }
}

#[cfg(all(loom, test))]
mod models {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;
    use std::collections::BTreeSet;
    use std::sync::{Arc as Shared, Mutex};

    fn with_room<T>(max_len: usize) -> Arc<ConcurrentVec<T>> {
        Arc::new(ConcurrentVec {
            lock: SpinLock::new(),
            published: AtomicUsize::new(0),
            storage: Storage::with_room(max_len),
            takes: PhantomData,
        })
    }

    #[test]
    fn loom_a_reader_sees_a_prefix_of_complete_elements() {
        loom::model(|| {
            let vec = with_room(2);
            let writers: Vec<_> = (1..3)
                .map(|value| {
                    let vec = Arc::clone(&vec);
                    thread::spawn(move || vec.push(value))
                })
                .collect();
            let reader = {
                let vec = Arc::clone(&vec);
                thread::spawn(move || {
                    let seen: Vec<i32> = vec.iter().copied().collect();
                    assert!(seen.len() <= vec.len());
                    seen
                })
            };
            let mut indices: Vec<_> = writers.into_iter().map(|t| t.join().unwrap()).collect();
            let seen = reader.join().unwrap();
            let all: Vec<i32> = vec.iter().copied().collect();
            assert_eq!(all[..seen.len()], seen, "what was seen stays");
            assert!(matches!(all[..], [1, 2] | [2, 1]), "every element once: {all:?}");
            indices.sort();
            assert_eq!(indices, [0, 1]);
        });
    }

    /// Writes two elements at once, while another thread pushes and a third one reads: the two are next to
    /// each other, and nobody sees one without the other.
    #[test]
    fn loom_a_reader_sees_all_of_a_slice_or_nothing_of_it() {
        // (Counted outside of the models, so that it is certain that readers saw each.)
        let seen_lens: Shared<Mutex<BTreeSet<usize>>> = Shared::default();
        let lens = seen_lens.clone();
        loom::model(move || {
            let vec = with_room(3);
            let extending = {
                let vec = Arc::clone(&vec);
                thread::spawn(move || vec.try_extend_from_slice(&[1, 2]).unwrap())
            };
            let pushing = {
                let vec = Arc::clone(&vec);
                thread::spawn(move || vec.push(3))
            };
            let reading = {
                let (vec, lens) = (Arc::clone(&vec), lens.clone());
                thread::spawn(move || {
                    let seen: Vec<i32> = vec.iter().copied().collect();
                    assert!(
                        matches!(seen[..], [] | [1, 2] | [3] | [1, 2, 3] | [3, 1, 2]),
                        "{seen:?}"
                    );
                    lens.lock().unwrap().insert(seen.len());
                    seen
                })
            };
            let seen = reading.join().unwrap();
            let (first, pushed) = (extending.join().unwrap(), pushing.join().unwrap());
            let all: Vec<i32> = vec.iter().copied().collect();
            assert_eq!(all[..seen.len()], seen, "what was seen stays");
            assert_eq!((&all[first..first + 2], all[pushed], all.len()), (&[1, 2][..], 3, 3));
        });
        assert_eq!(
            *seen_lens.lock().unwrap(),
            BTreeSet::from([0, 1, 2, 3]),
            "the model is vacuous"
        );
    }

    /// Two slices for which there is room for one: one of them is all there, and nothing of the other.
    #[test]
    fn loom_a_refused_slice_leaves_everything_as_it_was() {
        loom::model(|| {
            let vec = with_room(3);
            let theirs = {
                let vec = Arc::clone(&vec);
                thread::spawn(move || vec.try_extend_from_slice(&[1, 2]))
            };
            let ours = vec.try_extend_from_slice(&[3, 4]);
            let theirs = theirs.join().unwrap();
            let (granted, refused, expected) = match (&ours, &theirs) {
                (Ok(first), Err(error)) => (*first, error, [3, 4]),
                (Err(error), Ok(first)) => (*first, error, [1, 2]),
                both => panic!("{both:?}"),
            };
            assert!(matches!(refused, Error::Full { len: 2, additional: 2, max_len: 3 }));
            let all: Vec<i32> = vec.iter().copied().collect();
            assert_eq!((granted, &all[..]), (0, &expected[..]));
            // Usable as before.
            assert_eq!((vec.push(5), vec.get(2).copied(), vec.len()), (2, Some(5), 3));
        });
    }

    /// Whoever asks the array about its memory has it to itself.
    #[test]
    fn loom_questions_and_reservations_wait_for_pushes() {
        loom::model(|| {
            let vec = with_room(2);
            let pushing = {
                let vec = Arc::clone(&vec);
                thread::spawn(move || vec.push(1))
            };
            assert_eq!((vec.max_len(), vec.committed()), (2, 2 * size_of::<i32>()));
            vec.try_reserve(1).unwrap();
            assert!(matches!(vec.try_reserve(3), Err(Error::Full { max_len: 2, .. })));
            assert_eq!(pushing.join().unwrap(), 0);
            assert_eq!((vec.len(), vec.get(0)), (1, Some(&1)));
        });
    }

    #[test]
    fn loom_a_refused_push_hands_back_its_value_and_leaves_the_array_usable() {
        loom::model(|| {
            let vec = with_room(1);
            let other = Arc::clone(&vec);
            let theirs = thread::spawn(move || other.try_push(1).map_err(PushError::into_value));
            let ours = vec.try_push(2).map_err(PushError::into_value);
            let theirs = theirs.join().unwrap();
            assert!(matches!((ours, theirs), (Ok(0), Err(1)) | (Err(2), Ok(0))));
            assert_eq!(vec.len(), 1);
            assert_eq!(vec.get(0).copied(), Some(if ours.is_ok() { 2 } else { 1 }));
            assert!(vec.try_push(3).is_err());
        });
    }
}
