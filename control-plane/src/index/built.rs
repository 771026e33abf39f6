//! A service as it is pushed: its ports, with what is said of them and the endpoints behind them. Endpoints are put in and
//! taken out one by one, and the digest of a port follows; what comes in is right already, nothing is checked here.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use weft_proto::{Port, WorkloadName, digest, discovery};

use super::{declaration::Declared, endpoint::Instance};
use crate::model::{NamespacedName, registration::InstanceKey};

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
    pub(super) endpoints: BTreeMap<Arc<str>, HeldEndpoint>,
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

    /// What references to it hang on: whether it is outside, which ports there are, and how they are to be read.
    pub(super) fn outline(&self) -> (bool, Vec<(Port, &str, i32)>) {
        let ports = self.ports.iter();
        let outline = ports.map(|(number, port)| {
            (*number, port.declaration.port_name.as_str(), port.declaration.protocol)
        });
        (!self.hosts.is_empty(), outline.collect())
    }

    /// By what policies refer to its ports.
    pub(super) fn port_names(&self) -> Vec<(Port, &str)> {
        let ports = self.ports.iter();
        ports.map(|(number, port)| (*number, port.declaration.port_name.as_str())).collect()
    }

    /// Takes out endpoints of an instance that it no longer has: its app moved to another port, or it is
    /// gone.
    pub(super) fn withdraw(&mut self, key: &InstanceKey, now: Option<&Instance>) -> Vec<Placed> {
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

/// An endpoint that changed at a port of a service.
pub(super) struct Placed {
    pub(super) port: Port,
    pub(super) id: Arc<str>,
    pub(super) endpoint: Option<Arc<discovery::Endpoint>>,
}
