//! The eager set: what could be in the mesh. Every proxy holds it, so it changes rarely and stays small.

use std::collections::BTreeSet;

use weft_proto::discovery;

use super::{Changes, Index};
use crate::model::{Cidr, MeshConfigSpec};

impl Index {
    /// The trust domain, the address ranges, the name suffixes and the namespaces of the mesh.
    #[must_use]
    pub fn mesh(&self) -> discovery::Mesh {
        let ranges = &self.config.address_ranges;
        let outside = self
            .cluster_addresses
            .keys()
            .filter(|address| !ranges.iter().any(|range| range.contains(**address)))
            .map(|address| Cidr::host(*address));
        let all: BTreeSet<Cidr> = ranges.iter().copied().chain(outside).collect();
        discovery::Mesh {
            trust_domain: self.trust_domain.to_string(),
            address_ranges: all.iter().map(Cidr::to_string).collect(),
            name_suffixes: self.config.suffixes(),
            namespaces: self.namespaces.keys().cloned().collect(),
        }
    }

    pub(super) fn configure(&mut self, config: &MeshConfigSpec, changes: &mut Changes) {
        let old = std::mem::replace(&mut self.config, config.clone());
        changes.mesh |=
            old.suffixes() != config.suffixes() || old.address_ranges != config.address_ranges;
        changes.all_targets |= old.suffixes() != config.suffixes();
        if old.inbound != config.inbound {
            changes.inbounds.extend(self.workloads.keys().cloned());
        }
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

    /// A `Namespace` object may be applied any number of times and counts once.
    pub(super) fn declare_namespace(&mut self, namespace: &str) -> bool {
        self.declared_namespaces.insert(namespace.to_owned()) && self.enter_namespace(namespace)
    }

    pub(super) fn retract_namespace(&mut self, namespace: &str) -> bool {
        self.declared_namespaces.remove(namespace) && self.leave_namespace(namespace)
    }
}
