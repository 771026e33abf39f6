//! Which match takes which request; and that the index finds what a walk along the list finds.

use http::{HeaderName, HeaderValue, Method, Version};
use proptest::prelude::*;
use weft_proto::Pattern;

use super::*;
use crate::{
    http::Fields,
    route::{Weighted, matcher::ValueMatch},
};

/// A request's head.
pub(crate) fn request(method: &str, target: &str, fields: &[(&str, &str)]) -> RequestHead {
    let mut headers = Fields::new();
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
        headers.append(name, HeaderValue::from_str(value).expect("a value"));
    }
    RequestHead {
        method: method.parse().expect("a method"),
        target: target.parse().expect("a target"),
        version: Version::HTTP_11,
        headers,
        upgrade: None,
        accepts_trailers: false,
    }
}

fn rule(name: String) -> Arc<Rule> {
    let backends = Weighted::new([]);
    Arc::new(Rule { name: name.into(), filters: Box::default(), requests: None, backends })
}

fn any() -> Match {
    Match {
        rule: 0,
        host: HostMatch::Any,
        path: PathMatch::Any,
        method: None,
        headers: Box::default(),
        query: Box::default(),
        grpc: false,
    }
}

/// A table in which each match has a rule of its own, called by its place.
fn table(matches: Vec<Match>) -> HttpTable {
    let rules = (0..matches.len()).map(|place| rule(place.to_string())).collect();
    let own = |(rule, one)| Match { rule, ..one };
    HttpTable::new(rules, matches.into_iter().enumerate().map(own).collect())
}

fn place(table: &HttpTable, host: &str, head: &RequestHead) -> Option<usize> {
    let authority = host.parse().expect("an authority");
    table.decide(&authority, head).map(|taken| taken.rule.name.parse().expect("a number"))
}

fn exact(text: &str) -> ValueMatch {
    ValueMatch::Exact(text.into())
}

fn takes(one: Match, host: &str, head: &RequestHead) -> bool {
    place(&table(vec![one]), host, head).is_some()
}

#[test]
fn paths_match_whole_by_segment_or_by_pattern() {
    let prefix = |text: &str| PathMatch::Prefix(text.into());
    let pattern = PathMatch::Pattern(Pattern::new("/items/[0-9]+").expect("good"));
    for (path, target, expected) in [
        (PathMatch::Exact("/a".into()), "/a", true),
        (PathMatch::Exact("/a".into()), "/a?x=/b", true),
        (PathMatch::Exact("/a".into()), "/a/", false),
        (PathMatch::Exact("/a".into()), "/A", false),
        (prefix("/a"), "/a", true),
        (prefix("/a"), "/a/", true),
        (prefix("/a"), "/a/b?c", true),
        (prefix("/a"), "/ab", false),
        (prefix("/a/b"), "/a", false),
        (prefix("/a/b"), "/a/b/c", true),
        (prefix("/a"), "/%61", false),
        (prefix(""), "/anything", true),
        (prefix(""), "*", true),
        (pattern.clone(), "/items/42?x", true),
        (pattern, "/items/42/x", false),
    ] {
        let text = format!("{path:?} {target}");
        let head = request("OPTIONS", target, &[]);
        assert_eq!(takes(Match { path, ..any() }, "cart", &head), expected, "{text}");
    }
}

#[test]
fn hosts_match_without_case_and_port_and_an_asterisk_takes_labels() {
    let below = || HostMatch::Below(".example.com".into());
    for (host, authority, expected) in [
        (HostMatch::Exact("a.example.com".into()), "A.Example.com:8080", true),
        (HostMatch::Exact("a.example.com".into()), "a.example.com.", true),
        (HostMatch::Exact("a.example.com".into()), "b.example.com", false),
        (below(), "a.example.com", true),
        (below(), "a.b.example.com:80", true),
        (below(), "example.com", false),
        (below(), "aexample.com", false),
        (HostMatch::Any, "[fd00::1]:80", true),
    ] {
        let text = format!("{host:?} {authority}");
        let head = request("GET", "/", &[]);
        assert_eq!(takes(Match { host, ..any() }, authority, &head), expected, "{text}");
    }
}

#[test]
fn all_fields_all_parameters_the_method_and_grpc_must_hold() {
    let demanding = || Match {
        method: Some(Method::POST),
        headers: [
            (HeaderName::from_static("version"), exact("one, two")),
            (
                HeaderName::from_static("color"),
                ValueMatch::Pattern(Pattern::new("r.d").expect("good")),
            ),
        ]
        .into(),
        query: [("animal".into(), exact("whale")), ("x".into(), ValueMatch::Present)].into(),
        grpc: true,
        ..any()
    };
    let fields = [
        ("version", "one"),
        ("Version", "two"),
        ("color", "red"),
        ("content-type", "application/grpc"),
    ];
    let target = "/p?animal=%77hale&x";
    assert!(takes(demanding(), "cart", &request("POST", target, &fields)));
    assert!(!takes(demanding(), "cart", &request("GET", target, &fields)));
    assert!(!takes(demanding(), "cart", &request("POST", "/p?animal=whale", &fields)));
    assert!(!takes(demanding(), "cart", &request("POST", "/p?animal=shark&x", &fields)));
    for missing in 0..fields.len() {
        let mut fewer = fields.to_vec();
        fewer.remove(missing);
        assert!(!takes(demanding(), "cart", &request("POST", target, &fewer)), "{missing}");
    }
}

#[test]
fn a_match_on_host_reads_the_authority_where_there_is_no_such_field() {
    let one = || Match { headers: [(http::header::HOST, exact("cart"))].into(), ..any() };
    assert!(takes(one(), "cart", &request("GET", "http://cart/", &[])));
    assert!(takes(one(), "cart", &request("GET", "/", &[("host", "cart")])));
    assert!(!takes(one(), "cart", &request("GET", "/", &[])));
}

#[test]
fn the_first_match_wins_wherever_it_is_found() {
    let by_header = Match {
        headers: [(HeaderName::from_static("v"), exact("2"))].into(),
        path: PathMatch::Prefix("/a".into()),
        ..any()
    };
    let all = table(vec![
        Match { path: PathMatch::Exact("/a/b".into()), ..any() },
        by_header,
        Match { path: PathMatch::Pattern(Pattern::new("/a/.*").expect("good")), ..any() },
        Match {
            host: HostMatch::Exact("shop".into()),
            path: PathMatch::Prefix("/a".into()),
            ..any()
        },
        Match { path: PathMatch::Prefix("/a".into()), ..any() },
    ]);
    for (host, target, fields, expected) in [
        ("cart", "/a/b", &[("v", "2")][..], Some(0)),
        ("cart", "/a/c", &[("v", "2")], Some(1)),
        ("cart", "/a/c", &[], Some(2)),
        ("shop", "/a", &[], Some(3)),
        ("cart", "/a", &[], Some(4)),
        ("cart", "/b", &[], None),
    ] {
        let head = request("GET", target, fields);
        assert_eq!(place(&all, host, &head), expected, "{host} {target} {fields:?}");
    }
}

fn arbitrary_match() -> impl Strategy<Value = Match> {
    let host = prop_oneof![
        3 => Just(HostMatch::Any),
        1 => "[ab](\\.[ab])?".prop_map(|host| HostMatch::Exact(host.into())),
        1 => "\\.[ab](\\.[ab])?".prop_map(|suffix| HostMatch::Below(suffix.into())),
    ];
    let path = prop_oneof![
        1 => Just(PathMatch::Any),
        3 => "(/[ab]?){1,3}".prop_map(|path| PathMatch::Exact(path.into())),
        3 => "(/[ab]){0,3}".prop_map(|prefix| PathMatch::Prefix(prefix.into())),
        1 => "/[ab]\\.\\*".prop_map(|text| PathMatch::Pattern(Pattern::new(&text).expect("good"))),
    ];
    let method = prop_oneof![3 => Just(None), 1 => Just(Some(Method::GET))];
    let value = prop_oneof![3 => Just(None), 1 => "[12]".prop_map(Some)];
    (host, path, method, value).prop_map(|(host, path, method, value)| {
        let header = |text: String| (HeaderName::from_static("v"), ValueMatch::Exact(text.into()));
        Match { host, path, method, headers: value.map(header).into_iter().collect(), ..any() }
    })
}

proptest! {
    #[test]
    fn the_index_finds_what_a_walk_along_the_list_finds(
        matches in proptest::collection::vec(arbitrary_match(), 0..24),
        requests in proptest::collection::vec(
            ("[ab](\\.[ab]){0,2}", "(/[abc]?){1,4}", "GET|POST", "[12]"), 1..16),
    ) {
        let all = table(matches);
        for (host, path, method, value) in requests {
            let head = request(&method, &path, &[("v", &value)]);
            let walked = all.matches.iter().position(|one| {
                one.host.takes(&host) && one.path.takes(&path) && one.holds(&head)
            });
            prop_assert_eq!(place(&all, &host, &head), walked, "{} {} {}", host, path, method);
        }
    }
}
