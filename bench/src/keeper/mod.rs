//! Lets samples find memory that is really backed by the host.
//!
//! A virtual machine hands free memory back to its host within seconds (free page reporting): the next touch of such a page
//! takes several times as long as that of another one. Some hosts take small pages from a guest even where they are in use
//! but were not written for two seconds. What a sample finds would be chance. So:
//!
//! - For samples in small pages, the process of the sample writes to as much memory as it will need and gives it back right
//!   before its clock starts. The kernel takes the latest free pages first, and these are in the lists of the same processor.
//! - For samples in huge pages, the parent holds touched huge pages, gives up as many as the sample needs right before the
//!   sample's process starts, milliseconds before its clock, and takes them back as soon as the process has ended.

pub mod experiment;

use crate::system::Held;

/// Huge pages that the process of the benchmark holds while others take samples.
#[derive(Default)]
pub struct Keeper {
    blocks: Option<Held>,
}

impl Keeper {
    /// Holds so many bytes in huge pages; less where little memory is free.
    pub fn new(bytes: usize) -> Self {
        let most = crate::system::free_memory().unwrap_or(0) / 2;
        Self { blocks: Held::huge_pages(bytes.min(most)) }
    }

    /// Takes a sample that needs so many bytes in huge pages.
    pub fn during<R>(&mut self, needs: usize, huge: bool, take: impl FnOnce() -> R) -> R {
        let Some(blocks) = self.blocks.as_mut().filter(|_| huge) else { return take() };
        blocks.let_go(needs);
        let taken = take();
        blocks.take_back();
        taken
    }

    /// For the header.
    pub fn describe(&self) -> String {
        format!("{} MiB in huge pages", self.blocks.as_ref().map_or(0, Held::len) >> 20)
    }
}

/// In the process of a sample, right before it: writes to so many bytes in small pages, or to most of what is free, and
/// gives them back.
pub fn freshen(bytes: usize) {
    let most = crate::system::free_memory().unwrap_or(0) / 10 * 9;
    drop(Held::small_pages(bytes.min(most)));
}
