use super::*;

fn pages(first: usize, end: usize) -> PageRange {
    PageSize::system().pages(first, end)
}

#[test]
fn a_claim_grows_both_ways_over_words_and_stops_at_committed_pages() {
    let states = PageStates::new(200);
    states.lock(pages(10, 11)).unwrap();
    states.unlock_committed(pages(10, 11));
    assert_eq!(states.claim(100, pages(0, 200)), Ok(Claim::Claimed(pages(11, 200))));
    assert_eq!(states.claim(10, pages(0, 200)), Ok(Claim::Committed));
    assert_eq!(states.claim(150, pages(0, 200)), Ok(Claim::Busy));
    states.unlock_reserved(pages(11, 200));
    assert_eq!(states.claim(5, pages(5, 6)), Ok(Claim::Claimed(pages(5, 6))));
    assert_eq!(states.claim(4, pages(0, 200)), Ok(Claim::Claimed(pages(0, 5))));
}

#[test]
fn runs_follow_the_committed_bits() {
    let states = PageStates::new(100);
    states.lock(pages(0, 100)).unwrap();
    states.unlock_committed(pages(30, 70));
    states.unlock(pages(0, 30));
    states.unlock(pages(70, 100));
    let mut runs = Vec::new();
    states
        .for_each_run(pages(0, 100), |run, committed| {
            runs.push((run.first(), run.end(), committed));
            Ok(())
        })
        .unwrap();
    assert_eq!(runs, [(0, 30, false), (30, 70, true), (70, 100, false)]);
    let last = |first, end| {
        let (run, is_committed) = states.last_run(pages(first, end));
        (run.first(), run.end(), is_committed)
    };
    assert_eq!([last(0, 100), last(0, 70)], [(70, 100, false), (30, 70, true)]);
    assert_eq!([last(0, 30), last(33, 65)], [(0, 30, false), (33, 65, true)]);
    assert_eq!([last(29, 31), last(69, 71)], [(30, 31, true), (70, 71, false)]);
    assert_eq!(states.count_committed(pages(0, 100)), 40);
    assert_eq!(states.count_runs(pages(0, 100)), 1);
    states.lock(pages(63, 65)).unwrap();
    states.unlock_reserved(pages(63, 65));
    assert_eq!(states.count_runs(pages(0, 100)), 2);
    assert_eq!((states.count_runs(pages(0, 30)), states.count_runs(pages(33, 64))), (0, 1));
    states.lock(pages(63, 65)).unwrap();
    states.unlock_committed(pages(63, 65));
    assert!(states.all_committed(pages(30, 70)) && !states.all_committed(pages(29, 70)));
}

/// What a claim must take: the page, and the free pages around it.
fn free_around(page: usize, wanted: PageRange, is_free: impl Fn(usize) -> bool) -> PageRange {
    let first = (wanted.first()..page).rev().take_while(|&page| is_free(page)).count();
    let behind = (page + 1..wanted.end()).take_while(|&page| is_free(page)).count();
    wanted.with(page - first, page + 1 + behind)
}

/// Pages around the borders of words, which hold 32 pages each.
const AT_BORDERS: &[usize] = if cfg!(miri) {
    &[31, 32, 63, 64] // Miri takes its time
} else {
    &[0, 1, 30, 31, 32, 33, 63, 64, 65, 95, 96]
};

/// A page that is not free is committed, held, or both.
const KINDS: [(bool, bool); 3] = [(true, false), (false, true), (true, true)];

fn put(states: &PageStates, page: usize, committed: bool, held: bool) {
    let page = pages(page, page + 1);
    if states.try_lock(page) && committed {
        states.unlock_committed(page);
        if held {
            states.lock(page).unwrap();
        }
    }
}

/// Every claim of a page at a border of words, in windows that end at borders or inside words, with a
/// page that is not free on either side: it is committed, or held, or both.
#[test]
fn a_claim_takes_exactly_what_is_free_around_the_page_over_every_border() {
    const PAGES: usize = 128;
    let mut cases = 0;
    for (page, before, behind) in triples(AT_BORDERS).step_by(if cfg!(miri) { 29 } else { 1 }) {
        for (first, end) in [(0, PAGES), (before, behind + 1), (1, PAGES - 1), (before, PAGES)] {
            if !(first..end).contains(&page) {
                continue;
            }
            for (kind, other) in KINDS.into_iter().flat_map(|kind| KINDS.map(|other| (kind, other)))
            {
                let states = PageStates::new(PAGES);
                let obstacles: Vec<_> = [(before, kind), (behind, other)]
                    .into_iter()
                    .filter(|&(obstacle, _)| obstacle != page)
                    .collect();
                for &(obstacle, (committed, held)) in &obstacles {
                    put(&states, obstacle, committed, held);
                }
                let is_free = |page| obstacles.iter().all(|&(obstacle, _)| obstacle != page);
                let expected = free_around(page, pages(first, end), is_free);
                let claimed = states.claim(page, pages(first, end));
                assert_eq!(claimed, Ok(Claim::Claimed(expected)), "{page} {obstacles:?}");
                for page in 0..PAGES {
                    let claimed = (expected.first()..expected.end()).contains(&page);
                    let there = |is: fn((bool, bool)) -> bool| {
                        obstacles.iter().any(|&(obstacle, kind)| obstacle == page && is(kind))
                    };
                    let held = there(|(_, held)| held);
                    assert_eq!(states.is_held(page), claimed || held, "page {page}");
                    assert_eq!(states.is_committed(page), there(|(committed, _)| committed));
                }
                cases += 1;
            }
        }
    }
    assert!(cases > if cfg!(miri) { 10 } else { 100 }, "{cases} cases");
}

/// A number, one that is not larger, and one that is not smaller.
fn triples(numbers: &[usize]) -> impl Iterator<Item = (usize, usize, usize)> {
    numbers.iter().flat_map(move |&middle| {
        let smaller = numbers.iter().filter(move |&&number| number <= middle);
        smaller.flat_map(move |&smaller| {
            let larger = numbers.iter().filter(move |&&number| number >= middle);
            larger.map(move |&larger| (middle, smaller, larger))
        })
    })
}

#[test]
fn a_claim_of_a_page_that_is_not_free_takes_no_neighbour() {
    let states = PageStates::new(128);
    states.lock(pages(31, 33)).unwrap();
    states.unlock_committed(pages(31, 32));
    assert_eq!(states.claim(31, pages(0, 128)), Ok(Claim::Committed));
    assert_eq!(states.claim(32, pages(0, 128)), Ok(Claim::Busy));
    assert!((0..128).all(|page| states.is_held(page) == (page == 32)));
}

#[test]
fn a_lock_that_never_waits_holds_all_of_a_range_or_nothing() {
    for &held in AT_BORDERS {
        let states = PageStates::new(128);
        states.lock(pages(held, held + 1)).unwrap();
        for (first, end) in [(0, 128), (held, held + 1), (held, 128), (0, held + 1)] {
            assert!(!states.try_lock(pages(first, end)), "{first}..{end} with {held} held");
            assert!((0..128).all(|page| states.is_held(page) == (page == held)));
        }
        assert!(states.try_lock(pages(held + 1, 128)));
        assert!((0..128).all(|page| states.is_held(page) == (page >= held)));
    }
}

/// A table of three granules, whose first granule alone the system backs.
#[cfg(any(pagewise_model, pagewise_refusals))]
fn half_backed() -> (PageStates, usize, [crate::os::refusals::Refusing; 2]) {
    use crate::os::refusals::{Call, Refusal};
    let granule = table::SMALL_WORDS * PAGES_PER_WORD;
    let states = PageStates::new(3 * granule);
    let whole =
        Refusal::of(Call::Commit).longer_than(table::SMALL_WORDS * table::WORD_BYTES).begin();
    assert!(states.table.word_for_writing(0).is_ok());
    (states, granule, [whole, Refusal::of(Call::Commit).begin()])
}

#[cfg(any(pagewise_model, pagewise_refusals))]
#[test]
fn a_table_that_is_committed_piece_by_piece_ends_with_its_last_page() {
    use crate::os::refusals::{Call, Refusal};
    let count = (table::SMALL_WORDS + 1) * PAGES_PER_WORD;
    let states = PageStates::new(count);
    let _whole =
        Refusal::of(Call::Commit).longer_than(table::SMALL_WORDS * table::WORD_BYTES).begin();
    states.lock(pages(count - 1, count)).unwrap();
    states.unlock_committed(pages(count - 1, count));
    assert_eq!(states.count_all_committed(), 1);
    assert_eq!(states.find_committed(0, count), Some(count - 1));
    let last = pages(count - PAGES_PER_WORD, count);
    assert_eq!(states.written_parts(pages(0, count)).collect::<Vec<_>>(), [last]);
}

#[cfg(any(pagewise_model, pagewise_refusals))]
#[test]
fn a_lock_whose_table_is_not_backed_holds_nothing() {
    let (states, edge, refusing) = half_backed();
    for first in [0, edge - 40, edge - 1, edge, edge + 5] {
        let range = pages(first, edge + 40);
        assert!(states.lock(range).is_err());
        assert!(!states.try_lock(range));
        assert!((first..edge + 40).all(|page| !states.is_held(page)), "from {first}");
    }
    let parts: Vec<_> = states.written_parts(pages(0, 3 * edge)).collect();
    assert_eq!((parts[0].first(), parts[parts.len() - 1].end()), (0, edge));
    assert!(parts.windows(2).all(|parts| parts[0].end() == parts[1].first()));
    drop(refusing);
    let range = pages(edge - 40, edge + 40);
    states.lock(range).unwrap();
    assert!((edge - 40..edge + 40).all(|page| states.is_held(page)));
}

#[cfg(any(pagewise_model, pagewise_refusals))]
#[test]
fn a_claim_whose_table_is_not_backed_is_refused_and_neighbours_are_left_out() {
    let (states, edge, refusing) = half_backed();
    let wanted = pages(edge - 10, edge + 10);
    assert!(states.claim(edge, wanted).is_err());
    assert!((edge - 10..edge + 10).all(|page| !states.is_held(page)));
    assert_eq!(states.claim(edge - 3, wanted), Ok(Claim::Claimed(pages(edge - 10, edge))));
    states.unlock(pages(edge - 10, edge));
    drop(refusing);
    assert_eq!(states.claim(edge, wanted), Ok(Claim::Claimed(wanted)));
}

/// Nobody may free or change pages that he does not hold; debug builds say so.
#[cfg(debug_assertions)]
#[test]
fn pages_that_nobody_holds_cannot_be_unlocked() {
    let states = PageStates::new(64);
    states.lock(pages(3, 5)).unwrap();
    let unlocks: [fn(&PageStates, PageRange); 4] = [
        PageStates::unlock,
        PageStates::unlock_committed,
        PageStates::unlock_reserved,
        PageStates::mark_reserved,
    ];
    for unlock in unlocks {
        let change = std::panic::AssertUnwindSafe(|| unlock(&states, pages(4, 7)));
        std::panic::catch_unwind(change).unwrap_err();
        states.try_lock(pages(3, 5));
    }
}

/// The table of a long reservation is a reservation itself, which is released with it.
#[cfg(any(pagewise_model, pagewise_refusals))]
#[test]
fn a_large_table_gives_its_addresses_back() {
    use crate::os::refusals::{Call, Refusal};
    let states = PageStates::new((table::SMALL_WORDS + 1) * PAGES_PER_WORD);
    states.lock(pages(0, 1)).unwrap();
    states.unlock(pages(0, 1));
    // The release after the table's own is refused.
    let refusing = Refusal::of(Call::Release).after(1).begin();
    drop(states);
    let granularity = crate::reserve_granularity();
    let other =
        crate::os::reserve(granularity, granularity, &crate::os::Attributes::PLAIN).unwrap();
    // SAFETY: this test's own reservation.
    unsafe { crate::os::release(other, granularity).unwrap_err() };
    drop(refusing);
    // SAFETY: as above.
    unsafe { crate::os::release(other, granularity).unwrap() };
}

#[test]
fn the_largest_table_is_backed_only_where_it_is_written() {
    let total = (64usize << 40) / 4096;
    let states = PageStates::new(total);
    assert_eq!(states.count_committed(pages(total - 9, total)), 0);
    let far = pages(total - 3, total);
    assert_eq!(states.claim(total - 1, far), Ok(Claim::Claimed(far)));
    states.unlock_committed(far);
    assert!(states.all_committed(far));
    assert!(!states.is_committed(0));
}
