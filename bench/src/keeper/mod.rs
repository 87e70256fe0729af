//! Keeps memory that is really backed for the samples to use.
//!
//! A virtual machine hands free memory back to its host within seconds (free page reporting), and the next touch of such
//! a page takes several times as long as that of another one. What a sample finds would be chance. On Linux the kernel
//! reports only whole free blocks of a huge page's size, after two seconds. So:
//!
//! - For samples in small pages, a keeper has touched as much as they need, and freed all but one page of each 256 KiB.
//!   What is free between these pages never is a whole block. The kernel takes small pages from the smallest free
//!   blocks first: from these.
//! - For samples in huge pages, it holds touched huge pages, gives up as many as the sample needs right before the
//!   sample's process starts, milliseconds before its clock, and takes them back as soon as the process has ended.

pub mod experiment;

use crate::system::Held;

/// Memory that the process of the benchmark holds while others take samples.
#[derive(Default)]
pub struct Keeper {
    /// Every page that keeps its neighbours from being a whole block.
    crumbs: Option<Held>,
    blocks: Option<Held>,
}

impl Keeper {
    /// Makes `small` bytes ready for samples in small pages, and `huge` for those in huge ones; less where little
    /// memory is free.
    pub fn new(small: usize, huge: usize) -> Self {
        let most = crate::system::free_memory().unwrap_or(0) / 10 * 6;
        let huge = huge.min(most / 2);
        let blocks = Held::huge_pages(huge);
        let crumbs = Held::small_pages(small.min(most - huge)).and_then(Held::crumble);
        Self { crumbs, blocks }
    }

    /// Takes a sample that needs so many bytes.
    pub fn during<R>(&mut self, needs: usize, huge: bool, take: impl FnOnce() -> R) -> R {
        let Some(blocks) = self.blocks.as_mut().filter(|_| huge) else { return take() };
        blocks.let_go(needs);
        let taken = take();
        blocks.take_back();
        taken
    }

    /// For the header.
    pub fn describe(&self) -> String {
        let mib = |held: &Option<Held>| held.as_ref().map_or(0, Held::len) >> 20;
        format!(
            "{} MiB in small pages and {} MiB in huge pages",
            mib(&self.crumbs),
            mib(&self.blocks)
        )
    }
}
