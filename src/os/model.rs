//! A simulated operating system, for Miri and for tests.
//!
//! It checks the contract of [`os`](super) and panics at a call that breaks it: for pages in the wrong state, outside
//! of a reservation, or for a part of a page. Its memory comes from the heap, so it does not see accesses by
//! themselves. It panics where the library announces one ([`expect_access`]) to memory that is not committed, or from
//! which [`protect`] took that access.
//!
//! Decommitted and discarded memory is filled with a poison byte, so that a stale read does not look like zero.
//! Pages are 16 KiB and the granularity is 64 KiB, to find code that assumes 4 KiB. There are no page faults:
//! regions commit before they access.

use std::alloc::Layout;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Access, Attributes, Cause, Expected, FileAccess, OsError, Residency};

pub(crate) const PREFAULT_TOUCHES: bool = false;

/// So that tests do not depend on the moment.
pub(crate) fn prefaulting_pays(_len: usize) -> bool {
    true
}

const PAGE: usize = 16 << 10;
const GRANULARITY: usize = 64 << 10;
const POISON: u8 = 0xDF;
const OUT_OF_MEMORY: OsError = OsError(12);

/// The longest reservation, so that the model stays within a machine's real memory.
const LONGEST: usize = if cfg!(miri) { 16 << 20 } else { 16 << 30 };

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Page {
    /// Reserved, and never committed. A commit need not write zeros, which the heap's memory holds already: a long
    /// table of page states is committed as a whole, and must not become resident by that.
    Fresh,
    Reserved,
    Committed(Access),
}

impl Page {
    fn allows(self, access: Access) -> bool {
        match self {
            Self::Fresh | Self::Reserved | Self::Committed(Access::None) => false,
            Self::Committed(Access::ReadWrite) => true,
            Self::Committed(_) => access == Access::Read,
        }
    }
}

struct Mapping {
    /// The heap's memory. The reservation is the aligned part of it.
    memory: NonNull<u8>,
    layout: Layout,
    pages: Vec<Page>,
}

// SAFETY: the memory belongs to the mapping, whichever thread uses it.
unsafe impl Send for Mapping {}

struct Machine {
    mappings: BTreeMap<usize, Mapping>,
}

static MACHINE: Mutex<Machine> = Mutex::new(Machine { mappings: BTreeMap::new() });

fn machine() -> MutexGuard<'static, Machine> {
    // A panic at a broken contract poisons the lock, but leaves the map as it was.
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Machine {
    /// The pages of a range, which must lie inside one reservation.
    fn pages(&mut self, start: NonNull<u8>, len: usize) -> &mut [Page] {
        let address = start.as_ptr().addr();
        assert!(address.is_multiple_of(PAGE) && len.is_multiple_of(PAGE), "unaligned range");
        assert!(len > 0, "empty range");
        let (base, mapping) =
            self.mappings.range_mut(..=address).next_back().expect("a range that is reserved");
        let first = (address - base) / PAGE;
        &mut mapping.pages[first..first + len / PAGE]
    }

    fn committed(&mut self, start: NonNull<u8>, len: usize, what: &str) {
        for page in self.pages(start, len) {
            assert!(matches!(page, Page::Committed(_)), "{what} of a page that is not committed");
        }
    }
}

pub(crate) fn page_size() -> usize {
    PAGE
}

pub(crate) fn reserve_granularity() -> usize {
    GRANULARITY
}

pub(crate) fn reserve(
    len: usize,
    align: usize,
    _attributes: &Attributes,
) -> Result<NonNull<u8>, OsError> {
    assert!(len > 0 && len.is_multiple_of(PAGE), "reserve takes whole pages");
    assert!(align.is_power_of_two() && align >= GRANULARITY);
    if len > LONGEST {
        return Err(OUT_OF_MEMORY);
    }
    // Aligned here and not by the heap, which writes zeros to memory that it aligns: a long reservation would become
    // resident.
    let layout = Layout::from_size_align(len + align, 1).map_err(|_| OUT_OF_MEMORY)?;
    // SAFETY: the layout is not empty.
    let memory = NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) }).ok_or(OUT_OF_MEMORY)?;
    // SAFETY: there are `align` bytes more than the reservation takes.
    let start = unsafe { memory.add(memory.addr().get().wrapping_neg() & (align - 1)) };
    let mapping = Mapping { memory, layout, pages: vec![Page::Fresh; len / PAGE] };
    machine().mappings.insert(start.as_ptr().addr(), mapping);
    Ok(start)
}

/// # Safety
/// See the contract of [`os`](super).
pub(crate) unsafe fn commit(start: NonNull<u8>, len: usize) -> Result<(), OsError> {
    for (index, page) in machine().pages(start, len).iter_mut().enumerate() {
        match *page {
            Page::Fresh => *page = Page::Committed(Access::ReadWrite),
            Page::Reserved => {
                // SAFETY: the page lies inside the reservation.
                unsafe { start.as_ptr().add(index * PAGE).write_bytes(0, PAGE) };
                *page = Page::Committed(Access::ReadWrite);
            }
            Page::Committed(Access::ReadWrite) => {}
            Page::Committed(access) => panic!("commit of a page that was protected: {access:?}"),
        }
    }
    Ok(())
}

/// Panics where the library is about to access pages that do not allow it. Ignores memory outside of every
/// reservation.
pub(crate) fn expect_access(start: *const u8, len: usize, access: Access) {
    let machine = machine();
    let Some((base, mapping)) = machine.mappings.range(..=start.addr()).next_back() else { return };
    let first = start.addr() - base;
    if len == 0 || first >= mapping.pages.len() * PAGE {
        return;
    }
    for page in &mapping.pages[first / PAGE..(first + len).div_ceil(PAGE)] {
        assert!(page.allows(access), "{access:?} access to a page that is {page:?}");
    }
}

/// Whether a byte can be read and written.
pub fn is_accessible(byte: *const u8) -> bool {
    let machine = machine();
    let Some((base, mapping)) = machine.mappings.range(..=byte.addr()).next_back() else {
        return false;
    };
    mapping.pages.get((byte.addr() - base) / PAGE) == Some(&Page::Committed(Access::ReadWrite))
}

/// # Safety
/// See the contract of [`os`](super).
pub(crate) unsafe fn decommit(
    start: NonNull<u8>,
    len: usize,
    _attributes: &Attributes,
) -> Result<(), OsError> {
    machine().pages(start, len).fill(Page::Reserved);
    // SAFETY: the caller gives up the contents.
    unsafe { start.as_ptr().write_bytes(POISON, len) };
    Ok(())
}

/// # Safety
/// See the contract of [`os`](super).
pub(crate) unsafe fn zero(start: NonNull<u8>, len: usize) -> Result<(), OsError> {
    machine().committed(start, len, "zero");
    // SAFETY: the caller gives up the contents.
    unsafe { start.as_ptr().write_bytes(0, len) };
    Ok(())
}

/// # Safety
/// See the contract of [`os`](super).
pub(crate) unsafe fn discard(start: NonNull<u8>, len: usize) -> Result<(), OsError> {
    machine().committed(start, len, "discard");
    // SAFETY: the caller gives up the contents.
    unsafe { start.as_ptr().write_bytes(POISON, len) };
    Ok(())
}

/// # Safety
/// See the contract of [`os`](super).
pub(crate) unsafe fn protect(
    start: NonNull<u8>,
    len: usize,
    access: Access,
) -> Result<(), OsError> {
    let mut machine = machine();
    machine.committed(start, len, "protect");
    machine.pages(start, len).fill(Page::Committed(access));
    Ok(())
}

/// # Safety
/// See the contract of [`os`](super).
pub(crate) unsafe fn prefault(start: NonNull<u8>, len: usize) {
    machine().committed(start, len, "prefault");
}

/// # Safety
/// See the contract of [`os`](super).
pub(crate) unsafe fn lock(start: NonNull<u8>, len: usize) -> Result<(), OsError> {
    machine().committed(start, len, "lock");
    Ok(())
}

/// # Safety
/// See the contract of [`os`](super).
pub(crate) unsafe fn unlock(start: NonNull<u8>, len: usize) -> Result<(), OsError> {
    machine().pages(start, len);
    Ok(())
}

/// # Safety
/// The range is what [`reserve`] returned, and it is not used any more.
pub(crate) unsafe fn release(start: NonNull<u8>, len: usize) -> Result<(), OsError> {
    let mapping = machine().mappings.remove(&start.as_ptr().addr());
    let mapping = mapping.expect("release of something that is reserved");
    assert_eq!(mapping.pages.len() * PAGE, len, "release takes the whole reservation");
    // SAFETY: allocated by `reserve` with this layout, and removed from the map just now.
    unsafe { std::alloc::dealloc(mapping.memory.as_ptr(), mapping.layout) };
    Ok(())
}

/// The simulated system maps no files.
pub(crate) fn map_file(
    _file: &File,
    _offset: u64,
    _len: usize,
    _access: FileAccess,
) -> Result<NonNull<u8>, OsError> {
    Err(OsError(0))
}

/// # Safety
/// None: nothing was mapped.
pub(crate) unsafe fn unmap_file(_start: NonNull<u8>, _len: usize) -> Result<(), OsError> {
    unreachable!("no file was mapped")
}

/// # Safety
/// None: nothing was mapped.
pub(crate) unsafe fn flush_file(_: NonNull<u8>, _: usize, _: &File) -> Result<(), OsError> {
    unreachable!("no file was mapped")
}

/// # Safety
/// None: nothing was mapped.
pub(crate) unsafe fn expect_file_access(_: NonNull<u8>, _: usize, _: Expected) {}

pub(crate) fn file_len(file: &File) -> Result<u64, OsError> {
    file.metadata().map(|about| about.len()).map_err(|_| OsError(0))
}

pub(crate) const FILE_CALLS_ARE_SIGNAL_SAFE: bool = false;

#[cfg(unix)]
pub(crate) fn read_at(file: &File, offset: u64, buffer: &mut [u8]) -> Result<usize, OsError> {
    std::os::unix::fs::FileExt::read_at(file, buffer, offset).map_err(code)
}

#[cfg(unix)]
pub(crate) fn write_at(file: &File, offset: u64, bytes: &[u8]) -> Result<usize, OsError> {
    std::os::unix::fs::FileExt::write_at(file, bytes, offset).map_err(code)
}

#[cfg(windows)]
pub(crate) fn read_at(file: &File, offset: u64, buffer: &mut [u8]) -> Result<usize, OsError> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, offset).map_err(code)
}

#[cfg(windows)]
pub(crate) fn write_at(file: &File, offset: u64, bytes: &[u8]) -> Result<usize, OsError> {
    std::os::windows::fs::FileExt::seek_write(file, bytes, offset).map_err(code)
}

fn code(error: io::Error) -> OsError {
    OsError(error.raw_os_error().unwrap_or(0))
}

pub(crate) fn make_sparse(_: &File) {}

/// The model has no file system of its own.
pub(crate) fn open_direct(_: &mut OpenOptions, _: &Path) -> io::Result<Option<File>> {
    Ok(None)
}

pub(crate) fn yield_now() {
    std::thread::yield_now();
}

pub(crate) fn sleep_a_little() {
    std::thread::sleep(std::time::Duration::from_micros(50));
}

pub(crate) fn write_stderr(text: &[u8]) {
    eprint!("{}", String::from_utf8_lossy(text));
}

pub(crate) fn explicit_huge_page_size() -> Option<usize> {
    None
}

pub(crate) fn diagnose(_error: OsError) -> Cause {
    Cause::OutOfMemory
}

/// Every committed page counts as resident.
pub(crate) fn residency(
    start: NonNull<u8>,
    len: usize,
    each: &mut dyn FnMut(usize, usize, Residency),
) -> Result<(), OsError> {
    let pages = machine().pages(start, len).to_vec();
    for (index, page) in pages.into_iter().enumerate() {
        if matches!(page, Page::Committed(_)) {
            let resident = Residency { resident: true, ..Residency::default() };
            each(index * PAGE, PAGE, resident);
        }
    }
    Ok(())
}

/// # Safety
/// None; the model refuses no release.
pub(crate) unsafe fn empty(_start: NonNull<u8>, _len: usize) {}

pub(crate) fn preserving_error_code<R>(work: impl FnOnce() -> R) -> R {
    work()
}
