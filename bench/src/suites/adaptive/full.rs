//! Memory in which no huge page is free, and memory that is nearly used up.

use pagewise::HugePages;

use super::{PARTS, against_never, fill_and_push, len};
use crate::case::{Case, Size};
use crate::sample::Sample;
use crate::system::{self, Held};

pub(super) fn fragmented() -> Case {
    against_never("256 MiB in memory without a free huge page", PARTS, in_crumbs).full_only().long()
}

/// Uses up all free memory but a gigabyte and gives it back but for every other page: what is free then are single
/// pages, and a huge page takes moving pages together. Whole huge pages that are still free are used up, too.
fn in_crumbs(size: Size, huge: HugePages) -> Sample {
    const REST: usize = 1 << 30;
    let most = system::free_memory().unwrap_or(0).saturating_sub(REST);
    let bytes = size.pick(most, most.min(1 << 30), 64 << 20);
    let Some(held) = Held::small_pages(bytes).and_then(Held::crumble) else {
        return Sample::absent("memory cannot be made fragmented here");
    };
    // What other programs give back meanwhile may be whole again: so more than once.
    let times = size.pick(3, 3, 0);
    let whole: Vec<_> = (0..times).map(|_| Held::huge_pages(free_huge_pages() << 21)).collect();
    let free = free_huge_pages();
    let sample = Sample::or_failed(fill_and_push(len(size), huge));
    drop(whole);
    sample.note(format!("{} MiB of memory in pieces; free huge pages: {free}", held.len() >> 20))
}

fn free_huge_pages() -> usize {
    system::free_huge_pages().unwrap_or(0)
}

pub(super) fn nearly_full() -> Case {
    against_never(
        "256 MiB in a control group whose memory is full of cached files",
        PARTS,
        in_a_group,
    )
}

/// The group may have an eighth more than is filled, which is what a run may be ahead by, and some for the rest of the
/// program. A file of that size was written there before, so that the kernel takes its pages away again page by page.
fn in_a_group(size: Size, huge: HugePages) -> Sample {
    let len = len(size);
    let limit = len / 8 * 9 + (16 << 20);
    let group = match system::Group::with_limit(limit) {
        Ok(group) => group,
        Err(why) => return Sample::absent(why),
    };
    let sample = match group.cache_a_file(limit) {
        Ok(()) => Sample::or_failed(fill_and_push(len, huge)),
        Err(why) => Sample::absent(why),
    };
    drop(group);
    sample
}
