//! Guards that keep pages in memory.

use std::fmt;
use std::ops::{Deref, DerefMut, Range};

use super::cache::Number;
use super::core::Core;
use super::moves::{Program, Wish};
use crate::error::Error;
use crate::fault;

/// Pages that are being pinned, or are pinned: unpinned when this is dropped.
pub(super) struct Pages<'a> {
    core: &'a Core,
    pages: Range<Number>,
}

impl Drop for Pages<'_> {
    fn drop(&mut self) {
        if !self.core.is_left() {
            let unpin = || self.pages.clone().for_each(|page| self.core.unpin(page));
            fault::uninterrupted(unpin);
        }
    }
}

/// Pins the pages of a range, or none.
pub(super) fn pin(core: &Core, start: usize, end: usize, write: bool) -> Result<Pages<'_>, Error> {
    core.check().map_err(|trouble| core.error(trouble, start))?;
    let wanted = core.pages(start, end);
    let mut pinned = Pages { core, pages: wanted.start..wanted.start };
    for page in wanted {
        let wish = Wish { pin: true, ..Wish::of_store(page, Some(write)) };
        fault::uninterrupted(|| core.fulfil::<Program>(wish))
            .map_err(|trouble| core.error(trouble, page as usize * core.ground.page_bytes))?;
        pinned.pages.end = page + 1;
    }
    Ok(pinned)
}

/// A part of a [`PagedRegion`](crate::PagedRegion) that stays in memory: see [`pin`](crate::PagedRegion::pin).
///
/// ```
/// use std::io::Write;
/// use pagewise::{FileStore, PagedRegion};
///
/// let program = FileStore::builder(std::env::current_exe()?).read_only(true).open()?;
/// let Ok(region) = PagedRegion::builder(program).limit(1 << 20).build() else {
///     return Ok(()); // this system has no paged regions
/// };
/// let start = region.pin(..1000)?;
/// std::io::sink().write_all(&start)?; // a system call could use it, too
/// assert!(region.stats().pinned >= 1000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Pinned<'a, T = u8> {
    _pages: Pages<'a>,
    elements: &'a [T],
}

impl<'a, T> Pinned<'a, T> {
    pub(super) fn new(pages: Pages<'a>, elements: &'a [T]) -> Self {
        Self { _pages: pages, elements }
    }
}

impl<T> Deref for Pinned<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.elements
    }
}

impl<T> AsRef<[T]> for Pinned<'_, T> {
    fn as_ref(&self) -> &[T] {
        self.elements
    }
}

impl<T> fmt::Debug for Pinned<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pinned").field("len", &self.elements.len()).finish_non_exhaustive()
    }
}

/// The same for writing: see [`pin_mut`](crate::PagedRegion::pin_mut).
///
/// ```
/// use pagewise::{FileStore, PagedRegion};
///
/// let path = std::env::temp_dir().join(format!("pagewise-pin-{}", std::process::id()));
/// let Ok(mut region) = PagedRegion::builder(FileStore::create(&path, 1 << 20)?).build() else {
///     return Ok(()); // this system has no paged regions
/// };
/// region.pin_mut(..4)?.copy_from_slice(b"page");
/// assert_eq!(&region.pin(..5)?[..], b"page\0");
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct PinnedMut<'a> {
    _pages: Pages<'a>,
    bytes: &'a mut [u8],
}

impl<'a> PinnedMut<'a> {
    pub(super) fn new(pages: Pages<'a>, bytes: &'a mut [u8]) -> Self {
        Self { _pages: pages, bytes }
    }
}

impl Deref for PinnedMut<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes
    }
}

impl DerefMut for PinnedMut<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.bytes
    }
}

impl fmt::Debug for PinnedMut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinnedMut").field("len", &self.bytes.len()).finish_non_exhaustive()
    }
}
