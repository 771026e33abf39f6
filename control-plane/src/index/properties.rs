//! What must hold of the mesh that any objects make: fuzzed, and run over the corpus by the tests.
//!
//! - The order in which objects come does not matter, and what has gone leaves nothing behind.
//! - A version is the digest of what it is the version of.
//! - Every endpoint is one that a proxy can put in force: see [`check_endpoint`].

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use weft_proto::{
    Port, ServicePort, SpiffeId, TrustDomain, WorkloadName, digest,
    discovery::{self, target::Found},
};

use super::{HeldEndpoint, Index};
use crate::model::{Object, ObjectKey, parse_documents};

/// Checks it for the objects of a file of these bytes.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let parsed = parse_documents("", text).into_iter().flatten();
    // Of several under one name the last one counts.
    let objects: BTreeMap<ObjectKey, Object> =
        parsed.map(|parsed| (parsed.object.key(), parsed.object)).collect();
    let mut at_once = Index::new(TrustDomain::default());
    at_once.apply_all(objects.values());
    let mut one_by_one = Index::new(TrustDomain::default());
    for object in objects.values().rev() {
        one_by_one.apply(object);
    }
    let all = pushed(&at_once);
    assert_eq!(all, pushed(&one_by_one));
    for (port, service) in &all.services {
        check_service(&at_once, port, service);
    }
    for key in objects.keys() {
        at_once.remove(key);
    }
    assert_eq!(pushed(&at_once), pushed(&Index::new(TrustDomain::default())));
    assert!(at_once.memberships.is_empty() && at_once.instances_at.is_empty());
    assert!(at_once.cluster.is_empty() && at_once.routes.is_empty());
    assert!(at_once.policies.is_empty());
    assert!(at_once.hosts.is_empty() && at_once.objects.is_empty());
    assert!(at_once.selectors.is_empty());
}

/// Everything that proxies can be told.
#[derive(Debug, PartialEq)]
pub(crate) struct Pushed {
    mesh: discovery::Mesh,
    services: BTreeMap<ServicePort, Service>,
}

/// One service port.
#[derive(Debug, PartialEq)]
struct Service {
    declaration: discovery::Service,
    endpoints: BTreeMap<Arc<str>, HeldEndpoint>,
    digest: u64,
}

/// What an index tells proxies.
pub(crate) fn pushed(index: &Index) -> Pushed {
    let ports = index.built.iter().flat_map(|(service, built)| {
        built.ports.keys().map(|port| ServicePort { service: service.clone(), port: *port })
    });
    let services = ports.filter_map(|port| {
        let view = index.service(&port)?;
        let (declaration, endpoints) = ((**view.declaration).clone(), view.endpoints.clone());
        Some((port, Service { declaration, endpoints, digest: view.digest }))
    });
    Pushed { services: services.collect(), mesh: index.mesh() }
}

fn check_service(index: &Index, port: &ServicePort, service: &Service) {
    let endpoints = service.endpoints.values();
    let sum = endpoints.fold(digest::of_message(&service.declaration), |sum, held| {
        assert_eq!(held.digest, digest::of_message(&*held.endpoint));
        sum.wrapping_add(held.digest)
    });
    assert_eq!(service.digest, sum, "{port}");
    for (id, held) in &service.endpoints {
        assert_eq!(**id, held.endpoint.id);
        check_endpoint(&held.endpoint);
        let dialled = held.endpoint.address.as_str();
        check_target(index, dialled);
    }
    check_target(index, &format!("{}.{}:{}", port.service.name, port.service.namespace, port.port));
}

/// Checks that an endpoint is one that a proxy can put in force: an address to dial, and identities that
/// must be shown there where a sidecar is.
pub(crate) fn check_endpoint(endpoint: &discovery::Endpoint) {
    let address: SocketAddr = endpoint.address.parse().expect("an address");
    assert!(address.port() != 0 && !address.ip().is_unspecified(), "nobody can dial {address}");
    assert!(Port::try_from(endpoint.app_port).is_ok(), "{endpoint:?}");
    assert!(endpoint.workload.parse::<WorkloadName>().is_ok(), "{endpoint:?}");
    assert!(!endpoint.id.is_empty());
    assert_eq!(endpoint.meshed, !endpoint.identities.is_empty(), "{endpoint:?}");
    assert!(endpoint.identities.iter().all(|id| id.parse::<SpiffeId>().is_ok()), "{endpoint:?}");
}

/// Checks that what a destination stands for exists.
pub(crate) fn check_target(index: &Index, destination: &str) {
    let found = index.target("shop", destination).target.found;
    match found.expect("every destination stands for something, or is not found") {
        Found::Service(port) => {
            let port: ServicePort = port.parse().expect("a service port");
            assert!(index.service(&port).is_some(), "{destination} stands for {port}");
        }
        Found::Endpoint(direct) => {
            check_endpoint(&direct.endpoint.expect("there is one"));
        }
        Found::NotFound(_) | Found::Passthrough(_) => {}
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_of_objects_makes_a_mesh_that_proxies_can_use() {
        crate::replay::corpus("object_yaml", super::check);
    }
}
