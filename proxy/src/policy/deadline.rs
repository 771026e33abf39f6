//! Until when a request must be answered: what its caller gives it, and what a policy does.
//!
//! In come the time that a caller's sidecar or a gRPC caller says is left, and a request timeout; out comes the
//! earliest of them, which bounds all attempts, the waits between them and the response's body, and is handed on
//! with each attempt, shortened by the time spent. Work for a request whose deadline has passed is not begun.
//!
//! A request timeout of a policy and a caller's deadline bound the whole response; the proxy's own default
//! (`WEFT_REQUEST_TIMEOUT`) bounds the head alone, so that a stream that moves is not cut, and is not handed on.

use std::time::Duration;

use crate::{clock::Instant, error::ProxyError, reason::Reason};

/// Whoever gave a deadline ends the request at it. Work that is under way here is ended so much later, if it has not been:
/// at the same moment the two would meet, and the caller would hear of a reset instead of why.
const GRACE: Duration = Duration::from_millis(100);

/// When a request must be answered, and what it is called when it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    at: Instant,
    reason: Reason,
}

impl Deadline {
    /// What the caller gives the request, from its head's arrival.
    #[must_use]
    pub fn of_caller(began: Instant, left: Duration) -> Option<Self> {
        let at = began.checked_add(left)?;
        Some(Self { at, reason: Reason::DeadlineExceeded })
    }

    /// What a request timeout gives it.
    #[must_use]
    pub fn of_timeout(began: Instant, timeout: Duration) -> Option<Self> {
        let at = began.checked_add(timeout)?;
        Some(Self { at, reason: Reason::RequestTimeout })
    }

    /// The earlier of the two.
    #[must_use]
    pub fn earlier(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        match (one, other) {
            (Some(one), Some(other)) => Some(if other.at < one.at { other } else { one }),
            (one, other) => one.or(other),
        }
    }

    /// When.
    #[must_use]
    pub const fn at(&self) -> Instant {
        self.at
    }

    /// When a request that is under way is ended: see [`GRACE`].
    #[must_use]
    pub fn cut(&self) -> Instant {
        if self.reason == Reason::DeadlineExceeded { self.at + GRACE } else { self.at }
    }

    /// What the request ends with when it is not answered by then.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// The time that is left; zero when none is.
    #[must_use]
    pub fn left(&self, now: Instant) -> Duration {
        self.at.saturating_duration_since(now)
    }

    /// Whether work may begin.
    ///
    /// # Errors
    /// The deadline has passed.
    pub fn check(&self, now: Instant) -> Result<(), ProxyError> {
        if self.left(now).is_zero() {
            return Err(ProxyError::new(self.reason, "its time was over before it was sent"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn the_earlier_deadline_holds_and_says_whose_it_is() {
        let began = clock::now();
        let caller = |ms| Deadline::of_caller(began, Duration::from_millis(ms));
        let policy = |ms| Deadline::of_timeout(began, Duration::from_millis(ms));
        for (one, other, expected) in [
            (None, None, None),
            (caller(5), None, Some((5, Reason::DeadlineExceeded))),
            (None, policy(5), Some((5, Reason::RequestTimeout))),
            (caller(5), policy(9), Some((5, Reason::DeadlineExceeded))),
            (caller(9), policy(5), Some((5, Reason::RequestTimeout))),
        ] {
            let found = Deadline::earlier(one, other);
            let found = found.map(|found| (found.left(began).as_millis(), found.reason()));
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn work_begins_only_before_the_deadline() {
        let began = clock::now();
        let deadline = Deadline::of_caller(began, Duration::from_millis(5)).expect("near");
        let after = |ms| began + Duration::from_millis(ms);
        assert!(deadline.check(after(4)).is_ok());
        assert_eq!(deadline.left(after(4)), Duration::from_millis(1));
        for late in [5, 6] {
            let error = deadline.check(after(late)).expect_err("too late");
            assert_eq!(error.reason, Reason::DeadlineExceeded);
        }
    }

    #[test]
    fn a_deadline_beyond_all_time_is_none() {
        assert_eq!(Deadline::of_caller(clock::now(), Duration::MAX), None);
    }
}
