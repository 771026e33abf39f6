//! Who may do what at a service, for people: every rule that holds, in the order in which it decides, and the
//! defaults.
//!
//! The order is that of the sidecar: rules that deny, then rules that allow, then the default. Among equals the most
//! specific level comes first. It shows what the index would tell a sidecar, and never what callers see.
//!
//! A server may stand behind several services, and is under the policies of each. Where not all servers of a service
//! stand behind the same ones, each kind of them is shown by itself.

use std::collections::BTreeSet;

use weft_proto::{ServicePort, api};

use super::{
    Index,
    inbound::at_port,
    policies::access::{AppliedRule, Default},
};
use crate::model::{AccessAction, access_policy::Caller, matching::RequestMatch};

impl Index {
    /// What holds for a service's port, for each kind of its servers; nothing when there is no such port.
    #[must_use]
    pub fn authz(&self, port: &ServicePort) -> Vec<api::AuthzPort> {
        let of_servers = self.servers(port).into_iter();
        of_servers.map(|behind| self.authz_behind(port, &behind)).collect()
    }

    /// What holds at servers of a port that stand behind these service ports.
    pub(super) fn authz_behind(
        &self,
        port: &ServicePort,
        behind: &[ServicePort],
    ) -> api::AuthzPort {
        let mut applied = self.applied_access(&self.places(behind), &port.service.namespace);
        applied.rules.sort_by_key(|rule| rule.rule.action != AccessAction::Deny);
        api::AuthzPort {
            service_port: port.to_string(),
            rules: applied.rules.iter().map(rule).collect(),
            enforced: Some(default(applied.enforced)),
            audited: Some(default(applied.audited)),
            also_behind: others(port, behind),
        }
    }

    /// The kinds of servers of a port: behind which service ports they stand, this one among them. One that has no
    /// server stands for itself.
    pub(super) fn servers(&self, port: &ServicePort) -> BTreeSet<Vec<ServicePort>> {
        let mut kinds = BTreeSet::new();
        let built = self.built.get(&port.service).and_then(|built| built.ports.get(&port.port));
        let Some(built) = built else { return kinds };
        for (workload, own) in &built.serving {
            kinds.insert(self.service_ports_of(workload, own).collect());
        }
        for pod in self.pods_behind(&port.service).iter().filter_map(|key| self.pod(key)) {
            let behind = self.ports_of_pod(pod);
            let own = behind.iter().filter(|(service, _)| service == port).map(|(_, own)| *own);
            kinds.extend(own.map(|own| at_port(&behind, own)));
        }
        if kinds.is_empty() {
            kinds.insert(vec![port.clone()]);
        }
        kinds
    }
}

/// The other service ports behind which servers of this one stand.
pub(super) fn others(port: &ServicePort, behind: &[ServicePort]) -> Vec<String> {
    behind.iter().filter(|other| *other != port).map(ToString::to_string).collect()
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
