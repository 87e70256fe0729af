//! Regions whose pages come from a server: arrays of which an eighth is in memory.

use std::sync::Arc;

use pagewise::{PageStore, PagedRegion};
use pagewise_stores::object_store::memory::InMemory;

use crate::not_here::not_here;
use crate::store_contract::noise;
use crate::{Client, builder};

const LEN: usize = 1_000_003;

/// Shows that a region on a store of `LEN` bytes behaves as an array, and that the next region finds what was flushed.
pub fn a_region_is_an_array_in<S: PageStore + 'static>(open: impl Fn() -> S, page: usize) {
    let region = PagedRegion::builder(open()).page_bytes(page).limit(LEN / 8).io_threads(2).build();
    let mut region = match region {
        Ok(region) => region,
        Err(pagewise::Error::Unsupported { what }) => return not_here(what),
        Err(error) => panic!("{error}"),
    };
    assert_eq!(region.len(), LEN);
    let mut random = fastrand::Rng::with_seed(23);
    let mut array = vec![0; LEN];
    for round in 0..60 {
        let offset = random.usize(..LEN - 40_000);
        let bytes = noise(round, random.usize(1..40_000));
        let range = offset..offset + bytes.len();
        array[range.clone()].copy_from_slice(&bytes);
        if random.bool() {
            region.write(offset, &bytes).unwrap();
        } else {
            // SAFETY: nobody else writes to the store.
            let slice = unsafe { region.as_mut_slice() };
            slice[range].copy_from_slice(&bytes);
        }
        let mut found = vec![1; 30_000];
        let offset = random.usize(..LEN - found.len());
        region.read(offset, &mut found).unwrap();
        assert!(found == array[offset..][..found.len()], "round {round}");
    }
    // SAFETY: as above.
    assert!(unsafe { region.as_slice() } == array, "all of it, touched");
    region.flush(..).unwrap();
    assert!(region.stats().evictions > 10, "{:?}", region.stats());
    drop(region);

    let store = open();
    crate::store_contract::holds(&store, &array);
    let again =
        PagedRegion::builder(store).page_bytes(page).limit(LEN / 8).io_threads(1).read_only();
    let again = again.build().unwrap();
    // SAFETY: nobody writes to the store any more.
    assert!(unsafe { again.as_slice() } == array, "another region");
}

#[test]
fn a_region_on_objects_is_an_array() {
    // Pages as large as an extent, smaller, and larger.
    for (extent, page) in [(16 << 10, 16 << 10), (64 << 10, 4 << 10), (4 << 10, 16 << 10)] {
        let client: Arc<dyn Client> = Arc::new(InMemory::new());
        builder(&client, "x").extent_bytes(extent).create(LEN as u64).unwrap();
        a_region_is_an_array_in(|| builder(&client, "x").open().unwrap(), page);
    }
}
