//! Results as Markdown, in their place in a document that people write around them.

use std::fmt::Write;
use std::path::Path;
use std::{fs, io};

use crate::row::{Row, number};

const BEGIN: &str = "<!-- measured: begin -->";
const END: &str = "<!-- measured: end -->";

/// Puts the tables between the two marks of a document, in place of what was there.
pub fn update(document: &Path, rows: &[Row]) -> io::Result<()> {
    let text = fs::read_to_string(document)?;
    let updated = replaced(&text, &tables(rows)).ok_or_else(|| {
        io::Error::other(format!("it has no lines {BEGIN:?} and {END:?} to write between"))
    })?;
    fs::write(document, updated)
}

fn replaced(text: &str, measured: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{measured}\n{END}{after}"))
}

/// A heading and a table for each suite.
fn tables(rows: &[Row]) -> String {
    let mut text = String::new();
    for suite in rows.chunk_by(|a, b| a.suite == b.suite) {
        let name = suite[0].suite;
        let _ = write!(text, "\n### {name}\n\n![{name}](plots/{name}.svg)\n\n");
        text.push_str(
            "| case | rival | ours | rival's | unit | ratio | rounds | at most (aim) |\n",
        );
        text.push_str("|---|---|--:|--:|---|--:|---|---|\n");
        for row in suite {
            let _ = writeln!(text, "{}", line(row));
        }
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
    use crate::case::Target;

    #[test]
    fn what_people_wrote_around_the_tables_stays() {
        let document = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let updated = replaced(&document, "new").unwrap();
        assert_eq!(updated, format!("before\n{BEGIN}\nnew\n{END}\nafter\n"));
        assert_eq!(replaced("no marks", "new"), None);
    }

    #[test]
    fn a_table_shows_what_was_missed_and_what_is_missing() {
        let row = |ratio: Option<f64>| Row {
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
            target: Some(Target { bound: 1.0, aim: 0.5 }),
        };
        let text = tables(&[row(Some(0.5)), row(Some(2.0)), row(None)]);
        let lines: Vec<&str> =
            text.lines().filter(|line| line.contains("| case | rival | 1")).collect();
        assert!(lines[0].contains("**0.50**") && lines[0].contains("✓ 1 (0.5)"), "{text}");
        assert!(lines[1].contains("**2.00**") && lines[1].contains('✗'), "{text}");
        assert!(lines[2].contains("ABSENT"), "{text}");
    }
}
