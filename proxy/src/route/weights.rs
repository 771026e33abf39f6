//! A choice among weighted things.
//!
//! Comes in: weights, and randomness for each choice. Goes out: one of the things, each in proportion to its weight;
//! what weighs nothing is never chosen, and nothing is chosen when nothing weighs anything.

/// Things with weights.
#[derive(Debug)]
pub struct Weighted<T> {
    /// Each with the sum of the weights up to and with its own.
    items: Box<[(u64, T)]>,
}

impl<T> Weighted<T> {
    /// These things, each after its weight.
    pub fn new(items: impl IntoIterator<Item = (u32, T)>) -> Self {
        let mut sum = 0;
        let with_sum = |(weight, item)| {
            sum += u64::from(weight);
            (sum, item)
        };
        Self { items: items.into_iter().map(with_sum).collect() }
    }

    /// One of them, by weight.
    pub fn choose(&self, random: &mut fastrand::Rng) -> Option<&T> {
        let total = self.items.last()?.0;
        if total == 0 {
            return None;
        }
        let drawn = random.u64(..total);
        let index = self.items.partition_point(|(sum, _)| *sum <= drawn);
        self.items.get(index).map(|(_, item)| item)
    }

    /// All of them, in order, each after its weight.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        let before = std::iter::once(0).chain(self.items.iter().map(|(sum, _)| *sum));
        self.items.iter().zip(before).map(|((sum, item), before)| (sum - before, item))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_is_chosen_where_nothing_weighs_anything() {
        let mut random = fastrand::Rng::with_seed(1);
        assert_eq!(Weighted::<u8>::new([]).choose(&mut random), None);
        assert_eq!(Weighted::new([(0, 'a'), (0, 'b')]).choose(&mut random), None);
    }

    #[test]
    fn the_largest_weights_do_not_overflow() {
        let mut random = fastrand::Rng::with_seed(1);
        let all = Weighted::new((0..16).map(|index| (u32::MAX, index)));
        assert!(all.choose(&mut random).is_some());
    }

    proptest! {
        #[test]
        fn everything_is_chosen_in_proportion_to_its_weight(
            weights in proptest::collection::vec(prop_oneof![Just(0_u32), 1..100_u32], 1..8),
            seed: u64,
        ) {
            const DRAWS: u32 = 20_000;
            let total: u32 = weights.iter().sum();
            let all = Weighted::new(weights.iter().copied().enumerate().map(|(i, w)| (w, i)));
            let mut random = fastrand::Rng::with_seed(seed);
            let mut counts = vec![0_u32; weights.len()];
            for _ in 0..DRAWS {
                if let Some(&index) = all.choose(&mut random) {
                    counts[index] += 1;
                }
            }
            for (weight, count) in weights.iter().zip(counts) {
                if *weight == 0 {
                    prop_assert_eq!(count, 0);
                } else {
                    let (wanted, got) =
                        (f64::from(*weight) / f64::from(total), f64::from(count) / f64::from(DRAWS));
                    prop_assert!((wanted - got).abs() < 0.02, "{} of {}: {}", weight, total, got);
                }
            }
        }
    }
}
