//! Medians and ratios of many rounds.

/// Median, smallest and largest of some measurements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Summary {
    /// `None` where nothing was measured.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        };
        Some(Self { median, min, max })
    }
}

/// Which value of all rounds counts for a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    Median,
    /// For worst cases: a round in which the thread lost the processor has a larger one.
    Smallest,
}

impl Pick {
    pub fn from(self, summary: Summary) -> f64 {
        match self {
            Self::Median => summary.median,
            Self::Smallest => summary.min,
        }
    }
}

/// Ours divided by theirs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// The ratio of the two picked values.
    pub ratio: f64,
    /// The smallest ratio of a single round, whose two samples were taken right after each other.
    pub min: f64,
    pub max: f64,
}

/// The ratio of two subjects that took turns: `ours[i]` and `theirs[i]` are of the same round.
pub fn ratio(ours: &[f64], theirs: &[f64], pick: Pick) -> Option<Ratio> {
    let rounds: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| a / b).collect();
    let paired = Summary::of(&rounds)?;
    let (a, b) = (Summary::of(&ours[..rounds.len()])?, Summary::of(&theirs[..rounds.len()])?);
    Some(Ratio { ratio: pick.from(a) / pick.from(b), min: paired.min, max: paired.max })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_an_even_count_lies_between_two_values() {
        assert_eq!(Summary::of(&[4.0, 1.0, 3.0, 2.0]).unwrap().median, 2.5);
        assert_eq!(
            Summary::of(&[9.0, 1.0, 5.0]),
            Some(Summary { median: 5.0, min: 1.0, max: 9.0 })
        );
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn a_ratio_compares_picked_values_and_its_ends_are_those_of_single_rounds() {
        let (ours, theirs) = ([10.0, 20.0, 60.0], [10.0, 40.0, 30.0]);
        let of = |pick| ratio(&ours, &theirs, pick).unwrap();
        assert_eq!(of(Pick::Median), Ratio { ratio: 20.0 / 30.0, min: 0.5, max: 2.0 });
        assert_eq!(of(Pick::Smallest).ratio, 1.0);
    }

    #[test]
    fn the_ratio_lies_between_its_ends_even_if_every_round_is_different() {
        let ours: Vec<f64> = (0..9).map(|i| f64::from(i * 7919 % 13 + 1)).collect();
        let theirs: Vec<f64> = (0..9).map(|i| f64::from(i * 104_729 % 17 + 1)).collect();
        for pick in [Pick::Median, Pick::Smallest] {
            let found = ratio(&ours, &theirs, pick).unwrap();
            assert!(found.min <= found.ratio && found.ratio <= found.max, "{found:?}");
        }
    }

    #[test]
    fn no_round_no_ratio() {
        assert_eq!(ratio(&[1.0], &[], Pick::Median), None);
    }
}
