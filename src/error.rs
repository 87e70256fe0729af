//! The errors. Each has the numbers of what went wrong, and says what the user can do.
//!
//! - [`Refusal`]: why one page could not be committed. Made where a limit or the system says no, and
//!   carried to the user as it is.
//! - [`AccessError`]: a copy that a refusal ended, and how far it came.
//! - [`Error`]: why an explicit operation did not happen.

mod words;

use std::fmt;
use std::io;

use crate::os::OsError;
use words::{Bytes, More};

/// Why a reservation, a commit, or another operation did not happen.
///
/// Every variant carries the numbers that a person needs to act on it. Where the operating system
/// gave an error code, it is the [`source`](std::error::Error::source).
///
/// ```
/// use pagewise::{Error, Reservation};
///
/// let memory = Reservation::builder(1 << 30).limit(1 << 20).build()?;
/// match memory.commit(..2 << 20) {
///     Err(Error::LimitReached { requested, used, limit, .. }) => {
///         assert_eq!((requested, used, limit), (2 << 20, 0, 1 << 20));
///     }
///     other => other?,
/// }
/// # Ok::<(), pagewise::Error>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No free range of addresses is large enough, or `RLIMIT_AS` forbids it.
    #[error(
        "cannot reserve {} of address space: ask for less, or use `.at_least(min)` \
         (limits: `ulimit -v`, the machine's address bits)",
        Bytes(*.requested)
    )]
    AddressSpaceExhausted {
        /// Bytes that were asked for.
        requested: usize,
        /// The error that the system returned.
        source: io::Error,
    },

    /// The system refused the commit charge: its commit limit, `RLIMIT_DATA`, or a cgroup.
    #[error(
        "commit of {} at offset {offset:#x} refused by the system: free memory, or raise the \
         system's commit limit (Linux: `vm.overcommit_memory`, `ulimit -d`; Windows: page file)",
        Bytes(*.len)
    )]
    CommitRefused {
        /// Bytes from the start of the reservation.
        offset: usize,
        /// Bytes that were asked for.
        len: usize,
        /// The error that the system returned.
        source: io::Error,
    },

    /// The limit of the reservation (`.limit` of its builder, or its length) is used up.
    #[error(
        "commit of {} at offset {offset:#x} refused: limit of {} is used up ({} committed): \
         decommit something, or give a larger `.limit`",
        Bytes(*.requested), Bytes(*.limit), Bytes(*.used)
    )]
    LimitReached {
        /// Bytes from the start of the reservation.
        offset: usize,
        /// Bytes that were asked for.
        requested: usize,
        /// Bytes that the reservation has taken already.
        used: usize,
        /// Bytes that it may commit in all.
        limit: usize,
    },

    /// The [`Budget`](crate::Budget) that the reservation shares is used up, or one above it: the numbers are of the
    /// one that is.
    #[error(
        "commit of {} at offset {offset:#x} refused: budget of {} is used up ({} committed): \
         decommit something, or give a larger budget",
        Bytes(*.requested), Bytes(*.limit), Bytes(*.used)
    )]
    BudgetReached {
        /// Bytes from the start of the reservation.
        offset: usize,
        /// Bytes that were asked for.
        requested: usize,
        /// Bytes that all who share the budget have taken already.
        used: usize,
        /// Bytes that the budget has in all.
        limit: usize,
    },

    /// A [`Budget`](crate::Budget) has too little left for bytes that were to be taken from it
    /// ([`Budget::try_take`](crate::Budget::try_take)).
    #[error(
        "{} refused: budget of {} is used up ({} in use): give something back, or give a larger budget",
        Bytes(*.requested), Bytes(*.limit), Bytes(*.used)
    )]
    BudgetRefused {
        /// Bytes that were asked for.
        requested: usize,
        /// Bytes that all who share the budget have taken already.
        used: usize,
        /// Bytes that the budget has in all.
        limit: usize,
    },

    /// A limit was to be set below what is in use.
    #[error(
        "limit of {} refused: {} are in use: decommit something first, or set a limit that is not below it",
        Bytes(*.limit), Bytes(*.used)
    )]
    LimitBelowUse {
        /// The limit that was to be set, in bytes.
        limit: usize,
        /// Bytes that are taken already.
        used: usize,
    },

    /// The process has as many memory mappings as the system allows (Linux: `vm.max_map_count`).
    #[error(
        "{operation} refused: the process has {mappings} of at most {max} memory mappings: commit \
         larger neighbouring ranges, or raise `vm.max_map_count`"
    )]
    MappingsExhausted {
        /// The operation that failed.
        operation: &'static str,
        /// Mappings of the process now.
        mappings: usize,
        /// The system's limit.
        max: usize,
        /// The error that the system returned.
        source: io::Error,
    },

    /// Memory cannot be locked, or locked memory forbids the operation (`RLIMIT_MEMLOCK`).
    #[error(
        "{operation} of {} refused: locked memory is limited or in the way (`ulimit -l`, \
         `mlockall`)",
        Bytes(*.len)
    )]
    Locked {
        /// The operation that failed.
        operation: &'static str,
        /// Bytes that were asked for.
        len: usize,
        /// The error that the system returned.
        source: io::Error,
    },

    /// More elements than the container's stated maximum.
    #[error(
        "{} not fit: {len} of at most {max_len} are there: give a larger maximum length, or remove something",
        More(*.additional)
    )]
    Full {
        /// Elements that there are.
        len: usize,
        /// Elements that were to be added.
        additional: usize,
        /// Elements that there may be at most.
        max_len: usize,
    },

    /// An [`Arena`](crate::Arena) whose addresses are used up.
    #[error(
        "{} do not fit in the arena: {} of at most {} are used: give it a larger maximum, or reset it",
        Bytes(*.requested), Bytes(*.used), Bytes(*.max_bytes)
    )]
    ArenaFull {
        /// Bytes that were to be allocated, with the gap that their alignment needs.
        requested: usize,
        /// Bytes that are allocated, with the gaps that alignment leaves.
        used: usize,
        /// Bytes that the arena has in all.
        max_bytes: usize,
    },

    /// A range that reaches outside of the reservation.
    #[error("range {start:#x}..{end:#x} is out of bounds: the length is {len:#x} bytes")]
    OutOfBounds {
        /// First byte of the range.
        start: usize,
        /// One past the last byte.
        end: usize,
        /// Bytes that there are.
        len: usize,
    },

    /// A range whose start lies after its end.
    #[error("range {start:#x}..{end:#x} is reversed: its start lies after its end")]
    ReversedRange {
        /// First byte of the range.
        start: usize,
        /// One past the last byte.
        end: usize,
    },

    /// A page in the range is not committed, and the operation needs committed pages.
    #[error("{operation} at offset {offset:#x} needs a committed page: commit it first")]
    NotCommitted {
        /// The operation that failed.
        operation: &'static str,
        /// Bytes from the start of the reservation.
        offset: usize,
    },

    /// A length of zero bytes where something must be reserved.
    #[error("a length of zero bytes cannot be reserved")]
    ZeroLength,

    /// A length that overflows the address arithmetic (more than `isize::MAX` bytes).
    #[error("{requested:#x} bytes overflow the address arithmetic (at most isize::MAX)")]
    Overflow {
        /// Bytes that were asked for (saturated).
        requested: usize,
    },

    /// An alignment that is no power of two.
    #[error("alignment {align:#x} is not a power of two")]
    BadAlignment {
        /// The alignment that was asked for, in bytes.
        align: usize,
    },

    /// This platform, kernel or configuration cannot do what was asked.
    #[error("unsupported here: {what}")]
    Unsupported {
        /// What cannot be done, and what to do instead.
        what: &'static str,
    },

    /// A file cannot be opened, mapped or written.
    #[error("{operation} of {} failed: {source}", .path.display())]
    File {
        /// The operation that failed.
        operation: &'static str,
        /// The file.
        path: std::path::PathBuf,
        /// The error that the system returned.
        source: io::Error,
    },

    /// A file has less than was asked for.
    #[error(
        "the file has {len} bytes, and {needed} are needed: ask for less, or make it longer first"
    )]
    FileTooShort {
        /// Bytes from the start of the file that it must have.
        needed: u64,
        /// Bytes that it has.
        len: u64,
    },

    /// A [`PageStore`](crate::PageStore) could not read or write a page, or sync.
    #[error("the store failed to {operation} at offset {offset:#x}: {source}")]
    Store {
        /// The operation that failed.
        operation: &'static str,
        /// Bytes from the start of the store.
        offset: u64,
        /// The store's own error.
        source: io::Error,
    },

    /// A page has no room, since all pages that could give up theirs are pinned.
    #[error(
        "page at offset {offset:#x} refused: {} of at most {} are pinned: end a pin, or give a larger `.limit`",
        Bytes(*.pinned), Bytes(*.limit)
    )]
    AllPinned {
        /// Bytes from the start of the region.
        offset: usize,
        /// Bytes of the pages that are pinned.
        pinned: usize,
        /// Bytes of memory that the region may hold.
        limit: usize,
    },

    /// A page fault was refused.
    #[error(transparent)]
    Access(#[from] AccessError),

    /// Another error of the operating system.
    #[error("{operation} failed: {source}")]
    System {
        /// The operation that failed.
        operation: &'static str,
        /// The error that the system returned.
        source: io::Error,
    },
}

impl Error {
    /// The refusal of an explicit commit of `requested` bytes.
    pub(crate) fn of_commit(refusal: Refusal, requested: usize) -> Self {
        let offset = refusal.offset;
        match refusal.reason {
            RefusalReason::Limit { used, limit } => {
                Self::LimitReached { offset, requested, used, limit }
            }
            RefusalReason::Budget { used, limit } => {
                Self::BudgetReached { offset, requested, used, limit }
            }
            RefusalReason::Mappings { mappings, max, error } => {
                Self::MappingsExhausted { operation: "commit", mappings, max, source: error.into() }
            }
            RefusalReason::Locked(error) => {
                Self::Locked { operation: "commit", len: requested, source: error.into() }
            }
            RefusalReason::System(error) => {
                Self::CommitRefused { offset, len: requested, source: error.into() }
            }
            // No explicit commit asks a filter.
            RefusalReason::Filter => Self::Access(AccessError { copied: 0, refusal }),
            RefusalReason::NotReserved => {
                Self::OutOfBounds { start: offset, end: offset + requested, len: offset }
            }
            RefusalReason::FileTruncated { .. }
            | RefusalReason::FileUnreadable
            | RefusalReason::Pinned { .. }
            | RefusalReason::Store(_)
            | RefusalReason::Left
            | RefusalReason::ReadOnly => Self::Access(AccessError { copied: 0, refusal }),
        }
    }

    fn kind(&self) -> io::ErrorKind {
        match self {
            Self::AddressSpaceExhausted { .. }
            | Self::CommitRefused { .. }
            | Self::MappingsExhausted { .. }
            | Self::Locked { .. } => io::ErrorKind::OutOfMemory,
            Self::LimitReached { .. }
            | Self::BudgetReached { .. }
            | Self::BudgetRefused { .. }
            | Self::Full { .. }
            | Self::AllPinned { .. }
            | Self::ArenaFull { .. } => io::ErrorKind::QuotaExceeded,
            Self::LimitBelowUse { .. } => io::ErrorKind::ResourceBusy,
            Self::OutOfBounds { .. }
            | Self::ReversedRange { .. }
            | Self::NotCommitted { .. }
            | Self::ZeroLength
            | Self::Overflow { .. }
            | Self::BadAlignment { .. } => io::ErrorKind::InvalidInput,
            Self::Unsupported { .. } => io::ErrorKind::Unsupported,
            Self::Access(error) => error.kind(),
            Self::FileTooShort { .. } => io::ErrorKind::UnexpectedEof,
            Self::System { source, .. }
            | Self::File { source, .. }
            | Self::Store { source, .. } => source.kind(),
        }
    }
}

/// The kind says what was refused: `QuotaExceeded` for a limit of pagewise's, `OutOfMemory` for one of the
/// system's, `ResourceBusy` for a limit below what is in use, `InvalidInput` for a bad argument, and `Unsupported`. The
/// error itself is inside, and comes out again by [`Error::from`].
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::System { operation: INPUT_OR_OUTPUT, source } => source,
            other => Self::new(other.kind(), other),
        }
    }
}

/// An error of a reader or writer: [`System`](Error::System), unless an error of pagewise is inside, which then
/// comes out as it was.
impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        error
            .downcast()
            .or_else(|other| other.downcast().map(|error: AccessError| Self::Access(error)))
            .unwrap_or_else(|source| Self::System { operation: INPUT_OR_OUTPUT, source })
    }
}

const INPUT_OR_OUTPUT: &str = "input or output";

/// A [`read`](crate::DemandRegion::read), [`write`](crate::DemandRegion::write) or
/// [`fill`](crate::DemandRegion::fill) that ended early, because a page was refused.
///
/// ```
/// let mut region = pagewise::DemandRegion::builder(1 << 30).limit(1 << 20).build()?;
/// let stopped = region.fill(.., 7).unwrap_err();
/// assert_eq!(stopped.copied, 1 << 20);
/// assert_eq!(stopped.refusal.offset, 1 << 20); // the first byte that could not be written
/// # Ok::<(), pagewise::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("refused after {} bytes: {refusal}", .copied)]
#[non_exhaustive]
pub struct AccessError {
    /// Bytes that were copied or written before: exact. They are intact.
    pub copied: usize,
    /// Which page was refused, and why.
    #[source]
    pub refusal: Refusal,
}

impl AccessError {
    pub(crate) fn not_reserved(len: usize) -> Self {
        let refusal = Refusal { offset: len, region: 0, reason: RefusalReason::NotReserved };
        Self { copied: 0, refusal }
    }

    fn kind(&self) -> io::ErrorKind {
        self.refusal.reason.kind()
    }
}

impl From<AccessError> for io::Error {
    fn from(error: AccessError) -> Self {
        Self::new(error.kind(), error)
    }
}

/// A page that was not committed, and why.
///
/// ```
/// let mut region = pagewise::DemandRegion::builder(1 << 30).limit(0).build()?;
/// let refusal = region.write(5_000_000, &[1]).unwrap_err().refusal;
/// assert_eq!((refusal.offset, refusal.region), (5_000_000, region.as_ptr().addr()));
/// println!("{refusal}"); // says what is used up, and what to do
/// # Ok::<(), pagewise::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// The first byte that could not be accessed, in bytes from the start of the region that refused it. Where
    /// the buffer of a copy lies in a second region, that may be the second region.
    pub offset: usize,
    /// The address of that region's first byte; zero for a range outside of every region.
    pub region: usize,
    /// Why.
    pub reason: RefusalReason,
}

/// Why a page was not committed.
///
/// ```
/// use pagewise::{Budget, DemandRegion, RefusalReason};
///
/// let shared = Budget::new(0);
/// let mut region = DemandRegion::builder(1 << 30).budget(shared).build()?;
/// let reason = region.write(0, &[1]).unwrap_err().refusal.reason;
/// assert_eq!(reason, RefusalReason::Budget { used: 0, limit: 0 });
/// # Ok::<(), pagewise::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusalReason {
    /// The region's own limit is used up.
    Limit {
        /// Bytes that the region has taken already.
        used: usize,
        /// Bytes that it may commit in all.
        limit: usize,
    },
    /// The [`Budget`](crate::Budget) that the region shares is used up, or one above it: the numbers are of the one
    /// that is.
    Budget {
        /// Bytes that all who share the budget have taken already.
        used: usize,
        /// Bytes that the budget has in all.
        limit: usize,
    },
    /// The process has as many memory mappings as the system allows (Linux: `vm.max_map_count`).
    Mappings {
        /// Mappings of the process.
        mappings: usize,
        /// The system's limit.
        max: usize,
        /// The error that the system returned.
        error: OsError,
    },
    /// New memory would be locked (`mlockall`), and no more may be (`RLIMIT_MEMLOCK`).
    Locked(OsError),
    /// The system refused the commit charge or the memory.
    System(OsError),
    /// The region's [filter](crate::DemandRegionBuilder::filter) answered
    /// [`Refuse`](crate::FaultAnswer::Refuse).
    Filter,
    /// The range is not part of the region.
    NotReserved,
    /// The file that is mapped there ends before the page by now.
    FileTruncated {
        /// Bytes that the file has.
        len: u64,
    },
    /// The system could not read the page from its file, or not write it (an error of the device, or no space).
    FileUnreadable,
    /// The file is mapped for reading, or the region was built so.
    ReadOnly,
    /// All pages of a [`PagedRegion`](crate::PagedRegion) that could give up their room are pinned.
    Pinned {
        /// Bytes of the pages that are pinned.
        pinned: usize,
        /// Bytes of memory that the region may hold.
        limit: usize,
    },
    /// The [`PageStore`](crate::PageStore) could not read the page, or not write another one whose room it needs.
    /// ([`PagedRegion::take_error`](crate::PagedRegion::take_error) has the error, if a lent thread made the call.)
    Store(io::ErrorKind),
    /// This process is a child of the one that made the [`PagedRegion`](crate::PagedRegion).
    Left,
}

impl RefusalReason {
    fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Limit { .. } | Self::Budget { .. } => io::ErrorKind::QuotaExceeded,
            Self::Mappings { .. } | Self::Locked(_) | Self::System(_) => io::ErrorKind::OutOfMemory,
            Self::NotReserved => io::ErrorKind::InvalidInput,
            Self::FileTruncated { .. } => io::ErrorKind::UnexpectedEof,
            Self::FileUnreadable => io::ErrorKind::Other,
            Self::Filter | Self::ReadOnly | Self::Left => io::ErrorKind::PermissionDenied,
            Self::Pinned { .. } => io::ErrorKind::QuotaExceeded,
            Self::Store(kind) => *kind,
        }
    }
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.reason.kind(), refusal)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offset = self.offset;
        match self.reason {
            RefusalReason::NotReserved => {
                return write!(
                    f,
                    "the range reaches beyond the region, which ends at offset {offset:#x}"
                );
            }
            _ => write!(f, "page at offset {offset:#x} refused")?,
        }
        match self.reason {
            RefusalReason::Limit { used, limit } => write!(
                f,
                ": limit of {} is used up ({} committed): decommit something, or give a larger `.limit`",
                Bytes(limit),
                Bytes(used)
            ),
            RefusalReason::Budget { used, limit } => write!(
                f,
                ": budget of {} is used up ({} committed): decommit something, or give a larger budget",
                Bytes(limit),
                Bytes(used)
            ),
            RefusalReason::Mappings { mappings, max, .. } => write!(
                f,
                ": the process has {mappings} of at most {max} memory mappings: touch neighbouring \
                 pages, or raise `vm.max_map_count`"
            ),
            RefusalReason::Locked(error) => {
                write!(f, ": locked memory is limited (`ulimit -l`, `mlockall`): {error}")
            }
            RefusalReason::System(error) => write!(f, " by the system: {error}"),
            RefusalReason::Filter => write!(f, " by the region's filter"),
            RefusalReason::NotReserved => Ok(()),
            RefusalReason::FileTruncated { len } => {
                write!(f, ": the file has only {len} bytes now: keep others from truncating it")
            }
            RefusalReason::FileUnreadable => write!(
                f,
                ": the system could not read the page from its file, or not write it: look at its disk \
                 (an error of the device, or no space)"
            ),
            RefusalReason::ReadOnly => {
                write!(f, ": the file is mapped for reading: ask for `FileAccess::Write`")
            }
            RefusalReason::Pinned { pinned, limit } => write!(
                f,
                ": {} of at most {} are pinned: end a pin, or give a larger `.limit`",
                Bytes(pinned),
                Bytes(limit)
            ),
            RefusalReason::Store(kind) => {
                write!(f, ": the store failed ({kind}): see `take_error`, and look at the store")
            }
            RefusalReason::Left => {
                write!(f, ": the region belongs to the parent process: make a new one here")
            }
        }
    }
}

impl std::error::Error for Refusal {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.reason {
            RefusalReason::System(error)
            | RefusalReason::Locked(error)
            | RefusalReason::Mappings { error, .. } => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_numbers_and_the_way_out() {
        let (used, limit) = (323_584, 327_680);
        let said = |reason| {
            let refusal = Refusal { offset: 0x4f000, region: 0, reason };
            (Error::of_commit(refusal, 65536).to_string(), refusal.to_string())
        };
        let (commit, access) = said(RefusalReason::Budget { used, limit });
        assert_eq!(
            commit,
            "commit of 64 KiB at offset 0x4f000 refused: budget of 320 KiB is used up (316 KiB committed): \
             decommit something, or give a larger budget"
        );
        assert_eq!(
            access,
            "page at offset 0x4f000 refused: budget of 320 KiB is used up (316 KiB committed): \
             decommit something, or give a larger budget"
        );
        let (commit, access) = said(RefusalReason::Limit { used, limit });
        assert_eq!(
            commit,
            "commit of 64 KiB at offset 0x4f000 refused: limit of 320 KiB is used up (316 KiB committed): \
             decommit something, or give a larger `.limit`"
        );
        assert_eq!(
            access,
            "page at offset 0x4f000 refused: limit of 320 KiB is used up (316 KiB committed): \
             decommit something, or give a larger `.limit`"
        );
        let error = OsError(12);
        let (commit, access) =
            said(RefusalReason::Mappings { mappings: 65_529, max: 65_530, error });
        assert!(commit.contains("65529 of at most 65530 memory mappings"), "{commit}");
        assert!(access.contains("65529 of at most 65530 memory mappings"), "{access}");
    }

    #[test]
    fn one_element_is_one_element() {
        let full = |additional| Error::Full { len: 3, additional, max_len: 3 }.to_string();
        assert!(full(1).starts_with("1 more element does not fit: 3 of at most 3 are there: "));
        assert!(full(2).starts_with("2 more elements do not fit: "));
        assert!(full(0).starts_with("0 more elements do not fit: "));
    }

    #[test]
    fn errors_go_through_io_errors_and_come_back() {
        use io::ErrorKind::*;
        let source = || io::Error::from(NotFound);
        let refusal = |reason| Refusal { offset: 1, region: 2, reason };
        let access = |reason| Error::Access(AccessError { copied: 3, refusal: refusal(reason) });
        let error = OsError(12);
        let kinds = [
            (Error::AddressSpaceExhausted { requested: 1, source: source() }, OutOfMemory),
            (Error::CommitRefused { offset: 0, len: 1, source: source() }, OutOfMemory),
            (Error::LimitReached { offset: 0, requested: 1, used: 2, limit: 2 }, QuotaExceeded),
            (Error::BudgetReached { offset: 0, requested: 1, used: 2, limit: 2 }, QuotaExceeded),
            (Error::BudgetRefused { requested: 1, used: 2, limit: 2 }, QuotaExceeded),
            (Error::LimitBelowUse { limit: 1, used: 2 }, ResourceBusy),
            (Error::Full { len: 1, additional: 1, max_len: 1 }, QuotaExceeded),
            (Error::ArenaFull { requested: 1, used: 2, max_bytes: 2 }, QuotaExceeded),
            (Error::Locked { operation: "lock", len: 1, source: source() }, OutOfMemory),
            (Error::OutOfBounds { start: 1, end: 2, len: 1 }, InvalidInput),
            (Error::ReversedRange { start: 2, end: 1 }, InvalidInput),
            (Error::NotCommitted { operation: "lock", offset: 1 }, InvalidInput),
            (Error::ZeroLength, InvalidInput),
            (Error::Overflow { requested: 1 }, InvalidInput),
            (Error::BadAlignment { align: 3 }, InvalidInput),
            (Error::Unsupported { what: "this" }, Unsupported),
            (access(RefusalReason::Limit { used: 1, limit: 1 }), QuotaExceeded),
            (access(RefusalReason::Budget { used: 1, limit: 1 }), QuotaExceeded),
            (access(RefusalReason::Mappings { mappings: 1, max: 1, error }), OutOfMemory),
            (access(RefusalReason::Locked(error)), OutOfMemory),
            (access(RefusalReason::System(error)), OutOfMemory),
            (access(RefusalReason::NotReserved), InvalidInput),
            (Error::System { operation: "release", source: source() }, NotFound),
        ];
        for (error, kind) in kinds {
            let debug = format!("{error:?}");
            let through = io::Error::from(error);
            assert_eq!(through.kind(), kind, "{debug}");
            assert_eq!(format!("{:?}", Error::from(through)), debug);
        }
    }

    #[test]
    fn an_error_of_a_reader_stays_what_it_was() {
        let error = Error::from(io::Error::new(io::ErrorKind::NotFound, "gone"));
        assert_eq!(error.to_string(), "input or output failed: gone");
        let back = io::Error::from(error);
        assert_eq!((back.kind(), back.to_string()), (io::ErrorKind::NotFound, "gone".into()));
        // A copy's error says the same whether it came as itself or inside.
        let refusal = Refusal { offset: 1, region: 2, reason: RefusalReason::NotReserved };
        let access = AccessError { copied: 3, refusal };
        assert!(
            matches!(Error::from(io::Error::from(access)), Error::Access(same) if same == access)
        );
        assert_eq!(io::Error::from(refusal).kind(), io::ErrorKind::InvalidInput);
        assert_eq!(io::Error::from(refusal).downcast::<Refusal>().unwrap(), refusal);
    }
}
