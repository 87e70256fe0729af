//! Every kind of instruction resumes after its fault is served: stores across a page's edge, string operations,
//! atomics, vector loads and stores.
#![cfg(not(pagewise_model))]

use crate::common::{self, page_by_page, peek, poke};
use pagewise::page_size;

/// Runs `access` at every offset around the edge between two fresh pages, with neither, one or the
/// other committed before.
fn around_an_edge(width: usize, access: impl Fn(*mut u8)) {
    for before in [None, Some(0), Some(1)] {
        for back in 0..=width {
            let region = page_by_page(2);
            if let Some(page) = before {
                poke(region.as_ptr().wrapping_add(page * page_size()), 0);
            }
            access(region.as_ptr().wrapping_add(page_size() - back));
            // The bytes that were written are there, and no others changed.
            let touched = match back {
                0 => 1..2,
                back if back == width => 0..1,
                _ => 0..2,
            };
            let mut pages: Vec<usize> = touched.collect();
            pages.extend(before);
            pages.sort_unstable();
            pages.dedup();
            assert_eq!(region.committed(), pages.len() * page_size(), "{before:?}, {back}");
        }
    }
}

fn bytes_at(at: *mut u8, count: usize) -> Vec<u8> {
    (0..count).map(|index| peek(at.wrapping_add(index))).collect()
}

#[test]
fn stores_and_loads_across_the_edge() {
    around_an_edge(8, |at| {
        // SAFETY: eight bytes of the region.
        unsafe { at.cast::<u64>().write_unaligned(0x0807_0605_0403_0201) };
        assert_eq!(bytes_at(at, 8), [1, 2, 3, 4, 5, 6, 7, 8]);
    });
    around_an_edge(8, |at| {
        // SAFETY: eight bytes of the region.
        assert_eq!(unsafe { at.cast::<u64>().read_unaligned() }, 0);
    });
    around_an_edge(2, |at| {
        // SAFETY: two bytes of the region.
        unsafe { at.cast::<u16>().write_unaligned(0xabcd) };
        assert_eq!(bytes_at(at, 2), [0xcd, 0xab]);
    });
}

#[test]
fn copies_of_the_standard_library_over_many_pages() {
    let source: Vec<u8> = (0..3 * page_size()).map(|index| index as u8 | 1).collect();
    for back in [1, 7, 64, page_size() - 1] {
        let mut region = page_by_page(4);
        let at = page_size() - back;
        region.as_mut_slice()[at..at + source.len()].copy_from_slice(&source);
        assert_eq!(region.as_slice()[at..at + source.len()], source);
        assert_eq!(region.as_slice()[at - 1], 0);
        assert_eq!(region.committed(), 4 * page_size());
        let (from, mut to) = (page_by_page(4), page_by_page(4));
        to.as_mut_slice().copy_from_slice(from.as_slice());
        assert_eq!((from.stats().faults, to.stats().faults), (4, 4));
    }
}

#[test]
fn atomics_on_fresh_pages() {
    use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::SeqCst};
    let region = page_by_page(8);
    let at = |page| region.as_ptr().wrapping_add(page * page_size());
    // SAFETY: aligned words of the region that are used atomically only.
    let (words, bytes) = unsafe {
        ([0, 1, 2, 3].map(|page| AtomicU64::from_ptr(at(page).cast())), AtomicU8::from_ptr(at(4)))
    };
    assert_eq!(words[0].fetch_add(5, SeqCst), 0);
    assert_eq!(words[1].compare_exchange(0, 7, SeqCst, SeqCst), Ok(0));
    assert_eq!(words[2].swap(9, SeqCst), 0);
    assert_eq!(words[3].load(SeqCst), 0);
    assert_eq!(bytes.fetch_or(3, SeqCst), 0);
    assert_eq!(words.map(|word| word.load(SeqCst)), [5, 7, 9, 0]);
    assert_eq!(region.stats().faults, 5);
}

/// Several threads add to one word at the same time, and all fault on its page.
#[test]
fn no_atomic_addition_is_lost_or_done_twice() {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    let pages = if common::emulated() { 20 } else { 200 };
    let region = page_by_page(pages);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for page in 0..pages {
                    let at = region.as_ptr().wrapping_add(page * page_size());
                    // SAFETY: an aligned word of the region that is used atomically only.
                    unsafe { AtomicU64::from_ptr(at.cast()) }.fetch_add(1, Relaxed);
                }
            });
        }
    });
    assert!((0..pages).all(|page| peek(region.as_ptr().wrapping_add(page * page_size())) == 4));
}

#[test]
#[cfg(target_arch = "x86_64")]
fn string_operations_across_several_pages() {
    for back in [0, 1, 5, 63] {
        let (from, to) = (page_by_page(4), page_by_page(4));
        let len = 2 * page_size();
        // SAFETY: both ranges lie inside their regions.
        unsafe {
            std::arch::asm!(
                "rep stosb",
                inout("rdi") from.as_ptr().wrapping_add(page_size() - back) => _,
                inout("rcx") len => _, in("al") 0x5au8,
            );
            std::arch::asm!(
                "rep movsb",
                inout("rdi") to.as_ptr().wrapping_add(page_size() - back) => _,
                inout("rsi") from.as_ptr().wrapping_add(page_size() - back) => _,
                inout("rcx") len => _,
            );
        }
        for index in 0..4 * page_size() {
            let inside = (page_size() - back..3 * page_size() - back).contains(&index);
            if (1..3).contains(&(index / page_size())) || back > 0 && index < page_size() {
                let expected = if inside { 0x5a } else { 0 };
                assert_eq!(peek(to.as_ptr().wrapping_add(index)), expected, "{index:#x}");
            }
        }
        let expected = if back == 0 { 2 } else { 3 };
        assert_eq!((from.stats().faults, to.stats().faults), (expected, expected));
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn vector_stores_and_loads_across_the_edge() {
    let value = [0x1111_1111_1111_1111u64, 0x2222_2222_2222_2222];
    let expected: Vec<u8> = value.iter().flat_map(|half| half.to_le_bytes()).collect();
    around_an_edge(16, |at| {
        let mut back = [0u64; 2];
        // SAFETY: sixteen bytes of the region.
        unsafe {
            std::arch::asm!(
                "movdqu xmm1, [{value}]", "movdqu [{at}], xmm1", "movdqu xmm2, [{at}]",
                "movdqu [{back}], xmm2",
                value = in(reg) &raw const value, at = in(reg) at, back = in(reg) &raw mut back,
                out("xmm1") _, out("xmm2") _,
            );
        }
        assert_eq!(back, value);
        assert_eq!(bytes_at(at, 16), expected);
    });
    if !std::is_x86_feature_detected!("avx") {
        return common::not_here("AVX (this processor has none)");
    }
    around_an_edge(32, |at| {
        let (wide, mut back) = ([1u64, 2, 3, 4], [0u64; 4]);
        // SAFETY: 32 bytes of the region; AVX is there.
        unsafe {
            std::arch::asm!(
                "vmovdqu ymm1, [{value}]", "vmovdqu [{at}], ymm1", "vmovdqu ymm2, [{at}]",
                "vmovdqu [{back}], ymm2",
                value = in(reg) &raw const wide, at = in(reg) at, back = in(reg) &raw mut back,
                out("ymm1") _, out("ymm2") _,
            );
        }
        assert_eq!(back, wide);
    });
}

#[test]
#[cfg(target_arch = "aarch64")]
fn vector_and_pair_stores_across_the_edge() {
    let value = [0x1111_1111_1111_1111u64, 0x2222_2222_2222_2222];
    let expected: Vec<u8> = value.iter().flat_map(|half| half.to_le_bytes()).collect();
    around_an_edge(16, |at| {
        // SAFETY: sixteen bytes of the region.
        unsafe {
            std::arch::asm!(
                "ldr q1, [{value}]", "str q1, [{at}]",
                value = in(reg) &raw const value, at = in(reg) at, out("v1") _,
            );
        }
        assert_eq!(bytes_at(at, 16), expected);
    });
    around_an_edge(16, |at| {
        // SAFETY: sixteen bytes of the region.
        unsafe {
            std::arch::asm!("stp {a}, {b}, [{at}]", a = in(reg) value[0], b = in(reg) value[1], at = in(reg) at);
        }
        assert_eq!(bytes_at(at, 16), expected);
    });
}
