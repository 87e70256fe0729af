//! The suites: one file for each, which lists its cases.

use std::time::Instant;

use crate::case::{Case, Size};
use crate::sample::{Footprint, Sample};
use crate::system;
use crate::work::Opened;

mod adaptive;
mod append;
mod arena;
mod array;
mod attempt;
mod churn;
mod fault;
mod fill;
mod fork;
mod latency;
#[cfg(target_os = "linux")]
mod paged;
mod read;
mod scale;
#[cfg(all(target_os = "linux", feature = "servers"))]
mod servers;
mod shared;
mod small;
mod sparse;
mod threads;
mod touches;

/// Cases that belong together.
pub struct Suite {
    pub name: &'static str,
    /// What it is about, in one line.
    pub about: &'static str,
    pub cases: fn() -> Vec<Case>,
    /// Bytes that its largest sample makes resident.
    pub needs: usize,
    /// Bytes that the largest of those in huge pages does.
    pub needs_huge: usize,
}

/// All suites, in the order of `all`.
pub const SUITES: &[Suite] = &[
    fill::SUITE,
    small::SUITE,
    fault::SUITE,
    attempt::SUITE,
    sparse::SUITE,
    touches::SUITE,
    threads::SUITE,
    append::SUITE,
    latency::SUITE,
    shared::SUITE,
    array::SUITE,
    arena::SUITE,
    read::SUITE,
    #[cfg(target_os = "linux")]
    paged::SUITE,
    #[cfg(all(target_os = "linux", feature = "servers"))]
    servers::SUITE,
    churn::SUITE,
    scale::SUITE,
    fork::SUITE,
    adaptive::SUITE,
];

/// The suite of a name; all of them for `all`.
pub fn named(name: &str) -> Vec<&'static Suite> {
    SUITES.iter().filter(|suite| name == "all" || suite.name == name).collect()
}

/// The mappings of the process, and its page tables without those that it had before.
fn footprint(tables_before: Option<usize>) -> Option<Footprint> {
    let grown = system::page_tables()?.saturating_sub(tables_before?);
    Some(Footprint { page_tables_kib: grown >> 10, mappings: system::mappings()? })
}

/// Opens an area of `len` bytes and does some work on it: the time of both, for each page.
///
/// `work` gets an address at which `len` bytes can be touched.
fn time_pages(
    len: usize,
    open: impl FnOnce(usize) -> Opened,
    work: unsafe fn(*mut u8, usize),
) -> Sample {
    let began = Instant::now();
    let mut area = match open(len) {
        Ok(area) => area,
        Err(why) => return Sample::absent(why),
    };
    // SAFETY: an open area can be touched over its length.
    unsafe { work(area.base(), len) };
    let sample = Sample::per(began.elapsed(), len / pagewise::page_size());
    match area.note() {
        Some(note) => sample.note(note),
        None => sample,
    }
}

/// A subject that opens an area whose length depends on the size, and works on it.
fn pages(
    len: fn(Size) -> usize,
    open: impl Fn(usize) -> Opened + 'static,
    work: unsafe fn(*mut u8, usize),
) -> impl Fn(Size) -> Sample + 'static {
    move |size| time_pages(len(size), &open, work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_suite_has_one_a_a_row_and_names_tell_cases_and_subjects_apart() {
        for suite in SUITES {
            let cases = (suite.cases)();
            // `--quick` needs it, too.
            let always = cases.iter().filter(|case| !case.full_only);
            let controls = always.flat_map(|case| &case.subjects).filter(|of| of.control);
            assert_eq!(controls.count(), 1, "{}", suite.name);
            for (number, case) in cases.iter().enumerate() {
                assert!(
                    cases[..number].iter().all(|other| other.name != case.name),
                    "{}",
                    case.name
                );
                for (number, subject) in case.subjects.iter().enumerate() {
                    let same = case.subjects[..number].iter().any(|of| of.name == subject.name);
                    assert!(!same, "{}: {}", case.name, subject.name);
                }
                assert!(crate::row::is_ours(&case.subjects[0].name), "{}", case.name);
            }
        }
    }
}
