//! Regions over files: read and changed through less memory than they have, truncated, and on a full disk.

use std::fs;
use std::path::PathBuf;

use pagewise::{Error, FileStore, PagedRegion, page_size};

use crate::behaves_as_a_plain_array::{engines, some_bytes};
use crate::common::{in_a_process, not_here};
use crate::stores::{slice, slice_mut};

/// A file that is gone when this is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("paged-{}-{name}", std::process::id()));
        fs::write(&path, bytes).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn a_file_is_sorted_in_an_eighth_of_its_size() {
    for engine in engines() {
        let len = 1 << 20;
        let bytes = some_bytes(len);
        let scratch = Scratch::new(&format!("sort-{engine:?}"), &bytes);
        let mut region = PagedRegion::builder(FileStore::open(&scratch.0).unwrap())
            .engine(engine)
            .page_bytes(page_size())
            .limit(len / 8)
            .build()
            .unwrap();
        slice_mut(&mut region).sort_unstable();
        region.flush(..).unwrap();
        assert!(region.stats().resident <= len / 8);
        drop(region);
        let sorted = fs::read(&scratch.0).unwrap();
        let mut count = [0usize; 256];
        bytes.iter().for_each(|&byte| count[byte as usize] += 1);
        sorted.iter().for_each(|&byte| count[byte as usize] -= 1);
        assert!(sorted.is_sorted() && count == [0; 256], "{engine:?}");
    }
}

/// Pages of 2 MiB, of which the last is cut off.
#[test]
fn large_pages_come_and_go() {
    for engine in engines() {
        let len = (24 << 20) - 77;
        let mut bytes = some_bytes(len);
        let scratch = Scratch::new(&format!("large-{engine:?}"), &bytes);
        let mut region = PagedRegion::builder(FileStore::open(&scratch.0).unwrap())
            .engine(engine)
            .page_bytes(2 << 20)
            .limit(12 << 20)
            .build()
            .unwrap();
        for _ in 0..2 {
            assert!(slice(&region) == bytes);
            for at in (0..len).step_by(1_000_001) {
                slice_mut(&mut region)[at] ^= 1;
                bytes[at] ^= 1;
            }
        }
        region.flush(..).unwrap();
        region.evict(..).unwrap();
        assert!(slice(&region) == bytes);
        drop(region);
        assert!(fs::read(&scratch.0).unwrap() == bytes);
    }
}

#[test]
fn a_region_that_is_dropped_writes_its_pages_back() {
    for engine in engines() {
        let scratch = Scratch::new(&format!("dropped-{engine:?}"), &vec![0; 100_000]);
        let store = FileStore::open(&scratch.0).unwrap();
        let mut region = PagedRegion::builder(store).engine(engine).build().unwrap();
        slice_mut(&mut region).fill(5);
        drop(region);
        assert_eq!(fs::read(&scratch.0).unwrap(), vec![5; 100_000]);
    }
}

#[test]
fn a_file_that_is_truncated_under_a_reader_is_an_error() {
    for engine in engines() {
        let scratch = Scratch::new(&format!("truncated-{engine:?}"), &some_bytes(64 * page_size()));
        let store = FileStore::builder(&scratch.0).read_only(true).open().unwrap();
        let region = PagedRegion::builder(store)
            .engine(engine)
            .page_bytes(page_size())
            .limit(8 * page_size())
            .read_only()
            .build()
            .unwrap();
        let mut bytes = vec![0; 64 * page_size()];
        region.read(0, &mut bytes).unwrap();
        let file = fs::File::options().write(true).open(&scratch.0).unwrap();
        file.set_len(20 * page_size() as u64 + 7).unwrap();
        region.evict(..).unwrap();
        let stopped = region.read(0, &mut bytes).unwrap_err();
        assert_eq!(stopped.copied, 20 * page_size());
        let Error::Store { source, .. } = stopped.source else { panic!("{stopped:?}") };
        assert_eq!(source.kind(), std::io::ErrorKind::UnexpectedEof);
        let byte = &slice(&region)[30 * page_size()];
        // SAFETY: the closure's frames have no destructors.
        let refused = unsafe { pagewise::fault::attempt(|| std::ptr::read_volatile(byte)) };
        let kind = std::io::ErrorKind::UnexpectedEof;
        assert_eq!(refused.unwrap_err().reason, pagewise::RefusalReason::Store(kind));
    }
}

/// Nothing that was written is lost: it stays in memory until there is room.
#[test]
fn a_full_disk_is_an_error_of_the_flush() {
    let ended = in_a_process("a_full_disk_is_an_error_of_the_flush", || {
        let Some(disk) = Disk::of(1 << 20) else {
            return not_here("a full disk: it needs the right to mount one");
        };
        for engine in engines() {
            let path = disk.0.join(format!("sparse-{engine:?}"));
            let store = FileStore::create(&path, 8 << 20).unwrap();
            let mut region = PagedRegion::builder(store)
                .engine(engine)
                .page_bytes(page_size())
                .limit(4 << 20)
                .build()
                .unwrap();
            let noise = some_bytes(2 << 20);
            region.write(0, &noise).unwrap();
            let failed = region.flush(..).unwrap_err();
            let Error::Store { operation: "write", source, .. } = &failed else {
                panic!("{failed:?}")
            };
            assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
            assert!(slice(&region)[..2 << 20] == noise);
            disk.resize(16 << 20);
            region.flush(..).unwrap();
            assert!(fs::read(&path).unwrap()[..2 << 20] == noise);
            drop(region);
            fs::remove_file(&path).unwrap();
            disk.resize(1 << 20);
        }
    });
    ended.well();
}

/// A small disk in memory. It is unmounted when this is dropped.
struct Disk(PathBuf);

impl Disk {
    fn of(bytes: usize) -> Option<Self> {
        let folder =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("disk-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let disk = Self(folder);
        disk.mount(0, bytes).then_some(disk)
    }

    fn resize(&self, bytes: usize) {
        assert!(self.mount(libc::MS_REMOUNT, bytes));
    }

    fn mount(&self, flags: libc::c_ulong, bytes: usize) -> bool {
        let text = |text: String| std::ffi::CString::new(text).unwrap();
        let (at, options) = (text(self.0.display().to_string()), text(format!("size={bytes}")));
        // SAFETY: all texts end with zeros.
        unsafe {
            libc::mount(
                c"none".as_ptr(),
                at.as_ptr(),
                c"tmpfs".as_ptr(),
                flags,
                options.as_ptr().cast(),
            ) == 0
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let at = std::ffi::CString::new(self.0.display().to_string()).unwrap();
        // SAFETY: a text that ends with a zero.
        unsafe { libc::umount2(at.as_ptr(), libc::MNT_DETACH) };
        let _ = fs::remove_dir(&self.0);
    }
}
