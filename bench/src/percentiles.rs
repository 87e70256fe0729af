//! The distribution of very many times, in little memory.

/// Counts times in classes: exact below 256 ns, and less than 0.8 % wide above.
pub struct Percentiles {
    classes: Vec<u64>,
    count: u64,
    most: u64,
}

/// Times of as many bits as this are counted exactly; above, as many leading bits of a time decide its class.
const BITS: u32 = 8;
const HALF: u64 = 1 << (BITS - 1);

impl Percentiles {
    pub fn new() -> Self {
        let classes = (65 - BITS as usize) * HALF as usize + HALF as usize;
        Self { classes: vec![0; classes], count: 0, most: 0 }
    }

    pub fn add(&mut self, nanoseconds: u64) {
        self.classes[class(nanoseconds)] += 1;
        self.count += 1;
        self.most = self.most.max(nanoseconds);
    }

    /// The smallest time that at least this part of all times does not exceed; at least 1 ns, since a clock may stand
    /// still for so short a time.
    pub fn at(&self, part: f64) -> f64 {
        let wanted = ((self.count as f64 * part).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        let found = self.classes.iter().position(|&count| {
            seen += count;
            seen >= wanted
        });
        found.map_or(0, |class| least_of(class + 1) - 1).clamp(1, self.most.max(1)) as f64
    }

    pub fn most(&self) -> f64 {
        self.most.max(1) as f64
    }
}

fn class(value: u64) -> usize {
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(BITS);
    u64::from(shift) as usize * HALF as usize + (value >> shift) as usize
}

/// The smallest value of a class.
fn least_of(class: usize) -> u64 {
    let (class, half) = (class as u64, HALF);
    let shift = (class / half).saturating_sub(1);
    (class - shift * half).checked_shl(shift as u32).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_follow_each_other_without_a_gap_and_are_narrow() {
        let mut last = 0;
        for value in
            (0..100_000).chain((17..63).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1]))
        {
            let class = class(value);
            assert!(class >= last);
            last = class;
            let (least, next) = (least_of(class), least_of(class + 1));
            assert!((least..next).contains(&value), "{value} in {least}..{next}");
            assert!((next - least) as f64 <= 1.0_f64.max(value as f64 * 0.008), "{least}..{next}");
        }
    }

    #[test]
    fn percentiles_are_those_of_a_sorted_list() {
        let mut rng = fastrand::Rng::with_seed(9);
        let mut times: Vec<u64> =
            (0..100_000).map(|_| (1.0 / (1e-6 + rng.f64())) as u64 * 50).collect();
        let mut percentiles = Percentiles::new();
        times.iter().for_each(|&time| percentiles.add(time));
        times.sort_unstable();
        for part in [0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 1.0] {
            let exact = times[(times.len() as f64 * part).ceil() as usize - 1].max(1) as f64;
            let found = percentiles.at(part);
            assert!(
                found >= exact && found <= exact * 1.008 + 1.0,
                "{part}: {found}, exactly {exact}"
            );
        }
        assert_eq!(percentiles.most(), *times.last().unwrap() as f64);
    }

    #[test]
    fn a_clock_that_stands_still_gives_no_zero() {
        let mut percentiles = Percentiles::new();
        percentiles.add(0);
        assert_eq!((percentiles.at(0.5), percentiles.most()), (1.0, 1.0));
    }
}
