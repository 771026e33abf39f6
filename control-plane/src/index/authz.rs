//! Who may do what at a service, for people: every rule that holds, in the order in which it decides, and the
//! defaults.
//!
//! The order is that of the sidecar: rules that deny, then rules that allow, then the default. Among equals the most
//! specific level comes first. It shows what the index would tell a sidecar, and never what callers see.

use weft_proto::{ServicePort, api};

use super::{
    Index,
    policies::{
        Place,
        access::{AppliedRule, Default},
    },
};
use crate::model::{AccessAction, access_policy::Caller, matching::RequestMatch};

impl Index {
    /// What holds for a service's port; `None` when there is no such port.
    #[must_use]
    pub fn authz(&self, port: &ServicePort) -> Option<api::AuthzPort> {
        let built = self.built.get(&port.service)?.ports.get(&port.port)?;
        let place = Place {
            kind: self.kind_of(&port.service),
            service: &port.service,
            port: port.port,
            port_name: &built.declaration.port_name,
        };
        let mut applied = self.applied_access(&[place], &port.service.namespace);
        applied.rules.sort_by_key(|rule| rule.rule.action != AccessAction::Deny);
        Some(api::AuthzPort {
            service_port: port.to_string(),
            rules: applied.rules.iter().map(rule).collect(),
            enforced: Some(default(applied.enforced)),
            audited: Some(default(applied.audited)),
        })
    }
}

fn rule(applied: &AppliedRule<'_>) -> api::AuthzRule {
    let (from, to) = (&applied.rule.from, &applied.rule.to);
    api::AuthzRule {
        level: applied.level.clone(),
        rule: applied.name.clone(),
        deny: applied.rule.action == AccessAction::Deny,
        audit: applied.audit,
        from: any_of(from.iter().map(caller), "everybody"),
        to: any_of(to.iter().map(request), "everything"),
    }
}

fn default(default: Default) -> api::AuthzDefault {
    api::AuthzDefault {
        deny: default.action == AccessAction::Deny,
        policy: default.policy,
        level: default.level,
    }
}

fn any_of(entries: impl Iterator<Item = String>, none: &str) -> String {
    let all = entries.collect::<Vec<_>>().join("; or ");
    if all.is_empty() { none.to_owned() } else { all }
}

/// "shop/web, shop/cart in namespace shop from 10.0.0.0/8".
fn caller(caller: &Caller) -> String {
    let mut parts = Vec::new();
    if !caller.identities.is_empty() {
        let all: Vec<&str> = caller.identities.iter().map(|identity| identity.as_str()).collect();
        parts.push(all.join(", "));
    }
    if !caller.namespaces.is_empty() {
        parts.push(format!("in namespace {}", caller.namespaces.join(", ")));
    }
    if !caller.cidrs.is_empty() {
        let all: Vec<String> = caller.cidrs.iter().map(ToString::to_string).collect();
        parts.push(format!("from {}", all.join(", ")));
    }
    parts.join(" ")
}

/// "GET, HEAD /items/* at shop.example.com with x-tenant: a".
fn request(request: &RequestMatch) -> String {
    let join = |all: Vec<String>| all.join(", ");
    let mut parts = Vec::new();
    if !request.methods.is_empty() {
        parts.push(join(request.methods.iter().map(|it| it.as_str().to_owned()).collect()));
    }
    if !request.paths.is_empty() {
        parts.push(join(request.paths.iter().map(ToString::to_string).collect()));
    }
    if !request.hosts.is_empty() {
        let all = request.hosts.iter().map(|it| it.as_str().to_owned()).collect();
        parts.push(format!("at {}", join(all)));
    }
    if !request.headers.is_empty() {
        let all: Vec<String> = request.headers.iter().map(ToString::to_string).collect();
        parts.push(format!("with {}", all.join(" and ")));
    }
    parts.join(" ")
}
