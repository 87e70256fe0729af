//! What the file of a system has to offer: every function, with the transition that it makes. (The states are
//! those of a page: see [`Reservation`](crate::Reservation).)
//!
//! Nothing calls through this table. It is checked by the compiler: a function that a system's file lacks is an
//! error here that names it.
//!
//! For all functions with an address and a length: both are multiples of the page size, the length is not zero,
//! and the range lies inside one living reservation.

use std::ptr::NonNull;

use super::{Access, Attributes, Cause, OsError, Residency, system};

type UnsafeRange = unsafe fn(NonNull<u8>, usize) -> Result<(), OsError>;
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
    /// Committed → Resident, as far as the system does that without an access. *(signal)*
    prefault: unsafe fn(NonNull<u8>, usize),
    /// Whether the system has huge pages that need no pool, where [`prefer_huge_pages`](Self::prefer_huge_pages)
    /// asks for them.
    has_huge_pages: fn() -> bool,
    /// Has committed pages backed by huge ones, as far as the range covers whole ones, when they become resident.
    /// *(signal)*
    prefer_huge_pages: unsafe fn(NonNull<u8>, usize),
    /// Committed → Resident, and kept so.
    lock: UnsafeRange,
    /// Ends `lock`, for pages in either state. *(signal)*
    unlock: UnsafeRange,
    /// Tells of committed pages that are there: offset and length in bytes, and how. Parts that it does not
    /// tell of are not. *(signal)*
    residency: Residencies,

    /// Gives the processor to another thread. *(signal)*
    yield_now: fn(),
    /// Sleeps for some microseconds, so that threads of lower priority run, too. *(signal)*
    sleep_a_little: fn(),
    /// Writes to stderr what can be written there without waiting for long. *(signal)*
    write_stderr: fn(&[u8]),
    /// What an error of the functions above means to a person. *(signal)*
    diagnose: fn(OsError) -> Cause,
    /// How many forks lie between this process and the first one that had the library. *(signal)*
    forks: fn() -> usize,
    /// From its first call on, `forks` counts.
    watch_forks: fn() -> Result<(), OsError>,

    /// Whether the system refuses commits beyond the memory that it has.
    commits_strictly: fn() -> bool,
    /// Whether the process may make only so much memory accessible (`RLIMIT_DATA`). *(signal)*
    data_is_limited: fn() -> bool,
    /// Mappings of the process, and how many it may have; none where there is no such limit. *(signal)*
    mappings: fn() -> Option<(usize, usize)>,

    /// Whether guard markers work. Systems without them have stand-ins for these functions.
    guards_work: fn() -> bool,
    /// Makes accessible pages fault, whatever their access rights; what they hold is lost. Where it fails, a
    /// prefix may have been done. *(signal)*
    guard_install: UnsafeRange,
    /// Undoes that, where it was done: the pages read zero. Where it fails, a prefix may have been done.
    /// *(signal)*
    guard_remove: UnsafeRange,
    /// Whether pages can be read; changes nothing that they hold. *(signal)*
    populate_for_reading: UnsafeRange,
    /// Writes a zero to a page that is not accessible: see the guard engine. *(signal)*
    write_inaccessible_zero: unsafe fn(NonNull<u8>),
    /// Has missing pages of an accessible range raise a signal. Systems without `userfaultfd` refuse.
    userfault_register: UnsafeRange,
    /// Gives such a range pages of zeros. *(signal)*
    userfault_commit: UnsafeRange,
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
    has_huge_pages: system::has_huge_pages,
    prefer_huge_pages: system::prefer_huge_pages,
    lock: system::lock,
    unlock: system::unlock,
    residency: system::residency,
    yield_now: system::yield_now,
    sleep_a_little: system::sleep_a_little,
    write_stderr: system::write_stderr,
    diagnose: system::diagnose,
    forks: super::forks,
    watch_forks: super::watch_forks,
    commits_strictly: system::commits_strictly,
    data_is_limited: system::data_is_limited,
    mappings: system::mappings,
    guards_work: system::guards_work,
    guard_install: system::guard_install,
    guard_remove: system::guard_remove,
    populate_for_reading: system::populate_for_reading,
    write_inaccessible_zero: system::write_inaccessible_zero,
    userfault_register: system::userfault_register,
    userfault_commit: system::userfault_commit,
};
