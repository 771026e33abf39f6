//! Requests' heads: what is understood, and what is refused.

use super::*;
use crate::http::h1::{HeadError, framing::BodyLength::*};

const HOST: &str = "Host: a\r\n";

/// A request with these fields.
pub(super) fn get(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\n{HOST}{fields}\r\n")
}

/// Bytes; target, fields, length, and whether the connection goes on.
pub(super) const WELL_FORMED: &[(&str, &str, &str, BodyLength, bool)] = &[
    ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "/", "host: a", Empty, true),
    ("GET / HTTP/1.0\r\n\r\n", "/", "", Empty, false),
    ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "/", "", Empty, true),
    (
        "GET / HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive, close\r\n\r\n",
        "/",
        "host: a",
        Empty,
        false,
    ),
    ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "/", "host: a", Empty, false),
    ("GET / HTTP/1.1\r\nHost: a\r\nConnection: CLOSE\r\n\r\n", "/", "host: a", Empty, false),
    ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "/", "host: a", Empty, true),
    ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "/", "host: a", Empty, true),
    ("GET /a?b=c&d HTTP/1.1\r\nHost: a:80\r\n\r\n", "/a?b=c&d", "host: a:80", Empty, true),
    (
        "GET /<b>\"`?q=\"<>\" HTTP/1.1\r\nHost: a\r\n\r\n",
        "/%3Cb%3E%22%60?q=%22%3C%3E%22",
        "host: a",
        Empty,
        true,
    ),
    ("GET // HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "//", "host: [::1]:80", Empty, true),
    ("GET / HTTP/1.1\r\nHost:\r\n\r\n", "/", "host: ", Empty, true),
    ("GET / HTTP/1.1\r\nHost:a\r\nX:  b c\t \r\n\r\n", "/", "host: a, x: b c", Empty, true),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: \r\nY:\r\n\r\n", "/", "host: a, x: , y: ", Empty, true),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nx: 2\r\n\r\n", "/", "host: a, x: 1, x: 2", Empty, true),
    (
        "GET / HTTP/1.1\r\nHost: a\r\n!#$%&'*+-.^_`|~9: 1\r\n\r\n",
        "/",
        "host: a, !#$%&'*+-.^_`|~9: 1",
        Empty,
        true,
    ),
    ("PURGE / HTTP/1.1\r\nHost: a\r\n\r\n", "/", "host: a", Empty, true),
    ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "*", "host: a", Empty, true),
    ("GET http://b:81/c HTTP/1.1\r\nHost: a\r\n\r\n", "http://b:81/c", "host: b:81", Empty, true),
    ("GET http://b HTTP/1.1\r\nHost: a\r\n\r\n", "http://b/", "host: b", Empty, true),
    ("GET HTTP://b?q HTTP/1.1\r\nHost: a\r\n\r\n", "http://b/?q", "host: b", Empty, true),
    ("GET http://b/ HTTP/1.0\r\n\r\n", "http://b/", "host: b", Empty, false),
    (
        "GET http://b/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "http://b/",
        "host: b",
        Empty,
        false,
    ),
    ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", "a:443", "host: a:443", Empty, true),
    ("CONNECT [::1]:443 HTTP/1.0\r\n\r\n", "[::1]:443", "", Empty, false),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "/",
        "host: a, content-length: 5",
        Exact(5),
        true,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        "/",
        "host: a, content-length: 0",
        Empty,
        true,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 007\r\n\r\n",
        "/",
        "host: a, content-length: 007",
        Exact(7),
        true,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\n",
        "/",
        "host: a, content-length: 18446744073709551615",
        Exact(u64::MAX),
        true,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        "/",
        "host: a",
        Chunked,
        true,
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:  Chunked \r\n\r\n",
        "/",
        "host: a",
        Chunked,
        true,
    ),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx",
        "/",
        "host: a, content-length: 1",
        Exact(1),
        true,
    ),
    (
        "GET / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
        "/",
        "content-length: 1",
        Exact(1),
        false,
    ),
];

#[test]
fn well_formed_requests_are_understood_in_any_pieces() {
    for (bytes, target, fields, length, keep_alive) in WELL_FORMED {
        for piece in PIECES {
            let (request, _) = request(bytes.as_bytes(), piece)
                .unwrap_or_else(|error| panic!("{bytes:?}: {error}"));
            assert_eq!(request.head.target, *target, "{bytes:?}");
            assert_eq!(lines(&request.head.headers).join(", "), *fields, "{bytes:?}");
            assert_eq!(request.length, *length, "{bytes:?}");
            assert_eq!(request.keep_alive, *keep_alive, "{bytes:?}");
        }
    }
}

/// Fields that no request may have.
pub(super) const MALFORMED_FIELDS: &[&str] = &[
    // Line ends, folds, spaces, controls.
    "X: 1\n",
    "X: 1\n\r\n",
    "X: 1\r\r\n",
    "X: 1\r2\r\n",
    " X: 1\r\n",
    "X: 1\r\n 2\r\n",
    "X: 1\r\n\t2\r\n",
    "X : 1\r\n",
    "X\t: 1\r\n",
    "X\r\n",
    ": 1\r\n",
    "X Y: 1\r\n",
    "X: \0\r\n",
    "X: a\0b\r\n",
    "X: \x01\r\n",
    "X: \x7f\r\n",
    "X: a\x0bb\r\n",
    "X(: 1\r\n",
    "X\u{e4}: 1\r\n",
    "\"X\": 1\r\n",
    "X,Y: 1\r\n",
    // Hosts.
    "Host: a\r\n",
    "Host: b\r\n",
    "host:\r\n",
    // Lengths.
    "Content-Length: 1\r\nContent-Length: 2\r\n",
    "Content-Length: 1\r\nContent-Length: 1\r\n",
    "Content-Length: 1, 1\r\n",
    "Content-Length: 1,2\r\n",
    "Content-Length: +1\r\n",
    "Content-Length: -1\r\n",
    "Content-Length: 0x1\r\n",
    "Content-Length: 1 \t2\r\n",
    "Content-Length:\r\n",
    "Content-Length: \r\n",
    "Content-Length: 1.0\r\n",
    "Content-Length: 1e3\r\n",
    "Content-Length: 18446744073709551616\r\n",
    "Content-Length: 99999999999999999999999\r\n",
    "Content-Length: a\r\n",
    "Content-Length: \"1\"\r\n",
    "Content-Length: 1;\r\n",
    "Content-Length: \u{661}\r\n",
    // Codings.
    "Transfer-Encoding: gzip\r\n",
    "Transfer-Encoding: chunked, gzip\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding: chunked, chunked\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "Transfer-Encoding:\r\n",
    "Transfer-Encoding: ,chunked\r\n",
    "Transfer-Encoding: xchunked\r\n",
    "Transfer-Encoding: chunked;q=1\r\n",
    "Transfer-Encoding: \x0bchunked\r\n",
    "Transfer-Encoding : chunked\r\n",
    "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: \"chunked\"\r\n",
    "Transfer-Encoding: chunk\r\n ed\r\n",
    // Connection.
    "Connection: a b\r\n",
    "Connection: close;\"\r\n",
];

/// Requests that are refused.
pub(super) const MALFORMED: &[&str] = &[
    // Targets.
    "GET foo HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http:///a HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://user@b/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://b:99999/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://b:x/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://b\\c/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT /a HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT http://a:80/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT u@a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT a:80 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n",
    "CONNECT a:80 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    // Request lines.
    " GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /\r\n\r\n",
    "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
    "GET / HTTP/1.2\r\nHost: a\r\n\r\n",
    "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    "GET / HTTP/0.9\r\nHost: a\r\n\r\n",
    "GET / http/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\nHost: a\n\n",
    "GET / HTTP/1.1\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n\n",
    "GET / HTTP/1.1\rHost: a\r\n\r\n",
    "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
    "G\u{e4}T / HTTP/1.1\r\nHost: a\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "\x16\x03\x01\x02\0\x01\0\x01\r\n\r\n",
    // Hosts.
    "GET / HTTP/1.1\r\n\r\n",
    "GET http://a/ HTTP/1.1\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: http://a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a:\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: \u{e4}\r\n\r\n",
    "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n",
    // HTTP/1.0 knows no codings.
    "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
];

#[test]
fn malformed_requests_are_refused_in_any_pieces() {
    let with_fields: Vec<String> = MALFORMED_FIELDS.iter().map(|fields| get(fields)).collect();
    for bytes in with_fields.iter().map(String::as_str).chain(MALFORMED.iter().copied()) {
        for piece in PIECES {
            let error =
                request(bytes.as_bytes(), piece).map(|(request, _)| request).expect_err(bytes);
            assert_ne!(error, "incomplete", "{bytes:?} in pieces of {piece}");
        }
    }
}

#[test]
fn refusals_have_a_status() {
    for (bytes, error, status) in [
        ("GET / HTTP/3.0\r\n\r\n", HeadError::Version, 505),
        ("GET / HTTP/1.1\r\n\r\n", HeadError::Malformed("no Host"), 400),
        (&get("Transfer-Encoding: gzip, chunked\r\n"), HeadError::TransferCoding, 501),
        (
            &get("Transfer-Encoding: gzip\r\n"),
            HeadError::Framing("Transfer-Encoding does not end with chunked"),
            400,
        ),
        (&get(&"X: 1\r\n".repeat(40)), HeadError::TooManyFields, 431),
        (&get(&format!("X: {}\r\n", "a".repeat(5000))), HeadError::TooLarge, 431),
        (&get(&format!("X: {}\r\nY: ", "a".repeat(5000))), HeadError::TooLarge, 431),
    ] {
        for piece in PIECES {
            let refused = request(bytes.as_bytes(), piece).map(|(request, _)| request);
            assert_eq!(refused.expect_err("refused"), error.to_string(), "{bytes:?} by {piece}");
        }
        assert_eq!(error.status().as_u16(), status, "{error}");
    }
}

#[test]
fn the_limits_hold_to_the_byte_and_to_the_field() {
    let head = |value: usize| get(&format!("X: {}\r\n", "a".repeat(value)));
    let room = LIMITS.bytes - head(0).len();
    let fields = |count: usize| get(&"X: 1\r\n".repeat(count - 1));
    for piece in PIECES {
        assert!(request(head(room).as_bytes(), piece).is_ok());
        assert!(request(head(room + 1).as_bytes(), piece).is_err());
        assert!(request(fields(LIMITS.fields).as_bytes(), piece).is_ok());
        assert!(request(fields(LIMITS.fields + 1).as_bytes(), piece).is_err());
    }
}

#[test]
fn more_fields_than_fit_on_the_stack_are_possible() {
    let limits = HeadLimits { bytes: 64 * 1024, fields: 1000 };
    let mut buffer = BytesMut::from(get(&"X: 1\r\n".repeat(999)).as_bytes());
    let parsed = parse::request(&mut buffer, &mut Progress::default(), limits).expect("valid");
    assert_eq!(parsed.expect("whole").head.headers.len(), 1000);
}

#[test]
fn hop_by_hop_fields_are_taken_out() {
    for (fields, left) in [
        ("Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n", ""),
        ("Proxy-Connection: keep-alive\r\n", ""),
        ("Connection: X, close\r\nX: 1\r\nY: 2\r\n", "y: 2"),
        ("X: 1\r\nY: 2\r\nConnection: x\r\nConnection: Y\r\n", ""),
        ("TE: trailers, deflate;q=0.5\r\nConnection: TE\r\n", ""),
        ("TE: trailers\r\n", ""),
        ("Upgrade: websocket\r\n", ""),
        (
            "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\nConnection: Upgrade, HTTP2-Settings\r\n",
            "",
        ),
        (
            "Proxy-Authorization: Basic eDp5\r\nAuthorization: Basic eDp5\r\n",
            "authorization: Basic eDp5",
        ),
        ("Trailer: X\r\n", "trailer: X"),
        ("Connection: host, content-length\r\nContent-Length: 1\r\n", "content-length: 1"),
        ("Connection: , ,\r\nX: 1\r\n", "x: 1"),
        (
            "Connection: z, X-B, a, X-A\r\nX-A: 1\r\nX-C: 2\r\nx-b: 3\r\nX-D: 4\r\nx-a: 5\r\n",
            "x-c: 2, x-d: 4",
        ),
    ] {
        let (request, _) = request(get(fields).as_bytes(), usize::MAX).expect(fields);
        let mut lines = lines(&request.head.headers);
        assert_eq!(lines.remove(0), "host: a", "{fields:?}");
        assert_eq!(lines.join(", "), left, "{fields:?}");
        assert_eq!(request.head.accepts_trailers, fields.contains("TE: trailers"), "{fields:?}");
    }
}

#[test]
fn upgrades_are_offered_without_h2c() {
    for (fields, offer) in [
        ("Connection: Upgrade\r\nUpgrade: websocket\r\n", Some("websocket")),
        ("Connection: keep-alive, upgrade\r\nUpgrade: h2c, websocket\r\n", Some("websocket")),
        (
            "Connection: Upgrade\r\nUpgrade: foo/1\r\nUpgrade: H2C\r\nUpgrade: bar\r\n",
            Some("foo/1, bar"),
        ),
        ("Connection: Upgrade\r\nUpgrade: h2c\r\n", None),
        ("Connection: Upgrade\r\n", None),
        ("Upgrade: websocket\r\n", None),
        ("Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n", None),
    ] {
        let (request, _) = request(get(fields).as_bytes(), usize::MAX).expect(fields);
        assert_eq!(request.head.upgrade.as_deref(), offer.map(str::as_bytes), "{fields:?}");
    }
    let old = "GET / HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert!(request(old.as_bytes(), 1).expect("valid").0.head.upgrade.is_none());
}

#[test]
fn options_without_a_path_asks_about_the_whole_server() {
    for (target, path) in [
        ("http://b", "*"),
        ("http://b:80", "*"),
        ("http://b/", "/"),
        ("http://b?q", "/?q"),
        ("/", "/"),
    ] {
        let bytes = format!("OPTIONS {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        let (request, _) = request(bytes.as_bytes(), usize::MAX).expect(target);
        let mut out = Vec::new();
        crate::http::h1::encode::request_head(&mut out, &request.head, Empty);
        let expected = format!("OPTIONS {path} HTTP/1.1\r\n");
        assert!(out.starts_with(expected.as_bytes()), "{target}");
    }
}

#[test]
fn the_case_of_names_is_known() {
    let fields = "X-ABC: 1\r\nx-lower: 2\r\nX-Abc: 3\r\nConnection: close\r\nAccept: */*\r\n";
    let (request, _) = request(get(fields).as_bytes(), 1).expect("valid");
    let headers = &request.head.headers;
    let names: Vec<_> = headers.into_iter().map(|field| format!("{:?}", field.spelt())).collect();
    assert_eq!(names, ["Host", "X-ABC", "x-lower", "X-Abc", "Accept"]);
}

#[test]
fn only_the_head_is_taken_off() {
    for piece in PIECES {
        let (_, left) = request(format!("{}rest", get("")).as_bytes(), piece).expect("valid");
        assert_eq!(left, 4);
    }
}

#[test]
fn a_continue_is_expected_only_with_a_body_and_by_http_1_1() {
    for (fields, expected) in [
        ("Expect: 100-continue\r\nContent-Length: 1\r\n", true),
        ("Expect: 100-Continue\r\nTransfer-Encoding: chunked\r\n", true),
        ("Expect: 100-continue\r\n", false),
        ("Expect: other\r\nContent-Length: 1\r\n", false),
        ("Content-Length: 1\r\n", false),
    ] {
        let (request, _) = request(get(fields).as_bytes(), usize::MAX).expect(fields);
        assert_eq!(request.expects_continue, expected, "{fields:?}");
    }
}

#[test]
fn every_prefix_of_a_request_is_incomplete() {
    let bytes = get("Content-Length: 3\r\nX-Y: z\r\n");
    for end in 0..bytes.len() {
        for piece in PIECES {
            let result = request(&bytes.as_bytes()[..end], piece).map(|(request, _)| request);
            assert_eq!(result.expect_err("a prefix"), "incomplete", "{end}");
        }
    }
}
