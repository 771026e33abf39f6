//! The endpoints of a service that its slices list: which of them are told to callers, and as what.
//!
//! | the endpoint | is told |
//! |---|---|
//! | ready, its pod not told to stop | always |
//! | about to stop, but serving | while no other is there |
//! | neither ready nor serving | never |
//! | of a pod that is not known, has ended, or has another address | never |
//!
//! The last row is for words that cross: a slice that comes before its pod must not make a meshed pod look like one
//! without a sidecar. A pod that was told to stop counts as about to stop at once, not only when its slice says so.
//! Of a pod with addresses of both families one endpoint is told, by the family that the service prefers.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use weft_proto::{Port, ServiceName, SpiffeId, WorkloadName, discovery};

use super::{Index, built::BuiltService};
use crate::model::{AppProtocol, EndpointSlice, Life, NamespacedName, Pod, SliceEndpoint};

/// Whether callers are told of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// To all.
    Ready,
    /// To all while nobody is ready.
    Leaving,
    /// To nobody, and why.
    Out(&'static str),
}

impl Standing {
    /// What keeps it from callers, for people.
    pub(super) const fn detail(self) -> &'static str {
        match self {
            Self::Ready => "",
            Self::Leaving => "it is about to stop, and told of while no other is ready",
            Self::Out(why) => why,
        }
    }
}

/// An endpoint that callers may be told of.
struct Candidate {
    standing: Standing,
    /// Its address is of the family that the service prefers.
    preferred: bool,
    endpoint: discovery::Endpoint,
}

impl Index {
    /// Puts the endpoints of a service's slices where they belong.
    pub(super) fn place_slices(&self, name: &ServiceName, built: &mut BuiltService) {
        let object = self.services.get(name);
        let prefers_ipv6 = object.is_some_and(|object| object.spec.prefers_ipv6());
        let numbers: Vec<Port> = built.ports.keys().copied().collect();
        for number in numbers {
            let Some(port) = built.ports.get_mut(&number) else { continue };
            let mut candidates: BTreeMap<Arc<str>, Candidate> = BTreeMap::new();
            for slice in self.cluster.slices(name) {
                let Some(target) = slice.port(&port.declaration.port_name) else { continue };
                for endpoint in &slice.endpoints {
                    if let Some(pod) = pod_key(slice, endpoint) {
                        built.pods.entry(pod).or_default().insert((number, target));
                    }
                    let standing = self.standing(slice, endpoint);
                    if matches!(standing, Standing::Out(_)) {
                        continue;
                    }
                    let preferred = endpoint.address.is_ipv6() == prefers_ipv6;
                    let endpoint = self.slice_endpoint(slice, endpoint, target);
                    let id: Arc<str> = endpoint.id.as_str().into();
                    let better = candidates.get(&id).is_none_or(|known| {
                        (standing, !preferred) < (known.standing, !known.preferred)
                    });
                    if better {
                        candidates.insert(id, Candidate { standing, preferred, endpoint });
                    }
                }
            }
            let told = candidates.values().map(|candidate| candidate.standing).min();
            for (id, candidate) in candidates {
                if Some(candidate.standing) == told {
                    port.set(&id, Some(candidate.endpoint));
                }
            }
        }
    }

    /// Whether callers are told of an endpoint of a slice.
    pub(super) fn standing(&self, slice: &EndpointSlice, endpoint: &SliceEndpoint) -> Standing {
        let pod = match pod_key(slice, endpoint) {
            None => None,
            Some(key) => match self.cluster.pods.get(&key) {
                None => return Standing::Out("its pod is not known"),
                Some(pod) if pod.life == Life::Ended => {
                    return Standing::Out("its pod has ended");
                }
                Some(pod) if !pod.addresses.contains(&endpoint.address) => {
                    return Standing::Out("its pod has another address");
                }
                Some(pod) => Some(pod),
            },
        };
        let object = self.services.get(&slice.service);
        if object.is_some_and(|object| object.spec.publish_not_ready_addresses) {
            return if endpoint.ready { Standing::Ready } else { Standing::Out("it is not ready") };
        }
        let told_to_stop = pod.is_some_and(|pod| pod.life == Life::Terminating);
        match (endpoint.terminating || told_to_stop, endpoint.ready, endpoint.serving) {
            (false, true, _) => Standing::Ready,
            (true, ready, serving) if ready || serving => Standing::Leaving,
            (true, ..) => Standing::Out("it is about to stop"),
            (false, false, _) => Standing::Out("it is not ready"),
        }
    }

    /// An endpoint of a slice, as callers are told of it.
    pub(super) fn slice_endpoint(
        &self,
        slice: &EndpointSlice,
        endpoint: &SliceEndpoint,
        target: Port,
    ) -> discovery::Endpoint {
        let pod = pod_key(slice, endpoint).and_then(|key| self.cluster.pods.get(&key));
        let Some(pod) = pod else { return foreign(&slice.service, endpoint, target) };
        let zone = endpoint.zone.to_string();
        discovery::Endpoint { zone, ..self.pod_endpoint(pod, endpoint.address, target) }
    }

    /// A port of a pod, as callers are told of it.
    pub(super) fn pod_endpoint(
        &self,
        pod: &Pod,
        address: IpAddr,
        port: Port,
    ) -> discovery::Endpoint {
        let identity = SpiffeId::new(&self.trust_domain, &pod.key.namespace, &pod.service_account);
        let identity = identity.ok().filter(|_| pod.takes_mesh_traffic(port));
        discovery::Endpoint {
            id: format!("{}:{port}", pod.instance()),
            address: SocketAddr::new(address, port.number()).to_string(),
            app_port: port.into(),
            meshed: identity.is_some(),
            identities: identity.iter().map(SpiffeId::to_string).collect(),
            zone: String::new(),
            labels: BTreeMap::new(),
            workload: pod.workload.to_string(),
        }
    }

    /// How the bytes of a port of a service are to be read, where its object does not say: as the pods behind it do.
    pub(super) fn protocol_by_pods(
        &self,
        name: &ServiceName,
        port_name: &str,
    ) -> Option<AppProtocol> {
        let opaque = self.cluster.slices(name).any(|slice| {
            let Some(target) = slice.port(port_name) else { return false };
            let pods = slice.endpoints.iter().filter_map(|endpoint| pod_key(slice, endpoint));
            pods.filter_map(|key| self.cluster.pods.get(&key))
                .any(|pod| pod.settings.opaque_ports.contains(target))
        });
        opaque.then_some(AppProtocol::Tcp)
    }
}

/// The pod behind an endpoint.
pub(super) fn pod_key(slice: &EndpointSlice, endpoint: &SliceEndpoint) -> Option<NamespacedName> {
    let name = endpoint.pod.clone()?;
    Some(NamespacedName { namespace: Arc::clone(&slice.service.namespace), name })
}

/// An address that is no pod's.
fn foreign(service: &ServiceName, endpoint: &SliceEndpoint, port: Port) -> discovery::Endpoint {
    let namespace = Arc::clone(&service.namespace);
    let workload = WorkloadName { namespace, name: Arc::clone(&service.name) };
    // An id has one ':', before the port.
    let instance = endpoint.address.to_string().replace(':', "-");
    discovery::Endpoint {
        id: format!("{workload}/{instance}:{port}"),
        address: SocketAddr::new(endpoint.address, port.number()).to_string(),
        app_port: port.into(),
        meshed: false,
        identities: Vec::new(),
        zone: endpoint.zone.to_string(),
        labels: BTreeMap::new(),
        workload: workload.to_string(),
    }
}
