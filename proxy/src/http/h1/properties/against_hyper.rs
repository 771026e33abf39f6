//! Requests, as hyper reads them: the oracle.
//!
//! What this codec accepts, hyper accepts and understands alike, up to where the next request begins; also
//! after it was written again. What hyper accepts and this codec refuses stands in [`STRICTER`].

use std::{cell::RefCell, convert::Infallible, rc::Rc};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    End, LIMITS, Message, Pieces, read,
    request::{Requests, framings, sent_on},
};
use crate::http::{
    Fields,
    h1::{HeadError, parse::ParsedRequest},
};

/// Why a head is refused that hyper accepts.
const STRICTER: &[HeadError] = &[
    // Other readers end a line with LF alone, or do not (RFC 9112 section 2.2).
    HeadError::Malformed("a line that ends with LF alone"),
    HeadError::Malformed("too many empty lines before the request"),
    // Each method has its forms (section 3.2), and no target user information or a fragment.
    HeadError::Malformed("request target"),
    // Exactly one host (section 3.2).
    HeadError::Malformed("no Host"),
    HeadError::Malformed("Host"),
    HeadError::Malformed("several Host fields"),
    // What it lists is taken out of the head (RFC 9110 section 7.6.1).
    HeadError::Malformed("Connection lists no field name"),
    // One reader takes the one, another the other (RFC 9112 section 6.3).
    HeadError::Framing("both Content-Length and Transfer-Encoding"),
    HeadError::Framing("several Content-Length fields"),
    // Beside chunked, hyper does not look at it, whatever it says.
    HeadError::Framing("Content-Length is empty"),
    HeadError::Framing("Content-Length is not a number"),
    HeadError::Framing("Content-Length is too large"),
    HeadError::Framing("several Transfer-Encoding fields"),
    // Of several lines that are one list, the first.
    HeadError::Framing("Transfer-Encoding does not end with chunked"),
    // What follows a CONNECT is the tunnel (RFC 9110 section 9.3.6).
    HeadError::Framing("CONNECT with a body"),
    // The next hop might not know the other codings.
    HeadError::TransferCoding,
    // This codec's limits are the settings'.
    HeadError::TooLarge,
    HeadError::TooManyFields,
];

/// Why a body is refused that hyper accepts.
const STRICTER_BODIES: &[&str] = &[
    "malformed body: a trailer line ends with LF alone",
    "malformed body: a control character in a chunk extension",
    // RFC 9112 section 7.1 allows it before an extension only.
    "malformed body: white space behind a chunk size",
    // This codec's limits are its own.
    "malformed body: trailers are too large",
    "malformed body: too many chunk extensions",
    "malformed body: chunk size line is too long",
    "malformed body: chunk size is too large",
];

/// A request as hyper understood it.
#[derive(Debug)]
struct Understood {
    method: Method,
    target: String,
    fields: HeaderMap,
    content: Bytes,
    trailers: HeaderMap,
}

/// Checks a client's bytes, and what is sent on of them.
pub fn check(bytes: &[u8]) {
    compare(bytes);
}

/// The same; returns how many requests this codec accepted.
pub(in crate::http::h1) fn compare(bytes: &[u8]) -> usize {
    let (ours, end) = read(&Requests, bytes, Pieces::Whole, LIMITS);
    let hypers = read_by_hyper(bytes);
    let shown = bytes.escape_ascii();
    if let Some(refused) = ours.get(hypers.len()) {
        assert!(had_excluded(&refused.head.head.target), "hyper refuses {shown}");
    }
    assert!(ours.len() >= hypers.len() || is_stricter(&end), "{end:?}, but hyper reads {shown}");
    for (ours, hypers) in ours.iter().zip(&hypers) {
        check_meaning(ours, hypers, true);
        for length in framings(ours) {
            let bytes = sent_on(ours, length);
            let hypers = read_by_hyper(&bytes);
            assert_eq!(hypers.len(), 1, "one request was written: {}", bytes.escape_ascii());
            check_meaning(ours, &hypers[0], false);
        }
    }
    ours.len()
}

/// What RFC 3986 excludes from a target, and how this codec encodes it; hyper refuses some of it.
const EXCLUDED: [(&str, &str); 4] = [("\"", "%22"), ("<", "%3C"), (">", "%3E"), ("`", "%60")];

fn had_excluded(target: &Uri) -> bool {
    let target = target.to_string();
    EXCLUDED.iter().any(|(_, encoded)| target.contains(encoded))
}

/// A target, or a part of one, as this codec reads it.
pub(in crate::http) fn encoded(target: &str) -> String {
    EXCLUDED
        .iter()
        .fold(target.to_owned(), |target, (plain, encoded)| target.replace(plain, encoded))
}

/// Whether hyper may read on where this codec stops.
fn is_stricter(end: &End) -> bool {
    match end {
        // The connection is closed; hyper does so after fewer requests.
        End::Last => true,
        End::Refused(error) => STRICTER.contains(error),
        End::Broken(why) => STRICTER_BODIES.contains(&why.as_str()),
        End::Empty | End::Incomplete => false,
    }
}

/// Checks that both understood the same; `is_whole` before fields were taken out.
fn check_meaning(ours: &Message<ParsedRequest>, hypers: &Understood, is_whole: bool) {
    let head = &ours.head.head;
    assert_eq!(head.method, hypers.method);
    assert_eq!(ours.content, hypers.content);
    let is_absolute = head.target.scheme().is_some();
    // `OPTIONS http://host` means `*`; what is sent on is in origin-form.
    if is_whole && head.method != Method::OPTIONS || !is_absolute {
        assert_eq!(head.target.to_string(), encoded(&hypers.target));
    }
    for name in hypers.fields.keys().filter(|_| is_whole) {
        let is_replaced = name == "host" && is_absolute;
        if !is_replaced && !is_taken_out(name, &hypers.fields) {
            check_values(name, &head.headers, &hypers.fields);
        }
    }
    for name in head.headers.keys() {
        assert!(!is_whole || name == "host" || hypers.fields.contains_key(name), "{name}");
    }
    for name in ours.trailers.keys().filter(|_| is_whole) {
        check_values(name, &ours.trailers, &hypers.trailers);
    }
}

fn check_values(name: &HeaderName, ours: &Fields, hypers: &HeaderMap) {
    assert!(ours.get_all(name).eq(hypers.get_all(name)), "{name}: {ours:?}, {hypers:?}");
}

/// Whether this codec takes out a field that hyper keeps.
fn is_taken_out(name: &HeaderName, fields: &HeaderMap) -> bool {
    const HOP_BY_HOP: [&str; 11] = [
        "connection",
        "te",
        "upgrade",
        "keep-alive",
        "proxy-connection",
        "http2-settings",
        "proxy-authorization",
        "proxy-authenticate",
        "proxy-authentication-info",
        "transfer-encoding",
        "expect",
    ];
    let is_nominated = fields.get_all("connection").iter().any(|value| {
        value
            .as_bytes()
            .split(|byte| *byte == b',')
            .any(|token| token.trim_ascii().eq_ignore_ascii_case(name.as_str().as_bytes()))
    });
    HOP_BY_HOP.contains(&name.as_str()) || is_nominated
}

/// The whole requests at the start of `bytes`, as hyper reads them.
fn read_by_hyper(bytes: &[u8]) -> Vec<Understood> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let understood = Rc::new(RefCell::new(Vec::new()));
    let service = service_fn(|request: http::Request<Incoming>| {
        let understood = understood.clone();
        async move {
            let (parts, body) = request.into_parts();
            if let Ok(body) = body.collect().await {
                let trailers = body.trailers().cloned().unwrap_or_default();
                understood.borrow_mut().push(Understood {
                    method: parts.method,
                    target: parts.uri.to_string(),
                    fields: parts.headers,
                    content: body.to_bytes(),
                    trailers,
                });
            }
            Ok::<_, Infallible>(http::Response::new(Empty::<Bytes>::new()))
        }
    });
    let (mut client, server) = tokio::io::duplex(64 * 1024);
    let serving =
        http1::Builder::new().half_close(true).serve_connection(TokioIo::new(server), service);
    let talking = async {
        // hyper may close as soon as it refuses something.
        let _ = client.write_all(bytes).await;
        let _ = client.shutdown().await;
        let _ = client.read_to_end(&mut Vec::new()).await;
    };
    let _ = runtime.block_on(async { tokio::join!(serving, talking) });
    understood.take()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_of_requests_means_the_same_to_hyper() {
        for target in ["http1_request", "http1_differential"] {
            crate::replay::corpus(target, super::check);
        }
    }
}
