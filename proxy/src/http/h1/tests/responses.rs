//! Responses' heads: what is understood, and what is refused.

use super::*;
use crate::http::h1::framing::BodyLength::*;

#[test]
fn well_formed_responses_are_understood_in_any_pieces() {
    let rows: &[(&str, u16, &str, BodyLength, bool)] = &[
        ("HTTP/1.1 200 OK\r\n\r\n", 200, "", UntilClose, false),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
            200,
            "content-length: 3",
            Exact(3),
            true,
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, "content-length: 0", Empty, true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, "", Chunked, true),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: CHUNKED\r\nConnection: close\r\n\r\n",
            200,
            "",
            Chunked,
            false,
        ),
        ("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n", 200, "content-length: 3", Exact(3), false),
        (
            "HTTP/1.0 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\n",
            200,
            "content-length: 3",
            Exact(3),
            true,
        ),
        ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", 200, "", UntilClose, false),
        ("HTTP/1.1 100 Continue\r\n\r\n", 100, "", Empty, true),
        ("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 103, "link: </a>", Empty, true),
        ("HTTP/1.1 204 No Content\r\n\r\n", 204, "", Empty, true),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", 204, "", Empty, true),
        (
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
            304,
            "content-length: 9",
            Empty,
            true,
        ),
        ("HTTP/1.1 304 Not Modified\r\n\r\n", 304, "", Empty, true),
        (
            "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n",
            205,
            "content-length: 0",
            Empty,
            true,
        ),
        ("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", 200, "content-length: 0", Empty, true),
        ("HTTP/1.1 299 \r\nContent-Length: 0\r\n\r\n", 299, "content-length: 0", Empty, true),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nProxy-Authenticate: Basic\r\nKeep-Alive: 5\r\n\r\n",
            200,
            "content-length: 0",
            Empty,
            true,
        ),
    ];
    for (bytes, status, fields, length, keep_alive) in rows {
        for piece in PIECES {
            let (response, _) = response(bytes.as_bytes(), piece, false)
                .unwrap_or_else(|error| panic!("{bytes:?}: {error}"));
            assert_eq!(response.head.status.as_u16(), *status, "{bytes:?}");
            assert_eq!(lines(&response.head.headers).join(", "), *fields, "{bytes:?}");
            assert_eq!(response.length, *length, "{bytes:?}");
            assert_eq!(response.keep_alive, *keep_alive, "{bytes:?}");
        }
    }
}

#[test]
fn malformed_responses_are_refused_in_any_pieces() {
    for bytes in [
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1 2x0 OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.2 200 OK\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "HTTP/1.1 200 O\0K\r\n\r\n",
        "HTTP/1.1 200 O\rK\r\n\r\n",
        "HTTP/1.1 200 OK\n\r\n",
        "HTTP/1.1 200 OK\nX: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: 1\n\n",
        "HTTP/1.1 200 OK\r\nX: 1\r\n 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX : 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\n X: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nContent-Length: 1\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 100 Continue\r\nContent-Length: 1\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: x\r\n\r\n",
    ] {
        for piece in PIECES {
            let refused = response(bytes.as_bytes(), piece, false).map(|(response, _)| response);
            assert_ne!(refused.expect_err(bytes), "incomplete", "{bytes:?} in pieces of {piece}");
        }
    }
}

#[test]
fn a_response_to_head_has_no_body() {
    for fields in ["Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n", ""] {
        let bytes = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
        let (response, _) = response(bytes.as_bytes(), usize::MAX, true).expect(fields);
        assert_eq!((response.length, response.keep_alive), (Empty, true), "{fields:?}");
    }
    let ambiguous = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert!(response(ambiguous, usize::MAX, true).is_err());
}

#[test]
fn unusual_reason_phrases_are_kept() {
    for (line, phrase) in [
        ("200 OK", None),
        ("404 Not Found", None),
        ("200 Fine", Some(&b"Fine"[..])),
        ("200 ok", Some(b"ok")),
        ("200 ", Some(b"")),
        ("200", Some(b"")),
        ("299 A\tB  c ", Some(b"A\tB  c ")),
        ("404 Gibt\u{2019}s nicht", Some("Gibt\u{2019}s nicht".as_bytes())),
        ("599 ", Some(b"")),
    ] {
        let bytes = format!("HTTP/1.1 {line}\r\n\r\n");
        let (response, _) = response(bytes.as_bytes(), 1, false).expect(line);
        assert_eq!(response.head.reason_phrase.as_deref(), phrase, "{line:?}");
    }
}

#[test]
fn an_upgrade_is_told_with_101_and_426_only() {
    for (status, told) in [(101, true), (426, true), (200, false)] {
        let bytes =
            format!("HTTP/1.1 {status} X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        let (response, _) = response(bytes.as_bytes(), 1, false).expect("valid");
        assert_eq!(response.head.upgrade.is_some(), told, "{status}");
        assert!(response.head.headers.is_empty());
    }
}
