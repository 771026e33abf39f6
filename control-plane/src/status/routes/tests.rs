//! What routes are told at their parents.

use weft_proto::TrustDomain;

use super::*;
use crate::{
    model::{Condition, ConditionStatus, ParentStatus, parse_documents},
    status::{Judged, combine, judge, refused::Refused},
};

const SERVICES: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: cart, namespace: shop}\nspec: {ports: [{name: http, port: 80}, {name: db, port: 90, appProtocol: tcp}]}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: v3, namespace: lab}\nspec: {ports: [{port: 80}]}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: alias, namespace: shop}\nspec: {externalName: example.com, ports: [{port: 80}]}\n";

fn objects(text: &str) -> Vec<Object> {
    let parsed = parse_documents("test.yaml", text).into_iter();
    parsed.map(|parsed| parsed.unwrap_or_else(|error| panic!("{error}\n{text}")).object).collect()
}

fn route(kind: &str, spec: &str) -> Object {
    let version = if kind == "TCPRoute" { "v1alpha2" } else { "v1" };
    objects(&format!(
        "apiVersion: gateway.networking.k8s.io/{version}\nkind: {kind}\nmetadata: {{name: split, namespace: shop, generation: 2}}\nspec: {spec}\n"
    ))
    .remove(0)
}

fn judged(route: &Object) -> Judged {
    let mut index = Index::new(TrustDomain::default());
    index.apply_all(&objects(SERVICES));
    index.apply(route);
    judge(route, &index, &Refused::default())
}

/// "PARENT TYPE=BOOL REASON: MESSAGE" of each condition that is not simply good.
fn said(kind: &str, spec: &str) -> Vec<String> {
    let judged = judged(&route(kind, spec));
    assert!(judged.conditions.is_empty(), "all is said at the parents");
    let all =
        judged.parents.iter().flat_map(|(parent, said)| said.iter().map(move |one| (parent, one)));
    let bad = all.filter(|(_, one)| one.holds == (one.r#type == PARTIALLY_INVALID));
    bad.map(|(parent, one)| {
        format!("{} {}={} {}: {}", parent.name, one.r#type, one.holds, one.reason, one.message)
    })
    .collect()
}

fn parent(of: &str) -> String {
    format!("parentRefs: [{{group: '', kind: Service, {of}}}]")
}

/// A route's kind, its parent and the rest of its spec; what is said of it.
const CASES: &[(&str, &str, &str, &[&str])] = &[
    ("HTTPRoute", "name: cart", "rules: [{backendRefs: [{name: cart, port: 80}]}]", &[]),
    (
        "HTTPRoute",
        "name: none",
        "rules: [{backendRefs: [{name: cart, port: 80}]}]",
        &[
            "none Accepted=false NoMatchingParent: spec.parentRefs[0].name: there is no service shop/none: correct the name, or make it",
        ],
    ),
    (
        "HTTPRoute",
        "name: cart, port: 81",
        "rules: [{backendRefs: [{name: cart, port: 80}]}]",
        &[
            "cart Accepted=false NoMatchingParent: spec.parentRefs[0].port: service shop/cart has no such port: it has 80 (http), 90 (db, tcp)",
        ],
    ),
    (
        "HTTPRoute",
        "name: cart, sectionName: grpc",
        "rules: [{backendRefs: [{name: cart, port: 80}]}]",
        &[
            "cart Accepted=false NoMatchingParent: spec.parentRefs[0].sectionName: service shop/cart has no such port: it has 80 (http), 90 (db, tcp)",
        ],
    ),
    (
        "HTTPRoute",
        "name: cart, port: 90",
        "rules: [{backendRefs: [{name: cart, port: 80}]}]",
        &[
            "cart Accepted=false UnsupportedProtocol: spec.parentRefs[0]: service shop/cart declares no HTTP there to be routed: it has 90 (db, tcp)",
        ],
    ),
    (
        "HTTPRoute",
        "name: alias",
        "rules: [{backendRefs: [{name: cart, port: 80}]}]",
        &[
            "alias Accepted=false UnsupportedValue: spec.parentRefs[0].name: Service shop/alias is only another name (spec.externalName)",
        ],
    ),
    (
        "HTTPRoute",
        "name: cart",
        "rules: [{backendRefs: [{name: cart, port: 80}]}], useDefaultGateways: All",
        &[
            "cart Accepted=false UnsupportedValue: spec.useDefaultGateways: is not supported: leave it out",
        ],
    ),
    (
        "HTTPRoute",
        "name: cart",
        "hostnames: [10.0.0.1], rules: [{backendRefs: [{name: cart, port: 80}]}]",
        &[
            "cart Accepted=false UnsupportedValue: spec.hostnames[0]: \"10.0.0.1\" is an address: use a host name",
        ],
    ),
    (
        "HTTPRoute",
        "name: cart",
        "rules: [{sessionPersistence: {}}]",
        &[
            "cart Accepted=false UnsupportedValue: Dropped Rule 0: spec.rules[0].sessionPersistence: is not supported: leave it out",
        ],
    ),
    (
        "HTTPRoute",
        "name: cart",
        "rules: [{}, {sessionPersistence: {}}]",
        &[
            "cart PartiallyInvalid=true UnsupportedValue: Dropped Rule 1: spec.rules[1].sessionPersistence: is not supported: leave it out",
        ],
    ),
    (
        "HTTPRoute",
        "name: cart",
        "rules: [{}, {filters: [{type: CORS, cors: {}}]}]",
        &[
            "cart PartiallyInvalid=true UnsupportedValue: Dropped Rule 1, whose requests get 500: spec.rules[1].filters[0].type Cors: is not supported: leave it out",
        ],
    ),
    (
        "TLSRoute",
        "name: cart",
        "rules: [{backendRefs: [{name: cart, port: 90}, {name: none, port: 90}]}]",
        &[
            "cart ResolvedRefs=false BackendNotFound: spec.rules[0].backendRefs[1]: there is no service shop/none: correct the name, or make it",
        ],
    ),
    (
        "GRPCRoute",
        "name: cart",
        "rules: [{backendRefs: [{name: v3, namespace: lab, port: 80}, {name: cart, port: 90}]}]",
        &[
            "cart ResolvedRefs=false RefNotPermitted: spec.rules[0].backendRefs[0]: no ReferenceGrant in lab lets GRPCRoutes of shop refer to Service v3: make one there; spec.rules[0].backendRefs[1]: port 90 of service shop/cart declares a protocol that is not HTTP: correct its appProtocol",
        ],
    ),
    (
        "HTTPRoute",
        "name: v3, namespace: lab",
        "rules: [{backendRefs: [{name: v3, namespace: lab, port: 80}]}]",
        &[],
    ),
    (
        "HTTPRoute",
        "name: v3, namespace: lab}, {group: '', kind: Service, name: cart",
        "rules: [{backendRefs: [{name: v3, namespace: lab, port: 80}]}]",
        &[
            "cart ResolvedRefs=false RefNotPermitted: spec.rules[0].backendRefs[0]: no ReferenceGrant in lab lets HTTPRoutes of shop refer to Service v3: make one there",
        ],
    ),
    (
        "HTTPRoute",
        "name: cart",
        "rules: [{filters: [{type: RequestMirror, requestMirror: {backendRef: {kind: Bucket, name: b}}}]}]",
        &[
            "cart ResolvedRefs=false InvalidKind: spec.rules[0].filters[0].requestMirror.backendRef: requests cannot go to a Bucket: name a Service",
        ],
    ),
];

#[test]
fn a_route_is_told_at_each_parent_whether_it_is_in_force_and_why_not() {
    for (kind, of, rest, expected) in CASES {
        let spec = format!("{{{}, {rest}}}", parent(of));
        assert_eq!(said(kind, &spec), *expected, "{kind} {spec}");
    }
}

#[test]
fn parents_that_are_not_ours_are_left_to_others_and_ours_are_told_apart() {
    let spec = "{parentRefs: [{name: edge}, {group: '', kind: Service, name: cart, port: 80}, {group: '', kind: Service, name: cart, port: 81}], rules: [{}]}";
    let judged = judged(&route("HTTPRoute", spec));
    let ports: Vec<_> = judged
        .parents
        .iter()
        .map(|(parent, said)| (parent.port.map(u32::from), said[0].holds))
        .collect();
    assert_eq!(ports, [(Some(80), true), (Some(81), false)]);
}

#[test]
fn what_others_say_of_a_route_stays_and_what_we_said_of_a_parent_that_is_gone_goes() {
    let spec = |name: &str| format!("{{{}, rules: [{{}}]}}", parent(&format!("name: {name}")));
    let mut object = route("HTTPRoute", &spec("cart"));
    let condition = Condition {
        r#type: "Accepted".into(),
        status: ConditionStatus::True,
        reason: "Accepted".into(),
        message: String::new(),
        observed_generation: 1,
        last_transition_time: "t0".into(),
    };
    let theirs = ParentStatus {
        parent_ref: ParentRef { name: "edge".into(), ..ParentRef::default() },
        controller_name: "example.com/gateways".into(),
        conditions: vec![condition],
    };
    object.status_mut().parents = vec![theirs.clone()];
    *object.status_mut() = combine(&object, judged(&object), "t1");
    let parents = &object.status().parents;
    assert_eq!(parents[0], theirs);
    assert_eq!((parents.len(), parents[1].controller_name.as_str()), (2, "weft.dev/control-plane"));
    let accepted = &parents[1].conditions[0];
    assert_eq!((accepted.observed_generation, accepted.last_transition_time.as_str()), (2, "t1"));
    assert_eq!(combine(&object, judged(&object), "t2"), *object.status(), "it comes to rest");

    let mut moved = route("HTTPRoute", &spec("none"));
    *moved.status_mut() = object.status().clone();
    let status = combine(&moved, judged(&moved), "t3");
    assert_eq!((status.parents.len(), status.parents[1].parent_ref.name.as_str()), (2, "none"));
    let mut others = route("HTTPRoute", "{parentRefs: [{name: edge}]}");
    *others.status_mut() = object.status().clone();
    assert_eq!(combine(&others, judged(&others), "t4").parents, [theirs]);
}
