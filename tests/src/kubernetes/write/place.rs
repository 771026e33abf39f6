//! Whether a write is meant for the object, version and namespace that it meets.
//!
//! In come the path, the body and what is there, out go refusals. Nothing else is looked at.

use serde_json::{Value, json};

use super::Write;
use crate::kubernetes::{
    failure::Failure,
    kinds::{Kind, built_in},
    store::Store,
};

impl Write<'_> {
    /// Name and namespace in the body must be the path's.
    pub(super) fn check_identity(self, object: &Value) -> Result<(), Failure> {
        let target = &self.asked.target;
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        if !name.is_empty() && name != target.name {
            return Err(Failure::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                target.name
            )));
        }
        self.check_namespace(object)
    }

    pub(super) fn check_namespace(self, object: &Value) -> Result<(), Failure> {
        let said = object["metadata"]["namespace"].as_str().unwrap_or_default();
        if said.is_empty() || !self.kind.namespaced || said == self.asked.target.namespace {
            return Ok(());
        }
        Err(Failure::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ))
    }

    /// A version or uid in the body must be the object's.
    pub(super) fn check_version(self, before: &Value, object: &Value) -> Result<(), Failure> {
        let text = |object: &Value, name: &str| {
            object["metadata"][name].as_str().unwrap_or_default().to_owned()
        };
        let name = &self.asked.target.name;
        let (version, uid) = (text(object, "resourceVersion"), text(object, "uid"));
        if !uid.is_empty() && uid != text(before, "uid") {
            let why = format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                text(before, "uid")
            );
            return Err(Failure::conflict(self.kind, name, &why));
        }
        if !version.is_empty() && version != text(before, "resourceVersion") {
            return Err(Failure::modified(self.kind, name));
        }
        Ok(())
    }
}

/// Kinds whose updates must say which version they replace.
pub(super) fn must_name_version(kind: &Kind) -> bool {
    kind.is_custom()
        || matches!(
            kind.qualified().as_str(),
            "leases.coordination.k8s.io"
                | "customresourcedefinitions.apiextensions.k8s.io"
                | "mutatingwebhookconfigurations.admissionregistration.k8s.io"
        )
}

/// An object's namespace must be there, and not on its way out.
pub(super) fn in_open_namespace(
    store: &Store,
    kind: &Kind,
    namespace: &str,
    object: &Value,
) -> Result<(), Failure> {
    if !kind.namespaced {
        return Ok(());
    }
    let found = store
        .find("namespaces", "", namespace)
        .ok_or_else(|| Failure::not_found(&built_in("namespaces"), namespace))?;
    if !found["metadata"]["deletionTimestamp"].is_string() {
        return Ok(());
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let why = format!(
        "unable to create new content in namespace {namespace} because it is being terminated"
    );
    let mut failure = Failure::forbidden(kind, name, &why);
    failure.details["causes"] = json!([{
        "reason": "NamespaceTerminating", "field": "metadata.namespace",
        "message": format!("namespace {namespace} is being terminated"),
    }]);
    Err(failure)
}
