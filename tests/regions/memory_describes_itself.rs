//! `{:?}` of reservations, regions and page maps: what one wants to know of them, and no list of pages.

use pagewise::{CommitStep, DemandRegion, Reservation, page_size};

#[test]
fn a_reservation_says_where_it_is_and_what_is_committed() {
    let page = page_size();
    let memory = Reservation::builder(8 * page).limit(4 * page).build().unwrap();
    memory.commit(page..2 * page).unwrap();
    assert_eq!(
        format!("{memory:?}"),
        format!(
            "Reservation {{ start: {:p}, len: {}, committed: {page}, limit: {}, .. }}",
            memory.as_ptr(),
            8 * page,
            4 * page
        )
    );
    let map = memory.page_map().unwrap();
    let resident = map.resident();
    assert_eq!(
        format!("{map:?}"),
        format!(
            "PageMap {{ page_size: {page}, pages: 8, committed: 1, resident: {resident}, runs: 3 }}"
        )
    );
}

#[test]
fn a_region_says_what_happened_in_it() {
    let page = page_size();
    let mut region = DemandRegion::builder(8 * page).step(CommitStep::page()).build().unwrap();
    region.write(5, b"hello").unwrap();
    let (start, len, stats) = (region.as_ptr(), 8 * page, region.stats());
    assert_eq!(stats.faults, 1);
    assert_eq!(
        format!("{region:?}"),
        format!("DemandRegion {{ start: {start:p}, len: {len}, stats: {stats:?} }}")
    );
}
