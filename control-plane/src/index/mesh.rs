//! The eager set: what could be in the mesh. Every proxy holds it, so it changes rarely and stays small.

use std::{collections::BTreeSet, net::IpAddr};

use weft_proto::{ServiceName, discovery};

use super::{
    Changes, Index,
    policies::{Sides, Target},
};
use crate::model::{Cidr, Egress, MeshConfigSpec, Metadata, PortMode};

impl Index {
    /// The trust domain, the address ranges, the name suffixes and the namespaces of the mesh.
    #[must_use]
    pub fn mesh(&self) -> discovery::Mesh {
        let ranges = self.address_ranges();
        let outside = self
            .cluster_addresses
            .keys()
            .filter(|address| !ranges.iter().any(|range| range.contains(**address)))
            .map(|address| Cidr::host(*address));
        let networks = self.outlying_networks();
        let all: BTreeSet<Cidr> = ranges.iter().copied().chain(outside).chain(networks).collect();
        discovery::Mesh {
            trust_domain: self.trust_domain.to_string(),
            address_ranges: all.iter().map(Cidr::to_string).collect(),
            name_suffixes: self.config.suffixes(),
            namespaces: self.namespaces.keys().cloned().collect(),
            external_hosts: self.hosts.keys().cloned().collect(),
            egress: self.egress().into(),
            external_ports: self.external_ports().into_iter().map(u32::from).collect(),
        }
    }

    /// In which addresses of the mesh may lie.
    fn address_ranges(&self) -> &[Cidr] {
        let configured = &self.config.address_ranges;
        if configured.is_empty() { &self.defaults.address_ranges } else { configured }
    }

    /// The networks of pods that lie in no range, as where pods have public addresses. Whole networks, so that a pod
    /// more changes nothing for every proxy.
    pub(super) fn outlying_networks(&self) -> Vec<Cidr> {
        let ranges = self.address_ranges();
        let is_outlying = |network: &Cidr| !ranges.iter().any(|range| range.covers(network));
        self.cluster.networks().filter(is_outlying).collect()
    }

    /// Whether an address that is nobody's is one of the mesh all the same: an operator's object says so.
    pub(super) fn is_claimed(&self, address: IpAddr) -> bool {
        self.cluster_addresses.contains_key(&address)
            || self.config.address_ranges.iter().any(|range| range.contains(address))
            || self.defaults.address_ranges.is_empty()
    }

    /// How a port that says nothing of it treats traffic.
    pub(super) fn inbound_mode(&self) -> PortMode {
        self.config.inbound.mode.unwrap_or(self.defaults.inbound_mode)
    }

    /// What becomes of traffic to where nobody is registered.
    pub(super) fn egress(&self) -> discovery::Egress {
        match self.config.egress {
            None | Some(Egress::Allow) => discovery::Egress::Allow,
            Some(Egress::RegisteredOnly) => discovery::Egress::RegisteredOnly,
        }
    }

    pub(super) fn configure(
        &mut self,
        config: &MeshConfigSpec,
        dirty: &mut BTreeSet<ServiceName>,
        changes: &mut Changes,
    ) {
        let old = std::mem::replace(&mut self.config, config.clone());
        changes.mesh |=
            old.suffixes() != config.suffixes() || old.address_ranges != config.address_ranges;
        changes.all_targets |=
            old.suffixes() != config.suffixes() || old.address_ranges != config.address_ranges;
        changes.mesh |= old.egress != config.egress;
        changes.all_targets |= old.egress != config.egress;
        let (before, after) = (old.defaults.sections(), config.defaults.sections());
        let sides = Sides {
            callers: before.of_requests() != after.of_requests()
                || before.of_endpoints() != after.of_endpoints(),
            servers: before.of_server() != after.of_server()
                || old.access != config.access
                || old.inbound != config.inbound,
        };
        self.route_state += u64::from(sides.callers);
        self.touch_target(&Target::Mesh, sides, dirty, changes);
    }

    /// Whether the namespace is new to the mesh.
    pub(super) fn enter_namespace(&mut self, namespace: &str) -> bool {
        let count = self.namespaces.entry(namespace.to_owned()).or_default();
        *count += 1;
        *count == 1
    }

    /// Whether the namespace left the mesh.
    pub(super) fn leave_namespace(&mut self, namespace: &str) -> bool {
        let Some(count) = self.namespaces.get_mut(namespace) else { return false };
        *count -= 1;
        let gone = *count == 0;
        if gone {
            self.namespaces.remove(namespace);
        }
        gone
    }

    /// A `Namespace` object may be applied any number of times and counts once. Whether it is new, or labelled
    /// otherwise than before.
    pub(super) fn declare_namespace(&mut self, namespace: &Metadata) -> bool {
        let (name, labels) = (namespace.name.clone(), namespace.labels.clone());
        match self.declared_namespaces.insert(name, labels) {
            Some(before) => before != namespace.labels,
            None => self.enter_namespace(&namespace.name),
        }
    }

    pub(super) fn retract_namespace(&mut self, namespace: &str) -> bool {
        self.declared_namespaces.remove(namespace).is_some() && self.leave_namespace(namespace)
    }

    /// The namespaces whose objects have this label.
    pub fn namespaces_labelled<'a>(
        &'a self,
        label: &'a str,
        value: &'a str,
    ) -> impl Iterator<Item = &'a str> {
        let all = self.declared_namespaces.iter();
        all.filter(move |(_, labels)| labels.get(label).is_some_and(|it| it == value))
            .map(|(name, _)| name.as_str())
    }
}
