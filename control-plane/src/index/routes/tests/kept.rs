//! What is made anew, and what is not.

use weft_proto::{ServiceName, discovery::Protocol};

use super::*;
use crate::model::{EndpointSlice, NamespacedName, SliceEndpoint, SlicePort};

fn slice(address: &str) -> EndpointSlice {
    let namespace: Arc<str> = "shop".into();
    EndpointSlice {
        key: NamespacedName { namespace: Arc::clone(&namespace), name: "cart-1".into() },
        service: ServiceName { namespace, name: "cart".into() },
        ports: vec![SlicePort { name: "http".into(), port: Port::new(80).expect("a port") }],
        endpoints: vec![SliceEndpoint {
            address: address.parse().expect("an address"),
            ready: true,
            serving: true,
            terminating: false,
            pod: None,
            hostname: None,
            zone: "".into(),
        }],
    }
}

#[test]
fn a_services_routes_are_made_anew_for_what_they_are_made_of_and_not_for_its_endpoints() {
    let split = route("HTTPRoute", "shop/split", &to("{name: v2, port: 80}"));
    let theirs = route("HTTPRoute", "web/theirs", &to("{name: cart, namespace: shop, port: 80}"));
    let mut index = index(&[&services(CART), &split, &theirs]);
    let port: ServicePort = "shop/cart:80".parse().expect("valid");
    let declared = |index: &Index, from: &str| {
        let (_, view) = index.service_from(&port, from).expect("it exists");
        let sum = view.endpoints.values().map(|held| held.digest);
        assert_eq!(view.declared, weft_proto::digest::of_message(&**view.declaration));
        assert_eq!(view.digest, sum.fold(view.declared, u64::wrapping_add));
        Arc::clone(view.declaration)
    };
    let before = [declared(&index, "shop"), declared(&index, "web")];
    let changes = index.apply_slice(slice("10.0.0.1"));
    assert_eq!(changes.services, [port.clone()].into());
    let after = [declared(&index, "shop"), declared(&index, "web")];
    assert!(before.iter().zip(&after).all(|(one, other)| Arc::ptr_eq(one, other)));

    // A policy of a rule's requests, a port's protocol, the other service: each makes them anew.
    let policy = "apiVersion: weft.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: p, namespace: shop}\n\
                  spec: {targetRefs: [{kind: HTTPRoute, name: split}], timeouts: {request: 1s}}\n";
    index.apply_all(&objects(policy));
    let rule = declared(&index, "shop")
        .routes
        .clone()
        .and_then(|it| it.http)
        .expect("HTTP")
        .rules
        .remove(0);
    assert_eq!(rule.requests.and_then(|it| it.request_timeout_ms), Some(1_000));
    index.apply_all(&objects(&services(&["shop/cart:80=tcp"])));
    assert_eq!(declared(&index, "shop").routes, None);
    assert_eq!(declared(&index, "shop").protocol(), Protocol::Tcp);
}

#[test]
fn a_route_to_another_port_of_its_parent_does_not_hang_on_the_order_of_objects() {
    let two = "apiVersion: v1\nkind: Service\nmetadata: {name: cart, namespace: shop}\nspec: {ports: [{name: http, port: 80}, {name: db, port: 90, appProtocol: tcp}]}\n";
    let split = route("HTTPRoute", "shop/split", &to("{name: cart, port: 90}"));
    let forwards = objects(&[two, &split].concat());
    let mut backwards = forwards.clone();
    backwards.reverse();
    for all in [forwards, backwards] {
        let mut index = index(&[]);
        for object in &all {
            index.apply(object);
        }
        let refused = "!port 90 of service shop/cart declares a protocol that is not HTTP: correct its appProtocol x1";
        assert_eq!(first_backends(&index, "shop"), [refused]);
        let mut at_once = self::index(&[]);
        at_once.apply_all(&all);
        assert_eq!(first_backends(&at_once, "shop"), [refused]);
    }
}
