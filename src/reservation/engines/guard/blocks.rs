//! Two bits for each block: whether it may contain markers, and whether it is open.

use super::super::super::pages::zeroed;
use crate::sync::{AtomicU64, Ordering};

#[derive(Debug)]
pub(super) struct Blocks {
    /// Two bits for each block: *marked* in the lower half of a word, *open* in the upper half.
    kinds: Box<[AtomicU64]>,
    /// One bit for each block: set for one that has a committed page, and for few others. So a search finds the used
    /// blocks of a long reservation without reading all of its page states.
    used: Box<[AtomicU64]>,
}

/// How a search for used blocks ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Search {
    Found(usize),
    /// It had looked at as many words as it may when it came to this block.
    EndedAt(usize),
    /// There is no further used block.
    Nothing,
}

/// What the bits of a range of blocks say.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    pub(super) any_marked: bool,
    pub(super) all_open: bool,
}

const BLOCKS_PER_WORD: usize = 32;
const USED_PER_WORD: usize = 64;

impl Blocks {
    pub(super) fn new(blocks: usize) -> Self {
        Self {
            kinds: zeroed(blocks.div_ceil(BLOCKS_PER_WORD)),
            used: zeroed(blocks.div_ceil(USED_PER_WORD)),
        }
    }

    fn word(&self, index: usize) -> u64 {
        self.kinds.get(index).map_or(0, |word| word.load(Ordering::Acquire))
    }

    pub(super) fn is_marked(&self, block: usize) -> bool {
        self.word(block / BLOCKS_PER_WORD) >> (block % BLOCKS_PER_WORD) & 1 != 0
    }

    pub(super) fn is_open(&self, block: usize) -> bool {
        self.word(block / BLOCKS_PER_WORD) >> (block % BLOCKS_PER_WORD + BLOCKS_PER_WORD) & 1 != 0
    }

    pub(super) fn kind(&self, blocks: (usize, usize)) -> Kind {
        let mut kind = Kind { any_marked: false, all_open: true };
        for (index, mask) in masks::<BLOCKS_PER_WORD>(blocks) {
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

    /// The caller holds pages of each block, and is about to commit them.
    pub(super) fn set_used(&self, blocks: (usize, usize)) {
        for (index, mask) in masks::<USED_PER_WORD>(blocks) {
            if let Some(word) = self.used.get(index)
                // As in `clear`: most blocks are known to be used.
                && word.load(Ordering::Relaxed) & mask != mask
            {
                word.fetch_or(mask, Ordering::AcqRel);
            }
        }
    }

    /// The caller holds all pages of these blocks, none of which is committed.
    pub(super) fn set_unused(&self, blocks: (usize, usize)) {
        for (index, mask) in masks::<USED_PER_WORD>(blocks) {
            if let Some(word) = self.used.get(index)
                && word.load(Ordering::Relaxed) & mask != 0
            {
                word.fetch_and(!mask, Ordering::AcqRel);
            }
        }
    }

    /// The first used block from `first` on. Takes one from `words_left` for each word that it looks at.
    pub(super) fn next_used(&self, first: usize, words_left: &mut usize) -> Search {
        let mut block = first;
        while let Some(word) = self.used.get(block / USED_PER_WORD) {
            if *words_left == 0 {
                return Search::EndedAt(block);
            }
            *words_left -= 1;
            let bits = word.load(Ordering::Acquire) >> (block % USED_PER_WORD);
            if bits != 0 {
                return Search::Found(block + bits.trailing_zeros() as usize);
            }
            block = (block / USED_PER_WORD + 1) * USED_PER_WORD;
        }
        Search::Nothing
    }

    fn change(&self, blocks: (usize, usize), change: impl Fn(&AtomicU64, u64) -> u64) {
        for (index, mask) in masks::<BLOCKS_PER_WORD>(blocks) {
            if let Some(word) = self.kinds.get(index) {
                change(word, mask);
            }
        }
    }
}

/// The words of a range of blocks, each with the bits of its blocks.
fn masks<const PER_WORD: usize>(
    (first, end): (usize, usize),
) -> impl Iterator<Item = (usize, u64)> {
    (first / PER_WORD..end.div_ceil(PER_WORD)).map(move |index| {
        let base = index * PER_WORD;
        let low = first.saturating_sub(base).min(PER_WORD);
        let high = end.saturating_sub(base).min(PER_WORD);
        (index, (((1u128 << high) - 1) & !((1u128 << low) - 1)) as u64)
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

    #[test]
    fn used_blocks_are_found_with_as_many_words_as_there_may_be() {
        let blocks = Blocks::new(1000);
        let next = |first, mut words: usize| blocks.next_used(first, &mut words);
        assert_eq!(next(0, 100), Search::Nothing);
        blocks.set_used((63, 65));
        blocks.set_used((999, 1000));
        assert_eq!((next(0, 1), next(64, 1)), (Search::Found(63), Search::Found(64)));
        assert_eq!((next(65, 1), next(65, 100)), (Search::EndedAt(128), Search::Found(999)));
        assert_eq!((next(63, 0), next(1000, 1)), (Search::EndedAt(63), Search::Nothing));
        blocks.set_unused((0, 64));
        assert_eq!(next(0, 2), Search::Found(64));
        blocks.set_unused((0, 1000));
        assert_eq!(next(0, 16), Search::Nothing);
    }
}
