//! Compressed memory as a store of pages.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::PageStore;

/// Bytes of an extent, unless told otherwise: longer ones compress little better, and take longer to read.
const EXTENT: usize = 16 << 10;

/// Each extent belongs to one of so many tables, so that threads seldom wait for one another.
const TABLES: usize = 64;

/// Memory as a [`PageStore`], compressed with LZ4: a region's cold pages take a part of their size, and no disk.
///
/// - Extents of zeros take nothing. One that does not compress is kept as it is. Both are found out by trying, at each
///   write.
/// - A write of a part of an extent unpacks and packs all of it: regions do best with pages of
///   [`preferred_bytes`](PageStore::preferred_bytes).
/// - Nothing survives the end of the process: [`sync`](PageStore::sync) has nothing to do.
/// - Where there is no memory for an extent, a write is an error ([`OutOfMemory`](io::ErrorKind::OutOfMemory)), and the
///   extent keeps what it held.
/// - It takes locks and allocates, so it cannot be called in the fault handler: a region on it needs threads
///   (`io_threads`), and the program's allocator must not use memory of that region.
///
/// ```
/// use pagewise::{MemoryStore, PageStore};
///
/// let store = MemoryStore::new(1 << 40); // a terabyte of zeros
/// assert_eq!(store.stored_bytes(), 0);
/// let text = b"All work and no play. ".repeat(1000);
/// store.write(0, &text)?;
/// assert!(store.stored_bytes() < text.len() / 10);
/// let mut back = vec![0; text.len()];
/// store.read(0, &mut back)?;
/// assert_eq!(back, text);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct MemoryStore {
    len: u64,
    extent: usize,
    tables: Box<[Table]>,
    stored: AtomicUsize,
}

/// What is stored, by the number of the extent: as long as the extent where it is not packed, shorter where it is. What
/// is not in the table is zeros.
type Table = Mutex<HashMap<u64, Arc<Vec<u8>>>>;

impl MemoryStore {
    /// Makes a store of `len` bytes, all of them zeros.
    ///
    /// ```
    /// use pagewise::{MemoryStore, PageStore};
    ///
    /// assert_eq!(MemoryStore::new(10_000).len(), 10_000);
    /// ```
    pub fn new(len: u64) -> Self {
        Self::with_extents(len, EXTENT)
    }

    /// Makes a store of `len` bytes that compresses `extent` bytes at a time: a power of two, from 4 KiB to 16 MiB.
    ///
    /// # Panics
    /// Where `extent` is not.
    ///
    /// ```
    /// use pagewise::{MemoryStore, PageStore};
    ///
    /// assert_eq!(MemoryStore::with_extents(1 << 30, 4096).preferred_bytes(), Some(4096));
    /// ```
    #[track_caller]
    pub fn with_extents(len: u64, extent: usize) -> Self {
        let fits = extent.is_power_of_two() && (4 << 10..=16 << 20).contains(&extent);
        assert!(fits, "extents of {extent} bytes: not a power of two from 4 KiB to 16 MiB");
        let tables = (0..TABLES).map(|_| Table::default()).collect();
        Self { len, extent, tables, stored: AtomicUsize::new(0) }
    }

    /// Returns how many bytes are kept in memory, without about a hundred for each extent that is not zeros.
    ///
    /// ```
    /// use pagewise::{MemoryStore, PageStore};
    ///
    /// let store = MemoryStore::new(1 << 30);
    /// store.write(0, &[7; 100_000])?;
    /// assert!((1..10_000).contains(&store.stored_bytes()));
    /// store.write(0, &[0; 100_000])?;
    /// assert_eq!(store.stored_bytes(), 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn stored_bytes(&self) -> usize {
        self.stored.load(Ordering::Relaxed)
    }

    /// Calls a function for each extent that a range touches: its number, its length, what of it is in the range, and
    /// where that is in the range.
    fn each_extent(
        &self,
        offset: u64,
        len: usize,
        mut visit: impl FnMut(u64, usize, Range<usize>, Range<usize>) -> io::Result<()>,
    ) -> io::Result<()> {
        if len as u64 > self.len.saturating_sub(offset) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut done = 0;
        while done < len {
            let at = offset + done as u64;
            let number = at / self.extent as u64;
            let start = number * self.extent as u64;
            let whole = (self.len - start).min(self.extent as u64) as usize;
            let from = (at - start) as usize;
            let count = (whole - from).min(len - done);
            visit(number, whole, from..from + count, done..done + count)?;
            done += count;
        }
        Ok(())
    }

    fn table(&self, number: u64) -> MutexGuard<'_, HashMap<u64, Arc<Vec<u8>>>> {
        let table = &self.tables[number as usize % TABLES];
        // A table is whole at every moment.
        table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a packed extent in place of another, `None` for zeros.
    fn put(
        &self,
        table: &mut HashMap<u64, Arc<Vec<u8>>>,
        number: u64,
        packed: Option<Vec<u8>>,
    ) -> io::Result<()> {
        let (more, before) = match packed {
            Some(packed) => {
                table.try_reserve(1).map_err(|_| io::ErrorKind::OutOfMemory)?;
                (packed.len(), table.insert(number, Arc::new(packed)))
            }
            None => (0, table.remove(&number)),
        };
        // Wraps where it shrinks; the sum is what is in the tables.
        let less = before.map_or(0, |before| before.len());
        self.stored.fetch_add(more.wrapping_sub(less), Ordering::Relaxed);
        Ok(())
    }
}

impl PageStore for MemoryStore {
    fn len(&self) -> u64 {
        self.len
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.each_extent(offset, buffer.len(), |number, whole, inside, at| {
            // The lock is free before the buffer is touched.
            let packed = self.table(number).get(&number).cloned();
            let buffer = &mut buffer[at];
            match packed {
                None => buffer.fill(0),
                Some(packed) if packed.len() == whole => buffer.copy_from_slice(&packed[inside]),
                Some(packed) if buffer.len() == whole => unpack(&packed, buffer)?,
                Some(packed) => {
                    let mut all = room(whole)?;
                    unpack(&packed, &mut all)?;
                    buffer.copy_from_slice(&all[inside]);
                }
            }
            Ok(())
        })
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.each_extent(offset, bytes.len(), |number, whole, inside, at| {
            let bytes = &bytes[at];
            if bytes.len() == whole {
                let packed = pack(bytes)?;
                return self.put(&mut self.table(number), number, packed);
            }
            // What is written is copied before the lock is taken.
            let mut part = room(bytes.len())?;
            part.copy_from_slice(bytes);
            let mut all = room(whole)?;
            let mut table = self.table(number);
            match table.get(&number) {
                None => {}
                Some(packed) if packed.len() == whole => all.copy_from_slice(packed),
                Some(packed) => unpack(packed, &mut all)?,
            }
            all[inside].copy_from_slice(&part);
            let packed = pack(&all)?;
            self.put(&mut table, number, packed)
        })
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn preferred_bytes(&self) -> Option<usize> {
        Some(self.extent)
    }
}

/// Zeros on the heap, where there is room for them.
fn room(len: usize) -> io::Result<Vec<u8>> {
    let mut room = Vec::new();
    room.try_reserve_exact(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
    room.resize(len, 0);
    Ok(room)
}

/// Packs an extent: shorter than it is, or as it is where that is not possible. `None` where it is all zeros.
fn pack(extent: &[u8]) -> io::Result<Option<Vec<u8>>> {
    if extent.iter().all(|&byte| byte == 0) {
        return Ok(None);
    }
    let mut packed = room(lz4_flex::block::get_maximum_output_size(extent.len()))?;
    let len = match lz4_flex::block::compress_into(extent, &mut packed) {
        Ok(len) if len < extent.len() => len,
        _ => {
            packed[..extent.len()].copy_from_slice(extent);
            extent.len()
        }
    };
    packed.truncate(len);
    packed.shrink_to_fit();
    Ok(Some(packed))
}

fn unpack(packed: &[u8], extent: &mut [u8]) -> io::Result<()> {
    match lz4_flex::block::decompress_into(packed, extent) {
        Ok(len) if len == extent.len() => Ok(()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}
