//! What one proxy is sent, refuses and acknowledges.

use std::collections::BTreeSet;

use weft_proto::discovery::{self, Endpoint, Mesh, ResourceKind, Service};

use super::*;
use crate::index::HeldEndpoint;

fn key() -> ResourceKey {
    ResourceKey { kind: ResourceKind::Service.into(), name: "shop/cart:80".into() }
}

fn endpoint(index: usize, zone: &str) -> Arc<Endpoint> {
    let id = format!("shop/cart/{index}:8080");
    Arc::new(Endpoint { id, zone: zone.into(), ..Endpoint::default() })
}

fn content(endpoints: impl IntoIterator<Item = Arc<Endpoint>>) -> Content {
    Content::Service(Arc::new(service(endpoints)))
}

fn service(endpoints: impl IntoIterator<Item = Arc<Endpoint>>) -> ServiceContent {
    let service = Service { name: "cart".into(), ..Service::default() };
    let service_digest = digest::of_message(&service);
    let endpoints: BTreeMap<Arc<str>, HeldEndpoint> = endpoints
        .into_iter()
        .map(|endpoint| {
            let digest = digest::of_message(&*endpoint);
            (endpoint.id.as_str().into(), HeldEndpoint { endpoint, digest })
        })
        .collect();
    let digest = content::digest_of(service_digest, endpoints.values().map(|held| held.digest));
    ServiceContent { service: service.into(), service_digest, endpoints, digest }
}

fn next(subscription: &mut Subscription, content: &Content) -> Option<Update> {
    subscription.next(&key(), content, |_| false, None)
}

/// Sends and acknowledges until the proxy has it all; returns the updates.
fn settle(subscription: &mut Subscription, content: &Content) -> Vec<Update> {
    let mut updates = Vec::new();
    while let Some(update) = next(subscription, content) {
        assert_eq!(subscription.ack(&update.version), Acknowledged::Now(None));
        updates.push(update);
    }
    updates
}

/// What a proxy holds after these updates.
fn apply(updates: &[Update]) -> BTreeSet<String> {
    let mut held = BTreeSet::new();
    for delta in updates.iter().filter_map(|update| update.endpoints.as_ref()) {
        if delta.reset {
            held.clear();
        }
        held.extend(delta.upserted.iter().map(|endpoint| endpoint.id.clone()));
        for id in &delta.removed {
            assert!(held.remove(id), "{id} was not there");
        }
    }
    held
}

#[test]
fn one_changed_endpoint_of_ten_thousand_travels_as_one_and_without_the_service() {
    let mut subscription = Subscription::default();
    let all = settle(&mut subscription, &content((0..10_000).map(|index| endpoint(index, "a"))));
    assert_eq!(all.len(), 5, "the first ones come in pieces");
    assert!(all[0].endpoints.as_ref().unwrap().reset);
    assert_eq!(apply(&all).len(), 10_000);

    let zone = |index| if index == 5_000 { "b" } else { "a" };
    let changed = content((0..10_000).map(|index| endpoint(index, zone(index))));
    let updates = settle(&mut subscription, &changed);
    assert_eq!(updates.len(), 1);
    assert_eq!(updates[0].body, None);
    let delta = updates[0].endpoints.as_ref().unwrap();
    assert!(!delta.reset && delta.removed.is_empty());
    assert_eq!(delta.upserted.len(), 1);
    assert_eq!(delta.upserted[0].id, "shop/cart/5000:8080");
}

#[test]
fn nothing_more_is_sent_while_an_update_is_under_way() {
    let mut subscription = Subscription::default();
    let first = next(&mut subscription, &content([endpoint(0, "a")])).unwrap();
    let later = content([endpoint(0, "b")]);
    assert_eq!(next(&mut subscription, &later), None);
    assert_eq!(subscription.ack("0000000000000000"), Acknowledged::Stale);
    assert_eq!(next(&mut subscription, &later), None);
    subscription.ack(&first.version);
    assert!(next(&mut subscription, &later).is_some());
}

#[test]
fn after_a_refusal_the_next_difference_starts_from_what_is_in_force() {
    let mut subscription = Subscription::default();
    settle(&mut subscription, &content([endpoint(0, "a"), endpoint(1, "a")]));
    let bad = content([endpoint(0, "bad"), endpoint(2, "bad")]);
    let update = next(&mut subscription, &bad).unwrap();
    assert!(subscription.nack(&update.version));
    assert_eq!(next(&mut subscription, &bad), None, "the same is not sent again");
    let good = next(&mut subscription, &content([endpoint(0, "a"), endpoint(2, "c")])).unwrap();
    let delta = good.endpoints.unwrap();
    assert_eq!(delta.upserted.len(), 1, "endpoint 0 is what the proxy has");
    assert_eq!(delta.upserted[0].id, "shop/cart/2:8080");
    assert_eq!(delta.removed, ["shop/cart/1:8080"]);
}

#[test]
fn a_resumed_subscription_gets_only_what_differs() {
    let before = service((0..3).map(|index| endpoint(index, "a")));
    let held = || Held {
        key: Some(key()),
        version: digest::version(before.digest),
        endpoints: before
            .endpoints
            .values()
            .map(|one| discovery::HeldEndpoint { id: one.endpoint.id.clone(), digest: one.digest })
            .collect(),
    };
    let same = Content::Service(Arc::new(before.clone()));
    assert_eq!(next(&mut Subscription::resumed(held()), &same), None);

    let mut subscription = Subscription::resumed(held());
    let now = content([endpoint(0, "a"), endpoint(1, "b"), endpoint(3, "a")]);
    let delta = next(&mut subscription, &now).unwrap().endpoints.unwrap();
    assert!(!delta.reset);
    let ids: Vec<_> = delta.upserted.iter().map(|endpoint| endpoint.id.as_str()).collect();
    assert_eq!(ids, ["shop/cart/1:8080", "shop/cart/3:8080"]);
    assert_eq!(delta.removed, ["shop/cart/2:8080"]);
}

#[test]
fn what_is_withheld_stays_until_it_is_not_and_new_ones_are_added_meanwhile() {
    let mut subscription = Subscription::default();
    let mut updates = settle(&mut subscription, &content([endpoint(0, "a"), endpoint(1, "a")]));
    let now = content([endpoint(2, "a")]);
    let update = subscription.next(&key(), &now, |id| id.contains("/1:"), None).unwrap();
    let delta = update.endpoints.as_ref().unwrap();
    assert_eq!(delta.removed, ["shop/cart/0:8080"]);
    subscription.ack(&update.version);
    updates.push(update);
    assert_eq!(subscription.next(&key(), &now, |id| id.contains("/1:"), None), None);
    assert_eq!(apply(&updates).len(), 2);

    updates.extend(settle(&mut subscription, &now));
    assert_eq!(apply(&updates).into_iter().collect::<Vec<_>>(), ["shop/cart/2:8080"]);
    let Content::Service(now) = now else { unreachable!() };
    assert_eq!(subscription.held_version(), Some(&*digest::version(now.digest)));
}

#[test]
fn gone_and_back_again_starts_anew() {
    let mut subscription = Subscription::default();
    settle(&mut subscription, &content([endpoint(0, "a")]));
    let gone = settle(&mut subscription, &Content::Gone);
    assert!(matches!(gone[0].body, Some(Body::Gone(_))));
    let back = settle(&mut subscription, &content([endpoint(0, "a")]));
    assert!(back[0].endpoints.as_ref().unwrap().reset);
    assert!(back[0].body.is_some());
}

#[test]
fn a_whole_resource_is_sent_once_per_content() {
    let mesh = |domain: &str| {
        let mesh = Mesh { trust_domain: domain.into(), ..Mesh::default() };
        Content::Whole(Box::new(Body::Mesh(mesh)))
    };
    let mut subscription = Subscription::default();
    assert_eq!(settle(&mut subscription, &mesh("a")).len(), 1);
    assert_eq!(settle(&mut subscription, &mesh("a")).len(), 0);
    assert_eq!(settle(&mut subscription, &mesh("b")).len(), 1);
}

#[test]
fn whatever_changes_and_whatever_is_refused_the_proxy_ends_with_the_content() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut subscription = Subscription::default();
        let mut accepted = Vec::new();
        for _ in 0..20 {
            let ids: Vec<_> = (0..12).filter(|_| random.bool()).collect();
            let now = content(ids.iter().map(|id| endpoint(*id, ["a", "b"][random.usize(..2)])));
            if let Some(update) = next(&mut subscription, &now) {
                if random.u8(..4) == 0 {
                    assert!(subscription.nack(&update.version), "seed {seed}");
                } else {
                    subscription.ack(&update.version);
                    accepted.push(update);
                }
            }
        }
        let last = content((0..5).map(|id| endpoint(id, "last")));
        accepted.extend(settle(&mut subscription, &last));
        assert_eq!(apply(&accepted).len(), 5, "seed {seed}");
    }
}
