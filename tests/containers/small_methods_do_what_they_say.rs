//! Views, questions and conversions of the containers: short methods whose answer is easily checked, and easily
//! forgotten.

use std::borrow::{Borrow, BorrowMut};
use std::error::Error as _;
use std::io::Write as _;

use crate::common::{not_here, sanitized};
use pagewise::{Arena, ConcurrentVec, PageVec, PushError};

#[test]
fn an_array_is_seen_as_a_slice_in_every_way() {
    let mut vec = PageVec::try_from_iter(10, [1, 2, 3]).unwrap();
    assert!(!vec.is_empty() && PageVec::<u8>::new(1).unwrap().is_empty());
    assert_eq!(AsRef::<[i32]>::as_ref(&vec), [1, 2, 3]);
    assert_eq!(Borrow::<[i32]>::borrow(&vec), [1, 2, 3]);
    AsMut::<[i32]>::as_mut(&mut vec)[0] = 4;
    BorrowMut::<[i32]>::borrow_mut(&mut vec)[1] = 5;
    assert_eq!(vec.drain(..1).as_ref(), [4]);
    assert_eq!(vec.clone().into_iter().as_ref(), [5, 3]);
    let mut back = vec.splice(.., []);
    assert_eq!((back.next_back(), back.next_back(), back.next_back()), (Some(3), Some(5), None));
    drop(back);
}

#[test]
fn a_leaked_array_is_a_slice_for_ever() {
    if cfg!(miri) || sanitized() {
        return not_here("an array that is leaked on purpose: it would be reported");
    }
    let leaked = PageVec::try_from_iter(10, [7, 8]).unwrap().leak();
    leaked[0] = 9;
    assert_eq!(leaked, [9, 8]);
}

#[test]
fn writing_says_how_much_was_written() {
    let mut bytes = PageVec::new(100).unwrap();
    assert_eq!(bytes.write(b"hello").unwrap(), 5);
    assert_eq!(bytes.write(b"").unwrap(), 0);
    assert_eq!(bytes, *b"hello");
}

#[test]
fn a_shared_array_answers_as_an_array_does() {
    let mut vec = ConcurrentVec::new(10).unwrap();
    assert!(vec.is_empty());
    vec.extend([1, 2, 3, 4]);
    assert!(!vec.is_empty());
    assert_eq!(vec.max_len(), 10);
    assert_eq!(vec.as_ref(), [1, 2, 3, 4]);
    vec.as_mut_slice()[0] = 5;
    let mut elements = vec.follow();
    assert_eq!((elements.size_hint(), elements.next()), ((4, None), Some(&5)));
    assert_eq!(elements.size_hint(), (3, None));
    assert_eq!(format!("{elements:?}"), "Follow([2, 3, 4])");
    assert_eq!(elements.nth(1), Some(&3));
    assert_eq!((elements.size_hint(), format!("{elements:?}")), ((1, None), "Follow([4])".into()));
    assert_eq!((elements.next(), elements.next()), (Some(&4), None));
    assert_eq!((elements.size_hint(), format!("{elements:?}")), ((0, None), "Follow([])".into()));
}

#[test]
fn a_refused_push_says_what_the_error_says() {
    let mut vec = PageVec::new(0).unwrap();
    let refused: PushError<u8> = vec.try_push(7).unwrap_err();
    let error = vec.try_reserve(1).unwrap_err();
    assert_eq!(refused.to_string(), error.to_string());
    assert!(!refused.to_string().is_empty());
    assert!(format!("{refused:?}").starts_with("PushError { error: "), "{refused:?}");
    assert!(refused.source().is_none());
}

#[test]
fn an_arena_knows_its_limit_and_reserves_what_it_is_told() {
    let page = pagewise::page_size();
    let arena = Arena::builder(100 * page).limit(40 * page).build().unwrap();
    assert_eq!((arena.limit(), arena.committed()), (40 * page, 0));
    arena.try_reserve(20 * page).unwrap();
    assert!(arena.committed() >= 20 * page);
    assert!(arena.try_reserve(50 * page).is_err());
    assert_eq!(arena.used(), 0);
}
