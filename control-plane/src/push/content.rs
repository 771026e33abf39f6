//! A service port's content as it travels, with the digests that make it comparable.
//!
//! Comes in: the service and its endpoints. Goes out: an immutable value, built once per change and shared
//! by all streams, whose version is the digest of what it holds.

use std::{collections::BTreeMap, sync::Arc};

use weft_proto::{
    digest,
    discovery::{Endpoint, Service},
};

/// One endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointContent {
    /// As it travels.
    pub endpoint: Arc<Endpoint>,
    /// Its content's digest.
    pub digest: u64,
}

/// A service port with its endpoints.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceContent {
    /// The service itself.
    pub service: Service,
    /// Its digest.
    pub service_digest: u64,
    /// The endpoints by id.
    pub endpoints: BTreeMap<Arc<str>, EndpointContent>,
    /// The digest of all of it.
    pub digest: u64,
}

impl ServiceContent {
    /// Computes the digests.
    #[must_use]
    pub fn new(service: Service, endpoints: impl IntoIterator<Item = Arc<Endpoint>>) -> Self {
        let service_digest = digest::of_message(&service);
        let endpoints: BTreeMap<Arc<str>, EndpointContent> = endpoints
            .into_iter()
            .map(|endpoint| {
                let digest = digest::of_message(&*endpoint);
                (endpoint.id.as_str().into(), EndpointContent { endpoint, digest })
            })
            .collect();
        let digest = digest_of(
            service_digest,
            endpoints.iter().map(|(id, content)| (&**id, content.digest)),
        );
        Self { service, service_digest, endpoints, digest }
    }
}

/// The digest of a service with some endpoints, which come in the order of their ids.
pub(super) fn digest_of<'a>(
    service_digest: u64,
    endpoints: impl Iterator<Item = (&'a str, u64)>,
) -> u64 {
    let mut bytes = service_digest.to_le_bytes().to_vec();
    for (id, digest) in endpoints {
        bytes.extend_from_slice(id.as_bytes());
        // No id holds a zero byte: it ends the id.
        bytes.push(0);
        bytes.extend_from_slice(&digest.to_le_bytes());
    }
    digest::of_bytes(&bytes)
}
