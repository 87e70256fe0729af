//! Rounds: subjects take turns, each sample in a process of its own.

use std::process::Command;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::case::{Case, Size};
use crate::child::{self, Ended};
use crate::keeper::Keeper;
use crate::sample::{Footprint, Sample};
use crate::suites::Suite;
use crate::turns::Turns;

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

/// A case after its rounds, or one part of it.
pub struct Finished {
    pub suite: &'static str,
    pub about: &'static str,
    /// Empty where the case has no parts.
    pub part: &'static str,
    /// For the intervals of its ratios.
    pub seed: u64,
    pub case: Case,
    /// One for each subject of the case, in their order.
    pub measured: Vec<Measured>,
}

/// What to measure.
pub struct Plan<'a> {
    pub suites: &'a [&'static Suite],
    /// Only the cases whose names contain this.
    pub wanted: &'a str,
    pub size: Size,
    pub rounds: Option<usize>,
    pub turns: Turns,
}

/// A sample that takes longer is given up.
fn patience(size: Size) -> Duration {
    Duration::from_secs(size.pick(300, 60, 30))
}

/// How many rounds a case takes: short samples vary more, so that quick cases take more of them.
struct Rounds {
    least: usize,
    most: usize,
}

impl Rounds {
    /// A case that has taken this long gets no more rounds than the least.
    const LONG: Duration = Duration::from_secs(10);

    fn of(case: &Case, size: Size, wanted: Option<usize>) -> Self {
        let least = if case.counted { 1 } else { wanted.unwrap_or(size.rounds()) };
        let may_be_more = !case.counted && !case.long && wanted.is_none() && size == Size::Full;
        Self { least, most: if may_be_more { 3 * least } else { least } }
    }

    fn are_enough(&self, done: usize, took: Duration) -> bool {
        done >= self.most || done >= self.least && took >= Self::LONG
    }
}

/// A case, and how a process that is started for a sample finds it.
struct Place {
    suite: &'static Suite,
    number: usize,
    case: Case,
}

/// Runs what is planned.
pub fn run(plan: &Plan, keeper: &mut Keeper) -> Vec<Finished> {
    let places: Vec<Place> = plan
        .suites
        .iter()
        .flat_map(|suite| {
            let cases = (suite.cases)().into_iter().enumerate();
            cases.map(|(number, case)| Place { suite, number, case })
        })
        .filter(|place| place.case.name.contains(plan.wanted))
        .filter(|place| plan.size == Size::Full || !place.case.full_only)
        .collect();
    let samples = |place: &Place| {
        Rounds::of(&place.case, plan.size, plan.rounds).least * place.case.subjects.len()
    };
    let bar = progress(places.iter().map(samples).sum());
    let finished = places.iter().flat_map(|place| take_turns(plan, place, keeper, &bar)).collect();
    bar.finish_and_clear();
    finished
}

/// A bar on stderr, where that is a terminal.
fn progress(len: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{elapsed_precise} {wide_bar} {pos}/{len} {msg}");
    ProgressBar::new(len as u64).with_style(style.expect("the template is well-formed"))
}

/// All rounds of a case.
fn take_turns(plan: &Plan, place: &Place, keeper: &mut Keeper, bar: &ProgressBar) -> Vec<Finished> {
    let (suite, case) = (place.suite, &place.case);
    let taken = all_rounds(plan, place, bar, |number| {
        let subject = &case.subjects[number];
        bar.set_message(format!("{}: {}: {}", suite.name, case.name, subject.name));
        match case.defrag.map(crate::system::set_defrag).transpose() {
            Ok(_set) => {
                let take = || sample_elsewhere(suite.name, place.number, number, plan.size);
                keeper.during(suite.needs_huge, subject.huge, take)
            }
            Err(why) => Sample::Absent { why },
        }
    });
    by_part(plan, place, &taken)
}

/// Lets the subjects take turns. One that is missing has no more turns.
fn all_rounds(
    plan: &Plan,
    place: &Place,
    bar: &ProgressBar,
    mut sample: impl FnMut(usize) -> Sample,
) -> Vec<Taken> {
    let rounds = Rounds::of(&place.case, plan.size, plan.rounds);
    let mut taken: Vec<Taken> = place.case.subjects.iter().map(|_| Taken::default()).collect();
    let (mut done, began) = (0, Instant::now());
    while !rounds.are_enough(done, began.elapsed()) {
        if done >= rounds.least {
            bar.inc_length(taken.len() as u64);
        }
        for number in plan.turns.order(place.suite.name, place.number, done, taken.len()) {
            bar.inc(1);
            if taken[number].missing.is_none() {
                taken[number].add(sample(number));
            }
        }
        done += 1;
    }
    taken
}

/// The samples of one subject.
#[derive(Default)]
struct Taken {
    /// The values of each sample, one for each part of the case.
    samples: Vec<Vec<f64>>,
    note: Option<String>,
    footprint: Option<Footprint>,
    missing: Option<String>,
}

impl Taken {
    fn add(&mut self, sample: Sample) {
        match sample {
            Sample::Measured { values, note, footprint } => {
                self.samples.push(values);
                self.note = note.or(self.note.take());
                let before = self.footprint.unwrap_or_default();
                self.footprint = footprint.map(|footprint| footprint.max(before));
            }
            Sample::Absent { why } => self.missing = Some(format!("ABSENT: {why}")),
            Sample::Failed { why } => {
                self.samples.clear();
                self.missing = Some(format!("FAILED: {why}"));
            }
        }
    }

    fn part(&self, name: &str, part: usize) -> Measured {
        let value = |sample: &Vec<f64>| sample.get(part).copied().unwrap_or(f64::NAN);
        Measured {
            name: name.into(),
            values: self.samples.iter().map(value).collect(),
            note: self.note.clone(),
            footprint: self.footprint,
            missing: self.missing.clone(),
        }
    }
}

/// Makes each part of a case a case of its own, so that tables and charts need not know of parts.
fn by_part(plan: &Plan, place: &Place, taken: &[Taken]) -> Vec<Finished> {
    let case = &place.case;
    let parts = if case.parts.is_empty() { &[""] } else { case.parts };
    let part = |(number, &part): (usize, &&'static str)| {
        let subjects = taken.iter().zip(&case.subjects);
        let mut case = case.clone();
        if !part.is_empty() {
            case.name = format!("{}: {part}", case.name);
        }
        Finished {
            suite: place.suite.name,
            about: place.suite.about,
            part,
            seed: plan.turns.seed_of(place.suite.name, place.number),
            case,
            measured: subjects.map(|(taken, subject)| taken.part(&subject.name, number)).collect(),
        }
    };
    parts.iter().enumerate().map(part).collect()
}

/// Takes a sample in a new process: handlers, mappings and what the allocator keeps do not leak from
/// one sample into the next.
fn sample_elsewhere(suite: &str, case: usize, subject: usize, size: Size) -> Sample {
    let program = std::env::current_exe().expect("a program knows where it is");
    let mut command = Command::new(program);
    command.args(["sample", suite, &case.to_string(), &subject.to_string()]);
    command.arg(format!("{size:?}").to_lowercase());
    let ended = child::run(&mut command, patience(size));
    match ended.expect("this very program can be started again") {
        Ended::Exited { status, said, cried } => {
            serde_json::from_str(&said).unwrap_or_else(|_| Sample::Failed {
                why: format!("{status}: {}", cried.lines().next().unwrap_or("no word")),
            })
        }
        Ended::GivenUp(after) => {
            Sample::Failed { why: format!("no end within {} s", after.as_secs()) }
        }
    }
}

/// Called in the process that [`sample_elsewhere`] starts: runs one subject and prints its sample.
pub fn sample_here(suite: &str, case: usize, subject: usize, size: Size) -> Result<(), String> {
    let suites = crate::suites::named(suite);
    let suite = suites.first().ok_or("no such suite")?;
    let case = (suite.cases)().into_iter().nth(case).ok_or("no such case")?;
    let subject = case.subjects.get(subject).ok_or("no such subject")?;
    // What is counted does not depend on it, and its peak would be in the count.
    if size != Size::Tiny && !subject.huge && !case.counted {
        crate::keeper::freshen(case.needs.unwrap_or(suite.needs));
    }
    let sample = (subject.run)(size);
    println!("{}", serde_json::to_string(&sample).map_err(|error| error.to_string())?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suites::SUITES;

    const PLAN: Plan<'_> =
        Plan { suites: &[], wanted: "", size: Size::Tiny, rounds: None, turns: Turns { seed: 1 } };

    #[test]
    fn each_part_of_a_sample_becomes_a_case_of_its_own() {
        let case = Case::new("pushes", "ns", |_| Sample::of(0.0)).parts(&["p50", "worst"]);
        let place = Place { suite: &SUITES[0], number: 0, case };
        let mut taken = Taken::default();
        taken.add(Sample::of_parts(vec![1.0, 100.0]));
        taken.add(Sample::of_parts(vec![2.0, 200.0]));
        let finished = by_part(&PLAN, &place, &[taken]);
        let named: Vec<_> = finished
            .iter()
            .map(|part| (&*part.case.name, part.part, &*part.measured[0].values))
            .collect();
        assert_eq!(
            named,
            [("pushes: p50", "p50", &[1.0, 2.0][..]), ("pushes: worst", "worst", &[100.0, 200.0])]
        );
    }

    #[test]
    fn subjects_take_turns_in_an_order_that_changes_and_a_missing_one_has_no_more_turns() {
        let never = |_| -> Sample { unreachable!("the test takes the samples") };
        let mut case = Case::new("case", "ns", never);
        for name in ["a", "b", "c", "d", "e"] {
            case = case.rival(name, never);
        }
        let place = Place { suite: &SUITES[0], number: 3, case };
        let plan = Plan { rounds: Some(8), ..PLAN };
        let mut turns = Vec::new();
        let taken = all_rounds(&plan, &place, &ProgressBar::hidden(), |number| {
            turns.push(number);
            if number == 5 { Sample::absent("gone") } else { Sample::of(number as f64) }
        });
        assert_eq!(turns.iter().filter(|&&number| number == 5).count(), 1);
        let others: Vec<usize> = turns.into_iter().filter(|&number| number != 5).collect();
        let rounds: Vec<&[usize]> = others.chunks(5).collect();
        assert_eq!(rounds.len(), 8);
        for round in &rounds {
            assert!((0..5).all(|number| round.contains(&number)), "{round:?}");
        }
        assert!(rounds.iter().any(|round| round[0] != rounds[0][0]), "{rounds:?}");
        assert_eq!(taken[2].samples, vec![vec![2.0]; 8]);
    }

    #[test]
    fn a_subject_that_failed_once_has_no_values_and_the_most_of_all_footprints_stays() {
        let mut taken = Taken::default();
        let footprint = |page_tables_kib, mappings| Some(Footprint { page_tables_kib, mappings });
        taken.add(Sample::of(1.0).footprint(footprint(10, 1)));
        taken.add(Sample::of(1.0).footprint(footprint(5, 3)));
        assert_eq!(taken.part("", 0).footprint, footprint(10, 3));
        taken.add(Sample::Failed { why: "gone".into() });
        let measured = taken.part("", 0);
        assert_eq!((measured.values.len(), measured.missing.as_deref()), (0, Some("FAILED: gone")));
    }

    #[test]
    fn short_cases_take_up_to_three_times_as_many_rounds_and_none_fewer_than_a_verdict_needs() {
        let case = Case::new("", "ns", |_| Sample::of(0.0));
        let rounds = Rounds::of(&case, Size::Full, None);
        assert_eq!((rounds.least, rounds.most), (6, 18));
        assert!(!rounds.are_enough(5, Rounds::LONG) && rounds.are_enough(6, Rounds::LONG));
        assert!(!rounds.are_enough(17, Duration::ZERO) && rounds.are_enough(18, Duration::ZERO));
        let long = Rounds::of(&case.clone().long(), Size::Full, None);
        assert!(long.least >= crate::stats::Ratio::LEAST_ROUNDS && long.most == long.least);
        assert_eq!(Rounds::of(&case.counted(), Size::Full, Some(5)).most, 1);
    }
}
