//! Results as Markdown, between two marks of a document.

use std::fmt::Write;
use std::path::Path;
use std::{fs, io};

use crate::row::{Row, number};

const BEGIN: &str = "<!-- measured: begin -->";
const END: &str = "<!-- measured: end -->";

/// Puts the tables between the two marks of a document, in place of those of the same suites.
pub fn update(document: &Path, rows: &[Row]) -> io::Result<()> {
    let text = fs::read_to_string(document)?;
    let updated = replaced(&text, &tables(rows)).ok_or_else(|| {
        io::Error::other(format!("it has no lines {BEGIN:?} and {END:?} to write between"))
    })?;
    fs::write(document, updated)
}

/// The text under the heading of a suite.
const HEADING: &str = "\n### ";

fn replaced(text: &str, new: &[(&str, String)]) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (measured, after) = rest.split_once(END)?;
    let mut sections: Vec<_> = measured
        .split(HEADING)
        .skip(1)
        .filter_map(|section| section.split_once('\n'))
        .map(|(name, table)| (name, table.trim_end()))
        .collect();
    for (name, table) in new {
        match sections.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = table.trim_end(),
            None => sections.push((name, table.trim_end())),
        }
    }
    let sections = sections.iter().map(|(name, table)| format!("{HEADING}{name}\n{table}\n"));
    Some(format!("{before}{BEGIN}\n{}\n{END}{after}", sections.collect::<String>()))
}

/// A chart and a table for each suite, with its name.
fn tables(rows: &[Row]) -> Vec<(&str, String)> {
    let suites = rows.chunk_by(|a, b| a.suite == b.suite);
    suites.map(|suite| (suite[0].suite, table(suite[0].suite, suite))).collect()
}

fn table(suite: &str, rows: &[Row]) -> String {
    let mut text = format!("\n![{suite}](plots/{suite}.svg)\n\n");
    let footprints = rows.iter().any(Row::has_footprints);
    text.push_str("| case | rival | ours | rival's | unit | ratio | rounds | at most (aim) |");
    text.push_str(if footprints { " page tables, KiB | mappings, at most |\n" } else { "\n" });
    text.push_str("|---|---|--:|--:|---|--:|---|---|");
    text.push_str(if footprints { "--:|--:|\n" } else { "\n" });
    for row in rows {
        text.push_str(&line(row));
        if row.has_footprints() {
            let tables = row.footprints(|of| of.page_tables_kib);
            let _ = write!(text, " {tables} | {} |", row.footprints(|of| of.mappings));
        } else if footprints {
            text.push_str(" | |");
        }
        text.push('\n');
    }
    text
}

fn line(row: &Row) -> String {
    let value = |value: Option<f64>| value.map_or_else(|| "–".into(), number);
    let (ratio, rounds) = match (row.ratio, row.ratio_min, row.ratio_max) {
        (Some(ratio), Some(min), Some(max)) => {
            (format!("**{ratio:.2}**"), format!("{min:.2} to {max:.2}"))
        }
        _ => ("–".into(), row.note.replace('|', "/")),
    };
    let target = row.target.map_or_else(String::new, |target| {
        let mark = if row.ratio.is_some_and(|ratio| ratio <= target.bound) { "✓" } else { "✗" };
        format!("{mark} {} ({})", target.bound, target.aim)
    });
    format!(
        "| {} | {} | {} | {} | {} | {ratio} | {rounds} | {target} |",
        row.case.replace('|', "/"),
        row.rival.replace('|', "/"),
        value(row.ours_ns),
        value(row.rival_ns),
        row.unit,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{Footprint, Target};

    #[test]
    fn other_suites_and_what_people_wrote_around_the_tables_stay() {
        let old = "\n### fill\n\nfilled\n\n### scale\n\nscaled\n";
        let document = format!("before\n{BEGIN}\n{old}\n{END}\nafter\n");
        let new = [("fill", "\nnew\n".to_string()), ("churn", "\nchurned\n".to_string())];
        let expected = "\n### fill\n\nnew\n\n### scale\n\nscaled\n\n### churn\n\nchurned\n";
        let updated = replaced(&document, &new).unwrap();
        assert_eq!(updated, format!("before\n{BEGIN}\n{expected}\n{END}\nafter\n"));
        assert_eq!(replaced(&document, &[]).unwrap(), document);
        assert_eq!(replaced("no marks", &new), None);
    }

    fn row(ratio: Option<f64>) -> Row {
        Row {
            suite: "fill",
            case: "case".into(),
            rival: "rival".into(),
            ours_ns: Some(1.0),
            rival_ns: ratio.map(|ratio| 1.0 / ratio),
            ratio,
            ratio_min: ratio,
            ratio_max: ratio,
            unit: "ns",
            note: "rival: ABSENT: gone".into(),
            ours_footprint: None,
            rival_footprint: None,
            target: Some(Target { bound: 1.0, aim: 0.5 }),
        }
    }

    #[test]
    fn page_tables_and_mappings_are_columns_where_any_row_has_them() {
        let footprint = |page_tables_kib, mappings| Some(Footprint { page_tables_kib, mappings });
        let with = Row {
            ours_footprint: footprint(2000, 30),
            rival_footprint: footprint(788, 20),
            ..row(Some(0.5))
        };
        let columns = |rows: &[Row]| {
            let text = tables(rows)[0].1.clone();
            let table: Vec<_> = text.lines().filter(|line| line.starts_with('|')).collect();
            let count = table[0].matches('|').count();
            assert!(table.iter().all(|line| line.matches('|').count() == count), "{text}");
            (count - 1, text)
        };
        assert_eq!(columns(&[row(None)]).0, 8);
        let (count, text) = columns(&[row(None), with]);
        assert_eq!(count, 10);
        assert!(text.contains("| page tables, KiB | mappings, at most |"), "{text}");
        assert!(text.contains("| 2,000 / 788 | 30 / 20 |"), "{text}");
    }

    #[test]
    fn a_table_shows_what_was_missed_and_what_is_missing() {
        let rows = [row(Some(0.5)), row(Some(2.0)), row(None)];
        let (name, text) = &tables(&rows)[0];
        assert_eq!(*name, "fill");
        let lines: Vec<&str> =
            text.lines().filter(|line| line.contains("| case | rival | 1")).collect();
        assert!(lines[0].contains("**0.50**") && lines[0].contains("✓ 1 (0.5)"), "{text}");
        assert!(lines[1].contains("**2.00**") && lines[1].contains('✗'), "{text}");
        assert!(lines[2].contains("ABSENT"), "{text}");
    }
}
