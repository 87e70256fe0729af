//! Readers sleep until an array has a certain length: each wakes up when it is reached, and not before.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pagewise::ConcurrentVec;

const ROUNDS: usize = if cfg!(miri) { 30 } else { 20_000 };

#[test]
fn what_is_there_already_is_not_waited_for() {
    let vec = ConcurrentVec::new(3).unwrap();
    vec.push(1);
    assert!(vec.wait_for_len(0, Duration::ZERO) && vec.wait_for_len(1, Duration::MAX));
    assert!(!vec.wait_for_len(2, Duration::ZERO));
    // What cannot be reached: this would sleep for ever.
    assert!(!vec.wait_for_len(4, Duration::MAX));
}

#[test]
fn a_wait_that_is_over_leaves_nothing_behind() {
    let vec = ConcurrentVec::new(10).unwrap();
    let before = Instant::now();
    assert!(!vec.wait_for_len(1, Duration::from_millis(20)));
    assert!(before.elapsed() >= Duration::from_millis(20), "not before the timeout");
    assert_eq!(vec.push(1), 0);
    assert!(!vec.wait_for_len(2, Duration::from_millis(1)));
    assert_eq!((vec.push(2), vec.len()), (1, 2));
}

/// Two threads take turns, and each sleeps until the other has pushed: a wakeup that is lost is a test that never
/// ends.
#[test]
fn two_threads_take_turns() {
    let vec = ConcurrentVec::new(2 * ROUNDS).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let vec = &vec;
            scope.spawn(move || {
                for turn in (thread..2 * ROUNDS).step_by(2) {
                    assert!(vec.wait_for_len(turn, Duration::MAX));
                    assert_eq!(vec.push(turn), turn);
                }
            });
        }
    });
    assert!(vec.iter().copied().eq(0..2 * ROUNDS));
}

/// Several readers wait for lengths of their own, with and without a timeout, while elements come one by one, in
/// slices and made in place.
#[test]
fn every_reader_wakes_up_and_sees_what_it_waited_for() {
    let vec = ConcurrentVec::new(10 * ROUNDS).unwrap();
    let woken = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for reader in 1..5_usize {
            let (vec, woken) = (&vec, &woken);
            scope.spawn(move || {
                let mut follower = vec.follow();
                let mut expected = 0;
                while expected < 10 * ROUNDS {
                    let wanted = (follower.position() + reader * reader).min(10 * ROUNDS);
                    let timeout =
                        if reader % 2 == 0 { Duration::MAX } else { Duration::from_micros(50) };
                    if vec.wait_for_len(wanted, timeout) {
                        assert!(vec.len() >= wanted, "woken too early");
                        woken.fetch_add(1, Ordering::Relaxed);
                    }
                    for element in &mut follower {
                        assert_eq!(*element, expected);
                        expected += 1;
                    }
                }
            });
        }
        for round in 0..ROUNDS {
            let first = 10 * round;
            vec.push(first);
            vec.push_with(|index| index);
            vec.extend_from_slice(&std::array::from_fn::<_, 7, _>(|n| first + 2 + n));
            vec.extend([first + 9]);
        }
    });
    assert!(woken.into_inner() >= 4);
}

/// A length that a slice passes wakes up whoever waits for a part of it.
#[test]
fn a_length_may_be_passed() {
    let vec = ConcurrentVec::new(100).unwrap();
    std::thread::scope(|scope| {
        let readers: Vec<_> = [1, 50, 100]
            .map(|len| {
                scope.spawn({
                    let vec = &vec;
                    move || vec.wait_for_len(len, Duration::MAX)
                })
            })
            .into();
        vec.try_extend_from_slice(&[7; 100]).unwrap();
        assert!(readers.into_iter().all(|reader| reader.join().unwrap()));
    });
}
