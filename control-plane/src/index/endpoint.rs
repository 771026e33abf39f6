//! An instance of a workload, as an endpoint. With a sidecar: where that stands, and which identities the
//! operator's object allows there. Without one: the bare address.

use std::{net::SocketAddr, sync::Arc};

use weft_proto::{Port, SpiffeId, TrustDomain, WorkloadName, discovery};

use crate::model::{
    RegisteredPort, Registration, Resource, WorkloadSpec, registration::InstanceKey,
};

/// A place where a workload runs.
#[derive(Debug, Clone)]
pub(super) struct Instance {
    pub(super) key: InstanceKey,
    /// A sidecar stands there.
    pub(super) meshed: bool,
    pub(super) ready: bool,
    pub(super) detail: String,
    pub(super) zone: Arc<str>,
    pub(super) ports: Vec<RegisteredPort>,
}

impl From<&Registration> for Instance {
    fn from(registration: &Registration) -> Self {
        Self {
            key: registration.key.clone(),
            meshed: true,
            ready: registration.ready,
            detail: registration.detail.clone(),
            zone: Arc::clone(&registration.zone),
            ports: registration.ports.clone(),
        }
    }
}

/// The instances without a sidecar that a Workload lists. They are named after their address.
pub(super) fn static_instances(
    name: &WorkloadName,
    workload: &Resource<WorkloadSpec>,
) -> Vec<Instance> {
    let ports = workload.spec.ports();
    let instance = |place: &crate::model::StaticAddress| Instance {
        key: InstanceKey { workload: name.clone(), instance: static_name(place) },
        meshed: false,
        ready: true,
        detail: "listed in the Workload; its health is not known".to_owned(),
        zone: workload.spec.zone.as_str().into(),
        ports: ports
            .iter()
            .filter_map(|port| {
                let number = place.port_of(port)?;
                let address = SocketAddr::new(place.address, number.number());
                Some(RegisteredPort { name: port.name.clone(), app_port: number, address })
            })
            .collect(),
    };
    workload.spec.addresses.iter().map(instance).collect()
}

/// An instance's name has no ':', which ends it in an endpoint's id.
fn static_name(place: &crate::model::StaticAddress) -> Arc<str> {
    place.address.to_string().replace(':', "-").into()
}

impl Instance {
    /// The port that the workload knows by this name.
    pub(super) fn port(&self, name: &str) -> Option<&RegisteredPort> {
        self.ports.iter().find(|port| port.name == name)
    }

    /// "NAMESPACE/WORKLOAD/INSTANCE:PORT".
    pub(super) fn endpoint_id(&self, port: Port) -> Arc<str> {
        format!("{}:{port}", self.key).into()
    }

    /// The endpoint at one of its ports.
    pub(super) fn endpoint(
        &self,
        port: &RegisteredPort,
        workload: &Resource<WorkloadSpec>,
        trust_domain: &TrustDomain,
    ) -> discovery::Endpoint {
        let identities = if self.meshed {
            identity(&self.key.workload, workload, trust_domain).into_iter().collect()
        } else {
            Vec::new()
        };
        let zone = if self.zone.is_empty() { workload.spec.zone.as_str() } else { &self.zone };
        discovery::Endpoint {
            id: self.endpoint_id(port.app_port).as_ref().to_owned(),
            address: port.address.to_string(),
            app_port: port.app_port.into(),
            meshed: self.meshed,
            identities: identities.iter().map(SpiffeId::to_string).collect(),
            zone: zone.to_owned(),
            labels: workload.metadata.labels.clone(),
            workload: self.key.workload.to_string(),
        }
    }
}

/// Whom an operator's object allows to be this workload. `None` only for names that no parsed object has.
pub(super) fn identity(
    name: &WorkloadName,
    workload: &Resource<WorkloadSpec>,
    trust_domain: &TrustDomain,
) -> Option<SpiffeId> {
    let account = workload.spec.service_account(&name.name);
    SpiffeId::new(trust_domain, &name.namespace, account).ok()
}
