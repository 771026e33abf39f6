//! How long to wait before the stream to the control plane is opened again.
//!
//! Comes in: how long the last stream lived, and whether the control plane said goodbye. Goes out: a delay. A
//! thousand proxies that lose one control plane must not come back at the same moment, so every delay is
//! spread; time and randomness are the caller's.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);
/// A stream that lived this long counts as healthy: the next delay is the first again.
const HEALTHY: Duration = Duration::from_secs(60);
/// A goodbye says that another control plane is there: come back at once, spread over this.
const GOODBYE_SPREAD: Duration = Duration::from_millis(500);

/// Delays of 100 ms, 200 ms, … 10 s, each spread over its upper half.
#[derive(Debug)]
pub(super) struct Backoff {
    failures: u32,
    random: fastrand::Rng,
}

impl Backoff {
    pub(super) fn new(random: fastrand::Rng) -> Self {
        Self { failures: 0, random }
    }

    /// The delay after a stream that could not be opened, or was lost after `lived`.
    pub(super) fn after_loss(&mut self, lived: Duration) -> Duration {
        if lived >= HEALTHY {
            self.failures = 0;
        }
        // 100 ms doubled seven times passes the longest delay.
        let full = (FIRST * (1 << self.failures.min(7))).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        full / 2 + (full / 2).mul_f64(self.random.f64())
    }

    /// The delay after the control plane's goodbye.
    pub(super) fn after_goodbye(&mut self) -> Duration {
        self.failures = 0;
        GOODBYE_SPREAD.mul_f64(self.random.f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_to_ten_seconds_and_start_over_after_a_healthy_minute() {
        for seed in 0..64 {
            let mut backoff = Backoff::new(fastrand::Rng::with_seed(seed));
            for full in [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000] {
                let full = Duration::from_millis(full);
                let delay = backoff.after_loss(Duration::from_secs(1));
                assert!(delay >= full / 2 && delay <= full, "seed {seed}: {delay:?} of {full:?}");
            }
            assert!(backoff.after_loss(HEALTHY) <= FIRST, "seed {seed}");
        }
    }

    #[test]
    fn a_goodbye_is_answered_soon_but_not_by_all_at_once() {
        let mut backoff = Backoff::new(fastrand::Rng::with_seed(7));
        let delays: Vec<_> = (0..100).map(|_| backoff.after_goodbye()).collect();
        assert!(delays.iter().all(|delay| *delay <= GOODBYE_SPREAD));
        assert!(delays.iter().any(|delay| *delay > GOODBYE_SPREAD / 2));
        assert!(delays.iter().any(|delay| *delay < GOODBYE_SPREAD / 2));
    }
}
