//! Files that other processes truncate, and disks that are full.
//!
//! Windows lets nobody truncate a file that is mapped, so that only a failing device can take pages away there.
#![cfg(unix)]

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::a_file_is_read_and_written::{Temporary, bytes};
use crate::common::in_a_process;
use pagewise::{DemandRegion, Error, FileAccess, MappedFile, RefusalReason, fault, page_size};

fn truncated(len: usize) -> RefusalReason {
    RefusalReason::FileTruncated { len: len as u64 }
}

#[test]
fn a_read_gives_exactly_what_the_file_still_has() {
    let page = page_size();
    let content = bytes(8 * page);
    for len in [0, 1, 100, page - 1, page, page + 1, 3 * page + 17, 8 * page - 1] {
        for (offset, skipped) in [(0, 0), (0, 5), (7, 0), (page + 3, 9)] {
            let file = Temporary::new(&format!("cut-{len}-{offset}-{skipped}"), &content);
            let mapped = MappedFile::builder(&file.0).offset(offset as u64).build().unwrap();
            file.set_len(len as u64);
            let mut buffer = vec![0xEE; mapped.len() - skipped];
            let stopped = mapped.read(skipped, &mut buffer).unwrap_err();
            let expected = len.saturating_sub(offset + skipped);
            assert_eq!(stopped.copied, expected, "{len} {offset} {skipped}");
            assert_eq!(stopped.refusal.offset, skipped + expected);
            assert_eq!(stopped.refusal.reason, truncated(len));
            assert_eq!(buffer[..expected], content[offset + skipped..][..expected]);
            // What is there can still be read.
            if expected > 0 {
                mapped.read(skipped, &mut buffer[..expected]).unwrap();
            }
        }
    }
}

#[test]
fn a_write_behind_the_end_is_an_error_and_what_came_before_is_in_the_file() {
    let page = page_size();
    for len in [0, 10, page, 2 * page + 5] {
        let file = Temporary::new(&format!("write-{len}"), &vec![1; 4 * page]);
        let mut mapped = MappedFile::builder(&file.0).access(FileAccess::Write).build().unwrap();
        file.set_len(len as u64);
        let stopped = mapped.write(3, &vec![2; 4 * page - 3]).unwrap_err();
        assert_eq!(stopped.copied, len.saturating_sub(3));
        assert_eq!(stopped.refusal.reason, truncated(len));
        let mut expected = vec![1; len.min(3)];
        expected.resize(len, 2);
        assert_eq!(fs::read(&file.0).unwrap(), expected);
        // It grows again, by somebody else.
        file.set_len(4 * page as u64);
        mapped.write(3 * page, &[9; 8]).unwrap();
        mapped.flush(..).unwrap();
        assert_eq!(fs::read(&file.0).unwrap()[3 * page..3 * page + 8], [9; 8]);
    }
}

#[test]
fn streams_and_chunks_end_where_the_file_does() {
    use std::io::Read;
    let page = page_size();
    let content = bytes(8 * page);
    let file = Temporary::new("streams", &content);
    let mapped = MappedFile::open(&file.0).unwrap();
    let len = 3 * page + 100;
    file.set_len(len as u64);
    let mut read = Vec::new();
    let error = mapped.reader(50..).unwrap().read_to_end(&mut read).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    assert_eq!(read, content[50..len]);
    let mut seen = Vec::new();
    let result = mapped.for_each_chunk(50.., &mut vec![0; 1000], |_, bytes| {
        seen.extend_from_slice(bytes);
        Ok::<(), Error>(())
    });
    let Err(Error::Access(stopped)) = result else { panic!("{result:?}") };
    assert_eq!((stopped.copied, stopped.refusal.reason), (len - 50, truncated(len)));
    assert_eq!(seen, content[50..len]);
}

/// Truncated and made longer again, over and over, while threads read: an error or the truth, and never the end.
#[test]
fn threads_that_read_survive_a_file_that_comes_and_goes() {
    let page = page_size();
    let content = vec![5; 16 * page];
    let file = Temporary::new("comes-and-goes", &content);
    let mapped = MappedFile::open(&file.0).unwrap();
    let done = AtomicBool::new(false);
    let (errors, good) = std::thread::scope(|threads| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                threads.spawn(|| {
                    let (mut errors, mut good) = (0, 0);
                    let mut buffer = vec![0; 16 * page];
                    while !done.load(Ordering::Relaxed) || errors == 0 || good == 0 {
                        match mapped.read(0, &mut buffer) {
                            Ok(()) => good += 1,
                            Err(stopped) => {
                                assert!(stopped.copied < 16 * page);
                                errors += 1;
                            }
                        }
                    }
                    (errors, good)
                })
            })
            .collect();
        for round in 0..300 {
            file.set_len((round % 16 * page) as u64);
            std::thread::yield_now();
            fs::write(&file.0, &content).unwrap();
            std::thread::yield_now();
        }
        // Both outcomes can be had for ever now, one after the other.
        done.store(true, Ordering::Relaxed);
        while !readers.iter().all(|reader| reader.is_finished()) {
            file.set_len(0);
            std::thread::sleep(std::time::Duration::from_millis(2));
            fs::write(&file.0, &content).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        let results = readers.into_iter().map(|reader| reader.join().unwrap());
        results.fold((0, 0), |sum, each| (sum.0 + each.0, sum.1 + each.1))
    });
    assert!(errors > 0 && good > 0);
}

#[test]
fn a_plain_access_to_what_is_gone_ends_the_process_with_a_line_about_it() {
    let test = "a_plain_access_to_what_is_gone_ends_the_process_with_a_line_about_it";
    let ended = in_a_process(test, || {
        let file = Temporary::new("plain-\u{fc}", &bytes(4 * page_size()));
        let mapped = MappedFile::open(&file.0).unwrap();
        file.set_len(10);
        drop(file);
        // SAFETY: the processor ends this.
        unsafe { mapped.as_ptr().add(2 * page_size() + 5).read_volatile() };
    });
    ended.by_signal(libc::SIGBUS);
    let said = ended.diagnostics().join("\n");
    assert!(said.contains(&format!("at offset {:#x}", 2 * page_size() + 5)), "{said}");
    assert!(said.contains("the file has only 10 bytes now"), "{said}");
    assert!(said.contains(" of the file ") && said.contains("-plain-??: "), "{said}");
}

/// Plain access, as fast as memory, and an error all the same.
#[test]
fn an_attempt_comes_back_from_a_plain_access_to_what_is_gone() {
    let page = page_size();
    let file = Temporary::new("attempt", &vec![1; 8 * page]);
    let mapped = MappedFile::open(&file.0).unwrap();
    let sum = || {
        // SAFETY: nobody writes to the file; it only becomes shorter.
        let bytes = unsafe { mapped.as_slice() };
        bytes.iter().step_by(page).map(|&byte| usize::from(byte)).sum::<usize>()
    };
    // SAFETY: nothing in the closure has a destructor or holds a lock.
    assert_eq!(unsafe { fault::attempt(sum) }, Ok(8));
    file.set_len(3 * page as u64);
    // SAFETY: as above.
    let refused = unsafe { fault::attempt(sum) }.unwrap_err();
    assert_eq!((refused.offset, refused.reason), (3 * page, truncated(3 * page)));
}

/// A write to a file that is mapped for reading is a bug of the program's, and ends it as without this library.
#[test]
fn a_plain_write_to_a_file_that_is_mapped_for_reading_is_a_crash_like_any_other() {
    let test = "a_plain_write_to_a_file_that_is_mapped_for_reading_is_a_crash_like_any_other";
    let ended = in_a_process(test, || {
        let file = Temporary::new("read-only", &bytes(4 * page_size()));
        let mapped = MappedFile::open(&file.0).unwrap();
        drop(file);
        // SAFETY: the processor ends this.
        unsafe { mapped.as_ptr().cast_mut().add(5).write_volatile(1) };
    });
    assert!(ended.diagnostics().is_empty(), "{:?}", ended.diagnostics());
    #[cfg(target_os = "linux")]
    ended.by_signal(libc::SIGSEGV);
}

/// Both sides of a copy may be ranges of this library: the one that refuses is named.
#[test]
fn a_copy_from_a_file_into_a_region_says_which_of_them_refused() {
    let page = page_size();
    let file = Temporary::new("into-a-region", &bytes(8 * page));
    let mapped = MappedFile::open(&file.0).unwrap();
    let mut region = DemandRegion::builder(8 * page).limit(2 * page).build().unwrap();
    let refused = mapped.read(0, region.as_mut_slice()).unwrap_err();
    assert_eq!((refused.copied, refused.refusal.region), (2 * page, region.as_ptr().addr()));
    assert!(matches!(refused.refusal.reason, RefusalReason::Limit { .. }));
    file.set_len(page as u64);
    let refused = mapped.read(0, &mut region.as_mut_slice()[..2 * page]).unwrap_err();
    assert_eq!((refused.copied, refused.refusal.region), (page, mapped.as_ptr().addr()));
    assert_eq!(refused.refusal.reason, truncated(page));
}

/// A hole of a file needs room on the disk when it is first written: where there is none, an error.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_an_error_and_what_was_written_before_is_there() {
    let folder = std::env::temp_dir().join(format!("pagewise-full-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let mounted = mount(&folder);
    if mounted {
        let path = folder.join("sparse");
        let len = 4 << 20;
        fs::File::create(&path).unwrap().set_len(len).unwrap();
        let mut mapped = MappedFile::builder(&path).access(FileAccess::Write).build().unwrap();
        let stopped = mapped.write(0, &vec![3; len as usize]).unwrap_err();
        assert_eq!(stopped.refusal.reason, RefusalReason::FileUnreadable);
        assert!((512 << 10..=1 << 20).contains(&stopped.copied), "{} bytes", stopped.copied);
        let mut seen = vec![0; stopped.copied];
        mapped.read(0, &mut seen).unwrap();
        assert!(seen.iter().all(|&byte| byte == 3));
        drop(mapped);
        let folder = std::ffi::CString::new(folder.as_os_str().as_encoded_bytes()).unwrap();
        // SAFETY: a path that ends with a zero.
        assert_eq!(unsafe { libc::umount2(folder.as_ptr(), libc::MNT_DETACH) }, 0);
    } else {
        crate::common::not_here("a full disk: mounting a small one needs privileges");
    }
    fs::remove_dir_all(&folder).unwrap();
}

/// Mounts a file system of 1 MiB.
#[cfg(target_os = "linux")]
fn mount(folder: &std::path::Path) -> bool {
    let folder = std::ffi::CString::new(folder.as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: all strings end with a zero.
    let result = unsafe {
        libc::mount(
            c"none".as_ptr(),
            folder.as_ptr(),
            c"tmpfs".as_ptr(),
            0,
            c"size=1m".as_ptr().cast(),
        )
    };
    result == 0
}
