//! A region reads and writes as an array of the same bytes does, whatever comes and goes meanwhile; after a flush, so
//! does its store; and it never holds more than its limit.

use pagewise::{Engine, PageStore, PagedRegion, page_size};

use crate::stores::{Heap, InTheHandler};

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
        for (seed, pages, limit) in [(1, 40, 8), (2, 7, 3), (3, 100, 100), (4, 33, 20)] {
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
                assert!(region.as_slice() == array);
            }
        }
    }
}

fn one_operation<S: PageStore>(
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
            region.as_mut_slice()[start] ^= 0x55;
            array[start] ^= 0x55;
        }
        _ => assert_eq!(region.as_slice()[start], array[start]),
    }
}
