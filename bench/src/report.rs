//! Results as Markdown, between two marks of a document.

use std::fmt::Write;
use std::path::Path;
use std::{fs, io};

use crate::row::{Results, Row, number};

const BEGIN: &str = "<!-- measured: begin -->";
const END: &str = "<!-- measured: end -->";

/// The text above the tables of a kind of machine, and above those of a suite.
const MACHINE: &str = "\n### ";
const SUITE: &str = "\n#### ";

/// Puts the tables between the two marks of a document, in place of those of the same suites on the same kind of
/// machine. Other machines' tables stay beside them. `charts` is the folder with the suites' charts, as the document
/// calls it.
pub fn update(document: &Path, results: &Results, charts: Option<&str>) -> io::Result<()> {
    let text = fs::read_to_string(document)?;
    let updated = replaced(&text, &results.machine.name(), &sections(results, charts));
    let updated = updated.ok_or_else(|| {
        io::Error::other(format!("it has no lines {BEGIN:?} and {END:?} to write between"))
    })?;
    fs::write(document, updated)
}

/// Headings, and what stands below each.
type Sections<'a> = Vec<(&'a str, String)>;

fn replaced(text: &str, machine: &str, new: &Sections) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (measured, after) = rest.split_once(END)?;
    let mut machines = split(measured, MACHINE);
    let place = machines.iter().position(|(name, _)| *name == machine).unwrap_or_else(|| {
        machines.push((machine, String::new()));
        machines.len() - 1
    });
    let old = format!("\n{}", machines[place].1);
    let mut suites = split(&old, SUITE);
    for (name, table) in new {
        match suites.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => old.clone_from(table),
            None => suites.push((name, table.clone())),
        }
    }
    machines[place].1 = joined(&suites, SUITE);
    Some(format!("{before}{BEGIN}\n{}\n{END}{after}", joined(&machines, MACHINE)))
}

fn split<'a>(text: &'a str, heading: &str) -> Sections<'a> {
    let sections = text.split(heading).skip(1);
    let parts = sections.map(|section| section.split_once('\n').unwrap_or((section, "")));
    parts.map(|(name, below)| (name, below.trim_end().to_owned())).collect()
}

fn joined(sections: &Sections, heading: &str) -> String {
    sections
        .iter()
        .map(|(name, below)| format!("{heading}{name}\n{}\n", below.trim_end()))
        .collect()
}

/// Origin, chart and table of each suite.
fn sections<'a>(results: &'a Results, charts: Option<&str>) -> Sections<'a> {
    let suites = results.rows.chunk_by(|a, b| a.suite == b.suite);
    suites.map(|rows| (rows[0].suite, section(results, rows, charts))).collect()
}

fn section(results: &Results, rows: &[Row], charts: Option<&str>) -> String {
    let suite = rows[0].suite;
    let mut text = format!("\n{}.\n", results.machine.line());
    if let Some(noise) = results.noise_of(suite) {
        let _ = writeln!(text, "The same twice (A/A): {}.", noise.spread());
        if noise.is_too_much() {
            let _ = writeln!(text, "**{}.**", noise.complaint());
        }
    }
    if let Some(folder) = charts {
        let _ = write!(text, "\n![{suite}]({folder}/{suite}.svg)\n");
    }
    text.push('\n');
    text + &table(rows)
}

fn table(rows: &[Row]) -> String {
    let footprints = rows.iter().any(Row::has_footprints);
    let mut text =
        "| case | rival | ours | rival's | unit | ratio | 95 % interval | rounds | at most (aim) |"
            .to_owned();
    text.push_str(if footprints { " page tables, KiB | mappings, at most |\n" } else { "\n" });
    text.push_str("|---|---|--:|--:|---|--:|---|--:|---|");
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
    let (ratio, interval, rounds) = match row.ratio {
        Some(found) => (
            format!("**{:.2}**", found.ratio),
            format!("{:.2} to {:.2}", found.low, found.high),
            found.rounds.to_string(),
        ),
        None => ("–".into(), row.note.replace('|', "/"), String::new()),
    };
    format!(
        "| {} | {} | {} | {} | {} | {ratio} | {interval} | {rounds} | {} |",
        row.case.replace('|', "/"),
        row.rival.replace('|', "/"),
        value(row.ours),
        value(row.theirs),
        row.unit,
        row.judged(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Target;
    use crate::machine::Machine;
    use crate::noise::Noise;
    use crate::sample::Footprint;
    use crate::stats::{Ratio, Verdict};

    #[test]
    fn other_suites_other_machines_and_what_people_wrote_around_the_tables_stay() {
        let old = "\n### Abacus\n\n#### fill\n\nfilled\n\n#### scale\n\nscaled\n\n### Loom\n\n#### fill\n\nslowly\n";
        let document = format!("before\n{BEGIN}\n{old}\n{END}\nafter\n");
        let new = [("fill", "\nnew\n".to_string()), ("churn", "\nchurned\n".to_string())];
        let expected = "\n### Abacus\n\n#### fill\n\nnew\n\n#### scale\n\nscaled\n\n#### churn\n\nchurned\n\n\
                        ### Loom\n\n#### fill\n\nslowly\n";
        let updated = replaced(&document, "Abacus", &new.to_vec()).unwrap();
        assert_eq!(updated, format!("before\n{BEGIN}\n{expected}\n{END}\nafter\n"));
        assert_eq!(replaced(&document, "Loom", &Vec::new()).unwrap(), document);
        assert_eq!(replaced("no marks", "Loom", &Vec::new()), None);
    }

    #[test]
    fn a_machine_that_was_not_there_comes_last() {
        let document = format!("{BEGIN}\n\n### Abacus\n\n#### fill\n\nfilled\n\n{END}");
        let updated = replaced(&document, "Loom", &vec![("fill", "\nslowly\n".into())]).unwrap();
        let expected = "### Abacus\n\n#### fill\n\nfilled\n\n### Loom\n\n#### fill\n\nslowly\n\n";
        assert_eq!(updated, format!("{BEGIN}\n\n{expected}{END}"));
        let empty = replaced(&format!("{BEGIN}\n{END}"), "Loom", &vec![("fill", "new".into())]);
        assert_eq!(empty.unwrap(), format!("{BEGIN}\n\n### Loom\n\n#### fill\nnew\n\n{END}"));
    }

    fn row(ratio: Option<f64>, verdict: Verdict) -> Row {
        Row {
            suite: "fill",
            case: "case".into(),
            rival: "rival".into(),
            ours: Some(1.0),
            theirs: ratio.map(|ratio| 1.0 / ratio),
            ratio: ratio.map(|ratio| Ratio { ratio, low: ratio, high: ratio, rounds: 7 }),
            unit: "ns",
            note: "rival: ABSENT: gone".into(),
            ours_footprint: None,
            rival_footprint: None,
            target: Some(Target { part: "", bound: 1.0, aim: 0.5 }),
            at_most: Some(1.0),
            verdict: Some(verdict),
        }
    }

    fn written(rows: Vec<Row>, control: f64) -> String {
        let ratio = Some(Ratio { ratio: control, low: 0.9, high: 1.1, rounds: 7 });
        let noise = vec![Noise { suite: "fill", case: "case".into(), ratio }];
        let results = Results { machine: Machine::imagined(), rows, noise };
        sections(&results, Some("plots"))[0].1.clone()
    }

    #[test]
    fn page_tables_and_mappings_are_columns_where_any_row_has_them() {
        let footprint = |page_tables_kib, mappings| Some(Footprint { page_tables_kib, mappings });
        let with = Row {
            ours_footprint: footprint(2000, 30),
            rival_footprint: footprint(788, 20),
            ..row(Some(0.5), Verdict::Kept)
        };
        let columns = |rows: Vec<Row>| {
            let text = written(rows, 1.0);
            let table: Vec<_> = text.lines().filter(|line| line.starts_with('|')).collect();
            let count = table[0].matches('|').count();
            assert!(table.iter().all(|line| line.matches('|').count() == count), "{text}");
            (count - 1, text)
        };
        assert_eq!(columns(vec![row(None, Verdict::Inconclusive)]).0, 9);
        let (count, text) = columns(vec![row(None, Verdict::Inconclusive), with]);
        assert_eq!(count, 11);
        assert!(text.contains("| page tables, KiB | mappings, at most |"), "{text}");
        assert!(text.contains("| 2,000 / 788 | 30 / 20 |"), "{text}");
    }

    #[test]
    fn a_table_shows_what_was_missed_what_is_undecided_and_what_is_missing() {
        let text = written(
            vec![
                row(Some(0.5), Verdict::Kept),
                row(Some(2.0), Verdict::Missed),
                row(Some(1.0), Verdict::Inconclusive),
                row(None, Verdict::Inconclusive),
            ],
            1.0,
        );
        let lines: Vec<&str> =
            text.lines().filter(|line| line.contains("| case | rival | 1")).collect();
        assert!(lines[0].contains("**0.50** | 0.50 to 0.50 | 7 | ✓ 1 (0.5)"), "{text}");
        assert!(lines[1].contains("**2.00**") && lines[1].contains("✗ 1"), "{text}");
        assert!(lines[2].contains("inconclusive 1 (0.5)"), "{text}");
        assert!(lines[3].contains("ABSENT"), "{text}");
    }

    #[test]
    fn machine_settings_and_noise_stand_above_each_table() {
        let text = written(vec![row(Some(0.5), Verdict::Kept)], 1.01);
        let (above, _) = text.split_once("| case |").unwrap();
        assert!(
            above.contains("Abacus") && above.contains("transparent_hugepage madvise"),
            "{above}"
        );
        assert!(
            above.contains("A/A): 1.010 (0.900 to 1.100)") && !above.contains("noisy"),
            "{above}"
        );
        assert!(above.contains("![fill](plots/fill.svg)"), "{above}");
        let noisy = written(vec![row(Some(0.5), Verdict::Inconclusive)], 1.2);
        assert!(noisy.contains("too noisy for a verdict: fill: case"), "{noisy}");
    }
}
