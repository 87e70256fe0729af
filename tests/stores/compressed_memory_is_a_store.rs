//! Compressed memory as a store.

use crate::store_contract::{self as contract, noise, read, text, write};
use pagewise::{MemoryStore, PageStore};

#[test]
fn compressed_memory_keeps_the_contract_of_a_store() {
    for (extent, granule) in [(4096, 4096), (16 << 10, 4096), (4096, 16 << 10), (64 << 10, 1)] {
        for len in [1_000_003, 1 << 20] {
            let store = MemoryStore::with_extents(len, extent);
            assert_eq!(store.preferred_bytes(), Some(extent));
            assert!(store.in_handler().is_none(), "it takes locks");
            contract::a_new_store_keeps_the_contract(&store, granule, 17);
        }
    }
}

#[test]
fn zeros_cost_nothing_and_what_compresses_little() {
    let store = MemoryStore::new(1 << 40);
    assert_eq!(store.stored_bytes(), 0);
    let len = 1 << 20;
    let at = 77 << 30;
    write(&store, at, &noise(1, len)).unwrap();
    assert_eq!(store.stored_bytes(), len, "what does not compress is kept as it is");
    write(&store, at, &text(1, len)).unwrap();
    assert!((1..len / 3).contains(&store.stored_bytes()), "{}", store.stored_bytes());
    let before = store.stored_bytes();
    write(&store, at + 100, &text(1, len)[100..200]).unwrap();
    assert_eq!(store.stored_bytes(), before, "the same bytes again");
    write(&store, at, &vec![0; len]).unwrap();
    assert_eq!(store.stored_bytes(), 0);
    assert!(read(&store, at, len).unwrap().iter().all(|&byte| byte == 0));
    // A part of an extent that nobody wrote, and its last byte back to zero.
    write(&store, at + 5, &[9]).unwrap();
    assert!(store.stored_bytes() > 0);
    write(&store, at + 5, &[0]).unwrap();
    assert_eq!(store.stored_bytes(), 0);
}

#[test]
#[should_panic(expected = "extents of 5000 bytes")]
fn extents_are_powers_of_two() {
    let _ = MemoryStore::with_extents(1 << 20, 5000);
}
