//! What can go wrong.

use std::io;
use std::time::Duration;

/// What a store was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// Making a new store.
    Create,
    /// Opening one that is there.
    Open,
    /// Reading an extent.
    Read,
    /// Writing an extent.
    Write,
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Create => "creating the store",
            Self::Open => "opening the store",
            Self::Read => "reading",
            Self::Write => "writing",
        })
    }
}

/// What can go wrong in a store. The methods of [`PageStore`](pagewise::PageStore) return it inside an [`io::Error`], from
/// which [`downcast`](io::Error::downcast) and [`get_ref`](io::Error::get_ref) take it.
///
/// ```
/// use std::io;
/// use pagewise_stores::Error;
///
/// fn is_lost(error: &io::Error) -> bool {
///     let ours = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
///     matches!(ours, Some(Error::Damaged { .. }))
/// }
/// let damaged = Error::Damaged { extent: 7, what: "its checksum is another one" };
/// assert!(is_lost(&damaged.into()));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server gave no good answer in the time that the program allows.
    #[error("{operation} took longer than {deadline:?}{}", last(.source))]
    Deadline {
        /// What took so long.
        operation: Operation,
        /// The time that the program allows.
        deadline: Duration,
        /// Why the last attempt failed, where it did.
        source: Option<Box<Error>>,
    },

    /// What is stored is not what was written.
    #[error("extent {extent} is damaged: {what}")]
    Damaged {
        /// The number of the extent: its offset, divided by the bytes of an extent.
        extent: u64,
        /// What is wrong with it.
        what: &'static str,
    },

    /// The manifest is no manifest of a store that this version can use.
    #[error("the manifest is not usable: {what}")]
    Manifest {
        /// What is wrong with it.
        what: &'static str,
    },

    /// There is no store under this prefix.
    #[error("there is no store under this prefix: create it first")]
    NotFound,

    /// There is a store under this prefix already.
    #[error("there is a store under this prefix already: open it, or take another prefix")]
    AlreadyExists,

    /// Somebody else writes to this store. It has one writer at a time.
    #[error("another writer has written extent {extent} since: a store has one writer at a time")]
    OtherWriter {
        /// The number of the extent.
        extent: u64,
    },

    /// Too few replicas have a write.
    #[error("{got} replicas have the write, and {asked} are asked for")]
    TooFewReplicas {
        /// As many must have it.
        asked: usize,
        /// As many said in time that they have it.
        got: usize,
    },

    /// Bytes behind the end of the store.
    #[error("{len} bytes at {offset} of a store of {store} bytes")]
    OutOfBounds {
        /// Offset of the first byte that was asked for.
        offset: u64,
        /// How many bytes were asked for.
        len: usize,
        /// How many the store has.
        store: u64,
    },

    /// A setting that makes no store.
    #[error("{0}")]
    Setting(&'static str),

    /// The runtime on which the store's requests run has ended.
    #[error("the runtime of this store has ended")]
    RuntimeEnded,

    /// The system has no thread for the store.
    #[error("no thread for the store: {0}")]
    NoThread(#[source] io::Error),

    /// The client of the object store.
    #[error(transparent)]
    Object(#[from] object_store::Error),

    /// The client of the Redis Cluster.
    #[cfg(feature = "redis")]
    #[error("redis: {0}")]
    Redis(#[from] redis::RedisError),
}

/// The end of the message about a deadline.
fn last(source: &Option<Box<Error>>) -> String {
    source.as_ref().map_or(String::new(), |error| format!("; the last attempt: {error}"))
}

impl Error {
    fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Deadline { .. } => io::ErrorKind::TimedOut,
            Self::Damaged { .. } | Self::Manifest { .. } => io::ErrorKind::InvalidData,
            Self::NotFound | Self::Object(object_store::Error::NotFound { .. }) => {
                io::ErrorKind::NotFound
            }
            Self::AlreadyExists => io::ErrorKind::AlreadyExists,
            Self::OutOfBounds { .. } | Self::Setting(_) => io::ErrorKind::InvalidInput,
            Self::Object(
                object_store::Error::PermissionDenied { .. }
                | object_store::Error::Unauthenticated { .. },
            ) => io::ErrorKind::PermissionDenied,
            _ => io::ErrorKind::Other,
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        io::Error::new(error.kind(), error)
    }
}
