//! Pods and slices in, what proxies are told out, as tables.

use proptest::prelude::*;
use weft_proto::{
    Port, TrustDomain, WorkloadName,
    discovery::{InboundMode, InboundPort, Protocol, target::Found},
};

use super::*;
use crate::{
    index::{Defaults, properties::pushed},
    model::{
        Life, PodSettings, PortMode, SliceEndpoint, SlicePort, parse_documents,
        pod_settings::PermissivePorts,
    },
};

const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec:
  clusterIPs: [10.96.0.10, 'fd96::10']
  ports:
  - {name: http, port: 80, targetPort: http, appProtocol: http}
  - {name: raw, port: 6379, targetPort: 6379}
---
apiVersion: v1
kind: Service
metadata: {name: early, namespace: shop}
spec:
  clusterIP: None
  publishNotReadyAddresses: true
  ports: [{name: http, port: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: elsewhere, namespace: shop}
spec: {type: ExternalName, externalName: example.org}
";

fn index() -> Index {
    let defaults = Defaults {
        inbound_mode: PortMode::Permissive,
        address_ranges: vec!["10.0.0.0/8".parse().unwrap()],
    };
    let mut index = Index::with_defaults(TrustDomain::default(), defaults);
    let objects = parse_documents("", SERVICES).into_iter();
    let objects: Vec<_> = objects.map(|parsed| parsed.unwrap().object).collect();
    index.apply_all(&objects);
    index
}

fn key(name: &str) -> NamespacedName {
    NamespacedName { namespace: "shop".into(), name: name.into() }
}

fn pod(name: &str, addresses: &[&str]) -> Pod {
    Pod {
        key: key(name),
        uid: "1".into(),
        workload: WorkloadName { namespace: "shop".into(), name: "cart".into() },
        service_account: "carter".into(),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        host_network: false,
        meshed: true,
        life: Life::Running,
        settings: Arc::default(),
        labels: BTreeMap::new(),
        ports: BTreeMap::new(),
    }
}

fn port(number: u16) -> Port {
    Port::new(number).unwrap()
}

fn endpoint(pod: &str, address: &str) -> SliceEndpoint {
    SliceEndpoint {
        address: address.parse().unwrap(),
        ready: true,
        serving: true,
        terminating: false,
        pod: (!pod.is_empty()).then(|| pod.into()),
        hostname: None,
        zone: "a".into(),
    }
}

fn slice(name: &str, service: &str, endpoints: &[SliceEndpoint]) -> EndpointSlice {
    let named = |name: &str, number| SlicePort { name: name.to_owned(), port: port(number) };
    EndpointSlice {
        key: key(name),
        service: ServiceName { namespace: "shop".into(), name: service.into() },
        ports: vec![named("http", 8080), named("raw", 6379)],
        endpoints: endpoints.to_vec(),
    }
}

/// What callers of a port are told: "ID at ADDRESS", and how.
fn told(index: &Index, service_port: &str) -> Vec<String> {
    let view = index.service(&service_port.parse().unwrap()).expect("there is such a port");
    let line = |held: &crate::index::HeldEndpoint| {
        let endpoint = &held.endpoint;
        let how = if endpoint.meshed { endpoint.identities.join(",") } else { "plain".to_owned() };
        format!("{} at {} {how}", endpoint.id, endpoint.address)
    };
    view.endpoints.values().map(line).collect()
}

const CARTER: &str = "spiffe://weft.local/ns/shop/sa/carter";

#[test]
fn a_ready_pod_is_told_with_its_own_service_account() {
    let mut index = index();
    index.apply_pod(pod("cart-1", &["10.1.0.1"]));
    let changes = index.apply_slice(slice("a", "cart", &[endpoint("cart-1", "10.1.0.1")]));
    let expected = format!("shop/cart/cart-1:8080 at 10.1.0.1:8080 {CARTER}");
    assert_eq!(told(&index, "shop/cart:80"), [expected]);
    assert_eq!(changes.endpoints.len(), 2, "one at each port");
    assert!(changes.pods.contains(&pod("cart-1", &[]).instance()), "its ports have a service now");
    assert!(index.apply_slice(slice("a", "cart", &[endpoint("cart-1", "10.1.0.1")])).is_empty());
    assert!(index.apply_pod(pod("cart-1", &["10.1.0.1"])).is_empty());
}

#[test]
fn a_pod_that_no_slice_lists_yet_is_under_the_rules_of_the_services_that_select_it() {
    let text = "
apiVersion: v1
kind: Service
metadata: {name: picked, namespace: shop}
spec:
  selector: {app: cart}
  ports: [{name: http, port: 80, targetPort: web, appProtocol: http}, {name: raw, port: 90}]
---
apiVersion: weft.dev/v1alpha1
kind: AccessPolicy
metadata: {name: who, namespace: shop}
spec: {targetRefs: [{kind: Service, name: picked}], rules: [{action: Allow, from: [{namespaces: [shop]}]}]}
";
    let objects: Vec<_> =
        parse_documents("", text).into_iter().map(|parsed| parsed.unwrap().object).collect();
    let labelled = |app: &str| Pod {
        labels: BTreeMap::from([("app".to_owned(), app.to_owned())]),
        ports: BTreeMap::from([("web".to_owned(), port(8080))]),
        ..pod("cart-1", &["10.1.0.1"])
    };
    let denied = |index: &Index| -> Vec<u32> {
        let inbound = index.inbound(&labelled("cart").instance()).unwrap();
        let denies = |port: &InboundPort| {
            let access = port.access.as_ref().and_then(|access| access.enforced.as_ref());
            access.is_some_and(|default| default.deny)
        };
        inbound.ports.iter().filter(|port| denies(port)).map(|port| port.port).collect()
    };
    let mut index = index();
    index.apply_pod(labelled("cart"));
    assert!(denied(&index).is_empty());
    let instance = labelled("cart").instance();
    assert!(index.apply(&objects[0]).pods.contains(&instance), "its ports have a service now");
    assert!(index.apply(&objects[1]).pods.contains(&instance), "and rules");
    assert_eq!(denied(&index), [90, 8080]);
    let inbound = index.inbound(&instance).unwrap();
    assert_eq!(inbound.ports[1].service, "shop/picked:80");
    assert_eq!(inbound.ports[1].protocol(), Protocol::Http1);
    let shown = index.authz(&"shop/picked:80".parse().unwrap());
    assert_eq!((shown.len(), shown[0].rules.len()), (1, 1));
    assert!(index.apply_pod(labelled("other")).pods.contains(&instance));
    assert!(denied(&index).is_empty());
    index.apply_pod(labelled("cart"));
    let changes = index.remove(&objects[0].key());
    assert!(changes.pods.contains(&instance));
    assert!(denied(&index).is_empty());
}

#[test]
fn a_pods_ports_that_nobody_names_are_under_the_rules_of_its_namespace() {
    let text = "
apiVersion: weft.dev/v1alpha1
kind: AccessPolicy
metadata: {name: closed, namespace: shop}
spec: {default: Deny}
";
    let mut index = index();
    index.apply(&parse_documents("", text).remove(0).unwrap().object);
    let pod = pod("cart-1", &["10.1.0.1"]);
    index.apply_pod(pod.clone());
    let others = index.inbound(&pod.instance()).unwrap().others.unwrap();
    assert!(others.access.unwrap().enforced.unwrap().deny);
}

#[test]
fn a_name_for_what_is_outside_stands_before_no_pod_even_with_a_selector() {
    let text = "
apiVersion: v1
kind: Service
metadata: {name: away, namespace: shop}
spec: {type: ExternalName, externalName: example.org, selector: {app: cart}, ports: [{name: http, port: 80}]}
---
apiVersion: weft.dev/v1alpha1
kind: AccessPolicy
metadata: {name: who, namespace: shop}
spec: {targetRefs: [{kind: Service, name: away}], default: Deny}
";
    let mut index = index();
    for parsed in parse_documents("", text) {
        index.apply(&parsed.unwrap().object);
    }
    let labels = BTreeMap::from([("app".to_owned(), "cart".to_owned())]);
    let pod = Pod { labels, ..pod("cart-1", &["10.1.0.1"]) };
    index.apply_pod(pod.clone());
    let inbound = index.inbound(&pod.instance()).unwrap();
    let ports: Vec<_> = inbound.ports.iter().map(|port| (&port.service, &port.access)).collect();
    assert!(ports.is_empty(), "{ports:?}");
    assert!(index.pods_behind(&"shop/away".parse().unwrap()).is_empty());
}

#[test]
fn words_that_cross_never_make_a_meshed_pod_look_plain() {
    let listed = slice("a", "cart", &[endpoint("cart-1", "10.1.0.1")]);
    let mut index = index();
    index.apply_slice(listed.clone());
    assert!(told(&index, "shop/cart:80").is_empty(), "its pod is not known");
    index.apply_pod(pod("cart-1", &[]));
    assert!(told(&index, "shop/cart:80").is_empty(), "it has no address yet");
    index.apply_pod(pod("cart-1", &["10.1.0.1"]));
    assert_eq!(told(&index, "shop/cart:80").len(), 1);
    index.remove_pod(&key("cart-1"));
    assert!(told(&index, "shop/cart:80").is_empty(), "its slice lags behind");
    index.apply_pod(pod("cart-1", &["10.1.0.2"]));
    assert!(told(&index, "shop/cart:80").is_empty(), "the slice means the pod before this one");
}

#[test]
fn who_is_told_of_an_endpoint() {
    type Change = fn(&mut Pod, &mut SliceEndpoint);
    const NOT_READY: Change = |_, endpoint| endpoint.ready = false;
    let unready: Change = |_, endpoint| (endpoint.ready, endpoint.serving) = (false, false);
    let leaving: Change = |_, endpoint| (endpoint.ready, endpoint.terminating) = (false, true);
    let table: [(&str, Change, bool, bool); 8] = [
        ("ready", |_, _| (), true, true),
        ("not ready, serving means nothing then", NOT_READY, false, false),
        ("neither", unready, false, false),
        ("about to stop, serving", leaving, false, true),
        (
            "about to stop, no longer serving",
            |_, endpoint| {
                *endpoint = SliceEndpoint {
                    ready: false,
                    serving: false,
                    terminating: true,
                    ..endpoint.clone()
                };
            },
            false,
            false,
        ),
        ("its pod was told to stop", |pod, _| pod.life = Life::Terminating, false, true),
        ("its pod has ended", |pod, _| pod.life = Life::Ended, false, false),
        ("its pod has no sidecar", |pod, _| pod.meshed = false, true, true),
    ];
    for (what, change, beside_a_ready_one, alone) in table {
        let (mut changed, mut listed) =
            (pod("cart-1", &["10.1.0.1"]), endpoint("cart-1", "10.1.0.1"));
        change(&mut changed, &mut listed);
        let mut index = index();
        index.apply_pod(changed);
        index.apply_pod(pod("cart-2", &["10.1.0.2"]));
        let other = endpoint("cart-2", "10.1.0.2");
        index.apply_slice(slice("a", "cart", &[listed.clone(), other]));
        let is_told =
            |index: &Index| told(index, "shop/cart:80").iter().any(|line| line.contains("cart-1:"));
        assert_eq!(is_told(&index), beside_a_ready_one, "{what}, beside a ready one");
        index.apply_slice(slice("a", "cart", &[listed]));
        assert_eq!(is_told(&index), alone, "{what}, alone");
    }
}

#[test]
fn not_ready_addresses_are_told_where_the_service_says_so() {
    let mut index = index();
    index.apply_pod(Pod { life: Life::Terminating, ..pod("cart-1", &["10.1.0.1"]) });
    index.apply_slice(slice("a", "early", &[endpoint("cart-1", "10.1.0.1")]));
    assert_eq!(told(&index, "shop/early:80").len(), 1);
}

#[test]
fn pods_with_public_addresses_bring_their_networks_into_the_mesh() {
    let mut index = index();
    let ranges = index.mesh().address_ranges;
    let with = |networks: &[&str]| {
        let mut all: Vec<Cidr> =
            ranges.iter().map(String::as_str).chain(networks.iter().copied()).map(parsed).collect();
        all.sort();
        all.iter().map(Cidr::to_string).collect::<Vec<_>>()
    };
    assert!(!index.apply_pod(pod("private", &["10.1.0.1"])).mesh);
    assert!(index.apply_pod(pod("cart-1", &["2600:1f18::5", "203.0.113.7"])).mesh);
    assert_eq!(index.mesh().address_ranges, with(&["2600:1f18::/64", "203.0.113.0/24"]));
    assert!(!index.apply_pod(pod("cart-2", &["2600:1f18::6"])).mesh, "its network is known");

    let found = |destination| index.target("shop", destination).target.found.unwrap();
    assert!(matches!(found("[2600:1f18::5]:8080"), Found::Endpoint(_)));
    assert!(matches!(found("[2600:1f18::77]:8080"), Found::Passthrough(_)));

    assert!(index.remove_pod(&key("cart-1")).mesh);
    assert_eq!(index.mesh().address_ranges, with(&["2600:1f18::/64"]));
    assert!(index.remove_pod(&key("cart-2")).mesh);
    assert_eq!(index.mesh().address_ranges, ranges);
}

fn parsed(range: &str) -> Cidr {
    range.parse().unwrap()
}

#[test]
fn a_pod_of_both_families_is_one_endpoint_by_the_family_that_the_service_prefers() {
    let mut index = index();
    index.apply_pod(pod("cart-1", &["10.1.0.1", "fd01::1"]));
    let (v4, v6) = (endpoint("cart-1", "10.1.0.1"), endpoint("cart-1", "fd01::1"));
    index.apply_slice(slice("v6", "cart", &[v6]));
    let by_v6 = format!("shop/cart/cart-1:8080 at [fd01::1]:8080 {CARTER}");
    assert_eq!(told(&index, "shop/cart:80"), [by_v6]);
    index.apply_slice(slice("v4", "cart", std::slice::from_ref(&v4)));
    let by_v4 = format!("shop/cart/cart-1:8080 at 10.1.0.1:8080 {CARTER}");
    assert_eq!(told(&index, "shop/cart:80"), std::slice::from_ref(&by_v4));
    index.apply_slice(slice("v6", "cart", &[SliceEndpoint { ready: true, ..v4 }]));
    assert_eq!(told(&index, "shop/cart:80"), [by_v4]);
}

#[test]
fn an_address_outside_the_cluster_is_told_as_it_is() {
    let mut index = index();
    index.apply_slice(slice(
        "a",
        "cart",
        &[endpoint("", "192.0.2.7"), endpoint("", "2001:db8::7")],
    ));
    assert_eq!(
        told(&index, "shop/cart:80"),
        [
            "shop/cart/192.0.2.7:8080 at 192.0.2.7:8080 plain",
            "shop/cart/2001-db8--7:8080 at [2001:db8::7]:8080 plain",
        ]
    );
}

#[test]
fn what_an_application_names_by_address_or_by_name() {
    let mut index = index();
    let settings = PodSettings {
        skip_inbound_ports: "22".parse().unwrap(),
        opaque_ports: "3306".parse().unwrap(),
        ..PodSettings::default()
    };
    index
        .apply_pod(Pod { settings: Arc::new(settings), ..pod("cart-1", &["10.1.0.1", "fd01::1"]) });
    index.apply_pod(Pod { host_network: true, ..pod("agent", &["10.0.0.4"]) });
    index.apply_pod(Pod { meshed: false, ..pod("plain", &["10.1.0.9"]) });
    let named = SliceEndpoint { hostname: Some("cart-1".into()), ..endpoint("cart-1", "10.1.0.1") };
    index.apply_slice(slice("a", "cart", &[named]));
    let direct = "shop/cart/cart-1:8080 of shop/cart:80, meshed, Http1";
    for (destination, meaning) in [
        ("10.96.0.10:80", "service shop/cart:80"),
        ("[fd96::10]:6379", "service shop/cart:6379"),
        ("10.96.0.10:81", "nothing"),
        ("10.1.0.1:8080", direct),
        ("[fd01::1]:8080", direct),
        ("[::ffff:10.1.0.1]:8080", direct),
        ("10.1.0.1:9999", "shop/cart/cart-1:9999 of , meshed, Unspecified"),
        ("10.1.0.1:22", "shop/cart/cart-1:22 of , plain, Unspecified"),
        ("10.1.0.1:3306", "shop/cart/cart-1:3306 of , meshed, Tcp"),
        ("10.1.0.9:80", "shop/cart/plain:80 of , plain, Unspecified"),
        ("10.0.0.4:80", "outside"),
        ("10.200.0.1:80", "outside"),
        ("cart-1.cart.shop.svc.cluster.local:8080", direct),
        ("cart-2.cart.shop.svc.cluster.local:8080", "nothing"),
        ("cart.shop:80", "service shop/cart:80"),
        ("elsewhere:443", "outside"),
        ("nobody.shop:80", "nothing"),
    ] {
        let meant = match index.target("shop", destination).target.found.unwrap() {
            Found::Service(service) => format!("service {service}"),
            Found::NotFound(_) => "nothing".to_owned(),
            Found::Passthrough(_) => "outside".to_owned(),
            Found::Endpoint(direct) => {
                let protocol = direct.protocol();
                let endpoint = direct.endpoint.unwrap();
                let how = if endpoint.meshed { "meshed" } else { "plain" };
                format!("{} of {}, {how}, {protocol:?}", endpoint.id, direct.service)
            }
        };
        assert_eq!(meant, meaning, "{destination}");
    }
}

#[test]
fn targets_follow_the_pods_that_they_mean() {
    let mut index = index();
    let by_address = index.target("shop", "10.1.0.1:8080").depends_on;
    let by_hostname = index.target("shop", "cart-1.cart.shop.svc:8080").depends_on;
    let touched = |changes: &Changes, on: &[Dependency]| {
        on.iter().any(|dependency| changes.targets.contains(dependency))
    };
    let changes = index.apply_pod(pod("cart-1", &["10.1.0.1"]));
    assert!(touched(&changes, &by_address));
    let named = SliceEndpoint { hostname: Some("cart-1".into()), ..endpoint("cart-1", "10.1.0.1") };
    let changes = index.apply_slice(slice("a", "cart", &[named]));
    assert!(touched(&changes, &by_hostname));
    assert!(touched(&changes, &by_address), "the port has a protocol now");
    let by_hostname = index.target("shop", "cart-1.cart.shop.svc:8080").depends_on;
    let changes = index.remove_pod(&key("cart-1"));
    assert!(touched(&changes, &by_address) && touched(&changes, &by_hostname));
}

#[test]
fn a_pod_takes_what_its_services_and_annotations_say_and_the_rest_by_the_default() {
    let mut index = index();
    let settings = PodSettings {
        opaque_ports: "3306".parse().unwrap(),
        permissive_ports: PermissivePorts::Listed("9000".parse().unwrap()),
        ..PodSettings::default()
    };
    let settings = Arc::new(settings);
    index.apply_pod(Pod { settings: settings.clone(), ..pod("cart-1", &["10.1.0.1"]) });
    index.apply_slice(slice("a", "cart", &[endpoint("cart-1", "10.1.0.1")]));
    let strict = parse_documents(
        "",
        "{apiVersion: weft.dev/v1alpha1, kind: MeshConfig, metadata: {name: mesh}, spec: {inbound: {mode: strict}}}",
    );
    let changes = index.apply(&strict[0].as_ref().unwrap().object);
    let instance = pod("cart-1", &[]).instance();
    assert!(changes.pods.contains(&instance), "the default is another one");
    let line = |port: &InboundPort| {
        let mode = if port.mode() == InboundMode::Strict { "strict" } else { "permissive" };
        format!("{} {:?} {mode} {}", port.port, port.protocol(), port.service)
    };
    let inbound = index.inbound(&instance).unwrap();
    let lines: Vec<String> = inbound.ports.iter().map(line).collect();
    assert_eq!(
        lines,
        [
            "3306 Tcp strict ",
            "6379 Unspecified strict shop/cart:6379",
            "8080 Http1 strict shop/cart:80",
            "9000 Unspecified permissive ",
        ]
    );
    assert_eq!(inbound.others.as_ref().map(line).unwrap(), "0 Unspecified strict ");
    let open = PodSettings { permissive_ports: PermissivePorts::All, ..PodSettings::default() };
    index.apply_pod(Pod { settings: Arc::new(open), ..pod("cart-1", &["10.1.0.1"]) });
    let inbound = index.inbound(&instance).unwrap();
    assert!(
        inbound.ports.iter().chain(&inbound.others).all(|it| it.mode() == InboundMode::Permissive)
    );
}

#[test]
fn what_pods_say_of_a_port_its_callers_hear_too() {
    let mut index = index();
    let settings =
        PodSettings { opaque_ports: "6379,8080".parse().unwrap(), ..PodSettings::default() };
    index.apply_slice(slice("a", "cart", &[endpoint("cart-1", "10.1.0.1")]));
    index.apply_pod(Pod { settings: Arc::new(settings), ..pod("cart-1", &["10.1.0.1"]) });
    let protocol =
        |port: &str| index.service(&port.parse().unwrap()).unwrap().declaration.protocol();
    assert_eq!(protocol("shop/cart:6379"), Protocol::Tcp);
    assert_eq!(protocol("shop/cart:80"), Protocol::Http1, "the Service declares it");
    let inbound = index.inbound(&pod("cart-1", &[]).instance()).unwrap();
    let http = inbound.ports.iter().find(|port| port.port == 8080).unwrap();
    assert_eq!(http.protocol(), Protocol::Http1, "both sidecars act by the same word");
}

#[test]
fn an_ended_pods_address_is_nobodys() {
    let mut index = index();
    index.apply_pod(pod("cart-1", &["10.1.0.1"]));
    let found = |index: &Index| index.target("shop", "10.1.0.1:8080").target.found.unwrap();
    assert!(matches!(found(&index), Found::Endpoint(_)));
    // A job's pod stays as an object for long; its address goes to the next pod, which may not be known yet.
    let changes = index.apply_pod(Pod { life: Life::Ended, ..pod("cart-1", &["10.1.0.1"]) });
    assert!(changes.targets.contains(&Dependency::Address("10.1.0.1".parse().unwrap())));
    assert!(matches!(found(&index), Found::Passthrough(_)), "{:?}", found(&index));
}

#[test]
fn who_names_one_pod_below_a_service_hears_when_no_slice_lists_it_any_more() {
    let named = |service: &str| {
        let endpoint =
            SliceEndpoint { hostname: Some("db-0".into()), ..endpoint("cart-1", "10.1.0.1") };
        slice("a", service, &[endpoint])
    };
    let service = |name: &str| {
        Dependency::Service(ServiceName { namespace: "shop".into(), name: name.into() })
    };
    let found = |index: &Index, host: &str| index.target("shop", host).target.found.unwrap();
    let mut index = index();
    index.apply_pod(pod("cart-1", &["10.1.0.1"]));
    index.apply_slice(named("cart"));
    assert!(matches!(found(&index, "db-0.cart.shop.svc:8080"), Found::Endpoint(_)));

    let changes = index.apply_slice(named("early"));
    assert!(changes.targets.contains(&service("cart")), "it is below another one now");
    assert!(changes.targets.contains(&service("early")));
    let changes = index.remove_slice(&key("a"));
    assert!(changes.targets.contains(&service("early")), "{:?}", changes.targets);
    assert!(matches!(found(&index, "db-0.early.shop.svc:8080"), Found::NotFound(_)));
}

/// One word of the cluster.
#[derive(Debug, Clone)]
enum Word {
    Pod(Pod),
    Slice(EndpointSlice),
}

fn words() -> impl Strategy<Value = Vec<Word>> {
    let life = prop_oneof![Just(Life::Running), Just(Life::Terminating), Just(Life::Ended)];
    let pods = (0..4u8, 0..3u8, life, any::<bool>()).prop_map(|(name, at, life, meshed)| {
        let address = format!("10.1.0.{at}");
        Word::Pod(Pod { life, meshed, ..pod(&format!("cart-{name}"), &[&address]) })
    });
    let endpoints = (0..4u8, 0..3u8, any::<(bool, bool, bool)>()).prop_map(|(name, at, flags)| {
        let (ready, serving, terminating) = flags;
        let listed = endpoint(&format!("cart-{name}"), &format!("10.1.0.{at}"));
        SliceEndpoint { ready, serving, terminating, ..listed }
    });
    let service = prop_oneof![Just("cart"), Just("early"), Just("nobody")];
    let slices = (0..3u8, service, proptest::collection::vec(endpoints, 0..4));
    let slices = slices.prop_map(|(name, service, endpoints)| {
        Word::Slice(slice(&format!("slice-{name}"), service, &endpoints))
    });
    proptest::collection::vec(prop_oneof![pods, slices], 0..12)
}

proptest! {
    #[test]
    fn the_order_of_words_does_not_matter_and_nothing_stays_behind(words in words()) {
        let (mut pods, mut slices) = (BTreeMap::new(), BTreeMap::new());
        let mut one_by_one = index();
        for word in words {
            match word {
                Word::Pod(pod) => {
                    pods.insert(pod.key.clone(), pod.clone());
                    one_by_one.apply_pod(pod);
                }
                Word::Slice(slice) => {
                    slices.insert(slice.key.clone(), slice.clone());
                    one_by_one.apply_slice(slice);
                }
            }
        }
        let mut at_once = index();
        at_once.apply_cluster(pods.values().cloned(), slices.values().cloned());
        prop_assert_eq!(pushed(&one_by_one), pushed(&at_once));
        for pod in pods.values() {
            let instance = pod.instance();
            prop_assert_eq!(one_by_one.inbound(&instance), at_once.inbound(&instance));
        }
        for key in slices.keys() {
            one_by_one.remove_slice(key);
        }
        for key in pods.keys() {
            one_by_one.remove_pod(key);
        }
        prop_assert!(one_by_one.cluster.is_empty());
        prop_assert_eq!(pushed(&one_by_one), pushed(&index()));
    }
}
