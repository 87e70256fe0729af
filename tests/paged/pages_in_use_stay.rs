//! Which pages leave: those that nobody touches, and first those that the program said to be done with.

use pagewise::{Expected, PagedRegion, PagedState, SecondChance, page_size};

use crate::behaves_as_a_plain_array::engines;
use crate::clean_pages_are_dropped::{LIMIT, PAGES, builder, heap};
use crate::stores::{Heap, InTheHandler, slice, slice_mut};

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
            // Some cool, and some have left. (Pairs that are no row: the pages behind one would leave first.)
            for pair in 0..(LIMIT + LIMIT / 8) / 2 {
                [2 * pair + 1, 2 * pair].into_iter().for_each(|page| touch(&region, page));
            }
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

/// A scan uses the room of the pages behind it, and leaves all others where they are.
#[test]
fn a_sequential_scan_takes_little_room() {
    for engine in engines() {
        for (chance, threads, page) in [
            (SecondChance::Always, 0, page_size()),
            (SecondChance::Never, 0, page_size()),
            (SecondChance::Always, 2, page_size()),
            (SecondChance::Measured, 0, 4 * page_size()),
        ] {
            let used = 40;
            let store = InTheHandler(Heap::new(vec![1; PAGES * page]));
            let region = builder(store, chance)
                .engine(engine)
                .page_bytes(page)
                .limit(LIMIT * page)
                .io_threads(threads)
                .read_ahead(8 * page)
                .expected(Expected::Sequential)
                .build()
                .unwrap();
            let touch = |number: usize| _ = std::hint::black_box(slice(&region)[number * page]);
            // Here and there, at the end, so that it is no row.
            (0..used).rev().for_each(|number| touch(PAGES - 2 * used + 2 * number));
            (0..PAGES - 2 * used).for_each(touch);
            let before = region.stats();
            let map = region.page_map(..).unwrap();
            let stayed =
                (0..used).filter(|number| map[PAGES - 2 * used + 2 * number] != PagedState::Absent);
            assert_eq!(stayed.count(), used, "{engine:?} {chance:?} {threads}: {before:?}");
        }
    }
}

/// What is brought before it is touched is not gone past.
#[test]
fn what_is_prefetched_for_a_sequential_scan_is_there() {
    for engine in engines() {
        let region = builder(heap(), SecondChance::Never).engine(engine);
        let region = region.expected(Expected::Sequential).build().unwrap();
        (0..LIMIT).for_each(|page| touch(&region, page));
        region.prefetch(500 * page_size()..600 * page_size()).unwrap();
        let loads = region.stats().loads;
        (500..600).for_each(|page| touch(&region, page));
        assert_eq!(region.stats().loads, loads, "{engine:?}");
    }
}

/// Where accesses are expected here and there, each page comes by a touch of its own.
#[test]
fn nothing_is_read_ahead_of_random_accesses() {
    for engine in engines() {
        let faults = [Expected::Anything, Expected::Random].map(|expected| {
            let region = builder(heap(), SecondChance::Always).engine(engine);
            let region = region.expected(expected).read_ahead(1 << 20).build().unwrap();
            (0..100).for_each(|page| touch(&region, page));
            let stats = region.stats();
            assert!(stats.loads >= 100, "{engine:?}: {stats:?}");
            stats.faults
        });
        assert!(faults[0] < 100 && faults[1] == 100, "{engine:?}: {faults:?}");
    }
}

/// Pages behind a row that is longer than what fits leave first: so the next round finds some, and pages that were in use
/// before stay, although nothing was said of the accesses.
#[test]
fn what_a_long_scan_leaves_is_not_its_end() {
    for engine in engines() {
        for (chance, threads) in
            [(SecondChance::Always, 0), (SecondChance::Never, 0), (SecondChance::Always, 2)]
        {
            let new = || {
                let builder = builder(heap(), chance).engine(engine).io_threads(threads);
                builder.read_ahead(8 * page_size()).build().unwrap()
            };
            let region = new();
            // (Once a part only, which must not disturb what comes then.)
            (0..PAGES / 2).for_each(|page| touch(&region, page));
            (0..PAGES).for_each(|page| touch(&region, page));
            for round in 0..8 {
                let before = region.stats();
                (0..PAGES).for_each(|page| touch(&region, page));
                let loads = region.stats().loads - before.loads;
                let most = (PAGES - LIMIT / 2) as u64;
                assert!(loads <= most, "{engine:?} {chance:?} {threads}: {loads} in round {round}");
            }
            // Another thread that follows needs what this one leaves.
            let region = new();
            (0..PAGES).for_each(|page| touch(&region, page));
            let before = region.stats();
            for page in 0..PAGES {
                touch(&region, page);
                if let Some(follower) = page.checked_sub(LIMIT / 8) {
                    touch(&region, follower);
                }
            }
            let loads = region.stats().loads - before.loads;
            assert!(loads <= (PAGES + LIMIT) as u64, "{engine:?} {chance:?} {threads}: {loads}");
        }
    }
}

/// The same where most of the pages fit: each round finds nearly all that it can.
#[test]
fn rounds_find_most_of_what_fits() {
    const PAGES: usize = LIMIT + LIMIT / 3;
    for engine in engines() {
        for chance in [SecondChance::Always, SecondChance::Never] {
            let store = InTheHandler(Heap::new(vec![1; PAGES * page_size()]));
            let region = builder(store, chance).engine(engine).build().unwrap();
            let loads: Vec<_> = (0..10)
                .map(|_| {
                    let before = region.stats().loads;
                    (0..PAGES).for_each(|page| touch(&region, page));
                    region.stats().loads - before
                })
                .collect();
            let most = (PAGES - LIMIT + LIMIT / 4) as u64;
            assert!(
                loads[1..].iter().all(|&loads| loads <= most),
                "{engine:?} {chance:?}: {loads:?}"
            );
        }
    }
}

/// What was written one after the other stays as any page does.
#[test]
fn the_end_of_what_was_written_stays() {
    for engine in engines() {
        let mut region = builder(heap(), SecondChance::Always).engine(engine).build().unwrap();
        (0..PAGES).for_each(|page| slice_mut(&mut region)[page * page_size()] = 1);
        let before = region.stats();
        (PAGES - LIMIT / 2..PAGES).for_each(|page| touch(&region, page));
        assert_eq!(region.stats().loads, before.loads, "{engine:?}");
    }
}
