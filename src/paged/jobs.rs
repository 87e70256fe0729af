//! The threads that the program lends: they call the store where the handler must not, write dirty pages back before
//! their room is needed, and read ahead.

use std::cell::UnsafeCell;
use std::io;
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

use super::cache::Number;
use super::core::Core;
use super::moves::{Ahead, Lent};
use crate::error::Error;
use crate::fault;
use crate::os;
use crate::sync::SpinLock;

/// One call of the store, which lies on the stack of the thread that waits for it.
pub(super) struct Job {
    next: *mut Job,
    write: bool,
    offset: u64,
    bytes: NonNull<u8>,
    len: usize,
    /// Zero until the call returned. (Then the job belongs to the waiting thread alone.)
    done: AtomicU32,
    /// Why the call failed. (The error itself is dropped on the thread that made the call, since the handler must not
    /// free memory.)
    failed: Option<io::ErrorKind>,
}

/// Neighbouring pages that the program asked for.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    next: Number,
    end: Number,
}

/// How many windows may wait.
const WINDOWS: usize = 64;

/// What waits for a lent thread.
struct Queue {
    first: *mut Job,
    last: *mut Job,
    /// A ring of windows, none of which is empty.
    ahead: [Window; WINDOWS],
    ahead_first: usize,
    ahead_len: usize,
    stopped: bool,
    /// Dirty pages that could not be written: the threads rest until there is other work.
    rests: bool,
}

impl Queue {
    /// Takes the next call of the store that a thread waits for; or tells that there will be none.
    fn take_call(&mut self) -> Option<Task> {
        if self.first.is_null() {
            return self.stopped.then_some(Task::Stop);
        }
        let job = self.first;
        // SAFETY: a job in the queue waits on the stack of a thread that waits for it.
        self.first = unsafe { (*job).next };
        if self.first.is_null() {
            self.last = ptr::null_mut();
        }
        Some(Task::Call(job))
    }

    /// Takes the next page that the program asked for.
    fn take_ahead(&mut self) -> Option<Number> {
        if self.ahead_len == 0 {
            return None;
        }
        let window = self.ahead.get_mut(self.ahead_first)?;
        let page = window.next;
        window.next += 1;
        if window.next >= window.end {
            self.ahead_first = (self.ahead_first + 1) % WINDOWS;
            self.ahead_len -= 1;
        }
        Some(page)
    }
}

pub(super) struct Jobs {
    lock: SpinLock,
    /// Only for the holder of the lock.
    queue: UnsafeCell<Queue>,
    /// Changes whenever there is more to do.
    work: AtomicU32,
    /// Lent threads that wait for that, or are about to.
    resting: AtomicU32,
    threads: AtomicU32,
    /// How often a thread looked for what is next.
    turns: AtomicU32,
    /// Whether dirty pages are written as soon as they cool.
    write_early: bool,
}

impl Jobs {
    pub(super) fn new(write_early: bool) -> Self {
        Self {
            lock: SpinLock::new(),
            queue: UnsafeCell::new(Queue {
                first: ptr::null_mut(),
                last: ptr::null_mut(),
                ahead: [Window::default(); WINDOWS],
                ahead_first: 0,
                ahead_len: 0,
                stopped: false,
                rests: false,
            }),
            work: AtomicU32::new(0),
            resting: AtomicU32::new(0),
            threads: AtomicU32::new(0),
            turns: AtomicU32::new(0),
            write_early,
        }
    }

    fn with<R>(&self, use_it: impl FnOnce(&mut Queue) -> R) -> R {
        self.lock.lock_in_handler();
        // SAFETY: this thread holds the lock.
        let result = use_it(unsafe { &mut *self.queue.get() });
        self.lock.unlock();
        result
    }

    /// Wakes as many lent threads as there are more things to do. (Each does whatever is next, until nothing is left: so it
    /// does not matter which one wakes.) Async-signal-safe.
    pub(super) fn more_to_do(&self, things: u32) {
        if things == 0 {
            return;
        }
        self.work.fetch_add(1, Ordering::SeqCst);
        if self.resting.load(Ordering::SeqCst) > 0 {
            os::wake(&self.work, things);
        }
    }

    /// For a lent thread: waits until there is more to do than at that moment. May return early.
    fn rest(&self, moment: u32) {
        // Whoever does not see this thread here has changed `work` before, and the system does not let it wait then.
        self.resting.fetch_add(1, Ordering::SeqCst);
        os::wait_while(&self.work, moment);
        self.resting.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn has_threads(&self) -> bool {
        self.threads.load(Ordering::Relaxed) > 0
    }

    /// Has a lent thread call the store, and waits for it. Async-signal-safe.
    ///
    /// # Safety
    /// The bytes are the caller's, for reading and (unless `write`) for writing.
    pub(super) unsafe fn call(
        &self,
        write: bool,
        offset: u64,
        bytes: NonNull<u8>,
        len: usize,
    ) -> io::Result<()> {
        let done = AtomicU32::new(0);
        let mut job = Job { next: ptr::null_mut(), write, offset, bytes, len, done, failed: None };
        let place = &raw mut job;
        self.with(|queue| {
            if queue.last.is_null() {
                queue.first = place;
            } else {
                // SAFETY: a job in the queue waits on the stack of a thread that waits for it.
                unsafe { (*queue.last).next = place };
            }
            queue.last = place;
        });
        self.more_to_do(1);
        // SAFETY: the job lives until this function returns; only its atomic is used by both threads.
        let done = unsafe { &(*place).done };
        while done.load(Ordering::Acquire) == 0 {
            os::wait_while(done, 0);
        }
        // SAFETY: the other thread is done with the job.
        match unsafe { (*place).failed } {
            None => Ok(()),
            Some(kind) => Err(kind.into()),
        }
    }

    /// Asks that pages be read before they are touched. Drops the wish where too many wait.
    pub(super) fn read_ahead(&self, pages: Range<Number>) {
        if pages.is_empty() {
            return;
        }
        let entered = self.with(|queue| {
            let place = (queue.ahead_first + queue.ahead_len) % WINDOWS;
            match queue.ahead.get_mut(place) {
                Some(slot) if queue.ahead_len < WINDOWS => {
                    *slot = Window { next: pages.start, end: pages.end };
                    queue.ahead_len += 1;
                    true
                }
                _ => false,
            }
        });
        if entered {
            self.more_to_do(pages.end - pages.start);
        }
    }

    /// A dirty page cools. Async-signal-safe.
    pub(super) fn something_is_to_be_written(&self) {
        if self.write_early && self.has_threads() {
            self.with(|queue| queue.rests = false);
            self.more_to_do(1);
        }
    }
}

/// Starts threads that work for a region until [`stop`].
pub(super) fn start(core: &Arc<Core>, count: usize) -> Result<Vec<JoinHandle<()>>, Error> {
    let mut threads = Vec::with_capacity(count);
    for _ in 0..count {
        let (at_work, builder) = (core.clone(), std::thread::Builder::new());
        core.jobs.threads.fetch_add(1, Ordering::Relaxed);
        match builder.name("pagewise-io".into()).spawn(move || work(&at_work)) {
            Ok(thread) => threads.push(thread),
            Err(source) => {
                core.jobs.threads.fetch_sub(1, Ordering::Relaxed);
                stop(core, threads);
                return Err(Error::System { operation: "starting a thread", source });
            }
        }
    }
    Ok(threads)
}

/// Ends the threads, and waits for them.
pub(super) fn stop(core: &Core, threads: Vec<JoinHandle<()>>) {
    if core.is_left() {
        // They are the parent's.
        threads.into_iter().for_each(std::mem::forget);
        return;
    }
    fault::uninterrupted(|| {
        core.jobs.with(|queue| queue.stopped = true);
        core.jobs.more_to_do(u32::MAX);
    });
    for thread in threads {
        // A store that panicked has said so; what waited for it was told, too.
        let _ = thread.join();
    }
}

enum Task {
    Call(*mut Job),
    ReadAhead(Number, Ahead),
    WriteBack,
    Stop,
    Nothing,
}

fn work(core: &Arc<Core>) {
    // A signal handler that runs on this thread, and touches a page that it holds, would wait for itself.
    fault::uninterrupted(|| work_on(core));
}

fn work_on(core: &Core) {
    loop {
        let moment = core.jobs.work.load(Ordering::Acquire);
        match next_task(core) {
            // SAFETY: the job was taken from the queue, and its thread waits.
            Task::Call(job) => unsafe { run(core, job) },
            Task::ReadAhead(page, ahead) => {
                // It is a wish: whoever touches the page gets the error.
                if let Err(trouble) = core.bring_ahead(page, ahead) {
                    trouble.into_store_error();
                }
            }
            Task::WriteBack => {
                if !core.write_one_back() {
                    core.jobs.with(|queue| queue.rests = true);
                }
            }
            Task::Stop => return,
            Task::Nothing => core.jobs.rest(moment),
        }
    }
}

/// What somebody waits for comes first, then what a row comes to soon, what the program asked for, and what is to be written.
fn next_task(core: &Core) -> Task {
    /// One of so many pages is one that the program asked for, if there are such.
    const TOLD_SHARE: u32 = 4;
    let (task, rests) = core.jobs.with(|queue| (queue.take_call(), queue.rests));
    if let Some(task) = task {
        return task;
    }
    let told = || Some((core.jobs.with(Queue::take_ahead)?, Ahead::AsTold));
    let in_row = || {
        let (page, is_mark) = core.with(|state| state.rows.take_ahead())?;
        Some((page, if is_mark { Ahead::Mark } else { Ahead::InRow }))
    };
    let turn = core.jobs.turns.fetch_add(1, Ordering::Relaxed) % TOLD_SHARE;
    let ahead =
        if turn == TOLD_SHARE - 1 { told().or_else(in_row) } else { in_row().or_else(told) };
    if let Some((page, ahead)) = ahead {
        return Task::ReadAhead(page, ahead);
    }
    let writes = core.jobs.write_early && !rests;
    match writes && core.with(|state| state.cache.next_to_write().is_some()) {
        true => Task::WriteBack,
        false => Task::Nothing,
    }
}

/// # Safety
/// The job's thread waits for it.
unsafe fn run(core: &Core, job: *mut Job) {
    // SAFETY: the caller's promise. The waiting thread reads `done` meanwhile, and nothing else.
    let (write, offset, bytes, len) =
        unsafe { ((*job).write, (*job).offset, (*job).bytes, (*job).len) };
    // SAFETY: the bytes are those that the waiting thread holds.
    let result = unsafe { core.call_store::<Lent>(write, offset, bytes, len) };
    let failed = result.err().map(|error| core.counters.remember(error));
    // SAFETY: as above, until `done` is set. Then the job may be gone: waking an address that is not in use any more
    // wakes nobody, or somebody who looks again.
    unsafe {
        (&raw mut (*job).failed).write(failed);
        let done = &raw const (*job).done;
        (*done).store(1, Ordering::Release);
        os::wake(done, 1);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn pages_come_in_the_order_of_their_wishes() {
        let jobs = Jobs::new(false);
        jobs.read_ahead(10..13);
        jobs.read_ahead(3..3);
        jobs.read_ahead(0..2);
        let taken = std::iter::from_fn(|| jobs.with(Queue::take_ahead));
        assert_eq!(taken.collect::<Vec<_>>(), [10, 11, 12, 0, 1]);
    }

    #[test]
    fn wishes_for_which_there_is_no_room_are_dropped() {
        let jobs = Jobs::new(false);
        for wish in 0..WINDOWS as Number + 9 {
            jobs.read_ahead(wish..wish + 1);
        }
        let taken = std::iter::from_fn(|| jobs.with(Queue::take_ahead));
        assert!(taken.eq(0..WINDOWS as Number));
        jobs.read_ahead(5..6);
        assert_eq!(jobs.with(Queue::take_ahead), Some(5));
    }

    /// However much the program asked for itself; but that comes, too.
    #[test]
    #[cfg(all(target_os = "linux", not(any(miri, pagewise_model))))]
    fn what_a_row_comes_to_soon_is_read_before_what_the_program_asked_for() {
        let path = std::env::temp_dir().join(format!("pagewise-order-{}", std::process::id()));
        let store = crate::FileStore::create(&path, 100 * os::page_size() as u64).unwrap();
        std::fs::remove_file(&path).unwrap();
        let builder = crate::PagedRegion::builder(store).page_bytes(os::page_size());
        let region = builder.limit(96 * os::page_size()).build().unwrap();
        region.core.jobs.read_ahead(50..60);
        let asked = region.core.with(|state| {
            (10..13).for_each(|page| _ = state.note_touch(page));
            state.ask_ahead(12, 4, 4, 100)
        });
        assert_eq!(asked, 4);
        let pages = std::iter::from_fn(|| match next_task(&region.core) {
            Task::ReadAhead(page, _) => Some(page),
            _ => None,
        });
        assert!(pages.eq([13, 14, 15, 50, 16].into_iter().chain(51..60)));
    }
}
