//! Which texts are names, and which are not.

use super::*;

#[test]
fn a_spiffe_id_gives_its_parts_back() {
    let id: SpiffeId = "spiffe://weft.local/ns/shop/sa/cart.v1".parse().expect("valid");
    assert_eq!(id.trust_domain(), "weft.local");
    assert_eq!(id.namespace(), "shop");
    assert_eq!(id.service_account(), "cart.v1");
    let built = SpiffeId::new(&TrustDomain::default(), "shop", "cart.v1").expect("valid");
    assert_eq!(id, built);
    assert_eq!(id.to_string(), "spiffe://weft.local/ns/shop/sa/cart.v1");
}

#[test]
fn malformed_spiffe_ids_are_refused_with_the_value() {
    for text in [
        "",
        "spiffe://",
        "spiffe:///ns/a/sa/b",
        "spiffe://d/ns/a/sa/",
        "spiffe://d/ns//sa/b",
        "spiffe://d/ns/a/sa/b/c",
        "spiffe://d/ns/a/sa/b?x=1",
        "spiffe://d:80/ns/a/sa/b",
        "spiffe://D/ns/a/sa/b",
        "spiffe://d/sa/b/ns/a",
        "SPIFFE://d/ns/a/sa/b",
        "spiffe://d/ns/A/sa/b",
        "spiffe://d/ns/a/sa/b ",
    ] {
        let error = text.parse::<SpiffeId>().expect_err(text);
        assert_eq!(error.value, text);
    }
}

#[test]
fn ports_are_numbers_from_1_to_65535_and_nothing_else() {
    assert_eq!("8080".parse::<Port>().expect("valid").number(), 8080);
    for text in ["0", "65536", "+80", "", "80 ", "http", "080"] {
        assert!(text.parse::<Port>().is_err(), "{text}");
    }
    assert!(Port::try_from(70_000_u32).is_err());
}

#[test]
fn service_ports_and_workloads_round_trip() {
    for text in ["shop/cart:80", "a/b:65535"] {
        assert_eq!(text.parse::<ServicePort>().expect("valid").to_string(), text);
    }
    for text in [
        "cart:80",
        "shop/cart",
        "shop/cart:0",
        "shop/cart:080",
        "shop/Cart:80",
        "shop/a.b:80",
        "/cart:80",
    ] {
        assert!(text.parse::<ServicePort>().is_err(), "{text}");
    }
    assert_eq!("shop/cart.v1".parse::<WorkloadName>().expect("valid").to_string(), "shop/cart.v1");
}

#[test]
fn mesh_server_names_carry_the_port_and_may_name_a_service() {
    let bare: MeshServerName = "8080.weft.internal".parse().expect("valid");
    assert_eq!(bare, MeshServerName::of_port(Port::new(8080).expect("not zero")));
    assert_eq!(bare.to_string(), "8080.weft.internal");
    let full: MeshServerName = "80.cart.shop.weft.internal".parse().expect("valid");
    assert_eq!(full.to_string(), "80.cart.shop.weft.internal");
    assert!(MeshServerName::is_mesh("80.WEFT.internal"));
    for text in [
        "weft.internal",
        ".weft.internal",
        "0.weft.internal",
        "080.weft.internal",
        "x.weft.internal",
        "80.a.weft.internal",
        "80.a.b.c.weft.internal",
        "80.weft.internal.",
    ] {
        assert!(text.parse::<MeshServerName>().is_err(), "{text}");
    }
}
