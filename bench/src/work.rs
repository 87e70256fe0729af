//! The work that subjects share, so that all of them do the same.

use std::sync::Barrier;
use std::time::{Duration, Instant};

/// A range of memory that a subject has made ready to be touched.
pub trait Area {
    /// The first of the bytes that were asked for.
    fn base(&mut self) -> *mut u8;

    /// A remark for the table, made after the work.
    fn note(&self) -> Option<String> {
        None
    }
}

/// An area, or why there can be none here.
pub type Opened = Result<Box<dyn Area>, String>;

/// Stores one word into each page.
///
/// # Safety
/// The `len` bytes at `base` can be written, by way of page faults if need be.
pub unsafe fn touch_each_page(base: *mut u8, len: usize) {
    let page = pagewise::page_size();
    for offset in (0..len).step_by(page) {
        // SAFETY: inside the range.
        unsafe { base.add(offset).cast::<u64>().write_volatile(offset as u64 | 1) };
    }
}

/// Writes every byte, page after page.
///
/// # Safety
/// As [`touch_each_page`].
pub unsafe fn write_every_byte(base: *mut u8, len: usize) {
    let page = pagewise::page_size();
    for offset in (0..len).step_by(page) {
        // SAFETY: inside the range.
        unsafe { base.add(offset).write_bytes(offset as u8 | 1, page.min(len - offset)) };
    }
    std::hint::black_box(base);
}

/// Visits `count` of `2^bits` pages in a scattered order: calls `visit` with the offset of each. `threads` threads
/// share the work. Returns the time from when all are ready until all are done.
pub fn scattered(
    bits: u32,
    count: usize,
    threads: usize,
    visit: impl Fn(usize) + Sync,
) -> Duration {
    let page = pagewise::page_size();
    let (start, end) = (Barrier::new(threads + 1), Barrier::new(threads + 1));
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (start, end, visit) = (&start, &end, &visit);
            scope.spawn(move || {
                start.wait();
                for index in (thread..count).step_by(threads) {
                    visit(scatter(index as u64, bits) as usize * page);
                }
                end.wait();
            });
        }
        start.wait();
        let began = Instant::now();
        end.wait();
        began.elapsed()
    })
}

/// Stores a word, which is not zero.
///
/// # Safety
/// The eight bytes at `base + offset` can be written, by way of a page fault if need be.
pub unsafe fn store(base: usize, offset: usize) {
    let at = std::ptr::with_exposed_provenance_mut::<u64>(base + offset);
    // SAFETY: the caller's promise.
    unsafe { at.write_volatile(offset as u64 | 1) };
}

/// A permutation of the numbers below `2^bits`: each step of it can be inverted.
pub fn scatter(index: u64, bits: u32) -> u64 {
    let mask = (1 << bits) - 1;
    let mut x = index & mask;
    for factor in [0x9e37_79b9_7f4a_7c15_u64, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb] {
        x = x.wrapping_mul(factor) & mask;
        x ^= x >> (bits / 2);
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffle_meets_every_number_once_and_leaves_no_neighbours_together() {
        for bits in [4, 13, 16] {
            let mut seen: Vec<u64> = (0..1 << bits).map(|i| scatter(i, bits)).collect();
            let neighbours = seen.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) == 1).count();
            assert!(neighbours <= seen.len() / 4, "{neighbours} of {}", seen.len());
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..1 << bits));
        }
    }
}
