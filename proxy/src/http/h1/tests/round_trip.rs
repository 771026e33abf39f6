//! What the encoder writes, the parser reads back: heads, chunks, trailers.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, Version};
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::http::{
    Body, Fields, RequestHead, ResponseHead,
    h1::{
        encode::{self, Persistence},
        framing::BodyLength::{Chunked, Empty, Exact, UntilClose},
    },
};

fn written_request(head: &RequestHead, length: BodyLength) -> String {
    let mut out = Vec::new();
    encode::request_head(&mut out, head, length);
    String::from_utf8(out).expect("text")
}

fn written_response(
    head: &ResponseHead,
    length: BodyLength,
    persistence: Persistence,
    method: &Method,
) -> String {
    let mut out = Vec::new();
    encode::response_head(&mut out, head, length, persistence, method);
    String::from_utf8(out).expect("text")
}

fn request_head(method: Method, target: &str, fields: &[(&'static str, &str)]) -> RequestHead {
    let mut headers = Fields::new();
    for (name, value) in fields {
        headers.append(*name, HeaderValue::from_str(value).expect("a value"));
    }
    RequestHead {
        method,
        target: target.parse().expect("a target"),
        version: Version::HTTP_2,
        headers,
        upgrade: None,
        accepts_trailers: false,
    }
}

#[test]
fn requests_get_what_their_connection_needs() {
    let upgrade = |mut head: RequestHead, trailers| {
        head.upgrade = Some(Bytes::from_static(b"websocket"));
        head.accepts_trailers = trailers;
        head
    };
    let get = |target: &str| request_head(Method::GET, target, &[("host", "a")]);
    for (head, length, expected) in [
        (get("/a?b"), Empty, "GET /a?b HTTP/1.1\r\nhost: a\r\n\r\n"),
        (get("http://b/c"), Empty, "GET /c HTTP/1.1\r\nhost: a\r\n\r\n"),
        (
            request_head(Method::GET, "http://b:1", &[]),
            Empty,
            "GET / HTTP/1.1\r\nHost: b:1\r\n\r\n",
        ),
        (request_head(Method::GET, "/", &[]), Empty, "GET / HTTP/1.1\r\nHost: \r\n\r\n"),
        (
            request_head(Method::OPTIONS, "*", &[("host", "a")]),
            Empty,
            "OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n",
        ),
        (
            request_head(Method::POST, "/", &[("host", "a")]),
            Empty,
            "POST / HTTP/1.1\r\nhost: a\r\nContent-Length: 0\r\n\r\n",
        ),
        (
            request_head(Method::DELETE, "/", &[("content-length", "0"), ("host", "a")]),
            Empty,
            "DELETE / HTTP/1.1\r\ncontent-length: 0\r\nhost: a\r\n\r\n",
        ),
        (
            request_head(Method::POST, "/", &[("content-length", "7"), ("host", "a")]),
            Exact(5),
            "POST / HTTP/1.1\r\ncontent-length: 5\r\nhost: a\r\n\r\n",
        ),
        (
            request_head(Method::POST, "/", &[("content-length", "7"), ("host", "a")]),
            Chunked,
            "POST / HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (
            request_head(
                Method::GET,
                "/",
                &[
                    ("host", "a"),
                    ("transfer-encoding", "chunked"),
                    ("connection", "x"),
                    ("te", "x"),
                ],
            ),
            Empty,
            "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        ),
        (
            request_head(
                Method::GET,
                "/",
                &[("host", "a"), ("cookie", "a=1"), ("x", "y"), ("cookie", "b=2")],
            ),
            Empty,
            "GET / HTTP/1.1\r\nhost: a\r\ncookie: a=1; b=2\r\nx: y\r\n\r\n",
        ),
        (
            request_head(
                Method::GET,
                "/",
                &[("host", "a"), ("cookie", ""), ("cookie", "a=1"), ("cookie", "")],
            ),
            Empty,
            "GET / HTTP/1.1\r\nhost: a\r\ncookie: a=1\r\n\r\n",
        ),
        (
            request_head(Method::GET, "/", &[("host", "a"), ("cookie", "")]),
            Empty,
            "GET / HTTP/1.1\r\nhost: a\r\ncookie:\r\n\r\n",
        ),
        (
            upgrade(get("/"), false),
            Empty,
            "GET / HTTP/1.1\r\nhost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        ),
        (
            upgrade(get("/"), true),
            Empty,
            "GET / HTTP/1.1\r\nhost: a\r\nUpgrade: websocket\r\nTE: trailers\r\nConnection: Upgrade, TE\r\n\r\n",
        ),
        (
            upgrade(get("/"), false),
            Chunked,
            "GET / HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
    ] {
        assert_eq!(written_request(&head, length), expected);
    }
}

#[test]
fn responses_get_what_their_client_needs() {
    let head = |status: u16, fields: &[(&'static str, &'static str)]| {
        let mut head = ResponseHead::new(StatusCode::from_u16(status).expect("a status"));
        for (name, value) in fields {
            head.headers.append(*name, HeaderValue::from_static(value));
        }
        head
    };
    let (implied, close) = (Persistence::Implied, Persistence::Close);
    let length = ("content-length", "9");
    for (head, framing, persistence, method, expected) in [
        (head(200, &[]), Empty, implied, Method::GET, "200 OK\r\nContent-Length: 0\r\n\r\n"),
        (
            head(200, &[length]),
            Exact(5),
            implied,
            Method::GET,
            "200 OK\r\ncontent-length: 5\r\n\r\n",
        ),
        (
            head(200, &[length]),
            Chunked,
            close,
            Method::GET,
            "200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
        ),
        (
            head(200, &[length]),
            UntilClose,
            close,
            Method::GET,
            "200 OK\r\nConnection: close\r\n\r\n",
        ),
        (
            head(200, &[]),
            Exact(5),
            Persistence::KeepAlive,
            Method::GET,
            "200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n",
        ),
        (head(200, &[length]), Empty, implied, Method::HEAD, "200 OK\r\nContent-Length: 9\r\n\r\n"),
        (head(200, &[]), Empty, implied, Method::HEAD, "200 OK\r\n\r\n"),
        (head(200, &[("content-length", "x")]), Empty, implied, Method::HEAD, "200 OK\r\n\r\n"),
        (
            head(304, &[length]),
            Empty,
            implied,
            Method::GET,
            "304 Not Modified\r\nContent-Length: 9\r\n\r\n",
        ),
        (head(204, &[length]), Empty, implied, Method::GET, "204 No Content\r\n\r\n"),
        (head(200, &[length]), Empty, implied, Method::CONNECT, "200 OK\r\n\r\n"),
        (
            head(403, &[]),
            Empty,
            close,
            Method::CONNECT,
            "403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        ),
        (
            head(200, &[("trailer", "x")]),
            Chunked,
            implied,
            Method::GET,
            "200 OK\r\ntrailer: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (
            head(200, &[("trailer", "x")]),
            UntilClose,
            close,
            Method::GET,
            "200 OK\r\nConnection: close\r\n\r\n",
        ),
        (
            head(200, &[("connection", "x"), ("transfer-encoding", "y")]),
            Empty,
            implied,
            Method::GET,
            "200 OK\r\nContent-Length: 0\r\n\r\n",
        ),
    ] {
        let written = written_response(&head, framing, persistence, &method);
        assert_eq!(written, format!("HTTP/1.1 {expected}"));
    }
}

#[test]
fn a_reason_phrase_cannot_break_its_line() {
    let mut head = ResponseHead::new(StatusCode::OK);
    head.reason_phrase = Some(Bytes::from_static(b"a\r\nX: 1\0"));
    let written = written_response(&head, Empty, Persistence::Implied, &Method::HEAD);
    assert_eq!(written, "HTTP/1.1 200 aX: 1\r\n\r\n");
}

#[test]
fn the_length_of_a_response_follows_body_method_and_version() {
    let plain = ResponseHead::new(StatusCode::OK);
    let mut announced = plain.clone();
    announced.headers.insert("trailer", HeaderValue::from_static("x"));
    let none = ResponseHead::new(StatusCode::NO_CONTENT);
    let full = || Body::full(Bytes::from_static(b"hello"));
    let open = || crate::http::body::channel();
    let (_sender, streamed) = open();
    let (_sender_of_old, streamed_to_old) = open();
    for (head, body, method, version, expected) in [
        (&plain, full(), Method::GET, Version::HTTP_11, Exact(5)),
        (&plain, full(), Method::GET, Version::HTTP_10, Exact(5)),
        (&plain, full(), Method::HEAD, Version::HTTP_11, Empty),
        (&plain, Body::Empty, Method::GET, Version::HTTP_11, Empty),
        (&plain, streamed, Method::GET, Version::HTTP_11, Chunked),
        (&plain, streamed_to_old, Method::GET, Version::HTTP_10, UntilClose),
        (&announced, full(), Method::GET, Version::HTTP_11, Chunked),
        (&announced, full(), Method::GET, Version::HTTP_10, Exact(5)),
        (&none, full(), Method::GET, Version::HTTP_11, Empty),
        (&plain, full(), Method::CONNECT, Version::HTTP_11, Empty),
    ] {
        assert_eq!(encode::response_length(head, &body, &method, version), expected);
    }
}

#[test]
fn chunk_sizes_are_hexadecimal() {
    for (size, expected) in [(1, "1\r\n"), (10, "a\r\n"), (16, "10\r\n"), (65536, "10000\r\n")] {
        let mut out = Vec::new();
        encode::chunk_size(&mut out, size);
        assert_eq!(String::from_utf8(out).expect("text"), expected);
    }
}

fn field() -> impl Strategy<Value = (String, String)> {
    ("[Xx]-[A-Za-z0-9]{1,8}", "([!-~]([ -~]{0,20}[!-~])?)?")
}

proptest! {
    #[test]
    fn a_request_survives_the_way_out_and_in(
        method in "[A-Z]{1,8}",
        path in "/[a-z0-9/]{0,20}(\\?[a-z=&]{0,10})?",
        fields in vec(field(), 0..20),
        length in prop_oneof![Just(Empty), Just(Chunked), (1_u64..u64::MAX).prop_map(Exact)],
        piece in 1_usize..100,
    ) {
        let mut bytes = format!("{method} {path} HTTP/1.1\r\nHost: a\r\n");
        for (name, value) in &fields {
            bytes.push_str(&format!("{name}: {value}\r\n"));
        }
        bytes.push_str("\r\n");
        prop_assume!(method != "CONNECT");
        let (first, _) = request(bytes.as_bytes(), piece).expect("valid");
        let written = written_request(&first.head, length);
        let (second, left) = request(written.as_bytes(), piece).expect("valid");
        prop_assert_eq!(left, 0);
        prop_assert_eq!(&first.head.method, &second.head.method);
        prop_assert_eq!(&first.head.target, &second.head.target);
        prop_assert_eq!(second.length, length);
        let mut headers = second.head.headers;
        headers.remove("content-length");
        prop_assert_eq!(&first.head.headers, &headers);
    }

    #[test]
    fn chunks_survive_the_way_out_and_in(
        chunks in vec(vec(any::<u8>(), 1..300), 0..10),
        fields in vec(field(), 0..4),
        piece in 1_usize..400,
    ) {
        let mut out = Vec::new();
        for chunk in &chunks {
            encode::chunk_size(&mut out, chunk.len());
            out.extend_from_slice(chunk);
            out.extend_from_slice(b"\r\n");
        }
        let mut trailers = Fields::new();
        for (name, value) in &fields {
            let name: HeaderName = name.parse().expect("a name");
            trailers.append(name, HeaderValue::from_str(value).expect("a value"));
        }
        encode::trailers(&mut out, &trailers);
        let (content, got, left) = body(Chunked, &out, piece).expect("valid");
        prop_assert_eq!(content, chunks.concat());
        prop_assert_eq!(got.unwrap_or_default(), trailers);
        prop_assert_eq!(left, 0);
    }

    #[test]
    fn any_bytes_are_parsed_or_refused_without_a_panic(
        bytes in vec(any::<u8>(), 0..200),
        piece in 1_usize..100,
    ) {
        let _ = request(&bytes, piece);
        let _ = response(&bytes, piece, false);
        let _ = body(Chunked, &bytes, piece);
        let mut likely = b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec();
        likely.extend_from_slice(&bytes);
        let _ = request(&likely, piece);
    }
}
