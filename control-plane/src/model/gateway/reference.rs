//! What a route refers to: the services that it routes for (its parents), and where requests go (backends).

use serde::{Deserialize, Serialize};
use weft_proto::{Port, ServiceName};

use super::{
    GROUP, check,
    filter::Filter,
    other::{Other, unsupported},
};
use crate::model::{FieldError, kinds::WEFT_GROUP};

/// The most a backend can weigh.
const MOST_WEIGHT: i64 = 1_000_000;

/// What a route attaches to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentRef {
    /// "" for core; by default the Gateway API's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// By default `Gateway`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// By default the route's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Which.
    pub name: String,
    /// A port's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
    /// A port's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<Port>,
    /// What Weft does not know.
    #[serde(flatten)]
    pub other: Other,
}

impl ParentRef {
    /// Its group and kind, as written or by default.
    #[must_use]
    pub fn group_kind(&self) -> (&str, &str) {
        (self.group.as_deref().unwrap_or(GROUP), self.kind.as_deref().unwrap_or("Gateway"))
    }

    /// Whether it is a service, of the mesh or outside: another's kinds are another's to answer for.
    #[must_use]
    pub fn is_service(&self) -> bool {
        is_service(self.group_kind())
    }

    /// Whether it is one outside the mesh.
    #[must_use]
    pub fn is_external(&self) -> bool {
        is_external(self.group_kind())
    }

    /// The service, for a route in this namespace.
    #[must_use]
    pub fn service(&self, namespace: &str) -> ServiceName {
        let namespace = self.namespace.as_deref().unwrap_or(namespace);
        ServiceName { namespace: namespace.into(), name: self.name.as_str().into() }
    }

    /// What of it has no support.
    #[must_use]
    pub fn unsupported(&self, at: &str) -> Vec<FieldError> {
        let mut found = Vec::new();
        self.other.name(at, &mut found);
        found
    }
}

/// Checks a route's parents.
pub(super) fn check_parents(parents: &[ParentRef]) -> Result<(), FieldError> {
    check::at_most("spec.parentRefs", parents.len(), 32)?;
    for (index, parent) in parents.iter().enumerate() {
        let at = format!("spec.parentRefs[{index}]");
        check::name(&format!("{at}.name"), &parent.name)?;
        if let Some(namespace) = &parent.namespace {
            check::name(&format!("{at}.namespace"), namespace)?;
        }
        if let Some(section) = &parent.section_name {
            check::name(&format!("{at}.sectionName"), section)?;
        }
        let place = |one: &ParentRef| (one.section_name.clone(), one.port);
        for earlier in &parents[..index] {
            let alike = earlier.group_kind() == parent.group_kind()
                && (&earlier.namespace, &earlier.name) == (&parent.namespace, &parent.name);
            if alike && place(earlier) == place(parent) {
                let name = &parent.name;
                let message =
                    format!("{name:?} stands twice: tell them apart by sectionName or port");
                return Err(FieldError::new(at, message));
            }
        }
    }
    Ok(())
}

/// Where requests go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendRef {
    /// By default "", core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// By default `Service`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// By default the route's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Which.
    pub name: String,
    /// The service's port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<Port>,
    /// Its share among its siblings; by default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weight: Option<i64>,
    /// For requests that go there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    /// What Weft does not know.
    #[serde(flatten)]
    pub other: Other,
}

impl BackendRef {
    /// Its group and kind, as written or by default.
    #[must_use]
    pub fn group_kind(&self) -> (&str, &str) {
        (self.group.as_deref().unwrap_or(""), self.kind.as_deref().unwrap_or("Service"))
    }

    /// Whether it is a service, of the mesh or outside.
    #[must_use]
    pub fn is_service(&self) -> bool {
        is_service(self.group_kind())
    }

    /// Whether it is one outside the mesh.
    #[must_use]
    pub fn is_external(&self) -> bool {
        is_external(self.group_kind())
    }

    /// The service, for a route in this namespace.
    #[must_use]
    pub fn service(&self, namespace: &str) -> ServiceName {
        let namespace = self.namespace.as_deref().unwrap_or(namespace);
        ServiceName { namespace: namespace.into(), name: self.name.as_str().into() }
    }

    /// Its share among its siblings.
    #[must_use]
    pub fn weight(&self) -> u32 {
        self.weight.and_then(|weight| u32::try_from(weight).ok()).unwrap_or(1)
    }

    pub(super) fn check(&self, at: &str) -> Result<(), FieldError> {
        check::name(&format!("{at}.name"), &self.name)?;
        if let Some(namespace) = &self.namespace {
            check::name(&format!("{at}.namespace"), namespace)?;
        }
        if let Some(weight) = self.weight {
            check::within(&format!("{at}.weight"), weight, 0, MOST_WEIGHT)?;
        }
        if self.is_service() && self.port.is_none() {
            let message = format!("{:?} has no port: name one of the service's", self.name);
            return Err(FieldError::new(format!("{at}.port"), message));
        }
        Ok(())
    }

    /// Names what of it has no support, beside its filters.
    pub(super) fn name_unsupported(&self, at: &str, found: &mut Vec<FieldError>) {
        self.other.name(at, found);
    }

    /// The same, where filters have no support either.
    pub(super) fn name_unsupported_bare(&self, at: &str, found: &mut Vec<FieldError>) {
        self.other.name(at, found);
        if !self.filters.is_empty() {
            found.push(unsupported(format!("{at}.filters")));
        }
    }
}

/// Checks a rule's backends, but for their filters.
pub(super) fn check_backends(at: &str, backends: &[BackendRef]) -> Result<(), FieldError> {
    check::at_most(&format!("{at}.backendRefs"), backends.len(), 16)?;
    for (index, backend) in backends.iter().enumerate() {
        backend.check(&format!("{at}.backendRefs[{index}]"))?;
    }
    Ok(())
}

fn is_service(group_kind: (&str, &str)) -> bool {
    group_kind == ("", "Service") || is_external(group_kind)
}

fn is_external(group_kind: (&str, &str)) -> bool {
    group_kind == (WEFT_GROUP, "ExternalService")
}
