//! What is measured: a case has a subject of ours, and rivals that do the same work.

use std::rc::Rc;

use crate::sample::Sample;

/// How much work one sample does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Size {
    /// As documented.
    Full,
    /// `--quick`.
    Quick,
    /// For tests: the numbers mean nothing.
    Tiny,
}

impl Size {
    pub fn pick<T>(self, full: T, quick: T, tiny: T) -> T {
        match self {
            Self::Full => full,
            Self::Quick => quick,
            Self::Tiny => tiny,
        }
    }

    /// The least rounds of a case: as few as allow a verdict.
    pub fn rounds(self) -> usize {
        self.pick(crate::stats::Ratio::LEAST_ROUNDS, 3, 2)
    }
}

/// Does the work of a case once.
pub type Run = Rc<dyn Fn(Size) -> Sample>;

/// A library, or the kernel, that does the work of a case.
#[derive(Clone)]
pub struct Subject {
    pub name: String,
    pub run: Run,
    /// Ours against it, at most; for the parts that have a bound.
    pub targets: Vec<Target>,
    /// Whether this is our own subject once more: the A/A row.
    pub control: bool,
    /// Whether it needs free memory in whole huge pages.
    pub huge: bool,
}

/// The bound that a ratio must not exceed, and the ratio to aim for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// The part of the case that it is about; empty in a case without parts.
    pub part: &'static str,
    pub bound: f64,
    pub aim: f64,
}

/// One comparison. `subjects[0]` is ours.
#[derive(Clone)]
pub struct Case {
    pub name: String,
    pub unit: &'static str,
    /// Names of the values of a sample, where one has several. Each becomes a case of its own in the tables.
    pub parts: &'static [&'static str],
    /// The part whose A/A row counts, where the case has parts.
    pub control_part: &'static str,
    /// One round is enough for what is counted, not timed.
    pub counted: bool,
    /// `--quick` leaves it out.
    pub full_only: bool,
    /// It gets no more rounds than the least, since a short disturbance changes a long sample little.
    pub long: bool,
    /// The kernel's setting `defrag` during its samples, where it is not what the machine has.
    pub defrag: Option<&'static str>,
    /// Bytes that the samples make resident while their clock runs, if not those of the suite.
    pub needs: Option<usize>,
    pub subjects: Vec<Subject>,
}

/// The name of the rival in an A/A row.
pub const CONTROL: &str = "pagewise again (A/A)";

impl Case {
    pub fn new(
        name: impl Into<String>,
        unit: &'static str,
        ours: impl Fn(Size) -> Sample + 'static,
    ) -> Self {
        let case = Self {
            name: name.into(),
            unit,
            parts: &[],
            control_part: "",
            counted: false,
            full_only: false,
            long: false,
            defrag: None,
            needs: None,
            subjects: Vec::new(),
        };
        case.rival("pagewise", ours)
    }

    /// Gives our own subject another name than `pagewise`.
    pub fn ours_is(mut self, name: &str) -> Self {
        self.subjects[0].name = name.into();
        self
    }

    /// Each sample has a value for each of these.
    pub fn parts(mut self, parts: &'static [&'static str]) -> Self {
        self.parts = parts;
        self
    }

    /// Adds a subject. The name of one that is pagewise, too, begins with `pagewise`.
    pub fn rival(
        mut self,
        name: impl Into<String>,
        run: impl Fn(Size) -> Sample + 'static,
    ) -> Self {
        self.subjects.push(Subject {
            name: name.into(),
            run: Rc::new(run),
            targets: Vec::new(),
            control: false,
            huge: false,
        });
        self
    }

    /// Adds the A/A row: our subject once more. How far its ratio is from 1 shows how much the machine's noise adds.
    pub fn control(mut self) -> Self {
        let ours = self.subjects[0].clone();
        self.subjects.push(Subject { name: CONTROL.into(), control: true, ..ours });
        self
    }

    /// The same for a case with parts: the row of this one counts. The slowest of all operations differs from run to run
    /// on every machine, so that it says nothing about noise.
    pub fn control_of(mut self, part: &'static str) -> Self {
        assert!(self.parts.contains(&part));
        self.control_part = part;
        self.control()
    }

    /// Sets what ours must reach against the rival that was added last.
    pub fn target(self, bound: f64, aim: f64) -> Self {
        self.target_of("", bound, aim)
    }

    /// The same for a part of the case.
    pub fn target_of(mut self, part: &'static str, bound: f64, aim: f64) -> Self {
        debug_assert!(if part.is_empty() {
            self.parts.is_empty()
        } else {
            self.parts.contains(&part)
        });
        self.last().targets.push(Target { part, bound, aim });
        self
    }

    /// The subject that was added last needs free memory in whole huge pages.
    pub fn huge(mut self) -> Self {
        self.last().huge = true;
        self
    }

    fn last(&mut self) -> &mut Subject {
        self.subjects.last_mut().expect("there is ours at least")
    }

    /// Sets the kernel's `defrag` for the samples.
    pub fn defrag(mut self, setting: &'static str) -> Self {
        self.defrag = Some(setting);
        self
    }

    /// How much memory the samples make resident while their clock runs, where that is far from the suite's number.
    pub fn needs(mut self, bytes: usize) -> Self {
        self.needs = Some(bytes);
        self
    }

    pub fn counted(mut self) -> Self {
        self.counted = true;
        self
    }

    pub fn full_only(mut self) -> Self {
        self.full_only = true;
        self
    }

    pub fn long(mut self) -> Self {
        self.long = true;
        self
    }
}
