//! Calls that the system refuses, wholly or half-way. A layer between the library and the system (`src/os/refusals.rs`)
//! refuses them on request: with `--cfg pagewise_model` above the simulated system; with `--cfg pagewise_refusals`
//! above the real one, where the access rights of every page are tried, too. `ci/model` runs both.
#![cfg(any(pagewise_model, pagewise_refusals))]

use std::ops::Range;

use crate::common;
use pagewise::refusals::{Call, Refusal};
use pagewise::{
    Access, AccessError, Arena, Budget, CommitStep, DemandRegion, Engine, Error, PageMap, PageVec,
    RefusalReason, Reservation, page_size,
};

/// What the tests need of a reservation and of a region.
trait Memory {
    fn start(&self) -> *mut u8;
    fn bytes(&self) -> usize;
    fn counted(&self) -> usize;
    fn holds_pages(&self) -> bool;
    fn map(&self) -> PageMap;

    /// The addresses of some pages.
    fn pages(&self, pages: Range<usize>) -> Range<*mut u8> {
        let at = |page| self.start().wrapping_add(page * page_size());
        at(pages.start)..at(pages.end)
    }

    fn byte(&self, page: usize) -> *mut u8 {
        self.pages(page..page + 1).start
    }

    /// Asserts that exactly these pages are committed, by the count, by the page map and by trying each page, and that
    /// none is held.
    #[track_caller]
    fn assert_committed(&self, expected: &[usize]) {
        assert!(!self.holds_pages(), "a page is still held");
        let pages = 0..self.bytes() / page_size();
        let map = self.map();
        let committed: Vec<_> = pages.clone().filter(|&page| map.page(page).committed).collect();
        assert_eq!(committed, expected, "by the page map");
        assert_eq!(self.counted(), expected.len() * page_size(), "by the count");
        let accessible: Vec<_> = pages.filter(|&page| is_accessible(self.byte(page))).collect();
        assert_eq!(accessible, expected, "by trying");
    }
}

macro_rules! memory {
    ($($type:ty)*) => {$(
        impl Memory for $type {
            fn start(&self) -> *mut u8 {
                self.as_ptr()
            }

            fn bytes(&self) -> usize {
                self.len()
            }

            fn counted(&self) -> usize {
                self.committed()
            }

            fn holds_pages(&self) -> bool {
                self.holds_pages()
            }

            fn map(&self) -> PageMap {
                self.page_map().unwrap()
            }
        }
    )*};
}

memory!(Reservation DemandRegion);

#[cfg(pagewise_model)]
fn is_accessible(byte: *mut u8) -> bool {
    pagewise::refusals::is_accessible(byte)
}

/// Whether a byte can be read and written: the kernel returns an error where a program's own access would fault.
#[cfg(not(pagewise_model))]
fn is_accessible(byte: *mut u8) -> bool {
    let mut pipe = [0; 2];
    // SAFETY: the byte is sent through the pipe and back, so that it keeps its value.
    unsafe {
        assert_eq!(libc::pipe(pipe.as_mut_ptr()), 0);
        let accessible =
            libc::write(pipe[1], byte.cast(), 1) == 1 && libc::read(pipe[0], byte.cast(), 1) == 1;
        pipe.iter().for_each(|&end| assert_eq!(libc::close(end), 0));
        accessible
    }
}

fn read(memory: &impl Memory, page: usize) -> u8 {
    common::peek(memory.byte(page))
}

/// The system call by which an engine commits pages where no block is open.
fn commit_of(engine: Engine) -> Call {
    if engine == Engine::UserFault { Call::UserFaultCommit } else { Call::Commit }
}

/// The system call by which an engine decommits pages where no block is open.
fn decommit_of(engine: Engine) -> Call {
    if engine == Engine::UserFault { Call::Zero } else { Call::Decommit }
}

/// A region of sixteen pages, of which a fault commits eight, and a budget that it has for itself.
fn region_in_steps(engine: Engine, budget_pages: usize) -> (DemandRegion, Budget) {
    let budget = Budget::new(budget_pages * page_size());
    let region = DemandRegion::builder(16 * page_size())
        .engine(engine)
        .budget(budget.clone())
        .step(CommitStep::fixed(8 * page_size()))
        .build()
        .unwrap();
    (region, budget)
}

/// Asserts that exactly `pages` further pages can be committed.
#[track_caller]
fn assert_left(region: &DemandRegion, budget: &Budget, pages: usize, free: Range<usize>) {
    let page = page_size();
    assert_eq!(budget.used(), region.committed());
    assert!(pages < free.len(), "the test has too few free pages");
    let (from, end) = (free.start * page, (free.start + pages) * page);
    region.commit(from..end).unwrap();
    let error = region.commit(end..end + page).unwrap_err();
    let Error::BudgetReached { used, limit, requested, .. } = error else { panic!("{error:?}") };
    assert_eq!((used, limit, requested), (budget.limit(), budget.limit(), page));
    assert_eq!(budget.peak(), budget.limit());
}

#[track_caller]
fn assert_refused_by_the_system(error: AccessError, copied: usize, offset: usize) {
    assert!(matches!(error.refusal.reason, RefusalReason::System(_)), "{error}");
    assert_eq!((error.copied, error.refusal.offset), (copied, offset));
}

#[test]
fn a_batch_that_is_refused_becomes_the_one_page() {
    for engine in common::engines() {
        let (mut region, budget) = region_in_steps(engine, 8);
        let refusing =
            Refusal::of(commit_of(engine)).touching(region.pages(0..3)).half_done().begin();
        region.write(3 * page_size(), &[7]).unwrap();
        assert!(refusing.refused() > 0, "{engine:?}: nothing was refused");
        drop(refusing);
        region.assert_committed(&[3]);
        let stats = region.stats();
        assert_eq!((stats.faults, stats.refused, stats.peak), (1, 0, page_size()), "{engine:?}");
        assert_eq!((read(&region, 3), budget.used(), budget.peak()), (7, page_size(), page_size()));
        assert_left(&region, &budget, 7, 8..16);
    }
}

#[test]
fn a_batch_that_is_refused_half_way_becomes_its_beginning_and_the_one_page() {
    for engine in common::engines() {
        let (mut region, budget) = region_in_steps(engine, 8);
        let refusing =
            Refusal::of(commit_of(engine)).touching(region.pages(2..3)).half_done().begin();
        region.write(5 * page_size(), &[7]).unwrap();
        drop(refusing);
        region.assert_committed(&[0, 1, 5]);
        assert_eq!((region.stats().faults, read(&region, 5)), (1, 7), "{engine:?}");
        assert_left(&region, &budget, 5, 8..16);
    }
}

#[test]
fn a_batch_that_is_refused_by_its_size_comes_in_pieces() {
    for engine in common::engines() {
        for most in [1, 3] {
            let (mut region, budget) = region_in_steps(engine, 9);
            let refusing =
                Refusal::of(commit_of(engine)).longer_than(most * page_size()).half_done().begin();
            region.write(3 * page_size(), &[7]).unwrap();
            assert!(refusing.refused() > 0);
            drop(refusing);
            region.assert_committed(&[0, 1, 2, 3, 4, 5, 6, 7]);
            assert_eq!((region.stats().faults, read(&region, 3)), (1, 7), "{engine:?}");
            assert_left(&region, &budget, 1, 8..16);
        }
    }
}

#[test]
fn a_page_that_is_refused_leaves_what_came_before_it() {
    for engine in common::engines() {
        let (mut region, budget) = region_in_steps(engine, 8);
        let edge = Refusal::of(commit_of(engine)).touching(region.pages(1..2)).half_done().begin();
        let page = Refusal::of(commit_of(engine)).touching(region.pages(3..4)).half_done().begin();
        let error = region.write(3 * page_size() + 1, &[7]).unwrap_err();
        assert_refused_by_the_system(error, 0, 3 * page_size() + 1);
        drop((edge, page));
        region.assert_committed(&[0]);
        assert_eq!((region.stats().faults, region.stats().refused), (0, 1), "{engine:?}");
        assert_left(&region, &budget, 7, 4..16);
    }
}

#[test]
fn a_page_that_is_refused_alone_is_refused_and_nothing_else_happens() {
    for engine in common::engines() {
        let (mut region, budget) = region_in_steps(engine, 8);
        let refusing = Refusal::of(commit_of(engine)).begin();
        let error = region.write(3 * page_size(), &[1, 2, 3]).unwrap_err();
        assert_refused_by_the_system(error, 0, 3 * page_size());
        drop(refusing);
        region.assert_committed(&[]);
        assert_eq!((region.stats().refused, region.stats().peak, budget.peak()), (1, 0, 0));
        region.write(3 * page_size(), &[1, 2, 3]).unwrap();
        region.assert_committed(&[0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!((region.stats().faults, region.stats().refused), (1, 1), "{engine:?}");
    }
}

/// Three pages of sixteen are committed, with the number of each in it.
fn reservation_with_holes(budget: &Budget) -> Reservation {
    let page = page_size();
    let memory = Reservation::builder(16 * page).budget(budget.clone()).build().unwrap();
    for hole in [2, 5, 9] {
        memory.commit(hole * page..(hole + 1) * page).unwrap();
        common::poke(memory.byte(hole), hole as u8);
    }
    memory
}

#[test]
fn a_commit_that_fails_half_way_is_rolled_back() {
    let page = page_size();
    for refused in [0, 1, 3, 4, 6, 8, 10, 15] {
        let budget = Budget::new(16 * page);
        let memory = reservation_with_holes(&budget);
        let refusing = Refusal::of(Call::Commit)
            .touching(memory.pages(refused..refused + 1))
            .half_done_and_written(0xee)
            .begin();
        let error = memory.commit(..).unwrap_err();
        assert_eq!(refusing.refused(), 1);
        drop(refusing);
        let Error::CommitRefused { offset, len, .. } = error else { panic!("{error:?}") };
        assert!((offset..offset + len).contains(&(refused * page)), "{offset} {len}");
        memory.assert_committed(&[2, 5, 9]);
        assert_eq!((budget.used(), budget.peak(), memory.peak()), (3 * page, 3 * page, 3 * page));
        // The rest can be committed, and what was written to it before the refusal is gone.
        memory.commit(..).unwrap();
        memory.assert_committed(&Vec::from_iter(0..16));
        for index in 0..16 {
            let kept = if [2, 5, 9].contains(&index) { index as u8 } else { 0 };
            assert_eq!(read(&memory, index), kept, "page {index}, refused at page {refused}");
        }
        assert_eq!((budget.used(), budget.peak()), (16 * page, 16 * page));
    }
}

#[test]
fn a_commit_whose_rollback_is_refused_too_counts_only_what_was_committed() {
    let page = page_size();
    let budget = Budget::new(16 * page);
    let memory = reservation_with_holes(&budget);
    let commit = Refusal::of(Call::Commit).touching(memory.pages(7..8)).half_done().begin();
    let rollback = Refusal::of(Call::Decommit).begin();
    assert!(matches!(memory.commit(..), Err(Error::CommitRefused { .. })));
    assert!(rollback.refused() > 0);
    drop((commit, rollback));
    assert_eq!(
        (memory.committed(), memory.map().committed(), budget.used()),
        (3 * page, 3, 3 * page)
    );
    memory.commit(..).unwrap();
    memory.assert_committed(&Vec::from_iter(0..16));
    assert_eq!((read(&memory, 2), budget.used()), (2, 16 * page));
}

#[test]
fn a_region_keeps_what_the_system_granted_before_it_refused() {
    let page = page_size();
    for engine in common::engines() {
        for refused in [0, 1, 3, 5, 9, 15] {
            let (region, budget) = region_in_steps(engine, 16);
            region.commit(4 * page..5 * page).unwrap();
            common::poke(region.byte(4), 4);
            // As another thread may write to a page as soon as it is accessible.
            let refusing = Refusal::of(commit_of(engine))
                .touching(region.pages(refused..refused + 1))
                .half_done_and_written(7)
                .begin();
            let error = region.commit(..).unwrap_err();
            assert!(matches!(error, Error::CommitRefused { .. }), "{error:?}");
            drop(refusing);
            let mut kept = Vec::from_iter(0..refused);
            if refused < 4 {
                kept.push(4);
            }
            region.assert_committed(&kept);
            assert_eq!((budget.used(), budget.peak()), (kept.len() * page, kept.len() * page));
            // Pages that a granted call committed before the refused one were not written to.
            let written = if refused < 4 { 0..refused } else { 5..refused };
            for index in kept {
                let byte = match index {
                    4 => 4,
                    _ if written.contains(&index) => 7,
                    _ => 0,
                };
                assert_eq!(read(&region, index), byte, "{engine:?}: {index} of {refused}");
            }
            region.commit(..).unwrap();
            region.assert_committed(&Vec::from_iter(0..16));
        }
    }
}

/// The first attempt stops before page 6, all later ones before page 2.
fn refusing_earlier_the_second_time(
    region: &DemandRegion,
    engine: Engine,
) -> [pagewise::refusals::Refusing; 2] {
    let refusal = Refusal::of(commit_of(engine)).half_done();
    [
        refusal.touching(region.pages(6..7)).times(1).begin(),
        refusal.touching(region.pages(2..3)).begin(),
    ]
}

#[test]
fn what_a_refused_batch_gives_up_is_inaccessible_however_far_it_had_come() {
    for engine in common::engines() {
        for wanted in [1, 2, 4, 7] {
            let (mut region, budget) = region_in_steps(engine, 8);
            let refusing = refusing_earlier_the_second_time(&region, engine);
            let result = region.write(wanted * page_size(), &[7]);
            assert!(refusing.iter().all(|refusing| refusing.refused() > 0), "{engine:?}");
            drop(refusing);
            assert_eq!(result.is_ok(), wanted != 2, "{engine:?}: {result:?}");
            let mut kept = vec![0, 1];
            kept.extend((wanted > 2).then_some(wanted));
            region.assert_committed(&kept);
            assert_left(&region, &budget, 8 - kept.len(), 8..16);
        }
    }
}

#[test]
fn what_a_refused_commit_of_a_region_gives_up_is_inaccessible_however_far_it_had_come() {
    for engine in common::engines() {
        let (region, budget) = region_in_steps(engine, 8);
        let refusing = refusing_earlier_the_second_time(&region, engine);
        assert!(region.commit(..8 * page_size()).is_err());
        assert!(refusing.iter().all(|refusing| refusing.refused() > 0), "{engine:?}");
        drop(refusing);
        region.assert_committed(&[0, 1]);
        assert_left(&region, &budget, 6, 8..16);
    }
}

#[test]
fn a_region_commits_in_pieces_what_the_system_refuses_as_a_whole() {
    let page = page_size();
    for engine in common::engines() {
        let (region, budget) = region_in_steps(engine, 16);
        region.commit(5 * page..6 * page).unwrap();
        let refusing = Refusal::of(commit_of(engine)).longer_than(2 * page).begin();
        region.commit(..).unwrap();
        assert!(refusing.refused() > 0, "{engine:?}");
        drop(refusing);
        region.assert_committed(&Vec::from_iter(0..16));
        assert_eq!(budget.used(), 16 * page);
    }
}

#[test]
fn what_a_region_kept_of_a_refused_commit_counts_against_its_limit() {
    let page = page_size();
    for engine in common::engines() {
        let (region, budget) = region_in_steps(engine, 6);
        let refusing =
            Refusal::of(commit_of(engine)).touching(region.pages(2..3)).half_done().begin();
        assert!(region.commit(..4 * page).is_err());
        drop(refusing);
        region.assert_committed(&[0, 1]);
        assert_left(&region, &budget, 4, 8..16);
    }
}

#[test]
fn a_decommit_that_is_refused_leaves_committed_what_was_not_given_back() {
    let page = page_size();
    for engine in common::engines() {
        let (mut region, budget) = region_in_steps(engine, 16);
        for (index, pages) in [0..3, 5..8, 10..13].into_iter().enumerate() {
            region.commit(pages.start * page..pages.end * page).unwrap();
            pages.for_each(|page| common::poke(region.byte(page), index as u8 + 1));
        }
        let refusing = Refusal::of(decommit_of(engine)).touching(region.pages(6..7)).begin();
        // The last page stays committed, so that the guard engine does not decommit a whole block.
        let error = region.decommit(..12 * page).unwrap_err();
        assert!(matches!(error, Error::System { operation: "decommit", .. }), "{error:?}");
        drop(refusing);
        // A decommit works from the end: pages behind the refused ones were given back, those before them were not.
        let kept = [0, 1, 2, 5, 6, 7, 12];
        region.assert_committed(&kept);
        assert_eq!(budget.used(), kept.len() * page);
        for &index in &kept {
            assert_eq!(read(&region, index), index as u8 / 5 + 1, "{engine:?}: page {index}");
        }
        region.decommit(..).unwrap();
        region.assert_committed(&[]);
        assert_eq!(budget.used(), 0);
        region.commit(..).unwrap();
        assert!((0..16).all(|page| read(&region, page) == 0), "{engine:?}");
    }
}

/// Where the system stopped half-way, pages that count as committed can be used, whatever they hold.
#[test]
fn a_decommit_that_is_refused_half_way_leaves_usable_what_counts_as_committed() {
    let page = page_size();
    for engine in common::engines().into_iter().filter(|&engine| engine == Engine::UserFault) {
        let (mut region, budget) = region_in_steps(engine, 16);
        region.commit(..6 * page).unwrap();
        (0..6).for_each(|page| common::poke(region.byte(page), 7));
        let refusing = Refusal::of(decommit_of(engine)).touching(region.pages(3..4)).half_done();
        let refusing = refusing.begin();
        region.decommit(..5 * page).unwrap_err();
        drop(refusing);
        region.assert_committed(&[0, 1, 2, 3, 4, 5]);
        let bytes: Vec<_> = (0..6).map(|page| read(&region, page)).collect();
        assert_eq!((bytes, budget.used()), (vec![0, 0, 0, 7, 7, 7], 6 * page));
    }
}

/// More pages than fit into a table of page states on the heap.
fn large_len() -> usize {
    ((256 << 10) + 64) * page_size()
}

#[test]
fn a_commit_whose_page_states_have_no_memory_changes_nothing() {
    let page = page_size();
    let budget = Budget::new(3 * page);
    let memory = Reservation::builder(large_len()).budget(budget.clone()).build().unwrap();
    for call in [Call::Reserve, Call::Commit] {
        let refusing = Refusal::of(call).begin();
        let error = memory.commit(..page).unwrap_err();
        assert!(matches!(error, Error::System { operation: "commit", .. }), "{error:?}");
        drop(refusing);
        assert!(!memory.holds_pages());
        assert_eq!((memory.committed(), budget.used(), budget.peak()), (0, 0, 0));
        assert_eq!(memory.committed_ranges().count(), 0);
    }
    memory.commit(..3 * page).unwrap();
    assert_eq!((memory.committed(), budget.used()), (3 * page, 3 * page));
}

#[test]
fn a_fault_whose_page_states_have_no_memory_is_refused_by_the_system() {
    let page = page_size();
    for engine in common::engines() {
        let budget = Budget::new(3 * page);
        let builder = DemandRegion::builder(large_len()).step(CommitStep::fixed(8 * page));
        let mut region = builder.engine(engine).budget(budget.clone()).build().unwrap();
        let refusing = Refusal::of(Call::Reserve).begin();
        assert_refused_by_the_system(region.write(5 * page, &[1]).unwrap_err(), 0, 5 * page);
        drop(refusing);
        assert!(!region.holds_pages());
        assert_eq!((region.committed(), region.stats().refused, budget.used()), (0, 1, 0));
        region.write(5 * page, &[1]).unwrap();
        assert_eq!((region.stats().faults, budget.used()), (1, 3 * page), "{engine:?}");
    }
}

/// Where the system refuses an operation on committed pages, it returns an error, and the pages are as before.
#[test]
fn operations_on_committed_pages_that_are_refused_leave_them_usable() {
    type Operation = fn(&Reservation) -> Result<(), Error>;
    let operations: [(Call, Operation, Operation); 6] = [
        (Call::Zero, |memory| memory.zero(..), |memory| memory.zero(..)),
        (Call::Discard, |memory| memory.discard(..), |memory| memory.discard(..)),
        (
            Call::Protect,
            |memory| memory.protect(.., Access::Read),
            |memory| memory.protect(.., Access::ReadWrite),
        ),
        (Call::Lock, |memory| memory.lock(..), |memory| memory.unlock(..)),
        (Call::Unlock, |memory| memory.unlock(..), |memory| memory.unlock(..)),
        (Call::Decommit, |memory| memory.decommit(..), |memory| memory.zero(..)),
    ];
    for (call, operation, again) in operations {
        let budget = Budget::new(usize::MAX);
        let memory = Reservation::builder(4 * page_size()).budget(budget.clone()).build().unwrap();
        memory.commit(..).unwrap();
        common::poke(memory.byte(1), 7);
        let refusing = Refusal::of(call).begin();
        let error = operation(&memory).unwrap_err();
        assert_eq!(refusing.refused(), 1, "{call:?}");
        drop(refusing);
        match error {
            Error::Locked { operation: "lock", len, .. } => {
                assert_eq!((call, len), (Call::Lock, 4 * page_size()));
            }
            Error::System { operation, .. } => {
                assert_eq!(operation, format!("{call:?}").to_lowercase());
            }
            other => panic!("{call:?}: {other:?}"),
        }
        memory.assert_committed(&[0, 1, 2, 3]);
        assert_eq!((read(&memory, 1), budget.used()), (7, 4 * page_size()), "{call:?}");
        // Nothing is held any more.
        again(&memory).unwrap();
        memory.assert_committed(&[0, 1, 2, 3]);
    }
}

#[test]
fn a_reservation_whose_release_is_refused_gives_back_what_it_took_from_the_budget() {
    let budget = Budget::new(usize::MAX);
    let memory = Reservation::builder(4 * page_size()).budget(budget.clone()).build().unwrap();
    memory.commit(..2 * page_size()).unwrap();
    let refusing = Refusal::of(Call::Release).begin();
    let error = memory.release().unwrap_err();
    assert_eq!(refusing.refused(), 1, "released once");
    assert!(matches!(error, Error::System { operation: "release", .. }), "{error:?}");
    assert_eq!((budget.used(), budget.peak()), (0, 2 * page_size()));
}

#[test]
fn an_array_takes_the_step_that_the_system_grants() {
    let budget = Budget::new(usize::MAX);
    let mut vec = PageVec::<u8>::builder(1 << 30).budget(budget.clone()).build().unwrap();
    // From here on a step is more than a mebibyte.
    vec.reserve_exact(16 << 20);
    for most in [64 << 10, 128 << 10, 1 << 20] {
        let before = vec.committed();
        vec.resize(before, 7);
        let refusing = Refusal::of(Call::Commit).longer_than(most).half_done().begin();
        vec.push(7);
        assert!(refusing.refused() > 0);
        drop(refusing);
        let step = vec.committed() - before;
        assert!(step <= most && step > most / 3, "{step} of {most}");
        assert_eq!((budget.used(), vec.capacity()), (vec.committed(), vec.committed()));
    }
    let refusing = Refusal::of(Call::Commit).begin();
    vec.resize(vec.committed(), 7);
    let refused = vec.try_push(8).unwrap_err();
    assert!(matches!(refused.error(), Error::CommitRefused { .. }));
    assert_eq!((refused.into_value(), budget.used()), (8, vec.committed()));
    drop(refusing);
    vec.push(8);
    assert!(vec.iter().rev().skip(1).all(|&byte| byte == 7));
}

#[test]
fn an_array_and_an_arena_whose_memory_is_not_taken_back_go_on_with_it() {
    let (page, budget) = (page_size(), Budget::new(usize::MAX));
    let mut vec = PageVec::<u8>::builder(64 * page).budget(budget.clone()).build().unwrap();
    vec.reserve_exact(40 * page);
    vec.extend(std::iter::repeat_n(7, 3 * page + 1));
    let refusing = Refusal::of(Call::Decommit).begin();
    vec.shrink_to_fit();
    assert_eq!(refusing.refused(), 1);
    drop(refusing);
    assert_eq!((vec.committed(), vec.capacity(), budget.used()), (40 * page, 40 * page, 40 * page));
    vec.resize(40 * page, 8);
    assert_eq!((vec[3 * page], vec[3 * page + 1], vec.committed()), (7, 8, 40 * page));
    vec.truncate(1);
    vec.shrink_to_fit();
    assert_eq!((vec.committed(), budget.used()), (page, page));

    let mut arena = Arena::builder(64 * page).budget(budget.clone()).build().unwrap();
    arena.alloc_slice_uninit::<u8>(40 * page);
    arena.reset();
    let committed = arena.committed();
    let refusing = Refusal::of(Call::Decommit).begin();
    assert!(matches!(arena.shrink_to_fit(), Err(Error::System { operation: "decommit", .. })));
    drop(refusing);
    assert_eq!((arena.committed(), budget.used()), (committed, committed + page));
    arena.alloc_slice_fill_with(committed, |_| 7u8);
    arena.reset_and_release().unwrap();
    assert_eq!((arena.committed(), budget.used()), (0, page));
}

#[cfg(pagewise_refusals)]
mod in_open_blocks;

/// Where addresses are scarce, an array is as long as they allow, in elements, but not shorter than was asked for.
#[test]
fn an_array_is_as_long_as_scarce_addresses_allow() {
    const MIB: usize = 1 << 20;
    let _scarce = Refusal::of(Call::Reserve).longer_than(9 * MIB).begin();
    let array = |least| PageVec::<u64>::builder(64 * MIB / 8).at_least(least).build();
    assert_eq!(array(MIB / 8).unwrap().max_len(), MIB);
    assert_eq!(array(9 * MIB / 8).unwrap().max_len(), 9 * MIB / 8);
    assert!(matches!(array(10 * MIB / 8), Err(Error::AddressSpaceExhausted { .. })));
}

#[test]
fn a_push_that_the_system_refuses_names_the_systems_error_as_its_source() {
    let mut vec = PageVec::new(1000).unwrap();
    let refusing = Refusal::of(Call::Commit).begin();
    let refused = vec.try_push(7).unwrap_err();
    let source = std::error::Error::source(&refused).map(|source| source.to_string());
    assert!(source.is_some_and(|source| !source.is_empty()));
    drop(refusing);
    vec.push(7);
}

/// Elements that are given up are zero afterwards, also where the system does not take their pages back.
#[cfg(feature = "zerocopy")]
#[test]
fn elements_that_the_system_does_not_take_back_are_zero_all_the_same() {
    let per_page = page_size() / 8;
    let mut array = pagewise::DemandArray::<u64>::new(8 * per_page).unwrap();
    array.try_fill(..5 * per_page, 7).unwrap();
    let committed = array.committed();
    let given_up = per_page / 2..4 * per_page;
    let refusing = Refusal::of(Call::Decommit).begin();
    array.decommit(given_up.clone()).unwrap_err();
    drop(refusing);
    assert_eq!(array.committed(), committed);
    for index in 0..5 * per_page {
        let expected = if given_up.contains(&index) { 0 } else { 7 };
        assert_eq!(array.try_get(index).unwrap(), expected, "element {index}");
    }
}
