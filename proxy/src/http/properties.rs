//! What must hold of a head that came by HTTP/2, with any fields: fuzzed, and run over the corpus by the tests.
//!
//! - Written as HTTP/1 it is one head and nothing behind it, with the same fields, or it is refused.
//! - Of what a stranger says, nothing passes for the mesh's word; what a peer says of the case of names only
//!   re-cases names that are there.
//! - A destination has one form, and is none that an application may not name.
//!
//! An input is a line with method and target, then a field a line.

use bytes::BytesMut;
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header};

use super::{
    Fields, RequestHead, ResponseHead, forward, grpc,
    h1::{
        HeadLimits,
        encode::{Persistence, request_head, response_head},
        framing::BodyLength,
        parse::{self, Progress},
        properties::against_hyper::encoded,
    },
    side,
};
use crate::destination::authority;

/// More than any input needs.
const LIMITS: HeadLimits = HeadLimits { bytes: 1 << 20, fields: 4096 };

/// Checks it for a head that is written like this.
pub fn check(bytes: &[u8]) {
    let Some(head) = head(bytes) else { return };
    check_request(&head);
    check_response(&head.headers);
    check_stranger(&head.headers);
    check_peer(&head);
    check_destination(&head);
    check_grpc(&head.headers);
}

fn head(bytes: &[u8]) -> Option<RequestHead> {
    let line = bytes.split(|byte| *byte == b'\n').next()?;
    let mut words = line.splitn(2, |byte| *byte == b' ');
    Some(RequestHead {
        method: Method::from_bytes(words.next()?).ok()?,
        target: Uri::try_from(words.next()?).ok()?,
        version: Version::HTTP_2,
        headers: fields(bytes),
        upgrade: None,
        accepts_trailers: false,
    })
}

/// The fields of an input; lines that are none are left out.
pub fn fields(bytes: &[u8]) -> Fields {
    let mut fields = Fields::new();
    for line in bytes.split(|byte| *byte == b'\n').skip(1) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            fields.append(name, value);
        }
    }
    fields
}

/// Checks what a server reads of a request that came by HTTP/2.
fn check_request(head: &RequestHead) {
    let mut out = Vec::new();
    request_head(&mut out, head, BodyLength::Empty);
    let mut buffer = BytesMut::from(&out[..]);
    // A head that breaks HTTP/1's rules gets no answer but a refusal.
    let Ok(read) = parse::request(&mut buffer, &mut Progress::default(), LIMITS) else { return };
    let read = read.expect("a head that was written is whole");
    assert!(buffer.is_empty(), "bytes behind the head: {}", out.escape_ascii());
    assert_eq!(read.length, BodyLength::Empty);
    assert_eq!(read.head.method, head.method);
    assert_eq!(read.head.target.query(), head.target.query().map(encoded).as_deref());
    check_fields(&head.headers, &read.head.headers);
}

/// Checks what a client reads of a response that came by HTTP/2.
fn check_response(headers: &Fields) {
    let mut head = ResponseHead { headers: headers.clone(), ..ResponseHead::new(StatusCode::OK) };
    side::receive_response(&mut head);
    let mut out = Vec::new();
    let implied = Persistence::Implied;
    response_head(&mut out, &head, BodyLength::Empty, implied, &Method::GET);
    let mut buffer = BytesMut::from(&out[..]);
    let read = parse::response(&mut buffer, &mut Progress::default(), LIMITS, false);
    let read = read.expect("a response breaks no rule").expect("and is whole");
    assert!(buffer.is_empty(), "bytes behind the head: {}", out.escape_ascii());
    assert_eq!(read.head.reason_phrase, head.reason_phrase);
    check_fields(&head.headers, &read.head.headers);
}

/// Checks that fields arrive as they were sent, but for those that HTTP/1 writes itself.
fn check_fields(sent: &Fields, received: &Fields) {
    const REWRITTEN: [&str; 15] = [
        "content-length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "proxy-connection",
        "upgrade",
        "te",
        "trailer",
        "cookie",
        "http2-settings",
        "proxy-authorization",
        "proxy-authenticate",
        "proxy-authentication-info",
        "expect",
        "host",
    ];
    for name in sent.keys().filter(|name| !REWRITTEN.contains(&name.as_str())) {
        assert!(sent.get_all(name).eq(received.get_all(name)), "{name}: {sent:?}, {received:?}");
    }
    for name in received.keys() {
        assert!(sent.contains_key(name) || REWRITTEN.contains(&name.as_str()), "{name}");
    }
}

fn check_stranger(headers: &Fields) {
    let mut fields = headers.clone();
    side::strip(&mut fields);
    assert!(!fields.keys().any(side::is_side_header), "{fields:?}");
    forward::inbound(&mut fields, None, None);
    let forged = |name: &HeaderName| {
        let name = name.as_str().replace('_', "-");
        name.starts_with("weft-") || name.starts_with("x-forwarded") || name == "forwarded"
    };
    assert!(!fields.keys().any(forged), "{fields:?}");
}

fn check_peer(head: &RequestHead) {
    let mut head = head.clone();
    side::put_version(&mut head.headers, Version::HTTP_11);
    side::receive_request(&mut head);
    for field in &head.headers {
        let mut written = Vec::new();
        field.spelt().write(&mut written);
        assert_eq!(HeaderName::from_bytes(&written).ok().as_ref(), Some(field.name()));
    }
    // Between sidecars HTTP/2 has the host elsewhere.
    head.headers.remove(header::HOST);
    let mut fields = head.headers.clone();
    side::put_case(&mut fields);
    side::take_case(&mut fields);
    check_fields(&head.headers, &fields);
    let unique = head.headers.keys().all(|name| head.headers.get_all(name).nth(1).is_none());
    if unique && head.headers.keys().map(|name| name.as_str().len() + 1).sum::<usize>() < 4096 {
        let spelt = |fields: &Fields| -> Vec<String> {
            fields.into_iter().map(|field| format!("{:?}", field.spelt())).collect()
        };
        assert_eq!(spelt(&fields), spelt(&head.headers));
    }
}

fn check_destination(head: &RequestHead) {
    let Ok(named) = authority::of_request(head) else { return };
    let Ok(destination) = authority::canonical(&named, 80) else { return };
    let again = destination.parse().expect("an authority");
    let again = authority::canonical(&again, 443).expect("it was allowed before");
    assert_eq!(again, destination, "of {named}");
    if let Ok(address) = destination.parse() {
        assert!(authority::allowed(address).is_ok(), "{address}");
    }
}

fn check_grpc(headers: &Fields) {
    for value in headers.values() {
        let message = grpc::decode_message(value.as_bytes());
        let encoded = grpc::encode_message(&message);
        assert_eq!(grpc::decode_message(encoded.as_bytes()), message);
    }
    let longest = std::time::Duration::from_secs(99_999_999 * 3600);
    assert!(grpc::timeout(headers).is_none_or(|timeout| timeout <= longest));
    let _ = grpc::status(headers);
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_of_fields_is_carried_on_without_a_forgery() {
        crate::replay::corpus("fields", super::check);
    }
}
