//! Extents as values of a Redis Cluster.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use pagewise::PageStore;
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::Slot;
use redis::{Cmd, FromRedisValue, Pipeline, RedisResult, RetryMethod, cmd};

use crate::calls::{Calls, Failure, Patience, RunsOn, settings};
use crate::error::{Error, Operation};
use crate::extents::{Extents, Values};
use crate::layout::{HEADER, Layout, VERSION, Version};
use crate::redis_lanes::{Lanes, is_lost, to_master};

/// Bytes of an extent, unless told otherwise: so many that asking costs less than moving them, and so few that a server,
/// which does one thing at a time, lets nobody wait for long.
const EXTENT: usize = 64 << 10;

/// A [`PageStore`] of values in a Redis Cluster.
///
/// - Each extent is a value with a checksum: a damaged one is an error, and never data. An extent that nobody wrote is no
///   value, and reads zero.
/// - **A write has returned when its master has it, and as many replicas as the program asks for**
///   ([`replicas`](RedisStoreBuilder::replicas), one unless told otherwise): it waits for them by `WAIT` on the
///   connection of the write. So [`sync`](PageStore::sync) has nothing left to wait for. What was written survives that
///   the master is lost, where its successor is one of these replicas. Ask for as many as each master has, so that
///   every successor is. Whether it survives that all of them are lost is a matter of the servers'
///   own settings (`appendonly`).
/// - Each write carries a number, and replaces only what has a smaller one: a write that was given up and reaches the
///   server late replaces no newer one. Each writer takes a greater number than the one before, so that of two writers,
///   the older one's writes become errors ([`OtherWriter`](Error::OtherWriter)) where the newer one has written.
/// - Reads ask masters only. While a master is lost and its successor is not chosen yet, calls wait, and are errors where
///   the deadline comes first.
///
/// ```no_run
/// use std::time::Duration;
/// use pagewise::PageStore;
/// use pagewise_stores::{RedisStore, redis::cluster::ClusterClient};
///
/// let cluster = ClusterClient::builder(["redis://10.0.0.1:7000", "redis://10.0.0.2:7000"]);
/// let store = RedisStore::builder(cluster, "datasets:7")
///     .threads(1)
///     .replicas(2)
///     .deadline(Duration::from_secs(10))
///     .create(1 << 40)?;
/// store.write(123_456_789, b"some bytes")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct RedisStore {
    extents: Extents<Cluster>,
}

impl RedisStore {
    /// Begins to create or to open the store whose keys begin with `prefix` and a colon.
    ///
    /// The client's builder has the addresses and the credentials. Its time limits and retries are replaced by those of
    /// the store. It must not ask for reads from replicas, which may not have yet what was written. A part of the prefix in
    /// braces puts all of the store on one master, as in every key.
    pub fn builder(cluster: ClusterClientBuilder, prefix: impl Into<String>) -> RedisStoreBuilder {
        RedisStoreBuilder {
            cluster,
            prefix: prefix.into(),
            runs_on: RunsOn::default(),
            patience: Patience::default(),
            extent: EXTENT,
            replicas: 1,
        }
    }
}

impl PageStore for RedisStore {
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

/// Options for a [`RedisStore`].
#[must_use = "a builder does nothing until `create` or `open`"]
pub struct RedisStoreBuilder {
    cluster: ClusterClientBuilder,
    prefix: String,
    runs_on: RunsOn,
    patience: Patience,
    extent: usize,
    replicas: usize,
}

settings!(RedisStoreBuilder);

impl RedisStoreBuilder {
    /// So many replicas of a master must have a write before it has succeeded: 1, unless told otherwise. With 0, what
    /// the master has not passed on yet is lost with it, and no [`sync`](PageStore::sync) says so.
    pub fn replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas;
        self
    }

    /// Creates a store of `len` bytes, all of them zeros that take no space.
    ///
    /// # Errors
    /// [`AlreadyExists`](Error::AlreadyExists) where there is one under this prefix; [`Setting`](Error::Setting),
    /// [`NoThread`](Error::NoThread), [`Deadline`](Error::Deadline) or [`Redis`](Error::Redis).
    pub fn create(self, len: u64) -> Result<RedisStore, Error> {
        let layout = Layout::new(len, self.extent)?;
        let (calls, cluster) = self.prepared()?;
        let made = cluster.clone();
        calls.run(Operation::Create, |attempts| async move {
            attempts.of(|| made.create(layout)).await
        })?;
        Ok(RedisStore { extents: Extents::new(calls, layout, cluster) })
    }

    /// Opens a store that is there.
    ///
    /// # Errors
    /// [`NotFound`](Error::NotFound) where there is none under this prefix; [`Manifest`](Error::Manifest) where it is
    /// damaged or of another version; [`Setting`](Error::Setting), [`NoThread`](Error::NoThread),
    /// [`Deadline`](Error::Deadline) or [`Redis`](Error::Redis).
    pub fn open(self) -> Result<RedisStore, Error> {
        let (calls, cluster) = self.prepared()?;
        let read = cluster.clone();
        let manifest = calls.run(Operation::Open, |attempts| async move {
            attempts.of(|| read.value(read.key("manifest"))).await
        })?;
        let layout = Layout::from_manifest(&manifest.ok_or(Error::NotFound)?)?;
        Ok(RedisStore { extents: Extents::new(calls, layout, cluster) })
    }

    fn prepared(self) -> Result<(Calls, Cluster), Error> {
        let Self { cluster, prefix, runs_on, patience, replicas, .. } = self;
        let calls = Calls::new(runs_on, patience)?;
        let attempt = patience.attempt.min(patience.deadline);
        // Before the attempt is given up: a connection that says nothing is told from one whose reader has left.
        let silence = attempt * 7 / 8;
        let client = cluster
            // The client connects to all servers that it knows. One that hangs must not use up the attempt.
            .connection_timeout(attempt / 4)
            .response_timeout(silence)
            .overall_response_timeout(Some(silence))
            .retries(3)
            .min_retry_wait(duration_as_millis(patience.first_pause))
            .max_retry_wait(duration_as_millis(patience.longest_pause))
            .build()?;
        let inner = Shared {
            reads: Lanes::new(client.clone(), silence),
            client,
            prefix,
            replicas,
            // The server answers before the client gives up.
            wait: attempt / 2,
            idle: Mutex::default(),
            writer: tokio::sync::Mutex::default(),
        };
        Ok((calls, Cluster(Arc::new(inner))))
    }
}

fn duration_as_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// The values of a store.
#[derive(Clone)]
struct Cluster(Arc<Shared>);

struct Shared {
    client: ClusterClient,
    prefix: String,
    replicas: usize,
    /// How long a server waits for its replicas.
    wait: Duration,
    /// The connections of all reads.
    reads: Lanes,
    /// Connections for writes that nobody uses. Each has one user at a time: a server that waits for its replicas answers
    /// nothing else on the same connection.
    idle: Mutex<Vec<ClusterConnection>>,
    /// The number of this writer, once it has one.
    writer: tokio::sync::Mutex<Option<u64>>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The client's own would show its credentials.
        f.debug_struct("Cluster").field("prefix", &self.0.prefix).finish_non_exhaustive()
    }
}

/// Replaces a value by one with a greater version, or by itself.
const REPLACE: &str = include_str!("replace.lua");

/// What the client says of a failed request.
fn failure(error: redis::RedisError) -> Failure {
    match error.retry_method() {
        RetryMethod::NoRetry if !error.is_io_error() => Failure::Final(error.into()),
        _ => Failure::Again(error.into()),
    }
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cluster {
    fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.0.prefix)
    }

    fn extent_key(&self, number: u64) -> String {
        format!("{}:{number:016x}", self.0.prefix)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<ClusterConnection>> {
        locked(&self.0.idle)
    }

    /// Sends commands that write to the master of a key, on one connection and in order. The connection is kept, whatever
    /// the server answers, and discarded where it is lost or silent, or when this is given up: then an answer is under way.
    async fn ask_to_write(&self, key: &str, commands: Pipeline) -> RedisResult<Vec<redis::Value>> {
        let idle = self.idle().pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => self.0.client.get_async_connection().await?,
        };
        let (count, route) = (commands.len(), to_master(Slot::for_key(key)));
        let answers = connection.route_pipeline(commands, 0, count, route).await;
        let answers = answers.and_then(|answers| {
            if answers.len() != count {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            answers.into_iter().map(redis::Value::extract_error).collect()
        });
        if !answers.as_ref().is_err_and(is_lost) {
            self.idle().push(connection);
        }
        answers
    }

    async fn value(&self, key: String) -> Result<Option<Bytes>, Failure> {
        let mut get = cmd("GET");
        get.arg(&key);
        match self.0.reads.ask(&key, get).await.map_err(failure)? {
            redis::Value::BulkString(value) => Ok(Some(value.into())),
            redis::Value::Nil => Ok(None),
            other => Err(Failure::Final(unexpected(Some(other)))),
        }
    }

    /// Sends a command that writes, and waits for the replicas. Returns what the command did.
    async fn change(&self, key: &str, command: Cmd) -> Result<redis::Value, Failure> {
        let mut commands = Pipeline::new();
        commands.add_command(command);
        let asked = self.0.replicas;
        if asked > 0 {
            commands.cmd("WAIT").arg(asked).arg(duration_as_millis(self.0.wait));
        }
        let mut values = self.ask_to_write(key, commands).await.map_err(failure)?;
        if asked > 0 {
            let got = values.pop().and_then(|value| usize::from_redis_value(value).ok());
            let got = got.unwrap_or(0);
            if got < asked {
                return Err(Failure::Again(Error::TooFewReplicas { asked, got }));
            }
        }
        values.pop().ok_or(Failure::Final(unexpected(None)))
    }

    /// Writes the manifest where there is none.
    async fn create(&self, layout: Layout) -> Result<(), Failure> {
        let (key, text) = (self.key("manifest"), layout.manifest());
        let mut set = cmd("SET");
        set.arg(&key).arg(&text).arg("NX");
        match self.change(&key, set).await? {
            redis::Value::Nil => {
                // Perhaps an earlier attempt of ours, which seemed to fail.
                let found = self.value(key.clone()).await?;
                if found.is_none_or(|found| found != text) {
                    return Err(Failure::Final(Error::AlreadyExists));
                }
                // Once more, since that attempt may have ended before the replicas had it.
                let mut again = cmd("SET");
                again.arg(&key).arg(&text);
                self.change(&key, again).await.map(drop)
            }
            _ => Ok(()),
        }
    }
}

fn unexpected(value: Option<redis::Value>) -> Error {
    let detail = format!("{value:?}");
    let kind = redis::ErrorKind::UnexpectedReturnType;
    redis::RedisError::from((kind, "the server answered something else", detail)).into()
}

impl Values for Cluster {
    async fn get(&self, number: u64) -> Result<Option<Bytes>, Failure> {
        self.value(self.extent_key(number)).await
    }

    async fn put(&self, number: u64, _: Version, value: Bytes) -> Result<(), Failure> {
        debug_assert!(value.len() >= HEADER);
        let key = self.extent_key(number);
        let mut replace = cmd("EVAL");
        replace.arg(REPLACE).arg(1).arg(&key).arg(&value[..]);
        replace.arg(VERSION.start).arg(VERSION.end - 1);
        match self.change(&key, replace).await? {
            redis::Value::Int(1) => Ok(()),
            redis::Value::Int(0) => Err(Failure::Final(Error::OtherWriter { extent: number })),
            other => Err(Failure::Final(unexpected(Some(other)))),
        }
    }

    async fn writer(&self) -> Result<u64, Failure> {
        let mut writer = self.0.writer.lock().await;
        if let Some(writer) = *writer {
            return Ok(writer);
        }
        let key = self.key("writers");
        let mut more = cmd("INCR");
        more.arg(&key);
        match self.change(&key, more).await? {
            redis::Value::Int(number) if number > 0 => Ok(*writer.insert(number as u64)),
            other => Err(Failure::Final(unexpected(Some(other)))),
        }
    }
}
