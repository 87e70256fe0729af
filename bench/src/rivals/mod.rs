//! Ranges of memory that can be touched: the kernel's, and those of other fault handlers.

use crate::work::{Area, Opened};

#[cfg(target_os = "linux")]
#[path = "linux.rs"]
mod imp;

#[cfg(not(target_os = "linux"))]
#[path = "other.rs"]
mod imp;

pub use imp::*;

/// An anonymous mapping of memmap2, uncharged and untouched.
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
