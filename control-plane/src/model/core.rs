//! Core kinds of which only the name counts: namespaces and service accounts.

use serde::{Deserialize, Serialize};

use super::{
    kinds::Kind,
    metadata::{Metadata, bad_name},
    object::{FieldError, Spec},
};

/// A namespace has no fields that Weft uses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceSpec {}

impl Spec for NamespaceSpec {
    const KIND: Kind = Kind::Namespace;

    fn validate(&self, metadata: &Metadata) -> Result<(), FieldError> {
        if weft_proto::names::is_label(&metadata.name) {
            return Ok(());
        }
        Err(bad_name("metadata.name", &metadata.name))
    }
}

/// A service account has no fields that Weft uses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceAccountSpec {}

impl Spec for ServiceAccountSpec {
    const KIND: Kind = Kind::ServiceAccount;

    fn validate(&self, _: &Metadata) -> Result<(), FieldError> {
        Ok(())
    }
}
