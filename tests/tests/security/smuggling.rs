//! Requests of HTTP/1 whose end two readers could see in different places: refused, whoever sends them, and the
//! application never gets more or other requests than were meant.

use weft_tests::raw::Raw;

use super::stage::{HTTP, Member, Setup, Stage};

/// What is to be smuggled in.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: catalog\r\n\r\n";

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Nothing of it reaches the application.
    Refused,
    /// Its head may, and never its end.
    Broken,
    /// One request, which holds this and nothing that is held back.
    Passes(&'static str),
}

use Outcome::{Broken, Passes, Refused};

/// Lines of a head behind `POST / HTTP/1.1` and Host, followed by [`SMUGGLED`].
const FIELDS: &[(&str, Outcome)] = &[
    ("Content-Length: 0\r\nTransfer-Encoding: chunked", Refused),
    ("Transfer-Encoding: chunked\r\nContent-Length: 4", Refused),
    ("Content-Length: 0\r\nContent-Length: 41", Refused),
    ("Content-Length: 41\r\nContent-Length: 41", Refused),
    ("Content-Length: 41, 41", Refused),
    ("Content-Length: +41", Refused),
    ("Content-Length: -1", Refused),
    ("Content-Length: 0x29", Refused),
    ("Content-Length: 4 1", Refused),
    ("Content-Length: 41;", Refused),
    ("Content-Length:", Refused),
    ("Content-Length: 18446744073709551657", Refused),
    ("Content-Length : 41", Refused),
    ("Content-Length:\r\n 41", Refused),
    ("Content-Length: 4\r\n 1", Refused),
    ("Content-Length\0: 41", Refused),
    ("Content-Length: 41\0", Refused),
    ("Content-Length: 41\u{b}", Refused),
    ("Transfer-Encoding: xchunked", Refused),
    ("Transfer-Encoding: chunked, identity", Refused),
    ("Transfer-Encoding: identity, chunked", Refused),
    ("Transfer-Encoding: chunked, chunked", Refused),
    ("Transfer-Encoding: gzip", Refused),
    ("Transfer-Encoding: \"chunked\"", Refused),
    ("Transfer-Encoding: chunked;q=1", Refused),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", Refused),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", Refused),
    ("Transfer-Encoding:\u{b}chunked", Refused),
    ("Transfer-Encoding:\0chunked", Refused),
    ("Transfer-Encoding : chunked", Refused),
    ("Transfer-Encoding\t: chunked", Refused),
    (" Transfer-Encoding: chunked", Refused),
    ("\tTransfer-Encoding: chunked", Refused),
    ("Transfer-Encoding:\r\n chunked", Refused),
    ("Transfer-Encoding\r\n: chunked", Refused),
    ("X: y\nTransfer-Encoding: chunked", Refused),
    ("X: y\rTransfer-Encoding: chunked", Refused),
    ("X: y\r\n\tz", Refused),
    ("X: a\0b", Refused),
    ("X: a\rb", Refused),
    ("X y: z", Refused),
    ("X: y\r\nno colon", Refused),
    (": nameless", Refused),
    ("X(: y", Refused),
    ("\u{e9}: y", Refused),
    ("Host: elsewhere", Refused),
    ("Host: catalog", Refused),
    // What only looks like framing is none.
    ("Content-Length: 41\r\nTransfer_Encoding: chunked", Passes("GET /smuggled")),
    ("Content-Length: 41\r\nX-Content-Length: 0", Passes("GET /smuggled")),
    ("Content-Length:\t41\t", Passes("GET /smuggled")),
    // A field that frames the message cannot be nominated away.
    ("Connection: content-length\r\nContent-Length: 41", Passes("GET /smuggled")),
];

/// Whole heads, followed by [`SMUGGLED`].
const HEADS: &[(&str, Outcome)] = &[
    (" POST / HTTP/1.1\r\nHost: catalog\r\n\r\n", Refused),
    ("\0POST / HTTP/1.1\r\nHost: catalog\r\n\r\n", Refused),
    ("\nPOST / HTTP/1.1\r\nHost: catalog\r\n\r\n", Refused),
    ("POST  / HTTP/1.1\r\nHost: catalog\r\n\r\n", Refused),
    ("POST /\tHTTP/1.1\r\nHost: catalog\r\n\r\n", Refused),
    ("POST /a b HTTP/1.1\r\nHost: catalog\r\n\r\n", Refused),
    ("POST / HTTP/1.1 \r\nHost: catalog\r\n\r\n", Refused),
    ("POST / HTTP/1.1\0\r\nHost: catalog\r\n\r\n", Refused),
    ("POST / HTTP/1.1\nHost: catalog\n\n", Refused),
    ("POST / HTTP/1.1\r\nHost: catalog\n\r\n", Refused),
    ("POST / HTTP/1.1\r\nHost: catalog\r\n\n", Refused),
    ("POST / HTTP/1.1\rHost: catalog\r\n\r\n", Refused),
    ("POST /\r\nHost: catalog\r\n\r\n", Refused),
    ("POST / HTTP/1.1\r\n\r\n", Refused),
    ("POST / HTTP/1.1\r\nHost: user@catalog\r\n\r\n", Refused),
    ("POST / HTTP/1.1\r\nHost: catalog,elsewhere\r\n\r\n", Refused),
    ("POST / HTTP/1.1\r\n Host: elsewhere\r\nHost: catalog\r\n\r\n", Refused),
    ("POST /#a HTTP/1.1\r\nHost: catalog\r\n\r\n", Refused),
    ("POST catalog HTTP/1.1\r\nHost: catalog\r\n\r\n", Refused),
    ("POST http://user@catalog/ HTTP/1.1\r\nHost: catalog\r\n\r\n", Refused),
    ("POST / HTTP/1.2\r\nHost: catalog\r\n\r\n", Refused),
    ("POST / HTTP/2.0\r\nHost: catalog\r\n\r\n", Refused),
    ("POST / HTTP/1.0\r\nHost: catalog\r\nTransfer-Encoding: chunked\r\n\r\n", Refused),
    ("CONNECT catalog:80 HTTP/1.1\r\nHost: catalog:80\r\nContent-Length: 41\r\n\r\n", Refused),
    // The target names the host, and Host says the same to the application.
    (
        "POST http://elsewhere/a HTTP/1.1\r\nHost: catalog\r\nContent-Length: 41\r\n\r\n",
        Passes("POST /a HTTP/1.1\r\nHost: elsewhere\r\n"),
    ),
];

/// Chunked bodies, followed by [`SMUGGLED`].
const BODIES: &[(&str, Outcome)] = &[
    ("5\r\nhelloX\r\n0\r\n\r\n", Broken),
    ("5\nhello\r\n0\r\n\r\n", Broken),
    ("5\r\nhello\n0\r\n\r\n", Broken),
    ("5\r\nhello0\r\n\r\n", Broken),
    ("5\rhello\r\n0\r\n\r\n", Broken),
    ("+5\r\nhello\r\n0\r\n\r\n", Broken),
    ("-1\r\nhello\r\n0\r\n\r\n", Broken),
    ("0x5\r\nhello\r\n0\r\n\r\n", Broken),
    ("5_\r\nhello\r\n0\r\n\r\n", Broken),
    (" 5\r\nhello\r\n0\r\n\r\n", Broken),
    ("\r\n5\r\nhello\r\n0\r\n\r\n", Broken),
    ("g\r\nhello\r\n0\r\n\r\n", Broken),
    (";a=b\r\nhello\r\n0\r\n\r\n", Broken),
    ("10000000000000005\r\nhello\r\n0\r\n\r\n", Broken),
    ("5;a\nb\r\nhello\r\n0\r\n\r\n", Broken),
    ("5;a\rb\r\nhello\r\n0\r\n\r\n", Broken),
    ("5;a\0\r\nhello\r\n0\r\n\r\n", Broken),
    ("0\r\nX: y\n\r\n", Broken),
    ("0\r\nX: y\r\n\n", Broken),
    ("0\r\n X: y\r\n\r\n", Broken),
    ("0\r\nX : y\r\n\r\n", Broken),
    ("0\r\nno colon\r\n\r\n", Broken),
    ("0\r\nX: a\0b\r\n\r\n", Broken),
    // An extension is for this hop, and framing in trailers is none.
    ("5;a=b\r\nhello\r\n0\r\n\r\n", Passes("\r\n5\r\nhello\r\n0\r\n\r\n")),
    ("5\r\nhello\r\n0;a=b\r\nContent-Length: 9\r\n\r\n", Passes("\r\n5\r\nhello\r\n0\r\n\r\n")),
    ("0005\r\nhello\r\n000\r\n\r\n", Passes("\r\n5\r\nhello\r\n0\r\n\r\n")),
];

/// Every message with what becomes of it.
fn corpus() -> Vec<(Vec<u8>, Outcome)> {
    let fields = FIELDS.iter().map(|(fields, outcome)| {
        (format!("POST / HTTP/1.1\r\nHost: catalog\r\n{fields}\r\n\r\n"), *outcome)
    });
    let heads = HEADS.iter().map(|(head, outcome)| ((*head).to_owned(), *outcome));
    let chunked = "POST / HTTP/1.1\r\nHost: catalog\r\nTransfer-Encoding: chunked\r\n\r\n";
    let bodies = BODIES.iter().map(|(body, outcome)| (format!("{chunked}{body}"), *outcome));
    let all = fields.chain(heads).chain(bodies);
    all.map(|(message, outcome)| ((message + SMUGGLED).into_bytes(), outcome)).collect()
}

/// Sends a message, and checks what the application gets of it.
async fn check(stage: &Stage, mut client: Raw, message: &[u8], outcome: Outcome) {
    let row = String::from_utf8_lossy(message).into_owned();

    let _ = client.try_send(message).await;
    if let Passes(_) = outcome {
        let answer = client.receive_until("\r\n\r\nok").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{row:?}: {answer:?}");
    } else {
        let answer = client.receive_to_end().await;
        let statuses = ["400", "501", "505"].map(|status| format!("HTTP/1.1 {status} "));
        let is_refusal = answer.is_empty() || statuses.iter().any(|it| answer.starts_with(it));
        assert!(is_refusal, "{row:?}: {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1").count(), usize::from(!answer.is_empty()), "{row:?}");
    }
    // Whatever would have been let through has gone this way before.
    let mut client = Raw::connect(stage.web.upstream(HTTP)).await;
    client.send("GET /canary HTTP/1.1\r\nHost: catalog\r\n\r\n").await;
    client.receive_until("\r\n\r\nok").await;
    let mut requests = stage.http.requests();
    stage.http.forget();
    requests.retain(|request| !request.starts_with("GET /canary "));
    match outcome {
        Refused => assert_eq!(requests, [""; 0], "{row:?}"),
        Broken => {
            assert!(requests.len() <= 1, "{row:?}: {requests:?}");
            for request in requests {
                assert!(request.starts_with("POST / "), "{row:?}: {request:?}");
                let (_, body) = request.split_once("\r\n\r\n").expect("a whole head");
                assert!(!body.ends_with("0\r\n\r\n"), "{row:?} was whole: {request:?}");
            }
        }
        Passes(part) => {
            // Behind a body in chunks what was to be smuggled is a request, and meant as one.
            let meant = if row.contains("chunked\r\n\r\n") { 2 } else { 1 };
            requests.retain(|request| meant == 1 || !request.starts_with("GET /smuggled "));
            assert_eq!(requests.len(), 1, "{row:?}: {requests:?}");
            assert!(requests[0].starts_with("POST /"), "{row:?}: {requests:?}");
            assert!(requests[0].contains(part), "{row:?}: {requests:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_smuggles_nothing_through_two_sidecars() {
    for multiplexed in [false, true] {
        let stage = Stage::start().await;
        let _crowd = if multiplexed { stage.crowd().await } else { Vec::new() };
        for (message, outcome) in corpus() {
            let client = Raw::connect(stage.web.upstream(HTTP)).await;
            check(&stage, client, &message, outcome).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_counted_and_stands_in_the_access_log() {
    let on = ["--access-log"];
    let stage = Stage::with(Setup { web: &on, catalog: &on, ..Setup::default() }).await;
    let ambiguous = "POST / HTTP/1.1\r\nHost: catalog\r\nContent-Length: 1, 1\r\n\r\na";
    let outbound = Raw::connect(stage.web.upstream(HTTP)).await;
    let inbound = Member::of(&stage).http(&stage, b"http/1.1").await;
    let sides = [(outbound, &stage.web, "outbound"), (inbound, &stage.catalog, "inbound")];
    for (mut client, sidecar, way) in sides {
        client.send(ambiguous).await;
        let answer = client.receive_to_end().await;
        assert!(answer.contains("weft-reason: bad-request\r\n"), "{answer:?}");
        let labels = [&*format!("direction=\"{way}\""), "reason=\"bad-request\""];
        sidecar.counts("weft_requests_failed_total", &labels, 1.0).await;
        let status = [labels[0], "status=\"400\""];
        sidecar.counts("weft_requests_total", &status, 1.0).await;
        let detail = "detail=\"ambiguous framing: Content-Length is not a number\"";
        stage.log.says(&["weft::access", labels[0], "status=400", labels[1], detail]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_the_mesh_smuggles_nothing_past_the_servers_sidecar() {
    let stage = Stage::start().await;
    let member = Member::of(&stage);
    for alpn in [b"http/1.1".as_slice(), b"weft-tcp/1"] {
        for (message, outcome) in corpus() {
            check(&stage, member.http(&stage, alpn).await, &message, outcome).await;
        }
    }
}
