//! Peers that break the protocol, byte by byte: what ends a stream, what ends the connection, and with which code.

use proptest::{collection::vec, prelude::*, sample::select};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

/// `:method: GET`, `:scheme: http`, `:path: /`.
const GET: &[u8] = &[0x82, 0x86, 0x84];
/// `:method: POST`, `:scheme: http`, `:path: /`.
const POST: &[u8] = &[0x83, 0x86, 0x84];

/// What this side said to a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// GOAWAY with this code, then the end.
    Connection(ErrorCode),
    /// RST_STREAM of stream 1 with this code; the connection lives on.
    Stream(ErrorCode),
    /// A response to the request on stream 1.
    Response,
    /// The response 400 to it.
    BadRequest,
}

use Said::{BadRequest as Refused, Connection, Response as Answered, Stream};

/// A field, spelt out and kept in no table.
fn field(name: &str, value: &str) -> Vec<u8> {
    let (name_len, value_len) = (name.len(), value.len());
    let mut field = vec![0, u8::try_from(name_len).expect("short")];
    field.extend_from_slice(name.as_bytes());
    field.push(u8::try_from(value_len).expect("short"));
    field.extend_from_slice(value.as_bytes());
    field
}

fn get_with(fields: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &[GET, fields].concat())
}

/// The next frame's kind and payload.
async fn next_frame(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let (head, payload) = next_head(stream).await;
    (head[3], payload)
}

async fn next_head(stream: &mut TcpStream) -> ([u8; 9], Vec<u8>) {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.expect("a frame before the end");
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; length as usize];
    stream.read_exact(&mut payload).await.expect("a payload");
    (head, payload)
}

/// Reads what a peer says until it answers to a fault, or ends the connection.
async fn answer(stream: &mut TcpStream) -> Said {
    loop {
        let (head, payload) = next_head(stream).await;
        let code = |from: usize| {
            let code = payload[from..].first_chunk().expect("a code");
            ErrorCode(u32::from_be_bytes(*code))
        };
        match head[3] {
            GOAWAY => {
                let mut rest = Vec::new();
                let _ = stream.read_to_end(&mut rest).await;
                return Connection(code(4));
            }
            RST_STREAM => return Stream(code(0)),
            // `:status: 400`
            HEADERS if head[8] == 1 && payload.first() == Some(&0x8c) => return Refused,
            HEADERS if head[8] == 1 => return Answered,
            _ => {}
        }
    }
}

/// Our server, what it answers to these frames, behind a preface and SETTINGS.
async fn server_answers(frames: &[u8]) -> Said {
    let (mut near, far) = streams().await;
    let _server = spawn_server(far, server_settings(), |mut request| {
        Box::pin(async move {
            while let Some(Ok(_)) = request.body.frame().await {}
            ok(Body::Empty)
        })
    });
    let begin = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), settings()].concat();
    near.write_all(&[&begin, frames].concat()).await.expect("written");
    answer(&mut near).await
}

type Case = (&'static str, Vec<u8>, Said);

const PROTOCOL: Said = Connection(ErrorCode::PROTOCOL_ERROR);
const SIZE: Said = Connection(ErrorCode::FRAME_SIZE_ERROR);
const MALFORMED: Said = Stream(ErrorCode::PROTOCOL_ERROR);

/// A request on stream 1 that has not ended, and these frames behind it.
fn after_post(frames: &[u8]) -> Vec<u8> {
    [&frame(HEADERS, END_HEADERS, 1, POST), frames].concat()
}

fn check(cases: Vec<Case>) {
    for (what, frames, expected) in cases {
        worker(async move {
            assert_eq!(server_answers(&frames).await, expected, "{what}");
        });
    }
}

#[test]
fn whole_messages_are_answered() {
    check(vec![
        ("a request", get_with(&[]), Answered),
        ("a request with a field", get_with(&field("x-a", "b")), Answered),
        ("an unknown frame", [frame(0x77, 0xff, 5, b"abc"), get_with(&[])].concat(), Answered),
        (
            "an unknown setting",
            [frame(SETTINGS, 0, 0, &[9, 9, 0, 0, 0, 1]), get_with(&[])].concat(),
            Answered,
        ),
        (
            "trailers",
            after_post(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &field("x-a", "b"))),
            Answered,
        ),
        ("padding", after_post(&frame(DATA, END_STREAM | PADDED, 1, &[2, 7, 0, 0])), Answered),
        (
            "a head in pieces",
            [
                frame(HEADERS, END_STREAM, 1, &GET[..1]),
                frame(CONTINUATION, END_HEADERS, 1, &GET[1..]),
            ]
            .concat(),
            Answered,
        ),
    ]);
}

#[test]
fn frames_where_they_do_not_belong_end_the_connection() {
    check(vec![
        ("DATA of no stream", frame(DATA, 0, 0, b"abc"), PROTOCOL),
        ("DATA of an idle stream", frame(DATA, 0, 1, b"abc"), PROTOCOL),
        ("DATA of an even stream", frame(DATA, 0, 2, b"abc"), PROTOCOL),
        ("HEADERS of no stream", frame(HEADERS, END_HEADERS, 0, GET), PROTOCOL),
        ("HEADERS of an even stream", frame(HEADERS, END_HEADERS, 2, GET), PROTOCOL),
        ("PRIORITY of no stream", frame(PRIORITY, 0, 0, &[0; 5]), PROTOCOL),
        ("RST_STREAM of no stream", frame(RST_STREAM, 0, 0, &[0; 4]), PROTOCOL),
        ("RST_STREAM of an idle stream", frame(RST_STREAM, 0, 1, &[0; 4]), PROTOCOL),
        ("SETTINGS of a stream", frame(SETTINGS, 0, 1, &[]), PROTOCOL),
        ("PUSH_PROMISE", frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]), PROTOCOL),
        ("PING of a stream", frame(PING, 0, 1, &[0; 8]), PROTOCOL),
        ("GOAWAY of a stream", frame(GOAWAY, 0, 1, &[0; 8]), PROTOCOL),
        ("WINDOW_UPDATE of an idle stream", frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]), PROTOCOL),
        ("CONTINUATION of nothing", frame(CONTINUATION, END_HEADERS, 1, GET), PROTOCOL),
        (
            "a frame inside a head",
            [frame(HEADERS, 0, 1, GET), frame(PING, 0, 0, &[0; 8])].concat(),
            PROTOCOL,
        ),
        (
            "DATA inside a head",
            [frame(HEADERS, 0, 1, GET), frame(DATA, 0, 1, b"a")].concat(),
            PROTOCOL,
        ),
        (
            "another stream inside a head",
            [frame(HEADERS, 0, 1, GET), frame(CONTINUATION, END_HEADERS, 3, &[])].concat(),
            PROTOCOL,
        ),
    ]);
}

#[test]
fn frames_of_other_sizes_than_theirs_are_refused() {
    check(vec![
        ("a frame too large", frame(DATA, 0, 1, &[0; 16_385]), SIZE),
        ("RST_STREAM too short", after_post(&frame(RST_STREAM, 0, 1, &[0; 3])), SIZE),
        ("SETTINGS cut short", frame(SETTINGS, 0, 0, &[0; 5]), SIZE),
        ("an acknowledgement with a payload", frame(SETTINGS, ACK, 0, &[0; 6]), SIZE),
        ("PING too short", frame(PING, 0, 0, &[0; 7]), SIZE),
        ("GOAWAY too short", frame(GOAWAY, 0, 0, &[0; 7]), SIZE),
        ("WINDOW_UPDATE too long", frame(WINDOW_UPDATE, 0, 0, &[0; 5]), SIZE),
        (
            "PRIORITY too short",
            after_post(&frame(PRIORITY, 0, 1, &[0; 4])),
            Stream(ErrorCode::FRAME_SIZE_ERROR),
        ),
        ("more padding than payload", after_post(&frame(DATA, PADDED, 1, &[4, 0, 0, 0])), PROTOCOL),
        ("padding of nothing", after_post(&frame(DATA, PADDED, 1, &[])), PROTOCOL),
    ]);
}

#[test]
fn settings_and_windows_have_their_ranges() {
    check(vec![
        ("ENABLE_PUSH of two", frame(SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 2]), PROTOCOL),
        ("MAX_FRAME_SIZE too small", frame(SETTINGS, 0, 0, &[0, 5, 0, 0, 0x3f, 0xff]), PROTOCOL),
        ("MAX_FRAME_SIZE too large", frame(SETTINGS, 0, 0, &[0, 5, 1, 0, 0, 0]), PROTOCOL),
        (
            "INITIAL_WINDOW_SIZE too large",
            frame(SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0]),
            Connection(ErrorCode::FLOW_CONTROL_ERROR),
        ),
        (
            "a window of the connection too large",
            frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
            Connection(ErrorCode::FLOW_CONTROL_ERROR),
        ),
        (
            "a window of a stream too large",
            after_post(&frame(WINDOW_UPDATE, 0, 1, &[0x7f, 0xff, 0xff, 0xff])),
            Stream(ErrorCode::FLOW_CONTROL_ERROR),
        ),
        ("a window of the connection by nothing", frame(WINDOW_UPDATE, 0, 0, &[0; 4]), PROTOCOL),
        (
            "a window of a stream by nothing",
            after_post(&frame(WINDOW_UPDATE, 0, 1, &[0; 4])),
            MALFORMED,
        ),
    ]);
}

#[test]
fn heads_that_make_no_request_reset_their_stream() {
    check(vec![
        (
            "no HPACK",
            get_with(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            Connection(ErrorCode::COMPRESSION_ERROR),
        ),
        ("a capital", get_with(&field("X-a", "b")), MALFORMED),
        ("a line break", get_with(&field("x-a", "b\r\nc: d")), MALFORMED),
        ("an unknown pseudo-header", get_with(&field(":x", "b")), MALFORMED),
        ("a response's pseudo-header", get_with(&[0x88]), MALFORMED),
        (
            "a pseudo-header behind a field",
            get_with(&[field("x-a", "b"), field(":authority", "a")].concat()),
            MALFORMED,
        ),
        ("a pseudo-header twice", get_with(&[0x84]), MALFORMED),
        ("no method", frame(HEADERS, END_HEADERS | END_STREAM, 1, &GET[1..]), MALFORMED),
        ("no path", frame(HEADERS, END_HEADERS | END_STREAM, 1, &GET[..2]), MALFORMED),
        (
            "an empty path",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &[&GET[..2], &[4, 0]].concat()),
            MALFORMED,
        ),
        ("a protocol without CONNECT", get_with(&field(":protocol", "chat")), MALFORMED),
        ("connection", get_with(&field("connection", "close")), MALFORMED),
        ("transfer-encoding", get_with(&field("transfer-encoding", "chunked")), MALFORMED),
        ("te that is not trailers", get_with(&field("te", "gzip")), MALFORMED),
        (
            "trailers with a pseudo-header",
            after_post(&frame(HEADERS, END_HEADERS | END_STREAM, 1, GET)),
            MALFORMED,
        ),
        (
            "trailers that do not end",
            after_post(&frame(HEADERS, END_HEADERS, 1, &field("x-a", "b"))),
            MALFORMED,
        ),
    ]);
}

#[test]
fn a_host_that_stands_for_an_authority_must_be_one() {
    check(vec![
        ("a host", get_with(&field("host", "a:80")), Answered),
        ("user information", get_with(&field("host", "u@a")), Refused),
        ("two", get_with(&field("host", "a,b")), Refused),
        ("no port", get_with(&field("host", "a:")), Refused),
    ]);
}

#[test]
fn trailers_above_the_limit_are_not_cut_but_refused() {
    let fields: Vec<u8> = (0..110).flat_map(|_| field("x-a", &"b".repeat(120))).collect();
    let trailers = after_post(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields));
    check(vec![("trailers above the limit", trailers, MALFORMED)]);
}

#[test]
fn content_where_none_belongs_breaks_a_response() {
    worker(async {
        let (near, mut far) = streams().await;
        far.write_all(&settings()).await.expect("written");
        let client = our_client(near).await;
        let head = super::client::get();
        let answering = async {
            super::client::read_headers_behind_preface(&mut far).await;
            // `:status: 204`, and content.
            let frames =
                [frame(HEADERS, END_HEADERS, 1, &[0x89]), frame(DATA, END_STREAM, 1, b"a")];
            far.write_all(&frames.concat()).await.expect("open");
        };
        let (sent, ()) = tokio::join!(super::client::send(&client, &head, Body::Empty), answering);
        let mut body = sent.expect("a head").body;
        let error = body.frame().await.expect("no clean end").expect_err("no content");
        assert!(matches!(error, crate::http::BodyError::Malformed(_)), "{error}");
    });
}

#[test]
fn content_has_the_length_that_was_announced() {
    check(vec![
        ("a length and no content", get_with(&field("content-length", "1")), MALFORMED),
        ("a length that is no number", get_with(&field("content-length", "+1")), MALFORMED),
        (
            "two lengths",
            get_with(&[field("content-length", "0"), field("content-length", "1")].concat()),
            MALFORMED,
        ),
        (
            "more content than announced",
            [
                frame(HEADERS, END_HEADERS, 1, &[POST, &field("content-length", "2")].concat()),
                frame(DATA, 0, 1, b"abc"),
            ]
            .concat(),
            MALFORMED,
        ),
        (
            "less content than announced",
            [
                frame(HEADERS, END_HEADERS, 1, &[POST, &field("content-length", "4")].concat()),
                frame(DATA, END_STREAM, 1, b"abc"),
            ]
            .concat(),
            MALFORMED,
        ),
        (
            "less content and trailers",
            [
                frame(HEADERS, END_HEADERS, 1, &[POST, &field("content-length", "4")].concat()),
                frame(HEADERS, END_HEADERS | END_STREAM, 1, &field("x-a", "b")),
            ]
            .concat(),
            MALFORMED,
        ),
        (
            "content behind the end",
            [after_post(&frame(DATA, END_STREAM, 1, b"abc")), frame(DATA, 0, 1, b"abc")].concat(),
            Stream(ErrorCode::STREAM_CLOSED),
        ),
    ]);
}

#[test]
fn a_head_that_does_not_end_is_not_waited_for() {
    let calm = Connection(ErrorCode::ENHANCE_YOUR_CALM);
    let begin = frame(HEADERS, 0, 1, GET);
    let empty = [begin.clone(), frame(CONTINUATION, 0, 1, &[])].concat();
    let endless: Vec<u8> = begin
        .into_iter()
        .chain((0..5).flat_map(|_| frame(CONTINUATION, 0, 1, &[0; 16_000])))
        .collect();
    for frames in [empty, endless] {
        worker(async move { assert_eq!(server_answers(&frames).await, calm) });
    }
}

#[test]
fn something_before_settings_is_no_http2() {
    worker(async {
        let (mut near, far) = streams().await;
        let _server = spawn_server(far, server_settings(), |_| Box::pin(async { ok(Body::Empty) }));
        near.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("written");
        near.write_all(&get_with(&[])).await.expect("written");
        assert_eq!(answer(&mut near).await, Connection(ErrorCode::PROTOCOL_ERROR));
    });
}

#[test]
fn a_stream_that_came_behind_goaway_ends_no_other() {
    worker(async {
        let (mut near, far) = streams().await;
        let (sender, body) = crate::http::body::channel();
        let body = std::cell::RefCell::new(Some(body));
        let server = spawn_server(far, server_settings(), move |_| {
            let body = body.borrow_mut().take().expect("one request");
            Box::pin(async { ok(body) })
        });
        let begin = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), settings(), get_with(&[])];
        near.write_all(&begin.concat()).await.expect("written");
        assert_eq!(answer(&mut near).await, Answered);
        server.drain.start();
        let ping = loop {
            let (kind, payload) = next_frame(&mut near).await;
            if kind == PING {
                break payload;
            }
        };
        // The client had this on its way when it answered.
        let late = frame(HEADERS, END_HEADERS, 3, POST);
        let frames = [frame(PING, ACK, 0, &ping), late, frame(DATA, END_STREAM, 3, b"abc")];
        near.write_all(&frames.concat()).await.expect("open");
        near.write_all(&frame(RST_STREAM, 0, 3, &[0, 0, 0, 8])).await.expect("open");
        let content = crate::http::Frame::Data(Bytes::from_static(b"content"));
        sender.send(Ok(content)).expect("wanted");
        drop(sender);
        let mut data = 0;
        while data < b"content".len() {
            let (kind, payload) = next_frame(&mut near).await;
            assert_ne!(kind, RST_STREAM);
            data += if kind == DATA { payload.len() } else { 0 };
        }
    });
}

#[test]
fn an_answer_to_a_ping_that_was_not_sent_means_nothing() {
    worker(async {
        let goodbye = frame(PING, ACK, 0, b"weftlast");
        assert_eq!(server_answers(&[goodbye, get_with(&[])].concat()).await, Answered);
    });
}

#[test]
fn a_client_that_does_not_read_its_responses_is_not_answered_for_ever() {
    worker(async {
        let (mut near, far) = streams().await;
        let _server = spawn_server(far, server_settings(), |_| Box::pin(async { ok(Body::Empty) }));
        near.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("written");
        near.write_all(&settings()).await.expect("written");
        let (mut next, mut sent) = (1, 0);
        let mut requests = move || -> Vec<u8> {
            let ids = (next..next + 100).step_by(2);
            next += 100;
            ids.flat_map(|id| frame(HEADERS, END_HEADERS | END_STREAM, id, GET)).collect()
        };
        // More streams than are allowed are refused, which are replies that add up to a bound.
        while let Ok(written) =
            clock::timeout(Duration::from_millis(500), near.write_all(&requests())).await
        {
            written.expect("open");
            sent += 50;
            assert!(sent < 10_000_000, "it has answered {sent} requests and nobody reads");
        }
    });
}

#[test]
fn a_client_that_does_not_read_its_replies_is_not_read_from_for_ever() {
    worker(async {
        let (mut near, far) = streams().await;
        let _server = spawn_server(far, server_settings(), |_| Box::pin(async { ok(Body::Empty) }));
        near.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("written");
        near.write_all(&settings()).await.expect("written");
        let pings: Vec<u8> = (0..4096).flat_map(|_| frame(PING, 0, 0, &[0; 8])).collect();
        let mut sent = 0;
        // Both ways' buffers of the kernel fill, and then nothing more is taken.
        while let Ok(written) =
            clock::timeout(Duration::from_millis(500), near.write_all(&pings)).await
        {
            written.expect("open");
            sent += pings.len();
            assert!(sent < 256 << 20, "it has replied to {sent} bytes that nobody reads");
        }
    });
}

/// Our client, and what becomes of a request that is answered by these frames.
#[test]
fn a_server_that_breaks_the_protocol_breaks_its_request() {
    let ok = [0x88];
    let length = field("content-length", "2");
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("no status", frame(HEADERS, END_HEADERS | END_STREAM, 1, &field("x-a", "b"))),
        ("a request's pseudo-header", frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0x88, 0x84])),
        ("a status that is none", frame(HEADERS, END_HEADERS | END_STREAM, 1, &[8, 2, b'2', b'0'])),
        (
            "an informational end",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &[8, 3, b'1', b'0', b'3']),
        ),
        ("content before a head", frame(DATA, 0, 1, b"abc")),
        (
            "less than announced",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &[&ok[..], &length].concat()),
        ),
        (
            "early hints without an end",
            frame(HEADERS, END_HEADERS, 1, &[8, 3, b'1', b'0', b'3']).repeat(65),
        ),
        ("a promise", frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])),
        ("a stream of its own", frame(HEADERS, END_HEADERS, 2, &ok)),
        ("a stream that was not opened", frame(HEADERS, END_HEADERS, 3, &ok)),
        ("ENABLE_PUSH", frame(SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 1])),
    ];
    for (what, frames) in cases {
        worker(async move {
            let (near, mut far) = streams().await;
            far.write_all(&settings()).await.expect("written");
            let client = our_client(near).await;
            let head = super::client::get();
            let answering = async {
                super::client::read_headers_behind_preface(&mut far).await;
                far.write_all(&frames).await.expect("open");
            };
            let (sent, ()) =
                tokio::join!(super::client::send(&client, &head, Body::Empty), answering);
            let error = sent.expect_err(what);
            assert_eq!(error.reason, crate::reason::Reason::UpstreamProtocol, "{what}: {error}");
        });
    }
}

/// Frames of all kinds, well formed or not, mostly of streams that are there.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let block = select(vec![GET, POST, &GET[..2], &[0x88], &[]]).prop_map(<[u8]>::to_vec);
    let payload = prop_oneof![block, vec(any::<u8>(), 0..12)];
    (0_u8..=10, any::<u8>(), 0_u32..8, payload)
        .prop_map(|(kind, flags, stream, payload)| frame(kind, flags, stream, &payload))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_frames_are_answered_or_end_the_connection(frames in vec(any_frame(), 1..20)) {
        worker(async move {
            let (mut near, far) = streams().await;
            let server = spawn_server(far, server_settings(), |request| {
                Box::pin(async { ok(request.body) })
            });
            let begin = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), settings()].concat();
            // It may have ended before all was written.
            let _ = near.write_all(&[begin, frames.concat()].concat()).await;
            let _ = near.shutdown().await;
            let _ = near.read_to_end(&mut Vec::new()).await;
            server.served.await.expect("no panic");
        });
    }
}
