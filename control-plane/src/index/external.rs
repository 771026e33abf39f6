//! Services outside the mesh: an `ExternalService` comes in, a service without workloads goes out, whose endpoints the
//! proxies find by the names of its hosts.
//!
//! A Service of the same name goes before it. Of two that register a host with a port, the older one is meant by it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use weft_proto::{Port, ServiceName, ServicePort, discovery};

use super::{Changes, Dependency, Index, built::BuiltService};
use crate::model::{ExternalServiceSpec, Resource};

impl Index {
    /// The ExternalService of this name, unless a Service goes before it.
    pub(super) fn external(&self, name: &ServiceName) -> Option<&Resource<ExternalServiceSpec>> {
        let object = self.externals.get(name)?;
        let is_inside = self.services.contains_key(name) || !self.members(name).is_empty();
        (!is_inside).then_some(&**object)
    }

    /// Whether a service is one outside the mesh.
    pub(super) fn is_external(&self, name: &ServiceName) -> bool {
        self.external(name).is_some()
    }

    /// Whether a Service of the same name goes before an ExternalService.
    #[must_use]
    pub fn is_shadowed(&self, name: &ServiceName) -> bool {
        self.externals.contains_key(name) && !self.is_external(name)
    }

    /// Another ExternalService that is meant by a host and port of this one: "HOST:PORT", and its name.
    #[must_use]
    pub fn registered_before(&self, name: &ServiceName) -> Option<(String, ServiceName)> {
        let object = self.external(name)?;
        let pairs =
            object.spec.hosts.iter().flat_map(|host| {
                object.spec.ports.iter().map(move |port| (host.as_str(), port.port))
            });
        pairs.into_iter().find_map(|(host, port)| {
            let meant = self.registrant(host, port)?;
            (meant.service != *name).then(|| (format!("{host}:{port}"), meant.service))
        })
    }

    /// A service outside, as it is pushed.
    pub(super) fn build_external(&self, name: &ServiceName) -> Option<BuiltService> {
        let object = self.external(name)?;
        let hosts: Vec<String> =
            object.spec.hosts.iter().map(|host| host.as_str().to_owned()).collect();
        let ports = object.spec.ports.iter().map(|port| {
            let mut declaration = self.declaration(name, port.port, &port.name, port.protocol);
            declaration.external =
                Some(discovery::External { hosts: hosts.clone(), port: port.port.into() });
            (port.port, super::built::BuiltPort::new(declaration))
        });
        let ports: BTreeMap<Port, _> = ports.collect();
        Some(BuiltService { ports, hosts, ..BuiltService::default() })
    }

    /// The service outside that a host's port is registered by: the host itself goes before what stands for many,
    /// and of those the longest.
    pub(super) fn by_host(&self, host: &str, port: Port) -> Option<ServicePort> {
        patterns(host).find_map(|pattern| self.registrant(&pattern, port))
    }

    /// Every port on which a host listens that is registered by its name. One that is an address is found by it: no
    /// connection must be looked at for that.
    pub(super) fn external_ports(&self) -> BTreeSet<Port> {
        let named = self.hosts.iter().filter(|(host, _)| host.parse::<IpAddr>().is_err());
        let services = named.flat_map(|(_, services)| services);
        let built = services.filter_map(|service| self.built.get(service));
        built.flat_map(|built| built.ports.keys().copied()).collect()
    }

    /// Whether the host is registered, for whichever port.
    pub(super) fn is_registered(&self, host: &str) -> bool {
        patterns(host).any(|pattern| self.hosts.contains_key(&pattern))
    }

    /// The oldest service that registers exactly this host, with this port.
    fn registrant(&self, host: &str, port: Port) -> Option<ServicePort> {
        let services = self.hosts.get(host)?.iter().filter(|service| {
            self.built.get(*service).is_some_and(|built| built.ports.contains_key(&port))
        });
        let age = |service: &&ServiceName| {
            let object = self.externals.get(*service);
            (
                object.and_then(|object| object.metadata.creation_timestamp.clone()),
                (*service).clone(),
            )
        };
        let service = services.min_by_key(age)?;
        Some(ServicePort { service: service.clone(), port })
    }

    /// Notes the hosts of a service, as two states of it differ, and marks who asks for them.
    pub(super) fn record_hosts(
        &mut self,
        name: &ServiceName,
        old: Option<&BuiltService>,
        new: Option<&BuiltService>,
        changes: &mut Changes,
    ) {
        let of = |built: Option<&BuiltService>| -> (Vec<String>, Vec<Port>) {
            built
                .map(|built| (built.hosts.clone(), built.ports.keys().copied().collect()))
                .unwrap_or_default()
        };
        let ((before, ports_before), (after, ports_after)) = (of(old), of(new));
        if before == after && (before.is_empty() || ports_before == ports_after) {
            return;
        }
        changes.mesh = true;
        changes.targets.extend(before.iter().chain(&after).cloned().map(Dependency::Host));
        for host in before {
            if let Some(services) = self.hosts.get_mut(&host) {
                services.remove(name);
                if services.is_empty() {
                    self.hosts.remove(&host);
                }
            }
        }
        for host in after {
            self.hosts.entry(host).or_default().insert(name.clone());
        }
    }
}

/// What a host may be registered as: "a.b.c", "*.b.c", "*.c".
pub(super) fn patterns(host: &str) -> impl Iterator<Item = String> {
    let above = host.match_indices('.').map(|(dot, _)| format!("*{}", &host[dot..]));
    std::iter::once(host.to_owned()).chain(above)
}

#[cfg(test)]
mod tests;
