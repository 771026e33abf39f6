//! Rate limits and the concurrency limit over real connections: what clients are told, and when room comes back.

use std::time::Duration;

use super::{scene::*, *};
use crate::policy::{
    concurrency::Concurrency,
    rate_limit::{Key, Rate, RateLimit, RateLimits, Settings},
};

const HOUR: u64 = 3_600_000_000_000;

fn limited(requests: u64) -> InboundPort {
    let settings = Settings {
        policy: "TrafficPolicy shop/cart rateLimits[0]".into(),
        rate: Rate::new(requests, HOUR, requests).expect("not zero"),
        operations: Box::new([]),
        key: Key::All,
    };
    InboundPort {
        rate_limits: RateLimits::new(vec![RateLimit::new(settings)]),
        ..InboundPort::plain(Protocol::Http1, "shop/cart:80".into())
    }
}

fn narrow(max_in_flight: u32, max_pending: u32) -> InboundPort {
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
