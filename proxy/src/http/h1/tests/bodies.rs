//! Bodies: by length, by chunks, until the end.

use super::*;
use crate::http::h1::framing::BodyLength::*;

#[test]
fn well_formed_bodies_are_cut_out_in_any_pieces() {
    let long_extension = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(900));
    let rows: &[(BodyLength, &str, &str, &str, usize)] = &[
        (Empty, "rest", "", "", 4),
        (Exact(5), "hello", "hello", "", 0),
        (Exact(5), "hellorest", "hello", "", 4),
        (UntilClose, "", "", "", 0),
        (UntilClose, "a\r\nb", "a\r\nb", "", 0),
        (Chunked, "0\r\n\r\n", "", "", 0),
        (Chunked, "0\r\n\r\nrest", "", "", 4),
        (Chunked, "5\r\nhello\r\n0\r\n\r\n", "hello", "", 0),
        (Chunked, "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\nrest", "hello world", "", 4),
        (Chunked, "a\r\n0123456789\r\n0\r\n\r\n", "0123456789", "", 0),
        (Chunked, "A\r\n0123456789\r\n000\r\n\r\n", "0123456789", "", 0),
        (Chunked, "0000000000000005\r\nhello\r\n0\r\n\r\n", "hello", "", 0),
        (Chunked, "2\r\n\r\n\r\n0\r\n\r\n", "\r\n", "", 0),
        (Chunked, "1;a\r\na\r\n0;b=c\r\n\r\n", "a", "", 0),
        (Chunked, "1 ;a=\"b c\"\r\na\r\n0\r\n\r\n", "a", "", 0),
        (Chunked, &long_extension, "a", "", 0),
        (Chunked, "0\r\nX: 1\r\n\r\n", "", "x: 1", 0),
        (
            Chunked,
            "1\r\na\r\n0\r\nX-A: 1\r\nx-b:2\r\nX-A: 3\r\n\r\nrest",
            "a",
            "x-a: 1, x-b: 2, x-a: 3",
            4,
        ),
        (
            Chunked,
            "0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: b\r\nX: 1\r\n\r\n",
            "",
            "x: 1",
            0,
        ),
        (
            Chunked,
            "0\r\nAuthorization: x\r\nSet-Cookie: y\r\nweft-client-id: z\r\nweft_client_id: z\r\n\r\n",
            "",
            "",
            0,
        ),
    ];
    for (length, bytes, content, trailers, left) in rows {
        for piece in PIECES {
            let (got, fields, rest) = body(*length, bytes.as_bytes(), piece)
                .unwrap_or_else(|error| panic!("{bytes:?} in pieces of {piece}: {error}"));
            assert_eq!(String::from_utf8_lossy(&got), *content, "{bytes:?}");
            assert_eq!(lines(&fields.unwrap_or_default()).join(", "), *trailers, "{bytes:?}");
            assert_eq!(rest, *left, "{bytes:?}");
        }
    }
}

#[test]
fn malformed_chunks_are_refused_in_any_pieces() {
    let endless = "1".repeat(2000);
    let extension = format!("1;{}", "x".repeat(2000));
    let extensions = format!("1;{}\r\na\r\n", "x".repeat(1000)).repeat(20);
    let many_trailers = format!("0\r\n{}\r\n", "X: 1\r\n".repeat(33));
    let large_trailers = format!("0\r\nX: {}\r\n\r\n", "a".repeat(5000));
    for bytes in [
        "\r\n\r\n",
        "\r\na\r\n0\r\n\r\n",
        "g\r\na\r\n0\r\n\r\n",
        " 1\r\na\r\n0\r\n\r\n",
        "+1\r\na\r\n0\r\n\r\n",
        "-1\r\na\r\n0\r\n\r\n",
        "0x1\r\na\r\n0\r\n\r\n",
        "1 \r\na\r\n0\r\n\r\n",
        "1 2\r\na\r\n0\r\n\r\n",
        "1\na\r\n0\r\n\r\n",
        "1;a\na\r\n0\r\n\r\n",
        "1;\ra\r\na\r\n0\r\n\r\n",
        "1;\0\r\na\r\n0\r\n\r\n",
        "1,a\r\na\r\n0\r\n\r\n",
        ";a\r\na\r\n0\r\n\r\n",
        "1\r\na0\r\n\r\n",
        "1\r\nab\r\n0\r\n\r\n",
        "1\r\na\n0\r\n\r\n",
        "1\r\na\r0\r\n\r\n",
        "1\r\na\r\n0\n\r\n",
        "0\r\n\n",
        "00000000000000001\r\na\r\n0\r\n\r\n",
        "fffffffffffffffff\r\n",
        "0\r\nX: 1\n\r\n",
        "0\r\nX: 1\n\n",
        "0\r\nX : 1\r\n\r\n",
        "0\r\n X: 1\r\n\r\n",
        "0\r\nX: 1\r\n 2\r\n\r\n",
        "0\r\nX\r\n\r\n",
        "0\r\nX: \0\r\n\r\n",
        "0\r\n\rX: 1\r\n\r\n",
        &endless,
        &extension,
        &extensions,
        &many_trailers,
        &large_trailers,
    ] {
        for piece in PIECES {
            let error = body(Chunked, bytes.as_bytes(), piece).expect_err(bytes);
            assert!(error.starts_with("malformed"), "{bytes:?} in pieces of {piece}: {error}");
        }
    }
}

#[test]
fn a_body_that_ends_early_is_truncated() {
    let chunked = "5\r\nhello\r\n3;x\r\nabc\r\n0\r\nX: 1\r\n\r\n";
    for end in 0..chunked.len() {
        for piece in PIECES {
            let error = body(Chunked, &chunked.as_bytes()[..end], piece).expect_err("a prefix");
            assert!(error.contains("before the body was complete"), "{end}: {error}");
        }
    }
    for end in 0..5 {
        assert!(body(Exact(5), &b"hello"[..end], 1).is_err());
    }
}

#[test]
fn the_remaining_length_is_known_where_the_framing_tells_it() {
    let mut decoder = Decoder::new(Exact(5), LIMITS);
    let mut buffer = BytesMut::from(&b"he"[..]);
    assert_eq!(decoder.remaining(), Some(5));
    assert!(matches!(decoder.decode(&mut buffer, false), Ok(Decoded::Data(data)) if data == "he"));
    assert_eq!((decoder.remaining(), decoder.is_done()), (Some(3), false));
    buffer.extend_from_slice(b"llo");
    assert!(matches!(decoder.decode(&mut buffer, false), Ok(Decoded::Data(data)) if data == "llo"));
    assert_eq!((decoder.remaining(), decoder.is_done()), (Some(0), true));
    assert_eq!(Decoder::new(Chunked, LIMITS).remaining(), None);
    assert_eq!(Decoder::new(UntilClose, LIMITS).remaining(), None);
}
