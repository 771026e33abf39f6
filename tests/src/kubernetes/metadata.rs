//! What the server writes into `metadata`, and what it keeps there.
//!
//! In come objects that clients sent, out go objects with uid, times, generation and name; a client's own idea of
//! these is never believed.

use k8s_openapi::jiff::{Timestamp, ToSpan, fmt::strtime};
use serde_json::{Value, json};

use super::kinds::Kind;

/// The time, as Kubernetes writes it.
#[must_use]
pub fn now() -> String {
    in_seconds(0)
}

/// The time so many seconds from now, as Kubernetes writes it.
#[must_use]
pub fn in_seconds(seconds: i64) -> String {
    let time = Timestamp::now().checked_add(seconds.seconds()).unwrap_or(Timestamp::MAX);
    strtime::format("%Y-%m-%dT%H:%M:%SZ", time).expect("the format is a constant")
}

/// A name that nothing else has: a random UUID.
#[must_use]
pub fn new_uid() -> String {
    let bits = fastrand::u128(..);
    let text = format!("{bits:032x}");
    // Version 4, variant 1, by RFC 9562.
    format!("{}-{}-4{}-a{}-{}", &text[..8], &text[8..12], &text[13..16], &text[17..20], &text[20..])
}

/// A name of a prefix and five letters that spell no words.
#[must_use]
pub fn generated_name(prefix: &str) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    // Names have at most 63 letters, five of them random.
    let prefix: String = prefix.chars().take(58).collect();
    let random = (0..5).map(|_| char::from(LETTERS[fastrand::usize(..LETTERS.len())]));
    prefix + &random.collect::<String>()
}

/// Makes a new object's metadata the server's.
pub fn stamp_new(kind: &Kind, object: &mut Value, namespace: &str) {
    let metadata = &mut object["metadata"];
    if !metadata.is_object() {
        *metadata = json!({});
    }
    if metadata["name"].as_str().unwrap_or_default().is_empty()
        && let Some(prefix) = metadata["generateName"].as_str()
        && !prefix.is_empty()
    {
        metadata["name"] = Value::String(generated_name(prefix));
    }
    if kind.namespaced {
        metadata["namespace"] = Value::String(namespace.to_owned());
    }
    metadata["uid"] = Value::String(new_uid());
    metadata["creationTimestamp"] = Value::String(now());
    if let Some(map) = metadata.as_object_mut() {
        for name in [
            "resourceVersion",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "selfLink",
            "generation",
            "managedFields",
        ] {
            map.remove(name);
        }
        map.retain(|_, value| !value.is_null());
    }
    if kind.has_generation {
        metadata["generation"] = json!(1);
    }
}

/// Keeps in a changed object what the server once wrote, and counts the generation on when what is wanted changed.
pub fn stamp_changed(kind: &Kind, before: &Value, after: &mut Value) {
    const KEPT: &[&str] = &[
        "uid",
        "name",
        "namespace",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generateName",
        "generation",
        "resourceVersion",
    ];
    for name in KEPT {
        let kept = &before["metadata"][name];
        if !kept.is_null() {
            after["metadata"][name] = kept.clone();
        } else if let Some(map) = after["metadata"].as_object_mut() {
            map.remove(*name);
        }
    }
    if let Some(map) = after["metadata"].as_object_mut() {
        map.retain(|_, value| !value.is_null() && *value != json!({}) && *value != json!([]));
    }
    if kind.has_generation && is_wanted_otherwise(kind, before, after) {
        let generation = before["metadata"]["generation"].as_u64().unwrap_or(1);
        after["metadata"]["generation"] = json!(generation + 1);
    }
}

/// Whether anything but metadata, and status where it is apart, differs.
fn is_wanted_otherwise(kind: &Kind, before: &Value, after: &Value) -> bool {
    let wanted = |object: &Value| {
        let mut fields = object.as_object().cloned().unwrap_or_default();
        for name in ["apiVersion", "kind", "metadata"] {
            fields.remove(name);
        }
        if kind.has_status {
            fields.remove("status");
        }
        fields
    };
    let labels = |object: &Value| object["metadata"]["labels"].clone();
    // Of a slice, its labels say whose it is.
    let is_slice = kind.is("endpointslices.discovery.k8s.io");
    wanted(before) != wanted(after) || (is_slice && labels(before) != labels(after))
}

/// Whether two states differ in anything that a client can see, besides version and the times of owners.
#[must_use]
pub fn is_same(before: &Value, after: &Value) -> bool {
    let plain = |object: &Value| {
        let mut object = object.clone();
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("resourceVersion");
        }
        let entries = object["metadata"]["managedFields"].as_array_mut().into_iter().flatten();
        entries.for_each(|entry| entry["time"] = Value::Null);
        object
    };
    plain(before) == plain(after)
}
