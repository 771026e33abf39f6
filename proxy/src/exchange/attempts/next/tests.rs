//! Where the next attempt goes. Nothing is dialled: attempts end as the test says.

use std::{ops::Range, sync::Arc};

use http::{Method, Version};
use weft_proto::Port;

use super::*;
use crate::{
    balance::EndpointSet,
    clock,
    destination::Service,
    discovery::{Destination, Endpoint},
    exchange::{
        Exchange, Origin, Outbound,
        attempts::Routed,
        tests::{run, stage::Stage},
    },
    http::{Body, Fields, Interim, Request, RequestHead},
    policy::RequestPolicy,
    reason::Reason,
};

fn request() -> Request {
    let head = RequestHead {
        method: Method::GET,
        target: "/".parse().expect("a path"),
        version: Version::HTTP_11,
        headers: Fields::new(),
        upgrade: None,
        accepts_trailers: false,
    };
    Request { head, body: Body::Empty, interim: Interim::default() }
}

/// The service has endpoints at these ports from now on.
fn pin(stage: &Stage, ports: Range<u16>) {
    let endpoint = |number| {
        let address = ([127, 0, 0, 1], number).into();
        Arc::new(Endpoint::plain(address, Port::new(80).expect("a port")))
    };
    let mut destination = Destination::empty("shop/cart:80".into());
    destination.endpoints = ports.map(endpoint).collect();
    stage.pin_destination(destination);
}

/// A request to a service, and all that its attempts need.
struct Called {
    service: Rc<Service>,
    exchange: Exchange,
    snapshot: Rc<EndpointSet>,
    policy: RequestPolicy,
    request: Request,
}

impl Called {
    /// To a service with this many endpoints.
    async fn at(stage: &Stage, endpoints: u16) -> Self {
        pin(stage, 9_000..9_000 + endpoints);
        let service = stage.service().await;
        let origin = Origin::Outbound(Outbound::to(service.clone()));
        let exchange = Exchange::new(stage.client().clone(), origin);
        let snapshot = service.snapshot();
        Self { service, exchange, snapshot, policy: RequestPolicy::default(), request: request() }
    }

    /// Its attempts, none made yet.
    fn call(&mut self) -> Call<'_> {
        let Self { service, exchange, snapshot, policy, request } = self;
        let routed = Routed { service, snapshot, policy, deadline: None };
        Call::new(exchange, routed, request, clock::now())
    }
}

fn failed(error: ProxyError, kept_connection: bool) -> Result<Answer, Failure> {
    Err(Failure { error, kept_connection })
}

#[test]
fn what_found_a_kept_connection_closed_goes_to_the_same_endpoint_first() {
    run(async {
        let stage = Stage::new();
        let mut called = Called::at(&stage, 5).await;
        for _ in 0..20 {
            let mut call = called.call();
            let first = call.choose().expect("there are endpoints").member;
            let mut ended = failed(ProxyError::new(Reason::ConnectionLost, ""), true);
            let same = call.next(&first, &mut ended).await.expect("in time").expect("resent");
            assert!(Rc::ptr_eq(&same.member, &first));
            assert!(call.kept_connection_failed, "on a new connection");
            let mut ended = failed(ProxyError::new(Reason::ConnectRefused, ""), false);
            let other = call.next(&first, &mut ended).await.expect("in time").expect("retried");
            assert!(!Rc::ptr_eq(&other.member, &first), "that was the endpoint's failure");
        }
    });
}

#[test]
fn an_endpoint_is_chosen_when_the_wait_is_over() {
    run(async {
        let stage = Stage::new();
        let mut called = Called::at(&stage, 3).await;
        let snapshot = called.snapshot.clone();
        let mut call = called.call();
        let first = call.choose().expect("there are endpoints").member;
        let mut others =
            snapshot.destination.endpoints.iter().filter(|it| it.id != first.endpoint.id);
        let (good, bad) = (others.next().expect("two"), others.next().expect("two"));
        let long_ms = 60_000;
        bad.health.connect_failed(clock::process_ms(), long_ms);
        let mut ended = failed(ProxyError::after_send(Reason::ConnectionLost, ""), false);
        let change = async {
            bad.health.connected();
            good.health.connect_failed(clock::process_ms(), long_ms);
        };
        let (next, ()) = tokio::join!(call.next(&first, &mut ended), change);
        let next = next.expect("in time").expect("another attempt").member;
        assert_eq!(next.endpoint.id, bad.id, "they have changed places meanwhile");
    });
}

#[test]
fn endpoints_that_went_during_the_wait_are_not_tried() {
    run(async {
        let stage = Stage::new();
        let mut called = Called::at(&stage, 3).await;
        let mut call = called.call();
        let first = call.choose().expect("there are endpoints").member;
        let mut ended = failed(ProxyError::after_send(Reason::ConnectionLost, ""), false);
        let change = async { pin(&stage, 9_100..9_101) };
        let (next, ()) = tokio::join!(call.next(&first, &mut ended), change);
        let next = next.expect("in time").expect("another attempt").member;
        assert_eq!(next.endpoint.address.port(), 9_100, "the one that is there now");
        assert!(call.tried.is_empty(), "what was tried is gone");
    });
}

#[test]
fn a_service_that_went_during_the_wait_gets_no_further_attempt() {
    run(async {
        let stage = Stage::new();
        let mut called = Called::at(&stage, 3).await;
        let mut call = called.call();
        let first = call.choose().expect("there are endpoints").member;
        let mut ended = failed(ProxyError::after_send(Reason::ConnectionLost, ""), false);
        let change = async { pin(&stage, 0..0) };
        let (next, ()) = tokio::join!(call.next(&first, &mut ended), change);
        assert!(next.expect("in time").is_none(), "the failure goes to the client");
    });
}

#[test]
fn an_endpoint_that_is_gone_is_not_sent_what_found_its_kept_connection_closed() {
    run(async {
        let stage = Stage::new();
        let mut called = Called::at(&stage, 1).await;
        let mut call = called.call();
        let first = call.choose().expect("there is an endpoint").member;
        pin(&stage, 9_100..9_101);
        let mut ended = failed(ProxyError::new(Reason::ConnectionLost, ""), true);
        let next = call.next(&first, &mut ended).await.expect("in time").expect("resent").member;
        assert_eq!(next.endpoint.address.port(), 9_100);
    });
}
