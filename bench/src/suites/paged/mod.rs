//! paged: memory whose pages come from a file, beside a pool of buffers, `pread`, `mmap`, and a thread that serves faults.

mod confined;
mod file;
mod pool;
mod scans;
mod touches;

use pagewise::Expected;

use super::Suite;
use crate::case::{Case, Size};
use crate::sample::Sample;

pub const SUITE: Suite = Suite {
    name: "paged",
    about: "memory whose pages come from a file, which is in the system's cache",
    cases,
    needs: 512 << 20,
    needs_huge: 256 << 20,
};

/// What a subject ends with: a sample, or why there is none.
type Outcome = Result<Sample, Box<dyn std::error::Error>>;

/// A subject that is missing where there are no paged regions, or no such file can be made.
fn run(subject: impl Fn(Size) -> Outcome + 'static) -> impl Fn(Size) -> Sample + 'static {
    move |size| subject(size).unwrap_or_else(|error| Sample::absent(error.to_string()))
}

fn rescue(name: &str, direct: bool) -> Case {
    Case::new(name, "ns/touch", run(move |size| touches::rescues(size, direct)))
        .rival("pagewise, a load from the file", run(move |size| touches::loads(size, direct)))
        .target(0.7, 0.5)
}

fn cases() -> Vec<Case> {
    let pool = "a buffer pool: quick_cache over pread, 4 KiB";
    let mut cases = vec![
        Case::new("an element of a resident page, at random", "ns/element", run(touches::resident))
            .control()
            .rival("Vec of the same size", run(touches::plain))
            .target(1.02, 1.0)
            .rival(pool, run(pool::resident))
            .target(0.20, 0.05),
        Case::new(
            "an element of a resident page of 2 MiB, at random",
            "ns/element",
            run(touches::resident_huge),
        )
        .huge()
        .rival("Vec of the same size", run(touches::plain))
        .target(1.02, 1.0)
        .rival("Vec of the same size, in huge pages", run(touches::plain_huge))
        .target(1.02, 1.0)
        .huge(),
        Case::new("misses at random, 4 KiB, half resident", "ns/access", run(touches::misses))
            .rival(pool, run(pool::misses))
            .target(3.0, 1.5)
            .rival("mmap of the file, no limit", run(touches::mapped)),
        Case::new("first touches at random, 4 KiB", "ns/touch", run(touches::first))
            .rival("userspace-pagefault (a manager thread)", run(touches::manager_thread))
            .target(0.5, 0.3),
        Case::new(
            "misses at random, 2 threads",
            "ns/access",
            run(|size| touches::threads(size, 2)),
        )
        .rival("pagewise, 1 thread", run(|size| touches::threads(size, 1)))
        .target(0.625, 0.55),
        rescue("a page that was about to leave (rescue), file in the cache", false),
        rescue("a page that was about to leave (rescue), file on the disk", true).long(),
        Case::new("everything dirty is written back, 64 KiB", "ns/4 KiB", run(scans::write_back))
            .rival("pwrite of the same extents", run(scans::pwrite))
            .target(1.3, 1.05),
    ];
    let (told, not_told) = (Expected::Sequential, Expected::Anything);
    for (name, bytes, bound, aim) in [("2 MiB", 2 << 20, 1.6, 1.1), ("64 KiB", 64 << 10, 6.0, 3.5)]
    {
        let name = format!("scan of four times the limit, {name} pages, read-only");
        let of = move |read_only, expected| {
            run(move |size| scans::paged(size, bytes, read_only, expected))
        };
        cases.push(
            Case::new(format!("{name}, told to be sequential"), "ns/4 KiB", of(true, told))
                .rival("pread into a hot buffer of 1 MiB", run(scans::pread))
                .target(bound, aim)
                .rival("pagewise, not told", of(true, not_told))
                .rival("pagewise, for writing", of(false, told))
                .rival("mmap of the file, no limit", run(scans::mapped)),
        );
        let on = format!("{name}, nothing of which is in memory");
        cases.push(
            Case::new(name, "ns/4 KiB", of(true, not_told))
                .rival("pread into a hot buffer of 1 MiB", run(scans::pread))
                .target(bound, aim),
        );
        cases.push(
            Case::new(on, "ns/4 KiB", run(move |size| scans::paged_on(size, bytes)))
                .rival("pread into a hot buffer of 1 MiB", run(scans::pread))
                .target(bound, aim),
        );
    }
    let group = "a cgroup of a quarter, file not cached";
    cases.push(
        Case::new(format!("scan in {group}"), "ns/4 KiB", run(confined::scan_paged))
            .rival("mmap of the file, sequential, in such a group", run(confined::scan_mapped))
            .target(1.1, 0.7)
            .long(),
    );
    cases.push(
        Case::new(format!("random reads in {group}"), "ns/read", run(confined::random_paged))
            .rival("mmap of the file, random, in such a group", run(confined::random_mapped))
            .target(1.1, 0.7)
            .long(),
    );
    cases
}
