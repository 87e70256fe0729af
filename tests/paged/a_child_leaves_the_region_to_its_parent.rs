//! After a fork: the child's accesses are refused, its calls are errors, and the parent goes on.

use pagewise::{Error, PagedRegion, page_size};

use crate::behaves_as_a_plain_array::{engines, some_bytes};
use crate::common::{in_a_process, not_here};
use crate::stores::{Heap, InTheHandler, slice, slice_mut};

/// Forks. Returns how the child ended: its status, as of `waitpid`.
fn fork_and(body: impl FnOnce()) -> i32 {
    // SAFETY: the child has one thread and leaves without running anything else.
    match unsafe { libc::fork() } {
        0 => {
            body();
            // SAFETY: ends the child.
            unsafe { libc::_exit(42) }
        }
        child => {
            let mut status = 0;
            // SAFETY: our own child.
            assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
            status
        }
    }
}

const WELL: i32 = 42 << 8;

const KEPT: &str = "memory that a child does not have: qemu gives it all";

#[test]
fn a_child_reads_nothing_and_writes_nothing() {
    if crate::common::emulated() {
        return not_here(KEPT);
    }
    for engine in engines() {
        for lent in [0, 1] {
            let store = InTheHandler(Heap::new(some_bytes(32 * page_size())));
            let mut region = PagedRegion::builder(store)
                .engine(engine)
                .page_bytes(page_size())
                .limit(8 * page_size())
                .io_threads(lent)
                .build()
                .unwrap();
            let mut array = region.store().0.bytes();
            for page in 0..8 {
                slice_mut(&mut region)[page * page_size()] = 9;
                array[page * page_size()] = 9;
            }
            let status = fork_and(|| {
                for page in [0, 7, 20] {
                    let byte = &raw const slice(&region)[page * page_size()];
                    // SAFETY: the closure's frames have no destructors.
                    let read = unsafe { pagewise::fault::attempt(|| byte.read_volatile()) };
                    assert_eq!(read.unwrap_err().reason, pagewise::RefusalReason::Left);
                }
                assert!(matches!(
                    region.read(0, &mut [0]).unwrap_err().source,
                    Error::Unsupported { .. }
                ));
                assert!(region.write(0, b"child").is_err());
                assert!(region.flush(..).is_err());
                assert!(region.evict(..).is_err());
                assert!(region.pin(..1).is_err());
            });
            assert_eq!(status, WELL, "{engine:?}");
            // Pages that were in memory at the fork can leave, and come back.
            assert!(slice(&region) == array);
            region.write(5, b"parent").unwrap();
            array[5..11].copy_from_slice(b"parent");
            region.flush(..).unwrap();
            assert!(region.store().0.bytes() == array);
        }
    }
}

/// A child drops its copy of a region without waiting for threads that only the parent has, and makes its own.
#[test]
fn a_child_drops_its_copy_and_has_regions_of_its_own() {
    if crate::common::emulated() {
        return not_here(KEPT);
    }
    in_a_process("a_child_drops_its_copy_and_has_regions_of_its_own", || {
        for engine in engines() {
            let make = || {
                PagedRegion::builder(InTheHandler(Heap::new(some_bytes(32 * page_size()))))
                    .engine(engine)
                    .page_bytes(page_size())
                    .limit(8 * page_size())
            };
            let mut region = make().io_threads(2).build().unwrap();
            region.write(0, b"parent").unwrap();
            let mut copy = Some(region);
            let status = fork_and(|| {
                drop(copy.take());
                let own = make().build().unwrap();
                assert!(slice(&own) == own.store().0.bytes());
            });
            assert_eq!(status, WELL, "{engine:?}");
            let region = copy.unwrap();
            region.flush(..).unwrap();
            assert_eq!(&region.store().0.bytes()[..6], b"parent");
        }
    })
    .well();
}
