//! Objects and registrations in, what proxies are told out, as tables.

use std::fmt::Write as _;

use weft_proto::{Port, SpiffeId, discovery, discovery::target::Found};

use super::*;
use crate::model::{RegisteredPort, parse_documents};

const SHOP: &str = "
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {name: cart, namespace: shop, labels: {app: cart}}
spec:
  service: cart
  zone: a
  ports:
  - {name: http, protocol: http}
  - {name: admin, port: 9000, protocol: grpc, mode: permissive}
";

fn objects(text: &str) -> Vec<Object> {
    let parsed = parse_documents("test.yaml", text).into_iter();
    parsed.map(|parsed| parsed.expect("valid").object).collect()
}

fn index(text: &str) -> Index {
    let mut index = Index::new(TrustDomain::default());
    index.apply_all(&objects(text));
    index
}

fn apply(index: &mut Index, text: &str) -> Changes {
    index.apply_all(&objects(text))
}

fn port(number: u16) -> Port {
    Port::new(number).expect("not zero")
}

fn instance(workload: &str, instance: &str) -> InstanceKey {
    InstanceKey { workload: workload.parse().expect("valid"), instance: instance.into() }
}

fn registration(workload: &str, name: &str, ports: &[(&str, u16, &str)]) -> Registration {
    let key = instance(workload, name);
    let account = &key.workload.name;
    let id = SpiffeId::new(&TrustDomain::default(), &key.workload.namespace, account);
    Registration {
        spiffe_id: id.expect("valid"),
        key,
        incarnation: "1".into(),
        ports: ports
            .iter()
            .map(|(name, app, at)| RegisteredPort {
                name: (*name).into(),
                app_port: port(*app),
                address: at.parse().expect("an address"),
            })
            .collect(),
        ready: true,
        detail: String::new(),
        zone: "".into(),
    }
}

fn cart(name: &str) -> Registration {
    let at = format!("10.1.0.{}:4143", name.trim_start_matches("cart-"));
    registration("shop/cart", name, &[("http", 8080, &at), ("admin", 9000, &at)])
}

fn service_port(text: &str) -> ServicePort {
    text.parse().expect("valid")
}

fn endpoint_ids(index: &Index, port: &str) -> Vec<String> {
    let view = index.service(&service_port(port)).expect("it exists");
    view.endpoints.keys().map(ToString::to_string).collect()
}

fn touched(changes: &Changes) -> Vec<String> {
    changes.services.iter().map(ToString::to_string).collect()
}

#[test]
fn a_workload_alone_implies_its_service() {
    let mut index = index(SHOP);
    index.register(cart("cart-1"));
    let view =
        index.service(&service_port("shop/cart:80")).expect("implied by servicePort's default");
    assert_eq!(view.declaration.protocol(), discovery::Protocol::Http1);
    assert_eq!(view.declaration.port_name, "http");
    let held = view.endpoints.values().next().expect("one");
    let endpoint = &held.endpoint;
    assert_eq!(endpoint.id, "shop/cart/cart-1:8080");
    assert_eq!(endpoint.address, "10.1.0.1:4143");
    assert_eq!(endpoint.identities, ["spiffe://weft.local/ns/shop/sa/cart"]);
    assert_eq!((endpoint.zone.as_str(), endpoint.meshed), ("a", true));
    assert_eq!(endpoint.labels["app"], "cart");
    assert_eq!(endpoint_ids(&index, "shop/cart:9000"), ["shop/cart/cart-1:9000"]);
    assert_eq!(index.service(&service_port("shop/cart:81")).map(|view| view.digest), None);
}

#[test]
fn a_registration_touches_its_own_endpoints_and_nothing_else() {
    let mut index = index(SHOP);
    apply(&mut index, &SHOP.replace("cart", "web"));
    index.register(cart("cart-1"));
    let changes = index.register(cart("cart-2"));
    assert_eq!(touched(&changes), ["shop/cart:80", "shop/cart:9000"]);
    let ids: Vec<&str> = changes.endpoints.iter().map(|change| &*change.id).collect();
    assert_eq!(ids, ["shop/cart/cart-2:8080", "shop/cart/cart-2:9000"]);
    assert!(!changes.mesh && !changes.all_targets && changes.registrations.is_empty());
    assert!(index.register(cart("cart-2")).is_empty(), "the same again is no change");
}

#[test]
fn an_unready_instance_is_no_endpoint_and_its_inbound_stays() {
    let mut index = index(SHOP);
    index.register(cart("cart-1"));
    let key = instance("shop/cart", "cart-1");
    let changes = index.set_ready(&key, "1", false, "GET /health gave 500");
    assert!(changes.endpoints.iter().all(|change| change.endpoint.is_none()));
    assert!(changes.inbounds.is_empty());
    assert!(endpoint_ids(&index, "shop/cart:80").is_empty());
    let statuses = index.endpoint_statuses(&"shop/cart:80".parse().expect("valid"));
    assert_eq!(statuses[0].detail, "GET /health gave 500");
    assert!(!statuses[0].ready);
    assert!(index.set_ready(&key, "2", true, "").is_empty(), "another incarnation has no say");
    assert_eq!(index.set_ready(&key, "1", true, "").endpoints.len(), 2);
}

#[test]
fn an_old_streams_end_does_not_remove_the_new_registration() {
    let mut index = index(SHOP);
    index.register(cart("cart-1"));
    index.register(Registration { incarnation: "2".into(), ..cart("cart-1") });
    let key = instance("shop/cart", "cart-1");
    assert!(index.deregister(&key, "1").is_empty());
    assert_eq!(endpoint_ids(&index, "shop/cart:80").len(), 1);
    assert_eq!(index.deregister(&key, "2").endpoints.len(), 2);
    assert!(endpoint_ids(&index, "shop/cart:80").is_empty());
}

#[test]
fn an_app_that_moves_to_another_port_leaves_no_old_endpoint() {
    let mut index = index(SHOP);
    index.register(cart("cart-1"));
    let moved = registration("shop/cart", "cart-1", &[("http", 8081, "10.1.0.1:4143")]);
    let changes = index.register(moved);
    assert_eq!(endpoint_ids(&index, "shop/cart:80"), ["shop/cart/cart-1:8081"]);
    assert!(endpoint_ids(&index, "shop/cart:9000").is_empty());
    assert_eq!(changes.endpoints.len(), 3, "two gone, one new");
    assert_eq!(changes.inbounds.len(), 1);
}

#[test]
fn a_digest_is_the_same_whatever_the_order_of_changes() {
    let digest = |names: &[&str]| {
        let mut index = index(SHOP);
        for name in names {
            index.register(cart(name));
        }
        index.deregister(&instance("shop/cart", "cart-9"), "1");
        index.service(&service_port("shop/cart:80")).expect("exists").digest
    };
    assert_eq!(digest(&["cart-1", "cart-2"]), digest(&["cart-2", "cart-9", "cart-1"]));
    assert_ne!(digest(&["cart-1", "cart-2"]), digest(&["cart-1"]));
    let mut rebuilt = index(SHOP);
    rebuilt.register(cart("cart-1"));
    apply(&mut rebuilt, &SHOP.replace("app: cart", "app: other"));
    apply(&mut rebuilt, SHOP);
    let held = rebuilt.service(&service_port("shop/cart:80")).expect("exists").digest;
    assert_eq!(held, digest(&["cart-1"]));
}

#[test]
fn an_objects_end_ends_its_endpoints_and_its_return_brings_them_back() {
    let mut index = index(SHOP);
    index.register(cart("cart-1"));
    let workload = objects(SHOP).remove(0);
    let changes = index.remove(&workload.key());
    assert_eq!(touched(&changes), ["shop/cart:80", "shop/cart:9000"]);
    assert!(changes.mesh, "the namespace left the mesh");
    assert!(changes.registrations.contains(&"shop/cart".parse().expect("valid")));
    assert!(index.service(&service_port("shop/cart:80")).is_none());
    apply(&mut index, SHOP);
    assert_eq!(endpoint_ids(&index, "shop/cart:80").len(), 1);
}

#[test]
fn another_service_account_disallows_the_live_registrations() {
    let mut index = index(SHOP);
    index.register(cart("cart-1"));
    let changes = apply(&mut index, &SHOP.replace("  zone: a", "  serviceAccount: other"));
    assert_eq!(changes.endpoints.len(), 2);
    assert!(endpoint_ids(&index, "shop/cart:80").is_empty());
}

#[test]
fn a_change_of_status_alone_touches_nothing() {
    let mut index = index(SHOP);
    let mut object = objects(SHOP).remove(0);
    object.metadata_mut().resource_version = Some("7".into());
    object.status_mut().conditions.clear();
    assert!(index.apply(&object).is_empty());
}

#[test]
fn a_services_port_finds_the_workloads_by_name_number_or_being_the_only_one() {
    let workload = |ports: &str| {
        format!(
            "apiVersion: weft.dev/v1alpha1\nkind: Workload\nmetadata: {{name: w, namespace: shop, labels: \
             {{app: w}}}}\nspec: {{ports: [{ports}]}}\n"
        )
    };
    let service = |port: &str| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s, namespace: shop}}\nspec: \
             {{selector: {{app: w}}, ports: [{port}]}}\n"
        )
    };
    // workload's ports, service's port -> the name behind it
    for (ports, port, behind) in [
        ("{name: a}, {name: b, port: 2}", "{port: 80, targetPort: b}", Some("b")),
        ("{name: a}, {name: b, port: 2}", "{port: 80, targetPort: 2}", Some("b")),
        ("{name: a}, {name: b, port: 2}", "{port: 80, targetPort: 3}", None),
        ("{name: a}, {name: b, port: 2}", "{port: 80, targetPort: c}", None),
        ("{name: a}, {name: b, port: 2}", "{port: 7, name: b}", Some("b")),
        ("{name: a}, {name: b, port: 2}", "{port: 2}", Some("b")),
        ("{name: a}, {name: b, port: 2}", "{port: 80}", Some("a")),
        ("{name: a}, {name: b, port: 2}", "{port: 7}", None),
        ("{name: a, port: 5}", "{port: 7}", Some("a")),
        ("{name: a, port: 5}", "{port: 5, protocol: UDP}", None),
    ] {
        let index = index(&(workload(ports) + &service(port)));
        let built = index.built.get(&"shop/s".parse().expect("valid")).expect("it has an object");
        let serving = built.ports.values().next().and_then(|port| port.serving.values().next());
        assert_eq!(serving.map(String::as_str), behind, "{ports} behind {port}");
    }
}

#[test]
fn destinations_mean_what_the_table_says() {
    let mut index = index(&format!(
        "{SHOP}---\napiVersion: v1\nkind: Service\nmetadata: {{name: cart, namespace: shop}}\nspec:\n  \
         clusterIPs: [10.96.0.7, 'fd00::7']\n  ports: [{{name: http, port: 80}}, {{name: udp, port: 53, \
         protocol: UDP}}]\n---\napiVersion: weft.dev/v1alpha1\nkind: Workload\nmetadata: {{name: old, \
         namespace: shop}}\nspec: {{port: 5432, protocol: tcp, addresses: [{{address: 10.9.0.9}}, {{address: \
         'fd00::9'}}]}}\n---\napiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {{name: \
         mesh}}\nspec: {{nameSuffixes: [svc.cluster.local, mesh.example]}}\n"
    ));
    index.register(cart("cart-1"));
    let cart80 = "service shop/cart:80";
    let direct = "endpoint shop/cart/cart-1:8080 of shop/cart:80, meshed";
    for (namespace, destination, meaning) in [
        ("shop", "cart:80", cart80),
        ("other", "cart:80", "nothing"),
        ("other", "cart.shop:80", cart80),
        ("other", "Cart.SHOP.svc:80", cart80),
        ("other", "cart.shop.svc.cluster.local:80", cart80),
        ("other", "cart.shop.svc.cluster.local.:80", cart80),
        ("other", "cart.shop.mesh.example:80", cart80),
        ("other", "cart.shop.mesh.examples:80", "nothing"),
        ("other", "cart.svc.cluster.local:80", "nothing"),
        ("shop", "cart:81", "nothing"),
        ("shop", "cart:53", "nothing"),
        ("shop", "cart", "nothing"),
        ("shop", ":80", "nothing"),
        ("shop", "a.b.c:80", "nothing"),
        ("shop", "10.96.0.7:80", cart80),
        ("shop", "[fd00::7]:80", cart80),
        ("shop", "[::ffff:10.96.0.7]:80", cart80),
        ("shop", "10.96.0.7:81", "nothing"),
        ("shop", "10.1.0.1:8080", direct),
        ("shop", "10.1.0.1:4143", "nothing"),
        ("shop", "10.9.0.9:5432", "endpoint shop/old/10.9.0.9:5432 of , plain"),
        ("shop", "[fd00::9]:5432", "endpoint shop/old/fd00--9:5432 of , plain"),
        ("shop", "10.9.0.9:80", "nothing"),
    ] {
        let meant = match index.target(namespace, destination).target.found {
            Some(Found::Service(service)) => format!("service {service}"),
            Some(Found::NotFound(_)) => "nothing".into(),
            Some(Found::Passthrough(_)) => "outside".into(),
            Some(Found::Endpoint(direct)) => {
                let endpoint = direct.endpoint.expect("always there");
                let how = if endpoint.meshed { "meshed" } else { "plain" };
                format!("endpoint {} of {}, {how}", endpoint.id, direct.service)
            }
            None => "?".into(),
        };
        assert_eq!(meant, meaning, "{destination} in {namespace}");
    }
}

#[test]
fn targets_are_touched_by_what_they_depend_on() {
    let mut index = index("");
    let by_name = index.target("shop", "cart:80").depends_on;
    let by_address = index.target("shop", "10.1.0.1:8080").depends_on;
    let changes = apply(&mut index, SHOP);
    assert!(changes.targets.contains(&by_name[0]));
    assert!(!changes.targets.contains(&by_address[0]));
    let changes = index.register(cart("cart-1"));
    assert!(changes.targets.contains(&by_address[0]));
    assert!(
        !changes.targets.contains(&by_name[0]),
        "an endpoint does not change what a name means"
    );
    let changes = apply(&mut index, &SHOP.replace("protocol: http", "protocol: http2"));
    assert!(changes.targets.contains(&by_address[0]), "the protocol is part of a direct endpoint");
    let changes = index.remove(&objects(SHOP)[0].key());
    assert!(changes.targets.contains(&by_name[0]) && changes.targets.contains(&by_address[0]));
    let config = "apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {name: mesh}\nspec: {nameSuffixes: []}";
    let changes = apply(&mut index, config);
    assert!(changes.all_targets && changes.mesh);
}

#[test]
fn inbound_ports_take_their_mode_from_themselves_or_the_mesh() {
    let mut index = index(SHOP);
    let key = instance("shop/cart", "cart-1");
    let shown = |index: &Index| {
        let mut text = String::new();
        for port in index.inbound(&key).expect("the workload exists").ports {
            let (protocol, mode) = (port.protocol().as_str_name(), port.mode().as_str_name());
            write!(text, "{} {protocol} {mode} {};", port.port, port.service).expect("a string");
        }
        text.replace("PROTOCOL_", "").replace("INBOUND_MODE_", "")
    };
    assert_eq!(shown(&index), "9000 GRPC PERMISSIVE shop/cart:9000;", "the other is not yet known");
    index.register(cart("cart-1"));
    let both = "8080 HTTP1 STRICT shop/cart:80;9000 GRPC PERMISSIVE shop/cart:9000;";
    assert_eq!(shown(&index), both);
    let config = "apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {name: mesh}\nspec: {inbound: {mode: permissive}}";
    let changes = apply(&mut index, config);
    assert!(changes.inbounds.contains(&key.workload));
    assert_eq!(shown(&index), both.replace("STRICT", "PERMISSIVE"));
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: cart, namespace: shop}\nspec: {ports: [{port: 80, targetPort: http, appProtocol: http2}]}";
    let changes = apply(&mut index, service);
    assert!(changes.inbounds.contains(&key.workload));
    assert_eq!(shown(&index), "8080 HTTP2 PERMISSIVE shop/cart:80;9000 GRPC PERMISSIVE ;");
    assert_eq!(index.inbound(&instance("shop/none", "0")), None);
}

#[test]
fn a_registration_is_refused_in_the_words_of_the_object() {
    let index = index(SHOP);
    let at = "10.1.0.1:4143";
    let good = cart("cart-1");
    let ports = |ports: &[(&str, u16, &str)]| registration("shop/cart", "cart-1", ports);
    let strange: SpiffeId = "spiffe://weft.local/ns/shop/sa/web".parse().expect("valid");
    assert_eq!(index.check_registration(&good), Ok(()));
    for (registration, error) in [
        (registration("shop/carte", "0", &[]), "Workload shop/carte does not exist: apply one"),
        (
            Registration { spiffe_id: strange, ..good.clone() },
            "Workload shop/cart: spec.serviceAccount allows spiffe://weft.local/ns/shop/sa/cart, but the sidecar presents spiffe://weft.local/ns/shop/sa/web",
        ),
        (
            ports(&[("htp", 1, at)]),
            "Workload shop/cart: spec.ports has no port \"htp\": it has \"http\", \"admin\"",
        ),
        (
            ports(&[("admin", 9001, at)]),
            "Workload shop/cart: port \"admin\" is 9000, but the sidecar registers 9001",
        ),
        (
            ports(&[("http", 1, at), ("http", 2, at)]),
            "Workload shop/cart: port \"http\" is registered twice",
        ),
        (
            ports(&[("admin", 9000, at), ("http", 9000, at)]),
            "Workload shop/cart: port \"http\" is 9000, but so is another port",
        ),
        (
            ports(&[("http", 1, "0.0.0.0:4143")]),
            "Workload shop/cart: port \"http\" is registered at 0.0.0.0:4143",
        ),
        (
            ports(&[("http", 1, "10.0.0.1:0")]),
            "Workload shop/cart: port \"http\" is registered at 10.0.0.1:0",
        ),
        (
            Registration { key: instance("shop/cart", "a:b"), ..good.clone() },
            "Workload shop/cart: \"a:b\" is no instance's name",
        ),
    ] {
        let refusal = index.check_registration(&registration).expect_err(error).to_string();
        assert!(refusal.starts_with(error), "{refusal}");
    }
}

#[test]
fn the_eager_set_follows_namespaces_and_cluster_addresses() {
    let mut index = index(SHOP);
    assert_eq!(index.mesh().namespaces, ["shop"]);
    assert_eq!(index.mesh().name_suffixes, ["svc.cluster.local"]);
    assert!(!apply(&mut index, &SHOP.replace("cart", "web")).mesh, "nothing new");
    assert!(
        apply(&mut index, "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}").is_empty()
    );
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: b}\nspec: {clusterIP: 10.96.0.7}";
    assert!(apply(&mut index, service).mesh);
    assert_eq!(index.mesh().namespaces, ["b", "shop"]);
    assert_eq!(index.mesh().address_ranges, ["10.96.0.7/32"]);
    let config = "apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {name: mesh}\nspec: {addressRanges: [10.96.0.0/12]}";
    assert!(apply(&mut index, config).mesh);
    assert_eq!(index.mesh().address_ranges, ["10.96.0.0/12"]);
    index.remove(&objects(config)[0].key());
    assert!(index.remove(&objects(service)[0].key()).mesh);
    assert_eq!(index.mesh().address_ranges, Vec::<String>::new());
}

#[test]
fn one_change_among_ten_thousand_endpoints_is_one_endpoint() {
    let mut index = index(
        "apiVersion: weft.dev/v1alpha1\nkind: Workload\nmetadata: {name: w}\nspec: {service: w}",
    );
    for number in 0..10_000_u32 {
        let at = format!("10.{}.{}.1:4143", number / 256, number % 256);
        let changes =
            index.register(registration("default/w", &number.to_string(), &[("", 8080, &at)]));
        assert_eq!(changes.endpoints.len(), 1);
    }
    let changes = index.set_ready(&instance("default/w", "777"), "1", false, "");
    assert_eq!(changes.endpoints.len(), 1);
    assert_eq!(
        index.service(&service_port("default/w:80")).expect("exists").endpoints.len(),
        9_999
    );
}

#[test]
fn a_store_of_ten_thousand_workloads_is_taken_in_at_once() {
    let all: Vec<Object> = (0..10_000)
        .map(|number| {
            let mut object = objects(SHOP).remove(0);
            object.metadata_mut().name = format!("cart-{number}");
            object
        })
        .collect();
    let mut index = Index::new(TrustDomain::default());
    let changes = index.apply_all(&all);
    assert_eq!(touched(&changes), ["shop/cart:80", "shop/cart:9000"]);
    assert!(index.apply_all(&all).is_empty());
}
