//! W3C trace context (<https://www.w3.org/TR/trace-context/>): the `traceparent` and `tracestate` fields.
//!
//! Comes in: a request's fields, foreign bytes. Goes out: the parent, or nothing: what is malformed counts as
//! absent, and a `tracestate` without a valid `traceparent` too (section 3.3).

use http::{HeaderName, HeaderValue};
use opentelemetry::{SpanId, TraceFlags, TraceId};

use crate::http::Fields;

pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(super) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Version 00: "00-" trace "-" parent "-" flags.
const LENGTH: usize = 55;
/// Entries of `tracestate` (section 3.3.1.1).
const MAX_MEMBERS: usize = 32;

/// The span in which a request was sent to this proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parent {
    pub(super) trace: TraceId,
    pub(super) span: SpanId,
    pub(super) sampled: bool,
}

/// The parent of a request; `None` without a valid one. Two fields are as bad as a malformed one.
pub(super) fn parent(headers: &Fields) -> Option<Parent> {
    let mut fields = headers.get_all(TRACEPARENT);
    match (fields.next(), fields.next()) {
        (Some(field), None) => parse(field.as_bytes()),
        _ => None,
    }
}

fn parse(field: &[u8]) -> Option<Parent> {
    let hex = |range: std::ops::Range<usize>| lower_hex(field.get(range)?);
    let version = hex(0..2)?;
    let dashes = field.get(2)? == &b'-' && field.get(35)? == &b'-' && field.get(52)? == &b'-';
    // Version 00 ends here; of a higher one more may follow, after a dash (section 3.2.4).
    let (_, more) = field.split_at_checked(LENGTH)?;
    let end = more.is_empty() || version != 0 && more.starts_with(b"-");
    if version == 0xff || !dashes || !end {
        return None;
    }
    let (trace, span) = (hex(3..35)?, u64::try_from(hex(36..52)?).ok()?);
    let parent = Parent {
        trace: TraceId::from(trace),
        span: SpanId::from(span),
        sampled: hex(53..55)? & 1 == 1,
    };
    (trace != 0 && span != 0).then_some(parent)
}

/// Lower-case hexadecimal digits, at most 32.
fn lower_hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |value: u128, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u128::from(digit))
    })
}

/// Writes the parent of the request that is sent next, and drops a `tracestate` that is not valid.
pub(super) fn inject(headers: &mut Fields, parent: &Parent) {
    let flags = if parent.sampled { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED };
    let text = format!("00-{}-{}-{:02x}", parent.trace, parent.span, flags.to_u8());
    // Digits and dashes are always a value.
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.insert(TRACEPARENT, value);
    }
    if !is_valid_state(headers) {
        headers.remove(TRACESTATE);
    }
}

/// Whether `tracestate` may travel on: members "key=value", joined over all fields, each key once.
fn is_valid_state(headers: &Fields) -> bool {
    let mut keys: Vec<&[u8]> = Vec::new();
    for field in headers.get_all(TRACESTATE) {
        for member in field.as_bytes().split(|byte| *byte == b',') {
            let member = member.trim_ascii();
            if member.is_empty() {
                continue;
            }
            let Some(split) = member.iter().position(|byte| *byte == b'=') else { return false };
            let (key, value) = (&member[..split], &member[split + 1..]);
            if !is_key(key) || !is_value(value) || keys.contains(&key) || keys.len() == MAX_MEMBERS
            {
                return false;
            }
            keys.push(key);
        }
    }
    true
}

fn is_key(key: &[u8]) -> bool {
    let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-*/@".contains(b);
    matches!(key.first(), Some(b'a'..=b'z' | b'0'..=b'9'))
        && key.len() <= 256
        && key.iter().all(inner)
}

fn is_value(value: &[u8]) -> bool {
    let inner = |byte: &u8| matches!(byte, b' '..=b'~') && !b",=".contains(byte);
    !value.is_empty() && value.len() <= 256 && value.iter().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(name: HeaderName, values: &[&str]) -> Fields {
        let mut headers = Fields::new();
        for value in values {
            headers.append(&name, value.parse().expect("a value"));
        }
        headers
    }

    #[test]
    fn only_what_the_recommendation_allows_is_a_parent() {
        for (text, sampled) in [
            (GOOD, Some(true)),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", Some(false)),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03", Some(true)),
            ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Some(true)),
            ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", Some(true)),
            ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.more", None),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", None),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-", None),
            ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", None),
            ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", None),
            ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", None),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", None),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0", None),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g", None),
            ("00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", None),
            ("00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01", None),
            ("00", None),
            ("cc", None),
            ("cc_", None),
            ("cc_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0", None),
            ("", None),
        ] {
            let parent = parent(&headers(TRACEPARENT, &[text]));
            assert_eq!(parent.map(|parent| parent.sampled), sampled, "{text}");
        }
        assert_eq!(parent(&headers(TRACEPARENT, &[GOOD, GOOD])), None);
        assert_eq!(parent(&Fields::new()), None);
    }

    #[test]
    fn what_is_written_is_what_was_read() {
        let read = parent(&headers(TRACEPARENT, &[GOOD])).expect("good");
        let mut written = headers(TRACEPARENT, &["two", "values"]);
        inject(&mut written, &read);
        let values: Vec<_> = written.get_all(TRACEPARENT).collect();
        assert_eq!(values, [GOOD]);
    }

    #[test]
    fn a_valid_tracestate_travels_on_and_another_is_dropped() {
        let many: Vec<_> = (0..33).map(|number| format!("k{number}=v")).collect();
        let long = format!("k={}", "v".repeat(257));
        let read = parent(&headers(TRACEPARENT, &[GOOD])).expect("good");
        for (values, kept) in [
            (&["congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"][..], true),
            (&["congo=1", "rojo=2, 3tenant@vendor=x y"], true),
            (&["congo=1,,  ,rojo=2"], true),
            (&["congo=1,congo=2"], false),
            (&["congo=1", "congo=2"], false),
            (&["congo"], false),
            (&["Congo=1"], false),
            (&["=1"], false),
            (&["congo="], false),
            (&["congo=a=b"], false),
            (&[&many[..32].join(",")], true),
            (&[&many.join(",")], false),
            (&[&long], false),
        ] {
            let mut headers = headers(TRACESTATE, values);
            inject(&mut headers, &read);
            let left: Vec<_> = headers.get_all(TRACESTATE).collect();
            assert_eq!(left, if kept { values } else { &[] }, "{values:?}");
        }
    }
}
