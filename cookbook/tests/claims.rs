//! What README.md says about costs is measured here, or stands in the tables of docs/benchmarks.md.

use pagewise::{DemandRegion, PageVec};

const README: &str = include_str!("../../README.md");
const TABLES: &str = include_str!("../../docs/benchmarks.md");

/// README says this, if its lines are joined.
fn says(words: &str) {
    let text = README.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains(words), "README.md no longer says {words:?}");
}

/// Case, rival, ratio, and rounds of every row that has a ratio.
fn rows() -> Vec<[&'static str; 4]> {
    let rows = TABLES.lines().filter_map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let &[_, case, rival, _, _, _, ratio, rounds, ..] = &cells[..] else { return None };
        Some([case, rival, ratio.strip_prefix("**")?.strip_suffix("**")?, rounds])
    });
    rows.collect()
}

fn ratio(case: &str, rival: &str) -> (&'static str, &'static str) {
    let rows = rows();
    let row = rows.iter().find(|row| row[0] == case && row[1] == rival).expect("it is measured");
    (row[2], row[3])
}

#[test]
fn a_small_vector_costs_64_kib_and_two_mappings() {
    says("costs 64 KiB of commit charge, two memory mappings");
    let mappings = || {
        let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
        Some(maps.lines().count())
    };
    let before = mappings();
    let vectors: Vec<PageVec<u64>> = (0..500)
        .map(|number| {
            let mut vector = PageVec::new(1 << 20).expect("addresses");
            vector.push(number);
            vector
        })
        .collect();
    assert!(vectors.iter().all(|vector| vector.committed() == 64 << 10));
    // (Linux; elsewhere, mappings are no limit.)
    if let (Some(before), Some(after)) = (before, mappings()) {
        assert!((990..=1040).contains(&(after - before)), "{before} and {after} mappings");
    }
}

#[test]
fn what_is_said_of_fills_is_in_the_tables() {
    let small = ["a store to each page", "every byte"];
    let mut small = small.map(|case| ratio(case, "kernel demand paging, 4 KiB").0);
    small.sort_unstable();
    says(
        "A fill is faster than the kernel's demand paging when it is sequential and pages are small",
    );
    says(&format!("{} to {} of its time in pages of 4 KiB", small[0], small[1]));
    assert!(small[1] < "1", "{small:?}");
    let (huge, interval) = ratio(
        "a store to each page, transparent huge pages",
        "kernel demand paging, transparent huge pages",
    );
    says(&format!("pagewise gains nothing ({huge}, from {interval})"));
    let (_, high) = interval.split_once(" to ").expect("both ends");
    assert!(high > "1", "it gains something: {interval}");
}

#[test]
fn what_is_said_of_scattered_pages_is_in_the_tables() {
    let is_default = |case: &str| !case.contains("Engine::") && !case.contains("worst touch");
    let mut ratios: Vec<f64> = rows()
        .iter()
        .filter(|[case, rival, ..]| {
            is_default(case) && *rival == "kernel demand paging, no reserve"
        })
        .map(|row| row[2].parse().expect("a ratio"))
        .collect();
    ratios.sort_by(f64::total_cmp);
    let [least, .., most, worst] = ratios[..] else { panic!("too few rows: {ratios:?}") };
    says(&format!(
        "{least:.1} to {most:.0} times as long as the kernel's own demand paging in all rows of"
    ));
    says(&format!("but one, and {worst:.0} times in that one"));
}

#[test]
fn what_is_said_of_short_lives_is_in_the_tables() {
    says("Making and dropping one takes system calls: 2 to 5 µs");
    let microseconds = |case: &str, rival: &str| {
        let row = TABLES.lines().find(|line| line.starts_with(&format!("| {case} | {rival} |")));
        let cell = row.and_then(|row| row.split('|').nth(4)).expect("it is measured");
        cell.trim().replace(',', "").parse::<f64>().expect("a number") / 1000.0
    };
    for case in ["create and drop a DemandRegion, by length", "reserve and release"] {
        assert!((2.0..=5.0).contains(&microseconds(case, "pagewise, 1 MiB")), "{case}");
    }
}

#[test]
fn a_limit_is_never_exceeded_and_does_not_count_page_tables() {
    says("They do not count page tables");
    let mut region = DemandRegion::builder(1 << 40).limit(64 << 20).build().expect("addresses");
    let stopped = region.fill(.., 7).expect_err("it is longer than its limit");
    assert_eq!((stopped.copied, region.stats().peak), (64 << 20, 64 << 20));
}
