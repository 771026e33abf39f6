//! Services outside the mesh: which destinations stand for them, and what a change touches.

use weft_proto::{ServicePort, TrustDomain, discovery::target::Found};

use crate::{
    index::{Dependency, Index},
    model::{Kind, Object, ObjectKey, parse_documents},
    status::{judge, refused::Refused},
};

/// An object with a spec, "KIND NAMESPACE/NAME", and how old it is.
fn object(name: &str, age: u32, spec: &str) -> Object {
    let (kind, rest) = name.split_once(' ').expect("a kind");
    let (namespace, name) = rest.split_once('/').expect("a namespace");
    let version = if kind == "Service" { "v1" } else { "weft.dev/v1alpha1" };
    let text = format!(
        "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}, \
         creationTimestamp: '2030-01-01T00:00:{age:02}Z'}}\nspec: {spec}"
    );
    parse_documents("", &text).remove(0).expect("valid").object
}

fn mesh(objects: &[Object]) -> Index {
    let mut index = Index::new(TrustDomain::default());
    index.apply_all(objects);
    index
}

fn target(index: &Index, destination: &str) -> String {
    match index.target("shop", destination).target.found.expect("always said") {
        Found::Service(name) => name,
        Found::Passthrough(_) => "passes".into(),
        Found::NotFound(_) => "nobody".into(),
        Found::Endpoint(_) => "endpoint".into(),
    }
}

const PAY: &str = "{hosts: [api.pay.com, '*.pay.com'], ports: [{port: 443, protocol: tls}]}";

#[test]
fn a_registered_host_stands_for_its_service_at_the_ports_that_it_has() {
    let index = mesh(&[
        object("ExternalService shop/pay", 1, PAY),
        object(
            "ExternalService shop/old",
            2,
            "{hosts: ['*.pay.com'], ports: [{port: 80}, {name: b, port: 443}]}"
                .replace("{port: 80}", "{name: a, port: 80}")
                .as_str(),
        ),
        object("ExternalService shop/two", 1, "{hosts: [pay.org], ports: [{port: 80}]}"),
    ]);
    for (destination, expected) in [
        ("api.pay.com:443", "shop/pay:443"),
        ("API.pay.com.:443", "shop/pay:443"),
        ("a.b.pay.com:443", "shop/pay:443"),
        // Of another service, which registers the wider name with this port.
        ("api.pay.com:80", "shop/old:80"),
        ("api.pay.com:81", "passes"),
        ("pay.com:443", "nobody"),
        ("pay.org:80", "shop/two:80"),
        ("other.org:80", "nobody"),
        ("pay.shop:443", "shop/pay:443"),
    ] {
        assert_eq!(target(&index, destination), expected, "{destination}");
    }
    let external = index.service(&"shop/pay:443".parse::<ServicePort>().expect("valid"));
    let external = external.expect("it is there").declaration.external.clone().expect("outside");
    assert_eq!((external.hosts.len(), external.port), (2, 443));
    assert_eq!(index.mesh().external_hosts, ["*.pay.com", "api.pay.com", "pay.org"]);
    assert_eq!(index.mesh().external_ports, [80, 443]);
}

#[test]
fn an_address_is_registered_as_a_host_is() {
    let index = mesh(&[
        object(
            "ExternalService shop/db",
            1,
            "{hosts: [192.0.2.7, '2001:DB8::7'], ports: [{port: 5432, protocol: tcp}]}",
        ),
        object("Service shop/near", 1, "{clusterIP: 192.0.2.8, ports: [{port: 5432}]}"),
        object("ExternalService shop/far", 1, "{hosts: [192.0.2.8], ports: [{port: 5432}]}"),
    ]);
    for (destination, expected) in [
        ("192.0.2.7:5432", "shop/db:5432"),
        ("[::ffff:192.0.2.7]:5432", "shop/db:5432"),
        ("[2001:db8::7]:5432", "shop/db:5432"),
        ("192.0.2.7:80", "passes"),
        // What is in the mesh goes before.
        ("192.0.2.8:5432", "shop/near:5432"),
    ] {
        assert_eq!(target(&index, destination), expected, "{destination}");
    }
    assert_eq!(index.mesh().external_hosts, ["192.0.2.7", "192.0.2.8", "2001:db8::7"]);
    assert!(index.mesh().external_ports.is_empty(), "an address is not looked for in first bytes");
    let asked = index.target("shop", "192.0.2.7:5432").depends_on;
    assert!(asked.contains(&Dependency::Host("192.0.2.7".into())), "{asked:?}");
}

#[test]
fn where_only_what_is_registered_may_be_called_another_port_of_a_host_is_nobodys() {
    let mut index = mesh(&[object("ExternalService shop/pay", 1, PAY)]);
    let config = "apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {name: mesh}\n\
                  spec: {egress: RegisteredOnly}";
    index.apply(&parse_documents("", config).remove(0).expect("valid").object);
    assert_eq!(target(&index, "api.pay.com:80"), "nobody");
}

#[test]
fn a_service_of_the_same_name_goes_before_and_the_status_says_so() {
    let pay = object("ExternalService shop/pay", 1, PAY);
    let mut index = mesh(std::slice::from_ref(&pay));
    let service = object("Service shop/pay", 2, "{ports: [{port: 443}]}");
    let changes = index.apply(&service);
    assert!(changes.mesh && changes.targets.contains(&Dependency::Host("api.pay.com".into())));
    assert_eq!(target(&index, "api.pay.com:443"), "nobody");
    let judged = judge(&pay, &index, &Refused::default()).conditions.remove(0);
    assert_eq!((judged.holds, judged.reason), (false, "Conflicted"));
    assert!(judged.message.contains("there is a Service shop/pay"), "{}", judged.message);
    index.remove(&service.key());
    assert_eq!(target(&index, "api.pay.com:443"), "shop/pay:443");
}

#[test]
fn of_two_that_register_a_host_the_older_is_meant() {
    let young = object("ExternalService a/young", 2, PAY);
    let mut index = mesh(&[young.clone(), object("ExternalService b/old", 1, PAY)]);
    assert_eq!(target(&index, "api.pay.com:443"), "b/old:443");
    let judged = judge(&young, &index, &Refused::default()).conditions.remove(0);
    assert!(judged.message.contains("api.pay.com:443 is registered by ExternalService b/old"));
    index.remove(&ObjectKey::new(Kind::ExternalService, "b", "old"));
    assert_eq!(target(&index, "api.pay.com:443"), "a/young:443");
    assert!(judge(&young, &index, &Refused::default()).conditions.remove(0).holds);
}

#[test]
fn who_asked_for_a_host_is_told_when_it_is_registered() {
    let mut index = mesh(&[]);
    let asked = index.target("shop", "www.pay.com:443").depends_on;
    let changes = index.apply(&object("ExternalService shop/pay", 1, PAY));
    assert!(asked.iter().any(|on| changes.targets.contains(on)), "{asked:?}");
    let far = index.target("shop", "www.example.com:443").depends_on;
    assert!(!far.iter().any(|on| changes.targets.contains(on)), "{far:?}");
}
