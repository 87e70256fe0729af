//! What every store promises, shown against a plain array. In a file of its own, since other packages' stores are tested
//! with it, too.
#![allow(dead_code)] // each program that includes it uses a part of it

use pagewise::PageStore;

/// Bytes whose first one lies at a multiple of 4096, for stores that ask for that.
pub struct Aligned {
    room: Vec<u8>,
    skipped: usize,
    len: usize,
}

impl Aligned {
    pub fn new(len: usize, byte: u8) -> Self {
        let room = vec![byte; len + 4096];
        let skipped = room.as_ptr().align_offset(4096);
        Self { room, skipped, len }
    }

    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.room[self.skipped..][..self.len]
    }
}

/// Reads a range. What the store does not fill shows as 0xEE.
pub fn read(store: &dyn PageStore, offset: u64, len: usize) -> std::io::Result<Vec<u8>> {
    let mut buffer = Aligned::new(len, 0xEE);
    store.read(offset, buffer.bytes())?;
    Ok(buffer.bytes().to_vec())
}

pub fn write(store: &dyn PageStore, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
    let mut buffer = Aligned::new(bytes.len(), 0);
    buffer.bytes().copy_from_slice(bytes);
    store.write(offset, buffer.bytes())
}

/// Bytes that differ from place to place and from seed to seed, and are never zero.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..len).map(|_| random.u8(1..)).collect()
}

/// Bytes that compress well, and are never zero.
pub fn text(seed: u64, len: usize) -> Vec<u8> {
    (0..len).map(|at| (seed as usize + at / 100 % 7) as u8 | 1).collect()
}

/// A range that begins at a multiple of `granule` and ends at one, or at the end of the store.
fn some_range(random: &mut fastrand::Rng, len: usize, granule: usize) -> std::ops::Range<usize> {
    let granules = len.div_ceil(granule);
    let start = random.usize(..granules);
    let end = (start + random.usize(1..=8)).min(granules);
    start * granule..(end * granule).min(len)
}

/// Shows the contract of [`PageStore`] for a new store, which reads zero everywhere. Asks for ranges as a region with
/// pages of `granule` bytes does. Returns what the store holds at the end.
pub fn a_new_store_keeps_the_contract(store: &dyn PageStore, granule: usize, seed: u64) -> Vec<u8> {
    let len = store.len() as usize;
    assert!(len > 20 * granule, "too short to show anything");
    assert!(store.preferred_bytes().is_none_or(usize::is_power_of_two));
    assert!(read(store, 0, len).unwrap().iter().all(|&byte| byte == 0), "what nobody wrote");

    let mut array = vec![0; len];
    like_an_array(store, granule, seed, &mut array);
    nothing_beyond_the_end(store, granule, &array);
    used_by_threads(store, granule, seed, &mut array);
    store.sync().unwrap();
    holds(store, &array);
    array
}

/// Reads all of the store, in one piece and in several.
#[track_caller]
pub fn holds(store: &dyn PageStore, array: &[u8]) {
    assert_eq!(store.len(), array.len() as u64);
    assert!(read(store, 0, array.len()).unwrap() == array, "all of it, in one piece");
    for (index, part) in array.chunks(4096 * 3).enumerate() {
        let found = read(store, (index * 4096 * 3) as u64, part.len()).unwrap();
        assert!(found == part, "part {index}");
    }
}

fn like_an_array(store: &dyn PageStore, granule: usize, seed: u64, array: &mut [u8]) {
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..200 {
        let range = some_range(&mut random, array.len(), granule);
        let offset = range.start as u64;
        if random.bool() {
            let bytes = match random.u8(..3) {
                0 => vec![0; range.len()],
                1 => text(round, range.len()),
                _ => noise(seed ^ round, range.len()),
            };
            write(store, offset, &bytes).unwrap();
            array[range.clone()].copy_from_slice(&bytes);
        }
        // Beside what was written, too.
        for range in [range, some_range(&mut random, array.len(), granule)] {
            let found = read(store, range.start as u64, range.len()).unwrap();
            assert!(found == array[range.clone()], "round {round}, {range:?}");
        }
    }
    // The end is no multiple of anything, perhaps.
    let last = (array.len() - 1) / granule * granule;
    let bytes = noise(seed, array.len() - last);
    write(store, last as u64, &bytes).unwrap();
    array[last..].copy_from_slice(&bytes);
    assert!(read(store, last as u64, bytes.len()).unwrap() == bytes, "the last page");
    holds(store, array);
}

fn nothing_beyond_the_end(store: &dyn PageStore, granule: usize, array: &[u8]) {
    let len = array.len() as u64;
    let last = (len - 1) / granule as u64 * granule as u64;
    for offset in [last, len.next_multiple_of(granule as u64), 1 << 50, u64::MAX / granule as u64] {
        let offset = offset / granule as u64 * granule as u64;
        read(store, offset, 2 * granule).expect_err("bytes behind the end are read");
        write(store, offset, &vec![7; 2 * granule]).expect_err("bytes behind the end are written");
    }
    read(store, 0, 0).unwrap();
    write(store, 0, &[]).unwrap();
    // What was refused as a whole changed nothing that it does not name; the last page it may have.
    let before = last as usize;
    assert!(read(store, 0, before).unwrap() == array[..before], "what lies before");
    write(store, last, &array[before..]).unwrap();
}

/// Half of the store is only read, by some threads; of the other half each of some threads has every fourth page, so
/// that neighbours are written at the same time.
fn used_by_threads(store: &dyn PageStore, granule: usize, seed: u64, array: &mut [u8]) {
    const WRITERS: usize = 4;
    let half = array.len() / granule / 2 * granule;
    let (still, changing) = array.split_at_mut(half);
    let pages: Vec<_> = changing.chunks_mut(granule).enumerate().collect();
    let mut shares: [Vec<_>; WRITERS] = Default::default();
    for (index, page) in pages {
        shares[index % WRITERS].push((half + index * granule, page));
    }
    std::thread::scope(|threads| {
        for (writer, mut share) in shares.into_iter().enumerate() {
            threads.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed + writer as u64);
                for round in 0..60 {
                    let (offset, page) = random.choice(&mut share).unwrap();
                    page.copy_from_slice(&noise(random.u64(..), page.len()));
                    write(store, *offset as u64, page).unwrap();
                    let found = read(store, *offset as u64, page.len()).unwrap();
                    assert!(found == *page, "writer {writer}, round {round}");
                }
            });
        }
        for reader in 0..2 {
            let still = &*still;
            threads.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed - reader);
                for _ in 0..60 {
                    let range = some_range(&mut random, still.len(), granule);
                    let found = read(store, range.start as u64, range.len()).unwrap();
                    assert!(found == still[range.clone()], "a reader, {range:?}");
                }
            });
        }
    });
    holds(store, array);
}
