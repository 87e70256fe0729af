//! Which pages leave: those that nobody touches, and first those that the program said to be done with.

use pagewise::{PagedRegion, SecondChance, page_size};

use crate::behaves_as_a_plain_array::engines;
use crate::clean_pages_are_dropped::{LIMIT, PAGES, builder, heap};
use crate::stores::slice;

fn touch<S: pagewise::PageStore + 'static>(region: &PagedRegion<S>, page: usize) {
    std::hint::black_box(slice(region)[page * page_size()]);
}

/// The hand goes past pages that are in use once, and then through those that were touched once.
#[test]
fn a_scan_does_not_drive_out_what_is_used() {
    const USED: usize = 100;
    for engine in engines() {
        for chance in [SecondChance::Always, SecondChance::Never] {
            let region = builder(heap(), chance).engine(engine).build().unwrap();
            let touch = |page| touch(&region, page);
            let mut random = fastrand::Rng::with_seed(3);
            let mut scan = || {
                for page in USED..PAGES {
                    touch(page);
                    (0..10).for_each(|_| touch(random.usize(..USED)));
                }
            };
            (0..2).for_each(|_| scan());
            let before = region.stats();
            scan();
            let after = region.stats();
            let others = (after.loads - before.loads) - (PAGES - USED) as u64;
            let rescues = after.rescues - before.rescues;
            assert!(others <= 5 && rescues <= 5, "{engine:?} {chance:?}: {before:?} {after:?}");
        }
    }
}

#[test]
fn pages_that_the_program_is_done_with_leave_first() {
    for engine in engines() {
        for chance in [SecondChance::Always, SecondChance::Never] {
            let region = builder(heap(), chance).engine(engine).build().unwrap();
            // Some cool, and some have left.
            (0..LIMIT + LIMIT / 8).for_each(|page| touch(&region, page));
            let last = LIMIT + LIMIT / 8 - 6..LIMIT + LIMIT / 8;
            region.done_with(last.start * page_size()..last.end * page_size()).unwrap();
            (500..506).for_each(|page| touch(&region, page));
            let before = region.stats();
            let rest = LIMIT / 2..LIMIT;
            rest.for_each(|page| touch(&region, page));
            let after = region.stats();
            assert_eq!(before.loads, after.loads, "{engine:?} {chance:?}: all others stayed");
            last.for_each(|page| touch(&region, page));
            let gone = region.stats().loads - after.loads;
            assert!(gone >= 4, "{engine:?} {chance:?}: {gone} of 6 had left");
        }
    }
}
