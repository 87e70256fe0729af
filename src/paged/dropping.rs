//! Clean pages leave without cooling, many at once, where they can be read again as quickly as they could be moved.

use std::cell::UnsafeCell;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

use super::builder::SecondChance;
use super::cache::Number;
use super::core::Core;
use super::stats::add;
use crate::os::{self, OsError, Span};
use crate::sync::relax;

/// The most pages that leave at once. Each time, the kernel interrupts the other processors that run the program: two
/// threads that miss all the time take nine tenths of the time that they take with 16; with 256 they gain nothing more.
const MOST: usize = 64;
/// At most one of so many pages that are in the region leaves with the next one: what is dropped early is missing.
const SHARE: usize = 128;
/// The most where the kernel is told of each page by a call of its own.
const MOST_SINGLY: usize = 4;

/// Pages that a thread is about to drop. (Not on its stack: that of a signal handler may be small.)
struct Batch {
    frames: [(Number, Number); MOST],
    spans: [Span; MOST],
}

struct List {
    is_taken: AtomicBool,
    /// Only for the thread that took it.
    batch: UnsafeCell<Batch>,
}

/// Room for as many threads as drop pages at the same moment.
pub(super) struct Lists([List; 2]);

impl Default for Lists {
    fn default() -> Self {
        Self([(); 2].map(|()| List {
            is_taken: AtomicBool::new(false),
            batch: UnsafeCell::new(Batch {
                frames: [(0, 0); MOST],
                spans: [Span { start: NonNull::dangling(), len: 0 }; MOST],
            }),
        }))
    }
}

impl Lists {
    /// Async-signal-safe: a thread that has a list is in the handler, or lets no signal interrupt it.
    fn with<R>(&self, use_it: impl FnOnce(&mut Batch) -> R) -> R {
        let mut round = 0;
        let take = |list: &&List| !list.is_taken.swap(true, Ordering::Acquire);
        let list = loop {
            match self.0.iter().find(take) {
                Some(list) => break list,
                None => relax(&mut round),
            }
        };
        // SAFETY: this thread took the list.
        let result = use_it(unsafe { &mut *list.batch.get() });
        list.is_taken.store(false, Ordering::Release);
        result
    }
}

impl Core {
    /// Whether clean pages are dropped instead of cooling: where the store brings one back as quickly as it could move. (To
    /// the order of leaving, it makes little difference: one that comes back soon counts as rescued.)
    pub(super) fn drops(&self) -> bool {
        let is_quick = match self.second_chance {
            SecondChance::Always => false,
            SecondChance::Never => true,
            SecondChance::Measured => self.counters.reads_quickly(),
        };
        is_quick && self.engine.drops(self.ground)
    }

    /// Drops clean pages that are the next to cool, at most so many, so that their frames are free; none where there is
    /// room by now (`more_memory`: also where there is a frame whose memory is not counted).
    pub(super) fn drop_pages(&self, most: usize, more_memory: bool) -> Result<(), OsError> {
        // What is not missed when it is gone must not be dropped.
        if !self.engine.is_intact() {
            return Err(OsError(0));
        }
        let most = most.min(if os::zeroes_at_once() { MOST } else { MOST_SINGLY });
        self.dropping.with(|Batch { frames, spans }| {
            let count = self.with(|state| {
                if state.cache.has_room(more_memory) {
                    return 0; // another thread was faster
                }
                let most = most.min(state.cache.warm() / SHARE).max(1);
                state.cache.turn();
                state.cache.hold_next_clean(frames.get_mut(..most).unwrap_or_default())
            });
            let frames = frames.get(..count).unwrap_or_default();
            let dropped = self.engine.drop_pages(self.ground, frames, spans);
            let gone = dropped.unwrap_or_default();
            self.with(|state| {
                for (number, &(frame, _)) in frames.iter().enumerate() {
                    if number < gone {
                        state.cache.free_dropped(frame);
                    } else {
                        state.cache.settle_as_it_was(frame);
                    }
                }
            });
            self.changed();
            add(&self.counters.evictions, gone as u64);
            dropped.map(|_| ())
        })
    }
}

#[cfg(all(test, target_os = "linux", not(loom), not(any(miri, pagewise_model))))]
mod tests {
    use crate::{Engine, FileStore, PagedRegion, SecondChance, os, page_size};

    /// Without its descriptor, nobody would notice that a page is missing: it would read zero.
    #[test]
    fn nothing_is_dropped_after_the_descriptor_was_closed() {
        os::assert_in_a_child(|| {
            let path = std::env::temp_dir().join(format!("pagewise-drop-{}", std::process::id()));
            std::fs::write(&path, vec![7; 64 * page_size()]).unwrap();
            let store = FileStore::open(&path).unwrap();
            std::fs::remove_file(&path).unwrap();
            let builder = PagedRegion::builder(store).page_bytes(page_size()).read_only();
            let region = builder.second_chance(SecondChance::Never).build().unwrap();
            if region.engine() != Engine::UserFault {
                return true; // it drops nothing
            }
            region.prefetch(..).unwrap();
            region.core.drop_pages(1, false).unwrap();
            let held = region.stats().evictions;
            for descriptor in 3..1024 {
                let link = std::fs::read_link(format!("/proc/self/fd/{descriptor}"));
                if link.is_ok_and(|name| name.to_string_lossy().contains("userfaultfd")) {
                    // SAFETY: what a careless program does.
                    unsafe { libc::close(descriptor) };
                }
            }
            let dropped = region.core.drop_pages(1, false);
            dropped.is_err() && held == 1 && region.stats().evictions == 1
        });
    }

    /// Between the look for room and the drop, another thread may have made some.
    #[test]
    fn nothing_is_dropped_where_there_is_room_by_now() {
        let path = std::env::temp_dir().join(format!("pagewise-room2-{}", std::process::id()));
        let store = FileStore::create(&path, 64 * page_size() as u64).unwrap();
        std::fs::remove_file(&path).unwrap();
        let builder = PagedRegion::builder(store).page_bytes(page_size()).read_only();
        let region = builder.second_chance(SecondChance::Never).build().unwrap();
        if region.engine() != Engine::UserFault {
            return;
        }
        region.prefetch(..).unwrap();
        for _ in 0..3 {
            region.core.drop_pages(1, false).unwrap();
            assert_eq!(region.stats().evictions, 1, "the second call finds the room of the first");
        }
        region.core.drop_pages(1, true).unwrap();
        assert_eq!(region.stats().evictions, 1);
    }
}
