//! The form in which rules travel.

use weft_proto::discovery::{HeaderModifier, HeaderValue, filter::Kind, path_rewrite};

use super::*;

fn rule(kind: &str, rule: &str) -> discovery::HttpRule {
    let index = index(&[&services(CART), &route(kind, "shop/split", &format!("rules: [{rule}]"))]);
    told(&index, "shop/cart:80", "web").expect("routes").http.expect("of HTTP").rules.remove(0)
}

fn filter(filter: &str) -> Kind {
    let rule = rule("HTTPRoute", &format!("{{filters: [{filter}]}}"));
    rule.filters[0].kind.clone().expect("a kind")
}

#[test]
fn each_filter_travels_with_all_that_it_says() {
    let header = |name: &str, value: &str| HeaderValue { name: name.into(), value: value.into() };
    let modifier = HeaderModifier {
        set: vec![header("X-Set", "1")],
        add: vec![header("X-Add", "2")],
        remove: vec!["X-Gone".to_owned()],
    };
    let written =
        "{set: [{name: X-Set, value: '1'}], add: [{name: X-Add, value: '2'}], remove: [X-Gone]}";
    for (kind, expected) in [
        ("RequestHeaderModifier, requestHeaderModifier", Kind::RequestHeaders(modifier.clone())),
        ("ResponseHeaderModifier, responseHeaderModifier", Kind::ResponseHeaders(modifier)),
    ] {
        assert_eq!(filter(&format!("{{type: {kind}: {written}}}")), expected);
    }
    let prefix =
        |path: &str| discovery::PathRewrite { kind: Some(path_rewrite::Kind::Prefix(path.into())) };
    let full =
        |path: &str| discovery::PathRewrite { kind: Some(path_rewrite::Kind::Full(path.into())) };
    let redirect = "{scheme: https, hostname: a.example.com, port: 8443, statusCode: 308, path: {type: ReplaceFullPath, replaceFullPath: /b}}";
    let expected = discovery::Redirect {
        scheme: Some("https".into()),
        host: Some("a.example.com".into()),
        path: Some(full("/b")),
        port: Some(8443),
        status: 308,
    };
    let given = format!("{{type: RequestRedirect, requestRedirect: {redirect}}}");
    assert_eq!(filter(&given), Kind::Redirect(expected));
    let expected = discovery::Redirect { status: 302, ..discovery::Redirect::default() };
    assert_eq!(filter("{type: RequestRedirect, requestRedirect: {}}"), Kind::Redirect(expected));
    let rewrite = "{type: URLRewrite, urlRewrite: {hostname: b.example.com, path: {type: ReplacePrefixMatch, replacePrefixMatch: ''}}}";
    let expected =
        discovery::Rewrite { host: Some("b.example.com".into()), path: Some(prefix("")) };
    assert_eq!(filter(rewrite), Kind::Rewrite(expected));
}

#[test]
fn a_mirror_travels_with_its_share_and_its_backend() {
    for (share, expected) in [
        ("", (0, 0)),
        (", percent: 5", (5, 100)),
        (", fraction: {numerator: 1, denominator: 3}", (1, 3)),
        (", fraction: {numerator: 7}", (7, 100)),
    ] {
        let given = format!(
            "{{type: RequestMirror, requestMirror: {{backendRef: {{name: v2, port: 80}}{share}}}}}"
        );
        let Kind::Mirror(mirror) = filter(&given) else { panic!("{given}") };
        assert_eq!((mirror.numerator, mirror.denominator), expected);
        assert_eq!(backends(&[mirror.backend.expect("a backend")]), ["shop/v2:80 x1"]);
    }
}

#[test]
fn a_rule_travels_with_its_name_its_timeouts_its_retries_and_the_filters_of_its_backends() {
    let given = "{name: canary, timeouts: {request: 1s, backendRequest: 0s}, retry: {codes: [500, 503], attempts: 3, backoff: 100ms}, \
                 backendRefs: [{name: v2, port: 80, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [a]}}]}]}";
    let made = rule("HTTPRoute", given);
    assert_eq!(made.name, "HTTPRoute shop/split rules[canary]");
    assert_eq!(made.backends[0].filters.len(), 1);
    let requests = made.requests.expect("its own fields");
    assert_eq!((requests.request_timeout_ms, requests.attempt_timeout_ms), (Some(1000), Some(0)));
    let retry = requests.retry.expect("retries");
    assert_eq!((retry.attempts, retry.backoff_base_ms), (Some(3), Some(100)));
    assert_eq!(retry.statuses, [500, 503]);
    assert_eq!(rule("HTTPRoute", "{}").requests, None);
    assert_eq!(rule("GRPCRoute", "{}").name, "GRPCRoute shop/split rules[0]");
}

#[test]
fn opaque_rules_go_by_kind_by_server_name_and_by_age() {
    let given = [
        route("TCPRoute", "shop/bytes", &to("{name: v2, port: 80}")),
        route(
            "TLSRoute",
            "shop/wild",
            &format!("hostnames: ['*.example.com'], {}", to("{name: v2, port: 80}")),
        ),
        route(
            "TLSRoute",
            "shop/names",
            &format!(
                "hostnames: [b.example.com, a.example.com], {}",
                to("{name: cart, port: 80, weight: 2}")
            ),
        ),
    ];
    let index = index(&[&services(CART), &given.concat()]);
    let routes = told(&index, "shop/cart:80", "web").expect("routes");
    assert_eq!(routes.http, None);
    let said: Vec<String> = routes
        .opaque
        .iter()
        .map(|rule| {
            format!(
                "{}: {} -> {}",
                rule.name,
                rule.server_names.join(","),
                backends(&rule.backends).join(",")
            )
        })
        .collect();
    let expected = [
        "TLSRoute shop/names rules[0]: b.example.com,a.example.com -> shop/cart:80 x2",
        "TLSRoute shop/wild rules[0]: *.example.com -> shop/v2:80 x1",
        "TCPRoute shop/bytes rules[0]:  -> shop/v2:80 x1",
    ];
    assert_eq!(said, expected);
}

#[test]
fn every_pattern_and_path_that_travels_is_one_that_a_sidecar_compiles() {
    let given = "{matches: [{method: {type: RegularExpression, service: 'a|b', method: 'c|d'}}]}";
    let index =
        index(&[&services(CART), &route("GRPCRoute", "shop/split", &format!("rules: [{given}]"))]);
    let routes = told(&index, "shop/cart:80", "web").expect("routes").http.expect("of HTTP");
    let Some(discovery::path_match::Kind::Pattern(pattern)) =
        &routes.matches[0].path.as_ref().expect("a path").kind
    else {
        panic!("{routes:?}")
    };
    let pattern = weft_proto::Pattern::new(pattern).expect("it compiles");
    assert!(pattern.matches("/a/d") && !pattern.matches("/a/e") && !pattern.matches("/a"));
}

#[test]
fn a_route_of_which_every_rule_is_dropped_leaves_its_service_and_others_routes_as_they_are() {
    let dropped = "rules: [{sessionPersistence: {}, backendRefs: [{name: cart, port: 80}]}]";
    let alone = index(&[&services(&["shop/cart:80"]), &route("HTTPRoute", "shop/none", dropped)]);
    assert_eq!(told(&alone, "shop/cart:80", "shop"), None);
    let consumers = dropped.replace("{name: cart", "{name: cart, namespace: shop");
    let both = index(&[
        &services(&["shop/cart:80"]),
        &route("HTTPRoute", "shop/whole", "rules: [{backendRefs: [{name: cart, port: 80}]}]"),
        &route("HTTPRoute", "lab/none", &consumers),
    ]);
    let producers = told(&both, "shop/cart:80", "shop");
    assert!(producers.is_some());
    assert_eq!(told(&both, "shop/cart:80", "lab"), producers);
}

#[test]
fn the_longer_server_name_goes_first_whatever_the_age_and_the_name() {
    let tls = |name: &str, host: &str| {
        let rest = "rules: [{backendRefs: [{name: cart, port: 443}]}]";
        route("TLSRoute", name, &format!("hostnames: ['{host}'], {rest}"))
    };
    let index = index(&[
        &services(&["shop/cart:443=tls"]),
        &tls("shop/a", "*.example.com"),
        &tls("shop/b", "*.deep.example.com"),
        &tls("shop/c", "a.deep.example.com"),
    ]);
    let opaque = told(&index, "shop/cart:443", "web").expect("routes").opaque;
    let names: Vec<_> = opaque.iter().flat_map(|rule| &rule.server_names).collect();
    assert_eq!(names, ["a.deep.example.com", "*.deep.example.com", "*.example.com"]);
}
