//! One event for each fault, in order, with the byte that was touched, whether that was a write, and the
//! bytes that were committed for it.
#![cfg(not(any(miri, pagewise_model)))]

use crate::common::{self, peek, poke};
use pagewise::{CommitStep, DemandRegion, Engine, FaultEvent, FaultOutcome, page_size};

/// An expected event.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Expected {
    offset: usize,
    write: bool,
    /// First page and number of pages; `None` where the fault was refused.
    committed: Option<(usize, usize)>,
}

fn write(offset: usize, first: usize, pages: usize) -> Expected {
    Expected { offset, write: true, committed: Some((first, pages)) }
}

fn read(offset: usize, first: usize, pages: usize) -> Expected {
    Expected { offset, write: false, committed: Some((first, pages)) }
}

fn refused(offset: usize, write: bool) -> Expected {
    Expected { offset, write, committed: None }
}

/// Whether the platform tells what an access was: FreeBSD on AArch64 does not, and qemu does not always.
fn direction_is_told() -> bool {
    let told = cfg!(not(all(target_os = "freebsd", target_arch = "aarch64")));
    told && (cfg!(target_arch = "x86_64") || !common::emulated())
}

#[track_caller]
fn expect(events: impl Iterator<Item = FaultEvent>, expected: &[Expected]) {
    let events: Vec<_> = events.collect();
    let offsets: Vec<_> = events.iter().map(|event| event.offset).collect();
    assert_eq!(offsets, expected.iter().map(|event| event.offset).collect::<Vec<_>>());
    for (event, expected) in events.iter().zip(expected) {
        if direction_is_told() || event.write.is_some() {
            assert_eq!(event.write, Some(expected.write), "{expected:?}");
        }
        let outcome = match expected.committed {
            Some((first, pages)) => {
                FaultOutcome::Committed { start: first * page_size(), len: pages * page_size() }
            }
            None => FaultOutcome::Refused,
        };
        assert_eq!(event.outcome, outcome, "{expected:?}");
    }
}

fn build(engine: Engine, pages: usize, limit: usize, step: CommitStep) -> DemandRegion {
    let builder = DemandRegion::builder(pages * page_size()).engine(engine).events(64);
    builder.limit(limit * page_size()).step(step).build().unwrap()
}

#[test]
fn reads_and_writes_of_every_kind_are_told_apart_in_the_order_in_which_they_came() {
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
    let page = page_size();
    for engine in common::engines() {
        let mut region = build(engine, 16, 9, CommitStep::page());
        let at = |region: &DemandRegion, offset: usize| region.as_ptr().wrapping_add(offset);
        poke(at(&region, 5), 1);
        peek(at(&region, 3 * page + 7));
        // Across an edge: the second page's first byte.
        region.write(2 * page - 2, &[1; 4]).unwrap();
        region.read(6 * page - 9, &mut [0; 9]).unwrap();
        region.fill(7 * page + 1..7 * page + 2, 1).unwrap();
        // SAFETY: an aligned word of the region that is used atomically only.
        let word = unsafe { AtomicU64::from_ptr(at(&region, 4 * page + 64).cast()) };
        word.fetch_add(1, SeqCst);
        // SAFETY: as above. The page is committed by now: no event.
        unsafe { AtomicU64::from_ptr(at(&region, 4 * page).cast()) }.load(SeqCst);
        expect(
            region.events(),
            &[
                write(5, 0, 1),
                read(3 * page + 7, 3, 1),
                write(2 * page - 2, 1, 1),
                write(2 * page, 2, 1),
                read(6 * page - 9, 5, 1),
                write(7 * page + 1, 7, 1),
                write(4 * page + 64, 4, 1),
            ],
        );
        // Neither an explicit commit nor an access to committed pages is a fault; decommitted pages fault again.
        region.commit(9 * page..11 * page).unwrap();
        region.fill(9 * page..11 * page, 1).unwrap();
        assert_eq!(region.events().next(), None, "{engine:?}");
        assert_eq!(region.committed(), region.stats().limit);
        region.write(12 * page + 3, &[1]).unwrap_err();
        region.read(13 * page + 4, &mut [0]).unwrap_err();
        region.fill(13 * page + 5.., 1).unwrap_err();
        region.decommit(..page).unwrap();
        peek(at(&region, 17));
        region.write(8 * page, &[1]).unwrap_err();
        expect(
            region.events(),
            &[
                refused(12 * page + 3, true),
                refused(13 * page + 4, false),
                refused(13 * page + 5, true),
                read(17, 0, 1),
                refused(8 * page, true),
            ],
        );
        let stats = region.stats();
        assert_eq!((stats.faults, stats.refused, stats.events_lost), (8, 4, 0), "{engine:?}");
    }
}

#[test]
fn an_event_says_which_pages_of_a_batch_were_committed() {
    let page = page_size();
    for engine in common::engines() {
        let region = build(engine, 30, 30, CommitStep::fixed(4 * page));
        let poke = |offset: usize| poke(region.as_ptr().wrapping_add(offset), 1);
        poke(6 * page + 1);
        // The region ends in the middle of a block.
        poke(29 * page);
        // A committed page in the middle of the block cuts the step.
        region.commit(13 * page..14 * page).unwrap();
        poke(15 * page + 2);
        poke(12 * page + 3);
        let expected = [
            write(6 * page + 1, 4, 4),
            write(29 * page, 28, 2),
            write(15 * page + 2, 14, 2),
            write(12 * page + 3, 12, 1),
        ];
        expect(region.events(), &expected);
        assert_eq!(region.committed(), 10 * page);

        // A limit cuts the step: the touched page is in the rest.
        let mut region = build(engine, 30, 3, CommitStep::fixed(8 * page));
        region.write(14 * page, &[1]).unwrap();
        region.write(0, &[1]).unwrap_err();
        let events: Vec<_> = region.events().collect();
        let [served, last] = events[..] else { panic!("{events:?}") };
        let FaultOutcome::Committed { start, len } = served.outcome else { panic!("{served:?}") };
        assert_eq!(len, 3 * page, "{engine:?}");
        assert!((8 * page..=13 * page).contains(&start) && start + len > 14 * page, "{served:?}");
        let mut committed = region.committed_ranges();
        assert_eq!((committed.next(), committed.next()), (Some(start..start + len), None));
        assert_eq!((last.offset, last.outcome), (0, FaultOutcome::Refused));
    }
}

#[test]
fn what_finds_no_room_is_counted_and_what_was_there_stays() {
    let page = page_size();
    for engine in common::engines() {
        let builder = DemandRegion::builder(16 * page).engine(engine).events(4);
        let region = builder.step(CommitStep::page()).build().unwrap();
        let poke = |index: usize| poke(region.as_ptr().wrapping_add(index * page + index), 1);
        (0..7).for_each(poke);
        assert_eq!(region.stats().events_lost, 3);
        let expected: Vec<_> = (0..4).map(|index| write(index * page + index, index, 1)).collect();
        expect(region.events(), &expected);
        poke(9);
        expect(region.events(), &[write(9 * page + 9, 9, 1)]);
        assert_eq!((region.stats().events_lost, region.stats().faults), (3, 8));
    }
}

#[test]
fn a_sequence_of_events_is_the_whole_of_what_was_committed() {
    let page = page_size();
    for engine in common::engines() {
        let pages = (8 << 20) / page;
        let builder = DemandRegion::builder(pages * page).engine(engine).events(1 << 12);
        let mut region = builder.build().unwrap();
        region.fill(.., 1).unwrap();
        let mut reached = 0;
        for event in region.events() {
            let FaultOutcome::Committed { start, len } = event.outcome else { panic!("{event:?}") };
            assert_eq!((event.offset, start), (reached, reached), "{engine:?}");
            assert!(len > 0 && len.is_multiple_of(page));
            reached += len;
        }
        assert_eq!((reached, region.stats().events_lost), (region.len(), 0));
    }
}
