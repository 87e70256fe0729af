//! A real S3 server: what every store promises, damage, and a server that is stopped and started again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use pagewise_stores::{Error, ObjectStoreBuilder};

use crate::a_region_rests_on_a_store::a_region_is_an_array_in;
use crate::running::until;
use crate::s3_server::S3;
use crate::store_contract::{self as contract, noise, read, write};
use crate::{Client, builder, damage_is_an_error, ours};

fn patient(client: &Arc<dyn Client>, prefix: &str) -> ObjectStoreBuilder {
    builder(client, prefix).attempt(Duration::from_secs(5))
}

#[test]
fn objects_of_an_s3_server_keep_the_contract_of_a_store() {
    let Some(server) = S3::start("s3-contract") else { return };
    let client = server.client();
    for (name, granule, if_match) in [("small", 4096, false), ("large", 32 << 10, true)] {
        let store = || patient(&client, name).if_match(if_match);
        let created = store().create(1_000_003).unwrap();
        let held = contract::a_new_store_keeps_the_contract(&created, granule, 21);
        drop(created);
        contract::holds(&store().open().unwrap(), &held);
        assert!(matches!(store().create(5), Err(Error::AlreadyExists)));
    }
    patient(&client, "region").create(1_000_003).unwrap();
    a_region_is_an_array_in(|| patient(&client, "region").open().unwrap(), 16 << 10);
}

#[test]
fn a_damaged_object_of_an_s3_server_is_an_error() {
    let Some(server) = S3::start("s3-damage") else { return };
    let client = server.client();
    let store = patient(&client, "x").create(100_000).unwrap();
    damage_is_an_error::every_damage_is_an_error(&client, &store, "x");
}

#[test]
fn wrong_credentials_are_an_error_at_once() {
    let Some(server) = S3::start("s3-credentials") else { return };
    use pagewise_stores::object_store::aws::AmazonS3Builder;
    let stranger = AmazonS3Builder::new()
        .with_endpoint(format!("http://127.0.0.1:{}", server.port))
        .with_bucket_name("bucket")
        .with_access_key_id("tester")
        .with_secret_access_key("a guess")
        .with_allow_http(true);
    let stranger: Arc<dyn Client> = Arc::new(stranger.build().unwrap());
    let error = patient(&stranger, "x").create(1000).unwrap_err();
    assert!(matches!(error, Error::Object(_)), "{error}");
}

#[test]
fn a_server_that_is_stopped_and_started_again_loses_nothing() {
    let Some(mut server) = S3::start("s3-stopped") else { return };
    let client = server.client();
    let store = patient(&client, "x").create(320 << 10).unwrap();
    let extents = 20;
    let place = |extent: usize| (extent << 14) as u64;
    for extent in 0..extents {
        write(&store, place(extent), &noise(extent as u64, 1 << 14)).unwrap();
    }

    // Somebody reads and writes while the server is away, and all of it succeeds once the server is there again.
    let (done, ends) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|threads| {
        let worker = threads.spawn(|| {
            let mut round = 0;
            while !ends.load(SeqCst) {
                let extent = round % extents;
                let bytes = noise(extent as u64, 1 << 14);
                assert!(read(&store, place(extent), 1 << 14).unwrap() == bytes, "{extent}");
                write(&store, place(extent), &bytes).unwrap();
                round += 1;
                done.store(round, SeqCst);
            }
        });
        let more = |count| {
            let from = done.load(SeqCst);
            until("requests succeed", || done.load(SeqCst) > from + count || worker.is_finished());
        };
        for _ in 0..2 {
            more(5);
            server.stop();
            std::thread::sleep(Duration::from_millis(500));
            server.go_on();
        }
        more(5);
        ends.store(true, SeqCst);
        worker.join().unwrap();
    });

    // While it is away, and stays away: an error when the deadline comes.
    server.stop();
    let short = patient(&client, "x").deadline(Duration::from_millis(500)).open();
    assert!(matches!(short, Err(Error::Deadline { source: Some(_), .. })), "{short:?}");
    server.go_on();
    let again = patient(&client, "x").deadline(Duration::from_secs(20)).open().unwrap();
    for extent in 0..extents {
        let held = read(&again, place(extent), 1 << 14).unwrap();
        assert!(held == noise(extent as u64, 1 << 14), "extent {extent}");
    }
    let beyond = ours(read(&again, 320 << 10, 1).unwrap_err());
    assert!(matches!(beyond, Error::OutOfBounds { .. }));
}
