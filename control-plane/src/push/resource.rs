//! What a proxy may ask for, parsed from the key it sends.

use std::fmt;

use weft_proto::{
    ServicePort,
    discovery::{ResourceKey, ResourceKind},
};

/// Longer than any name that a destination can have ("HOST:PORT").
const MAX_NAME_BYTES: usize = 512;

/// A key, ordered so that it can be kept in sets: the few resources that every proxy needs come first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    kind: i32,
    name: String,
}

/// What a key means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Resource {
    Mesh,
    Trust,
    Inbound,
    Target(String),
    Service(ServicePort),
    /// Of a kind that is not known here, or with a name that nothing can have: there is no such resource.
    Unknown,
}

impl Key {
    pub(super) const TRUST: Self = Self { kind: ResourceKind::Trust as i32, name: String::new() };
    pub(super) const INBOUND: Self =
        Self { kind: ResourceKind::Inbound as i32, name: String::new() };

    pub(super) fn service(port: &ServicePort) -> Self {
        Self { kind: ResourceKind::Service as i32, name: port.to_string() }
    }

    pub(super) fn message(&self) -> ResourceKey {
        ResourceKey { kind: self.kind, name: self.name.clone() }
    }

    pub(super) fn resource(&self) -> Resource {
        let kind = ResourceKind::try_from(self.kind).unwrap_or(ResourceKind::Unspecified);
        match kind {
            ResourceKind::Mesh if self.name.is_empty() => Resource::Mesh,
            ResourceKind::Trust if self.name.is_empty() => Resource::Trust,
            ResourceKind::Inbound if self.name.is_empty() => Resource::Inbound,
            ResourceKind::Target => Resource::Target(self.name.clone()),
            ResourceKind::Service => self.name.parse().map_or(Resource::Unknown, Resource::Service),
            ResourceKind::Unspecified
            | ResourceKind::Mesh
            | ResourceKind::Trust
            | ResourceKind::Inbound => Resource::Unknown,
        }
    }

    /// The kind, as operators and metrics name it.
    pub(super) fn kind(&self) -> &'static str {
        kind_name(self.kind)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl TryFrom<ResourceKey> for Key {
    type Error = String;
    fn try_from(key: ResourceKey) -> Result<Self, String> {
        if key.name.len() > MAX_NAME_BYTES {
            return Err(format!("a resource's name is longer than {MAX_NAME_BYTES} bytes"));
        }
        Ok(Self { kind: key.kind, name: key.name })
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.name)
    }
}

fn kind_name(kind: i32) -> &'static str {
    match ResourceKind::try_from(kind) {
        Ok(ResourceKind::Mesh) => "mesh",
        Ok(ResourceKind::Trust) => "trust",
        Ok(ResourceKind::Inbound) => "inbound",
        Ok(ResourceKind::Target) => "target",
        Ok(ResourceKind::Service) => "service",
        Ok(ResourceKind::Unspecified) | Err(_) => "unknown",
    }
}
