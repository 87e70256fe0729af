//! Many threads append, others read: readers always see complete elements, every element is there
//! once, and every element is dropped once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use pagewise::ConcurrentVec;

const WRITERS: usize = 8;
const EACH: usize = if cfg!(miri) { 50 } else { 20_000 };

#[test]
fn eight_writers_and_two_readers() {
    let vec = ConcurrentVec::new(WRITERS * EACH).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (vec, done) = (&vec, &done);
        for _ in 0..2 {
            scope.spawn(move || {
                let (mut seen, mut last) = (0, [None; WRITERS]);
                while !done.load(Ordering::Relaxed) {
                    let all: &[[usize; 3]] = vec.as_slice();
                    for &[writer, n, sum] in &all[seen..] {
                        assert_eq!(sum, writer ^ n, "an element is complete when it is seen");
                        assert!(last[writer].is_none_or(|before| before < n), "in order");
                        last[writer] = Some(n);
                    }
                    assert!(seen <= all.len(), "the length only grows");
                    seen = all.len();
                }
            });
        }
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                scope.spawn(move || {
                    for n in 0..EACH {
                        let index = vec.push([writer, n, writer ^ n]);
                        assert_eq!(vec[index], [writer, n, writer ^ n]);
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::Relaxed);
    });
    let mut all: Vec<_> = vec.iter().map(|&[writer, n, _]| (writer, n)).collect();
    all.sort_unstable();
    let expected = (0..WRITERS).flat_map(|writer| (0..EACH).map(move |n| (writer, n)));
    assert!(all.into_iter().eq(expected), "every element is there once");
}

/// An element of a slice that readers see as a whole or not at all. It has its place in the slice.
const SLICE: usize = 7;

#[test]
fn slices_are_published_together() {
    // Refused now and then: the room ends in the middle of a slice.
    const ROUNDS: usize = if cfg!(miri) { 20 } else { 4_000 };
    const PUBLISHED: usize = 4 * ROUNDS - 5;
    let vec = ConcurrentVec::new(PUBLISHED * SLICE + SLICE - 1).unwrap();
    let (done, seen_by_others) = (AtomicBool::new(false), AtomicUsize::new(0));
    let slice = |writer: usize, n: usize| -> [[usize; 3]; SLICE] {
        std::array::from_fn(|place| [writer + 1, n, place])
    };
    let refused: usize = std::thread::scope(|scope| {
        let (vec, done, seen_by_others) = (&vec, &done, &seen_by_others);
        // Threads that only read: they see what other threads published.
        for _ in 0..2 {
            scope.spawn(move || {
                let mut seen = 0;
                loop {
                    let last = done.load(Ordering::Acquire);
                    let all: &[[usize; 3]] = vec.as_slice();
                    assert_eq!(all.len() % SLICE, 0, "a slice is seen in part");
                    for new in all[seen..].chunks_exact(SLICE) {
                        let [writer, n, _] = new[0];
                        assert!((1..=4).contains(&writer), "{new:?}");
                        assert_eq!(new, slice(writer - 1, n), "a slice is seen before it is there");
                    }
                    if !last {
                        seen_by_others.fetch_add(all.len() - seen, Ordering::Relaxed);
                    }
                    seen = all.len();
                    if last {
                        return assert_eq!(seen, PUBLISHED * SLICE);
                    }
                }
            });
        }
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                scope.spawn(move || {
                    let mut refused = 0;
                    for n in 0..ROUNDS {
                        // The second half is pushed after readers have seen some of the first.
                        while n == ROUNDS / 2 && seen_by_others.load(Ordering::Relaxed) == 0 {
                            std::thread::yield_now();
                        }
                        match vec.try_extend_from_slice(&slice(writer, n)) {
                            Ok(first) => {
                                assert_eq!(vec.as_slice()[first..first + SLICE], slice(writer, n));
                            }
                            Err(_) => refused += 1,
                        }
                    }
                    refused
                })
            })
            .collect();
        let refused = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
        done.store(true, Ordering::Release);
        refused
    });
    assert_eq!((vec.len(), refused), (PUBLISHED * SLICE, 4 * ROUNDS - PUBLISHED));
    // A refused slice is not in the array, and took no room.
    let vec_len = vec.len();
    assert!(vec.try_extend_from_slice(&[[9; 3]; SLICE]).is_err());
    assert_eq!(vec.len(), vec_len);
    assert_eq!(vec.try_extend_from_slice(&[[9; 3]; SLICE - 1]).unwrap(), vec_len);
    assert_eq!(vec.as_slice()[vec_len..], [[9; 3]; SLICE - 1]);
}

#[test]
fn every_element_is_dropped_once() {
    let counted = Arc::new(());
    let mut vec = ConcurrentVec::new(10_000).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    vec.push(Arc::clone(&counted));
                }
            });
        }
    });
    assert_eq!(Arc::strong_count(&counted), 401);
    vec.clear();
    assert_eq!((vec.len(), Arc::strong_count(&counted)), (0, 1));
    vec.push(Arc::clone(&counted));
    let mut page_vec = vec.into_page_vec();
    page_vec.push(Arc::clone(&counted));
    let vec = ConcurrentVec::from(page_vec);
    vec.push(Arc::clone(&counted));
    assert_eq!((vec.len(), Arc::strong_count(&counted)), (3, 4));
    assert_eq!(vec.into_iter().count(), 3);
    assert_eq!(Arc::strong_count(&counted), 1);
}

#[test]
fn a_follower_goes_on_with_what_was_pushed_meanwhile() {
    let vec = ConcurrentVec::new(10).unwrap();
    vec.push(1);
    let mut follower = vec.follow();
    assert_eq!((follower.next(), follower.next(), follower.position()), (Some(&1), None, 1));
    vec.push(2);
    assert_eq!(follower.clone().size_hint(), (1, None));
    assert_eq!(follower.next(), Some(&2));
    assert_eq!(vec.follow_from(1).next(), Some(&2));
    assert_eq!(vec.follow_from(2).next(), None);
}

/// What `iter` iterates over is published when it is called: so it knows its length, and goes both ways.
#[test]
fn an_iterator_has_an_end() {
    let vec = ConcurrentVec::new(10).unwrap();
    vec.extend([1, 2, 3]);
    let mut iter = vec.iter();
    vec.push(4);
    assert_eq!((iter.len(), iter.next_back(), iter.next()), (3, Some(&3), Some(&1)));
    assert_eq!((iter.next(), iter.next(), iter.next()), (Some(&2), None, None));
    assert!(vec.iter().rev().eq(&[4, 3, 2, 1]) && (&vec).into_iter().count() == 4);
}

#[test]
fn zero_sized_elements_are_counted() {
    let vec = ConcurrentVec::new(usize::MAX).unwrap();
    for _ in 0..1000 {
        vec.push(());
    }
    assert_eq!((vec.len(), vec.as_slice().len(), vec.committed()), (1000, 1000, 0));
}
