//! What is measured: a case has a subject of ours, and rivals that do the same work.

use serde::{Deserialize, Serialize};

use crate::stats::Pick;

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

    /// Rounds of a case.
    pub fn rounds(self) -> usize {
        self.pick(7, 3, 2)
    }
}

/// Page tables and mappings that a sample took: the most of several moments between its operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Footprint {
    /// KiB by which the page tables of the process grew.
    pub page_tables_kib: usize,
    /// Mappings of the process.
    pub mappings: usize,
}

impl Footprint {
    /// The larger of each.
    pub fn max(self, other: Self) -> Self {
        Self {
            page_tables_kib: self.page_tables_kib.max(other.page_tables_kib),
            mappings: self.mappings.max(other.mappings),
        }
    }
}

/// The result of one run of a subject, which a child process passes to its parent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sample {
    /// In the unit of the case.
    Measured { value: f64, note: Option<String>, footprint: Option<Footprint> },
    /// This subject does not exist here, and why.
    Absent { why: String },
    /// The run failed or was given up, and why.
    Failed { why: String },
}

impl Sample {
    pub fn of(value: f64) -> Self {
        Self::Measured { value, note: None, footprint: None }
    }

    /// The time of `count` operations, in nanoseconds for each.
    pub fn per(time: std::time::Duration, count: usize) -> Self {
        Self::of(time.as_nanos() as f64 / count as f64)
    }

    pub fn absent(why: impl Into<String>) -> Self {
        Self::Absent { why: why.into() }
    }

    /// Adds a remark about the run. No effect on one that failed.
    pub fn note(self, note: impl Into<String>) -> Self {
        match self {
            Self::Measured { value, footprint, .. } => {
                Self::Measured { value, note: Some(note.into()), footprint }
            }
            other => other,
        }
    }

    /// Adds the page tables and mappings that the run took. No effect on one that failed.
    pub fn footprint(self, footprint: Option<Footprint>) -> Self {
        match self {
            Self::Measured { value, note, .. } => Self::Measured { value, note, footprint },
            other => other,
        }
    }
}

/// Does the work of a case once.
pub type Run = Box<dyn Fn(Size) -> Sample>;

/// A library, or the kernel, that does the work of a case.
pub struct Subject {
    pub name: String,
    pub run: Run,
    /// Ours against it, at most.
    pub target: Option<Target>,
}

/// The bound that a ratio must not exceed, and the ratio to aim for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    pub bound: f64,
    pub aim: f64,
}

/// One comparison. `subjects[0]` is ours.
pub struct Case {
    pub name: String,
    pub unit: &'static str,
    pub pick: Pick,
    /// One round is enough for what is counted, not timed.
    pub counted: bool,
    /// `--quick` leaves it out.
    pub full_only: bool,
    /// Three rounds are enough, since a short disturbance changes a long sample little.
    pub long: bool,
    pub subjects: Vec<Subject>,
}

impl Case {
    pub fn new(
        name: impl Into<String>,
        unit: &'static str,
        ours: impl Fn(Size) -> Sample + 'static,
    ) -> Self {
        let case = Self {
            name: name.into(),
            unit,
            pick: Pick::Median,
            counted: false,
            full_only: false,
            long: false,
            subjects: Vec::new(),
        };
        case.rival("pagewise", ours)
    }

    /// Gives our own subject another name than `pagewise`.
    pub fn ours_is(mut self, name: &str) -> Self {
        self.subjects[0].name = name.into();
        self
    }

    pub fn rival(
        mut self,
        name: impl Into<String>,
        run: impl Fn(Size) -> Sample + 'static,
    ) -> Self {
        self.subjects.push(Subject { name: name.into(), run: Box::new(run), target: None });
        self
    }

    /// Sets what ours must reach against the rival that was added last.
    pub fn target(mut self, bound: f64, aim: f64) -> Self {
        self.subjects.last_mut().expect("there is ours at least").target =
            Some(Target { bound, aim });
        self
    }

    pub fn smallest(mut self) -> Self {
        self.pick = Pick::Smallest;
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
