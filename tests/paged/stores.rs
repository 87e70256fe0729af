//! Stores for tests: they count, fail and wait as they are told.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use pagewise::{InHandler, PageStore, PagedRegion};

/// Bytes on the heap. Calls can be made to fail, with errors that allocate nothing.
#[derive(Default)]
pub struct Heap {
    bytes: Mutex<Vec<u8>>,
    pub reads: AtomicU64,
    pub writes: AtomicU64,
    pub syncs: AtomicU64,
    /// Every so many reads fail; zero: none does.
    pub reads_fail: AtomicU64,
    pub writes_fail: AtomicU64,
    pub syncs_fail: AtomicBool,
}

impl Heap {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes: Mutex::new(bytes), ..Self::default() }
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }

    fn fails(calls: &AtomicU64, every: &AtomicU64) -> bool {
        let call = calls.fetch_add(1, Relaxed) + 1;
        let every = every.load(Relaxed);
        every != 0 && call.is_multiple_of(every)
    }
}

impl PageStore for Heap {
    fn len(&self) -> u64 {
        self.bytes.lock().unwrap().len() as u64
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if Self::fails(&self.reads, &self.reads_fail) {
            buffer.fill(0xee); // half of the work was done
            return Err(io::Error::from_raw_os_error(libc::EPIPE));
        }
        let bytes = self.bytes.lock().unwrap();
        buffer.copy_from_slice(&bytes[offset as usize..][..buffer.len()]);
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if Self::fails(&self.writes, &self.writes_fail) {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        self.bytes.lock().unwrap()[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.syncs.fetch_add(1, Relaxed);
        match self.syncs_fail.load(Relaxed) {
            true => Err(io::Error::other("a sync that was to fail")),
            false => Ok(()),
        }
    }
}

/// A store that the handler calls itself: nobody takes the lock of a heap whose bytes are touched only through it.
/// (That is not async-signal-safe in general. Here the tests touch regions while they hold no lock.)
pub struct InTheHandler<S>(pub S);

impl<S: PageStore> PageStore for InTheHandler<S> {
    fn len(&self) -> u64 {
        self.0.len()
    }
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, buffer)
    }
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write(offset, bytes)
    }
    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
    fn in_handler(&self) -> Option<InHandler> {
        // SAFETY: the threads of these tests fault while they hold none of the store's locks, and allocate nothing at
        // that moment.
        Some(unsafe { InHandler::promise() })
    }
}

/// All of a region, as memory.
pub fn slice<S: PageStore + 'static>(region: &PagedRegion<S>) -> &[u8] {
    // SAFETY: the stores of these tests give back what was written, and nobody else writes to them.
    unsafe { region.as_slice() }
}

pub fn slice_mut<S: PageStore + 'static>(region: &mut PagedRegion<S>) -> &mut [u8] {
    // SAFETY: as above.
    unsafe { region.as_mut_slice() }
}
