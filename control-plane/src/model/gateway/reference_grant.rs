//! `ReferenceGrant` (gateway.networking.k8s.io, v1beta1 and v1): which routes of other namespaces may send requests to
//! services of this one.

use serde::{Deserialize, Serialize};

use super::{GROUP, check, other::Other};
use crate::model::{FieldError, Kind, Metadata, Spec};

/// What a ReferenceGrant says: each of `from` may refer to each of `to`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReferenceGrantSpec {
    /// Who.
    #[serde(default)]
    pub from: Vec<GrantFrom>,
    /// To what in the grant's namespace.
    #[serde(default)]
    pub to: Vec<GrantTo>,
    /// What Weft does not know.
    #[serde(flatten)]
    pub other: Other,
}

/// The objects of one kind in a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantFrom {
    /// "gateway.networking.k8s.io" for routes.
    pub group: String,
    /// "HTTPRoute".
    pub kind: String,
    /// Theirs.
    pub namespace: String,
    /// What Weft does not know.
    #[serde(flatten)]
    pub other: Other,
}

/// The objects of one kind, or one of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantTo {
    /// "" for core.
    pub group: String,
    /// "Service".
    pub kind: String,
    /// Absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What Weft does not know.
    #[serde(flatten)]
    pub other: Other,
}

impl ReferenceGrantSpec {
    /// Whether a route of this kind and namespace may refer to this object of the grant's namespace. An entry with
    /// fields that are not known grants nothing: they might narrow it.
    #[must_use]
    pub fn allows(&self, route: (Kind, &str), to: (&str, &str, &str)) -> bool {
        let (kind, namespace) = route;
        let (group, to_kind, name) = to;
        let from = self.from.iter().any(|from| {
            (from.group.as_str(), from.kind.as_str()) == (GROUP, kind.info().name)
                && from.namespace == namespace
                && from.other == Other::default()
        });
        let to = self.to.iter().any(|to| {
            (to.group.as_str(), to.kind.as_str()) == (group, to_kind)
                && to.name.as_deref().is_none_or(|only| only.is_empty() || only == name)
                && to.other == Other::default()
        });
        from && to && self.other == Other::default()
    }

    /// What of it has no support.
    #[must_use]
    pub fn unsupported(&self) -> Vec<FieldError> {
        let mut found = Vec::new();
        self.other.name("spec", &mut found);
        for (index, from) in self.from.iter().enumerate() {
            from.other.name(&format!("spec.from[{index}]"), &mut found);
        }
        for (index, to) in self.to.iter().enumerate() {
            to.other.name(&format!("spec.to[{index}]"), &mut found);
        }
        found
    }
}

impl Spec for ReferenceGrantSpec {
    const KIND: Kind = Kind::ReferenceGrant;

    fn validate(&self, _: &Metadata) -> Result<(), FieldError> {
        check::not_empty("spec.from", self.from.len())?;
        check::at_most("spec.from", self.from.len(), 16)?;
        check::not_empty("spec.to", self.to.len())?;
        check::at_most("spec.to", self.to.len(), 16)?;
        for (index, from) in self.from.iter().enumerate() {
            check::name(&format!("spec.from[{index}].namespace"), &from.namespace)?;
        }
        Ok(())
    }
}
