//! The port's policy decides how bytes are treated, whatever protocol the caller names in its handshake.

use weft_tests::{
    frames::{self, END_STREAM, headers, kind, preface},
    peer::id,
    recorder::{OK, Recorder},
};

use super::stage::{Member, Stage};

const TCP: &[u8] = b"weft-tcp/1";
const HTTP1: &[u8] = b"http/1.1";
const HTTP2: &[u8] = b"h2";
const WEFT: &[u8] = b"weft-h2/1";

const REQUEST: &str = "GET /items HTTP/1.1\r\nHost: catalog\r\nWeft-Client-Id: forged\r\n\r\n";
const OPAQUE: &str = "*1\r\n$4\r\nPING\r\n\r\n";

/// What a caller says once the handshake is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    Request,
    Http2,
    Opaque,
}

/// What comes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The application gets the request, and who sends it.
    Parsed,
    /// The application gets the bytes as they are.
    AsTheyAre,
    /// The codec refuses what it cannot read.
    BadRequest,
    /// The connection ends for this reason.
    Refused(&'static str),
}

use Outcome::{AsTheyAre, BadRequest, Parsed, Refused};

const MISMATCH: Outcome = Refused("protocol-mismatch");

/// Which port, by what it declares; the protocol in the handshake; what is said; what comes of it.
const ROWS: &[(&str, Option<&[u8]>, Says, Outcome)] = &[
    ("http", Some(HTTP1), Says::Request, Parsed),
    ("http", Some(HTTP1), Says::Opaque, BadRequest),
    ("http", Some(HTTP2), Says::Http2, Parsed),
    ("http", Some(WEFT), Says::Http2, Parsed),
    ("http", Some(WEFT), Says::Opaque, BadRequest),
    ("http", Some(TCP), Says::Request, Parsed),
    ("http", Some(TCP), Says::Http2, Parsed),
    ("http", Some(TCP), Says::Opaque, MISMATCH),
    ("http", None, Says::Request, Parsed),
    ("http", None, Says::Http2, Parsed),
    ("http", None, Says::Opaque, MISMATCH),
    ("tcp", Some(TCP), Says::Opaque, AsTheyAre),
    ("tcp", Some(TCP), Says::Request, AsTheyAre),
    ("tcp", None, Says::Request, AsTheyAre),
    ("tcp", None, Says::Opaque, AsTheyAre),
    ("tcp", Some(HTTP1), Says::Request, MISMATCH),
    ("tcp", Some(HTTP2), Says::Http2, MISMATCH),
    ("tcp", Some(WEFT), Says::Http2, MISMATCH),
    ("undeclared", Some(TCP), Says::Opaque, AsTheyAre),
    ("undeclared", Some(TCP), Says::Request, Parsed),
    ("undeclared", Some(HTTP1), Says::Request, Parsed),
    ("undeclared", Some(HTTP2), Says::Http2, Parsed),
    ("undeclared", None, Says::Request, Parsed),
    ("undeclared", None, Says::Http2, Parsed),
    ("undeclared", None, Says::Opaque, AsTheyAre),
];

fn bytes(says: Says) -> Vec<u8> {
    let request = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "catalog"),
        (":path", "/items"),
        ("weft-client-id", "forged"),
    ];
    match says {
        Says::Request => REQUEST.into(),
        Says::Http2 => [preface(), headers(1, END_STREAM, &request)].concat(),
        Says::Opaque => OPAQUE.into(),
    }
}

/// What the application has heard, without what is left of a connection on which HTTP/2 was tried: that may come late.
fn heard(app: &Recorder) -> Vec<String> {
    let is_left = |heard: &String| heard.starts_with("SM\r\n") || heard.starts_with('\0');
    app.requests().into_iter().filter(|heard| !is_left(heard)).collect()
}

async fn check(
    stage: &Stage,
    app: &Recorder,
    member: &Member,
    (port, alpn, says, outcome): (&str, Option<&[u8]>, Says, Outcome),
) {
    let row = format!("{port} {:?} {says:?}", alpn.map(String::from_utf8_lossy));
    let name = format!("{}.weft.internal", app.app.address.port());
    let offer: Vec<&[u8]> = alpn.into_iter().collect();
    let mut raw = member.call(stage, Some(&name), &offer).await.expect("a member");
    let connections = app.app.connections();
    // It may be refused already.
    let _ = raw.try_send(bytes(says)).await;
    match outcome {
        Parsed if says == Says::Http2 && port != "http" => {
            // This application knows no HTTP/2, which the sidecar speaks to it: that it was spoken to is enough.
            let answer = frames::receive_until(&mut raw, |it| it.kind == kind::HEADERS).await;
            assert!(answer.is_some(), "{row}: no answer");
            assert!(heard(app).concat().starts_with("PRI * HTTP/2.0\r\n"), "{row}");
        }
        Parsed => {
            if says == Says::Http2 {
                let answer = frames::receive_until(&mut raw, |it| it.kind == kind::HEADERS).await;
                assert!(answer.is_some(), "{row}: no answer");
            } else {
                assert!(raw.receive_head().await.starts_with("HTTP/1.1 200 OK\r\n"), "{row}");
            }
            let requests = heard(app);
            assert_eq!(requests.len(), 1, "{row}: {requests:?}");
            let identity = format!("weft-client-id: {}\r\n", id("web"));
            assert!(requests[0].to_lowercase().contains(&identity), "{row}: {requests:?}");
            assert!(!requests[0].contains("forged"), "{row}: {requests:?}");
        }
        AsTheyAre => {
            assert_eq!(raw.receive_until("ok").await, OK, "{row}");
            assert_eq!(heard(app).concat().as_bytes(), bytes(says), "{row}");
        }
        BadRequest => {
            let answer = raw.receive_to_end().await;
            let is_http2 = alpn == Some(WEFT);
            assert!(is_http2 || answer.starts_with("HTTP/1.1 400 "), "{row}: {answer:?}");
            assert_eq!(app.app.connections(), connections, "{row}");
        }
        Refused(reason) => {
            assert_eq!(raw.receive_to_end().await, "", "{row}");
            assert_eq!(app.app.connections(), connections, "{row}");
            stage.log.says(&["inbound connection refused", &format!("reason={reason}")]).await;
        }
    }
    app.forget();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ports_policy_decides_whatever_the_caller_names() {
    let stage = Stage::start().await;
    let member = Member::of(&stage);
    for row in ROWS {
        let app = match row.0 {
            "http" => &stage.http,
            "tcp" => &stage.opaque,
            _ => &stage.undeclared,
        };
        check(&stage, app, &member, *row).await;
    }
    let refused = ROWS.iter().filter(|row| row.3 == MISMATCH).count() as f64;
    let labels = ["direction=\"inbound\"", "reason=\"protocol-mismatch\""];
    stage.catalog.counts("weft_refused_connections_total", &labels, refused).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_protocol_that_no_sidecar_speaks_ends_the_handshake() {
    let stage = Stage::start().await;
    let member = Member::of(&stage);
    let name = format!("{}.weft.internal", stage.http.app.address.port());
    for alpn in [b"spdy/3".as_slice(), b"weft-h2/2", b"H2"] {
        let error = member.call(&stage, Some(&name), &[alpn]).await.expect_err("no such protocol");
        assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
    }
    let labels = ["direction=\"inbound\"", "reason=\"tls-failed\""];
    stage.catalog.counts("weft_refused_connections_total", &labels, 3.0).await;
    assert!(stage.nothing_arrived());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_registered_port_is_served_under_its_name() {
    let stage = Stage::start().await;
    let member = Member::of(&stage);
    let own = [stage.catalog.inbound(), stage.catalog.outbound(), stage.catalog.admin()];
    let mut names: Vec<_> = own.iter().map(|own| format!("{}.weft.internal", own.port())).collect();
    names.extend(["1.weft.internal".to_owned(), "65535.weft.internal".to_owned()]);
    for (done, name) in names.iter().enumerate() {
        let mut raw = member.call(&stage, Some(name), &[HTTP1]).await.expect("a member");
        let _ = raw.try_send(REQUEST).await;
        assert_eq!(raw.receive_to_end().await, "", "{name}");
        let port = name.split_once('.').expect("PORT.weft.internal").0;
        let asked = format!("{} asked for port {port}, which", id("web"));
        stage.log.says(&["reason=port-not-served", &asked]).await;
        let labels = ["direction=\"inbound\"", "reason=\"port-not-served\""];
        let count = done as f64 + 1.0;
        stage.catalog.counts("weft_refused_connections_total", &labels, count).await;
    }
    assert!(stage.nothing_arrived());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_name_that_names_no_port_leads_nowhere() {
    let stage = Stage::start().await;
    let member = Member::of(&stage);
    let port = stage.http.app.address.port();
    let below = |name: &str| format!("{name}.weft.internal");
    // What ends like a name of the mesh gets as far as its handshake.
    for name in [
        below("0"),
        below("65536"),
        below("http"),
        below(&format!("{port}.a.b.c")),
        below(&format!("x.{port}")),
    ] {
        if let Ok(mut raw) = member.call(&stage, Some(&name), &[HTTP1]).await {
            let _ = raw.try_send(REQUEST).await;
            assert_eq!(raw.receive_to_end().await, "", "{name}");
        }
        stage.log.says(&["inbound connection refused", &name]).await;
    }
    // All else is no traffic of the mesh, and these ports are strict.
    let other = [
        "weft.internal.example".to_owned(),
        format!("{port}.weft-internal"),
        port.to_string() + ".x",
    ];
    for name in other.iter().map(|name| Some(name.as_str())).chain([None]) {
        member.call(&stage, name, &[HTTP1]).await.expect_err("no server speaks to it");
    }
    let labels = ["direction=\"inbound\"", "reason=\"strict-required\""];
    stage.catalog.counts("weft_refused_connections_total", &labels, 4.0).await;
    assert!(stage.nothing_arrived());
}
