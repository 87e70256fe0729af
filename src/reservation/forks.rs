//! Repairs a reservation in the child of a fork: threads of the parent that were changing pages do not exist
//! there, and each of those pages is made committed or reserved.

use std::sync::atomic::Ordering;

use super::Reservation;
use crate::os;
use crate::page::PageRange;

impl Reservation {
    /// In the child of a fork: makes each page that a thread of the parent held committed or reserved, and counts the
    /// account anew. Called by one thread while no other uses the reservation. Async-signal-safe.
    pub(super) fn end_abandoned_changes(&self) {
        self.engine.fork(self.ground());
        let access_is_in_doubt = self.decommits.swap(0, Ordering::AcqRel) > 0;
        self.states.for_each_abandoned_run(self.page, |run, was_committed| {
            if was_committed {
                // Stays committed: the operation may have been one that keeps it (such as `protect`). It keeps its
                // access, too, unless a decommit may have taken that away already.
                if !access_is_in_doubt {
                    return self.states.unlock(run);
                }
                return self.end_abandoned_change(run, true);
            }
            // A page that was being committed is kept if it holds data: it was accessible before it counted as
            // committed, and another thread may have written to it. A page of zeros becomes reserved.
            let mut reached = run.first();
            // SAFETY: the thread that held the pages does not exist in this process.
            unsafe {
                self.ground().for_each_page_with_data(run, &mut |page| {
                    self.end_abandoned_change(run.with(reached, page.first()), false);
                    self.end_abandoned_change(page, true);
                    reached = page.end();
                });
            }
            self.end_abandoned_change(run.with(reached, run.end()), false);
        });
        self.account.recount(self.states.count_all_committed() * self.page.bytes());
    }

    fn end_abandoned_change(&self, run: PageRange, wanted: bool) {
        if run.is_empty() {
            return;
        }
        // SAFETY: the thread that held the pages does not exist in this process; unwanted pages read zero.
        if unsafe { self.engine.settle(self.ground(), run, wanted) }.is_ok() && wanted {
            self.states.unlock_committed(run);
        } else {
            self.states.unlock_reserved(run);
        }
    }

    /// Repairs the reservation if this process was forked since the last call. Called at the start of each
    /// operation. Async-signal-safe.
    #[inline]
    pub(crate) fn end_what_the_parent_did(&self) {
        self.forks.catch_up(os::forks(), || self.end_abandoned_changes());
    }
}

/// One thread makes the first steps of what threads of a parent do, then repairs the reservation as their child.
#[cfg(all(test, not(loom), not(any(miri, pagewise_model))))]
mod tests {
    use std::ptr::NonNull;

    use super::super::Engine;
    use super::super::pages::Claim;
    use super::*;

    fn engines() -> Vec<Reservation> {
        let protect = Reservation::builder(2 << 20).limit(1 << 20);
        let mut engines = vec![protect.clone().build().unwrap()];
        if os::guards_work() {
            engines.push(protect.engine(Engine::Guard).build().unwrap());
        }
        engines
    }

    fn byte(memory: &Reservation, page: usize) -> *mut u8 {
        memory.as_ptr().wrapping_add(page * memory.page_size())
    }

    /// Claims four pages, as a fault does, and makes them accessible if asked to.
    fn claim(memory: &Reservation, first: usize, accessible: bool) {
        let pages = memory.page().pages(first, first + 4);
        assert_eq!(memory.states.claim(first, pages), Ok(Claim::Claimed(pages)));
        memory.account.take_exactly(pages.len()).unwrap();
        if accessible {
            // SAFETY: the pages are held and reserved.
            unsafe { memory.engine.commit(memory.ground(), pages).unwrap() };
        }
    }

    #[test]
    fn a_child_keeps_what_was_written_while_the_commit_was_under_way() {
        for memory in engines() {
            memory.commit(..memory.page_size()).unwrap();
            // SAFETY: the page is committed.
            unsafe { byte(&memory, 0).write(1) };
            claim(&memory, 8, true);
            // Another thread writes to a page that is accessible already.
            // SAFETY: the page was made accessible.
            unsafe { byte(&memory, 9).write(2) };
            claim(&memory, 16, false);
            memory.end_abandoned_changes();
            assert_eq!(memory.committed(), 2 * memory.page_size());
            assert!(memory.states.is_committed(9) && !memory.states.is_committed(8));
            // Kernels with guard markers know the advice of `populate_for_reading`; emulators accept any advice.
            for reserved in [8, 10, 11, 16, 19].into_iter().filter(|_| os::guards_work()) {
                let at = NonNull::new(byte(&memory, reserved)).unwrap();
                // SAFETY: a page of the reservation, whose contents this does not change.
                let seen = unsafe { os::populate_for_reading(at, memory.page_size()) };
                assert!(seen.is_err(), "page {reserved} can be read");
            }
            // SAFETY: both are committed.
            assert_eq!(unsafe { (byte(&memory, 0).read(), byte(&memory, 9).read()) }, (1, 2));
            // The rest can be committed, and new pages read zero.
            memory.commit(..64 * memory.page_size()).unwrap();
            // SAFETY: all of them are committed.
            unsafe {
                assert_eq!((byte(&memory, 8).read(), byte(&memory, 16).read()), (0, 0));
                assert_eq!((byte(&memory, 0).read(), byte(&memory, 9).read()), (1, 2));
            }
        }
    }

    #[test]
    fn a_child_keeps_committed_pages_that_were_held() {
        for memory in engines() {
            memory.commit(..4 * memory.page_size()).unwrap();
            // SAFETY: the pages are committed.
            unsafe { byte(&memory, 1).write(1) };
            memory.states.lock(memory.page().pages(0, 3)).unwrap();
            // A decommit had given up one of them, down to its charge.
            memory.decommits.fetch_add(1, Ordering::AcqRel);
            let given_up = memory.page().pages(2, 3);
            // SAFETY: the page is held, and its contents are given up.
            unsafe { memory.engine.decommit(memory.ground(), given_up, &mut |_| ()).unwrap() };
            memory.account.decommitted(given_up.len());
            memory.end_abandoned_changes();
            assert_eq!(memory.committed(), 4 * memory.page_size());
            // SAFETY: the pages are committed.
            assert_eq!(unsafe { (byte(&memory, 1).read(), byte(&memory, 2).read()) }, (1, 0));
            memory.decommit(..).unwrap();
            assert_eq!(memory.committed(), 0);
        }
    }

    #[test]
    fn a_child_leaves_access_rights_alone_unless_a_decommit_was_under_way() {
        for memory in engines() {
            let pages = memory.page().pages(0, 4);
            memory.commit(..pages.len()).unwrap();
            memory.protect(..pages.len(), os::Access::None).unwrap();
            let is_readable = || {
                // SAFETY: populating changes no contents.
                unsafe { os::populate_for_reading(memory.address(pages), pages.len()).is_ok() }
            };
            for decommits in [0, 1] {
                memory.states.lock(pages).unwrap();
                memory.decommits.store(decommits, Ordering::Relaxed);
                memory.end_abandoned_changes();
                assert!(memory.states.all_committed(pages));
                // Kernels with guard markers know the advice of `populate_for_reading`; emulators accept any advice.
                if os::guards_work() {
                    assert_eq!(is_readable(), decommits > 0);
                }
            }
        }
    }

    #[test]
    fn a_child_keeps_what_is_in_a_block_that_was_being_opened() {
        let Some(memory) = engines().into_iter().nth(1) else {
            return crate::not_here::not_here("the guard engine");
        };
        memory.commit(..memory.page_size()).unwrap();
        // SAFETY: the page is committed.
        unsafe { byte(&memory, 0).write(1) };
        claim(&memory, 8, false);
        // Another thread holds the rest of the block, to open it.
        let size = memory.page();
        assert!(memory.states.try_lock(size.pages(0, 8)));
        assert!(memory.states.try_lock(size.pages(12, 512)));
        memory.end_abandoned_changes();
        assert_eq!(memory.committed(), memory.page_size());
        // SAFETY: the page is committed.
        assert_eq!(unsafe { byte(&memory, 0).read() }, 1);
        memory.commit(8 * memory.page_size()..9 * memory.page_size()).unwrap();
        // SAFETY: the page is committed.
        assert_eq!(unsafe { byte(&memory, 8).read() }, 0);
    }

    /// Opening a block changes the access rights of all of its reserved pages, so no other thread may hold one.
    #[test]
    fn a_block_is_not_opened_while_somebody_holds_a_page_of_it() {
        if !os::guards_work() {
            return crate::not_here::not_here("the guard engine");
        }
        let page = os::page_size();
        let builder = Reservation::builder(1024 * page).engine(Engine::Guard);
        let memory = builder.build().unwrap();
        let held = memory.page().pages(700, 701);
        memory.states.lock(held).unwrap();
        // Dense enough several times over, whatever the page size.
        for index in (0..600).step_by(2) {
            memory.commit(index * page..(index + 1) * page).unwrap();
            assert_eq!(memory.states.claim(700, held), Ok(Claim::Busy), "after {index} commits");
        }
        memory.states.unlock(held);
        memory.commit(700 * page..701 * page).unwrap();
        // SAFETY: the page is committed.
        assert_eq!(unsafe { byte(&memory, 700).read() }, 0);
        assert_eq!(memory.committed(), 301 * page);
    }
}
