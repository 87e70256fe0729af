//! What the file of a system has to offer: every function, with the transition that it makes. (The states are
//! those of a page: see [`Reservation`](crate::Reservation).)
//!
//! Nothing calls through this table. It is checked by the compiler: a function that a system's file lacks is an
//! error here that names it. `unix.rs` has most of the functions for all Unix systems, and `bsd.rs` some for all but
//! Linux; a system's file passes them on by `pub(crate) use`, and adds those under "Unix" below. `super::not_linux`
//! has stand-ins for those that only Linux has.
//!
//! For all functions with an address and a length: both are multiples of the page size, the length is not zero,
//! and the range lies inside one living reservation.

use std::ptr::NonNull;

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::atomic::AtomicU32;

use super::{Access, Attributes, Cause, Expected, FileAccess, OsError, Residency, Span, system};

type CopyPages = unsafe fn(NonNull<u8>, NonNull<u8>, usize, bool) -> Result<(), OsError>;
type MapShared =
    unsafe fn(&File, u64, usize, Option<NonNull<u8>>, Access) -> Result<NonNull<u8>, OsError>;
type UnsafeRange = unsafe fn(NonNull<u8>, usize) -> Result<(), OsError>;
type MapFile = fn(&File, u64, usize, FileAccess) -> Result<NonNull<u8>, OsError>;
type Residencies =
    fn(NonNull<u8>, usize, &mut dyn FnMut(usize, usize, Residency)) -> Result<(), OsError>;

/// Functions marked *(signal)* are async-signal-safe: the fault handler calls them.
#[allow(dead_code)] // see above
struct System {
    /// Bytes of a page. *(signal)*
    page_size: fn() -> usize,
    /// Bytes to which [`reserve`](Self::reserve) aligns at least: a power of two.
    reserve_granularity: fn() -> usize,
    /// Bytes of a page of the explicit pool of huge pages, where there is one.
    explicit_huge_page_size: fn() -> Option<usize>,

    /// None → Reserved. The length is a multiple of the page size; the alignment is a power of two, and at least
    /// the granularity. *(signal, with [`Attributes::PLAIN`])*
    reserve: fn(usize, usize, &Attributes) -> Result<NonNull<u8>, OsError>,
    /// Reserved → Committed: readable and writable; what was inaccessible reads zero. Where it fails, it may
    /// have done so to a prefix of the range, never to anything behind it. So it may meet pages that are
    /// accessible already: those of a prefix, and those that another thread commits at the same time (in a
    /// table of page states). These keep what they hold. It is never called for pages whose access `protect`
    /// has changed. *(signal)*
    commit: UnsafeRange,
    /// Committed or Reserved → Reserved: inaccessible; memory and charge go back to the system. Where it
    /// fails, everything is as it was.
    decommit: unsafe fn(NonNull<u8>, usize, &Attributes) -> Result<(), OsError>,
    /// Any → None, for the whole of what `reserve` returned. *(signal)*
    release: UnsafeRange,
    /// As much of `release` as the system allows after it refused that: the memory goes back, the addresses
    /// stay taken.
    empty: unsafe fn(NonNull<u8>, usize),

    /// Committed pages read zero, and stay committed. Where it fails, a prefix may have been done.
    zero: UnsafeRange,
    /// Committed pages hold anything, and stay committed.
    discard: UnsafeRange,
    /// Other access rights for committed pages.
    protect: unsafe fn(NonNull<u8>, usize, Access) -> Result<(), OsError>,
    /// Committed → Resident; best effort. *(signal)*
    prefault: unsafe fn(NonNull<u8>, usize),
    /// Whether prefaulting so many bytes is worth it where they are about to be written. *(signal)*
    prefaulting_pays: fn(usize) -> bool,
    /// Whether the system has huge pages that need no pool, where [`prefer_huge_pages`](Self::prefer_huge_pages)
    /// asks for them.
    has_huge_pages: fn() -> bool,
    /// Has committed pages backed by huge ones, as far as the range covers whole ones, when they become resident.
    /// *(signal)*
    prefer_huge_pages: unsafe fn(NonNull<u8>, usize),
    /// Whether `prefault` accesses the pages, so that their access rights must allow it.
    prefault_touches: bool,
    /// Committed → Resident, and kept so.
    lock: UnsafeRange,
    /// Ends `lock`, for pages in either state. *(signal)*
    unlock: UnsafeRange,
    /// Calls the function with offset and length, in bytes, of each part of a committed range that is resident
    /// or swapped. Pages in no such part are neither. *(signal)*
    residency: Residencies,

    /// Maps a part of a file: the offset is a multiple of the granularity, and the length is not zero.
    map_file: MapFile,
    /// Unmaps all that `map_file` returned.
    unmap_file: UnsafeRange,
    /// Returns when the file's device has what was written to the range.
    flush_file: unsafe fn(NonNull<u8>, usize, &File) -> Result<(), OsError>,
    /// How the range is going to be accessed.
    expect_file_access: unsafe fn(NonNull<u8>, usize, Expected),
    /// Bytes of an open file. *(signal)*
    file_len: fn(&File) -> Result<u64, OsError>,
    /// Fills a buffer from an offset of a file on, or a part of it; where the file ends, none of it. *(signal, where
    /// [`file_calls_are_signal_safe`](Self::file_calls_are_signal_safe))*
    read_at: fn(&File, u64, &mut [u8]) -> Result<usize, OsError>,
    /// Writes bytes, or a part of them, from an offset of a file on. *(signal, as `read_at`)*
    write_at: fn(&File, u64, &[u8]) -> Result<usize, OsError>,
    /// Whether `read_at` and `write_at` may be called in the fault handler.
    file_calls_are_signal_safe: bool,
    /// Lets the holes of a file take no space, where the file system can do that.
    make_sparse: fn(&File),
    /// Opens a file whose reads and writes go past the system's cache: buffers, offsets and lengths are then multiples
    /// of what the device asks for. `None` where the file system has no such thing.
    open_direct: fn(&mut OpenOptions, &Path) -> io::Result<Option<File>>,

    /// Gives the processor to another thread. *(signal)*
    yield_now: fn(),
    /// Sleeps for some microseconds, so that threads of lower priority run, too. *(signal)*
    sleep_a_little: fn(),
    /// Writes a line to stderr. Drops it where that would wait for long. *(signal)*
    write_stderr: fn(&[u8]),
    /// The cause of an error that a function above returned. *(signal)*
    diagnose: fn(OsError) -> Cause,
    /// Runs a function, and restores errno (Windows: the last error) afterwards. *(signal)*
    preserving_error_code: fn(fn()),
    /// A number that differs from those of this process's ancestors in which `watch_forks` was called. *(signal)*
    forks: fn() -> usize,
    /// From its first call on, `forks` tells children from their parents.
    watch_forks: fn() -> Result<(), OsError>,
    /// Does what `call_in_children` would have done, once, in a child whose fork called nothing. *(signal)*
    call_missed_handlers: fn(),
    /// Whether that was so in this process. *(signal)*
    was_told_late: fn() -> bool,
    /// Calls a function in each child of a fork, before code of the program runs there. Needs `watch_forks`.
    #[cfg(unix)]
    call_in_children: fn(fn()),

    /// Whether the system refuses commits beyond the memory that it has.
    commits_strictly: fn() -> bool,
    /// Whether the process may make only so much memory accessible (`RLIMIT_DATA`). *(signal)*
    data_is_limited: fn() -> bool,
    /// Mappings of the process, and how many it may have; `None` where there is no such limit, or the system
    /// does not tell. *(signal)*
    mappings: fn() -> Option<(usize, usize)>,
    /// How many mappings a process may have, where `mappings` is `None`.
    usual_mappings: usize,

    /// Whether guard markers work.
    guards_work: fn() -> bool,
    /// Installs guard markers: every access to the pages faults, whatever their access rights; what they hold is
    /// lost. Where it fails, a prefix may have been done. *(signal)*
    guard_install: UnsafeRange,
    /// Removes guard markers. Pages that had one read zero; the others keep what they hold. Where it fails, a prefix
    /// may have been done. *(signal)*
    guard_remove: UnsafeRange,
    /// An error where reading one of the pages would fault. Changes nothing that they hold. *(signal)*
    populate_for_reading: UnsafeRange,
    /// Writes a zero to a page that is not accessible: see the guard engine. *(signal)*
    write_inaccessible_zero: unsafe fn(NonNull<u8>),
    /// Reserved → accessible, but each access to a page without memory raises a signal.
    userfault_register: UnsafeRange,
    /// Gives pages of zeros to those pages of such a range that have no memory. *(signal)*
    userfault_commit: UnsafeRange,

    /// Whether pages can be moved between addresses, and first writes be noticed: for the next seven.
    pages_move: fn() -> bool,
    /// Makes accesses to pages without memory raise a signal, and writes to protected ones. *(signal)*
    userfault_pages: unsafe fn(NonNull<u8>, usize, bool) -> Result<(), OsError>,
    /// Ends that. *(signal)*
    userfault_forget: UnsafeRange,
    /// Copies bytes to pages without memory, each of which appears whole; writable, or protected. *(signal)*
    copy_pages: CopyPages,
    /// Moves pages (target, source, length) to where there is no memory yet; each appears whole. Where one cannot be moved,
    /// it is copied, after the source was protected, if that is asked for. Where it
    /// fails, a prefix may have been moved. *(signal)*
    move_pages: CopyPages,
    /// Protects pages: the next write to each raises a signal. *(signal)*
    forbid_writing: UnsafeRange,
    /// Ends that. *(signal)*
    allow_writing: UnsafeRange,
    /// Forked children do not have the range at all.
    keep_from_children: UnsafeRange,
    /// Maps inaccessible memory where nothing is mapped. *(signal)*
    occupy: fn(NonNull<u8>, usize) -> Result<(), OsError>,
    /// Any → Reserved, whatever was mapped there. *(signal)*
    map_nothing: UnsafeRange,
    /// Memory without an address.
    shared_memory: fn(usize) -> Result<File, OsError>,
    /// Maps a part of it: over a range, or where the system chooses. *(signal)*
    map_shared: MapShared,
    /// Gives a part of it back. *(signal)*
    empty_shared: fn(&File, u64, u64) -> Result<(), OsError>,
    /// Waits while a word has a value, until `wake`. May return early. *(signal)*
    wait_while: fn(&AtomicU32, u32),
    /// Wakes so many threads at most that wait for a word. *(signal)*
    wake: fn(*const AtomicU32, u32),
    /// Whether the descriptor that `userfault_pages` uses is still there. *(signal)*
    userfault_is_open: fn() -> bool,
    /// A number that this process has after `mark_process`, and no child of it. *(signal)*
    process_mark: fn() -> u64,
    /// Gives the process its number.
    mark_process: fn() -> Result<(), OsError>,
    /// Committed → Resident, or an error. *(signal)*
    populate_for_writing: UnsafeRange,
    /// `zero` for several ranges. *(signal)*
    zero_each: unsafe fn(&[Span]) -> Result<(), OsError>,
    /// Gives shared memory its memory now, or refuses. *(signal)*
    fill_shared: fn(&File, u64, u64) -> Result<(), OsError>,
    /// Keeps pages small, and from being merged with equal ones.
    keep_pages_small_and_own: unsafe fn(NonNull<u8>, usize),
    /// Whether `zero_each` is one system call. *(signal)*
    zeroes_at_once: fn() -> bool,
    /// The number of the processor that runs the thread. *(signal)*
    processor: fn() -> u32,
    /// Nanoseconds since some moment in the past. *(signal)*
    now_ns: fn() -> u64,

    /// Unix: what `unix.rs` needs of a system's file. The address of this thread's errno. *(signal)*
    #[cfg(all(unix, not(any(miri, pagewise_model))))]
    errno: fn() -> *mut i32,
    /// Unix: memory that each child of a fork finds full of zeros, where its handlers may be passed over.
    #[cfg(all(unix, not(any(miri, pagewise_model))))]
    wiped_in_children: fn() -> Option<&'static super::Wiped>,
    /// Unix: drops state that belongs to the parent process. Called in the child of a fork. *(signal)*
    #[cfg(all(unix, not(any(miri, pagewise_model))))]
    forget_parent: fn(),
    /// Unix: `nanosleep`, and the next two, if possible as no cancellation points
    /// ([`pthreads(7)`](https://man7.org/linux/man-pages/man7/pthreads.7.html)). *(signal)*
    #[cfg(all(unix, not(any(miri, pagewise_model))))]
    sleep: fn(&libc::timespec),
    /// Unix: `poll` for one descriptor, with a time limit in milliseconds. *(signal)*
    #[cfg(all(unix, not(any(miri, pagewise_model))))]
    poll: fn(&mut libc::pollfd, i32) -> i32,
    /// Unix: `write`, once. *(signal)*
    #[cfg(all(unix, not(any(miri, pagewise_model))))]
    write: fn(i32, &[u8]),
}

#[allow(dead_code)]
const COMPLETE: System = System {
    page_size: system::page_size,
    reserve_granularity: system::reserve_granularity,
    explicit_huge_page_size: system::explicit_huge_page_size,
    reserve: system::reserve,
    commit: system::commit,
    decommit: system::decommit,
    release: system::release,
    empty: system::empty,
    zero: system::zero,
    discard: system::discard,
    protect: system::protect,
    prefault: system::prefault,
    prefaulting_pays: system::prefaulting_pays,
    has_huge_pages: system::has_huge_pages,
    prefer_huge_pages: system::prefer_huge_pages,
    prefault_touches: system::PREFAULT_TOUCHES,
    lock: system::lock,
    unlock: system::unlock,
    residency: system::residency,
    map_file: system::map_file,
    unmap_file: system::unmap_file,
    flush_file: system::flush_file,
    expect_file_access: system::expect_file_access,
    file_len: system::file_len,
    read_at: system::read_at,
    write_at: system::write_at,
    file_calls_are_signal_safe: system::FILE_CALLS_ARE_SIGNAL_SAFE,
    make_sparse: system::make_sparse,
    open_direct: system::open_direct,
    yield_now: system::yield_now,
    sleep_a_little: system::sleep_a_little,
    write_stderr: system::write_stderr,
    diagnose: system::diagnose,
    preserving_error_code: |work| system::preserving_error_code(work),
    forks: super::forks,
    watch_forks: super::watch_forks,
    call_missed_handlers: super::call_missed_handlers,
    was_told_late: super::was_told_late,
    #[cfg(unix)]
    call_in_children: super::call_in_children,
    commits_strictly: system::commits_strictly,
    data_is_limited: system::data_is_limited,
    mappings: system::mappings,
    usual_mappings: system::USUAL_MAPPINGS,
    guards_work: system::guards_work,
    guard_install: system::guard_install,
    guard_remove: system::guard_remove,
    populate_for_reading: system::populate_for_reading,
    write_inaccessible_zero: system::write_inaccessible_zero,
    userfault_register: system::userfault_register,
    userfault_commit: system::userfault_commit,
    pages_move: system::pages_move,
    userfault_pages: system::userfault_pages,
    userfault_forget: system::userfault_forget,
    copy_pages: system::copy_pages,
    move_pages: system::move_pages,
    forbid_writing: system::forbid_writing,
    allow_writing: system::allow_writing,
    keep_from_children: system::keep_from_children,
    occupy: system::occupy,
    map_nothing: system::map_nothing,
    shared_memory: system::shared_memory,
    map_shared: system::map_shared,
    empty_shared: system::empty_shared,
    wait_while: system::wait_while,
    wake: system::wake,
    userfault_is_open: system::userfault_is_open,
    process_mark: system::process_mark,
    mark_process: system::mark_process,
    populate_for_writing: system::populate_for_writing,
    zero_each: system::zero_each,
    fill_shared: system::fill_shared,
    keep_pages_small_and_own: system::keep_pages_small_and_own,
    zeroes_at_once: system::zeroes_at_once,
    processor: system::processor,
    now_ns: system::now_ns,
    #[cfg(all(unix, not(any(miri, pagewise_model))))]
    errno: system::errno,
    #[cfg(all(unix, not(any(miri, pagewise_model))))]
    forget_parent: system::forget_parent,
    #[cfg(all(unix, not(any(miri, pagewise_model))))]
    wiped_in_children: system::wiped_in_children,
    #[cfg(all(unix, not(any(miri, pagewise_model))))]
    sleep: system::sleep,
    #[cfg(all(unix, not(any(miri, pagewise_model))))]
    poll: system::poll,
    #[cfg(all(unix, not(any(miri, pagewise_model))))]
    write: system::write,
};
