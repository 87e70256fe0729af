//! How a store lies on a server: version 1. `docs/stores.md` has the same in words.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{BufMut, Bytes};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::Error;

/// What is known of a store before any of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Bytes of the store.
    pub(crate) len: u64,
    /// Bytes of an extent: a power of two. The last one is shorter where the length is no multiple.
    pub(crate) extent: usize,
    /// Tells the extents of this store from those of another. Random.
    pub(crate) id: u64,
}

/// The first line of a manifest.
const FIRST_LINE: &str = "pagewise store 1";

/// What every stored extent begins with.
const MAGIC: [u8; 8] = *b"pagewis1";

/// Bytes before those of the extent: magic, number, writer, sequence, checksum.
pub(crate) const HEADER: usize = 40;

/// Where writer and sequence lie in the header, the greatest byte first: those who compare them as bytes compare them
/// as numbers.
pub(crate) const VERSION: std::ops::Range<usize> = 16..32;

/// Bytes of an extent are a power of two in this range.
pub(crate) const EXTENTS: std::ops::RangeInclusive<usize> = 4 << 10..=64 << 20;

/// Which write an extent comes from. Later ones of a writer have a greater sequence; later writers may have a greater
/// number, as the store says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    pub(crate) writer: u64,
    pub(crate) sequence: u64,
}

impl Layout {
    pub(crate) fn new(len: u64, extent: usize) -> Result<Self, Error> {
        if !extent.is_power_of_two() || !EXTENTS.contains(&extent) {
            return Err(Error::Setting("extents are a power of two, from 4 KiB to 64 MiB"));
        }
        Ok(Self { len, extent, id: random() })
    }

    /// The manifest: lines of text, the last of which is the checksum of those before.
    pub(crate) fn manifest(&self) -> String {
        let Self { len, extent, id } = self;
        let text = format!("{FIRST_LINE}\nlength {len}\nextent {extent}\nid {id:016x}\n");
        let sum = xxh3_64(text.as_bytes());
        format!("{text}checksum {sum:016x}\n")
    }

    pub(crate) fn from_manifest(bytes: &[u8]) -> Result<Self, Error> {
        let wrong = |what| Error::Manifest { what };
        let text = std::str::from_utf8(bytes).map_err(|_| wrong("it is no text"))?;
        let mut lines = text.lines();
        match lines.next() {
            Some(FIRST_LINE) => {}
            Some(line) if line.starts_with("pagewise store ") => {
                return Err(wrong("it is of another version of pagewise"));
            }
            _ => return Err(wrong("it begins with something else")),
        }
        let incomplete = "a line is missing or wrong";
        let mut field = |name: &str, radix| {
            let value = lines.next().and_then(|line| line.strip_prefix(name));
            value.and_then(|value| u64::from_str_radix(value, radix).ok()).ok_or(wrong(incomplete))
        };
        let (len, extent) = (field("length ", 10)?, field("extent ", 10)?);
        let (id, sum) = (field("id ", 16)?, field("checksum ", 16)?);
        let covered = text.rfind("checksum ").unwrap_or(0);
        if lines.next().is_some() || xxh3_64(&bytes[..covered]) != sum {
            return Err(wrong("its checksum is another one"));
        }
        let extent = usize::try_from(extent).unwrap_or(0);
        Ok(Self {
            id,
            ..Self::new(len, extent).map_err(|_| wrong("its extents have no usable size"))?
        })
    }

    /// Bytes of the extent of a number.
    pub(crate) fn extent_len(&self, number: u64) -> usize {
        let start = number.saturating_mul(self.extent as u64);
        self.len.saturating_sub(start).min(self.extent as u64) as usize
    }

    /// An extent as it is stored.
    pub(crate) fn seal(&self, number: u64, version: Version, extent: &[u8]) -> Bytes {
        let mut sealed = Vec::with_capacity(HEADER + extent.len());
        sealed.put_slice(&MAGIC);
        sealed.put_u64_le(number);
        sealed.put_u64(version.writer);
        sealed.put_u64(version.sequence);
        sealed.put_u64_le(0);
        sealed.put_slice(extent);
        let sum = self.checksum(&sealed);
        sealed[HEADER - 8..HEADER].copy_from_slice(&sum.to_le_bytes());
        sealed.into()
    }

    /// The bytes of an extent, where what is stored is what was written there.
    pub(crate) fn unseal(&self, number: u64, sealed: Bytes) -> Result<(Version, Bytes), Error> {
        let damaged = |what| Err(Error::Damaged { extent: number, what });
        if sealed.len() != HEADER + self.extent_len(number) {
            return damaged("it is too long or too short");
        }
        let number_of = |at: usize| <[u8; 8]>::try_from(&sealed[at..at + 8]).unwrap_or_default();
        if sealed[..8] != MAGIC {
            return damaged("it begins with something else");
        }
        if u64::from_le_bytes(number_of(HEADER - 8)) != self.checksum(&sealed) {
            return damaged("its checksum is another one");
        }
        if u64::from_le_bytes(number_of(8)) != number {
            return damaged("it is the extent of another place");
        }
        let writer = u64::from_be_bytes(number_of(VERSION.start));
        let sequence = u64::from_be_bytes(number_of(VERSION.start + 8));
        Ok((Version { writer, sequence }, sealed.slice(HEADER..)))
    }

    /// Of the header without its last field, and of the extent. It begins with the store's own number, so that an
    /// extent of another store is none of this one.
    fn checksum(&self, sealed: &[u8]) -> u64 {
        let header = xxh3_64_with_seed(&sealed[..HEADER - 8], self.id);
        xxh3_64_with_seed(&sealed[HEADER..], header)
    }
}

/// A number that no other process has, nor this one at another time.
pub(crate) fn random() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    // fastrand's seed is of this process and thread; the time is of this moment.
    fastrand::u64(..) ^ (now as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: Layout = Layout { len: 10_000, extent: 4096, id: 99 };
    const VERSION_OF_TESTS: Version = Version { writer: 3, sequence: 4 };

    #[test]
    fn a_manifest_is_read_as_it_was_written() {
        assert_eq!(Layout::from_manifest(LAYOUT.manifest().as_bytes()).unwrap(), LAYOUT);
    }

    #[test]
    fn every_changed_bit_of_a_manifest_is_an_error() {
        let good = LAYOUT.manifest().into_bytes();
        for at in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[at / 8] ^= 1 << (at % 8);
            // A letter of the checksum may change its case.
            if Layout::from_manifest(&bad).is_ok_and(|read| read != LAYOUT) {
                panic!("bit {at}: {}", String::from_utf8_lossy(&bad));
            }
        }
        for len in 0..good.len() - 1 {
            Layout::from_manifest(&good[..len]).expect_err("a part of a manifest");
        }
        Layout::from_manifest(&[good, b"more\n".to_vec()].concat()).expect_err("more than one");
    }

    #[test]
    fn a_manifest_of_a_later_version_says_so() {
        let error = Layout::from_manifest(b"pagewise store 2\nanything\n").unwrap_err();
        assert!(error.to_string().contains("another version"), "{error}");
    }

    #[test]
    fn every_changed_bit_of_an_extent_is_an_error() {
        // The last one, which is shorter.
        let extent = [7; 10_000 - 2 * 4096];
        let good = LAYOUT.seal(2, VERSION_OF_TESTS, &extent);
        let (version, read) = LAYOUT.unseal(2, good.clone()).unwrap();
        assert_eq!((version, &read[..]), (VERSION_OF_TESTS, &extent[..]));
        for at in 0..good.len() * 8 {
            let mut bad = good.to_vec();
            bad[at / 8] ^= 1 << (at % 8);
            let error = LAYOUT.unseal(2, bad.into()).unwrap_err();
            assert!(matches!(error, Error::Damaged { extent: 2, .. }), "bit {at}: {error}");
        }
        for len in [0, 8, HEADER, good.len() - 1] {
            LAYOUT.unseal(2, good.slice(..len)).expect_err("a part of it");
        }
    }

    #[test]
    fn an_extent_of_another_place_or_store_is_an_error() {
        let sealed = LAYOUT.seal(0, VERSION_OF_TESTS, &[1; 4096]);
        LAYOUT.unseal(0, sealed.clone()).unwrap();
        LAYOUT.unseal(1, sealed.clone()).expect_err("another place");
        Layout { id: 98, ..LAYOUT }.unseal(0, sealed).expect_err("another store");
    }

    #[test]
    fn versions_compare_as_bytes() {
        let bytes = |writer, sequence| {
            LAYOUT.seal(0, Version { writer, sequence }, &[0; 4096]).slice(VERSION)
        };
        assert!(bytes(1, 255) < bytes(1, 256));
        assert!(bytes(1, u64::MAX) < bytes(2, 0));
        assert!(bytes(255, 0) < bytes(256, 0));
    }
}
