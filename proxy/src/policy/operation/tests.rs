//! What operations take: each field, both ways to ask, and the spellings by which a path may be dodged.

use http::{HeaderValue, Uri, Version};
use proptest::prelude::*;

use super::*;
use crate::http::Fields;

fn head(method: &str, target: &str) -> RequestHead {
    RequestHead {
        method: method.parse().expect("a method"),
        target: target.parse::<Uri>().expect("a target"),
        version: Version::HTTP_11,
        headers: Fields::from_iter([(http::header::HOST, HeaderValue::from_static("Shop:80"))]),
        upgrade: None,
        accepts_trailers: false,
    }
}

fn exact(path: &str) -> Operation {
    Operation { paths: Box::new([PathMatch::Exact(path.into())]), ..Operation::default() }
}

fn prefix(path: &str) -> Operation {
    Operation { paths: Box::new([PathMatch::Prefix(path.into())]), ..Operation::default() }
}

fn pattern(source: &str) -> Operation {
    let patterns = Patterns::new(Pattern::new(source).expect("good")).expect("small");
    Operation { paths: Box::new([PathMatch::Pattern(patterns)]), ..Operation::default() }
}

/// Whether it takes a GET of this path: by one spelling, by every one.
fn takes(operation: &Operation, path: &str) -> (bool, bool) {
    let head = head("GET", path);
    let facts = RequestFacts::new(&head);
    (operation.takes(&facts, Reading::Any), operation.takes(&facts, Reading::Every))
}

#[test]
fn paths_that_are_spelt_plainly_are_read_in_one_way() {
    for (operation, path, expected) in [
        (exact("/a"), "/a", (true, true)),
        (exact("/a"), "/a?x=1", (true, true)),
        (exact("/a"), "/a/b", (false, false)),
        (exact("/a"), "/a/", (true, false)),
        (exact("/a"), "/A", (true, false)),
        (prefix("/a"), "/a", (true, true)),
        (prefix("/a"), "/a/b", (true, true)),
        (prefix("/a"), "/ab", (false, false)),
        (prefix("/a"), "/A/b", (true, false)),
        (prefix(""), "/whatever", (true, true)),
        (pattern("/items/[0-9]+"), "/items/42", (true, true)),
        (pattern("/items/[0-9]+"), "/ITEMS/42/", (true, false)),
        (pattern("/items/[0-9]+"), "/items/42/x", (false, false)),
        (exact("/shop.Cart/Add"), "/shop.Cart/Add", (true, true)),
        (prefix("/.well-known"), "/.well-known/x", (true, true)),
        (exact("/a b"), "/a%20b", (true, true)),
    ] {
        assert_eq!(takes(&operation, path), expected, "{operation:?} {path}");
    }
}

/// Each of these is `/admin/x` to some application, and something else to another.
const DODGES: &[&str] = &[
    "/%61dmin/x",
    "/%61%64%6D%69%6e/x",
    "/%2561dmin/x",
    "//admin/x",
    "/admin//x",
    "///admin///x",
    "/./admin/x",
    "/public/../admin/x",
    "/public/..%2fadmin/x",
    "/public/%2e%2e/admin/x",
    "/public/%2E./admin/x",
    "/public/..;/admin/x",
    "/public/..;a=b/admin/x",
    "/public%2f..%2fadmin/x",
    "/public/%252e%252e/admin/x",
    "/public/..%252fadmin/x",
    "/public/..%25252fadmin/x",
    "/public\\..\\admin/x",
    "/public/..\\admin/x",
    "/public/..%5cadmin/x",
    "/public/a%2fb/../../admin/x/../../admin/x",
    "/public/a%2fb/../../../admin/x",
    "/public//../admin/x",
    "/admin;a=b/x",
    "/admin;/x",
    "/admin%3ba=b/x",
    "/admin%2fx",
    "/admin%5cx",
    "/ADMIN/x",
    "/aDm%49n/x",
    "/admin/x%3fy",
    "/admin/x/../../public/a",
    "/admin/%2e%2e/public/a",
    "/public/100%25%252e%252e/%2561/../../../admin/x",
    "/%zz/x",
    "/admin%00/x",
    "/public/%ff",
    "/public/%c0%af",
    "/public/%2500",
    "/public/%0a",
];

#[test]
fn no_spelling_dodges_a_rule_that_refuses_or_gets_more_than_one_that_allows() {
    for path in DODGES {
        assert!(takes(&prefix("/admin"), path).0, "{path} dodges what refuses /admin");
        assert!(!takes(&prefix("/public"), path).1, "{path} is within /public to some");
    }
    for path in ["/admin/x", "/public/a%2fb/../../admin/x"] {
        assert!(takes(&prefix("/admin"), path).0, "{path}");
        assert!(!takes(&prefix("/public"), path).1, "{path}");
    }
    let long = format!("/public/{}%2e", "a".repeat(9000));
    assert_eq!(takes(&prefix("/public"), &long), (true, false), "too long to be read");
}

#[test]
fn spellings_that_mean_the_same_to_all_are_allowed() {
    for path in [
        "/public/a%20b",
        "/public/a%2Fb",
        "/public/a;v=1",
        "/public/./a",
        "/public/b/../a",
        "/public//a",
        "/public/100%25",
        "/public/%E2%82%AC",
        "/public/.hidden",
    ] {
        assert_eq!(takes(&prefix("/public"), path), (true, true), "{path}");
        assert!(!takes(&prefix("/admin"), path).0, "{path}");
    }
}

#[test]
fn methods_hosts_and_headers_are_each_to_hold() {
    let operation = Operation {
        methods: Box::new([Method::POST, Method::GET]),
        hosts: Box::new([HostMatch::Exact("shop".into())]),
        ..Operation::default()
    };
    let ask = |method: &str, host: Option<&'static str>| {
        let mut head = head(method, "/");
        if let Some(host) = host {
            head.headers.insert(http::header::HOST, HeaderValue::from_static(host));
        }
        let facts = RequestFacts::new(&head);
        (operation.takes(&facts, Reading::Any), operation.takes(&facts, Reading::Every))
    };
    assert_eq!(ask("GET", None), (true, true));
    assert_eq!(ask("get", None), (true, false));
    assert_eq!(ask("PUT", None), (false, false));
    assert_eq!(ask("GET", Some("SHOP.:8080")), (true, true));
    assert_eq!(ask("GET", Some("shop.example.com")), (false, false));
}

#[test]
fn a_wildcard_takes_names_below_and_not_the_name_itself() {
    let operation = Operation {
        hosts: Box::new([HostMatch::Below(".example.com".into())]),
        ..Operation::default()
    };
    for (host, expected) in [
        ("a.example.com", true),
        ("a.b.Example.com:80", true),
        ("example.com", false),
        (".example.com", false),
        ("aexample.com", false),
    ] {
        let mut head = head("GET", "/");
        head.headers.insert(http::header::HOST, HeaderValue::from_static(host));
        let taken = operation.takes(&RequestFacts::new(&head), Reading::Any);
        assert_eq!(taken, expected, "{host}");
    }
}

#[test]
fn of_several_values_one_is_enough_to_refuse_and_all_are_needed_to_allow() {
    let header = |value| Operation {
        headers: Box::new([HeaderMatch { name: HeaderName::from_static("x-tier"), value }]),
        ..Operation::default()
    };
    let gold = || ValueMatch::Exact("gold".into());
    let pattern = ValueMatch::Pattern(Pattern::new("go+ld").expect("good"));
    let rows: [(Operation, &[&'static str], (bool, bool)); 8] = [
        (header(gold()), &["gold"], (true, true)),
        (header(gold()), &["iron", "gold"], (true, false)),
        (header(gold()), &["iron, gold"], (true, false)),
        (header(gold()), &[], (false, false)),
        (header(ValueMatch::Present), &[""], (true, true)),
        (header(ValueMatch::Present), &[], (false, false)),
        (header(ValueMatch::Prefix("go".into())), &["gold", "gone"], (true, true)),
        (header(pattern), &["goold"], (true, true)),
    ];
    for (operation, values, expected) in rows {
        let mut head = head("GET", "/");
        for value in values {
            head.headers.append("x-tier", HeaderValue::from_static(value));
        }
        let facts = RequestFacts::new(&head);
        let taken =
            (operation.takes(&facts, Reading::Any), operation.takes(&facts, Reading::Every));
        assert_eq!(taken, expected, "{operation:?} {values:?}");
    }
}

proptest! {
    #[test]
    fn what_every_spelling_takes_one_takes(path in "/[a-dA-D%2eEfF5cC;./\\\\]{0,24}") {
        let Ok(target) = path.parse::<Uri>() else { return Ok(()) };
        let mut head = head("GET", "/");
        head.target = target;
        let facts = RequestFacts::new(&head);
        for operation in [prefix("/a"), prefix("/a/b"), exact("/a"), pattern("/a/.*")] {
            let every = operation.takes(&facts, Reading::Every);
            prop_assert!(!every || operation.takes(&facts, Reading::Any), "{operation:?}");
        }
    }
}

fn with_header(name: &'static str, wanted: &str) -> Operation {
    let header = HeaderMatch {
        name: HeaderName::from_static(name),
        value: ValueMatch::Exact(wanted.into()),
    };
    Operation { headers: Box::new([header]), ..Operation::default() }
}

#[test]
fn a_host_that_http_2_says_is_a_host_too() {
    let mut head = head("GET", "http://admin.shop/");
    head.headers = Fields::new();
    for (wanted, expected) in [("admin.shop", true), ("shop", false)] {
        let facts = RequestFacts::new(&head);
        let operation = with_header("host", wanted);
        for reading in [Reading::Any, Reading::Every] {
            assert_eq!(operation.takes(&facts, reading), expected, "{wanted} {reading:?}");
        }
    }
}

#[test]
fn several_fields_are_what_they_are_when_they_are_joined() {
    for (name, wanted) in [("x-tenant", "a, b"), ("cookie", "a=1; b=2")] {
        let mut head = head("GET", "/");
        let parts = wanted.split(if name == "cookie" { "; " } else { ", " });
        for part in parts {
            head.headers.append(name, part.parse().expect("a value"));
        }
        let facts = RequestFacts::new(&head);
        assert!(with_header(name, wanted).takes(&facts, Reading::Any), "{name}");
    }
}
