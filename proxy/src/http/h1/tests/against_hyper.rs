//! What this codec accepts, hyper must accept and understand alike; it may refuse what hyper accepts.

use std::{cell::RefCell, convert::Infallible, rc::Rc};

use bytes::Bytes;
use http::{HeaderName, Method};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use proptest::{collection::vec, prelude::*, sample::select};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    requests::{MALFORMED, MALFORMED_FIELDS, WELL_FORMED, get},
    *,
};

/// A request as somebody understood it.
#[derive(Debug, PartialEq, Eq)]
struct Understood {
    method: Method,
    target: String,
    fields: HeaderMap,
    content: Vec<u8>,
    trailers: HeaderMap,
}

/// The whole requests at the start of `bytes`, as this codec reads them.
fn ours(bytes: &[u8]) -> Vec<Understood> {
    let mut buffer = BytesMut::from(bytes);
    let mut understood = Vec::new();
    while let Ok(Some(request)) = parse::request(&mut buffer, &mut Progress::default(), LIMITS) {
        let mut decoder = Decoder::new(request.length, LIMITS);
        let (mut content, mut trailers) = (Vec::new(), HeaderMap::new());
        loop {
            match decoder.decode(&mut buffer, true) {
                Ok(Decoded::Data(data)) => content.extend_from_slice(&data),
                Ok(Decoded::Trailers(fields)) => trailers = fields,
                Ok(Decoded::End) => break,
                Ok(Decoded::More) | Err(_) => return understood,
            }
        }
        let (head, goes_on) = (request.head, request.keep_alive);
        let is_tunnel = head.method == Method::CONNECT;
        understood.push(Understood {
            method: head.method,
            target: head.target.to_string(),
            fields: head.headers,
            content,
            trailers,
        });
        if !goes_on || is_tunnel {
            break;
        }
    }
    understood
}

/// The same as hyper reads them.
async fn hypers(bytes: &[u8]) -> Vec<Understood> {
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
                    content: body.to_bytes().to_vec(),
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
    let _ = tokio::join!(serving, talking);
    understood.take()
}

/// Whether this codec takes out a field that hyper keeps.
fn is_taken_out(name: &HeaderName, fields: &HeaderMap) -> bool {
    const HOP_BY_HOP: [&str; 8] = [
        "connection",
        "te",
        "upgrade",
        "keep-alive",
        "proxy-connection",
        "http2-settings",
        "proxy-authorization",
        "transfer-encoding",
    ];
    let nominated = fields.get_all("connection").iter().any(|value| {
        let value = value.to_str().unwrap_or_default().to_ascii_lowercase();
        value.split(',').any(|token| token.trim() == name.as_str())
    });
    HOP_BY_HOP.contains(&name.as_str()) || nominated || name == "expect"
}

/// Whether the target was written with bytes that RFC 3986 excludes: hyper refuses them, ours encodes them.
fn had_excluded(target: &str) -> bool {
    ["%22", "%3C", "%3E", "%60"].iter().any(|encoded| target.contains(encoded))
}

/// Checks that what this codec accepts hyper accepts with the same meaning.
fn compare(bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let (ours, hypers) = (ours(bytes), runtime.block_on(hypers(bytes)));
    let shown = String::from_utf8_lossy(bytes);
    if let Some(refused) = ours.get(hypers.len()) {
        assert!(had_excluded(&refused.target), "hyper refuses {shown:?}");
    }
    for (ours, hypers) in ours.into_iter().zip(hypers) {
        assert_eq!(ours.method, hypers.method, "{shown:?}");
        assert_eq!(ours.content, hypers.content, "{shown:?}");
        // `OPTIONS http://host` means `*`.
        if ours.method != Method::OPTIONS {
            assert_eq!(ours.target, hypers.target, "{shown:?}");
        }
        for name in hypers.fields.keys() {
            let (mine, theirs) = (ours.fields.get_all(name), hypers.fields.get_all(name));
            let is_replaced = name == "host" && ours.target.starts_with("http");
            assert!(
                is_replaced || is_taken_out(name, &hypers.fields) || mine == theirs,
                "{name} in {shown:?}"
            );
        }
        for name in ours.fields.keys() {
            assert!(hypers.fields.contains_key(name) || name == "host", "{name} in {shown:?}");
        }
        for name in ours.trailers.keys() {
            let (mine, theirs) = (ours.trailers.get_all(name), hypers.trailers.get_all(name));
            assert_eq!(mine, theirs, "{name} in {shown:?}");
        }
    }
}

#[test]
fn the_tables_mean_the_same_to_hyper() {
    let mut accepted = 0;
    for (bytes, ..) in WELL_FORMED {
        accepted += ours(bytes.as_bytes()).len();
        compare(bytes.as_bytes());
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
