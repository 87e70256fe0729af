//! A pool of buffers as databases have it: a cache from page numbers to buffers, filled by `pread`.

use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Instant;

use quick_cache::sync::Cache;

use super::Outcome;
use super::file::Numbers;
use super::touches::{MISSES, RESIDENT, accesses, at_random, misses_of};
use crate::case::Size;
use crate::sample::Sample;

const PAGE: usize = 4096;

struct Pool {
    file: std::fs::File,
    pages: Cache<u64, Arc<[u8; PAGE]>>,
}

impl Pool {
    fn new(numbers: &Numbers, bytes: usize) -> std::io::Result<Self> {
        Ok(Self { file: numbers.open()?, pages: Cache::new(bytes / PAGE) })
    }

    fn number(&self, index: usize) -> std::io::Result<u64> {
        let (page, at) = (index * 8 / PAGE, index * 8 % PAGE);
        let bytes = self.pages.get_or_insert_with(&(page as u64), || {
            let mut bytes = [0; PAGE];
            self.file.read_exact_at(&mut bytes, (page * PAGE) as u64)?;
            Ok::<_, std::io::Error>(Arc::new(bytes))
        })?;
        Ok(u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes")))
    }
}

pub fn resident(size: Size) -> Outcome {
    let numbers = Numbers::new(RESIDENT(size))?;
    // (A little more room: the cache counts by shards.)
    let pool = Pool::new(&numbers, numbers.len * 5 / 4)?;
    for page in 0..numbers.len / PAGE {
        pool.number(page * PAGE / 8)?;
    }
    let count = accesses(size);
    let began = Instant::now();
    for index in 0..count {
        black_box(pool.number(at_random(index, numbers.len / 8))?);
    }
    Ok(Sample::per(began.elapsed(), count))
}

pub fn misses(size: Size) -> Outcome {
    let numbers = Numbers::new(MISSES(size))?;
    let pool = Pool::new(&numbers, numbers.len / 2)?;
    let count = misses_of(size);
    let touch = |from: usize, to: usize| -> std::io::Result<()> {
        for index in from..to {
            black_box(pool.number(at_random(index, numbers.len / 8))?);
        }
        Ok(())
    };
    touch(0, count)?;
    let began = Instant::now();
    touch(count, 2 * count)?;
    Ok(Sample::per(began.elapsed(), count))
}
