//! `Retry-After` (RFC 9110 10.2.3): when a server that has too much to do wants to be asked again.

use std::time::Duration;

use http::header;
use time::{OffsetDateTime, format_description::well_known::Rfc2822};

use super::Fields;

/// How long to wait, by a response's fields: so many seconds, or until a date. A date that has passed is no wait;
/// what is neither counts for nothing. `since_epoch` is the wall clock's time.
#[must_use]
pub fn retry_after(fields: &Fields, since_epoch: Duration) -> Option<Duration> {
    let text = fields.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More than fits is for ever.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    // The date of HTTP (RFC 9110 5.6.7) is one of mail's.
    let date = OffsetDateTime::parse(text, &Rfc2822).ok()?;
    let at = u64::try_from(date.unix_timestamp()).unwrap_or_default();
    Some(Duration::from_secs(at).saturating_sub(since_epoch))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn seconds_and_dates_are_read() {
        // Sun, 06 Nov 1994 08:49:37 GMT
        let now = Duration::from_secs(784_111_777);
        for (text, expected) in [
            ("0", Some(0)),
            ("120", Some(120)),
            (" 2 ", Some(2)),
            ("99999999999999999999", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:49:40 GMT", Some(3)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("1994-11-06T08:49:40Z", None),
        ] {
            let mut fields = Fields::new();
            fields.insert(header::RETRY_AFTER, HeaderValue::from_static(text));
            let found = retry_after(&fields, now);
            assert_eq!(found, expected.map(Duration::from_secs), "{text:?}");
        }
        assert_eq!(retry_after(&Fields::new(), now), None);
    }
}
