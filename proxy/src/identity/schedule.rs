//! When to ask for the next SVID. Pure: times are since the Unix epoch, chance is a number from 0 to 1.

use std::time::Duration;

/// The part of its life after which an SVID is renewed at the latest.
const RENEW_AT: f64 = 2.0 / 3.0;

/// The part of its life by which chance brings that forward, so that what started together does not renew
/// together.
const RENEW_SPREAD: f64 = 0.1;

/// First pause after a failure, doubled with each one in a row.
const FIRST_RETRY: Duration = Duration::from_millis(500);

/// Longest pause after failures.
const MAX_RETRY: Duration = Duration::from_secs(30);

/// When the signing root changes, the whole fleet renews within so long.
const MAX_ROTATION_SPREAD: Duration = Duration::from_secs(30);

/// When to renew an SVID that was issued at `issued_at`: at two thirds of its life, or up to a tenth of it
/// earlier by chance. (Its notBefore lies in the past, so that slow clocks take it; its life begins when it was
/// issued.)
#[must_use]
pub fn renew_at(issued_at: Duration, not_after: Duration, chance: f64) -> Duration {
    let life = not_after.saturating_sub(issued_at);
    issued_at + life.mul_f64(RENEW_AT - RENEW_SPREAD * chance.clamp(0.0, 1.0))
}

/// How long to wait after so many failures in a row: doubled each time, within bounds, and half of it by
/// chance. `left` is how long the SVID in force still holds: of a short time no more than an eighth is waited.
#[must_use]
pub fn retry_after(failures: u32, left: Option<Duration>, chance: f64) -> Duration {
    let doubled = FIRST_RETRY.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let bounded = match left {
        Some(left) if !left.is_zero() => doubled.min(left / 8).max(FIRST_RETRY / 5),
        Some(_) | None => doubled,
    };
    bounded.min(MAX_RETRY).mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0))
}

/// Least wait when the SVID just issued is not under the newest root, after so many such in a row: whoever issues
/// and whoever pushes the roots disagree, mostly for a moment. Doubled each time, so that a lasting disagreement
/// costs little.
#[must_use]
pub fn after_disagreement(before: u32) -> Duration {
    Duration::from_secs(5).saturating_mul(1 << before.min(20))
}

/// How long to wait with the renewal when another root signs now: by chance within half a minute, or within a
/// twentieth of what is left of a shorter life.
#[must_use]
pub fn rotation_delay(left: Duration, chance: f64) -> Duration {
    (left / 20).min(MAX_ROTATION_SPREAD).mul_f64(chance.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn an_svid_is_renewed_at_two_thirds_of_its_life_or_somewhat_earlier() {
        let issued = 1_000 * HOUR;
        let at = |chance| renew_at(issued, issued + 24 * HOUR, chance) - issued;
        assert_eq!(at(0.0).as_secs(), 16 * 3600);
        assert_eq!(at(1.0).as_secs_f64().round(), 48_960.0);
        assert!(at(0.5) < at(0.0) && at(0.5) > at(1.0));
        assert_eq!(renew_at(issued, issued - HOUR, 0.3), issued, "expired: at once");
    }

    #[test]
    fn retries_back_off_within_bounds() {
        let pauses: Vec<u64> = (1..10)
            .map(|failures| u64::try_from(retry_after(failures, None, 1.0).as_millis()).unwrap())
            .collect();
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
        assert_eq!(retry_after(3, None, 0.0), Duration::from_secs(1));
        // Of a short life no more than an eighth is waited, and never less than a tenth of a second at most.
        assert_eq!(retry_after(9, Some(Duration::from_secs(8)), 1.0), Duration::from_secs(1));
        assert_eq!(retry_after(9, Some(Duration::from_millis(1)), 1.0), Duration::from_millis(100));
        assert_eq!(retry_after(u32::MAX, Some(Duration::ZERO), 1.0), MAX_RETRY);
    }

    #[test]
    fn a_rotated_root_is_followed_within_half_a_minute_by_everybody() {
        assert_eq!(rotation_delay(24 * HOUR, 1.0), Duration::from_secs(30));
        assert_eq!(rotation_delay(24 * HOUR, 0.0), Duration::ZERO);
        assert_eq!(rotation_delay(Duration::from_secs(20), 1.0), Duration::from_secs(1));
    }
}
