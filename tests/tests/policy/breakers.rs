//! Endpoints that fail are left alone, and come back.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use http::Response;
use weft_proto::api::{EndpointStatus, EndpointsRequest};
use weft_tests::{
    apps::{App, Http, full},
    wait,
};

use crate::stage::{Stage, traffic};

const POLICY: &str = "  circuitBreaking:
    consecutiveFailures: 3
    baseEjection: 1s
    maxEjectedPercent: 50";

/// An application that fails until it is told to be well.
struct Failing {
    is_well: Arc<AtomicBool>,
    asked: Arc<AtomicU32>,
}

impl Failing {
    async fn start() -> (Self, App) {
        let this = Self { is_well: Arc::default(), asked: Arc::default() };
        let (is_well, asked) = (this.is_well.clone(), this.asked.clone());
        let app = App::http_at("127.0.0.1:0".parse().expect("an address"), move |_| {
            asked.fetch_add(1, Ordering::Relaxed);
            let status = if is_well.load(Ordering::Relaxed) { 200 } else { 500 };
            let response = Response::builder().status(status).header("app", "first");
            async move { response.body(full("")).expect("valid") }
        })
        .await;
        (this, app)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_fails_is_left_alone_and_tried_out_again() {
    let (Failing { is_well, asked }, failing) = Failing::start().await;
    let apps = [failing, App::echo_both("echo-v2").await];
    let stage = Stage::serving(apps, &traffic("echo", POLICY)).await;
    let mut client = stage.client(Http::One).await;
    for _ in 0..200 {
        client.get("http://echo/").await;
    }
    let before = asked.load(Ordering::Relaxed);
    assert!(before <= 20, "it was asked {before} times of 200");
    is_well.store(true, Ordering::Relaxed);
    wait::until_true("it to have its share again", || async {
        let mut client = stage.client(Http::One).await;
        let mut first = 0;
        for _ in 0..20 {
            first += usize::from(client.get("http://echo/").await.field("app") == "first");
        }
        first >= 5
    })
    .await;
}

/// The endpoints of echo, as operators see them: that of the first version, then that of the second.
async fn endpoints(stage: &Stage) -> Vec<EndpointStatus> {
    let request = EndpointsRequest { service: "mesh/echo:80".to_owned() };
    let answer = stage.mesh.api().await.endpoints(request).await.expect("the API answers");
    let mut endpoints = answer.into_inner().endpoints;
    endpoints.sort_by(|one, other| one.workload.cmp(&other.workload));
    endpoints
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_see_who_has_ejected_an_endpoint_until_it_is_in_use_again() {
    let (Failing { is_well, .. }, failing) = Failing::start().await;
    let apps = [failing, App::echo_both("echo-v2").await];
    let mut stage = Stage::serving(apps, &traffic("echo", POLICY)).await;
    assert!(endpoints(&stage).await.iter().all(|endpoint| endpoint.ejected_by == 0));
    wait::until_true("the ejection to be seen", || async {
        stage.client(Http::One).await.get("http://echo/").await;
        endpoints(&stage).await[0].ejected_by == 1
    })
    .await;
    let seen = endpoints(&stage).await;
    let ejection = &seen[0].ejections[0];
    assert_eq!((&*ejection.workload, &*ejection.cause), ("mesh/web", "consecutive-failures"));
    assert_eq!(seen[1].ejected_by, 0);

    stage.mesh.kill_control_plane();
    stage.mesh.start_control_plane().await;
    wait::until_true("it to be seen by the next control plane", || async {
        endpoints(&stage).await.first().is_some_and(|first| first.ejected_by == 1)
    })
    .await;
    // Half open or not, since when it has been out of use stays the same.
    let since = endpoints(&stage).await[0].ejections[0].since;
    assert!((since - ejection.since).abs() < 1_000, "{since} {}", ejection.since);

    is_well.store(true, Ordering::Relaxed);
    wait::until_true("nothing to be ejected", || async {
        stage.client(Http::One).await.get("http://echo/").await;
        endpoints(&stage).await.iter().all(|endpoint| endpoint.ejected_by == 0)
    })
    .await;
}
