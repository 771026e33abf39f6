//! Requests of HTTP/2 that break its rules, or would break HTTP/1's once written as such: refused by the sidecar
//! that gets them, and never more than was meant for the application.

use weft_tests::{
    frames::{self, END_STREAM, Frame, frame, headers, kind, preface},
    raw::Raw,
};

use super::stage::{HTTP, Member, Stage};

type Fields = &'static [(&'static str, &'static str)];

/// The head of a good request; a row's fields take the place of those with the same name, or go behind them.
const GOOD: Fields =
    &[(":method", "POST"), (":scheme", "http"), (":authority", "catalog"), (":path", "/")];

/// Fields that make a head one that must not be passed on.
const HEADS: &[Fields] = &[
    &[("connection", "close")],
    &[("connection", "x-kept")],
    &[("transfer-encoding", "chunked")],
    &[("keep-alive", "5")],
    &[("proxy-connection", "close")],
    &[("upgrade", "h2c")],
    &[("te", "gzip")],
    &[("X-Upper", "1")],
    &[("Transfer-Encoding", "chunked")],
    &[("x y", "1")],
    &[("x:y", "1")],
    &[("x\r\ny", "1")],
    &[("x\0", "1")],
    &[("", "1")],
    &[("x", "a\r\nTransfer-Encoding: chunked")],
    &[("x", "a\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: catalog\r\n\r\n")],
    &[("x", "a\nb")],
    &[("x", "a\rb")],
    &[("x", "a\0b")],
    &[(":path", "/ HTTP/1.1\r\nHost: catalog\r\n\r\nGET /smuggled")],
    &[(":path", "/a b")],
    &[(":path", "/\r\n")],
    &[(":path", "")],
    &[(":path", "smuggled")],
    &[(":path", "*")],
    &[(":path", "http://elsewhere/")],
    &[(":method", "GET /smuggled HTTP/1.1\r\nX: y\r\nPOST")],
    &[(":method", "PO ST")],
    &[(":method", "")],
    &[(":method", "CONNECT")],
    &[(":authority", "catalog\r\nX: y")],
    &[(":authority", "user@catalog")],
    &[(":authority", "catalog/smuggled")],
    &[(":authority", "catalog elsewhere")],
    &[("host", "elsewhere")],
    &[("host", "catalog"), ("host", "elsewhere")],
    &[(":unknown", "1")],
    &[(":status", "200")],
    &[(":protocol", "websocket")],
    &[(":path", "/"), (":path", "/smuggled")],
    &[("x", "1"), (":scheme", "http")],
    &[("content-length", "2"), ("content-length", "3")],
    &[("content-length", "+2")],
    &[("content-length", "2, 2")],
    &[("content-length", "99999999999999999999")],
];

/// The frames of a request on stream 1, and whether its head may be passed on.
struct Row {
    name: &'static str,
    frames: Vec<u8>,
    may_begin: bool,
}

impl Row {
    fn new(name: &'static str, frames: &[Vec<u8>], may_begin: bool) -> Self {
        Self { name, frames: frames.concat(), may_begin }
    }
}

/// A head with these fields; those of the same name as a good one's come in its place, further ones behind.
fn head_with(flags: u8, extra: &[(&str, &str)]) -> Vec<u8> {
    let replaced = |name: &str| extra.iter().find(|(other, _)| *other == name);
    let mut fields: Vec<_> = GOOD.iter().map(|good| *replaced(good.0).unwrap_or(good)).collect();
    let mut once: Vec<&str> = Vec::new();
    for field in extra {
        let takes_a_place = GOOD.iter().any(|good| good.0 == field.0) && !once.contains(&field.0);
        if takes_a_place && extra[0].0 == field.0 {
            once.push(field.0);
        } else {
            fields.push(*field);
        }
    }
    headers(1, flags, &fields)
}

fn data(flags: u8, bytes: &str) -> Vec<u8> {
    frame(kind::DATA, flags, 1, bytes.as_bytes())
}

/// Frames that do not make a message. `extra` goes into each head.
fn rows(extra: &[(&str, &str)]) -> Vec<Row> {
    let head = |flags, fields: &[(&str, &str)]| head_with(flags, &[fields, extra].concat());
    let mut rows: Vec<_> = HEADS
        .iter()
        .map(|fields| Row::new(fields[0].0, &[head(END_STREAM, fields)], false))
        .collect();
    let long = [("content-length", "9")];
    let short = [("content-length", "1")];
    let trailers = |fields: &[(&str, &str)], flags| headers(1, flags, fields);
    rows.extend([
        Row::new("less than announced", &[head(0, &long), data(END_STREAM, "hello")], true),
        Row::new("more than announced", &[head(0, &short), data(END_STREAM, "hello")], true),
        Row::new("nothing of what is announced", &[head(END_STREAM, &long)], true),
        Row::new(
            "trailers that end nothing",
            &[head(0, &[]), data(0, "hi"), trailers(&[("x", "y")], 0)],
            true,
        ),
        Row::new(
            "line ends in trailers",
            &[head(0, &[]), data(0, "hi"), trailers(&[("x", "y\r\nz: 1")], END_STREAM)],
            true,
        ),
        Row::new("no method", &[headers(1, END_STREAM, &GOOD[1..])], false),
        Row::new("no path", &[headers(1, END_STREAM, &GOOD[..3])], false),
        Row::new("a stream of the server's", &[frame(kind::HEADERS, 5, 2, b"\x83")], false),
        Row::new("a head on no stream", &[frame(kind::HEADERS, 5, 0, b"\x83")], false),
        Row::new("data on an idle stream", &[frame(kind::DATA, 1, 1, b"hi")], false),
        Row::new(
            "a head that goes on elsewhere",
            &[
                frame(kind::HEADERS, END_STREAM, 1, b"\x83"),
                frame(kind::CONTINUATION, 4, 3, b"\x84"),
            ],
            false,
        ),
        Row::new(
            "a table that is not there",
            &[frame(kind::HEADERS, 5, 1, b"\xff\xff\x7f")],
            false,
        ),
    ]);
    rows
}

/// Whether this frame, or the connection's end, says that the request is refused.
fn refuses(frame: Option<&Frame>) -> bool {
    frame.is_none_or(|frame| match frame.kind {
        kind::HEADERS => frame.status() != Some(200),
        _ => frame.code() != 0,
    })
}

/// Sends a row's frames, and waits for their refusal.
async fn send(mut raw: Raw, row: &Row) {
    let _ = raw.try_send([preface(), row.frames.clone()].concat()).await;
    let final_kinds = [kind::HEADERS, kind::RST_STREAM, kind::GOAWAY];
    let answer = frames::receive_until(&mut raw, |it| final_kinds.contains(&it.kind)).await;
    assert!(refuses(answer.as_ref()), "{}: {answer:?}", row.name);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_of_http2_is_refused_to_a_member_and_not_written_as_http1() {
    let stage = Stage::start().await;
    let member = Member::of(&stage);
    // So that it goes to the application as HTTP/1, where a line's end would be one.
    for row in rows(&[("weft-http", "1.1")]) {
        send(member.http(&stage, b"weft-h2/1").await, &row).await;
        let mut canary = Raw::connect(stage.web.upstream(HTTP)).await;
        canary.send("GET /canary HTTP/1.1\r\nHost: catalog\r\n\r\n").await;
        canary.receive_until("\r\n\r\nok").await;
        let mut requests = stage.http.requests();
        stage.http.forget();
        requests.retain(|request| !request.starts_with("GET /canary "));
        if !row.may_begin {
            assert_eq!(requests, [""; 0], "{}", row.name);
        }
        assert!(requests.len() <= 1, "{}: {requests:?}", row.name);
        for request in requests {
            assert!(request.starts_with("POST / HTTP/1.1\r\n"), "{}: {request:?}", row.name);
            let (_, body) = request.split_once("\r\n\r\n").expect("a whole head");
            let is_whole = body.ends_with("0\r\n\r\n") || body == "hello" || body.len() == 9;
            assert!(!is_whole, "{}: {request:?}", row.name);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_of_http2_is_refused_to_an_application() {
    let stage = Stage::start().await;
    for row in rows(&[]).into_iter().filter(|row| !row.may_begin) {
        send(Raw::connect(stage.web.upstream(HTTP)).await, &row).await;
        send(Raw::connect(stage.web.outbound()).await, &row).await;
    }
    assert!(stage.nothing_arrived());
}
