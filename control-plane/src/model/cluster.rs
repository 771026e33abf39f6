//! What a cluster says of the instances that run in it: pods, and the endpoint slices of services. They are the
//! cluster's word, not an operator's: an operator's objects are the other kinds. Only what is used is kept.

use std::{collections::BTreeMap, fmt, net::IpAddr, sync::Arc};

use weft_proto::{Port, ServiceName, WorkloadName};

use super::{pod_settings::PodSettings, registration::InstanceKey};

/// An object of the cluster. Its text is "NAMESPACE/NAME".
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespacedName {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl fmt::Display for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A pod (core v1).
#[derive(Debug, Clone, PartialEq)]
pub struct Pod {
    /// Which.
    pub key: NamespacedName,
    /// Tells it from a later pod of the same name.
    pub uid: Arc<str>,
    /// Of which workload it is an instance.
    pub workload: WorkloadName,
    /// Whom it acts as.
    pub service_account: Arc<str>,
    /// Its addresses, of one family or both; none before it has been started.
    pub addresses: Vec<IpAddr>,
    /// The addresses are its node's.
    pub host_network: bool,
    /// A sidecar runs in it.
    pub meshed: bool,
    /// How far its life has come.
    pub life: Life,
    /// What its annotations say.
    pub settings: Arc<PodSettings>,
    /// By which services select it.
    pub labels: BTreeMap<String, String>,
    /// The ports that its containers name.
    pub ports: BTreeMap<String, Port>,
}

/// How far a pod's life has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It runs, or will.
    Running,
    /// It has been told to stop.
    Terminating,
    /// Its containers have ended.
    Ended,
}

impl Pod {
    /// The pod as an instance of its workload.
    #[must_use]
    pub fn instance(&self) -> InstanceKey {
        InstanceKey { workload: self.workload.clone(), instance: Arc::clone(&self.key.name) }
    }

    /// Whether its sidecar takes what is sent to this port.
    #[must_use]
    pub fn takes_mesh_traffic(&self, port: Port) -> bool {
        self.meshed && !self.host_network && !self.settings.skip_inbound_ports.contains(port)
    }
}

/// A part of a service's endpoints (discovery.k8s.io/v1).
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointSlice {
    /// Which.
    pub key: NamespacedName,
    /// Whose endpoints they are.
    pub service: ServiceName,
    /// The ports of all of them.
    pub ports: Vec<SlicePort>,
    /// The endpoints.
    pub endpoints: Vec<SliceEndpoint>,
}

/// A port of an endpoint slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlicePort {
    /// The service's port by name; empty for its only one.
    pub name: String,
    /// Where the application listens.
    pub port: Port,
}

/// An endpoint of an endpoint slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// Its address. Of several, which Kubernetes takes for one, the first.
    pub address: IpAddr,
    /// It takes requests.
    pub ready: bool,
    /// It would, if it were not about to stop.
    pub serving: bool,
    /// It is about to stop.
    pub terminating: bool,
    /// The pod behind it, in the slice's namespace; none for an address outside the cluster.
    pub pod: Option<Arc<str>>,
    /// By which it is named below its service.
    pub hostname: Option<Arc<str>>,
    /// Where it runs; may be empty.
    pub zone: Arc<str>,
}

impl EndpointSlice {
    /// The number behind a port of the service.
    #[must_use]
    pub fn port(&self, name: &str) -> Option<Port> {
        self.ports.iter().find(|port| port.name == name).map(|port| port.port)
    }
}
