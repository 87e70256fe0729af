//! The kernel's own accesses raise no signal: `read(2)` into uncommitted memory fails or is short. It works after
//! `commit`; `read_from` and `write_to` need no preparation.
#![cfg(not(pagewise_model))]

use std::io::{Read, Write};

use crate::common::page_by_page;
use pagewise::{DemandRegion, page_size};

#[cfg(unix)]
mod unix {
    use super::*;
    use crate::common::{self, poke};
    use std::os::fd::AsRawFd;

    fn zeros() -> std::fs::File {
        std::fs::File::open("/dev/zero").unwrap()
    }

    fn read(file: &impl AsRawFd, at: *mut u8, len: usize) -> Result<usize, i32> {
        // SAFETY: what is not committed is refused by the kernel.
        match unsafe { libc::read(file.as_raw_fd(), at.cast(), len) } {
            -1 => Err(std::io::Error::last_os_error().raw_os_error().unwrap()),
            count => Ok(count as usize),
        }
    }

    fn write(file: &impl AsRawFd, at: *const u8, len: usize) -> Result<usize, i32> {
        // SAFETY: as above.
        match unsafe { libc::write(file.as_raw_fd(), at.cast(), len) } {
            -1 => Err(std::io::Error::last_os_error().raw_os_error().unwrap()),
            count => Ok(count as usize),
        }
    }

    #[test]
    fn a_system_call_on_uncommitted_memory_is_efault_and_commits_nothing() {
        let region = page_by_page(4);
        let (from, to) = std::io::pipe().unwrap();
        assert_eq!(read(&zeros(), region.as_ptr(), 16), Err(libc::EFAULT));
        assert_eq!(write(&to, region.as_ptr(), 16), Err(libc::EFAULT));
        assert_eq!((region.committed(), region.stats().faults), (0, 0));
        region.commit(..16).unwrap();
        assert_eq!(write(&to, region.as_ptr(), 16), Ok(16));
        assert_eq!(read(&from, region.as_ptr(), 16), Ok(16));
        assert_eq!((region.committed(), region.stats().faults), (page_size(), 0));
    }

    #[test]
    fn a_system_call_that_reaches_uncommitted_memory_is_short() {
        let region = page_by_page(4);
        poke(region.as_ptr(), 1);
        let (from, to) = std::io::pipe().unwrap();
        let near_the_edge = region.as_ptr().wrapping_add(page_size() - 10);
        if common::emulated() || cfg!(not(target_os = "linux")) {
            // The kernel writes up to the end of the first page. Emulators check the whole buffer first, and write
            // nothing.
            let short = write(&to, near_the_edge, 30);
            assert!(matches!(short, Ok(10) | Err(libc::EFAULT)), "{short:?}");
        } else {
            // Writing to a pipe takes all or nothing; reading fills the committed part.
            assert_eq!(write(&to, near_the_edge, 30), Err(libc::EFAULT));
            assert_eq!(read(&zeros(), near_the_edge, 30), Ok(10));
        }
        assert_eq!(region.committed(), page_size());
        region.commit(..2 * page_size()).unwrap();
        assert_eq!(write(&to, near_the_edge, 30), Ok(30));
        drop((from, to));
    }

    /// As in libsigsegv's tests: a system call that gets a bad pointer still fails with the same error.
    #[test]
    fn a_bad_pointer_is_efault_before_and_after_the_handler_came() {
        common::in_a_process(
            "unix::a_bad_pointer_is_efault_before_and_after_the_handler_came",
            || {
                let bad = std::ptr::without_provenance_mut(8);
                assert_eq!(read(&zeros(), bad, 16), Err(libc::EFAULT));
                let region = page_by_page(4);
                assert_eq!(read(&zeros(), bad, 16), Err(libc::EFAULT));
                poke(region.as_ptr(), 1);
                assert_eq!(read(&zeros(), bad, 16), Err(libc::EFAULT));
            },
        )
        .well();
    }
}

#[cfg(windows)]
#[test]
fn read_file_into_uncommitted_memory_fails_and_commits_nothing() {
    use std::os::windows::io::AsRawHandle;
    use windows_sys::Win32::Storage::FileSystem::ReadFile;
    let region = page_by_page(4);
    let file = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
    let read = |at: *mut u8| {
        let mut count = 0;
        // SAFETY: what is not committed is refused by the system.
        let result =
            unsafe { ReadFile(file.as_raw_handle(), at, 16, &mut count, std::ptr::null_mut()) };
        (result != 0, count)
    };
    assert!(!read(region.as_ptr()).0);
    assert_eq!((region.committed(), region.stats().faults), (0, 0));
    region.commit(..16).unwrap();
    assert_eq!(read(region.as_ptr()), (true, 16));
}

#[test]
fn helpers_commit_first_and_report_refusals_as_errors() {
    let mut region = DemandRegion::builder(8 * page_size()).limit(2 * page_size()).build().unwrap();
    let text: Vec<u8> = (0..2 * page_size()).map(|index| index as u8).collect();
    let (mut from, mut to) = std::io::pipe().unwrap();
    let writer = std::thread::spawn({
        let text = text.clone();
        move || to.write_all(&text).unwrap()
    });
    assert_eq!(region.read_from(..2 * page_size(), &mut from).unwrap(), text.len());
    writer.join().unwrap();
    assert_eq!(region.as_slice()[..text.len()], text);
    assert_eq!(region.stats().faults, 0, "committed beforehand");
    let mut out = Vec::new();
    region.write_to(1..text.len(), &mut out).unwrap();
    assert_eq!(out, text[1..]);
    // Past the limit there is an error. What was read before is in the region, and the reader still has the rest.
    let mut source = &text[..];
    let refused = region.read_from(page_size()..3 * page_size(), &mut source).unwrap_err();
    let inner = refused.get_ref().unwrap().downcast_ref::<pagewise::Error>().unwrap();
    assert!(matches!(inner, pagewise::Error::LimitReached { .. }), "{inner}");
    assert_eq!(source.len(), text.len() - page_size(), "the reader was asked for what fits");
    assert_eq!(region.as_slice()[page_size()..2 * page_size()], text[..page_size()]);
    // Writing commits nothing, so that the limit does not matter.
    out.clear();
    region.write_to(.., &mut out).unwrap();
    assert_eq!(out.len(), region.len());
    assert!(out[2 * page_size()..].iter().all(|&byte| byte == 0));
}

/// A reader that fails half-way, and one that ends early.
#[test]
fn what_a_reader_gave_before_it_failed_is_there() {
    struct Failing(u8);
    impl Read for Failing {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            self.0 += 1;
            match self.0 {
                1 => Err(std::io::ErrorKind::Interrupted.into()),
                2 | 3 => {
                    into[..4].fill(self.0);
                    Ok(4)
                }
                _ => Err(std::io::ErrorKind::BrokenPipe.into()),
            }
        }
    }
    let mut region = page_by_page(1);
    let error = region.read_from(.., &mut Failing(0)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    assert_eq!(region.as_slice()[..9], [2, 2, 2, 2, 3, 3, 3, 3, 0]);
    assert_eq!(region.read_from(.., &mut &b"abc"[..]).unwrap(), 3);
}

/// `Read` is a safe trait: a wrong implementation causes a panic, and no access out of bounds.
#[test]
fn a_reader_that_says_it_read_more_than_it_could_is_stopped() {
    struct Lying(usize);
    impl std::io::Read for Lying {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            self.0 = self.0.max(into.len());
            Ok(into.len() + 1)
        }
    }
    let mut region = DemandRegion::new(1 << 20).unwrap();
    let mut reader = Lying(0);
    let read = std::panic::AssertUnwindSafe(|| region.read_from(.., &mut reader));
    assert!(std::panic::catch_unwind(read).is_err());
    assert!(reader.0 <= region.len(), "a slice of {} bytes", reader.0);
    // A byte more than is left, after an honest one.
    struct LyingOnce(bool);
    impl std::io::Read for LyingOnce {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            Ok(if std::mem::replace(&mut self.0, true) { into.len() + 1 } else { 10 })
        }
    }
    let mut reader = LyingOnce(false);
    let read = std::panic::AssertUnwindSafe(|| region.read_from(..page_size(), &mut reader));
    assert!(std::panic::catch_unwind(read).is_err());
}
