//! The chart of the front page: pagewise beside what one would use instead, in five tasks. Drawn from the tables
//! of docs/benchmarks.md, so that it shows what is written there.

use std::path::Path;
use std::{fs, io};

use super::{Anchor, Canvas, FAINT, INK, LINE, MARGIN, OURS, RIVAL, WIDTH, fill};

/// A task in words that need no knowledge of this project, and the row of the tables that measures it.
struct Task {
    title: &'static str,
    suite: &'static str,
    case: &'static str,
    rival: &'static str,
    /// The rival as people call it.
    name: &'static str,
}

const TASKS: [Task; 5] = [
    Task {
        title: "Append 1 GiB of numbers",
        suite: "append",
        case: "1 GiB of u64 by push",
        rival: "Vec::new",
        name: "Vec",
    },
    Task {
        title: "Append from two threads at once",
        suite: "shared",
        case: "32 M u64, 2 threads",
        rival: "boxcar",
        name: "boxcar",
    },
    Task {
        title: "Grow a vector of 256 MiB in an arena",
        suite: "arena",
        case: "a Vec of 256 MiB that grows inside",
        rival: "the same Vec in bumpalo",
        name: "bumpalo",
    },
    Task {
        title: "Fill untouched memory in order, in pages of 4 KiB",
        suite: "fill",
        case: "a store to each page",
        rival: "kernel demand paging, 4 KiB",
        name: "the kernel's demand paging",
    },
    Task {
        title: "The slowest of all pushes while 1 GiB grows",
        suite: "latency",
        case: "worst push of a cache line up to 1 GiB",
        rival: "Vec::new",
        name: "Vec",
    },
];

/// Two numbers of one row.
#[derive(Debug, PartialEq)]
struct Pair {
    ours: f64,
    rival: f64,
    unit: String,
}

/// Draws `front.svg` into the directory, from the tables of a document. Returns whether every number was there;
/// where one is not, nothing is drawn.
pub fn write(document: &Path, directory: &Path) -> io::Result<bool> {
    let Some(chart) = draw(&fs::read_to_string(document)?.replace('\r', "")) else {
        return Ok(false);
    };
    fs::create_dir_all(directory)?;
    fs::write(directory.join("front.svg"), chart)?;
    Ok(true)
}

fn draw(document: &str) -> Option<String> {
    let mut canvas = Canvas::new();
    canvas.title("pagewise, and what one would use instead", "time taken: shorter is better");
    for task in &TASKS {
        draw_task(&mut canvas, task, &find(document, task)?);
    }
    Some(canvas.finish())
}

fn find(document: &str, task: &Task) -> Option<Pair> {
    let (_, from) = document.split_once(&format!("\n### {}\n", task.suite))?;
    let section = from.split("\n### ").next()?;
    section.lines().find_map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let &[_, case, rival, ours, theirs, unit, ..] = &cells[..] else { return None };
        let number = |text: &str| text.replace(',', "").parse().ok();
        let is_it = case == task.case && rival == task.rival;
        let pair = || Some(Pair { ours: number(ours)?, rival: number(theirs)?, unit: unit.into() });
        is_it.then(pair).flatten()
    })
}

/// Where bars begin, and how long the longest one is.
const START: f64 = MARGIN + 190.0;
const LONGEST: f64 = WIDTH - MARGIN - 110.0 - START;

fn draw_task(canvas: &mut Canvas, task: &Task, pair: &Pair) {
    canvas.y += 14.0;
    let bold = format!(r#"font-weight="600" fill="{INK}""#);
    canvas.text(MARGIN, canvas.y, Anchor::Start, &bold, task.title);
    canvas.text(WIDTH - MARGIN, canvas.y, Anchor::End, &fill(FAINT), &against(pair));
    canvas.y += 8.0;
    let longest = pair.ours.max(pair.rival);
    for (name, value, colour) in [("pagewise", pair.ours, OURS), (task.name, pair.rival, RIVAL)] {
        let (top, length) = (canvas.y, (value / longest * LONGEST).max(2.0));
        let baseline = top + LINE / 2.0 + 4.5;
        canvas.text(START - 10.0, baseline, Anchor::End, &fill(INK), name);
        canvas.bar(START, top + 3.0, length, LINE - 6.0, colour);
        canvas.text(
            START + length + 8.0,
            baseline,
            Anchor::Start,
            &fill(INK),
            &shown(value, &pair.unit),
        );
        canvas.y += LINE;
    }
    canvas.y += 8.0;
}

fn against(pair: &Pair) -> String {
    let times = pair.rival / pair.ours;
    if times >= 9.5 {
        format!("{times:.0} times as fast")
    } else {
        format!("{times:.1} times as fast")
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

    const TABLE: &str = "\n### append\n\n| 1 GiB of u64 by push | Vec::new | 4.46 | 1,005.26 | ns/push | **0.85** |\n";

    #[test]
    fn numbers_come_from_the_tables() {
        let expected = Pair { ours: 4.46, rival: 1005.26, unit: "ns/push".into() };
        assert_eq!(find(TABLE, &TASKS[0]), Some(expected));
        assert_eq!(find(TABLE, &TASKS[1]), None);
        assert_eq!(draw(TABLE), None);
    }

    #[test]
    fn numbers_are_shown_in_units_that_people_know() {
        let texts =
            [(4.46, "ns/push"), (4810.0, "ns/page"), (119_442.0, "ns"), (1_815_607.0, "ns")]
                .map(|(value, unit)| shown(value, unit));
        assert_eq!(texts, ["4.5 ns a push", "4.8 µs a page", "119 µs", "1.8 ms"]);
    }
}
