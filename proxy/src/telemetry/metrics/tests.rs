//! What is counted, under which labels, and how many of those there may be.

use super::*;
use crate::telemetry::Retried;

fn outcome(status: u16) -> RequestOutcome {
    RequestOutcome {
        status,
        grpc_status: None,
        reason: None,
        duration: Duration::from_millis(3),
        tls: TlsState::Mutual,
    }
}

/// The value of one sample, named with its labels.
fn sample(metrics: &Metrics, name: &str) -> Option<f64> {
    let text = metrics.text();
    let line = text.lines().find(|line| line.rsplit_once(' ').is_some_and(|(n, _)| n == name))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

#[test]
fn requests_are_counted_by_status_protection_and_reason() {
    let metrics = Metrics::new();
    let cart = metrics.traffic(Direction::Outbound, "shop/cart:80");
    cart.request(&outcome(200));
    cart.request(&outcome(200));
    cart.request(&RequestOutcome {
        reason: Some(Reason::NoEndpoints),
        tls: TlsState::Plain,
        ..outcome(503)
    });
    cart.request(&RequestOutcome { grpc_status: Some(14), ..outcome(200) });
    cart.retried(Retried::Failed(Reason::ConnectRefused));
    let service = r#"direction="outbound",service="shop/cart:80""#;
    for (name, value) in [
        (format!(r#"weft_requests_total{{{service},tls="mutual",status="200"}}"#), 3.0),
        (format!(r#"weft_requests_total{{{service},tls="plain",status="503"}}"#), 1.0),
        (format!(r#"weft_requests_failed_total{{{service},reason="no-endpoints"}}"#), 1.0),
        (format!(r#"weft_grpc_requests_total{{{service},grpc_status="14"}}"#), 1.0),
        (format!(r#"weft_retries_total{{{service},reason="connect-refused"}}"#), 1.0),
        (format!("weft_request_duration_seconds_count{{{service}}}"), 4.0),
        (format!("weft_request_duration_seconds_sum{{{service}}}"), 0.012),
        (format!(r#"weft_request_duration_seconds_bucket{{le="0.002",{service}}}"#), 0.0),
        (format!(r#"weft_request_duration_seconds_bucket{{le="0.003",{service}}}"#), 4.0),
        (format!(r#"weft_request_duration_seconds_bucket{{le="+Inf",{service}}}"#), 4.0),
    ] {
        assert_eq!(sample(&metrics, &name), Some(value), "{name} in\n{}", metrics.text());
    }
}

#[test]
fn one_label_is_one_handle_and_requests_in_flight_come_and_go() {
    let metrics = Metrics::new();
    let one = metrics.traffic(Direction::Inbound, "shop/cart:80");
    assert!(Arc::ptr_eq(&one, &metrics.traffic(Direction::Inbound, "shop/cart:80")));
    assert!(!Arc::ptr_eq(&one, &metrics.traffic(Direction::Outbound, "shop/cart:80")));
    let name = r#"weft_requests_in_flight{direction="inbound",service="shop/cart:80"}"#;
    let in_flight = one.begin();
    assert_eq!(sample(&metrics, name), Some(1.0));
    drop(in_flight);
    assert_eq!(sample(&metrics, name), Some(0.0));
}

#[test]
fn labels_are_bounded() {
    let metrics = Metrics::new();
    for number in 0..5_000 {
        let _ = metrics.traffic(Direction::Outbound, &format!("invented-{number}:80"));
    }
    let overflow = metrics.traffic(Direction::Outbound, "one-more:80");
    assert!(Arc::ptr_eq(&overflow, &metrics.traffic(Direction::Outbound, "other")));
}

#[test]
fn an_impossible_status_is_counted_and_not_a_panic() {
    let metrics = Metrics::new();
    let cart = metrics.traffic(Direction::Outbound, "cart");
    for status in [0, 99, 600, 999, u16::MAX] {
        cart.request(&outcome(status));
    }
    let name = |s| {
        format!(
            r#"weft_requests_total{{direction="outbound",service="cart",tls="mutual",status="{s}"}}"#
        )
    };
    assert_eq!(sample(&metrics, &name(100)), Some(2.0));
    assert_eq!(sample(&metrics, &name(599)), Some(3.0));
}

#[test]
fn connections_are_counted_with_their_bytes() {
    let metrics = Metrics::new();
    let cache = metrics.traffic(Direction::Outbound, "shop/cache:6379");
    let mut connection = cache.connection(TlsState::Mutual);
    connection.carried(10, 20);
    connection.failed(Reason::IdleTimeout);
    drop(connection);
    let service = r#"direction="outbound",service="shop/cache:6379""#;
    for (name, value) in [
        (format!(r#"weft_connections_opened_total{{{service},tls="mutual"}}"#), 1.0),
        (format!(r#"weft_connections_closed_total{{{service},tls="mutual"}}"#), 1.0),
        (format!(r#"weft_connections_failed_total{{{service},reason="idle-timeout"}}"#), 1.0),
        (format!("weft_received_bytes_total{{{service}}}"), 10.0),
        (format!("weft_sent_bytes_total{{{service}}}"), 20.0),
    ] {
        assert_eq!(sample(&metrics, &name), Some(value), "{name} in\n{}", metrics.text());
    }
}
