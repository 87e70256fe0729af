//! Medians, ratios of paired rounds with an interval, and what they allow to say about a bound.

use fastrand::Rng;
use serde::Serialize;

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
        let median = median_of(&mut sorted)?;
        Some(Self { median, min: sorted[0], max: sorted[sorted.len() - 1] })
    }
}

/// Sorts the values. `None` where there are none.
fn median_of(values: &mut [f64]) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        len if len % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// Ours divided by theirs, in rounds that were measured right after each other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// The median of the rounds' ratios.
    pub ratio: f64,
    /// The ends of the interval that has the true median with a confidence of 95 %.
    pub low: f64,
    pub high: f64,
    /// How many rounds both subjects took part in.
    pub rounds: usize,
}

/// What a ratio says about a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The whole interval keeps the bound.
    Kept,
    /// The whole interval is beyond the bound.
    Missed,
    /// The interval has the bound inside, or there is none.
    Inconclusive,
}

impl Ratio {
    /// Of fewer values, even the whole range has the true median with a confidence of less than 95 %: it misses it
    /// where all values are on one side, which happens once in `2^(n-1)` times.
    pub const LEAST_ROUNDS: usize = 6;

    /// The ratio of two subjects that took turns: `ours[i]` and `theirs[i]` are of the same round. `None` without a
    /// round.
    pub fn of(ours: &[f64], theirs: &[f64], seed: u64) -> Option<Self> {
        let mut rounds: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| a / b).collect();
        let (low, high) = interval(&rounds, seed)?;
        Some(Self { ratio: median_of(&mut rounds)?, low, high, rounds: rounds.len() })
    }

    pub fn verdict(&self, bound: f64) -> Verdict {
        if self.rounds < Self::LEAST_ROUNDS {
            Verdict::Inconclusive
        } else if self.high <= bound {
            Verdict::Kept
        } else if self.low > bound {
            Verdict::Missed
        } else {
            Verdict::Inconclusive
        }
    }
}

/// The ends of the interval: those of the bootstrap, or those of the order statistics where these are farther out. Of few
/// values, the bootstrap alone is too narrow: with seven rounds, it has the true median in 87 of 100 cases.
fn interval(values: &[f64], seed: u64) -> Option<(f64, f64)> {
    let drawn = bootstrap(values, seed)?;
    let counted = order_statistics(values)?;
    Some((drawn.0.min(counted.0), drawn.1.max(counted.1)))
}

const RESAMPLES: usize = 2000;

/// The bootstrap's interval of the median (percentile method): draws as many values as there are, with repetition, and
/// takes the median; of many such medians, it leaves out a fortieth at each end. The same seed draws the same.
fn bootstrap(values: &[f64], seed: u64) -> Option<(f64, f64)> {
    let mut rng = Rng::with_seed(seed);
    let mut drawn = vec![0.0; values.len()];
    let mut medians = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        drawn.fill_with(|| values[rng.usize(..values.len())]);
        medians.push(median_of(&mut drawn)?);
    }
    medians.sort_unstable_by(f64::total_cmp);
    let out = RESAMPLES / 40;
    Some((medians[out], medians[RESAMPLES - 1 - out]))
}

/// The exact interval of the median, whatever the values' distribution: each value is below the true median with a
/// probability of one half. As many values are left out at each end as keep 95 %.
fn order_statistics(values: &[f64]) -> Option<(f64, f64)> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    // The probability that exactly `out` values are below the true median, and that at most as many are.
    let mut exactly = 0.5f64.powi(sorted.len() as i32);
    let (mut at_most, mut out) = (exactly, 0);
    loop {
        exactly *= (sorted.len() - out) as f64 / (out + 1) as f64;
        if at_most + exactly > 0.025 || out + 1 > sorted.len() / 2 {
            break;
        }
        at_most += exactly;
        out += 1;
    }
    Some((*sorted.get(out)?, *sorted.get(sorted.len().checked_sub(1 + out)?)?))
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
    fn a_ratio_is_the_median_of_the_rounds_ratios_and_not_the_ratio_of_the_medians() {
        // Ratios 1, 2, 3; the medians' ratio would be 20 / 10.
        let found = Ratio::of(&[10.0, 20.0, 300.0], &[10.0, 10.0, 100.0], 1).unwrap();
        assert_eq!((found.ratio, found.rounds), (2.0, 3));
        // A machine that slows down as a whole changes no ratio.
        let slower: Vec<f64> = (1..=9).map(f64::from).collect();
        let twice: Vec<f64> = slower.iter().map(|value| value * 2.0).collect();
        let found = Ratio::of(&slower, &twice, 1).unwrap();
        assert_eq!((found.low, found.ratio, found.high), (0.5, 0.5, 0.5));
    }

    #[test]
    fn only_rounds_of_both_count() {
        assert_eq!(Ratio::of(&[1.0, 2.0, 3.0], &[1.0], 1).unwrap().rounds, 1);
        assert_eq!(Ratio::of(&[1.0], &[], 1), None);
    }

    #[test]
    fn the_same_seed_gives_the_same_interval_and_another_seed_may_not() {
        let ours: Vec<f64> = (1..=24).map(|i| f64::from(i * i)).collect();
        let of = |seed| bootstrap(&ours, seed).unwrap();
        assert_eq!(of(7), of(7));
        assert!((8..40).any(|seed| of(seed) != of(7)));
    }

    /// The rank of the median of 101 values is off by five in the standard deviation, so that 95 % are within 9.8 ranks.
    #[test]
    fn the_bootstraps_interval_is_as_wide_as_theory_says() {
        let (low, high) = bootstrap(&(0..101).map(f64::from).collect::<Vec<_>>(), 1).unwrap();
        assert!(
            (8.5..=11.5).contains(&(50.0 - low)) && (8.5..=11.5).contains(&(high - 50.0)),
            "{low} {high}"
        );
    }

    #[test]
    fn the_interval_has_the_ratio_and_stays_inside_the_rounds() {
        let mut rng = Rng::with_seed(5);
        for rounds in 1..30 {
            let ours: Vec<f64> = (0..rounds).map(|_| rng.f64() + 0.1).collect();
            let found = Ratio::of(&ours, &vec![1.0; rounds], 3).unwrap();
            let all = Summary::of(&ours).unwrap();
            assert!(all.min <= found.low && found.low <= found.ratio, "{found:?}");
            assert!(found.ratio <= found.high && found.high <= all.max, "{found:?}");
        }
    }

    /// Draws rounds whose true median is known, many times, and counts the intervals that have it.
    fn coverage(rounds: usize, draw: fn(&mut Rng) -> f64, truth: f64) -> f64 {
        const TIMES: u64 = 250;
        let inside = (0..TIMES).filter(|&time| {
            let mut rng = Rng::with_seed(time);
            let ours: Vec<f64> = (0..rounds).map(|_| draw(&mut rng)).collect();
            let found = Ratio::of(&ours, &vec![1.0; rounds], time + 1_000_000).unwrap();
            found.low <= truth && truth <= found.high
        });
        inside.count() as f64 / TIMES as f64
    }

    #[test]
    fn about_nineteen_of_twenty_intervals_have_the_true_ratio() {
        let even: fn(&mut Rng) -> f64 = |rng| 0.5 + rng.f64();
        // Most rounds close together, some far above: an interruption.
        let skewed: fn(&mut Rng) -> f64 = |rng| 1.0 / (1.0 - rng.f64() * 0.999);
        for rounds in [7, 12] {
            for (draw, truth) in [(even, 1.0), (skewed, 1.0 / (1.0 - 0.5 * 0.999))] {
                let covered = coverage(rounds, draw, truth);
                assert!((0.94..=0.995).contains(&covered), "{rounds} rounds: {covered}");
            }
        }
    }

    /// From a table of the binomial distribution: of 6 to 8 values none may be left out, of 9 one at each end, of 15
    /// three, of 20 five.
    #[test]
    fn as_many_values_are_left_out_as_a_table_says() {
        for (count, out) in
            [(1, 0), (2, 0), (6, 0), (8, 0), (9, 1), (12, 2), (15, 3), (20, 5), (25, 7)]
        {
            let values: Vec<f64> = (0..count).map(f64::from).collect();
            let expected = (f64::from(out), f64::from(count - 1 - out));
            assert_eq!(order_statistics(&values), Some(expected), "{count}");
        }
        assert_eq!(order_statistics(&[]), None);
    }

    #[test]
    fn the_interval_narrows_with_more_rounds() {
        let width = |rounds: usize| {
            let of = |seed| {
                let mut rng = Rng::with_seed(seed);
                let ours: Vec<f64> = (0..rounds).map(|_| 0.5 + rng.f64()).collect();
                let found = Ratio::of(&ours, &vec![1.0; rounds], 3).unwrap();
                found.high - found.low
            };
            (0..8).map(of).sum::<f64>()
        };
        let widths = [7, 20, 60].map(width);
        assert!(widths[2] < widths[1] / 1.3 && widths[1] < widths[0] / 1.2, "{widths:?}");
    }

    #[test]
    fn a_verdict_looks_at_the_interval_and_not_at_the_ratio() {
        let ratio = Ratio { ratio: 0.9, low: 0.8, high: 1.1, rounds: 7 };
        assert_eq!(ratio.verdict(1.2), Verdict::Kept);
        assert_eq!(ratio.verdict(1.1), Verdict::Kept);
        // The ratio itself keeps this bound.
        assert_eq!(ratio.verdict(1.0), Verdict::Inconclusive);
        // The ratio itself is beyond this one.
        assert_eq!(ratio.verdict(0.85), Verdict::Inconclusive);
        assert_eq!(ratio.verdict(0.8), Verdict::Inconclusive);
        assert_eq!(ratio.verdict(0.79), Verdict::Missed);
    }

    #[test]
    fn too_few_rounds_allow_no_verdict_however_clear_they_look() {
        let of = |rounds| Ratio { ratio: 0.1, low: 0.1, high: 0.1, rounds };
        assert_eq!(of(5).verdict(1.0), Verdict::Inconclusive);
        assert_eq!(of(6).verdict(1.0), Verdict::Kept);
        let found = Ratio::of(&[0.1; 3], &[1.0; 3], 1).unwrap();
        assert_eq!(
            (found.verdict(1.0), found.verdict(0.01)),
            (Verdict::Inconclusive, Verdict::Inconclusive)
        );
    }
}
