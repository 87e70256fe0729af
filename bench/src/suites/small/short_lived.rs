//! Containers that are made, used a little, and dropped.

use std::hint::black_box;

use bumpalo::Bump;
use pagewise::{Arena, DemandRegion, PageVec};

use super::{repeatedly, times};
use crate::case::Case;
use crate::rivals;

pub(super) fn cases() -> Vec<Case> {
    vec![vector(10), vector(1_000), vector(100_000), arena(10), arena(10_000), region()]
}

/// More addresses than any of these needs.
const MOST: usize = 1 << 20;

fn vector(count: usize) -> Case {
    let amount = if count < 1_000 { count.to_string() } else { format!("{},000", count / 1_000) };
    let all = count as u64;
    let times = move |size| times(size) / if count > 10_000 { 20 } else { 1 } + 1;
    Case::new(format!("a vector of {amount} u64, made, filled and dropped"), "ns", move |size| {
        repeatedly(times(size), || {
            let mut array = PageVec::new(MOST).expect("the address space is larger");
            (0..all).for_each(|value| array.push(value));
            black_box(&mut array);
        })
    })
    .rival("Vec::new", move |size| {
        repeatedly(times(size), || {
            let mut array = Vec::new();
            (0..all).for_each(|value| array.push(value));
            black_box(&mut array);
        })
    })
    .rival("Vec::with_capacity", move |size| {
        repeatedly(times(size), || {
            let mut array = Vec::with_capacity(count);
            (0..all).for_each(|value| array.push(value));
            black_box(&mut array);
        })
    })
    .rival("bumpalo's Vec in a new Bump", move |size| {
        repeatedly(times(size), || {
            let bump = Bump::new();
            let mut array = bumpalo::collections::Vec::new_in(&bump);
            (0..all).for_each(|value| array.push(value));
            black_box(&mut array);
        })
    })
    .rival("virtual-buffer Vec", move |size| {
        repeatedly(times(size), || {
            let mut array = virtual_buffer::vec::Vec::new(MOST);
            (0..all).for_each(|value| array.push(value));
            black_box(&mut array);
        })
    })
}

fn arena(count: u64) -> Case {
    let amount = if count < 1_000 { count.to_string() } else { format!("{},000", count / 1_000) };
    let name = format!("an arena with {amount} allocations of 16 bytes, made and dropped");
    let times = move |size| times(size) / if count > 1_000 { 10 } else { 1 } + 1;
    Case::new(name, "ns", move |size| {
        repeatedly(times(size), || {
            let arena = Arena::new(MOST).expect("the address space is larger");
            (0..count).for_each(|index| _ = black_box(arena.alloc([index, index])));
        })
    })
    .rival("bumpalo", move |size| {
        repeatedly(times(size), || {
            let bump = Bump::new();
            (0..count).for_each(|index| _ = black_box(bump.alloc([index, index])));
        })
    })
    .rival("Box for each", move |size| {
        repeatedly(times(size), || {
            let boxes: Vec<_> = (0..count).map(|index| Box::new([index, index])).collect();
            black_box(boxes);
        })
    })
    .rival("pagewise, the same arena after reset", move |size| {
        let arena = std::cell::RefCell::new(Arena::new(MOST).expect("the address space is larger"));
        repeatedly(times(size), || {
            let mut arena = arena.borrow_mut();
            (0..count).for_each(|index| _ = black_box(arena.alloc([index, index])));
            arena.reset();
        })
    })
}

/// One byte of 64 KiB is touched.
fn region() -> Case {
    const LEN: usize = 64 << 10;
    Case::new("64 KiB of which one page is touched, made and dropped", "ns", |size| {
        repeatedly(times(size), || {
            let mut region = DemandRegion::new(LEN).expect("the address space is larger");
            region.as_mut_slice()[LEN / 2] = 1;
        })
    })
    .rival("kernel demand paging", |size| {
        repeatedly(times(size), || touched(rivals::kernel_small(LEN)))
    })
    .rival("memmap2", |size| repeatedly(times(size), || touched(rivals::memmap2(LEN))))
    .rival("Vec of zeros", |size| {
        repeatedly(times(size), || {
            let mut zeros = vec![0u8; LEN];
            black_box(&mut zeros)[LEN / 2] = 1;
            black_box(zeros);
        })
    })
    .rival("pagewise, one that is kept: touch and decommit", |size| {
        let region =
            std::cell::RefCell::new(DemandRegion::new(LEN).expect("the address space is larger"));
        repeatedly(times(size), || {
            let mut region = region.borrow_mut();
            region.as_mut_slice()[LEN / 2] = 1;
            region.decommit(..).expect("nobody refers to it");
        })
    })
}

fn touched(area: crate::work::Opened) {
    let mut area = area.expect("64 KiB are there");
    // SAFETY: an open area can be touched over its length.
    unsafe { area.base().add(32 << 10).write_volatile(1) };
}
