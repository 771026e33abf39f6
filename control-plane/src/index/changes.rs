//! What a change of objects or registrations means to those who hold resources: which keys to look at
//! again, and no others.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use weft_proto::{ServiceName, ServicePort, WorkloadName, discovery};

use crate::model::InstanceKey;

/// What one change of the index touched. Whoever holds none of it has nothing to do.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    /// The mesh's eager set is another one.
    pub mesh: bool,
    /// Service ports that appeared, vanished, or have another declaration or other endpoints: re-read them
    /// with `Index::service`, or follow `endpoints` alone where a port stands there only.
    pub services: BTreeSet<ServicePort>,
    /// The endpoints that changed, service port by service port.
    pub endpoints: Vec<EndpointChange>,
    /// Workloads whose inbound ports changed.
    pub inbounds: BTreeSet<WorkloadName>,
    /// Pods of which the same is true.
    pub pods: BTreeSet<InstanceKey>,
    /// Targets that hang on these are to be resolved again.
    pub targets: BTreeSet<Dependency>,
    /// Every target is to be resolved again: the mesh's name suffixes changed.
    pub all_targets: bool,
    /// Workloads whose registrations are to be checked again: the objects that allow them changed.
    pub registrations: BTreeSet<WorkloadName>,
}

impl Changes {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds what a later change touched.
    pub fn merge(&mut self, later: Self) {
        self.mesh |= later.mesh;
        self.services.extend(later.services);
        self.endpoints.extend(later.endpoints);
        self.inbounds.extend(later.inbounds);
        self.pods.extend(later.pods);
        self.targets.extend(later.targets);
        self.all_targets |= later.all_targets;
        self.registrations.extend(later.registrations);
    }
}

/// One endpoint of a service port that is new, different or gone.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointChange {
    /// Whose.
    pub service_port: ServicePort,
    /// The endpoint's id.
    pub id: Arc<str>,
    /// Its content now; `None` when it is gone.
    pub endpoint: Option<Arc<discovery::Endpoint>>,
}

/// What a target's meaning hangs on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dependency {
    /// A service of this name: that it exists, and which ports it has.
    Service(ServiceName),
    /// A service or an instance at this address.
    Address(IpAddr),
    /// What is registered outside the mesh by this host, "api.example.com" or "*.example.com".
    Host(String),
}

/// What an application's destination stands for, and what that hangs on.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedTarget {
    /// As it travels.
    pub target: discovery::Target,
    /// Resolve again when one of these changes.
    pub depends_on: Vec<Dependency>,
}
