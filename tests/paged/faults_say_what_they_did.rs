//! Events of faults, and the pages that a fault reads ahead.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use pagewise::{
    Engine, FaultEvent, FaultOutcome, PageStore, PagedRegion, PagedRegionBuilder, page_size,
};

use crate::behaves_as_a_plain_array::{engines, some_bytes};
use crate::stores::{Heap, InTheHandler, slice, slice_mut};

fn touch<S: PageStore + 'static>(region: &PagedRegion<S>, page: usize) {
    std::hint::black_box(slice(region)[page * page_size() + 9]);
}

fn builder(engine: Engine, pages: usize) -> PagedRegionBuilder<InTheHandler<Heap>> {
    let store = InTheHandler(Heap::new(some_bytes(pages * page_size())));
    PagedRegion::builder(store).engine(engine).page_bytes(page_size())
}

#[test]
fn each_fault_leaves_an_event_with_its_place_and_what_it_did() {
    for engine in engines() {
        let region = builder(engine, 64).limit(18 * page_size()).read_ahead(0).events(64);
        let mut region = region.build().unwrap();
        let page = page_size();
        touch(&region, 3);
        slice_mut(&mut region)[3 * page + 9] = 1; // it could be read
        slice_mut(&mut region)[5 * page + 9] = 1;
        touch(&region, 3); // no fault
        let of = |at, write, outcome| (at * page + 9, write, outcome);
        let (loaded, changed, rescued) = (
            |at| FaultOutcome::Loaded { start: at * page, len: page },
            |at| FaultOutcome::Changed { start: at * page, len: page },
            |at| FaultOutcome::Rescued { start: at * page, len: page },
        );
        let seen: Vec<_> = region.events().map(parts).collect();
        let tells = seen[0].1.is_some(); // some processors do not tell reads from writes
        let kind = |write| tells.then_some(write);
        assert_eq!(seen[0], of(3, kind(false), loaded(3)), "{engine:?}");
        assert_eq!(seen[1], of(3, kind(true), changed(3)), "{engine:?}");
        assert_eq!(seen[2], of(5, kind(true), loaded(5)), "{engine:?}");
        assert_eq!(seen.len(), if tells { 3 } else { 4 }, "{engine:?}: {seen:?}");

        // Page 3 has to make room, and page 5 is the next.
        let frames = region.limit() / page - if engine == Engine::UserFault { 2 } else { 0 };
        (10..).take(frames - 1).for_each(|at| touch(&region, at));
        let _ = region.events().count();
        touch(&region, 5);
        let back = region.events().last().unwrap();
        assert_eq!(back.outcome, rescued(5), "{engine:?}");
        assert_eq!(region.stats().rescues, 1);

        // What methods bring is no fault.
        let _ = region.pin(40 * page..41 * page).unwrap();
        assert_eq!(region.events().count(), 0);

        region.store().0.reads_fail.store(1, Relaxed);
        let at = &raw const slice(&region)[50 * page + 9];
        // SAFETY: the closure has nothing to drop.
        let refused = unsafe { pagewise::fault::attempt(|| at.read_volatile()) };
        assert_eq!(refused.unwrap_err().offset, 50 * page + 9);
        let events: Vec<_> = region.events().map(parts).collect();
        assert_eq!(events, [of(50, kind(false), FaultOutcome::Refused)], "{engine:?}");
        assert_eq!(region.stats().events_lost, 0);
    }
}

fn parts(event: FaultEvent) -> (usize, Option<bool>, FaultOutcome) {
    (event.offset, event.write, event.outcome)
}

#[test]
fn a_fault_in_a_run_reads_the_next_pages_too() {
    for engine in engines() {
        for (read_ahead, least, most) in [(0, 200, 200), (16 * page_size(), 10, 100)] {
            let region = builder(engine, 200).limit(100 * page_size()).read_ahead(read_ahead);
            let region = region.build().unwrap();
            let expected = region.store().0.bytes();
            for (at, expected) in expected.chunks(page_size()).enumerate() {
                assert!(slice(&region)[at * page_size()..][..page_size()] == *expected);
                assert!(region.stats().resident <= 100 * page_size());
            }
            let stats = region.stats();
            assert_eq!(stats.loads, 200, "{engine:?}: each page is read once");
            assert!((least..=most).contains(&stats.faults), "{engine:?}: {stats:?}");
        }
        // Touches here and there read nothing ahead.
        let region = builder(engine, 200).build().unwrap();
        (0..200).for_each(|at| touch(&region, at * 77 % 200));
        assert_eq!(region.stats().faults, 200, "{engine:?}");
    }
}

/// Fails from an offset on, and counts the calls that failed.
struct FailsFrom(Heap, u64, AtomicU64);

impl PageStore for FailsFrom {
    fn len(&self) -> u64 {
        self.0.len()
    }
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if offset >= self.1 {
            self.2.fetch_add(1, Relaxed);
            return Err(io::Error::from_raw_os_error(libc::EPIPE));
        }
        self.0.read(offset, buffer)
    }
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write(offset, bytes)
    }
    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}

#[test]
fn what_cannot_be_read_ahead_is_an_error_of_the_touch_that_needs_it() {
    for engine in engines() {
        let (good, page) = (10, page_size());
        let heap = Heap::new(some_bytes(64 * page));
        let expected = heap.bytes();
        let store = InTheHandler(FailsFrom(heap, (good * page) as u64, AtomicU64::new(0)));
        let region = PagedRegion::builder(store).engine(engine).page_bytes(page).build().unwrap();
        for at in 0..good {
            assert!(slice(&region)[at * page..][..page] == expected[at * page..][..page]);
        }
        assert!(region.store().0.2.load(Relaxed) > 0, "{engine:?}: it was tried");
        assert!(region.read(good * page, &mut [0]).is_err());
        assert!(region.read((good - 1) * page, &mut [0]).is_ok());
    }
}
