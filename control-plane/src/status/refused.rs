//! Which policies and routes sidecars refuse. In come the resources that were refused, with the sidecars' reasons; out
//! goes one sentence for each policy and each route that such a resource is made of.
//!
//! A sidecar refuses a resource as a whole and keeps the last good one. Where its reason names policies or routes of the
//! resource, those are meant; where it names none, each of them may be.

use std::collections::BTreeMap;

use weft_proto::{ServiceName, ServicePort};

use crate::{index::Index, push::proxies::Refusal};

/// What is said of each policy and each route that is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refused {
    /// By "KIND NAMESPACE/NAME".
    policies: BTreeMap<String, String>,
    /// By the same, and the parent at which it is.
    routes: BTreeMap<(String, ServiceName), String>,
}

impl Refused {
    /// Finds what is behind the resources that were refused.
    #[must_use]
    pub fn new(refusals: &[Refusal], index: &Index) -> Self {
        let mut all = Self::default();
        for refusal in refusals {
            let said = || {
                format!(
                    "the sidecar of {} refuses it and goes on with what it had before ({} {}): {}",
                    refusal.key, refusal.kind, refusal.name, refusal.reason
                )
            };
            let parent = refusal.name.parse::<ServicePort>().ok();
            for part in meant(refusal, index) {
                // One sidecar that refuses is enough to say.
                match &parent {
                    Some(parent) if is_route(&part) => {
                        let place = (part, parent.service.clone());
                        all.routes.entry(place).or_insert_with(said);
                    }
                    _ => {
                        all.policies.entry(part).or_insert_with(said);
                    }
                }
            }
        }
        all
    }

    /// What is said of a policy, "KIND NAMESPACE/NAME"; `None` when nobody refuses it.
    #[must_use]
    pub fn of(&self, policy: &str) -> Option<&str> {
        self.policies.get(policy).map(String::as_str)
    }

    /// What is said of a route at one of its parents.
    #[must_use]
    pub fn of_route(&self, route: &str, parent: &ServiceName) -> Option<&str> {
        self.routes.get(&(route.to_owned(), parent.clone())).map(String::as_str)
    }
}

/// The policies and routes that a refused resource is refused for.
#[must_use]
pub fn meant(refusal: &Refusal, index: &Index) -> Vec<String> {
    let all = match (refusal.kind, refusal.name.parse()) {
        // Callers in a namespace with routes of its own were told otherwise than others.
        ("service", Ok(port)) => index.parts_of_service(&port, &refusal.key.workload.namespace),
        ("inbound", _) => index.policies_of_inbound(&refusal.key),
        _ => return Vec::new(),
    };
    let named: Vec<String> =
        all.iter().filter(|part| is_named(&refusal.reason, part)).cloned().collect();
    if named.is_empty() { all } else { named }
}

fn is_route(name: &str) -> bool {
    ["HTTPRoute ", "GRPCRoute ", "TLSRoute ", "TCPRoute "].iter().any(|kind| name.starts_with(kind))
}

/// Whether the text has the name, and not only as a longer name's beginning. A dot goes on with the name where a letter or
/// a digit follows; otherwise it ends a sentence.
fn is_named(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(at, _)| {
        let mut rest = text[at + name.len()..].chars();
        let goes_on = match rest.next() {
            Some('.') => rest.next().is_some_and(|next| next.is_ascii_alphanumeric()),
            Some(next) => next.is_ascii_alphanumeric() || next == '-',
            None => false,
        };
        !goes_on
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_not_the_beginning_of_a_longer_one() {
        let name = "TrafficPolicy shop/cart";
        assert!(is_named("TrafficPolicy shop/cart rateLimits[0]: too many", name));
        assert!(is_named("refused: TrafficPolicy shop/cart", name));
        assert!(is_named("TrafficPolicy shop/cart: wrong", name));
        assert!(is_named("refused: TrafficPolicy shop/cart. Nothing else", name));
        assert!(is_named("refused: TrafficPolicy shop/cart.", name));
        assert!(!is_named("TrafficPolicy shop/cart-slow: wrong", name));
        assert!(!is_named("TrafficPolicy shop/cart.v2: wrong", name));
    }

    #[test]
    fn a_refusal_names_what_the_refusing_caller_was_told_policies_and_routes() {
        let text = "
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {ports: [{port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: ours, namespace: shop}
spec: {parentRefs: [{group: '', kind: Service, name: cart}], rules: [{backendRefs: [{name: cart, port: 80}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: theirs, namespace: web}
spec: {parentRefs: [{group: '', kind: Service, name: cart, namespace: shop}], rules: [{backendRefs: [{name: cart, namespace: shop, port: 80}]}]}
---
apiVersion: weft.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: ours, namespace: shop}
spec: {targetRefs: [{kind: HTTPRoute, name: ours}], timeouts: {request: 1s}}
---
apiVersion: weft.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: theirs, namespace: web}
spec: {targetRefs: [{kind: HTTPRoute, name: theirs}], timeouts: {request: 1s}}
";
        let parsed = crate::model::parse_documents("", text).into_iter();
        let objects: Vec<_> = parsed.map(|parsed| parsed.expect("valid").object).collect();
        let mut index = Index::new(weft_proto::TrustDomain::default());
        index.apply_all(&objects);
        let refusal = |workload: &str, reason: &str| Refusal {
            key: crate::model::InstanceKey {
                workload: workload.parse().expect("valid"),
                instance: "0".into(),
            },
            kind: "service",
            name: "shop/cart:80".into(),
            reason: reason.into(),
        };
        let both = ["TrafficPolicy web/theirs", "HTTPRoute web/theirs"];
        assert_eq!(meant(&refusal("web/caller", "no"), &index), both);
        let named = refusal("web/caller", "HTTPRoute web/theirs rules[0]: no");
        assert_eq!(meant(&named, &index), ["HTTPRoute web/theirs"]);
        let ours = ["TrafficPolicy shop/ours", "HTTPRoute shop/ours"];
        assert_eq!(meant(&refusal("lab/caller", "no"), &index), ours);

        let refused = Refused::new(&[named], &index);
        let said = |object| {
            let judged = crate::status::judge(object, &index, &refused);
            let of_parents = judged.parents.into_iter().flat_map(|(_, said)| said);
            let all: Vec<_> = judged.conditions.into_iter().chain(of_parents).collect();
            all.into_iter().find(|one| one.reason == "Refused")
        };
        let told = said(&objects[2]).expect("of the consumer's route");
        assert_eq!((told.r#type, told.holds), ("Programmed", false));
        assert!(
            told.message.contains("the sidecar of web/caller/0 refuses it"),
            "{}",
            told.message
        );
        assert!([1, 3, 4].iter().all(|index| said(&objects[*index]).is_none()));
    }

    #[test]
    fn a_refused_inbound_is_told_by_the_policies_that_it_is_made_of() {
        let text = "
apiVersion: weft.dev/v1alpha1
kind: Workload
metadata: {name: cart, namespace: shop}
spec: {service: cart, port: 80}
---
apiVersion: weft.dev/v1alpha1
kind: AccessPolicy
metadata: {name: who, namespace: shop}
spec: {targetRefs: [{kind: Service, name: cart}], default: Deny}
---
apiVersion: weft.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: calls, namespace: shop}
spec: {targetRefs: [{kind: Service, name: cart}], timeouts: {request: 1s}}
";
        let parsed = crate::model::parse_documents("", text).into_iter();
        let objects: Vec<_> = parsed.map(|parsed| parsed.expect("valid").object).collect();
        let mut index = Index::new(weft_proto::TrustDomain::default());
        index.apply_all(&objects);
        let key = crate::model::InstanceKey {
            workload: "shop/cart".parse().expect("valid"),
            instance: "0".into(),
        };
        let refusal = Refusal { key, kind: "inbound", name: "inbound".into(), reason: "no".into() };
        assert_eq!(meant(&refusal, &index), ["AccessPolicy shop/who"]);
        let refused = Refused::new(&[refusal], &index);
        let programmed = |object| {
            let judged = crate::status::judge(object, &index, &refused).conditions;
            judged.into_iter().find(|one| one.r#type == "Programmed").expect("always said")
        };
        let who = programmed(&objects[1]);
        assert_eq!((who.holds, who.reason), (false, "Refused"));
        assert!(who.message.contains("the sidecar of shop/cart/0 refuses it"), "{}", who.message);
        assert!(programmed(&objects[2]).holds);
    }
}
