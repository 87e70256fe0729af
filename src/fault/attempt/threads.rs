//! Which attempt a thread is in, so that the handler finds it without thread-local storage.
//!
//! The handler must not use thread-local storage: the first access of a thread to that of a library which was
//! loaded by `dlopen` allocates memory, and on macOS so does the first access to any. So each thread that makes an
//! attempt has a record in a table that the handler searches by the thread's own identity (`pthread_self`, or
//! the thread's number on Windows). Code outside of the handler finds the record faster, by a thread-local pointer.

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use super::Attempt;
use crate::fault::handler::this_thread;
use crate::os;

/// The record of a thread. Records are never freed, since a handler may be reading any of them at any time; one
/// whose thread has ended is used again.
///
/// Invariant: among the records with an owner, at most one is a living thread's. `innermost` is read and changed by
/// the owner alone, in its signal handlers too.
pub(super) struct Thread {
    /// [`this_thread`] of the thread that it belongs to, or [`NOBODY`].
    owner: AtomicUsize,
    /// The innermost attempt that the thread is in, or null.
    pub(super) innermost: AtomicPtr<Attempt>,
    /// The next record in the bucket: never changes once the record is in the table.
    next: *mut Thread,
}

const NOBODY: usize = 0;
const BUCKETS: usize = 256;

/// Lists of records, by a hash of their owner. Records are added at the front, and never taken out.
static TABLE: [AtomicPtr<Thread>; BUCKETS] = [const { AtomicPtr::new(ptr::null_mut()) }; BUCKETS];

fn bucket(owner: usize) -> Option<&'static AtomicPtr<Thread>> {
    let mixed = (owner as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    // Always there: `get` leaves out the panic, which the handler must not contain.
    TABLE.get((mixed >> 56) as usize)
}

fn records(bucket: &'static AtomicPtr<Thread>) -> impl Iterator<Item = &'static Thread> {
    let mut next = bucket.load(Ordering::Acquire);
    std::iter::from_fn(move || {
        // SAFETY: records live for ever, and were complete when they were entered.
        let record = unsafe { next.as_ref() }?;
        next = record.next;
        Some(record)
    })
}

/// The record of the calling thread, if it has one. Async-signal-safe.
pub(super) fn own() -> Option<&'static Thread> {
    let this = this_thread();
    bucket(this).and_then(|bucket| {
        records(bucket).find(|record| record.owner.load(Ordering::Relaxed) == this)
    })
}

thread_local! {
    /// The record of this thread; null before its first attempt, and after [`LEAVING`] was dropped. It has no
    /// destructor, so that it can be used until the very end of the thread.
    static OWN: Cell<*const Thread> = const { Cell::new(ptr::null()) };
    /// Gives the record back when the thread ends.
    static LEAVING: Leaving = const { Leaving };
}

struct Leaving;

impl Drop for Leaving {
    fn drop(&mut self) {
        give_back();
    }
}

/// Calls `work` with the record of the calling thread.
#[inline]
pub(super) fn with_own<R>(work: impl FnOnce(&'static Thread) -> R) -> R {
    // SAFETY: records live for ever.
    match unsafe { OWN.get().as_ref() } {
        Some(thread) => work(thread),
        None => with_new(work),
    }
}

#[cold]
fn with_new<R>(work: impl FnOnce(&'static Thread) -> R) -> R {
    // A child of a fork must forget what the parent's other threads were in. Without memory for that, it has
    // records of threads that it does not have; none of them is asked for before a new thread gets the same
    // identity.
    let _ = os::watch_forks();
    os::call_in_children(crate::fault::after_fork_in_child);
    OWN.set(claim(this_thread()));
    // SAFETY: set just now.
    let thread = unsafe { &*OWN.get() };
    // In a destructor of another thread-local value, `LEAVING` may be gone: then nothing gives the record back at
    // the end of the thread.
    let is_kept = LEAVING.try_with(|_| ()).is_ok();
    let result = work(thread);
    if !is_kept {
        give_back();
    }
    result
}

/// Ends the use of this thread's record. The thread is in no attempt.
fn give_back() {
    // SAFETY: records live for ever.
    if let Some(thread) = unsafe { OWN.replace(ptr::null()).as_ref() } {
        thread.owner.store(NOBODY, Ordering::Release);
    }
}

/// A record for a thread that has none.
fn claim(owner: usize) -> &'static Thread {
    let bucket = bucket(owner).expect("the hash has eight bits");
    // A thread that ended by force, and had the same identity, may have left one behind.
    if let Some(left) = own() {
        left.innermost.store(ptr::null_mut(), Ordering::Relaxed);
        return left;
    }
    let take = |record: &&Thread| {
        record.owner.compare_exchange(NOBODY, owner, Ordering::Acquire, Ordering::Relaxed).is_ok()
    };
    if let Some(free) = records(bucket).find(take) {
        return free;
    }
    let new = Box::leak(Box::new(Thread {
        owner: AtomicUsize::new(owner),
        innermost: AtomicPtr::new(ptr::null_mut()),
        next: bucket.load(Ordering::Relaxed),
    }));
    while let Err(first) =
        bucket.compare_exchange(new.next, new, Ordering::Release, Ordering::Relaxed)
    {
        new.next = first;
    }
    new
}

/// In the child of a fork, on its only thread: frees the records of threads that it does not have, in whatever
/// attempts they were. A new thread of the child may have the identity of one of them. Async-signal-safe.
#[cfg(unix)]
pub(in super::super) fn forget_other_threads() {
    let this = this_thread();
    for record in TABLE.iter().flat_map(records) {
        if record.owner.load(Ordering::Relaxed) != this {
            record.innermost.store(ptr::null_mut(), Ordering::Relaxed);
            record.owner.store(NOBODY, Ordering::Relaxed);
        }
    }
}

#[cfg(all(test, not(loom), not(any(miri, pagewise_model))))]
mod tests {
    use super::*;
    use crate::fault::attempt;

    /// One test at a time: the identity of a thread that ended may be that of another one's next thread.
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());

    fn all() -> usize {
        TABLE.iter().flat_map(records).count()
    }

    /// Whether a thread that ended has left its record to nobody else.
    fn is_kept_for(thread: usize) -> bool {
        TABLE.iter().flat_map(records).any(|record| record.owner.load(Ordering::Relaxed) == thread)
    }

    #[test]
    fn threads_that_end_leave_their_records_to_others() {
        let _turn = TURN.lock();
        let run = || {
            let thread = std::thread::spawn(|| {
                // SAFETY: nothing is refused in it.
                assert_eq!(unsafe { attempt(|| is_kept_for(this_thread())) }, Ok(true));
                this_thread()
            });
            assert!(!is_kept_for(thread.join().unwrap()));
        };
        (0..10).for_each(|_| run());
        let before = all();
        (0..1000).for_each(|_| run());
        assert!(all() <= before + BUCKETS, "{} records after {before}", all());
    }

    #[test]
    fn a_thread_has_one_record_also_in_the_destructors_of_its_values() {
        struct Late(std::sync::mpsc::Sender<bool>);
        impl Drop for Late {
            fn drop(&mut self) {
                // SAFETY: nothing is refused in them.
                let nested = || unsafe {
                    attempt(|| {
                        let outer = own().unwrap().innermost.load(Ordering::Relaxed);
                        let around = || (*own().unwrap().innermost.load(Ordering::Relaxed)).outer;
                        attempt(around).is_ok_and(|around| around == outer && !outer.is_null())
                    })
                };
                self.0.send(nested() == Ok(true) && nested() == Ok(true)).unwrap();
            }
        }
        thread_local!(static LATE: Cell<Option<Late>> = const { Cell::new(None) });
        let _turn = TURN.lock();
        let (sender, receiver) = std::sync::mpsc::channel();
        for before in [false, true] {
            let sender = sender.clone();
            let thread = std::thread::spawn(move || {
                // Values are dropped in the order in which they were first used, or in the reverse one.
                if before {
                    // SAFETY: nothing is refused in it.
                    unsafe { attempt(|| ()) }.unwrap();
                }
                LATE.set(Some(Late(sender)));
                // SAFETY: as above.
                unsafe { attempt(|| ()) }.unwrap();
                this_thread()
            });
            let thread = thread.join().unwrap();
            assert!(receiver.recv().unwrap(), "first used before: {before}");
            assert!(!is_kept_for(thread), "first used before: {before}");
        }
    }
}
