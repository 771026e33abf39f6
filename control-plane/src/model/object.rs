//! What every object has, by the Kubernetes API's conventions: metadata, a spec, a status with conditions.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    crd::{Column, Rule},
    gateway::reference::ParentRef,
    kinds::{Kind, Scope},
    metadata::Metadata,
};

/// A field whose value is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct FieldError {
    /// Its path, `spec.ports[0].port`.
    pub field: String,
    /// The value, and what would be right.
    pub message: String,
}

impl FieldError {
    /// An error at a field.
    #[must_use]
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// The part of an object that the operator writes.
pub trait Spec: Clone + fmt::Debug + Default + PartialEq + Serialize + DeserializeOwned {
    /// Whose spec it is.
    const KIND: Kind;
    /// What `kubectl get` shows of it, beside what it shows of every kind.
    const COLUMNS: &'static [Column] = &[];
    /// What of `validate` needs the metadata, as CEL.
    const RULES: &'static [Rule] = &[];

    /// Checks what no single field's type can: names, duplicates, fields that exclude each other.
    ///
    /// # Errors
    /// Names the field, the value and what would be right.
    fn validate(&self, metadata: &Metadata) -> Result<(), FieldError>;
}

/// An object of one kind.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resource<S> {
    /// Its name, labels, versions.
    pub metadata: Metadata,
    /// What the operator wants.
    pub spec: S,
    /// What the control plane says.
    pub status: Status,
}

impl<S: Spec> Resource<S> {
    /// The whole object as JSON, Kubernetes-shaped.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let info = S::KIND.info();
        let mut json = serde_json::json!({
            "apiVersion": info.api_version,
            "kind": info.name,
            "metadata": self.metadata,
        });
        // A kind without fields of its own (Namespace) has no spec, a fresh object no status.
        for (field, value) in [
            ("spec", serde_json::to_value(&self.spec)),
            ("status", serde_json::to_value(&self.status)),
        ] {
            let value = value.unwrap_or_default();
            if value.as_object().is_some_and(|map| !map.is_empty()) {
                json[field] = value;
            }
        }
        json
    }
}

/// Which object: kind, namespace, name. Its text is "KIND NAMESPACE/NAME".
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// The kind.
    pub kind: Kind,
    /// Empty for kinds of the whole mesh.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ObjectKey {
    /// The key of an object in a namespace; the namespace is dropped for kinds of the whole mesh.
    #[must_use]
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        let namespace = match kind.info().scope {
            Scope::Namespaced => namespace.to_owned(),
            Scope::Mesh => String::new(),
        };
        Self { kind, namespace, name: name.to_owned() }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind, self.name)
        } else {
            write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
        }
    }
}

/// Whether an object took effect.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Status {
    /// One a type, sorted by type.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Of a route: what each of its parents' controllers says of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    pub parents: Vec<ParentStatus>,
}

/// What a controller says of a route at one of its parents (gateway.networking.k8s.io, RouteParentStatus).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentStatus {
    /// Which parent, as the route names it.
    pub parent_ref: ParentRef,
    /// Who says it.
    pub controller_name: String,
    /// One a type, sorted by type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// Kubernetes' metav1.Condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What it is about: `Accepted`, `ResolvedRefs`, `Programmed`.
    pub r#type: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// A fixed word, CamelCase.
    pub reason: String,
    /// For people.
    #[serde(default)]
    pub message: String,
    /// The generation that this was said of.
    #[serde(default)]
    pub observed_generation: u64,
    /// RFC 3339: when `status` last changed.
    #[serde(default)]
    #[schemars(extend("format" = "date-time"))]
    pub last_transition_time: String,
}

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "they say it themselves")]
pub enum ConditionStatus {
    True,
    False,
    Unknown,
}
