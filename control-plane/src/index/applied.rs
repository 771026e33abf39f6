//! What of the operator's objects holds at a service port, for people: the rules of routes in order of precedence,
//! then whose word holds for requests, for endpoints and at the server's side.
//!
//! Read from what sidecars are told, so that it never says what is not in force. What each object says is not
//! repeated here: it is named.

use std::collections::BTreeSet;

use weft_proto::{ServicePort, api, discovery};

use super::{Index, authz::others};

impl Index {
    /// What holds at a service's port; `None` when there is no such port.
    #[must_use]
    pub fn applied(&self, port: &ServicePort) -> Option<api::AppliedPort> {
        let built = self.built.get(&port.service)?.ports.get(&port.port)?;
        let declaration = &built.declaration;
        let mut entries = Vec::new();
        for (namespace, declared) in &*built.consumers {
            entries.extend(routes(declared.routes(), namespace));
        }
        entries.extend(routes(declaration.routes.as_ref(), ""));
        let of = |part: &str, policies: &[String]| api::AppliedEntry {
            part: part.to_owned(),
            policies: policies.to_vec(),
            ..api::AppliedEntry::default()
        };
        entries.extend(declaration.requests.iter().map(|it| of("requests", &it.policies)));
        entries.extend(declaration.endpoint_policy.iter().map(|it| of("endpoints", &it.policies)));
        entries.extend(self.at_servers(port));
        Some(api::AppliedPort { service_port: port.to_string(), entries })
    }

    /// What the service's own sidecars do, in the order in which they do it: what all of them do, and then what only those
    /// do that stand behind other services as well.
    fn at_servers(&self, port: &ServicePort) -> Vec<api::AppliedEntry> {
        let kinds = self.servers(port).into_iter();
        let kinds: Vec<(Vec<String>, Vec<api::AppliedEntry>)> =
            kinds.map(|behind| (others(port, &behind), self.at_kind(port, &behind))).collect();
        let of_all = |entry: &api::AppliedEntry| kinds.iter().all(|(_, own)| own.contains(entry));
        let mut all = Vec::new();
        for (also_behind, own) in &kinds {
            for entry in own {
                let also_behind = if of_all(entry) { Vec::new() } else { also_behind.clone() };
                let entry = api::AppliedEntry { also_behind, ..entry.clone() };
                if !all.contains(&entry) {
                    all.push(entry);
                }
            }
        }
        all.sort_by_key(|entry| !entry.also_behind.is_empty());
        all
    }

    /// The same of servers that stand behind these service ports.
    fn at_kind(&self, port: &ServicePort, behind: &[ServicePort]) -> Vec<api::AppliedEntry> {
        let rule = |part: &str, rule: String| api::AppliedEntry {
            part: part.to_owned(),
            rule,
            ..api::AppliedEntry::default()
        };
        let namespace = &port.service.namespace;
        let authz = self.authz_behind(port, behind);
        let otherwise = authz.enforced.filter(|default| !default.policy.is_empty());
        let otherwise = otherwise.map(|default| {
            let action = if default.deny { "Deny" } else { "Allow" };
            rule("access", format!("{} default {action}", default.policy))
        });
        let access = authz.rules.into_iter().map(|it| rule("access", it.rule)).chain(otherwise);
        let places = self.places(behind);
        let limits = self.rate_limits(&places, namespace).into_iter();
        let limits = limits.map(|limit| rule("rate limit", limit.policy));
        let concurrency = self.concurrency(&places, namespace).into_iter();
        let concurrency = concurrency.map(|bound| rule("concurrency", bound.policy));
        access.chain(limits).chain(concurrency).collect()
    }
}

/// The rules that bind the callers of a namespace, or with "" all others, each where its first match stands.
fn routes(routes: Option<&discovery::Routes>, callers: &str) -> Vec<api::AppliedEntry> {
    let entry =
        |name: &str, backends: &[discovery::Backend], policies: &[String]| api::AppliedEntry {
            part: "route".to_owned(),
            rule: name.to_owned(),
            backends: backends.iter().map(backend).collect(),
            policies: policies.to_vec(),
            callers: callers.to_owned(),
            also_behind: Vec::new(),
        };
    let Some(routes) = routes else { return Vec::new() };
    let http = routes.http.iter().flat_map(|http| {
        let mut seen = BTreeSet::new();
        let first = http.matches.iter().filter(move |one| seen.insert(one.rule));
        first.filter_map(|one| http.rules.get(usize::try_from(one.rule).ok()?))
    });
    let http = http.map(|rule| {
        let policies = rule.requests.as_ref().map_or(&[][..], |requests| &requests.policies);
        entry(&rule.name, &rule.backends, policies)
    });
    let opaque = routes.opaque.iter().map(|rule| entry(&rule.name, &rule.backends, &[]));
    http.chain(opaque).collect()
}

/// "shop/cart:80 (90)".
fn backend(backend: &discovery::Backend) -> String {
    use discovery::backend::Target;
    let target = match &backend.target {
        Some(Target::Service(service)) => service.as_str(),
        Some(Target::Invalid(_)) | None => "invalid",
    };
    format!("{target} ({})", backend.weight)
}
