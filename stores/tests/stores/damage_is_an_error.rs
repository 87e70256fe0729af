//! Objects that somebody changed, or lost.

use std::io::ErrorKind;
use std::sync::Arc;

use pagewise_stores::object_store::memory::InMemory;
use pagewise_stores::object_store::{ObjectStoreExt, path::Path};
use pagewise_stores::{Error, ObjectStore};

use crate::store_contract::{noise, read, write};
use crate::{Client, builder, ours};

const EXTENT: usize = 16 << 10;

/// Changes an object by hand.
pub fn change(client: &Arc<dyn Client>, path: &str, how: impl FnOnce(&mut Vec<u8>)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let path = Path::from(path);
        let mut bytes = client.get(&path).await.unwrap().bytes().await.unwrap().to_vec();
        how(&mut bytes);
        client.put(&path, bytes.into()).await.unwrap();
    });
}

/// Shows that each kind of damage to the second extent of a store is an error, and leaves the others alone.
pub fn every_damage_is_an_error(client: &Arc<dyn Client>, store: &ObjectStore, prefix: &str) {
    let path = format!("{prefix}/extents/{:016x}", 1);
    write(store, 0, &noise(1, 3 * EXTENT)).unwrap();
    let mut good = Vec::new();
    change(client, &path, |bytes| good = bytes.clone());
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage); 6] = [
        ("a bit of the data", |bytes| bytes[40 + 5000] ^= 4),
        ("the last bit", |bytes| *bytes.last_mut().unwrap() ^= 0x80),
        ("a bit of the header", |bytes| bytes[20] ^= 1),
        ("cut", |bytes| bytes.truncate(5000)),
        ("longer", |bytes| bytes.push(0)),
        ("empty", |bytes| bytes.clear()),
    ];
    for (name, damage) in damages {
        change(client, &path, damage);
        for (offset, len) in [(EXTENT, 1), (0, 3 * EXTENT), (2 * EXTENT - 1, 1)] {
            let error = read(store, offset as u64, len).expect_err(name);
            assert_eq!(error.kind(), ErrorKind::InvalidData, "{name}");
            assert!(matches!(ours(error), Error::Damaged { extent: 1, .. }), "{name}");
        }
        // A part of it cannot be replaced, since the rest is lost; the whole of it can.
        write(store, EXTENT as u64, &[1; 100]).expect_err(name);
        assert!(read(store, 0, EXTENT).unwrap() == noise(1, EXTENT), "{name}");
        change(client, &path, |bytes| *bytes = good.clone());
        assert!(read(store, 0, 3 * EXTENT).unwrap() == noise(1, 3 * EXTENT), "{name}");
    }
    change(client, &path, |bytes| bytes.clear());
    write(store, EXTENT as u64, &noise(2, EXTENT)).unwrap();
    assert!(read(store, EXTENT as u64, EXTENT).unwrap() == noise(2, EXTENT));
}

#[test]
fn a_damaged_object_is_an_error_and_never_data() {
    let client: Arc<dyn Client> = Arc::new(InMemory::new());
    let store = builder(&client, "x").create(100_000).unwrap();
    every_damage_is_an_error(&client, &store, "x");
}

#[test]
fn an_object_of_another_place_or_another_store_is_an_error() {
    let client: Arc<dyn Client> = Arc::new(InMemory::new());
    let one = builder(&client, "one").create(100_000).unwrap();
    let two = builder(&client, "two").create(100_000).unwrap();
    for store in [&one, &two] {
        write(store, 0, &noise(1, 2 * EXTENT)).unwrap();
    }
    let mut first = Vec::new();
    change(&client, &format!("one/extents/{:016x}", 0), |bytes| first = bytes.clone());
    change(&client, &format!("one/extents/{:016x}", 1), |bytes| *bytes = first.clone());
    assert!(matches!(ours(read(&one, EXTENT as u64, 9).unwrap_err()), Error::Damaged { .. }));
    change(&client, &format!("two/extents/{:016x}", 0), |bytes| *bytes = first.clone());
    assert!(matches!(ours(read(&two, 0, 9).unwrap_err()), Error::Damaged { .. }));
}

#[test]
fn a_damaged_manifest_is_an_error() {
    let client: Arc<dyn Client> = Arc::new(InMemory::new());
    builder(&client, "x").create(100_000).unwrap();
    // "length 100000" to "length 900000".
    change(&client, "x/manifest", |bytes| bytes[24] = b'9');
    let error = builder(&client, "x").open().unwrap_err();
    assert!(matches!(error, Error::Manifest { .. }), "{error}");
    change(&client, "x/manifest", |bytes| bytes[15] = b'7');
    let error = builder(&client, "x").open().unwrap_err();
    assert!(error.to_string().contains("another version"), "{error}");
}
