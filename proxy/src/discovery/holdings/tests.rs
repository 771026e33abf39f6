//! What is subscribed to and held, over updates that cross, move, vanish or are refused.

use super::*;
use weft_proto::discovery::{EndpointsDelta, Gone, NotFound, Update, target::Found};

fn ask(holdings: &mut Holdings, name: &str) -> Vec<ResourceKey> {
    let mut effects = Effects::default();
    holdings.ask(&name.into(), &mut effects);
    effects.subscribe
}

fn apply(holdings: &mut Holdings, update: &Update) -> (Reply, Effects) {
    let mut effects = Effects::default();
    let reply = holdings.apply(update, &mut effects);
    (reply, effects)
}

fn update(key: ResourceKey, body: Option<Body>) -> Update {
    Update { key: Some(key), version: "v".to_owned(), body, endpoints: None }
}

fn target(name: &str, found: Found) -> Update {
    update(target_key(name), Some(Body::Target(wire::Target { found: Some(found) })))
}

fn cart() -> ServicePort {
    "shop/cart:80".parse().expect("a service port")
}

fn cart_update() -> Update {
    let service = wire::Service {
        namespace: "shop".to_owned(),
        name: "cart".to_owned(),
        port: 80,
        ..wire::Service::default()
    };
    let endpoints = Some(EndpointsDelta { reset: true, ..EndpointsDelta::default() });
    Update { endpoints, ..update(service_key(&cart()), Some(Body::Service(service))) }
}

/// Holdings in which `cart:80` stands for the cart, which is answered.
fn resolved() -> Holdings {
    let mut holdings = Holdings::default();
    ask(&mut holdings, "cart:80");
    apply(&mut holdings, &target("cart:80", Found::Service(cart().to_string())));
    let (reply, effects) = apply(&mut holdings, &cart_update());
    assert_eq!(reply, Reply::Ack);
    assert_eq!(effects.resolved.len(), 1);
    holdings
}

#[test]
fn what_is_forgotten_before_it_was_asked_for_is_not_subscribed_to() {
    let mut holdings = Holdings::default();
    let mut effects = Effects::default();
    holdings.ask(&"cart:80".into(), &mut effects);
    holdings.ask(&"web:80".into(), &mut effects);
    holdings.forget(&"cart:80".into(), &mut effects);
    assert_eq!(effects.subscribe, [target_key("web:80")]);
    assert!(effects.unsubscribe.is_empty(), "{effects:?}");
    // Forgotten and asked for again: the answer under way is the old question's.
    let mut effects = Effects::default();
    holdings.forget(&"web:80".into(), &mut effects);
    holdings.ask(&"web:80".into(), &mut effects);
    assert_eq!(effects.unsubscribe, [target_key("web:80")]);
    assert_eq!(effects.subscribe, [target_key("web:80")]);
}

#[test]
fn updates_that_cross_with_an_unsubscription_are_left_aside() {
    let mut holdings = resolved();
    holdings.forget(&"cart:80".into(), &mut Effects::default());
    let not_found = target("cart:80", Found::NotFound(NotFound {}));
    assert_eq!(apply(&mut holdings, &not_found).0, Reply::Silence);
    assert_eq!(apply(&mut holdings, &cart_update()).0, Reply::Silence);
    // Subscribed again: endpoints alone belong to what was held before.
    ask(&mut holdings, "cart:80");
    apply(&mut holdings, &target("cart:80", Found::Service(cart().to_string())));
    let delta =
        Update { endpoints: Some(EndpointsDelta::default()), ..update(service_key(&cart()), None) };
    assert_eq!(apply(&mut holdings, &delta).0, Reply::Silence);
    assert_eq!(apply(&mut holdings, &cart_update()).0, Reply::Ack);
    assert_eq!(apply(&mut holdings, &delta).0, Reply::Ack);
}

#[test]
fn a_target_that_moves_to_another_service_keeps_the_last_answer_until_the_new_one() {
    let mut holdings = resolved();
    let (reply, effects) =
        apply(&mut holdings, &target("cart:80", Found::Service("shop/new:80".into())));
    assert_eq!(reply, Reply::Ack);
    assert!(effects.resolved.is_empty(), "{effects:?}");
    assert_eq!(effects.subscribe, [service_key(&"shop/new:80".parse().expect("valid"))]);
    assert_eq!(effects.unsubscribe, [service_key(&cart())]);
}

#[test]
fn a_service_is_kept_for_its_other_names() {
    let mut holdings = resolved();
    ask(&mut holdings, "cart.shop:80");
    let again = target("cart.shop:80", Found::Service(cart().to_string()));
    let (_, effects) = apply(&mut holdings, &again);
    assert!(effects.subscribe.is_empty());
    assert!(matches!(&effects.resolved[..], [(_, Resolution::Mesh(_))]));
    let mut effects = Effects::default();
    holdings.forget(&"cart:80".into(), &mut effects);
    assert_eq!(effects.unsubscribe, [target_key("cart:80")]);
    let mut effects = Effects::default();
    holdings.forget(&"cart.shop:80".into(), &mut effects);
    assert_eq!(effects.unsubscribe, [target_key("cart.shop:80"), service_key(&cart())]);
    assert_eq!(holdings.counts(), (0, 0));
}

#[test]
fn a_service_that_a_route_names_is_held_by_its_own_name_and_shared_with_targets() {
    let mut holdings = Holdings::default();
    assert_eq!(ask(&mut holdings, "shop/cart:80"), [service_key(&cart())]);
    let (reply, effects) = apply(&mut holdings, &cart_update());
    assert_eq!(reply, Reply::Ack);
    assert!(
        matches!(&effects.resolved[..], [(name, Resolution::Mesh(_))] if **name == *"shop/cart:80")
    );
    assert_eq!(holdings.counts(), (0, 1));

    ask(&mut holdings, "cart:80");
    let (_, effects) = apply(&mut holdings, &target("cart:80", Found::Service(cart().to_string())));
    assert!(effects.subscribe.is_empty());
    let (_, effects) = apply(&mut holdings, &cart_update());
    assert_eq!(effects.resolved.len(), 2);

    let mut effects = Effects::default();
    holdings.forget(&"shop/cart:80".into(), &mut effects);
    assert!(effects.unsubscribe.is_empty(), "{effects:?}");
    // What is held already is answered at once.
    holdings.ask(&"shop/cart:80".into(), &mut effects);
    assert!(effects.subscribe.is_empty() && effects.resolved.len() == 1, "{effects:?}");
    holdings.forget(&"cart:80".into(), &mut Effects::default());
    let mut effects = Effects::default();
    holdings.forget(&"shop/cart:80".into(), &mut effects);
    assert_eq!(effects.unsubscribe, [service_key(&cart())]);
    assert_eq!(holdings.counts(), (0, 0));

    let mut effects = Effects::default();
    holdings.ask(&"shop/web:80".into(), &mut effects);
    holdings.forget(&"shop/web:80".into(), &mut effects);
    assert!(effects.subscribe.is_empty() && effects.unsubscribe.is_empty(), "{effects:?}");
}

#[test]
fn a_service_that_is_gone_is_not_found_and_may_come_back() {
    let mut holdings = resolved();
    let gone = update(service_key(&cart()), Some(Body::Gone(Gone {})));
    let (reply, effects) = apply(&mut holdings, &gone);
    assert_eq!(reply, Reply::Ack);
    assert!(matches!(&effects.resolved[..], [(_, Resolution::NotFound)]));
    let (_, effects) = apply(&mut holdings, &cart_update());
    assert!(matches!(&effects.resolved[..], [(_, Resolution::Mesh(_))]));
}

#[test]
fn what_does_not_fit_its_key_is_refused_and_changes_nothing() {
    let mut holdings = resolved();
    let before = holdings.resume().0.len();
    for (bad, expected) in [
        (Update::default(), "key: missing"),
        (update(key(ResourceKind::Unspecified, ""), None), "not a kind that this proxy knows"),
        (update(key(ResourceKind::Mesh, ""), None), "RESOURCE_KIND_MESH"),
        (update(key(ResourceKind::Inbound, "a"), Some(Body::Gone(Gone {}))), "key.name: \"a\""),
        (update(key(ResourceKind::Mesh, ""), Some(Body::Gone(Gone {}))), "RESOURCE_KIND_MESH"),
        (update(target_key("cart:80"), Some(Body::Mesh(wire::Mesh::default()))), "KIND_TARGET"),
        (update(target_key("cart:80"), Some(Body::Target(wire::Target::default()))), "KIND_TARGET"),
        (target("cart:80", Found::Service("cart".to_owned())), "target.service: \"cart\""),
        (
            target("cart:80", Found::Endpoint(wire::DirectEndpoint::default())),
            "endpoint.endpoint: \"\": the endpoint is missing",
        ),
        (update(key(ResourceKind::Service, "cart"), None), "key.name: \"cart\""),
        (
            update(service_key(&cart()), Some(Body::Inbound(wire::Inbound::default()))),
            "KIND_SERVICE",
        ),
    ] {
        let (reply, effects) = apply(&mut holdings, &bad);
        let Reply::Nack(reason) = reply else { panic!("{expected}: {reply:?}") };
        assert!(reason.contains(expected), "{reason} lacks {expected}");
        assert!(effects.resolved.is_empty() && effects.unsubscribe.is_empty(), "{expected}");
    }
    assert_eq!(holdings.resume().0.len(), before);
    assert_eq!(holdings.counts(), (1, 1));
}

#[test]
fn a_workload_that_nobody_declares_serves_nothing() {
    let mut holdings = Holdings::default();
    let gone = update(key(ResourceKind::Inbound, ""), Some(Body::Gone(Gone {})));
    let (reply, effects) = apply(&mut holdings, &gone);
    assert_eq!(reply, Reply::Ack);
    assert!(effects.inbound.expect("an answer").ports.is_empty());
}

#[test]
fn a_service_that_becomes_a_passthrough_is_given_up_and_comes_back() {
    let mut holdings = resolved();
    let outside = target("cart:80", Found::Passthrough(wire::Passthrough {}));
    let (reply, effects) = apply(&mut holdings, &outside);
    assert_eq!(reply, Reply::Ack);
    assert!(matches!(&effects.resolved[..], [(_, Resolution::Outside)]), "{effects:?}");
    assert_eq!(effects.unsubscribe, [service_key(&cart())]);

    let (_, effects) = apply(&mut holdings, &target("cart:80", Found::Service(cart().to_string())));
    // What is asked for again is awaited; until then the last answer stays.
    assert!(effects.resolved.is_empty(), "{effects:?}");
    assert_eq!(effects.subscribe, [service_key(&cart())]);
    let (_, effects) = apply(&mut holdings, &cart_update());
    assert!(matches!(&effects.resolved[..], [(_, Resolution::Mesh(_))]), "{effects:?}");
}
