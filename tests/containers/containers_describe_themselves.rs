//! `{:?}` of the containers, their builders and iterators is short, and shows what the user set or can use.
//! (Arrays print their elements, as `Vec` does.)

use pagewise::{Arena, ConcurrentVec, PageVec};

#[test]
fn builders_say_what_they_were_told() {
    let vec = PageVec::<u64>::builder(1000).at_least(10).limit(1 << 20).name("log");
    assert_eq!(
        format!("{vec:?}"),
        r#"PageVecBuilder { max_len: 1000, at_least: 10, limit: 1048576, name: "log", .. }"#
    );
    let vec = PageVec::<u64>::builder(1000).keep_committed(true);
    assert_eq!(format!("{vec:?}"), "PageVecBuilder { max_len: 1000, keep_committed: true, .. }");
    let shared = ConcurrentVec::<u64>::builder(1000).limit(1 << 20);
    assert_eq!(format!("{shared:?}"), "ConcurrentVecBuilder { max_len: 1000, limit: 1048576, .. }");
    let arena = Arena::builder(1 << 20).name("round");
    assert_eq!(format!("{arena:?}"), r#"ArenaBuilder { max_bytes: 1048576, name: "round", .. }"#);
}

#[test]
fn an_arena_and_its_places_say_how_far_it_is_filled() {
    let arena = Arena::new(1 << 20).unwrap();
    arena.alloc_slice_copy(&[1u8; 100]);
    let committed = arena.committed();
    assert_eq!(
        format!("{arena:?}"),
        format!("Arena {{ used: 100, committed: {committed}, max_bytes: 1048576, .. }}")
    );
    assert_eq!(format!("{:?}", arena.checkpoint()), "Checkpoint { offset: 100, .. }");
}

#[test]
fn arrays_and_their_iterators_print_elements() {
    let mut vec = PageVec::try_from_iter(10, 0..6).unwrap();
    assert_eq!(format!("{vec:?}"), "[0, 1, 2, 3, 4, 5]");
    assert_eq!(format!("{:?}", vec.drain(4..)), "Drain([4, 5])");
    assert_eq!(format!("{:?}", vec.splice(3.., [])), "Splice(Drain([3]))");
    assert_eq!(format!("{:?}", vec.extract_if(1.., |_| true)), "ExtractIf { peek: Some(1), .. }");
    assert_eq!(format!("{:?}", vec.clone().into_iter()), "IntoIter([0, 1, 2])");
    let shared = ConcurrentVec::from(vec);
    assert_eq!(format!("{shared:?}"), "[0, 1, 2]");
    let mut follower = shared.follow();
    follower.next();
    assert_eq!(format!("{follower:?}"), "Follow([1, 2])");
}

#[cfg(feature = "zerocopy")]
#[test]
fn a_demand_array_is_described_without_being_looked_at() {
    use pagewise::DemandArray;
    let builder = DemandArray::<u64>::builder(1 << 16).limit(1 << 20).name("table");
    assert_eq!(
        format!("{builder:?}"),
        r#"DemandArrayBuilder { len: 65536, limit: 1048576, name: "table", .. }"#
    );
    let array = builder.build().unwrap();
    assert_eq!(format!("{array:?}"), "DemandArray { len: 65536, committed: 0, .. }");
}
