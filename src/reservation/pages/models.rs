//! Loom: a thread that holds a page is the only one, and sees what the holders before it did. (The operations that use
//! this are modelled in `reservation/models.rs`.)

use super::*;
use loom::cell::UnsafeCell;
use loom::sync::Arc;

/// Any page size will do: there is no memory behind these pages.
const PAGE: PageSize = PageSize::of(1 << 12);

struct Subject {
    states: PageStates,
    /// One cell for each page, which only the page's holder uses: loom fails the model where two threads use one at the
    /// same time, or one does not see what another wrote before.
    holders: [UnsafeCell<usize>; 4],
}

// SAFETY: only the holder of a page touches what belongs to it, which is what the models check.
unsafe impl Sync for Subject {}

impl Subject {
    fn new() -> Arc<Self> {
        let holders = std::array::from_fn(|_| UnsafeCell::new(0));
        Arc::new(Self { states: PageStates::new(4), holders })
    }

    fn alone(&self, range: PageRange) {
        for page in range.first()..range.end() {
            // SAFETY: loom has made sure that this is the only one.
            self.holders[page].with_mut(|count| unsafe { *count += 1 });
        }
    }

    /// As a fault: whether the page was this thread's to commit.
    fn claim(&self, page: usize, wanted: PageRange) -> bool {
        loop {
            match self.states.claim(page, wanted).unwrap() {
                Claim::Committed => return false,
                Claim::Busy => relax(&mut 0),
                Claim::Claimed(claimed) => {
                    self.alone(claimed);
                    self.states.unlock_committed(claimed);
                    return true;
                }
            }
        }
    }

    /// As an explicit operation.
    fn lock(&self, range: PageRange, end: fn(&PageStates, PageRange)) {
        self.states.lock(range).unwrap();
        self.alone(range);
        end(&self.states, range);
    }

    fn try_lock(&self, range: PageRange) -> bool {
        let locked = self.states.try_lock(range);
        if locked {
            self.alone(range);
            self.states.unlock(range);
        }
        locked
    }
}

fn race(subject: &Arc<Subject>, ours: fn(&Subject), theirs: fn(&Subject)) {
    // Both in threads of their own: loom would let the main thread run first in most orders.
    let threads = [ours, theirs].map(|work| {
        let subject = subject.clone();
        loom::thread::spawn(move || work(&subject))
    });
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!((0..4).all(|page| !subject.states.is_held(page)));
}

#[test]
fn loom_claims_on_overlapping_windows_never_share_a_page() {
    loom::model(|| {
        let subject = Subject::new();
        race(
            &subject,
            |subject| assert!(subject.claim(0, PAGE.pages(0, 3))),
            |subject| assert!(subject.claim(3, PAGE.pages(1, 4))),
        );
        assert!(subject.states.all_committed(PAGE.pages(0, 4)));
    });
}

#[test]
fn loom_a_page_is_claimed_once() {
    loom::model(|| {
        let subject = Subject::new();
        race(
            &subject,
            |subject| _ = subject.claim(1, PAGE.pages(1, 2)),
            |subject| _ = subject.claim(1, PAGE.pages(0, 2)),
        );
        // SAFETY: nobody else is left.
        let claims = subject.holders[1].with(|count| unsafe { *count });
        assert_eq!(claims, 1);
    });
}

#[test]
fn loom_an_operation_on_pages_waits_for_claims_and_other_operations() {
    for end in [PageStates::unlock, PageStates::unlock_reserved, PageStates::unlock_committed] {
        loom::model(move || {
            let subject = Subject::new();
            let claiming = loom::thread::spawn({
                let subject = subject.clone();
                move || subject.claim(2, PAGE.pages(0, 4))
            });
            let locking = loom::thread::spawn({
                let subject = subject.clone();
                move || subject.lock(PAGE.pages(1, 3), end)
            });
            claiming.join().unwrap();
            locking.join().unwrap();
            subject.lock(PAGE.pages(0, 4), end);
            assert!((0..4).all(|page| !subject.states.is_held(page)));
        });
    }
}

#[test]
fn loom_a_lock_that_never_waits_is_as_exclusive_as_the_others() {
    loom::model(|| {
        let subject = Subject::new();
        race(
            &subject,
            |subject| _ = subject.try_lock(PAGE.pages(0, 4)),
            |subject| _ = subject.claim(1, PAGE.pages(0, 2)),
        );
        assert!(subject.try_lock(PAGE.pages(0, 4)), "nobody holds anything any more");
    });
}
