//! Connections to a Redis Cluster that many reads share.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, Slot, SlotAddr};
use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult, ServerErrorKind, Value, cmd};
use tokio::sync::OnceCell;
use tokio::time::timeout;

use crate::redis_cluster::locked;

/// Lanes, each of which has a connection to every server of the cluster. Where there are more masters, some share a lane.
const LANES: usize = 8;

/// A connection for all who read on a lane, or why it could not be made. The first who asks makes it; the others wait.
type Link = OnceCell<RedisResult<ClusterConnection>>;

/// Connections for reads.
///
/// While the client looks for a master that is lost, it answers nothing else on the same connection. So the reads of each
/// master have a lane, with a connection of their own: the loss of one delays no read of another.
pub(crate) struct Lanes {
    client: ClusterClient,
    /// After this time, connecting has failed.
    limit: Duration,
    lanes: [Lane; LANES],
    /// The lane of each slot, as the masters were when a connection was made last. Empty before the first one. Where slots
    /// have moved since, reads of two masters share a lane, and are right nevertheless: the client knows the masters.
    places: Mutex<Arc<HashMap<Slot, u8>>>,
    /// Locked by the one who asks for the places, where they were not told with the first connection.
    asking: tokio::sync::Mutex<()>,
}

/// The connection that is in use. One that has failed is replaced by one that is not made yet: by the first who sees it.
#[derive(Default)]
struct Lane(Mutex<Arc<Link>>);

impl Lane {
    /// Takes a link out of use, unless somebody else has: those who have seen the same failure share the next one.
    fn discard(&self, link: &Arc<Link>) {
        let mut current = locked(&self.0);
        if Arc::ptr_eq(&current, link) {
            *current = Arc::default();
        }
    }
}

impl Lanes {
    pub(crate) fn new(client: ClusterClient, limit: Duration) -> Self {
        Self {
            client,
            limit,
            lanes: Default::default(),
            places: Mutex::default(),
            asking: Default::default(),
        }
    }

    /// Sends a command that reads to the master of a key. The connection is kept for others, whatever the server answers
    /// and when this is given up, and discarded where it is lost or silent.
    pub(crate) async fn ask(&self, key: &str, command: Cmd) -> RedisResult<Value> {
        let slot = Slot::for_key(key);
        if locked(&self.places).is_empty() {
            let (_, mut connection) = self.connection(&self.lanes[0]).await?;
            if let Ok(_asking) = self.asking.try_lock()
                && locked(&self.places).is_empty()
            {
                self.learn_places(&mut connection, self.limit / 4).await;
            }
        }
        let place = locked(&self.places).get(&slot).copied();
        let lane = &self.lanes[usize::from(place.unwrap_or(0))];
        let (link, mut connection) = self.connection(lane).await?;
        let route = RoutingInfo::SingleNode(to_master(slot));
        let answer = connection.route_command(command, route).await;
        let answer = answer.and_then(Value::extract_error);
        if answer.as_ref().is_err_and(is_lost) {
            lane.discard(&link);
        }
        answer
    }

    async fn connection(&self, lane: &Lane) -> RedisResult<(Arc<Link>, ClusterConnection)> {
        let link = locked(&lane.0).clone();
        let made = link.get_or_init(|| self.connect()).await.clone();
        match made {
            Ok(connection) => Ok((link, connection)),
            Err(error) => {
                lane.discard(&link);
                Err(error)
            }
        }
    }

    async fn connect(&self) -> RedisResult<ClusterConnection> {
        let began = Instant::now();
        let connected = timeout(self.limit, self.client.get_async_connection()).await;
        let mut connection =
            connected.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))?;
        let left = self.limit.saturating_sub(began.elapsed());
        self.learn_places(&mut connection, left.min(self.limit / 4)).await;
        Ok(connection)
    }

    /// Where nobody says in time who is master of what, the places that are known are good enough.
    async fn learn_places(&self, connection: &mut ClusterConnection, limit: Duration) {
        let mut slots = cmd("CLUSTER");
        slots.arg("SLOTS");
        let anyone = RoutingInfo::SingleNode(SingleNodeRoutingInfo::Random);
        let answer = timeout(limit, connection.route_command(slots, anyone)).await;
        if let Ok(Ok(slots)) = answer
            && let Some(places) = places(slots)
        {
            *locked(&self.places) = Arc::new(places);
        }
    }
}

/// The lane of each slot. Masters take lanes in the order of their slots: a replica that becomes master takes over the lane.
fn places(slots: Value) -> Option<HashMap<Slot, u8>> {
    let mut ranges = Vec::new();
    for range in Vec::<Vec<Value>>::from_redis_value(slots).ok()? {
        let [Value::Int(first), Value::Int(last), master, ..] = &range[..] else { return None };
        ranges.push((u16::try_from(*first).ok()?, u16::try_from(*last).ok()?, master.clone()));
    }
    ranges.sort_by_key(|&(first, ..)| first);
    let (mut places, mut masters) = (HashMap::new(), Vec::new());
    for (first, last, master) in ranges {
        let known = masters.iter().position(|known| *known == master);
        let lane = (known.unwrap_or(masters.len()) % LANES) as u8;
        if known.is_none() {
            masters.push(master);
        }
        places.extend((first..=last).filter_map(Slot::new).map(|slot| (slot, lane)));
    }
    Some(places)
}

pub(crate) fn to_master(slot: Slot) -> SingleNodeRoutingInfo {
    SingleNodeRoutingInfo::SpecificNode(Route::with_slot(slot, SlotAddr::Master))
}

/// Whether a connection failed, and not what a server was asked for. So it has where a server is cut off from the cluster: the
/// client would ask the same one again, and not the one that took its place.
pub(crate) fn is_lost(error: &RedisError) -> bool {
    use ServerErrorKind::{ClusterDown, MasterDown};
    error.is_io_error()
        || matches!(
            error.kind(),
            ErrorKind::ClusterConnectionNotFound | ErrorKind::Server(ClusterDown | MasterDown)
        )
}
