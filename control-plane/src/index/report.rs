//! What people are shown of the index: every endpoint with what keeps it from use, and the facts that
//! conditions are made of.

use weft_proto::{Port, ServiceName, ServicePort, TrustDomain, WorkloadName, api};

use super::{
    Index, Refusal,
    endpoint::{Instance, identity},
    members::port_behind,
    slices::Standing,
};

/// What there is to say of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceFacts {
    /// Its workloads.
    pub members: Vec<WorkloadName>,
    /// Ports that no workload serves, as the Service names them: "80 (targetPort 8080)".
    pub unserved: Vec<String>,
    /// Endpoints that are ready, over all ports.
    pub endpoints: usize,
}

impl Index {
    /// The facts of a service with an object.
    #[must_use]
    pub fn service_facts(&self, name: &ServiceName) -> Option<ServiceFacts> {
        let object = self.services.get(name)?;
        let built = self.built.get(name)?;
        let mut unserved = Vec::new();
        for port in object.spec.ports.iter().filter(|port| port.protocol.is_tcp()) {
            let served = built.members.iter().any(|member| {
                let workload = self.workloads.get(member);
                workload.is_some_and(|workload| port_behind(port, &workload.spec).is_some())
            });
            if !served {
                let target = port.target_port.as_ref();
                let target = target.map(|target| format!(" (targetPort {target})"));
                unserved.push(format!("{}{}", port.port, target.unwrap_or_default()));
            }
        }
        let endpoints = built.ports.keys().filter_map(|port| built.view(*port));
        Some(ServiceFacts {
            members: built.members.iter().cloned().collect(),
            unserved,
            endpoints: endpoints.map(|view| view.endpoints.len()).sum(),
        })
    }

    /// Whether a service has an object of its own.
    #[must_use]
    pub fn has_service_object(&self, name: &ServiceName) -> bool {
        self.services.contains_key(name)
    }

    /// Whether a port of the workload stands behind one of the service's.
    #[must_use]
    pub fn serves(&self, workload: &WorkloadName, service: &ServiceName) -> bool {
        let built = self.built.get(service);
        built.is_some_and(|b| b.ports.values().any(|port| port.serving.contains_key(workload)))
    }

    /// The ports by which callers name a service; none when there is no such service.
    #[must_use]
    pub fn ports_of(&self, service: &ServiceName) -> Vec<Port> {
        let built = self.built.get(service);
        built.map(|built| built.ports.keys().copied().collect()).unwrap_or_default()
    }

    /// The certificate authority's trust domain.
    #[must_use]
    pub const fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The services that a workload belongs to.
    pub fn services_of_workload(&self, name: &WorkloadName) -> impl Iterator<Item = &ServiceName> {
        self.memberships.get(name).into_iter().flatten()
    }

    /// How many instances of a workload are known, and how many of them are ready.
    #[must_use]
    pub fn instance_counts(&self, name: &WorkloadName) -> (usize, usize) {
        let Some(workload) = self.workloads.get(name) else { return (0, 0) };
        let instances = self.instances(name, workload);
        (instances.len(), instances.iter().filter(|instance| instance.ready).count())
    }

    /// Whether there is such a service, by an object or by a workload that names it.
    #[must_use]
    pub fn has_service(&self, name: &ServiceName) -> bool {
        self.built.contains_key(name)
    }

    /// Every port of every service, in order.
    #[must_use]
    pub fn service_ports(&self) -> Vec<ServicePort> {
        let ports = self.built.iter().flat_map(|(service, built)| {
            built.ports.keys().map(|port| ServicePort { service: service.clone(), port: *port })
        });
        let mut ports: Vec<ServicePort> = ports.collect();
        ports.sort();
        ports
    }

    /// Every endpoint of a service's port, also those that nobody is told of, with the reason.
    #[must_use]
    pub fn endpoint_statuses(&self, service_port: &ServicePort) -> Vec<api::EndpointStatus> {
        let built = self.built.get(&service_port.service);
        let Some(port) = built.and_then(|built| built.ports.get(&service_port.port)) else {
            return Vec::new();
        };
        let mut statuses = Vec::new();
        for (member, port_name) in &port.serving {
            for (instance, refusal) in self.all_instances(member) {
                let status = self.endpoint_status(&instance, refusal.as_ref(), port_name);
                statuses.extend(status.map(|status| api::EndpointStatus {
                    service_port: service_port.to_string(),
                    ..status
                }));
            }
        }
        statuses.extend(self.slice_statuses(service_port, &port.declaration.port_name));
        statuses
    }

    /// The endpoints that a service's slices list.
    fn slice_statuses(&self, port: &ServicePort, port_name: &str) -> Vec<api::EndpointStatus> {
        let mut statuses = Vec::new();
        for slice in self.cluster.slices(&port.service) {
            let Some(target) = slice.port(port_name) else { continue };
            for listed in &slice.endpoints {
                let standing = self.standing(slice, listed);
                let endpoint = self.slice_endpoint(slice, listed, target);
                let pod = listed.pod.clone();
                let instance = pod.unwrap_or_else(|| listed.address.to_string().into());
                statuses.push(api::EndpointStatus {
                    service_port: port.to_string(),
                    id: endpoint.id,
                    workload: endpoint.workload,
                    instance: instance.to_string(),
                    address: endpoint.address,
                    app_port: endpoint.app_port,
                    meshed: endpoint.meshed,
                    identities: endpoint.identities,
                    zone: endpoint.zone,
                    ready: standing == Standing::Ready,
                    detail: standing.detail().to_owned(),
                    ..api::EndpointStatus::default()
                });
            }
        }
        statuses
    }

    fn all_instances(&self, name: &WorkloadName) -> Vec<(Instance, Option<Refusal>)> {
        let live = self.registrations_of(name).map(|registration| {
            (Instance::from(registration), self.check_registration(registration).err())
        });
        let listed = self.workloads.get(name).map(|w| super::endpoint::static_instances(name, w));
        live.chain(listed.into_iter().flatten().map(|instance| (instance, None))).collect()
    }

    fn endpoint_status(
        &self,
        instance: &Instance,
        refusal: Option<&Refusal>,
        port_name: &str,
    ) -> Option<api::EndpointStatus> {
        let at = instance.port(port_name)?;
        let name = &instance.key.workload;
        let workload = self.workloads.get(name)?;
        let allowed = identity(name, workload, &self.trust_domain);
        let identities = allowed.filter(|_| instance.meshed);
        Some(api::EndpointStatus {
            service_port: String::new(),
            id: instance.endpoint_id(at.app_port).as_ref().to_owned(),
            workload: name.to_string(),
            instance: instance.key.instance.to_string(),
            address: at.address.to_string(),
            app_port: at.app_port.into(),
            meshed: instance.meshed,
            identities: identities.iter().map(ToString::to_string).collect(),
            zone: instance.zone.to_string(),
            ready: instance.ready && refusal.is_none(),
            detail: refusal.map_or_else(|| instance.detail.clone(), ToString::to_string),
            ..api::EndpointStatus::default()
        })
    }
}
