//! Policies as tables: objects in, what proxies are told out, and what a change touched.

mod levels;
mod older;
mod routed;
mod shared;

use std::collections::BTreeMap;

use weft_proto::{ServicePort, TrustDomain, discovery};

use crate::{
    index::{Changes, Index},
    model::{InstanceKey, Kind, Object, ObjectKey, parse_documents},
    status::{judge, refused::Refused},
};

const SHOP: &str = "
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {name: cart, namespace: shop}
spec:
  service: cart
  ports: [{name: http, port: 8080, servicePort: 80}, {name: admin, port: 9000}]
---
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {name: web, namespace: shop}
spec: {service: web, port: 80}
---
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {name: bank, namespace: money}
spec: {service: bank, port: 80}
";

fn objects(text: &str) -> Vec<Object> {
    let parsed = parse_documents("test.yaml", text).into_iter();
    parsed.map(|parsed| parsed.expect("valid").object).collect()
}

/// A policy of Weft's own: "KIND NAMESPACE/NAME", how old it is (1 is older than 2), and its spec.
fn policy(object: &str, age: u32, spec: &str) -> Object {
    let (kind, rest) = object.split_once(' ').expect("a kind");
    let (namespace, name) = rest.split_once('/').unwrap_or(("", rest));
    let place =
        if namespace.is_empty() { String::new() } else { format!(", namespace: {namespace}") };
    let text = format!(
        "apiVersion: weft.dev/v1alpha1\nkind: {kind}\n\
         metadata: {{name: {name}{place}, creationTimestamp: '2030-01-01T00:00:{age:02}Z'}}\nspec: {spec}"
    );
    objects(&text).remove(0)
}

fn traffic(name: &str, age: u32, target: &str, sections: &str) -> Object {
    policy(
        &format!("TrafficPolicy {name}"),
        age,
        &format!("{{targetRefs: [{target}], {sections}}}"),
    )
}

fn access(name: &str, target: &str, rest: &str) -> Object {
    let target =
        if target.is_empty() { String::new() } else { format!("targetRefs: [{target}], ") };
    policy(&format!("AccessPolicy {name}"), 1, &format!("{{{target}{rest}}}"))
}

fn mesh(policies: &[Object]) -> Index {
    let mut index = Index::new(TrustDomain::default());
    index.apply_all(&objects(SHOP));
    index.apply_all(policies);
    index
}

fn port(text: &str) -> ServicePort {
    text.parse().expect("valid")
}

fn declaration(index: &Index, name: &str) -> discovery::Service {
    (**index.service(&port(name)).expect("it exists").declaration).clone()
}

fn requests(index: &Index, name: &str) -> discovery::RequestPolicy {
    declaration(index, name).requests.unwrap_or_default()
}

fn instance(workload: &str) -> InstanceKey {
    InstanceKey { workload: workload.parse().expect("valid"), instance: "0".into() }
}

fn inbound(index: &Index, workload: &str, number: u32) -> discovery::InboundPort {
    let inbound = index.inbound(&instance(workload)).expect("it exists");
    inbound.ports.into_iter().find(|port| port.port == number).expect("it is listed")
}

const CART: &str = "{kind: Service, name: cart}";
const CART_HTTP: &str = "{kind: Service, name: cart, sectionName: http}";
const CART_80: &str = "{kind: Service, name: cart, sectionName: '80'}";
const SHOP_ALL: &str = "{kind: Namespace, name: shop}";

#[test]
fn the_most_specific_level_that_says_a_field_says_it() {
    let levels = [
        policy(
            "MeshConfig mesh",
            1,
            "{defaults: {timeouts: {request: 1s}, retry: {attempts: 1, statuses: [501]}}}",
        ),
        traffic("shop/all", 1, SHOP_ALL, "timeouts: {request: 2s, perTry: 200ms}"),
        traffic("shop/cart", 1, CART, "timeouts: {request: 3s}, retry: {attempts: 3}"),
        traffic("shop/http", 1, CART_HTTP, "timeouts: {request: 4s}"),
        traffic("shop/80", 1, CART_80, "timeouts: {request: 5s}"),
    ];
    // How many levels there are, the port's request timeout, its attempt timeout, its retries; and the other port's
    // request timeout.
    for (count, request, attempt, attempts, other) in [
        (0, None, None, None, None),
        (1, Some(1_000), None, Some(1), Some(1_000)),
        (2, Some(2_000), Some(200), Some(1), Some(2_000)),
        (3, Some(3_000), Some(200), Some(3), Some(3_000)),
        (4, Some(4_000), Some(200), Some(3), Some(3_000)),
        (5, Some(5_000), Some(200), Some(3), Some(3_000)),
    ] {
        let index = mesh(&levels[..count]);
        let said = requests(&index, "shop/cart:80");
        assert_eq!(
            (said.request_timeout_ms, said.attempt_timeout_ms),
            (request, attempt),
            "{count} levels"
        );
        let retry = said.retry.unwrap_or_default();
        assert_eq!(retry.attempts, attempts, "{count} levels");
        assert_eq!(retry.statuses, if count > 0 { vec![501] } else { vec![] });
        assert_eq!(requests(&index, "shop/cart:9000").request_timeout_ms, other);
    }
    let index = mesh(&levels);
    assert_eq!(
        requests(&index, "shop/cart:80").policies,
        [
            // The one by the port's name is of the same target, and comes later.
            "TrafficPolicy shop/80",
            "TrafficPolicy shop/cart",
            "TrafficPolicy shop/all",
            "MeshConfig mesh"
        ]
    );
    assert_eq!(requests(&index, "money/bank:80").policies, ["MeshConfig mesh"]);
    assert_eq!(declaration(&index, "shop/cart:80").endpoint_policy, None, "nothing is said of it");
}

#[test]
fn a_routes_own_field_goes_before_the_policies_on_it_and_those_before_the_services() {
    let route = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: split, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: cart, port: 80}]
  rules:
  - {name: one, timeouts: {request: 7ms, backendRequest: 5ms}, backendRefs: [{name: cart, port: 80}]}
  - {backendRefs: [{name: cart, port: 80}]}
";
    let rule = "{kind: HTTPRoute, name: split, sectionName: one}";
    let mut objects = objects(route);
    objects.extend([
        traffic("shop/cart", 1, CART, "timeouts: {request: 3s, streamIdle: 9s}"),
        traffic(
            "shop/split",
            1,
            "{kind: HTTPRoute, name: split}",
            "timeouts: {request: 2s, perTry: 1s}",
        ),
        traffic("shop/one", 1, rule, "timeouts: {request: 1s}"),
    ]);
    let mut index = mesh(&objects);
    let rules = |index: &Index| -> Vec<_> {
        let routes = declaration(index, "shop/cart:80").routes.unwrap_or_default();
        let rules = routes.http.unwrap_or_default().rules.into_iter();
        let requests = rules.map(|rule| rule.requests.unwrap_or_default());
        let times = requests.map(|it| {
            (it.request_timeout_ms, it.attempt_timeout_ms, it.stream_idle_timeout_ms, it.policies)
        });
        times.collect()
    };
    let named =
        |names: &[&str]| names.iter().map(|name| format!("TrafficPolicy shop/{name}")).collect();
    assert_eq!(
        rules(&index),
        [
            (Some(7), Some(5), Some(9_000), named(&["one", "split", "cart"])),
            (Some(2_000), Some(1_000), Some(9_000), named(&["split", "cart"])),
        ]
    );
    let changes = index.remove(&ObjectKey::new(Kind::TrafficPolicy, "shop", "split"));
    assert_eq!(changes.services, [port("shop/cart:80")].into(), "the route's parent, and no other");
    assert_eq!(rules(&index)[1], (Some(3_000), None, Some(9_000), named(&["cart"])));
}

#[test]
fn what_a_section_leaves_open_is_filled_in_where_the_proxy_has_no_default() {
    let index = mesh(&[
        traffic(
            "shop/cart",
            1,
            CART,
            "circuitBreaking: {failurePercent: 40}, limits: {maxInFlight: 7}",
        ),
        traffic(
            "shop/all",
            1,
            SHOP_ALL,
            "loadBalancing: {algorithm: RingHash, hash: {header: X-User}}",
        ),
        traffic("shop/web", 1, "{kind: Service, name: web}", "loadBalancing: {algorithm: Random}"),
    ]);
    let policy = declaration(&index, "shop/cart:80").endpoint_policy.expect("said");
    let breaker = policy.breaker.expect("said");
    assert_eq!((breaker.failure_percent, breaker.consecutive_failures, breaker.probes), (40, 5, 1));
    let limits = policy.limits.expect("said");
    assert_eq!((limits.max_in_flight, limits.max_connections, limits.max_pending), (7, 0, 1_024));
    let hash = |name: &str| {
        let policy = declaration(&index, name).endpoint_policy;
        policy.and_then(|policy| policy.balancing).and_then(|balancing| balancing.hash)
    };
    let header = discovery::hash_key::Kind::Header("x-user".into());
    assert_eq!(hash("shop/cart:80").and_then(|hash| hash.kind), Some(header));
    assert_eq!(hash("shop/web:80"), None, "what is hashed goes with its algorithm");
}

#[test]
fn a_policys_protocol_goes_before_the_services_on_both_sides() {
    let index = mesh(&[traffic("shop/cart", 1, CART_HTTP, "protocol: grpc")]);
    assert_eq!(declaration(&index, "shop/cart:80").protocol(), discovery::Protocol::Grpc);
    assert_eq!(inbound(&index, "shop/cart", 8080).protocol(), discovery::Protocol::Grpc);
    assert_eq!(declaration(&index, "shop/cart:9000").protocol(), discovery::Protocol::Unspecified);
}

#[test]
fn of_two_policies_on_one_section_the_older_is_in_force_and_the_younger_says_so() {
    let mut index = mesh(&[
        traffic("shop/young", 2, CART, "timeouts: {request: 2s}, retry: {attempts: 2}"),
        traffic("shop/old", 1, CART, "timeouts: {request: 1s}"),
        // Younger still: its section is free, as the one in between is not in force.
        traffic("shop/free", 3, CART, "retry: {attempts: 3}"),
    ]);
    let said = |index: &Index| {
        let policy = requests(index, "shop/cart:80");
        (policy.request_timeout_ms, policy.retry.and_then(|retry| retry.attempts))
    };
    assert_eq!(said(&index), (Some(1_000), Some(3)));
    let young = traffic("shop/young", 2, CART, "timeouts: {request: 2s}, retry: {attempts: 2}");
    let conditions = conditions(&index, &young);
    assert_eq!(conditions["Accepted"].0, "Conflicted");
    let message = &conditions["Accepted"].1;
    assert!(message.contains("spec.timeouts: TrafficPolicy shop/old, which is older"), "{message}");
    assert_eq!(conditions["Programmed"].0, "NotAccepted");

    index.remove(&ObjectKey::new(Kind::TrafficPolicy, "shop", "old"));
    assert_eq!(said(&index), (Some(2_000), Some(2)));
    index.remove(&ObjectKey::new(Kind::TrafficPolicy, "shop", "young"));
    assert_eq!(said(&index), (None, Some(3)));
}

#[test]
fn rate_limits_and_concurrency_go_to_the_servers_ports() {
    let index = mesh(&[
        policy("MeshConfig mesh", 1, "{defaults: {rateLimits: [{requests: 1}]}}"),
        traffic(
            "shop/cart",
            1,
            CART_HTTP,
            "rateLimits: [{requests: 10, per: 1m, key: Identity}, {requests: 5}]",
        ),
        traffic("shop/all", 1, SHOP_ALL, "concurrency: {maxInFlight: 3, maxPending: 4}"),
    ]);
    let port = inbound(&index, "shop/cart", 8080);
    let limits: Vec<_> = port
        .rate_limits
        .iter()
        .map(|l| (l.policy.as_str(), l.requests, l.per_ms, l.burst))
        .collect();
    assert_eq!(
        limits,
        [
            ("TrafficPolicy shop/cart rateLimits[0]", 10, 60_000, 10),
            ("TrafficPolicy shop/cart rateLimits[1]", 5, 1_000, 5)
        ]
    );
    let bound = port.concurrency.expect("said");
    assert_eq!(
        (bound.policy.as_str(), bound.max_in_flight, bound.max_pending),
        ("TrafficPolicy shop/all", 3, 4)
    );
    let other = inbound(&index, "shop/cart", 9000);
    assert_eq!(other.rate_limits[0].policy, "MeshConfig mesh rateLimits[0]");
    let far = inbound(&index, "money/bank", 80);
    assert!(far.concurrency.is_none() && far.rate_limits.len() == 1);
}

/// The rules of a port by whose they are, and the defaults: "deny by AccessPolicy shop/cart".
fn access_of(index: &Index, workload: &str, number: u32) -> (Vec<String>, String, String) {
    let Some(access) = inbound(index, workload, number).access else {
        return (Vec::new(), "none".into(), "none".into());
    };
    let said = |default: Option<discovery::AccessDefault>| {
        let default = default.expect("always said");
        let word = if default.deny { "deny" } else { "allow" };
        format!("{word} by {}", default.policy)
    };
    let rules = access.rules.iter().map(|rule| {
        let word = if rule.deny { "deny" } else { "allow" };
        let audit = if rule.audit { " audit" } else { "" };
        format!("{word}{audit} {}", rule.policy)
    });
    (rules.collect(), said(access.enforced), said(access.audited))
}

#[test]
fn all_access_rules_hold_together_and_the_most_specific_default() {
    let allow_web = "rules: [{action: Allow, from: [{identities: [shop/web]}]}]";
    let deny_all = "default: Deny";
    let cases: [(&[Object], &[&str], &str, &str); 10] = [
        (&[], &[], "none", "none"),
        (
            &[access("shop/a", CART, allow_web)],
            &["allow AccessPolicy shop/a rules[0]"],
            "deny by AccessPolicy shop/a",
            "deny by AccessPolicy shop/a",
        ),
        (
            &[access("shop/a", CART, "rules: [{action: Deny, to: [{methods: [PUT]}]}]")],
            &["deny AccessPolicy shop/a rules[0]"],
            "allow by ",
            "allow by ",
        ),
        // The mesh denies, the namespace allows: that is closer.
        (
            &[access("weft-system/m", "", deny_all), access("shop/n", "", "default: Allow")],
            &[],
            "none",
            "none",
        ),
        (
            &[access("weft-system/m", "", deny_all)],
            &[],
            "deny by AccessPolicy weft-system/m",
            "deny by AccessPolicy weft-system/m",
        ),
        (
            &[policy("MeshConfig mesh", 1, "{access: {default: Deny}}")],
            &[],
            "deny by MeshConfig mesh",
            "deny by MeshConfig mesh",
        ),
        // A port goes before its service, by name or by number.
        (
            &[access("shop/s", CART, deny_all), access("shop/p", CART_HTTP, "default: Allow")],
            &[],
            "none",
            "none",
        ),
        // In Audit mode nothing is decided, and all is known.
        (
            &[access("shop/a", CART, &format!("mode: Audit, {allow_web}"))],
            &["allow audit AccessPolicy shop/a rules[0]"],
            "allow by ",
            "deny by AccessPolicy shop/a",
        ),
        // Rules of all levels hold.
        (
            &[
                access(
                    "shop/n",
                    SHOP_ALL,
                    "rules: [{action: Deny, from: [{cidrs: [10.0.0.0/8]}]}]",
                ),
                access("shop/a", CART_80, allow_web),
            ],
            &["allow AccessPolicy shop/a rules[0]", "deny AccessPolicy shop/n rules[0]"],
            "deny by AccessPolicy shop/a",
            "deny by AccessPolicy shop/a",
        ),
        // Of one age, the first by name.
        (
            &[access("shop/a", CART, allow_web), access("shop/b", CART, "default: Allow")],
            &["allow AccessPolicy shop/a rules[0]"],
            "deny by AccessPolicy shop/a",
            "deny by AccessPolicy shop/a",
        ),
    ];
    for (policies, rules, enforced, audited) in cases {
        let index = mesh(policies);
        let (found, one, other) = access_of(&index, "shop/cart", 8080);
        assert_eq!(
            (found.as_slice(), one.as_str(), other.as_str()),
            (
                rules.iter().map(|&rule| rule.to_owned()).collect::<Vec<_>>().as_slice(),
                enforced,
                audited
            )
        );
    }
}

#[test]
fn a_policy_of_one_namespace_says_nothing_in_another() {
    let index = mesh(&[
        access("shop/n", "{kind: Namespace, name: money}", "default: Deny"),
        traffic("shop/n", 1, "{kind: Namespace, name: money}", "timeouts: {request: 1s}"),
    ]);
    assert_eq!(access_of(&index, "money/bank", 80).1, "none");
    assert_eq!(requests(&index, "money/bank:80"), discovery::RequestPolicy::default());
    let object = access("shop/n", "{kind: Namespace, name: money}", "default: Deny");
    assert_eq!(conditions(&index, &object)["ResolvedRefs"].0, "RefNotPermitted");
    // The root namespace's policies reach every other.
    let index = mesh(&[access("weft-system/n", "{kind: Namespace, name: money}", "default: Deny")]);
    assert_eq!(access_of(&index, "money/bank", 80).1, "deny by AccessPolicy weft-system/n");
}

/// The reason and the message of each condition.
fn conditions(index: &Index, object: &Object) -> BTreeMap<&'static str, (&'static str, String)> {
    let judged = judge(object, index, &Refused::default());
    let judged = judged.conditions.into_iter();
    judged.map(|one| (one.r#type, (one.reason, one.message))).collect()
}

#[test]
fn a_policy_of_what_is_not_there_says_so() {
    for (target, accepted, resolved, said) in [
        (CART, "Accepted", "ResolvedRefs", ""),
        (CART_HTTP, "Accepted", "ResolvedRefs", ""),
        (SHOP_ALL, "Accepted", "ResolvedRefs", ""),
        (
            "{kind: Service, name: cat}",
            "TargetNotFound",
            "TargetNotFound",
            "spec.targetRefs[0].name: there is no Service \"cat\" in namespace shop",
        ),
        (
            "{kind: Service, name: cart, sectionName: https}",
            "TargetNotFound",
            "TargetNotFound",
            "spec.targetRefs[0].sectionName: Service shop/cart has no port \"https\": it has 80, 9000",
        ),
        (
            "{kind: HTTPRoute, name: split}",
            "TargetNotFound",
            "TargetNotFound",
            "there is no HTTPRoute \"split\" in namespace shop",
        ),
        (
            "{kind: Service, name: cart}, {kind: ExternalService, name: cart}",
            "Accepted",
            "TargetNotFound",
            "spec.targetRefs[1].name: there is no ExternalService \"cart\"",
        ),
    ] {
        let object = traffic("shop/p", 1, target, "timeouts: {request: 1s}");
        let conditions = conditions(&mesh(std::slice::from_ref(&object)), &object);
        assert_eq!((conditions["Accepted"].0, conditions["ResolvedRefs"].0), (accepted, resolved));
        assert!(conditions["ResolvedRefs"].1.contains(said), "{conditions:?}");
    }
}

/// What a change touched: service ports, workloads.
fn touched(changes: &Changes) -> (Vec<String>, Vec<String>) {
    let services = changes.services.iter().map(ToString::to_string).collect();
    (services, changes.inbounds.iter().map(ToString::to_string).collect())
}

#[test]
fn a_changed_policy_touches_what_it_holds_for_and_nothing_else() {
    let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    for (object, services, inbounds) in [
        (
            traffic("shop/p", 1, CART, "timeouts: {request: 1s}"),
            all(&["shop/cart:80", "shop/cart:9000"]),
            all(&[]),
        ),
        (traffic("shop/p", 1, CART_HTTP, "retry: {attempts: 0}"), all(&["shop/cart:80"]), all(&[])),
        (
            traffic("shop/p", 1, SHOP_ALL, "limits: {maxPending: 1}"),
            all(&["shop/cart:80", "shop/cart:9000", "shop/web:80"]),
            all(&[]),
        ),
        (
            traffic("shop/p", 1, CART, "concurrency: {maxInFlight: 1}"),
            all(&[]),
            all(&["shop/cart"]),
        ),
        (access("shop/p", SHOP_ALL, "default: Deny"), all(&[]), all(&["shop/cart", "shop/web"])),
        (
            access("weft-system/p", "", "default: Deny"),
            all(&[]),
            all(&["money/bank", "shop/cart", "shop/web"]),
        ),
        (
            traffic("shop/p", 1, "{kind: HTTPRoute, name: split}", "timeouts: {request: 1s}"),
            all(&[]),
            all(&[]),
        ),
    ] {
        let mut index = mesh(&[]);
        let applied = index.apply(&object);
        assert_eq!(touched(&applied), (services.clone(), inbounds.clone()), "{object:?}");
        assert!(applied.endpoints.is_empty() && !applied.mesh && applied.targets.is_empty());
        assert!(index.apply(&object).is_empty(), "it is the same");
        assert_eq!(touched(&index.remove(&object.key())), (services, inbounds), "{object:?}");
    }
}

#[test]
fn a_default_of_the_mesh_touches_every_port() {
    let mut index = mesh(&[]);
    let changes =
        index.apply(&policy("MeshConfig mesh", 1, "{defaults: {timeouts: {request: 1s}}}"));
    assert_eq!(touched(&changes).0.len(), 4);
    assert!(changes.inbounds.is_empty() && !changes.mesh);
    let changes = index.apply(&policy("MeshConfig mesh", 1, "{egress: RegisteredOnly}"));
    assert!(changes.mesh && changes.all_targets);
    assert_eq!(index.mesh().egress(), discovery::Egress::RegisteredOnly);
}

#[test]
fn what_holds_at_a_service_is_told_in_order() {
    let route = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: split, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: cart, port: 80}]
  rules:
  - {name: rest, backendRefs: [{name: cart, port: 80, weight: 9}, {name: nobody, port: 80}]}
  - name: asked
    matches: [{path: {value: /asked}}]
    backendRefs: [{name: web, port: 80}]
";
    let to_rule = "{kind: HTTPRoute, name: split, sectionName: asked}";
    let mut policies = objects(route);
    policies.extend([
        traffic("shop/rule", 1, to_rule, "timeouts: {request: 1s}"),
        traffic("shop/all", 1, SHOP_ALL, "retry: {attempts: 3}, limits: {maxInFlight: 9}"),
        traffic("shop/cart", 1, CART, "rateLimits: [{requests: 5}], concurrency: {maxInFlight: 2}"),
        access("shop/cart", CART, "rules: [{action: Allow}]"),
    ]);
    let applied = mesh(&policies).applied(&port("shop/cart:80")).expect("it exists");
    let told: Vec<String> = applied
        .entries
        .iter()
        .map(|it| {
            let (backends, policies) = (it.backends.join(", "), it.policies.join(", "));
            format!("{}|{}|{backends}|{policies}", it.part, it.rule)
        })
        .collect();
    assert_eq!(
        told,
        [
            "route|HTTPRoute shop/split rules[asked]|shop/web:80 (1)|TrafficPolicy shop/rule, TrafficPolicy shop/all",
            "route|HTTPRoute shop/split rules[rest]|shop/cart:80 (9), invalid (1)|TrafficPolicy shop/all",
            "requests|||TrafficPolicy shop/all",
            "endpoints|||TrafficPolicy shop/all",
            "access|AccessPolicy shop/cart rules[0]||",
            "access|AccessPolicy shop/cart default Deny||",
            "rate limit|TrafficPolicy shop/cart rateLimits[0]||",
            "concurrency|TrafficPolicy shop/cart||",
        ]
    );
}

#[test]
fn authz_lists_rules_in_the_order_in_which_they_decide() {
    let index = mesh(&[
        access("weft-system/m", "", "mode: Audit, default: Deny"),
        access(
            "shop/cart",
            CART,
            "rules: [{action: Allow, from: [{identities: [shop/web], namespaces: [shop]}], \
             to: [{methods: [GET], paths: [{prefix: /items}], headers: [{name: x-a, exact: b}]}]}, \
             {action: Deny, from: [{cidrs: [10.0.0.0/8]}]}], default: Allow",
        ),
        access("shop/n", SHOP_ALL, "rules: [{action: Deny}]"),
    ]);
    let port = index.authz(&port("shop/cart:80")).remove(0);
    let rows: Vec<String> = port
        .rules
        .iter()
        .map(|rule| {
            format!("{} | {} | {} | {} | {}", rule.level, rule.rule, rule.deny, rule.from, rule.to)
        })
        .collect();
    assert_eq!(
        rows,
        [
            "Service shop/cart | AccessPolicy shop/cart rules[1] | true | from 10.0.0.0/8 | everything",
            "namespace shop | AccessPolicy shop/n rules[0] | true | everybody | everything",
            "Service shop/cart | AccessPolicy shop/cart rules[0] | false | shop/web in namespace shop | \
             GET /items/* with x-a=b",
        ]
    );
    let enforced = port.enforced.expect("always said");
    assert_eq!((enforced.deny, enforced.policy.as_str()), (false, "AccessPolicy shop/cart"));
}
