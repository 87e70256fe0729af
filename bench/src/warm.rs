//! Uses memory before anything is measured: in a virtual machine, the first use of memory takes several times as long
//! as later ones.

use crate::harness::progress;

const MOST: usize = 16 << 30;
const STEP: usize = 32 << 20;

/// Writes to as much memory as is free, up to `wanted` and 16 GiB, and gives it back.
pub fn up(wanted: usize) {
    let steps = free().min(wanted).min(MOST) / STEP;
    let bar = progress(steps, "{elapsed_precise} {wide_bar} {pos}/{len} warming memory up");
    write(steps, || bar.inc(1));
    bar.finish_and_clear();
}

/// The same in the process of a sample, right before it: some machines give free memory back to their host within
/// moments, and the next touch takes as long as the first one.
pub fn for_a_sample(wanted: usize) {
    write(free().min(wanted).min(MOST).div_ceil(STEP), || ());
}

fn free() -> usize {
    crate::system::free_memory().map_or(usize::MAX, |free| free / 10 * 9)
}

fn write(steps: usize, mut wrote: impl FnMut()) {
    let mut kept = Vec::with_capacity(steps);
    for _ in 0..steps {
        let Ok(mut map) = memmap2::MmapMut::map_anon(STEP) else { break };
        for page in map.chunks_mut(pagewise::page_size()) {
            page[0] = 1;
        }
        kept.push(map);
        wrote();
    }
}
