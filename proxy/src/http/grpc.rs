//! What the proxy must know of gRPC over HTTP/2: which requests are gRPC, their status, their deadline.
//!
//! It reads and writes fields only, never messages. Source: the gRPC specification, "gRPC over HTTP2".

use std::{borrow::Cow, time::Duration};

use http::{HeaderName, HeaderValue};

use super::Fields;

/// The status of a call: in the trailers, or in the head of a response without a body.
pub const STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// The status in words, percent-encoded.
pub const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// How long the caller waits.
pub const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Whether this content type is gRPC's: `application/grpc`, alone or with `+FORMAT` or parameters. gRPC-Web is
/// another protocol.
#[must_use]
pub fn is_content_type(value: &[u8]) -> bool {
    const NAME: &[u8] = b"application/grpc";
    match value.split_at_checked(NAME.len()) {
        Some((name, rest)) => {
            name.eq_ignore_ascii_case(NAME)
                && matches!(rest.first(), None | Some(b'+' | b';' | b' ' | b'\t'))
        }
        None => false,
    }
}

/// The status in these fields; `None` where there is none or it is not a number from 0 to 255.
#[must_use]
pub fn status(fields: &Fields) -> Option<u8> {
    let digits = fields.get(&STATUS)?.as_bytes();
    if digits.is_empty() || digits.len() > 3 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Says how a call ended, in trailers or in a head that stands alone.
pub fn put_status(fields: &mut Fields, status: u8, message: &str) {
    fields.insert(STATUS, HeaderValue::from(u16::from(status)));
    fields.insert(MESSAGE, encode_message(message));
}

/// Writes a message for `grpc-message`: bytes outside of printable ASCII, and `%`, become `%XX`.
#[must_use]
pub fn encode_message(message: &str) -> HeaderValue {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = Vec::with_capacity(message.len());
    for &byte in message.as_bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            encoded.push(byte);
        } else {
            let (high, low) = (usize::from(byte >> 4), usize::from(byte & 0x0f));
            encoded.extend_from_slice(&[b'%', HEX[high], HEX[low]]);
        }
    }
    HeaderValue::from_bytes(&encoded).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Reads a `grpc-message`. As the specification asks, what is not well-formed is kept as it stands.
#[must_use]
pub fn decode_message(value: &[u8]) -> Cow<'_, str> {
    if !value.contains(&b'%') {
        return String::from_utf8_lossy(value);
    }
    let mut decoded = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = (byte == b'%').then(|| hex_pair(after)).flatten();
        decoded.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&decoded).into_owned().into()
}

fn hex_pair(bytes: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let [high, low] = *bytes.first_chunk()?;
    Some(digit(high)? << 4 | digit(low)?)
}

/// How long the caller waits, by `grpc-timeout`; `None` where there is none or it is malformed.
#[must_use]
pub fn timeout(fields: &Fields) -> Option<Duration> {
    parse_timeout(fields.get(&TIMEOUT)?.as_bytes())
}

/// One to eight digits and a unit: H, M, S, m (milli), u (micro), n (nano).
fn parse_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    match unit {
        b'H' => Some(Duration::from_secs(number * 3600)),
        b'M' => Some(Duration::from_secs(number * 60)),
        b'S' => Some(Duration::from_secs(number)),
        b'm' => Some(Duration::from_millis(number)),
        b'u' => Some(Duration::from_micros(number)),
        b'n' => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// Says how long the caller waits, rounded down.
pub fn put_timeout(fields: &mut Fields, left: Duration) {
    // As fine as eight digits allow.
    const MOST: u128 = 99_999_999;
    let units = [
        (left.as_nanos(), 'n'),
        (left.as_micros(), 'u'),
        (left.as_millis(), 'm'),
        (left.as_secs().into(), 'S'),
    ];
    let fitting = units.into_iter().find(|(number, _)| *number <= MOST).unwrap_or((MOST, 'S'));
    if let Ok(value) = HeaderValue::try_from(format!("{}{}", fitting.0, fitting.1)) {
        fields.insert(TIMEOUT, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_are_told_apart() {
        for (value, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc; charset=utf-8", true),
            ("Application/gRPC", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/grp", false),
            ("text/plain", false),
            ("", false),
        ] {
            assert_eq!(is_content_type(value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn statuses_are_numbers() {
        for (value, expected) in [
            ("0", Some(0)),
            ("14", Some(14)),
            ("255", Some(255)),
            ("256", None),
            ("", None),
            ("+1", None),
            ("-1", None),
            ("0000", None),
            ("ok", None),
        ] {
            let mut fields = Fields::new();
            fields.insert(STATUS, HeaderValue::from_static(value));
            assert_eq!(status(&fields), expected, "{value}");
        }
        assert_eq!(status(&Fields::new()), None);
    }

    #[test]
    fn messages_are_percent_encoded_and_come_back() {
        for (message, encoded) in [
            ("plain text", "plain text"),
            ("100%", "100%25"),
            ("zwölf\n", "zw%C3%B6lf%0A"),
            ("", ""),
            ("~ \u{7f}", "~ %7F"),
        ] {
            assert_eq!(encode_message(message).as_bytes(), encoded.as_bytes());
            assert_eq!(decode_message(encoded.as_bytes()), message);
        }
        for malformed in ["%", "%4", "%zz", "a%2"] {
            assert_eq!(decode_message(malformed.as_bytes()), malformed);
        }
    }

    #[test]
    fn timeouts_have_a_unit() {
        for (value, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("10S", Some(Duration::from_secs(10))),
            ("250m", Some(Duration::from_millis(250))),
            ("7u", Some(Duration::from_micros(7))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("100000000n", None),
            ("S", None),
            ("", None),
            ("-1S", None),
            ("1.5S", None),
            ("5s", None),
            ("5", None),
        ] {
            assert_eq!(parse_timeout(value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn a_timeout_is_written_as_fine_as_it_fits() {
        for (left, text) in [
            (Duration::ZERO, "0n"),
            (Duration::from_nanos(99_999_999), "99999999n"),
            (Duration::from_millis(100), "100000u"),
            (Duration::from_secs(100), "100000m"),
            (Duration::from_secs(100_000), "100000S"),
            (Duration::from_secs(u64::MAX), "99999999S"),
        ] {
            let mut fields = Fields::new();
            put_timeout(&mut fields, left);
            assert_eq!(fields[TIMEOUT], text);
            assert!(timeout(&fields).is_some_and(|read| read <= left), "{text}");
        }
    }
}
