//! Limits against hostile and broken peers: each with its answer and its count, and without harm to anybody else.

use http::StatusCode;
use weft_tests::{
    apps::Http,
    client::{Client, get},
    frames::{self, END_STREAM, frame, headers, kind, preface},
    raw::Raw,
    recorder::Recorder,
    wait,
};

use super::stage::{HTTP, Member, Setup, Stage};

const HEAD: &str = "GET / HTTP/1.1\r\nHost: catalog\r\n\r\n";

/// The head of a request of HTTP/2 that the application holds.
const HELD: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":authority", "catalog"), (":path", "/hold")];

const ENHANCE_YOUR_CALM: u32 = 11;
const REFUSED_STREAM: u32 = 7;

/// Waits until this side's connections that ended for a reason are so many.
async fn counted(sidecar: &weft_tests::mesh::Sidecar, way: &str, reason: &str, at_least: f64) {
    let labels = [&*format!("direction=\"{way}\""), &*format!("reason=\"{reason}\"")];
    sidecar.counts("weft_refused_connections_total", &labels, at_least).await;
}

/// Whether a request of HTTP/1 goes through on this connection.
async fn assert_served(client: &mut Raw) {
    client.send(HEAD).await;
    assert!(client.receive_until("\r\n\r\nok").await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_limit_are_closed_and_the_others_go_on() {
    let limit = "--max-connections=3";
    let stage = Stage::with(Setup { web: &[limit], catalog: &[limit], ..Setup::default() }).await;
    for (sidecar, address, way) in [
        (&stage.web, stage.web.outbound(), "outbound"),
        (&stage.catalog, stage.catalog.inbound(), "inbound"),
    ] {
        let mut open = Vec::new();
        for _ in 0..3 {
            open.push(Raw::connect(address).await);
        }
        let labels = [&*format!("direction=\"{way}\"")];
        sidecar.counts("weft_open_connections", &labels, 3.0).await;
        for refused in 1..=3 {
            Raw::connect(address).await.ended().await;
            counted(sidecar, way, "connection-limit", f64::from(refused)).await;
        }
        drop(open);
        wait::until_true("room for others", || async {
            sidecar.count("weft_open_connections", &labels).await < 0.5
        })
        .await;
    }
    assert_served(&mut Raw::connect(stage.web.upstream(HTTP)).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_beyond_the_limits_are_refused_in_both_versions_on_both_sides() {
    let limits = ["--max-header-bytes=4096", "--max-headers=16"];
    let stage = Stage::with(Setup { web: &limits, catalog: &limits, ..Setup::default() }).await;
    let member = Member::of(&stage);
    let long = ("x-long".to_owned(), "a".repeat(4096));
    let many: Vec<_> = (0..17).map(|at| (format!("x-{at}"), "a".to_owned())).collect();
    let failed = ["direction=\"inbound\"", "reason=\"headers-too-large\""];
    for (done, fields) in [vec![long], many].into_iter().enumerate() {
        for version in [Http::One, Http::Two] {
            let mut request = get("http://catalog/");
            for (name, value) in &fields {
                let name: http::HeaderName = name.parse().expect("a name");
                request.headers_mut().insert(name, value.parse().expect("a value"));
            }
            let mut client = Client::connect(stage.web.outbound(), version).await;
            let answer = client.send(request).await.expect("an answer");
            assert_eq!(answer.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "{answer:?}");
            assert_eq!(answer.field("weft-reason"), "headers-too-large", "{answer:?}");
        }
        let lines: String =
            fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let mut raw = member.http(&stage, b"http/1.1").await;
        raw.send(HEAD.replace("\r\n\r\n", &format!("\r\n{lines}\r\n"))).await;
        let answer = raw.receive_to_end().await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
        assert!(answer.contains("weft-reason: headers-too-large\r\n"), "{answer:?}");

        let mut block = HELD.to_vec();
        block.extend(fields.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let mut raw = member.http(&stage, b"h2").await;
        raw.send([preface(), headers(1, END_STREAM, &block)].concat()).await;
        let answer = frames::receive_until(&mut raw, |it| it.kind == kind::HEADERS).await;
        assert_eq!(answer.expect("an answer").status(), None, "no status that is frequent");
        let count = 2.0 * (done as f64 + 1.0);
        stage.catalog.counts("weft_requests_failed_total", &failed, count).await;
        let failed = ["direction=\"outbound\"", "reason=\"headers-too-large\""];
        stage.web.counts("weft_requests_failed_total", &failed, count).await;
    }
    assert!(stage.nothing_arrived());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_with_too_large_a_head_is_not_passed_on() {
    let http = Recorder::answering(|_| {
        format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\nContent-Length: 0\r\n\r\n", "a".repeat(8192))
    })
    .await;
    let limits = ["--max-header-bytes=4096"];
    let stage = Stage::with(Setup { http: Some(http), catalog: &limits, ..Setup::default() }).await;
    let mut client = Raw::connect(stage.web.upstream(HTTP)).await;
    client.send(HEAD).await;
    let head = client.receive_head().await;
    assert!(head.starts_with("HTTP/1.1 502 "), "{head:?}");
    assert!(head.contains("weft-reason: upstream-protocol\r\n"), "{head:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_beyond_the_limit_are_refused_and_the_others_go_on() {
    let limit = ["--max-streams=4"];
    let stage = Stage::with(Setup { web: &limit, catalog: &limit, ..Setup::default() }).await;
    let member = Member::of(&stage);
    let outbound = Raw::connect(stage.web.upstream(HTTP)).await;
    for mut raw in [outbound, member.http(&stage, b"weft-h2/1").await] {
        raw.send(preface()).await;
        for stream in [1, 3, 5, 7, 9] {
            raw.send(headers(stream, END_STREAM, &HELD)).await;
        }
        let reset = frames::receive_until(&mut raw, |it| it.kind == kind::RST_STREAM).await;
        let reset = reset.expect("the connection holds");
        assert_eq!((reset.stream, reset.code()), (9, REFUSED_STREAM));
        raw.send(frame(kind::PING, 0, 0, b"are you?")).await;
        let pong = frames::receive_until(&mut raw, |it| it.payload == b"are you?").await;
        assert!(pong.is_some(), "the connection holds");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_resets_too_many_streams_is_sent_away_alone() {
    let stage = Stage::start().await;
    let member = Member::of(&stage);
    let mut bystander = Raw::connect(stage.web.upstream(HTTP)).await;
    assert_served(&mut bystander).await;
    let outbound = Raw::connect(stage.web.upstream(HTTP)).await;
    for mut raw in [outbound, member.http(&stage, b"weft-h2/1").await] {
        let mut flood = preface();
        for stream in (1..4000).step_by(2) {
            flood.extend(headers(stream, END_STREAM, &HELD));
            flood.extend(frame(kind::RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        }
        let _ = raw.try_send(flood).await;
        let goaway = frames::receive_until(&mut raw, |it| it.kind == kind::GOAWAY).await;
        assert_eq!(goaway.expect("a last word").code(), ENHANCE_YOUR_CALM);
        raw.ended().await;
    }
    counted(&stage.web, "outbound", "stream-limit", 1.0).await;
    counted(&stage.catalog, "inbound", "stream-limit", 1.0).await;
    assert_served(&mut bystander).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_never_ends_in_continuations_ends_the_connection() {
    let stage = Stage::start().await;
    let member = Member::of(&stage);
    let outbound = Raw::connect(stage.web.upstream(HTTP)).await;
    for mut raw in [outbound, member.http(&stage, b"weft-h2/1").await] {
        let first = headers(1, END_STREAM, &HELD);
        // The same without the flag that ends it.
        let first = frame(kind::HEADERS, END_STREAM, 1, &first[9..]);
        let field = frames::block(&[("x-again", &"a".repeat(8192))]);
        let more = frame(kind::CONTINUATION, 0, 1, &field).repeat(64);
        let _ = raw.try_send([preface(), first, more].concat()).await;
        let goaway = frames::receive_until(&mut raw, |it| it.kind == kind::GOAWAY).await;
        assert_eq!(goaway.expect("a last word").code(), ENHANCE_YOUR_CALM);
        raw.ended().await;
    }
    counted(&stage.web, "outbound", "stream-limit", 1.0).await;
    counted(&stage.catalog, "inbound", "stream-limit", 1.0).await;
    assert!(stage.nothing_arrived());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_what_it_provokes_is_not_read_any_more() {
    let stage = Stage::start().await;
    let member = Member::of(&stage);
    let mut bystander = Raw::connect(stage.web.upstream(HTTP)).await;
    let floods = [frame(kind::PING, 0, 0, b"at once!"), frame(kind::SETTINGS, 0, 0, b"")];
    for flood in floods {
        let outbound = Raw::connect(stage.web.upstream(HTTP)).await;
        for mut raw in [outbound, member.http(&stage, b"weft-h2/1").await] {
            let _ = raw.try_send(preface()).await;
            let piece = flood.repeat(8192);
            let mut taken = 0;
            // Answers fill the kernel's buffers, then the sidecar's, and then nothing more is taken.
            while let Ok(Ok(())) =
                tokio::time::timeout(std::time::Duration::from_millis(500), raw.try_send(&piece))
                    .await
            {
                taken += piece.len();
                assert!(taken < 64 << 20, "{taken} bytes were taken, and all their answers kept");
            }
            assert_served(&mut bystander).await;
        }
    }
}
