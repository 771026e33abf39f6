//! Routes in, what sidecars are told out, as tables.

use std::fmt::Write as _;

use weft_proto::{ServicePort, TrustDomain, discovery};

use super::*;
use crate::{index::Index, model::parse_documents};

mod conflicts;
mod external;
mod kept;
mod precedence;
mod wire;

/// Services with these ports, "NAMESPACE/NAME:PORT[/PROTOCOL]".
pub(super) fn services(ports: &[&str]) -> String {
    let mut texts = Vec::new();
    for port in ports {
        let (port, protocol) = port.split_once('=').unwrap_or((port, ""));
        let port: ServicePort = port.parse().expect("a service port");
        let app =
            if protocol.is_empty() { String::new() } else { format!(", appProtocol: {protocol}") };
        let (name, number) = (&port.service, port.port);
        texts.push(format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {}, namespace: {}}}\nspec: {{ports: [{{name: http, port: {number}{app}}}]}}\n",
            name.name, name.namespace
        ));
    }
    texts.join("---\n")
}

/// A route of this kind, name ("NAMESPACE/NAME") and spec, whose parent is shop/cart unless the spec says otherwise.
pub(super) fn route(kind: &str, name: &str, spec: &str) -> String {
    let (namespace, name) = name.split_once('/').expect("NAMESPACE/NAME");
    let version = if kind == "TCPRoute" { "v1alpha2" } else { "v1" };
    let parent = if spec.contains("parentRefs") {
        String::new()
    } else {
        "parentRefs: [{group: '', kind: Service, name: cart, namespace: shop}], ".to_owned()
    };
    format!(
        "---\napiVersion: gateway.networking.k8s.io/{version}\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{parent}{spec}}}\n"
    )
}

pub(super) fn objects(text: &str) -> Vec<Object> {
    let parsed = parse_documents("test.yaml", text).into_iter();
    parsed.map(|parsed| parsed.unwrap_or_else(|error| panic!("{error}\n{text}")).object).collect()
}

pub(super) fn index(texts: &[&str]) -> Index {
    let mut index = Index::new(TrustDomain::default());
    index.apply_all(&objects(&texts.join("")));
    index
}

/// What callers in a namespace are told of a port's routes.
pub(super) fn told(index: &Index, port: &str, namespace: &str) -> Option<discovery::Routes> {
    let (_, view) = index.service_from(&port.parse().expect("valid"), namespace)?;
    view.declaration.routes.clone()
}

/// "GET host /path* a=b ?c=d -> RULE", in order.
pub(super) fn matches(routes: &discovery::Routes) -> Vec<String> {
    use discovery::path_match::Kind;
    let http = routes.http.as_ref().expect("routes of HTTP");
    let said = http.matches.iter().map(|one| {
        let mut text = String::new();
        let method = if one.grpc { "gRPC" } else { &one.method };
        for part in [method, &one.host] {
            if !part.is_empty() {
                write!(text, "{part} ").expect("to a String");
            }
        }
        match one.path.as_ref().and_then(|path| path.kind.as_ref()) {
            Some(Kind::Exact(path)) => text.push_str(path),
            Some(Kind::Prefix(path)) => text.push_str(&format!("{path}*")),
            Some(Kind::Pattern(path)) => text.push_str(&format!("~{path}")),
            None => text.push('*'),
        }
        for (mark, values) in [("", &one.headers), ("?", &one.query)] {
            for value in values {
                let what = match value.kind.as_ref().expect("a kind") {
                    discovery::value_match::Kind::Exact(value) => format!("={value}"),
                    discovery::value_match::Kind::Pattern(value) => format!("~{value}"),
                    other => panic!("{other:?}"),
                };
                write!(text, " {mark}{}{what}", value.name).expect("to a String");
            }
        }
        let rule = &http.rules[usize::try_from(one.rule).expect("small")].name;
        format!("{text} -> {}", rule.split_once('/').expect("KIND NAMESPACE/NAME").1)
    });
    said.collect()
}

/// "SERVICE xWEIGHT" or "!WHY xWEIGHT" of each backend.
pub(super) fn backends(backends: &[discovery::Backend]) -> Vec<String> {
    let one = |backend: &discovery::Backend| match backend.target.as_ref().expect("a target") {
        discovery::backend::Target::Service(port) => format!("{port} x{}", backend.weight),
        discovery::backend::Target::Invalid(why) => format!("!{why} x{}", backend.weight),
    };
    backends.iter().map(one).collect()
}

fn first_backends(index: &Index, namespace: &str) -> Vec<String> {
    let routes = told(index, "shop/cart:80", namespace).expect("routes");
    backends(&routes.http.expect("routes of HTTP").rules[0].backends)
}

const CART: &[&str] = &["shop/cart:80", "shop/v2:80", "lab/v3:80"];

fn to(backend: &str) -> String {
    format!("rules: [{{backendRefs: [{backend}]}}]")
}

fn grant(spec: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {{name: routes, namespace: lab}}\nspec: {spec}\n"
    )
}

const TO_LAB: &str = "{name: v3, namespace: lab, port: 80}";

#[test]
fn a_reference_into_another_namespace_needs_a_grant_there() {
    let refused =
        "!no ReferenceGrant in lab lets HTTPRoutes of shop refer to Service v3: make one there x1";
    let from = "from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}]";
    for (spec, expected) in [
        (format!("{{{from}, to: [{{group: '', kind: Service}}]}}"), "lab/v3:80 x1"),
        (format!("{{{from}, to: [{{group: '', kind: Service, name: v3}}]}}"), "lab/v3:80 x1"),
        (format!("{{{from}, to: [{{group: '', kind: Service, name: v4}}]}}"), refused),
        (format!("{{{from}, to: [{{group: '', kind: Secret}}]}}"), refused),
        (format!("{{{from}, to: [{{group: '', kind: Service, unless: x}}]}}"), refused),
        (format!("{{{from}, to: [{{group: '', kind: Service}}], unless: x}}"), refused),
        (
            format!(
                "{{{}, to: [{{group: '', kind: Service}}]}}",
                from.replace("}]", ", unless: x}]")
            ),
            refused,
        ),
        (
            format!("{{{}, to: [{{group: '', kind: Service}}]}}", from.replace("HTTP", "GRPC")),
            refused,
        ),
        (
            format!("{{{}, to: [{{group: '', kind: Service}}]}}", from.replace("shop", "web")),
            refused,
        ),
    ] {
        let mut index = index(&[&services(CART), &route("HTTPRoute", "shop/split", &to(TO_LAB))]);
        assert_eq!(first_backends(&index, "web"), [refused]);
        let grant = objects(&grant(&spec)).remove(0);
        let changes = index.apply(&grant);
        assert_eq!(first_backends(&index, "web"), [expected], "{spec}");
        let touched: Vec<String> = changes.services.iter().map(ToString::to_string).collect();
        let changed = if expected == refused { &[][..] } else { &["shop/cart:80"] };
        assert_eq!(touched, changed, "{spec}");
        index.remove(&grant.key());
        assert_eq!(first_backends(&index, "web"), [refused]);
        // One of a third namespace grants nothing of this one's.
        let third = self::grant(&spec).replace("namespace: lab}\n", "namespace: a}\n");
        let index =
            self::index(&[&services(CART), &third, &route("HTTPRoute", "shop/split", &to(TO_LAB))]);
        assert_eq!(first_backends(&index, "web"), [refused], "{third}");
    }
}

#[test]
fn a_route_that_is_not_accepted_as_a_whole_is_not_in_force() {
    let away = "apiVersion: v1\nkind: Service\nmetadata: {name: away, namespace: shop}\nspec: {type: ExternalName, externalName: a.org, ports: [{port: 80}]}\n---\n";
    let at_away = "parentRefs: [{group: '', kind: Service, name: away}]";
    for (port, spec) in [
        ("shop/cart:80", format!("later: 1, {}", to("{name: cart, port: 80}"))),
        ("shop/away:80", format!("{at_away}, {}", to("{name: cart, port: 80}"))),
    ] {
        let text = route("HTTPRoute", "shop/split", &spec);
        let index = index(&[away, &services(CART), &text]);
        assert_eq!(told(&index, port, "shop"), None, "{spec}");
        let object = objects(&text).remove(0);
        let standing = Route::of(&object)
            .map(|route| index.route_standing(route, 0, &route.parents()[0]))
            .expect("a route");
        assert_eq!(standing.refused.expect("why").0, "UnsupportedValue", "{spec}");
    }
}

#[test]
fn a_backend_that_is_not_there_travels_with_the_reason_and_the_rest_goes_on() {
    let cases = [
        ("{name: v2, port: 80, weight: 3}", "shop/v2:80 x3"),
        ("{name: v2, port: 80, weight: 0}", "shop/v2:80 x0"),
        ("{name: v9, port: 80}", "!there is no service shop/v9: correct the name, or make it x1"),
        ("{name: v2, port: 81}", "!service shop/v2 has no port 81: it has 80 x1"),
        (
            "{name: db, port: 80}",
            "!port 80 of service shop/db declares a protocol that is not HTTP: correct its appProtocol x1",
        ),
        (
            "{group: a.example.com, kind: Bucket, name: b}",
            "!requests cannot go to a Bucket of group a.example.com: name a Service x1",
        ),
    ];
    for (backend, expected) in cases {
        let both = format!("{backend}, {{name: cart, port: 80}}");
        let all = services(&["shop/cart:80", "shop/v2:80", "shop/db:80=tcp"]);
        let index = index(&[&all, &route("HTTPRoute", "shop/split", &to(&both))]);
        assert_eq!(first_backends(&index, "web"), [expected, "shop/cart:80 x1"]);
    }
}

#[test]
fn a_route_follows_its_backends_as_they_come_and_go_and_touches_its_own_port_only() {
    let mut index = index(&[&services(&["shop/cart:80", "shop/web:80"])]);
    let touched = |changes: Changes| -> Vec<String> {
        changes.services.iter().map(ToString::to_string).collect()
    };
    let split = objects(&route("HTTPRoute", "shop/split", &to("{name: v2, port: 80}"))).remove(0);
    let changes = index.apply(&split);
    assert!(changes.endpoints.is_empty() && changes.inbounds.is_empty() && !changes.mesh);
    assert_eq!(touched(changes), ["shop/cart:80"]);
    assert!(index.apply(&split).is_empty(), "the same again is no change");
    let backend = objects(&services(&["shop/v2:80"])).remove(0);
    assert_eq!(touched(index.apply(&backend)), ["shop/cart:80", "shop/v2:80"]);
    assert_eq!(first_backends(&index, "web"), ["shop/v2:80 x1"]);
    assert_eq!(touched(index.remove(&backend.key())), ["shop/cart:80", "shop/v2:80"]);
    assert!(first_backends(&index, "web")[0].starts_with("!there is no service shop/v2"));
    assert_eq!(touched(index.remove(&split.key())), ["shop/cart:80"]);
    assert_eq!(told(&index, "shop/cart:80", "web"), None);
    assert!(index.routes.is_empty());
}

#[test]
fn a_consumers_route_binds_callers_of_its_namespace_and_stands_in_the_producers_place() {
    let producer = route("HTTPRoute", "shop/ours", &to("{name: v2, port: 80}"));
    let consumer = route("HTTPRoute", "web/theirs", &to("{name: cart, namespace: shop, port: 80}"));
    let opaque = route("TCPRoute", "shop/bytes", &to("{name: v2, port: 80}"));
    let index = index(&[&services(CART), &producer, &consumer, &opaque]);
    let rules = |namespace: &str| {
        let routes = told(&index, "shop/cart:80", namespace).expect("routes");
        let opaque = routes.opaque.len();
        (matches(&routes), opaque)
    };
    assert_eq!(rules("shop"), (vec!["/* -> ours rules[0]".to_owned()], 1));
    assert_eq!(rules("lab"), (vec!["/* -> ours rules[0]".to_owned()], 1));
    assert_eq!(rules("web"), (vec!["/* -> theirs rules[0]".to_owned()], 1), "its TCPRoutes stay");
    assert_eq!(first_backends(&index, "web"), ["shop/cart:80 x1"], "its parent takes no grant");
    let port = "shop/cart:80".parse().expect("valid");
    let view = |namespace: &str| index.service_from(&port, namespace).expect("there is one");
    assert_eq!((view("lab").0, view("web").0.as_deref()), (None, Some("web")));
    for namespace in ["lab", "web"] {
        let (_, view) = view(namespace);
        assert_eq!(
            view.digest,
            weft_proto::digest::of_message(&**view.declaration),
            "no endpoints"
        );
    }
}

#[test]
fn a_route_binds_to_the_ports_that_its_parent_ref_takes_and_that_have_what_it_routes() {
    let two = "apiVersion: v1\nkind: Service\nmetadata: {name: cart, namespace: shop}\nspec: {ports: [{name: http, port: 80}, {name: db, port: 90, appProtocol: tcp}, {name: api, port: 70, appProtocol: grpc}]}\n";
    for (kind, parent, bound) in [
        ("HTTPRoute", "name: cart", &["70", "80"][..]),
        ("HTTPRoute", "name: cart, port: 80", &["80"]),
        ("HTTPRoute", "name: cart, sectionName: api", &["70"]),
        ("HTTPRoute", "name: cart, sectionName: api, port: 80", &[]),
        ("HTTPRoute", "name: cart, port: 90", &[]),
        ("HTTPRoute", "name: cart, port: 81", &[]),
        ("HTTPRoute", "name: other", &[]),
        ("HTTPRoute", "name: cart, zone: a", &[]),
        ("TCPRoute", "name: cart", &["80", "90"]),
        ("TLSRoute", "name: cart", &["80", "90"]),
    ] {
        let parent = format!(
            "parentRefs: [{{group: '', kind: Service, {parent}}}], {}",
            to("{name: cart, port: 80}")
        );
        let index = index(&[two, &route(kind, "shop/split", &parent)]);
        let ports = ["70", "80", "90"].into_iter();
        let ports: Vec<&str> = ports
            .filter(|port| told(&index, &format!("shop/cart:{port}"), "web").is_some())
            .collect();
        assert_eq!(ports, bound, "{kind} {parent}");
    }
    let gateway = route(
        "HTTPRoute",
        "shop/split",
        &format!("parentRefs: [{{name: cart}}], {}", to("{name: cart, port: 80}")),
    );
    assert_eq!(
        told(&index(&[two, &gateway]), "shop/cart:80", "web"),
        None,
        "a Gateway is not ours"
    );
}

#[test]
fn a_rule_with_what_has_no_support_does_not_pass_its_requests_to_others() {
    let spec = "rules: [{matches: [{path: {value: /a}}], filters: [{type: ExtensionRef, extensionRef: {name: login}}], backendRefs: [{name: v2, port: 80}]}, \
                {matches: [{path: {value: /b}}], sessionPersistence: {}}, {backendRefs: [{name: cart, port: 80}]}]";
    let index = index(&[&services(CART), &route("HTTPRoute", "shop/split", spec)]);
    let routes = told(&index, "shop/cart:80", "web").expect("routes");
    assert_eq!(matches(&routes), ["/a* -> split rules[0]", "/* -> split rules[2]"]);
    let rule = &routes.http.expect("of HTTP").rules[0];
    let refused = "!spec.rules[0].filters[0].type ExtensionRef: is not supported: leave it out x1";
    assert_eq!((backends(&rule.backends), rule.filters.len()), (vec![refused.to_owned()], 0));
}
