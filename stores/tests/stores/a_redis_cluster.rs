//! A real Redis Cluster of three masters with a replica each: what every store promises, damage, and a master that is
//! killed.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use pagewise::PagedRegion;
use pagewise_stores::redis;
use pagewise_stores::redis::cluster::ClusterClient;
use pagewise_stores::{Error, RedisStore, RedisStoreBuilder};

use crate::a_region_rests_on_a_store::a_region_is_an_array_in;
use crate::ours;
use crate::redis_cluster::Cluster;
use crate::running::until;
use crate::store_contract::{self as contract, noise, read, write};

const EXTENT: usize = 16 << 10;

/// A builder with small extents, for the store of a prefix.
fn store_in(cluster: &Cluster, prefix: &str) -> RedisStoreBuilder {
    RedisStore::builder(ClusterClient::builder(cluster.addresses()), prefix)
        .threads(1)
        .extent_bytes(EXTENT)
        .deadline(Duration::from_secs(30))
        .attempt(Duration::from_secs(2))
        .back_off(Duration::from_millis(10), Duration::from_millis(200))
}

fn key(prefix: &str, extent: usize) -> String {
    format!("{prefix}:{extent:016x}")
}

#[test]
fn values_of_a_redis_cluster_keep_the_contract_of_a_store() {
    let Some(cluster) = Cluster::start("redis-contract") else { return };
    for (name, granule, replicas) in [("small", 4096, 1), ("large", 32 << 10, 0)] {
        let store = || store_in(&cluster, name).replicas(replicas);
        assert!(matches!(store().open(), Err(Error::NotFound)));
        let created = store().create(1_000_003).unwrap();
        let held = contract::a_new_store_keeps_the_contract(&created, granule, 22);
        drop(created);
        contract::holds(&store().open().unwrap(), &held);
        assert!(matches!(store().create(5), Err(Error::AlreadyExists)));
    }
    damage(&cluster);
    late_writes(&cluster);
    two_writers(&cluster);
    store_in(&cluster, "region").create(1_000_003).unwrap();
    a_region_is_an_array_in(|| store_in(&cluster, "region").open().unwrap(), 16 << 10);
    let strangers = cluster.ports.iter().map(|port| format!("redis://:guess@127.0.0.1:{port}"));
    let strangers = RedisStore::builder(ClusterClient::builder(strangers), "small");
    strangers.threads(1).deadline(Duration::from_secs(2)).open().expect_err("a wrong password");
}

fn damage(cluster: &Cluster) {
    let store = store_in(cluster, "damage").create(100_000).unwrap();
    write(&store, 0, &noise(1, 3 * EXTENT)).unwrap();
    let mut by_hand = ClusterClient::new(cluster.addresses()).unwrap().get_connection().unwrap();
    let key = key("damage", 1);
    let good: Vec<u8> = redis::cmd("GET").arg(&key).query(&mut by_hand).unwrap();
    assert_eq!(good.len(), 40 + EXTENT, "the layout of docs/stores.md");
    let mut bad = vec![good[..5000].to_vec(), Vec::new(), [&good[..], &[0]].concat()];
    for bit in [0, 70, 130, 200, 300, 320, 5000, good.len() * 8 - 1] {
        let mut changed = good.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        bad.push(changed);
    }
    for bad in bad {
        let () = redis::cmd("SET").arg(&key).arg(&bad).query(&mut by_hand).unwrap();
        for (offset, len) in [(EXTENT, 1), (0, 3 * EXTENT), (2 * EXTENT - 1, 1)] {
            let error = ours(read(&store, offset as u64, len).expect_err("damaged"));
            assert!(matches!(error, Error::Damaged { extent: 1, .. }), "{error}");
        }
        write(&store, EXTENT as u64, &[1; 100]).expect_err("the rest of it is lost");
        let () = redis::cmd("SET").arg(&key).arg(&good).query(&mut by_hand).unwrap();
        assert!(read(&store, 0, 3 * EXTENT).unwrap() == noise(1, 3 * EXTENT));
    }
    let () = redis::cmd("SET").arg(&key).arg("short").query(&mut by_hand).unwrap();
    write(&store, EXTENT as u64, &noise(2, EXTENT)).unwrap();
    assert!(read(&store, EXTENT as u64, EXTENT).unwrap() == noise(2, EXTENT));
}

/// A write that was given up may reach the server after the next one.
fn late_writes(cluster: &Cluster) {
    let script = include_str!("../../src/replace.lua");
    let store = store_in(cluster, "late").create(100_000).unwrap();
    let mut by_hand = ClusterClient::new(cluster.addresses()).unwrap().get_connection().unwrap();
    let key = key("late", 0);
    // So many that the lowest byte of their number overflows.
    let sent: Vec<Vec<u8>> = (0..300)
        .map(|seed| {
            write(&store, 0, &noise(seed, EXTENT)).unwrap();
            redis::cmd("GET").arg(&key).query(&mut by_hand).unwrap()
        })
        .collect();
    let mut sends = |value: &[u8]| -> i32 {
        let mut again = redis::cmd("EVAL");
        again.arg(script).arg(1).arg(&key).arg(value).arg(16).arg(31);
        again.query(&mut by_hand).unwrap()
    };
    for older in [0, 1, 254, 255, 256, 298] {
        assert_eq!(sends(&sent[older]), 0, "{older}");
        assert!(read(&store, 0, EXTENT).unwrap() == noise(299, EXTENT), "{older}");
    }
    assert_eq!(sends(&sent[299]), 1, "the same one again");
    assert!(read(&store, 0, EXTENT).unwrap() == noise(299, EXTENT));
}

fn two_writers(cluster: &Cluster) {
    let first = store_in(cluster, "two").create(100_000).unwrap();
    write(&first, 0, &noise(1, 100_000)).unwrap();
    let second = store_in(cluster, "two").open().unwrap();
    assert!(read(&second, 0, 100_000).unwrap() == noise(1, 100_000));
    write(&first, 0, &noise(2, EXTENT)).expect("a second reader is no writer");
    write(&second, EXTENT as u64, &noise(3, EXTENT)).unwrap();
    let refused = ours(write(&first, EXTENT as u64, &noise(4, EXTENT)).unwrap_err());
    assert!(matches!(refused, Error::OtherWriter { extent: 1 }), "{refused}");
    assert!(read(&first, EXTENT as u64, EXTENT).unwrap() == noise(3, EXTENT));
}

/// A replica that stands still has nothing of what its master is told. If a write did not wait for it, what is written now
/// would be lost with the master.
#[test]
fn a_write_that_no_replica_has_is_an_error() {
    let Some(mut cluster) = Cluster::start("redis-replica") else { return };
    let store = store_in(&cluster, "x").deadline(Duration::from_secs(30)).create(200_000).unwrap();
    write(&store, 0, &noise(1, 200_000)).unwrap();
    drop(store);
    let (master, replica) = cluster.places(0, &key("x", 3));
    let replica = replica.expect("every master has one");
    cluster.nodes[replica].as_ref().unwrap().signal(libc::SIGSTOP);

    let place = (3 * EXTENT) as u64;
    let short = || store_in(&cluster, "x").deadline(Duration::from_secs(8));
    let short = short().attempt(Duration::from_secs(1)).open().unwrap();
    let error = ours(write(&short, place, &noise(2, EXTENT)).expect_err("nobody else has it"));
    let Error::Deadline { source: Some(why), .. } = error else { panic!("{error}") };
    assert!(matches!(*why, Error::TooFewReplicas { asked: 1, got: 0 }), "{why}");
    drop(short);

    // The master dies with what only it has; the replica, which was acknowledged everything else, takes over.
    cluster.nodes[master] = None;
    cluster.nodes[replica].as_ref().unwrap().signal(libc::SIGCONT);
    let patient = store_in(&cluster, "x").deadline(Duration::from_secs(60)).open().unwrap();
    let held = read(&patient, 0, 200_000).unwrap();
    let mut either = noise(1, 200_000);
    either[place as usize..][..EXTENT].copy_from_slice(&noise(2, EXTENT));
    assert!(held == noise(1, 200_000) || held == either, "something acknowledged is lost");
}

/// A master stands still, and its replica takes over: reads of other masters go on, and those who wait share what is made
/// anew.
#[test]
fn a_master_that_stands_still_delays_no_read_of_another() {
    const EXTENTS: usize = 30;
    const READERS: usize = 16;
    let Some(cluster) = Cluster::start("redis-still") else { return };
    for node in 0..6 {
        // Otherwise, all servers refuse reads as long as one master is missing.
        cluster.ask(node, &["CONFIG", "SET", "cluster-require-full-coverage", "no"]).unwrap();
    }
    let store = store_in(&cluster, "x").create((EXTENTS * EXTENT) as u64).unwrap();
    let is_right = |extent: usize| {
        let found = read(&store, (extent * EXTENT) as u64, EXTENT).unwrap();
        assert!(found == noise(extent as u64, EXTENT), "extent {extent}");
    };
    for extent in 0..EXTENTS {
        write(&store, (extent * EXTENT) as u64, &noise(extent as u64, EXTENT)).unwrap();
        is_right(extent);
    }
    let master = |extent: &usize| cluster.places(0, &key("x", *extent)).0;
    let stands = master(&0);
    let (lost, others): (Vec<_>, Vec<_>) = (0..EXTENTS).partition(|it| master(it) == stands);
    let another = master(&others[0]);
    let connections = || -> usize {
        let stats = cluster.ask(another, &["INFO", "stats"]).unwrap();
        let line = stats.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
        line.unwrap().parse().unwrap()
    };
    let before = connections();
    cluster.nodes[stands].as_ref().unwrap().signal(libc::SIGSTOP);
    let (mut longest, mut count) = (Duration::ZERO, 0);
    std::thread::scope(|threads| {
        let lost = &lost;
        let start = |number: usize| threads.spawn(move || is_right(lost[number % lost.len()]));
        let readers: Vec<_> = (0..READERS).map(start).collect();
        while readers.iter().any(|reader| !reader.is_finished()) {
            let asked = Instant::now();
            is_right(others[count % others.len()]);
            longest = longest.max(asked.elapsed());
            count += 1;
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    cluster.nodes[stands].as_ref().unwrap().signal(libc::SIGCONT);
    let made = connections() - before;
    // To connect to the server that stands still is given up after 500 ms.
    assert!(longest < Duration::from_millis(400), "a read waited {longest:?} for another server");
    assert!(count > 50, "{count} reads: no master stood still");
    assert!(made < READERS, "{READERS} readers made {made} connections");
}

/// What one extent may hold: what was acknowledged last, or what was tried since.
#[derive(Clone)]
struct May {
    extent: usize,
    acknowledged: u64,
    tried: Vec<u64>,
}

impl May {
    #[track_caller]
    fn be(&self, found: &[u8]) {
        let is = |&seed: &u64| found == noise(seed, EXTENT);
        let may = is(&self.acknowledged) || self.tried.iter().any(is);
        assert!(may, "extent {} has neither what was acknowledged nor what was tried", self.extent);
    }
}

#[test]
fn nothing_acknowledged_is_lost_with_a_master_that_is_killed() {
    const EXTENTS: usize = 60;
    const THREADS: usize = 3;
    let Some(mut cluster) = Cluster::start("redis-killed") else { return };
    let place = |extent: usize| (extent * EXTENT) as u64;
    let store = store_in(&cluster, "x").create(place(EXTENTS)).unwrap();
    for extent in 0..EXTENTS {
        write(&store, place(extent), &noise(extent as u64, EXTENT)).unwrap();
    }
    drop(store);
    // A deadline shorter than the election of a new master, so that some calls are errors.
    let store =
        store_in(&cluster, "x").deadline(Duration::from_secs(2)).attempt(Duration::from_secs(1));
    let store = store.open().unwrap();
    let (master, replica) = cluster.places(0, &key("x", 0));
    let replica = replica.expect("every master has one");

    let (reads, writes, errors) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let ends = AtomicBool::new(false);
    let work = |mut share: Vec<May>, mut random: fastrand::Rng| {
        while !ends.load(SeqCst) {
            let may = random.choice(&mut share).unwrap();
            let seed = random.u64(1 << 20..);
            let result = match random.bool() {
                true => read(&store, place(may.extent), EXTENT).map(|found| {
                    may.be(&found);
                    reads.fetch_add(1, SeqCst);
                }),
                false => {
                    may.tried.push(seed);
                    write(&store, place(may.extent), &noise(seed, EXTENT)).map(|()| {
                        (may.acknowledged, may.tried) = (seed, Vec::new());
                        writes.fetch_add(1, SeqCst);
                    })
                }
            };
            if let Err(error) = result {
                errors.fetch_add(1, SeqCst);
                let error = ours(error);
                assert!(matches!(error, Error::Deadline { .. }), "{error}");
            }
        }
        share
    };

    let left = std::thread::scope(|threads| {
        let work = &work;
        let workers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let share = (0..EXTENTS).filter(|extent| extent % THREADS == thread);
                let share = share.map(|extent| May {
                    extent,
                    acknowledged: extent as u64,
                    tried: Vec::new(),
                });
                let share = share.collect();
                threads.spawn(move || work(share, fastrand::Rng::with_seed(thread as u64)))
            })
            .collect();
        let more = |what: &str, counter: &AtomicUsize, count| {
            let from = counter.load(SeqCst);
            let failed = || workers.iter().any(|worker| worker.is_finished());
            until(what, || counter.load(SeqCst) > from + count || failed());
        };
        more("writes succeed", &writes, 100);
        cluster.nodes[master].as_mut().unwrap().kill();
        until("the replica has taken over", || {
            let role = cluster.ask(replica, &["INFO", "replication"]);
            role.is_ok_and(|role| role.contains("role:master"))
        });
        more("reads go on", &reads, 100);
        // What was its master has nothing any more, and becomes its replica.
        cluster.go_on(master);
        cluster.until_whole();
        more("writes go on", &writes, 100);
        more("reads go on", &reads, 100);
        ends.store(true, SeqCst);
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect::<Vec<_>>()
    });
    drop(store);

    assert_ne!(errors.load(SeqCst), 0, "no call was an error: nothing was killed");
    assert_eq!(cluster.places(replica, &key("x", 0)).0, replica, "it has no new master");
    let store = store_in(&cluster, "x").open().unwrap();
    assert_eq!(left.len(), EXTENTS);
    for may in &left {
        may.be(&read(&store, place(may.extent), EXTENT).unwrap());
    }
    // And all of it can be written.
    for extent in 0..EXTENTS {
        write(&store, place(extent), &noise(7, EXTENT)).unwrap();
    }
}

/// A region of which a quarter is in memory, while one master after the other is killed: what it gives is right or an
/// error, and what was flushed is in the store, byte by byte.
#[test]
fn a_region_loses_nothing_with_masters_that_are_killed() {
    const EXTENTS: usize = 40;
    const LEN: usize = EXTENTS * EXTENT;
    let Some(mut cluster) = Cluster::start("redis-region") else { return };
    drop(store_in(&cluster, "x").create(LEN as u64).unwrap());
    // A deadline shorter than the election of a new master.
    let short = store_in(&cluster, "x").deadline(Duration::from_secs(1));
    let store = short.attempt(Duration::from_millis(500)).open().unwrap();
    let builder = PagedRegion::builder(store).page_bytes(EXTENT).limit(LEN / 4).io_threads(2);
    let mut region = match builder.build() {
        Ok(region) => region,
        Err(pagewise::Error::Unsupported { what }) => return crate::not_here::not_here(what),
        Err(error) => panic!("{error}"),
    };
    let mut array = noise(5, LEN);
    region.write(0, &array).unwrap();
    region.flush(..).unwrap();

    let mut random = fastrand::Rng::with_seed(3);
    let (mut fine, mut failed) = (0, 0);
    for killed in 0..2 {
        let (master, replica) = cluster.places(5 - killed, &key("x", killed));
        let replica = replica.expect("every master has one");
        // What was flushed a moment ago is all that is known of the store.
        cluster.nodes[master].as_mut().unwrap().kill();
        let (killed_at, mut ends) = (Instant::now(), None);
        while ends.is_none_or(|ends| Instant::now() < ends) {
            assert!(killed_at.elapsed() < Duration::from_secs(60), "no replica takes over");
            let (offset, len) = (random.usize(..LEN - 5000), random.usize(1..5000));
            let range = offset..offset + len;
            let outcome = match random.u8(..3) {
                0 => {
                    let mut found = vec![0; len];
                    let read = region.read(offset, &mut found).map_err(|error| error.copied);
                    let right = *read.as_ref().err().unwrap_or(&len);
                    assert!(found[..right] == array[range][..right], "what was read is wrong");
                    read.is_ok()
                }
                1 => {
                    let bytes = noise(random.u64(..), len);
                    let written = region.write(offset, &bytes).map_err(|error| error.copied);
                    let count = *written.as_ref().err().unwrap_or(&len);
                    array[range][..count].copy_from_slice(&bytes[..count]);
                    written.is_ok()
                }
                _ => region.flush(range).is_ok(),
            };
            if outcome {
                fine += 1
            } else {
                failed += 1
            }
            let role = || cluster.ask(replica, &["INFO", "replication"]).unwrap_or_default();
            if ends.is_none() && role().contains("role:master") {
                ends = Some(Instant::now() + Duration::from_secs(3));
            }
        }
        cluster.go_on(master);
        cluster.until_whole();
        until("a flush succeeds", || region.flush(..).is_ok());
        let other = store_in(&cluster, "x").open().unwrap();
        assert!(read(&other, 0, LEN).unwrap() == array, "flushed, and not in the store");
        drop(other);
    }
    assert!(fine > 20 && failed > 0, "{fine} calls were right, {failed} were errors");
    assert!(region.stats().io_errors > 0);
    let mut found = vec![0; LEN];
    region.read(0, &mut found).unwrap();
    assert!(found == array);
}
