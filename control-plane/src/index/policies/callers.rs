//! What callers' sidecars are told: for requests to a service port or by a route's rule, and for the use of its
//! endpoints. The levels are merged here, once, so that a proxy only acts.

use weft_proto::discovery;

use super::{Place, Target, mesh_name, name};
use crate::{
    index::Index,
    model::{AppProtocol, ObjectKey, Sections, TrafficPolicySpec},
};

/// A rule of a route, by which requests come to a service port.
#[derive(Debug, Clone, Copy)]
pub(in crate::index) struct RouteRule<'a> {
    /// The route.
    pub(in crate::index) route: &'a ObjectKey,
    /// The rule's name, where it has one.
    pub(in crate::index) rule: Option<&'a str>,
}

impl RouteRule<'_> {
    /// The targets that mean it, the most specific first.
    fn targets(&self) -> Vec<Target> {
        use crate::model::TargetKind::{GRPCRoute, HTTPRoute};
        let kind = self.route.kind.info().name;
        let kind = [HTTPRoute, GRPCRoute].into_iter().find(|known| known.name() == kind);
        let of = |rule: Option<&str>| {
            kind.map(|kind| Target::Route {
                kind,
                namespace: self.route.namespace.clone(),
                name: self.route.name.clone(),
                rule: rule.map(str::to_owned),
            })
        };
        self.rule.and_then(|rule| of(Some(rule))).into_iter().chain(of(None)).collect()
    }
}

/// What was merged, and of which policies.
#[derive(Default)]
struct Merged {
    sections: Sections,
    policies: Vec<String>,
}

impl Index {
    /// What holds for requests to a service port that is being built: all of them, or those that a route's rule takes.
    /// `own` is what the rule itself says, and goes before every policy. `None`: nothing is said.
    pub(in crate::index) fn requests_at(
        &self,
        place: &Place<'_>,
        route: Option<RouteRule<'_>>,
        own: discovery::RequestPolicy,
    ) -> Option<discovery::RequestPolicy> {
        let levels = route.iter().flat_map(RouteRule::targets).chain(place.targets());
        let merged = self.merge(levels.collect(), place, Sections::of_requests);
        let is_said = own != discovery::RequestPolicy::default();
        match merged.sections.request_policy() {
            None => is_said.then_some(own),
            Some(policy) => {
                let policy = discovery::RequestPolicy { policies: merged.policies, ..policy };
                Some(over(own, policy))
            }
        }
    }

    /// How the endpoints of a port that is being built are used. `None`: nothing is said.
    pub(in crate::index) fn endpoint_policy(
        &self,
        place: &Place<'_>,
    ) -> Option<discovery::EndpointPolicy> {
        let merged = self.merge(place.targets(), place, Sections::of_endpoints);
        let policy = merged.sections.endpoint_policy()?;
        Some(discovery::EndpointPolicy { policies: merged.policies, ..policy })
    }

    /// How the bytes of a port are to be read, where a policy says it.
    pub(in crate::index) fn protocol_by_policy(&self, place: &Place<'_>) -> Option<AppProtocol> {
        let namespace = Target::Namespace(place.service.namespace.clone());
        let levels = place.targets().into_iter().chain([namespace]);
        let policies = &self.policies;
        levels.flat_map(|target| policies.traffic(&target)).find_map(|policy| policy.spec.protocol)
    }

    /// All levels, from the given ones up to the mesh's, one over the other.
    fn merge(
        &self,
        mut levels: Vec<Target>,
        place: &Place<'_>,
        part: fn(&Sections) -> Sections,
    ) -> Merged {
        let mut merged = Merged::default();
        levels.push(Target::Namespace(place.service.namespace.clone()));
        for target in &levels {
            for policy in self.policies.traffic(target) {
                merged.add(|| name(policy), &part(&TrafficPolicySpec::sections(&policy.spec)));
            }
        }
        if !self.config.defaults.is_empty() {
            merged.add(mesh_name, &part(&self.config.defaults.sections()));
        }
        merged
    }
}

impl Merged {
    fn add(&mut self, name: impl FnOnce() -> String, sections: &Sections) {
        if *sections == Sections::default() {
            return;
        }
        self.sections = self.sections.over(sections);
        self.policies.push(name());
    }
}

/// What a route's rule says itself, over what policies say.
fn over(
    own: discovery::RequestPolicy,
    lower: discovery::RequestPolicy,
) -> discovery::RequestPolicy {
    let retry = match (own.retry, lower.retry) {
        (Some(own), Some(lower)) => Some(retry_over(own, lower)),
        (own, lower) => own.or(lower),
    };
    discovery::RequestPolicy {
        request_timeout_ms: own.request_timeout_ms.or(lower.request_timeout_ms),
        attempt_timeout_ms: own.attempt_timeout_ms.or(lower.attempt_timeout_ms),
        stream_idle_timeout_ms: own.stream_idle_timeout_ms.or(lower.stream_idle_timeout_ms),
        retry,
        faults: if own.faults.is_empty() { lower.faults } else { own.faults },
        policies: own.policies.into_iter().chain(lower.policies).collect(),
    }
}

fn retry_over(own: discovery::Retry, lower: discovery::Retry) -> discovery::Retry {
    fn given<T>(own: Vec<T>, lower: Vec<T>) -> Vec<T> {
        if own.is_empty() { lower } else { own }
    }
    let base = own.backoff_base_ms.or(lower.backoff_base_ms);
    discovery::Retry {
        attempts: own.attempts.or(lower.attempts),
        backoff_base_ms: base,
        // A rule may say the one and a policy the other: the cap is never below the first time.
        backoff_max_ms: own
            .backoff_max_ms
            .or(lower.backoff_max_ms)
            .map(|max| base.map_or(max, |base| max.max(base))),
        conditions: given(own.conditions, lower.conditions),
        statuses: given(own.statuses, lower.statuses),
        grpc_codes: given(own.grpc_codes, lower.grpc_codes),
        unsafe_methods: own.unsafe_methods || lower.unsafe_methods,
        body_limit_bytes: own.body_limit_bytes.or(lower.body_limit_bytes),
        budget_percent: own.budget_percent.or(lower.budget_percent),
        budget_min_per_second: own.budget_min_per_second.or(lower.budget_min_per_second),
    }
}
