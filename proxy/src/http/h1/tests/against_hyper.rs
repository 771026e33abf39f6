//! Tables and made-up messages against hyper: what this codec accepts, hyper must accept and understand alike;
//! what it refuses and hyper accepts, it refuses for a reason that is known.

use proptest::{collection::vec, prelude::*, sample::select};

use super::requests::{MALFORMED, MALFORMED_FIELDS, WELL_FORMED, get};
use crate::http::h1::properties::against_hyper::compare;

#[test]
fn the_tables_mean_the_same_to_hyper() {
    let mut accepted = 0;
    for (bytes, ..) in WELL_FORMED {
        accepted += compare(bytes.as_bytes());
    }
    assert!(accepted > 20, "{accepted}");
    for fields in MALFORMED_FIELDS {
        compare(get(fields).as_bytes());
    }
    for bytes in MALFORMED {
        compare(bytes.as_bytes());
    }
}

const LINES: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: a\r\n",
    "POST /a?b=c HTTP/1.1\r\nHost: a:80\r\n",
    "PUT http://b/c HTTP/1.1\r\nHost: a\r\n",
    "GET / HTTP/1.0\r\nConnection: keep-alive\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\n",
    "GET /\u{e4} HTTP/1.1\r\nHost: a\r\n",
];

const FIELDS: &[&str] = &[
    "Content-Length: 3\r\n",
    "Content-Length: 0\r\n",
    "content-length: 11\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "Connection: close\r\n",
    "Connection: X-A, Upgrade\r\nUpgrade: h2c\r\n",
    "X-A: b\r\n",
    "X-A: \u{e4}\r\n",
    "Cookie: \"a\"\r\n",
    "Expect: 100-continue\r\n",
];

const BODIES: &[&str] = &[
    "",
    "abc",
    "3\r\nabc\r\n0\r\n\r\n",
    "b;ext=1\r\nhello world\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n",
    "hello world",
    "0\r\n\r\n",
];

const DAMAGE: &[&str] = &[
    "\n",
    "\r",
    "\r\n",
    "\r\n\r\n",
    " ",
    "\t",
    ":",
    ";",
    ",",
    "0",
    "3",
    "f",
    "\0",
    "\u{7f}",
    "\u{e4}",
    "Content-Length: 1\r\n",
    "Transfer-Encoding: chunked\r\n",
];

/// A request made of pieces, often with the framing that its body has.
fn request_of_pieces() -> impl Strategy<Value = String> {
    (select(LINES), vec(select(FIELDS), 0..4), select(BODIES))
        .prop_map(|(line, fields, body)| format!("{line}{}\r\n{body}", fields.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_is_accepted_means_the_same_to_hyper(requests in vec(request_of_pieces(), 1..4)) {
        compare(requests.concat().as_bytes());
    }

    #[test]
    fn damaged_requests_mean_the_same_to_hyper_or_nothing(
        row in select(WELL_FORMED),
        composed in request_of_pieces(),
        takes_row in any::<bool>(),
        at in any::<proptest::sample::Index>(),
        piece in select(DAMAGE),
        cut in 0_usize..3,
    ) {
        let mut bytes = if takes_row { row.0 } else { &composed }.as_bytes().to_vec();
        let start = at.index(bytes.len());
        let end = (start + cut).min(bytes.len());
        bytes.splice(start..end, piece.bytes());
        bytes.extend_from_slice(get("").as_bytes());
        compare(&bytes);
    }
}
