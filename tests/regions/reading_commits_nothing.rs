//! `peek`, `write_to`, `committed_ranges` and `zero` commit no page of a sparse region; `read_from` commits
//! little more than it reads.

use crate::common::engines;
use pagewise::{CommitStep, DemandRegion, Reservation, page_size};

fn region(engine: pagewise::Engine, limit: usize) -> DemandRegion {
    DemandRegion::builder(1 << 30).engine(engine).limit(limit).build().unwrap()
}

#[test]
fn a_peek_sees_what_a_read_would_and_commits_nothing_even_at_the_limit() {
    let page = page_size();
    for engine in engines() {
        let mut region = region(engine, page);
        region.write(5 * page + 7, b"here").unwrap();
        assert_eq!(region.committed(), region.stats().limit);
        // Before, inside and behind the committed page.
        let mut seen = vec![9; 3 * page];
        region.peek(4 * page + 1, &mut seen).unwrap();
        let at = page + 6;
        assert_eq!(&seen[at..at + 4], b"here");
        assert_eq!(seen.iter().filter(|&&byte| byte != 0).count(), 4);
        let mut nothing = [];
        region.peek(region.len(), &mut nothing).unwrap();
        let before = region.stats();
        let outside = region.peek(region.len() - 1, &mut [0; 2]).unwrap_err();
        assert_eq!(outside.copied, 0);
        region.peek(usize::MAX, &mut [0; 2]).unwrap_err();
        assert_eq!(region.stats(), before, "no fault, no refusal, no commit");
        assert!(region.read(0, &mut [0]).is_err(), "the limit is used up");
    }
}

#[test]
fn committed_parts_are_told_exactly() {
    let page = page_size();
    for engine in engines() {
        let mut region = DemandRegion::builder(1 << 40)
            .at_least(1 << 30)
            .engine(engine)
            .step(pagewise::CommitStep::page())
            .build()
            .unwrap();
        assert_eq!(region.committed_ranges().next(), None);
        let far = region.len() - page;
        region.commit(page..3 * page).unwrap();
        region.commit(3 * page..3 * page + 1).unwrap();
        region.write(40 * page, &[1]).unwrap();
        region.write(far, &[1]).unwrap();
        let parts: Vec<_> = region.committed_ranges().collect();
        assert_eq!(parts, [page..4 * page, 40 * page..41 * page, far..far + page]);
        assert!(
            region.is_committed(page..4 * page) && region.is_committed(2 * page + 5..2 * page + 6)
        );
        assert!(
            !region.is_committed(page - 1..page + 1) && !region.is_committed(page..4 * page + 1)
        );
        assert!(!region.is_committed(far..region.len() + 1), "outside");
        region.decommit(2 * page..3 * page).unwrap();
        let parts: Vec<_> = region.committed_ranges().take(2).collect();
        assert_eq!(parts, [page..2 * page, 3 * page..4 * page]);
    }
}

#[test]
fn zeroing_zeroes_the_bytes_that_are_named_and_no_others() {
    let page = page_size();
    let memory = Reservation::new(16 * page).unwrap();
    memory.commit(2 * page..8 * page).unwrap();
    // SAFETY: these pages are committed, and stay so.
    let bytes = unsafe { std::slice::from_raw_parts_mut(memory.as_ptr().add(2 * page), 6 * page) };
    let cases = [
        (2 * page, 2 * page + 100),
        (2 * page + 5, 2 * page + 6),
        (3 * page - 1, 3 * page + 1),
        (3 * page - 10, 5 * page + 10),
        (2 * page, 8 * page),
        (0, 16 * page),
        (7 * page + 1, 9 * page + 1),
        (4 * page, 4 * page),
    ];
    for (start, end) in cases {
        bytes.fill(7);
        memory.zero(start..end).unwrap();
        for (index, &byte) in bytes.iter().enumerate() {
            let named = (start..end).contains(&(index + 2 * page));
            assert_eq!(byte == 0, named, "{start:#x}..{end:#x}: byte {:#x}", index + 2 * page);
        }
        assert_eq!(memory.committed(), 6 * page);
    }
    assert!(memory.zero(0..16 * page + 1).is_err());
    memory.protect(2 * page..3 * page, pagewise::Access::Read).unwrap();
    bytes[page] = 7;
    memory.zero(2 * page + 1..2 * page + 2).unwrap();
    assert_eq!(bytes[1], 0);
}

#[test]
fn zeroing_a_region_commits_nothing_in_every_engine() {
    let page = page_size();
    for engine in engines() {
        let mut region = region(engine, 64 * page);
        region.fill(page..2 * page + 10, 7).unwrap();
        let committed = region.committed();
        region.zero(page + 1..).unwrap();
        assert_eq!(region.committed(), committed);
        let mut seen = vec![0; 2 * page];
        region.peek(page, &mut seen).unwrap();
        assert_eq!(seen.iter().filter(|&&byte| byte == 7).count(), 1);
        assert_eq!(seen[0], 7);
        // Bytes that were zeroed can be written again.
        region.fill(page..2 * page, 9).unwrap();
    }
}

#[test]
fn a_short_reader_commits_little_of_a_long_range() {
    for engine in engines() {
        let mut region = region(engine, page_size());
        assert_eq!(region.read_from(.., &mut &b"hello"[..]).unwrap(), 5);
        assert_eq!(region.committed(), page_size());
        let mut seen = [0; 6];
        region.peek(0, &mut seen).unwrap();
        assert_eq!(&seen, b"hello\0");
    }
}

#[test]
fn a_reader_that_passes_the_limit_leaves_what_it_gave_before() {
    for engine in engines() {
        let limit = 5 * page_size();
        let mut region = region(engine, limit);
        let mut reader = std::io::Read::take(std::io::repeat(3), 1 << 24);
        let refused = region.read_from(7.., &mut reader).unwrap_err();
        assert!(refused.to_string().contains("refused"), "{refused}");
        assert_eq!(region.committed(), limit);
        let mut seen = vec![0; limit];
        region.peek(0, &mut seen).unwrap();
        assert!(seen[7..].iter().all(|&byte| byte == 3) && seen[..7] == [0; 7]);
        assert_eq!(reader.limit(), (1 << 24) - (limit as u64 - 7), "no byte was read and lost");
    }
}

#[test]
fn a_writer_gets_zeros_where_nothing_is_committed() {
    for engine in engines() {
        let page = page_size();
        let mut region = region(engine, page);
        region.write(3 * page + 1, b"x").unwrap();
        let mut written = Vec::new();
        region.write_to(page - 5..5 * page + 5, &mut written).unwrap();
        assert_eq!(written.len(), 4 * page + 10);
        assert_eq!(written.iter().position(|&byte| byte != 0), Some(2 * page + 6));
        assert_eq!(written.iter().filter(|&&byte| byte != 0).count(), 1);
        assert_eq!(region.committed(), page);
    }
}

/// A reader that counts its calls, gives pages of sevens, and takes no empty buffer.
struct Pages(usize);

impl std::io::Read for Pages {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        assert!(!into.is_empty(), "nothing is left to be read");
        let count = into.len().min(page_size()).min(self.0);
        into[..count].fill(7);
        self.0 -= count;
        Ok(count)
    }
}

#[test]
fn as_much_is_committed_ahead_of_a_reader_as_it_has_read() {
    let page = page_size();
    let mut region = DemandRegion::builder(64 * page).step(CommitStep::page()).build().unwrap();
    // Not from the start of the region: a page, then one more, then two, then four.
    assert_eq!(region.read_from(10 * page.., &mut Pages(4 * page)).unwrap(), 4 * page);
    assert_eq!(region.committed(), 8 * page);
    // A range that is full asks no more.
    assert_eq!(region.read_from(20 * page..22 * page, &mut Pages(9 * page)).unwrap(), 2 * page);
    assert_eq!(region.committed(), 10 * page);
}

#[test]
fn a_few_bytes_commit_their_page_alone_wherever_it_is() {
    let page = page_size();
    let mut region = DemandRegion::builder(64 * page).step(CommitStep::page()).build().unwrap();
    region.write(3 * page + 2, b"hello").unwrap();
    assert!(region.committed_ranges().eq(std::iter::once(3 * page..4 * page)));
}
