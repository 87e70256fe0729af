//! When a destructor, a clone or a closure panics, no element is dropped twice, and no element of an array is lost.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use pagewise::{HugePages, PageVec};

const MANY: usize = if cfg!(miri) { 600 } else { 60_000 };

/// Counts its drops.
struct Counted(Rc<Cell<usize>>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn growing_that_fails_in_the_middle_of_a_splice_drops_every_element_once() {
    let drops: Vec<_> = (0..MANY + 1).map(|_| Rc::new(Cell::new(0))).collect();
    let counted = |index: usize| Counted(Rc::clone(&drops[index]));
    let splice = || {
        let builder = PageVec::builder(2 << 20).huge_pages(HugePages::Transparent);
        let mut vec = builder.limit(5 << 20).build().unwrap();
        vec.extend((0..10).map(counted));
        // The limit forbids to round the reserved part up to whole huge pages.
        let _ =
            catch_unwind(AssertUnwindSafe(|| vec.try_reserve((9 << 19) / size_of::<Counted>())));
        // Some of these fit, but not all, and a tail has to be moved to make room for them.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(vec.splice(2..4, (10..MANY).map(counted)))));
        assert!(vec.len() >= 8, "what was not named stays");
        let _ = catch_unwind(AssertUnwindSafe(|| {
            let too_many = std::iter::repeat_with(|| counted(MANY)).take(1 << 20);
            drop(vec.splice(1..2, too_many));
        }));
        vec.truncate(100);
        drop(vec);
    };
    let _ = catch_unwind(AssertUnwindSafe(splice));
    for (index, drops) in drops.iter().enumerate() {
        assert_eq!(Rc::strong_count(drops), 1, "element {index} is lost");
        assert!(index >= MANY || drops.get() <= 1, "element {index} was dropped twice");
        assert!(index >= 10 || drops.get() == 1, "element {index} was not dropped");
    }
}
