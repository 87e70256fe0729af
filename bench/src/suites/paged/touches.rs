//! Elements here and there.

use std::hint::black_box;
use std::ops::Deref;
use std::time::{Duration, Instant};

use pagewise::{FileStore, PagedArray, PagedRegion, SecondChance, page_size};

use super::Outcome;
use super::file::Numbers;
use crate::case::Size;
use crate::sample::Sample;

/// Bytes of the file whose pages are all resident.
pub const RESIDENT: fn(Size) -> usize = |size| size.pick(256 << 20, 64 << 20, 1 << 20);
/// Bytes of the file of which a half is resident.
pub const MISSES: fn(Size) -> usize = |size| size.pick(64 << 20, 64 << 20, 1 << 20);

pub fn accesses(size: Size) -> usize {
    size.pick(10_000_000, 2_000_000, 1_000)
}

pub fn misses_of(size: Size) -> usize {
    size.pick(100_000, 30_000, 200)
}

/// A number below `below` that looks like a random one (by splitmix64). Multiples of one constant would not do: they
/// come to each page before they come to one again, which suits no cache of pages.
pub fn at_random(index: usize, below: usize) -> usize {
    let mut mixed = (index as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    ((u128::from(mixed) * below as u128) >> 64) as usize
}

fn array(region: PagedRegion<FileStore>) -> Result<PagedArray<u64, FileStore>, pagewise::Error> {
    // SAFETY: nobody else writes to the file.
    unsafe { PagedArray::new(region) }
}

/// Where the system's memory lies makes accesses at random up to a third slower or faster: so each sample is the mean over
/// several arrays.
const ARRAYS: usize = 6;

pub fn resident(size: Size) -> Outcome {
    let numbers = Numbers::new(RESIDENT(size))?;
    of_arrays(size, || {
        let array = array(numbers.region()?.build()?)?;
        black_box(array.iter().fold(0u64, |sum, &number| sum.wrapping_add(number)));
        Ok(array)
    })
}

/// Pages of 2 MiB, each a huge page where the system has one.
pub fn resident_huge(size: Size) -> Outcome {
    let numbers = Numbers::new(RESIDENT(size).max(2 << 20))?;
    of_arrays(size, || {
        let region = numbers.region()?.page_bytes(2 << 20).read_only().build()?;
        // SAFETY: nobody writes to the file.
        let array = unsafe { PagedArray::<u64, _>::read_only(region) };
        black_box(array.iter().fold(0u64, |sum, &number| sum.wrapping_add(number)));
        Ok(array)
    })
}

pub fn plain(size: Size) -> Outcome {
    of_arrays(size, || Ok((0..RESIDENT(size) as u64 / 8).collect::<Vec<_>>()))
}

pub fn plain_huge(size: Size) -> Outcome {
    of_arrays(size, || {
        let count = RESIDENT(size) / size_of::<u64>();
        let mut array = Vec::<u64>::with_capacity(count);
        let spare = array.spare_capacity_mut();
        crate::system::advise_huge(spare.as_mut_ptr().cast(), size_of_val(spare))?;
        array.extend(0..count as u64);
        Ok(array)
    })
}

fn of_arrays<A: Deref<Target = [u64]>>(
    size: Size,
    make: impl Fn() -> Result<A, Box<dyn std::error::Error>>,
) -> Outcome {
    let (mut took, count) = (Duration::ZERO, accesses(size) / ARRAYS);
    // (Kept, so that each has other memory.)
    let mut arrays = Vec::new();
    for _ in 0..ARRAYS {
        let array = make()?;
        took += elements(&array, 0, count);
        arrays.push(array);
    }
    Ok(Sample::per(took, count * ARRAYS))
}

/// How long it takes to read elements, those of the places `from` to `to` of the sequence.
fn elements(array: &[u64], from: usize, to: usize) -> Duration {
    let began = Instant::now();
    for index in from..to {
        black_box(array[at_random(index, array.len())]);
    }
    began.elapsed()
}

/// A region of which a half is resident, after as many accesses as will be measured.
fn half_resident(
    numbers: &Numbers,
    size: Size,
) -> Result<PagedArray<u64, FileStore>, Box<dyn std::error::Error>> {
    let region = numbers.region()?.page_bytes(page_size()).limit(numbers.len / 2).build()?;
    let array = array(region)?;
    elements(&array, 0, misses_of(size));
    Ok(array)
}

pub fn misses(size: Size) -> Outcome {
    let numbers = Numbers::new(MISSES(size))?;
    let array = half_resident(&numbers, size)?;
    let (count, before) = (misses_of(size), array.stats().loads);
    let sample = Sample::per(elements(&array, count, 2 * count), count);
    let loads = array.stats().loads - before;
    Ok(sample.note(format!("{loads} of {count} accesses load a page")))
}

pub fn threads(size: Size, threads: usize) -> Outcome {
    let numbers = Numbers::new(MISSES(size))?;
    let array = half_resident(&numbers, size)?;
    let (count, array) = (misses_of(size), &array);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for thread in 1..=threads {
            let each = count / threads;
            scope.spawn(move || elements(array, thread * count, thread * count + each));
        }
    });
    Ok(Sample::per(began.elapsed(), count))
}

/// All of the file is mapped; its pages are in the system's cache, and the first access to each faults.
pub fn mapped(size: Size) -> Outcome {
    let numbers = Numbers::new(MISSES(size))?;
    // SAFETY: nobody changes the file.
    let map = unsafe { memmap2::Mmap::map(&numbers.open()?)? };
    map.advise(memmap2::Advice::Random)?;
    let count = misses_of(size);
    let touch = |from: usize, to: usize| {
        let began = Instant::now();
        for index in from..to {
            black_box(map[at_random(index, map.len() / 8) * 8]);
        }
        Sample::per(began.elapsed(), to - from)
    };
    touch(0, count);
    Ok(touch(count, 2 * count))
}

/// Each access is to another page, and to one that was not touched before.
pub fn first(size: Size) -> Outcome {
    let numbers = Numbers::new(MISSES(size))?;
    let array = array(numbers.region()?.page_bytes(page_size()).build()?)?;
    Ok(each_page(&array, size))
}

fn each_page(array: &[u64], size: Size) -> Sample {
    let per_page = page_size() / size_of::<u64>();
    let (pages, count) = (array.len() / per_page, size.pick(10_000, 10_000, 100));
    let began = Instant::now();
    for index in 0..count {
        // An odd step goes through all pages before it comes to one again.
        black_box(array[index * 7919 % pages * per_page]);
    }
    Sample::per(began.elapsed(), count)
}

pub fn manager_thread(size: Size) -> Outcome {
    use userspace_pagefault::{AccessType, PageChunk, PageChunks, PageStore, PagedSegment};

    struct Pages(std::fs::File, Vec<u8>);
    impl PageStore for Pages {
        fn page_fault(
            &mut self,
            offset: usize,
            length: usize,
            _: AccessType,
        ) -> Option<PageChunks<'_>> {
            use std::os::unix::fs::FileExt;
            self.1.resize(length, 0);
            self.0.read_exact_at(&mut self.1, offset as u64).ok()?;
            let chunk: PageChunk<'_> = Box::new(&self.1[..]);
            Some(Box::new(std::iter::once(chunk)))
        }
    }
    let numbers = Numbers::new(MISSES(size))?;
    let pages = Pages(numbers.open()?, Vec::new());
    let segment =
        PagedSegment::new(numbers.len, pages, None).map_err(|error| format!("{error:?}"))?;
    let (start, len) = segment.as_raw_parts();
    // SAFETY: the segment is as long, and lives.
    let array = unsafe { std::slice::from_raw_parts(start.cast::<u64>(), len / 8) };
    Ok(each_page(array, size))
}

/// An array of which half is in memory, and whose pages get a second chance. Nothing is read ahead, and pages are touched
/// from the last to the first, which is no row: each touch faults, and pages leave in the order in which they came.
fn half(numbers: &Numbers, direct: bool) -> Result<PagedArray<u64, FileStore>, pagewise::Error> {
    let store = FileStore::builder(&numbers.path).direct(direct).open()?;
    let builder = PagedRegion::builder(store).page_bytes(page_size()).limit(numbers.len / 2);
    let builder = builder.read_ahead(0);
    let builder = if direct { builder } else { builder.second_chance(SecondChance::Always) };
    array(builder.build()?)
}

/// Bytes of the file: a quarter where the disk is asked.
fn file(size: Size, direct: bool) -> std::io::Result<Numbers> {
    Numbers::new(if direct { MISSES(size) / 4 } else { MISSES(size) })
}

/// Pages that cool, since as many others came after them, and are touched again. `direct`: the file is read from the disk,
/// and second chances are what is measured to be worth it.
pub fn rescues(size: Size, direct: bool) -> Outcome {
    let numbers = file(size, direct)?;
    let per_page = page_size() / size_of::<u64>();
    let (mut took, mut count) = (Duration::ZERO, 0);
    for _ in 0..size.pick(if direct { 4 } else { 20 }, if direct { 2 } else { 5 }, 1) {
        // (In a region that was used before, some pages are behind the hand.)
        let array = half(&numbers, direct)?;
        let pages = array.len() / per_page;
        let touch = |places: std::ops::Range<usize>| {
            for place in places {
                black_box(array[(pages - 1 - place) * per_page]);
            }
        };
        let frames = numbers.len / 2 / page_size();
        touch(0..frames + frames / 8);
        let before = array.stats();
        // An eighth of the frames cools: the pages behind those that left.
        let first = before.evictions as usize + frames / 32;
        let cool = first..first + frames / 16;
        count += cool.len();
        let began = Instant::now();
        touch(cool.clone());
        took += began.elapsed();
        let rescues = array.stats().rescues - before.rescues;
        if rescues != cool.len() as u64 {
            return Err(format!("{rescues} of {} touches were rescues", cool.len()).into());
        }
    }
    Ok(Sample::per(took, count))
}

pub fn loads(size: Size, direct: bool) -> Outcome {
    let numbers = file(size, direct)?;
    let array = half(&numbers, direct)?;
    let per_page = page_size() / size_of::<u64>();
    let pages = array.len() / per_page;
    let touch = |from: usize, to: usize| {
        let began = Instant::now();
        for page in from..to {
            black_box(array[(pages - 1 - page % pages) * per_page]);
        }
        Sample::per(began.elapsed(), to - from)
    };
    touch(0, pages);
    let before = array.stats().loads;
    let sample = touch(pages, 2 * pages);
    let loads = array.stats().loads - before;
    if loads != pages as u64 {
        return Err(format!("{loads} of {pages} touches were loads").into());
    }
    Ok(sample)
}
