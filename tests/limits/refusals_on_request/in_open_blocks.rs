//! The guard engine, on systems that have guard markers.

use super::*;

/// Pages whose markers are in one page of page tables, and how many of them make a block dense.
fn per_block() -> usize {
    page_size() / 8
}

fn dense() -> usize {
    (per_block() / 64).max(2)
}

fn guards_work() -> bool {
    common::engines().contains(&Engine::Guard)
}

/// A region of two blocks, with steps of `step` pages.
fn region(step: usize) -> DemandRegion {
    DemandRegion::builder(2 * per_block() * page_size())
        .engine(Engine::Guard)
        .step(CommitStep::fixed(step * page_size()))
        .build()
        .unwrap()
}

/// Commits every other page of the first block, as many as make it dense.
fn make_dense(region: &DemandRegion) -> Vec<usize> {
    let pages: Vec<_> = (0..dense()).map(|index| 4 + 2 * index).collect();
    for &page in &pages {
        region.commit(page * page_size()..(page + 1) * page_size()).unwrap();
        common::poke(region.byte(page), page as u8);
    }
    pages
}

/// A block that could not be opened is as it was, and its pages can be committed and decommitted.
#[test]
fn a_block_that_is_refused_half_way_stays_closed() {
    if !guards_work() {
        return;
    }
    let edges = [0, 1, 5, 7, 30, per_block() - 1];
    for (call, refused) in [Call::GuardInstall, Call::Commit]
        .into_iter()
        .flat_map(|call| edges.map(|edge| (call, edge)))
    {
        for undo_refused in [false, true] {
            let mut region = region(1);
            // The refused call is the opening of the block, not the commit that made the block dense.
            let refusing = Refusal::of(call)
                .longer_than(if call == Call::Commit { page_size() } else { 0 })
                .touching(region.pages(refused..refused + 1))
                .half_done()
                .begin();
            let undo = undo_refused.then(|| Refusal::of(Call::Decommit).begin());
            let mut pages = make_dense(&region);
            let was_refused = refusing.refused() > 0;
            drop((refusing, undo));
            // Opening marks each single reserved page between committed ones by a call of its own.
            assert!(was_refused || (call == Call::Commit && refused < 20), "{call:?} {refused}");
            region.assert_committed(&pages);
            region.write(page_size(), &[1]).unwrap();
            pages.insert(0, 1);
            region.assert_committed(&pages);
            for &page in &pages {
                assert_eq!(read(&region, page), page as u8, "{call:?} at {refused}");
            }
            region.decommit(..).unwrap();
            region.assert_committed(&[]);
            region.commit(..).unwrap();
            assert!((0..2 * per_block()).all(|page| read(&region, page) == 0));
        }
    }
}

/// Where markers are removed half-way, what comes before the refused page is committed, and what
/// comes behind it is still inaccessible.
#[test]
fn a_batch_that_is_refused_in_an_open_block_becomes_its_beginning_and_the_one_page() {
    if !guards_work() {
        return;
    }
    for refused in [32, 33, 35] {
        let mut region = region(8);
        let mut pages = make_dense(&region);
        let refusing = Refusal::of(Call::GuardRemove)
            .touching(region.pages(refused..refused + 1))
            .half_done()
            .begin();
        region.write(37 * page_size(), &[37]).unwrap();
        assert!(refusing.refused() > 0, "the block is not open");
        drop(refusing);
        pages.extend(32..refused);
        pages.push(37);
        region.assert_committed(&pages);
        assert_eq!(read(&region, 37), 37);
        region.write(38 * page_size(), &[38]).unwrap();
        assert_eq!((read(&region, 38), read(&region, 37)), (38, 37));
    }
}

/// A commit across an open block and a closed one changes access rights first, then removes markers,
/// and where either is refused, goes on in smaller pieces.
#[test]
fn a_commit_across_blocks_that_is_refused_keeps_its_beginning() {
    if !guards_work() {
        return;
    }
    let edge = per_block();
    for call in [Call::Commit, Call::GuardRemove] {
        for refused in [edge - 3, edge - 1, edge, edge + 2] {
            let region = region(1);
            let mut pages = make_dense(&region);
            let refusing =
                Refusal::of(call).touching(region.pages(refused..refused + 1)).half_done().begin();
            let (from, to) = ((edge - 3) * page_size(), (edge + 3) * page_size());
            let result = region.commit(from..to);
            drop(refusing);
            // In pieces, the open block needs no access rights, and the closed one has no markers.
            let is_needed = (call == Call::GuardRemove) == (refused < edge);
            assert_eq!(result.is_err(), is_needed);
            pages.extend(edge - 3..if is_needed { refused } else { edge + 3 });
            region.assert_committed(&pages);
            region.commit(from..to).unwrap();
            assert!((edge - 3..edge + 3).all(|page| read(&region, page) == 0));
        }
    }
}

/// Where neither markers nor mapping over could take the access to some pages away, all of them can be used.
#[test]
fn a_decommit_that_is_refused_half_way_in_an_open_block_leaves_usable_what_is_committed() {
    if !guards_work() {
        return;
    }
    let mut region = region(1);
    let mut pages = make_dense(&region);
    region.commit(40 * page_size()..44 * page_size()).unwrap();
    pages.extend(40..44);
    (40..44).for_each(|page| common::poke(region.byte(page), 7));
    let mark = Refusal::of(Call::GuardInstall).touching(region.pages(42..43)).half_done().begin();
    let map_over = Refusal::of(Call::Decommit).begin();
    region.decommit(40 * page_size()..44 * page_size()).unwrap_err();
    assert!(mark.refused() > 0, "the block is not open");
    drop((mark, map_over));
    region.assert_committed(&pages);
    let bytes: Vec<_> = (40..44).map(|page| read(&region, page)).collect();
    assert_eq!(bytes, [0, 0, 7, 7]);
}

/// In an open block, a commit only removes the marker: so a decommitted page must have its access rights back, whatever
/// rights the program had given it.
#[test]
fn a_page_whose_access_a_program_took_away_comes_back_after_a_decommit() {
    if !guards_work() {
        return;
    }
    let mut region = region(1);
    let pages = make_dense(&region);
    let (from, to) = (pages[1] * page_size(), (pages[1] + 1) * page_size());
    // SAFETY: the page is committed, and nobody else knows it.
    let protected =
        unsafe { libc::mprotect(region.byte(pages[1]).cast(), page_size(), libc::PROT_READ) };
    assert_eq!(protected, 0);
    region.decommit(from..to).unwrap();
    region.commit(from..to).unwrap();
    region.assert_committed(&pages);
    assert_eq!((read(&region, pages[1]), read(&region, pages[2])), (0, pages[2] as u8));
}

/// A page that cannot be marked in an open block is mapped over, and closes it; where that is
/// refused, too, it stays.
#[test]
fn a_decommit_that_is_refused_in_an_open_block_leaves_nothing_half_done() {
    if !guards_work() {
        return;
    }
    for map_over_refused in [false, true] {
        let mut region = region(1);
        let mut pages = make_dense(&region);
        let mark = Refusal::of(Call::GuardInstall).begin();
        let map_over = map_over_refused.then(|| Refusal::of(Call::Decommit).begin());
        let result = region.decommit(pages[1] * page_size()..(pages[1] + 1) * page_size());
        assert!(mark.refused() > 0, "the block is not open");
        drop((mark, map_over));
        assert_eq!(result.is_err(), map_over_refused);
        let given_back = pages[1];
        if !map_over_refused {
            pages.remove(1);
        }
        region.assert_committed(&pages);
        for &page in &pages {
            assert_eq!(read(&region, page), page as u8);
        }
        region.write(given_back * page_size() + 1, &[1]).unwrap();
        let kept = if map_over_refused { given_back as u8 } else { 0 };
        assert_eq!(read(&region, given_back), kept);
    }
}
