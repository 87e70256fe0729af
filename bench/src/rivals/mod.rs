//! Ranges of memory that can be touched: ours, the kernel's, and those of other fault handlers.

use pagewise::{CommitStep, DemandRegion, DemandRegionBuilder, Engine};

use crate::work::{Area, Opened};

#[cfg(target_os = "linux")]
#[path = "linux.rs"]
mod imp;

#[cfg(not(target_os = "linux"))]
#[path = "other.rs"]
mod imp;

pub use imp::*;

struct Ours(DemandRegion);

impl Area for Ours {
    fn base(&mut self) -> *mut u8 {
        self.0.as_mut_slice().as_mut_ptr()
    }

    fn note(&self) -> Option<String> {
        Some(remark(&self.0))
    }
}

/// What a region of ours has to say after the work.
pub fn remark(region: &DemandRegion) -> String {
    let stats = region.stats();
    format!("{} faults, {} KiB committed", stats.faults, stats.committed >> 10)
}

/// Our region, with default settings.
pub fn ours(len: usize) -> Opened {
    ours_with(len, |builder| builder)
}

/// Our region, one page for each fault.
pub fn ours_by_page(len: usize) -> Opened {
    ours_with(len, |builder| builder.step(CommitStep::page()))
}

/// Our region, with pages that become accessible by `mprotect`.
pub fn ours_by_protect(len: usize) -> Opened {
    ours_with(len, |builder| builder.engine(Engine::Protect))
}

/// Our region, with faults that `userfaultfd` tells of.
pub fn ours_by_userfault(len: usize) -> Opened {
    ours_with(len, |builder| builder.engine(Engine::UserFault))
}

pub fn ours_with(
    len: usize,
    options: impl FnOnce(DemandRegionBuilder) -> DemandRegionBuilder,
) -> Opened {
    match options(DemandRegion::builder(len).align(2 << 20)).build() {
        Ok(region) => Ok(Box::new(Ours(region))),
        Err(error) => Err(error.to_string()),
    }
}

/// A file-less mapping of memmap2, uncharged and untouched.
pub fn memmap2(len: usize) -> Opened {
    opened(memmap2::MmapOptions::new().len(len).no_reserve_swap().map_anon().map(FromMemmap2))
}

/// memmap2 with everything made resident at once.
pub fn memmap2_populated(len: usize) -> Opened {
    opened(memmap2::MmapOptions::new().len(len).populate().map_anon().map(FromMemmap2))
}

struct FromMemmap2(memmap2::MmapMut);

impl Area for FromMemmap2 {
    fn base(&mut self) -> *mut u8 {
        self.0.as_mut_ptr()
    }
}

fn opened(area: std::io::Result<impl Area + 'static>) -> Opened {
    match area {
        Ok(area) => Ok(Box::new(area)),
        Err(error) => Err(error.to_string()),
    }
}
