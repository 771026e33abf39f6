//! Routes, as they bind to service ports: what a port's callers are told of them.
//!
//! Comes in: routes and grants, the services that are there. Goes out: for each service port the flat, ordered form
//! that a sidecar acts by, for all callers and for those in namespaces with routes of their own. Pure. It must never
//! lose a route because what it refers to is not there: such a backend travels as an invalid one.
//!
//! A route in its service's namespace (a producer's) binds every caller; one in another namespace (a consumer's) binds
//! the callers there, and there stands in the place of the producer's: HTTPRoutes and GRPCRoutes in the place of those,
//! TLSRoutes and TCPRoutes in the place of these.
//!
//! What a change costs: a route, those services anew that it names or named as parents; a grant, the parents of the
//! routes that refer into its namespace from another; a service whose ports changed, the parents of the routes that
//! refer to it. Of a service only its routes are made anew, whatever the number of its endpoints; and they are kept when
//! it is built anew for its endpoints alone.
//!
//! - [`conflict`]: which of two routes that exclude each other is in force;
//! - [`standing`]: to which ports a route binds, and why not to others;
//! - [`backend`]: what a reference to a backend means;
//! - `http`, `opaque`: rules; `precedence`: their order; `filters`: what they do to requests;
//! - `requests`: timeouts and retries.

pub mod backend;
pub mod conflict;
mod filters;
mod http;
mod opaque;
mod precedence;
mod requests;
pub mod standing;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use weft_proto::{Port, ServiceName, ServicePort, discovery, discovery::Protocol};

pub(super) use http::{grpc_match, http_match};

use super::{Changes, Index, built::BuiltService, declaration::PortRoutes};
use crate::model::{
    Kind, Object, ObjectKey, ParentStatus, Route,
    gateway::{reference_grant::ReferenceGrantSpec, route::Fate},
};

/// The routes and grants that there are.
#[derive(Debug, Default)]
pub(super) struct Routes {
    routes: BTreeMap<ObjectKey, Held>,
    /// By namespace and name.
    grants: BTreeMap<(String, String), ReferenceGrantSpec>,
    /// The routes that name a service as their parent.
    by_parent: BTreeMap<ServiceName, BTreeSet<ObjectKey>>,
    /// The routes that refer to a service.
    by_backend: BTreeMap<ServiceName, BTreeSet<ObjectKey>>,
    /// Services whose routes are to be made anew.
    stale: BTreeSet<ServiceName>,
}

/// A route, and what is found out of it once.
#[derive(Debug)]
struct Held {
    object: Arc<Object>,
    fates: Vec<Fate>,
    is_supported: bool,
}

/// A route with what is known of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) route: Route<'a>,
    /// Of each rule.
    pub(super) fates: &'a [Fate],
    /// Whether it has support as a whole.
    is_supported: bool,
}

impl Held {
    fn known(&self) -> Option<Known<'_>> {
        let route = Route::of(&self.object)?;
        Some(Known { route, fates: &self.fates, is_supported: self.is_supported })
    }
}

impl Routes {
    /// Takes a route or a grant in; of other kinds there is nothing to do.
    /// Whether that says anything new.
    pub(super) fn apply(&mut self, object: &Object) -> bool {
        if let Object::ReferenceGrant(grant) = object {
            let metadata = &grant.metadata;
            let key = (metadata.namespace.clone(), metadata.name.clone());
            if self.grants.insert(key, grant.spec.clone()).as_ref() != Some(&grant.spec) {
                self.touch_referring_into(&grant.metadata.namespace);
                return true;
            }
            return false;
        }
        let Some(route) = Route::of(object) else { return false };
        let key = object.key();
        if self.routes.get(&key).is_some_and(|known| means_the_same(&known.object, object)) {
            return false;
        }
        self.forget(&key);
        for service in parents(route) {
            self.by_parent.entry(service.clone()).or_default().insert(key.clone());
            self.stale.insert(service);
        }
        for service in backends(route) {
            self.by_backend.entry(service).or_default().insert(key.clone());
        }
        // Its status says nothing here.
        let mut object = object.clone();
        *object.status_mut() = crate::model::Status::default();
        let (fates, is_supported) = (route.fates(), route.unsupported().is_empty());
        self.routes.insert(key, Held { object: Arc::new(object), fates, is_supported });
        true
    }

    /// Forgets a route or a grant.
    pub(super) fn remove(&mut self, key: &ObjectKey) {
        if key.kind != Kind::ReferenceGrant {
            self.forget(key);
        } else if self.grants.remove(&(key.namespace.clone(), key.name.clone())).is_some() {
            self.touch_referring_into(&key.namespace);
        }
    }

    fn forget(&mut self, key: &ObjectKey) {
        let Some(held) = self.routes.remove(key) else { return };
        let Some(route) = Route::of(&held.object) else { return };
        for service in parents(route) {
            take_out(&mut self.by_parent, &service, key);
            self.stale.insert(service);
        }
        for service in backends(route) {
            take_out(&mut self.by_backend, &service, key);
        }
    }

    /// Has the parents of those routes made anew that refer to a service.
    pub(super) fn touch_referring(&mut self, service: &ServiceName) {
        let Some(keys) = self.by_backend.get(service) else { return };
        let routes = keys.iter().filter_map(|key| self.find(key));
        self.stale.extend(routes.flat_map(parents).collect::<Vec<_>>());
    }

    /// The same for those that refer into a namespace from another.
    fn touch_referring_into(&mut self, namespace: &str) {
        let first = ServiceName { namespace: namespace.into(), name: "".into() };
        let keys = self.by_backend.range(first..);
        let keys = keys.take_while(|(service, _)| &*service.namespace == namespace);
        let keys = keys.flat_map(|(_, keys)| keys).filter(|key| key.namespace != namespace);
        let routes = keys.filter_map(|key| self.find(key));
        self.stale.extend(routes.flat_map(parents).collect::<Vec<_>>());
    }

    /// The services that a route names as its parents.
    pub(super) fn parents_of(&self, key: &ObjectKey) -> impl Iterator<Item = &ServiceName> {
        let named = self.by_parent.iter().filter(move |(_, keys)| keys.contains(key));
        named.map(|(service, _)| service)
    }

    /// The route of this name.
    pub(super) fn find(&self, key: &ObjectKey) -> Option<Route<'_>> {
        Some(self.known(key)?.route)
    }

    /// The same, with what is known of it.
    pub(super) fn known(&self, key: &ObjectKey) -> Option<Known<'_>> {
        self.routes.get(key)?.known()
    }

    /// The routes that refer to a service.
    pub(super) fn referring(&self, service: &ServiceName) -> impl Iterator<Item = &ObjectKey> {
        self.by_backend.get(service).into_iter().flatten()
    }

    /// The routes that name a service as their parent.
    fn at(&self, service: &ServiceName) -> impl Iterator<Item = Known<'_>> {
        let keys = self.by_parent.get(service).into_iter().flatten();
        keys.filter_map(|key| self.known(key))
    }

    /// Whether a grant in the service's namespace lets the route refer to it.
    fn allows(&self, route: (Kind, &str), to: (&str, &str), service: &ServiceName) -> bool {
        let namespace = &*service.namespace;
        let first = (namespace.to_owned(), String::new());
        let grants = self.grants.range(first..).take_while(|((of, _), _)| of == namespace);
        let to = (to.0, to.1, &*service.name);
        grants.into_iter().any(|(_, grant)| grant.allows(route, to))
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn is_empty(&self) -> bool {
        self.routes.is_empty()
            && self.grants.is_empty()
            && self.by_parent.is_empty()
            && self.by_backend.is_empty()
            && self.stale.is_empty()
    }
}

/// Whether two states of a route bind alike: its age takes part in precedence.
fn means_the_same(one: &Object, other: &Object) -> bool {
    let age = |object: &Object| object.metadata().creation_timestamp.clone();
    one.same_spec(other) && age(one) == age(other)
}

fn parents(route: Route<'_>) -> BTreeSet<ServiceName> {
    let namespace = &route.metadata().namespace;
    let services = route.parents().iter().filter(|parent| parent.is_service());
    services.map(|parent| parent.service(namespace)).collect()
}

fn backends(route: Route<'_>) -> BTreeSet<ServiceName> {
    let namespace = &route.metadata().namespace;
    let referred = route.referred().into_iter().map(|referred| referred.backend);
    let services = referred.filter(|backend| backend.is_service());
    services.map(|backend| backend.service(namespace)).collect()
}

fn take_out(
    map: &mut BTreeMap<ServiceName, BTreeSet<ObjectKey>>,
    service: &ServiceName,
    key: &ObjectKey,
) {
    if let Some(keys) = map.get_mut(service) {
        keys.remove(key);
        if keys.is_empty() {
            map.remove(service);
        }
    }
}

/// The routes that bind callers of one kind.
#[derive(Default)]
struct Bound<'a> {
    http: Vec<Known<'a>>,
    opaque: Vec<Known<'a>>,
}

impl Bound<'_> {
    /// Without those that older ones exclude.
    fn in_force(self) -> Self {
        Self {
            http: conflict::in_force(self.http, |known| known.route),
            opaque: conflict::in_force(self.opaque, |known| known.route),
        }
    }
}

impl Index {
    /// Makes the routes of those services anew for which they may be others.
    pub(super) fn route_stale(&mut self, changes: &mut Changes) {
        for service in std::mem::take(&mut self.routes.stale) {
            let Some(mut built) = self.built.remove(&service) else { continue };
            for (number, changed) in self.route_ports(&service, &mut built, None) {
                if changed {
                    changes.services.insert(ServicePort { service: service.clone(), port: number });
                }
            }
            self.built.insert(service, built);
        }
    }

    /// Puts a service's routes in force at its ports: those that it had `before`, where nothing of what they are made of
    /// is another. Whether that changed anything, port by port.
    pub(super) fn route_ports(
        &self,
        service: &ServiceName,
        built: &mut BuiltService,
        before: Option<&BuiltService>,
    ) -> Vec<(Port, bool)> {
        let own = protocols(built);
        let before = before.filter(|before| protocols(before) == own);
        let route = |number: &Port| {
            let port = built.ports.get_mut(number)?;
            let known = before.and_then(|before| before.ports.get(number));
            if known.is_some_and(|known| port.keep_routes(known, self.route_state)) {
                return Some((*number, true));
            }
            let routes = self.port_routes(service, &port.declaration, &own);
            Some((*number, port.set_routes(routes, self.route_state)))
        };
        own.keys().filter_map(route).collect()
    }

    /// The routes of a service port. `own` are all ports of the service, which may not be in the index yet.
    fn port_routes(
        &self,
        service: &ServiceName,
        port: &discovery::Service,
        own: &BTreeMap<Port, Protocol>,
    ) -> PortRoutes {
        let mut producers = Bound::default();
        let mut consumers: BTreeMap<&str, Bound<'_>> = BTreeMap::new();
        for known in self.routes.at(service).filter(|known| self.binds(*known, service, port)) {
            let namespace = known.route.metadata().namespace.as_str();
            let bound = if namespace == &*service.namespace {
                &mut producers
            } else {
                consumers.entry(namespace).or_default()
            };
            let is_http = known.route.is_http();
            if is_http { &mut bound.http } else { &mut bound.opaque }.push(known);
        }
        let producers = producers.in_force();
        let context = http::At { index: self, service, own, port };
        let of_all = context.routes(&producers.http, &producers.opaque);
        let of_consumer = |(namespace, own): (&str, Bound<'_>)| {
            let instead = |own: Vec<_>, others: &[_]| {
                if own.is_empty() { others.to_vec() } else { own }
            };
            let own = own.in_force();
            let http = instead(own.http, &producers.http);
            let opaque = instead(own.opaque, &producers.opaque);
            (Arc::from(namespace), context.routes(&http, &opaque).unwrap_or_default())
        };
        let consumers = consumers.into_iter().map(of_consumer).collect();
        PortRoutes { of_all, consumers }
    }
}

/// How the bytes of each port of a service are to be read.
fn protocols(built: &BuiltService) -> BTreeMap<Port, Protocol> {
    built.ports.iter().map(|(number, port)| (*number, port.declaration.protocol())).collect()
}

/// As whom the control plane speaks in a route's status.
pub const CONTROLLER: &str = "weft.dev/control-plane";

/// Whether an entry of a route's status is the control plane's own.
#[must_use]
pub fn is_own(status: &ParentStatus) -> bool {
    status.controller_name == CONTROLLER
}

#[cfg(test)]
mod tests;
