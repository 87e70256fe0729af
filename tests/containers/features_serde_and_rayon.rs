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
