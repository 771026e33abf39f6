//! What is said of a service port beside its endpoints: its names, its protocol, and all that callers' sidecars do
//! with requests to it. Where namespaces have routes of their own, callers there are told otherwise.

use std::{collections::BTreeMap, sync::Arc};

use weft_proto::{Port, ServiceName, digest, discovery};

use super::{Index, ServiceView, built::BuiltPort, policies::Place};
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
    service: Arc<discovery::Service>,
    digest: u64,
}

impl Declared {
    /// The routes of these callers.
    pub(super) fn routes(&self) -> Option<&discovery::Routes> {
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
    /// Puts routes in force that were made at this state of what they are made of. Whether that changed anything.
    pub(super) fn set_routes(&mut self, routes: PortRoutes, state: u64) -> bool {
        let before = self.declared;
        Arc::make_mut(&mut self.declaration).routes = routes.of_all;
        self.declare(digest::of_message(&*self.declaration));
        let declare = |routes| {
            let bare = (*self.declaration).clone();
            let service = discovery::Service { routes: Some(routes), ..bare };
            Declared { digest: digest::of_message(&service), service: Arc::new(service) }
        };
        let consumers = routes.consumers.into_iter();
        let consumers = consumers.map(|(namespace, routes)| (namespace, declare(routes))).collect();
        let others = std::mem::replace(&mut self.consumers, Arc::new(consumers));
        self.routed_at = Some(state);
        before != self.declared || others != self.consumers
    }

    /// Takes over the routes of the same port as it was before, where they were made at this state and all else that is
    /// said of the port is the same.
    pub(super) fn keep_routes(&mut self, before: &Self, state: u64) -> bool {
        if before.routed_at != Some(state) || before.bare != self.bare {
            return false;
        }
        self.declaration = Arc::clone(&before.declaration);
        self.consumers = Arc::clone(&before.consumers);
        self.declare(before.declared);
        self.routed_at = before.routed_at;
        true
    }

    fn declare(&mut self, digest: u64) {
        self.digest = self.digest.wrapping_sub(self.declared).wrapping_add(digest);
        self.declared = digest;
    }

    /// The port as callers of a namespace are told of it, and the namespace, where others are told otherwise.
    pub(super) fn view_from(&self, namespace: &str) -> (Option<Arc<str>>, ServiceView<'_>) {
        let Some((namespace, declared)) = self.consumers.get_key_value(namespace) else {
            return (None, self.view());
        };
        let view = ServiceView {
            declaration: &declared.service,
            declared: declared.digest,
            digest: self.digest.wrapping_sub(self.declared).wrapping_add(declared.digest),
            ..self.view()
        };
        (Some(Arc::clone(namespace)), view)
    }
}
