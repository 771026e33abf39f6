//! What a route's reference to a backend means: a service port, or why there is none.

use std::collections::BTreeMap;

use weft_proto::{Port, ServiceName, ServicePort, discovery, discovery::Protocol};

use super::protocols;
use crate::{
    index::Index,
    model::{Kind, gateway::reference::BackendRef},
};

/// Why a reference leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Unresolved {
    /// By the Gateway API.
    pub reason: &'static str,
    /// In words.
    pub message: String,
}

/// Whose references they are.
#[derive(Debug, Clone, Copy)]
pub struct Referrer<'a> {
    /// The route's kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: &'a str,
    /// The parent for which they are followed. Its callers are on their way there: to send them there takes no grant,
    /// even in another namespace, as a consumer's route does.
    pub parent: &'a ServiceName,
}

/// A service that is being built, and not in the index yet: all that is known of it are its ports, and how their bytes
/// are to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fresh<'a> {
    pub(super) service: &'a ServiceName,
    pub(super) ports: &'a BTreeMap<Port, Protocol>,
}

impl Index {
    /// The service port that a reference means.
    ///
    /// # Errors
    /// Why there is none.
    pub fn backend(
        &self,
        referrer: Referrer<'_>,
        backend: &BackendRef,
    ) -> Result<ServicePort, Unresolved> {
        self.backend_beside(referrer, backend, None)
    }

    /// The same, where the routes of a service are made that is not in the index yet.
    pub(super) fn backend_beside(
        &self,
        referrer: Referrer<'_>,
        backend: &BackendRef,
        fresh: Option<Fresh<'_>>,
    ) -> Result<ServicePort, Unresolved> {
        let no = |reason, message| Err(Unresolved { reason, message });
        let (group, kind) = backend.group_kind();
        let service = backend.service(referrer.namespace);
        if !backend.is_service() {
            let of = if group.is_empty() { String::new() } else { format!(" of group {group}") };
            return no(
                "InvalidKind",
                format!("requests cannot go to a {kind}{of}: name a Service"),
            );
        }
        let Some(port) = backend.port else {
            return no("InvalidKind", format!("{service} has no port: name one of the service's"));
        };
        let abroad = &*service.namespace != referrer.namespace && service != *referrer.parent;
        let route = (referrer.kind, referrer.namespace);
        if abroad && !self.routes.allows(route, (group, kind), &service) {
            let message = format!(
                "no ReferenceGrant in {} lets {}s of {} refer to {kind} {}: make one there",
                service.namespace, referrer.kind, referrer.namespace, service.name
            );
            return no("RefNotPermitted", message);
        }
        let fresh = fresh.filter(|fresh| *fresh.service == service);
        let fresh = fresh.map(|fresh| fresh.ports.clone());
        let Some(ports) = fresh.or_else(|| self.built.get(&service).map(protocols)) else {
            let message = format!("there is no service {service}: correct the name, or make it");
            return no("BackendNotFound", message);
        };
        if let Some(message) = self.of_another_kind(backend.is_external(), &service) {
            return no("BackendNotFound", message);
        }
        let Some(protocol) = ports.get(&port) else {
            let ports: Vec<String> = ports.keys().map(ToString::to_string).collect();
            let message =
                format!("service {service} has no port {port}: it has {}", ports.join(", "));
            return no("BackendNotFound", message);
        };
        let over_http = matches!(referrer.kind, Kind::HTTPRoute | Kind::GRPCRoute);
        if over_http && matches!(protocol, Protocol::Tcp | Protocol::Tls) {
            let message = format!(
                "port {port} of service {service} declares a protocol that is not HTTP: correct its appProtocol"
            );
            return no("UnsupportedProtocol", message);
        }
        Ok(ServicePort { service, port })
    }

    /// That what a reference means as a service outside the mesh is one in it, or the other way round: a name alone does
    /// not say which.
    pub(super) fn of_another_kind(&self, outside: bool, service: &ServiceName) -> Option<String> {
        match (outside, self.is_external(service)) {
            (true, false) => Some(format!(
                "{service} is a Service, and no ExternalService: name it as group \"\", kind Service"
            )),
            (false, true) => Some(format!(
                "{service} is an ExternalService, and no Service: name it as group weft.dev, kind ExternalService"
            )),
            (true, true) | (false, false) => None,
        }
    }
}

/// A backend as it travels, without filters.
pub(super) fn to_wire(weight: u32, found: Result<ServicePort, Unresolved>) -> discovery::Backend {
    let target = match found {
        Ok(port) => discovery::backend::Target::Service(port.to_string()),
        Err(unresolved) => discovery::backend::Target::Invalid(unresolved.message),
    };
    discovery::Backend { weight, target: Some(target), filters: Vec::new() }
}
