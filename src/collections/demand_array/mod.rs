//! An array as long as you like, of which only the touched pages cost memory.

mod builder;

use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut, Range, RangeBounds};
use std::slice;

use zerocopy::{FromZeros, Immutable, IntoBytes};

use crate::demand::{DemandRegion, Stats};
use crate::error::{AccessError, Error};
use crate::fault;
use crate::fault::FaultEvent;
use crate::page::index_range;
use crate::reservation::PageMap;

pub use builder::DemandArrayBuilder;

/// A slice of `len` elements, all zero, that commits the pages you touch: in any order, from any
/// thread.
///
/// Plain indexing works as on any slice; a fault that a limit refuses ends the process, as in
/// [`DemandRegion::as_slice`]. The `try_` methods return the refusal instead. Elements may be shared
/// between threads as far as `T` allows: `DemandArray<AtomicU64>` is a counter array for everybody.
///
/// `T` must be something that all-zero bytes are a valid value of, must have a size, and no
/// destructor.
///
/// ```
/// use pagewise::DemandArray;
///
/// let mut world = DemandArray::<u32>::new(1 << 40)?; // 4 TiB of addresses
/// world[123_456_789_012] += 7;
/// assert_eq!(world[123_456_789_012], 7);
/// assert_eq!(world[1], 0);
/// assert!(world.committed() < 1 << 20);
/// # Ok::<(), pagewise::Error>(())
/// ```
pub struct DemandArray<T> {
    /// Invariant: at least `len * size_of::<T>()` bytes, aligned for `T`, each element a valid `T`:
    /// zero, or written as a whole.
    region: DemandRegion,
    len: usize,
    owns: PhantomData<T>,
}

impl<T: FromZeros> DemandArray<T> {
    const CHECKED: () = {
        assert!(size_of::<T>() > 0, "elements of a DemandArray have a size");
        assert!(!std::mem::needs_drop::<T>(), "elements of a DemandArray are not dropped");
    };

    /// Makes an array of `len` zeros. Reserves addresses; commits nothing.
    ///
    /// # Errors
    /// As [`DemandRegion::new`]: [`ZeroLength`](crate::Error::ZeroLength),
    /// [`Overflow`](crate::Error::Overflow), [`AddressSpaceExhausted`](crate::Error::AddressSpaceExhausted),
    /// [`MappingsExhausted`](crate::Error::MappingsExhausted), [`Locked`](crate::Error::Locked) or
    /// [`System`](crate::Error::System).
    ///
    /// ```
    /// let votes = pagewise::DemandArray::<u64>::new(1 << 36)?; // half a tebibyte of zeros
    /// assert_eq!((votes.len(), votes.committed()), (1 << 36, 0));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn new(len: usize) -> Result<Self, Error> {
        Self::builder(len).build()
    }

    /// Starts an array with options: those of a [`DemandRegion`].
    ///
    /// ```
    /// let budget = pagewise::Budget::new(1 << 20);
    /// let mut heat = pagewise::DemandArray::<f32>::builder(1 << 30).budget(budget.clone()).build()?;
    /// heat[1 << 29] = 36.6;
    /// assert_eq!(budget.used(), heat.committed());
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn builder(len: usize) -> DemandArrayBuilder<T> {
        let () = Self::CHECKED;
        DemandArrayBuilder::new(len)
    }

    /// Returns a copy of the element at `index`. Commits its pages;
    /// [`get_if_committed`](Self::get_if_committed) does not.
    ///
    /// # Errors
    /// [`AccessError`] where its page is refused ([`Limit`](crate::RefusalReason::Limit),
    /// [`Budget`](crate::RefusalReason::Budget), [`Mappings`](crate::RefusalReason::Mappings),
    /// [`Locked`](crate::RefusalReason::Locked) or [`System`](crate::RefusalReason::System)), or `index` is
    /// out of bounds ([`NotReserved`](crate::RefusalReason::NotReserved)).
    ///
    /// ```
    /// let sparse = pagewise::DemandArray::<u32>::builder(1 << 30).limit(0).build()?;
    /// assert!(sparse.try_get(5).is_err()); // `sparse[5]` would end the process
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn try_get(&self, index: usize) -> Result<T, AccessError>
    where
        T: Copy,
    {
        let at = self.touch(index..index.saturating_add(1))?;
        // SAFETY: the element's pages are committed, and it is a valid `T`.
        Ok(unsafe { self.start().add(at).read() })
    }

    /// Sets the element at `index`: as a whole, or not at all. Commits its pages.
    ///
    /// # Errors
    /// [`AccessError`] where its page is refused ([`Limit`](crate::RefusalReason::Limit),
    /// [`Budget`](crate::RefusalReason::Budget), [`Mappings`](crate::RefusalReason::Mappings),
    /// [`Locked`](crate::RefusalReason::Locked) or [`System`](crate::RefusalReason::System)), or `index` is
    /// out of bounds ([`NotReserved`](crate::RefusalReason::NotReserved)).
    ///
    /// ```
    /// let mut array = pagewise::DemandArray::<u8>::builder(1 << 30).limit(64 << 10).build()?;
    /// let last = (0..1 << 30).step_by(4 << 10).find(|&i| array.try_set(i, 1).is_err());
    /// assert!(last.is_some()); // the limit, as a `Result`
    /// assert_eq!(array[0], 1);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn try_set(&mut self, index: usize, value: T) -> Result<(), AccessError> {
        let at = self.touch(index..index.saturating_add(1))?;
        // SAFETY: the element's pages are committed, and `&mut self` makes it exclusive.
        unsafe { self.start().add(at).write(value) };
        Ok(())
    }

    /// Sets every element of a range. Those before a refused page are set.
    ///
    /// # Errors
    /// [`AccessError`], whose `copied` is the bytes of the elements that were set, where a page is refused:
    /// [`Limit`](crate::RefusalReason::Limit), [`Budget`](crate::RefusalReason::Budget),
    /// [`Mappings`](crate::RefusalReason::Mappings), [`Locked`](crate::RefusalReason::Locked) or
    /// [`System`](crate::RefusalReason::System). For a range that is reversed or out of bounds,
    /// [`NotReserved`](crate::RefusalReason::NotReserved), and nothing is set.
    ///
    /// ```
    /// let mut pixels = pagewise::DemandArray::<u16>::builder(1 << 30).limit(64 << 10).build()?;
    /// let stopped = pixels.try_fill(.., 0xffff).unwrap_err();
    /// assert_eq!(stopped.copied, 64 << 10); // bytes
    /// assert_eq!(pixels[stopped.copied / 2 - 1], 0xffff);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn try_fill(&mut self, range: impl RangeBounds<usize>, value: T) -> Result<(), AccessError>
    where
        T: Copy,
    {
        let (start, end) = index_range(range, self.len)
            .map_err(|_| AccessError::not_reserved(self.len * size_of::<T>()))?;
        self.write_whole(start..end, |slot, _| *slot = MaybeUninit::new(value))
    }

    /// Copies a slice to the elements from `index` on. Those before a refused page are copied.
    ///
    /// # Errors
    /// [`AccessError`], whose `copied` is the bytes of the elements that were copied, where a page is refused:
    /// [`Limit`](crate::RefusalReason::Limit), [`Budget`](crate::RefusalReason::Budget),
    /// [`Mappings`](crate::RefusalReason::Mappings), [`Locked`](crate::RefusalReason::Locked) or
    /// [`System`](crate::RefusalReason::System). For a range that is out of bounds,
    /// [`NotReserved`](crate::RefusalReason::NotReserved), and nothing is copied.
    ///
    /// ```
    /// let mut tape = pagewise::DemandArray::<u32>::new(1 << 30)?;
    /// tape.try_copy_from_slice(1000, &[1, 2, 3])?;
    /// assert_eq!(tape[999..1004], [0, 1, 2, 3, 0]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn try_copy_from_slice(&mut self, index: usize, source: &[T]) -> Result<(), AccessError>
    where
        T: Copy,
    {
        let range = index..index.saturating_add(source.len());
        self.write_whole(range, |slot, nth| *slot = MaybeUninit::new(source[nth]))
    }

    /// Writes elements of a range, as many as the limit allows whole ones.
    fn write_whole(
        &mut self,
        range: Range<usize>,
        write: impl Fn(&mut MaybeUninit<T>, usize),
    ) -> Result<(), AccessError> {
        let touched = self.touch(range.clone());
        let count = match &touched {
            Ok(_) => range.len(),
            Err(refused) => refused.copied / size_of::<T>(),
        };
        for nth in 0..count {
            // SAFETY: the pages of `count` elements were touched, and `&mut self` makes them
            // exclusive; `write` writes a valid `T`.
            write(unsafe { &mut *self.start().add(range.start + nth).cast() }, nth);
        }
        touched.map(|_| ())
    }

    /// Commits the pages of elements one by one, by touching them, and returns the first index. An
    /// error says how many bytes of whole elements come before what was refused.
    ///
    /// Elements are written after this, never half-way: a mix of an old and a new one may be no `T`.
    fn touch(&self, range: Range<usize>) -> Result<usize, AccessError> {
        let size = size_of::<T>();
        if range.end > self.len || range.start > range.end {
            return Err(AccessError::not_reserved(self.len * size));
        }
        let (start, end) = (range.start * size, range.end * size);
        let mut at = start;
        while at < end {
            if let Err(error) = self.touch_byte(at) {
                let copied = (at - start) / size * size;
                return Err(AccessError { copied, ..error });
            }
            at = (at + 1).next_multiple_of(self.region.page_size());
        }
        Ok(range.start)
    }

    /// Commits the page of one byte by reading it. The byte's value is not looked at: it may be padding, which is
    /// not initialised.
    fn touch_byte(&self, offset: usize) -> Result<(), AccessError> {
        let mut byte = MaybeUninit::<u8>::uninit();
        self.region.guarded(offset, 1, |from, len| {
            // SAFETY: the source lies inside the region, and the target is a variable of its own.
            unsafe { fault::copy(byte.as_mut_ptr(), from, len) }
        })
    }

    /// Returns a copy of the element at `index`, without committing anything: `None` where none of its pages
    /// is committed, which means that the element is zero, and where `index` is out of bounds.
    ///
    /// For tables that are mostly empty: looking at what was never written costs no memory and is
    /// never refused. Of an element that lies on several pages, the parts whose page is not committed
    /// read zero.
    ///
    /// ```
    /// let mut table = pagewise::DemandArray::<u64>::new(1 << 40)?;
    /// assert_eq!(table.get_if_committed(123_456_789), None);
    /// assert_eq!(table.committed(), 0);
    /// table[123_456_789] = 7;
    /// assert_eq!(table.get_if_committed(123_456_789), Some(7));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn get_if_committed(&self, index: usize) -> Option<T>
    where
        T: Copy,
    {
        if index >= self.len {
            return None;
        }
        let start = index * size_of::<T>();
        let mut element = MaybeUninit::<T>::zeroed();
        let mut found = false;
        let _: Result<(), Infallible> =
            self.region.for_each_part(start..start + size_of::<T>(), |part, is_committed| {
                if is_committed {
                    found = true;
                    // SAFETY: a part of the element whose page is committed; `T` is `Copy`, so that
                    // nothing changes it through a shared reference.
                    unsafe {
                        let from = self.region.as_ptr().add(part.start);
                        let to = element.as_mut_ptr().cast::<u8>().add(part.start - start);
                        from.copy_to_nonoverlapping(to, part.len());
                    }
                }
                Ok(())
            });
        // SAFETY: bytes of pages that are not committed are zero, so these are the element's bytes.
        found.then(|| unsafe { element.assume_init() })
    }

    /// Returns whether every page that holds a part of these elements is committed: touching them would not
    /// fault. `false`, too, where the range reaches outside; true for an empty one. Commits nothing.
    ///
    /// Other threads may commit pages at any time, so that `false` may be out of date at once.
    ///
    /// ```
    /// let mut cells = pagewise::DemandArray::<u64>::new(1 << 30)?;
    /// cells[7] = 1;
    /// assert!(cells.is_committed(0..8)); // the same page
    /// assert!(!cells.is_committed(0..1 << 20));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn is_committed(&self, range: impl RangeBounds<usize>) -> bool {
        index_range(range, self.len).is_ok_and(|(start, end)| {
            self.region.is_committed(start * size_of::<T>()..end * size_of::<T>())
        })
    }

    /// Makes every element of a range zero, and only these, without committing what is not committed
    /// (which is zero already). What is committed stays committed; [`decommit`](Self::decommit) gives
    /// memory back, too.
    ///
    /// # Errors
    /// As [`DemandRegion::zero`]: [`OutOfBounds`](crate::Error::OutOfBounds),
    /// [`ReversedRange`](crate::Error::ReversedRange), [`MappingsExhausted`](crate::Error::MappingsExhausted),
    /// [`Locked`](crate::Error::Locked) or [`System`](crate::Error::System); where the range is out of bounds,
    /// nothing is zeroed.
    ///
    /// ```
    /// let mut table = pagewise::DemandArray::<u64>::new(1 << 40)?;
    /// table[5..8].fill(9);
    /// let committed = table.committed();
    /// table.zero(6..)?;
    /// assert_eq!((table[5], table[6], table[7]), (9, 0, 0));
    /// assert_eq!(table.committed(), committed);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn zero(&mut self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        let (start, end) = index_range(range, self.len)?;
        self.region.zero(start * size_of::<T>()..end * size_of::<T>())
    }

    /// Commits the pages of a range of elements, rounded outward to whole pages, for threads that are to
    /// share them, and for system calls. Reserved → Committed.
    ///
    /// # Errors
    /// As [`DemandRegion::commit`]: [`LimitReached`](crate::Error::LimitReached),
    /// [`BudgetReached`](crate::Error::BudgetReached), [`CommitRefused`](crate::Error::CommitRefused),
    /// [`MappingsExhausted`](crate::Error::MappingsExhausted), [`Locked`](crate::Error::Locked),
    /// [`OutOfBounds`](crate::Error::OutOfBounds) or [`ReversedRange`](crate::Error::ReversedRange).
    ///
    /// ```
    /// let counters = pagewise::DemandArray::<u64>::new(1 << 30)?;
    /// counters.commit(..1000)?; // touching these 1000 can neither fault nor be refused
    /// assert!(counters.committed() >= 8000);
    /// assert_eq!(counters.stats().faults, 0);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn commit(&self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        let (start, end) = index_range(range, self.len)?;
        self.region.commit(start * size_of::<T>()..end * size_of::<T>())
    }

    /// Makes every element of a range zero, and gives back the memory of all pages that lie whole
    /// inside it. Committed → Reserved.
    ///
    /// # Errors
    /// As [`DemandRegion::decommit`]: [`OutOfBounds`](crate::Error::OutOfBounds),
    /// [`ReversedRange`](crate::Error::ReversedRange), [`MappingsExhausted`](crate::Error::MappingsExhausted),
    /// [`Locked`](crate::Error::Locked) or [`System`](crate::Error::System); the elements are zero all the
    /// same.
    ///
    /// ```
    /// let mut array = pagewise::DemandArray::<u64>::new(1 << 20)?;
    /// array.fill(9);
    /// array.decommit(5..)?;
    /// assert_eq!((array[4], array[5], array[6]), (9, 0, 0));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn decommit(&mut self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        let (start, end) = index_range(range, self.len)?;
        let is_rest = end == self.len;
        let (start, end) = (start * size_of::<T>(), end * size_of::<T>());
        let page = self.region.reservation().page();
        let first_whole = page.round_up(start).unwrap_or(end).min(end);
        let last_whole = page.round_down(end).max(first_whole);
        // The bytes after the last element are no element: a range that reaches the end may give
        // back the last page whole.
        let given_back = first_whole..if is_rest { self.region.len() } else { last_whole };
        let result = self.region.decommit(given_back);
        self.zero_if_committed(start..first_whole);
        self.zero_if_committed(last_whole..end);
        if result.is_err() {
            for page_start in (first_whole..last_whole).step_by(page.bytes()) {
                self.zero_if_committed(page_start..page_start + page.bytes());
            }
        }
        result
    }

    /// Zeroes bytes of one page, unless the page is zero for not being committed.
    fn zero_if_committed(&mut self, bytes: Range<usize>) {
        let reservation = self.region.reservation();
        if !bytes.is_empty()
            && reservation.states().is_committed(reservation.page().page_of(bytes.start))
        {
            // SAFETY: inside one committed page; `&mut self` makes it exclusive. The caller zeroes
            // whole elements.
            unsafe { self.region.as_ptr().add(bytes.start).write_bytes(0, bytes.len()) };
        }
    }
}

impl<T> DemandArray<T> {
    fn start(&self) -> *mut T {
        self.region.as_ptr().cast()
    }

    /// Returns the bytes that are committed now: whole pages.
    ///
    /// ```
    /// use pagewise::{CommitStep, DemandArray};
    ///
    /// let mut bits = DemandArray::<u8>::builder(1 << 40).step(CommitStep::page()).build()?;
    /// (bits[0], bits[1 << 39]) = (1, 1);
    /// assert_eq!(bits.committed(), 2 * bits.page_size());
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn committed(&self) -> usize {
        self.region.committed()
    }

    /// Returns what happened so far: faults, refusals, bytes.
    ///
    /// ```
    /// let mut graph = pagewise::DemandArray::<u32>::new(1 << 30)?;
    /// graph[1 << 20] = 1;
    /// graph[1 << 20] += 1; // the page is there by now
    /// assert!(graph.stats().peak > 0 && graph.stats().refused == 0);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn stats(&self) -> Stats {
        self.region.stats()
    }

    /// Takes the fault events since the last call, oldest first: see [`DemandRegion::events`]. Offsets
    /// are in bytes.
    ///
    /// ```
    /// let mut table = pagewise::DemandArray::<u64>::builder(1 << 30).events(16).build()?;
    /// table[123_456] = 1;
    /// let touched: Vec<_> = table.events().map(|event| event.offset / 8).collect();
    /// assert_eq!(touched, [123_456]); // the element whose touch committed memory
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn events(&self) -> impl Iterator<Item = FaultEvent> + '_ {
        self.region.events()
    }

    /// Returns which pages are reserved, committed, resident, huge, swapped: now.
    ///
    /// # Errors
    /// [`System`](Error::System) where the system does not tell what is resident.
    ///
    /// ```
    /// let mut sparse = pagewise::DemandArray::<u8>::new(1 << 30)?;
    /// let page = sparse.page_size();
    /// sparse[3 * page] = 1;
    /// let map = sparse.page_map()?;
    /// assert!(!map.page(2).committed && map.page(3).resident);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn page_map(&self) -> Result<PageMap, Error> {
        self.region.page_map()
    }

    /// Returns the bytes of a page of this array.
    ///
    /// ```
    /// let ints = pagewise::DemandArray::<u32>::new(1000)?;
    /// let per_page = ints.page_size() / size_of::<u32>();
    /// assert!(per_page >= 1024);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn page_size(&self) -> usize {
        self.region.page_size()
    }

    /// Returns the bytes that may be committed at most: the limit given to the builder, rounded down to
    /// whole pages, or all of them.
    ///
    /// ```
    /// let capped = pagewise::DemandArray::<u64>::builder(1 << 30).limit(1 << 20).build()?;
    /// assert_eq!(capped.limit(), 1 << 20); // bytes, while the length counts elements
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn limit(&self) -> usize {
        self.region.reservation().limit()
    }

    /// Changes the limit to `bytes` (not elements), rounded down to whole pages; all of the array is the most.
    ///
    /// # Errors
    /// [`LimitBelowUse`](Error::LimitBelowUse), as [`Reservation::set_limit`](crate::Reservation::set_limit).
    ///
    /// ```
    /// let mut cells = pagewise::DemandArray::<u64>::builder(1 << 30).limit(0).build()?;
    /// assert!(cells.try_set(5, 1).is_err());
    /// cells.set_limit(1 << 20)?;
    /// cells.try_set(5, 1)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_limit(&self, bytes: usize) -> Result<(), Error> {
        self.region.set_limit(bytes)
    }
}

impl<T: IntoBytes + Immutable> DemandArray<T> {
    /// Returns the region that holds the bytes of all elements.
    ///
    /// Only for elements that are nothing but initialised bytes. Others may have padding, or may be
    /// changed through a shared reference (cells, atomics) while the region's slice shows them:
    ///
    /// ```compile_fail,E0599
    /// let counters = pagewise::DemandArray::<std::sync::atomic::AtomicU64>::new(1)?;
    /// let bytes = counters.region().as_slice();
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    ///
    /// ```
    /// let mut array = pagewise::DemandArray::<u16>::new(1 << 20)?;
    /// array[1] = 0x0101;
    /// assert_eq!(array.region().as_slice()[..4], [0, 0, 1, 1]);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub fn region(&self) -> &DemandRegion {
        &self.region
    }
}

impl<T: FromZeros> Deref for DemandArray<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.region.touch_all_without_faults();
        // From the region's own pointer: one that comes from a `&[u8]` must not be written through,
        // which elements with interior mutability do.
        // SAFETY: the invariant; the region serves every touch, or ends the process.
        unsafe { slice::from_raw_parts(self.start(), self.len) }
    }
}

impl<T: FromZeros> DerefMut for DemandArray<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.region.touch_all_without_faults();
        // SAFETY: as in `deref`; `&mut self` makes it exclusive.
        unsafe { slice::from_raw_parts_mut(self.start(), self.len) }
    }
}

/// Yields references to the elements, in order. What it comes to is committed, as by any access;
/// [`get_if_committed`](DemandArray::get_if_committed) looks without committing.
///
/// ```
/// let mut counts = pagewise::DemandArray::<u32>::new(1000)?;
/// counts[7] = 3;
/// let mut sum = 0;
/// for count in &counts {
///     sum += count;
/// }
/// assert_eq!(sum, 3);
/// # Ok::<(), pagewise::Error>(())
/// ```
impl<'a, T: FromZeros> IntoIterator for &'a DemandArray<T> {
    type Item = &'a T;
    type IntoIter = slice::Iter<'a, T>;

    fn into_iter(self) -> slice::Iter<'a, T> {
        self.iter()
    }
}

impl<'a, T: FromZeros> IntoIterator for &'a mut DemandArray<T> {
    type Item = &'a mut T;
    type IntoIter = slice::IterMut<'a, T>;

    fn into_iter(self) -> slice::IterMut<'a, T> {
        self.iter_mut()
    }
}

impl<T> fmt::Debug for DemandArray<T> {
    /// Shows numbers, not elements: reading the elements would commit their pages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DemandArray")
            .field("len", &self.len)
            .field("committed", &self.committed())
            .finish_non_exhaustive()
    }
}
