//! A virtual machine's memory costs several times more the first time it is ever used: use it.

use crate::harness::progress;

const MOST: usize = 16 << 30;
const STEP: usize = 256 << 20;

/// Writes to as much memory as is free, up to `wanted` and 16 GiB, and gives it back.
pub fn up(wanted: usize) {
    let free = crate::system::free_memory().map_or(usize::MAX, |free| free / 10 * 9);
    let steps = wanted.min(MOST).min(free) / STEP;
    let bar = progress(steps, "{elapsed_precise} {wide_bar} {pos}/{len} warming memory up");
    let mut kept = Vec::with_capacity(steps);
    for _ in 0..steps {
        let Ok(mut map) = memmap2::MmapMut::map_anon(STEP) else { break };
        for page in map.chunks_mut(pagewise::page_size()) {
            page[0] = 1;
        }
        kept.push(map);
        bar.inc(1);
    }
    bar.finish_and_clear();
}
