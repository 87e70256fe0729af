//! A table in a store, read by several processes at once, each with a little memory of its own.
//!
//! The first process writes the table, and starts the readers; each looks up elements here and there.

use std::error::Error;
use std::process::{Command, ExitCode};

use pagewise::{FileStore, PagedArray, PagedRegion};

const ELEMENTS: usize = 1 << 20;
const READERS: u32 = 3;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().collect();
    let done = match &arguments[1..] {
        [path, seed] => read(path, seed.parse().unwrap_or(1)),
        _ => write_and_start_readers(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // There are no paged regions on this system.
        Err(error) if matches!(error.downcast_ref(), Some(pagewise::Error::Unsupported { .. })) => {
            println!("{error}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// What the element at `index` is.
fn element(index: usize) -> u64 {
    (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn write_and_start_readers() -> Result<(), Box<dyn Error>> {
    let path = std::env::temp_dir().join(format!("pagewise-dataset-{}", std::process::id()));
    let result = write(&path).and_then(|()| {
        let program = std::env::current_exe()?;
        let readers: Result<Vec<_>, _> = (1..=READERS)
            .map(|seed| Command::new(&program).arg(&path).arg(seed.to_string()).spawn())
            .collect();
        for mut reader in readers? {
            let status = reader.wait()?;
            if !status.success() {
                return Err(format!("a reader ended with {status}").into());
            }
        }
        Ok(())
    });
    let _ = std::fs::remove_file(&path);
    result
}

fn write(path: &std::path::Path) -> Result<(), Box<dyn Error>> {
    let store = FileStore::create(path, (ELEMENTS * size_of::<u64>()) as u64)?;
    let region = PagedRegion::builder(store).limit(1 << 20).build()?;
    // SAFETY: nobody else writes to the file.
    let mut table = unsafe { PagedArray::new(region)? };
    for (index, place) in table.iter_mut().enumerate() {
        *place = element(index);
    }
    // From here on it is in the file, for everybody.
    Ok(table.flush(..)?)
}

fn read(path: &str, seed: u64) -> Result<(), Box<dyn Error>> {
    let store = FileStore::builder(path).read_only(true).open()?;
    let region =
        PagedRegion::builder(store).page_bytes(page_bytes()).limit(1 << 20).read_only().build()?;
    // SAFETY: nobody writes to the file any more.
    let table = unsafe { PagedArray::<u64, _>::read_only(region) };
    let mut at = seed;
    for _ in 0..20_000 {
        at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(seed);
        let index = (at >> 40) as usize % ELEMENTS;
        assert_eq!(table[index], element(index));
    }
    let stats = table.stats();
    println!(
        "reader {seed}: 20000 lookups, {} pages read, {} KiB of {} MiB in memory",
        stats.loads,
        stats.resident >> 10,
        ELEMENTS >> 17
    );
    Ok(())
}

/// Small pages suit accesses here and there.
fn page_bytes() -> usize {
    pagewise::page_size()
}
