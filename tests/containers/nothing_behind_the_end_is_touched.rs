//! Arrays that fill their committed memory to its last byte: what moves elements touches nothing behind them. (On
//! real systems, an access there is a fault.)

use pagewise::{PageVec, page_size};

/// A page of bytes, and addresses behind it that are not committed.
fn full_page() -> PageVec<u8> {
    let mut vec = PageVec::new(4 * page_size()).unwrap();
    vec.try_reserve_exact(page_size()).unwrap();
    vec.extend((0..page_size()).map(|n| n as u8));
    assert_eq!(vec.committed(), page_size());
    vec
}

fn bytes() -> impl DoubleEndedIterator<Item = u8> {
    (0..page_size()).map(|n| n as u8)
}

#[test]
fn taking_elements_out_of_a_full_page() {
    let everywhere = [0, 1, page_size() / 2, page_size() - 1];
    for &index in &everywhere[..if cfg!(miri) { 1 } else { 4 }] {
        let mut vec = full_page();
        assert_eq!(vec.remove(index), index as u8);
        assert!(vec.iter().copied().eq(bytes().take(index).chain(bytes().skip(index + 1))));
        let mut vec = full_page();
        assert_eq!(vec.swap_remove(index), index as u8);
        let mut vec = full_page();
        vec.drain(..index);
        assert!(vec.iter().copied().eq(bytes().skip(index)));
        let mut vec = full_page();
        vec.retain(|&byte| byte != index as u8);
        assert!(vec.len() < page_size());
    }
}

#[test]
fn splitting_needs_room_for_what_moves_and_no_more() {
    // All that the other array may hold is the second half.
    let mut vec = PageVec::builder(1000).build().unwrap();
    vec.extend(0..1000u16);
    let tail = vec.split_off(600);
    assert!(vec.iter().copied().eq(0..600) && tail.iter().copied().eq(600..1000));
}

/// A splice whose iterator says too little about its length puts in all of it.
#[test]
fn a_splice_takes_more_than_its_iterator_announced() {
    let mut vec = PageVec::try_from_iter(100, 0..10).unwrap();
    let modest = [20, 21].into_iter().chain((22..30).filter(|_| true));
    assert_eq!(modest.size_hint().0, 2);
    assert!(vec.splice(3..4, modest).eq([3]));
    assert!(vec.iter().copied().eq((0..3).chain(20..30).chain(4..10)));
}

/// At the end, a splice keeps what was granted before growth was refused.
#[test]
fn a_splice_at_the_end_puts_in_what_fits() {
    let mut vec = PageVec::try_from_iter(8, 0..4).unwrap();
    let unannounced = (10..100).filter(|_| true);
    let spliced = std::panic::AssertUnwindSafe(|| drop(vec.splice(3.., unannounced)));
    std::panic::catch_unwind(spliced).unwrap_err();
    assert_eq!(vec, [0, 1, 2, 10, 11, 12, 13, 14]);
}
