//! A service as it is pushed: built from its object, or from the workloads that imply it, and from the live
//! instances of its workloads. A registration's change touches one endpoint; all else builds the service
//! anew and reports how it differs from before.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use weft_proto::{Port, ServiceName, ServicePort, WorkloadName};

use super::{
    Changes, Dependency, EndpointChange, Index,
    built::{BuiltPort, BuiltService, Placed},
    difference::report_difference,
    endpoint::Instance,
    members::{Members, port_behind},
};
use crate::model::{
    Resource, ServicePortSpec, WorkloadPort, WorkloadSpec, registration::InstanceKey,
};

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
        let mut built = if self.services.contains_key(name) || !members.is_empty() {
            self.build_inside(name, &members)
        } else {
            self.build_external(name)?
        };
        self.route_ports(name, &mut built, self.built.get(name));
        Some(built)
    }

    /// A service of the mesh: of an object or of members, or both.
    fn build_inside(&self, name: &ServiceName, members: &Members<'_>) -> BuiltService {
        let mut built = match self.services.get(name) {
            Some(object) => {
                let declared = object.spec.ports.iter().filter(|port| port.protocol.is_tcp());
                let ports =
                    declared.map(|port| (port.port, self.declared_port(name, port, members)));
                let addresses = object.spec.cluster_addresses();
                BuiltService { ports: ports.collect(), addresses, ..BuiltService::default() }
            }
            None => {
                let ports = self.implied_ports(name, members);
                BuiltService { ports, ..BuiltService::default() }
            }
        };
        built.members = members.keys().map(|member| (*member).clone()).collect();
        for (member, workload) in members {
            for instance in self.instances(member, workload) {
                self.place(&mut built, workload, &instance, &mut |_| ());
            }
        }
        self.place_slices(name, &mut built);
        built
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
