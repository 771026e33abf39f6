//! Circuit breaking, limits and faults as the client and the applications see them.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use weft_proto::discovery::Protocol;

use super::{
    run,
    stage::{Application, Reply, Stage},
};
use crate::{
    clock,
    discovery::{Destination, Endpoint},
    policy::{
        RequestPolicy,
        breaker::BreakerSettings,
        fault::{Abort, Fault},
        limits::ServiceLimits,
        timeout::Limit,
    },
};

const GET: &str = "GET / HTTP/1.1\r\nHost: cart\r\nConnection: close\r\n\r\n";

fn destination(endpoints: Vec<Endpoint>) -> Destination {
    let mut destination = Destination::empty("shop/cart:80".into());
    destination.endpoints = endpoints.into_iter().map(Arc::new).collect();
    destination
}

fn breaking(endpoints: Vec<Endpoint>) -> Destination {
    let settings = BreakerSettings {
        consecutive_failures: 3,
        consecutive_path_failures: 3,
        base_ejection: Duration::from_millis(200),
        panic_percent: 0,
        ..BreakerSettings::default()
    };
    Destination { breaking: Some(Arc::new(settings)), ..destination(endpoints) }
}

fn ok() -> Reply {
    Reply::status("200 OK", "", "hi")
}

fn failed() -> Reply {
    Reply::status("500 Internal Server Error", "", "no")
}

async fn until(condition: impl AsyncFn() -> bool) {
    while !condition().await {
        clock::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn an_endpoint_whose_application_fails_is_left_alone_and_tried_out_later() {
    run(async {
        let stage = Stage::new();
        let bad = Application::start(|n| if n < 4 { failed() } else { ok() }).await;
        let good = Application::start(|_| ok()).await;
        stage.pin_destination(breaking(vec![bad.plain(), good.plain()]));
        while bad.count() < 3 {
            stage.ask(GET).await;
        }
        assert_eq!(stage.count("weft_ejections_total", "consecutive-failures"), 1.0);
        assert_eq!(stage.count("weft_ejected_endpoints", "shop/cart:80"), 1.0);
        for _ in 0..20 {
            assert!(stage.ask(GET).await.starts_with("HTTP/1.1 200"));
        }
        assert_eq!(bad.count(), 3, "it is left alone");
        // The first probe fails, the second one closes the breaker.
        until(async || {
            stage.ask(GET).await;
            bad.count() >= 8
        })
        .await;
        assert_eq!(stage.count("weft_ejections_total", "probe"), 1.0);
        assert_eq!(stage.count("weft_ejected_endpoints", "shop/cart:80"), 0.0);
    });
}

#[test]
fn an_ejection_survives_a_change_of_configuration() {
    run(async {
        let stage = Stage::new();
        let bad = Application::start(|_| failed()).await;
        let first = breaking(vec![bad.plain()]);
        let (endpoints, state) = (first.endpoints.clone(), first.state.clone());
        stage.pin_destination(first);
        for _ in 0..3 {
            assert!(stage.ask(GET).await.starts_with("HTTP/1.1 500"));
        }
        let answer = stage.ask(GET).await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.contains("weft-reason: breaker-open"), "{answer}");
        stage.pin_destination(Destination { endpoints, state, ..breaking(Vec::new()) });
        let answer = stage.ask(GET).await;
        assert!(answer.contains("weft-reason: breaker-open"), "{answer}");
        assert_eq!(bad.count(), 3);
    });
}

#[test]
fn connections_that_break_eject_an_endpoint_and_panic_uses_it_all_the_same() {
    run(async {
        let stage = Stage::new();
        let app = Application::start(|_| Reply::Close).await;
        let mut destination = breaking(vec![app.plain()]);
        let settings = destination.breaking.take().expect("set");
        let panicking = BreakerSettings { panic_percent: 50, ..(*settings).clone() };
        destination.breaking = Some(Arc::new(panicking));
        stage.pin_destination(destination);
        until(async || {
            stage.ask(GET).await;
            stage.count("weft_ejections_total", "consecutive-path-failures") > 0.0
        })
        .await;
        let before = app.count();
        let answer = stage.ask(GET).await;
        assert!(answer.contains("weft-reason: connection-lost"), "{answer}");
        assert!(app.count() > before, "all are used");
    });
}

fn limited(endpoints: Vec<Endpoint>, limits: ServiceLimits) -> Destination {
    Destination { limits: Some(Arc::new(limits)), ..destination(endpoints) }
}

#[test]
fn requests_beyond_the_limit_wait_their_turn_and_beyond_the_line_are_refused() {
    run(async {
        let stage = Stage::new();
        let app = Application::start(|n| if n == 0 { Reply::Silence } else { ok() }).await;
        let limits = ServiceLimits {
            max_in_flight: 1,
            max_pending: 1,
            max_wait: Duration::from_secs(10),
            ..ServiceLimits::default()
        };
        // The first holds its place as long as it may take.
        let mut requests = RequestPolicy::default();
        requests.timeouts.attempt = Limit::After(Duration::from_secs(2));
        requests.retry.attempts = 0;
        let requests = Arc::new(requests);
        let destination = Destination { requests, ..limited(vec![app.plain()], limits) };
        let state = destination.state.clone();
        stage.pin_destination(destination);
        let waits = async {
            until(async || app.count() == 1).await;
            stage.ask(GET).await
        };
        let refused = async {
            until(async || state.requests.waiting() == 1).await;
            stage.ask(GET).await
        };
        let (first, second, third) = tokio::join!(stage.ask(GET), waits, refused);
        assert!(first.contains("weft-reason: attempt-timeout"), "{first}");
        assert!(third.contains("weft-reason: service-limit"), "{third}");
        assert!(second.starts_with("HTTP/1.1 200"), "{second}");
        assert_eq!(app.count(), 2);
    });
}

#[test]
fn connections_are_limited_over_all_endpoints_and_idle_ones_are_given_up() {
    run(async {
        let stage = Stage::new();
        let (one, other) = (Application::start(|_| ok()).await, Application::start(|_| ok()).await);
        let limits = ServiceLimits {
            max_connections: 1,
            max_wait: Duration::from_secs(10),
            ..ServiceLimits::default()
        };
        let destination = limited(vec![one.plain(), other.plain()], limits);
        let state = destination.state.clone();
        stage.pin_destination(destination);
        let asks = (0..20).map(|_| async {
            let answer = stage.ask(GET).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            assert!(state.connections.out() <= 1);
        });
        futures_util::future::join_all(asks).await;
        assert_eq!(one.count() + other.count(), 20);
        assert!(one.count() > 0 && other.count() > 0, "each had its turn");
    });
}

#[test]
fn faults_delay_and_abort_what_they_name() {
    run(async {
        let stage = Stage::new();
        let app = Application::start(|_| ok()).await;
        let fault = Fault {
            operations: Box::default(),
            percent: 100.0,
            delay: Duration::from_millis(50),
            abort: Some(Abort { status: Some(StatusCode::IM_A_TEAPOT), grpc_code: Some(8) }),
        };
        let policy = RequestPolicy { faults: [fault].into(), ..RequestPolicy::default() };
        stage.pin(vec![app.plain()], policy);
        let began = clock::now();
        let answer = stage.ask(GET).await;
        assert!(answer.starts_with("HTTP/1.1 418"), "{answer}");
        assert!(answer.contains("weft-reason: fault-injected"), "{answer}");
        assert!(began.elapsed() >= Duration::from_millis(50));
        assert_eq!(app.count(), 0);
    });
}

#[test]
fn a_sidecars_not_delivered_is_a_failure_of_the_way() {
    run(async {
        let stage = Stage::new();
        let app = Application::start(|_| ok()).await;
        let gone = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
            listener.local_addr().expect("bound")
        };
        let bad = stage.meshed(gone, Protocol::Http1).await;
        let good = stage.meshed(app.address, Protocol::Http1).await;
        stage.pin_destination(breaking(vec![bad, good]));
        until(async || {
            let answer = stage.ask(GET).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "retried: {answer}");
            stage.count("weft_ejections_total", "consecutive-path-failures") > 0.0
        })
        .await;
    });
}
