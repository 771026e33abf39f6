//! A service port's content as it travels, built once per change and shared by all streams.
//!
//! Its version is the sum of the digests of the declaration and of every endpoint, so that a difference of
//! the content is a difference of the sum, whatever the order.

use std::{collections::BTreeMap, sync::Arc};

use weft_proto::discovery::Service;

use crate::index::{HeldEndpoint, ServiceView};

/// A service port with its endpoints.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceContent {
    /// All of it but the endpoints.
    pub service: Arc<Service>,
    /// The digest of that.
    pub service_digest: u64,
    /// The ready endpoints by id.
    pub endpoints: BTreeMap<Arc<str>, HeldEndpoint>,
    /// The digest of all of it.
    pub digest: u64,
}

impl From<ServiceView<'_>> for ServiceContent {
    fn from(view: ServiceView<'_>) -> Self {
        Self {
            service: Arc::clone(view.declaration),
            service_digest: view.declared,
            endpoints: view.endpoints.clone(),
            digest: view.digest,
        }
    }
}

/// The digest of a service with some endpoints.
pub(super) fn digest_of(service_digest: u64, endpoints: impl Iterator<Item = u64>) -> u64 {
    endpoints.fold(service_digest, u64::wrapping_add)
}
