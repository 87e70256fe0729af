//! Random sequences of operations, compared with a short model: on the real system, and with `--cfg pagewise_model`
//! on the simulated one, which checks every call.

use std::ops::Range;

use crate::common;
use pagewise::{Access, Budget, CommitStep, DemandRegion, Error, Reservation, page_size};
use proptest::prelude::*;

const PAGES: usize = 40;
const ALLOWED: usize = 24;

#[derive(Clone, Debug)]
enum Operation {
    Commit(Range<usize>),
    Decommit(Range<usize>),
    Zero(Range<usize>),
    Protect(Range<usize>, bool),
    Prefault(Range<usize>),
    Fill(Range<usize>, u8),
    Recreate,
}

/// Byte ranges whose ends are near page edges, in units of a quarter page.
fn ranges() -> impl Strategy<Value = Range<usize>> {
    (0..=PAGES * 4, 0..=PAGES * 4)
        .prop_map(|(a, b)| a.min(b) * page_size() / 4..a.max(b) * page_size() / 4)
}

fn operations() -> impl Strategy<Value = Operation> {
    prop_oneof![
        4 => ranges().prop_map(Operation::Commit),
        3 => ranges().prop_map(Operation::Decommit),
        2 => ranges().prop_map(Operation::Zero),
        1 => (ranges(), any::<bool>()).prop_map(|(range, read)| Operation::Protect(range, read)),
        1 => ranges().prop_map(Operation::Prefault),
        3 => (ranges(), 1u8..).prop_map(|(range, value)| Operation::Fill(range, value)),
        1 => Just(Operation::Recreate),
    ]
}

/// The model of a reservation: the bytes of each committed page.
#[derive(Clone)]
struct Reference {
    pages: Vec<Option<Vec<u8>>>,
}

fn outward(range: &Range<usize>) -> Range<usize> {
    if range.is_empty() {
        return 0..0;
    }
    range.start / page_size()..range.end.div_ceil(page_size())
}

fn inward(range: &Range<usize>) -> Range<usize> {
    let end = range.end / page_size();
    range.start.div_ceil(page_size()).min(end)..end
}

impl Reference {
    fn new() -> Self {
        Self { pages: vec![None; PAGES] }
    }

    fn committed(&self) -> usize {
        self.pages.iter().flatten().count()
    }

    /// Whether the limit allows it; if not, nothing happens.
    fn commit(&mut self, pages: Range<usize>) -> bool {
        let missing = self.pages[pages.clone()].iter().filter(|page| page.is_none()).count();
        let allowed = self.committed() + missing <= ALLOWED;
        if allowed {
            for page in &mut self.pages[pages] {
                page.get_or_insert_with(|| vec![0; page_size()]);
            }
        }
        allowed
    }

    fn fill(&mut self, range: Range<usize>, value: u8) {
        for at in range {
            if let Some(page) = &mut self.pages[at / page_size()] {
                page[at % page_size()] = value;
            }
        }
    }
}

fn check(memory: &Reservation, budget: &Budget, reference: &Reference) {
    assert_eq!(memory.committed(), reference.committed() * page_size());
    assert_eq!(budget.used(), memory.committed());
    let map = memory.page_map().unwrap();
    for (index, page) in reference.pages.iter().enumerate() {
        assert_eq!(map.page(index).committed, page.is_some(), "page {index}");
        if let Some(expected) = page {
            // SAFETY: the page is committed, and readable whenever this is called.
            let actual = unsafe {
                std::slice::from_raw_parts(memory.as_ptr().add(index * page_size()), page_size())
            };
            assert!(actual == expected, "contents of page {index}");
        }
    }
    check_rights(memory.as_ptr(), reference);
}

/// Asserts that the system lets the process access the committed pages, and no others.
#[cfg(all(unix, not(any(miri, pagewise_model))))]
fn check_rights(start: *mut u8, reference: &Reference) {
    if common::emulated() {
        return; // the emulator's own checks do not know all rights
    }
    for (index, page) in reference.pages.iter().enumerate() {
        let is_committed = page.is_some();
        let rights = common::rights(start.wrapping_add(index * page_size()));
        assert_eq!(rights, (is_committed, is_committed), "page {index}");
    }
}

#[cfg(not(all(unix, not(any(miri, pagewise_model)))))]
fn check_rights(_: *mut u8, _: &Reference) {}

fn apply(memory: &Reservation, reference: &mut Reference, operation: Operation) {
    match operation {
        Operation::Commit(range) => {
            let allowed = reference.commit(outward(&range));
            match memory.commit(range) {
                Ok(()) => assert!(allowed),
                Err(Error::BudgetReached { .. }) => assert!(!allowed),
                Err(error) => panic!("{error}"),
            }
        }
        Operation::Decommit(range) => {
            reference.pages[inward(&range)].fill(None);
            memory.decommit(range).unwrap();
        }
        Operation::Zero(range) => {
            reference.fill(range.clone(), 0);
            memory.zero(range).unwrap();
        }
        Operation::Protect(range, read) => {
            let committed = reference.pages[outward(&range)].iter().all(Option::is_some);
            let access = if read { Access::Read } else { Access::None };
            let result = memory.protect(range.clone(), access);
            assert_eq!(result.is_ok(), committed);
            if committed {
                memory.protect(range, Access::ReadWrite).unwrap();
            }
        }
        Operation::Prefault(range) => {
            let committed = reference.pages[outward(&range)].iter().all(Option::is_some);
            assert_eq!(memory.prefault(range).is_ok(), committed);
        }
        Operation::Fill(range, value) => {
            if reference.pages[outward(&range)].iter().all(Option::is_some) {
                // SAFETY: all of its pages are committed.
                unsafe { memory.as_ptr().add(range.start).write_bytes(value, range.len()) };
                reference.fill(range, value);
            }
        }
        Operation::Recreate => unreachable!("handled by the caller"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 256 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn reservations_do_what_the_reference_does(sequence in prop::collection::vec(operations(), 1..40)) {
        let budget = Budget::new(ALLOWED * page_size());
        let reserve =
            || Reservation::builder(PAGES * page_size()).budget(budget.clone()).build().unwrap();
        let (mut memory, mut reference) = (reserve(), Reference::new());
        for operation in sequence {
            if let Operation::Recreate = operation {
                memory.release().unwrap();
                prop_assert_eq!(budget.used(), 0);
                (memory, reference) = (reserve(), Reference::new());
            } else {
                apply(&memory, &mut reference, operation);
            }
            check(&memory, &budget, &reference);
        }
    }

    #[test]
    fn regions_commit_what_the_reference_does(
        sequence in prop::collection::vec(operations(), 1..40),
        backwards in any::<bool>(),
        engine in prop::sample::select(common::engines()),
    ) {
        let mut region = DemandRegion::builder(PAGES * page_size())
            .engine(engine)
            .limit(ALLOWED * page_size())
            .step(CommitStep::page())
            .build()
            .unwrap();
        let mut reference = Reference::new();
        for operation in sequence {
            match operation {
                Operation::Commit(range) => {
                    let allowed = reference.commit(outward(&range));
                    prop_assert_eq!(region.commit(range).is_ok(), allowed);
                }
                Operation::Decommit(range) => {
                    reference.pages[inward(&range)].fill(None);
                    region.decommit(range).unwrap();
                }
                Operation::Zero(range) => {
                    reference.fill(range.clone(), 0);
                    region.zero(range).unwrap();
                }
                Operation::Fill(range, value) => {
                    let done = touch(&mut region, &mut reference, &range, value, backwards);
                    reference.fill(done, value);
                }
                Operation::Protect(range, _) | Operation::Prefault(range) => {
                    // A read ends at the first page that is refused; before it, it finds what the pages hold.
                    let mut bytes = vec![0xEE; range.len()];
                    let copied = match region.read(range.start, &mut bytes) {
                        Ok(()) => range.len(),
                        Err(error) => error.copied,
                    };
                    let expected = reference_read(&mut reference, &range);
                    prop_assert_eq!(&bytes[..copied], &expected[..]);
                    prop_assert!(bytes[copied..].iter().all(|&byte| byte == 0xEE));
                }
                Operation::Recreate => {
                    region.decommit(..).unwrap();
                    reference = Reference::new();
                }
            }
            prop_assert_eq!(region.committed(), reference.committed() * page_size());
            check_rights(region.as_ptr(), &reference);
        }
    }
}

/// Fills a range of a region, from its start or page by page from its end. Returns which bytes were filled.
fn touch(
    region: &mut DemandRegion,
    reference: &mut Reference,
    range: &Range<usize>,
    value: u8,
    backwards: bool,
) -> Range<usize> {
    if !backwards {
        let reached = outward(range).find(|&page| !reference.commit(page..page + 1));
        let end = reached.map_or(range.end, |page| (page * page_size()).max(range.start));
        match region.fill(range.clone(), value) {
            Ok(()) => assert_eq!(end, range.end),
            Err(error) => assert_eq!(range.start + error.copied, end),
        }
        return range.start..end;
    }
    for page in outward(range).rev() {
        let part = range.start.max(page * page_size())..range.end.min((page + 1) * page_size());
        let allowed = reference.commit(page..page + 1);
        assert_eq!(region.fill(part.clone(), value).is_ok(), allowed);
        if !allowed {
            return part.end..range.end;
        }
        reference.fill(part, value);
    }
    range.clone()
}

/// The bytes that can be read from the start of a range before a page is refused.
fn reference_read(reference: &mut Reference, range: &Range<usize>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for page in outward(range) {
        if !reference.commit(page..page + 1) {
            break;
        }
        let part = range.start.max(page * page_size())..range.end.min((page + 1) * page_size());
        let contents = reference.pages[page].as_ref().expect("committed in the line above");
        bytes.extend(&contents[part.start - page * page_size()..part.end - page * page_size()]);
    }
    bytes
}
