//! What is in the file is in memory, and the other way round.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use pagewise::{Error, Expected, FileAccess, HugePages, MappedFile, RefusalReason, page_size};

/// A file of its own for a test, removed at its end.
pub struct Temporary(pub PathBuf);

impl Temporary {
    pub fn new(name: &str, bytes: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("pagewise-{}-{name}", std::process::id()));
        fs::write(&path, bytes).unwrap();
        Self(path)
    }

    #[cfg(unix)] // Windows lets nobody truncate a file that is mapped.
    pub fn set_len(&self, len: u64) {
        fs::OpenOptions::new().write(true).open(&self.0).unwrap().set_len(len).unwrap();
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Bytes that differ from page to page, and in each page.
pub fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index % 251) as u8 ^ (index / 4096) as u8).collect()
}

#[test]
fn every_part_is_what_the_file_holds() {
    let content = bytes(5 * page_size() + 123);
    let file = Temporary::new("parts", &content);
    let mapped = MappedFile::open(&file.0).unwrap();
    assert_eq!((mapped.len(), mapped.is_empty()), (content.len(), false));
    for (start, end) in [(0, 1), (0, content.len()), (page_size() - 1, page_size() + 1), (7, 7)] {
        let mut buffer = vec![0; end - start];
        mapped.read(start, &mut buffer).unwrap();
        assert_eq!(buffer, content[start..end]);
    }
    // SAFETY: nobody changes the file.
    assert_eq!(unsafe { mapped.as_slice() }, content);
    let mut read = Vec::new();
    mapped.reader(..).unwrap().read_to_end(&mut read).unwrap();
    assert_eq!(read, content);
    for chunk in [1000, content.len(), 10 * content.len()] {
        let mut seen = Vec::new();
        let mut add = |offset, bytes: &[u8]| {
            assert_eq!(offset, 3 + seen.len());
            seen.extend_from_slice(bytes);
            Ok::<(), Error>(())
        };
        mapped.for_each_chunk(3.., &mut vec![0; chunk], &mut add).unwrap();
        assert_eq!(seen, content[3..]);
    }
}

#[test]
fn any_offset_and_length_can_be_mapped() {
    let content = bytes(40 * page_size());
    let file = Temporary::new("offsets", &content);
    for offset in [0, 1, page_size() - 1, page_size(), 17 * page_size() + 5, content.len() - 1] {
        for len in [1, page_size() + 1] {
            let builder = MappedFile::builder(&file.0).offset(offset as u64).len(len);
            if offset + len > content.len() {
                let Err(Error::FileTooShort { needed, len }) = builder.build() else { panic!() };
                assert_eq!(
                    (needed, len),
                    ((offset + page_size() + 1) as u64, content.len() as u64)
                );
                continue;
            }
            let mapped = builder.build().unwrap();
            let mut buffer = vec![0; len];
            mapped.read(0, &mut buffer).unwrap();
            assert_eq!(buffer, content[offset..offset + len]);
            let reserved = mapped.read(1, &mut buffer).unwrap_err();
            assert_eq!((reserved.copied, reserved.refusal.reason), (0, RefusalReason::NotReserved));
        }
        let rest = MappedFile::builder(&file.0).offset(offset as u64).build().unwrap();
        assert_eq!(rest.len(), content.len() - offset);
    }
    let end = MappedFile::builder(&file.0).offset(content.len() as u64).build().unwrap();
    assert!(end.is_empty());
    let behind = MappedFile::builder(&file.0).offset(u64::MAX).len(usize::MAX).build();
    assert!(matches!(behind, Err(Error::FileTooShort { .. })), "{behind:?}");
}

#[test]
fn what_is_written_is_in_the_file_or_only_here() {
    let content = bytes(3 * page_size());
    let file = Temporary::new("written", &content);
    let mut copy = MappedFile::builder(&file.0).access(FileAccess::CopyOnWrite).build().unwrap();
    copy.write(page_size() - 2, &[255; 4]).unwrap();
    copy.flush(..).unwrap();
    assert_eq!(fs::read(&file.0).unwrap(), content);
    let mut seen = [0; 6];
    copy.read(page_size() - 3, &mut seen).unwrap();
    assert_eq!(seen[1..5], [255; 4]);
    assert_eq!((seen[0], seen[5]), (content[page_size() - 3], content[page_size() + 2]));

    let mut shared = MappedFile::builder(&file.0).access(FileAccess::Write).build().unwrap();
    let other = MappedFile::open(&file.0).unwrap();
    shared.write(page_size() - 2, &[7; 4]).unwrap();
    other.read(page_size() - 3, &mut seen).unwrap();
    assert_eq!(seen[1..5], [7; 4], "another mapping sees it");
    shared.flush(page_size() - 1..page_size() + 1).unwrap();
    let mut expected = content.clone();
    expected[page_size() - 2..page_size() + 2].fill(7);
    assert_eq!(fs::read(&file.0).unwrap(), expected);

    let mut read_only = MappedFile::open(&file.0).unwrap();
    let refused = read_only.write(5, &[1]).unwrap_err();
    assert_eq!((refused.copied, refused.refusal.offset), (0, 5));
    assert_eq!(refused.refusal.reason, RefusalReason::ReadOnly);
    assert_eq!(fs::read(&file.0).unwrap(), expected);
}

#[test]
fn a_reader_stays_in_its_range_and_goes_where_it_is_told() {
    let content = bytes(1000);
    let file = Temporary::new("reader", &content);
    let mapped = MappedFile::open(&file.0).unwrap();
    let mut reader = mapped.reader(100..200).unwrap();
    let mut two = [0; 2];
    reader.read_exact(&mut two).unwrap();
    assert_eq!(two, content[100..102]);
    assert_eq!(reader.seek(SeekFrom::End(-1)).unwrap(), 99);
    assert_eq!(reader.read(&mut two).unwrap(), 1);
    assert_eq!(two[0], content[199]);
    assert_eq!(reader.seek(SeekFrom::Start(500)).unwrap(), 500);
    assert_eq!(reader.read(&mut two).unwrap(), 0);
    assert_eq!(reader.seek(SeekFrom::Current(-490)).unwrap(), 10);
    reader.read_exact(&mut two).unwrap();
    assert_eq!(two, content[110..112]);
    assert!(reader.seek(SeekFrom::Current(-13)).is_err());
    assert!(reader.seek(SeekFrom::Start(u64::MAX)).is_err());
    reader.read_exact(&mut two).unwrap();
    assert_eq!(two, content[112..114], "a refused seek changes nothing");
}

#[test]
fn bad_ranges_and_empty_files_are_no_trouble() {
    let file = Temporary::new("empty", &[]);
    for access in [FileAccess::Read, FileAccess::CopyOnWrite, FileAccess::Write] {
        let mut empty = MappedFile::builder(&file.0).access(access).build().unwrap();
        assert!(empty.is_empty());
        empty.read(0, &mut []).unwrap();
        assert_eq!(empty.write(0, &[]).is_ok(), access != FileAccess::Read);
        empty.flush(..).unwrap();
        empty.expect(.., Expected::Random).unwrap();
        assert!(empty.read(0, &mut [0]).is_err());
        // SAFETY: there are no bytes.
        assert!(unsafe { empty.as_slice() }.is_empty());
    }
    let file = Temporary::new("ranges", &[1; 10]);
    let mapped = MappedFile::open(&file.0).unwrap();
    assert!(matches!(mapped.flush(5..11), Err(Error::OutOfBounds { end: 11, len: 10, .. })));
    assert!(matches!(mapped.expect(11.., Expected::Soon), Err(Error::ReversedRange { .. })));
    assert!(mapped.reader(9..12).is_err());
    let nothing = mapped.for_each_chunk(.., &mut [], |_, _| Ok::<(), Error>(()));
    assert!(matches!(nothing, Err(Error::ZeroLength)));
    for (offset, len) in [(0, 11), (10, 1), (usize::MAX, 1), (usize::MAX, 0)] {
        let mut buffer = vec![9; len];
        assert_eq!(mapped.read(offset, &mut buffer).unwrap_err().copied, 0);
        assert!(buffer.iter().all(|&byte| byte == 9));
    }
}

#[test]
fn errors_name_the_file() {
    let missing = std::env::temp_dir().join("pagewise-there-is-no-such-file");
    let error = MappedFile::open(&missing).unwrap_err();
    assert!(error.to_string().starts_with(&format!("open of {} failed: ", missing.display())));
    assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::NotFound);
    let file = Temporary::new("rights", &[1; 10]);
    let only_readable = File::open(&file.0).unwrap();
    let builder = MappedFile::builder_of(only_readable, "the name that it was given");
    let error = builder.access(FileAccess::Write).build().unwrap_err();
    assert!(error.to_string().starts_with("map of the name that it was given failed: "), "{error}");
}

#[test]
fn hints_change_nothing_that_can_be_read() {
    let content = bytes(9 * page_size() + 1);
    let file = Temporary::new("hints", &content);
    let builder = MappedFile::builder(&file.0).populate(true).huge_pages(HugePages::Transparent);
    let mapped = builder.build().unwrap();
    for expected in [Expected::Anything, Expected::Sequential, Expected::Random, Expected::Soon] {
        mapped.expect(page_size() + 1..4 * page_size(), expected).unwrap();
    }
    let mut buffer = vec![0; content.len()];
    mapped.read(0, &mut buffer).unwrap();
    assert_eq!(buffer, content);
    let locked = MappedFile::builder(&file.0).len(page_size()).lock(true).build().unwrap();
    locked.read(0, &mut buffer[..page_size()]).unwrap();
}
