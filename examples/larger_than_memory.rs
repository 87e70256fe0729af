//! Sorts an array of numbers that is eight times as large as the memory it may take, in a file.
//!
//! By a merge sort whose runs fit into memory: all of it is plain slices; the pages come and go by themselves.

use std::error::Error;

use pagewise::{FileStore, PageStore, PagedArray, PagedRegion, PagedState};

const NUMBERS: usize = 4 << 20;
const LIMIT: usize = NUMBERS * size_of::<u64>() / 8;
const RUN: usize = LIMIT / size_of::<u64>() / 4;

fn main() -> Result<(), Box<dyn Error>> {
    let names = ["numbers", "sorted"]
        .map(|name| std::env::temp_dir().join(format!("pagewise-{name}-{}", std::process::id())));
    let result = sort(&names[0], &names[1]);
    names.iter().for_each(|path| _ = std::fs::remove_file(path));
    match result {
        // There are no paged regions on this system.
        Err(error) if is_unsupported(&*error) => {
            println!("{error}");
            Ok(())
        }
        other => other,
    }
}

fn is_unsupported(error: &(dyn Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(pagewise::Error::Unsupported { .. }))
}

fn array(path: &std::path::Path) -> Result<PagedArray<u64, FileStore>, pagewise::Error> {
    let store = FileStore::create(path, (NUMBERS * size_of::<u64>()) as u64)?;
    // SAFETY: nobody else writes to the file.
    unsafe {
        PagedArray::new(PagedRegion::builder(store).page_bytes(16 << 10).limit(LIMIT / 2).build()?)
    }
}

fn sort(unsorted: &std::path::Path, sorted: &std::path::Path) -> Result<(), Box<dyn Error>> {
    let (mut numbers, mut target) = (array(unsorted)?, array(sorted)?);
    println!("{NUMBERS} numbers, {} MiB; at most {} MiB in memory", NUMBERS >> 17, LIMIT >> 20);

    let mut number = 1u64;
    for place in &mut numbers[..] {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *place = number;
    }
    let sum = numbers.iter().fold(0u64, |sum, &number| sum.wrapping_add(number));
    picture("filled", &numbers)?;

    for run in numbers.chunks_mut(RUN) {
        run.sort_unstable();
    }
    picture("runs sorted", &numbers)?;

    merge(&numbers, &mut target);
    target.flush(..)?;
    picture("merged", &target)?;

    assert!(target.is_sorted());
    assert_eq!(target.iter().fold(0u64, |sum, &number| sum.wrapping_add(number)), sum);
    let stats = target.stats();
    println!(
        "sorted: {} loads, {} evictions, {} written back",
        stats.loads, stats.evictions, stats.write_backs
    );
    Ok(())
}

/// Merges all runs at once: each is read from its start to its end.
fn merge(numbers: &[u64], target: &mut [u64]) {
    let mut runs: Vec<_> = numbers.chunks(RUN).collect();
    for place in target {
        let first = |run: &&mut &[u64]| run.first().copied().unwrap_or(u64::MAX);
        let run = runs.iter_mut().min_by_key(first).expect("there are runs");
        let Some((&least, rest)) = run.split_first() else { return };
        (*place, *run) = (least, rest);
    }
}

/// Where the pages are: a dot for those that are only in the file, `o` for clean ones, `x` for changed ones.
fn picture<S: PageStore>(what: &str, array: &PagedArray<u64, S>) -> Result<(), Box<dyn Error>> {
    let map = array.region().page_map(..)?;
    let line: String = map
        .chunks(map.len().div_ceil(64))
        .map(|part| match part {
            _ if part.contains(&PagedState::Dirty) => 'x',
            _ if part.contains(&PagedState::Clean) => 'o',
            _ => '.',
        })
        .collect();
    println!("{what:>12} [{line}] {:2} MiB", array.stats().resident >> 20);
    Ok(())
}
