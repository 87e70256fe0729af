//! What Linux tells in the files of [`proc(5)`](https://man7.org/linux/man-pages/man5/proc.5.html).

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, Ordering};

use super::calls::{close, open};
use super::{OsError, ask_once, unix};
use crate::os::Residency;

/// Whether the system refuses commits beyond the memory that it has (`vm.overcommit_memory` is 2), asked once.
/// Async-signal-safe.
pub(crate) fn commits_strictly() -> bool {
    static ANSWER: AtomicI32 = AtomicI32::new(0);
    ask_once(&ANSWER, || {
        let mut strict = false;
        let buffer = [const { AtomicU8::new(0) }; 8];
        read_file(c"/proc/sys/vm/overcommit_memory", &buffer, |byte| strict |= byte == b'2');
        strict
    })
}

/// Whether the kernel uses transparent huge pages where they are asked for.
/// [`transhuge`](https://docs.kernel.org/admin-guide/mm/transhuge.html)
pub(crate) fn has_huge_pages() -> bool {
    std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled")
        .is_ok_and(|setting| !setting.contains("[never]"))
}

/// The size of the explicit huge pages that a reservation would get; `None` where the pool is empty.
pub(crate) fn explicit_huge_page_size() -> Option<usize> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let number = |key: &str| -> Option<usize> {
        let line = meminfo.lines().find(|line| line.starts_with(key))?;
        line[key.len()..].split_whitespace().next()?.parse().ok()
    };
    let (total, overcommit) = (number("HugePages_Total:")?, overcommit_huge_pages());
    if total + overcommit == 0 { None } else { Some(number("Hugepagesize:")? << 10) }
}

fn overcommit_huge_pages() -> usize {
    std::fs::read_to_string("/proc/sys/vm/nr_overcommit_hugepages")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

/// Set while a thread counts mappings.
static COUNTING: AtomicBool = AtomicBool::new(false);

/// How many mappings the process has, and how many it may have; `None` where `/proc` cannot be read, or another thread
/// is counting. Async-signal-safe.
pub(crate) fn mappings() -> Option<(usize, usize)> {
    /// Static, because the alternate stack that a signal handler runs on may be smaller.
    static BUFFER: [AtomicU8; 16 << 10] = [const { AtomicU8::new(0) }; 16 << 10];
    if COUNTING.swap(true, Ordering::Acquire) {
        return None;
    }
    let mut max = 0usize;
    let has_max = read_file(c"/proc/sys/vm/max_map_count", &BUFFER, |byte| {
        if byte.is_ascii_digit() {
            max = max.saturating_mul(10).saturating_add(usize::from(byte - b'0'));
        }
    });
    let mut count = 0;
    let has_count =
        read_file(c"/proc/self/maps", &BUFFER, |byte| count += usize::from(byte == b'\n'));
    COUNTING.store(false, Ordering::Release);
    (has_max && has_count).then_some((count, max))
}

/// In the child of a fork: ends the count of a thread that only the parent has.
pub(super) fn end_count_of_parent() {
    COUNTING.store(false, Ordering::Relaxed);
}

/// Calls `each` for every byte of a file, and returns whether the file could be read. Async-signal-safe.
fn read_file(path: &CStr, buffer: &[AtomicU8], mut each: impl FnMut(u8)) -> bool {
    // SAFETY: the path ends with a zero. Atomics may be written through a shared reference, and only the caller uses
    // these.
    unsafe {
        let file = open(path, libc::O_RDONLY);
        if file < 0 {
            return false;
        }
        let len = loop {
            let to = buffer.as_ptr().cast_mut();
            let len = libc::syscall(libc::SYS_read, file, to, buffer.len());
            if len <= 0 {
                break len;
            }
            buffer.iter().take(len as usize).for_each(|byte| each(byte.load(Ordering::Relaxed)));
        };
        close(file);
        len == 0
    }
}

/// Writes a zero into inaccessible private memory, which makes its page resident. It writes to `/proc/self/mem`, since
/// Linux ignores access rights there. Best effort: a kernel can be configured to refuse it.
/// [`proc_pid_mem(5)`](https://man7.org/linux/man-pages/man5/proc_pid_mem.5.html)
///
/// # Safety
/// See the contract of [`os`](super); the caller gives up what the first byte holds.
pub(crate) unsafe fn write_inaccessible_zero(at: NonNull<u8>) {
    let file = open(c"/proc/self/mem", libc::O_WRONLY);
    if file >= 0 {
        // SAFETY: one byte is written, at the caller's address; the file is this function's own.
        unsafe {
            libc::syscall(libc::SYS_pwrite64, file, [0u8].as_ptr(), 1usize, at.as_ptr().addr());
            close(file);
        }
    }
}

/// `PAGEMAP_SCAN` (Linux 6.7), else `mincore`, which does not tell of huge or swapped pages.
/// [`pagemap`](https://docs.kernel.org/admin-guide/mm/pagemap.html)
pub(crate) fn residency(
    start: NonNull<u8>,
    len: usize,
    each: &mut dyn FnMut(usize, usize, Residency),
) -> Result<(), OsError> {
    let file = File::open("/proc/self/pagemap")
        .map_err(|error| OsError(error.raw_os_error().unwrap_or(libc::ENOENT)))?;
    match scan(&file, start, len, each) {
        Err(OsError(libc::ENOTTY | libc::EINVAL | libc::ENOSYS)) => {
            unix::residency_by_mincore(start, len, each)
        }
        other => other,
    }
}

/// `struct pm_scan_arg` of `<linux/fs.h>`.
#[repr(C)]
#[derive(Default)]
struct ScanArguments {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    regions: u64,
    regions_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_any_of_mask: u64,
    return_mask: u64,
}

/// `struct page_region` of `<linux/fs.h>`: neighbouring pages of the same categories.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct ScanRegion {
    start: u64,
    end: u64,
    categories: u64,
}

fn scan(
    file: &File,
    start: NonNull<u8>,
    len: usize,
    each: &mut dyn FnMut(usize, usize, Residency),
) -> Result<(), OsError> {
    const PAGEMAP_SCAN: u32 = 0xc060_6610;
    const PRESENT: u64 = 1 << 3;
    const SWAPPED: u64 = 1 << 4;
    const HUGE: u64 = 1 << 6;
    let base = start.as_ptr().addr() as u64;
    let mut regions = [ScanRegion::default(); 256];
    let mut at = base;
    while at < base + len as u64 {
        let mut arguments = ScanArguments {
            size: size_of::<ScanArguments>() as u64,
            start: at,
            end: base + len as u64,
            regions: regions.as_mut_ptr().addr() as u64,
            regions_len: regions.len() as u64,
            category_any_of_mask: PRESENT | SWAPPED,
            return_mask: PRESENT | SWAPPED | HUGE,
            ..ScanArguments::default()
        };
        // SAFETY: the arguments are as the kernel lays them out, and `regions` outlives the call.
        let found = unsafe { libc::ioctl(file.as_raw_fd(), PAGEMAP_SCAN as _, &raw mut arguments) };
        if found < 0 {
            return Err(unix::last_error());
        }
        for region in &regions[..found as usize] {
            let residency = Residency {
                resident: region.categories & PRESENT != 0,
                huge: region.categories & HUGE != 0,
                swapped: region.categories & SWAPPED != 0,
            };
            each((region.start - base) as usize, (region.end - region.start) as usize, residency);
        }
        if arguments.walk_end <= at {
            break;
        }
        at = arguments.walk_end;
    }
    Ok(())
}
