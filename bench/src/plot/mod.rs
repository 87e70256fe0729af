//! Charts: one file of bars for each suite, and one that shows every ratio beside its target.
//!
//! SVG is text, and these charts are rectangles, lines and words: no library is needed.

pub mod front;
mod tables;

use std::fmt::{self, Write};
use std::path::Path;
use std::{fs, io};

use crate::harness::{Finished, Measured};
use crate::row::{self, Results, Row};
use crate::stats::{Summary, Verdict};
use crate::suites::SUITES;

const WIDTH: f64 = 900.0;
const MARGIN: f64 = 24.0;
const LABELS: f64 = 330.0;
const BARS: f64 = 350.0;
const LINE: f64 = 26.0;

const BACKGROUND: &str = "#ffffff";
const INK: &str = "#1f2933";
const FAINT: &str = "#7b8794";
const RULE: &str = "#e4e7eb";
const OURS: &str = "#2f6fde";
const RIVAL: &str = "#b8c4d0";
const WHISKER: &str = "#52606d";
const GOOD: &str = "#1f9d61";
const BAD: &str = "#d64545";

/// Writes `SUITE.svg` for every suite among the results, and `summary.svg` if these are all suites.
pub fn write(directory: &Path, finished: &[Finished], results: &Results) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let mut suites = 0;
    for cases in finished.chunk_by(|a, b| a.suite == b.suite) {
        let chart = bars(cases, &results.rows);
        fs::write(directory.join(format!("{}.svg", cases[0].suite)), chart)?;
        suites += 1;
    }
    if suites == SUITES.len() {
        let others: Vec<&Row> = results.rows.iter().filter(|row| !row.is_against_ours()).collect();
        fs::write(directory.join("summary.svg"), summary(&others))?;
    }
    Ok(())
}

/// A picture that grows downwards.
struct Canvas {
    body: String,
    y: f64,
}

/// How a text stands to its place.
#[derive(Clone, Copy)]
enum Anchor {
    Start,
    Middle,
    End,
}

impl Canvas {
    fn new() -> Self {
        Self { body: String::new(), y: MARGIN }
    }

    fn push(&mut self, element: fmt::Arguments<'_>) {
        self.body.write_fmt(element).expect("a string takes everything");
        self.body.push('\n');
    }

    fn text(&mut self, x: f64, y: f64, anchor: Anchor, style: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        self.push(format_args!(
            r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" {style}>{text}</text>"#
        ));
    }

    fn bar(&mut self, x: f64, y: f64, width: f64, height: f64, colour: &str) {
        self.push(format_args!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" rx="2" fill="{colour}"/>"#
        ));
    }

    fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), colour: &str, width: f64) {
        self.push(format_args!(
            r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" stroke="{colour}" stroke-width="{width}"/>"#
        ));
    }

    fn finish(self) -> String {
        let height = self.y + MARGIN;
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0}" viewBox="0 0 {WIDTH} {height:.0}" font-family="Inter, 'Segoe UI', Helvetica, Arial, sans-serif" font-size="13">
<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>
{}</svg>
"#,
            self.body
        )
    }

    fn title(&mut self, title: &str, about: &str) {
        self.y += 10.0;
        let style = format!(r#"font-size="20" font-weight="600" fill="{INK}""#);
        self.text(MARGIN, self.y, Anchor::Start, &style, title);
        self.text(MARGIN, self.y + 20.0, Anchor::Start, &fill(FAINT), about);
        self.y += 36.0;
    }
}

fn fill(colour: &str) -> String {
    format!(r#"fill="{colour}""#)
}

/// Bars for the subjects of each case.
fn bars(cases: &[Finished], rows: &[Row]) -> String {
    let mut canvas = Canvas::new();
    canvas.title(
        cases[0].suite,
        &format!("{}; shorter is better; whiskers: all rounds", cases[0].about),
    );
    for finished in cases {
        case_bars(&mut canvas, finished, rows);
    }
    canvas.finish()
}

fn case_bars(canvas: &mut Canvas, finished: &Finished, rows: &[Row]) {
    let case = &finished.case;
    canvas.y += 12.0;
    let y = canvas.y;
    let bold = format!(r#"font-weight="600" fill="{INK}""#);
    canvas.text(MARGIN, y, Anchor::Start, &bold, &case.name);
    canvas.text(WIDTH - MARGIN, y, Anchor::End, &fill(FAINT), "ours ÷ rival");
    canvas.text(MARGIN + LABELS + BARS, y, Anchor::End, &fill(FAINT), case.unit);
    canvas.line((MARGIN, y + 8.0), (WIDTH - MARGIN, y + 8.0), RULE, 1.0);
    canvas.y += 14.0;
    let scale = Scale::of(finished);
    for (index, subject) in finished.measured.iter().enumerate() {
        let is_it = |row: &&Row| {
            index > 0
                && (row.suite, &row.case, &row.rival) == (finished.suite, &case.name, &subject.name)
        };
        let row = rows.iter().find(is_it);
        subject_bar(canvas, subject, row, &scale);
    }
    canvas.y += 10.0;
}

/// Bars are cut off where they would make the others too short to compare.
struct Scale {
    most: f64,
}

impl Scale {
    fn of(finished: &Finished) -> Self {
        let value = |of: &Measured| Summary::of(&of.values).map(|all| all.median);
        let values: Vec<f64> = finished.measured.iter().filter_map(value).collect();
        let longest = values.iter().copied().fold(0.0, f64::max);
        let middle = Summary::of(&values).map_or(longest, |all| all.median);
        Self { most: longest.min(4.0 * middle).max(f64::MIN_POSITIVE) * 1.25 }
    }

    fn x(&self, value: f64) -> f64 {
        MARGIN + LABELS + BARS * (value / self.most).min(1.0)
    }
}

fn subject_bar(canvas: &mut Canvas, subject: &Measured, row: Option<&Row>, scale: &Scale) {
    let (top, middle) = (canvas.y, canvas.y + LINE / 2.0);
    let baseline = middle + 4.5;
    let (colour, weight) = if row.is_none() { (OURS, "600") } else { (RIVAL, "400") };
    let style = format!(r#"fill="{INK}" font-weight="{weight}""#);
    canvas.text(MARGIN + LABELS - 10.0, baseline, Anchor::End, &style, &subject.name);
    canvas.y += LINE;
    let Some(all) = Summary::of(&subject.values) else {
        let why = subject.missing.as_deref().unwrap_or("not measured");
        let short: String = why.chars().take(60).collect();
        return canvas.text(MARGIN + LABELS, baseline, Anchor::Start, &fill(BAD), &short);
    };
    let value = all.median;
    let start = MARGIN + LABELS;
    canvas.bar(start, top + 4.0, (scale.x(value) - start).max(1.0), LINE - 8.0, colour);
    if value > scale.most {
        // The slanted gap of a bar that is longer than the chart.
        let x = scale.x(value) - 16.0;
        canvas.line((x - 3.0, top + LINE - 2.0), (x + 3.0, top + 2.0), BACKGROUND, 4.0);
    } else {
        whiskers(canvas, scale.x(all.min), scale.x(all.max), middle);
    }
    let end = scale.x(all.max.max(value)).max(scale.x(value));
    canvas.text(end + 8.0, baseline, Anchor::Start, &fill(INK), &row::number(value));
    if let Some((row, found)) = row.and_then(|row| Some((row, row.ratio?))) {
        let style = format!(r#"fill="{}" font-weight="600""#, colour_of(row));
        canvas.text(WIDTH - MARGIN, baseline, Anchor::End, &style, &format!("{:.2}", found.ratio));
    }
}

/// Of a ratio. Faint where it allows no verdict.
fn colour_of(row: &Row) -> &'static str {
    match row.verdict {
        Some(Verdict::Kept) => GOOD,
        Some(Verdict::Missed) => BAD,
        Some(Verdict::Inconclusive) => FAINT,
        None => INK,
    }
}

fn whiskers(canvas: &mut Canvas, from: f64, to: f64, y: f64) {
    canvas.line((from, y), (to, y), WHISKER, 1.2);
    for x in [from, to] {
        canvas.line((x, y - 4.0), (x, y + 4.0), WHISKER, 1.2);
    }
}

/// Ratios on a logarithmic axis.
const LEAST_RATIO: f64 = 0.01;
const MOST_RATIO: f64 = 40.0;

/// Lines of the summary are lower, since they are many.
const LOW: f64 = 18.0;

/// Every ratio to something that is not pagewise, on one axis.
fn summary(rows: &[&Row]) -> String {
    let mut canvas = Canvas::new();
    canvas.title(
        "pagewise ÷ rival",
        "left of 1, pagewise takes less; the tick is what it must not exceed; whiskers: the 95 % interval; grey: inconclusive",
    );
    canvas.y += 16.0;
    let top = canvas.y;
    let bottom = top + LOW * rows.len() as f64;
    for ratio in [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0] {
        let (x, colour) = (ratio_x(ratio), if ratio == 1.0 { FAINT } else { RULE });
        canvas.line((x, top), (x, bottom), colour, 1.0);
        let label = format!("{ratio}");
        canvas.text(x, top - 6.0, Anchor::Middle, &fill(FAINT), &label);
    }
    for row in rows {
        summary_line(&mut canvas, row);
    }
    canvas.finish()
}

const SUMMARY_LABELS: f64 = 500.0;

fn ratio_x(ratio: f64) -> f64 {
    let place =
        (ratio.clamp(LEAST_RATIO, MOST_RATIO) / LEAST_RATIO).ln() / (MOST_RATIO / LEAST_RATIO).ln();
    let start = MARGIN + SUMMARY_LABELS;
    start + place * (WIDTH - MARGIN - 44.0 - start)
}

fn summary_line(canvas: &mut Canvas, row: &Row) {
    let middle = canvas.y + LOW / 2.0;
    let baseline = middle + 4.0;
    let label = format!("{}: {} — {}", row.suite, row.case, row.rival);
    let style = format!(r#"fill="{INK}" font-size="10.5""#);
    canvas.text(MARGIN + SUMMARY_LABELS - 12.0, baseline, Anchor::End, &style, &label);
    canvas.y += LOW;
    if let Some(target) = row.target {
        let x = ratio_x(target.bound);
        canvas.line((x, middle - 6.0), (x, middle + 6.0), INK, 2.0);
    }
    let Some(found) = row.ratio else {
        let x = MARGIN + SUMMARY_LABELS;
        return canvas.text(x, baseline, Anchor::Start, &fill(BAD), "not measured");
    };
    let colour = colour_of(row);
    canvas.line((ratio_x(found.low), middle), (ratio_x(found.high), middle), colour, 1.5);
    let x = ratio_x(found.ratio);
    canvas.push(format_args!(r#"<circle cx="{x:.1}" cy="{middle:.1}" r="4" fill="{colour}"/>"#));
    let style = format!(r#"fill="{colour}" font-weight="600" font-size="11.5""#);
    canvas.text(WIDTH - MARGIN, baseline, Anchor::End, &style, &format!("{:.2}", found.ratio));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Case;
    use crate::sample::Sample;

    #[test]
    fn a_chart_holds_every_subject_and_escapes_its_text() {
        let measured = |name: &str, values: &[f64], missing: Option<&str>| Measured {
            name: name.into(),
            values: values.into(),
            note: None,
            footprint: None,
            missing: missing.map(str::to_owned),
        };
        let finished = Finished {
            suite: "shared",
            about: "about",
            part: "",
            seed: 1,
            case: Case::new("case", "ns", |_| Sample::of(1.0))
                .rival("Mutex<Vec>", |_| Sample::of(1.0))
                .target(1.0, 1.0)
                .rival("gone", |_| Sample::absent("gone")),
            measured: vec![
                measured("pagewise", &[1.0, 2.0, 3.0], None),
                measured("Mutex<Vec>", &[1e6, 2e6, 3e6], None),
                measured("gone", &[], Some("ABSENT: gone")),
            ],
        };
        let rows = row::rows(&finished, false);
        let chart = bars(&[finished], &rows);
        for text in ["pagewise", "Mutex&lt;Vec>", "ABSENT: gone"] {
            assert!(chart.contains(text), "{text} is missing");
        }
        assert!(!chart.contains("NaN") && !chart.contains("inf"));
        assert!(summary(&rows.iter().take(1).collect::<Vec<_>>()).ends_with("</svg>\n"));
    }
}
