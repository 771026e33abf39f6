//! What a proxy is told, and what it may say.

use tonic::Code;
use weft_proto::{
    api::EndpointsRequest,
    discovery::{
        Deregister, Register, RegisteredPort, ResourceKind, Update, control_message,
        proxy_message::Kind, target, update::Body,
    },
};

use crate::{
    harness::Plane,
    sidecar::{Stream, Svid, Trust, channel, held, hello, ids, join},
};

const CART: &str = "shop/cart:8080";

/// A control plane with `web` that calls and `cart` that serves, and their certificates.
async fn shop(flags: &[&str]) -> (Plane, Svid, Svid) {
    let plane = Plane::start(flags).await;
    plane.apply("Workload", "web", "{}").await;
    plane.apply("Workload", "cart", r#"{"service":"cart","port":8080}"#).await;
    let (_, token) = plane.token("web", 0, 0).await;
    let web = join(&plane, &token, "shop/web").await.unwrap();
    let (_, token) = plane.token("cart", 0, 0).await;
    let cart = join(&plane, &token, "shop/cart").await.unwrap();
    (plane, web, cart)
}

#[tokio::test]
async fn a_stream_needs_a_certificate_that_fits_its_workload() {
    let (plane, web, _) = shop(&[]).await;
    let none = Stream::open(&plane, web.trust(), None, hello("shop/web", "0", "a")).await;
    assert_eq!(none.err().unwrap().code(), Code::Unauthenticated);
    for (workload, instance, code, says) in [
        ("shop/cart", "0", Code::PermissionDenied, "sa/web"),
        ("other/web", "0", Code::PermissionDenied, "other/web"),
        ("shop/none", "0", Code::PermissionDenied, "no Workload shop/none"),
        ("web", "0", Code::InvalidArgument, "web"),
        ("shop/web", "", Code::InvalidArgument, "instance"),
    ] {
        let hello = hello(workload, instance, "a");
        let refused = Stream::open(&plane, web.trust(), Some(&web), hello).await.err().unwrap();
        assert_eq!(refused.code(), code, "{refused:?}");
        assert!(refused.message().contains(says), "{refused:?}");
    }
}

#[tokio::test]
async fn a_ready_instance_becomes_an_endpoint_with_the_objects_identity_and_goes_when_it_leaves() {
    let (plane, web, cart) = shop(&[]).await;
    let mut caller = Stream::of(&plane, &web, hello("shop/web", "0", "a")).await;
    let target = caller.get(ResourceKind::Target, "cart:8080").await;
    let Some(Body::Target(found)) = target.body else { panic!("a target") };
    assert_eq!(found.found, Some(target::Found::Service(CART.into())));
    let empty = caller.get(ResourceKind::Service, CART).await;
    assert!(ids(&empty).0.is_empty());

    let mut server = Stream::of(&plane, &cart, hello("shop/cart", "0", "a")).await;
    server.register(4143, false).await;
    let Some(Body::Inbound(inbound)) = server.get(ResourceKind::Inbound, "").await.body else {
        panic!("inbound ports")
    };
    assert_eq!((inbound.ports[0].port, inbound.ports[0].service.as_str()), (8080, CART));
    caller.nothing_is_due().await;
    server.health(true).await;
    let update = caller.take().await;
    assert_eq!(ids(&update), (vec!["shop/cart/0:8080"], vec![]));
    let endpoint = &update.endpoints.as_ref().unwrap().upserted[0];
    assert_eq!(endpoint.identities, ["spiffe://weft.local/ns/shop/sa/cart"]);
    assert_eq!((endpoint.address.as_str(), endpoint.meshed), ("127.0.0.1:4143", true));

    server.health(false).await;
    assert_eq!(ids(&caller.take().await), (vec![], vec!["shop/cart/0:8080"]));
    server.health(true).await;
    caller.take().await;
    server.send(Kind::Deregister(Deregister { reason: "drained".into() })).await;
    assert_eq!(ids(&caller.take().await), (vec![], vec!["shop/cart/0:8080"]));
}

#[tokio::test]
async fn a_registration_that_the_object_does_not_allow_is_refused_until_it_does() {
    let (plane, _, cart) = shop(&[]).await;
    let mut server = Stream::of(&plane, &cart, hello("shop/cart", "0", "a")).await;
    let port =
        RegisteredPort { name: String::new(), app_port: 9090, address: "127.0.0.1:4143".into() };
    server.send(Kind::Register(Register { ports: vec![port] })).await;
    let control_message::Kind::Registration(answer) = server.next().await.unwrap() else {
        panic!("an answer")
    };
    assert!(!answer.accepted);
    assert!(answer.reason.contains("9090") && answer.reason.contains("8080"), "{answer:?}");

    plane.apply("Workload", "cart", r#"{"service":"cart","port":9090}"#).await;
    let control_message::Kind::Registration(answer) = server.next().await.unwrap() else {
        panic!("another answer")
    };
    assert!(answer.accepted, "{answer:?}");
}

#[tokio::test]
async fn one_changed_endpoint_of_ten_thousand_travels_as_one() {
    let (plane, web, cart) = shop(&[]).await;
    let addresses: Vec<_> = (0..9_999u32)
        .map(|index| format!(r#"{{"address":"10.1.{}.{}"}}"#, index / 250, index % 250))
        .collect();
    plane.apply("Workload", "cart", r#"{"service":"cart","port":8080}"#).await;
    for (number, some) in addresses.chunks(250).enumerate() {
        let spec = format!(r#"{{"service":"cart","port":8080,"addresses":[{}]}}"#, some.join(","));
        plane.apply("Workload", &format!("listed-{number}"), &spec).await;
    }
    let mut server = Stream::of(&plane, &cart, hello("shop/cart", "0", "a")).await;
    server.register(4143, false).await;

    let mut caller = Stream::of(&plane, &web, hello("shop/web", "0", "a")).await;
    let mut count = ids(&caller.get(ResourceKind::Service, CART).await).0.len();
    while count < 9_999 {
        count += ids(&caller.take().await).0.len();
    }
    server.health(true).await;
    let update = caller.take().await;
    assert_eq!(ids(&update), (vec!["shop/cart/0:8080"], vec![]));
    assert_eq!(update.body, None, "the service itself has not changed");
    caller.nothing_is_due().await;
}

#[tokio::test]
async fn a_reconnected_proxy_gets_only_what_changed_meanwhile() {
    let (plane, web, cart) = shop(&[]).await;
    let mut servers = Vec::new();
    for instance in ["0", "1"] {
        let mut server = Stream::of(&plane, &cart, hello("shop/cart", instance, "a")).await;
        server.register(4143, true).await;
        servers.push(server);
    }
    plane.until("both are ready", |all| all.iter().filter(|proxy| proxy.ready).count() == 2).await;
    let mut caller = Stream::of(&plane, &web, hello("shop/web", "0", "a")).await;
    let first = caller.get(ResourceKind::Service, CART).await;
    assert_eq!(ids(&first).0.len(), 2);
    drop(caller);

    let mut again = hello("shop/web", "0", "a");
    again.held = vec![held(&[&first])];
    let mut caller = Stream::of(&plane, &web, again.clone()).await;
    caller.nothing_is_due().await;
    drop(caller);

    servers[1].health(false).await;
    plane.until("one is ready", |all| all.iter().filter(|proxy| proxy.ready).count() == 1).await;
    let mut caller = Stream::of(&plane, &web, again).await;
    assert_eq!(ids(&caller.take().await), (vec![], vec!["shop/cart/1:8080"]));
}

#[tokio::test]
async fn a_refused_update_shows_with_its_reason_and_the_next_one_starts_from_what_is_in_force() {
    let (plane, web, cart) = shop(&[]).await;
    let mut caller = Stream::of(&plane, &web, hello("shop/web", "0", "a")).await;
    let first = caller.get(ResourceKind::Service, CART).await;
    let mut server = Stream::of(&plane, &cart, hello("shop/cart", "0", "a")).await;
    server.register(4143, true).await;
    let update = caller.update().await;
    caller.nack(&update, "endpoints[0].address: not mine").await;
    plane
        .until("the refusal shows", |all| {
            let web = all.iter().find(|proxy| proxy.workload == "shop/web").unwrap();
            let resource = web.resources.iter().find(|held| held.name == CART).unwrap();
            resource.last_nack == "endpoints[0].address: not mine"
                && resource.acked_version == first.version
                && resource.sent_version == update.version
        })
        .await;
    server.send(Kind::Deregister(Deregister::default())).await;
    caller.nothing_is_due().await;
    let mut other = Stream::of(&plane, &cart, hello("shop/cart", "1", "a")).await;
    other.register(4144, true).await;
    let update = caller.take().await;
    assert_eq!(ids(&update), (vec!["shop/cart/1:8080"], vec![]), "instance 0 never was in force");
}

#[tokio::test]
async fn a_name_that_nobody_has_is_answered_and_told_of_when_it_comes() {
    let (plane, web, _) = shop(&[]).await;
    let mut caller = Stream::of(&plane, &web, hello("shop/web", "0", "a")).await;
    let nobody = caller.get(ResourceKind::Target, "pay:9000").await;
    let Some(Body::Target(answer)) = nobody.body else { panic!("a target") };
    assert!(matches!(answer.found, Some(target::Found::NotFound(_))), "{answer:?}");
    plane.apply("Service", "pay", r#"{"ports":[{"port":9000}]}"#).await;
    let Some(Body::Target(answer)) = caller.take().await.body else { panic!("a target") };
    assert_eq!(answer.found, Some(target::Found::Service("shop/pay:9000".into())));
}

#[tokio::test]
async fn a_new_stream_takes_the_instance_over_and_the_old_ones_end_removes_nothing() {
    let (plane, web, cart) = shop(&["--registration-grace=1ms"]).await;
    let mut old = Stream::of(&plane, &cart, hello("shop/cart", "0", "a")).await;
    old.register(4143, true).await;
    let mut caller = Stream::of(&plane, &web, hello("shop/web", "0", "a")).await;
    plane.until("it is ready", |all| all.iter().any(|proxy| proxy.ready)).await;
    assert_eq!(ids(&caller.get(ResourceKind::Service, CART).await).0.len(), 1);

    let mut new = Stream::of(&plane, &cart, hello("shop/cart", "0", "a")).await;
    new.register(4143, true).await;
    let goodbye = loop {
        match old.next().await.unwrap() {
            control_message::Kind::Goodbye(goodbye) => break goodbye,
            control_message::Kind::Registration(_) => {}
            other => panic!("a goodbye is due, not {other:?}"),
        }
    };
    assert!(goodbye.reason.contains("another stream"), "{goodbye:?}");
    drop(old);
    // The grace period of a millisecond has passed many times when a whole question is answered.
    plane.until("it is there", |all| all.iter().any(|proxy| proxy.ready && proxy.connected)).await;
    caller.nothing_is_due().await;

    drop(new);
    assert_eq!(
        ids(&caller.take().await),
        (vec![], vec!["shop/cart/0:8080"]),
        "after the grace period"
    );
}

#[tokio::test]
async fn too_many_subscriptions_end_the_stream_with_the_limit() {
    let (plane, web, _) = shop(&["--max-subscriptions=2"]).await;
    let mut caller = Stream::of(&plane, &web, hello("shop/web", "0", "a")).await;
    caller.get(ResourceKind::Mesh, "").await;
    caller.get(ResourceKind::Target, "cart:8080").await;
    caller.subscribe(crate::sidecar::key(ResourceKind::Target, "pay:1")).await;
    let refused = caller.next().await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains('2') && refused.message().contains("pay:1"), "{refused:?}");
}

#[tokio::test]
async fn operators_see_endpoints_with_what_keeps_them_from_use() {
    let (plane, _, cart) = shop(&[]).await;
    let mut server = Stream::of(&plane, &cart, hello("shop/cart", "0", "a")).await;
    server.register(4143, false).await;
    plane
        .until("it reported", |all| all.iter().any(|proxy| proxy.health_detail == "as probed"))
        .await;
    let mut api = plane.api().await;
    let request = EndpointsRequest { service: "shop/cart".into() };
    let endpoints = api.endpoints(request).await.unwrap().into_inner().endpoints;
    assert_eq!(endpoints.len(), 1);
    assert!(!endpoints[0].ready && endpoints[0].detail == "as probed", "{endpoints:?}");
    let request = EndpointsRequest { service: "shop/none".into() };
    assert_eq!(api.endpoints(request).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_client_that_trusts_another_root_does_not_connect() {
    let (plane, web, _) = shop(&[]).await;
    assert!(channel(&plane, Trust::Pin([7; 32]), Some(&web)).await.is_err());
}

#[tokio::test]
async fn a_route_reaches_callers_without_the_endpoints_and_goes_with_its_object() {
    let (plane, web, cart) = shop(&[]).await;
    let mut server = Stream::of(&plane, &cart, hello("shop/cart", "0", "a")).await;
    server.register(4143, true).await;
    let mut caller = Stream::of(&plane, &web, hello("shop/web", "0", "a")).await;
    let before = caller.get(ResourceKind::Service, CART).await;
    let routes = |update: &Update| match &update.body {
        Some(Body::Service(service)) => service.routes.clone(),
        _ => panic!("the service: {update:?}"),
    };
    assert_eq!(routes(&before), None);
    let spec = r#"{"parentRefs":[{"group":"","kind":"Service","name":"cart"}],"rules":[{"backendRefs":[{"name":"cart","port":8080},{"name":"v2","port":80}]}]}"#;
    plane.apply("HTTPRoute", "split", spec).await;
    let update = caller.take().await;
    let http = routes(&update).unwrap().http.unwrap();
    assert_eq!((http.rules.len(), http.matches.len()), (1, 1));
    assert_eq!(http.rules[0].name, "HTTPRoute shop/split rules[0]");
    assert_eq!(ids(&update), (vec![], vec![]), "its endpoints are held");
    plane.delete("HTTPRoute", "split").await;
    let update = caller.take().await;
    assert_eq!((routes(&update), update.version), (None, before.version));
}
