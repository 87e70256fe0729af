//! Touched memory that a process holds for others.

use super::{Mapping, Pages};

/// Resident memory, some of which may have been let go.
pub struct Held {
    mapping: Mapping,
    len: usize,
}

/// Of so many pages, one stays where the others are let go. Of two: then every free block is a single page, whatever pages
/// these are in the memory of the machine.
const GROUP: usize = 2;

impl Held {
    /// `None` where there is too little memory.
    pub fn small_pages(len: usize) -> Option<Self> {
        Self::touched(len, Pages::Small)
    }

    pub fn huge_pages(len: usize) -> Option<Self> {
        Self::touched(len, Pages::TransparentHuge)
    }

    fn touched(len: usize, pages: Pages) -> Option<Self> {
        let len = len >> 21 << 21;
        let mapping = Mapping::writable(len, pages).ok()?;
        mapping.populate().ok()?;
        Some(Self { mapping, len })
    }

    /// Bytes that it holds, or held before it let them go.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Lets go of all but one page of each group.
    pub fn crumble(self) -> Option<Self> {
        let page = pagewise::page_size();
        for offset in (0..self.len).step_by(GROUP * page) {
            let len = (GROUP - 1) * page;
            self.mapping.discard(offset, len.min(self.len - offset)).ok()?;
        }
        Some(self)
    }

    /// Lets go of so many bytes, or of all.
    pub fn let_go(&mut self, bytes: usize) {
        let len = bytes.next_multiple_of(2 << 20).min(self.len);
        // Where it fails, the sample finds other memory.
        let _ = self.mapping.discard(0, len);
    }

    /// Touches all again.
    pub fn take_back(&mut self) {
        // Where it fails, the next sample finds other memory.
        let _ = self.mapping.populate();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::{mappings, resident_and_charged};

    fn resident(held: &Held) -> usize {
        resident_and_charged(held.mapping.as_ptr(), held.len).unwrap().0
    }

    #[test]
    fn one_page_of_each_group_stays_and_takes_no_mapping() {
        let held = Held::small_pages(16 << 20).unwrap();
        assert_eq!(resident(&held), 16 << 20);
        let before = mappings().unwrap();
        let held = held.crumble().unwrap();
        assert_eq!(resident(&held), (16 << 20) / GROUP);
        // Other tests map, too.
        assert!(mappings().unwrap() < before + 100);
    }

    #[test]
    fn what_was_let_go_is_taken_back() {
        let mut held = Held::huge_pages(16 << 20).unwrap();
        assert_eq!(resident(&held), 16 << 20);
        held.let_go(5 << 20);
        assert_eq!(resident(&held), 10 << 20);
        held.take_back();
        assert_eq!(resident(&held), 16 << 20);
        held.let_go(usize::MAX >> 1);
        assert_eq!(resident(&held), 0);
    }
}
