//! Stores by their names on the command line.

use anyhow::{Result, bail};
use pagewise::{FileStore, PageStore};

/// What names a store has.
const KINDS: [(&str, &str); 3] = [
    ("folder:PATH", "extents as files in a folder"),
    (
        "s3://BUCKET/PREFIX",
        "extents as objects; credentials and region from the usual environment variables",
    ),
    ("redis://HOST:PORT,HOST:PORT/PREFIX", "extents as values of a Redis Cluster"),
];

/// The help for a store's name.
pub fn help() -> String {
    let kinds: Vec<_> = KINDS.iter().map(|(name, what)| format!("  {name}: {what}")).collect();
    format!(
        "Where to copy it: a file, which is replaced, or a store, which must not be there yet:\n{}\n\
         (Stores other than files need a build with the feature `stores`, s3 one with `s3`.)",
        kinds.join("\n")
    )
}

/// Opens a store for reading.
pub fn open(name: &str) -> Result<Box<dyn PageStore>> {
    match kind(name) {
        None => Ok(Box::new(FileStore::builder(name).read_only(true).open()?)),
        Some(kind) => other::open(kind, name),
    }
}

/// Makes a store of so many bytes.
pub fn create(name: &str, len: u64) -> Result<Box<dyn PageStore>> {
    match kind(name) {
        None => Ok(Box::new(FileStore::create(name, len)?)),
        Some(kind) => other::create(kind, name, len),
    }
}

/// What stands before the colon, where the name is no file's.
fn kind(name: &str) -> Option<&'static str> {
    ["folder", "s3", "redis"]
        .into_iter()
        .find(|kind| name.strip_prefix(kind).is_some_and(|rest| rest.starts_with(':')))
}

mod other {
    use super::{PageStore, Result, bail};

    pub fn open(kind: &str, _name: &str) -> Result<Box<dyn PageStore>> {
        bail!("this build has no stores of the kind `{kind}`: build it with the feature `stores`")
    }

    pub fn create(kind: &str, name: &str, _len: u64) -> Result<Box<dyn PageStore>> {
        open(kind, name)
    }
}
