//! Changes of access policy under what lasts: streams, uploads, upgraded connections.

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_tests::{
    apps::{App, Http},
    client::Client,
    raw::Raw,
    wait,
};

use crate::stage::{Stage, Upload, call, policy, upload};

/// Nobody gets below `/shop.Secret`, in the whole namespace.
fn no_secrets(mode: &str) -> String {
    let rules = "  rules: [{action: Deny, to: [{paths: [{prefix: /shop.Secret}]}]}]\n";
    policy("AccessPolicy", "no-secrets", &format!("  mode: {mode}\n{rules}"))
}

/// Sends each request's body back while it comes in, as what it is.
#[expect(clippy::panic, reason = "the body of an answer cannot fail otherwise")]
async fn echo_streams() -> App {
    let local = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    App::http_at(local, |request: Request<Incoming>| async {
        let (head, body) = request.into_parts();
        let kind = head.headers.get(header::CONTENT_TYPE).cloned();
        // A client that is cut off breaks its body off, and with the panic this connection.
        let body =
            body.map_err(|error| -> std::convert::Infallible { panic!("broken off: {error}") });
        let mut response = Response::new(body.boxed());
        response.headers_mut().extend(kind.map(|kind| (header::CONTENT_TYPE, kind)));
        response
    })
    .await
}

/// Answers each request with 101, and sends all that comes then back.
async fn upgrading() -> App {
    App::tcp(|mut stream| async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        let _ = stream.write_all(answer).await;
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    })
    .await
}

/// A stream that is open in both directions.
struct Open {
    send: tokio::sync::mpsc::UnboundedSender<Bytes>,
    body: Incoming,
}

impl Open {
    async fn begin(client: &mut Client<Upload>, uri: &str, is_call: bool) -> Self {
        let (send, body) = upload();
        let asked = if is_call { call(uri) } else { crate::stage::get(uri).by("POST") };
        let (head, _) = asked.request().into_parts();
        let mut open = {
            send.send(Bytes::from_static(b"ping")).expect("it is open");
            let response = client.stream(Request::from_parts(head, body)).await.expect("an answer");
            assert_eq!(response.status(), 200, "{response:?}");
            Self { send, body: response.into_body() }
        };
        open.reads().await;
        open
    }

    async fn reads(&mut self) {
        let frame = wait::soon("an echo", self.body.frame()).await.expect("open").expect("open");
        assert_eq!(frame.into_data().expect("data"), "ping");
    }

    async fn goes_on(&mut self) {
        self.send.send(Bytes::from_static(b"ping")).expect("it is open");
        self.reads().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lasts_ends_when_its_request_would_be_refused_now_and_nothing_else_does() {
    let stage = Stage::serving([echo_streams().await, upgrading().await], "").await;
    let mut two = Client::connect_with(stage.web.outbound(), Http::Two).await;
    let mut secret = Open::begin(&mut two, "http://echo-v1:7070/shop.Secret/Watch", true).await;
    let mut public = Open::begin(&mut two, "http://echo-v1:7070/shop.Public/Watch", true).await;
    let mut plain = Open::begin(&mut two, "http://echo-v1/shop.Secret", false).await;
    let mut one = Client::connect_with(stage.web.outbound(), Http::One).await;
    let mut first = Open::begin(&mut one, "http://echo-v1/shop.Secret", false).await;
    let mut upgraded = Vec::new();
    for path in ["/shop.Secret", "/shop.Public"] {
        let mut client = Raw::connect(stage.web.upstream("echo-v2:80")).await;
        client
            .send(format!("GET {path} HTTP/1.1\r\nHost: echo\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"))
            .await;
        assert!(client.receive_head().await.starts_with("HTTP/1.1 101 "), "{path}");
        upgraded.push(client);
    }

    stage.change(&no_secrets("Audit"));
    let (server, _) = &stage.servers()[0];
    wait::until_true("the policy to be audited", || async {
        let mut other = stage.client(Http::One).await;
        let _ = other.get("http://echo-v1/shop.Secret").await;
        server.count("weft_authz_audited_total", &[]).await > 0.0
    })
    .await;
    for open in [&mut secret, &mut public, &mut plain, &mut first] {
        open.goes_on().await;
    }

    stage.change(&no_secrets("Enforce"));
    let last = wait::soon("the call's end", secret.body.frame()).await.expect("trailers");
    let trailers = last.expect("no reset").into_trailers().expect("trailers");
    assert_eq!(trailers["grpc-status"], "7");
    assert!(!format!("{trailers:?}").contains("no-secrets"), "{trailers:?}");
    for (version, open) in [("2", &mut plain), ("1", &mut first)] {
        let last = wait::soon("the stream's end", open.body.frame()).await;
        assert!(last.expect("not a clean end").is_err(), "HTTP/{version}");
    }
    upgraded[0].ended().await;
    let labels = ["reason=\"authz-denied\"", "policy=\"AccessPolicy mesh/no-secrets rules[0]\""];
    server.counts("weft_policy_refusals_total", &labels, 3.0).await;
    stage.servers()[1].0.counts("weft_policy_refusals_total", &labels, 1.0).await;

    public.goes_on().await;
    upgraded[1].send("still here").await;
    assert_eq!(upgraded[1].receive_exactly(10).await, b"still here");
}
