//! A file that the system has not in its cache, and a process that may have a quarter of it in memory, cached or not.

use std::hint::black_box;
use std::os::fd::AsRawFd;
use std::time::Instant;

use pagewise::{FileStore, PagedArray, PagedRegion, page_size};

use super::Outcome;
use super::file::Numbers;
use super::scans::sum;
use super::touches::at_random;
use crate::case::Size;
use crate::sample::Sample;
use crate::system::Group;

/// What the process has besides, and the tables of its pages.
const REST: usize = 32 << 20;

fn len(size: Size) -> usize {
    size.pick(256 << 20, 256 << 20, 256 << 20)
}

/// Random reads.
fn count(size: Size) -> usize {
    size.pick(20_000, 12_000, 200) // more than there are pages in memory
}

/// A file whose bytes are on the disk alone.
fn cold(size: Size) -> std::io::Result<Numbers> {
    let numbers = Numbers::new(len(size))?;
    // SAFETY: the file is open.
    let forgotten = unsafe {
        libc::posix_fadvise(numbers.open()?.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED)
    };
    match forgotten {
        0 => Ok(numbers),
        error => Err(std::io::Error::from_raw_os_error(error)),
    }
}

fn scan(bytes: &[u8]) -> Sample {
    let began = Instant::now();
    black_box(sum(bytes));
    Sample::per(began.elapsed(), bytes.len() / 4096)
}

fn at_random_places(numbers: &[u64], size: Size) -> Sample {
    let began = Instant::now();
    for index in 0..count(size) {
        black_box(numbers[at_random(index, numbers.len())]);
    }
    Sample::per(began.elapsed(), count(size))
}

fn region(numbers: &Numbers, page_bytes: usize) -> Result<PagedRegion<FileStore>, pagewise::Error> {
    let store = FileStore::builder(&numbers.path).read_only(true).direct(true).open()?;
    let builder = PagedRegion::builder(store).page_bytes(page_bytes).read_only();
    builder.limit(numbers.len / 4 - REST).io_threads(1).read_ahead(4 << 20).build()
}

pub fn scan_paged(size: Size) -> Outcome {
    let numbers = cold(size)?;
    let _group = Group::with_limit(numbers.len / 4)?;
    let region = region(&numbers, 2 << 20)?;
    // SAFETY: nobody writes to the file.
    Ok(scan(unsafe { region.as_slice() }))
}

pub fn random_paged(size: Size) -> Outcome {
    let numbers = cold(size)?;
    let _group = Group::with_limit(numbers.len / 4)?;
    // SAFETY: nobody writes to the file.
    let array = unsafe { PagedArray::<u64, _>::read_only(region(&numbers, page_size())?) };
    Ok(at_random_places(&array, size))
}

fn map(numbers: &Numbers, advice: memmap2::Advice) -> std::io::Result<memmap2::Mmap> {
    // SAFETY: nobody changes the file.
    let map = unsafe { memmap2::Mmap::map(&numbers.open()?)? };
    map.advise(advice)?;
    Ok(map)
}

pub fn scan_mapped(size: Size) -> Outcome {
    let numbers = cold(size)?;
    let _group = Group::with_limit(numbers.len / 4)?;
    Ok(scan(&map(&numbers, memmap2::Advice::Sequential)?))
}

pub fn random_mapped(size: Size) -> Outcome {
    let numbers = cold(size)?;
    let _group = Group::with_limit(numbers.len / 4)?;
    let map = map(&numbers, memmap2::Advice::Random)?;
    // SAFETY: whole numbers, at the start of a page.
    let array = unsafe { std::slice::from_raw_parts(map.as_ptr().cast::<u64>(), map.len() / 8) };
    Ok(at_random_places(array, size))
}
