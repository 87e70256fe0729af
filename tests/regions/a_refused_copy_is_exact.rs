//! A guarded copy that is refused returns the exact number of bytes copied: those before the refused page are
//! written, those from it onwards are unchanged.
#![cfg(not(pagewise_model))]

use crate::common;
use pagewise::{AccessError, CommitStep, DemandRegion, RefusalReason, page_size};

/// How many pages a region may commit: those before the first refused one.
const GRANTED: usize = 2;
const PAGES: usize = GRANTED + 3;

/// A region of which the first pages are committed, up to the limit.
fn up_to_the_edge() -> DemandRegion {
    let region = DemandRegion::builder(PAGES * page_size())
        .limit(GRANTED * page_size())
        .step(CommitStep::page())
        .build()
        .unwrap();
    region.commit(..GRANTED * page_size()).unwrap();
    region
}

/// Copies that begin at every distance up to a cache line before the edge and at some larger ones, with lengths up to
/// three pages.
fn cases() -> impl Iterator<Item = (usize, usize)> {
    let (page, edge) = (page_size(), GRANTED * page_size());
    let starts = (0..=72).chain([page - 1, page, page + 1, 2 * page - 9, 2 * page]);
    let stride = if common::emulated() { 2039 } else { 61 };
    starts
        .flat_map(move |back| {
            let lengths = (0..=80).chain((81..3 * page).step_by(stride * page / 4096));
            lengths
                .chain([page - 1, page, page + 1, 2 * page, 3 * page])
                .map(move |len| (edge - back, len))
        })
        .filter(move |(start, len)| start + len <= PAGES * page)
}

#[track_caller]
fn expect(result: Result<(), AccessError>, start: usize, len: usize) -> usize {
    let edge = GRANTED * page_size();
    let granted = len.min(edge - start);
    match result {
        Ok(()) => assert_eq!(granted, len, "{start:#x}, {len:#x} should be refused"),
        Err(error) => {
            assert_eq!(error.copied, granted, "{start:#x}, {len:#x}");
            assert_eq!(error.refusal.offset, edge);
            assert!(
                matches!(error.refusal.reason, RefusalReason::Limit { limit, .. } if limit == edge)
            );
        }
    }
    granted
}

#[test]
fn writes_keep_what_comes_before_and_touch_nothing_after() {
    let mut region = up_to_the_edge();
    let edge = GRANTED * page_size();
    let source: Vec<u8> = (0..3 * page_size()).map(|index| (index % 251) as u8 + 1).collect();
    let mut before = vec![0; edge];
    for (start, len) in cases() {
        region.read(0, &mut before).unwrap();
        let granted = expect(region.write(start, &source[..len]), start, len);
        let now = &region.as_slice()[..edge];
        assert_eq!(now[..start], before[..start]);
        assert_eq!(now[start..start + granted], source[..granted]);
        assert_eq!(now[start + granted..], before[start + granted..]);
        assert_eq!(region.committed(), edge);
        region.as_mut_slice()[start..start + granted].fill(0);
    }
}

#[test]
fn reads_fill_what_comes_before_and_leave_the_rest_of_the_buffer() {
    let mut region = up_to_the_edge();
    for (index, byte) in region.as_mut_slice()[..GRANTED * page_size()].iter_mut().enumerate() {
        *byte = (index % 249) as u8 + 1;
    }
    let untouched = vec![0xee; 3 * page_size() + 64];
    let mut buffer = untouched.clone();
    for (start, len) in cases() {
        // The buffer's own alignment varies, too.
        let shift = (start ^ len) % 16;
        buffer.fill(0xee);
        let granted = expect(region.read(start, &mut buffer[shift..shift + len]), start, len);
        assert_eq!(buffer[shift..shift + granted], region.as_slice()[start..start + granted]);
        assert_eq!(buffer[..shift], untouched[..shift]);
        assert_eq!(buffer[shift + granted..], untouched[shift + granted..]);
    }
}

#[test]
fn fills_stop_at_the_edge() {
    let mut region = up_to_the_edge();
    let edge = GRANTED * page_size();
    let (zeros, sevens) = (vec![0; edge], vec![7; edge]);
    for (start, len) in cases() {
        let granted = expect(region.fill(start..start + len, 7), start, len);
        let now = &region.as_slice()[..edge];
        assert_eq!(now[..start], zeros[..start]);
        assert_eq!(now[start..start + granted], sevens[..granted]);
        assert_eq!(now[start + granted..], zeros[start + granted..]);
        region.as_mut_slice()[start..start + granted].fill(0);
    }
}

/// The buffer of a copy may lie in a second region that refuses: then the offset is one in that region.
#[test]
fn a_buffer_in_another_region_is_refused_as_well() {
    let (mut region, source) = (up_to_the_edge(), up_to_the_edge());
    let copied = |error: AccessError| (error.copied, error.refusal.offset);
    let edge = GRANTED * page_size();
    // From 9 bytes before the source's edge into a place that could take more.
    // SAFETY: an owned, live region; reading its refused pages is what this is about.
    let bytes = unsafe { std::slice::from_raw_parts(source.as_ptr().add(edge - 9), 64) };
    assert_eq!(copied(region.write(100, bytes).unwrap_err()), (9, edge));
    // Where both sides are refused, the one that is reached first counts.
    assert_eq!(copied(region.write(edge - 4, bytes).unwrap_err()), (4, edge));
}

#[test]
fn ranges_outside_the_region_copy_nothing() {
    let mut region = up_to_the_edge();
    let len = region.len();
    let mut byte = [9];
    for offset in [len, len + 1, usize::MAX] {
        let refused = region.read(offset, &mut byte).unwrap_err();
        assert!(matches!(refused.refusal.reason, RefusalReason::NotReserved));
        assert_eq!(refused.copied, 0);
        assert_eq!(region.write(offset, &byte).unwrap_err().copied, 0);
    }
    assert_eq!(byte, [9]);
    region.read(len, &mut []).unwrap();
    region.write(0, &[]).unwrap();
    region.fill(5..5, 1).unwrap();
    assert!(region.fill(len - 1..len + 1, 1).is_err());
}
