//! A new endpoint's share, which grows while its caches and its compiler are cold.
//!
//! Comes in: how old the endpoint is, and the window. Goes out: how much of an equal share it gets. It grows in a
//! straight line and is never zero, so that a new endpoint is never starved, and warms up. Only what came after its
//! service was known to this proxy is new: a proxy that starts finds endpoints that others have warmed.
//!
//! Pure: ages are passed in.

use super::ring;

/// The least share: in a short window a server must see some requests, or it is as cold at its end.
const LEAST: f64 = 0.1;

/// The share, above 0 up to 1, of an endpoint of this age.
#[must_use]
pub fn share(age_ms: u64, window_ms: u64) -> f64 {
    if age_ms >= window_ms {
        return 1.0;
    }
    (age_ms as f64 / window_ms as f64).max(LEAST)
}

/// Whether an endpoint with this share takes a key of the ring. The same key is taken from the same share on, so that
/// each moves once while the share grows.
#[must_use]
pub fn takes_key(share: f64, key: u64, endpoint: &str) -> bool {
    if share >= 1.0 {
        return true;
    }
    // The upper 32 bits, as a fraction.
    let drawn = ring::mix(key ^ ring::hash(endpoint.as_bytes())) >> 32;
    (drawn as f64) < share * 2_f64.powi(32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_share_grows_in_a_straight_line_from_a_tenth() {
        for (age, expected) in [
            (0, 0.1),
            (500, 0.1),
            (2_500, 0.25),
            (5_000, 0.5),
            (9_000, 0.9),
            (10_000, 1.0),
            (u64::MAX, 1.0),
        ] {
            assert!((share(age, 10_000) - expected).abs() < 1e-9, "{age}");
        }
        assert_eq!(share(0, 0), 1.0, "without a window it has its share at once");
    }

    #[test]
    fn as_many_keys_are_taken_as_the_share_says() {
        for expected in [0.1, 0.5, 0.9] {
            let taken = (0..10_000_u64)
                .filter(|key| takes_key(expected, ring::mix(*key), "10.0.0.1:80"))
                .count();
            assert!((taken as f64 / 10_000.0 - expected).abs() < 0.02, "{expected} {taken}");
        }
    }

    proptest! {
        #[test]
        fn the_share_never_falls_and_is_never_zero(window in 0..100_000_u64, age in 0..100_000_u64) {
            let (now, later) = (share(age, window), share(age + 1, window));
            prop_assert!(now > 0.0 && now <= later && later <= 1.0);
        }

        #[test]
        fn a_key_that_is_taken_stays(key: u64, small in 0.0..1.0_f64, more in 0.0..1.0_f64) {
            let larger = (small + more).min(1.0);
            prop_assert!(!takes_key(small, key, "a") || takes_key(larger, key, "a"));
        }
    }
}
