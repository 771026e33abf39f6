//! One token bucket, exact for ever: no rounding, so no drift.
//!
//! Time is counted in ticks, of which a nanosecond has as many as the limit has requests in a period: so a token takes
//! a whole number of ticks, the period's nanoseconds. A bucket is one number, when it will be full again (the
//! "theoretical arrival time" of the generic cell rate algorithm, ITU-T I.371). It must never let more pass
//! than `burst`, and `requests` a period.

use std::time::Duration;

/// How many requests, in what time, and how many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    requests: u64,
    per: u64,
    burst: u64,
}

/// A bucket; full when new.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bucket {
    /// In ticks.
    full_at: u128,
}

/// How a bucket stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    /// Whole tokens in it.
    pub(super) tokens: u64,
    /// Until there is one; zero when there is.
    pub(super) wait: Duration,
    /// Until it is full.
    pub(super) full_in: Duration,
}

impl Rate {
    /// So many requests in so many nanoseconds, so many at once; `None` where one is zero.
    #[must_use]
    pub const fn new(requests: u64, per: u64, burst: u64) -> Option<Self> {
        if requests == 0 || per == 0 || burst == 0 {
            return None;
        }
        Some(Self { requests, per, burst })
    }

    /// So many at once.
    #[must_use]
    pub const fn burst(&self) -> u64 {
        self.burst
    }

    /// Nanoseconds in which an empty bucket becomes full.
    pub(super) fn refill(&self) -> u64 {
        self.nanoseconds(self.capacity())
    }

    pub(super) fn state(&self, bucket: &Bucket, now: u64) -> State {
        let missing = self.missing(bucket, now);
        let tokens = (self.capacity() - missing) / self.token();
        State {
            tokens: u64::try_from(tokens).unwrap_or(u64::MAX),
            wait: self.until(bucket, 1, now),
            full_in: Duration::from_nanos(self.nanoseconds(missing)),
        }
    }

    /// How long it takes until the bucket holds so many tokens, of which it can hold.
    pub(super) fn until(&self, bucket: &Bucket, tokens: u64, now: u64) -> Duration {
        let wanted = self.token() * u128::from(tokens.min(self.burst));
        let short = (self.missing(bucket, now) + wanted).saturating_sub(self.capacity());
        Duration::from_nanos(self.nanoseconds(short))
    }

    /// Takes one token, which must be there.
    pub(super) fn take(&self, bucket: &mut Bucket, now: u64) {
        bucket.full_at = bucket.full_at.max(self.ticks(now)) + self.token();
    }

    fn missing(&self, bucket: &Bucket, now: u64) -> u128 {
        bucket.full_at.saturating_sub(self.ticks(now)).min(self.capacity())
    }

    fn ticks(&self, now: u64) -> u128 {
        u128::from(now) * u128::from(self.requests)
    }

    const fn token(&self) -> u128 {
        self.per as u128
    }

    fn capacity(&self) -> u128 {
        self.token() * u128::from(self.burst)
    }

    fn nanoseconds(&self, ticks: u128) -> u64 {
        u64::try_from(ticks.div_ceil(u128::from(self.requests))).unwrap_or(u64::MAX)
    }
}
