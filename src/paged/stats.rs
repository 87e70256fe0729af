//! What a region counts.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What happened in a region so far, and what it holds now.
///
/// ```
/// use pagewise::{FileStore, PagedRegion};
///
/// let path = std::env::temp_dir().join(format!("pagewise-stats-{}", std::process::id()));
/// std::fs::write(&path, vec![1; 1 << 20])?;
/// let Ok(region) = PagedRegion::builder(FileStore::open(&path)?).limit(1 << 18).build() else {
///     return Ok(()); // this system has no paged regions
/// };
/// // SAFETY: nobody writes to the file.
/// let bytes = unsafe { region.as_slice() };
/// assert_eq!(bytes.iter().map(|&byte| u64::from(byte)).sum::<u64>(), 1 << 20);
/// let stats = region.stats();
/// assert_eq!(stats.bytes_read, 1 << 20);
/// assert!(stats.resident <= 1 << 18 && stats.evictions > 0 && stats.bytes_written == 0);
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PagedStats {
    /// Page faults that were served.
    pub faults: u64,
    /// Pages that were read from the store.
    pub loads: u64,
    /// Pages that were about to be evicted, and came back by a touch. (A page that was read ahead, and whose first touch
    /// faults to say how far the program came, is not among them: it counts as one of the `faults` only.)
    pub rescues: u64,
    /// Pages that gave up their room.
    pub evictions: u64,
    /// Pages that were written to the store.
    pub write_backs: u64,
    /// Calls of the store that failed.
    pub io_errors: u64,
    /// Bytes that were read from the store.
    pub bytes_read: u64,
    /// Bytes that were written to the store.
    pub bytes_written: u64,
    /// How long threads waited in faults, in all.
    pub waited: Duration,
    /// Bytes of memory that the region holds now, with the room of the pages that are about to come: at most its limit.
    pub resident: usize,
    /// Bytes of pages that differ from the store now.
    pub dirty: usize,
    /// Bytes of pages that are pinned now.
    pub pinned: usize,
    /// Fault events that were dropped because the queue was full.
    pub events_lost: u64,
}

/// A page of the system that is read in less time is not worth a second chance: to move a page takes 1 to 2 µs, with several
/// threads 10 and more, and of those that cool, one of four, or of eight, is touched again.
const QUICK_NS: u64 = 8_000;

macro_rules! counters {
    ($($name:ident),*) => {
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: AtomicU64,)*
            /// How long the store's reads take, in nanoseconds: the mean of the last ones; zero before the first.
            read_ns: AtomicU64,
            /// The store's last error that no caller was told: it was a fault's, or a lent thread's.
            last_error: Mutex<Option<io::Error>>,
        }
    };
}

counters!(
    faults,
    loads,
    rescues,
    evictions,
    write_backs,
    io_errors,
    bytes_read,
    bytes_written,
    waited_ns
);

impl Counters {
    /// Not from the handler.
    pub(super) fn remember(&self, error: io::Error) -> io::ErrorKind {
        let kind = error.kind();
        let mut last = self.last_error.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *last = Some(error);
        kind
    }

    /// The store was read, in so many nanoseconds.
    pub(super) fn note_read(&self, took: u64) {
        /// One that takes longer, since the thread did not run, perhaps, counts as this.
        const MOST: u64 = 1_000_000;
        const READS: u64 = 32;
        let mean = self.read_ns.load(Ordering::Relaxed);
        let took = took.min(MOST);
        // (Of two threads, one may be forgotten.)
        let next = if mean == 0 { took } else { ((READS - 1) * mean + took) / READS };
        self.read_ns.store(next.max(1), Ordering::Relaxed);
    }

    /// Whether the store is as quick as memory, or nearly so.
    pub(super) fn reads_quickly(&self) -> bool {
        (1..QUICK_NS).contains(&self.read_ns.load(Ordering::Relaxed))
    }

    pub(super) fn take_error(&self) -> Option<io::Error> {
        self.last_error.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take()
    }

    pub(super) fn read(&self) -> PagedStats {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PagedStats {
            faults: of(&self.faults),
            loads: of(&self.loads),
            rescues: of(&self.rescues),
            evictions: of(&self.evictions),
            write_backs: of(&self.write_backs),
            io_errors: of(&self.io_errors),
            bytes_read: of(&self.bytes_read),
            bytes_written: of(&self.bytes_written),
            waited: Duration::from_nanos(of(&self.waited_ns)),
            ..PagedStats::default()
        }
    }
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_quick_as_long_as_most_of_its_last_reads_are() {
        let counters = Counters::default();
        assert!(!counters.reads_quickly(), "nothing is known yet");
        (0..3).for_each(|_| counters.note_read(700));
        assert!(counters.reads_quickly());
        (0..500).for_each(|_| counters.note_read(QUICK_NS + 100));
        assert!(!counters.reads_quickly());
        (0..10).for_each(|_| counters.note_read(0));
        assert!(counters.reads_quickly());
        counters.note_read(u64::MAX);
        assert!(
            !counters.reads_quickly(),
            "one of many that takes very long is what the others would be spared"
        );
        (0..60).for_each(|_| counters.note_read(700));
        assert!(counters.reads_quickly());
    }
}
