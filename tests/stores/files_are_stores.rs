//! Files as stores.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::PathBuf;

#[cfg(unix)]
use crate::common::in_a_process;
use crate::common::not_here;
use crate::store_contract::{self as contract, noise, read, write};
use pagewise::{Error, FileStore, PageStore};

/// A path on a disk, not in memory as `/tmp` may be. The file is gone when this is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        fs::create_dir_all(&folder).unwrap();
        Self(folder.join(format!("store-{}-{name}", std::process::id())))
    }

    fn holding(name: &str, bytes: &[u8]) -> Self {
        let this = Self::new(name);
        fs::write(&this.0, bytes).unwrap();
        this
    }

    fn set_len(&self, len: u64) {
        File::options().write(true).open(&self.0).unwrap().set_len(len).unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

const LEN: u64 = 1_000_003;

#[test]
fn a_file_keeps_the_contract_of_a_store() {
    for granule in [1, 100, 4096, 16 << 10] {
        let scratch = Scratch::new(&format!("contract-{granule}"));
        let store = FileStore::create(&scratch.0, LEN).unwrap();
        let held = contract::a_new_store_keeps_the_contract(&store, granule, 15);
        drop(store);
        assert!(fs::read(&scratch.0).unwrap() == held, "the file itself");
        contract::holds(&FileStore::open(&scratch.0).unwrap(), &held);
        let file = File::open(&scratch.0).unwrap();
        contract::holds(&FileStore::try_from(file).unwrap(), &held);
    }
}

#[test]
fn a_direct_file_keeps_the_contract_of_a_store() {
    // With and without a last block of its own.
    for (name, len) in [("odd", LEN), ("even", 1 << 20), ("one-more", (1 << 20) + 1)] {
        let scratch = Scratch::new(&format!("direct-{name}"));
        let builder = || FileStore::builder(&scratch.0).direct(true);
        let store = match builder().create_new(len) {
            Ok(store) => store,
            Err(Error::Unsupported { .. }) => return not_here("files that are read directly"),
            Err(error) => panic!("{error}"),
        };
        let held = contract::a_new_store_keeps_the_contract(&store, 4096, 16);
        drop(store);
        assert!(fs::read(&scratch.0).unwrap() == held, "the file itself");
        contract::holds(&builder().open().unwrap(), &held);
        contract::holds(&FileStore::open(&scratch.0).unwrap(), &held);
    }
}

#[test]
fn a_direct_file_refuses_what_is_not_aligned_and_says_so() {
    let scratch = Scratch::holding("unaligned", &noise(1, 20_000));
    let store = match FileStore::builder(&scratch.0).direct(true).open() {
        Ok(store) => store,
        Err(Error::Unsupported { .. }) => return not_here("files that are read directly"),
        Err(error) => panic!("{error}"),
    };
    let mut buffer = contract::Aligned::new(3 * 4096, 0xEE);
    let all = buffer.bytes();
    // The offset, the length, the buffer; and what begins well and ends in the last block.
    let refused = |result: std::io::Result<()>| {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidInput);
    };
    refused(store.read(512, &mut all[..4096]));
    refused(store.read(0, &mut all[..5000]));
    refused(store.read(0, &mut all[8..8 + 4096]));
    refused(store.write(4096, &all[..100]));
    refused(store.write(100, &all[..4096]));
    refused(store.write(0, &all[512..512 + 4096]));
    assert!(fs::read(&scratch.0).unwrap() == noise(1, 20_000), "a refused write changed something");
    // In the last block, anything goes.
    let mut last = [0; 3];
    store.read(19_000, &mut last).unwrap();
    assert_eq!(last, noise(1, 20_000)[19_000..19_003]);
}

#[test]
#[cfg(target_os = "linux")]
fn a_file_system_that_reads_nothing_directly_is_a_clear_error() {
    if crate::common::emulated() {
        return not_here("a file without direct reads: qemu makes an ordinary one of it");
    }
    // The kernel's own files go through no cache, and have no direct reads.
    match FileStore::builder("/proc/self/maps").read_only(true).direct(true).open() {
        Err(error @ Error::Unsupported { .. }) => {
            assert!(error.to_string().contains("without `direct`"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn bytes_of_a_truncated_file_are_an_error_and_not_zeros() {
    let content = noise(2, 40_000);
    for cut in [0, 1, 4096, 20_000, 39_999] {
        let scratch = Scratch::holding(&format!("cut-{cut}"), &content);
        let store = FileStore::open(&scratch.0).unwrap();
        scratch.set_len(cut);
        let kept = cut as usize;
        assert!(read(&store, 0, kept).unwrap() == content[..kept]);
        for (from, len) in [(0, 40_000), (kept, 1), (39_999, 1), (kept.saturating_sub(1), 2)] {
            let error = read(&store, from as u64, len).expect_err("bytes that are gone");
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{cut} {from} {len}");
        }
        // Writing would make the file longer, with zeros between.
        for offset in [0, cut, 39_000] {
            let error = write(&store, offset, &[1; 1000]).expect_err("a write to what is gone");
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        }
        assert_eq!(fs::metadata(&scratch.0).unwrap().len(), cut, "the file became longer");
    }
}

#[test]
fn a_file_may_be_longer_than_memory_and_takes_only_what_is_written() {
    let scratch = Scratch::new("sparse");
    let store = FileStore::create(&scratch.0, 1 << 40).unwrap();
    for offset in [0, 1 << 20, (1 << 40) - 4096, 77 << 30] {
        write(&store, offset, &noise(offset, 4096)).unwrap();
    }
    for offset in [0, 1 << 20, (1 << 40) - 4096, 77 << 30] {
        assert!(read(&store, offset, 4096).unwrap() == noise(offset, 4096));
    }
    assert!(read(&store, (1 << 20) + 4096, 1 << 20).unwrap().iter().all(|&byte| byte == 0));
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let taken = fs::metadata(&scratch.0).unwrap().blocks() * 512;
        assert!(taken < 10 << 20, "{taken} bytes on the disk");
    }
}

#[test]
fn what_is_there_is_never_made_shorter() {
    let scratch = Scratch::holding("grown", &noise(3, 5000));
    assert_eq!(FileStore::builder(&scratch.0).at_least(100).open().unwrap().len(), 5000);
    let grown = FileStore::builder(&scratch.0).at_least(9000).open().unwrap();
    let mut expected = noise(3, 5000);
    expected.resize(9000, 0);
    contract::holds(&grown, &expected);
    assert!(matches!(
        FileStore::builder(&scratch.0).create_new(1),
        Err(Error::File { source, .. }) if source.kind() == ErrorKind::AlreadyExists
    ));
    contract::holds(&FileStore::open(&scratch.0).unwrap(), &expected);
}

#[test]
fn a_file_that_is_only_read_is_never_written() {
    let scratch = Scratch::holding("read-only", b"as it was");
    let store = FileStore::builder(&scratch.0).read_only(true).open().unwrap();
    assert_eq!(write(&store, 0, b"x").unwrap_err().kind(), ErrorKind::PermissionDenied);
    store.sync().unwrap();
    write(&FileStore::try_from(File::open(&scratch.0).unwrap()).unwrap(), 0, b"x").unwrap_err();
    assert_eq!(read(&store, 0, 9).unwrap(), b"as it was");
}

#[test]
fn what_is_no_file_is_an_error_with_its_name() {
    for path in [env!("CARGO_TARGET_TMPDIR"), "/no/such/file"] {
        let error = FileStore::builder(path).read_only(true).open().unwrap_err();
        assert!(error.to_string().contains(path), "{error}");
    }
}

/// The system refuses a file that is too large as it refuses one on a full disk.
#[test]
#[cfg(unix)]
fn a_write_that_the_system_refuses_is_an_error_and_changes_nothing() {
    let ended =
        in_a_process("a_write_that_the_system_refuses_is_an_error_and_changes_nothing", || {
            let scratch = Scratch::new("refused");
            let store = FileStore::create(&scratch.0, 1 << 20).unwrap();
            write(&store, 0, &noise(4, 8192)).unwrap();
            let limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // The signal of such a write would end the process.
            // SAFETY: plain calls, in a process of its own.
            unsafe {
                libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
                assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &limit), 0);
            }
            assert_eq!(
                write(&store, 4096, &[1; 4096]).unwrap_err().raw_os_error(),
                Some(libc::EFBIG)
            );
            assert!(read(&store, 0, 8192).unwrap() == noise(4, 8192));
        });
    ended.well();
}
