//! Differences to one service: what is rebuilt, what is kept, and what a refused one leaves.

use super::*;
use crate::{
    discovery::Trial,
    policy::{
        breaker::{Availability, Verdict},
        gate::Answer,
    },
};
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
fn only_what_comes_to_a_known_service_is_new() {
    let mut service = held(2);
    let moved = wire::Endpoint { address: "10.9.9.9:8080".to_owned(), ..endpoint(1) };
    let delta = EndpointsDelta { upserted: vec![moved, endpoint(2)], ..EndpointsDelta::default() };
    service.apply(&name(), &update("v2", false, Some(delta))).expect("good");
    let after = destination(&service);
    let is_new = |endpoint: &Arc<Endpoint>| endpoint.health.age_ms(u64::MAX).is_some();
    assert_eq!(after.endpoints.iter().map(is_new).collect::<Vec<_>>(), [false, true, true]);
}

#[test]
fn a_policy_and_the_own_zone_become_the_services_plan() {
    let mut service = Service::seen_from(&"a".into());
    let in_zone = |number, zone: &str| wire::Endpoint { zone: zone.to_owned(), ..endpoint(number) };
    let upserted = vec![in_zone(0, "a"), in_zone(1, "b")];
    let delta = EndpointsDelta { reset: true, upserted, removed: Vec::new() };
    let mut message = update("v1", true, Some(delta));
    if let Some(Body::Service(service)) = &mut message.body {
        let locality = Some(wire::Locality::default());
        let balancing = Some(wire::Balancing { locality, ..wire::Balancing::default() });
        service.endpoint_policy =
            Some(wire::EndpointPolicy { balancing, ..wire::EndpointPolicy::default() });
    }
    service.apply(&name(), &message).expect("good");
    let plan = destination(&service).balancing.clone().expect("a plan");
    assert!(plan.policy.locality.is_some());
    // It goes on when endpoints alone change, and ends with the policy.
    let delta = EndpointsDelta { upserted: vec![in_zone(2, "b")], ..EndpointsDelta::default() };
    service.apply(&name(), &update("v2", false, Some(delta))).expect("good");
    assert!(destination(&service).balancing.is_some());
    service.apply(&name(), &update("v3", true, None)).expect("good");
    assert!(destination(&service).balancing.is_none());
}

/// With a breaker, or without one.
fn with_breaker(version: &str, breaker: Option<wire::Breaker>) -> wire::Update {
    let mut message = update(version, true, None);
    if let Some(Body::Service(service)) = &mut message.body {
        service.endpoint_policy =
            Some(wire::EndpointPolicy { breaker, ..wire::EndpointPolicy::default() });
    }
    message
}

#[test]
fn ejections_end_with_their_endpoint_and_with_their_policy() {
    let mut service = held(3);
    let breaker = wire::Breaker {
        consecutive_failures: 1,
        base_ejection_ms: 600_000,
        max_ejected_percent: 100,
        ..wire::Breaker::default()
    };
    service.apply(&name(), &with_breaker("v2", Some(breaker))).expect("good");
    let before = destination(&service);
    for endpoint in &before.endpoints[..2] {
        let trial = Trial::begin(&before, endpoint, &Arc::default()).expect("closed");
        trial.expect("a policy").judge(Some(Verdict::ApplicationFailure));
    }
    let ejected = |found: &Destination| found.state.breaking.ejected(clock::process_ms());
    assert_eq!(ejected(&before), 2);
    let removed = vec![endpoint(0).id];
    let delta = EndpointsDelta { removed, ..EndpointsDelta::default() };
    service.apply(&name(), &update("v3", false, Some(delta))).expect("good");
    let after = destination(&service);
    assert_eq!(ejected(&after), 1, "one is gone");
    service.apply(&name(), &with_breaker("v4", None)).expect("good");
    let after = destination(&service);
    let availability = after.endpoints[0].health.breaker.availability(clock::process_ms());
    assert_eq!((ejected(&after), availability), (0, Availability::Good));
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

/// The service with these limits, or with none.
fn limited(service: &mut Service, version: &str, limits: Option<wire::ConnectionLimits>) {
    let mut update = update(version, true, None);
    let Some(Body::Service(head)) = &mut update.body else { panic!("it has one") };
    head.endpoint_policy = Some(wire::EndpointPolicy { limits, ..Default::default() });
    service.apply(&name(), &update).expect("good");
}

#[test]
fn who_waits_under_a_limit_waits_no_longer_once_that_is_wider_or_gone() {
    let limits = |most| wire::ConnectionLimits {
        max_in_flight: most,
        max_connections: most,
        ..Default::default()
    };
    let mut service = held(1);
    limited(&mut service, "v2", Some(limits(1)));
    let state = Arc::clone(&destination(&service).state);
    for gate in [&state.requests, &state.connections] {
        let _out = gate.now(1).expect("room");
        let mut line: Vec<_> = (0..4)
            .map(|_| match gate.ask(1, usize::MAX) {
                Answer::Wait(turn) => turn,
                other => panic!("{other:?}"),
            })
            .collect();
        let mut turns = Vec::new();
        let mut served = || {
            turns.extend(line.iter_mut().filter_map(|waits| waits.try_recv().ok()));
            turns.len()
        };
        assert_eq!(served(), 0);
        limited(&mut service, "v3", Some(limits(3)));
        assert_eq!(served(), 2);
        limited(&mut service, "v4", None);
        assert_eq!(served(), 4);
        limited(&mut service, "v5", Some(limits(1)));
    }
    let _out = state.requests.now(1).expect("room");
    let Answer::Wait(mut waits) = state.requests.ask(1, usize::MAX) else { panic!("no room") };
    service.gone("v6");
    assert!(waits.try_recv().is_ok(), "there is no such service, nor a limit of it");
}
