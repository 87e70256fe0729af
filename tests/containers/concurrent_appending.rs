//! Every way to append to a `ConcurrentVec`, to have it to itself, to convert it and to compare it.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pagewise::{Budget, ConcurrentVec, Error, PageVec, page_size};

const THREADS: usize = 4;
const EACH: usize = if cfg!(miri) { 20 } else { 5_000 };

#[test]
fn an_element_that_is_made_knows_its_index() {
    let vec = ConcurrentVec::new(THREADS * EACH).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..EACH {
                    let index = vec.push_with(|index| {
                        assert_eq!(vec.len(), index, "nothing is published meanwhile");
                        (index, index * 3)
                    });
                    assert_eq!(vec[index], (index, index * 3));
                }
            });
        }
    });
    assert_eq!(vec.len(), THREADS * EACH);
    assert!(vec.iter().enumerate().all(|(index, made)| *made == (index, index * 3)));
}

#[test]
fn where_making_panics_nothing_is_published_and_the_array_goes_on() {
    let counted = Arc::new(());
    let vec = ConcurrentVec::new(10).unwrap();
    vec.push(Arc::clone(&counted));
    for _ in 0..2 {
        let own = Arc::clone(&counted);
        let panics = catch_unwind(AssertUnwindSafe(|| {
            vec.push_with(|index| {
                assert!(Arc::strong_count(&own) == 0, "making element {index} panics");
                own
            })
        }));
        assert!(panics.is_err());
        assert_eq!((vec.len(), Arc::strong_count(&counted)), (1, 2));
    }
    // Also by another thread, which would wait for a lock that the panic left behind.
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(vec.push_with(|_| Arc::clone(&counted)), 1));
    });
    assert_eq!((vec.len(), vec.push(Arc::clone(&counted))), (2, 2));
}

#[test]
fn what_was_made_in_vain_comes_back() {
    let vec = ConcurrentVec::new(1).unwrap();
    assert_eq!(vec.try_push_with(|index| format!("{index}")).unwrap(), 0);
    let refused = vec.try_push_with(|index| format!("{index}")).unwrap_err();
    assert!(matches!(refused.error(), Error::Full { len: 1, .. }));
    assert_eq!((refused.into_value().as_deref(), vec.len()), (Some("1"), 1));
    let lazy = ConcurrentVec::<u64>::lazy(usize::MAX);
    let refused = lazy.try_push_with(|_| unreachable!("there is no place for it")).unwrap_err();
    assert!(matches!(refused.error(), Error::Overflow { .. }));
    assert_eq!(refused.into_value(), None);
}

#[test]
fn threads_extend_through_a_shared_reference() {
    let vec = ConcurrentVec::new(2 * THREADS * EACH).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let vec = &vec;
            let numbers = move || (0..EACH).map(move |n| thread * EACH + n);
            scope.spawn(move || {
                vec.extend(numbers());
                let copied: Vec<usize> = numbers().collect();
                let mut through_the_trait = vec;
                Extend::extend(&mut through_the_trait, &copied);
            });
        }
    });
    let mut all = vec.to_vec();
    all.sort_unstable();
    assert!(all.into_iter().eq((0..THREADS * EACH).flat_map(|n| [n, n])));
}

#[test]
fn an_iterator_may_push_to_the_array_that_it_extends() {
    let vec = ConcurrentVec::new(10).unwrap();
    vec.extend((0..2).map(|n| n + 10 * vec.push(n)));
    assert_eq!(vec, [0, 0, 1, 21]);
    let full = ConcurrentVec::new(2).unwrap();
    let mut source = 1..;
    let refused = full.try_extend(&mut source).unwrap_err();
    assert_eq!((&full[..], refused.into_value(), source.next()), (&[1, 2][..], 3, Some(4)));
}

#[test]
fn lines_of_several_threads_stay_whole() {
    // Room for half a line more than they write.
    let log = ConcurrentVec::<u8>::new(THREADS * EACH * 4 + 2).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let mut log = &log;
            scope.spawn(move || {
                for _ in 0..EACH {
                    let line = [b'a' + thread as u8, b'-', b'a' + thread as u8, b'\n'];
                    assert_eq!(log.write(&line).unwrap(), 4);
                }
            });
        }
    });
    assert_eq!(log.len(), THREADS * EACH * 4);
    assert!(log.chunks(4).all(|line| line[0] == line[2] && line[3] == b'\n'));
    let mut log = log;
    let refused = log.write_all(b"full").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::OutOfMemory);
    assert_eq!(log.len(), THREADS * EACH * 4);
}

#[test]
fn whoever_has_the_array_alone_can_change_it() {
    let counted = Arc::new(());
    let mut vec = ConcurrentVec::new(4).unwrap();
    vec.push_mut((1, Arc::clone(&counted))).0 += 10;
    vec.push((2, Arc::clone(&counted)));
    vec.iter_mut().for_each(|element| element.0 *= 2);
    vec[1].0 += 1;
    vec[..1][0].0 += 1;
    vec.get_mut(1).unwrap().0 += 100;
    assert!(vec.get_mut(2).is_none() && vec.get_mut(1..3).is_none());
    let numbers = |vec: &ConcurrentVec<(i32, Arc<()>)>| vec.iter().map(|e| e.0).collect::<Vec<_>>();
    assert_eq!(numbers(&vec), [23, 105]);
    assert_eq!(vec.pop().map(|element| element.0), Some(105));
    assert_eq!((vec.len(), Arc::strong_count(&counted)), (1, 2));
    // What is popped is not published any more, and its place is taken by the next.
    assert_eq!(vec.push((3, Arc::clone(&counted))), 1);
    vec.sort_by_key(|element| element.0);
    assert_eq!(numbers(&vec), [3, 23]);
    assert_eq!((vec.get(1..).map(<[_]>::len), vec.get(3..).is_none()), (Some(1), true));
    // SAFETY: it is published.
    assert_eq!(unsafe { vec.get_unchecked(1) }.0, 23);
    vec.clear();
    assert!(vec.pop().is_none() && vec.is_empty() && Arc::strong_count(&counted) == 1);
}

#[test]
fn a_drop_that_panics_leaves_nothing_published_that_was_dropped() {
    struct Bomb<'a>(&'a AtomicUsize);
    impl Drop for Bomb<'_> {
        fn drop(&mut self) {
            assert!(self.0.fetch_add(1, Ordering::Relaxed) != 0, "the first one panics");
        }
    }
    let dropped = AtomicUsize::new(0);
    let mut vec = ConcurrentVec::new(10).unwrap();
    vec.extend((0..3).map(|_| Bomb(&dropped)));
    assert!(catch_unwind(AssertUnwindSafe(|| vec.clear())).is_err());
    assert_eq!((vec.len(), dropped.load(Ordering::Relaxed)), (0, 3));
    assert_eq!(vec.push(Bomb(&dropped)), 0);
    drop(vec);
    assert_eq!(dropped.load(Ordering::Relaxed), 4);
}

#[test]
fn memory_can_be_committed_ahead() {
    let vec =
        ConcurrentVec::<u8>::builder(100 * page_size()).limit(10 * page_size()).build().unwrap();
    assert_eq!((vec.capacity(), vec.committed()), (0, 0));
    vec.reserve_exact(2 * page_size() - 1);
    assert_eq!((vec.capacity(), vec.committed()), (2 * page_size(), 2 * page_size()));
    vec.reserve(page_size());
    assert!(vec.try_reserve_exact(11 * page_size()).is_err());
    assert!(matches!(vec.try_reserve(100 * page_size() + 1), Err(Error::Full { .. })));
    assert!(vec.is_empty() && vec.capacity() <= 10 * page_size());
}

#[test]
fn elements_move_in_and_out_once() {
    let counted = Arc::new(());
    let vec = ConcurrentVec::try_from(vec![Arc::clone(&counted); 3]).unwrap();
    assert!(vec.push(Arc::clone(&counted)) == 3 && vec.max_len() > 4);
    assert_eq!(vec.into_vec().len(), 4);
    assert_eq!(Arc::strong_count(&counted), 1);
    let vec = ConcurrentVec::try_from([Arc::clone(&counted)]).unwrap();
    let start = vec.as_ptr();
    let vec = PageVec::from(vec);
    assert_eq!((vec.as_ptr(), vec.len()), (start, 1), "the same place");
    assert_eq!(Vec::from(ConcurrentVec::from(vec)).len(), 1);
    let boxed: Box<[_]> = vec![Arc::clone(&counted); 2].into();
    assert_eq!(ConcurrentVec::try_from(boxed).unwrap().to_vec().len(), 2);
    assert_eq!(Arc::strong_count(&counted), 1);
}

#[test]
fn a_clone_is_what_was_published() {
    let budget = Budget::new(1 << 20);
    let vec = ConcurrentVec::builder(1000).budget(budget.clone()).build().unwrap();
    vec.push(String::from("a"));
    let clone = vec.clone();
    vec.push(String::from("b"));
    assert_eq!((&clone[..], clone.max_len()), (&[String::from("a")][..], 1000));
    assert_eq!(budget.used(), vec.committed() + clone.committed());
    assert!(clone.push(String::new()) == 1 && vec.len() == 2);
    // Clones while others push are whole beginnings.
    let vec = ConcurrentVec::new(EACH).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| vec.extend(0..EACH));
        for _ in 0..10 {
            let clone = vec.clone();
            assert!(clone.iter().copied().eq(0..clone.len()));
        }
    });
}

#[test]
fn shared_arrays_compare_as_slices() {
    let vec = ConcurrentVec::new(10).unwrap();
    vec.extend([1, 2]);
    let less = vec.clone();
    both_ways! { vec =>
        less, ConcurrentVec::<i32>::new(1).unwrap();
        PageVec::try_from([1, 2]).unwrap(), PageVec::try_from([1]).unwrap();
        [1, 2], [1, 3];
        &[1, 2], &[1, 3];
        [1, 2][..], [1][..];
        &[1, 2][..], &[1][..];
        &mut [1, 2][..], &mut [1][..];
        vec![1, 2], vec![2];
    }
    vec.push(0);
    assert!(less < vec && vec.cmp(&less).is_gt() && vec.partial_cmp(&less).unwrap().is_gt());
}

static LAZY: ConcurrentVec<usize> = ConcurrentVec::lazy(THREADS * EACH);

/// The first push of several threads reserves the addresses, once.
#[test]
fn an_array_can_be_a_static() {
    assert_eq!((LAZY.len(), LAZY.committed(), LAZY.capacity()), (0, 0, 0));
    assert_eq!((LAZY.max_len(), LAZY.as_slice()), (THREADS * EACH, &[][..]));
    let mut follower = LAZY.follow();
    assert_eq!(follower.next(), None);
    let barrier = std::sync::Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let barrier = &barrier;
            scope.spawn(move || {
                barrier.wait();
                for n in 0..EACH {
                    let index = LAZY.push(thread * EACH + n);
                    assert_eq!(LAZY[index], thread * EACH + n);
                }
            });
        }
    });
    let mut all: Vec<usize> = follower.copied().collect();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..THREADS * EACH));
    assert!(LAZY.try_push(0).is_err());
}

#[test]
fn a_lazy_array_that_was_never_used_is_empty_whatever_is_asked() {
    let lazy = || ConcurrentVec::<String>::lazy(100);
    drop(lazy());
    let mut vec = lazy();
    vec.clear();
    assert!(vec.pop().is_none() && vec.get_mut(0).is_none() && vec.as_mut_slice().is_empty());
    assert!(vec.iter().next().is_none() && vec.get(0).is_none() && vec == lazy());
    assert_eq!((lazy().into_vec().len(), lazy().into_page_vec().max_len()), (0, 100));
    assert_eq!(lazy().clone().max_len(), 100);
    vec.push_mut(String::from("a")).push('b');
    assert_eq!(vec, ["ab"]);
    let vec = lazy();
    vec.reserve(10);
    assert!(vec.capacity() >= 10 && vec.is_empty());
    let vec = ConcurrentVec::<()>::lazy(usize::MAX);
    assert_eq!((vec.capacity(), vec.push(()), vec.len()), (usize::MAX, 0, 1));
    assert_eq!(ConcurrentVec::<u8>::default().max_len(), PageVec::<u8>::DEFAULT_MAX_LEN);
}

/// Addresses that are refused are asked for again at the next push.
#[test]
fn a_lazy_array_whose_addresses_are_refused_hands_values_back() {
    let mut vec = ConcurrentVec::lazy(usize::MAX / 8);
    for round in 0..2 {
        let refused = vec.try_push([round, 0]).unwrap_err();
        assert!(matches!(
            refused.error(),
            Error::Overflow { .. } | Error::AddressSpaceExhausted { .. }
        ));
        assert_eq!(refused.into_value(), [round, 0]);
        assert!(vec.try_reserve(1).is_err() && vec.try_extend_from_slice(&[[1, 1]]).is_err());
        assert!(!vec.wait_for_len(1, std::time::Duration::MAX), "it cannot be reached");
        assert!(catch_unwind(AssertUnwindSafe(|| vec.push_mut([1, 1]).len())).is_err());
        assert!(vec.is_empty() && vec.committed() == 0 && vec.pop().is_none());
    }
}
