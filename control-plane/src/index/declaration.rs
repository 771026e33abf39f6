//! What is said of a service port beside its endpoints: its names, its protocol, and all that callers' sidecars do
//! with requests to it. Where namespaces have routes of their own, callers there are told otherwise.

use std::{collections::BTreeMap, sync::Arc};

use weft_proto::{Port, ServiceName, digest, discovery};

use super::{Index, ServiceView, build::BuiltPort, policies::Place};
use crate::model::AppProtocol;

/// The routes of a service port.
#[derive(Debug, Default)]
pub(super) struct PortRoutes {
    /// As they bind callers everywhere,
    pub(super) of_all: Option<discovery::Routes>,
    /// but in these namespaces.
    pub(super) consumers: BTreeMap<Arc<str>, discovery::Routes>,
}

/// A service port as callers of one namespace are told of it.
#[derive(Debug, PartialEq)]
pub(super) struct Declared {
    service: discovery::Service,
    digest: u64,
}

impl Declared {
    /// The routes of these callers.
    pub(super) const fn routes(&self) -> Option<&discovery::Routes> {
        self.service.routes.as_ref()
    }
}

impl Index {
    /// A service port as it travels, without its endpoints and its routes.
    pub(super) fn declaration(
        &self,
        name: &ServiceName,
        port: Port,
        port_name: &str,
        protocol: Option<AppProtocol>,
    ) -> discovery::Service {
        let place = Place { kind: self.kind_of(name), service: name, port, port_name };
        let protocol = self.protocol_by_policy(&place).or(protocol);
        discovery::Service {
            namespace: name.namespace.to_string(),
            name: name.name.to_string(),
            port: port.into(),
            port_name: port_name.to_owned(),
            protocol: AppProtocol::to_wire(protocol).into(),
            requests: self.requests_at(&place, None, discovery::RequestPolicy::default()),
            endpoint_policy: self.endpoint_policy(&place),
            ..discovery::Service::default()
        }
    }
}

impl BuiltPort {
    /// Puts routes in force. Whether that changed anything.
    pub(super) fn set_routes(&mut self, routes: PortRoutes) -> bool {
        let before = digest::of_message(&self.declaration);
        self.declaration.routes = routes.of_all;
        let after = digest::of_message(&self.declaration);
        self.digest = self.digest.wrapping_sub(before).wrapping_add(after);
        let declare = |routes| {
            let service = discovery::Service { routes: Some(routes), ..self.declaration.clone() };
            Declared { digest: digest::of_message(&service), service }
        };
        let consumers = routes.consumers.into_iter();
        let consumers = consumers.map(|(namespace, routes)| (namespace, declare(routes))).collect();
        let others = std::mem::replace(&mut self.consumers, consumers);
        before != after || others != self.consumers
    }

    /// The port as callers of a namespace are told of it, and the namespace, where others are told otherwise.
    pub(super) fn view_from(&self, namespace: &str) -> (Option<Arc<str>>, ServiceView<'_>) {
        let Some((namespace, declared)) = self.consumers.get_key_value(namespace) else {
            return (None, self.view());
        };
        let own = digest::of_message(&self.declaration);
        let view = ServiceView {
            declaration: &declared.service,
            digest: self.digest.wrapping_sub(own).wrapping_add(declared.digest),
            ..self.view()
        };
        (Some(Arc::clone(namespace)), view)
    }
}
