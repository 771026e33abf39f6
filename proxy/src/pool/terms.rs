//! How long a connection serves those of its own pool while somebody waits elsewhere for its place.
//!
//! A connection that carries one request at a time is free between two. A shared one may never be: so it serves for a
//! term, then takes nothing new for as long, so that it can become idle and be given up. Where it did not, because what
//! it carries takes longer, the next term and rest are twice as long: what was short is served soon, and what never
//! ends costs its neighbours less and less.
//!
//! ```text
//!             a term is over, and others wait first
//!  serves ------------------------------------------> rests -- idle --> given up
//!    ^                                                  |
//!    +------------- as long as the term ----------------+   (both twice as long)
//! ```

use std::time::Duration;

use crate::clock::Instant;

/// The first term. A handshake takes a few milliseconds: no more than a tenth of the time is spent on them, however many
/// take turns.
pub const TERM: Duration = Duration::from_millis(50);

/// No term is longer.
const LONGEST: Duration = Duration::from_secs(10);

/// The terms of one shared connection.
#[derive(Debug)]
pub(super) struct Terms {
    began: Instant,
    term: Duration,
    rests_since: Option<Instant>,
}

impl Terms {
    pub(super) const fn new(opened: Instant) -> Self {
        Self { began: opened, term: TERM, rests_since: None }
    }

    /// Whether the connection takes nothing new now that others wait first. Nobody is to wait for it longer than
    /// `patience`.
    pub(super) fn rest(&mut self, now: Instant, patience: Duration) -> bool {
        let rest = self.term.min(patience);
        match self.rests_since {
            None if now.saturating_duration_since(self.began) < self.term => false,
            None => {
                self.rests_since = Some(now);
                true
            }
            Some(since) if now.saturating_duration_since(since) < rest => true,
            Some(_) => {
                *self = Self { began: now, term: (self.term * 2).min(LONGEST), rests_since: None };
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[tokio::test(start_paused = true)]
    async fn a_connection_serves_and_rests_by_turns_that_grow() {
        let began = clock::now();
        let mut terms = Terms::new(began);
        let patience = Duration::from_secs(60);
        let mut rested = Duration::ZERO;
        let step = Duration::from_millis(1);
        let (mut changes, mut last) = (Vec::new(), false);
        for count in 0..1_000 {
            let rests = terms.rest(began + step * count, patience);
            rested += if rests { step } else { Duration::ZERO };
            if rests != last {
                changes.push(count);
            }
            last = rests;
        }
        assert_eq!(changes, [50, 100, 200, 300, 500, 700]);
        assert_eq!(rested, Duration::from_millis(50 + 100 + 200));
        let mut impatient = Terms::new(began);
        assert!(impatient.rest(began + TERM, Duration::from_millis(3)));
        assert!(!impatient.rest(began + TERM + step * 3, Duration::from_millis(3)));
    }
}
