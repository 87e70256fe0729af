//! The errors. Each has the numbers of what went wrong, and says what the user can do.
//!
//! - [`Refusal`]: why one page could not be committed. Made where a limit or the system says no, and
//!   carried to the user as it is.
//! - [`AccessError`]: a copy that a refusal ended, and how far it came.
//! - [`Error`]: why an explicit operation did not happen.

use std::fmt;
use std::io;

use crate::os::OsError;

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

    /// The [`Budget`](crate::Budget) that the reservation shares is used up.
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
        "{additional} more elements do not fit: {len} of at most {max_len} are there: give a larger \
         maximum length, or remove something"
    )]
    Full {
        /// Elements that there are.
        len: usize,
        /// Elements that were to be added.
        additional: usize,
        /// Elements that there may be at most.
        max_len: usize,
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
            RefusalReason::NotReserved => {
                Self::OutOfBounds { start: offset, end: offset + requested, len: offset }
            }
            RefusalReason::FileTruncated { .. }
            | RefusalReason::FileUnreadable
            | RefusalReason::ReadOnly => Self::Access(AccessError { copied: 0, refusal }),
        }
    }

    fn kind(&self) -> io::ErrorKind {
        match self {
            Self::AddressSpaceExhausted { .. }
            | Self::CommitRefused { .. }
            | Self::MappingsExhausted { .. }
            | Self::Locked { .. } => io::ErrorKind::OutOfMemory,
            Self::LimitReached { .. } | Self::BudgetReached { .. } | Self::Full { .. } => {
                io::ErrorKind::QuotaExceeded
            }
            Self::OutOfBounds { .. }
            | Self::ReversedRange { .. }
            | Self::NotCommitted { .. }
            | Self::ZeroLength
            | Self::Overflow { .. }
            | Self::BadAlignment { .. } => io::ErrorKind::InvalidInput,
            Self::Unsupported { .. } => io::ErrorKind::Unsupported,
            Self::Access(error) => error.kind(),
            Self::FileTooShort { .. } => io::ErrorKind::UnexpectedEof,
            Self::System { source, .. } | Self::File { source, .. } => source.kind(),
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error)
    }
}

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
        match self.refusal.reason {
            RefusalReason::Limit { .. } | RefusalReason::Budget { .. } => {
                io::ErrorKind::QuotaExceeded
            }
            RefusalReason::Mappings { .. }
            | RefusalReason::Locked(_)
            | RefusalReason::System(_) => io::ErrorKind::OutOfMemory,
            RefusalReason::NotReserved => io::ErrorKind::InvalidInput,
            RefusalReason::FileTruncated { .. } => io::ErrorKind::UnexpectedEof,
            RefusalReason::FileUnreadable => io::ErrorKind::Other,
            RefusalReason::ReadOnly => io::ErrorKind::PermissionDenied,
        }
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
    /// The [`Budget`](crate::Budget) that the region shares is used up.
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
    /// The range is not part of the region.
    NotReserved,
    /// The file that is mapped there ends before the page by now.
    FileTruncated {
        /// Bytes that the file has.
        len: u64,
    },
    /// The system could not read the page from its file, or not write it (an error of the device, or no space).
    FileUnreadable,
    /// The file is mapped for reading.
    ReadOnly,
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

/// Shows a number of bytes the way a person says it: `64 KiB`, `80 GiB`, `4097 bytes`.
pub(crate) struct Bytes(pub(crate) usize);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
        for (unit, shift) in UNITS {
            if self.0 >= 1 << shift && self.0.is_multiple_of(1 << shift) {
                return write!(f, "{} {unit}", self.0 >> shift);
            }
        }
        write!(f, "{} bytes", self.0)
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
    fn odd_byte_counts_stay_exact() {
        assert_eq!(Bytes(4097).to_string(), "4097 bytes");
        assert_eq!(Bytes(0).to_string(), "0 bytes");
        assert_eq!(Bytes(3 << 40).to_string(), "3 TiB");
    }
}
