//! Servers that fail, hang, or say something else than they do.

use std::fmt;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use pagewise_stores::object_store::memory::InMemory;
use pagewise_stores::object_store::{self, path::Path, *};
use pagewise_stores::{Error, Operation};

use crate::store_contract::{self as contract, noise, read, write};
use crate::{Client, builder, in_time, ours};

/// Objects in memory behind a bad line.
#[derive(Debug, Default)]
struct Bad {
    objects: InMemory,
    requests: AtomicUsize,
    /// One of so many requests fails, by chance; with 1, all.
    fails_one_of: AtomicUsize,
    /// So many requests fail first.
    fails_first: AtomicUsize,
    /// A failing request is carried out nevertheless.
    lies: AtomicBool,
    /// No request is answered.
    hangs: AtomicBool,
    /// So many requests are not answered first.
    hangs_first: AtomicUsize,
    /// Puts that were not answered: they may reach the server late.
    late: Mutex<Vec<(Path, PutPayload, PutOptions)>>,
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a bad line")
    }
}

impl Bad {
    /// The server gets what it was sent and has not answered. How many of these puts it carries out.
    fn deliver(&self) -> usize {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let late = std::mem::take(&mut *self.late.lock().unwrap());
        let put = |(path, payload, options)| {
            runtime.block_on(self.objects.put_opts(&path, payload, options)).is_ok()
        };
        late.into_iter().map(put).filter(|&done| done).count()
    }

    /// Whether this request fails.
    async fn fails(&self) -> bool {
        let first = self.hangs_first.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
        if first.is_ok() || self.hangs.load(SeqCst) {
            std::future::pending::<()>().await;
        }
        self.requests.fetch_add(1, SeqCst);
        let one_of = self.fails_one_of.load(SeqCst);
        let first = self.fails_first.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
        first.is_ok() || one_of > 0 && fastrand::usize(..one_of) == 0
    }

    fn failed<T>() -> object_store::Result<T> {
        Err(object_store::Error::Generic { store: "Bad", source: "the line is broken".into() })
    }
}

#[async_trait]
impl Client for Bad {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        if self.hangs.load(SeqCst) {
            self.late.lock().unwrap().push((path.clone(), payload.clone(), options.clone()));
        }
        if self.fails().await {
            if self.lies.load(SeqCst) {
                let _ = self.objects.put_opts(path, payload, options).await;
            }
            return Self::failed();
        }
        self.objects.put_opts(path, payload, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        if self.fails().await {
            return Self::failed();
        }
        self.objects.get_opts(path, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.objects.put_multipart_opts(path, options).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.objects.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.objects.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &Path,
        to: &Path,
        options: CopyOptions,
    ) -> object_store::Result<()> {
        self.objects.copy_opts(from, to, options).await
    }
}

fn bad() -> (Arc<Bad>, Arc<dyn Client>) {
    let bad = Arc::new(Bad::default());
    (bad.clone(), bad)
}

#[test]
fn what_fails_in_passing_is_not_seen() {
    for (one_of, lies, if_match) in
        [(3, false, false), (2, true, false), (3, true, true), (2, false, true)]
    {
        let (line, client) = bad();
        line.fails_one_of.store(one_of, SeqCst);
        line.lies.store(lies, SeqCst);
        let pauses = (Duration::from_micros(100), Duration::from_millis(1));
        let store = || builder(&client, "x").if_match(if_match).back_off(pauses.0, pauses.1);
        let created = store().create(200_003).unwrap();
        let held = contract::a_new_store_keeps_the_contract(&created, 4096, 20);
        drop(created);
        contract::holds(&store().open().unwrap(), &held);
        assert!(line.requests.load(SeqCst) > 1000, "few requests could fail");
    }
}

#[test]
fn a_creation_whose_answer_is_lost_is_not_taken_for_anothers() {
    let (line, client) = bad();
    line.fails_first.store(1, SeqCst);
    line.lies.store(true, SeqCst);
    builder(&client, "x").create(1000).unwrap();
    assert!(matches!(builder(&client, "x").create(1000), Err(Error::AlreadyExists)));
}

#[test]
fn a_server_that_fails_is_an_error_when_the_deadline_comes_and_says_why() {
    let (line, client) = bad();
    let deadline = Duration::from_millis(300);
    let store = builder(&client, "x").deadline(deadline).create(100_000).unwrap();
    write(&store, 0, &noise(1, 50_000)).unwrap();
    line.fails_one_of.store(1, SeqCst);
    let (read_error, write_error, part_error, store) = in_time(move || {
        let read_error = read(&store, 0, 50_000).unwrap_err();
        let write_error = write(&store, 0, &noise(2, 50_000)).unwrap_err();
        let part_error = write(&store, 7, &[7; 7]).unwrap_err();
        (read_error, write_error, part_error, store)
    });
    for (error, expected) in [
        (read_error, Operation::Read),
        (write_error, Operation::Write),
        (part_error, Operation::Write),
    ] {
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.to_string().contains("the line is broken"), "{error}");
        let Error::Deadline { operation, deadline: told, source: Some(why) } = ours(error) else {
            panic!("another error");
        };
        assert_eq!((operation, told), (expected, deadline));
        assert!(matches!(*why, Error::Object(object_store::Error::Generic { .. })));
    }
    assert!(line.requests.load(SeqCst) > 6, "it was tried again");
    line.fails_one_of.store(0, SeqCst);
    assert!(read(&store, 0, 50_000).unwrap() == noise(1, 50_000));
}

#[test]
fn a_server_that_hangs_is_an_error_when_the_deadline_comes() {
    let (line, client) = bad();
    let deadline = Duration::from_millis(300);
    let short = || builder(&client, "x").deadline(deadline).attempt(Duration::from_millis(100));
    let store = short().create(100_000).unwrap();
    write(&store, 0, &noise(1, 50_000)).unwrap();
    line.hangs.store(true, SeqCst);
    let opened = short();
    let store = in_time(move || {
        // Two writers wait for the same extent: the second one's time runs, too.
        std::thread::scope(|threads| {
            for _ in 0..2 {
                threads.spawn(|| write(&store, 0, &[1; 10]).expect_err("nobody answers"));
            }
        });
        let error = ours(read(&store, 0, 10).unwrap_err());
        assert!(matches!(error, Error::Deadline { operation: Operation::Read, .. }), "{error}");
        assert!(matches!(opened.open(), Err(Error::Deadline { .. })));
        store
    });
    line.hangs.store(false, SeqCst);
    assert!(read(&store, 0, 50_000).unwrap() == noise(1, 50_000));
}

#[test]
fn a_write_that_was_given_up_and_happened_does_not_stand_for_the_next() {
    let (line, client) = bad();
    let store = builder(&client, "x").if_match(true).deadline(Duration::from_millis(300));
    let store = store.create(100_000).unwrap();
    for round in 0..3 {
        write(&store, 0, &noise(round, 16 << 10)).unwrap();
        line.fails_one_of.store(1, SeqCst);
        line.lies.store(true, SeqCst);
        let error = ours(write(&store, 0, &noise(10 + round, 16 << 10)).unwrap_err());
        assert!(matches!(error, Error::Deadline { operation: Operation::Write, .. }), "{error}");
        line.fails_one_of.store(0, SeqCst);
        assert!(read(&store, 0, 16 << 10).unwrap() == noise(10 + round, 16 << 10), "it happened");
        write(&store, 0, &noise(20 + round, 16 << 10)).unwrap();
        assert!(read(&store, 0, 16 << 10).unwrap() == noise(20 + round, 16 << 10));
    }
}

#[test]
fn a_write_that_reaches_the_server_late_replaces_no_newer_one() {
    let (line, client) = bad();
    let store = builder(&client, "x").if_match(true).deadline(Duration::from_millis(300));
    let store = store.attempt(Duration::from_millis(100)).create(100_000).unwrap();
    write(&store, 0, &noise(1, 16 << 10)).unwrap();
    line.hangs.store(true, SeqCst);
    write(&store, 0, &noise(2, 16 << 10)).expect_err("nobody answers");
    line.hangs.store(false, SeqCst);
    write(&store, 0, &noise(3, 16 << 10)).unwrap();
    assert!(line.late.lock().unwrap().len() > 1, "nothing is under way");
    assert_eq!(line.deliver(), 0);
    assert!(read(&store, 0, 16 << 10).unwrap() == noise(3, 16 << 10));

    // One that arrives before the next is not in its way.
    line.hangs.store(true, SeqCst);
    write(&store, 0, &noise(4, 16 << 10)).expect_err("nobody answers");
    line.hangs.store(false, SeqCst);
    assert_eq!(line.deliver(), 1, "the others of them find another object there");
    write(&store, 0, &noise(5, 16 << 10)).unwrap();
    assert!(read(&store, 0, 16 << 10).unwrap() == noise(5, 16 << 10));
}

#[test]
fn a_request_without_an_answer_is_given_up_and_made_again() {
    let (line, client) = bad();
    let store = builder(&client, "x").deadline(Duration::from_secs(3600));
    let store = store.attempt(Duration::from_millis(50)).create(100_000).unwrap();
    line.hangs_first.store(3, SeqCst);
    in_time(move || {
        write(&store, 5, &noise(1, 50_000)).unwrap();
        line.hangs_first.store(3, SeqCst);
        assert!(read(&store, 5, 50_000).unwrap() == noise(1, 50_000));
    });
}

#[test]
fn a_runtime_that_stands_still_is_an_error_when_the_deadline_comes() {
    let (_, client) = bad();
    // Nobody runs it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let stuck = builder(&client, "x").runtime(runtime.handle().clone());
    let created = in_time(move || stuck.deadline(Duration::from_millis(200)).create(1000).err());
    assert!(matches!(created, Some(Error::Deadline { operation: Operation::Create, .. })));
}

#[test]
fn what_no_attempt_can_change_is_an_error_at_once() {
    let client: Arc<dyn Client> = Arc::new(InMemory::new());
    let store = builder(&client, "x").deadline(Duration::from_secs(3600)).create(1000).unwrap();
    let beyond = in_time(move || read(&store, 999, 2).unwrap_err());
    assert_eq!(beyond.kind(), ErrorKind::InvalidInput);
    assert!(matches!(ours(beyond), Error::OutOfBounds { offset: 999, len: 2, store: 1000 }));
}

/// A port that takes connections, and answers nothing.
fn silent_port() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[test]
#[cfg(feature = "redis")]
fn a_redis_cluster_that_does_not_answer_is_an_error_when_the_deadline_comes() {
    use pagewise_stores::{RedisStore, redis::cluster::ClusterClient};
    let (listener, silent) = silent_port();
    let closed = silent_port().1; // closed again
    for port in [silent, closed] {
        let cluster = ClusterClient::builder([format!("redis://127.0.0.1:{port}")]);
        let store = RedisStore::builder(cluster, "x")
            .threads(1)
            .deadline(Duration::from_millis(500))
            .attempt(Duration::from_millis(200));
        let error = in_time(move || store.open().err()).expect("nobody is there");
        assert!(matches!(error, Error::Deadline { .. }), "{error}");
    }
    drop(listener);
}

#[test]
#[cfg(all(unix, feature = "aws"))]
fn an_s3_server_that_does_not_answer_is_an_error_when_the_deadline_comes() {
    let (listener, silent) = silent_port();
    let closed = silent_port().1;
    for port in [silent, closed] {
        let client = crate::s3_server::s3_client(port);
        let store = builder(&client, "x")
            .deadline(Duration::from_millis(500))
            .attempt(Duration::from_millis(200));
        let error = in_time(move || store.open().err()).expect("nobody is there");
        assert!(matches!(error, Error::Deadline { .. }), "{error}");
    }
    drop(listener);
}
