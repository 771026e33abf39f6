//! Messages of the control plane become snapshots, or are refused whole.

use super::*;

fn meshed() -> wire::Endpoint {
    wire::Endpoint {
        id: "shop/cart/0:8080".to_owned(),
        address: "10.0.0.1:4143".to_owned(),
        app_port: 8080,
        meshed: true,
        identities: vec!["spiffe://weft.local/ns/shop/sa/cart".to_owned()],
        zone: "a".to_owned(),
        labels: BTreeMap::new(),
        workload: "shop/cart".to_owned(),
    }
}

#[test]
fn a_good_endpoint_keeps_everything() {
    let compiled = endpoint(&meshed(), None).expect("good");
    assert_eq!(&*compiled.id, "shop/cart/0:8080");
    assert_eq!(compiled.address, "10.0.0.1:4143".parse().expect("valid"));
    assert_eq!(compiled.app_port.number(), 8080);
    let Transport::Mesh(identities) = &compiled.transport else { panic!("{compiled:?}") };
    assert_eq!(identities[0].service_account(), "cart");
    assert_eq!(compiled.workload.expect("named").to_string(), "shop/cart");
}

#[test]
fn a_bad_endpoint_is_refused_with_the_field_and_the_value() {
    type Change = fn(&mut wire::Endpoint);
    let table: &[(Change, &str)] = &[
        (|e| e.address = "cart:80".to_owned(), r#"endpoints[shop/cart/0:8080].address: "cart:80""#),
        (|e| e.address = "10.0.0.1:0".to_owned(), r#".address: "10.0.0.1:0": use IP:PORT"#),
        (|e| e.address = "0.0.0.0:80".to_owned(), r#".address: "0.0.0.0:80""#),
        (|e| e.app_port = 0, r#".app_port: "0""#),
        (|e| e.app_port = 65_536, r#".app_port: "65536": use a number from 1 to 65535"#),
        (|e| e.identities.clear(), r#".identities: "": a meshed endpoint needs at least one"#),
        (|e| e.identities.push("spiffe://x".to_owned()), r#".identities: "spiffe://x""#),
        (|e| e.workload = "cart".to_owned(), r#".workload: "cart""#),
        (|e| e.id.clear(), r#"endpoints.id: "": an endpoint needs an id"#),
    ];
    for (change, expected) in table {
        let mut message = meshed();
        change(&mut message);
        let error = endpoint(&message, None).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error} lacks {expected}");
    }
}

#[test]
fn health_goes_on_with_the_id_at_the_same_address_only() {
    let before = Arc::new(endpoint(&meshed(), None).expect("good"));
    let zone = wire::Endpoint { zone: "b".to_owned(), ..meshed() };
    let same = endpoint(&zone, Some(&before)).expect("good");
    assert!(Arc::ptr_eq(&same.health, &before.health));
    let moved = wire::Endpoint { address: "10.0.0.2:4143".to_owned(), ..meshed() };
    let moved = endpoint(&moved, Some(&before)).expect("good");
    assert!(!Arc::ptr_eq(&moved.health, &before.health));
}

#[test]
fn the_eager_set_is_refused_whole_when_a_range_is_bad() {
    let good = wire::Mesh {
        trust_domain: "weft.local".to_owned(),
        address_ranges: vec!["10.0.0.0/8".to_owned(), "fd00::/8".to_owned()],
        name_suffixes: vec![".svc.cluster.local".to_owned()],
        namespaces: vec!["shop".to_owned()],
        ..Default::default()
    };
    let scope = mesh(&good).expect("good");
    assert_eq!(scope.suffixes, ["svc.cluster.local"]);
    assert_eq!(scope.ranges.len(), 2);
    for bad in ["10.0.0.0", "10.0.0.0/33", "fd00::/129", "ten/8", "10.0.0.0/x", ""] {
        let message = wire::Mesh { address_ranges: vec![bad.to_owned()], ..good.clone() };
        let error = mesh(&message).expect_err(bad).to_string();
        assert!(error.starts_with(&format!("address_ranges: {bad:?}: use IP/PREFIX")), "{error}");
    }
    let error = mesh(&wire::Mesh { trust_domain: "A".to_owned(), ..good }).expect_err("bad");
    assert!(error.to_string().starts_with(r#"trust_domain: "A""#), "{error}");
}

#[test]
fn inbound_ports_need_a_mode_and_are_named_once() {
    let port = |number, mode| wire::InboundPort {
        port: number,
        protocol: wire::Protocol::Http1.into(),
        mode,
        service: "shop/cart:80".to_owned(),
        ..Default::default()
    };
    let strict = i32::from(InboundMode::Strict);
    let good = wire::Inbound { ports: vec![port(8080, strict), port(8081, strict)], others: None };
    let compiled = inbound(&good, None).expect("good");
    let first = &compiled.ports[&"8080".parse().expect("a port")];
    assert!(first.strict);
    assert_eq!(&*first.label, "shop/cart:80");
    for (ports, expected) in [
        (vec![port(0, strict)], r#"ports.port: "0""#),
        (vec![port(8080, 0)], r#"ports[8080].mode: "0""#),
        (vec![port(8080, 77)], r#"ports[8080].mode: "77""#),
        (
            vec![port(8080, strict), port(8080, strict)],
            "ports[8080]: \"8080\": the port is named twice",
        ),
    ] {
        let error =
            inbound(&wire::Inbound { ports, others: None }, None).expect_err(expected).to_string();
        assert!(error.starts_with(expected), "{error} lacks {expected}");
    }
}

#[test]
fn ports_that_are_not_listed_share_one_policy_and_one_label() {
    let entry = |port, mode: InboundMode| wire::InboundPort {
        port,
        protocol: Protocol::Unspecified.into(),
        mode: mode.into(),
        service: String::new(),
        ..Default::default()
    };
    let others = Some(entry(0, InboundMode::Permissive));
    let message = wire::Inbound { ports: vec![entry(8080, InboundMode::Strict)], others };
    let compiled = inbound(&message, None).expect("good");
    let port = |number: &str| compiled.port(number.parse().expect("a port")).cloned();
    let listed = port("8080").expect("listed");
    assert_eq!((listed.strict, &*listed.label), (true, ":8080"));
    let unlisted = port("8081").expect("served like all others");
    assert_eq!((unlisted.strict, &*unlisted.label), (false, "unlisted"));
    assert_eq!(port("9"), Some(unlisted));

    for (others, expected) in [
        (entry(8081, InboundMode::Strict), "others.port: \"8081\": it stands for no one port"),
        (entry(0, InboundMode::Unspecified), "others.mode: \"0\": use strict or permissive"),
    ] {
        let message = wire::Inbound { ports: Vec::new(), others: Some(others) };
        assert_eq!(inbound(&message, None).expect_err(expected).to_string(), expected);
    }
}

#[test]
fn roots_must_be_certificates() {
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::default();
    let root = params.self_signed(&key).expect("signed").der().to_vec();
    let bundle = |roots| wire::TrustBundle { trust_domain: "weft.local".to_owned(), roots };
    assert_eq!(trust(&bundle(vec![root.clone()])).expect("good").roots.len(), 1);
    assert!(trust(&bundle(Vec::new())).is_err());
    let mut longer = root.clone();
    longer.push(0);
    for bad in [vec![1, 2, 3], root[..root.len() - 1].to_vec(), longer] {
        let error = trust(&bundle(vec![root.clone(), bad])).expect_err("bad").to_string();
        assert!(error.starts_with("roots[1]: "), "{error}");
    }
}

#[test]
fn a_service_must_be_the_one_of_its_key() {
    let message = wire::Service {
        namespace: "shop".to_owned(),
        name: "cart".to_owned(),
        port: 80,
        ..wire::Service::default()
    };
    assert!(service(&message, &"shop/cart:80".parse().expect("valid")).is_ok());
    let error = service(&message, &"shop/web:80".parse().expect("valid")).expect_err("another");
    assert!(error.to_string().contains("the key names shop/web:80"), "{error}");
    let unknown = wire::Service { protocol: 99, ..message };
    let error = service(&unknown, &"shop/cart:80".parse().expect("valid")).expect_err("unknown");
    assert!(error.to_string().starts_with(r#"protocol: "99""#), "{error}");
}
