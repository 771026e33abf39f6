//! Scrapes of sidecars become the rows of the table: what counts as a failure, and what a restart does to counters.

use super::{super::prometheus::parse, *};

fn text(requests: u64, failed: u64) -> String {
    let service = r#"direction="inbound",service="shop/cart:80""#;
    let fast = requests - requests / 10;
    format!(
        r#"
weft_requests_total{{{service},tls="mutual",status="200"}} {requests}
weft_requests_total{{{service},tls="plain",status="503"}} {failed}
weft_requests_total{{direction="outbound",service="shop/web:80",tls="mutual",status="200"}} 99
weft_requests_total{{direction="inbound",service="other",tls="plain",status="200"}} 99
weft_request_duration_seconds_bucket{{le="0.001",{service}}} 0
weft_request_duration_seconds_bucket{{le="0.002",{service}}} {fast}
weft_request_duration_seconds_bucket{{le="+Inf",{service}}} {requests}
weft_connections_opened_total{{direction="inbound",service="shop/cache:6379",tls="mutual"}} {requests}
"#
    )
}

fn replica(index: u32) -> ReplicaName {
    ReplicaName { namespace: "shop".into(), workload: "cart".into(), index }
}

fn of(requests: u64, failed: u64) -> Scrape {
    scrape(&parse(&text(requests, failed)))
}

#[test]
fn a_scrape_counts_what_arrives_by_service() {
    let scrape = of(10, 2);
    assert_eq!(scrape.keys().collect::<Vec<_>>(), ["cache", "cart"]);
    let numbers = scrape["cart"].numbers(Duration::from_secs(2));
    assert_eq!(numbers.requests, 12);
    assert_eq!(numbers.success_rate, Some(10.0 / 12.0));
    assert_eq!(numbers.mtls_share, Some(10.0 / 12.0));
    assert!((numbers.rps - 6.0).abs() < 1e-9);
    let cache = scrape["cache"].numbers(Duration::from_secs(1));
    assert_eq!((cache.requests, cache.success_rate, cache.p50_ms), (10, Some(1.0), None));
}

#[test]
fn a_grpc_error_is_a_failure_though_its_http_status_is_200() {
    let service = r#"direction="inbound",service="shop/inventory:50051""#;
    let scrape = scrape(&parse(&format!(
        "weft_requests_total{{{service},tls=\"mutual\",status=\"200\"}} 4\n\
         weft_grpc_requests_total{{{service},grpc_status=\"0\"}} 3\n\
         weft_grpc_requests_total{{{service},grpc_status=\"14\"}} 1\n"
    )));
    assert_eq!(scrape["inventory"].numbers(Duration::from_secs(1)).success_rate, Some(0.75));
}

#[test]
fn quantiles_are_interpolated_within_their_bucket() {
    for (buckets, wanted, expected) in [
        (vec![], 0.5, None),
        (vec![(1_000, 0), (2_000, 10)], 0.5, Some(1.5)),
        (vec![(1_000, 0), (2_000, 10)], 0.99, Some(1.99)),
        (vec![(1_000, 90), (2_000, 0), (4_000, 10)], 0.95, Some(3.0)),
        (vec![(1_000, 10), (UNBOUND, 10)], 0.99, Some(1.0)),
        (vec![(1_000, 0), (UNBOUND, 3)], 0.5, Some(1.0)),
    ] {
        let found = quantile(&buckets.iter().copied().collect(), wanted);
        match (found, expected) {
            (Some(found), Some(expected)) => {
                assert!((found - expected).abs() < 1e-6, "{buckets:?} {wanted}: {found}");
            }
            (found, expected) => assert_eq!(found, expected, "{buckets:?}"),
        }
    }
}

#[test]
fn only_what_came_after_the_beginning_counts_also_over_a_restart_of_a_sidecar() {
    let start = weft_proxy::clock::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut recorder = Recorder::new(start, BTreeMap::from([(replica(0), of(1_000, 500))]));
    recorder.record(at(1), BTreeMap::from([(replica(0), of(1_010, 500)), (replica(1), of(5, 0))]));
    // The first one's sidecar was started again; the second one's did not answer.
    recorder.record(at(2), BTreeMap::from([(replica(0), of(7, 0))]));
    recorder.record(at(3), BTreeMap::from([(replica(1), of(8, 0))]));
    let overall = recorder.overall();
    assert_eq!(overall["cart"].requests, 10 + 5 + 7 + 3);
    assert_eq!(overall["cart"].success_rate, Some(1.0));
    assert!((overall["cart"].rps - 25.0 / 3.0).abs() < 1e-9);
}

#[test]
fn the_recent_past_leaves_out_what_is_long_ago() {
    let start = weft_proxy::clock::now();
    let mut recorder = Recorder::new(start, BTreeMap::new());
    for second in 1..=60 {
        let counted = if second <= 30 { second * 100 } else { 3_000 };
        let scrapes = BTreeMap::from([(replica(0), of(counted, 0))]);
        recorder.record(start + Duration::from_secs(second), scrapes);
    }
    assert_eq!(recorder.recent()["cart"].requests, 0);
    assert_eq!(recorder.recent()["cart"].success_rate, None);
    assert_eq!(recorder.overall()["cart"].requests, 3_000);
}
