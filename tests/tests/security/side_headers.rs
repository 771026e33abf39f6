//! Side headers are the mesh's: whoever else says them is not believed, and nothing of it is passed on.

use weft_tests::{
    frames::{self, END_STREAM, headers, kind, preface},
    peer::id,
    raw::Raw,
    recorder::Recorder,
};

use super::stage::{HTTP, Member, Setup, Stage};

/// Everything that a sidecar says beside a message, and what is spelt like it, each with what it would do.
const FORGED: &str = "Weft-Client-Id: spiffe://weft.local/ns/shop/sa/root\r\n\
    weft_client_id: root\r\n\
    WEFT-CLIENT_ID: root\r\n\
    Weft-Case: HOST,X-kept,X-Absent,CONTENT-LENGTH\r\n\
    Weft-Http: 1.0\r\n\
    Weft-Phrase: Forged\r\n\
    Weft-Reason: connection-lost\r\n\
    Weft-Not-Delivered: 1\r\n\
    Weft-Deadline: 1\r\n\
    weft-of-tomorrow: 1\r\n";

/// The same as fields of HTTP/2.
fn forged() -> Vec<(String, String)> {
    let fields = FORGED.lines().filter_map(|line| line.split_once(": "));
    fields.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect()
}

/// The fields of a message that are Weft's, or pass for it.
fn side(message: &str) -> Vec<String> {
    let lines = message.lines().map(str::to_lowercase);
    lines.filter(|line| line.starts_with("weft")).collect()
}

/// The application got one request, with the caller's true identity and nothing else of Weft's.
fn assert_true(stage: &Stage, what: &str, identity: Option<&str>) -> String {
    let requests = stage.http.requests();
    stage.http.forget();
    assert_eq!(requests.len(), 1, "{what}: {requests:?}");
    let known: Vec<_> =
        identity.map(|identity| format!("weft-client-id: {identity}")).into_iter().collect();
    assert_eq!(side(&requests[0]), known, "{what}: {requests:?}");
    assert!(!requests[0].contains("bsent"), "{what}: {requests:?}");
    requests.concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_application_says_in_the_meshs_name_does_not_leave_it() {
    let trailer = format!(
        "POST / HTTP/1.1\r\nHost: catalog\r\nX-Kept: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n{FORGED}\r\n"
    );
    let requests = [
        format!("GET / HTTP/1.1\r\nHost: catalog\r\nX-Kept: 1\r\n{FORGED}\r\n"),
        // Nominated, the true one must not go either.
        format!(
            "GET / HTTP/1.1\r\nHost: catalog\r\nX-Kept: 1\r\nConnection: weft-client-id\r\n{FORGED}\r\n"
        ),
        trailer,
    ];
    for multiplexed in [false, true] {
        let stage = Stage::start().await;
        let _crowd = if multiplexed { stage.crowd().await } else { Vec::new() };
        for request in &requests {
            let mut client = Raw::connect(stage.web.upstream(HTTP)).await;
            client.send(request).await;
            let head = client.receive_head().await;
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{request:?}: {head:?}");
            let arrived = assert_true(&stage, request, Some(&id("web")));
            assert!(arrived.contains("\r\nX-Kept: 1\r\n"), "its own case is kept: {arrived:?}");
            assert!(arrived.lines().next().is_some_and(|line| line.ends_with(" HTTP/1.1")));
        }
    }
}

/// The head of a request of HTTP/2 to catalog.
fn request_of(fields: &[(String, String)]) -> Vec<u8> {
    let mut all = vec![
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "catalog"),
        (":path", "/"),
        ("x-kept", "1"),
    ];
    all.extend(fields.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    [preface(), headers(1, END_STREAM, &all)].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_did_not_agree_on_side_headers_is_not_believed() {
    let stage = Stage::start().await;
    let member = Member::of(&stage);
    let mut raw = member.http(&stage, b"http/1.1").await;
    raw.send(format!("GET / HTTP/1.1\r\nHost: catalog\r\nX-Kept: 1\r\n{FORGED}\r\n")).await;
    assert!(raw.receive_head().await.starts_with("HTTP/1.1 200 OK\r\n"));
    let arrived = assert_true(&stage, "http/1.1", Some(&id("web")));
    assert!(arrived.starts_with("GET / HTTP/1.1\r\n"), "{arrived:?}");
    assert!(arrived.contains("\r\nX-Kept: 1\r\n"), "{arrived:?}");

    // Believed, its field would be written as the case map says.
    let mut raw = member.http(&stage, b"h2").await;
    raw.send(request_of(&forged())).await;
    assert!(frames::receive_until(&mut raw, |it| it.kind == kind::HEADERS).await.is_some());
    let arrived = assert_true(&stage, "h2", Some(&id("web")));
    assert!(arrived.contains("\r\nx-kept: 1\r\n"), "{arrived:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_case_map_of_a_sidecar_re_cases_what_is_there_and_adds_nothing() {
    let stage = Stage::start().await;
    let member = Member::of(&stage);
    let forged = forged();
    for (case, kept) in [
        ("X-kept,X-Absent,HOST,Content-Length,TRANSFER-encoding", "\r\nX-kept: 1\r\n"),
        ("X-KEPT,x-Kept", "\r\nX-KEPT: 1\r\n"),
        ("X-KEPT,not a name", "\r\nx-kept: 1\r\n"),
        ("X-KEPT: 2", "\r\nx-kept: 1\r\n"),
        ("", "\r\nx-kept: 1\r\n"),
    ] {
        let mut fields: Vec<_> = forged
            .iter()
            .filter(|(name, _)| !["weft-case", "weft-http"].contains(&name.as_str()))
            .cloned()
            .collect();
        fields.push(("weft-http".to_owned(), "1.1".to_owned()));
        fields.push(("weft-case".to_owned(), case.to_owned()));
        let mut raw = member.http(&stage, b"weft-h2/1").await;
        raw.send(request_of(&fields)).await;
        let head = frames::receive_until(&mut raw, |it| it.kind == kind::HEADERS).await;
        assert_eq!(head.expect("an answer").status(), Some(200), "{case:?}");
        let arrived = assert_true(&stage, case, Some(&id("web")));
        assert!(arrived.contains(kept), "{case:?}: {arrived:?}");
        for framing in ["content-length", "transfer-encoding"] {
            assert!(!arrived.to_lowercase().contains(framing), "{case:?}: {arrived:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_outside_the_mesh_is_not_believed() {
    let stage = Stage::with(Setup { permissive: true, ..Setup::default() }).await;
    let mut client = Raw::connect(stage.catalog.inbound()).await;
    let forwarded = "Forwarded: for=forged\r\nX-Forwarded-For: forged\r\n";
    client
        .send(format!("GET / HTTP/1.1\r\nHost: catalog\r\nX-Kept: 1\r\n{forwarded}{FORGED}\r\n"))
        .await;
    let head = client.receive_head().await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head:?}");
    assert_eq!(side(&head), [""; 0], "{head:?}");
    let arrived = assert_true(&stage, "plaintext", None);
    assert!(!arrived.contains("=forged") && !arrived.contains(": forged"), "{arrived:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_servers_application_says_in_the_meshs_name_does_not_reach_the_client() {
    let plain = format!("HTTP/1.1 200 Fine\r\nContent-Length: 2\r\nX-Kept: 1\r\n{FORGED}\r\nok");
    let early = format!("HTTP/1.1 103 Early Hints\r\n{FORGED}\r\n{plain}");
    let trailer = format!(
        "HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\nX-Kept: 1\r\n\r\n2\r\nok\r\n0\r\n{FORGED}\r\n"
    );
    let failed = plain.replace("200 Fine", "503 Fine");
    for answer in [plain, early, trailer, failed] {
        for multiplexed in [false, true] {
            let given = answer.clone();
            let http = Recorder::answering(move |_| given.clone()).await;
            let stage = Stage::with(Setup { http: Some(http), ..Setup::default() }).await;
            let _crowd = if multiplexed { stage.crowd().await } else { Vec::new() };
            let mut client = Raw::connect(stage.web.upstream(HTTP)).await;
            client
                .send("POST / HTTP/1.1\r\nHost: catalog\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi")
                .await;
            let received = client.receive_to_end().await;
            assert_eq!(side(&received), [""; 0], "{answer:?}: {received:?}");
            assert!(received.contains(" Fine\r\n"), "{answer:?}: {received:?}");
            assert!(received.contains("\r\nX-Kept: 1\r\n"), "{answer:?}: {received:?}");
            // An application's word that nothing was delivered must not make it be sent again.
            assert_true(&stage, &answer, Some(&id("web")));
            assert!(stage.web.count("weft_retries_total", &["service"]).await < 0.5);
        }
    }
}
