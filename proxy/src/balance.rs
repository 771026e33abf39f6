//! Which endpoint gets the next attempt.
//!
//! Comes in: the load of each endpoint, the time, randomness. Goes out: an index. The rule is power of two
//! choices over peak EWMA: two endpoints are drawn at random and the one with the lower expected cost is taken
//! (Mitzenmacher, "The Power of Two Choices", 2001). Endpoints in backoff after refused connections, and those
//! tried before for this request, are taken only when there is nothing else.
//!
//! Costs that differ by less than [`NOISE`] count as equal, and the draw decides. Without that, a client that
//! sends one request after the other would stay with one replica for seconds: of two that serve alike, one is
//! always a little faster.
//!
//! Pure: time and randomness are passed in.

pub mod endpoints;
pub mod ewma;

pub use endpoints::{EndpointSet, InFlight, Member};
pub use ewma::PeakEwma;

/// Costs whose ratio is below this are equal. One request in flight against none is a ratio of two, and so
/// still decides.
const NOISE: f64 = 1.5;

/// How good a candidate is, best first; among equals the lower cost wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Nothing speaks against it.
    Good,
    /// Connections to it failed a moment ago.
    Backoff,
    /// This request was tried there already.
    Tried,
}

/// What the balancer asks about an endpoint.
pub trait Candidates {
    /// How many endpoints there are.
    fn count(&self) -> usize;
    /// How good the endpoint at this index is.
    fn standing(&self, index: usize) -> Standing;
    /// Its expected cost: smoothed latency times work in flight. Never NaN.
    fn cost(&self, index: usize) -> f64;
}

/// Chooses an endpoint, or `None` when there is none at all.
///
/// Two draws see two good endpoints almost always; only when both are not good is the whole set walked.
pub fn pick(candidates: &impl Candidates, random: &mut fastrand::Rng) -> Option<usize> {
    let count = candidates.count();
    if count < 2 {
        return (count == 1).then_some(0);
    }
    let first = random.usize(..count);
    let second = (first + random.usize(1..count)) % count;
    let better = cheaper(candidates, first, second);
    if candidates.standing(better) == Standing::Good {
        return Some(better);
    }
    let start = random.usize(..count);
    (0..count)
        .map(|offset| (start + offset) % count)
        .reduce(|best, index| cheaper(candidates, best, index))
}

/// The better of two: by standing, then by cost; the first when they are as good as equal.
fn cheaper(candidates: &impl Candidates, one: usize, other: usize) -> usize {
    match candidates.standing(other).cmp(&candidates.standing(one)) {
        std::cmp::Ordering::Less => other,
        std::cmp::Ordering::Greater => one,
        std::cmp::Ordering::Equal if candidates.cost(other) * NOISE < candidates.cost(one) => other,
        std::cmp::Ordering::Equal => one,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Table(Vec<(Standing, f64)>);

    impl Candidates for Table {
        fn count(&self) -> usize {
            self.0.len()
        }
        fn standing(&self, index: usize) -> Standing {
            self.0[index].0
        }
        fn cost(&self, index: usize) -> f64 {
            self.0[index].1
        }
    }

    fn share(table: &Table, draws: usize) -> Vec<f64> {
        let mut random = fastrand::Rng::with_seed(7);
        let mut counts = vec![0_u32; table.count()];
        for _ in 0..draws {
            counts[pick(table, &mut random).expect("there are endpoints")] += 1;
        }
        counts.iter().map(|count| f64::from(*count) / draws as f64).collect()
    }

    #[test]
    fn nothing_is_picked_from_nothing_and_the_only_one_from_one() {
        let mut random = fastrand::Rng::with_seed(1);
        assert_eq!(pick(&Table(vec![]), &mut random), None);
        assert_eq!(pick(&Table(vec![(Standing::Tried, 9.0)]), &mut random), Some(0));
    }

    #[test]
    fn equal_endpoints_share_equally() {
        let table = Table(vec![(Standing::Good, 1.0); 4]);
        for share in share(&table, 40_000) {
            assert!((share - 0.25).abs() < 0.02, "{share}");
        }
    }

    #[test]
    fn endpoints_that_differ_by_noise_share_equally() {
        let table = Table(vec![(Standing::Good, 1.0), (Standing::Good, 1.4)]);
        for share in share(&table, 40_000) {
            assert!((share - 0.5).abs() < 0.02, "{share}");
        }
        let table = Table(vec![(Standing::Good, 1.0), (Standing::Good, 2.0)]);
        assert_eq!(share(&table, 1_000), [1.0, 0.0], "one more in flight is no noise");
    }

    #[test]
    fn the_costliest_of_many_is_never_picked_over_another() {
        let mut rows = vec![(Standing::Good, 1.0); 5];
        rows[3].1 = 50.0;
        assert_eq!(share(&Table(rows), 10_000)[3], 0.0);
    }

    #[test]
    fn the_only_good_endpoint_is_found_among_a_thousand() {
        let mut rows = vec![(Standing::Backoff, 1.0); 1_000];
        rows[777] = (Standing::Good, 1e9);
        assert_eq!(share(&Table(rows), 500)[777], 1.0);
    }

    #[test]
    fn a_tried_endpoint_is_worse_than_one_in_backoff() {
        let table = Table(vec![(Standing::Tried, 0.0), (Standing::Backoff, 1e9)]);
        assert_eq!(share(&table, 100), [0.0, 1.0]);
    }
}
