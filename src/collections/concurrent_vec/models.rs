//! The array in every order that threads can meet in.

use super::*;
use loom::sync::Arc;
use loom::thread;
use std::collections::BTreeSet;
use std::sync::{Arc as Shared, Mutex};
use std::time::Duration;

fn with_room<T>(max_len: usize) -> Arc<ConcurrentVec<T>> {
    Arc::new(ConcurrentVec {
        lock: SpinLock::new(),
        published: AtomicUsize::new(0),
        waiters: Waiters::new(),
        storage: Storage::with_room(max_len),
        takes: PhantomData,
    })
}

fn get(vec: &ConcurrentVec<i32>, index: usize) -> Option<i32> {
    vec.follow().nth(index).copied()
}

#[test]
fn loom_a_reader_sees_a_prefix_of_complete_elements() {
    loom::model(|| {
        let vec = with_room(2);
        let writers: Vec<_> = (1..3)
            .map(|value| {
                let vec = Arc::clone(&vec);
                thread::spawn(move || vec.push(value))
            })
            .collect();
        let reader = {
            let vec = Arc::clone(&vec);
            thread::spawn(move || {
                let seen: Vec<i32> = vec.follow().copied().collect();
                assert!(seen.len() <= vec.len());
                seen
            })
        };
        let mut indices: Vec<_> = writers.into_iter().map(|t| t.join().unwrap()).collect();
        let seen = reader.join().unwrap();
        let all: Vec<i32> = vec.follow().copied().collect();
        assert_eq!(all[..seen.len()], seen, "what was seen stays");
        assert!(matches!(all[..], [1, 2] | [2, 1]), "every element once: {all:?}");
        indices.sort();
        assert_eq!(indices, [0, 1]);
    });
}

/// Writes two elements at once, while another thread pushes and a third one reads: the two are next to
/// each other, and nobody sees one without the other.
#[test]
fn loom_a_reader_sees_all_of_a_slice_or_nothing_of_it() {
    // (Counted outside of the models, so that it is certain that readers saw each.)
    let seen_lens: Shared<Mutex<BTreeSet<usize>>> = Shared::default();
    let lens = seen_lens.clone();
    loom::model(move || {
        let vec = with_room(3);
        let extending = {
            let vec = Arc::clone(&vec);
            thread::spawn(move || vec.try_extend_from_slice(&[1, 2]).unwrap())
        };
        let pushing = {
            let vec = Arc::clone(&vec);
            thread::spawn(move || vec.push(3))
        };
        let reading = {
            let (vec, lens) = (Arc::clone(&vec), lens.clone());
            thread::spawn(move || {
                let seen: Vec<i32> = vec.follow().copied().collect();
                assert!(matches!(seen[..], [] | [1, 2] | [3] | [1, 2, 3] | [3, 1, 2]), "{seen:?}");
                lens.lock().unwrap().insert(seen.len());
                seen
            })
        };
        let seen = reading.join().unwrap();
        let (first, pushed) = (extending.join().unwrap(), pushing.join().unwrap());
        let all: Vec<i32> = vec.follow().copied().collect();
        assert_eq!(all[..seen.len()], seen, "what was seen stays");
        assert_eq!((&all[first..first + 2], all[pushed], all.len()), (&[1, 2][..], 3, 3));
    });
    assert_eq!(*seen_lens.lock().unwrap(), BTreeSet::from([0, 1, 2, 3]), "the model is vacuous");
}

/// Two slices for which there is room for one: one of them is all there, and nothing of the other.
#[test]
fn loom_a_refused_slice_leaves_everything_as_it_was() {
    loom::model(|| {
        let vec = with_room(3);
        let theirs = {
            let vec = Arc::clone(&vec);
            thread::spawn(move || vec.try_extend_from_slice(&[1, 2]))
        };
        let ours = vec.try_extend_from_slice(&[3, 4]);
        let theirs = theirs.join().unwrap();
        let (granted, refused, expected) = match (&ours, &theirs) {
            (Ok(first), Err(error)) => (*first, error, [3, 4]),
            (Err(error), Ok(first)) => (*first, error, [1, 2]),
            both => panic!("{both:?}"),
        };
        assert!(matches!(refused, Error::Full { len: 2, additional: 2, max_len: 3 }));
        let all: Vec<i32> = vec.follow().copied().collect();
        assert_eq!((granted, &all[..]), (0, &expected[..]));
        // Usable as before.
        assert_eq!((vec.push(5), get(&vec, 2), vec.len()), (2, Some(5), 3));
    });
}

/// Whoever asks the array about its memory has it to itself.
#[test]
fn loom_questions_and_reservations_wait_for_pushes() {
    loom::model(|| {
        let vec = with_room(2);
        let pushing = {
            let vec = Arc::clone(&vec);
            thread::spawn(move || vec.push(1))
        };
        assert_eq!((vec.max_len(), vec.committed()), (2, 2 * size_of::<i32>()));
        vec.try_reserve(1).unwrap();
        assert!(matches!(vec.try_reserve(3), Err(Error::Full { max_len: 2, .. })));
        assert_eq!(pushing.join().unwrap(), 0);
        assert_eq!((vec.len(), get(&vec, 0)), (1, Some(1)));
    });
}

#[test]
fn loom_a_refused_push_hands_back_its_value_and_leaves_the_array_usable() {
    loom::model(|| {
        let vec = with_room(1);
        let other = Arc::clone(&vec);
        let theirs = thread::spawn(move || other.try_push(1).map_err(PushError::into_value));
        let ours = vec.try_push(2).map_err(PushError::into_value);
        let theirs = theirs.join().unwrap();
        assert!(matches!((ours, theirs), (Ok(0), Err(1)) | (Err(2), Ok(0))));
        assert_eq!(vec.len(), 1);
        assert_eq!(get(&vec, 0), Some(if ours.is_ok() { 2 } else { 1 }));
        assert!(vec.try_push(3).is_err());
    });
}

/// A thread waits for two elements, while another pushes them one by one. (A wakeup that is lost is a deadlock,
/// which loom finds.)
#[test]
fn loom_whoever_waits_for_a_length_wakes_up() {
    loom::model(|| {
        let vec = with_room(2);
        let pushing = {
            let vec = Arc::clone(&vec);
            thread::spawn(move || (vec.push(1), vec.push(2)))
        };
        assert!(vec.wait_for_len(2, Duration::MAX));
        assert_eq!(vec.follow().count(), 2);
        assert_eq!(pushing.join().unwrap(), (0, 1));
    });
}

/// Two threads take turns: each waits for what the other one pushes.
#[test]
fn loom_two_threads_take_turns() {
    loom::model(|| {
        let vec = with_room(2);
        let answering = {
            let vec = Arc::clone(&vec);
            thread::spawn(move || {
                assert!(vec.wait_for_len(1, Duration::MAX));
                vec.push(2)
            })
        };
        assert_eq!(vec.push(1), 0);
        assert!(vec.wait_for_len(2, Duration::MAX));
        assert_eq!((get(&vec, 0), get(&vec, 1)), (Some(1), Some(2)));
        assert_eq!(answering.join().unwrap(), 1);
    });
}

/// A slice passes the length that somebody waits for.
#[test]
fn loom_a_slice_wakes_whoever_waits_for_a_part_of_it() {
    loom::model(|| {
        let vec = with_room(3);
        let extending = {
            let vec = Arc::clone(&vec);
            thread::spawn(move || vec.try_extend_from_slice(&[1, 2, 3]).unwrap())
        };
        assert!(vec.wait_for_len(2, Duration::MAX));
        assert_eq!((vec.len(), get(&vec, 2)), (3, Some(3)));
        extending.join().unwrap();
        assert!(!vec.wait_for_len(4, Duration::MAX), "there will never be so many");
    });
}
