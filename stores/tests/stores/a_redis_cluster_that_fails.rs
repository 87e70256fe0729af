//! A Redis Cluster that hangs, refuses and dies when it is told to. It is threads of this process that speak the
//! protocol, so that connections can be counted.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use pagewise_stores::redis::cluster::ClusterClient;
use pagewise_stores::redis::cluster_routing::Slot;
use pagewise_stores::{Error, RedisStore, RedisStoreBuilder};

use crate::ours;
use crate::running::until;
use crate::store_contract::{noise, read, write};

const EXTENT: usize = 16 << 10;
const EXTENTS: usize = 16;
const SLOTS: usize = 16384;

/// Servers of a cluster: the masters share the slots evenly, and a replica is a replica of all of them.
struct Cluster {
    nodes: Vec<Node>,
    masters: usize,
    /// Which server is the master of each share of the slots.
    master_of: Mutex<Vec<usize>>,
    values: Mutex<HashMap<Vec<u8>, Vec<u8>>>,
    /// Commands on keys that are answered by an error.
    refused: Mutex<Vec<(&'static str, Vec<u8>)>>,
    /// Commands on keys that are answered after a while.
    slow: Mutex<Vec<(&'static str, Vec<u8>, Duration)>>,
}

struct Node {
    listener: TcpListener,
    /// Connections that were made to it.
    accepted: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
    /// Answers nothing until this is false again.
    hangs: AtomicBool,
    /// Closes connections at once.
    is_dead: AtomicBool,
    /// Says of each key that the cluster is down.
    is_cut_off: AtomicBool,
    gets: AtomicUsize,
}

impl Node {
    fn address(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    fn die(&self) {
        self.is_dead.store(true, SeqCst);
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn slot(key: &[u8]) -> usize {
    let slot = Some(Slot::for_key(key));
    (0..SLOTS).find(|&number| Slot::new(number as u16) == slot).unwrap()
}

fn key(extent: usize) -> Vec<u8> {
    format!("x:{extent:016x}").into_bytes()
}

impl Cluster {
    /// These servers go on until the process ends.
    fn start(masters: usize, replicas: usize) -> Arc<Self> {
        let node = |_| Node {
            listener: TcpListener::bind("127.0.0.1:0").unwrap(),
            accepted: AtomicUsize::new(0),
            open: Mutex::default(),
            hangs: AtomicBool::new(false),
            is_dead: AtomicBool::new(false),
            is_cut_off: AtomicBool::new(false),
            gets: AtomicUsize::new(0),
        };
        let this = Arc::new(Self {
            nodes: (0..masters + replicas).map(node).collect(),
            masters,
            master_of: Mutex::new((0..masters).collect()),
            values: Mutex::default(),
            refused: Mutex::default(),
            slow: Mutex::default(),
        });
        for number in 0..this.nodes.len() {
            let cluster = this.clone();
            spawn(move || {
                let node = &cluster.nodes[number];
                for stream in node.listener.incoming().map(Result::unwrap) {
                    if node.is_dead.load(SeqCst) {
                        continue;
                    }
                    node.accepted.fetch_add(1, SeqCst);
                    node.open.lock().unwrap().push(stream.try_clone().unwrap());
                    let cluster = cluster.clone();
                    spawn(move || cluster.serve(number, stream));
                }
            });
        }
        this
    }

    /// Answers on a connection until it ends.
    fn serve(&self, number: usize, mut stream: TcpStream) -> Option<()> {
        let mut from = BufReader::new(stream.try_clone().unwrap());
        let mut reads_replica = false;
        loop {
            let words = command(&mut from)?;
            until("the server goes on", || !self.nodes[number].hangs.load(SeqCst));
            let name = String::from_utf8_lossy(&words[0]).to_uppercase();
            match &name[..] {
                "READONLY" => reads_replica = true,
                "READWRITE" => reads_replica = false,
                _ => {}
            }
            stream.write_all(&self.answer(number, &name, &words, reads_replica)).ok()?;
        }
    }

    fn answer(&self, number: usize, name: &str, words: &[Vec<u8>], reads_replica: bool) -> Vec<u8> {
        let key = match name {
            "GET" | "SET" | "INCR" => &words[1],
            "EVAL" => &words[3],
            "WAIT" => return b":1\r\n".into(),
            "CLUSTER" => return self.slots(),
            _ => return b"+OK\r\n".into(),
        };
        if self.nodes[number].is_cut_off.load(SeqCst) {
            return b"-CLUSTERDOWN The cluster is down\r\n".into();
        }
        let share = SLOTS / self.masters;
        let owner = self.master_of.lock().unwrap()[(slot(key) / share).min(self.masters - 1)];
        let is_for_replica = number >= self.masters && reads_replica && name == "GET";
        if owner != number && !is_for_replica {
            let address = self.nodes[owner].address();
            return format!("-MOVED {} {address}\r\n", slot(key)).into();
        }
        let found = self
            .slow
            .lock()
            .unwrap()
            .iter()
            .find_map(|(slow, of, pause)| (*slow == name && of == key).then_some(*pause));
        sleep(found.unwrap_or_default());
        if self.refused.lock().unwrap().iter().any(|(refused, of)| *refused == name && of == key) {
            return b"-NOPERM this user may not\r\n".into();
        }
        let mut values = self.values.lock().unwrap();
        match name {
            "GET" => {
                self.nodes[number].gets.fetch_add(1, SeqCst);
                // A replica that has nothing yet, as after a start.
                match values.get(key).filter(|_| number == owner) {
                    Some(value) => {
                        [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat()
                    }
                    None => b"$-1\r\n".into(),
                }
            }
            "SET" => {
                values.insert(key.clone(), words[2].clone());
                b"+OK\r\n".into()
            }
            "EVAL" => {
                values.insert(key.clone(), words[4].clone());
                b":1\r\n".into()
            }
            _ => b":1\r\n".into(),
        }
    }

    fn slots(&self) -> Vec<u8> {
        let node = |node: &Node| {
            let port = node.listener.local_addr().unwrap().port();
            format!("*3\r\n$9\r\n127.0.0.1\r\n:{port}\r\n$5\r\n{port:05}\r\n")
        };
        let share = SLOTS / self.masters;
        let replicas: String = self.nodes[self.masters..].iter().map(node).collect();
        let masters = (0..self.masters).map(|number| {
            let last = if number + 1 == self.masters { SLOTS } else { share * (number + 1) } - 1;
            let words = 3 + self.nodes.len() - self.masters;
            let master = node(&self.nodes[self.master_of.lock().unwrap()[number]]);
            format!("*{words}\r\n:{}\r\n:{last}\r\n{master}{replicas}", share * number)
        });
        format!("*{}\r\n{}", self.masters, masters.collect::<String>()).into()
    }

    fn builder(&self) -> RedisStoreBuilder {
        let addresses = self.nodes.iter().map(|node| format!("redis://{}", node.address()));
        RedisStore::builder(ClusterClient::builder(addresses), "x")
            .threads(1)
            .extent_bytes(EXTENT)
            .back_off(Duration::from_millis(5), Duration::from_millis(50))
    }

    /// The same with limits in milliseconds.
    fn patient(&self, attempt: u64, deadline: u64) -> RedisStoreBuilder {
        let builder = self.builder().attempt(Duration::from_millis(attempt));
        builder.deadline(Duration::from_millis(deadline))
    }

    /// A store that has been filled, and read once.
    fn filled(&self, builder: impl Fn() -> RedisStoreBuilder) -> RedisStore {
        let store = builder().create((EXTENTS * EXTENT) as u64).unwrap();
        for extent in 0..EXTENTS {
            write(&store, place(extent), &noise(extent as u64, EXTENT)).unwrap();
        }
        (0..EXTENTS).for_each(|extent| is_right(&store, extent));
        store
    }

    /// Extents of which this server is the master.
    fn extents_of(&self, node: usize) -> Vec<usize> {
        let share = SLOTS / self.masters;
        (0..EXTENTS).filter(|&extent| slot(&key(extent)) / share == node).collect()
    }

    fn accepted(&self) -> usize {
        self.nodes.iter().map(|node| node.accepted.load(SeqCst)).sum()
    }
}

/// The next command of a client, as words.
fn command(from: &mut impl BufRead) -> Option<Vec<Vec<u8>>> {
    let number = |from: &mut dyn BufRead| {
        let mut line = String::new();
        from.read_line(&mut line).ok()?;
        line.get(1..)?.trim_end().parse::<usize>().ok()
    };
    let count = number(from)?;
    let mut words = Vec::new();
    for _ in 0..count {
        let mut word = vec![0; number(from)? + 2];
        from.read_exact(&mut word).ok()?;
        word.truncate(word.len() - 2);
        words.push(word);
    }
    Some(words)
}

fn place(extent: usize) -> u64 {
    (extent * EXTENT) as u64
}

#[track_caller]
fn is_right(store: &RedisStore, extent: usize) {
    assert!(read(store, place(extent), EXTENT).unwrap() == noise(extent as u64, EXTENT));
}

#[test]
fn a_master_that_hangs_delays_no_read_of_another() {
    let cluster = Cluster::start(2, 0);
    let store = cluster.filled(|| cluster.patient(1_600, 20_000));
    let (hanging, other) = (cluster.extents_of(0), cluster.extents_of(1));
    let ends = AtomicBool::new(false);
    let longest = std::thread::scope(|threads| {
        cluster.nodes[0].hangs.store(true, SeqCst);
        for &extent in hanging.iter().take(4) {
            let (store, ends) = (&store, &ends);
            threads.spawn(move || {
                is_right(store, extent);
                assert!(ends.load(SeqCst), "a server that hangs has answered");
            });
        }
        let began = Instant::now();
        let mut longest = Duration::ZERO;
        while began.elapsed() < Duration::from_secs(5) {
            let asked = Instant::now();
            is_right(&store, *fastrand::choice(&other).unwrap());
            longest = longest.max(asked.elapsed());
            sleep(Duration::from_millis(5));
        }
        ends.store(true, SeqCst);
        cluster.nodes[0].hangs.store(false, SeqCst);
        longest
    });
    // To connect to the server that hangs is given up after 400 ms.
    assert!(longest < Duration::from_millis(300), "a read waited {longest:?} for another server");
}

#[test]
fn readers_that_lose_a_connection_make_one_new_one() {
    let cluster = Cluster::start(2, 0);
    let patience = || cluster.builder().attempt(Duration::from_secs(1));
    let store = cluster.filled(patience);
    let extent = cluster.extents_of(0)[0];
    let before = cluster.nodes[1].accepted.load(SeqCst);
    std::thread::scope(|threads| {
        cluster.nodes[0].hangs.store(true, SeqCst);
        for _ in 0..8 {
            threads.spawn(|| is_right(&store, extent));
        }
        sleep(Duration::from_millis(1500));
        cluster.nodes[0].hangs.store(false, SeqCst);
    });
    let made = cluster.nodes[1].accepted.load(SeqCst) - before;
    assert!((1..=2).contains(&made), "eight readers made {made} new connections");
}

#[test]
fn an_answer_that_is_an_error_costs_no_connection() {
    let cluster = Cluster::start(1, 0);
    let store = cluster.filled(|| cluster.builder());
    let before = cluster.accepted();
    *cluster.refused.lock().unwrap() = vec![("GET", key(3)), ("EVAL", key(4))];
    // What lies beside it is under way when the error arrives.
    let slow = vec![("GET", key(5), Duration::from_millis(100))];
    *cluster.slow.lock().unwrap() = slow;
    for _ in 0..3 {
        let error = ours(read(&store, place(3), EXTENT).expect_err("it is refused"));
        assert!(matches!(error, Error::Redis(_)), "{error}");
        read(&store, place(2), 4 * EXTENT).expect_err("a part of it is refused");
        write(&store, place(4), &noise(4, EXTENT)).expect_err("it is refused");
        is_right(&store, 6);
    }
    cluster.values.lock().unwrap().insert(key(7), vec![1; 100]);
    let damaged = ours(read(&store, place(7), EXTENT).expect_err("it is damaged"));
    assert!(matches!(damaged, Error::Damaged { extent: 7, .. }), "{damaged}");
    cluster.values.lock().unwrap().remove(&key(7));
    assert!(read(&store, place(7), EXTENT).unwrap() == vec![0; EXTENT]);
    is_right(&store, 6);
    assert_eq!(cluster.accepted(), before);
}

#[test]
fn a_call_whose_time_is_over_costs_others_no_connection() {
    let cluster = Cluster::start(1, 0);
    let store = cluster.filled(|| cluster.builder().deadline(Duration::from_millis(800)));
    let before = cluster.accepted();
    let slow = |command, millis| (command, key(3), Duration::from_millis(millis));
    *cluster.slow.lock().unwrap() = vec![slow("EVAL", 500), slow("GET", 500)];
    std::thread::scope(|threads| {
        threads.spawn(|| write(&store, place(3), &noise(3, EXTENT)).unwrap());
        sleep(Duration::from_millis(50));
        // It waits for the other write, and is given up while it reads the rest of the extent.
        let error = ours(write(&store, place(3), &[1; 100]).expect_err("no time is left"));
        assert!(matches!(error, Error::Deadline { .. }), "{error}");
    });
    cluster.slow.lock().unwrap().clear();
    (0..EXTENTS).for_each(|extent| is_right(&store, extent));
    assert_eq!(cluster.accepted(), before);
}

/// A replica may have nothing yet, and would say of each extent that nobody wrote it.
#[test]
fn a_replica_is_not_read_while_its_master_is_lost() {
    let cluster = Cluster::start(1, 1);
    let store = cluster.filled(|| cluster.patient(200, 600));
    cluster.nodes[0].die();
    for extent in 0..4 {
        let error = ours(read(&store, place(extent), EXTENT).expect_err("its master is lost"));
        assert!(matches!(error, Error::Deadline { source: Some(_), .. }), "{error}");
    }
    cluster.nodes[0].is_dead.store(false, SeqCst);
    (0..EXTENTS).for_each(|extent| is_right(&store, extent));
    assert_eq!(cluster.nodes[1].gets.load(SeqCst), 0, "a replica was read");
}

/// It may live on, and say that the cluster is down, while its replica has taken its place.
#[test]
fn a_master_that_was_replaced_is_left() {
    let cluster = Cluster::start(1, 1);
    let store = cluster.filled(|| cluster.patient(800, 8_000));
    cluster.nodes[0].is_cut_off.store(true, SeqCst);
    cluster.master_of.lock().unwrap()[0] = 1;
    (0..EXTENTS).for_each(|extent| is_right(&store, extent));
    write(&store, place(3), &noise(99, EXTENT)).unwrap();
    assert!(read(&store, place(3), EXTENT).unwrap() == noise(99, EXTENT));
}
