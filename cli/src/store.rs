//! Stores by their names on the command line.

use anyhow::Result;
#[cfg(not(feature = "s3"))]
use anyhow::bail;
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

#[cfg(not(feature = "stores"))]
mod other {
    use super::{PageStore, Result, bail};

    pub fn open(kind: &str, _name: &str) -> Result<Box<dyn PageStore>> {
        bail!("this build has no stores of the kind `{kind}`: build it with the feature `stores`")
    }

    pub fn create(kind: &str, name: &str, _len: u64) -> Result<Box<dyn PageStore>> {
        open(kind, name)
    }
}

#[cfg(feature = "stores")]
mod other {
    use std::sync::Arc;

    use anyhow::Context;
    use pagewise_stores::object_store::local::LocalFileSystem;
    use pagewise_stores::redis::cluster::ClusterClient;
    use pagewise_stores::{ObjectStore, ObjectStoreBuilder, RedisStore, RedisStoreBuilder};

    #[cfg(not(feature = "s3"))]
    use super::bail;
    use super::{PageStore, Result};

    /// Requests run on threads of the store's own.
    const THREADS: usize = 2;

    enum Store {
        Objects(ObjectStoreBuilder),
        Redis(Box<RedisStoreBuilder>),
    }

    pub fn open(kind: &str, name: &str) -> Result<Box<dyn PageStore>> {
        Ok(match named(kind, name)? {
            Store::Objects(builder) => Box::new(builder.open().context(name.to_owned())?),
            Store::Redis(builder) => Box::new(builder.open().context(name.to_owned())?),
        })
    }

    pub fn create(kind: &str, name: &str, len: u64) -> Result<Box<dyn PageStore>> {
        Ok(match named(kind, name)? {
            Store::Objects(builder) => Box::new(builder.create(len).context(name.to_owned())?),
            Store::Redis(builder) => Box::new(builder.create(len).context(name.to_owned())?),
        })
    }

    fn named(kind: &str, name: &str) -> Result<Store> {
        let rest = &name[kind.len() + 1..];
        let in_parts = || {
            let parts = rest.strip_prefix("//").and_then(|rest| rest.split_once('/'));
            parts.filter(|(place, prefix)| !place.is_empty() && !prefix.is_empty()).with_context(
                || {
                    format!(
                        "`{name}` is no store: write {kind}://, where it is, a slash, and a prefix"
                    )
                },
            )
        };
        match kind {
            "folder" => {
                std::fs::create_dir_all(rest).with_context(|| rest.to_owned())?;
                let folder = Arc::new(LocalFileSystem::new_with_prefix(rest)?);
                Ok(Store::Objects(ObjectStore::builder(folder, "pagewise").threads(THREADS)))
            }
            "redis" => {
                let (places, prefix) = in_parts()?;
                let nodes: Vec<_> =
                    places.split(',').map(|node| format!("redis://{node}")).collect();
                let cluster = ClusterClient::builder(nodes);
                let builder = RedisStore::builder(cluster, prefix).threads(THREADS);
                Ok(Store::Redis(Box::new(builder)))
            }
            _ => s3(in_parts()?),
        }
    }

    #[cfg(feature = "s3")]
    fn s3((bucket, prefix): (&str, &str)) -> Result<Store> {
        use pagewise_stores::object_store::aws::AmazonS3Builder;

        let client = Arc::new(AmazonS3Builder::from_env().with_bucket_name(bucket).build()?);
        Ok(Store::Objects(ObjectStore::builder(client, prefix).threads(THREADS)))
    }

    #[cfg(not(feature = "s3"))]
    fn s3(_: (&str, &str)) -> Result<Store> {
        bail!("this build has no S3: build it with the feature `s3`")
    }
}
