//! Bad input returns an error that names it, and changes nothing.

use std::ops::Range;

use pagewise::{
    Access, CommitStep, DemandRegion, Error, HugePages, RefusalReason, Reservation, page_size,
};

#[allow(clippy::reversed_empty_ranges)]
const REVERSED: Range<usize> = 9..3;

#[test]
fn nothing_and_too_much_cannot_be_reserved() {
    assert!(matches!(Reservation::new(0), Err(Error::ZeroLength)));
    assert!(matches!(DemandRegion::new(0), Err(Error::ZeroLength)));
    for len in [usize::MAX, isize::MAX as usize + 1] {
        assert!(
            matches!(Reservation::new(len), Err(Error::Overflow { requested }) if requested == len)
        );
    }
    let most = isize::MAX as usize / page_size() * page_size();
    assert!(matches!(Reservation::new(most), Err(Error::AddressSpaceExhausted { .. })));
    let guarded = Reservation::builder(1).guard_pages(usize::MAX).build();
    assert!(matches!(guarded, Err(Error::Overflow { .. })));
    let crooked = Reservation::builder(1).align(3).build();
    assert!(matches!(crooked, Err(Error::BadAlignment { align: 3 })));
    let zero = Reservation::builder(1).align(0).build();
    assert!(matches!(zero, Err(Error::BadAlignment { align: 0 })));
}

#[test]
fn bad_ranges_are_refused_by_every_operation_and_change_nothing() {
    let len = 4 * page_size();
    let memory = Reservation::new(len).unwrap();
    memory.commit(0..len).unwrap();
    type Operation<'a> = &'a dyn Fn(Range<usize>) -> Result<(), Error>;
    let operations: [(&str, Operation); 8] = [
        ("commit", &|range| memory.commit(range)),
        ("decommit", &|range| memory.decommit(range)),
        ("zero", &|range| memory.zero(range)),
        ("discard", &|range| memory.discard(range)),
        ("protect", &|range| memory.protect(range, Access::Read)),
        ("prefault", &|range| memory.prefault(range)),
        ("lock", &|range| memory.lock(range)),
        ("unlock", &|range| memory.unlock(range)),
    ];
    for (name, operation) in operations {
        assert!(
            matches!(operation(REVERSED), Err(Error::ReversedRange { start: 9, end: 3 })),
            "{name}"
        );
        let beyond = operation(1..len + 1);
        assert!(
            matches!(beyond, Err(Error::OutOfBounds { start: 1, end, .. }) if end == len + 1),
            "{name}"
        );
        let far = operation(usize::MAX - 1..usize::MAX);
        assert!(matches!(far, Err(Error::OutOfBounds { .. })), "{name}");
        operation(7..7)
            .unwrap_or_else(|error| panic!("an empty range is nothing to {name}: {error}"));
    }
    assert!(matches!(memory.commit(0..=usize::MAX), Err(Error::Overflow { .. })));
    assert_eq!(memory.committed(), len);
}

#[test]
fn operations_on_pages_that_are_not_committed_say_which() {
    let page = page_size();
    let memory = Reservation::new(4 * page).unwrap();
    memory.commit(0..2 * page).unwrap();
    for result in [
        memory.protect(0..3 * page, Access::Read),
        memory.prefault(page..3 * page),
        memory.lock(0..3 * page),
        memory.unlock(2 * page..3 * page),
    ] {
        assert!(
            matches!(result, Err(Error::NotCommitted { offset, .. }) if offset == 2 * page),
            "{result:?}"
        );
    }
    // Nothing was protected: the first page can be written.
    // SAFETY: the page is committed.
    unsafe { memory.as_ptr().write(1) };
}

#[test]
fn decommit_zero_and_discard_leave_pages_alone_that_were_never_committed() {
    let page = page_size();
    let memory = Reservation::new(64 * page).unwrap();
    memory.decommit(..).unwrap();
    memory.zero(..).unwrap();
    memory.discard(..).unwrap();
    assert_eq!(memory.committed(), 0);
    memory.commit(page..2 * page).unwrap();
    memory.decommit(..).unwrap();
    memory.decommit(..).unwrap();
    assert_eq!(memory.committed(), 0);
}

#[test]
fn rounding_never_takes_bytes_that_were_not_named() {
    let page = page_size();
    let memory = Reservation::new(8 * page).unwrap();
    memory.commit(page - 1..page + 1).unwrap();
    assert_eq!(memory.committed(), 2 * page, "commit rounds outward");
    // SAFETY: the two pages are committed.
    unsafe { memory.as_ptr().write_bytes(7, 2 * page) };
    for operation in [Reservation::decommit, Reservation::discard] {
        operation(&memory, 1..2 * page - 1).unwrap();
        operation(&memory, 0..page - 1).unwrap();
    }
    assert_eq!(memory.committed(), 2 * page, "decommit rounds inward");
    // SAFETY: as above.
    let bytes = unsafe { std::slice::from_raw_parts(memory.as_ptr(), 2 * page) };
    assert!(bytes.iter().all(|&byte| byte == 7));
}

#[test]
fn releasing_twice_does_not_compile_and_dropping_after_release_does_nothing() {
    // `release` consumes the value, so only its result and the budget can be looked at.
    let budget = pagewise::Budget::new(1 << 30);
    let memory = Reservation::builder(page_size()).budget(budget.clone()).build().unwrap();
    memory.commit(..).unwrap();
    memory.release().unwrap();
    assert_eq!(budget.used(), 0);
    let region = DemandRegion::builder(page_size()).budget(budget.clone()).build().unwrap();
    region.commit(..).unwrap();
    region.release().unwrap();
    assert_eq!((budget.used(), budget.peak()), (0, page_size()));
}

#[test]
fn a_limit_is_rounded_down_and_zero_refuses_everything() {
    let page = page_size();
    for (limit, pages) in [(0, 0), (page - 1, 0), (page, 1), (3 * page + 1, 3), (usize::MAX, 8)] {
        let mut region = DemandRegion::builder(8 * page).limit(limit).build().unwrap();
        assert_eq!(region.stats().limit, pages * page);
        let filled = region.fill(.., 1);
        assert_eq!(region.committed(), pages * page);
        if pages < 8 {
            let error = filled.unwrap_err();
            assert_eq!((error.copied, error.refusal.offset), (pages * page, pages * page));
            assert!(
                matches!(error.refusal.reason, RefusalReason::Limit { limit, .. } if limit == pages * page)
            );
        } else {
            filled.unwrap();
        }
    }
}

#[test]
fn a_limit_below_one_step_is_used_to_the_last_page() {
    let page = page_size();
    let mut region = DemandRegion::builder(64 * page)
        .limit(3 * page)
        .step(CommitStep::fixed(16 * page))
        .build()
        .unwrap();
    assert_eq!(region.fill(40 * page..48 * page, 5).unwrap_err().copied, 3 * page);
    assert_eq!(region.committed(), 3 * page);
    let mut bytes = vec![0; 3 * page];
    region.read(40 * page, &mut bytes).unwrap();
    assert!(bytes.iter().all(|&byte| byte == 5));
}

#[test]
fn ranges_outside_of_a_region_are_refused_as_a_whole() {
    let len = 2 * page_size();
    let mut region = DemandRegion::new(len).unwrap();
    for (offset, count) in [(len - 1, 2), (len + 1, 0), (usize::MAX, 2), (0, len + 1)] {
        let mut buffer = vec![9; count];
        for error in [
            region.read(offset, &mut buffer).unwrap_err(),
            region.write(offset, &buffer).unwrap_err(),
        ] {
            assert_eq!(error.copied, 0);
            assert!(matches!(error.refusal.reason, RefusalReason::NotReserved));
        }
        assert!(buffer.iter().all(|&byte| byte == 9));
    }
    assert_eq!(region.fill(REVERSED, 1).unwrap_err().copied, 0);
    assert_eq!(region.fill(0..len + 1, 1).unwrap_err().copied, 0);
    region.write(len, &[]).unwrap();
    assert_eq!(region.committed(), 0, "nothing was touched");
}

#[test]
fn a_name_that_no_system_would_take_is_no_error() {
    let name = "[dollar$] \\ `tick` \0 ünïcode ".repeat(9);
    Reservation::builder(1).name(name).build().unwrap();
}

/// Whether the pool of explicit huge pages of this system has any.
fn has_a_pool() -> bool {
    let number = |path: &str| -> usize {
        std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    };
    let pool = "/proc/sys/vm/nr_hugepages";
    cfg!(all(target_os = "linux", not(any(miri, pagewise_model))))
        && number(pool) + number("/proc/sys/vm/nr_overcommit_hugepages") > 0
}

#[test]
fn explicit_huge_pages_come_from_a_pool_or_are_refused_clearly() {
    match Reservation::builder(1 << 21).huge_pages(HugePages::Explicit).build() {
        // The pool may be too small, or another test may be using all of it.
        Err(Error::Unsupported { what }) => assert!(what.contains("pool"), "{what}"),
        Ok(memory) => {
            assert!(has_a_pool() && memory.page_size() > page_size());
            memory.commit(..1).unwrap();
            assert_eq!(memory.committed(), memory.page_size());
        }
        Err(error) => panic!("{error}"),
    }
}
