//! The client against a control plane that the test plays, on paused time.

mod fake;

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;
use weft_proto::{
    digest,
    discovery::{self as wire, ResourceKind, control_message, proxy_message::Kind, target::Found},
};

use super::*;
use fake::{
    FakeControlPlane, FakeStream, Proxy, eager, endpoint, endpoints_of, patiently, service,
    settings, target,
};

const CART: &str = "shop/cart:80";

fn stands_for(name: &str, service: &str) -> wire::Update {
    target(name, Found::Service(service.to_owned()))
}

/// Waits until the answer is a destination of the mesh, and returns it.
async fn in_mesh(live: &mut Subscription<Resolution>) -> Arc<Destination> {
    let resolution = patiently(live.wait_for(|now| matches!(now, Resolution::Mesh(_)))).await;
    match &*resolution.expect("live") {
        Resolution::Mesh(destination) => Arc::clone(destination),
        other => panic!("{other:?}"),
    }
}

fn ids(destination: &Destination) -> Vec<&str> {
    destination.endpoints.iter().map(|endpoint| &*endpoint.id).collect()
}

/// A worker asks for the cart, and the control plane answers with these endpoints.
async fn cart(
    proxy: &Proxy,
    stream: &mut FakeStream,
    endpoints: Vec<wire::Endpoint>,
) -> Subscription<Resolution> {
    let mut live = proxy.directory.resolve("cart:80");
    assert_eq!(stream.subscribed().await, ["Target cart:80"]);
    stream.update(stands_for("cart:80", CART));
    assert_eq!(stream.subscribed().await, [format!("Service {CART}")]);
    assert_eq!(stream.acked().await, "target-cart:80");
    stream.update(service(CART, "v1", endpoints));
    assert_eq!(stream.acked().await, "v1");
    in_mesh(&mut live).await;
    live
}

#[tokio::test(start_paused = true)]
async fn a_stream_begins_with_who_this_is_and_the_eager_set() {
    let control_plane = FakeControlPlane::start();
    let proxy = Proxy::start(&control_plane, settings());
    let mut stream = control_plane.accept().await;
    let hello = stream.hello().await;
    assert_eq!((hello.workload.as_str(), hello.zone.as_str()), ("shop/web", "a"));
    assert_eq!(hello.held, []);
    assert_eq!(stream.subscribed().await, ["Inbound", "Mesh", "Trust"]);
    assert!(!proxy.directory.status().borrow().waits_for().is_empty());
    assert!(proxy.directory.mesh().is_none());
    stream.answer_eager_set().await;
    let mut status = proxy.directory.status();
    patiently(status.wait_for(|status| status.waits_for().is_empty())).await.expect("live");
    assert_eq!(proxy.directory.mesh().expect("answered").namespaces, ["shop", "payments"]);
    assert!(proxy.directory.inbound().borrow().as_ref().expect("answered").ports.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_destination_is_resolved_in_two_steps_and_equal_questions_are_one() {
    let control_plane = FakeControlPlane::start();
    let (proxy, mut stream) = Proxy::ready(&control_plane).await;
    let other_worker = proxy.directory.resolve("cart:80");
    let live = cart(&proxy, &mut stream, vec![endpoint("a", "10.0.0.1:4143")]).await;
    let Resolution::Mesh(destination) = &*live.borrow() else { panic!("not in the mesh") };
    assert_eq!(destination.service.as_ref().expect("a service").to_string(), CART);
    assert_eq!(&*destination.label, CART);
    assert_eq!(ids(destination), ["a"]);
    let Resolution::Mesh(shared) = &*other_worker.borrow() else { panic!("not in the mesh") };
    assert!(Arc::ptr_eq(destination, shared));
    assert!(proxy.metrics.text().contains(r#"weft_discovery_subscriptions{kind="service"} 1"#));
}

#[tokio::test(start_paused = true)]
async fn two_names_of_one_service_share_its_subscription() {
    let control_plane = FakeControlPlane::start();
    let (proxy, mut stream) = Proxy::ready(&control_plane).await;
    let _cart = cart(&proxy, &mut stream, vec![endpoint("a", "10.0.0.1:4143")]).await;
    let mut full = proxy.directory.resolve("cart.shop.svc.cluster.local:80");
    assert_eq!(stream.subscribed().await, ["Target cart.shop.svc.cluster.local:80"]);
    stream.update(stands_for("cart.shop.svc.cluster.local:80", CART));
    assert_eq!(stream.acked().await, "target-cart.shop.svc.cluster.local:80");
    assert_eq!(ids(&*in_mesh(&mut full).await), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn one_changed_endpoint_leaves_the_others_shared_and_keeps_its_health() {
    let control_plane = FakeControlPlane::start();
    let (proxy, mut stream) = Proxy::ready(&control_plane).await;
    let endpoints = vec![
        endpoint("a", "10.0.0.1:4143"),
        endpoint("b", "10.0.0.2:4143"),
        endpoint("c", "10.0.0.3:4143"),
    ];
    let mut live = cart(&proxy, &mut stream, endpoints).await;
    let before = in_mesh(&mut live).await;
    before.endpoints[1].health.connect_failed(0, 1_000);
    let changed = wire::Endpoint { zone: "z".to_owned(), ..endpoint("b", "10.0.0.2:4143") };
    let delta = wire::EndpointsDelta {
        reset: false,
        upserted: vec![changed, endpoint("d", "10.0.0.4:4143")],
        removed: vec!["c".to_owned()],
    };
    stream.update(endpoints_of(CART, "v2", delta));
    assert_eq!(stream.acked().await, "v2");
    let after = in_mesh(&mut live).await;
    assert_eq!(ids(&after), ["a", "b", "d"]);
    assert!(Arc::ptr_eq(&before.endpoints[0], &after.endpoints[0]), "a is the same");
    assert_eq!(&*after.endpoints[1].zone, "z");
    assert!(after.endpoints[1].health.in_backoff(500), "b's health goes on");
}

#[tokio::test(start_paused = true)]
async fn a_bad_update_is_refused_with_the_field_and_the_last_good_one_stays() {
    let control_plane = FakeControlPlane::start();
    let (proxy, mut stream) = Proxy::ready(&control_plane).await;
    let mut live = cart(&proxy, &mut stream, vec![endpoint("a", "10.0.0.1:4143")]).await;
    let bad = vec![endpoint("b", "10.0.0.2:4143"), endpoint("c", "nowhere:1")];
    stream.update(service(CART, "v2", bad));
    let reason = stream.nacked().await;
    assert_eq!(reason, r#"endpoints[c].address: "nowhere:1": use IP:PORT"#);
    assert_eq!(ids(&*in_mesh(&mut live).await), ["a"]);
    let text = proxy.metrics.text();
    assert!(
        text.contains(r#"weft_discovery_updates_total{kind="service",answer="nack"} 1"#),
        "{text}"
    );
    stream.update(service(CART, "v3", vec![endpoint("b", "10.0.0.2:4143")]));
    assert_eq!(stream.acked().await, "v3");
    assert_eq!(ids(&*in_mesh(&mut live).await), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_outside_is_answered_at_once_and_never_asked() {
    let control_plane = FakeControlPlane::start();
    let (proxy, mut stream) = Proxy::ready(&control_plane).await;
    for outside in ["example.com:443", "192.0.2.1:80", "[2001:db8::1]:443"] {
        let live = proxy.directory.resolve(outside);
        assert!(matches!(*live.borrow(), Resolution::Outside), "{outside}");
    }
    let _asked = proxy.directory.resolve("10.1.2.3:80");
    assert_eq!(stream.subscribed().await, ["Target 10.1.2.3:80"]);
}

#[tokio::test(start_paused = true)]
async fn a_negative_answer_is_live() {
    let control_plane = FakeControlPlane::start();
    let (proxy, mut stream) = Proxy::ready(&control_plane).await;
    let mut live = proxy.directory.resolve("cart:80");
    assert_eq!(stream.subscribed().await, ["Target cart:80"]);
    stream.update(target("cart:80", Found::NotFound(wire::NotFound {})));
    stream.acked().await;
    let not_found = live.wait_for(|now| matches!(now, Resolution::NotFound));
    assert!(patiently(not_found).await.is_ok());
    stream.update(stands_for("cart:80", CART));
    assert_eq!(stream.subscribed().await, [format!("Service {CART}")]);
    stream.acked().await;
    stream.update(service(CART, "v1", Vec::new()));
    assert_eq!(ids(&*in_mesh(&mut live).await), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_workload_is_dialled_by_its_address() {
    let control_plane = FakeControlPlane::start();
    let (proxy, mut stream) = Proxy::ready(&control_plane).await;
    let mut live = proxy.directory.resolve("10.0.0.9:8080");
    stream.subscribed().await;
    let direct = wire::DirectEndpoint {
        endpoint: Some(endpoint("shop/cart/0:8080", "10.0.0.9:8080")),
        protocol: wire::Protocol::Grpc.into(),
        service: String::new(),
    };
    stream.update(target("10.0.0.9:8080", Found::Endpoint(direct)));
    let destination = in_mesh(&mut live).await;
    assert_eq!(destination.service, None);
    assert_eq!(&*destination.label, "10.0.0.9:8080");
    assert_eq!(ids(&destination), ["shop/cart/0:8080"]);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_holds_is_unsubscribed_after_a_while() {
    let control_plane = FakeControlPlane::start();
    let (proxy, mut stream) = Proxy::ready(&control_plane).await;
    let live = cart(&proxy, &mut stream, Vec::new()).await;
    let _held = proxy.directory.resolve("web:80");
    stream.subscribed().await;
    let dropped = Instant::now();
    drop(live);
    let gone = stream.unsubscribed().await;
    assert_eq!(gone, [format!("Service {CART}"), "Target cart:80".to_owned()]);
    assert!(dropped.elapsed() >= table::IDLE, "{:?}", dropped.elapsed());
    let answers = proxy.directory.answers();
    let names: Vec<_> = answers.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["web:80"]);
}

#[tokio::test(start_paused = true)]
async fn a_new_stream_says_what_is_held_and_nothing_is_lost_meanwhile() {
    let control_plane = FakeControlPlane::start();
    let (proxy, mut stream) = Proxy::ready(&control_plane).await;
    let held = endpoint("a", "10.0.0.1:4143");
    let mut live = cart(&proxy, &mut stream, vec![held.clone()]).await;
    control_plane.set_up(false);
    drop(stream);
    let mut status = proxy.directory.status();
    patiently(status.wait_for(|status| !status.connected)).await.expect("live");
    assert_eq!(ids(&*in_mesh(&mut live).await), ["a"]);
    assert!(status.borrow().waits_for().is_empty(), "still ready");
    assert!(proxy.metrics.text().contains("weft_discovery_connected 0"));
    let asked_meanwhile = proxy.directory.resolve("web:80");
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(matches!(*asked_meanwhile.borrow(), Resolution::Pending));

    control_plane.set_up(true);
    let mut stream = control_plane.accept().await;
    let hello = stream.hello().await;
    let held_versions: BTreeMap<_, _> = hello
        .held
        .iter()
        .map(|held| {
            let key = held.key.as_ref().expect("a key");
            ((key.kind(), key.name.as_str()), held.version.as_str())
        })
        .collect();
    let expected = BTreeMap::from([
        ((ResourceKind::Mesh, ""), "Mesh-1"),
        ((ResourceKind::Inbound, ""), "Inbound-1"),
        ((ResourceKind::Target, "cart:80"), "target-cart:80"),
        ((ResourceKind::Service, CART), "v1"),
    ]);
    assert_eq!(held_versions, expected);
    let endpoints: Vec<_> =
        hello.held.iter().flat_map(|held| held.endpoints.iter().cloned()).collect();
    let digest = digest::of_message(&held);
    assert_eq!(endpoints, [wire::HeldEndpoint { id: "a".to_owned(), digest }]);
    assert_eq!(stream.subscribed().await, ["Target web:80", "Trust"]);
    let delta = wire::EndpointsDelta {
        upserted: vec![endpoint("b", "10.0.0.2:4143")],
        ..wire::EndpointsDelta::default()
    };
    stream.update(endpoints_of(CART, "v2", delta));
    assert_eq!(stream.acked().await, "v2");
    assert_eq!(ids(&*in_mesh(&mut live).await), ["a", "b"]);
}

fn goodbye(reason: &str, replaced: bool) -> control_message::Kind {
    control_message::Kind::Goodbye(wire::Goodbye { reason: reason.to_owned(), replaced })
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_brings_the_proxy_back_within_half_a_second() {
    let control_plane = FakeControlPlane::start();
    let (_proxy, stream) = Proxy::ready(&control_plane).await;
    let said = Instant::now();
    stream.send(goodbye("rollout", false));
    control_plane.accept().await.hello().await;
    assert!(said.elapsed() <= Duration::from_millis(510), "{:?}", said.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_another_replaces_comes_back_ever_later() {
    let control_plane = FakeControlPlane::start();
    let (_proxy, mut stream) = Proxy::ready(&control_plane).await;
    let mut waits = Vec::new();
    for _ in 0..6 {
        let said = Instant::now();
        stream.send(goodbye("another sidecar", true));
        stream = control_plane.accept().await;
        stream.hello().await;
        waits.push(said.elapsed());
    }
    assert!(waits[0] <= Duration::from_millis(200), "{waits:?}");
    assert!(waits[5] >= Duration::from_millis(1_600), "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_serves_nothing_takes_its_leave_as_well() {
    let control_plane = FakeControlPlane::start();
    let (proxy, mut stream) = Proxy::ready(&control_plane).await;
    proxy.directory.deregister();
    assert!(matches!(stream.next().await, Kind::Deregister(_)));
}

#[tokio::test(start_paused = true)]
async fn a_refused_stream_is_tried_again_and_its_cause_is_shown() {
    let control_plane = FakeControlPlane::start();
    let proxy = Proxy::start(&control_plane, settings());
    let stream = control_plane.accept().await;
    stream.fail(tonic::Status::permission_denied("workload shop/web: not this certificate's"));
    let mut status = proxy.directory.status();
    let shown = status.wait_for(|status| status.last_error.is_some());
    let shown = patiently(shown).await.expect("live").waits_for();
    assert!(shown[0].contains("workload shop/web: not this certificate's"), "{shown:?}");
    control_plane.accept().await.hello().await;
}

#[tokio::test(start_paused = true)]
async fn a_workload_registers_reports_its_health_and_leaves() {
    let control_plane = FakeControlPlane::start();
    let ports = vec![wire::RegisteredPort {
        name: "http".to_owned(),
        app_port: 8080,
        address: "10.0.0.5:4143".to_owned(),
    }];
    let registration = Some(wire::Register { ports: ports.clone() });
    let proxy = Proxy::start(&control_plane, Settings { registration, ..settings() });
    let mut stream = control_plane.accept().await;
    stream.hello().await;
    stream.subscribed().await;
    assert_eq!(stream.next().await, Kind::Register(wire::Register { ports }));
    let not_ready = wire::Health { ready: false, detail: String::new() };
    assert_eq!(stream.next().await, Kind::Health(not_ready));
    stream.answer_eager_set().await;
    let mut status = proxy.directory.status();
    assert_eq!(status.borrow().waits_for(), ["the registration is not answered yet"]);

    let refused = wire::Registration {
        accepted: false,
        reason: "Workload shop/web: spec.serviceAccount: \"cart\"".to_owned(),
    };
    stream.send(control_message::Kind::Registration(refused));
    let shown = status.wait_for(|status| matches!(status.registration, Registration::Refused(_)));
    let shown = patiently(shown).await.expect("live").waits_for();
    assert!(shown[0].contains("spec.serviceAccount: \"cart\""), "{shown:?}");
    let accepted = wire::Registration { accepted: true, reason: String::new() };
    stream.send(control_message::Kind::Registration(accepted));
    patiently(status.wait_for(|status| status.waits_for().is_empty())).await.expect("live");

    let ready = AppHealth { ready: true, detail: String::new() };
    proxy.directory.shared.app_health.send_replace(ready);
    let ready = wire::Health { ready: true, detail: String::new() };
    assert_eq!(stream.next().await, Kind::Health(ready));
    proxy.directory.deregister();
    assert!(matches!(stream.next().await, Kind::Deregister(_)));
    // A stream that is opened while draining registers nothing.
    drop(stream);
    let mut stream = control_plane.accept().await;
    stream.hello().await;
    assert_eq!(stream.subscribed().await, ["Trust"]);
    let _live = proxy.directory.resolve("cart:80");
    assert_eq!(stream.subscribed().await, ["Target cart:80"]);
}

#[tokio::test(start_paused = true)]
async fn roots_and_inbound_ports_reach_their_readers() {
    let control_plane = FakeControlPlane::start();
    let (proxy, mut stream) = Proxy::ready(&control_plane).await;
    let key = rcgen::KeyPair::generate().expect("a key");
    let root = rcgen::CertificateParams::default().self_signed(&key).expect("signed");
    let bundle = wire::TrustBundle {
        trust_domain: "weft.local".to_owned(),
        roots: vec![root.der().to_vec()],
    };
    stream.update(eager(ResourceKind::Trust, wire::update::Body::Trust(bundle)));
    stream.acked().await;
    let trust = proxy.directory.trust().borrow().clone().expect("answered");
    assert_eq!(trust.roots, [root.der().clone()]);
    let port = wire::InboundPort {
        port: 8080,
        protocol: wire::Protocol::Unspecified.into(),
        mode: wire::InboundMode::Permissive.into(),
        service: String::new(),
        ..Default::default()
    };
    let inbound = wire::Inbound { ports: vec![port], others: None };
    stream.update(eager(ResourceKind::Inbound, wire::update::Body::Inbound(inbound)));
    stream.acked().await;
    let inbound = proxy.directory.inbound().borrow().clone().expect("answered");
    let port = &inbound.ports[&weft_proto::Port::new(8080).expect("not 0")];
    assert!(!port.strict);
    assert_eq!(&*port.label, ":8080");
}

#[test]
fn a_fixed_directory_answers_what_is_pinned() {
    let mesh = MeshScope {
        trust_domain: weft_proto::TrustDomain::default(),
        ranges: Vec::new(),
        suffixes: Vec::new(),
        namespaces: Vec::new(),
        outside: OutsideScope::default(),
    };
    let directory = Directory::fixed(mesh, InboundPorts::default());
    directory.pin("cart:80", Resolution::NotFound);
    assert!(matches!(*directory.resolve("cart:80").borrow(), Resolution::NotFound));
    assert!(matches!(*directory.resolve("example.com:80").borrow(), Resolution::Outside));
}
