//! What a sidecar refuses is never sent to one: an object that says it is refused where it comes in, as the kind's
//! definition would, or its status says what of it is not in force.

use weft_proto::discovery::{HttpRoutes, backend::Target};

use super::*;
use crate::model::parse_object;

enum Fate {
    /// Where it comes in, with this in the message.
    Refused(&'static str),
    /// In the status, with this in the message; its requests get 500.
    Answered(&'static str),
    /// In the status, with this in the message; the service is as without the route.
    Dropped(&'static str),
}
use Fate::{Answered, Dropped, Refused};

fn route(kind: &str, rule: &str) -> String {
    let version = if kind == "TCPRoute" { "v1alpha2" } else { "v1" };
    format!(
        "apiVersion: gateway.networking.k8s.io/{version}\nkind: {kind}\nmetadata: {{name: split, namespace: default}}\n\
         spec: {{parentRefs: [{{group: '', kind: Service, name: web}}], rules: [{rule}]}}\n"
    )
}

fn headers(kind: &str, change: &str) -> String {
    let field = format!("{}{}", kind[..1].to_lowercase(), &kind[1..]);
    format!("{{filters: [{{type: {kind}, {field}: {{{change}}}}}]}}")
}

fn rewrite(path: &str) -> String {
    format!("{{filters: [{{type: URLRewrite, urlRewrite: {{path: {path}}}}}]}}")
}

fn redirect(fields: &str) -> String {
    format!("{{filters: [{{type: RequestRedirect, requestRedirect: {{{fields}}}}}]}}")
}

fn full(path: &str) -> String {
    format!("{{type: ReplaceFullPath, replaceFullPath: '{path}'}}")
}

fn prefix(path: &str) -> String {
    format!("{{type: ReplacePrefixMatch, replacePrefixMatch: '{path}'}}")
}

fn mirror(share: &str) -> String {
    format!(
        "{{filters: [{{type: RequestMirror, requestMirror: {{backendRef: {{name: web, port: 80}}, {share}}}}}]}}"
    )
}

/// A kind of route, a rule of it, what becomes of that.
fn rules() -> Vec<(&'static str, String, Fate)> {
    let request = "RequestHeaderModifier";
    let with_match = |path: &str| {
        rewrite(&prefix("/b")).replacen('{', &format!("{{matches: [{{path: {path}}}], "), 1)
    };
    let on_backend = headers(request, "remove: [te]");
    let on_backend = format!("{{backendRefs: [{{name: web, port: 80, {}]}}", &on_backend[1..]);
    let mut all = vec![
        (
            "HTTPRoute",
            headers(request, "set: [{name: Weft-Deadline, value: '1'}]"),
            Answered(
                "spec.rules[0].filters[0].requestHeaderModifier.set[0].name: \"Weft-Deadline\" is not supported: headers that begin with weft- are the sidecars' own",
            ),
        ),
        (
            "HTTPRoute",
            headers(
                "ResponseHeaderModifier",
                "add: [{name: a, value: b}, {name: Upgrade, value: c}]",
            ),
            Answered(
                "responseHeaderModifier.add[1].name: \"Upgrade\" is not supported: it concerns one connection",
            ),
        ),
        (
            "GRPCRoute",
            headers(request, "remove: [a, Host]"),
            Answered("remove[1]: \"Host\" is not supported: use a URLRewrite"),
        ),
        (
            "HTTPRoute",
            on_backend,
            Answered("backendRefs[0].filters[0].requestHeaderModifier.remove[0]: \"te\""),
        ),
        (
            "HTTPRoute",
            rewrite(&full("/a?b=c")),
            Answered("path.replaceFullPath: \"/a?b=c\" is not supported"),
        ),
        ("HTTPRoute", rewrite(&full("/a#b")), Answered("leave out query and fragment")),
        ("HTTPRoute", rewrite(&full("")), Answered("begin it with '/'")),
        ("HTTPRoute", rewrite(&prefix("/a b")), Answered("percent-encode")),
        ("HTTPRoute", rewrite(&prefix("/a%2")), Answered("percent-encode")),
        (
            "HTTPRoute",
            rewrite(&prefix("a")),
            Answered("path.replacePrefixMatch: \"a\" is not supported"),
        ),
        (
            "HTTPRoute",
            redirect(&format!("path: {}", full("/a?b"))),
            Answered("requestRedirect.path.replaceFullPath"),
        ),
        (
            "HTTPRoute",
            with_match("{type: Exact, value: /a}"),
            Refused("replacePrefixMatch needs exactly one match"),
        ),
        (
            "HTTPRoute",
            with_match("{type: RegularExpression, value: /a}"),
            Refused("replacePrefixMatch needs"),
        ),
        (
            "GRPCRoute",
            rewrite(&prefix("/a")),
            Answered("filters[0].type UrlRewrite: is not supported"),
        ),
        ("HTTPRoute", redirect("hostname: 'a.example.com:80'"), Refused("is no host name")),
        ("HTTPRoute", redirect("scheme: ftp"), Refused("\"ftp\" is no scheme of HTTP")),
        ("HTTPRoute", redirect("statusCode: 304"), Refused("304 is no redirect")),
        ("HTTPRoute", redirect("port: 0"), Refused("port")),
        (
            "HTTPRoute",
            mirror("fraction: {numerator: 101}"),
            Refused("101 is out of range: use 0 to 100"),
        ),
        (
            "HTTPRoute",
            mirror("fraction: {numerator: 0, denominator: 0}"),
            Refused("0 is out of range"),
        ),
        ("HTTPRoute", "{matches: [{path: {value: '/a%2'}}]}".to_owned(), Refused("percent-encode")),
    ];
    all.extend(of_every_header());
    all.extend(of_opaque());
    all
}

/// Every name that no filter may touch.
fn of_every_header() -> Vec<(&'static str, String, Fate)> {
    let request = "RequestHeaderModifier";
    let mut all = Vec::new();
    for name in ["connection", "keep-alive", "proxy-connection", "te", "trailer", "http2-settings"]
    {
        all.push((
            "HTTPRoute",
            headers(request, &format!("remove: [{name}]")),
            Answered("one connection"),
        ));
    }
    for name in ["proxy-authenticate", "proxy-authorization", "proxy-authentication-info"] {
        all.push((
            "HTTPRoute",
            headers(request, &format!("remove: [{name}]")),
            Answered("one connection"),
        ));
    }
    for name in ["content-length", "Transfer-Encoding"] {
        let change = format!("set: [{{name: {name}, value: '1'}}]");
        all.push(("GRPCRoute", headers(request, &change), Answered("where the message ends")));
    }
    all
}

/// Opaque connections have nothing to filter.
fn of_opaque() -> Vec<(&'static str, String, Fate)> {
    let filters = "filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [a]}}]";
    let rule = format!("{{backendRefs: [{{name: web, port: 80, {filters}}}]}}");
    let said = "backendRefs[0].filters: is not supported";
    ["TCPRoute", "TLSRoute"].map(|kind| (kind, rule.clone(), Dropped(said))).into()
}

#[test]
fn a_rule_that_a_sidecar_would_refuse_is_refused_or_named_in_the_status_and_not_sent() {
    for (kind, rule, fate) in rules() {
        let text = route(kind, &rule);
        let said = match (parse_object(&text), &fate) {
            (Err(error), Refused(said)) => {
                assert!(error.to_string().contains(said), "{rule}: {error}");
                continue;
            }
            (Ok(_), Answered(said) | Dropped(said)) => said,
            (parsed, _) => panic!("{rule}: {parsed:?}"),
        };
        let all = objects(&[&service("{ports: [{port: 80}]}"), &text]);
        let mut index = Index::new(TrustDomain::default());
        index.apply_all(&all);
        let judged = judge(&all[1], &index, &refused::Refused::default());
        let accepted = &judged.parents[0].1[0];
        assert_eq!((accepted.holds, accepted.reason), (false, "UnsupportedValue"), "{rule}");
        assert!(accepted.message.contains(*said), "{rule}: {}", accepted.message);
        let port = "default/web:80".parse().expect("valid");
        let routes = index.service(&port).expect("it exists").declaration.routes.clone();
        assert_eq!(
            routes.is_some(),
            matches!(fate, Answered(_)),
            "{rule}: what is left of it binds"
        );
        let routes = routes.unwrap_or_default();
        assert!(routes.opaque.is_empty(), "{rule}");
        let HttpRoutes { rules, .. } = routes.http.unwrap_or_default();
        assert_eq!(rules.len(), usize::from(matches!(fate, Answered(_))), "{rule}");
        for sent in rules {
            assert!(sent.filters.is_empty(), "{rule}");
            let [backend] = &sent.backends[..] else { panic!("{rule}: {:?}", sent.backends) };
            assert!(
                matches!(backend.target, Some(Target::Invalid(_))) && backend.filters.is_empty()
            );
        }
    }
}

#[test]
fn of_policies_it_is_refused_where_it_comes_in() {
    let limits = |limit: &str| format!("rateLimits: [{limit}]");
    let path = |path: &str| limits(&format!("{{requests: 1, match: [{{paths: [{path}]}}]}}"));
    for (section, said) in [
        (limits("{requests: 0}"), "0 is out of range: use 1 to"),
        (limits("{requests: 1, burst: 0}"), "0 is out of range: use 1 to"),
        (limits("{requests: 1, per: 0s}"), "\"0s\" is too short"),
        ("concurrency: {maxInFlight: 0}".to_owned(), "0 is out of range: use 1 to"),
        (path("{exact: '/a%2'}"), "two hexadecimal digits after each '%'"),
        (path("{prefix: '/a%zz'}"), "two hexadecimal digits after each '%'"),
        (path("{prefix: '/a%00'}"), "without control characters"),
        (path("{exact: '/%ff'}"), "UTF-8"),
        (path("{pattern: '('}"), "is no regular expression"),
    ] {
        let text = format!(
            "apiVersion: weft.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: a}}\n\
             spec: {{targetRefs: [{{kind: Service, name: web}}], {section}}}\n"
        );
        let error = parse_object(&text).expect_err(&text).to_string();
        assert!(error.contains(said), "{section}: {error}");
    }
    let good = "apiVersion: weft.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {name: a}\nspec: {rules: [{action: Deny, to: [{paths: [{exact: '/caf%C3%A9%2f%7e'}]}]}]}\n";
    assert!(parse_object(good).is_ok(), "octets that are text stay");
}

#[test]
fn a_first_backoff_above_the_cap_of_another_level_raises_the_cap() {
    let policy = "apiVersion: weft.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: a}\nspec: {targetRefs: [{kind: Service, name: web}], retry: {backoff: {max: 1s}}}\n";
    let mesh = mesh("{defaults: {retry: {backoff: {base: 2s}}}}");
    let route = route("HTTPRoute", "{retry: {backoff: 3s}, backendRefs: [{name: web, port: 80}]}");
    let mut index = Index::new(TrustDomain::default());
    index.apply_all(&objects(&[&service("{ports: [{port: 80}]}"), policy, &mesh, &route]));
    let port = "default/web:80".parse().expect("valid");
    let declaration = (**index.service(&port).expect("it exists").declaration).clone();
    let rule = declaration.routes.and_then(|routes| routes.http).expect("HTTP").rules.remove(0);
    for (policy, base) in [(declaration.requests, 2_000), (rule.requests, 3_000)] {
        let retry = policy.and_then(|policy| policy.retry).expect("retries");
        assert_eq!((retry.backoff_base_ms, retry.backoff_max_ms), (Some(base), Some(base)));
    }
}
