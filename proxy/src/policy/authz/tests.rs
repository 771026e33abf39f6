//! Who is refused and who passes, as tables.

use http::{HeaderValue, Method, Version};

use super::*;
use crate::{
    http::{Fields, RequestHead},
    policy::operation::PathMatch,
};

const WEB: &str = "spiffe://weft.local/ns/shop/sa/web";
const JOB: &str = "spiffe://weft.local/ns/batch/sa/job";

fn head(method: Method, path: &str) -> RequestHead {
    RequestHead {
        method,
        target: path.parse().expect("a path"),
        version: Version::HTTP_11,
        headers: Fields::from_iter([(http::header::HOST, HeaderValue::from_static("cart"))]),
        upgrade: None,
        accepts_trailers: false,
    }
}

fn rule(policy: &str, effect: Effect) -> Rule {
    Rule {
        policy: policy.into(),
        effect,
        audit: false,
        callers: Box::new([]),
        operations: Box::new([]),
    }
}

fn caller(identities: &[&str], namespaces: &[&str], ranges: &[&str]) -> Box<[Caller]> {
    let identity = |text: &&str| match text.strip_suffix('*') {
        Some(prefix) => IdentityMatch::Prefix(prefix.into()),
        None => IdentityMatch::Exact(text.parse().expect("a SPIFFE ID")),
    };
    Box::new([Caller {
        identities: identities.iter().map(identity).collect(),
        namespaces: namespaces.iter().map(|&text| text.into()).collect(),
        ranges: ranges.iter().map(|text| range(text)).collect(),
    }])
}

fn range(text: &str) -> Range {
    let (network, prefix) = text.split_once('/').expect("IP/PREFIX");
    let prefix = prefix.parse().expect("a number");
    Range::new(network.parse().expect("an address"), prefix).expect("short enough")
}

fn of_path(path: &str) -> Box<[Operation]> {
    Box::new([Operation {
        paths: Box::new([PathMatch::Prefix(path.into())]),
        ..Operation::default()
    }])
}

fn fallback(deny: bool) -> Fallback {
    Fallback { deny, policy: if deny { "default" } else { "" }.into() }
}

fn access(rules: Vec<Rule>, deny: bool) -> Access {
    Access::new(rules, fallback(deny), fallback(deny))
}

/// Whether it passes, and by whose word.
fn decided(access: &Access, identity: Option<&str>, address: &str, path: &str) -> (bool, String) {
    let identity = identity.map(|text| text.parse().expect("a SPIFFE ID"));
    let head = head(Method::GET, path);
    let facts = RequestFacts::new(&head);
    let source = Source { identity: identity.as_ref(), address: address.parse().ok() };
    let decision = access.decide(source, Deed::Request(&facts));
    (decision.allowed, decision.by.to_string())
}

#[test]
fn deny_wins_then_allow_then_the_default() {
    let allow_web = || Rule { callers: caller(&[WEB], &[], &[]), ..rule("allow", Effect::Allow) };
    let deny_admin = || Rule { operations: of_path("/admin"), ..rule("deny", Effect::Deny) };
    let rows = [
        (vec![], false, None, "/", (true, "")),
        (vec![], true, Some(WEB), "/", (false, "default")),
        (vec![allow_web()], true, Some(WEB), "/", (true, "allow")),
        (vec![allow_web()], true, Some(JOB), "/", (false, "default")),
        (vec![allow_web()], true, None, "/", (false, "default")),
        (vec![allow_web()], false, Some(JOB), "/", (true, "")),
        (vec![allow_web(), deny_admin()], true, Some(WEB), "/admin", (false, "deny")),
        (vec![deny_admin(), allow_web()], true, Some(WEB), "/admin/x", (false, "deny")),
        (vec![deny_admin(), allow_web()], true, Some(WEB), "/x", (true, "allow")),
    ];
    for (rules, deny, identity, path, (allowed, by)) in rows {
        let access = access(rules, deny);
        let expected = (allowed, by.to_owned());
        assert_eq!(decided(&access, identity, "10.0.0.1", path), expected, "{access:?} {path}");
    }
}

#[test]
fn callers_are_known_by_identity_namespace_and_address() {
    let rows = [
        (caller(&[WEB], &[], &[]), Some(WEB), "", true),
        (caller(&[WEB], &[], &[]), Some("spiffe://weft.local/ns/shop/sa/web2"), "", false),
        (caller(&[WEB], &[], &[]), Some("spiffe://other.local/ns/shop/sa/web"), "", false),
        (caller(&["spiffe://weft.local/ns/shop/*"], &[], &[]), Some(WEB), "", true),
        (caller(&["spiffe://weft.local/ns/shop/*"], &[], &[]), Some(JOB), "", false),
        (caller(&["*"], &[], &[]), Some(JOB), "", true),
        (caller(&["*"], &[], &[]), None, "10.0.0.1", false),
        (caller(&[], &["shop"], &[]), Some(WEB), "", true),
        (caller(&[], &["sho"], &[]), Some(WEB), "", false),
        (caller(&[], &["shop"], &[]), None, "10.0.0.1", false),
        (caller(&[], &[], &["10.0.0.0/8"]), None, "10.9.8.7", true),
        (caller(&[], &[], &["10.0.0.0/8"]), None, "11.0.0.1", false),
        (caller(&[], &[], &["10.0.0.0/8"]), None, "::ffff:10.9.8.7", true),
        (caller(&[], &[], &["::ffff:10.0.0.0/104"]), None, "10.9.8.7", true),
        (caller(&[], &[], &["0.0.0.0/0"]), None, "fd00::1", false),
        (caller(&[], &[], &["fd00::/8"]), None, "fd12::1", true),
        (caller(&[], &[], &["10.1.2.3/32"]), None, "10.1.2.4", false),
        (caller(&[], &[], &["0.0.0.0/0"]), None, "", false),
        (caller(&[WEB], &[], &["10.0.0.0/8"]), Some(WEB), "11.0.0.1", false),
        (caller(&[WEB], &["shop"], &["10.0.0.0/8"]), Some(WEB), "10.0.0.1", true),
    ];
    for (callers, identity, address, expected) in rows {
        let access = access(vec![Rule { callers, ..rule("allow", Effect::Allow) }], true);
        let (allowed, _) = decided(&access, identity, address, "/");
        assert_eq!(allowed, expected, "{access:?} {identity:?} {address}");
    }
    assert_eq!(Range::new("10.0.0.0".parse().expect("valid"), 33), None);
}

#[test]
fn who_speaks_no_http_gets_around_no_rule_of_it() {
    let with = |effect, operations| Rule { operations, ..rule("p", effect) };
    let rows = [
        (vec![with(Effect::Deny, of_path("/admin"))], false, false, true),
        (vec![with(Effect::Allow, of_path("/public"))], true, false, true),
        (vec![with(Effect::Allow, Box::new([]))], true, true, false),
        (vec![with(Effect::Deny, Box::new([]))], false, false, false),
        (vec![Rule { audit: true, ..with(Effect::Deny, of_path("/a")) }], false, true, false),
    ];
    for (rules, deny, allowed, has_operations) in rows {
        let access = access(rules, deny);
        let source = Source { identity: None, address: None };
        assert_eq!(access.decide(source, Deed::Bytes).allowed, allowed, "{access:?}");
        assert_eq!(access.has_operations(), has_operations, "{access:?}");
    }
}

#[test]
fn a_caller_is_refused_altogether_only_when_no_request_could_pass() {
    let with = |effect, operations| Rule { operations, ..rule("p", effect) };
    for (rules, deny, allowed) in [
        (vec![with(Effect::Deny, of_path("/admin"))], false, true),
        (vec![with(Effect::Deny, Box::new([]))], false, false),
        (vec![with(Effect::Allow, of_path("/public"))], true, true),
        (vec![], true, false),
    ] {
        let access = access(rules, deny);
        let source = Source { identity: None, address: None };
        assert_eq!(access.decide(source, Deed::AnyRequest).allowed, allowed, "{access:?}");
    }
}

#[test]
fn audit_decides_nothing_and_names_who_would_have_refused() {
    let audit = |policy, effect, callers| Rule { audit: true, callers, ..rule(policy, effect) };
    let web = || caller(&[WEB], &[], &[]);
    let rows = [
        // The rules; the defaults in force and in audit; whether it passes; who would have refused.
        (vec![audit("a", Effect::Deny, web())], (false, false), true, Some("a")),
        (
            vec![audit("a", Effect::Allow, caller(&[JOB], &[], &[]))],
            (false, true),
            true,
            Some("default"),
        ),
        (vec![audit("a", Effect::Allow, web())], (false, true), true, None),
        (vec![audit("a", Effect::Allow, web())], (true, true), false, None),
        (
            vec![audit("a", Effect::Deny, web()), rule("b", Effect::Deny)],
            (false, false),
            false,
            None,
        ),
        (
            vec![audit("a", Effect::Deny, web()), rule("b", Effect::Allow)],
            (true, true),
            true,
            Some("a"),
        ),
        (vec![rule("b", Effect::Allow)], (true, true), true, None),
    ];
    for (rules, (enforced, audited), allowed, by) in rows {
        let access = Access::new(rules, fallback(enforced), fallback(audited));
        let identity: SpiffeId = WEB.parse().expect("a SPIFFE ID");
        let head = head(Method::GET, "/");
        let facts = RequestFacts::new(&head);
        let source = Source { identity: Some(&identity), address: None };
        let decision = access.decide(source, Deed::Request(&facts));
        assert_eq!(decision.allowed, allowed, "{access:?}");
        assert_eq!(decision.audited.map(|policy| &**policy), by, "{access:?}");
    }
}
