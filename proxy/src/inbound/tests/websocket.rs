//! WebSockets over HTTP/2: streams of one connection, each for itself, to an application that speaks HTTP/1.

use ::h2::{RecvStream, SendStream, ext::Protocol as Extended};
use bytes::Bytes;
use http::{Request, Response};

use super::{limits::narrow, scene::*, *};
use crate::policy::authz::{Effect, Rule as AccessRule};

type Client = ::h2::client::SendRequest<Bytes>;

/// Waits until the server has said that it takes extended CONNECTs.
async fn connected(scene: &Scene) -> Client {
    let client = scene.http2().await;
    until("SETTINGS", || client.is_extended_connect_protocol_enabled()).await;
    client
}

/// What the server makes of a wish for another protocol.
async fn ask(
    client: &mut Client,
    protocol: &'static str,
    path: &str,
) -> (Response<RecvStream>, SendStream<Bytes>) {
    let request = Request::connect(format!("http://cart{path}"));
    let request = request.extension(Extended::from_static(protocol)).header("origin", "http://a");
    let request = request.body(()).expect("a request");
    let (response, send) = client.send_request(request, false).expect("open");
    (soon("an answer", response).await.expect("an answer"), send)
}

/// A WebSocket that is open.
struct Socket {
    send: SendStream<Bytes>,
    receive: RecvStream,
}

impl Socket {
    async fn open(client: &mut Client, path: &str) -> Self {
        let (response, send) = ask(client, "websocket", path).await;
        assert_eq!(response.status(), 200);
        for field in ["sec-websocket-accept", "upgrade", "connection", "weft-reason"] {
            assert!(!response.headers().contains_key(field), "{field}");
        }
        Self { send, receive: response.into_body() }
    }

    async fn echoes(&mut self, text: &'static str) {
        self.send.send_data(Bytes::from_static(text.as_bytes()), false).expect("open");
        let mut received = Vec::new();
        while received.len() < text.len() {
            let data = soon("an echo", self.receive.data()).await.expect("open").expect("no reset");
            let _ = self.receive.flow_control().release_capacity(data.len());
            received.extend_from_slice(&data);
        }
        assert_eq!(received, text.as_bytes());
    }

    /// How it ends: with a reset, or cleanly.
    async fn ends(&mut self) -> Option<::h2::Reason> {
        loop {
            match soon("the end", self.receive.data()).await {
                None => return None,
                // The frame that ends the stream.
                Some(Ok(data)) => assert_eq!(data, ""),
                Some(Err(error)) => return error.reason(),
            }
        }
    }
}

#[test]
fn a_websocket_over_http2_is_an_upgrade_for_the_application() {
    let test = async {
        let scene = Scene::with(InboundPort::plain(Protocol::Http1, "shop/cart:80".into())).await;
        let mut client = connected(&scene).await;
        let mut first = Socket::open(&mut client, "/upgrade/1").await;
        let mut second = Socket::open(&mut client, "/upgrade/2").await;
        first.echoes("one").await;
        second.echoes("two").await;
        assert_eq!(scene.app.saw("GET /upgrade/"), 2);
        // The end of the one goes to the application and back, and is nobody else's.
        first.send.send_data(Bytes::new(), true).expect("open");
        assert_eq!(first.ends().await, None);
        second.echoes("three").await;
    };
    worker::run(test).expect("a runtime");
}

#[test]
fn what_opens_no_websocket_says_so() {
    let test = async {
        let scene = Scene::with(InboundPort::plain(Protocol::Http1, "shop/cart:80".into())).await;
        let mut client = connected(&scene).await;
        for (protocol, path, status) in [
            // The application answers as if nothing special had been asked for, or to another key.
            ("websocket", "/", 502),
            ("websocket", "/upgrade/deaf", 502),
            ("connect-udp", "/upgrade", 400),
        ] {
            let (response, _send) = ask(&mut client, protocol, path).await;
            assert_eq!(response.status(), status, "{protocol} {path}");
        }
        assert_eq!(scene.app.saw("/upgrade "), 0);
    };
    worker::run(test).expect("a runtime");
}

#[test]
fn each_websocket_of_a_connection_goes_on_for_as_long_as_its_own_request_may() {
    let test = async {
        let denied = |path: &str| {
            let deny = AccessRule { operations: within(path), ..rule(Effect::Deny) };
            port(Protocol::Http1, vec![deny, rule(Effect::Allow)], false)
        };
        let scene = Scene::with(denied("/none")).await;
        let mut client = connected(&scene).await;
        let mut secret = Socket::open(&mut client, "/upgrade/secret").await;
        let mut public = Socket::open(&mut client, "/upgrade/public").await;
        secret.echoes("one").await;
        scene.change(denied("/upgrade/secret"));
        assert_eq!(secret.ends().await, Some(::h2::Reason::CANCEL));
        scene.refused(Reason::AuthzDenied, 1).await;
        public.echoes("two").await;
        let (response, _send) = ask(&mut client, "websocket", "/upgrade/secret").await;
        assert_eq!(response.status(), 403);
    };
    worker::run(test).expect("a runtime");
}

#[test]
fn a_websocket_is_in_flight_until_it_is_reset() {
    let test = async {
        let scene = Scene::with(narrow(1, 1)).await;
        let mut client = connected(&scene).await;
        let mut socket = Socket::open(&mut client, "/upgrade").await;
        socket.echoes("one").await;
        let mut waiting = scene.web(Alpn::Http1).await;
        waiting.send("GET /next HTTP/1.1\r\nHost: cart\r\n\r\n").await;
        until("the next to wait", || scene.metric("weft_concurrency_waiting", &[]) == 1).await;
        socket.send.send_reset(::h2::Reason::CANCEL);
        assert!(waiting.answer().await.ends_with("hi"));
    };
    worker::run(test).expect("a runtime");
}

/// What applications of these tests do with a connection.
async fn listen<S: Future<Output = ()> + 'static>(
    serve: impl Fn(net::TcpStream) -> S + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.2:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::task::spawn_local(serve(stream));
        }
    });
    address
}

/// HTTP/2 that takes extended CONNECTs, and sends back what comes on them.
async fn http2(stream: net::TcpStream) {
    let mut builder = ::h2::server::Builder::new();
    builder.enable_connect_protocol();
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else {
        return;
    };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let protocol = request.extensions().get::<Extended>().map(Extended::as_str);
        let is_right = protocol == Some("websocket")
            && !request.headers().contains_key("sec-websocket-key")
            && request.uri().path() == "/upgrade";
        let status = if is_right { 200 } else { 404 };
        let response = Response::builder().status(status).body(()).expect("good");
        let mut send = respond.send_response(response, !is_right).expect("open");
        let mut receive = request.into_body();
        tokio::task::spawn_local(async move {
            while let Some(Ok(data)) = receive.data().await {
                let _ = receive.flow_control().release_capacity(data.len());
                let _ = send.send_data(data, false);
            }
            let _ = send.send_data(Bytes::new(), true);
        });
    }
}

/// The same, and HTTP/1 that takes every Upgrade.
async fn either_version(mut stream: net::TcpStream) {
    let mut first = [0; 3];
    let _ = stream.peek(&mut first).await;
    if first == *b"PRI" {
        return http2(stream).await;
    }
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => request.push(byte),
            Err(_) => return,
        }
    }
    let answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: any\r\n\r\n";
    let _ = stream.write_all(answer).await;
    let (mut read, mut write) = stream.split();
    let _ = tokio::io::copy(&mut read, &mut write).await;
}

fn plain(protocol: Protocol) -> InboundPort {
    InboundPort::plain(protocol, "shop/cart:80".into())
}

#[test]
fn an_application_of_http2_gets_every_other_upgrade_as_http1_has_it() {
    let test = async {
        let scene = Scene::before(listen(either_version).await, plain(Protocol::Http2), &[]).await;
        // Without a key it is no WebSocket that HTTP/2 could open.
        for protocol in ["chat", "websocket"] {
            let mut client = scene.web(Alpn::Http1).await;
            client.send(&format!("GET /upgrade HTTP/1.1\r\nHost: cart\r\nConnection: upgrade\r\nUpgrade: {protocol}\r\n\r\n")).await;
            let answer = client.answer().await;
            assert!(answer.starts_with("HTTP/1.1 101 "), "{protocol}: {answer}");
            client.send("two").await;
            client.reads("two").await;
        }
    };
    worker::run(test).expect("a runtime");
}

#[test]
fn an_application_of_http2_that_takes_no_connection_is_dialled_once_for_a_websocket() {
    let test = async {
        let dialled = Rc::new(std::cell::Cell::new(0));
        let count = dialled.clone();
        let address = listen(move |stream| {
            count.set(count.get() + 1);
            async move { drop(stream) }
        });
        let scene = Scene::before(address.await, plain(Protocol::Http2), &[]).await;
        let mut client = scene.web(Alpn::Http1).await;
        client.send("GET /upgrade HTTP/1.1\r\nHost: cart\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").await;
        let answer = client.answer().await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
        assert!(answer.contains("weft-reason: connect-failed\r\n"), "{answer}");
        assert_eq!(dialled.get(), 1);
    };
    worker::run(test).expect("a runtime");
}

#[test]
fn an_application_of_http2_gets_an_extended_connect_where_it_takes_that() {
    let test = async {
        let scene = Scene::before(listen(http2).await, plain(Protocol::Http2), &[]).await;
        let mut client = connected(&scene).await;
        let mut socket = Socket::open(&mut client, "/upgrade").await;
        socket.echoes("one").await;
        let (response, _send) = ask(&mut client, "websocket", "/none").await;
        assert_eq!(response.status(), 404);

        let mut client = scene.web(Alpn::Http1).await;
        // The example of RFC 6455 section 1.3.
        client.send("GET /upgrade HTTP/1.1\r\nHost: cart\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").await;
        let answer = client.answer().await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        let accept = "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
        assert!(answer.to_lowercase().contains(&accept.to_lowercase()), "{answer}");
        client.send("two").await;
        client.reads("two").await;
        socket.send.send_data(Bytes::new(), true).expect("open");
        assert_eq!(socket.ends().await, None);
    };
    worker::run(test).expect("a runtime");
}
