//! Side headers: the fields beginning with `weft-`, by which sidecars speak to each other.
//!
//! They are believed from verified peers only. [`strip`] takes them out wherever a message enters from
//! anything else, and out of what an application sends, so that nobody can forge them; the few that an
//! application sees (`weft-client-id`, `weft-reason`) are set by the proxy after that.
//!
//! HTTP/2 knows lower-case names only. Between sidecars (`weft-h2/1`) the case of HTTP/1's names travels in
//! `weft-case`, and a reason phrase of the application's own in `weft-phrase`.

mod case;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Version};

pub use case::{CASE, put_case, take_case};

use super::{Fields, RequestHead, ResponseHead};
use crate::reason::Reason;

/// Why the proxy itself ended the request.
pub const REASON: HeaderName = HeaderName::from_static("weft-reason");
/// Who calls, for the application: see docs/forwarded.md.
pub const CLIENT_ID: HeaderName = HeaderName::from_static("weft-client-id");
/// On a response from the server's sidecar: the request never reached the application.
pub const NOT_DELIVERED: HeaderName = HeaderName::from_static("weft-not-delivered");
/// The version that the client's application spoke, where the hop between the sidecars is another one.
pub const VERSION: HeaderName = HeaderName::from_static("weft-http");
/// The reason phrase of an HTTP/1 response.
pub const PHRASE: HeaderName = HeaderName::from_static("weft-phrase");

/// On a request: how many milliseconds are left to answer it.
pub const DEADLINE: HeaderName = HeaderName::from_static("weft-deadline");
/// On a request: which attempt this is, above the first. On a response to the local application: how many were made.
pub const ATTEMPTS: HeaderName = HeaderName::from_static("weft-attempts");

/// Bytes of a `weft-case` or `weft-phrase`, at most; what does not fit is left out.
const MAX_BYTES: usize = 4 * 1024;

/// Whether this field is Weft's own. Whatever is no letter and no digit counts as a hyphen: application servers
/// turn `weft-client-id`, `weft_client_id` and (PHP) `weft.client.id` into the same name.
#[must_use]
pub fn is_side_header(name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    name.len() > 4 && name.starts_with(b"weft") && !name[4].is_ascii_alphanumeric()
}

/// Whether any is there: on most messages none is, and one look spares looking for each.
#[must_use]
pub fn are_said(fields: &Fields) -> bool {
    fields.keys().any(is_side_header)
}

/// Takes out every side header.
pub fn strip(fields: &mut Fields) {
    fields.retain(|name| !is_side_header(name));
}

/// Says how long the request may take from now on, in whole milliseconds.
pub fn put_deadline(fields: &mut Fields, left: Duration) {
    let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
    fields.insert(DEADLINE, HeaderValue::from(millis));
}

/// How long the request may take. To be asked of requests of verified peers only. What is no number counts for
/// nothing.
#[must_use]
pub fn deadline(fields: &Fields) -> Option<Duration> {
    number(fields.get(DEADLINE)?).map(Duration::from_millis)
}

/// Says which attempt a request is, or how many a response took.
pub fn put_attempts(fields: &mut Fields, attempts: u32) {
    fields.insert(ATTEMPTS, HeaderValue::from(attempts));
}

/// Which attempt a request is. To be asked of requests of verified peers only.
#[must_use]
pub fn attempts(fields: &Fields) -> Option<u32> {
    number(fields.get(ATTEMPTS)?).and_then(|number| u32::try_from(number).ok())
}

/// Takes out what a sidecar said beside a request that goes to where none stands.
pub fn take_back(fields: &mut Fields) {
    for name in [DEADLINE, ATTEMPTS, CASE, VERSION] {
        fields.remove(name);
    }
}

fn number(value: &HeaderValue) -> Option<u64> {
    let digits = value.as_bytes();
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Says that the request never reached the application.
pub fn mark_not_delivered(fields: &mut Fields) {
    fields.insert(NOT_DELIVERED, HeaderValue::from_static("1"));
}

/// Takes the word that the request never reached the application, and says whether it was there. To be asked
/// of responses of verified peers only.
pub fn take_not_delivered(fields: &mut Fields) -> bool {
    fields.remove(NOT_DELIVERED).is_some()
}

/// Why the other sidecar itself ended the request. To be asked of responses of verified peers only.
pub fn reason(fields: &Fields) -> Option<Reason> {
    let said = fields.get(REASON)?;
    Reason::ALL.iter().copied().find(|reason| said == reason.code())
}

/// Why the other sidecar has no response of its application, where the connection or the stream broke off
/// before a head came. To be asked of responses of verified peers only.
pub fn broken_off(fields: &Fields) -> Option<Reason> {
    reason(fields).filter(|reason| matches!(reason, Reason::ConnectionLost | Reason::UpstreamReset))
}

/// Takes what the other sidecar says beside a request: the version and the case of the client's application.
pub fn receive_request(head: &mut RequestHead) {
    if !are_said(&head.headers) {
        return;
    }
    if let Some(version) = take_version(&mut head.headers) {
        head.version = version;
        take_case(&mut head.headers);
    }
}

/// Takes what the other sidecar says beside a response; of the other side headers only the reason stays.
pub fn receive_response(head: &mut ResponseHead) {
    let reason = head.headers.remove(REASON);
    take_case(&mut head.headers);
    take_phrase(head);
    strip(&mut head.headers);
    if let Some(reason) = reason {
        head.headers.insert(REASON, reason);
    }
}

/// Takes out of an application's response what only the mesh may say, and says beside it what HTTP/2 cannot.
pub fn send_response(head: &mut ResponseHead) {
    strip(&mut head.headers);
    put_case(&mut head.headers);
    put_phrase(head);
}

/// Says which version of HTTP/1 the client's application spoke, on a hop that is HTTP/2.
pub fn put_version(fields: &mut Fields, version: Version) {
    let text = if version == Version::HTTP_10 { "1.0" } else { "1.1" };
    fields.insert(VERSION, HeaderValue::from_static(text));
}

/// Takes the version that the client's application spoke.
pub fn take_version(fields: &mut Fields) -> Option<Version> {
    match fields.remove(VERSION)?.as_bytes() {
        b"1.0" => Some(Version::HTTP_10),
        b"1.1" => Some(Version::HTTP_11),
        _ => None,
    }
}

/// Writes an HTTP/1 response's own reason phrase beside the fields.
pub fn put_phrase(head: &mut ResponseHead) {
    let Some(phrase) = head.reason_phrase.take() else { return };
    if let Some(value) = phrase_value(&phrase) {
        head.headers.insert(PHRASE, value);
    }
}

/// Takes the reason phrase as the other sidecar sent it.
pub fn take_phrase(head: &mut ResponseHead) {
    let Some(value) = head.headers.remove(PHRASE) else { return };
    if phrase_value(value.as_bytes()).is_some() {
        head.reason_phrase = Some(Bytes::copy_from_slice(value.as_bytes()));
    }
}

/// A reason phrase (RFC 9112 section 4: tabs, spaces, visible and obs-text bytes) as a field's value.
fn phrase_value(phrase: &[u8]) -> Option<HeaderValue> {
    if phrase.len() > MAX_BYTES {
        return None;
    }
    HeaderValue::from_bytes(phrase).ok()
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    fn fields(names: &[&'static str]) -> Fields {
        names
            .iter()
            .map(|name| (HeaderName::from_static(name), HeaderValue::from_static("x")))
            .collect()
    }

    #[test]
    fn fields_of_weft_are_taken_out_however_they_are_spelt() {
        for (name, gone) in [
            ("weft-client-id", true),
            ("weft-reason", true),
            ("weft-anything-later", true),
            ("weft_client_id", true),
            ("weft-client_id", true),
            ("weft.client.id", true),
            ("weft~client+id", true),
            ("weft", false),
            ("wefty-id", false),
            ("x-weft-id", false),
        ] {
            let mut fields = fields(&[name, "accept"]);
            fields.append(HeaderName::from_static(name), HeaderValue::from_static("again"));
            strip(&mut fields);
            assert_eq!(!fields.contains_key(name), gone, "{name}");
            assert!(fields.contains_key("accept"));
        }
        let mut all = fields(&["weft-a", "weft-b", "host", "weft_c"]);
        strip(&mut all);
        assert_eq!(all.len(), 1);
    }

    #[test]
    fn the_reason_phrase_comes_back() {
        let mut head = ResponseHead::new(StatusCode::OK);
        head.reason_phrase = Some(Bytes::from_static(b"Very Well"));
        put_phrase(&mut head);
        assert!(head.reason_phrase.is_none());
        take_phrase(&mut head);
        assert_eq!(head.reason_phrase.as_deref(), Some(&b"Very Well"[..]));
        assert!(head.headers.is_empty());
    }

    #[test]
    fn a_deadline_and_a_number_of_attempts_come_back_and_nothing_else_counts() {
        let mut map = Fields::new();
        assert_eq!((deadline(&map), attempts(&map)), (None, None));
        put_deadline(&mut map, Duration::from_micros(1_999));
        put_attempts(&mut map, 3);
        assert_eq!(deadline(&map), Some(Duration::from_millis(1)), "rounded down");
        assert_eq!(attempts(&map), Some(3));
        for wrong in ["", "-1", "+1", "1.5", "1 ", "99999999999999999999"] {
            map.insert(DEADLINE, HeaderValue::from_static(wrong));
            map.insert(ATTEMPTS, HeaderValue::from_static(wrong));
            assert_eq!((deadline(&map), attempts(&map)), (None, None), "{wrong:?}");
        }
    }

    #[test]
    fn not_delivered_is_read_once() {
        let mut map = Fields::new();
        assert!(!take_not_delivered(&mut map));
        mark_not_delivered(&mut map);
        assert!(take_not_delivered(&mut map));
        assert!(map.is_empty());
    }
}
