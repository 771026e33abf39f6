//! Rate limits and the concurrency limit over real connections: what clients are told, and when room comes back.

use std::time::Duration;

use super::{scene::*, *};
use crate::policy::{
    concurrency::Concurrency,
    rate_limit::{Key, Rate, RateLimit, RateLimits, Settings},
};

const HOUR: u64 = 3_600_000_000_000;

fn limited(requests: u64) -> InboundPort {
    limited_within(Protocol::Http1, requests, Box::new([]))
}

/// So many requests of these kinds.
pub(super) fn limited_within(
    protocol: Protocol,
    requests: u64,
    operations: Box<[crate::policy::operation::Operation]>,
) -> InboundPort {
    let settings = Settings {
        policy: "TrafficPolicy shop/cart rateLimits[0]".into(),
        rate: Rate::new(requests, HOUR, requests).expect("not zero"),
        operations,
        key: Key::All,
    };
    InboundPort {
        rate_limits: RateLimits::new(vec![RateLimit::new(settings)]),
        ..InboundPort::plain(protocol, "shop/cart:80".into())
    }
}

pub(super) fn narrow(max_in_flight: u32, max_pending: u32) -> InboundPort {
    InboundPort {
        concurrency: Some(Arc::new(Concurrency {
            policy: "TrafficPolicy shop/cart".into(),
            max_in_flight,
            max_pending,
            max_wait: Duration::from_secs(60),
            gate: Arc::default(),
        })),
        ..InboundPort::plain(Protocol::Http1, "shop/cart:80".into())
    }
}

#[test]
fn clients_are_told_what_is_left_and_when_to_come_back() {
    let test = async {
        let scene = Scene::with(limited(2)).await;
        for remaining in [1, 0] {
            let answer = scene.get("/").await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            assert!(answer.contains("ratelimit-limit: 2\r\n"), "{answer}");
            assert!(answer.contains(&format!("ratelimit-remaining: {remaining}\r\n")), "{answer}");
            assert!(answer.contains("ratelimit-reset: ") && !answer.contains("retry-after"));
        }
        let answer = scene.get("/").await;
        assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
        for field in ["weft-reason: rate-limited\r\n", "ratelimit-remaining: 0\r\n"] {
            assert!(answer.contains(field), "{answer}");
        }
        let after = answer.split_once("retry-after: ").expect("it is told").1;
        let after: u64 = after.lines().next().expect("a line").parse().expect("seconds");
        assert!((1..=1800).contains(&after), "{after}");
        assert!(!answer.contains("shop/cart"), "{answer}");

        let mut grpc = scene.web(Alpn::Http1).await;
        grpc.send("POST /shop.Cart/Add HTTP/1.1\r\nHost: cart\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n").await;
        let answer = grpc.answer().await;
        assert!(answer.contains("grpc-status: 8\r\n") && answer.contains("retry-after: "));
        let labels =
            ["policy=\"TrafficPolicy shop/cart rateLimits[0]\"", "reason=\"rate-limited\""];
        assert_eq!(scene.metric("weft_policy_refusals_total", &labels), 2);
        assert_eq!(scene.app.saw("GET"), 2);

        scene.change(limited(3));
        assert!(scene.get("/").await.contains("ratelimit-remaining: 2\r\n"), "a changed limit");
    };
    worker::run(test).expect("a runtime");
}

#[test]
fn a_request_has_its_turn_when_another_one_ended() {
    let test = async {
        let scene = Scene::with(narrow(1, 1)).await;
        let mut held = scene.web(Alpn::Http1).await;
        held.send("GET /hold HTTP/1.1\r\nHost: cart\r\n\r\n").await;
        until("the request to arrive", || scene.app.saw("/hold") == 1).await;
        let mut waiting = scene.web(Alpn::Http1).await;
        waiting.send("GET /next HTTP/1.1\r\nHost: cart\r\n\r\n").await;
        until("the second to wait", || scene.metric("weft_concurrency_waiting", &[]) == 1).await;
        let answer = scene.get("/third").await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains("weft-reason: concurrency-limit\r\n"), "{answer}");
        assert_eq!((scene.app.saw("/next"), scene.app.saw("/third")), (0, 0));
        scene.app.release();
        assert!(held.answer().await.ends_with("hi"));
        assert!(waiting.answer().await.ends_with("hi"));
        assert_eq!(scene.metric("weft_concurrency_waiting", &[]), 0);
    };
    worker::run(test).expect("a runtime");
}

#[test]
fn room_comes_back_with_the_client_that_leaves_and_with_the_upgraded_connections_end() {
    let test = async {
        let scene = Scene::with(narrow(1, 1)).await;
        let mut held = scene.web(Alpn::Http1).await;
        held.send("GET /hold HTTP/1.1\r\nHost: cart\r\n\r\n").await;
        until("the request to arrive", || scene.app.saw("/hold") == 1).await;
        drop(held);
        assert!(scene.get("/").await.ends_with("hi"));

        let mut upgraded = scene.web(Alpn::Http1).await;
        upgraded.send("GET /upgrade HTTP/1.1\r\nHost: cart\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").await;
        assert!(upgraded.answer().await.starts_with("HTTP/1.1 101 "));
        let mut waiting = scene.web(Alpn::Http1).await;
        waiting.send("GET /next HTTP/1.1\r\nHost: cart\r\n\r\n").await;
        until("the next to wait", || scene.metric("weft_concurrency_waiting", &[]) == 1).await;
        drop(upgraded);
        assert!(waiting.answer().await.ends_with("hi"));
    };
    worker::run(test).expect("a runtime");
}

/// Sends a request in two packets, and returns its answer.
async fn in_two_packets(client: &mut Client) -> String {
    client.send("GET / HT").await;
    // The pause is what is tested.
    clock::sleep(Duration::from_millis(20)).await;
    client.send("TP/1.1\r\nHost: cart\r\n\r\n").await;
    client.answer().await
}

#[test]
fn nobody_gets_around_a_limit_by_sending_a_request_slowly() {
    let test = async {
        let scene = Scene::with(limited_within(Protocol::Unspecified, 2, Box::new([]))).await;
        for status in [200, 200, 429, 429] {
            let mut client = scene.web(Alpn::Tcp).await;
            let answer = in_two_packets(&mut client).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        }
        scene.change(InboundPort { protocol: Protocol::Unspecified, ..narrow(1, 0) });
        let mut held = scene.web(Alpn::Http1).await;
        held.send("GET /hold HTTP/1.1\r\nHost: cart\r\n\r\n").await;
        until("the request to arrive", || scene.app.saw("/hold") == 1).await;
        let answer = in_two_packets(&mut scene.web(Alpn::Tcp).await).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    };
    worker::run(test).expect("a runtime");
}

/// An application that begins each connection like a server of HTTP/2, and says nothing more.
async fn settings_first() -> (SocketAddr, Rc<std::cell::Cell<usize>>) {
    let listener = TcpListener::bind("127.0.0.2:0").await.expect("a free port");
    let (address, opened) = (listener.local_addr().expect("bound"), Rc::default());
    let count: Rc<std::cell::Cell<usize>> = Rc::clone(&opened);
    tokio::task::spawn_local(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"\0\0\0\x04\0\0\0\0\0").await;
            count.set(count.get() + 1);
            tokio::task::spawn_local(async move {
                while stream.read(&mut [0; 1024]).await.is_ok_and(|count| count > 0) {}
            });
        }
    });
    (address, opened)
}

#[test]
fn nobody_gets_around_a_limit_by_letting_a_server_of_http2_speak_first() {
    let test = async {
        let (address, opened) = settings_first().await;
        let number = Port::new(address.port()).expect("bound");
        // One for the connection for which the application is dialled, and one for its first request.
        let port = limited_within(Protocol::Unspecified, 2, Box::new([]));
        let inbound = InboundPorts { ports: [(number, port)].into(), others: None };
        let sidecar = Sidecar::new(inbound);
        let silent = || sidecar.secured_for(Some(address), address.port(), Alpn::Tcp);
        let socket = silent().await;
        until("the application to be dialled", || opened.get() == 1).await;
        // The pause is what is tested: the server's bytes come first.
        clock::sleep(Duration::from_millis(20)).await;
        let (mut client, connection) = ::h2::client::handshake(socket).await.expect("HTTP/2");
        tokio::task::spawn_local(async move { drop(connection.await) });
        let mut send = || {
            let request = http::Request::get("http://cart/").body(()).expect("good");
            client.send_request(request, true).expect("open").0
        };
        // The application answers nothing: the first request stays under way.
        let _held = send();
        let response = soon("an answer", send()).await.expect("an answer");
        assert_eq!(response.status(), 429);
        let before = opened.get();
        assert_eq!(Client(silent().await).rest().await, "");
        assert_eq!((sidecar.refused(Reason::RateLimited), opened.get()), (1, before));
    };
    worker::run(test).expect("a runtime");
}

#[test]
fn an_opaque_connection_counts_as_a_request() {
    for protocol in [Protocol::Unspecified, Protocol::Tcp] {
        let test = async {
            let scene = Scene::with(limited_within(protocol, 2, Box::new([]))).await;
            for _ in 0..2 {
                let mut client = scene.web(Alpn::Tcp).await;
                client.send("*1\r\n").await;
                client.reads("*1\r\n").await;
            }
            let mut client = scene.web(Alpn::Tcp).await;
            client.send("*1\r\n").await;
            assert_eq!(client.rest().await, "");
            scene.refused(Reason::RateLimited, 1).await;
            assert_eq!(scene.metric("weft_policy_refusals_total", &["rate-limited"]), 1);
            assert_eq!(scene.app.saw("connection"), 2);
        };
        worker::run(test).expect("a runtime");
    }
}

#[test]
fn where_a_limit_counts_requests_of_a_kind_bytes_must_be_http_unless_the_port_says_what_they_are() {
    let test = async {
        let scene = Scene::with(limited_within(Protocol::Unspecified, 1, within("/search"))).await;
        let mut client = scene.web(Alpn::Tcp).await;
        client.send("*1\r\n").await;
        assert_eq!(client.rest().await, "");
        scene.refused(Reason::ProtocolMismatch, 1).await;
        for status in [200, 429] {
            let answer = scene.get("/search").await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        }
        scene.change(limited_within(Protocol::Tcp, 1, within("/search")));
        for _ in 0..3 {
            let mut client = scene.web(Alpn::Tcp).await;
            client.send("*1\r\n").await;
            client.reads("*1\r\n").await;
        }
    };
    worker::run(test).expect("a runtime");
}

#[test]
fn an_opaque_connection_has_its_turn_for_as_long_as_it_lives() {
    let test = async {
        let port = InboundPort { protocol: Protocol::Unspecified, ..narrow(1, 1) };
        let scene = Scene::with(port).await;
        let mut opaque = scene.web(Alpn::Tcp).await;
        opaque.send("*1\r\n").await;
        opaque.reads("*1\r\n").await;
        let mut waiting = scene.web(Alpn::Tcp).await;
        waiting.send("*2\r\n").await;
        until("it to wait", || scene.metric("weft_concurrency_waiting", &[]) == 1).await;
        assert!(scene.get("/").await.starts_with("HTTP/1.1 503 "));
        drop(opaque);
        waiting.reads("*2\r\n").await;
    };
    worker::run(test).expect("a runtime");
}
