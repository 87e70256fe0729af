//! Past a limit, a push returns an error that holds the value; elements before it are unchanged, and
//! dropping afterwards drops every element once.

use std::rc::Rc;

use pagewise::{Arena, Budget, ConcurrentVec, Error, PageVec, page_size};

/// More addresses than the tests need: nearly all that the simulated system gives under Miri.
const LONG: usize = if cfg!(miri) { 8 << 20 } else { 1 << 30 };

#[test]
fn the_element_that_does_not_fit_comes_back() {
    let mut names = PageVec::builder(LONG / 32).limit(2 * page_size()).build().unwrap();
    let refused = loop {
        let name = format!("name {}", names.len());
        if let Err(refused) = names.try_push(name) {
            break refused;
        }
    };
    assert!(matches!(refused.error(), Error::LimitReached { .. }));
    assert_eq!(names.len(), 2 * page_size() / size_of::<String>());
    assert_eq!(refused.into_value(), format!("name {}", names.len()));
    assert!(names.iter().enumerate().all(|(n, name)| *name == format!("name {n}")));
    assert_eq!(names.committed(), 2 * page_size());
}

#[test]
fn the_maximum_length_is_exact_for_every_size() {
    fn fill<T: Default + std::fmt::Debug>() {
        let mut vec = PageVec::<T>::new(5).unwrap();
        (0..5).for_each(|_| vec.push(T::default()));
        let refused = vec.try_push(T::default()).unwrap_err();
        assert!(matches!(refused.error(), Error::Full { len: 5, additional: 1, max_len: 5 }));
        assert!(vec.try_insert(0, T::default()).is_err());
        assert!(matches!(vec.try_reserve(1), Err(Error::Full { .. })));
        assert_eq!(vec.len(), 5);
    }
    fill::<()>();
    fill::<u8>();
    fill::<[u64; 32]>();
    assert!(PageVec::<u8>::new(0).unwrap().try_push(1).is_err());
    assert!(matches!(PageVec::<u64>::new(usize::MAX), Err(Error::Overflow { .. })));
}

#[test]
fn dropping_after_a_refusal_drops_every_element_once() {
    let counted = Rc::new(());
    let mut vec = PageVec::builder(1 << 20).limit(page_size()).build().unwrap();
    while vec.try_push(Rc::clone(&counted)).is_ok() {}
    let stopped = vec.try_extend(std::iter::repeat_n(Rc::clone(&counted), 3)).unwrap_err();
    drop(stopped);
    assert!(vec.try_extend_from_slice(&[Rc::clone(&counted)]).is_err());
    assert_eq!(Rc::strong_count(&counted), 1 + vec.len());
    drop(vec);
    assert_eq!(Rc::strong_count(&counted), 1);
}

#[test]
fn a_slice_that_does_not_fit_is_refused_whole() {
    let mut bytes = PageVec::builder(LONG).limit(page_size()).build().unwrap();
    bytes.extend_from_slice(b"abc");
    assert!(bytes.try_extend_from_slice(&vec![0; page_size()]).is_err());
    assert_eq!(bytes, b"abc");
    let written = std::io::Write::write_all(&mut bytes, &vec![0; page_size()]);
    assert_eq!(written.unwrap_err().kind(), std::io::ErrorKind::OutOfMemory);
    assert_eq!(bytes, b"abc");
    let text = "x".repeat(page_size());
    assert!(std::fmt::Write::write_str(&mut bytes, &text).is_err());
    assert_eq!(bytes, b"abc");
    std::fmt::Write::write_str(&mut bytes, &text[3..]).unwrap();
    assert_eq!(bytes.len(), page_size());
}

/// Each `try_` method that is refused has changed nothing, and hands back what it was given.
#[test]
fn what_is_refused_has_changed_nothing() {
    let two = || PageVec::try_from_iter(2, [Rc::new(1), Rc::new(2)]).unwrap();
    let (mut full, value) = (two(), Rc::new(3));
    let refused = full.try_resize(3, Rc::clone(&value)).unwrap_err();
    assert!(matches!(refused.error(), Error::Full { len: 2, additional: 1, max_len: 2 }));
    assert!(Rc::ptr_eq(&refused.into_value(), &value));
    assert_eq!(Rc::strong_count(&value), 1);
    assert!(full.try_resize_with(3, || unreachable!("there is no room")).is_err());
    assert!(full.try_extend_from_within(1..).is_err());
    let mut other = two();
    assert!(matches!(full.try_append(&mut other), Err(Error::Full { additional: 2, .. })));
    assert_eq!((&full, &other), (&two(), &two()));
    assert!(full.iter().chain(&other).all(|element| Rc::strong_count(element) == 1));
    assert!(full.is_full());
    full.try_resize(1, Rc::clone(&value)).unwrap();
    assert!(full.len() == 1 && !full.is_full() && Rc::strong_count(&value) == 1);
}

#[test]
fn a_clone_that_the_budget_refuses_is_no_panic() {
    let budget = Budget::new(page_size());
    let mut vec = PageVec::builder(100).budget(budget.clone()).build().unwrap();
    vec.push(String::from("takes the whole budget"));
    let refused = vec.try_clone().unwrap_err();
    assert!(matches!(refused, Error::BudgetReached { .. }), "{refused:?}");
    assert_eq!((vec.len(), budget.used()), (1, page_size()));
}

#[test]
#[should_panic(expected = "at most 2 are there")]
fn push_panics_with_the_reason() {
    let mut vec = PageVec::new(2).unwrap();
    vec.extend([1, 2]);
    vec.push(3);
}

#[test]
fn one_budget_is_shared_by_containers_of_every_kind() {
    let budget = Budget::new(64 * page_size());
    let mut column = PageVec::builder(LONG / 1024).budget(budget.clone()).build().unwrap();
    let events = ConcurrentVec::builder(LONG / 1024).budget(budget.clone()).build().unwrap();
    let arena = Arena::builder(LONG).budget(budget.clone()).build().unwrap();
    let block = |value| [value; 1024]; // divides every page
    column.push(block(1u8));
    events.push(block(2));
    arena.alloc(block(3));
    assert_eq!(budget.used(), column.committed() + events.committed() + arena.committed());
    while column.try_push(block(1)).is_ok() {}
    assert_eq!(budget.used(), budget.limit(), "the last page is used");
    while events.try_push(block(2)).is_ok() {}
    while arena.try_alloc(block(3)).is_ok() {}
    let room = [column.committed(), events.committed(), arena.committed()];
    assert_eq!(room.iter().sum::<usize>(), budget.limit());
    drop(column);
    assert_eq!(budget.used(), room[1] + room[2]);
    events.push(block(2)); // what one gave back, another takes
    drop((events, arena));
    assert_eq!(budget.used(), 0);
}

#[test]
fn a_clone_shares_the_budget_and_the_maximum() {
    let budget = Budget::new(1 << 20);
    let mut vec = PageVec::builder(1000).budget(budget.clone()).build().unwrap();
    vec.push(1u64);
    let clone = vec.clone();
    assert_eq!((clone.max_len(), &clone), (1000, &vec));
    assert_eq!(budget.used(), vec.committed() + clone.committed());
}

#[test]
fn a_concurrent_push_that_is_refused_leaves_the_array_usable() {
    type Element = [Box<usize>; 16];
    let element = |n| -> Element { std::array::from_fn(|_| Box::new(n)) };
    let fits = page_size() / size_of::<Element>();
    let vec = ConcurrentVec::builder(1 << 12).limit(page_size()).build().unwrap();
    let refused: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| (0..fits).filter(|n| vec.try_push(element(*n)).is_err()).count())
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(vec.len(), fits);
    assert_eq!(vec.len() + refused, 4 * fits);
    assert!(std::panic::catch_unwind(|| vec.push(element(1))).is_err());
    assert!(vec.try_push(element(2)).is_err(), "a push that panicked holds nothing");
}
