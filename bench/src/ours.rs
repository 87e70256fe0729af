//! pagewise's own regions as subjects.

use pagewise::{CommitStep, DemandRegion, DemandRegionBuilder, Engine, HugePages};

use crate::work::{Area, Opened};

struct Ours(DemandRegion);

impl Area for Ours {
    fn base(&mut self) -> *mut u8 {
        self.0.as_mut_slice().as_mut_ptr()
    }

    fn note(&self) -> Option<String> {
        Some(remark(&self.0))
    }
}

/// A region, which remarks on its faults after the work.
pub fn remark(region: &DemandRegion) -> String {
    let stats = region.stats();
    format!("{} faults, {} KiB committed", stats.faults, stats.committed >> 10)
}

/// Our region, with default settings.
pub fn by_default(len: usize) -> Opened {
    with(len, |builder| builder)
}

/// Our region, one page for each fault.
pub fn by_page(len: usize) -> Opened {
    with(len, |builder| builder.step(CommitStep::page()))
}

/// Our region, with the protect engine.
pub fn by_protect(len: usize) -> Opened {
    with(len, |builder| builder.engine(Engine::Protect))
}

/// Our region, with the userfault engine.
pub fn by_userfault(len: usize) -> Opened {
    with(len, |builder| builder.engine(Engine::UserFault))
}

/// Our region, with huge pages where a run is long.
pub fn adaptive(len: usize) -> Opened {
    with(len, |builder| builder.huge_pages(HugePages::Adaptive))
}

/// Our region, without huge pages whatever the system's setting is.
pub fn never_huge(len: usize) -> Opened {
    with(len, |builder| builder.huge_pages(HugePages::Never))
}

/// Our region, in huge pages from the first touch on.
pub fn transparent(len: usize) -> Opened {
    with(len, |builder| builder.huge_pages(HugePages::Transparent))
}

/// Our region without an alignment, as a program makes a small one.
pub fn small(len: usize) -> Opened {
    let region = DemandRegion::new(len).map_err(|error| error.to_string())?;
    Ok(Box::new(Ours(region)))
}

pub fn with(
    len: usize,
    options: impl FnOnce(DemandRegionBuilder) -> DemandRegionBuilder,
) -> Opened {
    match options(DemandRegion::builder(len).align(2 << 20)).build() {
        Ok(region) => Ok(Box::new(Ours(region))),
        Err(error) => Err(error.to_string()),
    }
}
