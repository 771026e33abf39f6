//! Services outside the mesh as parents and as backends of routes.

use super::*;
use crate::status::{judge, refused::Refused};

const AWAY: &str = "---
apiVersion: weft.dev/v1alpha1
kind: ExternalService
metadata: {name: pay, namespace: shop}
spec: {hosts: [api.pay.com], ports: [{name: http, port: 80, protocol: http}]}
";
const OUTSIDE: &str = "group: weft.dev, kind: ExternalService, name: pay";
const INSIDE: &str = "group: '', kind: Service, name: pay";

/// A route whose parent and backend are pay, named so.
fn to_pay(parent: &str, backend: &str) -> String {
    let spec =
        format!("parentRefs: [{{{parent}}}], rules: [{{backendRefs: [{{{backend}, port: 80}}]}}]");
    route("HTTPRoute", "shop/pay", &spec)
}

/// The reason of each condition that is not as it should be.
fn reasons(index: &Index, text: &str) -> Vec<&'static str> {
    let judged = judge(&objects(text)[0], index, &Refused::default());
    let said = judged.parents.into_iter().flat_map(|(_, said)| said);
    said.filter(|one| !one.holds).map(|one| one.reason).collect()
}

#[test]
fn a_reference_means_a_service_of_its_own_kind() {
    let service = services(&["shop/pay:80"]);
    for (pay, parent, backend, expected) in [
        (AWAY, OUTSIDE, OUTSIDE, &[][..]),
        (AWAY, OUTSIDE, INSIDE, &["BackendNotFound"]),
        (AWAY, INSIDE, OUTSIDE, &["NoMatchingParent"]),
        (&service, INSIDE, INSIDE, &[]),
        (&service, INSIDE, OUTSIDE, &["BackendNotFound"]),
        (&service, OUTSIDE, INSIDE, &["NoMatchingParent"]),
    ] {
        let text = to_pay(parent, backend);
        let index = index(&[pay, &text]);
        assert_eq!(reasons(&index, &text), expected, "{pay}{text}");
        let binds = told(&index, "shop/pay:80", "shop").is_some();
        assert_eq!(binds, !expected.contains(&"NoMatchingParent"), "{pay}{text}");
    }
}

#[test]
fn a_route_follows_when_a_service_takes_the_place_of_the_one_outside() {
    let split = route(
        "HTTPRoute",
        "shop/cart",
        &format!("rules: [{{backendRefs: [{{{OUTSIDE}, port: 80}}]}}]"),
    );
    let text = to_pay(OUTSIDE, OUTSIDE);
    let mut index = index(&[&services(&["shop/cart:80"]), AWAY, &split, &text]);
    assert_eq!(first_backends(&index, "shop"), ["shop/pay:80 x1"]);
    assert!(told(&index, "shop/pay:80", "shop").is_some());
    // Its port is read alike: only what the name means is another.
    let service = objects(&services(&["shop/pay:80=http"])).remove(0);
    index.apply(&service);
    let told_to = first_backends(&index, "shop");
    assert!(told_to[0].contains("is a Service, and no ExternalService"), "{told_to:?}");
    assert!(told(&index, "shop/pay:80", "shop").is_none());
    index.remove(&service.key());
    assert_eq!(first_backends(&index, "shop"), ["shop/pay:80 x1"]);
    assert!(told(&index, "shop/pay:80", "shop").is_some());
}

#[test]
fn a_service_outside_keeps_its_routes_when_its_hosts_or_its_policies_change() {
    let mut index = index(&[AWAY.trim_start_matches("---\n"), &to_pay(OUTSIDE, OUTSIDE)]);
    index.apply(&objects(&AWAY.replace("api.pay.com", "api.pay.org")).remove(0));
    let view = index.service(&"shop/pay:80".parse().expect("valid")).expect("it is there");
    let hosts = view.declaration.external.clone().expect("outside").hosts;
    assert_eq!(hosts, ["api.pay.org"]);
    assert!(view.declaration.routes.is_some());
    let policy = "apiVersion: weft.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: pay, namespace: shop}\nspec: {targetRefs: [{kind: ExternalService, name: pay}], timeouts: {request: 1s}}";
    index.apply(&objects(policy).remove(0));
    assert!(told(&index, "shop/pay:80", "shop").is_some());
}
