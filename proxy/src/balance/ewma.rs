//! Peak EWMA: a smoothed latency that jumps up at once and comes down slowly.
//!
//! A slow answer counts at once, so that an endpoint in trouble is avoided from its first slow answer on; a
//! fast one counts with a weight that grows with the time since the last (time constant [`DECAY`]). An
//! endpoint that nobody asks decays towards zero, so that it is tried again. Below [`FLOOR_SECONDS`] all are
//! equally fast: there the difference is the scheduler's, not the endpoint's.
//!
//! Pure: the time is passed in.

use std::time::Duration;

use crate::clock::Instant;

/// After this long without an observation, 1/e of the value is left: an endpoint that had one bad moment, ten times
/// slower than the others, has its share again after some six seconds, and one that stays slow is asked about as
/// often.
const DECAY: Duration = Duration::from_secs(3);

/// The lowest latency that is told from others, and what is assumed of an endpoint that was never asked: low,
/// so that new ones get their share, but not zero, so that work in flight still counts.
const FLOOR_SECONDS: f64 = 0.001;

/// A smoothed latency in seconds.
#[derive(Debug, Clone, Copy)]
pub struct PeakEwma {
    seconds: f64,
    updated: Instant,
}

impl PeakEwma {
    /// Of an endpoint that was never asked.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self { seconds: FLOOR_SECONDS, updated: now }
    }

    /// Takes in how long an attempt took.
    pub fn observe(&mut self, latency: Duration, now: Instant) {
        let latency = latency.as_secs_f64();
        self.seconds = if latency >= self.seconds {
            latency
        } else {
            let weight = self.decay(now);
            self.seconds * weight + latency * (1.0 - weight)
        };
        self.updated = now;
    }

    /// The expected latency now, in seconds.
    #[must_use]
    pub fn seconds(&self, now: Instant) -> f64 {
        self.seconds * self.decay(now)
    }

    /// What one more request would cost an endpoint with this many in flight.
    #[must_use]
    pub fn cost(&self, in_flight: u32, now: Instant) -> f64 {
        self.seconds(now).max(FLOOR_SECONDS) * f64::from(in_flight + 1)
    }

    fn decay(&self, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(self.updated).as_secs_f64();
        (-elapsed / DECAY.as_secs_f64()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_counts_at_once_and_fades_slowly() {
        let start = crate::clock::now();
        let mut ewma = PeakEwma::new(start);
        ewma.observe(Duration::from_secs(1), start);
        assert_eq!(ewma.seconds(start), 1.0);
        let later = start + DECAY / 10;
        ewma.observe(Duration::from_millis(10), later);
        assert!(ewma.seconds(later) > 0.9, "{}", ewma.seconds(later));
        let much_later = later + 3 * DECAY;
        ewma.observe(Duration::from_millis(10), much_later);
        assert!(ewma.seconds(much_later) < 0.1, "{}", ewma.seconds(much_later));
    }

    #[test]
    fn work_in_flight_multiplies_the_cost() {
        let now = crate::clock::now();
        let ewma = PeakEwma::new(now);
        assert!((ewma.cost(3, now) / ewma.cost(0, now) - 4.0).abs() < 1e-9);
    }

    #[test]
    fn below_a_millisecond_all_are_equally_fast() {
        let now = crate::clock::now();
        let (mut one, mut other) = (PeakEwma::new(now), PeakEwma::new(now));
        for _ in 0..100 {
            one.observe(Duration::from_micros(80), now);
            other.observe(Duration::from_micros(400), now);
        }
        let much_later = now + 10 * DECAY;
        assert_eq!(one.cost(1, now), other.cost(1, now));
        assert_eq!(one.cost(1, much_later), other.cost(1, now));
    }
}
