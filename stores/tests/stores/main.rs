//! Stores on servers: some that these tests are themselves, and real ones where `ci/stores` says where their programs are.

#[path = "../../../tests/common/not_here.rs"]
mod not_here;
#[cfg(all(unix, feature = "redis"))]
#[path = "../common/redis_cluster.rs"]
mod redis_cluster;
#[path = "../common/running.rs"]
mod running;
#[cfg(all(unix, feature = "aws"))]
#[path = "../common/s3_server.rs"]
mod s3_server;
#[path = "../../../tests/common/store_contract.rs"]
mod store_contract;

#[cfg(all(unix, feature = "redis"))]
mod a_redis_cluster;
#[cfg(feature = "redis")]
mod a_redis_cluster_that_fails;
mod a_region_rests_on_a_store;
mod a_store_keeps_the_contract;
#[cfg(all(unix, feature = "aws"))]
mod an_s3_server;
mod damage_is_an_error;
mod servers_are_there;
mod servers_that_fail;

use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore as Client;
use pagewise_stores::{Error, ObjectStore, ObjectStoreBuilder, object_store};

/// A builder with small extents and a short deadline.
fn builder(client: &Arc<dyn Client>, prefix: &str) -> ObjectStoreBuilder {
    ObjectStore::builder(client.clone(), prefix)
        .threads(1)
        .extent_bytes(16 << 10)
        .deadline(Duration::from_secs(20))
        .back_off(Duration::from_millis(1), Duration::from_millis(20))
}

/// The store's own error, of one that a method of `PageStore` returned.
#[track_caller]
fn ours(error: std::io::Error) -> Error {
    error.downcast().expect("an error of the store")
}

/// Runs something in a thread of its own, and waits far longer than it may take: what hangs is a failure, and no hanging
/// test.
#[track_caller]
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(work()));
    receiver.recv_timeout(Duration::from_secs(60)).expect("it hangs, long after its deadline")
}
