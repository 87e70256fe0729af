//! Results as rows: JSON for programs, a table for people.

use std::fmt::Write;

use serde::Serialize;

use crate::case::{Footprint, Target};
use crate::harness::{Finished, Measured};
use crate::stats::{Summary, ratio};

/// One comparison with one rival.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    pub suite: &'static str,
    pub case: String,
    pub rival: String,
    /// In `unit`, as all values here: nanoseconds for each operation in most cases.
    pub ours_ns: Option<f64>,
    pub rival_ns: Option<f64>,
    /// Ours divided by the rival's.
    pub ratio: Option<f64>,
    pub ratio_min: Option<f64>,
    pub ratio_max: Option<f64>,
    pub unit: &'static str,
    pub note: String,
    /// Page tables and mappings that the two took, where that was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ours_footprint: Option<Footprint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rival_footprint: Option<Footprint>,
    #[serde(skip)]
    pub target: Option<Target>,
}

/// One row for each rival of a case.
pub fn rows(finished: &Finished) -> Vec<Row> {
    let case = &finished.case;
    let [ours, rivals @ ..] = &finished.measured[..] else { return Vec::new() };
    rivals
        .iter()
        .zip(&case.subjects[1..])
        .map(|(rival, subject)| {
            let value = |of: &Measured| Summary::of(&of.values).map(|all| case.pick.from(all));
            let ratio = ratio(&ours.values, &rival.values, case.pick);
            Row {
                suite: finished.suite,
                case: case.name.clone(),
                rival: rival.name.clone(),
                ours_ns: value(ours),
                rival_ns: value(rival),
                ratio: ratio.map(|found| found.ratio),
                ratio_min: ratio.map(|found| found.min),
                ratio_max: ratio.map(|found| found.max),
                unit: case.unit,
                note: note(ours, rival),
                ours_footprint: ours.footprint,
                rival_footprint: rival.footprint,
                target: subject.target,
            }
        })
        .collect()
}

fn note(ours: &Measured, rival: &Measured) -> String {
    let said = |of: &Measured| of.missing.clone().or(of.note.clone());
    let ours = said(ours).map(|note| format!("ours: {note}"));
    let rival = said(rival).map(|note| format!("rival: {note}"));
    ours.into_iter().chain(rival).collect::<Vec<_>>().join("; ")
}

impl Row {
    /// Whether page tables and mappings were looked at.
    pub fn has_footprints(&self) -> bool {
        self.ours_footprint.is_some() || self.rival_footprint.is_some()
    }

    /// A number of both footprints: ours, and the rival's.
    pub fn footprints(&self, of: fn(Footprint) -> usize) -> String {
        let text = |side: Option<Footprint>| {
            side.map_or_else(|| "–".into(), |footprint| grouped(&of(footprint).to_string()))
        };
        format!("{} / {}", text(self.ours_footprint), text(self.rival_footprint))
    }

    /// Whether the ratio keeps its bound; `None` where it has none.
    fn verdict(&self) -> Option<&'static str> {
        let target = self.target?;
        Some(match self.ratio {
            Some(ratio) if ratio <= target.aim => "aim",
            Some(ratio) if ratio <= target.bound => "ok",
            _ => "MISSED",
        })
    }
}

/// All rows under headings, ratios beside their targets.
pub fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    let mut heading = None;
    for row in rows {
        if heading != Some((row.suite, &row.case)) {
            heading = Some((row.suite, &row.case));
            let ours = row.ours_ns.map_or_else(|| "-".into(), number);
            let _ = writeln!(text, "\n{}: {}   (ours {ours} {})", row.suite, row.case, row.unit);
        }
        let _ = writeln!(text, "{}", line(row));
    }
    text
}

fn line(row: &Row) -> String {
    let ratio = match (row.ratio, row.ratio_min, row.ratio_max) {
        (Some(ratio), Some(min), Some(max)) => format!("{ratio:>7.3} ({min:.3} to {max:.3})"),
        _ => format!("{:>7}", "-"),
    };
    let value = row.rival_ns.map_or_else(|| "-".into(), number);
    let target = row.target.map_or_else(String::new, |target| {
        let verdict = row.verdict().unwrap_or("");
        format!("at most {} ({}) {verdict}", target.bound, target.aim)
    });
    let mut remarks = row.note.clone();
    if row.has_footprints() {
        let tables = row.footprints(|of| of.page_tables_kib);
        let mappings = row.footprints(|of| of.mappings);
        let between = if remarks.is_empty() { "" } else { "; " };
        let _ = write!(remarks, "{between}page tables {tables} KiB; mappings {mappings}");
    }
    let line = format!("  {:<52} {value:>12} {ratio:<26} {target:<28} {remarks}", row.rival);
    line.trim_end().to_owned()
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
    use crate::case::{Case, Sample};

    fn measured(name: &str, values: &[f64], missing: Option<&str>) -> Measured {
        Measured {
            name: name.into(),
            values: values.into(),
            note: None,
            footprint: None,
            missing: missing.map(str::to_owned),
        }
    }

    fn finished() -> Finished {
        Finished {
            suite: "fill",
            about: "",
            case: Case::new("case", "ns/page", |_| Sample::of(0.0))
                .rival("kernel", |_| Sample::of(0.0))
                .target(0.75, 0.62)
                .rival("gone", |_| Sample::absent("not installed")),
            measured: vec![
                measured("pagewise", &[50.0, 60.0, 70.0], None),
                measured("kernel", &[100.0, 120.0, 100.0], None),
                measured("gone", &[], Some("ABSENT: not installed")),
            ],
        }
    }

    #[test]
    fn json_has_the_documented_keys_and_the_ratio_is_ours_divided_by_theirs() {
        let json = serde_json::to_value(rows(&finished())).unwrap();
        let mut keys: Vec<_> = json[0].as_object().unwrap().keys().cloned().collect();
        keys.sort_unstable();
        let expected = "case note ours_ns ratio ratio_max ratio_min rival rival_ns suite unit";
        assert_eq!(keys.join(" "), expected);
        assert_eq!(json[0]["ratio"], 0.6);
        assert_eq!((&json[0]["ratio_min"], &json[0]["ratio_max"]), (&0.5.into(), &0.7.into()));
    }

    #[test]
    fn a_missing_rival_is_a_row_that_says_so() {
        let rows = rows(&finished());
        assert_eq!((rows[1].rival_ns, rows[1].ratio), (None, None));
        assert_eq!(rows[1].note, "rival: ABSENT: not installed");
        let table = table(&rows);
        assert!(table.contains("ABSENT") && table.contains("at most 0.75 (0.62) aim"), "{table}");
    }

    #[test]
    fn page_tables_and_mappings_are_shown_where_they_were_looked_at() {
        let mut finished = finished();
        let footprint = |page_tables_kib, mappings| Some(Footprint { page_tables_kib, mappings });
        finished.measured[0].footprint = footprint(1234, 30);
        finished.measured[1].footprint = footprint(788, 20);
        let rows = rows(&finished);
        let json = serde_json::to_value(&rows[0]).unwrap();
        assert_eq!(json["ours_footprint"]["page_tables_kib"], 1234);
        assert_eq!(json["rival_footprint"]["mappings"], 20);
        let table = table(&rows);
        assert!(table.contains("page tables 1,234 / 788 KiB; mappings 30 / 20"), "{table}");
        assert!(table.contains("page tables 1,234 / – KiB; mappings 30 / –"), "{table}");
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(["1,234,568", "999", "1.50"], [1_234_567.8, 999.2, 1.5].map(number)[..]);
    }
}
