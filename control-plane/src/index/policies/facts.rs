//! What there is to say of policies, for their statuses and for operators: conflicts, targets that are not there, and
//! which policies a resource of a proxy is made of.

use weft_proto::{ServiceName, ServicePort, discovery};

use super::{Target, name};
use crate::{
    index::Index,
    model::{
        AccessPolicySpec, InstanceKey, Kind, Metadata, ObjectKey, Resource, TargetKind, TargetRef,
        TrafficPolicySpec, access_policy::ROOT_NAMESPACE,
    },
};

/// What there is to say of a policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyFacts {
    /// Another policy that is in force instead, in words.
    pub conflict: Option<String>,
    /// References that lead nowhere: the reason's fixed word, and the words for people.
    pub unresolved: Vec<(&'static str, String)>,
    /// How many references there are.
    pub references: usize,
    /// What of it holds for nothing at targets that are there, in words.
    pub idle: Option<String>,
    /// How many such targets there are.
    pub idle_references: usize,
}

impl PolicyFacts {
    /// Whether it holds for nothing that is there.
    #[must_use]
    pub fn holds_for_nothing(&self) -> bool {
        self.references > 0 && self.unresolved.len() == self.references
    }

    /// Whether what is idle of it acts at none of its targets.
    #[must_use]
    pub fn is_idle_everywhere(&self) -> bool {
        self.idle.is_some() && self.idle_references + self.unresolved.len() == self.references
    }
}

impl Index {
    /// The facts of a TrafficPolicy.
    #[must_use]
    pub fn traffic_policy_facts(&self, policy: &Resource<TrafficPolicySpec>) -> PolicyFacts {
        let metadata = &policy.metadata;
        let key = ObjectKey::new(Kind::TrafficPolicy, &metadata.namespace, &metadata.name);
        let idle = self.without_servers(policy);
        PolicyFacts {
            conflict: self.policies.conflicts.get(&key).cloned(),
            idle_references: idle.len(),
            idle: idle_in_words(policy, &idle),
            ..self.references(&policy.spec.target_refs, metadata)
        }
    }

    /// The facts of an AccessPolicy.
    #[must_use]
    pub fn access_policy_facts(&self, policy: &Resource<AccessPolicySpec>) -> PolicyFacts {
        PolicyFacts {
            conflict: self.default_conflict(policy),
            ..self.references(&policy.spec.target_refs, &policy.metadata)
        }
    }

    /// The targets behind which there are no sidecars of servers, and why, where the policy says something to these.
    fn without_servers(&self, policy: &Resource<TrafficPolicySpec>) -> Vec<String> {
        if policy.spec.sections().of_server().names().is_empty() {
            return Vec::new();
        }
        let namespace = &policy.metadata.namespace;
        let there = policy.spec.target_refs.iter().enumerate();
        let there =
            there.filter(|(at, target)| self.missing(*at, target, &policy.metadata).is_none());
        let idle = there.filter_map(|(_, target)| {
            let why = match target.kind {
                TargetKind::ExternalService => "is outside the mesh",
                TargetKind::HTTPRoute | TargetKind::GRPCRoute => {
                    let kind = Kind::from_spelling(target.kind.name())?;
                    let route = self.routes.find(&ObjectKey::new(kind, namespace, &target.name))?;
                    let mut backends = self.own_backends(route).into_iter();
                    if backends.any(|backend| !self.is_external(&backend)) {
                        return None;
                    }
                    "has no backend in its own namespace"
                }
                TargetKind::Service | TargetKind::Namespace => return None,
            };
            Some(format!("{} {namespace}/{} {why}", target.kind.name(), target.name))
        });
        idle.collect()
    }

    /// Whether another policy's default holds instead of this one's, at one of its targets.
    fn default_conflict(&self, policy: &Resource<AccessPolicySpec>) -> Option<String> {
        let own = policy.spec.stated_default()?;
        Target::of_access(policy).iter().find_map(|target| {
            let holds =
                self.default_at(&self.meaning_the_same(target), policy.spec.is_audit())?;
            if holds.policy == name(policy) || holds.action == own {
                return None;
            }
            Some(format!(
                "spec.default: at {} the default of {}, which is older, holds: {:?}, not this one's, {own:?}; the \
                 rules hold all the same; change one of them",
                target.level(),
                holds.policy,
                holds.action
            ))
        })
    }

    fn references(&self, refs: &[TargetRef], policy: &Metadata) -> PolicyFacts {
        let each = refs.iter().enumerate();
        PolicyFacts {
            conflict: None,
            idle: None,
            idle_references: 0,
            unresolved: each.filter_map(|(at, target)| self.missing(at, target, policy)).collect(),
            references: refs.len(),
        }
    }

    /// What is wrong with one reference.
    fn missing(
        &self,
        at: usize,
        target: &TargetRef,
        policy: &Metadata,
    ) -> Option<(&'static str, String)> {
        const NOT_FOUND: &str = "TargetNotFound";
        let field = format!("spec.targetRefs[{at}]");
        if Target::of(target, policy).is_none() {
            let message = format!(
                "{field}.name: {:?} is another namespace: a policy holds in its own, {:?}, unless it stands in {}",
                target.name, policy.namespace, ROOT_NAMESPACE
            );
            return Some(("RefNotPermitted", message));
        }
        let service = ServiceName {
            namespace: policy.namespace.as_str().into(),
            name: target.name.as_str().into(),
        };
        if !self.is_there(target.kind, &service) {
            let place = match target.kind {
                TargetKind::Namespace => String::new(),
                _ => format!(" in namespace {}", policy.namespace),
            };
            let message = format!(
                "{field}.name: there is no {} {:?}{place}: correct the name, or apply it",
                target.kind.name(),
                target.name
            );
            return Some((NOT_FOUND, message));
        }
        let section = target.section_name.as_deref()?;
        let message = match target.kind {
            TargetKind::HTTPRoute | TargetKind::GRPCRoute => {
                self.missing_rule(target.kind, &service, section)?
            }
            TargetKind::Service | TargetKind::ExternalService | TargetKind::Namespace => {
                self.missing_port(target.kind, &service, section)?
            }
        };
        Some((NOT_FOUND, format!("{field}.sectionName: {message}")))
    }

    /// Whether there is an object, or a service that workloads imply, of this name.
    fn is_there(&self, kind: TargetKind, name: &ServiceName) -> bool {
        match kind {
            TargetKind::Service => self.has_service(name) && !self.is_external(name),
            TargetKind::ExternalService => self.is_external(name),
            TargetKind::Namespace => self.namespaces.contains_key(&*name.name),
            TargetKind::HTTPRoute | TargetKind::GRPCRoute => {
                let kind = Kind::from_spelling(kind.name());
                let key = kind.map(|kind| ObjectKey::new(kind, &name.namespace, &name.name));
                key.is_some_and(|key| self.objects.contains(&key))
            }
        }
    }

    /// That a service has no port of this name or number, and which it has.
    fn missing_port(
        &self,
        kind: TargetKind,
        service: &ServiceName,
        section: &str,
    ) -> Option<String> {
        if !matches!(kind, TargetKind::Service | TargetKind::ExternalService) {
            return None;
        }
        let built = self.built.get(service)?;
        let known = built.ports.iter().any(|(number, port)| {
            port.declaration.port_name == section || number.to_string() == section
        });
        let ports: Vec<String> = built.ports.keys().map(ToString::to_string).collect();
        (!known).then(|| {
            let kind = kind.name();
            format!("{kind} {service} has no port {section:?}: it has {}", ports.join(", "))
        })
    }

    /// That a route has no rule of this name, and which it has.
    fn missing_rule(&self, kind: TargetKind, route: &ServiceName, section: &str) -> Option<String> {
        let key = ObjectKey::new(Kind::from_spelling(kind.name())?, &route.namespace, &route.name);
        let names = self.routes.find(&key)?.rule_names();
        if names.contains(&section) {
            return None;
        }
        let right = match &names[..] {
            [] => "its rules have no names: give them some".to_owned(),
            names => format!("it has {}", names.join(", ")),
        };
        Some(format!("{} {route} has no rule {section:?}: {right}", kind.name()))
    }

    /// The policies and routes that a service port is made of, as callers in a namespace are told of it:
    /// "TrafficPolicy shop/cart", "HTTPRoute web/split".
    #[must_use]
    pub fn parts_of_service(&self, port: &ServicePort, namespace: &str) -> Vec<String> {
        let Some((_, view)) = self.service_from(port, namespace) else { return Vec::new() };
        let routes = view.declaration.routes.iter();
        let http = routes.clone().flat_map(|routes| &routes.http).flat_map(|http| &http.rules);
        let opaque = routes.flat_map(|routes| &routes.opaque).map(|rule| rule.name.as_str());
        let named = http.map(|rule| rule.name.as_str()).chain(opaque).map(whole_policy);
        let requests = view.declaration.requests.iter().flat_map(|policy| &policy.policies);
        let endpoints = view.declaration.endpoint_policy.iter().flat_map(|policy| &policy.policies);
        let routes = view.declaration.routes.iter().flat_map(|routes| &routes.http);
        let rules = routes.flat_map(|http| &http.rules).flat_map(|rule| &rule.requests);
        let rules = rules.flat_map(|policy| &policy.policies);
        once_each(requests.chain(endpoints).chain(rules).map(String::as_str).chain(named))
    }

    /// The policies that an instance's inbound ports are made of.
    #[must_use]
    pub fn policies_of_inbound(&self, key: &InstanceKey) -> Vec<String> {
        let Some(inbound) = self.inbound(key) else { return Vec::new() };
        let ports = inbound.ports.iter().chain(&inbound.others);
        once_each(ports.flat_map(policies_of_port).map(whole_policy))
    }
}

/// The rules, limits and defaults of a port, by whose they are.
fn policies_of_port(port: &discovery::InboundPort) -> impl Iterator<Item = &str> {
    let access = port.access.iter();
    let rules = access.clone().flat_map(|access| &access.rules).map(|rule| rule.policy.as_str());
    let defaults = access.flat_map(|access| access.enforced.iter().chain(&access.audited));
    let defaults = defaults.map(|default| default.policy.as_str());
    let limits = port.rate_limits.iter().map(|limit| limit.policy.as_str());
    let bounds = port.concurrency.iter().map(|bound| bound.policy.as_str());
    rules.chain(defaults).chain(limits).chain(bounds)
}

/// "AccessPolicy shop/cart rules[2]" is of "AccessPolicy shop/cart"; of routes alike.
fn whole_policy(part: &str) -> &str {
    match part.match_indices(' ').nth(1) {
        Some((end, _)) => &part[..end],
        None => part,
    }
}

fn once_each<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for name in names.filter(|name| !name.is_empty()) {
        if !all.iter().any(|known| known == name) {
            all.push(name.to_owned());
        }
    }
    all
}

/// What of a policy holds for nothing at targets without sidecars of servers.
fn idle_in_words(policy: &Resource<TrafficPolicySpec>, idle: &[String]) -> Option<String> {
    let section = policy.spec.sections().of_server().names().into_iter().next()?;
    if idle.is_empty() {
        return None;
    }
    Some(format!(
        "spec.{section}: acts in the sidecars of servers, and {}: set it on a Service that serves; what else the policy \
         says holds",
        idle.join(", and ")
    ))
}
