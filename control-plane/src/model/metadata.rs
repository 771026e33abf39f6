//! An object's metadata: Kubernetes' ObjectMeta, as far as it is used. Every other field of ObjectMeta is
//! known and dropped, so that a misspelt one is still refused.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::IgnoredAny};
use weft_proto::names::{is_label, is_subdomain};

use super::{
    kinds::{KindInfo, Scope},
    object::FieldError,
};

/// The namespace of an object that names none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// What every object says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", from = "Written")]
pub struct Metadata {
    /// The object's name, unique within its kind and namespace.
    pub name: String,
    /// Empty for kinds of the whole mesh.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// What selectors match.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Notes that nothing selects by.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Differs for each state of the object; opaque to all but the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    /// Counts the changes of the spec.
    #[serde(skip_serializing_if = "is_zero")]
    pub generation: u64,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<String>,
    /// Tells an object from a later one of the same name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

impl Metadata {
    /// Gives the namespace its default and checks the names by the kind's rules.
    pub(super) fn complete(&mut self, kind: &KindInfo) -> Result<(), FieldError> {
        if !is_subdomain(&self.name) {
            return Err(bad_name("metadata.name", &self.name));
        }
        check_keys("metadata.labels", &self.labels)?;
        check_keys("metadata.annotations", &self.annotations)?;
        match kind.scope {
            Scope::Mesh => self.namespace.clear(),
            Scope::Namespaced if self.namespace.is_empty() => {
                DEFAULT_NAMESPACE.clone_into(&mut self.namespace);
            }
            Scope::Namespaced if !is_label(&self.namespace) => {
                return Err(bad_name("metadata.namespace", &self.namespace));
            }
            Scope::Namespaced => {}
        }
        Ok(())
    }
}

pub(super) fn bad_name(field: &str, value: &str) -> FieldError {
    let rule = "use 1 to 63 lower-case letters, digits and '-', beginning and ending with a letter or digit";
    FieldError::new(field, format!("{value:?} is not a valid name: {rule}"))
}

/// Checks that the keys of labels, annotations or a selector are Kubernetes' qualified names.
pub(super) fn check_keys(field: &str, map: &BTreeMap<String, String>) -> Result<(), FieldError> {
    let Some(key) = map.keys().find(|key| !is_qualified_name(key)) else { return Ok(()) };
    let rule = "use NAME or PREFIX/NAME, the name of 1 to 63 letters, digits, '-', '_' and '.'";
    Err(FieldError::new(field, format!("{key:?} is not a valid key: {rule}")))
}

/// A name that begins and ends with a letter or digit, perhaps behind a DNS subdomain and a slash.
fn is_qualified_name(text: &str) -> bool {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    let ends_well = |end: Option<&u8>| end.is_some_and(u8::is_ascii_alphanumeric);
    prefix.is_none_or(is_subdomain)
        && name.len() <= 63
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && ends_well(name.as_bytes().first())
        && ends_well(name.as_bytes().last())
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Metadata as people and `kubectl` write it. `null` stands for an absent field, as in Kubernetes.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    name: String,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    resource_version: Option<String>,
    #[serde(default)]
    generation: Option<u64>,
    #[serde(default)]
    creation_timestamp: Option<String>,
    #[serde(default)]
    uid: Option<String>,
    #[serde(default, rename = "generateName")]
    _generate_name: IgnoredAny,
    #[serde(default, rename = "selfLink")]
    _self_link: IgnoredAny,
    #[serde(default, rename = "managedFields")]
    _managed_fields: IgnoredAny,
    #[serde(default, rename = "ownerReferences")]
    _owner_references: IgnoredAny,
    #[serde(default, rename = "finalizers")]
    _finalizers: IgnoredAny,
    #[serde(default, rename = "deletionTimestamp")]
    _deletion_timestamp: IgnoredAny,
    #[serde(default, rename = "deletionGracePeriodSeconds")]
    _deletion_grace_period_seconds: IgnoredAny,
}

impl From<Written> for Metadata {
    fn from(written: Written) -> Self {
        Self {
            name: written.name,
            namespace: written.namespace.unwrap_or_default(),
            labels: written.labels.unwrap_or_default(),
            annotations: written.annotations.unwrap_or_default(),
            resource_version: written.resource_version,
            generation: written.generation.unwrap_or_default(),
            creation_timestamp: written.creation_timestamp,
            uid: written.uid,
        }
    }
}
