//! What is read, what is refused and how, and what of an object has no support.

use super::{
    matching::PathMatchType,
    route::{Fate, unsupported},
    time::GatewayDuration,
};
use crate::model::{Object, ParseError, Route, parse_object};

fn parse(kind: &str, spec: &str) -> Result<Object, ParseError> {
    let version = match kind {
        "TCPRoute" => "v1alpha2",
        "ReferenceGrant" => "v1beta1",
        _ => "v1",
    };
    let head = format!("apiVersion: gateway.networking.k8s.io/{version}\nkind: {kind}\n");
    parse_object(&format!("{head}metadata: {{name: split, namespace: shop}}\nspec: {spec}\n"))
}

/// What a rule of a route of this kind is refused with.
fn refusal(kind: &str, rule: &str) -> String {
    let error = parse(kind, &format!("{{rules: [{rule}]}}")).expect_err(rule);
    error.message
}

#[test]
fn a_route_keeps_everything_that_was_written() {
    let spec = "{parentRefs: [{group: '', kind: Service, name: cart, port: 80, sectionName: http}], hostnames: ['*.example.com'],
  rules: [{name: first, matches: [{path: {type: Exact, value: /a}, method: GET, headers: [{name: X-A, value: b}], queryParams: [{type: RegularExpression, name: q, value: 'a+'}]}],
    filters: [{type: RequestMirror, requestMirror: {backendRef: {name: copy, port: 80}, fraction: {numerator: 1, denominator: 3}}},
      {type: URLRewrite, urlRewrite: {hostname: b.example.com, path: {type: ReplaceFullPath, replaceFullPath: /b}}}],
    backendRefs: [{name: cart, port: 80, weight: 0, namespace: other}],
    timeouts: {request: 10s, backendRequest: 500ms}, retry: {codes: [503], attempts: 2, backoff: 100ms}, sessionPersistence: {type: Cookie}}], useDefaultGateways: All}";
    let route = parse("HTTPRoute", spec).expect("valid");
    let again = parse_object(&route.to_json().to_string()).expect("what is written can be read");
    assert_eq!(again, route);
    let said = unsupported(&route).iter().map(ToString::to_string).collect::<Vec<_>>();
    let expected = [
        "spec.useDefaultGateways: is not supported: leave it out",
        "spec.rules[0].sessionPersistence: is not supported: leave it out",
    ];
    assert_eq!(said, expected);
}

#[test]
fn every_version_that_exists_is_read_and_others_are_named() {
    for (kind, versions) in [
        ("HTTPRoute", &["v1", "v1beta1"][..]),
        ("GRPCRoute", &["v1", "v1alpha2"]),
        ("TLSRoute", &["v1", "v1alpha3", "v1alpha2"]),
        ("TCPRoute", &["v1alpha2"]),
        ("ReferenceGrant", &["v1beta1", "v1"]),
    ] {
        let spec = match kind {
            "ReferenceGrant" => {
                "{from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: a}], to: [{group: '', kind: Service}]}"
            }
            _ => "{rules: [{backendRefs: [{name: cart, port: 80}]}]}",
        };
        let read = |version: &str| {
            let head = format!("apiVersion: gateway.networking.k8s.io/{version}\nkind: {kind}\n");
            parse_object(&format!("{head}metadata: {{name: a}}\nspec: {spec}\n"))
        };
        for version in versions {
            assert!(read(version).is_ok(), "{kind} {version}");
        }
        let error = read("v9").expect_err("there is none").message;
        assert!(
            error.contains(&format!("use \"gateway.networking.k8s.io/{}\"", versions[0])),
            "{error}"
        );
    }
}

#[test]
fn what_the_definition_of_an_httproute_refuses_is_refused_with_field_value_and_what_is_right() {
    let backend = "backendRefs: [{name: cart, port: 80}]";
    let long = format!("{{timeouts: {{request: 1s, backendRequest: 2s}}, {backend}}}");
    for (rule, message) in [
        (
            "{matches: [{path: {type: Exact, value: a}}]}",
            "spec.rules[0].matches[0].path.value: \"a\" is no path: begin it with '/'",
        ),
        (
            "{matches: [{path: {value: /a//b}}]}",
            "spec.rules[0].matches[0].path.value: \"/a//b\" is no path: leave out the empty segment",
        ),
        ("{matches: [{path: {value: /a/../b}}]}", "leave out the segments . and .."),
        ("{matches: [{path: {value: '/a b'}}]}", "percent-encode"),
        ("{matches: [{path: {value: /a%2Fb}}]}", "leave out the encoded '/'"),
        ("{matches: [{path: {value: /a%2}}]}", "percent-encode"),
        (
            "{matches: [{path: {type: RegularExpression, value: '('}}]}",
            "spec.rules[0].matches[0].path.value: \"(\" is no regular expression",
        ),
        ("{matches: [{path: {type: Glob, value: /a}}]}", "unknown variant `Glob`"),
        ("{matches: [{method: get}]}", "unknown variant `get`"),
        (
            "{matches: [{headers: [{name: 'a b', value: c}]}]}",
            "spec.rules[0].matches[0].headers[0].name: \"a b\" is no header's name",
        ),
        (
            "{matches: [{headers: [{name: a, value: b}, {name: a, value: c}]}]}",
            "headers[1].name: \"a\" stands twice",
        ),
        (
            "{matches: [{queryParams: [{type: RegularExpression, name: a, value: '(\\\\w{100}){100}'}]}]}",
            "queryParams[0].value",
        ),
        (
            "{backendRefs: [{name: cart, port: 80, weight: -1}]}",
            "spec.rules[0].backendRefs[0].weight: -1 is out of range: use 0 to 1000000",
        ),
        (
            "{backendRefs: [{name: cart}]}",
            "spec.rules[0].backendRefs[0].port: \"cart\" has no port: name one of the service's",
        ),
        (
            &long,
            "spec.rules[0].timeouts.backendRequest: 2s is longer than spec.rules[0].timeouts.request (1s): use at most that",
        ),
        ("{timeouts: {request: 10}}", "\"10\" is no duration: use 500ms, 10s, 5m or 1h30m"),
        ("{timeouts: {request: 1d}}", "\"1d\" is no duration: use 500ms, 10s, 5m or 1h30m"),
        (
            "{retry: {codes: [200]}}",
            "spec.rules[0].retry.codes[0]: 200 is out of range: use 400 to 599",
        ),
        (
            "{filters: [{type: RequestRedirect, requestRedirect: {statusCode: 304}}]}",
            "statusCode: 304 is no redirect: use 301, 302, 303, 307 or 308",
        ),
        (
            "{filters: [{type: RequestRedirect, requestRedirect: {}}], backendRefs: [{name: a, port: 1}]}",
            "spec.rules[0].backendRefs: a redirected request goes nowhere",
        ),
        (
            "{filters: [{type: RequestRedirect, urlRewrite: {}}]}",
            "requestRedirect: is missing: type RequestRedirect needs it",
        ),
        (
            "{filters: [{type: URLRewrite, urlRewrite: {}}, {type: RequestRedirect, requestRedirect: {}}]}",
            "exclude each other",
        ),
        (
            "{filters: [{type: URLRewrite, urlRewrite: {}}, {type: URLRewrite, urlRewrite: {}}]}",
            "UrlRewrite stands twice",
        ),
        ("{filters: [{type: Nothing}]}", "unknown variant `Nothing`"),
        (
            "{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: \"b\\r\\nc\"}]}}]}",
            "leave out control characters",
        ),
        (
            "{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 1}, percent: 101}}]}",
            "percent: 101 is out of range: use 0 to 100",
        ),
        (
            "{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 1}, percent: 1, fraction: {numerator: 1}}}]}",
            "exclude each other",
        ),
        (
            "{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 1}, fraction: {numerator: 9, denominator: 3}}}]}",
            "fraction.numerator: 9 is out of range: use 0 to 3",
        ),
        (
            "{matches: [{path: {type: Exact, value: /a}}], filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}}]}",
            "spec.rules[0].matches: replacePrefixMatch needs exactly one match",
        ),
        ("{name: a}, {name: a}", "spec.rules[1].name: \"a\" names two rules: use another name"),
    ] {
        let refused = refusal("HTTPRoute", rule);
        assert!(refused.contains(message), "{rule}: {refused}");
    }
}

#[test]
fn parents_hosts_calls_and_grants_are_checked_as_well() {
    for (kind, spec, message) in [
        (
            "HTTPRoute",
            "{hostnames: ['shop.example.com:80']}",
            "spec.hostnames[0]: \"shop.example.com:80\" is no host name",
        ),
        (
            "HTTPRoute",
            "{parentRefs: [{name: a}, {name: a}]}",
            "spec.parentRefs[1]: \"a\" stands twice: tell them apart by sectionName or port",
        ),
        ("HTTPRoute", "{parentRefs: [{name: a, port: 0}]}", "port"),
        (
            "GRPCRoute",
            "{rules: [{matches: [{method: {type: Exact}}]}]}",
            "spec.rules[0].matches[0].method: names neither: give service, method or both",
        ),
        (
            "GRPCRoute",
            "{rules: [{matches: [{method: {service: a/b}}]}]}",
            "method.service: \"a/b\" is no name of gRPC",
        ),
        (
            "GRPCRoute",
            "{rules: [{matches: [{method: {type: RegularExpression, method: 'a)(b'}}]}]}",
            "is no regular expression",
        ),
        ("TCPRoute", "{rules: []}", "spec.rules: is empty: use at least one entry"),
        (
            "TCPRoute",
            "{rules: [{}]}",
            "spec.rules[0].backendRefs: is empty: use at least one entry",
        ),
        ("ReferenceGrant", "{from: [], to: []}", "spec.from: is empty: use at least one entry"),
    ] {
        let refused = parse(kind, spec).expect_err(spec).message;
        assert!(refused.contains(message), "{spec}: {refused}");
    }
}

#[test]
fn a_rule_with_an_unsupported_filter_refuses_and_one_with_an_unsupported_field_is_dropped() {
    let route = parse(
        "HTTPRoute",
        "{rules: [{}, {filters: [{type: ExtensionRef, extensionRef: {group: a, kind: B, name: c}}]}, {matches: [{cookies: []}]}]}",
    );
    let route = route.expect("valid");
    let fates = Route::of(&route).expect("a route").fates();
    assert!(
        matches!(&fates[..], [Fate::Whole, Fate::Refusing(one), Fate::Dropped(two)]
            if one[0].field == "spec.rules[1].filters[0].type ExtensionRef" && two[0].field == "spec.rules[2].matches[0].cookies"),
        "{fates:?}"
    );
    let grpc = "{rules: [{filters: [{type: RequestRedirect, requestRedirect: {}}]}]}";
    let route = parse("GRPCRoute", grpc).expect("valid");
    assert!(matches!(Route::of(&route).expect("a route").fates()[..], [Fate::Refusing(_)]));
}

#[test]
fn a_route_without_rules_has_one_that_takes_everything() {
    let Object::HTTPRoute(route) = parse("HTTPRoute", "{}").expect("valid") else { panic!() };
    let rules = route.spec.rules();
    assert_eq!((rules.len(), rules[0].matches.len()), (1, 0));
    let path = super::http_route::HttpMatch::default();
    assert_eq!(path.path(), (PathMatchType::PathPrefix, "/"));
}

#[test]
fn durations_are_those_of_the_gateway_api_and_are_written_as_they_are_read() {
    for (text, millis, written) in [
        ("0s", 0, "0s"),
        ("500ms", 500, "500ms"),
        ("1h30m", 5_400_000, "1h30m"),
        ("1500ms", 1_500, "1s500ms"),
        ("10s5s", 15_000, "15s"),
        ("99999h", 99_999 * 3_600_000, "99999h"),
    ] {
        let duration = GatewayDuration::parse(text).expect(text);
        assert_eq!((duration.millis(), duration.to_string().as_str()), (millis, written));
        assert_eq!(GatewayDuration::parse(written), Ok(duration));
    }
    for text in ["", "s", "1", "1.5s", "-1s", "123456s", "1s1s1s1s1s", "99999h1ms", "1d"] {
        assert!(GatewayDuration::parse(text).is_err(), "{text}");
    }
}
