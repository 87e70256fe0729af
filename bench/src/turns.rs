//! In which order the subjects of a round take their turns.

use fastrand::Rng;

/// Orders that depend on nothing but the seed: the same seed repeats a run, and a filter changes no other case's.
#[derive(Clone, Copy)]
pub struct Turns {
    pub seed: u64,
}

impl Turns {
    /// A seed of its own for each case: of its suite's name and its number there.
    pub fn seed_of(self, suite: &str, case: usize) -> u64 {
        let words = suite.bytes().map(u64::from).chain([case as u64]);
        words.fold(self.seed, |seed, word| Rng::with_seed(seed ^ word).u64(..))
    }

    /// Every subject once, in an order that is drawn anew for each round: whoever ran before, or when the machine was
    /// disturbed, falls on all of them alike.
    pub fn order(self, suite: &str, case: usize, round: usize, subjects: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..subjects).collect();
        let seed = self.seed_of(suite, case).wrapping_add(round as u64);
        Rng::with_seed(Rng::with_seed(seed).u64(..)).shuffle(&mut order);
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TURNS: Turns = Turns { seed: 42 };

    #[test]
    fn each_round_has_every_subject_once() {
        for round in 0..100 {
            let mut order = TURNS.order("fill", 3, round, 9);
            order.sort_unstable();
            assert!(order.into_iter().eq(0..9));
        }
    }

    #[test]
    fn every_subject_comes_at_every_place_equally_often() {
        const ROUNDS: usize = 4000;
        let mut places = [[0; 4]; 4];
        for round in 0..ROUNDS {
            for (place, subject) in TURNS.order("fill", 3, round, 4).into_iter().enumerate() {
                places[subject][place] += 1;
            }
        }
        // Four times the standard deviation of a count.
        let most = 4.0 * (ROUNDS as f64 * 0.25 * 0.75).sqrt();
        for count in places.as_flattened() {
            assert!((f64::from(*count) - ROUNDS as f64 / 4.0).abs() < most, "{places:?}");
        }
    }

    #[test]
    fn the_seed_decides_and_so_do_suite_case_and_round() {
        let of = |seed, suite, case, round| Turns { seed }.order(suite, case, round, 12);
        let first = of(1, "fill", 0, 0);
        assert_eq!(first, of(1, "fill", 0, 0));
        for other in
            [of(2, "fill", 0, 0), of(1, "fault", 0, 0), of(1, "fill", 1, 0), of(1, "fill", 0, 1)]
        {
            assert_ne!(first, other);
        }
    }
}
