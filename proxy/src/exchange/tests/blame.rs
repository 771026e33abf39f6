//! What counts against an endpoint when a time is over, and what does not: the client's and the proxy's own delays.

use std::{sync::Arc, time::Duration};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

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
        fault::Fault,
        limits::ServiceLimits,
        timeout::{Limit, RequestTimeouts},
    },
};

const GET: &str = "GET / HTTP/1.1\r\nHost: cart\r\nConnection: close\r\n\r\n";

/// One failure ejects an endpoint, and requests have this much time.
fn breaking(endpoints: Vec<Endpoint>, request: Duration) -> Destination {
    let settings = BreakerSettings {
        consecutive_failures: 1,
        consecutive_path_failures: 1,
        base_ejection: Duration::from_secs(60),
        panic_percent: 0,
        ..BreakerSettings::default()
    };
    let timeouts = RequestTimeouts { request: Limit::After(request), ..RequestTimeouts::default() };
    Destination {
        endpoints: endpoints.into_iter().map(Arc::new).collect(),
        breaking: Some(Arc::new(settings)),
        requests: Arc::new(RequestPolicy { timeouts, ..RequestPolicy::default() }),
        ..Destination::empty("shop/cart:80".into())
    }
}

fn ejections(stage: &Stage) -> f64 {
    stage.count("weft_ejections_total", "shop/cart:80")
}

fn ok() -> Reply {
    Reply::status("200 OK", "", "hi")
}

#[test]
fn an_endpoint_that_hangs_until_the_requests_time_is_over_has_failed() {
    run(async {
        let stage = Stage::new();
        let app = Application::start(|_| Reply::Silence).await;
        stage.pin_destination(breaking(vec![app.plain()], Duration::from_millis(100)));
        assert!(stage.ask(GET).await.contains("weft-reason: request-timeout"));
        assert_eq!(ejections(&stage), 1.0);
    });
}

#[test]
fn a_wait_for_a_connections_place_does_not_count() {
    run(async {
        let stage = Stage::new();
        let app = Application::start(|_| ok()).await;
        let limits = ServiceLimits { max_connections: 1, ..ServiceLimits::default() };
        let destination = Destination {
            limits: Some(Arc::new(limits)),
            ..breaking(vec![app.plain()], Duration::from_millis(100))
        };
        let held = destination.state.connections.now(1).expect("the only place");
        stage.pin_destination(destination);
        assert!(stage.ask(GET).await.contains("weft-reason: request-timeout"));
        assert_eq!(ejections(&stage), 0.0);
        drop(held);
        assert!(stage.ask(GET).await.starts_with("HTTP/1.1 200"));
    });
}

#[test]
fn an_attempts_time_begins_with_its_place() {
    run(async {
        let stage = Stage::new();
        let app = Application::start(|_| ok()).await;
        let limits = ServiceLimits { max_connections: 1, ..ServiceLimits::default() };
        let mut destination = Destination {
            limits: Some(Arc::new(limits)),
            ..breaking(vec![app.plain()], Duration::from_secs(20))
        };
        let mut requests = RequestPolicy::default();
        requests.timeouts.attempt = Limit::After(Duration::from_millis(100));
        destination.requests = Arc::new(requests);
        let held = destination.state.connections.now(1).expect("the only place");
        stage.pin_destination(destination);
        let later = async {
            clock::sleep(Duration::from_millis(300)).await;
            drop(held);
        };
        let (answer, ()) = tokio::join!(stage.ask(GET), later);
        assert!(
            answer.starts_with("HTTP/1.1 200") && !answer.contains("weft-attempts"),
            "{answer}"
        );
    });
}

#[test]
fn a_client_that_is_slow_with_its_body_does_not_count() {
    run(async {
        let stage = Stage::new();
        let app = Application::start(|_| ok()).await;
        stage.pin_destination(breaking(vec![app.plain()], Duration::from_millis(200)));
        let begun =
            "PUT / HTTP/1.1\r\nHost: cart\r\nConnection: close\r\nContent-Length: 8\r\n\r\nx";
        let answer = stage.ask(begun).await;
        assert!(answer.contains("weft-reason: request-timeout"), "{answer}");
        assert_eq!(ejections(&stage), 0.0);
    });
}

#[test]
fn a_client_that_is_slow_to_read_does_not_count() {
    run(async {
        let stage = Stage::new();
        let content = "x".repeat(16 << 20);
        let app = Application::start(move |_| Reply::status("200 OK", "", &content)).await;
        stage.pin_destination(breaking(vec![app.plain()], Duration::from_millis(300)));
        let mut socket = stage.connect().await;
        socket.write_all(GET.as_bytes()).await.expect("open");
        socket.flush().await.expect("open");
        clock::sleep(Duration::from_millis(600)).await;
        let mut received = Vec::new();
        let _ = socket.read_to_end(&mut received).await;
        assert!(received.starts_with(b"HTTP/1.1 200") && received.len() < 16 << 20);
        assert_eq!(stage.count("weft_requests_failed_total", "request-timeout"), 1.0);
        assert_eq!(ejections(&stage), 0.0);
    });
}

#[test]
fn a_delay_that_a_policy_injects_does_not_count() {
    run(async {
        let stage = Stage::new();
        let app = Application::start(|_| Reply::Silence).await;
        let mut destination = breaking(vec![app.plain()], Duration::from_millis(500));
        let fault = Fault {
            operations: Box::default(),
            percent: 100.0,
            delay: Duration::from_millis(400),
            abort: None,
        };
        let requests = RequestPolicy { faults: [fault].into(), ..(*destination.requests).clone() };
        destination.requests = Arc::new(requests);
        stage.pin_destination(destination);
        assert!(stage.ask(GET).await.contains("weft-reason: request-timeout"));
        assert_eq!((app.count(), ejections(&stage)), (1, 0.0));
    });
}

#[test]
fn a_slow_upload_makes_no_endpoint_slow() {
    run(async {
        let stage = Stage::new();
        let app = Application::start(|_| ok()).await;
        stage.pin(vec![app.plain()], RequestPolicy::default());
        let mut socket = stage.connect().await;
        let head = "PUT / HTTP/1.1\r\nHost: cart\r\nConnection: close\r\nContent-Length: 2\r\n\r\n";
        socket.write_all(head.as_bytes()).await.expect("open");
        for _ in 0..2 {
            socket.flush().await.expect("open");
            clock::sleep(Duration::from_millis(400)).await;
            socket.write_all(b"x").await.expect("open");
        }
        socket.flush().await.expect("open");
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer).await;
        assert!(answer.starts_with(b"HTTP/1.1 200"));
        let snapshot = stage.service().await.snapshot();
        let latency = snapshot.members().next().expect("it was asked").latency();
        assert!(latency < Duration::from_millis(300), "{latency:?}");
    });
}
