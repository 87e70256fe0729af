//! Churns regions for a while: faults from several threads, limits, refusals, explicit commits and
//! decommits, forks, releases. Every word that is written holds its own position, and is checked; at the end
//! every counter must equal what the program did.
//!
//! ```text
//! cargo run --release --example soak -- --seconds 600 [--threads 4]
//! ```

use std::ops::Range;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use fastrand::Rng;
use pagewise::{Budget, CommitStep, DemandRegion, Error, FaultOutcome, RefusalReason, page_size};

/// What happened, in all regions together.
#[derive(Debug, Default)]
struct Totals {
    regions: u64,
    faults: u64,
    raced: u64,
    refused: u64,
    /// Refusals that the program got to see, as errors.
    refusals_seen: u64,
    /// Pages that faults committed, according to the events.
    by_fault: u64,
    /// Pages that explicit commits added.
    by_commit: u64,
    decommitted: u64,
    /// Pages that were committed when their region was released.
    released: u64,
    commits_refused: u64,
    words_checked: u64,
    forks: u64,
}

impl Totals {
    fn add(&mut self, other: Totals) {
        self.regions += other.regions;
        self.faults += other.faults;
        self.raced += other.raced;
        self.refused += other.refused;
        self.refusals_seen += other.refusals_seen;
        self.by_fault += other.by_fault;
        self.by_commit += other.by_commit;
        self.decommitted += other.decommitted;
        self.released += other.released;
        self.commits_refused += other.commits_refused;
        self.words_checked += other.words_checked;
        self.forks += other.forks;
    }
}

fn main() {
    let (mut seconds, mut threads) = (10, 4);
    let mut arguments = std::env::args().skip(1);
    while let (Some(name), value) = (arguments.next(), arguments.next()) {
        let number = value.and_then(|value| value.parse().ok());
        match (name.as_str(), number) {
            ("--seconds", Some(number)) => seconds = number,
            ("--threads", Some(number)) if number > 0 => threads = number,
            _ => {
                eprintln!("usage: soak [--seconds N] [--threads N]");
                std::process::exit(2);
            }
        }
    }
    // The first region brings the handler; what there is afterwards is the baseline.
    drop(DemandRegion::new(1).expect("a region"));
    let (mappings_before, resident_before) = (mappings(), resident());
    let budget = Budget::new((threads as usize * 48) << 20);
    let (totals, start) = (Mutex::new(Totals::default()), Instant::now());
    let end = start + Duration::from_secs(seconds);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (totals, budget) = (&totals, budget.clone());
            scope.spawn(move || {
                let mut random = Rng::with_seed(thread);
                while Instant::now() < end {
                    let one = one_region(&mut random, &budget);
                    totals.lock().expect("no thread panicked").add(one);
                }
            });
        }
    });
    let totals = totals.into_inner().expect("no thread panicked");
    println!("{:.0} s, {threads} threads: {totals:#?}", start.elapsed().as_secs_f64());
    println!("budget: {} of {} bytes used, peak {}", budget.used(), budget.limit(), budget.peak());
    if let (Some(before), Some(after)) = (mappings_before, mappings()) {
        println!("mappings: {before} before, {after} after");
        // The stacks and heaps of threads stay for the next ones. Regions came by the thousand.
        assert!(after <= before + 64 * threads as usize, "mappings are left over");
    }
    if let (Some(before), Some(after)) = (resident_before, resident()) {
        println!("resident: {} KiB before, {} KiB after", before >> 10, after >> 10);
        assert!(after <= before + (8 << 20) * threads as usize, "memory is left over");
    }
    assert_eq!(budget.used(), 0, "everything was released");
    assert!(budget.peak() <= budget.limit());
    assert_eq!(totals.refused, totals.refusals_seen, "each refusal is one error");
    assert_eq!(
        totals.by_fault + totals.by_commit,
        totals.decommitted + totals.released,
        "each page that was committed was decommitted or released"
    );
    assert!(!pagewise::fault::is_displaced());
    println!("every counter is explained");
}

/// Makes a region, uses it in random ways, and releases it.
fn one_region(random: &mut Rng, budget: &Budget) -> Totals {
    let mut region = any_region(random, budget);
    let mut totals = Totals { regions: 1, ..Totals::default() };
    let mut written = vec![false; region.len() / page_size()];
    for _ in 0..1 + random.usize(..12) {
        match random.usize(..8) {
            0..=2 => scatter(&mut region, random, &mut written, &mut totals),
            3 => together(&region, random, &mut totals),
            4 => decommit(&mut region, random, &mut written, &mut totals),
            5 => commit(&region, random, &mut totals),
            6 => check(&region, &written, &mut totals),
            _ if random.usize(..16) == 0 => fork(&region, &written, &mut totals),
            _ => {}
        }
        drain(&region, &mut totals);
    }
    check(&region, &written, &mut totals);
    drain(&region, &mut totals);
    let stats = region.stats();
    assert_eq!(stats.events_lost, 0);
    assert!(stats.committed <= stats.peak && stats.peak <= stats.limit);
    totals.faults = stats.faults;
    totals.raced = stats.raced;
    totals.refused = stats.refused;
    totals.released = (stats.committed / page_size()) as u64;

    region.release().expect("release");
    totals
}

/// A region of one to some thousand pages, with room for all of its events.
fn any_region(random: &mut Rng, budget: &Budget) -> DemandRegion {
    let page = page_size();
    let magnitude = random.usize(..14);
    let pages = 1 + random.usize(..1 << magnitude);
    let limit = 1 + random.usize(..pages + pages / 4 + 1);
    let step = match random.usize(..4) {
        0 => CommitStep::page(),
        1 => CommitStep::fixed(page << random.usize(..6)),
        _ => CommitStep::adaptive(),
    };
    DemandRegion::builder(pages * page)
        .limit(limit * page)
        .budget(budget.clone())
        .step(step)
        .events(4 * pages + 1024)
        .build()
        .expect("a region")
}

/// Up to 64 neighbouring pages of a region that has so many.
fn some_pages(random: &mut Rng, pages: usize) -> Range<usize> {
    let first = random.usize(..pages);
    first..pages.min(first + 1 + random.usize(..64))
}

fn decommit(
    region: &mut DemandRegion,
    random: &mut Rng,
    written: &mut [bool],
    totals: &mut Totals,
) {
    let (page, range) = (page_size(), some_pages(random, written.len()));
    let before = region.committed();
    region.decommit(range.start * page..range.end * page).expect("decommit");
    totals.decommitted += ((before - region.committed()) / page) as u64;
    written[range].fill(false);
}

/// Commits explicitly, as far as the limits allow it.
fn commit(region: &DemandRegion, random: &mut Rng, totals: &mut Totals) {
    let page = page_size();
    let range = some_pages(random, region.len() / page);
    let before = region.committed();
    match region.commit(range.start * page..range.end * page) {
        Ok(()) => {}
        Err(Error::LimitReached { .. } | Error::BudgetReached { .. }) => {
            totals.commits_refused += 1
        }
        Err(other) => panic!("{other}"),
    }
    totals.by_commit += ((region.committed() - before) / page) as u64;
}

/// What a word of a page holds, if anything was written to the page.
fn word(page: usize) -> u64 {
    (page as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn scatter(region: &mut DemandRegion, random: &mut Rng, written: &mut [bool], totals: &mut Totals) {
    let (page, sequential) = (page_size(), random.usize(..2) == 0);
    let mut at = random.usize(..written.len());
    for _ in 0..random.usize(..200) {
        at = if sequential { (at + 1) % written.len() } else { random.usize(..written.len()) };
        match region.write(at * page + at % 500 * 8, &word(at).to_le_bytes()) {
            Ok(()) => written[at] = true,
            Err(error) => {
                assert_eq!(error.copied, 0);
                assert!(
                    matches!(
                        error.refusal.reason,
                        RefusalReason::Limit { .. } | RefusalReason::Budget { .. }
                    ),
                    "{error}"
                );
                totals.refusals_seen += 1;
            }
        }
    }
}

/// Several threads touch the same few pages at once.
fn together(region: &DemandRegion, random: &mut Rng, totals: &mut Totals) {
    let page = page_size();
    let first = random.usize(..region.len() / page);
    let refused: u64 = std::thread::scope(|scope| {
        let touch = || {
            let mut byte = [0];
            let read = |at| region.read(at * page, &mut byte).is_err();
            (first..region.len() / page).take(8).map(read).map(u64::from).sum::<u64>()
        };
        let threads = [(); 3].map(|()| scope.spawn(touch));
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    });
    totals.refusals_seen += refused;
}

fn check(region: &DemandRegion, written: &[bool], totals: &mut Totals) {
    let page = page_size();
    for (at, _) in written.iter().enumerate().filter(|(_, written)| **written) {
        let mut bytes = [0; 8];
        region.read(at * page + at % 500 * 8, &mut bytes).expect("it was written");
        assert_eq!(u64::from_le_bytes(bytes), word(at), "page {at}");
        totals.words_checked += 1;
    }
}

/// Takes the events, and counts the pages that faults committed.
fn drain(region: &DemandRegion, totals: &mut Totals) {
    for event in region.events() {
        if let FaultOutcome::Committed { len, .. } = event.outcome {
            totals.by_fault += (len / page_size()) as u64;
        }
    }
}

/// A child that sees all the memory, and faults on its own.
#[cfg(unix)]
fn fork(region: &DemandRegion, written: &[bool], totals: &mut Totals) {
    // SAFETY: the child only does what is async-signal-safe: it touches memory, and exits.
    match unsafe { libc::fork() } {
        0 => {
            let page = page_size();
            let wrong =
                written.iter().enumerate().filter(|(_, written)| **written).any(|(at, _)| {
                    let mut bytes = [0; 8];
                    let read = region.read(at * page + at % 500 * 8, &mut bytes);
                    read.is_err() || u64::from_le_bytes(bytes) != word(at)
                });
            let mut byte = [0];
            let last = region.read(region.len() - 1, &mut byte);
            let too_much = region.committed() > region.stats().limit && last.is_ok();
            // SAFETY: leaves without running anything else of the program.
            unsafe { libc::_exit(i32::from(wrong || too_much)) }
        }
        child if child > 0 => {
            let mut status = 0;
            // SAFETY: our own child.
            assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
            assert_eq!(status, 0, "the child found everything in its place");
            totals.forks += 1;
        }
        _ => panic!("fork: {}", std::io::Error::last_os_error()),
    }
}

#[cfg(not(unix))]
fn fork(_: &DemandRegion, _: &[bool], _: &mut Totals) {}

fn mappings() -> Option<usize> {
    Some(std::fs::read_to_string("/proc/self/maps").ok()?.lines().count())
}

/// Bytes of memory that this process has at the moment.
fn resident() -> Option<usize> {
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(pages.split(' ').nth(1)?.parse::<usize>().ok()? * page_size())
}
