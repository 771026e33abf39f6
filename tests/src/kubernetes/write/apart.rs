//! What each path may write: the object's own leaves status alone, `/status` everything else.
//!
//! In come an object as it is and as it was sent, out goes what of the latter counts. What is applied is cut down in
//! the same way, as nobody owns what their path does not write.

use serde_json::{Value, json};

use crate::kubernetes::kinds::Kind;

/// What a Service was given and keeps when an update leaves it out.
const ALLOCATED: &[&str] =
    &["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "healthCheckNodePort"];

/// Leaves of a change only what its path is for.
pub(super) fn keep_apart(kind: &Kind, subresource: &str, before: &Value, after: &mut Value) {
    match subresource {
        "" => {
            if kind.has_status {
                keep(before, after, "status");
            }
            if kind.is("services") && after["spec"]["type"] == before["spec"]["type"] {
                keep_allocated(before, after);
            }
        }
        subresource => {
            let sent = std::mem::replace(after, before.clone());
            match subresource {
                "finalize" => after["spec"]["finalizers"] = sent["spec"]["finalizers"].clone(),
                _ => after["status"] = sent["status"].clone(),
            }
            if kind.is("pods") {
                for field in ["labels", "annotations"] {
                    after["metadata"][field] = sent["metadata"][field].clone();
                }
            }
            after["metadata"]["managedFields"] = sent["metadata"]["managedFields"].clone();
        }
    }
}

fn keep(before: &Value, after: &mut Value, field: &str) {
    match before.get(field) {
        Some(value) => after[field] = value.clone(),
        None => {
            after.as_object_mut().map(|fields| fields.remove(field));
        }
    }
}

fn keep_allocated(before: &Value, after: &mut Value) {
    for &field in ALLOCATED {
        if after["spec"][field].is_null() && !before["spec"][field].is_null() {
            after["spec"][field] = before["spec"][field].clone();
        }
    }
}

/// Cuts what is applied down to what its path writes.
pub(super) fn only_written(kind: &Kind, subresource: &str, applied: &mut Value) {
    let Value::Object(fields) = applied else { return };
    if subresource.is_empty() {
        if kind.has_status {
            fields.remove("status");
        }
        return;
    }
    fields.retain(|name, _| matches!(name.as_str(), "apiVersion" | "kind" | "metadata" | "status"));
    let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
    let identity = |name: &str| matches!(name, "name" | "namespace" | "uid" | "resourceVersion");
    if let Value::Object(metadata) = metadata {
        metadata.retain(|name, _| identity(name));
    }
}
