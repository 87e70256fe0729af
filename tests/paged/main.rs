//! Regions whose pages come from a store. (On systems without them: that they say so.)
#![cfg(not(pagewise_model))]
#![cfg_attr(not(target_os = "linux"), allow(dead_code))]

#[path = "../common/mod.rs"]
mod common;
mod stores;

#[cfg(target_os = "linux")]
mod a_child_leaves_the_region_to_its_parent;
#[cfg(target_os = "linux")]
mod behaves_as_a_plain_array;
#[cfg(target_os = "linux")]
mod clean_pages_are_dropped;
#[cfg(target_os = "linux")]
mod corners_hold;
#[cfg(target_os = "linux")]
mod faults_say_what_they_did;
#[cfg(target_os = "linux")]
mod files_are_larger_than_memory;
#[cfg(target_os = "linux")]
mod lent_threads_read_ahead;
#[cfg(target_os = "linux")]
mod no_more_memory_than_the_limit;
#[cfg(target_os = "linux")]
mod pages_in_use_stay;
#[cfg(target_os = "linux")]
mod threads_share_an_array;
#[cfg(target_os = "linux")]
mod what_a_store_cannot_do_is_an_error;

/// Where there are no paged regions, building one says so, and the store is not touched.
#[test]
#[cfg(not(target_os = "linux"))]
fn other_systems_say_that_they_have_none() {
    let store = stores::InTheHandler(stores::Heap::new(vec![1; 1 << 20]));
    let built = pagewise::PagedRegion::builder(store).build();
    assert!(matches!(built, Err(pagewise::Error::Unsupported { .. })), "{built:?}");
}
