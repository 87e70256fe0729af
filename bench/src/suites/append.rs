//! append: an array that grows by push.

use std::time::Instant;

use append_only_vec::AppendOnlyVec;
use pagewise::{ConcurrentVec, HugePages, PageVec};

use super::Suite;
use crate::case::{Case, Size};
use crate::sample::Sample;

pub const SUITE: Suite = Suite {
    name: "append",
    about: "an array of 1 GiB of u64 by push",
    cases,
    needs: 1 << 30,
    needs_huge: 1 << 30,
};

fn count(size: Size) -> usize {
    size.pick(1 << 30, 1 << 30, 1 << 20) / size_of::<u64>()
}

/// Fits a cache of the processor: a larger array would measure the speed of memory.
const IN_CACHE: usize = (256 << 10) / size_of::<u64>();

fn cases() -> Vec<Case> {
    let huge = [
        ("adaptive huge pages", HugePages::Adaptive, (0.60, 0.33)),
        ("HugePages::Never", HugePages::Never, (1.00, 0.85)),
    ];
    let mut cases = vec![by_push()];
    cases.extend(huge.map(|(name, huge, target)| by_push_in(name, huge, target)));
    cases.extend([against_chunks(), shared_by_one(), into_committed(), in_cache(), by_slices()]);
    cases
}

fn by_push() -> Case {
    Case::new("1 GiB of u64 by push", "ns/push", pushing(count, page_vec, PageVec::push))
        .control()
        .rival("Vec::with_capacity", pushing(count, Vec::with_capacity, Vec::push))
        .target(1.0, 0.8)
        .rival("virtual-buffer Vec", pushing(count, virtual_buffer, |v, x| v.push(x)))
        .target(1.0, 0.8)
        .rival("Vec::new", pushing(count, |_| Vec::new(), Vec::push))
        .rival("pagewise, transparent huge pages", pushing(count, transparent, PageVec::push))
        .huge()
}

fn by_push_in(name: &str, huge: HugePages, (bound, aim): (f64, f64)) -> Case {
    let make = move |len| page_vec_in(len, huge);
    let case = Case::new(
        format!("1 GiB of u64 by push, {name}"),
        "ns/push",
        pushing(count, make, PageVec::push),
    );
    let case = if huge == HugePages::Never { case } else { case.huge() };
    case.rival("Vec::with_capacity", pushing(count, Vec::with_capacity, Vec::push))
        .target(bound, aim)
        .rival("Vec::with_capacity, transparent huge pages", pushing_huge_vec)
        .huge()
}

/// A shorter array, for rivals that chain chunks and take several times as long.
fn fewer(size: Size) -> usize {
    count(size) / 4
}

fn against_chunks() -> Case {
    Case::new("256 MiB of u64 by push", "ns/push", pushing(fewer, page_vec, PageVec::push))
        .rival("bumpalo's Vec", move |size| {
            let bump = bumpalo::Bump::new();
            let new = |_| bumpalo::collections::Vec::new_in(&bump);
            pushing(fewer, new, |v, x| v.push(x))(size)
        })
        .rival("bumpalo's Vec::with_capacity_in", move |size| {
            let bump = bumpalo::Bump::new();
            let new = |len| bumpalo::collections::Vec::with_capacity_in(len, &bump);
            pushing(fewer, new, |v, x| v.push(x))(size)
        })
}

/// Arrays that threads may share, as one thread fills them.
fn shared_by_one() -> Case {
    let ours = |len| ConcurrentVec::new(len).expect("the address space is larger");
    Case::new(
        "256 MiB of u64 by push, arrays that threads may share",
        "ns/push",
        pushing(fewer, ours, |v, x| v.push(x)),
    )
    .ours_is("pagewise ConcurrentVec")
    .rival("append-only-vec", pushing(fewer, |_| AppendOnlyVec::new(), |v, x| v.push(x)))
    .rival(
        "append-only-vec, push_mut",
        pushing(fewer, |_| AppendOnlyVec::new(), AppendOnlyVec::push_mut),
    )
    .rival("boxcar::new", pushing(fewer, |_| boxcar::Vec::new(), |v, x| v.push(x)))
    .rival("boxcar::with_capacity", pushing(fewer, boxcar::Vec::with_capacity, |v, x| v.push(x)))
    .rival(
        "virtual-buffer concurrent",
        pushing(fewer, virtual_buffer::concurrent::vec::Vec::new, |v, x| v.push(x)),
    )
}

fn page_vec(len: usize) -> PageVec<u64> {
    PageVec::new(len).expect("the address space is larger")
}

fn transparent(len: usize) -> PageVec<u64> {
    page_vec_in(len, HugePages::Transparent)
}

fn page_vec_in(len: usize, huge: HugePages) -> PageVec<u64> {
    PageVec::builder(len).huge_pages(huge).build().expect("the address space is larger")
}

fn virtual_buffer(len: usize) -> virtual_buffer::vec::Vec<u64> {
    virtual_buffer::vec::Vec::new(len)
}

/// `Vec::with_capacity` whose memory is advised to be huge pages before the first push: the standard library's array at
/// its best.
fn pushing_huge_vec(size: Size) -> Sample {
    let (count, began) = (count(size), Instant::now());
    let mut array = Vec::<u64>::with_capacity(count);
    let spare = array.spare_capacity_mut();
    if let Err(why) = crate::system::advise_huge(spare.as_mut_ptr().cast(), size_of_val(spare)) {
        return Sample::absent(why);
    }
    push_all(&mut array, count, Vec::push);
    Sample::per(began.elapsed(), count)
}

/// Makes an array for some elements and pushes as many.
fn pushing<V, R>(
    count: fn(Size) -> usize,
    make: impl Fn(usize) -> V,
    push: impl Fn(&mut V, u64) -> R + Copy,
) -> impl Fn(Size) -> Sample {
    move |size| {
        let (count, began) = (count(size), Instant::now());
        let mut array = make(count);
        push_all(&mut array, count, push);
        Sample::per(began.elapsed(), count)
    }
}

fn push_all<V, R>(array: &mut V, count: usize, push: impl Fn(&mut V, u64) -> R) {
    for value in 0..count as u64 {
        push(array, value);
    }
    std::hint::black_box(array);
}

fn into_committed() -> Case {
    Case::new("1 GiB again, into committed memory", "ns/push", |size| {
        again(count(size), 1, kept_page_vec(count(size)), PageVec::push, PageVec::clear)
    })
    .rival("Vec::with_capacity, resident", |size| {
        again(count(size), 1, Vec::with_capacity(count(size)), Vec::push, Vec::clear)
    })
    .target(1.05, 1.0)
    .needs(0)
}

fn in_cache() -> Case {
    let rounds = |size: Size| size.pick(4000, 4000, 2);
    Case::new("256 KiB again and again, in cache", "ns/push", move |size| {
        let array = kept_page_vec(IN_CACHE);
        again(IN_CACHE, rounds(size), array, PageVec::push, PageVec::clear)
    })
    .rival("Vec::with_capacity, resident", move |size| {
        again(IN_CACHE, rounds(size), Vec::with_capacity(IN_CACHE), Vec::push, Vec::clear)
    })
    .target(1.05, 1.0)
    .needs(0)
}

fn kept_page_vec(len: usize) -> PageVec<u64> {
    PageVec::builder(len).keep_committed(true).build().expect("the address space is larger")
}

/// Fills and clears an array, so that its memory is resident. Then measures more such rounds.
fn again<V>(
    count: usize,
    rounds: usize,
    mut array: V,
    push: impl Fn(&mut V, u64) + Copy,
    clear: impl Fn(&mut V),
) -> Sample {
    push_all(&mut array, count, push);
    let began = Instant::now();
    for _ in 0..rounds {
        clear(&mut array);
        push_all(&mut array, count, push);
    }
    Sample::per(began.elapsed(), count * rounds)
}

fn by_slices() -> Case {
    let case = Case::new(
        "256 MiB by slices of 4 KiB",
        "ns/slice",
        extending(page_vec, PageVec::extend_from_slice),
    );
    case.rival("Vec::with_capacity", extending(Vec::with_capacity, Vec::extend_from_slice))
        .rival("Vec::new", extending(|_| Vec::new(), Vec::extend_from_slice))
}

fn extending<V>(
    make: impl Fn(usize) -> V,
    extend: impl Fn(&mut V, &[u64]),
) -> impl Fn(Size) -> Sample {
    move |size| {
        let slice = [7u64; 512];
        let (slices, began) = (fewer(size) / slice.len(), Instant::now());
        let mut array = make(fewer(size));
        for _ in 0..slices {
            extend(&mut array, std::hint::black_box(&slice));
        }
        std::hint::black_box(&mut array);
        Sample::per(began.elapsed(), slices)
    }
}
