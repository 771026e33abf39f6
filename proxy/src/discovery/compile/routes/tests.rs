//! What is compiled, and what is refused with which words.

use http::uri::Authority;
use weft_proto::discovery::{
    Filter as WireFilter, HeaderModifier, HeaderValue, HttpMatch, HttpRoutes, HttpRule,
    PathRewrite, Redirect, Rewrite, filter, path_rewrite,
};

use super::*;
use crate::{http::RequestHead, route::table::tests::request};

fn prefix(text: &str) -> Option<wire::PathMatch> {
    Some(wire::PathMatch { kind: Some(path_match::Kind::Prefix(text.into())) })
}

fn exact(text: &str) -> Option<wire::PathMatch> {
    Some(wire::PathMatch { kind: Some(path_match::Kind::Exact(text.into())) })
}

fn backend(weight: u32, service: &str) -> wire::Backend {
    let target = Some(backend::Target::Service(service.into()));
    wire::Backend { weight, target, filters: Vec::new() }
}

fn with(rules: Vec<HttpRule>, matches: Vec<HttpMatch>) -> wire::Routes {
    wire::Routes { http: Some(HttpRoutes { rules, matches }), opaque: Vec::new() }
}

fn filtered(kind: filter::Kind) -> wire::Routes {
    let filters = vec![WireFilter { kind: Some(kind) }];
    let rule = HttpRule { filters, ..HttpRule::default() };
    with(vec![rule], vec![HttpMatch { path: exact("/a"), ..HttpMatch::default() }])
}

fn refused(message: &wire::Routes) -> String {
    routes(message).expect_err("refused").to_string()
}

fn head(path: &str) -> RequestHead {
    request("GET", path, &[])
}

#[test]
fn rules_and_matches_keep_their_order_and_their_prefixes() {
    let rules = vec![
        HttpRule {
            name: "v1".into(),
            backends: vec![backend(1, "shop/v1:80")],
            ..HttpRule::default()
        },
        HttpRule {
            name: "v2".into(),
            backends: vec![backend(1, "shop/v2:80")],
            ..HttpRule::default()
        },
    ];
    let matches = vec![
        HttpMatch { rule: 1, path: prefix("/v2/"), ..HttpMatch::default() },
        HttpMatch { rule: 0, path: prefix("/"), ..HttpMatch::default() },
    ];
    let compiled = routes(&with(rules, matches)).expect("good");
    let table = compiled.http.expect("HTTP routes");
    let any = Authority::from_static("cart");
    for (path, name, length) in [("/v2/x", "v2", 3), ("/v2", "v2", 3), ("/v22", "v1", 0)] {
        let taken = table.decide(&any, &head(path)).expect("taken");
        assert_eq!((&*taken.rule.name, taken.prefix), (name, length), "{path}");
    }
    let mut random = fastrand::Rng::with_seed(1);
    let taken = table.decide(&any, &head("/v2")).expect("taken");
    assert_eq!(&*taken.rule.backends.choose(&mut random).expect("one").label, "shop/v2:80");
}

#[test]
fn what_is_not_understood_is_refused_by_its_field() {
    let one = |one: HttpMatch| with(vec![HttpRule::default()], vec![one]);
    let regex = wire::PathMatch { kind: Some(path_match::Kind::Pattern("(".into())) };
    let header = |name: &str, kind| wire::ValueMatch { name: name.into(), kind };
    let headers = |value| one(HttpMatch { headers: vec![value], ..HttpMatch::default() });
    for (message, expected) in [
        (
            one(HttpMatch { rule: 1, ..HttpMatch::default() }),
            "http.matches[0].rule: \"1\": there are 1 rules",
        ),
        (
            one(HttpMatch { path: prefix("a"), ..HttpMatch::default() }),
            "http.matches[0].path.prefix: \"a\": begin it",
        ),
        (
            one(HttpMatch { path: Some(regex), ..HttpMatch::default() }),
            "http.matches[0].path.pattern: \"(\": is no regular",
        ),
        (
            one(HttpMatch { host: "a:80".into(), ..HttpMatch::default() }),
            "http.matches[0].host: \"a:80\": use a name without port",
        ),
        (
            one(HttpMatch { method: "G T".into(), ..HttpMatch::default() }),
            "http.matches[0].method: \"G T\": use a method",
        ),
        (
            headers(header("a b", Some(value_match::Kind::Present(true)))),
            "http.matches[0].headers[0].name: \"a b\": not the name",
        ),
        (
            headers(header("a", Some(value_match::Kind::Present(false)))),
            "http.matches[0].headers[0].present: \"false\"",
        ),
        (headers(header("a", None)), "http.matches[0].headers[0].a: \"\": a kind of match"),
    ] {
        let text = refused(&message);
        assert!(text.starts_with(expected), "{text}\n{expected}");
    }
}

#[test]
fn filters_that_cannot_be_acted_on_are_refused() {
    let set = |name: &str, value: &str| {
        let set = vec![HeaderValue { name: name.into(), value: value.into() }];
        filtered(filter::Kind::RequestHeaders(HeaderModifier { set, ..HeaderModifier::default() }))
    };
    let redirect = |redirect| filtered(filter::Kind::Redirect(redirect));
    let rewrite = |kind| {
        let path = Some(PathRewrite { kind: Some(kind) });
        filtered(filter::Kind::Rewrite(Rewrite { host: None, path }))
    };
    for (message, expected) in [
        (
            set("weft-deadline", "1"),
            "http.rules[0].filters[0].request_headers.set[0].name: \"weft-deadline\"",
        ),
        (
            set("Host", "a"),
            "http.rules[0].filters[0].request_headers.set[0].name: \"Host\": use a URLRewrite",
        ),
        (set("a", "b\nc"), "http.rules[0].filters[0].request_headers.set[0].value"),
        (
            redirect(Redirect { status: 304, ..Redirect::default() }),
            "http.rules[0].filters[0].redirect.status: \"304\": use 301",
        ),
        (
            redirect(Redirect { scheme: Some("ftp".into()), status: 302, ..Redirect::default() }),
            "http.rules[0].filters[0].redirect.scheme: \"ftp\": use http",
        ),
        (
            rewrite(path_rewrite::Kind::Full("a".into())),
            "http.rules[0].filters[0].rewrite.path.full: \"a\": use a path",
        ),
        (
            rewrite(path_rewrite::Kind::Prefix("/a".into())),
            "http.matches[0].path: \"\": its rule replaces a prefix",
        ),
        (
            filtered(filter::Kind::Mirror(wire::Mirror::default())),
            "http.rules[0].filters[0].mirror.backend",
        ),
    ] {
        let text = refused(&message);
        assert!(text.starts_with(expected), "{text}\n{expected}");
    }
}

#[test]
fn opaque_rules_take_server_names_and_no_filters() {
    let rule = |server_names: &[&str], backends| wire::OpaqueRule {
        name: "TLSRoute shop/db rules[0]".into(),
        server_names: server_names.iter().map(|&name| name.to_owned()).collect(),
        backends,
    };
    let with = |rule| wire::Routes { http: None, opaque: vec![rule] };
    let good = routes(&with(rule(&["*.Example.com"], vec![backend(1, "shop/db:5432")])));
    assert!(good.expect("good").opaque.decide(Some("a.example.com")).is_some());
    assert!(refused(&with(rule(&[""], Vec::new()))).starts_with("opaque[0].server_names"));
    let mut filtered = backend(1, "shop/db:5432");
    filtered.filters.push(WireFilter { kind: None });
    let text = refused(&with(rule(&[], vec![filtered])));
    assert!(text.starts_with("opaque[0].backends[0].filters"), "{text}");
    let text = refused(&with(rule(&[], vec![backend(1, "db")])));
    assert!(text.starts_with("opaque[0].backends[0].service: \"db\""), "{text}");
}
