//! The chart of the front page: pagewise beside everything that it was measured against, in some tasks, also in those at
//! which it is slower. Drawn from the tables of docs/benchmarks.md, so that it shows what is written there.

use std::path::Path;
use std::{fs, io};

use super::tables::{self, Entry};
use super::{Anchor, Canvas, FAINT, INK, MARGIN, OURS, RIVAL, WIDTH, fill};
use crate::row::is_ours;

/// A task in words that need no knowledge of this project, and the case of the tables that measures it.
struct Task {
    title: &'static str,
    suite: &'static str,
    case: &'static str,
}

const TASKS: [Task; 8] = [
    Task { title: "Append 1 GiB of numbers", suite: "append", case: "1 GiB of u64 by push" },
    Task { title: "Append from two threads at once", suite: "shared", case: "32 M u64, 2 threads" },
    Task {
        title: "Grow a vector of 256 MiB in an arena",
        suite: "arena",
        case: "a Vec of 256 MiB that grows inside",
    },
    Task {
        title: "Fill untouched memory in order, small pages (default)",
        suite: "fill",
        case: "a store to each page",
    },
    Task {
        title: "Fill untouched memory in order, HugePages::Adaptive",
        suite: "fill",
        case: "a store to each page, adaptive huge pages",
    },
    Task {
        title: "The slowest of 16 million pushes",
        suite: "latency",
        case: "push of a cache line up to 1 GiB: worst",
    },
    Task {
        title: "Touch single pages all over 64 GiB",
        suite: "sparse",
        case: "over 64 GiB, 1 thread",
    },
    Task {
        title: "Make, fill and drop a vector of 10 numbers",
        suite: "small",
        case: "a vector of 10 u64, made, filled and dropped",
    },
];

/// Draws `front.svg` into the directory, from the tables of a document. Returns the tasks that are not in the tables.
pub fn write(document: &Path, directory: &Path) -> io::Result<Vec<&'static str>> {
    let (chart, missing) = draw(&fs::read_to_string(document)?.replace('\r', ""));
    fs::create_dir_all(directory)?;
    fs::write(directory.join("front.svg"), chart)?;
    Ok(missing)
}

fn draw(document: &str) -> (String, Vec<&'static str>) {
    let mut canvas = Canvas::new();
    canvas.title("pagewise, and what one would use instead", "time taken: shorter is better");
    let mut missing = Vec::new();
    for task in &TASKS {
        let entries = tables::case(document, task.suite, task.case);
        let others: Vec<_> = entries.into_iter().filter(|entry| !is_ours(&entry.rival)).collect();
        if others.is_empty() {
            missing.push(task.title);
        } else {
            draw_task(&mut canvas, task, &others);
        }
    }
    (canvas.finish(), missing)
}

/// Where bars begin, how long the longest one is, and how high a line is.
const START: f64 = MARGIN + 305.0;
const LONGEST: f64 = WIDTH - MARGIN - 190.0 - START;
const LINE: f64 = 21.0;

fn draw_task(canvas: &mut Canvas, task: &Task, entries: &[Entry]) {
    canvas.y += 14.0;
    let bold = format!(r#"font-weight="600" fill="{INK}""#);
    canvas.text(MARGIN, canvas.y, Anchor::Start, &bold, task.title);
    canvas.y += 8.0;
    let ours = entries[0].ours;
    let longest = entries.iter().map(|entry| entry.theirs).fold(ours, f64::max);
    let others = entries.iter().map(|entry| (&*entry.rival, entry.theirs, RIVAL));
    for (name, value, colour) in std::iter::once(("pagewise", ours, OURS)).chain(others) {
        let (top, length) = (canvas.y, (value / longest * LONGEST).max(2.0));
        let baseline = top + LINE / 2.0 + 4.5;
        canvas.text(START - 10.0, baseline, Anchor::End, &fill(INK), name);
        canvas.bar(START, top + 3.0, length, LINE - 6.0, colour);
        let text = shown(value, &entries[0].unit);
        canvas.text(START + length + 8.0, baseline, Anchor::Start, &fill(INK), &text);
        if colour == RIVAL {
            canvas.text(WIDTH - MARGIN, baseline, Anchor::End, &fill(FAINT), &times(value / ours));
        }
        canvas.y += LINE;
    }
    canvas.y += 6.0;
}

/// How many times as long as pagewise a rival takes.
fn times(times: f64) -> String {
    match times {
        9.5.. => format!("× {times:.0}"),
        0.0095.. => format!("× {times:.2}"),
        _ => format!("× {times:.4}"),
    }
}

/// A number of nanoseconds in a unit that fits; `ns/push` keeps what stands behind the slash.
fn shown(value: f64, unit: &str) -> String {
    let (nanoseconds, per) = match unit.split_once('/') {
        Some((nanoseconds, per)) => (nanoseconds, format!(" a {per}")),
        None => (unit, String::new()),
    };
    let (value, name) = match nanoseconds {
        "ns" if value >= 1e6 => (value / 1e6, "ms"),
        "ns" if value >= 1e3 => (value / 1e3, "µs"),
        other => (value, other),
    };
    let digits = if value < 10.0 { 1 } else { 0 };
    format!("{value:.digits$} {name}{per}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_pagewise_was_measured_against_is_shown_and_pagewise_itself_once() {
        let table = "\n#### append\n\n| case | rival | ours | rival's | unit |\n\
                     | 1 GiB of u64 by push | Vec::new | 4.46 | 1,005.26 | ns/push |\n\
                     | 1 GiB of u64 by push | pagewise again (A/A) | 4.46 | 4.44 | ns/push |\n\
                     | 1 GiB of u64 by push | boxcar | 4.46 | 2.23 | ns/push |\n";
        let (chart, missing) = draw(table);
        for shown in ["Vec::new", "boxcar", "4.5 ns a push", "1.0 µs a push", "× 225", "× 0.50"]
        {
            assert!(chart.contains(shown), "{shown} is missing");
        }
        assert!(!chart.contains("A/A"));
        assert_eq!(missing.len(), TASKS.len() - 1);
        assert!(!missing.contains(&"Append 1 GiB of numbers"));
    }

    #[test]
    fn numbers_are_shown_in_units_that_people_know() {
        let texts =
            [(4.46, "ns/push"), (4810.0, "ns/page"), (119_442.0, "ns"), (1_815_607.0, "ns")]
                .map(|(value, unit)| shown(value, unit));
        assert_eq!(texts, ["4.5 ns a push", "4.8 µs a page", "119 µs", "1.8 ms"]);
    }

    /// What the chart shows can be measured: every task is a case of a suite.
    #[test]
    fn every_task_is_measured() {
        for task in &TASKS {
            let suite = crate::suites::named(task.suite)[0];
            let names: Vec<String> = (suite.cases)()
                .into_iter()
                .flat_map(|case| match case.parts {
                    [] => vec![case.name],
                    parts => parts.iter().map(|part| format!("{}: {part}", case.name)).collect(),
                })
                .collect();
            assert!(
                names.iter().any(|name| name == task.case),
                "{} is none of {names:?}",
                task.case
            );
        }
    }
}
