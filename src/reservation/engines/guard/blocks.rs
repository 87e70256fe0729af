//! Two bits for each block: whether it may contain markers, and whether it is open.

use super::super::super::pages::zeroed;
use crate::sync::{AtomicU64, Ordering};

/// Two bits for each block: *marked* in the lower half of a word, *open* in the upper half.
#[derive(Debug)]
pub(super) struct Blocks(Box<[AtomicU64]>);

/// What is true of a range of blocks.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    pub(super) any_marked: bool,
    pub(super) all_open: bool,
}

const BLOCKS_PER_WORD: usize = 32;

impl Blocks {
    pub(super) fn new(blocks: usize) -> Self {
        Self(zeroed(blocks.div_ceil(BLOCKS_PER_WORD)))
    }

    fn word(&self, index: usize) -> u64 {
        self.0.get(index).map_or(0, |word| word.load(Ordering::Acquire))
    }

    pub(super) fn is_marked(&self, block: usize) -> bool {
        self.word(block / BLOCKS_PER_WORD) >> (block % BLOCKS_PER_WORD) & 1 != 0
    }

    pub(super) fn is_open(&self, block: usize) -> bool {
        self.word(block / BLOCKS_PER_WORD) >> (block % BLOCKS_PER_WORD + BLOCKS_PER_WORD) & 1 != 0
    }

    pub(super) fn kind(&self, blocks: (usize, usize)) -> Kind {
        let mut kind = Kind { any_marked: false, all_open: true };
        for (index, mask) in masks(blocks) {
            let word = self.word(index);
            kind.any_marked |= word & mask != 0;
            kind.all_open &= (word >> BLOCKS_PER_WORD) & mask == mask;
        }
        kind
    }

    pub(super) fn set_marked(&self, blocks: (usize, usize)) {
        self.change(blocks, |word, mask| word.fetch_or(mask, Ordering::AcqRel));
    }

    pub(super) fn set_open(&self, blocks: (usize, usize)) {
        self.change(blocks, |word, mask| word.fetch_or(mask << BLOCKS_PER_WORD, Ordering::AcqRel));
    }

    pub(super) fn set_not_open(&self, blocks: (usize, usize)) {
        self.change(blocks, |word, mask| {
            word.fetch_and(!(mask << BLOCKS_PER_WORD), Ordering::AcqRel)
        });
    }

    pub(super) fn clear(&self, blocks: (usize, usize)) {
        self.change(blocks, |word, mask| {
            // Read first: most blocks have no bits to clear, and a store takes the cache line from other threads.
            let both = mask | mask << BLOCKS_PER_WORD;
            if word.load(Ordering::Relaxed) & both == 0 {
                return 0;
            }
            word.fetch_and(!both, Ordering::AcqRel)
        });
    }

    fn change(&self, blocks: (usize, usize), change: impl Fn(&AtomicU64, u64) -> u64) {
        for (index, mask) in masks(blocks) {
            if let Some(word) = self.0.get(index) {
                change(word, mask);
            }
        }
    }
}

/// The words of a range of blocks, each with the bits of its blocks.
fn masks((first, end): (usize, usize)) -> impl Iterator<Item = (usize, u64)> {
    (first / BLOCKS_PER_WORD..end.div_ceil(BLOCKS_PER_WORD)).map(move |index| {
        let base = index * BLOCKS_PER_WORD;
        let low = first.saturating_sub(base).min(BLOCKS_PER_WORD);
        let high = end.saturating_sub(base).min(BLOCKS_PER_WORD);
        (index, ((1u64 << high) - 1) & !((1u64 << low) - 1))
    })
}

#[cfg(all(test, not(loom), not(any(miri, pagewise_model))))]
mod tests {
    use super::*;

    #[test]
    fn the_bits_of_blocks_are_their_own() {
        let blocks = Blocks::new(100);
        blocks.set_marked((30, 70));
        blocks.set_open((40, 65));
        let seen = |blocks: &Blocks| -> Vec<(bool, bool)> {
            (0..100).map(|block| (blocks.is_marked(block), blocks.is_open(block))).collect()
        };
        let expected = |block| ((30..70).contains(&block), (40..65).contains(&block));
        assert_eq!(seen(&blocks), (0..100).map(expected).collect::<Vec<_>>());
        assert!(blocks.kind((40, 65)).all_open && !blocks.kind((39, 65)).all_open);
        assert!(blocks.kind((0, 31)).any_marked && !blocks.kind((0, 30)).any_marked);
        blocks.set_not_open((40, 41));
        assert!(!blocks.is_open(40) && blocks.is_open(41) && blocks.is_marked(40));
        blocks.clear((31, 69));
        let left: Vec<_> = (0..100).filter(|&block| blocks.is_marked(block)).collect();
        assert_eq!(left, [30, 69]);
    }
}
