//! Commits that the system refuses at a chosen moment: the simulated system (`src/os/model.rs`) does so on request.
//! `RUSTFLAGS='--cfg pagewise_model' cargo test` runs these.
#![cfg(pagewise_model)]

use std::sync::{Mutex, MutexGuard};

use pagewise::{
    CommitStep, DemandRegion, Error, RefusalReason, Reservation, page_size, refuse_commits_after,
};

/// Refusals are for the whole process: one test at a time.
fn refusing_after(commits: usize) -> impl Drop {
    static LOCK: Mutex<()> = Mutex::new(());
    struct Guard(#[allow(dead_code)] MutexGuard<'static, ()>);
    impl Drop for Guard {
        fn drop(&mut self) {
            refuse_commits_after(usize::MAX);
        }
    }
    let guard = Guard(LOCK.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    refuse_commits_after(commits);
    guard
}

#[test]
fn a_commit_that_fails_half_way_is_rolled_back() {
    let page = page_size();
    for allowed in 0..3 {
        let memory = Reservation::new(16 * page).unwrap();
        for hole in [2, 5, 9] {
            memory.commit(hole * page..(hole + 1) * page).unwrap();
            // SAFETY: committed in the line before.
            unsafe { memory.as_ptr().add(hole * page).write(hole as u8) };
        }
        let guard = refusing_after(allowed);
        let error = memory.commit(..).unwrap_err();
        drop(guard);
        assert!(matches!(error, Error::CommitRefused { .. }), "{error:?}");
        assert_eq!(memory.committed(), 3 * page, "after {allowed} runs");
        let map = memory.page_map().unwrap();
        let committed: Vec<_> = (0..16).filter(|&index| map.page(index).committed).collect();
        assert_eq!(committed, [2, 5, 9]);
        for hole in [2, 5, 9] {
            // SAFETY: committed above.
            assert_eq!(unsafe { memory.as_ptr().add(hole * page).read() }, hole as u8);
        }
        memory.commit(..).unwrap();
        assert_eq!(memory.committed(), 16 * page);
    }
}

#[test]
fn a_batch_that_is_refused_becomes_the_one_page() {
    let page = page_size();
    let mut region =
        DemandRegion::builder(16 * page).step(CommitStep::fixed(8 * page)).build().unwrap();
    // A refused batch of eight is followed by halves: four, two, one; the model refuses by call, so
    // that only the last of the calls it is asked for may succeed.
    let guard = refusing_after(0);
    let error = region.write(3 * page, &[1, 2, 3]).unwrap_err();
    assert!(matches!(error.refusal.reason, RefusalReason::System(_)));
    assert_eq!((error.copied, error.refusal.offset), (0, 3 * page));
    assert_eq!(region.committed(), 0);
    drop(guard);
    region.write(3 * page, &[1, 2, 3]).unwrap();
    assert_eq!(region.committed(), 8 * page);
    assert_eq!(region.stats().refused, 1);
}

#[test]
fn a_region_keeps_what_the_system_granted_before_it_refused() {
    let page = page_size();
    let region = DemandRegion::new(16 * page).unwrap();
    region.commit(4 * page..5 * page).unwrap();
    let guard = refusing_after(1);
    assert!(matches!(region.commit(..), Err(Error::CommitRefused { .. })));
    drop(guard);
    assert_eq!(region.committed(), 5 * page, "the run before the refused one stays");
    assert_eq!(region.page_map().unwrap().committed(), 5);
    region.commit(..).unwrap();
    assert_eq!(region.committed(), 16 * page);
}
