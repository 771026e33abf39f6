//! TLSRoutes and TCPRoutes of one port, in the one order in which a sidecar looks through them: those of TLS first, by
//! server name as far as it goes, then by age and name.

use std::cmp::Reverse;

use weft_proto::discovery;

use super::{
    Known,
    backend::{Referrer, to_wire},
    http::At,
    precedence::{Age, Host},
};
use crate::model::{
    Kind, Route,
    gateway::{opaque_route::OpaqueRule, route::Fate},
};

impl At<'_> {
    pub(super) fn opaque(&self, routes: &[Known<'_>]) -> Vec<discovery::OpaqueRule> {
        let mut ranked = Vec::new();
        for Known { route, fates, .. } in routes {
            let (kind, hostnames, rules): (_, &[String], &[OpaqueRule]) = match route {
                Route::Tls(tls) => (Kind::TLSRoute, &tls.spec.hostnames, &tls.spec.rules),
                Route::Tcp(tcp) => (Kind::TCPRoute, &[], &tcp.spec.rules),
                Route::Http(_) | Route::Grpc(_) => continue,
            };
            let is_whole = |index: usize| fates.get(index) == Some(&Fate::Whole);
            let whole = rules.iter().enumerate().filter(|(index, _)| is_whole(*index));
            for (index, rule) in whole {
                // The names of one route may be as different as those of two.
                let names: Vec<&str> = match hostnames {
                    [] => vec![""],
                    names => names.iter().map(String::as_str).collect(),
                };
                for name in names {
                    let rank =
                        (kind == Kind::TCPRoute, Reverse(Host::of(name)), Age::of(*route), index);
                    ranked.push((rank, self.opaque_rule(kind, *route, index, rule, name)));
                }
            }
        }
        ranked.sort_by(|(one, _), (other, _)| one.cmp(other));
        merged(ranked.into_iter().map(|(_, rule)| rule))
    }

    fn opaque_rule(
        &self,
        kind: Kind,
        route: Route<'_>,
        index: usize,
        rule: &OpaqueRule,
        name: &str,
    ) -> discovery::OpaqueRule {
        let namespace = &route.metadata().namespace;
        let referrer = Referrer { kind, namespace, parent: self.service };
        let backends = rule.backend_refs.iter();
        let backends = backends.map(|one| to_wire(one.weight(), self.backend(referrer, one)));
        discovery::OpaqueRule {
            name: super::http::rule_name(route, kind, index, rule.name.as_deref()),
            server_names: Some(name.to_owned())
                .filter(|name| !name.is_empty())
                .into_iter()
                .collect(),
            backends: backends.collect(),
        }
    }
}

/// Neighbours of one rule become one again.
fn merged(rules: impl Iterator<Item = discovery::OpaqueRule>) -> Vec<discovery::OpaqueRule> {
    let mut merged: Vec<discovery::OpaqueRule> = Vec::new();
    for rule in rules {
        match merged.last_mut() {
            Some(last) if last.name == rule.name => last.server_names.extend(rule.server_names),
            _ => merged.push(rule),
        }
    }
    merged
}
