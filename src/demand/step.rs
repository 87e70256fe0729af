//! How much one fault commits.

use std::num::NonZeroUsize;

use crate::page::{PageRange, PageSize};
use crate::sync::{AtomicUsize, Ordering};

/// How much memory one page fault commits.
///
/// A step is cut to the region, to what its limit and budget have left, and to pages that are reserved. Where the
/// system refuses it, less is tried, down to the page that faulted.
///
/// ```
/// use pagewise::{CommitStep, DemandRegion, page_size};
///
/// let mut region = DemandRegion::builder(1 << 20).step(CommitStep::page()).build()?;
/// region.as_mut_slice()[0] = 1;
/// assert_eq!(region.stats().committed, page_size());
/// # Ok::<(), pagewise::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommitStep(Kind);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    Page,
    Fixed(usize),
    #[default]
    Adaptive,
}

impl CommitStep {
    /// Commits exactly the page that is touched: the least memory, and the most faults.
    ///
    /// ```
    /// use pagewise::{CommitStep, DemandRegion, page_size};
    ///
    /// let mut region = DemandRegion::builder(1 << 30).step(CommitStep::page()).build()?;
    /// region.as_mut_slice()[..100 * page_size()].fill(1);
    /// assert_eq!(region.stats().faults, 100);
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub const fn page() -> Self {
        Self(Kind::Page)
    }

    /// Commits the aligned block of `bytes` bytes around the touched page. Rounds up to whole pages; zero is
    /// one page.
    ///
    /// ```
    /// use pagewise::{CommitStep, DemandRegion};
    ///
    /// const STEP: CommitStep = CommitStep::fixed(1 << 16); // 64 KiB
    /// let mut region = DemandRegion::builder(1 << 20).step(STEP).build()?;
    /// region.as_mut_slice()[(1 << 17) + 100] = 1;
    /// assert!(region.is_committed(1 << 17..(1 << 17) + (1 << 16)));
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub const fn fixed(bytes: usize) -> Self {
        Self(Kind::Fixed(bytes))
    }

    /// Commits single pages for scattered access, growing windows for a run of neighbours, in
    /// either direction, several runs at once: the default. A run is never more than 64 KiB or an eighth of
    /// its own length ahead of what was touched, whichever is more, and never more than 512 KiB. With
    /// [`HugePages::Adaptive`](crate::HugePages::Adaptive), runs from 16 MiB on commit whole huge pages of 2 MiB.
    /// With [`HugePages::Transparent`](crate::HugePages::Transparent), everything is rounded outward to them.
    ///
    /// ```
    /// use pagewise::{CommitStep, DemandRegion, page_size};
    ///
    /// let mut region = DemandRegion::builder(1 << 30).step(CommitStep::adaptive()).build()?;
    /// region.as_mut_slice()[..100 * page_size()].fill(1);
    /// assert!(region.stats().faults < 50); // a run of neighbours
    /// # Ok::<(), pagewise::Error>(())
    /// ```
    pub const fn adaptive() -> Self {
        Self(Kind::Adaptive)
    }
}

/// The state of a step policy. Threads write it without a lock: a lost update only makes a window smaller or
/// larger (never larger than the largest), and the limits are checked when the pages are committed.
#[derive(Debug)]
pub(super) struct StepPolicy {
    step: CommitStep,
    /// Pages of the aligned blocks in which the adaptive step commits. Those of a huge page where huge pages are
    /// asked for, since the kernel backs nothing smaller with one; else a single page.
    block: NonZeroUsize,
    /// Pages of a huge page, where a run commits whole ones once an eighth of it is as much.
    huge: Option<NonZeroUsize>,
    streams: [Stream; STREAMS],
    next: AtomicUsize,
}

/// Runs of neighbouring faults that are followed at once: enough for a few threads, or for a program that fills several
/// arrays in turn, and few enough that each fault can look at all of them.
const STREAMS: usize = 8;

/// A run may be ahead by this much, however short it is: short runs take few faults, too, and cost 64 KiB more at most.
const SMALL_WINDOW: usize = 64 << 10;

/// The largest window. Prefaulted memory should still be in the processor's own cache when it is written: with
/// windows of 2 MiB, writing every byte takes a tenth longer (virtual Intel Xeon, suite `fill`).
const LARGEST_WINDOW: usize = 512 << 10;

/// The committed run `low + 1 .. high`: the next fault of the stream is expected at one of its edges.
#[derive(Debug)]
struct Stream {
    low: AtomicUsize,
    high: AtomicUsize,
}

const NOWHERE: usize = usize::MAX;

impl StepPolicy {
    /// `block` and `huge` are in pages; zero for none.
    pub(super) fn new(step: CommitStep, block: usize, huge: usize) -> Self {
        let streams = std::array::from_fn(|_| Stream {
            low: AtomicUsize::new(NOWHERE),
            high: AtomicUsize::new(NOWHERE),
        });
        Self {
            step,
            block: NonZeroUsize::new(block).unwrap_or(NonZeroUsize::MIN),
            huge: NonZeroUsize::new(huge),
            streams,
            next: AtomicUsize::new(0),
        }
    }

    /// The pages to commit for a fault at `page` of a region of `pages` pages.
    pub(super) fn wanted(&self, page: usize, pages: usize, size: PageSize) -> PageRange {
        match self.step.0 {
            Kind::Page => size.pages(page, page + 1),
            Kind::Fixed(bytes) => {
                let block = size.round_up(bytes).map_or(pages, |bytes| size.page_of(bytes)).max(1);
                let first = page / block * block;
                size.pages(first, first.saturating_add(block).min(pages))
            }
            Kind::Adaptive => {
                let wanted = self.adaptive(page, pages, size);
                let first = wanted.first() / self.block * self.block.get();
                size.pages(first, wanted.end().next_multiple_of(self.block.get()).min(pages))
            }
        }
    }

    fn adaptive(&self, page: usize, pages: usize, size: PageSize) -> PageRange {
        for stream in &self.streams {
            let high = stream.high.load(Ordering::Relaxed);
            let low = stream.low.load(Ordering::Relaxed);
            if page == high {
                let end = self.end_of_window(page, run(low, high), size).min(pages);
                return size.pages(page, end);
            }
            if page == low {
                let first = self.start_of_window(page + 1, run(low, high), size);
                return size.pages(first, page + 1);
            }
        }
        size.pages(page, page + 1)
    }

    /// Where the window at the upper edge of a run of so many pages ends: it starts at `first`.
    fn end_of_window(&self, first: usize, run: usize, size: PageSize) -> usize {
        let end = first.saturating_add(window(run, size));
        match self.huge.filter(|huge| run / 8 >= huge.get()) {
            // As far as the next huge page, or all of it.
            Some(huge) if first % huge != 0 => end.min(first - first % huge + huge.get()),
            Some(huge) => first.saturating_add(huge.get()),
            None => end,
        }
    }

    /// Where the window at the lower edge of a run of so many pages starts: it ends before `end`.
    fn start_of_window(&self, end: usize, run: usize, size: PageSize) -> usize {
        let first = end.saturating_sub(window(run, size));
        match self.huge.filter(|huge| run / 8 >= huge.get()) {
            Some(huge) if end % huge != 0 => first.max(end - end % huge),
            Some(huge) => end.saturating_sub(huge.get()),
            None => first,
        }
    }

    /// Notes what a fault committed, for the next steps.
    pub(super) fn note(&self, committed: PageRange) {
        if self.step.0 != Kind::Adaptive {
            return;
        }
        let (low, high) = (committed.first().wrapping_sub(1), committed.end());
        for stream in &self.streams {
            if stream.high.load(Ordering::Relaxed) == committed.first() {
                return stream.high.store(high, Ordering::Relaxed);
            }
            if stream.low.load(Ordering::Relaxed) == committed.end().wrapping_sub(1) {
                return stream.low.store(low, Ordering::Relaxed);
            }
        }
        let oldest = &self.streams[self.next.fetch_add(1, Ordering::Relaxed) % STREAMS];
        oldest.low.store(low, Ordering::Relaxed);
        oldest.high.store(high, Ordering::Relaxed);
    }
}

/// The pages of the run `low + 1 .. high`.
fn run(low: usize, high: usize) -> usize {
    high.wrapping_sub(low).wrapping_sub(1)
}

/// How many pages to commit at the edge of a run: as many as it has, up to 64 KiB; beyond, an eighth.
fn window(run: usize, size: PageSize) -> usize {
    let small = size.page_of(SMALL_WINDOW).max(1);
    let largest = size.page_of(LARGEST_WINDOW).max(1);
    run.min(small).max(run / 8).clamp(1, largest)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const PAGES: usize = 1 << 30;

    fn touch(policy: &StepPolicy, page: usize) -> PageRange {
        let wanted = policy.wanted(page, PAGES, PageSize::of(4096));
        assert!(wanted.first() <= page && page < wanted.end() && wanted.end() <= PAGES);
        policy.note(wanted);
        wanted
    }

    /// Touches a run that starts at `from`, and returns how many faults it took and the most that it
    /// was ahead by, in pages beyond an eighth of what was touched.
    fn touch_run(policy: &StepPolicy, from: usize, count: usize, down: bool) -> (usize, usize) {
        let (mut faults, mut ahead, mut done) = (0, 0, 0);
        while done < count {
            let wanted = touch(policy, if down { from - done } else { from + done });
            faults += 1;
            ahead = ahead.max((wanted.count() - 1).saturating_sub(done / 8));
            done += wanted.count();
        }
        (faults, ahead)
    }

    #[test]
    fn runs_in_either_direction_take_few_faults_and_stay_close() {
        for down in [false, true] {
            let (faults, ahead) =
                touch_run(&StepPolicy::new(CommitStep::adaptive(), 1, 0), 500_000, 262_144, down);
            assert!(faults < 2200, "{faults} faults for a gigabyte");
            assert!(ahead <= 16, "{ahead} pages ahead beyond an eighth");
        }
    }

    /// What one fault commits has an end, however long the run: it takes the time of one fault.
    #[test]
    fn no_window_is_larger_than_half_a_mebibyte() {
        for page_size in [4096, 16 << 10, 64 << 10, 2 << 20] {
            let size = PageSize::of(page_size);
            let largest = ((512 << 10) / page_size).max(1);
            for down in [false, true] {
                let policy = StepPolicy::new(CommitStep::adaptive(), 1, 0);
                let (mut done, mut most) = (0, 0);
                while done * page_size < 16 << 30 {
                    let page = if down { PAGES / 2 - done } else { PAGES / 2 + done };
                    let wanted = policy.wanted(page, PAGES, size);
                    assert!((wanted.first()..wanted.end()).contains(&page));
                    policy.note(wanted);
                    // 64 KiB ahead, or an eighth of the run.
                    let ahead = ((64 << 10) / page_size).max(1).max(done / 8);
                    assert!(
                        wanted.count() <= ahead.min(largest),
                        "{} after {done}",
                        wanted.count()
                    );
                    done += wanted.count();
                    most = most.max(wanted.count());
                }
                assert_eq!(most, largest, "pages of {page_size}, down: {down}");
            }
        }
    }

    #[test]
    fn with_huge_pages_no_window_is_larger_than_one_of_them() {
        let size = PageSize::of(4096);
        for (first, down) in [(0, false), (700, false), (PAGES - 1, true), (PAGES / 2 + 3, true)] {
            let policy = StepPolicy::new(CommitStep::adaptive(), 512, 0);
            let mut page = first;
            for _ in 0..5000 {
                let wanted = policy.wanted(page, PAGES, size);
                assert_eq!((wanted.first(), wanted.count()), (page / 512 * 512, 512));
                policy.note(wanted);
                page = if down { wanted.first() - 1 } else { wanted.end() };
            }
        }
    }

    /// From a run of 16 MiB on, an eighth is a huge page. What is committed is never ahead by more than without
    /// huge pages.
    #[test]
    fn long_runs_commit_whole_huge_pages_and_are_no_further_ahead_than_an_eighth() {
        let size = PageSize::of(4096);
        for (first, down) in
            [(0, false), (700, false), (511, false), (PAGES / 2, true), (PAGES / 2 + 3, true)]
        {
            let policy = StepPolicy::new(CommitStep::adaptive(), 1, 512);
            let (mut page, mut done, mut whole) = (first, 0, 0);
            while done < 1 << 18 {
                let wanted = policy.wanted(page, PAGES, size);
                assert!((wanted.first()..wanted.end()).contains(&page));
                let allowed = 16.max(done / 8);
                assert!(wanted.count() <= allowed, "{} after {done}", wanted.count());
                let is_whole = wanted.count() == 512 && wanted.first().is_multiple_of(512);
                assert!(is_whole || wanted.count() <= 128, "{} pages", wanted.count());
                if done >= 5120 {
                    assert!(is_whole, "{:?} after {done}", (wanted.first(), wanted.end()));
                }
                whole += usize::from(is_whole);
                done += wanted.count();
                policy.note(wanted);
                page = if down { wanted.first().saturating_sub(1) } else { wanted.end() };
            }
            assert!(whole > 500, "{whole}");
        }
    }

    #[test]
    fn scattered_pages_and_short_runs_stay_small_where_long_runs_get_huge_pages() {
        let policy = StepPolicy::new(CommitStep::adaptive(), 1, 512);
        for i in 0..10_000 {
            assert_eq!(touch(&policy, i * 7919 % 1_000_003 * 3).count(), 1);
        }
        let policy = StepPolicy::new(CommitStep::adaptive(), 1, 512);
        let mut page = 1_000_000;
        while page < 1_000_000 + 8 * 512 {
            let wanted = touch(&policy, page);
            assert!(wanted.count() <= 128);
            page = wanted.end();
        }
        // At the ends of the region, too.
        let policy = StepPolicy::new(CommitStep::adaptive(), 1, 512);
        let (mut page, pages, size) = (0, 10_000, PageSize::of(4096));
        while page < pages {
            let wanted = policy.wanted(page, pages, size);
            assert!(wanted.end() <= pages && !wanted.is_empty());
            policy.note(wanted);
            page = wanted.end();
        }
    }

    #[test]
    fn a_single_page_and_fixed_blocks_stay_what_they_are_however_long_the_run() {
        let size = PageSize::of(4096);
        for (step, pages) in [(CommitStep::page(), 1), (CommitStep::fixed(40 << 10), 10)] {
            let policy = StepPolicy::new(step, 512, 0);
            for page in (0..100_000).step_by(pages) {
                let wanted = policy.wanted(page, PAGES, size);
                assert_eq!((wanted.first(), wanted.count()), (page, pages));
                policy.note(wanted);
            }
        }
    }

    #[test]
    fn several_runs_at_once_are_told_apart() {
        let policy = StepPolicy::new(CommitStep::adaptive(), 1, 0);
        let mut at: Vec<usize> = (0..STREAMS).map(|i| i * 1_000_000).collect();
        let mut faults = 0;
        while at[0] < 10_000 {
            for next in &mut at {
                *next = touch(&policy, *next).end();
                faults += 1;
            }
        }
        assert!(faults / STREAMS < 120, "{faults} faults");
    }

    #[test]
    fn scattered_pages_stay_single() {
        let policy = StepPolicy::new(CommitStep::adaptive(), 1, 0);
        for i in 0..10_000 {
            assert_eq!(touch(&policy, i * 7919 % 1_000_003 * 3).count(), 1);
        }
    }

    #[test]
    fn with_huge_pages_every_commit_is_made_of_whole_ones() {
        let policy = StepPolicy::new(CommitStep::adaptive(), 512, 0);
        for page in [700, 1024, 5000, 4607] {
            let wanted = touch(&policy, page);
            assert!(
                wanted.first().is_multiple_of(512)
                    && wanted.end().is_multiple_of(512)
                    && !wanted.is_empty()
            );
        }
        let size = PageSize::of(4096);
        assert_eq!(policy.wanted(900, 1000, size), size.pages(512, 1000));
    }

    #[test]
    fn fixed_blocks_are_aligned_and_clamped_to_the_region() {
        let policy = StepPolicy::new(CommitStep::fixed(65_536), 1, 0);
        let size = PageSize::of(4096);
        assert_eq!(policy.wanted(17, 100, size), size.pages(16, 32));
        assert_eq!(policy.wanted(98, 100, size), size.pages(96, 100));
        let odd = StepPolicy::new(CommitStep::fixed(0), 1, 0);
        assert_eq!(odd.wanted(5, 100, size), size.pages(5, 6));
        let all = StepPolicy::new(CommitStep::fixed(usize::MAX), 1, 0);
        assert_eq!(all.wanted(5, 100, size), size.pages(0, 100));
    }
}
