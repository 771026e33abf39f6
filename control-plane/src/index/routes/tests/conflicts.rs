//! Routes of which one port can have but one: the older is in force, and the younger says so.

use super::*;
use crate::status::{judge, refused::Refused};

fn dated(kind: &str, name: &str, age: u32, spec: &str) -> Object {
    let mut object = objects(&route(kind, name, spec)).remove(0);
    object.metadata_mut().creation_timestamp = Some(format!("2030-01-01T00:00:{age:02}Z"));
    object
}

fn with(objects: &[&Object]) -> Index {
    let two = "apiVersion: v1\nkind: Service\nmetadata: {name: cart, namespace: shop}\nspec: {ports: [{name: http, port: 80}, {name: more, port: 81}]}\n";
    let mut index = index(&[two]);
    index.apply_all(objects.iter().copied());
    index
}

/// What a route is told at its first parent, but for what simply holds.
fn told(index: &Index, object: &Object) -> Vec<String> {
    let said = judge(object, index, &Refused::default()).parents.remove(0).1.into_iter();
    let unwell = said.filter(|one| one.holds == (one.r#type == "PartiallyInvalid"));
    unwell
        .map(|one| format!("{}={} {}: {}", one.r#type, one.holds, one.reason, one.message))
        .collect()
}

fn rules_at(index: &Index, port: &str, namespace: &str) -> Vec<String> {
    let routes = super::told(index, &format!("shop/cart:{port}"), namespace).unwrap_or_default();
    let http = routes.http.into_iter().flat_map(|http| http.rules).map(|rule| rule.name);
    http.chain(routes.opaque.into_iter().map(|rule| rule.name)).collect()
}

const TO_CART: &str = "rules: [{backendRefs: [{name: cart, port: 80}]}]";

#[test]
fn of_an_http_and_a_grpc_route_on_one_host_and_port_the_older_is_accepted() {
    let http = dated("HTTPRoute", "shop/web", 1, TO_CART);
    let hosted = |kind: &str, name: &str, age, hosts: &str| {
        dated(kind, name, age, &format!("hostnames: [{hosts}], {TO_CART}"))
    };
    let calls = dated("GRPCRoute", "shop/calls", 2, TO_CART);
    let index = with(&[&calls, &http]);
    assert_eq!(rules_at(&index, "80", "shop"), ["HTTPRoute shop/web rules[0]"]);
    assert_eq!(told(&index, &http), [""; 0]);
    let said = told(&index, &calls).join("");
    let expected = "Accepted=false Conflicted: at port 80: HTTPRoute shop/web is older and has hosts of this route";
    assert!(said.starts_with(expected), "{said}");

    let one = hosted("HTTPRoute", "shop/web", 1, "a.example.com");
    let wide = hosted("GRPCRoute", "shop/calls", 2, "'*.example.com'");
    let apart = hosted("GRPCRoute", "shop/apart", 2, "b.example.com");
    let index = with(&[&one, &wide, &apart]);
    assert_eq!(
        rules_at(&index, "80", "shop"),
        ["HTTPRoute shop/web rules[0]", "GRPCRoute shop/apart rules[0]"]
    );
    assert!(told(&index, &wide)[0].contains("Conflicted") && told(&index, &apart).is_empty());

    // Routes of other callers are no conflict.
    let theirs =
        dated("GRPCRoute", "web/calls", 2, &TO_CART.replace("cart,", "cart, namespace: shop,"));
    let index = with(&[&http, &theirs]);
    assert_eq!(rules_at(&index, "80", "web"), ["GRPCRoute web/calls rules[0]"]);
    assert!(told(&index, &http).is_empty() && told(&index, &theirs).is_empty());
}

#[test]
fn a_second_tcp_route_and_a_second_rule_say_that_they_are_never_reached() {
    let old = dated(
        "TCPRoute",
        "shop/old",
        1,
        "rules: [{backendRefs: [{name: cart, port: 80}]}, {backendRefs: [{name: cart, port: 81}]}]",
    );
    let young = dated("TCPRoute", "shop/young", 2, TO_CART);
    let index = with(&[&old, &young]);
    assert_eq!(rules_at(&index, "80", "shop"), ["TCPRoute shop/old rules[0]"]);
    assert_eq!(
        told(&index, &old),
        [
            "PartiallyInvalid=true UnsupportedValue: Dropped Rule 1: spec.rules[1]: is never reached: an earlier rule takes every connection; leave it out"
        ]
    );
    assert_eq!(
        told(&index, &young),
        [
            "Accepted=false Conflicted: at port 80: TCPRoute shop/old is older and takes every connection: give them other ports, or delete one of them"
        ]
    );
}

#[test]
fn a_route_that_loses_one_of_its_ports_holds_at_the_others_and_says_so() {
    let at_80 = "parentRefs: [{group: '', kind: Service, name: cart, port: 80}]";
    let old = dated("TCPRoute", "shop/old", 1, &format!("{at_80}, {TO_CART}"));
    let young = dated("TCPRoute", "shop/young", 2, TO_CART);
    let mut index = with(&[&old, &young]);
    assert_eq!(rules_at(&index, "81", "shop"), ["TCPRoute shop/young rules[0]"]);
    let said = told(&index, &young).join("");
    assert!(
        said.starts_with("PartiallyInvalid=true Conflicted: at port 80: TCPRoute shop/old"),
        "{said}"
    );
    index.remove(&old.key());
    assert_eq!(rules_at(&index, "80", "shop"), ["TCPRoute shop/young rules[0]"]);
    assert!(told(&index, &young).is_empty());
}

#[test]
fn of_two_tls_routes_with_one_server_name_the_older_has_it() {
    let tls = |name: &str, age, hosts: &str| {
        dated("TLSRoute", name, age, &format!("hostnames: [{hosts}], {TO_CART}"))
    };
    let old = tls("shop/old", 1, "a.b");
    let partly = tls("shop/partly", 2, "a.b, c.b");
    let wholly = tls("shop/wholly", 3, "c.b");
    let index = with(&[&old, &partly, &wholly]);
    assert!(told(&index, &old).is_empty());
    let said = told(&index, &partly).join("");
    assert!(said.contains("PartiallyInvalid=true Conflicted: at port 80: TLSRoute shop/old is older and has \"a.b\""), "{said}");
    let said = told(&index, &wholly).join("");
    assert!(said.starts_with("Accepted=false Conflicted"), "{said}");
}

#[test]
fn the_older_of_two_is_in_force_also_where_its_name_comes_last() {
    let young = dated("TCPRoute", "shop/a", 2, TO_CART);
    let old = dated("TCPRoute", "shop/b", 1, TO_CART);
    let mut index = with(&[&young, &old]);
    assert_eq!(rules_at(&index, "80", "web"), ["TCPRoute shop/b rules[0]"]);
    // One that is made again is as old as it is now.
    index.apply(&dated("TCPRoute", "shop/b", 3, TO_CART));
    assert_eq!(rules_at(&index, "80", "web"), ["TCPRoute shop/a rules[0]"]);
}

#[test]
fn a_route_that_is_not_in_force_takes_nothing_from_those_after_it() {
    let host = |hosts: &str| format!("hostnames: [{hosts}], {TO_CART}");
    let first = dated("HTTPRoute", "shop/first", 1, &host("a.org"));
    let lost = dated("GRPCRoute", "shop/lost", 2, &host("a.org, b.org"));
    let last = dated("HTTPRoute", "shop/last", 3, &host("b.org"));
    let index = with(&[&first, &lost, &last]);
    let expected = ["HTTPRoute shop/first rules[0]", "HTTPRoute shop/last rules[0]"];
    assert_eq!(rules_at(&index, "80", "web"), expected);
    assert_eq!(told(&index, &last), Vec::<String>::new());
}

#[test]
fn a_route_with_a_flawed_rule_that_loses_a_name_says_both() {
    let names = |hosts: &str, rules: &str| format!("hostnames: [{hosts}], rules: [{rules}]");
    let good = "{backendRefs: [{name: cart, port: 80}]}";
    let at_80 = "parentRefs: [{group: '', kind: Service, name: cart, port: 80}]";
    let old = dated("HTTPRoute", "shop/old", 1, &format!("{at_80}, {}", names("a.org", good)));
    let flawed = "{sessionPersistence: {}, backendRefs: [{name: cart, port: 80}]}";
    let young = names("a.org", &format!("{flawed}, {good}"));
    let young = dated("GRPCRoute", "shop/young", 2, &young);
    let told = told(&with(&[&old, &young]), &young);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with("PartiallyInvalid=true UnsupportedValue: Dropped Rule 0"),
        "{told:?}"
    );
    assert!(told[0].contains("; at port 80: HTTPRoute shop/old is older"), "{told:?}");
}

#[test]
fn of_two_consumers_routes_the_older_is_in_force_for_callers_there() {
    let to_shop = "rules: [{backendRefs: [{name: cart, namespace: shop, port: 80}]}]";
    let young = dated("TCPRoute", "lab/a", 2, to_shop);
    let old = dated("TCPRoute", "lab/b", 1, to_shop);
    let index = with(&[&young, &old]);
    assert_eq!(rules_at(&index, "80", "lab"), ["TCPRoute lab/b rules[0]"]);
    assert!(rules_at(&index, "80", "web").is_empty());
}
