//! A real Redis Cluster of three masters with a replica each.
#![allow(dead_code)] // some are for tests

use std::process::{Command, Stdio};
use std::time::Duration;

use pagewise_stores::redis::{self, cluster_routing::Slot};

use super::running::{Folder, Server, free_ports, program, until};

const PASSWORD: &str = "of-this-test";

/// Six servers on this machine.
pub struct Cluster {
    folder: Folder,
    pub ports: Vec<u16>,
    bus: Vec<u16>,
    pub nodes: Vec<Option<Server>>,
}

/// What a node says of another.
pub struct Known {
    id: String,
    port: u16,
    is_master: bool,
    master: String,
    slots: Vec<(u16, u16)>,
}

impl Cluster {
    /// Starts six servers, and makes a cluster of them. `None` where there is no program for it.
    pub fn start(name: &str) -> Option<Self> {
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

    pub fn go_on(&mut self, node: usize) {
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
    pub fn ask(&self, node: usize, words: &[&str]) -> redis::RedisResult<String> {
        let address = format!("redis://:{PASSWORD}@127.0.0.1:{}", self.ports[node]);
        let limit = Duration::from_secs(2);
        let mut connection = redis::Client::open(address)?.get_connection_with_timeout(limit)?;
        connection.set_read_timeout(Some(limit))?;
        redis::cmd(words[0]).arg(&words[1..]).query(&mut connection)
    }

    pub fn known(&self, node: usize) -> Vec<Known> {
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
    pub fn until_whole(&self) {
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
    pub fn places(&self, asked: usize, key: &str) -> (usize, Option<usize>) {
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

    pub fn addresses(&self) -> Vec<String> {
        self.ports.iter().map(|port| format!("redis://:{PASSWORD}@127.0.0.1:{port}")).collect()
    }
}
