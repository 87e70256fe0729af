//! shared: threads that append to one array.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use pagewise::ConcurrentVec;
use virtual_buffer::concurrent::vec::{RawVec, Vec as BufferVec};

use super::Suite;
use crate::case::{Case, Size};
use crate::sample::Sample;
use crate::system;

pub const SUITE: Suite = Suite {
    name: "shared",
    about: "32 M u64 appended by threads",
    cases,
    needs: 512 << 20,
    needs_huge: 0,
};

/// What threads do between two pushes.
#[derive(Clone, Copy, PartialEq)]
enum Between {
    Nothing,
    /// Nothing, and fewer pushes: with many threads, some rivals take a microsecond for each.
    Less,
    /// Arithmetic that takes about a tenth of a microsecond: threads seldom meet.
    Work,
}

fn cases() -> Vec<Case> {
    let mut cases = vec![by_two_threads().control(), by_one_thread()];
    cases.extend([4, 16, 64].map(by_many_threads));
    cases.extend([2, 16].map(with_work_between));
    cases.push(peak_memory());
    cases
}

fn by_two_threads() -> Case {
    Case::new("32 M u64, 2 threads", "ns/push", busily(2, ours, ConcurrentVec::push))
        .rival("virtual-buffer concurrent", busily(2, BufferVec::new, |v, x| v.push(x)))
        .target(0.8, 0.5)
        .rival("virtual-buffer RawVec of atomics", busily(2, raw, push_raw))
        .rival("append-only-vec", busily(2, append_only, |v, x| v.push(x)))
        .target(0.45, 0.2)
        .rival("boxcar", busily(2, |_| boxcar::Vec::new(), boxcar::Vec::push))
        .target(0.45, 0.2)
        .rival("boxcar::with_capacity", busily(2, boxcar::Vec::with_capacity, boxcar::Vec::push))
        .rival("Mutex<Vec>", busily(2, |_| Mutex::new(Vec::new()), push_locked))
        .rival("Mutex<Vec>, with_capacity", busily(2, locked, push_locked))
        .rival("parking_lot's Mutex<Vec>, with_capacity", busily(2, parking, push_parking))
}

fn by_one_thread() -> Case {
    at_their_best("32 M u64, 1 thread".into(), 1, Between::Nothing)
        .rival("append-only-vec", busily(1, append_only, |v, x| v.push(x)))
        .rival("boxcar", busily(1, |_| boxcar::Vec::new(), boxcar::Vec::push))
}

/// More threads than a small machine has processors, too. append-only-vec is left out: its threads spin while they wait
/// for one that has lost its processor.
fn by_many_threads(threads: usize) -> Case {
    at_their_best(format!("8 M u64, {threads} threads"), threads, Between::Less)
}

fn with_work_between(threads: usize) -> Case {
    let name = format!("8 M u64, {threads} threads, 0.1 µs of work between pushes");
    at_their_best(name, threads, Between::Work)
}

/// Against each rival in its fastest form.
fn at_their_best(name: String, threads: usize, between: Between) -> Case {
    Case::new(name, "ns/push", pushing(threads, between, ours, ConcurrentVec::push))
        .rival(
            "virtual-buffer concurrent",
            pushing(threads, between, BufferVec::new, |v, x| v.push(x)),
        )
        .rival("virtual-buffer RawVec of atomics", pushing(threads, between, raw, push_raw))
        .rival(
            "boxcar::with_capacity",
            pushing(threads, between, boxcar::Vec::with_capacity, boxcar::Vec::push),
        )
        .rival("Mutex<Vec>, with_capacity", pushing(threads, between, locked, push_locked))
        .rival(
            "parking_lot's Mutex<Vec>, with_capacity",
            pushing(threads, between, parking, push_parking),
        )
}

fn peak_memory() -> Case {
    Case::new("peak memory of 32 M u64", "bytes", peak(busily(2, ours, ConcurrentVec::push)))
        .counted()
        .rival("payload", |size| Sample::of((count(size) * size_of::<u64>()) as f64))
        .target(1.15, 1.05)
        .rival("virtual-buffer concurrent", peak(busily(2, BufferVec::new, |v, x| v.push(x))))
        .rival("virtual-buffer RawVec of atomics", peak(busily(2, raw, push_raw)))
        .rival("append-only-vec", peak(busily(2, append_only, |v, x| v.push(x))))
        .rival("boxcar", peak(busily(2, |_| boxcar::Vec::new(), boxcar::Vec::push)))
        .rival("Mutex<Vec>", peak(busily(2, |_| Mutex::new(Vec::new()), push_locked)))
}

fn count(size: Size) -> usize {
    size.pick(32_000_000, 8_000_000, 20_000)
}

fn ours(len: usize) -> ConcurrentVec<u64> {
    ConcurrentVec::new(len).expect("the address space is larger")
}

/// Its elements are shared while they are written, so that they must be atomics.
struct Raw(RawVec<AtomicU64>);

// SAFETY: its `push` takes a shared reference and is made for threads: virtual-buffer's concurrent `Vec`, which is `Sync`,
// calls nothing else.
unsafe impl Sync for Raw {}

fn raw(len: usize) -> Raw {
    // SAFETY: zeros are a valid atomic number.
    Raw(unsafe { RawVec::new(len) })
}

fn push_raw(array: &Raw, value: u64) -> usize {
    let (index, place) = array.0.push();
    place.store(value, Ordering::Relaxed);
    index
}

fn append_only(_len: usize) -> append_only_vec::AppendOnlyVec<u64> {
    append_only_vec::AppendOnlyVec::new()
}

fn locked(len: usize) -> Mutex<Vec<u64>> {
    Mutex::new(Vec::with_capacity(len))
}

fn push_locked(array: &Mutex<Vec<u64>>, value: u64) -> usize {
    let mut array = array.lock().expect("nobody panics here");
    array.push(value);
    array.len() - 1
}

fn parking(len: usize) -> parking_lot::Mutex<Vec<u64>> {
    parking_lot::Mutex::new(Vec::with_capacity(len))
}

fn push_parking(array: &parking_lot::Mutex<Vec<u64>>, value: u64) -> usize {
    let mut array = array.lock();
    array.push(value);
    array.len() - 1
}

/// Pushes without a pause.
fn busily<V: Sync>(
    threads: usize,
    make: impl Fn(usize) -> V,
    push: impl Fn(&V, u64) -> usize + Copy + Send,
) -> impl Fn(Size) -> Sample {
    pushing(threads, Between::Nothing, make, push)
}

/// Makes an array, and pushes to it from some threads: the time until the last is done.
fn pushing<V: Sync>(
    threads: usize,
    between: Between,
    make: impl Fn(usize) -> V,
    push: impl Fn(&V, u64) -> usize + Copy + Send,
) -> impl Fn(Size) -> Sample {
    move |size| {
        let count = if between == Between::Nothing { count(size) } else { count(size) / 4 };
        let began = Instant::now();
        let array = make(count);
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let array = &array;
                scope.spawn(move || {
                    for value in (thread..count).step_by(threads) {
                        std::hint::black_box(push(array, value as u64));
                        if between == Between::Work {
                            work(value as u64);
                        }
                    }
                });
            }
        });
        Sample::per(began.elapsed(), count)
    }
}

/// Each step needs the one before, and takes four or five cycles of the processor.
fn work(seed: u64) {
    let step = |x: u64, _| x.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (x >> 7);
    std::hint::black_box((0..60).fold(seed, step));
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
