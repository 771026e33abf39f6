//! Servers that stand behind several services: what holds there, and what people are shown of it.

use super::*;

/// Two workloads of the service cart, of which one is of another service as well.
const SHARED: &str = "
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {selector: {app: cart}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: cart-v1, namespace: shop}
spec: {selector: {version: v1}, ports: [{port: 80}]}
---
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {name: one, namespace: shop, labels: {app: cart, version: v1}}
spec: {port: 8080}
---
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {name: two, namespace: shop, labels: {app: cart}}
spec: {port: 8080}
";

const V1: &str = "{kind: Service, name: cart-v1}";

fn shared(policies: &[Object]) -> Index {
    let mut index = Index::new(TrustDomain::default());
    index.apply_all(&objects(SHARED));
    index.apply_all(policies);
    index
}

#[test]
fn what_holds_at_a_server_behind_several_services_is_shown_at_each_of_them() {
    let index = shared(&[
        access("shop/cart", CART, "rules: [{action: Allow, from: [{identities: [shop/web]}]}]"),
        access("shop/v1", V1, "rules: [{action: Deny, from: [{cidrs: [10.0.0.0/8]}]}]"),
        traffic("shop/v1", 1, V1, "rateLimits: [{requests: 5}]"),
    ]);
    let shown = |name: &str| -> Vec<(String, Vec<String>)> {
        let ports = index.authz(&port(name)).into_iter();
        let one = |port: weft_proto::api::AuthzPort| {
            let rules = port.rules.iter().map(|rule| rule.rule.clone()).collect();
            (port.also_behind.join(", "), rules)
        };
        ports.map(one).collect()
    };
    let rules =
        |names: &[&str]| names.iter().map(|name| format!("AccessPolicy {name} rules[0]")).collect();
    assert_eq!(
        shown("shop/cart:80"),
        [
            (String::new(), rules(&["shop/cart"])),
            ("shop/cart-v1:80".to_owned(), rules(&["shop/v1", "shop/cart"])),
        ]
    );
    let both = rules(&["shop/v1", "shop/cart"]);
    assert_eq!(shown("shop/cart-v1:80"), [("shop/cart:80".to_owned(), both)]);

    let applied = index.applied(&port("shop/cart:80")).expect("it exists");
    let told: Vec<String> = applied
        .entries
        .iter()
        .map(|it| format!("{} {} {}", it.part, it.rule, it.also_behind.join(", ")))
        .collect();
    assert_eq!(
        told,
        [
            "access AccessPolicy shop/cart rules[0] ",
            "access AccessPolicy shop/cart default Deny ",
            "access AccessPolicy shop/v1 rules[0] shop/cart-v1:80",
            "rate limit TrafficPolicy shop/v1 rateLimits[0] shop/cart-v1:80",
        ]
    );
}

#[test]
fn of_bounds_on_concurrency_the_most_specific_level_is_right_and_the_next_fills_in() {
    let all = traffic(
        "shop/all",
        1,
        SHOP_ALL,
        "concurrency: {maxInFlight: 1, maxPending: 7, maxWait: 2s}",
    );
    let v1 = traffic("shop/v1", 1, V1, "concurrency: {maxInFlight: 9, maxPending: 3}");
    let cart = traffic("shop/cart", 1, CART, "concurrency: {maxInFlight: 5}");
    let bound = |policies: &[Object]| {
        let bound = inbound(&shared(policies), "shop/one", 8080).concurrency.expect("said");
        (bound.policy, bound.max_in_flight, bound.max_pending, bound.max_wait_ms)
    };
    // cart comes first by name, and says nothing of it.
    let of_v1 = ("TrafficPolicy shop/v1".to_owned(), 9, 3, 2_000);
    assert_eq!(bound(&[all.clone(), v1.clone()]), of_v1);
    let of_cart = ("TrafficPolicy shop/cart".to_owned(), 5, 7, 2_000);
    assert_eq!(bound(&[all, v1, cart]), of_cart);
}

#[test]
fn what_stands_for_a_policy_that_cannot_be_read_denies_and_says_so() {
    let bad = serde_json::json!({
        "apiVersion": "weft.dev/v1alpha1",
        "kind": "AccessPolicy",
        "metadata": {"name": "who", "namespace": "shop"},
        "spec": {"targetRefs": [{"kind": "Service", "name": "cart"}], "later": 1},
    });
    let who =
        crate::model::stand_in::stand_in(&bad, "spec.later: unknown").expect("it stands for it");
    let allow = access("shop/allow", CART, "rules: [{action: Allow}]");
    let index = mesh(&[allow, who.clone()]);
    let name = "AccessPolicy shop/who (cannot be read)";
    let access = inbound(&index, "shop/cart", 8080).access.expect("said");
    let rule = access.rules.iter().find(|rule| rule.policy == name).expect("its rule");
    assert!(rule.deny && rule.callers.is_empty() && rule.operations.is_empty());
    assert_eq!(index.authz(&port("shop/cart:80"))[0].rules[0].rule, name);
    assert_eq!(
        index.policies_of_inbound(&instance("shop/cart")),
        ["AccessPolicy shop/who", "AccessPolicy shop/allow"]
    );
    let (reason, message) = &conditions(&index, &who)["Accepted"];
    assert_eq!(
        (*reason, message.as_str()),
        (
            "Invalid",
            "spec.later: unknown; until it can be read, everything at Service cart is denied"
        )
    );
}
