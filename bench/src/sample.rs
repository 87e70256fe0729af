//! The result of one run of a subject, which a child process passes to its parent.

use std::time::Duration;

use serde::{Deserialize, Serialize};

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

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sample {
    /// One value for each part of the case, in the case's unit.
    Measured { values: Vec<f64>, note: Option<String>, footprint: Option<Footprint> },
    /// This subject does not exist here, and why.
    Absent { why: String },
    /// The run failed or was given up, and why.
    Failed { why: String },
}

impl Sample {
    pub fn of(value: f64) -> Self {
        Self::of_parts(vec![value])
    }

    /// For a case that has parts: a value for each, in their order.
    pub fn of_parts(values: Vec<f64>) -> Self {
        Self::Measured { values, note: None, footprint: None }
    }

    /// The time of `count` operations, in nanoseconds for each.
    pub fn per(time: Duration, count: usize) -> Self {
        Self::of(time.as_nanos() as f64 / count as f64)
    }

    pub fn absent(why: impl Into<String>) -> Self {
        Self::Absent { why: why.into() }
    }

    /// What was measured, or why the run failed.
    pub fn or_failed(sample: Result<Self, impl ToString>) -> Self {
        sample.unwrap_or_else(|why| Self::Failed { why: why.to_string() })
    }

    /// Adds a remark about the run. No effect on one that failed.
    pub fn note(self, note: impl Into<String>) -> Self {
        match self {
            Self::Measured { values, footprint, .. } => {
                Self::Measured { values, note: Some(note.into()), footprint }
            }
            other => other,
        }
    }

    /// Adds the page tables and mappings that the run took. No effect on one that failed.
    pub fn footprint(self, footprint: Option<Footprint>) -> Self {
        match self {
            Self::Measured { values, note, .. } => Self::Measured { values, note, footprint },
            other => other,
        }
    }
}
