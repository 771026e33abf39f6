//! Peers that say too little: how long they are waited for, on either side, and how it ends.

use weft_tests::{
    frames::{self, kind, preface},
    mesh::Sidecar,
    raw::Raw,
};

use super::stage::{HTTP, Member, Setup, Stage};

const SHORT: [&str; 3] =
    ["--header-timeout=150ms", "--tls-timeout=150ms", "--client-idle-timeout=10s"];
const IDLE: [&str; 1] = ["--client-idle-timeout=150ms"];

/// Beginnings of requests that are never finished.
const BEGINNINGS: [&str; 4] =
    ["P", "GET /slow", "GET /slow HTTP/1.1\r\n", "GET /slow HTTP/1.1\r\nHost: catalog\r\nX-Slow: "];

async fn counted(sidecar: &Sidecar, way: &str, reason: &str, at_least: f64) {
    let labels = [&*format!("direction=\"{way}\""), &*format!("reason=\"{reason}\"")];
    sidecar.counts("weft_refused_connections_total", &labels, at_least).await;
}

fn assert_timed_out(answer: &str, beginning: &str) {
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{beginning:?}: {answer:?}");
    assert!(answer.contains("weft-reason: header-timeout\r\n"), "{beginning:?}: {answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_does_not_come_to_its_end_is_not_waited_for() {
    let stage = Stage::with(Setup { web: &SHORT, catalog: &SHORT, ..Setup::default() }).await;
    let member = Member::of(&stage);
    for (done, beginning) in BEGINNINGS.into_iter().enumerate() {
        for address in [stage.web.outbound(), stage.web.upstream(HTTP)] {
            let mut client = Raw::connect(address).await;
            client.send(beginning).await;
            assert_timed_out(&client.receive_to_end().await, beginning);
        }
        let count = done as f64 + 1.0;
        counted(&stage.web, "outbound", "header-timeout", 2.0 * count).await;

        let mut raw = member.http(&stage, b"http/1.1").await;
        raw.send(beginning).await;
        assert_timed_out(&raw.receive_to_end().await, beginning);
        counted(&stage.catalog, "inbound", "header-timeout", count).await;
        let failed = ["direction=\"inbound\"", "reason=\"header-timeout\""];
        stage.catalog.counts("weft_requests_failed_total", &failed, count).await;
    }
    assert!(stage.nothing_arrived());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_dials_a_sidecar_and_does_not_come_to_the_point_is_not_waited_for() {
    let stage = Stage::with(Setup { catalog: &SHORT, ..Setup::default() }).await;
    let member = Member::of(&stage);
    let half_a_hello = b"\x16\x03\x01\x02\x00\x01".as_slice();
    for (beginning, reason) in
        [(b"".as_slice(), "header-timeout"), (half_a_hello, "strict-required")]
    {
        let mut raw = Raw::connect(stage.catalog.inbound()).await;
        raw.send(beginning).await;
        assert_eq!(raw.receive_to_end().await, "");
        counted(&stage.catalog, "inbound", reason, 1.0).await;
    }
    // A preface of HTTP/2 that stops half-way.
    let mut raw = member.http(&stage, b"weft-h2/1").await;
    raw.send("PRI * HTTP/2.0\r\n").await;
    raw.ended().await;
    counted(&stage.catalog, "inbound", "header-timeout", 2.0).await;
    assert!(stage.nothing_arrived());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_requests_is_let_go() {
    let stage = Stage::with(Setup { web: &IDLE, catalog: &IDLE, ..Setup::default() }).await;
    let member = Member::of(&stage);
    // Before its first request, and after one.
    Raw::connect(stage.web.outbound()).await.ended().await;
    let mut client = Raw::connect(stage.web.upstream(HTTP)).await;
    client.send("GET / HTTP/1.1\r\nHost: catalog\r\n\r\n").await;
    client.receive_until("\r\n\r\nok").await;
    assert_eq!(client.receive_to_end().await, "");
    counted(&stage.web, "outbound", "idle-timeout", 2.0).await;

    let http2 = Raw::connect(stage.web.outbound()).await;
    for mut raw in [http2, member.http(&stage, b"h2").await] {
        raw.send(preface()).await;
        let goaway = frames::receive_until(&mut raw, |it| it.kind == kind::GOAWAY).await;
        assert_eq!(goaway.expect("a word of goodbye").code(), 0);
        raw.ended().await;
    }
    counted(&stage.web, "outbound", "idle-timeout", 3.0).await;
    member.http(&stage, b"http/1.1").await.ended().await;
    counted(&stage.catalog, "inbound", "idle-timeout", 2.0).await;
}
