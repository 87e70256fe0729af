//! What every store promises, and what a store promises to the next process.

use std::path::PathBuf;
use std::sync::Arc;

use pagewise::PageStore;
use pagewise_stores::object_store::{local::LocalFileSystem, memory::InMemory};
use pagewise_stores::{Error, ObjectStore};

use crate::store_contract::{self as contract, noise, read, write};
use crate::{Client, builder, ours};

const LEN: u64 = 1_000_003;

fn in_memory() -> Arc<dyn Client> {
    Arc::new(InMemory::new())
}

#[test]
fn objects_in_memory_keep_the_contract_of_a_store() {
    // Pages smaller than an extent, as large, and larger.
    for granule in [1000, 4096, 16 << 10, 64 << 10] {
        for if_match in [false, true] {
            for len in [LEN, 80 * (16 << 10)] {
                let client = in_memory();
                let store = || builder(&client, "a/b").if_match(if_match);
                let created = store().create(len).unwrap();
                let len = created.len() as usize;
                assert_eq!(created.preferred_bytes(), Some(16 << 10));
                assert!(created.in_handler().is_none());
                if len <= 20 * granule {
                    continue;
                }
                let held = contract::a_new_store_keeps_the_contract(&created, granule, 18);
                drop(created);
                contract::holds(&store().open().unwrap(), &held);
            }
        }
    }
}

#[test]
fn objects_in_a_folder_keep_the_contract_of_a_store() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("objects");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let client: Arc<dyn Client> = Arc::new(LocalFileSystem::new_with_prefix(&folder).unwrap());
    let store = builder(&client, "array").create(LEN).unwrap();
    let held = contract::a_new_store_keeps_the_contract(&store, 4096, 19);
    drop(store);
    contract::holds(&builder(&client, "array").open().unwrap(), &held);
    // The layout is that of docs/stores.md.
    let manifest = std::fs::read_to_string(folder.join("array/manifest")).unwrap();
    assert!(
        manifest.starts_with("pagewise store 1\nlength 1000003\nextent 16384\nid "),
        "{manifest}"
    );
    let last = LEN / (16 << 10);
    let path = folder.join(format!("array/extents/{last:016x}"));
    assert_eq!(std::fs::metadata(path).unwrap().len(), 40 + LEN % (16 << 10));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_store_is_created_once_and_opened_as_it_was_created() {
    let client = in_memory();
    assert!(matches!(builder(&client, "x").open(), Err(Error::NotFound)));
    builder(&client, "x").extent_bytes(8192).create(100_000).unwrap();
    assert!(matches!(builder(&client, "x").create(100_000), Err(Error::AlreadyExists)));
    // Not even to the same process is a second store the first one.
    let opened = builder(&client, "x").extent_bytes(4096).open().unwrap();
    assert_eq!((opened.len(), opened.preferred_bytes()), (100_000, Some(8192)));
    builder(&client, "y").create(100_000).unwrap();
}

#[test]
fn stores_under_other_prefixes_are_other_stores() {
    let client = in_memory();
    let one = builder(&client, "one").create(100_000).unwrap();
    let two = builder(&client, "one/more").create(100_000).unwrap();
    write(&one, 0, &noise(1, 100_000)).unwrap();
    assert!(read(&two, 0, 100_000).unwrap().iter().all(|&byte| byte == 0));
    write(&two, 0, &noise(2, 100_000)).unwrap();
    contract::holds(&one, &noise(1, 100_000));
    contract::holds(&two, &noise(2, 100_000));
}

#[test]
fn a_second_writer_is_an_error_where_objects_are_replaced_on_a_condition() {
    let client = in_memory();
    let store = || builder(&client, "one").if_match(true);
    let first = store().create(100_000).unwrap();
    write(&first, 0, &noise(1, 100_000)).unwrap();
    let second = store().open().unwrap();
    write(&second, 16 << 10, &noise(2, 16 << 10)).unwrap();
    let refused = ours(write(&first, 16 << 10, &noise(3, 16 << 10)).unwrap_err());
    assert!(matches!(refused, Error::OtherWriter { extent: 1 }), "{refused}");
    assert_eq!(read(&first, 16 << 10, 16 << 10).unwrap(), noise(2, 16 << 10));
    // What the second has not written is still the first's.
    write(&first, 0, &noise(4, 16 << 10)).unwrap();
    // An extent that both see for the first time has one of them as its writer.
    let third = store().open().unwrap();
    write(&third, 96 << 10, &noise(5, 100)).unwrap();
    write(&first, 96 << 10, &noise(6, 100)).expect_err("two writers");
}

#[test]
fn settings_that_make_no_store_are_errors() {
    let client = in_memory();
    let nothing_runs_it = ObjectStore::builder(client.clone(), "x").create(1);
    assert!(matches!(nothing_runs_it, Err(Error::Setting(what)) if what.contains("threads")));
    for extent in [0, 1, 5000, 2048, 128 << 20] {
        let refused = builder(&client, "x").extent_bytes(extent).create(1);
        assert!(matches!(refused, Err(Error::Setting(_))), "{extent}");
    }
    assert!(matches!(builder(&client, "x").open(), Err(Error::NotFound)), "it was made");
}

#[test]
fn a_program_lends_its_own_runtime_and_may_call_from_it() {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
    let client = in_memory();
    // On a thread that blocks in the middle of a runtime, where a nested one would panic.
    runtime.block_on(async {
        let store =
            builder(&client, "x").runtime(runtime.handle().clone()).create(100_000).unwrap();
        write(&store, 5, &noise(1, 50_000)).unwrap();
        assert_eq!(read(&store, 5, 50_000).unwrap(), noise(1, 50_000));
        let with_a_thread = builder(&client, "x").open().unwrap();
        assert_eq!(read(&with_a_thread, 5, 50_000).unwrap(), noise(1, 50_000));
        drop(with_a_thread);
    });
    let store = builder(&client, "x").runtime(runtime.handle().clone()).open().unwrap();
    drop(runtime);
    let ended = ours(read(&store, 0, 1).unwrap_err());
    assert!(matches!(ended, Error::RuntimeEnded), "{ended}");
}
