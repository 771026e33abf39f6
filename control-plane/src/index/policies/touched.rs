//! What a changed policy touches: the service ports whose callers act otherwise now, and the workloads and pods whose
//! sidecars do.

use std::collections::BTreeSet;

use weft_proto::ServiceName;

use super::Target;
use crate::{
    index::{Changes, Index},
    model::{Kind, ObjectKey, Sections, TrafficPolicySpec},
};

/// Whose sidecars act by a policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::index) struct Sides {
    pub(in crate::index) callers: bool,
    pub(in crate::index) servers: bool,
}

impl Sides {
    pub(super) fn of(policy: &TrafficPolicySpec) -> Self {
        let sections = policy.sections();
        let is_said = |part: Sections| part != Sections::default();
        Self {
            callers: policy.protocol.is_some()
                || is_said(sections.of_requests())
                || is_said(sections.of_endpoints()),
            servers: is_said(sections.of_server()),
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.callers |= other.callers;
        self.servers |= other.servers;
    }
}

impl Index {
    /// Puts changed policies in force, and marks what they touch.
    pub(in crate::index) fn settle_policies(
        &mut self,
        dirty: &mut BTreeSet<ServiceName>,
        changes: &mut Changes,
    ) {
        let built = &self.built;
        let touched = self.policies.settle(|target| target.by_number(built));
        self.route_state += u64::from(!touched.is_empty());
        for (target, sides) in touched {
            self.touch_target(&target, sides, dirty, changes);
        }
    }

    /// Marks what hangs on policies of this target.
    pub(in crate::index) fn touch_target(
        &self,
        target: &Target,
        sides: Sides,
        dirty: &mut BTreeSet<ServiceName>,
        changes: &mut Changes,
    ) {
        if sides.callers {
            // A service that is built anew is told of only where it differs.
            dirty.extend(self.services_under(target).cloned());
        }
        if !sides.servers {
            return;
        }
        match target {
            Target::Mesh => self.touch_servers(|_| true, changes),
            Target::Namespace(name) => {
                self.touch_servers(|namespace| namespace == &**name, changes)
            }
            Target::Service { service, .. } => self.touch_servers_of(service, changes),
            Target::Route { kind, namespace, name, .. } => {
                let key = Kind::from_spelling(kind.name())
                    .map(|kind| ObjectKey::new(kind, namespace, name));
                if let Some(route) = key.and_then(|key| self.routes.find(&key)) {
                    self.touch_limited(&self.own_backends(route), changes);
                }
            }
        }
    }

    /// The services that a target holds for.
    fn services_under(&self, target: &Target) -> Box<dyn Iterator<Item = &ServiceName> + '_> {
        match target {
            Target::Mesh => Box::new(self.built.keys()),
            Target::Route { kind, namespace, name, .. } => {
                let key = Kind::from_spelling(kind.name())
                    .map(|kind| ObjectKey::new(kind, namespace, name));
                let parents = key.map(|key| self.routes.parents_of(&key).collect::<Vec<_>>());
                Box::new(parents.into_iter().flatten())
            }
            Target::Namespace(name) => {
                let name = name.clone();
                Box::new(self.built.keys().filter(move |service| service.namespace == name))
            }
            Target::Service { service, .. } => {
                Box::new(self.built.get_key_value(service).map(|(name, _)| name).into_iter())
            }
        }
    }

    fn touch_servers(&self, is_in: impl Fn(&str) -> bool, changes: &mut Changes) {
        let workloads = self.workloads.keys().filter(|name| is_in(&name.namespace));
        changes.inbounds.extend(workloads.cloned());
        let pods = self.pods().filter(|pod| is_in(&pod.key.namespace));
        changes.pods.extend(pods.map(|pod| pod.instance()));
    }

    pub(super) fn touch_servers_of(&self, service: &ServiceName, changes: &mut Changes) {
        let Some(built) = self.built.get(service) else { return };
        changes.inbounds.extend(built.members.iter().cloned());
        let pods = self.pods_behind(service).into_iter().filter_map(|pod| self.pod(&pod));
        changes.pods.extend(pods.map(|pod| pod.instance()));
    }
}
