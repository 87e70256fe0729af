//! Results as rows: JSON for programs, a table for people.

use std::fmt::Write;

use serde::Serialize;

use crate::case::Target;
use crate::harness::{Finished, Measured};
use crate::machine::Machine;
use crate::noise::Noise;
use crate::sample::Footprint;
use crate::stats::{Ratio, Summary, Verdict};

/// One comparison with one rival.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    pub suite: &'static str,
    pub case: String,
    /// The rival's name.
    pub rival: String,
    /// The medians, in `unit`.
    pub ours: Option<f64>,
    pub theirs: Option<f64>,
    pub unit: &'static str,
    /// Ours divided by the rival's, with its interval.
    #[serde(skip)]
    pub ratio: Option<Ratio>,
    #[serde(skip)]
    pub target: Option<Target>,
    /// What the ratio must not exceed, and what it says about that.
    pub at_most: Option<f64>,
    pub verdict: Option<Verdict>,
    pub note: String,
    /// Page tables and mappings that the two took, where that was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ours_footprint: Option<Footprint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rival_footprint: Option<Footprint>,
}

/// All rows, and what they are worth.
pub struct Results {
    pub machine: Machine,
    pub rows: Vec<Row>,
    /// One for each suite.
    pub noise: Vec<Noise>,
}

/// What `--json` prints for a row: with the origin, so that rows of several runs can lie in one file.
#[derive(Serialize)]
pub struct Object<'a> {
    #[serde(flatten)]
    row: &'a Row,
    /// The ratio and its interval; null where one of the two is missing.
    ratio: Option<f64>,
    low: Option<f64>,
    high: Option<f64>,
    rounds: usize,
    /// The suite's A/A row.
    noise: Option<&'a Noise>,
    machine: &'a Machine,
}

impl Results {
    pub fn of(machine: Machine, finished: &[Finished]) -> Self {
        let noise = finished.chunk_by(|a, b| a.suite == b.suite).map(noise).collect::<Vec<_>>();
        let noisy = |suite| noise.iter().any(|noise| noise.suite == suite && noise.is_too_much());
        let rows = finished.iter().flat_map(|case| rows(case, noisy(case.suite))).collect();
        Self { machine, rows, noise }
    }

    pub fn noise_of(&self, suite: &str) -> Option<&Noise> {
        self.noise.iter().find(|noise| noise.suite == suite)
    }

    pub fn objects<'a>(&'a self) -> impl Iterator<Item = Object<'a>> {
        let object = |row: &'a Row| Object {
            row,
            ratio: row.ratio.map(|found| found.ratio),
            low: row.ratio.map(|found| found.low),
            high: row.ratio.map(|found| found.high),
            rounds: row.ratio.map_or(0, |found| found.rounds),
            noise: self.noise_of(row.suite),
            machine: &self.machine,
        };
        self.rows.iter().map(object)
    }

    /// One line for each suite whose noise allows no verdict.
    pub fn complaints(&self) -> impl Iterator<Item = String> {
        self.noise.iter().filter(|noise| noise.is_too_much()).map(Noise::complaint)
    }

    /// All rows under headings, ratios beside their targets.
    pub fn table(&self) -> String {
        let mut text = format!("{}\n", self.machine.line());
        for rows in self.rows.chunk_by(|a, b| a.suite == b.suite) {
            let spread = self.noise_of(rows[0].suite).map_or_else(String::new, Noise::spread);
            let _ = writeln!(text, "\n{}: the same twice (A/A): {spread}", rows[0].suite);
            rows.chunk_by(|a, b| a.case == b.case).for_each(|rows| text.push_str(&lines(rows)));
        }
        self.complaints().for_each(|complaint| text.push_str(&format!("\n{complaint}\n")));
        text
    }
}

/// The largest deviation of a suite's A/A rows from 1. Where a case has none, it is looked for in the others.
fn noise(cases: &[Finished]) -> Noise {
    let counts = cases.iter().filter(|finished| finished.part == finished.case.control_part);
    let controls = counts.flat_map(|finished| {
        let at = finished.case.subjects.iter().position(|subject| subject.control);
        at.map(|at| (finished, ratio_to(finished, at)))
    });
    let far = |ratio: &Option<Ratio>| ratio.map_or(f64::INFINITY, |found| found.ratio.ln().abs());
    let worst = controls.max_by(|(_, a), (_, b)| far(a).total_cmp(&far(b)));
    let (case, ratio) = match worst {
        Some((finished, ratio)) => (finished.case.name.clone(), ratio),
        None => ("no A/A row among these cases".into(), None),
    };
    Noise { suite: cases[0].suite, case, ratio }
}

fn ratio_to(finished: &Finished, subject: usize) -> Option<Ratio> {
    let (ours, theirs) = (&finished.measured[0], &finished.measured[subject]);
    Ratio::of(&ours.values, &theirs.values, finished.seed)
}

/// One row for each rival of a case. In a suite that is too noisy, no ratio of times allows a verdict.
pub fn rows(finished: &Finished, noisy: bool) -> Vec<Row> {
    let case = &finished.case;
    let ours = &finished.measured[0];
    let rivals = finished.measured.iter().zip(&case.subjects).enumerate().skip(1);
    let row = |(number, (rival, subject)): (usize, (&Measured, &crate::case::Subject))| {
        let median = |of: &Measured| Summary::of(&of.values).map(|all| all.median);
        let ratio = ratio_to(finished, number);
        let target = subject.targets.iter().find(|target| target.part == finished.part).copied();
        let verdict = |target: Target| match ratio {
            Some(found) if case.counted => counted(found.ratio, target.bound),
            Some(found) if !noisy => found.verdict(target.bound),
            _ => Verdict::Inconclusive,
        };
        Row {
            suite: finished.suite,
            case: case.name.clone(),
            rival: rival.name.clone(),
            ours: median(ours),
            theirs: median(rival),
            unit: case.unit,
            ratio,
            target,
            at_most: target.map(|target| target.bound),
            verdict: target.map(verdict),
            note: note(ours, rival),
            ours_footprint: ours.footprint,
            rival_footprint: rival.footprint,
        }
    };
    rivals.map(row).collect()
}

/// What was counted is exact: one round is enough, and no noise changes it.
fn counted(ratio: f64, bound: f64) -> Verdict {
    if ratio <= bound { Verdict::Kept } else { Verdict::Missed }
}

fn note(ours: &Measured, rival: &Measured) -> String {
    let said = |of: &Measured| of.missing.clone().or(of.note.clone());
    let ours = said(ours).map(|note| format!("ours: {note}"));
    let rival = said(rival).map(|note| format!("rival: {note}"));
    ours.into_iter().chain(rival).collect::<Vec<_>>().join("; ")
}

/// How a verdict is shown.
pub fn mark(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Kept => "✓",
        Verdict::Missed => "✗",
        Verdict::Inconclusive => "inconclusive",
    }
}

impl Row {
    /// Whether page tables and mappings were looked at.
    pub fn has_footprints(&self) -> bool {
        self.ours_footprint.is_some() || self.rival_footprint.is_some()
    }

    /// Whether the rival is pagewise, too: with other settings, or in the A/A row.
    pub fn is_against_ours(&self) -> bool {
        is_ours(&self.rival)
    }

    /// A number of both footprints: ours, and the rival's.
    pub fn footprints(&self, of: fn(Footprint) -> usize) -> String {
        let text = |side: Option<Footprint>| {
            side.map_or_else(|| "–".into(), |footprint| grouped(&of(footprint).to_string()))
        };
        format!("{} / {}", text(self.ours_footprint), text(self.rival_footprint))
    }

    /// The verdict, the bound and the aim; nothing where there is no bound.
    pub fn judged(&self) -> String {
        let (Some(target), Some(verdict)) = (self.target, self.verdict) else {
            return String::new();
        };
        format!("{} {} ({})", mark(verdict), target.bound, target.aim)
    }
}

/// Whether a subject of this name is pagewise.
pub fn is_ours(name: &str) -> bool {
    name.starts_with("pagewise")
}

fn lines(rows: &[Row]) -> String {
    let ours = rows[0].ours.map_or_else(|| "-".into(), number);
    let heading = format!("  {}   (ours {ours} {})\n", rows[0].case, rows[0].unit);
    heading + &rows.iter().map(line).collect::<String>()
}

fn line(row: &Row) -> String {
    let ratio = row.ratio.map_or_else(
        || format!("{:>7}", "-"),
        |found| format!("{:>7.3} ({:.3} to {:.3})", found.ratio, found.low, found.high),
    );
    let value = row.theirs.map_or_else(|| "-".into(), number);
    let mut remarks = row.note.clone();
    if row.has_footprints() {
        let tables = row.footprints(|of| of.page_tables_kib);
        let mappings = row.footprints(|of| of.mappings);
        let between = if remarks.is_empty() { "" } else { "; " };
        let _ = write!(remarks, "{between}page tables {tables} KiB; mappings {mappings}");
    }
    let judged = row.judged();
    let line = format!("    {:<52} {value:>12} {ratio:<26} {judged:<24} {remarks}", row.rival);
    format!("{}\n", line.trim_end())
}

/// Three significant digits or so, with separators.
pub fn number(value: f64) -> String {
    if value < 100.0 {
        return format!("{value:.2}");
    }
    grouped(&format!("{value:.0}"))
}

/// Digits with separators.
pub fn grouped(digits: &str) -> String {
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Case;
    use crate::sample::Sample;

    fn measured(name: &str, values: &[f64], missing: Option<&str>) -> Measured {
        Measured {
            name: name.into(),
            values: values.into(),
            note: None,
            footprint: None,
            missing: missing.map(str::to_owned),
        }
    }

    /// Ours takes about half as long as the kernel; the A/A row's ratio is `control`.
    fn finished(control: f64) -> Finished {
        let ours: Vec<f64> = (0..9).map(|round| 50.0 + f64::from(round)).collect();
        let times = |factor: f64| ours.iter().map(|value| value * factor).collect::<Vec<_>>();
        Finished {
            suite: "fill",
            about: "",
            part: "",
            seed: 1,
            case: Case::new("case", "ns/page", |_| Sample::of(0.0))
                .control()
                .rival("kernel", |_| Sample::of(0.0))
                .target(0.75, 0.62)
                .rival("gone", |_| Sample::absent("not installed"))
                .target(1.0, 1.0),
            measured: vec![
                measured("pagewise", &ours, None),
                measured("pagewise again (A/A)", &times(1.0 / control), None),
                measured("kernel", &times(2.0), None),
                measured("gone", &[], Some("ABSENT: not installed")),
            ],
        }
    }

    fn results(control: f64) -> Results {
        Results::of(Machine::imagined(), &[finished(control)])
    }

    #[test]
    fn json_has_the_documented_keys_and_the_ratio_is_ours_divided_by_theirs() {
        let results = results(1.0);
        let json = serde_json::to_value(results.objects().collect::<Vec<_>>()).unwrap();
        let mut keys: Vec<_> = json[1].as_object().unwrap().keys().cloned().collect();
        keys.sort_unstable();
        let expected = "at_most case high low machine noise note ours ratio rival rounds suite theirs unit verdict";
        assert_eq!(keys.join(" "), expected);
        let mut of_missing: Vec<_> = json[2].as_object().unwrap().keys().cloned().collect();
        of_missing.sort_unstable();
        assert_eq!(of_missing, keys);
        assert_eq!((&json[1]["ratio"], &json[1]["rival"]), (&0.5.into(), &"kernel".into()));
        assert_eq!((&json[1]["verdict"], &json[1]["at_most"]), (&"kept".into(), &0.75.into()));
        assert_eq!(json[1]["noise"]["ratio"], 1.0);
        assert_eq!(json[1]["machine"]["processor"], "Abacus");
    }

    #[test]
    fn a_missing_rival_is_a_row_that_says_so_and_has_no_verdict() {
        let results = results(1.0);
        let gone = &results.rows[2];
        assert_eq!(
            (gone.theirs, gone.ratio, gone.verdict),
            (None, None, Some(Verdict::Inconclusive))
        );
        assert_eq!(gone.note, "rival: ABSENT: not installed");
        let table = results.table();
        assert!(table.contains("ABSENT") && table.contains("✓ 0.75 (0.62)"), "{table}");
        assert!(table.contains("Abacus") && table.contains("A/A): 1.000"), "{table}");
        assert!(!table.contains("too noisy"), "{table}");
    }

    #[test]
    fn a_noisy_machine_says_so_names_the_row_and_gives_no_verdict() {
        let results = results(1.06);
        assert_eq!(results.rows[1].ratio.unwrap().ratio, 0.5);
        assert_eq!(results.rows[1].verdict, Some(Verdict::Inconclusive));
        let table = results.table();
        assert!(table.contains("too noisy for a verdict: fill: case"), "{table}");
        assert!(table.contains("inconclusive 0.75 (0.62)"), "{table}");
        // What is counted does not depend on noise.
        let mut counting = finished(1.06);
        counting.case = counting.case.counted();
        assert_eq!(rows(&counting, true)[1].verdict, Some(Verdict::Kept));
    }

    #[test]
    fn without_an_a_a_row_there_is_no_verdict() {
        let mut without = finished(1.0);
        without.case.subjects.remove(1);
        without.measured.remove(1);
        let results = Results::of(Machine::imagined(), &[without]);
        assert_eq!(results.rows[0].verdict, Some(Verdict::Inconclusive));
        assert!(results.complaints().next().unwrap().contains("no A/A row"));
    }

    #[test]
    fn the_worst_of_several_a_a_rows_counts_and_other_suites_keep_their_verdicts() {
        let other = Finished { suite: "fault", ..finished(1.0) };
        let cases = [finished(1.01), finished(0.9), finished(1.02), other];
        let results = Results::of(Machine::imagined(), &cases);
        assert!((results.noise[0].ratio.unwrap().ratio - 0.9).abs() < 1e-9);
        let verdicts: Vec<_> = results
            .rows
            .iter()
            .filter(|row| row.rival == "kernel")
            .map(|row| row.verdict)
            .collect();
        let (none, kept) = (Some(Verdict::Inconclusive), Some(Verdict::Kept));
        assert_eq!(verdicts, [none, none, none, kept]);
    }

    #[test]
    fn of_a_case_with_parts_the_chosen_parts_a_a_row_counts() {
        let part = |part, control| {
            let mut finished = Finished { part, ..finished(control) };
            finished.case.control_part = "p99";
            finished
        };
        let results = Results::of(Machine::imagined(), &[part("p99", 1.01), part("worst", 3.0)]);
        assert!((results.noise[0].ratio.unwrap().ratio - 1.01).abs() < 1e-9);
    }

    #[test]
    fn page_tables_and_mappings_are_shown_where_they_were_looked_at() {
        let mut finished = finished(1.0);
        let footprint = |page_tables_kib, mappings| Some(Footprint { page_tables_kib, mappings });
        finished.measured[0].footprint = footprint(1234, 30);
        finished.measured[2].footprint = footprint(788, 20);
        let results = Results::of(Machine::imagined(), &[finished]);
        let json = serde_json::to_value(&results.rows[1]).unwrap();
        assert_eq!(json["ours_footprint"]["page_tables_kib"], 1234);
        assert_eq!(json["rival_footprint"]["mappings"], 20);
        let table = results.table();
        assert!(table.contains("page tables 1,234 / 788 KiB; mappings 30 / 20"), "{table}");
        assert!(table.contains("page tables 1,234 / – KiB; mappings 30 / –"), "{table}");
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(["1,234,568", "999", "1.50"], [1_234_567.8, 999.2, 1.5].map(number)[..]);
    }
}
