//! What can go wrong, with the numbers and the way out.

use std::fmt;
use std::io;

/// Why a reservation, a commit, or another operation did not happen.
///
/// Every variant carries the numbers that a person needs to act on it. Where the operating system
/// gave an error code, it is the [`source`](std::error::Error::source).
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
        /// The system's own word.
        source: io::Error,
    },

    /// The system has no memory to promise: its commit limit, `RLIMIT_DATA`, or a cgroup.
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
        /// The system's own word.
        source: io::Error,
    },

    /// The limit of the reservation, or of the [`Budget`](crate::Budget) that it shares, is used up.
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
        /// Bytes that the budget has taken already.
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
        /// What was tried.
        operation: &'static str,
        /// Mappings of the process now.
        mappings: usize,
        /// The system's limit.
        max: usize,
        /// The system's own word.
        source: io::Error,
    },

    /// Memory cannot be locked, or locked memory forbids the operation (`RLIMIT_MEMLOCK`).
    #[error(
        "{operation} of {} refused: locked memory is limited or in the way (`ulimit -l`, \
         `mlockall`)",
        Bytes(*.len)
    )]
    Locked {
        /// What was tried.
        operation: &'static str,
        /// Bytes that were asked for.
        len: usize,
        /// The system's own word.
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
        /// What was tried.
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

    /// Another error of the operating system.
    #[error("{operation} failed: {source}")]
    System {
        /// What was tried.
        operation: &'static str,
        /// The system's own word.
        source: io::Error,
    },
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
        let refused =
            Error::BudgetReached { offset: 0x4f000, requested: 65536, used: 327680, limit: 327680 };
        let text = refused.to_string();
        assert!(text.starts_with(
            "commit of 64 KiB at offset 0x4f000 refused: budget of 320 KiB is used up (320 KiB committed)"
        ));
        assert!(text.contains("larger budget"));
    }

    #[test]
    fn odd_byte_counts_stay_exact() {
        assert_eq!(Bytes(4097).to_string(), "4097 bytes");
        assert_eq!(Bytes(0).to_string(), "0 bytes");
        assert_eq!(Bytes(3 << 40).to_string(), "3 TiB");
    }
}
