//! Linux: plain mappings, and what `/proc` tells.

use std::fs;
use std::io::{self, Read};
use std::ptr;
use std::time::Duration;

use crate::work::Area;

#[path = "group.rs"]
mod group;
#[path = "held.rs"]
mod held;
#[path = "origin.rs"]
mod origin;

pub use group::{Group, forked, set_defrag};
pub use held::Held;
pub use origin::{hypervisor, kernel, processor, settings, total_memory};

/// Anonymous memory as `mmap` gives it. Unmapped when dropped.
///
/// Invariant: `len` bytes at `base` are a mapping of its own.
pub struct Mapping {
    base: *mut u8,
    len: usize,
}

/// Which pages the kernel may back a mapping with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Pages {
    Small,
    TransparentHuge,
}

impl Mapping {
    /// Readable and writable, without a charge for what is not touched.
    pub fn writable(len: usize, pages: Pages) -> io::Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // The kernel backs only whole aligned blocks with huge pages. All mappings are aligned, so that they are
        // comparable.
        let mapping = Self::aligned(len, 2 << 20, access, libc::MAP_NORESERVE)?;
        match pages {
            Pages::Small => mapping.advise(libc::MADV_NOHUGEPAGE)?,
            Pages::TransparentHuge => mapping.advise(libc::MADV_HUGEPAGE)?,
        }
        Ok(mapping)
    }

    /// The same without an alignment and without advice, which takes one system call.
    pub fn writable_at_any_page(len: usize) -> io::Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        Self::aligned(len, pagewise::page_size(), access, libc::MAP_NORESERVE)
    }

    pub fn inaccessible(len: usize) -> io::Result<Self> {
        Self::aligned(len, 2 << 20, libc::PROT_NONE, 0)
    }

    /// Inaccessible memory without an alignment, which takes one system call.
    pub fn inaccessible_at_any_page(len: usize) -> io::Result<Self> {
        Self::aligned(len, pagewise::page_size(), libc::PROT_NONE, 0)
    }

    fn aligned(len: usize, align: usize, access: i32, flags: i32) -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags;
        let slack = align - pagewise::page_size();
        // SAFETY: a new mapping replaces no other.
        let start = unsafe { libc::mmap(ptr::null_mut(), len + slack, access, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let before = start.addr().wrapping_neg() & (align - 1);
        // SAFETY: both ends belong to the new mapping, which only this function uses.
        unsafe {
            if before > 0 {
                libc::munmap(start, before);
            }
            if slack > before {
                libc::munmap(start.byte_add(before + len), slack - before);
            }
            Ok(Self { base: start.byte_add(before).cast(), len })
        }
    }

    pub fn advise(&self, advice: i32) -> io::Result<()> {
        // SAFETY: the advices in use keep the contents, and the range is our own.
        checked(unsafe { libc::madvise(self.base.cast(), self.len, advice) })
    }

    /// Makes all of it resident by one call.
    pub fn populate(&self) -> io::Result<()> {
        self.advise(libc::MADV_POPULATE_WRITE)
    }

    pub fn as_ptr(&self) -> *mut u8 {
        self.base
    }

    /// Makes a range readable and writable: `mprotect`.
    pub fn commit(&self, offset: usize, len: usize) -> io::Result<()> {
        assert!(offset + len <= self.len);
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the range is our own.
        checked(unsafe { libc::mprotect(self.base.add(offset).cast(), len, access) })
    }

    /// Gives the memory of a range back. It reads as zeros then.
    pub fn discard(&self, offset: usize, len: usize) -> io::Result<()> {
        assert!(offset + len <= self.len);
        // SAFETY: the range is our own.
        let start = unsafe { self.base.add(offset).cast() };
        // SAFETY: as above; nobody refers to the contents of a mapping.
        checked(unsafe { libc::madvise(start, len, libc::MADV_DONTNEED) })
    }

    /// Maps inaccessible memory over a range.
    pub fn map_over(&self, offset: usize, len: usize) -> io::Result<()> {
        assert!(offset + len <= self.len);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        // SAFETY: the range is our own.
        let start =
            unsafe { libc::mmap(self.base.add(offset).cast(), len, libc::PROT_NONE, flags, -1, 0) };
        if start == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl Area for Mapping {
    fn base(&mut self) -> *mut u8 {
        self.base
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: by the invariant.
        unsafe { libc::munmap(self.base.cast(), self.len) };
    }
}

fn checked(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Asks for transparent huge pages in the whole pages of some writable memory.
pub fn advise_huge(start: *mut u8, len: usize) -> Result<(), String> {
    let page = pagewise::page_size();
    let before = start.addr().wrapping_neg() & (page - 1);
    let whole = len.saturating_sub(before) / page * page;
    // SAFETY: the advice changes no contents, whatever lies in the pages.
    let advised =
        unsafe { libc::madvise(start.wrapping_add(before).cast(), whole, libc::MADV_HUGEPAGE) };
    checked(advised).map_err(|error| error.to_string())
}

/// A field of a file in `/proc` that is measured in kB, in bytes.
fn kilobytes(file: &str, field: &str) -> Option<usize> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.split_whitespace().next()?.parse::<usize>().ok()? << 10)
}

/// Bytes that no program and no cache uses.
pub fn free_memory() -> Option<usize> {
    kilobytes("/proc/meminfo", "MemFree:")
}

/// How many huge pages of 2 MiB the free blocks of the machine have room for.
pub fn free_huge_pages() -> Option<usize> {
    let text = fs::read_to_string("/proc/buddyinfo").ok()?;
    Some(text.lines().map(huge_pages_in).sum())
}

/// In a line `Node 0, zone Normal COUNT COUNT …`: the number of free blocks of one page, of two pages, and so on.
fn huge_pages_in(line: &str) -> usize {
    let order = ((2 << 20) / pagewise::page_size()).ilog2() as usize;
    let counts = line.split_whitespace().skip(4).filter_map(|word| word.parse::<usize>().ok());
    counts.skip(order).enumerate().map(|(double, count)| count << double).sum()
}

/// The most bytes that were ever resident in this process.
pub fn peak_resident() -> Option<usize> {
    kilobytes("/proc/self/status", "VmHWM:")
}

/// Bytes that are resident in this process now.
pub fn resident() -> Option<usize> {
    kilobytes("/proc/self/status", "VmRSS:")
}

/// How long this thread has been on a processor: it stands still while the thread waits for one.
pub fn time_on_processor() -> Option<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call fills the time.
    match unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) } {
        0 => Some(Duration::new(time.tv_sec as u64, time.tv_nsec as u32)),
        _ => None,
    }
}

/// The number of mappings of this process. Read in pieces, since the buffer of a longer read would be a mapping, too.
pub fn mappings() -> Option<usize> {
    let mut file = fs::File::open("/proc/self/maps").ok()?;
    let (mut count, mut piece) = (0, [0; 1 << 14]);
    loop {
        match file.read(&mut piece).ok()? {
            0 => return Some(count),
            len => count += piece[..len].iter().filter(|&&byte| byte == b'\n').count(),
        }
    }
}

/// Bytes of this process's page tables.
pub fn page_tables() -> Option<usize> {
    kilobytes("/proc/self/status", "VmPTE:")
}

/// Bytes of a range that are resident, and bytes that are charged as committed.
pub fn resident_and_charged(start: *const u8, len: usize) -> Option<(usize, usize)> {
    let text = fs::read_to_string("/proc/self/smaps").ok()?;
    let (mut inside, mut size, mut resident, mut charged) = (false, 0, 0, 0);
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (key, value) = (words.next()?, words.next().unwrap_or(""));
        if let Some((from, to)) = key.split_once('-').filter(|_| !key.ends_with(':')) {
            let parse = |word| usize::from_str_radix(word, 16).unwrap_or(0);
            let (from, to) = (parse(from), parse(to));
            inside = from < start.addr() + len && to > start.addr();
            size = to - from;
        } else if inside && key == "Rss:" {
            resident += value.parse::<usize>().ok()? << 10;
        } else if inside && key == "VmFlags:" && line.split_whitespace().any(|flag| flag == "ac") {
            charged += size;
        }
    }
    Some((resident, charged))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Other tests run in this process at the same time, so these look only for changes that are far larger than
    /// theirs.
    #[test]
    fn mappings_and_page_tables_grow_with_what_is_touched() {
        const COUNT: usize = 4000;
        let mapping = Mapping::inaccessible(COUNT << 21).unwrap();
        let (mappings_before, tables_before) = (mappings().unwrap(), page_tables().unwrap());
        for index in 0..COUNT {
            mapping.commit(index << 21, pagewise::page_size()).unwrap();
            // SAFETY: committed just now.
            unsafe { mapping.as_ptr().add(index << 21).write_volatile(1) };
        }
        let grown = mappings().unwrap() - mappings_before;
        assert!((2 * COUNT - 200..2 * COUNT + 200).contains(&grown), "{grown}");
        // Each touch has a page of page tables for itself where 2 MiB is what one describes; where
        // pages are larger, one describes more.
        let grown = page_tables().unwrap() - tables_before;
        assert!(pagewise::page_size() > 4096 || grown >= COUNT * 4096, "{grown}");
    }

    #[test]
    fn free_blocks_of_a_huge_page_and_larger_ones_are_counted_in_huge_pages() {
        let order = ((2 << 20) / pagewise::page_size()).ilog2() as usize;
        let line = format!("Node 0, zone   Normal {} 5 7", "9 ".repeat(order));
        assert_eq!(huge_pages_in(&line), 5 + 2 * 7);
        assert!(free_huge_pages().is_some());
    }

    #[test]
    fn residency_and_charge_follow_commit_touch_and_map_over() {
        let mapping = Mapping::inaccessible(1 << 20).unwrap();
        let state = || resident_and_charged(mapping.as_ptr(), 1 << 20).unwrap();
        assert_eq!(state(), (0, 0));
        // In the middle, since a page at the end could merge with a mapping of another thread.
        mapping.commit(65536, 65536).unwrap();
        assert_eq!(state(), (0, 65536));
        // SAFETY: committed just now.
        unsafe { mapping.as_ptr().add(65536).write_volatile(1) };
        assert!(state().0 > 0);
        mapping.map_over(65536, 65536).unwrap();
        assert_eq!(state(), (0, 0));
    }
}
