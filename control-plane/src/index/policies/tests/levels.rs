//! What of several levels, of several services, and of what a policy was before holds.

use super::*;

/// A pod's place of two services, and a workload of none.
const MORE: &str = "
apiVersion: v1
kind: Service
metadata: {name: carts, namespace: shop}
spec: {selector: {app: cart}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: trolley, namespace: shop}
spec: {selector: {app: cart}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {name: both, namespace: shop, labels: {app: cart}}
spec: {port: 8080}
---
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {name: lone, namespace: shop}
spec: {port: 8080}
";

fn more(policies: &[Object]) -> Index {
    let mut index = mesh(&[]);
    index.apply_all(&objects(MORE));
    index.apply_all(policies);
    index
}

#[test]
fn of_two_services_of_one_port_the_default_that_denies_holds() {
    let of = |service: &str, default: &str| {
        let target = format!("{{kind: Service, name: {service}}}");
        access(&format!("shop/{service}"), &target, &format!("default: {default}"))
    };
    for (one, other, denies) in [("Deny", "Allow", "carts"), ("Allow", "Deny", "trolley")] {
        let index = more(&[of("carts", one), of("trolley", other)]);
        let expected = format!("deny by AccessPolicy shop/{denies}");
        assert_eq!(access_of(&index, "shop/both", 8080).1, expected);
    }
}

#[test]
fn a_default_that_is_only_audited_travels_though_it_denies_nobody() {
    let index = mesh(&[access("shop/trial", CART, "mode: Audit, default: Deny")]);
    let (rules, enforced, audited) = access_of(&index, "shop/cart", 8080);
    assert!(rules.is_empty());
    assert_eq!((&*enforced, &*audited), ("allow by ", "deny by AccessPolicy shop/trial"));
}

#[test]
fn of_defaults_on_a_port_by_its_name_and_by_its_number_the_older_holds() {
    for (old, young) in [(CART_80, CART_HTTP), (CART_HTTP, CART_80)] {
        let dated = |name: &str, age, target: &str, default: &str| {
            let spec = format!("{{targetRefs: [{target}], default: {default}}}");
            policy(&format!("AccessPolicy shop/{name}"), age, &spec)
        };
        let all = [dated("old", 1, old, "Allow"), dated("young", 2, young, "Deny")];
        assert_eq!(access_of(&mesh(&all), "shop/cart", 8080).1, "none", "{old}");
        let all = [dated("old", 1, old, "Deny"), dated("young", 2, young, "Allow")];
        let said = access_of(&mesh(&all), "shop/cart", 8080).1;
        assert_eq!(said, "deny by AccessPolicy shop/old", "{old}");
    }
}

#[test]
fn a_policy_that_is_made_again_is_as_old_as_it_is_now() {
    let list = |age| {
        policy("AccessPolicy shop/one", age, &format!("{{targetRefs: [{CART}], default: Deny}}"))
    };
    let open =
        policy("AccessPolicy shop/two", 2, &format!("{{targetRefs: [{CART}], default: Allow}}"));
    let time = |name: &str, age, time| {
        traffic(&format!("shop/{name}"), age, CART, &format!("timeouts: {{request: {time}s}}"))
    };
    let mut index = mesh(&[list(1), open, time("one", 1, 1), time("two", 2, 2)]);
    assert_eq!(access_of(&index, "shop/cart", 8080).1, "deny by AccessPolicy shop/one");
    assert_eq!(requests(&index, "shop/cart:80").request_timeout_ms, Some(1_000));
    let changes = index.apply_all(&[list(3), time("one", 3, 1)]);
    assert_eq!(access_of(&index, "shop/cart", 8080).1, "none");
    assert_eq!(requests(&index, "shop/cart:80").request_timeout_ms, Some(2_000));
    let (services, inbounds) = touched(&changes);
    assert!(services.contains(&"shop/cart:80".to_owned()), "{services:?}");
    assert!(inbounds.contains(&"shop/cart".to_owned()), "{inbounds:?}");
}

#[test]
fn an_access_policy_that_moves_to_another_target_touches_both() {
    let mut index = mesh(&[access("shop/p", CART, "default: Deny")]);
    let changes = index.apply(&access("shop/p", "{kind: Service, name: web}", "default: Deny"));
    assert_eq!(touched(&changes).1, ["shop/cart", "shop/web"]);
    assert_eq!(access_of(&index, "shop/cart", 8080).1, "none");
}

#[test]
fn without_targets_a_policy_holds_for_its_own_namespace_alone() {
    let index = mesh(&[access("shop/all", "", "default: Deny")]);
    assert_eq!(access_of(&index, "shop/web", 80).1, "deny by AccessPolicy shop/all");
    assert_eq!(access_of(&index, "money/bank", 80).1, "none");
}

#[test]
fn a_rules_own_retries_go_before_a_policys_field_by_field() {
    let route = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: split, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: cart, port: 80}]
  rules: [{retry: {attempts: 2, codes: [500]}, backendRefs: [{name: cart, port: 80}]}]
";
    let mut all = objects(route);
    all.push(traffic(
        "shop/cart",
        1,
        CART,
        "retry: {attempts: 5, statuses: [503], unsafeMethods: true, bodyLimit: 1024}",
    ));
    let routes = declaration(&mesh(&all), "shop/cart:80").routes.unwrap_or_default();
    let rule = routes.http.expect("of HTTP").rules.remove(0);
    let retry = rule.requests.and_then(|requests| requests.retry).expect("both say something");
    let said = (retry.attempts, retry.statuses, retry.unsafe_methods, retry.body_limit_bytes);
    assert_eq!(said, (Some(2), vec![500], true, Some(1024)));
}

#[test]
fn a_protocol_holds_for_a_namespace_until_something_closer_says_another() {
    let all = [
        traffic("shop/all", 1, SHOP_ALL, "protocol: tcp"),
        traffic("shop/http", 1, CART_HTTP, "protocol: grpc"),
    ];
    let index = mesh(&all);
    let protocols = ["shop/cart:80", "shop/cart:9000", "money/bank:80"];
    let protocols = protocols.map(|name| declaration(&index, name).protocol());
    let expected =
        [discovery::Protocol::Grpc, discovery::Protocol::Tcp, discovery::Protocol::Unspecified];
    assert_eq!(protocols, expected);
}

#[test]
fn limits_of_a_namespace_hold_once_at_a_port_of_two_services_and_at_one_of_none() {
    let index = more(&[traffic("shop/all", 1, SHOP_ALL, "rateLimits: [{requests: 5}]")]);
    for workload in ["shop/both", "shop/lone"] {
        assert_eq!(inbound(&index, workload, 8080).rate_limits.len(), 1, "{workload}");
    }
}

#[test]
fn a_bound_on_concurrency_of_the_whole_mesh_holds_everywhere() {
    let defaults = policy("MeshConfig mesh", 1, "{defaults: {concurrency: {maxInFlight: 7}}}");
    let bound = inbound(&mesh(&[defaults]), "money/bank", 80).concurrency.expect("one");
    assert_eq!((bound.max_in_flight, &*bound.policy), (7, "MeshConfig mesh"));
}

#[test]
fn faults_are_those_of_the_most_specific_level_alone() {
    let fault = |name: &str, target: &str, percent: u32| {
        let sections = format!("faults: [{{percent: {percent}, abort: {{status: 503}}}}]");
        traffic(&format!("shop/{name}"), 1, target, &sections)
    };
    let index = mesh(&[fault("all", SHOP_ALL, 10), fault("cart", CART, 20)]);
    let of = |name: &str| requests(&index, name).faults;
    assert_eq!((of("shop/cart:80").len(), of("shop/web:80").len()), (1, 1));
    assert_ne!(of("shop/cart:80"), of("shop/web:80"));
    assert_eq!(
        of("shop/cart:80"),
        requests(&mesh(&[fault("cart", CART, 20)]), "shop/cart:80").faults
    );
}

#[test]
fn two_policies_that_say_the_same_default_are_both_accepted() {
    let one = access("shop/one", CART, "default: Deny");
    let two = access("shop/two", CART, "default: Deny");
    let index = mesh(&[one.clone(), two.clone()]);
    for object in [one, two] {
        assert_eq!(conditions(&index, &object)["Accepted"].0, "Accepted");
    }
}

#[test]
fn a_target_is_looked_for_by_its_kind_and_its_port_by_name_or_number() {
    let pay = policy(
        "ExternalService shop/pay",
        1,
        "{hosts: [api.pay.com], ports: [{port: 443, protocol: tls}]}",
    );
    for (target, expected) in [
        (CART_80, "Accepted"),
        ("{kind: Service, name: cart, sectionName: '81'}", "TargetNotFound"),
        ("{kind: ExternalService, name: pay}", "Accepted"),
        ("{kind: Service, name: pay}", "TargetNotFound"),
    ] {
        let object = traffic("shop/p", 1, target, "timeouts: {connect: 1s}");
        let index = mesh(&[pay.clone(), object.clone()]);
        assert_eq!(conditions(&index, &object)["Accepted"].0, expected, "{target}");
    }
}
