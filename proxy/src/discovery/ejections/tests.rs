//! What is said of ejections: changes alone, all of a service at once, and never too much.

use super::*;
use crate::{
    discovery::{Endpoint, EndpointBreaker, EndpointHealth},
    policy::breaker::BreakerSettings,
};

const CART: &str = "shop/cart:80";

fn name(service: &str) -> ServicePort {
    service.parse().expect("a service port")
}

/// A service with so many endpoints, whose policy ejects.
fn service(endpoints: usize) -> Destination {
    let mut destination = Destination::empty("".into());
    destination.breaking = Some(Arc::new(BreakerSettings::default()));
    destination.endpoints = (0..endpoints)
        .map(|n| {
            let port = weft_proto::Port::new(80).expect("a port");
            let plain = Endpoint::plain(([10, 0, 0, 1], 80).into(), port);
            Arc::new(Endpoint { id: format!("e{n}").into(), ..plain })
        })
        .collect();
    destination
}

fn eject(
    destination: &mut Destination,
    index: usize,
    cause: Cause,
    (since_ms, until_ms): (u64, u64),
) {
    let breaker = EndpointBreaker::ejected(Ejection { cause, since_ms, until_ms });
    replace(destination, index, breaker);
}

fn replace(destination: &mut Destination, index: usize, breaker: EndpointBreaker) {
    let known = &destination.endpoints[index];
    let plain = Endpoint::plain(known.address, known.app_port);
    let mut health = EndpointHealth::default();
    health.breaker = breaker;
    let (id, health) = (known.id.clone(), Arc::new(health));
    destination.endpoints[index] = Arc::new(Endpoint { id, health, ..plain });
}

/// As "SERVICE ENDPOINT CAUSE SINCE LEFT", a service without endpoints by its name.
fn said(report: &mut Report, held: &[(ServicePort, Destination)], now_ms: u64) -> Vec<String> {
    let held = held.iter().map(|(name, destination)| (name, destination));
    let services = report.changes(held, now_ms).map(|message| message.services);
    let text = |service: ServiceEjections| {
        let name = service.service;
        let endpoints = service.endpoints.iter().map(|it| {
            let cause = it.cause().as_str_name().trim_start_matches("EJECTION_CAUSE_");
            format!("{name} {} {cause} {} {}", it.endpoint, it.since_ms, it.left_ms)
        });
        let endpoints: Vec<_> = endpoints.collect();
        if endpoints.is_empty() { vec![name] } else { endpoints }
    };
    services.into_iter().flatten().flat_map(text).collect()
}

#[test]
fn only_what_has_changed_is_said_and_all_of_it_on_a_new_stream() {
    let mut report = Report::default();
    let mut held = [(name(CART), service(3)), (name("shop/other:80"), service(1))];
    assert!(said(&mut report, &held, 0).is_empty());
    eject(&mut held[0].1, 1, Cause::SuccessRate, (1_000, 6_000));
    let once = said(&mut report, &held, 2_000);
    assert_eq!(once, ["shop/cart:80 e1 SUCCESS_RATE 1000 4000"]);
    assert!(said(&mut report, &held, 7_000).is_empty(), "half open follows from the time");
    report.begin();
    let again = said(&mut report, &held, 7_000);
    assert_eq!(again, ["shop/cart:80 e1 SUCCESS_RATE 6000 0"]);
    replace(&mut held[0].1, 1, EndpointBreaker::default());
    assert_eq!(said(&mut report, &held, 8_000), [CART]);
    assert!(said(&mut report, &held, 9_000).is_empty());
}

#[test]
fn a_failed_probe_keeps_what_the_endpoint_was_ejected_for() {
    let note = EjectionNote::default();
    note.write(Cause::ConsecutivePathFailures, 100);
    note.write(Cause::Probe, 5_100);
    let ejection = note.read(15_100);
    assert_eq!((ejection.cause, ejection.since_ms), (Cause::ConsecutivePathFailures, 100));
}

#[test]
fn without_a_policy_nothing_is_ejected() {
    let mut report = Report::default();
    let mut held = [(name(CART), service(1))];
    eject(&mut held[0].1, 0, Cause::FailurePercent, (0, 9_000));
    assert_eq!(said(&mut report, &held, 0).len(), 1);
    held[0].1.breaking = None;
    assert_eq!(said(&mut report, &held, 0), [CART]);
}

#[test]
fn a_service_that_is_held_no_longer_is_not_spoken_of() {
    let mut report = Report::default();
    let mut held = [(name(CART), service(1))];
    eject(&mut held[0].1, 0, Cause::FailurePercent, (0, 9_000));
    assert_eq!(said(&mut report, &held, 0).len(), 1);
    assert!(said(&mut report, &[], 0).is_empty());
    assert_eq!(said(&mut report, &held, 0).len(), 1, "it is new to the control plane");
}

#[test]
fn never_more_is_said_than_the_control_plane_takes_in() {
    let mut report = Report::default();
    let mut held = [(name("shop/a:80"), service(700)), (name("shop/b:80"), service(700))];
    for (_, destination) in &mut held {
        for index in 0..700 {
            eject(destination, index, Cause::FailurePercent, (0, 9_000));
        }
    }
    assert_eq!(said(&mut report, &held, 0).len(), MAX_ENDPOINTS);
    // What becomes free is given to those that were left out, the smaller part first.
    for index in 0..650 {
        replace(&mut held[0].1, index, EndpointBreaker::default());
    }
    let more = said(&mut report, &held, 0);
    assert_eq!(more.len(), 50 + 700);
    assert!(more[0].starts_with("shop/a:80"), "{}", more[0]);
}
