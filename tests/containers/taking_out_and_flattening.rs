//! Every way to take elements out of an array yields them in order, and keeps the others.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use pagewise::{Budget, PageVec};

fn numbers(count: u32) -> PageVec<Box<u32>> {
    PageVec::try_from_iter(100, (0..count).map(Box::new)).unwrap()
}

#[test]
fn what_a_drain_did_not_hand_out_can_stay() {
    for (taken_in_front, taken_behind) in [(0, 0), (1, 0), (0, 2), (2, 1), (3, 2)] {
        let mut vec = numbers(10);
        let mut drain = vec.drain(2..7);
        let front = drain.by_ref().take(taken_in_front).count();
        let behind = drain.by_ref().rev().take(taken_behind).count();
        drain.keep_rest();
        let gone = (2 + front as u32..7 - behind as u32).collect::<Vec<_>>();
        let expected = (0..10).filter(|n| !(2..7).contains(n) || gone.contains(n));
        assert!(vec.iter().map(|n| **n).eq(expected), "{vec:?}");
        assert_eq!(vec.len(), 10 - front - behind);
        vec.push(Box::new(10));
        assert_eq!(*vec[vec.len() - 1], 10);
    }
}

#[test]
fn elements_that_a_predicate_panics_on_stay() {
    let mut vec = numbers(10);
    let mut seen = 0;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        vec.extract_if(1..9, |n| {
            seen += 1;
            assert!(seen < 5, "on purpose");
            **n % 2 == 1
        })
        .count()
    }));
    assert!(outcome.is_err());
    assert!(vec.iter().map(|n| **n).eq([0, 2, 4, 5, 6, 7, 8, 9]), "{vec:?}");
}

#[test]
fn an_extraction_that_is_dropped_or_forgotten_early_drops_nothing_twice() {
    let counted = Rc::new(());
    let new = || {
        PageVec::try_from_iter(10, std::iter::repeat_with(|| Rc::clone(&counted)).take(10)).unwrap()
    };
    let mut vec = new();
    let mut extracted = vec.extract_if(.., |_| true);
    assert_eq!(
        (extracted.size_hint(), format!("{extracted:?}").contains("peek")),
        ((0, Some(10)), true)
    );
    drop((extracted.next(), extracted.next()));
    drop(extracted);
    assert_eq!((vec.len(), Rc::strong_count(&counted)), (8, 9));
    drop(vec);
    assert_eq!(Rc::strong_count(&counted), 1);
    let mut vec = new();
    let mut extracted = vec.extract_if(.., |_| true);
    let kept = extracted.next();
    std::mem::forget(extracted);
    assert_eq!(vec.len(), 0, "leaked, as a forgotten iterator of a Vec leaks them");
    drop((kept, vec));
    assert_eq!(Rc::strong_count(&counted), 10);
    for _ in 0..9 {
        // SAFETY: nine clones were leaked; without them, nothing is left for a search for leaks.
        unsafe { Rc::decrement_strong_count(Rc::as_ptr(&counted)) };
    }
}

/// So large that a few hundred are enough to have memory to give back.
type Large = [u64; 512];

#[test]
fn what_stays_is_good_after_memory_was_given_back_and_taken_again() {
    type Remove = fn(&mut PageVec<Large>);
    let ways: [Remove; 9] = [
        |vec| vec.truncate(1),
        |vec| vec.retain(|n| n[0] == 0),
        |vec| vec.dedup_by_key(|_| ()),
        |vec| drop(vec.drain(1..)),
        |vec| drop(vec.splice(1.., [])),
        |vec| vec.extract_if(1.., |_| true).for_each(drop),
        |vec| drop(vec.split_off(1)),
        |vec| while vec.len() > 1 && vec.pop().is_some() {},
        |vec| while vec.len() > 1 && vec.swap_remove(1)[0] > 0 {},
    ];
    for (way, remove) in ways.into_iter().enumerate() {
        let mut vec = PageVec::new(1 << 10).unwrap();
        for round in 0..2 {
            vec.extend((vec.len() as u64..256).map(|n| [n; 512]));
            assert!(
                vec.iter().enumerate().all(|(n, large)| large[511] == n as u64),
                "{way} {round}"
            );
            remove(&mut vec);
            assert_eq!((vec.len(), vec[0][511]), (1, 0));
            assert!(vec.committed() <= 3 * (64 << 10), "{way}: {}", vec.committed());
        }
    }
}

#[test]
fn flattening_moves_nothing_and_the_array_goes_on_growing() {
    let budget = Budget::new(1 << 20);
    let mut pairs = PageVec::builder(1000).budget(budget.clone()).build().unwrap();
    pairs.extend((0..100).map(|n| [n.to_string(), (n + 1).to_string()]));
    let (address, committed) = (pairs.as_ptr().cast::<String>(), pairs.committed());
    let mut flat = pairs.into_flattened();
    assert_eq!((flat.as_ptr(), flat.committed(), flat.len()), (address, committed, 200));
    assert_eq!((flat.max_len(), budget.used()), (2000, committed));
    assert_eq!((&*flat[0], &*flat[1], &*flat[199]), ("0", "1", "100"));
    flat.extend((200..2000).map(|n: u32| n.to_string()));
    assert_eq!((flat.len(), &*flat[1999]), (2000, "1999"));
    assert!(flat.try_push(String::new()).is_err());
    assert_eq!(flat.as_ptr(), address);
    assert_eq!(flat.clone(), flat);
    flat.truncate(1);
    flat.shrink_to_fit();
    assert_eq!(flat.committed(), pagewise::page_size());
    drop(flat);
    assert_eq!(budget.used(), 0);
}

#[test]
fn flattening_elements_without_a_size() {
    let empty = PageVec::try_from_iter(10, [[0u64; 0]; 10]).unwrap().into_flattened();
    assert_eq!((empty.len(), empty.max_len(), empty.capacity()), (0, 0, 0));
    assert_eq!(empty, Vec::from([[0u64; 0]; 10]).into_flattened());
    let units = PageVec::try_from_iter(10, [[(); 3]; 4]).unwrap();
    let mut units = units.into_flattened();
    assert_eq!((units.len(), units.max_len()), (12, 30));
    units.push(());
    assert_eq!(units.len(), 13);
    let mut none = PageVec::<[u64; 2]>::new(0).unwrap().into_flattened();
    assert!(none.try_push(1).is_err());
}
