//! shared: two threads that append to one array.

use std::sync::Mutex;
use std::time::Instant;

use pagewise::ConcurrentVec;

use super::Suite;
use crate::case::{Case, Sample, Size};
use crate::system;

pub const SUITE: Suite =
    Suite { name: "shared", about: "32 M u64 appended by two threads", cases, needs: 2 << 30 };

const THREADS: usize = 2;

fn count(size: Size) -> usize {
    size.pick(32_000_000, 32_000_000, 20_000)
}

fn cases() -> Vec<Case> {
    vec![by_two_threads(), by_one_thread(), peak_memory()]
}

fn by_two_threads() -> Case {
    Case::new("32 M u64, 2 threads", "ns/push", pushing(THREADS, ours, ConcurrentVec::push))
        .rival("virtual-buffer concurrent", pushing(THREADS, virtual_buffer, |v, x| v.push(x)))
        .target(1.0, 0.7)
        .rival("append-only-vec", pushing(THREADS, append_only, |v, x| v.push(x)))
        .target(0.5, 0.3)
        .rival("boxcar", pushing(THREADS, |_| boxcar::Vec::new(), boxcar::Vec::push))
        .target(0.4, 0.2)
        .rival("Mutex<Vec>", pushing(THREADS, |_| Mutex::new(Vec::new()), push_locked))
}

fn by_one_thread() -> Case {
    Case::new("32 M u64, 1 thread", "ns/push", pushing(1, ours, ConcurrentVec::push))
        .rival("virtual-buffer concurrent", pushing(1, virtual_buffer, |v, x| v.push(x)))
        .rival("append-only-vec", pushing(1, append_only, |v, x| v.push(x)))
        .rival("boxcar", pushing(1, |_| boxcar::Vec::new(), boxcar::Vec::push))
        .rival("Mutex<Vec>", pushing(1, |_| Mutex::new(Vec::new()), push_locked))
}

fn peak_memory() -> Case {
    Case::new("peak memory of 32 M u64", "bytes", peak(pushing(THREADS, ours, ConcurrentVec::push)))
        .counted()
        .rival("payload", |size| Sample::of((count(size) * size_of::<u64>()) as f64))
        .target(1.15, 1.05)
        .rival(
            "virtual-buffer concurrent",
            peak(pushing(THREADS, virtual_buffer, |v, x| v.push(x))),
        )
        .rival("append-only-vec", peak(pushing(THREADS, append_only, |v, x| v.push(x))))
        .rival("boxcar", peak(pushing(THREADS, |_| boxcar::Vec::new(), boxcar::Vec::push)))
}

fn ours(len: usize) -> ConcurrentVec<u64> {
    ConcurrentVec::new(len).expect("the address space is larger")
}

fn virtual_buffer(len: usize) -> virtual_buffer::concurrent::vec::Vec<u64> {
    virtual_buffer::concurrent::vec::Vec::new(len)
}

fn append_only(_len: usize) -> append_only_vec::AppendOnlyVec<u64> {
    append_only_vec::AppendOnlyVec::new()
}

fn push_locked(array: &Mutex<Vec<u64>>, value: u64) -> usize {
    let mut array = array.lock().expect("nobody panics here");
    array.push(value);
    array.len() - 1
}

/// Makes an array, and pushes to it from some threads: the time until the last is done.
fn pushing<V: Sync>(
    threads: usize,
    make: impl Fn(usize) -> V,
    push: impl Fn(&V, u64) -> usize + Copy + Send,
) -> impl Fn(Size) -> Sample {
    move |size| {
        let (count, began) = (count(size), Instant::now());
        let array = make(count);
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let array = &array;
                scope.spawn(move || {
                    for value in (thread..count).step_by(threads) {
                        std::hint::black_box(push(array, value as u64));
                    }
                });
            }
        });
        Sample::per(began.elapsed(), count)
    }
}

/// By how much the peak of resident memory exceeds what was resident before the work.
fn peak(work: impl Fn(Size) -> Sample) -> impl Fn(Size) -> Sample {
    move |size| {
        let before = system::peak_resident();
        work(size);
        match (before, system::peak_resident()) {
            (Some(before), Some(after)) => Sample::of((after - before) as f64),
            _ => Sample::absent("the peak is known on Linux only"),
        }
    }
}
