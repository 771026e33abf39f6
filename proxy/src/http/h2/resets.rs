//! How many streams a client resets: a pure meter against rapid resets (CVE-2023-44487).
//!
//! In go the moments of resets, out comes whether one was too many. Each full second starts anew, so that up
//! to twice the limit may pass within one second across the boundary.

use std::time::Duration;

use crate::clock::Instant;

/// Counts resets by the second.
#[derive(Debug)]
pub(super) struct ResetMeter {
    limit: u32,
    since: Option<Instant>,
    count: u32,
}

impl ResetMeter {
    pub(super) fn new(limit: u32) -> Self {
        Self { limit, since: None, count: 0 }
    }

    /// Counts a reset; false when it is one too many.
    pub(super) fn allow(&mut self, now: Instant) -> bool {
        match self.since {
            Some(since) if now.duration_since(since) < Duration::from_secs(1) => self.count += 1,
            _ => {
                self.since = Some(now);
                self.count = 1;
            }
        }
        self.count <= self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_the_limit_pass_in_a_second() {
        let start = Instant::now();
        let mut meter = ResetMeter::new(3);
        for _ in 0..3 {
            assert!(meter.allow(start));
        }
        assert!(!meter.allow(start + Duration::from_millis(999)));
        assert!(meter.allow(start + Duration::from_secs(1)));
    }
}
