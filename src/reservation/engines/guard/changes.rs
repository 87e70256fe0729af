//! By how much the engine changes the number of mappings: Linux makes one of neighbouring pages with the same access
//! rights.

use super::super::Ground;
use super::Guard;
use crate::page::PageRange;

impl Guard {
    /// By how much the number of mappings changes when a held, reserved run becomes accessible: a mapping ends
    /// wherever neighbouring pages have different access rights.
    pub(super) fn change_by(&self, ground: Ground, run: PageRange) -> isize {
        let side = |page| if self.is_accessible(ground, page) { -1 } else { 1 };
        side(run.first().wrapping_sub(1)) + side(run.end())
    }

    /// By how much the number of mappings changes when held blocks that are not open are opened.
    pub(super) fn change_by_opening(&self, ground: Ground, pages: PageRange) -> isize {
        let mut change = 0;
        let mut before = self.is_accessible(ground, pages.first().wrapping_sub(1));
        change += isize::from(!before);
        let _ = ground.states.for_each_run(pages, |_, is_committed| {
            change -= isize::from(is_committed != before);
            before = is_committed;
            Ok(())
        });
        let behind = self.is_accessible(ground, pages.end());
        change - isize::from(behind != before) + isize::from(!behind)
    }

    /// The same for held pages that become inaccessible, by their access rights: whole blocks, or pages of one.
    pub(super) fn change_by_closing(&self, ground: Ground, pages: PageRange) -> isize {
        let before = self.is_accessible(ground, pages.first().wrapping_sub(1));
        let behind = self.is_accessible(ground, pages.end());
        let (mut edges, mut last) = (0, before);
        let mut see = |is_accessible| {
            edges += isize::from(is_accessible != last);
            last = is_accessible;
        };
        let (first, end) = self.blocks_of(pages);
        for block in first..end {
            if self.blocks.is_open(block) {
                see(true);
                continue;
            }
            let whole = self.pages_of(ground, block, block + 1);
            let part = pages.with(whole.first().max(pages.first()), whole.end().min(pages.end()));
            let _ = ground.states.for_each_run(part, |_, is_committed| {
                see(is_committed);
                Ok(())
            });
        }
        see(behind);
        isize::from(before) + isize::from(behind) - edges
    }

    /// Whether the access rights of a page allow access, apart from its marker. An unlocked read.
    fn is_accessible(&self, ground: Ground, page: usize) -> bool {
        page < self.pages
            && (ground.states.is_committed(page)
                || self.blocks.is_open(page / self.pages_per_block))
    }
}
