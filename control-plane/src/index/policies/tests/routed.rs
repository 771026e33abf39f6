//! Rate limits of routes at the servers behind them.

use super::*;

/// The route shop/split of shop/web, with these rules and hosts.
fn split(kind: &str, rest: &str) -> Object {
    objects(&format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: split, namespace: shop}}\n\
         spec: {{parentRefs: [{{group: '', kind: Service, name: web}}], {rest}}}\n"
    ))
    .remove(0)
}

fn limit(name: &str, target: &str, limit: &str) -> Object {
    traffic(&format!("shop/{name}"), 1, target, &format!("rateLimits: [{limit}]"))
}

const SPLIT: &str = "{kind: HTTPRoute, name: split}";
const TO_CART: &str = "backendRefs: [{name: cart, port: 80}]";

/// "POLICY REQUESTS: METHODS PATH HEADERS HOSTS | ..." of each limit of a port.
fn limits(index: &Index, workload: &str, number: u32) -> Vec<String> {
    use discovery::{path_match::Kind as Path, value_match::Kind as Value};
    let operation = |one: &discovery::Operation| {
        let paths = one.paths.iter().map(|path| match path.kind.as_ref().expect("a kind") {
            Path::Exact(path) => path.clone(),
            Path::Prefix(path) => format!("{path}*"),
            Path::Pattern(path) => format!("~{path}"),
        });
        let headers = one.headers.iter().map(|header| match header.kind.as_ref() {
            Some(Value::Exact(value)) => format!("{}={value}", header.name),
            Some(Value::Prefix(value)) => format!("{}={value}*", header.name),
            other => panic!("{other:?}"),
        });
        let parts = one.methods.iter().cloned().chain(paths).chain(headers);
        parts.chain(one.hosts.iter().cloned()).collect::<Vec<_>>().join(" ")
    };
    let limits = inbound(index, workload, number).rate_limits.into_iter();
    let limits = limits.map(|limit| {
        let operations: Vec<String> = limit.operations.iter().map(operation).collect();
        format!("{} {}: {}", limit.policy, limit.requests, operations.join(" | "))
    });
    limits.collect()
}

#[test]
fn a_limit_of_a_route_counts_what_its_rules_take_as_the_server_sees_it() {
    let rewrite = "filters: [{type: URLRewrite, urlRewrite: {hostname: b.internal, path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}}]";
    let header = "filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-A, value: new}], remove: [x-b]}}]";
    let matches = "matches: [{path: {value: /a}, method: GET, headers: [{name: X-A, value: b}, {name: x-b, value: c}, {name: x-c, value: d}]}]";
    for (rest, own, expected) in [
        (format!("rules: [{{{TO_CART}}}]"), "", &["/*"][..]),
        (
            format!("hostnames: [a.example.com], rules: [{{{matches}, {TO_CART}}}]"),
            "",
            &["GET /a* x-a=b x-b=c x-c=d a.example.com"],
        ),
        (
            format!("rules: [{{matches: [{{path: {{value: /a}}}}], {rewrite}, {TO_CART}}}]"),
            "",
            &["/b* b.internal"],
        ),
        (format!("rules: [{{{matches}, {header}, {TO_CART}}}]"), "", &["GET /a* x-c=d x-a=new"]),
        (
            format!(
                "rules: [{{matches: [{{path: {{value: /a}}}}, {{method: PUT}}], {TO_CART}}}, {{matches: [{{path: {{value: /c}}}}], backendRefs: [{{name: web, port: 80}}]}}, {{matches: [{{path: {{type: Exact, value: /d}}}}], {TO_CART}}}]"
            ),
            "",
            &["/a* | PUT /* | /d"],
        ),
        (
            format!("hostnames: ['*.example.com'], rules: [{{{matches}, {TO_CART}}}]"),
            "match: [{methods: [GET, PUT], hosts: [a.example.com, b.org]}, {methods: [PUT]}]",
            &["GET /a* x-a=b x-b=c x-c=d a.example.com"],
        ),
        (format!("rules: [{{{matches}, {TO_CART}}}]"), "match: [{methods: [PUT]}]", &[]),
        // The limit's hosts may be the wider ones, its headers are asked for as well, and a backend has filters of its own.
        (
            format!("hostnames: [a.example.com], rules: [{{{TO_CART}}}]"),
            "match: [{hosts: ['*.example.com'], headers: [{name: x-d, exact: e}]}]",
            &["/* x-d=e a.example.com"],
        ),
        (
            format!("rules: [{{backendRefs: [{{name: cart, port: 80, {header}}}]}}]"),
            "",
            &["/* x-a=new"],
        ),
        ("rules: [{backendRefs: [{name: cart, port: 9000}]}]".to_owned(), "", &[]),
        ("rules: [{backendRefs: [{name: bank, namespace: money, port: 80}]}]".to_owned(), "", &[]),
        (format!("rules: [{{sessionPersistence: {{}}, {TO_CART}}}]"), "", &[]),
    ] {
        let policy = limit("p", SPLIT, &format!("{{requests: 7, {own}}}"));
        let index = mesh(&[split("HTTPRoute", &rest), policy]);
        let of_policy = |said: &&str| format!("TrafficPolicy shop/p rateLimits[0] 7: {said}");
        let expected: Vec<String> = expected.iter().map(of_policy).collect();
        assert_eq!(limits(&index, "shop/cart", 8080), expected, "{rest} {own}");
        assert!(inbound(&index, "money/bank", 80).rate_limits.is_empty(), "another namespace's");
    }
    let call = "rules: [{matches: [{method: {service: shop.Cart, method: Add}}], backendRefs: [{name: cart, port: 80}]}]";
    let policy = limit("p", "{kind: GRPCRoute, name: split}", "{requests: 7}");
    assert_eq!(
        limits(&mesh(&[split("GRPCRoute", call), policy]), "shop/cart", 8080),
        ["TrafficPolicy shop/p rateLimits[0] 7: /shop.Cart/Add content-type=application/grpc*"]
    );
}

#[test]
fn a_rules_own_limits_go_before_the_routes_and_hold_beside_the_services() {
    let rules = format!(
        "rules: [{{name: one, matches: [{{path: {{value: /a}}}}], {TO_CART}}}, {{name: two, matches: [{{path: {{value: /b}}}}], {TO_CART}}}]"
    );
    let one = "{kind: HTTPRoute, name: split, sectionName: one}";
    let index = mesh(&[
        split("HTTPRoute", &rules),
        limit("cart", CART, "{requests: 1}"),
        limit("split", SPLIT, "{requests: 2}"),
        limit("one", one, "{requests: 3}"),
    ]);
    assert_eq!(
        limits(&index, "shop/cart", 8080),
        [
            "TrafficPolicy shop/cart rateLimits[0] 1: ",
            "TrafficPolicy shop/one rateLimits[0] 3: /a*",
            "TrafficPolicy shop/split rateLimits[0] 2: /b*",
        ]
    );
    let absent = limit("p", &one.replace("one", "three"), "{requests: 1}");
    let said = conditions(&index, &absent)["ResolvedRefs"].clone();
    assert_eq!(
        said,
        (
            "TargetNotFound",
            "spec.targetRefs[0].sectionName: HTTPRoute shop/split has no rule \"three\": it has one, two"
                .to_owned()
        )
    );
    assert_eq!(
        conditions(&index, &limit("p", one, "{requests: 1}"))["ResolvedRefs"].0,
        "ResolvedRefs"
    );
}

#[test]
fn a_change_of_a_limited_route_or_of_its_limits_touches_the_servers_behind_it_alone() {
    let none: Vec<String> = Vec::new();
    let of = |backend: &str| {
        split("HTTPRoute", &format!("rules: [{{backendRefs: [{{name: {backend}, port: 80}}]}}]"))
    };
    let mut index = mesh(&[]);
    assert_eq!(touched(&index.apply(&of("cart"))).1, none, "nobody limits it");
    let policy = limit("p", SPLIT, "{requests: 1}");
    assert_eq!(touched(&index.apply(&policy)), (none.clone(), vec!["shop/cart".to_owned()]));
    assert!(index.apply(&of("cart")).is_empty(), "it is the same");
    let both = ["shop/cart", "shop/web"].map(str::to_owned).to_vec();
    assert_eq!(touched(&index.apply(&of("web"))).1, both, "the old and the new backend");
    assert_eq!(limits(&index, "shop/web", 80).len(), 1);
    assert_eq!(touched(&index.remove(&of("web").key())).1, ["shop/web"]);
    assert_eq!(limits(&index, "shop/web", 80), none);
    index.apply(&of("cart"));
    assert_eq!(touched(&index.remove(&policy.key())).1, ["shop/cart"]);
    assert_eq!(touched(&index.apply(&of("web"))).1, none);
}
