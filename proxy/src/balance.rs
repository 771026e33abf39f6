//! Which endpoint gets the next attempt.
//!
//! Comes in: how good each endpoint is, its load, the time, randomness. Goes out: an index. The rule is power of two
//! choices: two endpoints are drawn at random and the better one is taken (Mitzenmacher, "The Power of Two Choices",
//! 2001), by peak EWMA unless a policy says otherwise ([`policy`]). Endpoints that something speaks against
//! ([`Standing`]), and those tried before for this request, are taken only when there is nothing else.
//!
//! Costs that differ by less than [`NOISE`] count as equal, and the draw decides. Without that, a client that
//! sends one request after the other would stay with one replica for seconds: of two that serve alike, one is
//! always a little faster.
//!
//! A pick costs the same however many endpoints there are: a few draws find a good one unless most are bad, and only
//! then is the whole set walked.
//!
//! Pure: time and randomness are passed in.

pub mod affinity;
pub mod cooling;
pub mod endpoints;
pub mod ewma;
pub mod plan;
pub mod policy;
pub mod ring;
pub mod slow_start;
mod view;
pub mod zones;

pub use affinity::Affinity;
pub use endpoints::{EndpointSet, InFlight, Member};
pub use ewma::PeakEwma;
pub use plan::Plan;
pub use policy::BalancingPolicy;

/// Costs whose ratio is below this are equal. One request in flight against none is a ratio of two, and so
/// still decides.
const NOISE: f64 = 1.5;

/// Draws of two before the whole set is walked. With half of the endpoints bad, one pick in 256 walks.
const DRAWS: usize = 4;

/// How good a candidate is, best first; among equals the lower cost wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Nothing speaks against it.
    Good,
    /// It asked to be left alone for a while.
    Cooling,
    /// Connections to it failed a moment ago.
    Backoff,
    /// This request was tried there already.
    Tried,
    /// Its breaker leaves it alone.
    Ejected,
}

/// What the balancer asks about an endpoint.
pub trait Candidates {
    /// How many endpoints there are.
    fn count(&self) -> usize;
    /// How good the endpoint at this index is.
    fn standing(&self, index: usize) -> Standing;
    /// Its expected cost: smoothed latency times work in flight. Never NaN.
    fn cost(&self, index: usize) -> f64;
    /// Costs whose ratio is below this are equal.
    fn noise(&self) -> f64 {
        NOISE
    }
    /// How much of an equal share it gets, above 0 up to 1: less than 1 while it is new.
    fn share(&self, _index: usize) -> f64 {
        1.0
    }
}

/// Chooses an endpoint, or `None` when there is none at all.
pub fn pick(candidates: &impl Candidates, random: &mut fastrand::Rng) -> Option<usize> {
    let count = candidates.count();
    if count < 2 {
        return (count == 1).then_some(0);
    }
    let mut good = None;
    for _ in 0..DRAWS {
        let first = random.usize(..count);
        let second = (first + random.usize(1..count)) % count;
        let better = cheaper(candidates, first, second);
        if candidates.standing(better) != Standing::Good {
            continue;
        }
        if gets_its_turn(candidates, better, random) {
            return Some(better);
        }
        good = Some(better);
    }
    good.or_else(|| best_of_all(candidates, random))
}

/// Whether an endpoint that was drawn is taken: a new one only as often as its share says.
fn gets_its_turn(candidates: &impl Candidates, index: usize, random: &mut fastrand::Rng) -> bool {
    let share = candidates.share(index);
    share >= 1.0 || random.f64() < share
}

/// Walks the whole set: two draws among those of the best standing, and the better one of them.
fn best_of_all(candidates: &impl Candidates, random: &mut fastrand::Rng) -> Option<usize> {
    let mut best = None;
    let (mut seen, mut drawn) = (0, [0, 0]);
    for index in 0..candidates.count() {
        let standing = candidates.standing(index);
        if best.is_none_or(|best| standing < best) {
            (best, seen, drawn) = (Some(standing), 1, [index, index]);
        } else if best == Some(standing) {
            seen += 1;
            // A reservoir of two: each that was seen stands in it with the same chance.
            let place = if seen == 2 { 1 } else { random.usize(..seen) };
            if let Some(place) = drawn.get_mut(place) {
                *place = index;
            }
        }
    }
    best?;
    let [one, other] = drawn;
    let (one, other) = if random.bool() { (one, other) } else { (other, one) };
    Some(cheaper(candidates, one, other))
}

/// The better of two: by standing, then by cost; the first when they are as good as equal.
fn cheaper(candidates: &impl Candidates, one: usize, other: usize) -> usize {
    match candidates.standing(other).cmp(&candidates.standing(one)) {
        std::cmp::Ordering::Less => other,
        std::cmp::Ordering::Greater => one,
        std::cmp::Ordering::Equal
            if candidates.cost(other) * candidates.noise() < candidates.cost(one) =>
        {
            other
        }
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
    fn where_most_are_bad_the_good_ones_share_equally() {
        let mut rows = vec![(Standing::Backoff, 1.0); 40];
        for good in [3, 4, 5, 39] {
            rows[good].0 = Standing::Good;
        }
        let shares = share(&Table(rows), 40_000);
        for good in [3, 4, 5, 39] {
            assert!((shares[good] - 0.25).abs() < 0.03, "{shares:?}");
        }
    }

    #[test]
    fn where_all_are_alike_bad_all_are_used() {
        for standing in [Standing::Cooling, Standing::Backoff, Standing::Tried] {
            for share in share(&Table(vec![(standing, 1.0); 5]), 40_000) {
                assert!((share - 0.2).abs() < 0.02, "{standing:?} {share}");
            }
        }
    }

    #[test]
    fn a_tried_endpoint_is_worse_than_one_in_backoff() {
        let table = Table(vec![(Standing::Tried, 0.0), (Standing::Backoff, 1e9)]);
        assert_eq!(share(&table, 100), [0.0, 1.0]);
    }
}
