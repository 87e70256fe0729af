//! Extents as objects.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode, PutOptions, UpdateVersion};
use pagewise::PageStore;

use crate::calls::{Calls, Failure, Patience, RunsOn, settings};
use crate::error::{Error, Operation};
use crate::extents::{Extents, Values};
use crate::layout::{self, Layout, Version};

/// Bytes of an extent, unless told otherwise: requests to object stores cost as much as hundreds of kilobytes.
const EXTENT: usize = 1 << 20;

/// A [`PageStore`] of objects: S3 and what speaks its protocol, Google Cloud Storage, Azure, a folder, or memory; whatever
/// `object_store` has a client for. The program makes the client, with its credentials.
///
/// - Each extent is an object with a checksum: a damaged one is an error, and never data. An extent that nobody wrote
///   is no object, and reads zero.
/// - A write has returned when the service has the object, so that [`sync`](PageStore::sync) has nothing to do. It
///   promises what the service promises of an object that it has. (The client for folders does not sync them: there,
///   objects survive a crash of the process, not of the machine.)
/// - One writer at a time, any number of readers, who may see each extent as it was or as it is. Nothing but
///   [`if_match`](ObjectStoreBuilder::if_match) prevents a second writer.
/// - Retries are the store's. Tell the client to make none (`RetryConfig { max_retries: 0, .. }`), and to give up no
///   later than [`attempt`](ObjectStoreBuilder::attempt).
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use pagewise::PageStore;
/// use pagewise_stores::{ObjectStore, object_store::memory::InMemory};
///
/// let server = Arc::new(InMemory::new());
/// let store = ObjectStore::builder(server.clone(), "datasets/7")
///     .threads(1)
///     .deadline(Duration::from_secs(5))
///     .create(1 << 40)?;
/// store.write(123_456_789, b"some bytes")?;
/// drop(store);
///
/// let mut bytes = [1; 12];
/// let store = ObjectStore::builder(server, "datasets/7").threads(1).open()?;
/// store.read(123_456_788, &mut bytes)?;
/// assert_eq!(&bytes, b"\0some bytes\0");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ObjectStore {
    extents: Extents<Objects>,
}

impl ObjectStore {
    /// Begins to create or to open the store whose objects' names begin with `prefix` and a slash.
    pub fn builder(
        client: Arc<dyn object_store::ObjectStore>,
        prefix: impl AsRef<str>,
    ) -> ObjectStoreBuilder {
        ObjectStoreBuilder {
            client,
            prefix: Path::from(prefix.as_ref()),
            runs_on: RunsOn::default(),
            patience: Patience::default(),
            extent: EXTENT,
            if_match: false,
        }
    }
}

impl PageStore for ObjectStore {
    fn len(&self) -> u64 {
        self.extents.layout().len
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        Ok(self.extents.read(offset, buffer)?)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        Ok(self.extents.write(offset, bytes)?)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn preferred_bytes(&self) -> Option<usize> {
        Some(self.extents.layout().extent)
    }
}

/// Options for an [`ObjectStore`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `create` or `open`"]
pub struct ObjectStoreBuilder {
    client: Arc<dyn object_store::ObjectStore>,
    prefix: Path,
    runs_on: RunsOn,
    patience: Patience,
    extent: usize,
    if_match: bool,
}

settings!(ObjectStoreBuilder);

impl ObjectStoreBuilder {
    /// Replaces an object only where it is the one that this store wrote or saw last, by the condition `If-Match`. Then a
    /// second writer is an error ([`OtherWriter`](Error::OtherWriter)), and a write that was given up and reaches the
    /// server late replaces no newer one. Costs one more request for the first write of each extent; some services, and
    /// folders, have no such condition.
    pub fn if_match(mut self, if_match: bool) -> Self {
        self.if_match = if_match;
        self
    }

    /// Creates a store of `len` bytes, all of them zeros that take no space.
    ///
    /// # Errors
    /// [`AlreadyExists`](Error::AlreadyExists) where there is one under this prefix; [`Setting`](Error::Setting),
    /// [`NoThread`](Error::NoThread), [`Deadline`](Error::Deadline) or [`Object`](Error::Object).
    pub fn create(self, len: u64) -> Result<ObjectStore, Error> {
        let layout = Layout::new(len, self.extent)?;
        let (calls, objects) = self.prepared()?;
        let made = objects.clone();
        calls.run(Operation::Create, |attempts| async move {
            attempts.of(|| made.create(layout)).await
        })?;
        Ok(ObjectStore { extents: Extents::new(calls, layout, objects) })
    }

    /// Opens a store that is there.
    ///
    /// # Errors
    /// [`NotFound`](Error::NotFound) where there is none under this prefix; [`Manifest`](Error::Manifest) where it is
    /// damaged or of another version; [`Setting`](Error::Setting), [`NoThread`](Error::NoThread),
    /// [`Deadline`](Error::Deadline) or [`Object`](Error::Object).
    pub fn open(self) -> Result<ObjectStore, Error> {
        let (calls, objects) = self.prepared()?;
        let read = objects.clone();
        let manifest = calls.run(Operation::Open, |attempts| async move {
            attempts.of(|| read.bytes(&read.manifest)).await
        })?;
        let layout = Layout::from_manifest(&manifest.ok_or(Error::NotFound)?.0)?;
        Ok(ObjectStore { extents: Extents::new(calls, layout, objects) })
    }

    fn prepared(self) -> Result<(Calls, Objects), Error> {
        let calls = Calls::new(self.runs_on, self.patience)?;
        let objects = Objects {
            client: self.client,
            manifest: self.prefix.clone().join("manifest"),
            folder: self.prefix.join("extents"),
            writer: layout::random(),
            tags: self.if_match.then(Arc::default),
        };
        Ok((calls, objects))
    }
}

/// The objects of a store.
#[derive(Clone, Debug)]
struct Objects {
    client: Arc<dyn object_store::ObjectStore>,
    manifest: Path,
    folder: Path,
    writer: u64,
    /// Which object of an extent was seen last, where objects are replaced on a condition. `None` in it: there was none.
    tags: Option<Arc<Mutex<Tags>>>,
}

type Tags = HashMap<u64, Option<UpdateVersion>>;

/// What the client says of a failed request.
fn failure(error: object_store::Error) -> Failure {
    use object_store::Error::*;
    match error {
        Generic { .. } | JoinError { .. } => Failure::Again(error.into()),
        _ => Failure::Final(error.into()),
    }
}

impl Objects {
    fn path(&self, number: u64) -> Path {
        self.folder.clone().join(format!("{number:016x}"))
    }

    /// The bytes of an object, and which one it is. `None` where there is none.
    async fn bytes(&self, path: &Path) -> Result<Option<(Bytes, UpdateVersion)>, Failure> {
        match self.client.get(path).await {
            Ok(found) => {
                let (e_tag, version) = (found.meta.e_tag.clone(), found.meta.version.clone());
                let bytes = found.bytes().await.map_err(failure)?;
                Ok(Some((bytes, UpdateVersion { e_tag, version })))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failure(error)),
        }
    }

    /// Writes the manifest where there is none.
    async fn create(&self, layout: Layout) -> Result<(), Failure> {
        let text = layout.manifest();
        let options = PutOptions::from(PutMode::Create);
        match self.client.put_opts(&self.manifest, text.clone().into(), options).await {
            Ok(_) => Ok(()),
            Err(object_store::Error::AlreadyExists { .. }) => {
                // Perhaps an earlier attempt of ours, which seemed to fail.
                let found = self.bytes(&self.manifest).await?;
                match found.is_some_and(|(bytes, _)| bytes == text) {
                    true => Ok(()),
                    false => Err(Failure::Final(Error::AlreadyExists)),
                }
            }
            Err(error) => Err(failure(error)),
        }
    }

    fn tags(&self) -> Option<MutexGuard<'_, Tags>> {
        let tags = self.tags.as_ref()?;
        Some(tags.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// On which condition the object of an extent may be replaced.
    async fn mode(&self, number: u64) -> Result<PutMode, Failure> {
        let Some(known) = self.tags().map(|tags| tags.get(&number).cloned()) else {
            return Ok(PutMode::Overwrite);
        };
        let seen = match known {
            Some(seen) => seen,
            None => match self.client.head(&self.path(number)).await {
                Ok(meta) => Some(UpdateVersion { e_tag: meta.e_tag, version: meta.version }),
                Err(object_store::Error::NotFound { .. }) => None,
                Err(error) => return Err(failure(error)),
            },
        };
        Ok(seen.map_or(PutMode::Create, PutMode::Update))
    }

    fn seen(&self, number: u64, tag: Option<UpdateVersion>) {
        if let Some(mut tags) = self.tags() {
            tags.insert(number, tag);
        }
    }

    /// The object is not the one that was seen last. Where it is our own, an attempt that was given up has succeeded.
    async fn look_again(&self, number: u64, version: Version) -> Result<(), Failure> {
        let other = Failure::Final(Error::OtherWriter { extent: number });
        let Some((bytes, tag)) = self.bytes(&self.path(number)).await? else { return Err(other) };
        let found = |part: std::ops::Range<usize>| {
            let bytes = bytes.get(part)?;
            Some(u64::from_be_bytes(bytes.try_into().ok()?))
        };
        let start = layout::VERSION.start;
        if found(start..start + 8) != Some(self.writer) {
            return Err(other);
        }
        self.seen(number, Some(tag));
        match found(start + 8..start + 16) == Some(version.sequence) {
            true => Ok(()),
            false => Err(Failure::Again(Error::OtherWriter { extent: number })),
        }
    }
}

impl Values for Objects {
    async fn get(&self, number: u64) -> Result<Option<Bytes>, Failure> {
        Ok(self.bytes(&self.path(number)).await?.map(|(bytes, _)| bytes))
    }

    async fn put(&self, number: u64, version: Version, value: Bytes) -> Result<(), Failure> {
        let options = PutOptions::from(self.mode(number).await?);
        match self.client.put_opts(&self.path(number), value.into(), options).await {
            Ok(put) => {
                self.seen(number, Some(put.into()));
                Ok(())
            }
            Err(
                object_store::Error::Precondition { .. }
                | object_store::Error::AlreadyExists { .. },
            ) => self.look_again(number, version).await,
            Err(error) => Err(failure(error)),
        }
    }

    async fn writer(&self) -> Result<u64, Failure> {
        Ok(self.writer)
    }
}
