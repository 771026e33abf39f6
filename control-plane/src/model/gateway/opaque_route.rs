//! `TCPRoute` and `TLSRoute` (gateway.networking.k8s.io): where opaque connections to a service go; those of a TLS
//! client by the server name that it asks for.
//!
//! Of TCPRoute, v1alpha2 is read, the only version that there is. Of TLSRoute, v1 (Gateway API 1.5) and, alike in all
//! that is used here, v1alpha3 and v1alpha2.

use serde::{Deserialize, Serialize};

use super::{
    check,
    other::Other,
    reference::{BackendRef, ParentRef, check_backends, check_parents},
};
use crate::model::{FieldError, Kind, Metadata, Spec};

/// What a TCPRoute says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TcpRouteSpec {
    /// The services that it routes for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parent_refs: Vec<ParentRef>,
    /// The first takes every connection.
    #[serde(default)]
    pub rules: Vec<OpaqueRule>,
    /// What Weft does not know.
    #[serde(flatten)]
    pub other: Other,
}

/// What a TLSRoute says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsRouteSpec {
    /// The services that it routes for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parent_refs: Vec<ParentRef>,
    /// Server names; none: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<String>,
    /// The first takes every connection with such a name.
    #[serde(default)]
    pub rules: Vec<OpaqueRule>,
    /// What Weft does not know.
    #[serde(flatten)]
    pub other: Other,
}

/// Where connections go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpaqueRule {
    /// Its name, for policies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// By weight.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backend_refs: Vec<BackendRef>,
    /// What Weft does not know.
    #[serde(flatten)]
    pub other: Other,
}

impl OpaqueRule {
    /// What of the rule has no support.
    pub(super) fn unsupported(&self, at: &str) -> Vec<FieldError> {
        let mut found = Vec::new();
        self.other.name(at, &mut found);
        for (index, backend) in self.backend_refs.iter().enumerate() {
            backend.name_unsupported_bare(&format!("{at}.backendRefs[{index}]"), &mut found);
        }
        found
    }
}

fn check_rules(rules: &[OpaqueRule]) -> Result<(), FieldError> {
    check::not_empty("spec.rules", rules.len())?;
    check::at_most("spec.rules", rules.len(), 16)?;
    check::rule_names(rules.iter().map(|rule| rule.name.as_deref()))?;
    for (index, rule) in rules.iter().enumerate() {
        let at = format!("spec.rules[{index}]");
        check::not_empty(&format!("{at}.backendRefs"), rule.backend_refs.len())?;
        check_backends(&at, &rule.backend_refs)?;
    }
    Ok(())
}

impl Spec for TcpRouteSpec {
    const KIND: Kind = Kind::TCPRoute;

    fn validate(&self, _: &Metadata) -> Result<(), FieldError> {
        check_parents(&self.parent_refs)?;
        check_rules(&self.rules)
    }
}

impl Spec for TlsRouteSpec {
    const KIND: Kind = Kind::TLSRoute;

    fn validate(&self, _: &Metadata) -> Result<(), FieldError> {
        check_parents(&self.parent_refs)?;
        check::hostnames(&self.hostnames)?;
        check_rules(&self.rules)
    }
}
