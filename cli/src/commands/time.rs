//! Points in time as certificates and the API give them, shown as UTC and as what is left or past.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::output;

/// A wall-clock time, in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant(i64);

impl Instant {
    pub(crate) const fn of_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000))
    }

    pub(crate) const fn of_millis(millis: i64) -> Self {
        Self(millis)
    }

    fn now() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
    }

    /// What is left until then; `None` when it is past.
    pub(crate) fn left(self) -> Option<Duration> {
        let millis = self.0.saturating_sub(Self::now().0);
        u64::try_from(millis).ok().filter(|millis| *millis > 0).map(Duration::from_millis)
    }

    /// What has passed since then; zero when it lies ahead.
    pub(crate) fn age(self) -> Duration {
        let millis = Self::now().0.saturating_sub(self.0);
        Duration::from_millis(u64::try_from(millis).unwrap_or_default())
    }
}

/// "23h59m", or "no time: it is past".
pub(crate) fn in_future(instant: Instant) -> String {
    instant.left().map_or_else(|| "no time: it is past".into(), output::span)
}

/// "23h59m left", or "expired 1m2s ago".
pub(crate) fn left(instant: Instant) -> String {
    match instant.left() {
        Some(left) => format!("{} left", output::span(left)),
        None => format!("expired {} ago", output::span(instant.age())),
    }
}
