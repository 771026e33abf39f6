//! How long to wait before a process is started again: 1 s, doubling to 30 s; from the beginning again once
//! it has run for a while. Pure: time comes in as an argument.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// A process that ran this long was healthy: its end begins a new series.
const HEALTHY: Duration = Duration::from_secs(30);

/// The waits between the starts of one process.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after a process ended that had run for `ran`.
    pub(crate) fn after(&mut self, ran: Duration) -> Duration {
        if ran >= HEALTHY {
            self.failures = 0;
        }
        // 2^5 s is beyond the longest wait already.
        let wait = FIRST * 2u32.pow(self.failures.min(5));
        self.failures = self.failures.saturating_add(1);
        wait.min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_half_a_minute() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> =
            (0..8).map(|_| backoff.after(Duration::from_millis(10)).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
    }

    #[test]
    fn a_healthy_run_begins_a_new_series() {
        let mut backoff = Backoff::default();
        for _ in 0..4 {
            backoff.after(Duration::ZERO);
        }
        assert_eq!(backoff.after(HEALTHY).as_secs(), 1);
        assert_eq!(backoff.after(Duration::ZERO).as_secs(), 2);
    }
}
