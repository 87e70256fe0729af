//! array: `DemandArray` beside an ordinary array: first stores, and stores and reads where memory is there already.

use std::hint::black_box;
use std::time::Instant;

use pagewise::DemandArray;

use super::Suite;
use crate::case::{Case, Size};
use crate::sample::Sample;
use crate::work::scatter;

pub const SUITE: Suite = Suite {
    name: "array",
    about: "DemandArray beside an array of zeros",
    cases,
    needs: 512 << 20,
    needs_huge: 0,
};

/// 512 MiB of numbers.
fn bits(size: Size) -> u32 {
    size.pick(26, 24, 16)
}

fn cases() -> Vec<Case> {
    let stores = |order, warm| move |size| stores(size, order, warm);
    let plainly = |order, warm| move |size| plainly(size, order, warm);
    let zeros = "Vec of zeros";
    let mut cases = vec![
        Case::new("first stores in order", "ns/store", stores(in_order, false))
            .control()
            .rival(zeros, plainly(in_order, false)),
        Case::new("stores in order, resident", "ns/store", stores(in_order, true))
            .rival(zeros, plainly(in_order, true))
            .target(1.05, 1.0),
        Case::new("stores at random, resident", "ns/store", stores(at_random, true))
            .rival(zeros, plainly(at_random, true))
            .target(1.05, 1.0),
    ];
    cases.push(
        Case::new("try_get at random, resident", "ns/read", |size| {
            let (array, count) = (filled(size), accesses(size));
            let began = Instant::now();
            for index in 0..count {
                black_box(array.try_get(at_random(index, bits(size))).expect("it is committed"));
            }
            Sample::per(began.elapsed(), count as usize)
        })
        .rival("pagewise, by index", |size| {
            let (array, count) = (filled(size), accesses(size));
            let began = Instant::now();
            for index in 0..count {
                black_box(array[at_random(index, bits(size))]);
            }
            Sample::per(began.elapsed(), count as usize)
        })
        .rival("Vec of zeros, by index", |size| {
            let mut array = vec![0u64; 1 << bits(size)];
            let count = accesses(size);
            store_all(&mut array, 1 << bits(size), in_order, bits(size));
            let began = Instant::now();
            for index in 0..count {
                black_box(array[at_random(index, bits(size))]);
            }
            Sample::per(began.elapsed(), count as usize)
        }),
    );
    cases
}

type Order = fn(u64, u32) -> usize;

fn in_order(index: u64, bits: u32) -> usize {
    (index & ((1 << bits) - 1)) as usize
}

fn at_random(index: u64, bits: u32) -> usize {
    scatter(index, bits) as usize
}

fn accesses(size: Size) -> u64 {
    size.pick(20_000_000, 5_000_000, 1_000)
}

fn empty(size: Size) -> DemandArray<u64> {
    DemandArray::new(1 << bits(size)).expect("the address space is larger")
}

fn filled(size: Size) -> DemandArray<u64> {
    let mut array = empty(size);
    store_all(&mut array, 1 << bits(size), in_order, bits(size));
    array
}

/// Of the memory that is there already, fewer stores are timed than it has places.
fn stores(size: Size, order: Order, warm: bool) -> Sample {
    let mut array = if warm { filled(size) } else { empty(size) };
    timed(&mut array, size, order, warm)
}

fn plainly(size: Size, order: Order, warm: bool) -> Sample {
    let began = Instant::now();
    let mut array = vec![0u64; 1 << bits(size)];
    if !warm {
        store_all(&mut array, 1 << bits(size), order, bits(size));
        return Sample::per(began.elapsed(), 1 << bits(size));
    }
    store_all(&mut array, 1 << bits(size), in_order, bits(size));
    timed(&mut array, size, order, warm)
}

fn timed(array: &mut [u64], size: Size, order: Order, warm: bool) -> Sample {
    let count = if warm { accesses(size) } else { 1 << bits(size) };
    let began = Instant::now();
    store_all(array, count, order, bits(size));
    Sample::per(began.elapsed(), count as usize)
}

fn store_all(array: &mut [u64], count: u64, order: Order, bits: u32) {
    for index in 0..count {
        array[order(index, bits)] = index | 1;
    }
    black_box(array);
}
