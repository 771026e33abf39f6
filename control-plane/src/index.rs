//! Objects come in, and live instances: registrations of sidecars, pods and endpoint slices of a cluster. What
//! proxies are told goes out, and which of it a change touched. Pure: no I/O, no clock, no task; its owner serializes the calls.
//!
//! The truth is the objects: a registration adds an endpoint only as long as a `Workload` allows it, and
//! identities come from the object, never from the registrant.
//!
//! What a change costs, with n endpoints in the services that it touches:
//! - a registration or a readiness: O(log n) for each service port that the workload serves;
//! - a `Workload`: its services are built anew, O(n);
//! - a route, a grant: the routes of the services concerned are made anew, see `routes`;
//! - a `Service`: it is built anew, O(n), and the workloads of its namespace and the pods that it selects looked at;
//! - `MeshConfig`: every workload's inbound is touched; when the suffixes change, every target too;
//! - a policy: the services that it holds for are built anew, and all policies looked at.
//!
//! - [`changes`]: what a change touched.
//! - `members`: which workloads belong to which service; `labels`: who is selected, looked up.
//! - `build`: a service from its object and its workloads; `built`: the service, as pushed; `difference`: how it differs from before.
//!   `declaration`: what is said of its ports; `endpoint`: an endpoint from an instance.
//! - `cluster`: pods and endpoint slices; `slices`: which of their endpoints callers are told of.
//! - [`admission`]: which registration which object allows; `inbound`: what a workload serves.
//! - [`routes`]: where requests to a service port go.
//! - [`policies`]: which policies hold where. `external`: services outside the mesh. [`authz`]: who may do what, [`applied`]: what
//!   holds at a service, both for people.
//! - `target`: what an application's destination stands for; `mesh`: what could be in the mesh.
//! - [`report`]: what people are shown.

pub mod admission;
pub mod applied;
pub mod authz;
mod build;
mod built;
pub mod changes;
mod cluster;
mod declaration;
mod difference;
mod endpoint;
mod external;
mod inbound;
mod labels;
mod members;
mod mesh;
pub mod policies;
#[cfg(any(test, fuzzing))]
pub mod properties;
pub mod report;
pub mod routes;
mod slices;
mod target;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use weft_proto::{ServiceName, ServicePort, TrustDomain, WorkloadName};

use crate::model::{
    Cidr, ExternalServiceSpec, Kind, MeshConfigSpec, Object, ObjectKey, PortMode, Registration,
    Resource, ServiceSpec, WorkloadSpec, registration::InstanceKey,
};

pub use admission::Refusal;
pub use built::{HeldEndpoint, ServiceView};
pub use changes::{Changes, Dependency, EndpointChange, ResolvedTarget};

use built::BuiltService;
use cluster::Cluster;
use labels::Selectors;
use policies::Policies;
use routes::Routes;

/// The mesh, as the operator's objects and the live instances make it.
#[derive(Debug)]
pub struct Index {
    trust_domain: TrustDomain,
    defaults: Defaults,
    config: MeshConfigSpec,
    services: BTreeMap<ServiceName, Arc<Resource<ServiceSpec>>>,
    /// By which labels they select.
    selectors: Selectors,
    workloads: BTreeMap<WorkloadName, Arc<Resource<WorkloadSpec>>>,
    registrations: BTreeMap<InstanceKey, Registration>,
    /// Services as pushed: those with an object, and those that workloads imply.
    built: HashMap<ServiceName, BuiltService>,
    memberships: HashMap<WorkloadName, BTreeSet<ServiceName>>,
    /// How many objects name a namespace.
    namespaces: BTreeMap<String, usize>,
    /// Those with an object of their own, with its labels.
    declared_namespaces: BTreeMap<String, BTreeMap<String, String>>,
    cluster_addresses: BTreeMap<IpAddr, BTreeSet<ServiceName>>,
    /// Which instance's port is at "instance address:app port".
    instances_at: HashMap<SocketAddr, BTreeSet<(InstanceKey, String)>>,
    cluster: Cluster,
    routes: Routes,
    policies: Policies,
    externals: BTreeMap<ServiceName, Arc<Resource<ExternalServiceSpec>>>,
    /// Which services outside the mesh register a host, "api.example.com" or "*.example.com".
    hosts: BTreeMap<String, BTreeSet<ServiceName>>,
    /// Every object that is there: what policies can refer to.
    objects: BTreeSet<ObjectKey>,
    /// Grows with each change of what routes are made of but for themselves and what they refer to: policies, the mesh's
    /// defaults, Service objects.
    route_state: u64,
}

/// What holds where no object says otherwise.
#[derive(Debug, Clone, Default)]
pub struct Defaults {
    /// How ports treat traffic.
    pub inbound_mode: PortMode,
    /// In which addresses of the mesh may lie, and others: an address there that is nobody's passes through. Without
    /// any, only what objects say is asked for.
    pub address_ranges: Vec<Cidr>,
}

impl Index {
    /// An empty mesh. The trust domain is the certificate authority's.
    #[must_use]
    pub fn new(trust_domain: TrustDomain) -> Self {
        Self::with_defaults(trust_domain, Defaults::default())
    }

    /// An empty mesh, with other defaults.
    #[must_use]
    pub fn with_defaults(trust_domain: TrustDomain, defaults: Defaults) -> Self {
        Self {
            trust_domain,
            defaults,
            config: MeshConfigSpec::default(),
            services: BTreeMap::new(),
            selectors: Selectors::default(),
            workloads: BTreeMap::new(),
            registrations: BTreeMap::new(),
            built: HashMap::new(),
            memberships: HashMap::new(),
            namespaces: BTreeMap::new(),
            declared_namespaces: BTreeMap::new(),
            cluster_addresses: BTreeMap::new(),
            instances_at: HashMap::new(),
            cluster: Cluster::default(),
            routes: Routes::default(),
            policies: Policies::default(),
            externals: BTreeMap::new(),
            hosts: BTreeMap::new(),
            objects: BTreeSet::new(),
            route_state: 0,
        }
    }

    /// Takes a new or changed object in. A change of nothing but its status touches nothing.
    pub fn apply(&mut self, object: &Object) -> Changes {
        self.apply_all([object])
    }

    /// Takes objects in. Services are built once at the end, however many of their workloads are among
    /// them: this is how a whole store is read.
    pub fn apply_all<'a>(&mut self, objects: impl IntoIterator<Item = &'a Object>) -> Changes {
        let mut changes = Changes::default();
        let mut dirty = BTreeSet::new();
        for object in objects {
            self.take_in(object, &mut dirty, &mut changes);
        }
        self.settle_policies(&mut dirty, &mut changes);
        self.rebuild_all(dirty, &mut changes);
        changes
    }

    fn take_in(
        &mut self,
        object: &Object,
        dirty: &mut BTreeSet<ServiceName>,
        changes: &mut Changes,
    ) {
        self.objects.insert(object.key());
        match object {
            Object::Service(service) => {
                let name = service_name(&object.key());
                let old = self.services.insert(name.clone(), Arc::new(service.clone()));
                if !old.as_ref().is_some_and(|old| same(old, service)) {
                    changes.mesh |= old.is_none() && self.enter_namespace(&name.namespace);
                    self.selectors.set(&name, &service.spec);
                    self.touch_selected(&name, old.as_deref(), changes);
                    self.touch_selected(&name, Some(service), changes);
                    self.route_state += 1;
                    dirty.insert(name);
                }
            }
            Object::Workload(workload) => {
                let name = workload_name(&object.key());
                let old = self.workloads.insert(name.clone(), Arc::new(workload.clone()));
                if !old.as_ref().is_some_and(|old| same(old, workload)) {
                    changes.mesh |= old.is_none() && self.enter_namespace(&name.namespace);
                    self.workload_changed(&name, old.as_deref(), dirty, changes);
                }
            }
            Object::Namespace(namespace) => {
                changes.mesh |= self.declare_namespace(&namespace.metadata);
            }
            Object::HTTPRoute(_)
            | Object::GRPCRoute(_)
            | Object::TLSRoute(_)
            | Object::TCPRoute(_)
            | Object::ReferenceGrant(_) => self.route_changed(object, changes),
            Object::MeshConfig(config) => self.configure(&config.spec, dirty, changes),
            Object::TrafficPolicy(policy) => self.policies.apply_traffic(policy, object.key()),
            Object::AccessPolicy(policy) => self.policies.apply_access(policy, object.key()),
            Object::ExternalService(service) => {
                let name = service_name(&object.key());
                let old = self.externals.insert(name.clone(), Arc::new(service.clone()));
                if !old.as_ref().is_some_and(|old| old.spec == service.spec) {
                    changes.mesh |= old.is_none() && self.enter_namespace(&name.namespace);
                    dirty.insert(name);
                }
            }
            Object::ServiceAccount(_) => {}
        }
    }

    /// Forgets an object.
    pub fn remove(&mut self, key: &ObjectKey) -> Changes {
        let mut changes = Changes::default();
        let mut dirty = BTreeSet::new();
        self.objects.remove(key);
        match key.kind {
            Kind::Service => {
                let name = service_name(key);
                if let Some(old) = self.services.remove(&name) {
                    self.selectors.remove(&name);
                    self.touch_selected(&name, Some(&old), &mut changes);
                    self.route_state += 1;
                    changes.mesh |= self.leave_namespace(&name.namespace);
                    dirty.insert(name);
                }
            }
            Kind::Workload => {
                let name = workload_name(key);
                if let Some(old) = self.workloads.remove(&name) {
                    changes.mesh |= self.leave_namespace(&name.namespace);
                    self.workload_changed(&name, Some(&old), &mut dirty, &mut changes);
                }
            }
            Kind::Namespace => changes.mesh |= self.retract_namespace(&key.name),
            Kind::HTTPRoute
            | Kind::GRPCRoute
            | Kind::TLSRoute
            | Kind::TCPRoute
            | Kind::ReferenceGrant => {
                self.touch_limited(&self.limited_backends(key), &mut changes);
                self.routes.remove(key);
            }
            Kind::MeshConfig => {
                self.configure(&MeshConfigSpec::default(), &mut dirty, &mut changes);
            }
            Kind::TrafficPolicy | Kind::AccessPolicy => self.policies.remove(key),
            Kind::ExternalService => {
                let name = service_name(key);
                if self.externals.remove(&name).is_some() {
                    changes.mesh |= self.leave_namespace(&name.namespace);
                    dirty.insert(name);
                }
            }
            Kind::ServiceAccount => {}
        }
        self.settle_policies(&mut dirty, &mut changes);
        self.rebuild_all(dirty, &mut changes);
        changes
    }

    fn route_changed(&mut self, object: &Object, changes: &mut Changes) {
        let key = object.key();
        let mut limited = self.limited_backends(&key);
        if self.routes.apply(object) {
            limited.extend(self.limited_backends(&key));
            self.touch_limited(&limited, changes);
        }
    }

    fn rebuild_all(&mut self, dirty: BTreeSet<ServiceName>, changes: &mut Changes) {
        for service in dirty {
            self.rebuild(&service, changes);
        }
        // Two policies may name one port by its name and by its number: whether they do is known only now.
        let mut dirty = BTreeSet::new();
        self.settle_policies(&mut dirty, changes);
        for service in dirty {
            self.rebuild(&service, changes);
        }
        self.route_stale(changes);
    }

    /// Takes a new or changed registration in, replacing that instance's former one. Whether an object
    /// allows it is asked with [`Index::check_registration`]; one that none allows makes no endpoint.
    pub fn register(&mut self, registration: Registration) -> Changes {
        let key = registration.key.clone();
        let mut changes = Changes::default();
        let old = self.registrations.get(&key).cloned();
        if old.as_ref() == Some(&registration) {
            return changes;
        }
        if let Some(old) = &old {
            self.forget_addresses(&registered_at(old));
        }
        self.remember_addresses(&registered_at(&registration));
        let moved = old.as_ref().is_none_or(|old| old.ports != registration.ports);
        if moved {
            changes.inbounds.insert(key.workload.clone());
            let addresses = old.iter().chain([&registration]).flat_map(registered_at);
            changes.targets.extend(addresses.map(|(at, _)| Dependency::Address(at.ip())));
        }
        self.registrations.insert(key.clone(), registration);
        self.refresh_instance(&key, &mut changes);
        changes
    }

    /// Changes whether an instance is ready. Nothing happens when another incarnation has taken over.
    pub fn set_ready(
        &mut self,
        key: &InstanceKey,
        incarnation: &str,
        ready: bool,
        detail: &str,
    ) -> Changes {
        let mut changes = Changes::default();
        let Some(registration) = self.registrations.get_mut(key) else { return changes };
        if &*registration.incarnation != incarnation {
            return changes;
        }
        detail.clone_into(&mut registration.detail);
        if std::mem::replace(&mut registration.ready, ready) != ready {
            self.refresh_instance(key, &mut changes);
        }
        changes
    }

    /// Forgets a registration, unless another incarnation has taken it over.
    pub fn deregister(&mut self, key: &InstanceKey, incarnation: &str) -> Changes {
        let mut changes = Changes::default();
        let current = self.registrations.get(key);
        if current.is_none_or(|registration| &*registration.incarnation != incarnation) {
            return changes;
        }
        if let Some(old) = self.registrations.remove(key) {
            let addresses = registered_at(&old);
            self.forget_addresses(&addresses);
            changes.targets.extend(addresses.iter().map(|(at, _)| Dependency::Address(at.ip())));
        }
        self.refresh_instance(key, &mut changes);
        changes
    }

    /// A service port with its endpoints; `None` when there is no such port.
    #[must_use]
    pub fn service(&self, port: &ServicePort) -> Option<ServiceView<'_>> {
        self.built.get(&port.service)?.view(port.port)
    }

    /// The same, as callers in a namespace are told of it; with the namespace, where others are told otherwise.
    #[must_use]
    pub fn service_from(
        &self,
        port: &ServicePort,
        namespace: &str,
    ) -> Option<(Option<Arc<str>>, ServiceView<'_>)> {
        Some(self.built.get(&port.service)?.ports.get(&port.port)?.view_from(namespace))
    }

    /// The registration of an instance.
    #[must_use]
    pub fn registration(&self, key: &InstanceKey) -> Option<&Registration> {
        self.registrations.get(key)
    }

    /// Every live registration, in order.
    pub fn registrations(&self) -> impl Iterator<Item = &Registration> {
        self.registrations.values()
    }

    /// The Workload object of this name.
    #[must_use]
    pub fn workload(&self, name: &WorkloadName) -> Option<&Resource<WorkloadSpec>> {
        self.workloads.get(name).map(|workload| &**workload)
    }

    fn workload_changed(
        &mut self,
        name: &WorkloadName,
        old: Option<&Resource<WorkloadSpec>>,
        dirty: &mut BTreeSet<ServiceName>,
        changes: &mut Changes,
    ) {
        let new = self.workloads.get(name).cloned();
        let before = old.map(|old| static_at(name, old)).unwrap_or_default();
        let after = new.as_deref().map(|new| static_at(name, new)).unwrap_or_default();
        if before != after {
            self.forget_addresses(&before);
            self.remember_addresses(&after);
        }
        // The addresses of its live instances mean something else now, too.
        changes.targets.extend(before.iter().map(|(at, _)| Dependency::Address(at.ip())));
        self.touch_addresses(name, changes);
        changes.inbounds.insert(name.clone());
        changes.registrations.insert(name.clone());

        dirty.extend(self.memberships.get(name).into_iter().flatten().cloned());
        if let Some(new) = &new {
            dirty.extend(self.services_of(name, new));
        }
    }

    /// Marks the targets that name an instance of this workload by its address.
    fn touch_addresses(&self, name: &WorkloadName, changes: &mut Changes) {
        let listed = self.workloads.get(name).map(|workload| static_at(name, workload));
        let live = self.registrations_of(name).flat_map(registered_at);
        let all = live.chain(listed.into_iter().flatten());
        changes.targets.extend(all.map(|(at, _)| Dependency::Address(at.ip())));
    }

    fn remember_addresses(&mut self, addresses: &[AddressOf]) {
        for (at, owner) in addresses {
            self.instances_at.entry(*at).or_default().insert(owner.clone());
        }
    }

    fn forget_addresses(&mut self, addresses: &[AddressOf]) {
        for (at, owner) in addresses {
            if let Some(owners) = self.instances_at.get_mut(at) {
                owners.remove(owner);
                if owners.is_empty() {
                    self.instances_at.remove(at);
                }
            }
        }
    }
}

/// Where an app's port is, and whose port of which name it is.
type AddressOf = (SocketAddr, (InstanceKey, String));

fn registered_at(registration: &Registration) -> Vec<AddressOf> {
    let at = |port: &crate::model::RegisteredPort| {
        let address = SocketAddr::new(port.address.ip().to_canonical(), port.app_port.number());
        (address, (registration.key.clone(), port.name.clone()))
    };
    registration.ports.iter().map(at).collect()
}

fn static_at(name: &WorkloadName, workload: &Resource<WorkloadSpec>) -> Vec<AddressOf> {
    let instances = endpoint::static_instances(name, workload);
    let ports = instances.iter().flat_map(|instance| {
        instance.ports.iter().map(|port| {
            let at = SocketAddr::new(port.address.ip().to_canonical(), port.app_port.number());
            (at, (instance.key.clone(), port.name.clone()))
        })
    });
    ports.collect()
}

fn same<S: PartialEq>(one: &Resource<S>, other: &Resource<S>) -> bool {
    one.spec == other.spec && one.metadata.labels == other.metadata.labels
}

fn service_name(key: &ObjectKey) -> ServiceName {
    ServiceName { namespace: key.namespace.as_str().into(), name: key.name.as_str().into() }
}

fn workload_name(key: &ObjectKey) -> WorkloadName {
    WorkloadName { namespace: key.namespace.as_str().into(), name: key.name.as_str().into() }
}

#[cfg(test)]
mod tests;
