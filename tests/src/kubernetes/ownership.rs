//! Who owns which field: `metadata.managedFields`.
//!
//! In come an object before and after a write and the writer, out goes the list of owners to store with it. A writer
//! that updates takes what it changed; what server-side apply takes is decided in `apply`.

pub mod path;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use self::path::{Fields, fields_of, fields_v1, of_fields_v1, value_at};
use super::{kinds::Kind, metadata::now};

/// Who writes, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The field manager.
    pub manager: String,
    /// `Apply` or `Update`.
    pub operation: &'static str,
    /// The version of the kind that it wrote in.
    pub api_version: String,
    /// `status`, or empty.
    pub subresource: String,
}

/// One entry of `managedFields`.
#[derive(Debug, Clone)]
pub struct Owned {
    /// Whose.
    pub owner: Owner,
    /// When the entry last changed.
    pub time: String,
    /// Which fields.
    pub fields: Fields,
}

/// Reads the entries of an object.
#[must_use]
pub fn owners(object: &Value) -> Vec<Owned> {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    entries
        .map(|entry| {
            let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
            let operation = if entry["operation"] == "Apply" { "Apply" } else { "Update" };
            let owner = Owner {
                manager: text("manager"),
                operation,
                api_version: text("apiVersion"),
                subresource: text("subresource"),
            };
            Owned { owner, time: text("time"), fields: of_fields_v1(&entry["fieldsV1"]) }
        })
        .collect()
}

/// Writes the entries to an object; those that own nothing are left out.
pub fn set_owners(object: &mut Value, owners: &[Owned]) {
    let entries: Vec<Value> = owners
        .iter()
        .filter(|owned| !owned.fields.is_empty())
        .map(|owned| {
            let mut entry = json!({
                "manager": owned.owner.manager, "operation": owned.owner.operation,
                "apiVersion": owned.owner.api_version, "time": owned.time,
                "fieldsType": "FieldsV1", "fieldsV1": fields_v1(&owned.fields),
            });
            if !owned.owner.subresource.is_empty() {
                entry["subresource"] = Value::String(owned.owner.subresource.clone());
            }
            entry
        })
        .collect();
    object["metadata"]["managedFields"] = Value::Array(entries);
}

/// What differs between two states of an object.
#[derive(Debug, Default)]
pub struct Difference {
    /// Fields that are new or have another value.
    pub changed: Fields,
    /// Fields that are gone.
    pub removed: Fields,
}

impl Difference {
    /// Compares two states.
    #[must_use]
    pub fn between(kind: &Kind, before: &Value, after: &Value) -> Self {
        let (old, new) = (fields_of(kind, before), fields_of(kind, after));
        let is_changed = |path: &&path::Path| {
            !old.contains(*path) || value_at(before, path) != value_at(after, path)
        };
        let changed = new.iter().filter(is_changed).cloned().collect();
        Self { changed, removed: old.difference(&new).cloned().collect() }
    }
}

/// The owners after an update: the writer takes what it changed, and nobody owns what is gone.
#[must_use]
pub fn after_update(kind: &Kind, before: &Value, after: &Value, writer: &Owner) -> Vec<Owned> {
    let difference = Difference::between(kind, before, after);
    let mut entries = owners(before);
    let time = now();
    let mut mine = BTreeSet::new();
    entries.retain_mut(|entry| {
        if entry.owner == *writer {
            mine.clone_from(&entry.fields);
            return false;
        }
        let lost = |path: &path::Path| {
            difference.changed.contains(path) || difference.removed.contains(path)
        };
        entry.fields.retain(|path| !lost(path));
        true
    });
    mine.extend(difference.changed);
    mine.retain(|path| !difference.removed.contains(path));
    entries.push(Owned { owner: writer.clone(), time, fields: mine });
    entries
}
