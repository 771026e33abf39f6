//! What a sidecar says of the instance beside it. Nothing of it is believed that an operator's object does
//! not allow: see `index`.

use std::{fmt, net::SocketAddr, sync::Arc};

use weft_proto::{Port, SpiffeId, WorkloadName};

/// One instance of a workload. Its text is "NAMESPACE/WORKLOAD/INSTANCE".
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceKey {
    /// The workload.
    pub workload: WorkloadName,
    /// Which instance of it: a replica, a pod's name.
    pub instance: Arc<str>,
}

impl fmt::Display for InstanceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.workload, self.instance)
    }
}

/// A live instance, as its sidecar registered it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Which instance.
    pub key: InstanceKey,
    /// Which start of its sidecar: an old stream's end does not remove the new one's registration.
    pub incarnation: Arc<str>,
    /// The identity in the sidecar's certificate.
    pub spiffe_id: SpiffeId,
    /// What it serves.
    pub ports: Vec<RegisteredPort>,
    /// Whether the app is healthy: only then is it an endpoint.
    pub ready: bool,
    /// Why it is not, for people.
    pub detail: String,
    /// May be empty: then the workload's zone counts.
    pub zone: Arc<str>,
}

/// A port that an instance serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredPort {
    /// The workload's port by name; empty for the only one.
    pub name: String,
    /// Where the application listens.
    pub app_port: Port,
    /// What a caller's sidecar dials.
    pub address: SocketAddr,
}
