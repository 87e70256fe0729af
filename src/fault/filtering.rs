//! Which threads are inside a filter, and an allocator that complains there.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::handler::this_thread;
use crate::os;

const NOBODY: usize = 0;

/// The threads that are inside a filter now. Not thread-local, since the handler writes it: see
/// `attempt/threads.rs`.
static INSIDE: [AtomicUsize; 64] = [const { AtomicUsize::new(NOBODY) }; 64];

/// How many of them there are, so that [`in_filter`] is fast where there is none.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Notes that the calling thread is inside a filter while `work` runs, which does not unwind. Async-signal-safe.
pub(crate) fn in_a_filter(work: impl FnOnce()) {
    let this = this_thread();
    let claim = |place: &&AtomicUsize| {
        place.compare_exchange(NOBODY, this, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    };
    COUNT.fetch_add(1, Ordering::Relaxed);
    let place = INSIDE.iter().find(claim);
    work();
    if let Some(place) = place {
        place.store(NOBODY, Ordering::Relaxed);
    }
    COUNT.fetch_sub(1, Ordering::Relaxed);
}

/// Returns whether the calling thread is inside a [filter](crate::DemandRegionBuilder::filter). Async-signal-safe.
///
/// For checks in debug builds: a function that must not be called there, such as an allocator, asserts that this is
/// `false`. [`FilterCheck`] is such an allocator. (Where more than 64 threads are inside filters at once, the others
/// are told `false`.)
///
/// ```
/// use pagewise::{DemandRegion, FaultAnswer, fault};
///
/// // SAFETY: the filter does nothing that a fault handler must not do.
/// let builder = unsafe {
///     DemandRegion::builder(1 << 20).filter(|_| {
///         if fault::in_filter() { FaultAnswer::Commit } else { FaultAnswer::Refuse }
///     })
/// };
/// let mut region = builder.build()?;
/// region.write(0, b"x")?;
/// assert!(!fault::in_filter());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn in_filter() -> bool {
    if COUNT.load(Ordering::Relaxed) == 0 {
        return false;
    }
    let this = this_thread();
    INSIDE.iter().any(|place| place.load(Ordering::Relaxed) == this)
}

/// In the child of a fork, on its only thread: forgets the threads that it does not have. Async-signal-safe.
#[cfg(unix)]
pub(super) fn forget_other_threads() {
    let this = this_thread();
    let mut own = 0;
    for place in &INSIDE {
        if place.load(Ordering::Relaxed) == this {
            own += 1;
        } else {
            place.store(NOBODY, Ordering::Relaxed);
        }
    }
    COUNT.store(own, Ordering::Relaxed);
}

/// An allocator that ends the process, after one line on stderr, when a
/// [filter](crate::DemandRegionBuilder::filter) allocates or frees memory. For debug builds and tests.
///
/// A library cannot watch the allocations of a program by itself: the program names this one as its allocator, around
/// the one that it uses. Allocations that do not go through Rust's global allocator are not seen.
///
/// ```no_run
/// #[cfg(debug_assertions)]
/// #[global_allocator]
/// static ALLOCATOR: pagewise::fault::FilterCheck<std::alloc::System> =
///     pagewise::fault::FilterCheck(std::alloc::System);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct FilterCheck<A>(
    /// The allocator that does the work.
    pub A,
);

fn check() {
    if in_filter() {
        os::write_stderr(
            b"pagewise: a filter allocates or frees memory, which nothing in a fault handler may do\n",
        );
        std::process::abort();
    }
}

// SAFETY: the inner allocator keeps the contract; nothing is changed on the way.
unsafe impl<A: GlobalAlloc> GlobalAlloc for FilterCheck<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check();
        // SAFETY: the caller's promise.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        check();
        // SAFETY: the caller's promise.
        unsafe { self.0.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        check();
        // SAFETY: the caller's promise.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        check();
        // SAFETY: the caller's promise.
        unsafe { self.0.realloc(pointer, layout, len) }
    }
}
