//! The memory below an array can be looked at, prefaulted and locked; its pages stay as the array needs them.

use pagewise::{Error, PageVec, page_size};

#[test]
fn a_view_says_what_the_array_has() {
    let mut vec =
        PageVec::<u8>::builder(100 * page_size()).limit(10 * page_size()).build().unwrap();
    let view = vec.memory();
    assert_eq!((view.len(), view.committed(), view.peak()), (100 * page_size(), 0, 0));
    assert_eq!((view.limit(), vec.limit()), (10 * page_size(), 10 * page_size()));
    assert_eq!(view.page_size(), page_size());
    vec.reserve_exact(3 * page_size());
    vec.shrink_to(page_size());
    let view = vec.memory();
    assert_eq!((view.committed(), view.peak()), (page_size(), 3 * page_size()));
    assert!(!view.is_empty());
}

/// (Miri's simulated system tells of no resident pages.)
#[test]
fn the_page_map_shows_what_was_prefaulted() {
    let mut vec = PageVec::<u8>::new(8 * page_size()).unwrap();
    vec.reserve_exact(3 * page_size());
    let map = vec.page_map().unwrap();
    assert_eq!((map.pages(), map.committed()), (8, 3));
    vec.memory().prefault(page_size()..2 * page_size()).unwrap();
    if crate::common::emulated() {
        crate::common::not_here("residency: page tables are the emulator's");
    } else if cfg!(all(target_os = "linux", not(miri), not(pagewise_model))) {
        let resident: Vec<_> =
            (0..3).map(|page| vec.page_map().unwrap().page(page).resident).collect();
        assert!(resident[1], "{resident:?}");
    }
    vec.memory().prefault(..).unwrap();
    assert_eq!(vec.memory().page_map().unwrap().committed(), 3);
}

#[test]
fn ranges_are_checked() {
    let mut vec = PageVec::<u8>::new(8 * page_size()).unwrap();
    vec.reserve_exact(2 * page_size());
    let view = vec.memory();
    let beyond = view.prefault(..2 * page_size() + 1);
    assert!(matches!(beyond, Err(Error::NotCommitted { .. })), "{beyond:?}");
    assert!(matches!(view.lock(9 * page_size()..), Err(Error::ReversedRange { .. })));
    assert!(matches!(view.unlock(..=8 * page_size()), Err(Error::OutOfBounds { .. })));
    view.prefault(2 * page_size()..).unwrap();
}

#[test]
fn an_array_without_memory_has_a_view_of_nothing() {
    for vec in [PageVec::<()>::new(1000).unwrap(), PageVec::new(0).unwrap()] {
        let view = vec.memory();
        assert!(view.is_empty());
        assert_eq!((view.len(), view.committed(), view.peak(), view.limit()), (0, 0, 0, 0));
        assert_eq!(view.page_map().unwrap().pages(), 0);
        view.prefault(..).unwrap();
        view.lock(0..0).unwrap();
        view.unlock(..0).unwrap();
        assert!(matches!(view.lock(..1), Err(Error::OutOfBounds { len: 0, .. })));
    }
}

/// The system may keep locked memory when elements are removed: the array goes on either way.
#[test]
fn an_array_whose_memory_is_locked_goes_on() {
    let mut vec = PageVec::new(1 << 20).unwrap();
    vec.extend(0..4 * page_size());
    if let Err(error) = vec.memory().lock(..page_size()) {
        assert!(matches!(error, Error::Locked { .. }), "{error}");
    }
    vec.truncate(1);
    vec.shrink_to_fit();
    vec.extend(1..1000);
    assert!(vec.iter().copied().eq(0..1000));
    vec.clear();
    vec.shrink_to_fit();
    let _ = vec.memory().unlock(..);
    vec.shrink_to_fit();
    vec.extend(0..1000);
    assert!(vec.iter().copied().eq(0..1000));
}

#[test]
fn the_first_element_is_aligned_as_asked_and_as_it_needs() {
    #[repr(align(64))]
    struct Line;
    let align = 4 * page_size();
    let vec = PageVec::<u8>::builder(1000).align(align).build().unwrap();
    assert_eq!(vec.as_ptr().addr() % align, 0);
    assert_eq!(vec.clone().as_ptr().addr() % align, 0, "a clone has the same options");
    let vec = PageVec::<Line>::builder(1000).align(1).build().unwrap();
    assert_eq!(vec.as_ptr().addr() % 64, 0);
    let bad = PageVec::<u64>::builder(1000).align(3).build();
    assert!(matches!(bad, Err(Error::BadAlignment { align: 3 })));
}
