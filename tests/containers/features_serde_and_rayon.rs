//! The optional features: sequences in and out, and parallel iterators.
#![cfg(all(feature = "serde", feature = "rayon"))]

use std::sync::Arc;

use pagewise::{AtMost, ConcurrentVec, PageVec};
use rayon::iter::{
    IndexedParallelIterator, IntoParallelIterator, IntoParallelRefIterator,
    IntoParallelRefMutIterator, ParallelExtend, ParallelIterator,
};
use serde::de::DeserializeSeed;
use serde::{Deserialize, Serialize};

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

/// What a program that derives has.
#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Derived {
    #[serde(with = "AtMost::<3>")]
    own: PageVec<u32>,
    #[serde(with = "AtMost::<2>", default)]
    shared: ConcurrentVec<String>,
}

#[test]
fn a_struct_that_derives_states_the_maximum() {
    let text = r#"{"own":[1,2,3],"shared":["a"]}"#;
    let read: Derived = serde_json::from_str(text).unwrap();
    assert_eq!((&read.own, read.own.max_len()), (&PageVec::try_from([1, 2, 3]).unwrap(), 3));
    assert_eq!((read.shared.len(), read.shared.max_len()), (1, 2));
    assert_eq!(serde_json::to_string(&read).unwrap(), text);
    assert_eq!(serde_json::from_str::<Derived>(text).unwrap(), read);
    for long in [r#"{"own":[1,2,3,4]}"#, r#"{"own":[],"shared":["a","b","c"]}"#] {
        let error = serde_json::from_str::<Derived>(long).unwrap_err();
        assert!(error.to_string().contains("maximum"), "{error}");
    }
    assert!(
        serde_json::from_str::<Derived>(r#"{"own":7}"#)
            .unwrap_err()
            .to_string()
            .contains("at most 3")
    );
    assert_eq!(serde_json::from_str::<Derived>(r#"{"own":[]}"#).unwrap().shared.len(), 0);
}

#[test]
fn a_shared_array_comes_back_as_it_was() {
    let vec = ConcurrentVec::new(3).unwrap();
    vec.extend([1u32, 2, 3]);
    let text = serde_json::to_string(&vec).unwrap();
    let read = |max_len| {
        let mut input = serde_json::Deserializer::from_str(&text);
        ConcurrentVec::<u32>::builder(max_len).deserialize(&mut input)
    };
    let back = read(3).unwrap();
    assert_eq!((&back, back.try_push(4).is_err()), (&vec, true));
    assert!(read(2).is_err());
}

#[test]
fn many_threads_iterate_over_a_shared_array_and_extend_it() {
    let mut vec = ConcurrentVec::new(3000).unwrap();
    vec.par_extend((0..1000u64).into_par_iter());
    assert!(vec.iter().copied().eq(0..1000), "in the order of the iterator");
    vec.par_iter_mut().for_each(|n| *n += 1);
    assert_eq!(vec.par_iter().sum::<u64>(), 500_500);
    // Through `&`, in any order, while a thread pushes.
    let mut shared = &vec;
    std::thread::scope(|scope| {
        scope.spawn(|| vec.extend([0; 1000]));
        shared.par_extend((1001..2001u64).into_par_iter());
    });
    let mut all: Vec<u64> = vec.iter().copied().filter(|&n| n > 0).collect();
    all.sort_unstable();
    assert!(all.into_iter().eq(1..2001) && vec.len() == 3000);
    assert_eq!(vec.into_par_iter().max(), Some(2000));
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
