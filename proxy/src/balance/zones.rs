//! Which zones' endpoints are used: the proxy's own, and further ones while that is not enough.
//!
//! Comes in: the zones of the endpoints, the rule, and now and then how the endpoints are. Goes out: so many levels of
//! endpoints. The first level is the own zone, then follow those of the failover list, each a level, then all others.
//! Levels are joined in this order up to the first that is enough by itself: an own zone that is only too busy goes on
//! doing its part. When none is enough, all are used. A level without endpoints is none.
//!
//! Pure: what is known of the endpoints is asked of the caller.

use std::sync::Arc;

use super::policy::Locality;

/// The endpoints of a snapshot by level.
#[derive(Debug)]
pub struct Zones {
    /// Indices of endpoints, those of the first level first.
    order: Box<[u32]>,
    /// How many endpoints there are up to the end of each level.
    ends: Box<[usize]>,
    /// The level of each endpoint.
    levels: Box<[u16]>,
}

/// What is known of an endpoint.
pub trait Condition {
    /// Whether it can take requests.
    fn is_healthy(&self, index: usize) -> bool;
    /// Requests in flight there.
    fn in_flight(&self, index: usize) -> u32;
}

impl Zones {
    /// The levels of endpoints in these zones, for a proxy in its `own`; `None` where there is nothing to choose: the
    /// own zone is not known, or there is one level only.
    #[must_use]
    pub fn new<'a>(
        own: &str,
        rule: &Locality,
        zones: impl ExactSizeIterator<Item = &'a str>,
    ) -> Option<Self> {
        if own.is_empty() {
            return None;
        }
        let ranks: Vec<usize> = zones.map(|zone| rank(own, &rule.failover, zone)).collect();
        let mut used = ranks.clone();
        used.sort_unstable();
        used.dedup();
        if used.len() < 2 {
            return None;
        }
        let levels: Box<[u16]> = ranks
            .iter()
            .map(|rank| u16::try_from(used.partition_point(|used| used < rank)).unwrap_or(u16::MAX))
            .collect();
        let mut order: Box<[u32]> = (0..).take(levels.len()).collect();
        order.sort_by_key(|index| levels[*index as usize]);
        let ends =
            used.iter().map(|end| ranks.iter().filter(|rank| *rank <= end).count()).collect();
        Some(Self { order, ends, levels })
    }

    /// How many levels there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.ends.len()
    }

    /// The endpoints of the first so many levels.
    #[must_use]
    pub fn first(&self, levels: usize) -> &[u32] {
        let end = levels.checked_sub(1).and_then(|last| self.ends.get(last)).copied();
        &self.order[..end.unwrap_or(self.order.len())]
    }

    /// Whether an endpoint is of the first so many levels.
    #[must_use]
    pub fn holds(&self, index: usize, levels: usize) -> bool {
        self.levels.get(index).is_some_and(|level| usize::from(*level) < levels)
    }

    /// How many levels are to be used. Walks the endpoints up to there.
    #[must_use]
    pub fn needed(&self, rule: &Locality, condition: &impl Condition) -> usize {
        let mut start = 0;
        for (level, end) in self.ends.iter().enumerate() {
            if is_enough(rule, condition, &self.order[start..*end]) {
                return level + 1;
            }
            start = *end;
        }
        self.count()
    }
}

/// The place of a zone in the order of use.
fn rank(own: &str, failover: &[Arc<str>], zone: &str) -> usize {
    if zone == own {
        return 0;
    }
    let listed = failover.iter().position(|listed| **listed == *zone);
    listed.unwrap_or(failover.len()) + 1
}

fn is_enough(rule: &Locality, condition: &impl Condition, level: &[u32]) -> bool {
    if level.len() < rule.min_endpoints as usize {
        return false;
    }
    let (mut healthy, mut in_flight) = (0_u64, 0_u64);
    for index in level {
        healthy += u64::from(condition.is_healthy(*index as usize));
        in_flight += u64::from(condition.in_flight(*index as usize));
    }
    let count = level.len() as u64;
    let is_busy = rule.max_in_flight_per_endpoint != 0
        && in_flight > count.saturating_mul(rule.max_in_flight_per_endpoint.into());
    healthy > 0 && healthy * 100 >= count * u64::from(rule.min_healthy_percent) && !is_busy
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Table(Vec<(bool, u32)>);

    impl Condition for Table {
        fn is_healthy(&self, index: usize) -> bool {
            self.0[index].0
        }
        fn in_flight(&self, index: usize) -> u32 {
            self.0[index].1
        }
    }

    fn rule() -> Locality {
        Locality {
            failover: vec!["b".into(), "c".into()],
            min_endpoints: 2,
            min_healthy_percent: 50,
            max_in_flight_per_endpoint: 10,
        }
    }

    const ZONES: [&str; 8] = ["d", "b", "a", "c", "a", "b", "", "c"];

    fn zones(own: &str) -> Option<Zones> {
        Zones::new(own, &rule(), ZONES.into_iter())
    }

    #[test]
    fn levels_are_the_own_zone_the_list_and_all_others() {
        let zones = zones("a").expect("four levels");
        assert_eq!(zones.count(), 4);
        for (levels, expected) in [(1, &[2, 4][..]), (2, &[2, 4, 1, 5]), (3, &[2, 4, 1, 5, 3, 7])] {
            assert_eq!(zones.first(levels), expected);
        }
        assert_eq!(zones.first(4).len(), 8);
        assert!(zones.holds(4, 1) && !zones.holds(1, 1) && zones.holds(1, 2) && zones.holds(6, 4));
    }

    #[test]
    fn without_a_zone_of_its_own_or_with_one_level_there_is_nothing_to_choose() {
        assert!(zones("").is_none());
        assert!(Zones::new("a", &rule(), ["a", "a"].into_iter()).is_none());
        assert!(Zones::new("a", &rule(), ["x", "y"].into_iter()).is_none());
        assert!(
            Zones::new("a", &rule(), std::iter::empty::<&str>().collect::<Vec<_>>().into_iter())
                .is_none()
        );
    }

    #[test]
    fn a_zone_of_its_own_without_endpoints_is_no_level() {
        let zones = zones("e").expect("three levels");
        assert_eq!((zones.count(), zones.first(1)), (3, &[1, 5][..]));
    }

    #[test]
    fn further_zones_are_used_while_those_before_are_not_enough() {
        let good = (true, 0);
        let with = |changes: &[(usize, (bool, u32))]| {
            let mut rows = vec![good; 8];
            for (index, row) in changes {
                rows[*index] = *row;
            }
            Table(rows)
        };
        let zones = zones("a").expect("four levels");
        // The own zone has the endpoints 2 and 4, the next one 1 and 5, then 3 and 7.
        let bad = (false, 0);
        for (changes, expected, why) in [
            (&[][..], 1, "all is well"),
            (&[(2, bad)], 1, "half of two is enough"),
            (&[(2, bad), (4, bad)], 2, "none of its own can take requests"),
            (&[(2, bad), (4, bad), (1, bad), (5, bad)], 3, "nor in the next one"),
            (&[(2, (true, 15)), (4, (true, 5))], 1, "ten each on average is not too busy"),
            (&[(2, (true, 16)), (4, (true, 5))], 2, "above that it is"),
            (&[(2, (true, 21)), (5, (true, 21))], 3, "and so is the next one"),
            (
                &[(2, bad), (4, bad), (1, bad), (5, bad), (3, bad), (7, bad)],
                4,
                "the others are left",
            ),
        ] {
            assert_eq!(zones.needed(&rule(), &with(changes)), expected, "{why}");
        }
        let nobody = Table(vec![bad; 8]);
        assert_eq!(zones.needed(&rule(), &nobody), 4, "when none is enough, all are used");
    }

    #[test]
    fn too_few_endpoints_are_not_enough() {
        let rule = Locality { min_endpoints: 3, ..rule() };
        let zones =
            Zones::new("a", &rule, ["a", "a", "b", "b", "b"].into_iter()).expect("two levels");
        assert_eq!(zones.needed(&rule, &Table(vec![(true, 0); 5])), 2);
    }

    #[test]
    fn without_any_number_one_healthy_endpoint_is_enough_and_none_is_not() {
        let rule = Locality::default();
        let zones = Zones::new("a", &rule, ["a", "a", "b"].into_iter()).expect("two levels");
        for (healthy, expected) in [([true, false, true], 1), ([false, false, true], 2)] {
            let table = Table(healthy.into_iter().map(|healthy| (healthy, 99)).collect());
            assert_eq!(zones.needed(&rule, &table), expected);
        }
    }
}
