//! Elements whose pages come from a store.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut, RangeBounds};

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::pin::{Pinned, pin};
use super::region::PagedRegion;
use super::stats::PagedStats;
use super::store::PageStore;
use crate::error::Error;
use crate::page::index_range;

/// A slice of all the elements that a store has, of which only as many are in memory as the limit of its
/// [`PagedRegion`] allows.
///
/// Elements lie in the store as they lie in memory, one after the other: in this machine's byte order, unless their
/// type has one (`zerocopy::little_endian`). They may be shared between threads as far as `T` allows:
/// `PagedArray<AtomicU64, _>` is an array of counters for everybody.
///
/// ```
/// use pagewise::{FileStore, PagedArray, PagedRegion};
///
/// let path = std::env::temp_dir().join(format!("pagewise-array-{}", std::process::id()));
/// let store = FileStore::create(&path, 8 << 20)?;
/// let Ok(region) = PagedRegion::builder(store).limit(1 << 20).build() else {
///     return Ok(()); // this system has no paged regions
/// };
/// // SAFETY: nobody else writes to the file.
/// let mut squares = unsafe { PagedArray::<u64, _>::new(region)? }; // a million, of which an eighth is in memory
/// for (i, square) in (0..).zip(&mut squares[..]) {
///     *square = i * i;
/// }
/// assert_eq!((squares.len(), squares[1000]), (1 << 20, 1_000_000));
/// squares.flush(..)?;
/// assert_eq!(std::fs::read(&path)?[8000..8008], 1_000_000u64.to_ne_bytes());
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct PagedArray<T, S: PageStore + 'static> {
    /// Invariant: writable, or `T` changes only by exclusive borrows; nobody else changes the store.
    region: PagedRegion<S>,
    owns: PhantomData<T>,
}

// SAFETY: the elements are owned as those of a `Vec` are; the region itself can be sent and shared.
unsafe impl<T: Send, S: PageStore + 'static> Send for PagedArray<T, S> {}
// SAFETY: as above: sharing the array shares elements, and nothing else of `T`.
unsafe impl<T: Sync, S: PageStore + 'static> Sync for PagedArray<T, S> {}

impl<T: FromBytes + IntoBytes, S: PageStore + 'static> PagedArray<T, S> {
    const CHECKED: () = {
        assert!(size_of::<T>() > 0, "elements of a PagedArray have a size");
        assert!(align_of::<T>() <= 4096, "elements of a PagedArray are aligned to a page at most");
    };

    /// Takes a region as an array. Bytes at the end that are no whole element are left alone.
    ///
    /// # Safety
    /// As for [`PagedRegion::as_slice`], as long as the array lives: the store gives back what was written, and nobody
    /// else changes its bytes.
    ///
    /// # Errors
    /// [`Unsupported`](Error::Unsupported) for a read-only region: see [`read_only`](Self::read_only).
    ///
    /// ```
    /// # use pagewise::{FileStore, PagedArray, PagedRegion};
    /// # let path = std::env::temp_dir().join(format!("pagewise-doc-a1-{}", std::process::id()));
    /// # let store = FileStore::create(&path, 1 << 20)?;
    /// # std::fs::remove_file(&path)?;
    /// # let Ok(region) = PagedRegion::builder(store).limit(1 << 18).build() else { return Ok(()) };
    /// # let mut array = unsafe { PagedArray::<u32, _>::new(region)? };
    /// array[7] = 7;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub unsafe fn new(region: PagedRegion<S>) -> Result<Self, Error> {
        let () = Self::CHECKED;
        if region.is_read_only() {
            return Err(Error::Unsupported {
                what: "an array for writing in a read-only region: use `PagedArray::read_only`",
            });
        }
        Ok(Self { region, owns: PhantomData })
    }

    /// Takes a region as an array that is only read. (A mutable borrow of it is an empty slice where the region is
    /// [read-only](super::PagedRegionBuilder::read_only).)
    ///
    /// # Safety
    /// As for [`new`](Self::new).
    ///
    /// ```
    /// # use pagewise::{FileStore, PagedArray, PagedRegion};
    /// # let path = std::env::temp_dir().join(format!("pagewise-doc-a2-{}", std::process::id()));
    /// # let store = FileStore::create(&path, 1 << 20)?;
    /// # std::fs::remove_file(&path)?;
    /// # let Ok(region) = PagedRegion::builder(store).limit(1 << 18).build() else { return Ok(()) };
    /// # let mut array = unsafe { PagedArray::<u32, _>::new(region)? };
    /// // SAFETY: nobody else writes to the file.
    /// let array = unsafe { PagedArray::<[u8; 4], _>::read_only(array.into_region()) };
    /// assert_eq!(array[7], [0; 4]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub unsafe fn read_only(region: PagedRegion<S>) -> Self
    where
        T: Immutable,
    {
        let () = Self::CHECKED;
        Self { region, owns: PhantomData }
    }

    /// Returns a copy of an element, without a page fault.
    ///
    /// # Errors
    /// As [`PagedRegion::pin`]: [`Store`](Error::Store), [`AllPinned`](Error::AllPinned),
    /// [`OutOfBounds`](Error::OutOfBounds) (in elements) and others.
    ///
    /// ```
    /// # use pagewise::{FileStore, PagedArray, PagedRegion};
    /// # let path = std::env::temp_dir().join(format!("pagewise-doc-a3-{}", std::process::id()));
    /// # let store = FileStore::create(&path, 1 << 20)?;
    /// # std::fs::remove_file(&path)?;
    /// # let Ok(region) = PagedRegion::builder(store).limit(1 << 18).build() else { return Ok(()) };
    /// # let mut array = unsafe { PagedArray::<u32, _>::new(region)? };
    /// assert_eq!(array.try_get(100_000)?, 0);
    /// assert!(array.try_get(array.len()).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_get(&self, index: usize) -> Result<T, Error>
    where
        T: Copy,
    {
        Ok(self.pin(index..index.saturating_add(1))?[0])
    }

    /// Sets an element, without a page fault.
    ///
    /// # Errors
    /// As [`PagedRegion::pin_mut`]: [`Store`](Error::Store), [`AllPinned`](Error::AllPinned),
    /// [`OutOfBounds`](Error::OutOfBounds) (in elements) and others; then it is as it was.
    ///
    /// ```
    /// # use pagewise::{FileStore, PagedArray, PagedRegion};
    /// # let path = std::env::temp_dir().join(format!("pagewise-doc-a4-{}", std::process::id()));
    /// # let store = FileStore::create(&path, 1 << 20)?;
    /// # std::fs::remove_file(&path)?;
    /// # let Ok(region) = PagedRegion::builder(store).limit(1 << 18).build() else { return Ok(()) };
    /// # let mut array = unsafe { PagedArray::<u32, _>::new(region)? };
    /// array.try_set(100_000, 5)?;
    /// assert_eq!(array[100_000], 5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_set(&mut self, index: usize, value: T) -> Result<(), Error> {
        let (start, end) = self.bytes(index..index.saturating_add(1))?;
        let pages = pin(&self.region.core, start, end, true)?;
        // SAFETY: the element's pages are in memory and writable; the array is borrowed exclusively.
        unsafe { self.region.as_ptr().cast::<T>().cast_mut().add(index).write(value) };
        drop(pages);
        Ok(())
    }

    /// Keeps elements in memory, as [`PagedRegion::pin`] does for bytes.
    ///
    /// # Errors
    /// As there: [`Store`](Error::Store), [`AllPinned`](Error::AllPinned), [`OutOfBounds`](Error::OutOfBounds) (in
    /// elements) and others.
    ///
    /// ```
    /// # use pagewise::{FileStore, PagedArray, PagedRegion};
    /// # let path = std::env::temp_dir().join(format!("pagewise-doc-a5-{}", std::process::id()));
    /// # let store = FileStore::create(&path, 1 << 20)?;
    /// # std::fs::remove_file(&path)?;
    /// # let Ok(region) = PagedRegion::builder(store).limit(1 << 18).build() else { return Ok(()) };
    /// # let mut array = unsafe { PagedArray::<u32, _>::new(region)? };
    /// let some = array.pin(1000..1010)?;
    /// assert_eq!(some.iter().sum::<u32>(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn pin(&self, range: impl RangeBounds<usize>) -> Result<Pinned<'_, T>, Error> {
        let (first, last) = index_range(range, self.len())?;
        let size = size_of::<T>();
        let pages = pin(&self.region.core, first * size, last * size, false)?;
        Ok(Pinned::new(pages, &self[first..last]))
    }

    /// As [`PagedRegion::prefetch`], for elements.
    ///
    /// # Errors
    /// As there: [`Store`](Error::Store), [`OutOfBounds`](Error::OutOfBounds) (in elements) and others.
    ///
    /// ```
    /// # use pagewise::{FileStore, PagedArray, PagedRegion};
    /// # let path = std::env::temp_dir().join(format!("pagewise-doc-a6-{}", std::process::id()));
    /// # let store = FileStore::create(&path, 1 << 20)?;
    /// # std::fs::remove_file(&path)?;
    /// # let Ok(region) = PagedRegion::builder(store).limit(1 << 18).build() else { return Ok(()) };
    /// # let mut array = unsafe { PagedArray::<u32, _>::new(region)? };
    /// array.prefetch(..1000)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn prefetch(&self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        let (start, end) = self.bytes(range)?;
        self.region.prefetch(start..end)
    }

    /// As [`PagedRegion::flush`], for elements: all of each page that has some of the range.
    ///
    /// # Errors
    /// As there: [`Store`](Error::Store), [`OutOfBounds`](Error::OutOfBounds) (in elements) and others.
    ///
    /// ```
    /// # use pagewise::{FileStore, PagedArray, PagedRegion};
    /// # let path = std::env::temp_dir().join(format!("pagewise-doc-a7-{}", std::process::id()));
    /// # let store = FileStore::create(&path, 1 << 20)?;
    /// # std::fs::remove_file(&path)?;
    /// # let Ok(region) = PagedRegion::builder(store).limit(1 << 18).build() else { return Ok(()) };
    /// # let mut array = unsafe { PagedArray::<u32, _>::new(region)? };
    /// array[5] = 5;
    /// array.flush(..10)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn flush(&self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        let (start, end) = self.bytes(range)?;
        self.region.flush(start..end)
    }

    /// As [`PagedRegion::evict`], for elements.
    ///
    /// # Errors
    /// As there: [`Store`](Error::Store), [`OutOfBounds`](Error::OutOfBounds) (in elements) and others.
    ///
    /// ```
    /// # use pagewise::{FileStore, PagedArray, PagedRegion};
    /// # let path = std::env::temp_dir().join(format!("pagewise-doc-a8-{}", std::process::id()));
    /// # let store = FileStore::create(&path, 1 << 20)?;
    /// # std::fs::remove_file(&path)?;
    /// # let Ok(region) = PagedRegion::builder(store).limit(1 << 18).build() else { return Ok(()) };
    /// # let mut array = unsafe { PagedArray::<u32, _>::new(region)? };
    /// array[5] = 5;
    /// array.evict(..)?;
    /// assert_eq!(array[5], 5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn evict(&self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        let (start, end) = self.bytes(range)?;
        self.region.evict(start..end)
    }

    /// As [`PagedRegion::done_with`], for elements.
    ///
    /// # Errors
    /// [`OutOfBounds`](Error::OutOfBounds), [`ReversedRange`](Error::ReversedRange), in elements.
    ///
    /// ```
    /// # use pagewise::{FileStore, PagedArray, PagedRegion};
    /// # let path = std::env::temp_dir().join(format!("pagewise-doc-a9-{}", std::process::id()));
    /// # let store = FileStore::create(&path, 1 << 20)?;
    /// # std::fs::remove_file(&path)?;
    /// # let Ok(region) = PagedRegion::builder(store).limit(1 << 18).build() else { return Ok(()) };
    /// # let mut array = unsafe { PagedArray::<u32, _>::new(region)? };
    /// let sum: u32 = array[..100_000].iter().sum();
    /// array.done_with(..100_000)?;
    /// # assert_eq!(sum, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn done_with(&self, range: impl RangeBounds<usize>) -> Result<(), Error> {
        let (start, end) = self.bytes(range)?;
        self.region.done_with(start..end)
    }

    /// As [`PagedRegion::stats`].
    ///
    /// ```
    /// # use pagewise::{FileStore, PagedArray, PagedRegion};
    /// # let path = std::env::temp_dir().join(format!("pagewise-doc-aa-{}", std::process::id()));
    /// # let store = FileStore::create(&path, 1 << 20)?;
    /// # std::fs::remove_file(&path)?;
    /// # let Ok(region) = PagedRegion::builder(store).limit(1 << 18).build() else { return Ok(()) };
    /// # let mut array = unsafe { PagedArray::<u32, _>::new(region)? };
    /// assert!(array.stats().resident <= 1 << 18);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stats(&self) -> PagedStats {
        self.region.stats()
    }

    /// As [`PagedRegion::take_error`].
    ///
    /// ```
    /// # use pagewise::{FileStore, PagedArray, PagedRegion};
    /// # let path = std::env::temp_dir().join(format!("pagewise-doc-ab-{}", std::process::id()));
    /// # let store = FileStore::create(&path, 1 << 20)?;
    /// # std::fs::remove_file(&path)?;
    /// # let Ok(region) = PagedRegion::builder(store).limit(1 << 18).build() else { return Ok(()) };
    /// # let mut array = unsafe { PagedArray::<u32, _>::new(region)? };
    /// assert!(array.take_error().is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn take_error(&self) -> Option<std::io::Error> {
        self.region.take_error()
    }

    /// The region, where its bytes cannot change through a shared borrow of an element.
    ///
    /// ```
    /// # use pagewise::{FileStore, PagedArray, PagedRegion};
    /// # let path = std::env::temp_dir().join(format!("pagewise-doc-ac-{}", std::process::id()));
    /// # let store = FileStore::create(&path, 1 << 20)?;
    /// # std::fs::remove_file(&path)?;
    /// # let Ok(region) = PagedRegion::builder(store).limit(1 << 18).build() else { return Ok(()) };
    /// # let mut array = unsafe { PagedArray::<u32, _>::new(region)? };
    /// assert_eq!(array.region().len(), 1 << 20);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn region(&self) -> &PagedRegion<S>
    where
        T: Immutable,
    {
        &self.region
    }

    /// Gives the region back.
    ///
    /// ```
    /// # use pagewise::{FileStore, PagedArray, PagedRegion};
    /// # let path = std::env::temp_dir().join(format!("pagewise-doc-ad-{}", std::process::id()));
    /// # let store = FileStore::create(&path, 1 << 20)?;
    /// # std::fs::remove_file(&path)?;
    /// # let Ok(region) = PagedRegion::builder(store).limit(1 << 18).build() else { return Ok(()) };
    /// # let mut array = unsafe { PagedArray::<u32, _>::new(region)? };
    /// array[0] = 1;
    /// assert_eq!(array.into_region().pin(..4)?[..], 1u32.to_ne_bytes());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_region(self) -> PagedRegion<S> {
        self.region
    }

    /// A range of elements, in bytes.
    fn bytes(&self, range: impl RangeBounds<usize>) -> Result<(usize, usize), Error> {
        let (first, last) = index_range(range, self.len())?;
        Ok((first * size_of::<T>(), last * size_of::<T>()))
    }
}

impl<T: FromBytes + IntoBytes, S: PageStore + 'static> Deref for PagedArray<T, S> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        let len = self.region.len() / size_of::<T>();
        // SAFETY: the region has room for `len` elements, of which all bytes are valid values, and is aligned to
        // pages. The pointer is the region's own, so that elements with interior mutability may be changed through it.
        unsafe { std::slice::from_raw_parts(self.region.as_ptr().cast(), len) }
    }
}

impl<T: FromBytes + IntoBytes, S: PageStore + 'static> DerefMut for PagedArray<T, S> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: the invariant.
        let bytes = unsafe { self.region.as_mut_slice() };
        let len = bytes.len() / size_of::<T>();
        // SAFETY: as above; the region is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), len) }
    }
}

impl<T, S: PageStore + 'static> fmt::Debug for PagedArray<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PagedArray").field("region", &self.region).finish()
    }
}
