//! Whether the machine was quiet enough for verdicts: the A/A rows.

use serde::Serialize;

use crate::stats::Ratio;

/// How far our own subject was from itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Noise {
    #[serde(skip)]
    pub suite: &'static str,
    pub case: String,
    /// `None` where the control was not measured.
    #[serde(flatten)]
    pub ratio: Option<Ratio>,
}

impl Noise {
    /// Whether the machine measures the same thing as different: no ratio of the suite allows a verdict then.
    pub fn is_too_much(&self) -> bool {
        !self.ratio.is_some_and(|found| (0.95..=1.05).contains(&found.ratio))
    }

    /// For above the tables.
    pub fn spread(&self) -> String {
        match self.ratio {
            Some(found) => format!("{:.3} ({:.3} to {:.3})", found.ratio, found.low, found.high),
            None => "not measured".into(),
        }
    }

    /// What to say where it is too much.
    pub fn complaint(&self) -> String {
        format!(
            "this machine is too noisy for a verdict: {}: {}: the same twice: {}, must be within 0.95 to 1.05",
            self.suite,
            self.case,
            self.spread()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_twice_must_be_within_a_twentieth() {
        let of = |ratio| Noise {
            suite: "fill",
            case: "a store".into(),
            ratio: Some(Ratio { ratio, low: 0.5, high: 2.0, rounds: 7 }),
        };
        for (ratio, too_much) in
            [(1.0, false), (0.95, false), (1.05, false), (0.949, true), (1.051, true)]
        {
            assert_eq!(of(ratio).is_too_much(), too_much, "{ratio}");
        }
        assert!(of(f64::NAN).is_too_much());
        assert!(Noise { ratio: None, ..of(1.0) }.is_too_much());
        let said = of(1.2).complaint();
        assert!(said.contains("too noisy for a verdict: fill: a store"), "{said}");
    }
}
