//! Plaintext at a sidecar's own port, in explicit mode: served where the one permissive port is meant, and only
//! as long as it is permissive.

use http::StatusCode;
use weft_tests::{client::get_once, peer::id, raw::Raw};

use super::stage::{Member, Setup, Stage, objects};

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: catalog\r\n\r\n";

async fn assert_served(client: &mut Raw) {
    client.send(REQUEST).await;
    assert!(client.receive_until("\r\n\r\nok").await.starts_with("HTTP/1.1 200 OK\r\n"));
}

/// Waits until this plaintext is served, or is not.
async fn until_served(stage: &Stage, wanted: bool) {
    weft_tests::wait::until_true("the change of policy", || async {
        let mut client = Raw::connect(stage.catalog.inbound()).await;
        let _ = client.try_send(REQUEST).await;
        wanted == client.receive_until_or_end("\r\n\r\nok").await.is_some()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strict_port_serves_no_plaintext() {
    let stage = Stage::start().await;
    for bytes in [REQUEST, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "*1\r\n$4\r\nPING\r\n"] {
        let mut client = Raw::connect(stage.catalog.inbound()).await;
        client.send(bytes).await;
        assert_eq!(client.receive_to_end().await, "", "{bytes:?}");
    }
    stage.log.says(&["inbound connection refused", "reason=strict-required"]).await;
    let labels = ["direction=\"inbound\"", "reason=\"strict-required\""];
    stage.catalog.counts("weft_refused_connections_total", &labels, 3.0).await;
    assert!(stage.nothing_arrived());
}

#[tokio::test(flavor = "multi_thread")]
async fn plaintext_ends_when_its_port_becomes_strict_and_the_mesh_goes_on() {
    let stage = Stage::with(Setup { permissive: true, ..Setup::default() }).await;
    let mut stranger = Raw::connect(stage.catalog.inbound()).await;
    assert_served(&mut stranger).await;
    assert!(!stage.http.requests().concat().to_lowercase().contains("weft-client-id"));
    let mut held = Raw::connect(stage.catalog.inbound()).await;
    held.send("GET /hold HTTP/1.1\r\nHost: catalog\r\n\r\n").await;
    let mut member = Member::of(&stage).http(&stage, b"http/1.1").await;
    assert_served(&mut member).await;
    // Bytes that are no HTTP do not get in by being plain.
    let mut opaque = Raw::connect(stage.catalog.inbound()).await;
    opaque.send("*1\r\n$4\r\nPING\r\n").await;
    assert_eq!(opaque.receive_to_end().await, "");
    let mismatch = ["direction=\"inbound\"", "reason=\"protocol-mismatch\""];
    stage.catalog.counts("weft_refused_connections_total", &mismatch, 1.0).await;

    stage.mesh.write("mesh.yaml", &objects(false));
    for open in [&mut stranger, &mut held] {
        assert_eq!(open.receive_to_end().await, "");
    }
    let changed = ["direction=\"inbound\"", "reason=\"policy-changed\""];
    stage.catalog.counts("weft_refused_connections_total", &changed, 2.0).await;
    stage.log.says(&["inbound connection refused", "reason=policy-changed"]).await;
    until_served(&stage, false).await;
    assert_served(&mut member).await;
    let answer = get_once(stage.web.outbound(), "http://catalog/").await;
    assert_eq!(answer.status, StatusCode::OK);
    let last = stage.http.requests().pop().expect("it arrived").to_lowercase();
    assert!(last.contains(&format!("weft-client-id: {}\r\n", id("web"))), "{last:?}");

    stage.mesh.write("mesh.yaml", &objects(true));
    until_served(&stage, true).await;
}
