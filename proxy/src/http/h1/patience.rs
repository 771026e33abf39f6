//! How long a server keeps idle connections, as far as it has shown.
//!
//! Comes in: after how long it ended one, or says that it will (`Keep-Alive: timeout=5`). Goes out: whether a
//! connection that has been idle for so long may carry a request that cannot be sent twice. Such a request may
//! meet the server's close on its way, and whether it was read before is then mostly not to be known; so it takes
//! only a connection that the server is unlikely to be about to close. What can be sent again takes any.
//!
//! What was seen holds for [`MEMORY`]: a restart that closed everything must not count for ever.
//!
//! Pure: the time is passed in.

use std::time::Duration;

use crate::clock::Instant;

/// After this long a close that was seen says nothing any more.
const MEMORY: Duration = Duration::from_secs(60);

/// The share of the shortest idle time seen up to which a connection is trusted, as a divisor. When a close is
/// noticed is later than when it happened, so the real time is shorter than the one seen.
const MARGIN: u32 = 2;

/// What one server has shown.
#[derive(Debug, Default)]
pub(super) struct Patience {
    shortest: Option<(Duration, Instant)>,
}

impl Patience {
    /// The server has ended a connection that was idle for so long, or says that it will.
    pub(super) fn ends_after(&mut self, idle: Duration, now: Instant) {
        if self.remembered(now).is_none_or(|shortest| idle <= shortest) {
            self.shortest = Some((idle, now));
        }
    }

    /// Whether a connection that has been idle for so long is likely to stay.
    pub(super) fn is_trusted(&self, idle: Duration, now: Instant) -> bool {
        self.remembered(now).is_none_or(|shortest| idle < shortest / MARGIN)
    }

    fn remembered(&self, now: Instant) -> Option<Duration> {
        let (shortest, seen) = self.shortest?;
        (now.saturating_duration_since(seen) < MEMORY).then_some(shortest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_server_that_has_closed_nothing_is_trusted() {
        assert!(Patience::default().is_trusted(Duration::from_secs(80), crate::clock::now()));
    }

    #[test]
    fn the_shortest_time_seen_counts_and_half_of_it_is_trusted() {
        let now = crate::clock::now();
        let mut patience = Patience::default();
        patience.ends_after(ms(5000), now);
        assert!(patience.is_trusted(ms(2499), now));
        assert!(!patience.is_trusted(ms(2500), now));
        patience.ends_after(ms(100), now);
        patience.ends_after(ms(8000), now);
        assert!(!patience.is_trusted(ms(50), now));
        patience.ends_after(Duration::ZERO, now);
        assert!(!patience.is_trusted(Duration::ZERO, now), "it closes every one");
    }

    #[test]
    fn what_was_seen_is_forgotten_unless_it_is_seen_again() {
        let now = crate::clock::now();
        let mut patience = Patience::default();
        patience.ends_after(ms(100), now);
        patience.ends_after(ms(100), now + MEMORY / 2);
        assert!(!patience.is_trusted(ms(60), now + MEMORY));
        assert!(patience.is_trusted(ms(60), now + 2 * MEMORY));
        patience.ends_after(ms(5000), now + 2 * MEMORY);
        assert!(patience.is_trusted(ms(60), now + 2 * MEMORY), "the old one no longer counts");
    }
}
