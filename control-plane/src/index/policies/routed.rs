//! Rate limits of routes, at the servers: a policy on a route or on a rule of it comes in, limits of the inbound ports
//! behind the route's backends go out, each for the requests that the rule takes.
//!
//! A server does not see by which route a request came, so its limit asks for what the rule asks for: path, method,
//! headers and host, as they are once the rule's filters have changed them; never query parameters. Only backends of the
//! route's own namespace are limited: what others serve is theirs to limit. These limits hold beside those of the service.

use std::{borrow::Cow, collections::BTreeSet, sync::Arc};

use weft_proto::{
    ServiceName,
    discovery::{self, Operation, path_match, value_match},
};

use super::{Place, Target, name};
use crate::{
    index::{
        Changes, Index,
        routes::{Known, grpc_match, http_match},
    },
    model::{
        Kind, ObjectKey, Resource, Route, TargetKind, TrafficPolicySpec,
        gateway::{
            filter::{Action, Filter, HeaderFilter},
            grpc_route::GrpcMatch,
            http_route::HttpMatch,
            reference::BackendRef,
            rewrite::{PathModifierType, Rewrite},
            route::Fate,
        },
    },
};

/// A rule of a route of HTTP.
struct Rule<'a> {
    name: Option<&'a str>,
    matches: Vec<discovery::HttpMatch>,
    filters: &'a [Filter],
    backends: &'a [BackendRef],
}

impl Index {
    /// What the policies of routes limit at a service port.
    pub(super) fn routed_limits(&self, place: &Place<'_>) -> Vec<discovery::RateLimit> {
        let mut limits = Vec::new();
        let own = |key: &&ObjectKey| key.namespace == *place.service.namespace;
        for key in self.routes.referring(place.service).filter(own) {
            if self.is_limited(key)
                && let Some(known) = self.routes.known(key)
            {
                limits.extend(self.limits_of(key, known, place));
            }
        }
        limits
    }

    /// The services whose inbound ports a route's policies limit; none where no policy does.
    pub(in crate::index) fn limited_backends(&self, key: &ObjectKey) -> BTreeSet<ServiceName> {
        let route = self.routes.find(key).filter(|_| self.is_limited(key));
        route.map(|route| self.own_backends(route)).unwrap_or_default()
    }

    /// The services of its own namespace that a route sends requests to.
    pub(super) fn own_backends(&self, route: Route<'_>) -> BTreeSet<ServiceName> {
        let namespace = &route.metadata().namespace;
        let rules = rules(route);
        let backends = rules.iter().flat_map(|rule| rule.backends);
        let services = backends.filter(|it| it.is_service()).map(|it| it.service(namespace));
        services.filter(|service| *service.namespace == **namespace).collect()
    }

    /// Marks the servers behind services for which a route's limits may be others.
    pub(in crate::index) fn touch_limited(
        &self,
        services: &BTreeSet<ServiceName>,
        changes: &mut Changes,
    ) {
        for service in services {
            self.touch_servers_of(service, changes);
        }
    }

    /// Whether a policy limits a route, or a rule of it.
    fn is_limited(&self, key: &ObjectKey) -> bool {
        let Some(first) = target(key, None) else { return false };
        let is_of = |target: &Target| match target {
            Target::Route { kind, namespace, name, .. } => {
                kind.name() == key.kind.info().name
                    && (namespace, name) == (&key.namespace, &key.name)
            }
            Target::Mesh | Target::Namespace(_) | Target::Service { .. } => false,
        };
        let at = self.policies.traffic_at.range(first..);
        let mut policies = at.take_while(|(target, _)| is_of(target)).flat_map(|(_, all)| all);
        policies.any(|policy| policy.spec.rate_limits.is_some())
    }

    fn limits_of(
        &self,
        key: &ObjectKey,
        known: Known<'_>,
        place: &Place<'_>,
    ) -> Vec<discovery::RateLimit> {
        let route = known.route;
        // The requests of all rules that one policy holds for are counted together.
        let mut counted: Vec<(&Arc<Resource<TrafficPolicySpec>>, Vec<Operation>)> = Vec::new();
        for (rule, _) in
            rules(route).iter().zip(known.fates).filter(|(_, fate)| **fate == Fate::Whole)
        {
            let Some(policy) = self.limiting(key, rule.name) else { continue };
            let here = |backend: &&BackendRef| {
                backend.is_service()
                    && backend.service(&key.namespace) == *place.service
                    && backend.port == Some(place.port)
            };
            for backend in rule.backends.iter().filter(here) {
                let taken = rule.matches.iter().map(|one| seen(one, route, rule, backend));
                match counted.iter_mut().find(|(known, _)| Arc::ptr_eq(known, policy)) {
                    Some((_, operations)) => operations.extend(taken),
                    None => counted.push((policy, taken.collect())),
                }
            }
        }
        let of_policy = |(policy, taken): (&Arc<Resource<TrafficPolicySpec>>, Vec<Operation>)| {
            let limits = policy.spec.rate_limits.iter().flatten().enumerate();
            let to_wire =
                |(index, limit): (usize, &crate::model::traffic_policy::server::RateLimit)| {
                    let limit = limit.to_wire(format!("{} rateLimits[{index}]", name(policy)));
                    let operations = both(&taken, &limit.operations);
                    (!operations.is_empty()).then_some(discovery::RateLimit { operations, ..limit })
                };
            limits.filter_map(to_wire).collect::<Vec<_>>()
        };
        counted.into_iter().flat_map(of_policy).collect()
    }

    /// The policy whose limits hold for a rule: the rule's own goes before the route's.
    fn limiting(
        &self,
        key: &ObjectKey,
        rule: Option<&str>,
    ) -> Option<&Arc<Resource<TrafficPolicySpec>>> {
        let targets = rule.and_then(|rule| target(key, Some(rule))).into_iter();
        let targets = targets.chain(target(key, None));
        let mut policies = targets.flat_map(|target| self.policies.traffic(&target));
        policies.find(|policy| policy.spec.rate_limits.is_some())
    }
}

/// A route, or a rule of it, as policies refer to it.
fn target(key: &ObjectKey, rule: Option<&str>) -> Option<Target> {
    let kind = match key.kind {
        Kind::HTTPRoute => TargetKind::HTTPRoute,
        Kind::GRPCRoute => TargetKind::GRPCRoute,
        _ => return None,
    };
    let (namespace, name) = (key.namespace.clone(), key.name.clone());
    Some(Target::Route { kind, namespace, name, rule: rule.map(str::to_owned) })
}

/// The rules that are written in a route.
fn rules(route: Route<'_>) -> Vec<Rule<'_>> {
    match route {
        Route::Http(http) => {
            // The rule of a route that writes none has no backends.
            let Cow::Borrowed(rules) = http.spec.rules() else { return Vec::new() };
            let everything = || vec![http_match(&HttpMatch::default())];
            let rules = rules.iter().map(|rule| Rule {
                name: rule.name.as_deref(),
                matches: match &rule.matches[..] {
                    [] => everything(),
                    matches => matches.iter().map(http_match).collect(),
                },
                filters: &rule.filters,
                backends: &rule.backend_refs,
            });
            rules.collect()
        }
        Route::Grpc(grpc) => {
            let everything = || vec![grpc_match(&GrpcMatch::default())];
            let rules = grpc.spec.rules.iter().map(|rule| Rule {
                name: rule.name.as_deref(),
                matches: match &rule.matches[..] {
                    [] => everything(),
                    matches => matches.iter().map(grpc_match).collect(),
                },
                filters: &rule.filters,
                backends: &rule.backend_refs,
            });
            rules.collect()
        }
        Route::Tls(_) | Route::Tcp(_) => Vec::new(),
    }
}

/// The requests that a match takes, as a backend sees them.
fn seen(
    one: &discovery::HttpMatch,
    route: Route<'_>,
    rule: &Rule<'_>,
    backend: &BackendRef,
) -> Operation {
    let hosts: &[String] = match route {
        Route::Http(http) => &http.spec.hostnames,
        Route::Grpc(grpc) => &grpc.spec.hostnames,
        Route::Tls(_) | Route::Tcp(_) => &[],
    };
    let mut operation = Operation {
        methods: Some(one.method.clone()).filter(|method| !method.is_empty()).into_iter().collect(),
        paths: one.path.clone().into_iter().collect(),
        headers: one.headers.clone(),
        hosts: hosts.to_vec(),
    };
    if one.grpc {
        operation.headers.push(discovery::ValueMatch {
            name: "content-type".to_owned(),
            kind: Some(value_match::Kind::Prefix("application/grpc".to_owned())),
        });
    }
    for filter in rule.filters.iter().chain(&backend.filters) {
        match filter.action() {
            Some(Action::RequestHeaders(change)) => change_headers(change, &mut operation),
            Some(Action::Rewrite(rewrite)) => change_target(rewrite, &mut operation),
            Some(Action::ResponseHeaders(_) | Action::Mirror(_) | Action::Redirect(_)) | None => {}
        }
    }
    operation
}

fn change_headers(change: &HeaderFilter, operation: &mut Operation) {
    for header in &change.set {
        let name = header.name.to_ascii_lowercase();
        operation.headers.retain(|known| known.name != name);
        let kind = Some(value_match::Kind::Exact(header.value.clone()));
        operation.headers.push(discovery::ValueMatch { name, kind });
    }
    // What stood there before cannot be asked for any more.
    let gone = change.add.iter().map(|header| &header.name).chain(&change.remove);
    for name in gone {
        operation.headers.retain(|known| !known.name.eq_ignore_ascii_case(name));
    }
}

fn change_target(rewrite: &Rewrite, operation: &mut Operation) {
    if let Some(host) = &rewrite.hostname {
        operation.hosts = vec![host.clone()];
    }
    let Some(path) = &rewrite.path else { return };
    let kind = match path.kind() {
        (PathModifierType::ReplaceFullPath, full) => path_match::Kind::Exact(full.to_owned()),
        (PathModifierType::ReplacePrefixMatch, "") => path_match::Kind::Prefix("/".to_owned()),
        (PathModifierType::ReplacePrefixMatch, prefix) => {
            path_match::Kind::Prefix(prefix.to_owned())
        }
    };
    operation.paths = vec![discovery::PathMatch { kind: Some(kind) }];
}

/// The requests that are among both; none of the second: all of the first. The second never names paths.
fn both(taken: &[Operation], limited: &[Operation]) -> Vec<Operation> {
    if limited.is_empty() {
        return taken.to_vec();
    }
    let pairs = taken.iter().flat_map(|one| limited.iter().map(move |other| (one, other)));
    let joined = pairs.filter_map(|(one, other)| {
        let same = |a: &str, b: &str| (a == b).then(|| a.to_owned());
        Some(Operation {
            methods: common(&one.methods, &other.methods, same)?,
            paths: one.paths.clone(),
            headers: one.headers.iter().chain(&other.headers).cloned().collect(),
            hosts: common(&one.hosts, &other.hosts, narrower)?,
        })
    });
    joined.collect()
}

/// What two lists have in common, where an empty one stands for everything; `None` for nothing.
fn common(
    one: &[String],
    other: &[String],
    of_two: impl Fn(&str, &str) -> Option<String>,
) -> Option<Vec<String>> {
    if one.is_empty() || other.is_empty() {
        return Some([one, other].concat());
    }
    let pairs = one.iter().flat_map(|a| other.iter().map(move |b| (a, b)));
    let found: BTreeSet<String> = pairs.filter_map(|(a, b)| of_two(a, b)).collect();
    (!found.is_empty()).then(|| found.into_iter().collect())
}

/// Of two hosts, each perhaps "*.example.com", the one that the other covers.
fn narrower(one: &str, other: &str) -> Option<String> {
    let covers = |wide: &str, narrow: &str| {
        wide == narrow || wide.strip_prefix('*').is_some_and(|suffix| narrow.ends_with(suffix))
    };
    if covers(one, other) {
        return Some(other.to_owned());
    }
    covers(other, one).then(|| one.to_owned())
}
