//! How lists and maps are merged: as a whole, as sets, or item by item under keys.
//!
//! In comes a kind and the path of a field, out goes [`Merging`]. Built-in kinds are looked up in a table of those
//! fields that Weft and its tests meet; custom ones say it in their schemas (`x-kubernetes-list-type` …).

use serde_json::Value;

use super::{
    kinds::{Kind, Shape},
    ownership::path::Step,
};

/// How the value of a field is merged and owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Merging {
    /// As a whole, by whoever wrote it last.
    Atomic,
    /// A map by its fields.
    Fields,
    /// A list of scalars, each by itself.
    Set,
    /// A list of items, each by the values of these fields.
    Keyed(Vec<String>),
}

/// How the value at a path is merged.
#[must_use]
pub fn merging(kind: &Kind, path: &[Step], value: &Value) -> Merging {
    match (value, in_metadata(path), &kind.shape) {
        (Value::Object(_) | Value::Array(_), false, Shape::Schema(schema)) => {
            by_schema(schema, path, value)
        }
        (Value::Object(_), ..) => built_in_map(path),
        (Value::Array(_), ..) => built_in_list(path),
        _ => Merging::Atomic,
    }
}

/// The value of an item's key field, which may be defaulted.
#[must_use]
pub fn key_value(item: &Value, key: &str) -> Value {
    match (&item[key], key) {
        (Value::Null, "protocol") => Value::String("TCP".to_owned()),
        (value, _) => value.clone(),
    }
}

fn in_metadata(path: &[Step]) -> bool {
    matches!(path.first(), Some(Step::Field(first)) if first == "metadata")
}

fn field(path: &[Step], from_end: usize) -> &str {
    let fields = path.iter().rev().filter_map(|step| match step {
        Step::Field(name) => Some(name.as_str()),
        Step::Item(_) | Step::Value(_) => None,
    });
    fields.into_iter().nth(from_end).unwrap_or_default()
}

fn built_in_map(path: &[Step]) -> Merging {
    match field(path, 0) {
        "selector" | "nodeSelector" | "namespaceSelector" | "objectSelector" | "podSelector"
        | "labelSelector" | "roleRef" | "fieldRef" | "configMapKeyRef" | "secretKeyRef"
        | "resourceFieldRef" | "targetRef" | "openAPIV3Schema" => Merging::Atomic,
        _ => Merging::Fields,
    }
}

fn built_in_list(path: &[Step]) -> Merging {
    let keys: &[&str] = match (field(path, 1), field(path, 0)) {
        ("metadata", "finalizers") => return Merging::Set,
        ("containers" | "initContainers" | "ephemeralContainers", "ports") => {
            &["containerPort", "protocol"]
        }
        ("spec", "ports") => &["port", "protocol"],
        (
            _,
            "containers"
            | "initContainers"
            | "ephemeralContainers"
            | "env"
            | "volumes"
            | "imagePullSecrets"
            | "secrets"
            | "webhooks"
            | "versions",
        ) => &["name"],
        (_, "volumeMounts") => &["mountPath"],
        (_, "conditions") => &["type"],
        (_, "podIPs" | "hostIPs" | "hostAliases") => &["ip"],
        ("metadata", "ownerReferences") => &["uid"],
        (_, "topologySpreadConstraints") => &["topologyKey", "whenUnsatisfiable"],
        _ => return Merging::Atomic,
    };
    Merging::Keyed(keys.iter().map(|&key| key.to_owned()).collect())
}

fn by_schema(schema: &Value, path: &[Step], value: &Value) -> Merging {
    let found = path.iter().fold(schema, |schema, step| match step {
        Step::Field(name) if !schema["properties"][name].is_null() => &schema["properties"][name],
        Step::Field(_) => &schema["additionalProperties"],
        Step::Item(_) | Step::Value(_) => &schema["items"],
    });
    if value.is_object() {
        let atomic = found["x-kubernetes-map-type"] == "atomic";
        return if atomic { Merging::Atomic } else { Merging::Fields };
    }
    match found["x-kubernetes-list-type"].as_str() {
        Some("set") => Merging::Set,
        Some("map") => {
            let keys = found["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
            Merging::Keyed(keys.filter_map(Value::as_str).map(str::to_owned).collect())
        }
        _ => Merging::Atomic,
    }
}
