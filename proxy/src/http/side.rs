//! Side headers: the fields beginning with `weft-`, by which sidecars speak to each other.
//!
//! They are believed from verified peers only. [`strip`] takes them out wherever a message enters from
//! anything else, and out of what an application sends, so that nobody can forge them; the few that an
//! application sees (`weft-client-id`, `weft-reason`) are set by the proxy after that.
//!
//! HTTP/2 knows lower-case names only. Between sidecars (`weft-h2/1`) the case of HTTP/1's names travels in
//! `weft-case`, and a reason phrase of the application's own in `weft-phrase`.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Version, header};

use super::{Fields, RequestHead, ResponseHead, fields::Field};
use crate::reason::Reason;

/// Why the proxy itself ended the request.
pub const REASON: HeaderName = HeaderName::from_static("weft-reason");
/// Who calls, for the application: see docs/forwarded.md.
pub const CLIENT_ID: HeaderName = HeaderName::from_static("weft-client-id");
/// On a response from the server's sidecar: the request never reached the application.
pub const NOT_DELIVERED: HeaderName = HeaderName::from_static("weft-not-delivered");
/// How the names of the fields were written.
pub const CASE: HeaderName = HeaderName::from_static("weft-case");
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
/// Names of a `weft-case` that say nothing, at most: each is looked for among all fields.
const MAX_ABSENT: usize = 8;

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

/// Writes the case of the fields' names beside them, for the other sidecar: in the order of the fields the names
/// that are not all lower case, separated by commas. Host is left out, since HTTP/2 has it as `:authority`.
pub fn put_case(fields: &mut Fields) {
    let is_said = |field: &&Field| !field.is_lower() && *field.name() != header::HOST;
    let sizes = fields.into_iter().filter(is_said).map(|field| field.name().as_str().len() + 1);
    // A name is written eight bytes at a time.
    let mut text = Vec::with_capacity(sizes.sum::<usize>().min(MAX_BYTES) + 8);
    for field in fields.into_iter().filter(is_said) {
        if text.len() + field.name().as_str().len() > MAX_BYTES {
            continue;
        }
        field.write_name(&mut text);
        text.push(b',');
    }
    // The last comma is between nothing.
    if text.pop().is_none() {
        return;
    }
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(text)) {
        fields.insert(CASE, value);
    }
}

/// Takes the case of the fields' names as the other sidecar sent it. Malformed, it counts for nothing; it can
/// only re-case names that are present, each once. A name in lower case says nothing.
///
/// Names come in the order of the fields, so that all of them together are looked for in one go.
pub fn take_case(fields: &mut Fields) {
    let Some(value) = fields.remove(CASE).filter(|value| value.len() <= MAX_BYTES) else { return };
    let (mut next, mut absent) = (0, 0);
    for name in value.as_bytes().split(|&byte| byte == b',') {
        if !name.iter().any(u8::is_ascii_uppercase) {
            absent += 1;
        } else if let Some(place) = fields.respell(next, name) {
            next = place + 1;
            continue;
        } else {
            absent += 1;
        }
        if HeaderName::from_bytes(name).is_err() {
            return fields.forget_spelling();
        }
        if absent > MAX_ABSENT {
            return;
        }
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

    /// The names as HTTP/1 would write them.
    fn written(fields: &Fields) -> String {
        let mut names = Vec::new();
        for field in fields {
            field.write_name(&mut names);
            names.push(b' ');
        }
        String::from_utf8(names).expect("text").trim_end().to_owned()
    }

    fn spelt(names: &[&'static str]) -> Fields {
        let mut fields = Fields::new();
        for name in names {
            let lower = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            fields.append_written(lower, name.as_bytes(), HeaderValue::from_static("x"));
        }
        fields
    }

    #[test]
    fn the_case_of_names_comes_back() {
        let names = ["Accept", "X-API-Key", "lower", "Set-Cookie", "set-cookie", "SET-cookie"];
        let mut sent = spelt(&names);
        put_case(&mut sent);
        assert_eq!(sent[CASE], "Accept,X-API-Key,Set-Cookie,SET-cookie");
        let mut received: Fields =
            sent.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        take_case(&mut received);
        // A field in lower case is not told apart from one of its name that is not.
        let expected = "Accept X-API-Key lower Set-Cookie SET-cookie set-cookie";
        assert_eq!(written(&received), expected);
    }

    #[test]
    fn the_host_is_left_out_of_a_case_map_as_it_is_no_field_of_http_2() {
        let mut fields = spelt(&["Host", "Accept"]);
        put_case(&mut fields);
        assert_eq!(fields[CASE], "Accept");
    }

    #[test]
    fn a_case_map_says_as_much_as_fits() {
        let name = "X-".to_owned() + &"a".repeat(1000);
        let lower = HeaderName::from_bytes(name.as_bytes()).expect("a name");
        let mut fields = Fields::new();
        for _ in 0..5 {
            fields.append_written(lower.clone(), name.as_bytes(), HeaderValue::from_static("x"));
        }
        fields.append_written(header::ACCEPT, b"Accept", HeaderValue::from_static("x"));
        put_case(&mut fields);
        assert_eq!(fields[CASE], [name.as_str(), &name, &name, &name, "Accept"].join(","));
    }

    #[test]
    fn a_hostile_case_map_counts_for_nothing() {
        for (value, names) in [
            ("Host", "Host"),
            ("Host,HOST,hOST", "Host"),
            ("host,Host", "Host"),
            ("host", "host"),
            ("Absent", "host"),
            ("Absent,Host", "Host"),
            ("Host,", "host"),
            ("Host: x,Host", "host"),
            ("Host,Host: x", "host"),
            ("Host Accept", "host"),
            ("A,B,C,D,E,F,G,h,Host", "Host"),
            ("A,B,C,D,E,F,G,h,i,Host", "host"),
            ("", "host"),
        ] {
            let mut map = fields(&["host"]);
            map.insert(CASE, HeaderValue::from_static(value));
            take_case(&mut map);
            assert_eq!(written(&map), names, "{value:?}");
        }
        let mut map = fields(&["host"]);
        let long = vec!["Host"; MAX_BYTES].join(",");
        map.insert(CASE, HeaderValue::try_from(long).expect("a value"));
        take_case(&mut map);
        assert_eq!(written(&map), "host");
    }

    #[test]
    fn without_capitals_there_is_no_case_map() {
        let mut map = fields(&["host"]);
        put_case(&mut map);
        assert!(!map.contains_key(CASE));
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
