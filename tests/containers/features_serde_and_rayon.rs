//! The optional features: sequences in and out, and parallel iterators.
#![cfg(all(feature = "serde", feature = "rayon"))]

use std::sync::Arc;

use pagewise::PageVec;
use rayon::iter::{
    IndexedParallelIterator, IntoParallelIterator, ParallelExtend, ParallelIterator,
};
use serde::de::DeserializeSeed;

#[test]
fn a_sequence_comes_back_as_it_was() {
    let vec = PageVec::try_from_iter(10, [1u32, 2, 3]).unwrap();
    let text = serde_json::to_string(&vec).unwrap();
    assert_eq!(text, "[1,2,3]");
    let mut input = serde_json::Deserializer::from_str(&text);
    assert_eq!(PageVec::<u32>::builder(3).deserialize(&mut input).unwrap(), vec);
    let mut input = serde_json::Deserializer::from_str(&text);
    let error = PageVec::<u32>::builder(2).deserialize(&mut input).unwrap_err();
    assert!(error.to_string().contains("maximum"), "{error}");
}

#[test]
fn parallel_iterators_see_every_element_once() {
    let mut vec = PageVec::new(20_000).unwrap();
    vec.par_extend((0..10_000u64).into_par_iter());
    (&mut vec).into_par_iter().for_each(|n| *n += 1);
    assert_eq!((&vec).into_par_iter().sum::<u64>(), 50_005_000);
    let counted = Arc::new(());
    let shared = PageVec::try_from_iter(1000, (0..1000).map(|_| Arc::clone(&counted))).unwrap();
    let kept: Vec<_> = shared.into_par_iter().enumerate().filter(|(n, _)| n % 3 == 0).collect();
    assert!(kept.iter().map(|(n, _)| *n).eq((0..1000).step_by(3)));
    assert_eq!(Arc::strong_count(&counted), 1 + kept.len());
    let shared = PageVec::try_from_iter(1000, kept).unwrap();
    assert!(shared.into_par_iter().any(|_| true));
    assert_eq!(Arc::strong_count(&counted), 1, "what was not handed out is dropped");
}

#[test]
fn a_parallel_iterator_knows_its_length_and_can_go_backwards() {
    let vec = PageVec::try_from_iter(100, 0..100u32).unwrap();
    let iterator = vec.clone().into_par_iter();
    assert_eq!((iterator.len(), iterator.opt_len()), (100, Some(100)));
    let backwards: Vec<_> = iterator.rev().collect();
    assert!(backwards.into_iter().eq((0..100).rev()));
    // The producer hands elements out from its end, too.
    assert_eq!(vec.into_par_iter().enumerate().rev().find_first(|_| true), Some((99, 99)));
}

/// An iterator that does not know its length: what each thread has found is appended, in order.
#[test]
fn what_is_filtered_in_parallel_is_appended_in_order() {
    let mut vec = PageVec::try_from_iter(2_000, [7u32]).unwrap();
    vec.par_extend((0..1_000u32).into_par_iter().filter(|n| n % 3 != 1));
    let expected = [7].into_iter().chain((0..1_000).filter(|n| n % 3 != 1));
    assert!(vec.iter().copied().eq(expected));
}

/// Elements that were there when another one's computation panicked are dropped, and none is in the array.
#[test]
fn a_panic_while_extending_in_parallel_drops_what_was_there() {
    let counted = Arc::new(());
    let mut vec = PageVec::new(1000).unwrap();
    let elements = (0..1000).into_par_iter().map(|n| {
        assert_ne!(n, 999, "the last one");
        Arc::clone(&counted)
    });
    let extending = std::panic::AssertUnwindSafe(|| vec.par_extend(elements));
    std::panic::catch_unwind(extending).unwrap_err();
    assert!(vec.is_empty());
    assert_eq!(Arc::strong_count(&counted), 1);
}

#[test]
fn what_is_no_sequence_is_told_what_was_expected() {
    let mut input = serde_json::Deserializer::from_str("7");
    let error = PageVec::<u32>::builder(3).deserialize(&mut input).unwrap_err();
    assert!(error.to_string().contains("a sequence of at most 3 elements"), "{error}");
}
