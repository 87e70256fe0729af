//! A region reads and writes as an array of the same bytes does, whatever comes and goes meanwhile; after a flush, so
//! does its store; and it never holds more than its limit.

use pagewise::{Engine, PageStore, PagedRegion, page_size};

use crate::stores::{Heap, InTheHandler, slice, slice_mut};

/// Every engine that works here.
pub fn engines() -> Vec<Engine> {
    let works = |engine: &Engine| {
        let store = InTheHandler(Heap::new(vec![0; page_size()]));
        match PagedRegion::builder(store).engine(*engine).page_bytes(page_size()).build() {
            Ok(_) => true,
            Err(error @ pagewise::Error::Unsupported { .. }) => {
                crate::common::not_here(&format!("{engine:?}: {error}"));
                false
            }
            Err(error) => panic!("{engine:?}: {error}"),
        }
    };
    [Engine::UserFault, Engine::Protect].into_iter().filter(works).collect()
}

pub fn some_bytes(len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(len as u64);
    (0..len).map(|_| random.u8(..)).collect()
}

fn checked<S: PageStore>(region: &PagedRegion<S>) {
    let stats = region.stats();
    assert!(stats.resident <= region.limit(), "{stats:?}");
}

#[test]
fn random_operations_on_one_thread() {
    for engine in engines() {
        for (seed, pages, limit) in [(1, 40, 8), (2, 7, 6), (3, 100, 100), (4, 33, 20)] {
            for threads in [0, 2] {
                let len = pages * page_size() - 123;
                let mut array = some_bytes(len);
                let store = InTheHandler(Heap::new(array.clone()));
                let mut region = PagedRegion::builder(store)
                    .engine(engine)
                    .page_bytes(page_size())
                    .limit(limit * page_size())
                    .io_threads(threads)
                    .build()
                    .unwrap();
                let mut random = fastrand::Rng::with_seed(seed);
                for _ in 0..3_000 {
                    one_operation(&mut region, &mut array, &mut random);
                    checked(&region);
                }
                region.flush(..).unwrap();
                assert!(region.store().0.bytes() == array, "{engine:?} {seed}");
                assert_eq!(region.stats().dirty, 0);
                assert!(slice(&region) == array);
            }
        }
    }
}

/// The same over the stores of the library.
#[test]
fn over_files_and_compressed_memory() {
    let len = 30 * page_size() + 77;
    let array = some_bytes(len);
    let folder = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    std::fs::create_dir_all(&folder).unwrap();
    for engine in engines() {
        let path = folder.join(format!("paged-array-{}-{engine:?}", std::process::id()));
        std::fs::write(&path, &array).unwrap();
        over_a_store(engine, pagewise::FileStore::open(&path).unwrap(), array.clone(), 0);
        over_a_store(engine, pagewise::FileStore::open(&path).unwrap(), some_of(&path), 1);
        std::fs::remove_file(&path).unwrap();
        #[cfg(feature = "lz4")]
        over_a_store(engine, pagewise::MemoryStore::new(len as u64), vec![0; len], 1);
    }
}

fn some_of(path: &std::path::Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

fn over_a_store<S: PageStore + 'static>(
    engine: Engine,
    store: S,
    mut array: Vec<u8>,
    threads: usize,
) {
    let mut region = PagedRegion::builder(store)
        .engine(engine)
        .page_bytes(page_size())
        .limit(9 * page_size())
        .io_threads(threads)
        .build()
        .unwrap();
    let mut random = fastrand::Rng::with_seed(11);
    for _ in 0..1_000 {
        one_operation(&mut region, &mut array, &mut random);
        checked(&region);
    }
    region.flush(..).unwrap();
    region.evict(..).unwrap();
    let mut stored = vec![0; array.len()];
    region.store().read(0, &mut stored).unwrap();
    assert!(stored == array && slice(&region) == array);
}

pub fn one_operation<S: PageStore>(
    region: &mut PagedRegion<S>,
    array: &mut [u8],
    random: &mut fastrand::Rng,
) {
    let len = array.len();
    let start = random.usize(..len);
    let end = (start + random.usize(..3 * page_size())).min(len);
    let range = start..end;
    match random.u8(0..13) {
        0 => {
            let bytes: Vec<u8> = range.clone().map(|_| random.u8(..)).collect();
            region.write(start, &bytes).unwrap();
            array[range].copy_from_slice(&bytes);
        }
        1 => {
            let mut bytes = vec![0; range.len()];
            region.read(start, &mut bytes).unwrap();
            assert!(bytes == array[range]);
        }
        2 => {
            let value = random.u8(..);
            region.fill(range.clone(), value).unwrap();
            array[range].fill(value);
        }
        3 => region.flush(range).unwrap(),
        4 => region.evict(range).unwrap(),
        5 => region.done_with(range).unwrap(),
        6 => region.prefetch(range).unwrap(),
        7 if end - start < page_size() && region.limit() >= 5 * page_size() => {
            assert!(region.pin(range.clone()).unwrap()[..] == array[range]);
        }
        8 if end - start < page_size() && region.limit() >= 5 * page_size() => {
            let value = random.u8(..);
            region.pin_mut(range.clone()).unwrap().fill(value);
            array[range].fill(value);
        }
        9 | 10 => {
            slice_mut(region)[start] ^= 0x55;
            array[start] ^= 0x55;
        }
        _ => assert_eq!(slice(region)[start], array[start]),
    }
}
