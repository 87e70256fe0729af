//! Rounds: subjects take turns, each sample in a process of its own.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use wait_timeout::ChildExt;

use crate::case::{Case, Footprint, Sample, Size};
use crate::suites::Suite;

/// The results of all rounds of one subject.
#[derive(Clone, Debug)]
pub struct Measured {
    pub name: String,
    /// One value for each round; none where the subject is missing.
    pub values: Vec<f64>,
    pub note: Option<String>,
    /// The largest of all rounds.
    pub footprint: Option<Footprint>,
    /// Why there are no values.
    pub missing: Option<String>,
}

/// A case after its rounds.
pub struct Finished {
    pub suite: &'static str,
    pub about: &'static str,
    pub case: Case,
    /// One for each subject of the case, in their order.
    pub measured: Vec<Measured>,
}

/// A sample that takes longer is given up.
fn patience(size: Size) -> Duration {
    Duration::from_secs(size.pick(300, 15, 15))
}

/// How many rounds a case takes: short samples vary more, so that quick cases take more of them.
struct Rounds {
    least: usize,
    most: usize,
}

impl Rounds {
    /// A case that has taken this long gets no more rounds than the least.
    const LONG: Duration = Duration::from_secs(30);

    fn of(case: &Case, size: Size, wanted: Option<usize>) -> Self {
        let usual = if case.long { 3 } else { size.rounds() };
        let least = if case.counted { 1 } else { wanted.unwrap_or(usual) };
        let may_be_more = !case.counted && !case.long && wanted.is_none() && size == Size::Full;
        Self { least, most: if may_be_more { 3 * least } else { least } }
    }

    fn are_enough(&self, done: usize, took: Duration) -> bool {
        done >= self.most || done >= self.least && took >= Self::LONG
    }
}

/// Runs the cases of some suites whose names contain `wanted`.
pub fn run(
    suites: &[&'static Suite],
    wanted: &str,
    size: Size,
    rounds: Option<usize>,
) -> Vec<Finished> {
    let cases: Vec<_> = suites
        .iter()
        .flat_map(|suite| {
            (suite.cases)().into_iter().enumerate().map(|(i, case)| (*suite, i, case))
        })
        .filter(|(_, _, case)| case.name.contains(wanted))
        .filter(|(_, _, case)| size == Size::Full || !case.full_only)
        .collect();
    let rounds_of = |case: &Case| Rounds::of(case, size, rounds);
    let samples =
        cases.iter().map(|(_, _, case)| rounds_of(case).least * case.subjects.len()).sum();
    let bar = progress(samples, "{elapsed_precise} {wide_bar} {pos}/{len} {msg}");
    let finished = cases
        .into_iter()
        .map(|(suite, index, case)| {
            let measured = take_turns(suite, index, &case, size, &rounds_of(&case), &bar);
            Finished { suite: suite.name, about: suite.about, case, measured }
        })
        .collect();
    bar.finish_and_clear();
    finished
}

/// A bar on stderr, where that is a terminal.
pub fn progress(len: usize, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).expect("the template is well-formed");
    ProgressBar::new(len as u64).with_style(style)
}

fn take_turns(
    suite: &Suite,
    index: usize,
    case: &Case,
    size: Size,
    rounds: &Rounds,
    bar: &ProgressBar,
) -> Vec<Measured> {
    let mut measured: Vec<Measured> = case
        .subjects
        .iter()
        .map(|subject| Measured {
            name: subject.name.clone(),
            values: Vec::new(),
            note: None,
            footprint: None,
            missing: None,
        })
        .collect();
    let (mut done, began) = (0, Instant::now());
    while !rounds.are_enough(done, began.elapsed()) {
        if done >= rounds.least {
            bar.inc_length(measured.len() as u64);
        }
        done += 1;
        for (number, subject) in measured.iter_mut().enumerate() {
            bar.set_message(format!("{}: {}: {}", suite.name, case.name, subject.name));
            bar.inc(1);
            if subject.missing.is_some() {
                continue;
            }
            match sample_elsewhere(suite.name, index, number, size) {
                Sample::Measured { value, note, footprint } => {
                    subject.values.push(value);
                    subject.note = note.or(subject.note.take());
                    let before = subject.footprint.unwrap_or_default();
                    subject.footprint = footprint.map(|footprint| footprint.max(before));
                }
                Sample::Absent { why } => subject.missing = Some(format!("ABSENT: {why}")),
                Sample::Failed { why } => {
                    subject.values.clear();
                    subject.missing = Some(format!("FAILED: {why}"));
                }
            }
        }
    }
    measured
}

/// Takes a sample in a new process: handlers, mappings and what the allocator keeps do not leak from
/// one sample into the next.
fn sample_elsewhere(suite: &str, case: usize, subject: usize, size: Size) -> Sample {
    let program = std::env::current_exe().expect("a program knows where it is");
    let mut child = Command::new(program)
        .args([
            "sample",
            suite,
            &case.to_string(),
            &subject.to_string(),
            &format!("{size:?}").to_lowercase(),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this very program can be started again");
    match child.wait_timeout(patience(size)) {
        Ok(Some(status)) => {
            let (said, cried) = (all_of(child.stdout.take()), all_of(child.stderr.take()));
            serde_json::from_str(&said).unwrap_or_else(|_| Sample::Failed {
                why: format!("{status}: {}", cried.lines().next().unwrap_or("no word")),
            })
        }
        _ => {
            end(child);
            Sample::Failed { why: format!("no end within {} s", patience(size).as_secs()) }
        }
    }
}

fn end(mut child: Child) {
    // It may have ended by itself at this moment: then killing it fails, which is no error.
    let _ = child.kill();
    let _ = child.wait();
}

fn all_of(pipe: Option<impl Read>) -> String {
    let mut text = Vec::new();
    if let Some(mut pipe) = pipe {
        // An incomplete output cannot be parsed, which is reported.
        let _ = pipe.read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Called in the process that [`sample_elsewhere`] starts: runs one subject and prints its sample.
pub fn sample_here(suite: &str, case: usize, subject: usize, size: Size) -> Result<(), String> {
    let suites = crate::suites::named(suite);
    let suite = suites.first().ok_or("no such suite")?;
    let case = (suite.cases)().into_iter().nth(case).ok_or("no such case")?;
    let subject = case.subjects.get(subject).ok_or("no such subject")?;
    let sample = (subject.run)(size);
    println!("{}", serde_json::to_string(&sample).map_err(|error| error.to_string())?);
    Ok(())
}
