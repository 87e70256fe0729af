//! Regions that share a budget give way to each other.

use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::Ordering;

use super::core::Core;
use super::moves::Caller;
use crate::sync::{SpinLock, Taken};

/// All regions of this process that share a budget with others.
#[cfg(not(loom))]
static REGIONS: Regions = Regions { lock: SpinLock::new(), first: UnsafeCell::new(ptr::null()) };
#[cfg(loom)]
static REGIONS: std::sync::LazyLock<Regions> = std::sync::LazyLock::new(|| Regions {
    lock: SpinLock::new(),
    first: UnsafeCell::new(ptr::null()),
});

/// A list through the cores themselves, by `Core::next_region`.
struct Regions {
    lock: SpinLock,
    /// Only for the holder of the lock, as the links.
    first: UnsafeCell<*const Core>,
}

// SAFETY: the list is used by the holder of the lock alone.
unsafe impl Sync for Regions {}
// SAFETY: as above; the pointer is to what any thread may use.
unsafe impl Send for Regions {}

impl Regions {
    fn with<R>(&self, use_it: impl FnOnce(&mut *const Core) -> R) -> R {
        let taken = self.lock.lock_in_handler();
        // SAFETY: this thread holds the lock.
        let first = unsafe { &mut *self.first.get() };
        if taken == Taken::FromParent {
            // Half changed, and the parent's regions have nothing to give here.
            *first = ptr::null();
        }
        let result = use_it(first);
        self.lock.unlock();
        result
    }
}

impl Core {
    /// Takes part from now on.
    ///
    /// # Safety
    /// The core stays where it is until [`leave_neighbours`](Self::leave_neighbours).
    pub(super) unsafe fn join_neighbours(&self) {
        if !self.account.is_shared() {
            return;
        }
        REGIONS.with(|first| {
            self.next_region.set(*first);
            *first = ptr::from_ref(self);
        });
    }

    /// Ends that: nobody takes pages from here any more.
    pub(super) fn leave_neighbours(&self) {
        if !self.account.is_shared() {
            return;
        }
        REGIONS.with(|first| {
            if ptr::eq(*first, self) {
                *first = self.next_region.get();
                return;
            }
            let mut at = *first;
            while !at.is_null() {
                // SAFETY: what is in the list is not dropped before it left.
                let region = unsafe { &*at };
                if ptr::eq(region.next_region.get(), self) {
                    region.next_region.set(self.next_region.get());
                    return;
                }
                at = region.next_region.get();
            }
        });
    }

    /// The region of the same budgets that holds the most memory, if that is more than twice what this one holds, and
    /// less than `below`. It is not dropped before its `guests` are told that this one is done with it.
    fn largest_neighbour(&self, below: usize) -> Option<&'static Core> {
        REGIONS.with(|first| {
            let (mut most, mut largest) = (2 * (self.held() + self.ground.page_bytes), None);
            let mut at = *first;
            while !at.is_null() {
                // SAFETY: as above; the guest keeps it from being dropped after the lock is free.
                let region: &'static Core = unsafe { &*at };
                let fits = !ptr::eq(region, self)
                    && !region.is_left()
                    && region.account.shares_with(&self.account);
                if fits && region.held() > most && region.held() < below {
                    (most, largest) = (region.held(), Some(region));
                }
                at = region.next_region.get();
            }
            largest.inspect(|region| _ = region.guests.fetch_add(1, Ordering::Acquire))
        })
    }

    /// Has a neighbour give the memory of a page back to the budget; `false` where none holds much more than this
    /// region, or none could.
    #[inline(never)] // keeps its registers and its stack out of faults that need no neighbour
    pub(super) fn take_from_neighbour<C: Caller>(&self) -> bool {
        let mut below = usize::MAX;
        while let Some(neighbour) = self.largest_neighbour(below) {
            below = neighbour.held();
            let theirs = neighbour.ground;
            let needed = theirs.whole_pages(self.ground.page_bytes + theirs.page_bytes - 1);
            let gave = (0..needed).all(|_| neighbour.give_up_one::<C>());
            neighbour.guests.fetch_sub(1, Ordering::Release);
            if gave {
                return true;
            }
        }
        false
    }
}
