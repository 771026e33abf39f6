//! Of two policies that say different things of one target, the older holds, and the younger says so. What holds for
//! nothing says so, too.

use super::*;

fn dated(name: &str, age: u32, target: &str, rest: &str) -> Object {
    policy(&format!("AccessPolicy {name}"), age, &format!("{{targetRefs: [{target}], {rest}}}"))
}

#[test]
fn a_younger_default_opens_no_older_list_of_who_may() {
    let list =
        dated("shop/list", 1, CART, "rules: [{action: Allow, from: [{namespaces: [shop]}]}]");
    let open = dated("shop/open", 2, CART, "default: Allow");
    let index = mesh(&[list.clone(), open.clone()]);
    assert_eq!(access_of(&index, "shop/cart", 8080).1, "deny by AccessPolicy shop/list");
    assert_eq!(conditions(&index, &list)["Accepted"].0, "Accepted");
    let told = &conditions(&index, &open)["Accepted"];
    assert_eq!(told.0, "Conflicted");
    assert!(told.1.contains("the default of AccessPolicy shop/list, which is older"), "{}", told.1);
}

#[test]
fn a_port_by_its_name_and_by_its_number_is_one_target() {
    let old = traffic("shop/old", 1, CART_80, "timeouts: {request: 1s}");
    let young = traffic("shop/young", 2, CART_HTTP, "timeouts: {request: 2s}");
    let told = |index: &Index| conditions(index, &young)["Accepted"].clone();
    let mut index = mesh(&[old.clone(), young.clone()]);
    assert_eq!(requests(&index, "shop/cart:80").policies, ["TrafficPolicy shop/old"]);
    assert_eq!(told(&index).0, "Conflicted");
    assert!(
        told(&index).1.contains("TrafficPolicy shop/old, which is older"),
        "{}",
        told(&index).1
    );
    index.remove(&old.key());
    assert_eq!(requests(&index, "shop/cart:80").request_timeout_ms, Some(2_000));

    // Before the service is there, nobody knows that they are one.
    let mut index = Index::new(TrustDomain::default());
    index.apply_all(&[old, young.clone()]);
    assert_eq!(told(&index).0, "TargetNotFound");
    index.apply_all(&objects(SHOP));
    assert_eq!(told(&index).0, "Conflicted");
    assert_eq!(requests(&index, "shop/cart:80").policies, ["TrafficPolicy shop/old"]);

    let deny = dated("shop/deny", 1, CART_HTTP, "default: Deny");
    let allow = dated("shop/allow", 2, CART_80, "default: Allow");
    let index = mesh(&[deny, allow.clone()]);
    assert_eq!(access_of(&index, "shop/cart", 8080).1, "deny by AccessPolicy shop/deny");
    assert_eq!(conditions(&index, &allow)["Accepted"].0, "Conflicted");
}

#[test]
fn sections_for_servers_say_where_they_hold_for_nothing() {
    let outside =
        policy("ExternalService shop/pay", 1, "{hosts: [api.pay.com], ports: [{port: 443}]}");
    let route = |name: &str, namespace: &str, backend: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n\
             metadata: {{name: {name}, namespace: {namespace}}}\n\
             spec: {{parentRefs: [{{group: '', kind: Service, name: cart, namespace: shop}}], rules: [{{backendRefs: [{backend}]}}]}}\n---\n"
        )
    };
    let to_shop = "{name: cart, namespace: shop, port: 80}";
    let outwards = "{group: weft.dev, kind: ExternalService, name: pay, port: 443}";
    let routes = route("theirs", "money", to_shop)
        + &route("ours", "shop", to_shop)
        + &route("out", "shop", outwards);
    let mut all = objects(&routes);
    all.push(outside);
    let limits = "rateLimits: [{requests: 5}], timeouts: {request: 1s}";
    for (name, target, section, why) in [
        (
            "shop/p",
            "{kind: ExternalService, name: pay}",
            limits,
            "ExternalService shop/pay is outside",
        ),
        (
            "shop/p",
            "{kind: ExternalService, name: pay}",
            "concurrency: {maxInFlight: 1}",
            "spec.concurrency: acts in the sidecars of servers",
        ),
        (
            "money/p",
            "{kind: HTTPRoute, name: theirs}",
            limits,
            "HTTPRoute money/theirs has no backend",
        ),
        ("shop/p", "{kind: HTTPRoute, name: out}", limits, "HTTPRoute shop/out has no backend"),
        (
            "shop/p",
            "{kind: HTTPRoute, name: out}, {kind: HTTPRoute, name: ours}",
            limits,
            "HTTPRoute shop/out has no backend",
        ),
        (
            "shop/p",
            "{kind: HTTPRoute, name: out}, {kind: ExternalService, name: pay}, {kind: Service, name: none}",
            limits,
            "and ExternalService shop/pay is outside",
        ),
        ("shop/p", "{kind: HTTPRoute, name: ours}", limits, ""),
        ("money/p", "{kind: HTTPRoute, name: theirs}", "timeouts: {request: 1s}", ""),
    ] {
        let object = traffic(name, 1, target, section);
        let mut index = mesh(&all);
        index.apply(&object);
        let (reason, message) = &conditions(&index, &object)["Accepted"];
        // At the other target it acts.
        let acts = why.is_empty() || target.contains("ours");
        let expected = if acts { "Accepted" } else { "UnsupportedValue" };
        assert_eq!(*reason, expected, "{name} {target}: {message}");
        assert!(message.contains(why), "{message}");
    }
}
