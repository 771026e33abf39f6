//! Policies: which of them hold where. Objects come in; what holds for a service port, a route's rule or an inbound
//! port goes out, merged, as proxies get it. Pure, as the whole index.
//!
//! Levels, the most specific first:
//!
//! | level | of traffic | of access |
//! |---|---|---|
//! | a route's own field | yes | |
//! | the policy on the route's rule, then on the route | yes | |
//! | on the service's port, then on the service | yes | yes |
//! | on the namespace | yes | yes |
//! | MeshConfig; for access first the policies of the root namespace | yes | yes |
//!
//! Traffic is merged field by field; of access all rules hold together, and the most specific default.
//!
//! - [`target`]: what a reference means. `conflicts`: which of two policies on one target is in force.
//! - `callers`: what callers' sidecars are told; `servers`: what the server's is told of traffic, `routed`: by policies
//!   on routes; [`access`]: of access.
//! - `touched`: which service ports, workloads and pods a changed policy touches. [`facts`]: what statuses are made of.

pub(super) mod access;
mod callers;
mod conflicts;
pub mod facts;
mod routed;
mod servers;
mod target;
mod touched;

use std::{collections::BTreeMap, sync::Arc};

use weft_proto::{Port, ServiceName};

use super::Index;
use crate::model::{
    AccessPolicySpec, Kind, ObjectKey, Resource, TargetKind, TrafficPolicySpec, mesh_config::MESH,
};

pub(super) use callers::RouteRule;
use conflicts::age;
pub(super) use target::Target;
pub(super) use touched::Sides;

/// The policies, as far as they are in force, by what they hold for.
#[derive(Debug, Default)]
pub(super) struct Policies {
    traffic: BTreeMap<ObjectKey, Arc<Resource<TrafficPolicySpec>>>,
    access: BTreeMap<ObjectKey, Arc<Resource<AccessPolicySpec>>>,
    /// Of each target the older first.
    traffic_at: BTreeMap<Target, Vec<Arc<Resource<TrafficPolicySpec>>>>,
    access_at: BTreeMap<Target, Vec<Arc<Resource<AccessPolicySpec>>>>,
    /// Of traffic, by name.
    in_force: BTreeMap<ObjectKey, Arc<Resource<TrafficPolicySpec>>>,
    /// Those that are not in force because of another one, and why.
    conflicts: BTreeMap<ObjectKey, String>,
    /// What to look at again once all objects are in.
    touched: BTreeMap<Target, Sides>,
    changed: bool,
}

/// A service port, as policies see it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// Whether it is outside the mesh.
    pub(super) kind: TargetKind,
    pub(super) service: &'a ServiceName,
    pub(super) port: Port,
    pub(super) port_name: &'a str,
}

impl Place<'_> {
    /// The targets that mean it, the most specific first, up to its service.
    fn targets(&self) -> Vec<Target> {
        let of = |port: Option<String>| Target::Service {
            kind: self.kind,
            service: self.service.clone(),
            port,
        };
        let by_name = (!self.port_name.is_empty()).then(|| of(Some(self.port_name.to_owned())));
        let mut targets = vec![of(Some(self.port.to_string()))];
        targets.extend(by_name);
        targets.push(of(None));
        targets
    }
}

impl Policies {
    pub(super) fn apply_traffic(&mut self, policy: &Resource<TrafficPolicySpec>, key: ObjectKey) {
        let same = |old: &Arc<Resource<_>>| old.spec == policy.spec && age(old) == age(policy);
        if !self.traffic.get(&key).is_some_and(same) {
            self.changed = true;
            self.traffic.insert(key, Arc::new(policy.clone()));
        }
    }

    pub(super) fn apply_access(&mut self, policy: &Resource<AccessPolicySpec>, key: ObjectKey) {
        let same = |old: &Arc<Resource<_>>| old.spec == policy.spec && age(old) == age(policy);
        if self.access.get(&key).is_some_and(same) {
            return;
        }
        let new = Arc::new(policy.clone());
        let old = self.access.insert(key, Arc::clone(&new));
        self.changed = true;
        self.touch_access(old.iter().chain([&new]));
    }

    pub(super) fn remove(&mut self, key: &ObjectKey) {
        self.changed |= self.traffic.remove(key).is_some();
        if let Some(old) = self.access.remove(key) {
            self.changed = true;
            self.touch_access([&old]);
        }
    }

    fn touch_access<'a>(
        &mut self,
        policies: impl IntoIterator<Item = &'a Arc<Resource<AccessPolicySpec>>>,
    ) {
        for policy in policies {
            for target in Target::of_access(policy) {
                self.touched.entry(target).or_default().servers = true;
            }
        }
    }

    /// Has conflicts looked at again: ports came or went, by whose names policies may refer to one.
    pub(super) fn ports_changed(&mut self) {
        self.changed |= !self.traffic.is_empty();
    }

    /// Puts what came and went since the last time in force. Returns what that touched. `by_number` names a port by its
    /// number.
    fn settle(&mut self, by_number: impl Fn(&Target) -> Target) -> BTreeMap<Target, Sides> {
        if !std::mem::take(&mut self.changed) {
            return BTreeMap::new();
        }
        let judged = conflicts::judge(self.traffic.iter(), by_number);
        self.conflicts = judged.conflicts;
        self.traffic_at = BTreeMap::new();
        for policy in &judged.in_force {
            for target in Target::of_traffic(policy) {
                self.traffic_at.entry(target).or_default().push(Arc::clone(policy));
            }
        }
        let after = judged.in_force.into_iter().map(|policy| (key(&policy), policy)).collect();
        let before = std::mem::replace(&mut self.in_force, after);
        let mut access: Vec<_> = self.access.values().collect();
        access.sort_by(|one, other| age(one).cmp(&age(other)));
        self.access_at = BTreeMap::new();
        for policy in access {
            for target in Target::of_access(policy) {
                self.access_at.entry(target).or_default().push(Arc::clone(policy));
            }
        }
        let mut touched = std::mem::take(&mut self.touched);
        let differing =
            differing(&before, &self.in_force).chain(differing(&self.in_force, &before));
        for policy in differing {
            for target in Target::of_traffic(policy) {
                touched.entry(target).or_default().add(Sides::of(&policy.spec));
            }
        }
        touched
    }

    fn traffic(&self, target: &Target) -> &[Arc<Resource<TrafficPolicySpec>>] {
        self.traffic_at.get(target).map_or(&[], Vec::as_slice)
    }

    fn access(&self, target: &Target) -> &[Arc<Resource<AccessPolicySpec>>] {
        self.access_at.get(target).map_or(&[], Vec::as_slice)
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn is_empty(&self) -> bool {
        self.traffic.is_empty()
            && self.access.is_empty()
            && self.traffic_at.is_empty()
            && self.access_at.is_empty()
            && self.in_force.is_empty()
            && self.conflicts.is_empty()
    }
}

/// The policies of one state that the other does not have, or not so: one that stays is the same memory.
fn differing<'a>(
    one: &'a BTreeMap<ObjectKey, Arc<Resource<TrafficPolicySpec>>>,
    other: &'a BTreeMap<ObjectKey, Arc<Resource<TrafficPolicySpec>>>,
) -> impl Iterator<Item = &'a Resource<TrafficPolicySpec>> {
    let stays = |key: &ObjectKey, policy| other.get(key).is_some_and(|it| Arc::ptr_eq(it, policy));
    one.iter().filter(move |(key, policy)| !stays(key, policy)).map(|(_, policy)| &**policy)
}

fn key(policy: &Resource<TrafficPolicySpec>) -> ObjectKey {
    ObjectKey::new(Kind::TrafficPolicy, &policy.metadata.namespace, &policy.metadata.name)
}

/// "TrafficPolicy shop/cart".
fn name<S: crate::model::Spec>(policy: &Resource<S>) -> String {
    format!("{} {}/{}", S::KIND, policy.metadata.namespace, policy.metadata.name)
}

/// What operators call the mesh's own settings.
fn mesh_name() -> String {
    format!("MeshConfig {MESH}")
}

/// What an AccessPolicy, or a section for servers, can hold for, of a port behind these services: the most specific
/// level first, and at each level what means one thing together, once.
fn levels(places: &[Place<'_>], namespace: &str) -> [Vec<Vec<Target>>; 4] {
    let (mut ports, mut services) = (Vec::new(), Vec::new());
    for place in places {
        let mut targets = place.targets();
        services.extend(targets.pop().map(|service| vec![service]));
        ports.push(targets);
    }
    for level in [&mut ports, &mut services] {
        level.sort();
        level.dedup();
    }
    [ports, services, vec![vec![Target::Namespace(namespace.into())]], vec![vec![Target::Mesh]]]
}

impl Index {
    /// The targets that mean the same as this one: a port by its name and by its number.
    fn meaning_the_same(&self, target: &Target) -> Vec<Target> {
        let by_number = target.by_number(&self.built);
        let Target::Service { kind, service, port: Some(number) } = &by_number else {
            return vec![by_number];
        };
        let built = self.built.get(service).and_then(|it| it.ports.get(&number.parse().ok()?));
        let name = built.map(|port| &port.declaration.port_name).filter(|name| !name.is_empty());
        let by_name = name.map(|name| Target::Service {
            kind: *kind,
            service: service.clone(),
            port: Some(name.clone()),
        });
        [by_number].into_iter().chain(by_name).collect()
    }

    /// As what policies refer to a service of this name.
    pub(super) fn kind_of(&self, service: &ServiceName) -> TargetKind {
        if self.is_external(service) { TargetKind::ExternalService } else { TargetKind::Service }
    }
}

#[cfg(test)]
mod tests;
