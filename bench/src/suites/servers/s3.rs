//! An S3 server that keeps objects in files.

use std::sync::Arc;

use pagewise_stores::object_store::{ObjectStore as Client, ObjectStoreExt, path::Path};
use pagewise_stores::{ObjectStore, ObjectStoreBuilder};

use super::s3_server::S3;
use super::{Outcome, ask, fill, len, scan, sum};
use crate::case::Size;

const EXTENT: usize = 256 << 10;
const PREFIX: &str = "numbers";

struct Filled {
    server: S3,
    sum: u64,
}

fn builder(client: Arc<dyn Client>) -> ObjectStoreBuilder {
    ObjectStore::builder(client, PREFIX).extent_bytes(EXTENT).threads(1)
}

fn filled(size: Size) -> Result<Filled, Box<dyn std::error::Error>> {
    let server = S3::start("bench-s3").ok_or("PAGEWISE_TEST_S3_SERVER names no S3 server")?;
    let store = builder(server.client()).create(len(size) as u64)?;
    let sum = fill(&store, EXTENT)?;
    Ok(Filled { server, sum })
}

pub fn paged(size: Size) -> Outcome {
    let filled = filled(size)?;
    scan(builder(filled.server.client()).open()?, EXTENT, filled.sum)
}

pub fn own_loop(size: Size, in_flight: usize) -> Outcome {
    let filled = filled(size)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let client = filled.server.client();
    ask(&runtime, (len(size), EXTENT, in_flight), filled.sum, |extent| {
        let client = client.clone();
        async move {
            let path = Path::from(format!("{PREFIX}/extents/{extent:016x}"));
            let object = client.get(&path).await.map_err(|error| error.to_string())?;
            let bytes = object.bytes().await.map_err(|error| error.to_string())?;
            Ok(sum(&bytes[bytes.len() - EXTENT..]))
        }
    })
}
