//! servers: memory whose pages come from a server on this machine, beside the client's own loop.
//!
//! Each sample starts a server, fills it, and reads all of it once. `PAGEWISE_TEST_REDIS_SERVER` and `PAGEWISE_TEST_S3_SERVER`
//! (that of the crate s3s-fs) name the servers' programs; a row says so where its own is missing.
//!
//! - **Ours** is one pass over a read-only region that has a quarter of the store in memory: in ascending order, with
//!   as many lent threads as the loop has requests under way, and one thread of the store for its connections. Each page is
//!   an extent, whose checksum is verified, and which is copied into the page. (Answers of the S3 server that wait 40 ms for
//!   an acknowledgement hold up a pass in order. So four pages are read ahead for each thread.)
//! - **The client's own loop** asks for the same values by the same client, on a runtime with one thread, and sums each
//!   as it arrives, in any order: it waits for none in particular, keeps none, copies none and verifies no checksum. All requests
//!   to Redis are on one connection to each server, by which it is fastest.
//!
//! Client and servers share the processors: where all are busy, what either side computes counts in full.

mod redis;
#[path = "../../../../stores/tests/common/redis_cluster.rs"]
mod redis_cluster;
#[path = "../../../../stores/tests/common/running.rs"]
mod running;
mod s3;
#[path = "../../../../stores/tests/common/s3_server.rs"]
mod s3_server;

use std::future::Future;
use std::hint::black_box;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use pagewise::{PageStore, PagedRegion};

use super::Suite;
use crate::case::{Case, Size};
use crate::sample::Sample;

pub const SUITE: Suite = Suite {
    name: "servers",
    about: "memory whose pages come from a server on this machine",
    cases,
    needs: 512 << 20,
    needs_huge: 0,
};

/// What a subject ends with: a sample, or why there is none.
type Outcome = Result<Sample, Box<dyn std::error::Error>>;

fn run(subject: impl Fn(Size) -> Outcome + 'static) -> impl Fn(Size) -> Sample + 'static {
    move |size| subject(size).unwrap_or_else(|error| Sample::absent(error.to_string()))
}

fn cases() -> Vec<Case> {
    let best = format!("the client's own loop, {IN_FLIGHT} requests in flight");
    let case = |name: &str, paged: fn(Size) -> Outcome, loops: fn(Size, usize) -> Outcome| {
        Case::new(name, "ns/4 KiB", run(paged))
            .rival(&*best, run(move |size| loops(size, IN_FLIGHT)))
            .target(1.3, 1.1)
            .rival("the same, one after the other", run(move |size| loops(size, 1)))
            .long()
    };
    vec![
        case("scan of a Redis Cluster, 256 KiB values", redis::paged, redis::own_loop).control(),
        case("scan of an S3 server, 256 KiB objects", s3::paged, s3::own_loop),
    ]
}

/// Requests of the client's loop at once, and lent threads of the region.
const IN_FLIGHT: usize = 8;

fn len(size: Size) -> usize {
    size.pick(128 << 20, 128 << 20, 4 << 20)
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.chunks_exact(8).fold(0, |sum, bytes| {
        sum.wrapping_add(u64::from_ne_bytes(bytes.try_into().expect("eight bytes")))
    })
}

/// Fills a store with numbers that look random.
fn fill(store: &impl PageStore, extent: usize) -> std::io::Result<u64> {
    let (mut random, mut all) = (fastrand::Rng::with_seed(1), 0u64);
    let mut bytes = vec![0; extent];
    for offset in (0..store.len()).step_by(extent) {
        random.fill(&mut bytes);
        store.write(offset, &bytes)?;
        all = all.wrapping_add(sum(&bytes));
    }
    store.sync()?;
    Ok(all)
}

/// All of a store, through a region that has a quarter of it in memory.
fn scan<S: PageStore + 'static>(store: S, extent: usize, expected: u64) -> Outcome {
    let len = store.len() as usize;
    let builder = PagedRegion::builder(store).page_bytes(extent).limit(len / 4).read_only();
    let region = builder.io_threads(IN_FLIGHT).read_ahead(4 * IN_FLIGHT * extent).build()?;
    let began = Instant::now();
    // SAFETY: nobody writes to the store any more.
    let found = black_box(sum(unsafe { region.as_slice() }));
    checked(began.elapsed(), len, found == expected)
}

/// The same by the client alone: `get` asks for an extent.
fn ask<F: Future<Output = Result<u64, String>>>(
    runtime: &tokio::runtime::Runtime,
    (len, extent, in_flight): (usize, usize, usize),
    expected: u64,
    get: impl Fn(usize) -> F,
) -> Outcome {
    let began = Instant::now();
    let found = runtime.block_on(async {
        let mut answers =
            futures_util::stream::iter((0..len / extent).map(get)).buffer_unordered(in_flight);
        let mut all = 0u64;
        while let Some(sum) = answers.next().await {
            all = all.wrapping_add(sum?);
        }
        Ok::<_, String>(all)
    })?;
    checked(began.elapsed(), len, found == expected)
}

fn checked(took: Duration, len: usize, is_right: bool) -> Outcome {
    if is_right { Ok(Sample::per(took, len / 4096)) } else { Err("the sums differ".into()) }
}
