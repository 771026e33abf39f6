//! A ring of hashes: which endpoint a key belongs to, so that few keys move when endpoints come and go.
//!
//! Comes in: the endpoints' ids. Goes out: for a key, the endpoints in the order in which the ring has them from there.
//! Each endpoint has many points on the ring (Karger and others, "Consistent Hashing and Random Trees", 1997), and a
//! key belongs to the next point. An endpoint that cannot take it is passed over, and has its keys back when it can.
//!
//! All proxies and workers build the same ring: its hash is fixed, and points depend on the endpoint's id alone. A ring
//! is built once for a snapshot and shared by all workers.
//!
//! Bound: [`POINTS`] in all, but for the [`LEAST_POINTS`] that each endpoint has; 8 bytes each: half a megabyte up to
//! 4,096 endpoints, 1.3 for 10,000.

/// Points that are shared out. With 100 endpoints each has 655: shares differ by some 4 %.
const POINTS: usize = 65_536;

/// The fewest that an endpoint has: shares differ by a quarter.
const LEAST_POINTS: usize = 16;

/// The most: more would not even out much further, and cost time when an endpoint changes.
const MOST_POINTS: usize = 1_024;

/// The points of all endpoints.
#[derive(Debug, Default)]
pub struct Ring {
    /// In order: the upper half is the place, the lower half the endpoint's index.
    points: Box<[u64]>,
}

impl Ring {
    /// The ring of these endpoints, by their ids; an index is the place in their order.
    #[must_use]
    pub fn new<'a>(ids: impl ExactSizeIterator<Item = &'a str>) -> Self {
        let each = (POINTS / ids.len().max(1)).clamp(LEAST_POINTS, MOST_POINTS);
        let mut points = Vec::with_capacity(each * ids.len());
        for (index, id) in ids.enumerate() {
            let seed = hash(id.as_bytes());
            // Fewer points are the first ones of more: a change of their number moves few keys.
            points.extend((0..each as u64).map(|point| {
                let place = mix(seed.wrapping_add(point.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
                (place & !0xFFFF_FFFF) | index as u64
            }));
        }
        points.sort_unstable();
        Self { points: points.into() }
    }

    /// The endpoints from a key on, once around; one comes as often as it has points.
    pub fn from(&self, key: u64) -> impl Iterator<Item = usize> {
        let first = self.points.partition_point(|point| *point < (key & !0xFFFF_FFFF));
        let (before, after) = self.points.split_at(first);
        after.iter().chain(before).map(|point| (point & 0xFFFF_FFFF) as usize)
    }
}

/// The hash of some bytes: the same in every process, for ever. FNV-1a, whose upper bits are then mixed.
#[must_use]
pub fn hash(bytes: &[u8]) -> u64 {
    let folded = bytes.iter().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)
    });
    mix(folded)
}

/// Spreads a number over all bits (the finalizer of MurmurHash3).
#[must_use]
pub const fn mix(mut bits: u64) -> u64 {
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xC4CE_B9FE_1A85_EC53);
    bits ^ (bits >> 33)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const KEYS: u64 = 20_000;

    fn ids(numbers: impl Iterator<Item = u32>) -> Vec<String> {
        numbers.map(|number| format!("shop/cart/{number}:8080")).collect()
    }

    /// The id that each key belongs to.
    fn owners(ids: &[String]) -> Vec<&str> {
        let ring = Ring::new(ids.iter().map(String::as_str));
        let owner = |key| ring.from(mix(key)).next().map(|index| &*ids[index]);
        (0..KEYS).map(|key| owner(key).expect("there are endpoints")).collect()
    }

    #[test]
    fn nobody_is_on_an_empty_ring() {
        assert_eq!(
            Ring::new(std::iter::empty::<&str>().collect::<Vec<_>>().into_iter()).from(7).next(),
            None
        );
    }

    #[test]
    fn the_hash_is_the_same_for_ever() {
        assert_eq!(hash(b""), 0xEFD0_1F60_BA99_2926);
        assert_ne!(hash(b"a"), hash(b"b"));
    }

    #[test]
    fn ten_thousand_endpoints_fit_in_bounded_memory_and_all_have_keys() {
        let ids = ids(0..10_000);
        let ring = Ring::new(ids.iter().map(String::as_str));
        assert_eq!(ring.points.len(), 10_000 * LEAST_POINTS);
        let owners: BTreeSet<_> = ring.points.iter().map(|point| point & 0xFFFF_FFFF).collect();
        assert_eq!(owners.len(), 10_000);
    }

    #[test]
    fn once_around_every_endpoint_comes() {
        let ids = ids(0..7);
        let ring = Ring::new(ids.iter().map(String::as_str));
        for key in [0, 1 << 40, u64::MAX] {
            assert_eq!(ring.from(key).collect::<BTreeSet<_>>().len(), 7);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn shares_are_nearly_equal(count in 2..200_u32, offset in 0..1_000_u32) {
            let ids = ids(offset..offset + count);
            let owners = owners(&ids);
            let fair = f64::from(KEYS as u32) / f64::from(count);
            for id in &ids {
                let share = owners.iter().filter(|owner| *owner == id).count() as f64 / fair;
                prop_assert!((0.4..1.8).contains(&share), "{id} of {count}: {share}");
            }
        }

        #[test]
        fn few_keys_move_when_an_endpoint_comes_or_goes(count in 2..300_u32, gone in 0..300_u32) {
            let gone = gone % count;
            let (all, rest) = (ids(0..count), ids((0..count).filter(|number| *number != gone)));
            let (with, without) = (owners(&all), owners(&rest));
            let moved = with.iter().zip(&without).filter(|(with, without)| with != without).count();
            // Those of the one that went, and as many again where all get other numbers of points.
            let bound = 2.5 * f64::from(KEYS as u32) / f64::from(count) + 50.0;
            prop_assert!(moved as f64 <= bound, "{moved} of {KEYS} moved, {count} endpoints");
        }

        #[test]
        fn only_its_own_keys_leave_an_endpoint_that_is_passed_over(count in 2..100_u32, ejected in 0..100_usize) {
            let ids = ids(0..count);
            let ejected = ejected % ids.len();
            let ring = Ring::new(ids.iter().map(String::as_str));
            for key in (0..1_000).map(mix) {
                let before = ring.from(key).next();
                let after = ring.from(key).find(|index| *index != ejected);
                prop_assert!(before == Some(ejected) || before == after);
            }
        }
    }
}
