//! A real Redis Cluster of three masters with a replica each: what every store promises, damage, and a master that is
//! killed.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use pagewise_stores::redis::cluster::ClusterClient;
use pagewise_stores::redis::{self, cluster_routing::Slot};
use pagewise_stores::{Error, RedisStore, RedisStoreBuilder};

use crate::a_region_rests_on_a_store::a_region_is_an_array_in;
use crate::ours;
use crate::servers::{Folder, Server, free_ports, program, until};
use crate::store_contract::{self as contract, noise, read, write};

const EXTENT: usize = 16 << 10;
const PASSWORD: &str = "of-this-test";

struct Cluster {
    folder: Folder,
    ports: Vec<u16>,
    bus: Vec<u16>,
    nodes: Vec<Option<Server>>,
}

/// What a node says of another.
struct Known {
    id: String,
    port: u16,
    is_master: bool,
    master: String,
    slots: Vec<(u16, u16)>,
}

impl Cluster {
    /// Starts six servers, and makes a cluster of them. `None` where there is no program for it.
    fn start(name: &str) -> Option<Self> {
        let server = program("PAGEWISE_TEST_REDIS_SERVER")?;
        let (folder, mut ports) = (Folder::new(name), free_ports(12));
        let bus = ports.split_off(6);
        let mut this = Self { folder, ports, bus, nodes: Vec::new() };
        for node in 0..6 {
            std::fs::create_dir(this.folder.0.join(node.to_string())).unwrap();
            this.nodes.push(None);
            this.go_on(node);
        }
        let mut create = Command::new(server.with_file_name("redis-cli"));
        create.env("REDISCLI_AUTH", PASSWORD).args(["--cluster", "create"]);
        create.args(this.ports.iter().map(|port| format!("127.0.0.1:{port}")));
        create.args(["--cluster-replicas", "1", "--cluster-yes"]).stdin(Stdio::null());
        let created = create.output().unwrap();
        assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stdout));
        this.until_whole();
        Some(this)
    }

    fn go_on(&mut self, node: usize) {
        let mut command = Command::new(program("PAGEWISE_TEST_REDIS_SERVER").unwrap());
        let folder = self.folder.0.join(node.to_string());
        for (name, value) in [
            ("--bind", "127.0.0.1"),
            ("--port", &self.ports[node].to_string()),
            ("--cluster-port", &self.bus[node].to_string()),
            ("--cluster-enabled", "yes"),
            ("--cluster-node-timeout", "1500"),
            ("--repl-diskless-sync-delay", "0"),
            ("--save", ""),
            ("--appendonly", "no"),
            ("--requirepass", PASSWORD),
            ("--masterauth", PASSWORD),
        ] {
            command.args([name, value]);
        }
        self.nodes[node] = Some(Server::start(command, &folder));
        until("a Redis server answers", || self.ask(node, &["PING"]).is_ok());
    }

    /// Asks one of the servers, which must be up.
    fn ask(&self, node: usize, words: &[&str]) -> redis::RedisResult<String> {
        let address = format!("redis://:{PASSWORD}@127.0.0.1:{}", self.ports[node]);
        let limit = Duration::from_secs(2);
        let mut connection = redis::Client::open(address)?.get_connection_with_timeout(limit)?;
        connection.set_read_timeout(Some(limit))?;
        redis::cmd(words[0]).arg(&words[1..]).query(&mut connection)
    }

    fn known(&self, node: usize) -> Vec<Known> {
        let Ok(lines) = self.ask(node, &["CLUSTER", "NODES"]) else { return Vec::new() };
        let parse = |line: &str| {
            let words: Vec<_> = line.split(' ').collect();
            let port = words[1].split(['@', ':']).nth(1)?.parse().ok()?;
            let slots = words.get(8..).unwrap_or_default().iter().filter_map(|range| {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                Some((first.parse().ok()?, last.parse().ok()?))
            });
            let fine = !words[2].contains("fail") && words[7] == "connected";
            fine.then(|| Known {
                id: words[0].into(),
                port,
                is_master: words[2].contains("master"),
                master: words[3].into(),
                slots: slots.collect(),
            })
        };
        lines.lines().filter_map(parse).collect()
    }

    /// Waits until every server that runs knows all masters, and every master has a replica that follows it.
    fn until_whole(&self) {
        until("the cluster is whole", || {
            (0..6).all(|node| {
                let known = self.known(node);
                let has_replica =
                    |master: &Known| known.iter().any(|other| other.master == master.id);
                let masters: Vec<_> =
                    known.iter().filter(|node| node.is_master && !node.slots.is_empty()).collect();
                let state = self.ask(node, &["CLUSTER", "INFO"]).unwrap_or_default();
                let role = self.ask(node, &["INFO", "replication"]).unwrap_or_default();
                masters.len() == 3
                    && masters.into_iter().all(has_replica)
                    && state.contains("cluster_state:ok")
                    && (role.contains("role:master") && role.contains("state=online")
                        || role.contains("master_link_status:up"))
            })
        });
    }

    /// The servers that are master and replica of a key, by a server that is up.
    fn places(&self, asked: usize, key: &str) -> (usize, Option<usize>) {
        let slot = Slot::for_key(key);
        let slot = (0..16384).find(|&number| Slot::new(number) == Some(slot)).unwrap();
        let known = self.known(asked);
        let node = |port| self.ports.iter().position(|&other| other == port).unwrap();
        let holds =
            |node: &&Known| node.slots.iter().any(|&(from, to)| (from..=to).contains(&slot));
        let master = known.iter().find(holds).expect("every slot has a master");
        let replica = known.iter().find(|node| node.master == master.id);
        (node(master.port), replica.map(|replica| node(replica.port)))
    }

    fn addresses(&self) -> Vec<String> {
        self.ports.iter().map(|port| format!("redis://:{PASSWORD}@127.0.0.1:{port}")).collect()
    }

    fn builder(&self, prefix: &str) -> RedisStoreBuilder {
        RedisStore::builder(ClusterClient::builder(self.addresses()), prefix)
            .threads(1)
            .extent_bytes(EXTENT)
            .deadline(Duration::from_secs(30))
            .attempt(Duration::from_secs(2))
            .back_off(Duration::from_millis(10), Duration::from_millis(200))
    }
}

fn key(prefix: &str, extent: usize) -> String {
    format!("{prefix}:{extent:016x}")
}

#[test]
fn values_of_a_redis_cluster_keep_the_contract_of_a_store() {
    let Some(cluster) = Cluster::start("redis-contract") else { return };
    for (name, granule, replicas) in [("small", 4096, 1), ("large", 32 << 10, 0)] {
        let store = || cluster.builder(name).replicas(replicas);
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
    cluster.builder("region").create(1_000_003).unwrap();
    a_region_is_an_array_in(|| cluster.builder("region").open().unwrap(), 16 << 10);
    let strangers = cluster.ports.iter().map(|port| format!("redis://:guess@127.0.0.1:{port}"));
    let strangers = RedisStore::builder(ClusterClient::builder(strangers), "small");
    strangers.threads(1).deadline(Duration::from_secs(2)).open().expect_err("a wrong password");
}

fn damage(cluster: &Cluster) {
    let store = cluster.builder("damage").create(100_000).unwrap();
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
    let store = cluster.builder("late").create(100_000).unwrap();
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
    let first = cluster.builder("two").create(100_000).unwrap();
    write(&first, 0, &noise(1, 100_000)).unwrap();
    let second = cluster.builder("two").open().unwrap();
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
    let store = cluster.builder("x").deadline(Duration::from_secs(30)).create(200_000).unwrap();
    write(&store, 0, &noise(1, 200_000)).unwrap();
    drop(store);
    let (master, replica) = cluster.places(0, &key("x", 3));
    let replica = replica.expect("every master has one");
    cluster.nodes[replica].as_ref().unwrap().signal(libc::SIGSTOP);

    let place = (3 * EXTENT) as u64;
    let short = || cluster.builder("x").deadline(Duration::from_secs(2));
    let short = short().attempt(Duration::from_secs(1)).open().unwrap();
    let error = ours(write(&short, place, &noise(2, EXTENT)).expect_err("nobody else has it"));
    let Error::Deadline { source: Some(why), .. } = error else { panic!("{error}") };
    assert!(matches!(*why, Error::TooFewReplicas { asked: 1, got: 0 }), "{why}");
    drop(short);

    // The master dies with what only it has; the replica, which was acknowledged everything else, takes over.
    cluster.nodes[master] = None;
    cluster.nodes[replica].as_ref().unwrap().signal(libc::SIGCONT);
    let patient = cluster.builder("x").deadline(Duration::from_secs(60)).open().unwrap();
    let held = read(&patient, 0, 200_000).unwrap();
    let mut either = noise(1, 200_000);
    either[place as usize..][..EXTENT].copy_from_slice(&noise(2, EXTENT));
    assert!(held == noise(1, 200_000) || held == either, "something acknowledged is lost");
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
    let store = cluster.builder("x").create(place(EXTENTS)).unwrap();
    for extent in 0..EXTENTS {
        write(&store, place(extent), &noise(extent as u64, EXTENT)).unwrap();
    }
    drop(store);
    // A deadline shorter than the election of a new master, so that some calls are errors.
    let store =
        cluster.builder("x").deadline(Duration::from_secs(2)).attempt(Duration::from_secs(1));
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
    let store = cluster.builder("x").open().unwrap();
    assert_eq!(left.len(), EXTENTS);
    for may in &left {
        may.be(&read(&store, place(may.extent), EXTENT).unwrap());
    }
    // And all of it can be written.
    for extent in 0..EXTENTS {
        write(&store, place(extent), &noise(7, EXTENT)).unwrap();
    }
}
