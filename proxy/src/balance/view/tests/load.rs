//! Requests that last: how they spread over endpoints of which some are slower than others.
//!
//! One request comes in a step, and stays at its endpoint for as many steps as that one is slow.

use std::collections::VecDeque;

use super::*;
use crate::balance::InFlight;

const STEPS: usize = 3_000;

/// How many requests each endpoint got, and the most that were in flight at it.
fn simulate(algorithm: Algorithm, slowness: &[usize], seed: u64) -> (Vec<usize>, Vec<u32>) {
    let mut bench = bench(with(algorithm), &vec!["a"; slowness.len()], seed);
    let members: Vec<_> = (0..slowness.len()).map(|index| bench.member(index)).collect();
    let (mut counts, mut most) = (vec![0; slowness.len()], vec![0; slowness.len()]);
    let longest = slowness.iter().max().copied().unwrap_or_default();
    // By the step in which they end.
    let mut ends: VecDeque<Vec<InFlight>> = (0..=longest).map(|_| Vec::new()).collect();
    for _ in 0..STEPS {
        ends.rotate_left(1);
        ends[longest].clear();
        let index = bench.pick(None);
        ends[slowness[index] - 1].push(InFlight::enter(&members[index]));
        counts[index] += 1;
        most[index] = most[index].max(members[index].in_flight());
    }
    (counts, most)
}

fn by_load() -> impl Strategy<Value = Algorithm> {
    prop_oneof![Just(Algorithm::LeastRequest), Just(Algorithm::PeakEwma)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Who lasts longer gets less, nobody gets nothing, and nobody is loaded far above the others.
    #[test]
    fn by_load_the_slow_get_less_and_nobody_starves(
        algorithm in by_load(),
        fast in 2..8_usize,
        factor in 4..16_usize,
        seed: u64,
    ) {
        // One slow endpoint behind some fast ones, which are busy with some three requests each.
        let mut slowness = vec![3 * fast; fast];
        slowness.push(3 * fast * factor);
        let (counts, most) = simulate(algorithm, &slowness, seed);
        let slow = counts[fast];
        prop_assert!(slow > 0, "{counts:?}");
        for quick in &counts[..fast] {
            prop_assert!(slow * 2 < *quick, "{counts:?}");
            prop_assert!(quick * fast * 10 > STEPS * 6, "{counts:?}");
        }
        prop_assert!(most.iter().all(|most| *most <= 12), "{most:?}");
    }

    /// Whatever the load, endpoints that are alike get alike.
    #[test]
    fn endpoints_that_are_alike_get_alike_under_load(
        algorithm in prop_oneof![by_load(), Just(Algorithm::Random), Just(Algorithm::RoundRobin)],
        count in 2..10_usize,
        lasts in 1..20_usize,
        seed: u64,
    ) {
        let (counts, _) = simulate(algorithm, &vec![lasts; count], seed);
        let equal = STEPS / count;
        for got in &counts {
            prop_assert!(got * 10 > equal * 7 && got * 10 < equal * 13, "{counts:?}");
        }
    }
}
