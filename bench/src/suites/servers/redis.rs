//! A Redis Cluster of three masters with a replica each.

use pagewise_stores::redis::{self, cluster::ClusterClient};
use pagewise_stores::{RedisStore, RedisStoreBuilder};

use super::redis_cluster::Cluster;
use super::{Outcome, ask, fill, len, scan, sum};
use crate::case::Size;

const EXTENT: usize = 256 << 10;
const PREFIX: &str = "numbers";

struct Filled {
    cluster: Cluster,
    sum: u64,
}

fn builder(cluster: &Cluster) -> RedisStoreBuilder {
    RedisStore::builder(ClusterClient::builder(cluster.addresses()), PREFIX)
        .extent_bytes(EXTENT)
        .threads(1)
}

fn filled(size: Size) -> Result<Filled, Box<dyn std::error::Error>> {
    let cluster =
        Cluster::start("bench-redis").ok_or("PAGEWISE_TEST_REDIS_SERVER names no Redis server")?;
    let store = builder(&cluster).create(len(size) as u64)?;
    let sum = fill(&store, EXTENT)?;
    Ok(Filled { cluster, sum })
}

pub fn paged(size: Size) -> Outcome {
    let filled = filled(size)?;
    scan(builder(&filled.cluster).open()?, EXTENT, filled.sum)
}

pub fn own_loop(size: Size, in_flight: usize) -> Outcome {
    let filled = filled(size)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let client = ClusterClient::new(filled.cluster.addresses())?;
    let connection = runtime.block_on(client.get_async_connection())?;
    ask(&runtime, (len(size), EXTENT, in_flight), filled.sum, |extent| {
        let mut connection = connection.clone();
        async move {
            let key = format!("{PREFIX}:{extent:016x}");
            let value: Result<Vec<u8>, _> =
                redis::cmd("GET").arg(key).query_async(&mut connection).await;
            let value = value.map_err(|error| error.to_string())?;
            // (What is behind the bytes of the extent is the store's.)
            Ok(sum(&value[value.len() - EXTENT..]))
        }
    })
}
