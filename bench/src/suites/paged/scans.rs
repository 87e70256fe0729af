//! All of a file, from its start to its end.

use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use pagewise::Expected;

use super::Outcome;
use super::file::Numbers;
use crate::case::Size;
use crate::sample::Sample;

const BUFFER: usize = 1 << 20;

fn len(size: Size) -> usize {
    size.pick(1 << 30, 256 << 20, 64 << 20)
}

pub fn sum(bytes: &[u8]) -> u64 {
    let number = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().expect("eight bytes"));
    bytes.chunks_exact(8).fold(0, |sum, bytes| sum.wrapping_add(number(bytes)))
}

/// Scans twice, and measures the second time: every frame has been used.
fn second(numbers: &Numbers, mut scan: impl FnMut() -> u64) -> Outcome {
    let first = scan();
    let began = Instant::now();
    let second = black_box(scan());
    let sample = Sample::per(began.elapsed(), numbers.len / 4096);
    if first == second { Ok(sample) } else { Err("the sums differ".into()) }
}

pub fn paged(size: Size, page_bytes: usize, read_only: bool, expected: Expected) -> Outcome {
    let numbers = Numbers::new(len(size))?;
    let builder = numbers.region()?.page_bytes(page_bytes).limit(numbers.len / 4);
    let mut builder = builder.expected(expected);
    if read_only {
        builder = builder.read_only();
    }
    let region = builder.build()?;
    // SAFETY: nobody writes to the file.
    let bytes = unsafe { region.as_slice() };
    let mut loads = 0;
    let sample = second(&numbers, || {
        let before = region.stats().loads;
        let sum = sum(bytes);
        loads = region.stats().loads - before;
        sum
    })?;
    Ok(sample.note(format!("{loads} of {} pages had to be loaded", numbers.len / page_bytes)))
}

/// The second half of a longer file, after the first: every frame has been used, and no page of it is in memory.
pub fn paged_on(size: Size, page_bytes: usize) -> Outcome {
    let numbers = Numbers::new(2 * len(size))?;
    let builder = numbers.region()?.page_bytes(page_bytes).limit(len(size) / 4);
    let region = builder.read_only().build()?;
    // SAFETY: nobody writes to the file.
    let bytes = unsafe { region.as_slice() };
    let (first, second) = bytes.split_at(len(size));
    black_box(sum(first));
    let began = Instant::now();
    black_box(sum(second));
    Ok(Sample::per(began.elapsed(), second.len() / 4096))
}

pub fn pread(size: Size) -> Outcome {
    let numbers = Numbers::new(len(size))?;
    let (file, mut buffer) = (numbers.open()?, vec![0; BUFFER]);
    second(&numbers, || {
        (0..numbers.len).step_by(BUFFER).fold(0, |all, at| {
            file.read_exact_at(&mut buffer, at as u64).expect("the file has as many bytes");
            all.wrapping_add(sum(&buffer))
        })
    })
}

pub fn mapped(size: Size) -> Outcome {
    let numbers = Numbers::new(len(size))?;
    // SAFETY: nobody changes the file.
    let map = unsafe { memmap2::Mmap::map(&numbers.open()?)? };
    second(&numbers, || sum(&map))
}

const EXTENT: usize = 64 << 10;

fn written(size: Size) -> usize {
    size.pick(256 << 20, 64 << 20, 4 << 20)
}

pub fn write_back(size: Size) -> Outcome {
    let numbers = Numbers::new(written(size))?;
    let mut region = numbers.region()?.page_bytes(EXTENT).build()?;
    let len = region.len();
    let mut once = |value| -> Result<std::time::Duration, Box<dyn std::error::Error>> {
        region.fill(..len, value)?;
        let began = Instant::now();
        region.flush(..)?;
        Ok(began.elapsed())
    };
    once(1)?;
    Ok(Sample::per(once(2)?, numbers.len / 4096))
}

pub fn pwrite(size: Size) -> Outcome {
    let numbers = Numbers::new(written(size))?;
    let (file, mut bytes) = (numbers.open()?, vec![1u8; numbers.len]);
    let mut once = |value| -> Result<std::time::Duration, Box<dyn std::error::Error>> {
        bytes.fill(value);
        let began = Instant::now();
        for at in (0..bytes.len()).step_by(EXTENT) {
            file.write_all_at(&bytes[at..at + EXTENT], at as u64)?;
        }
        file.sync_data()?;
        Ok(began.elapsed())
    };
    once(1)?;
    Ok(Sample::per(once(2)?, numbers.len / 4096))
}
