//! Very many small containers that live at the same time: time, memory, mappings and page tables of each.

use std::hint::black_box;
use std::time::Instant;

use pagewise::{DemandRegion, PageVec};

use super::super::footprint;
use crate::case::{Case, Size};
use crate::sample::Sample;
use crate::system;

/// Two mappings for each are nearly as many as Linux allows a process.
const MANY: usize = 32_000;
const ELEMENTS: u64 = 10;

pub(super) fn cases() -> Vec<Case> {
    let name = "32,000 containers of 10 u64 at once";
    let case = |what: &str, unit, what_counts: Counts| {
        let of =
            move |make: fn() -> Box<dyn std::any::Any>| move |size| kept(size, what_counts, make);
        Case::new(format!("{name}: {what}"), unit, of(page_vec))
            .ours_is("pagewise PageVec")
            .rival("Vec::new", of(vec))
            .rival("virtual-buffer Vec", of(virtual_buffer))
            .rival("bumpalo, a Bump for each", of(bump))
            .rival("kernel demand paging, a mapping of 64 KiB for each", of(mapping))
            .rival("pagewise DemandRegion of 64 KiB", of(region))
    };
    vec![
        case("time to make and fill one", "ns", Counts::Time),
        case("resident memory of each", "bytes", Counts::Memory).counted(),
    ]
}

#[derive(Clone, Copy, PartialEq)]
enum Counts {
    Time,
    Memory,
}

fn kept(size: Size, counts: Counts, make: fn() -> Box<dyn std::any::Any>) -> Sample {
    let count = size.pick(MANY, MANY, 50);
    let (before, tables_before) = (system::resident(), system::page_tables());
    let began = Instant::now();
    let kept: Vec<_> = (0..count).map(|_| make()).collect();
    let time = began.elapsed();
    let footprint = footprint(tables_before);
    let sample = match (counts, before, system::resident()) {
        (Counts::Time, ..) => Sample::per(time, count),
        (Counts::Memory, Some(before), Some(after)) => {
            Sample::of(after.saturating_sub(before) as f64 / count as f64)
        }
        _ => Sample::absent("resident memory is known on Linux only"),
    };
    black_box(kept);
    sample.footprint(footprint)
}

fn page_vec() -> Box<dyn std::any::Any> {
    let mut array = PageVec::new(1 << 20).expect("mappings are enough");
    (0..ELEMENTS).for_each(|value| array.push(value));
    Box::new(array)
}

fn vec() -> Box<dyn std::any::Any> {
    let mut array = Vec::new();
    (0..ELEMENTS).for_each(|value| array.push(value));
    Box::new(array)
}

fn virtual_buffer() -> Box<dyn std::any::Any> {
    let mut array = virtual_buffer::vec::Vec::new(1 << 20);
    (0..ELEMENTS).for_each(|value| array.push(value));
    Box::new(array)
}

/// The numbers lie in a slice of the arena.
fn bump() -> Box<dyn std::any::Any> {
    let bump = bumpalo::Bump::new();
    black_box(bump.alloc_slice_fill_with(ELEMENTS as usize, |index| index as u64));
    Box::new(bump)
}

fn mapping() -> Box<dyn std::any::Any> {
    let mut area = memmap2::MmapMut::map_anon(64 << 10).expect("mappings are enough");
    (0..ELEMENTS as usize).for_each(|index| area[index * 8] = 1);
    Box::new(area)
}

fn region() -> Box<dyn std::any::Any> {
    let mut region = DemandRegion::new(64 << 10).expect("mappings are enough");
    (0..ELEMENTS as usize).for_each(|index| region.as_mut_slice()[index * 8] = 1);
    Box::new(region)
}
