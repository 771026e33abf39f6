//! EndpointSlices in every state, without a controller: what a test says of each endpoint.
//!
//! In come wishes, out go slices that are so. They are said to be the harness's, so that no controller takes them for
//! its own; where one is at work it adds its own for Services with a selector, so Services of tests that count
//! endpoints have none.

use std::net::IpAddr;

use k8s_openapi::api::{
    core::v1::ObjectReference,
    discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
};
use kube::api::{DeleteParams, ObjectMeta};

use super::{Cluster, MANAGER};

/// What a slice is to be like.
#[derive(Debug, Clone, Default)]
pub struct SliceWish {
    /// Its name.
    pub name: String,
    /// The Service whose endpoints it holds.
    pub service: String,
    /// Its ports: name, number, and what is spoken there (`appProtocol`).
    pub ports: Vec<(String, u16, Option<String>)>,
    /// Its endpoints, all of one family.
    pub endpoints: Vec<EndpointWish>,
}

/// What an endpoint is to be like.
#[derive(Debug, Clone)]
pub struct EndpointWish {
    /// Its address, which may not be loopback's.
    pub address: IpAddr,
    /// Whether it takes new connections.
    pub ready: bool,
    /// Whether it serves, on its way out or not.
    pub serving: bool,
    /// Whether it is on its way out.
    pub terminating: bool,
    /// The pod behind it.
    pub pod: Option<String>,
    /// The node that it runs on.
    pub node: Option<String>,
    /// The zone that it is in.
    pub zone: Option<String>,
    /// Its own name, as pods of a StatefulSet have one.
    pub hostname: Option<String>,
}

impl SliceWish {
    /// A slice of a Service.
    #[must_use]
    pub fn of(service: &str, name: &str) -> Self {
        Self { name: name.to_owned(), service: service.to_owned(), ..Self::default() }
    }

    /// With a port.
    #[must_use]
    pub fn port(mut self, name: &str, number: u16) -> Self {
        self.ports.push((name.to_owned(), number, None));
        self
    }

    /// With an endpoint.
    #[must_use]
    pub fn endpoint(mut self, endpoint: EndpointWish) -> Self {
        self.endpoints.push(endpoint);
        self
    }

    /// The slice, as it is sent to the API.
    #[must_use]
    pub fn to_slice(&self) -> EndpointSlice {
        let labels = [
            ("kubernetes.io/service-name", self.service.as_str()),
            ("endpointslice.kubernetes.io/managed-by", MANAGER),
        ];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let ports = self.ports.iter().map(|(name, number, protocol)| EndpointPort {
            name: Some(name.clone()),
            port: Some(i32::from(*number)),
            protocol: Some("TCP".to_owned()),
            app_protocol: protocol.clone(),
        });
        let is_v6 = self.endpoints.first().is_some_and(|endpoint| endpoint.address.is_ipv6());
        EndpointSlice {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                labels: Some(labels.into()),
                ..ObjectMeta::default()
            },
            address_type: if is_v6 { "IPv6" } else { "IPv4" }.to_owned(),
            ports: Some(ports.collect()),
            endpoints: self.endpoints.iter().map(EndpointWish::to_endpoint).collect(),
        }
    }
}

impl EndpointWish {
    /// An endpoint that is ready.
    #[must_use]
    pub const fn ready(address: IpAddr) -> Self {
        Self {
            address,
            ready: true,
            serving: true,
            terminating: false,
            pod: None,
            node: None,
            zone: None,
            hostname: None,
        }
    }

    /// One that is not ready yet, or no more.
    #[must_use]
    pub const fn unready(mut self) -> Self {
        self.ready = false;
        self.serving = false;
        self
    }

    /// One on its way out that still serves.
    #[must_use]
    pub const fn terminating(mut self) -> Self {
        self.ready = false;
        self.terminating = true;
        self
    }

    /// Of this pod.
    #[must_use]
    pub fn pod(mut self, name: &str) -> Self {
        self.pod = Some(name.to_owned());
        self
    }

    /// On this node, in this zone.
    #[must_use]
    pub fn on(mut self, node: &str, zone: &str) -> Self {
        self.node = Some(node.to_owned());
        self.zone = Some(zone.to_owned());
        self
    }

    fn to_endpoint(&self) -> Endpoint {
        Endpoint {
            addresses: vec![self.address.to_string()],
            conditions: Some(EndpointConditions {
                ready: Some(self.ready),
                serving: Some(self.serving),
                terminating: Some(self.terminating),
            }),
            target_ref: self.pod.as_ref().map(|name| ObjectReference {
                kind: Some("Pod".to_owned()),
                name: Some(name.clone()),
                ..ObjectReference::default()
            }),
            hostname: self.hostname.clone(),
            node_name: self.node.clone(),
            zone: self.zone.clone(),
            ..Endpoint::default()
        }
    }
}

impl Cluster {
    /// Writes a slice as wished, new or not.
    ///
    /// # Panics
    /// When it is refused, as it is for loopback addresses.
    pub async fn slice(&self, namespace: &str, wish: &SliceWish) -> EndpointSlice {
        let mut slice = wish.to_slice();
        for endpoint in &mut slice.endpoints {
            if let Some(pod) = &mut endpoint.target_ref {
                pod.namespace = Some(namespace.to_owned());
            }
        }
        self.apply_slice(namespace, &slice).await
    }

    /// Deletes a slice.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn delete_slice(&self, namespace: &str, name: &str) {
        let slices: kube::Api<EndpointSlice> = self.objects(namespace);
        let deleted = slices.delete(name, &DeleteParams::default()).await;
        deleted.unwrap_or_else(|error| panic!("deletion of slice {namespace}/{name}: {error}"));
    }
}
