//! An endpoint that asks to be left alone: how long.
//!
//! Comes in: a response's head, the wall clock. Goes out: a time, where it is 429 or 503 and has `Retry-After` (RFC
//! 9110 10.2.3). Without `Retry-After` a 429 is left to the client: most servers mean the one caller by it.
//!
//! Pure: the time is passed in.

use std::time::Duration;

use http::{StatusCode, header};

use crate::http::{Fields, retry_after::retry_after};

/// How long an endpoint that answered so wants to be left alone; `None` when it does not, or the field is malformed.
#[must_use]
pub fn asked_for(
    status: StatusCode,
    headers: &Fields,
    since_epoch: impl FnOnce() -> Duration,
) -> Option<Duration> {
    if status != StatusCode::TOO_MANY_REQUESTS && status != StatusCode::SERVICE_UNAVAILABLE {
        return None;
    }
    // The clock is asked only where there is something to read.
    headers.contains_key(header::RETRY_AFTER).then(|| retry_after(headers, since_epoch()))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_429_and_503_with_retry_after_ask_to_be_left_alone() {
        // The date's example is 784,111,777 seconds after the epoch.
        let now = || Duration::from_secs(784_111_700);
        for (status, value, expected) in [
            (429, Some("3"), Some(3)),
            (503, Some("3600"), Some(3600)),
            (503, Some("0"), Some(0)),
            (503, Some("Sun, 06 Nov 1994 08:49:37 GMT"), Some(77)),
            (503, Some("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0)),
            (429, None, None),
            (429, Some("soon"), None),
            (429, Some("-1"), None),
            (429, Some("Sun, 06 Nov 1994"), None),
            (500, Some("3"), None),
            (200, Some("3"), None),
        ] {
            let mut headers = Fields::new();
            if let Some(value) = value {
                headers.insert(header::RETRY_AFTER, value.parse().expect("a value"));
            }
            let status = StatusCode::from_u16(status).expect("a status");
            let asked = asked_for(status, &headers, now);
            assert_eq!(asked, expected.map(Duration::from_secs), "{status} {value:?}");
        }
    }
}
