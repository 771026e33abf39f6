//! A service as it is pushed: built from its object, or from the workloads that imply it, and from the live
//! instances of its workloads. A registration's change touches one endpoint; all else builds the service
//! anew and reports how it differs from before.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use weft_proto::{Port, ServiceName, ServicePort, WorkloadName, digest, discovery};

use super::{
    Changes, Dependency, EndpointChange, Index,
    declaration::Declared,
    endpoint::{Instance, static_instances},
};
use crate::model::{
    NamespacedName, Resource, ServicePortSpec, TargetPort, WorkloadPort, WorkloadSpec,
    registration::InstanceKey,
};

/// A service, as pushed.
#[derive(Debug, Default)]
pub(super) struct BuiltService {
    pub(super) ports: BTreeMap<Port, BuiltPort>,
    pub(super) members: BTreeSet<WorkloadName>,
    /// The pods that its slices list, with the service's port and their own behind it.
    pub(super) pods: BTreeMap<NamespacedName, BTreeSet<(Port, Port)>>,
    pub(super) addresses: Vec<IpAddr>,
    /// Of a service outside the mesh: what it is called there.
    pub(super) hosts: Vec<String>,
}

/// A port of a service, as pushed.
#[derive(Debug)]
pub(super) struct BuiltPort {
    pub(super) declaration: Arc<discovery::Service>,
    /// The digest of that without its routes, and with them.
    pub(super) bare: u64,
    pub(super) declared: u64,
    /// The state of the index at which the routes were made.
    pub(super) routed_at: Option<u64>,
    /// As callers in these namespaces are told it, which have routes of their own.
    pub(super) consumers: Arc<BTreeMap<Arc<str>, Declared>>,
    /// Which port of each member stands behind this one.
    pub(super) serving: BTreeMap<WorkloadName, String>,
    endpoints: BTreeMap<Arc<str>, HeldEndpoint>,
    /// The sum of the declaration's and the endpoints' digests: kept up with each change, so that a
    /// version does not cost a walk over all endpoints.
    pub(super) digest: u64,
}

/// An endpoint and its digest.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldEndpoint {
    /// As it travels.
    pub endpoint: Arc<discovery::Endpoint>,
    /// [`digest::of_message`] of it.
    pub digest: u64,
}

/// A service port and its endpoints at this moment.
#[derive(Debug, Clone, Copy)]
pub struct ServiceView<'a> {
    /// All of it but the endpoints.
    pub declaration: &'a Arc<discovery::Service>,
    /// The digest of that.
    pub declared: u64,
    /// The ready endpoints, by id.
    pub endpoints: &'a BTreeMap<Arc<str>, HeldEndpoint>,
    /// The digest of the declaration and all endpoints, equal wherever the content is.
    pub digest: u64,
}

impl BuiltService {
    pub(super) fn view(&self, port: Port) -> Option<ServiceView<'_>> {
        self.ports.get(&port).map(BuiltPort::view)
    }

    /// What references by port hang on: which ports there are, and how they are to be read.
    fn outline(&self) -> Vec<(Port, &str, i32)> {
        let ports = self.ports.iter();
        let outline = ports.map(|(number, port)| {
            (*number, port.declaration.port_name.as_str(), port.declaration.protocol)
        });
        outline.collect()
    }

    /// By what policies refer to its ports.
    fn port_names(&self) -> Vec<(Port, &str)> {
        let ports = self.ports.iter();
        ports.map(|(number, port)| (*number, port.declaration.port_name.as_str())).collect()
    }
}

impl BuiltPort {
    pub(super) fn new(declaration: discovery::Service) -> Self {
        let digest = digest::of_message(&declaration);
        Self {
            declaration: Arc::new(declaration),
            bare: digest,
            declared: digest,
            routed_at: None,
            consumers: Arc::default(),
            serving: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            digest,
        }
    }

    pub(super) fn view(&self) -> ServiceView<'_> {
        ServiceView {
            declaration: &self.declaration,
            declared: self.declared,
            endpoints: &self.endpoints,
            digest: self.digest,
        }
    }

    /// Puts the endpoint in, or takes it out. Whether that changed anything.
    pub(super) fn set(&mut self, id: &Arc<str>, endpoint: Option<discovery::Endpoint>) -> bool {
        let new = endpoint.map(|endpoint| HeldEndpoint {
            digest: digest::of_message(&endpoint),
            endpoint: Arc::new(endpoint),
        });
        let old = match &new {
            Some(new) => self.endpoints.insert(Arc::clone(id), new.clone()),
            None => self.endpoints.remove(id),
        };
        let of = |held: &Option<HeldEndpoint>| held.as_ref().map_or(0, |held| held.digest);
        self.digest = self.digest.wrapping_add(of(&new)).wrapping_sub(of(&old));
        old != new
    }
}

impl Index {
    /// Builds a service anew and adds to `changes` how it differs from before.
    pub(super) fn rebuild(&mut self, name: &ServiceName, changes: &mut Changes) {
        let new = self.build(name);
        let old = self.built.remove(name);
        self.record_members(name, old.as_ref(), new.as_ref());
        self.cluster.record_pods(name, old.as_ref(), new.as_ref());
        self.record_addresses(name, old.as_ref(), new.as_ref(), changes);
        self.record_hosts(name, old.as_ref(), new.as_ref(), changes);
        let inbound = report_difference(name, old.as_ref(), new.as_ref(), changes);
        if old.as_ref().map(BuiltService::port_names) != new.as_ref().map(BuiltService::port_names)
        {
            self.policies.ports_changed();
        }
        if inbound {
            self.touch_selected(name, self.services.get(name).map(|object| &**object), changes);
            // What these serve is declared differently now, also to those who dial them by address.
            let both = old.iter().chain(&new);
            for member in both.clone().flat_map(|built| &built.members) {
                changes.inbounds.insert(member.clone());
                self.touch_addresses(member, changes);
            }
            let addresses = both.flat_map(|built| &built.addresses);
            changes.targets.extend(addresses.map(|address| Dependency::Address(*address)));
        }
        self.report_pods(old.as_ref(), new.as_ref(), inbound, changes);
        if old.as_ref().map(BuiltService::outline) != new.as_ref().map(BuiltService::outline) {
            self.routes.touch_referring(name);
        }
        if let Some(new) = new {
            self.built.insert(name.clone(), new);
        }
    }

    fn build(&self, name: &ServiceName) -> Option<BuiltService> {
        let members = self.members(name);
        let object = self.services.get(name);
        if object.is_none() && members.is_empty() {
            return self.build_external(name);
        }
        let mut built = match object {
            Some(object) => {
                let declared = object.spec.ports.iter().filter(|port| port.protocol.is_tcp());
                let ports =
                    declared.map(|port| (port.port, self.declared_port(name, port, &members)));
                let addresses = object.spec.cluster_addresses();
                BuiltService { ports: ports.collect(), addresses, ..BuiltService::default() }
            }
            None => BuiltService {
                ports: self.implied_ports(name, &members),
                ..BuiltService::default()
            },
        };
        built.members = members.keys().map(|member| (*member).clone()).collect();
        for (member, workload) in &members {
            for instance in self.instances(member, workload) {
                self.place(&mut built, workload, &instance, &mut |_| ());
            }
        }
        self.place_slices(name, &mut built);
        self.route_ports(name, &mut built, self.built.get(name));
        Some(built)
    }

    /// A port of a Service object. What it does not declare, the first workload behind it does, or the pods do.
    fn declared_port(
        &self,
        name: &ServiceName,
        port: &ServicePortSpec,
        members: &Members<'_>,
    ) -> BuiltPort {
        let behind: Vec<(&WorkloadName, WorkloadPort)> = members
            .iter()
            .filter_map(|(member, workload)| Some((*member, port_behind(port, &workload.spec)?)))
            .collect();
        let protocol = port
            .app_protocol
            .or_else(|| behind.iter().find_map(|(_, port)| port.protocol))
            .or_else(|| self.protocol_by_pods(name, &port.name));
        let mut built = BuiltPort::new(self.declaration(name, port.port, &port.name, protocol));
        built.serving =
            behind.into_iter().map(|(member, port)| (member.clone(), port.name)).collect();
        built
    }

    /// The ports of a service without an object: those that its workloads give it. Where two workloads declare
    /// one port differently, the first by name is right.
    fn implied_ports(
        &self,
        name: &ServiceName,
        members: &Members<'_>,
    ) -> BTreeMap<Port, BuiltPort> {
        let mut ports: BTreeMap<Port, BuiltPort> = BTreeMap::new();
        for (member, workload) in members {
            for port in workload.spec.ports() {
                let number = port.service_port();
                let built = ports.entry(number).or_insert_with(|| {
                    BuiltPort::new(self.declaration(name, number, &port.name, port.protocol))
                });
                built.serving.insert((*member).clone(), port.name);
            }
        }
        ports
    }

    /// The workloads of a service, by name: those that name it and those that its selector takes.
    pub(super) fn members(
        &self,
        name: &ServiceName,
    ) -> BTreeMap<&WorkloadName, &Arc<Resource<WorkloadSpec>>> {
        let first = WorkloadName { namespace: Arc::clone(&name.namespace), name: "".into() };
        let selector = self.services.get(name);
        self.workloads
            .range(first..)
            .take_while(|(workload, _)| workload.namespace == name.namespace)
            .filter(|(_, workload)| {
                workload.spec.service.as_deref() == Some(&*name.name)
                    || selector.is_some_and(|s| s.spec.selects(&workload.metadata.labels))
            })
            .collect()
    }

    /// Every instance of a workload that its object allows.
    pub(super) fn instances(
        &self,
        name: &WorkloadName,
        workload: &Resource<WorkloadSpec>,
    ) -> Vec<Instance> {
        let live = self
            .registrations_of(name)
            .filter(|registration| self.check_registration(registration).is_ok())
            .map(Instance::from);
        live.chain(static_instances(name, workload)).collect()
    }

    /// Puts one instance's endpoints where they belong in a service, tells of each that changed.
    fn place(
        &self,
        built: &mut BuiltService,
        workload: &Resource<WorkloadSpec>,
        instance: &Instance,
        changed: &mut dyn FnMut(Placed),
    ) {
        for (number, port) in &mut built.ports {
            let Some(serving) = port.serving.get(&instance.key.workload) else { continue };
            let Some(at) = instance.port(serving) else { continue };
            let id = instance.endpoint_id(at.app_port);
            let endpoint =
                instance.ready.then(|| instance.endpoint(at, workload, &self.trust_domain));
            if port.set(&id, endpoint) {
                let endpoint = port.endpoints.get(&id).map(|held| Arc::clone(&held.endpoint));
                changed(Placed { port: *number, id, endpoint });
            }
        }
    }

    /// Brings one instance's endpoints up to date in every service that it belongs to.
    pub(super) fn refresh_instance(&mut self, key: &InstanceKey, changes: &mut Changes) {
        let services = self.memberships.get(&key.workload).cloned().unwrap_or_default();
        let allowed = self
            .registrations
            .get(key)
            .filter(|registration| self.check_registration(registration).is_ok())
            .map(Instance::from);
        for service in services {
            let Some(mut built) = self.built.remove(&service) else { continue };
            let mut placed = built.withdraw(key, allowed.as_ref());
            if let (Some(instance), Some(workload)) = (&allowed, self.workloads.get(&key.workload))
            {
                self.place(&mut built, workload, instance, &mut |one| placed.push(one));
            }
            self.built.insert(service.clone(), built);
            for Placed { port, id, endpoint } in placed {
                let service_port = ServicePort { service: service.clone(), port };
                changes.services.insert(service_port.clone());
                changes.endpoints.push(EndpointChange { service_port, id, endpoint });
            }
        }
    }

    /// Marks the pods whose ports are declared differently now, to their own sidecars and to those who dial them by
    /// address.
    fn report_pods(
        &self,
        old: Option<&BuiltService>,
        new: Option<&BuiltService>,
        declared_anew: bool,
        changes: &mut Changes,
    ) {
        let ports = |built: Option<&BuiltService>, pod| built?.pods.get(pod).cloned();
        for pod in old.iter().chain(&new).flat_map(|built| built.pods.keys()) {
            if !declared_anew && ports(old, pod) == ports(new, pod) {
                continue;
            }
            let Some(pod) = self.pod(pod) else { continue };
            changes.pods.insert(pod.instance());
            let addresses = pod.addresses.iter();
            changes.targets.extend(addresses.map(|address| Dependency::Address(*address)));
        }
    }

    fn record_members(
        &mut self,
        name: &ServiceName,
        old: Option<&BuiltService>,
        new: Option<&BuiltService>,
    ) {
        for member in old.iter().flat_map(|old| &old.members) {
            if let Some(services) = self.memberships.get_mut(member) {
                services.remove(name);
                if services.is_empty() {
                    self.memberships.remove(member);
                }
            }
        }
        for member in new.iter().flat_map(|new| &new.members) {
            self.memberships.entry(member.clone()).or_default().insert(name.clone());
        }
    }

    fn record_addresses(
        &mut self,
        name: &ServiceName,
        old: Option<&BuiltService>,
        new: Option<&BuiltService>,
        changes: &mut Changes,
    ) {
        let before: &[IpAddr] = old.map_or(&[], |old| &old.addresses);
        let after: &[IpAddr] = new.map_or(&[], |new| &new.addresses);
        if before == after {
            return;
        }
        changes.mesh = true;
        let touched = before.iter().chain(after);
        changes.targets.extend(touched.map(|address| Dependency::Address(*address)));
        for address in before {
            if let Some(services) = self.cluster_addresses.get_mut(address) {
                services.remove(name);
                if services.is_empty() {
                    self.cluster_addresses.remove(address);
                }
            }
        }
        for address in after {
            self.cluster_addresses.entry(*address).or_default().insert(name.clone());
        }
    }
}

/// An endpoint that changed at a port of a service.
struct Placed {
    port: Port,
    id: Arc<str>,
    endpoint: Option<Arc<discovery::Endpoint>>,
}

impl BuiltService {
    /// Takes out endpoints of an instance that it no longer has: its app moved to another port, or it is
    /// gone.
    fn withdraw(&mut self, key: &InstanceKey, now: Option<&Instance>) -> Vec<Placed> {
        let prefix = format!("{key}:");
        let mut placed = Vec::new();
        for (number, port) in &mut self.ports {
            let serving = port.serving.get(&key.workload);
            let kept = now
                .zip(serving)
                .and_then(|(now, name)| now.port(name).map(|at| now.endpoint_id(at.app_port)));
            let from: Arc<str> = prefix.as_str().into();
            let stale: Vec<Arc<str>> = port
                .endpoints
                .range(from..)
                .map(|(id, _)| id)
                .take_while(|id| id.starts_with(&prefix))
                .filter(|id| Some(*id) != kept.as_ref())
                .cloned()
                .collect();
            for id in stale {
                port.set(&id, None);
                placed.push(Placed { port: *number, id, endpoint: None });
            }
        }
        placed
    }
}

type Members<'a> = BTreeMap<&'a WorkloadName, &'a Arc<Resource<WorkloadSpec>>>;

/// The workload's port behind a service's: the one that `targetPort` means by name or number; without it
/// the one of the same name, or the same number, or the only one.
pub(super) fn port_behind(port: &ServicePortSpec, workload: &WorkloadSpec) -> Option<WorkloadPort> {
    let ports = workload.ports();
    let find =
        |wanted: &dyn Fn(&WorkloadPort) -> bool| ports.iter().find(|own| wanted(own)).cloned();
    match &port.target_port {
        Some(TargetPort::Name(name)) => find(&|own| own.name == *name),
        Some(TargetPort::Number(number)) => find(&|own| own.port == Some(*number)),
        None => find(&|own| !port.name.is_empty() && own.name == port.name)
            .or_else(|| find(&|own| own.port == Some(port.port)))
            .or_else(|| find(&|own| own.service_port() == port.port))
            .or_else(|| find(&|_| ports.len() == 1)),
    }
}

/// Adds to `changes` how two states of a service differ. Whether its ports, or what stands behind them, do.
fn report_difference(
    name: &ServiceName,
    old: Option<&BuiltService>,
    new: Option<&BuiltService>,
    changes: &mut Changes,
) -> bool {
    let ports = |built: Option<&BuiltService>| -> BTreeSet<Port> {
        built.map(|built| built.ports.keys().copied().collect()).unwrap_or_default()
    };
    let (before, after) = (ports(old), ports(new));
    if before != after {
        changes.targets.insert(Dependency::Service(name.clone()));
    }
    let mut inbound = before != after;
    for port in before.union(&after) {
        let one = old.and_then(|old| old.ports.get(port));
        let other = new.and_then(|new| new.ports.get(port));
        let service_port = ServicePort { service: name.clone(), port: *port };
        inbound |= one.map(what_servers_are_told) != other.map(what_servers_are_told);
        if one.map(|one| one.digest) != other.map(|other| other.digest)
            || !tell_the_same(one, other)
        {
            changes.services.insert(service_port.clone());
            endpoint_difference(&service_port, one, other, changes);
        }
    }
    inbound
}

/// Whether callers with routes of their own are told the same.
fn tell_the_same(one: Option<&BuiltPort>, other: Option<&BuiltPort>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => {
            Arc::ptr_eq(&one.consumers, &other.consumers) || one.consumers == other.consumers
        }
        (one, other) => one.is_none() && other.is_none(),
    }
}

/// What of a port its servers' sidecars act by: policies for callers are none of theirs.
fn what_servers_are_told(port: &BuiltPort) -> (i32, &str, &BTreeMap<WorkloadName, String>) {
    (port.declaration.protocol, &port.declaration.port_name, &port.serving)
}

fn endpoint_difference(
    service_port: &ServicePort,
    old: Option<&BuiltPort>,
    new: Option<&BuiltPort>,
    changes: &mut Changes,
) {
    let none = BTreeMap::new();
    let before = old.map_or(&none, |old| &old.endpoints);
    let after = new.map_or(&none, |new| &new.endpoints);
    let change = |id: &Arc<str>, endpoint| EndpointChange {
        service_port: service_port.clone(),
        id: Arc::clone(id),
        endpoint,
    };
    let gone = before.keys().filter(|id| !after.contains_key(*id)).map(|id| change(id, None));
    let fresh = after
        .iter()
        .filter(|(id, held)| before.get(*id) != Some(held))
        .map(|(id, held)| change(id, Some(Arc::clone(&held.endpoint))));
    changes.endpoints.extend(gone.chain(fresh));
}
