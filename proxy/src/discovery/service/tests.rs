//! Differences to one service: what is rebuilt, what is kept, and what a refused one leaves.

use super::*;
use weft_proto::discovery::EndpointsDelta;

fn endpoint(number: usize) -> wire::Endpoint {
    wire::Endpoint {
        id: format!("shop/cart/{number}:8080"),
        address: format!("10.0.{}.{}:8080", number / 250, number % 250 + 1),
        app_port: 8080,
        ..wire::Endpoint::default()
    }
}

fn update(version: &str, body: bool, endpoints: Option<EndpointsDelta>) -> wire::Update {
    let service = wire::Service {
        namespace: "shop".to_owned(),
        name: "cart".to_owned(),
        port: 80,
        ..wire::Service::default()
    };
    wire::Update {
        version: version.to_owned(),
        body: body.then_some(Body::Service(service)),
        endpoints,
        ..wire::Update::default()
    }
}

fn name() -> ServicePort {
    "shop/cart:80".parse().expect("a service port")
}

/// A service with this many endpoints.
fn held(count: usize) -> Service {
    let mut service = Service::default();
    let upserted = (0..count).map(endpoint).collect();
    let delta = EndpointsDelta { reset: true, upserted, removed: Vec::new() };
    service.apply(&name(), &update("v1", true, Some(delta))).expect("good");
    service
}

fn destination(service: &Service) -> Arc<Destination> {
    match service.resolution() {
        Resolution::Mesh(destination) => destination,
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_of_ten_thousand_endpoints_is_rebuilt_alone() {
    let mut service = held(10_000);
    let before = destination(&service);
    let changed = wire::Endpoint { zone: "b".to_owned(), ..endpoint(5_000) };
    let delta = EndpointsDelta { upserted: vec![changed], ..EndpointsDelta::default() };
    service.apply(&name(), &update("v2", false, Some(delta))).expect("good");
    let after = destination(&service);
    let rebuilt: Vec<_> = before
        .endpoints
        .iter()
        .zip(&after.endpoints)
        .filter(|(before, after)| !Arc::ptr_eq(before, after))
        .map(|(_, after)| &*after.id)
        .collect();
    assert_eq!(rebuilt, ["shop/cart/5000:8080"]);
    assert!(Arc::ptr_eq(&before.label, &after.label));
}

#[test]
fn a_reset_keeps_the_health_of_what_comes_again() {
    let mut service = held(2);
    let before = destination(&service);
    let changed = wire::Endpoint { zone: "b".to_owned(), ..endpoint(1) };
    let delta = EndpointsDelta { reset: true, upserted: vec![changed], removed: Vec::new() };
    service.apply(&name(), &update("v2", false, Some(delta))).expect("good");
    let after = destination(&service);
    assert_eq!(after.endpoints.len(), 1);
    assert!(Arc::ptr_eq(&after.endpoints[0].health, &before.endpoints[1].health));
}

#[test]
fn a_refused_update_changes_nothing() {
    let mut service = held(3);
    let before = destination(&service);
    let bad = wire::Endpoint { app_port: 0, ..endpoint(4) };
    let delta = EndpointsDelta {
        reset: true,
        upserted: vec![endpoint(3), bad],
        removed: vec![endpoint(0).id],
    };
    service.apply(&name(), &update("v2", true, Some(delta))).expect_err("port 0");
    assert!(Arc::ptr_eq(&before, &destination(&service)));
    assert_eq!((service.version(), service.held_endpoints().len()), (Some("v1"), 3));
}

#[test]
fn new_fields_alone_keep_the_endpoints() {
    let mut service = held(3);
    service.apply(&name(), &update("v2", true, None)).expect("good");
    assert_eq!(destination(&service).endpoints.len(), 3);
    assert_eq!(service.version(), Some("v2"));
}
