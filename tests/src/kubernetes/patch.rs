//! Patches: JSON patch, merge patch and strategic merge patch.
//!
//! In come an object and a patch, out goes the patched object, unchecked. Strategic patches merge the lists that
//! `lists` says have keys, and understand `$patch: delete`, `$patch: replace` and `$deleteFromPrimitiveList`.

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::{
    failure::Failure,
    kinds::Kind,
    lists::{Merging, key_value, merging},
    ownership::path::{Path, Step, item_step},
};

/// Which patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchKind {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// Kubernetes' own.
    Strategic,
    /// Server-side apply.
    Apply,
}

impl PatchKind {
    /// By the body's media type.
    ///
    /// # Errors
    /// When it is no patch, or one that the kind does not take.
    pub fn of(kind: &Kind, content_type: &str) -> Result<Self, Failure> {
        match content_type {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/strategic-merge-patch+json" if !kind.is_custom() => Ok(Self::Strategic),
            "application/apply-patch+yaml" => Ok(Self::Apply),
            other => Err(Failure::unsupported_media(other)),
        }
    }
}

/// Patches an object.
///
/// # Errors
/// When the patch is malformed or does not fit the object.
pub fn patch(
    kind: &Kind,
    which: PatchKind,
    object: &Value,
    patch: Value,
) -> Result<Value, Failure> {
    let mut patched = object.clone();
    match which {
        PatchKind::Json => {
            let patch: json_patch::Patch = serde_json::from_value(patch)
                .map_err(|error| Failure::bad_request(format!("error decoding patch: {error}")))?;
            json_patch::patch(&mut patched, &patch).map_err(|error| {
                let code = StatusCode::UNPROCESSABLE_ENTITY;
                let why = "the server rejected our request due to an error in our request";
                Failure::new(code, "Invalid", format!("{why}: {error}"))
            })?;
        }
        PatchKind::Merge | PatchKind::Apply => json_patch::merge(&mut patched, &patch),
        PatchKind::Strategic => strategic(kind, &mut patched, &patch, &mut Path::new()),
    }
    Ok(patched)
}

fn strategic(kind: &Kind, object: &mut Value, patch: &Value, path: &mut Path) {
    match (merging(kind, path, patch), patch) {
        // Maps that apply owns as a whole are merged all the same.
        (_, Value::Object(fields)) => strategic_map(kind, object, fields, path),
        (Merging::Keyed(keys), Value::Array(items)) => {
            strategic_list(kind, object, items, &keys, path);
        }
        (Merging::Set, Value::Array(items)) => {
            let mut there = object.as_array().cloned().unwrap_or_default();
            there.extend(
                items.iter().filter(|item| !there.contains(item)).cloned().collect::<Vec<_>>(),
            );
            *object = Value::Array(there);
        }
        _ => *object = patch.clone(),
    }
}

fn strategic_map(kind: &Kind, object: &mut Value, fields: &Map<String, Value>, path: &mut Path) {
    if !object.is_object() || fields.get("$patch").is_some_and(|word| word == "replace") {
        *object = json!({});
    }
    for (name, value) in fields {
        if let Some(list) = name.strip_prefix("$deleteFromPrimitiveList/") {
            let gone = value.as_array().cloned().unwrap_or_default();
            if let Some(items) = object[list].as_array_mut() {
                items.retain(|item| !gone.contains(item));
            }
            continue;
        }
        if name.starts_with('$') {
            continue;
        }
        if let (Value::Null, Some(map)) = (value, object.as_object_mut()) {
            map.remove(name);
            continue;
        }
        path.push(Step::Field(name.clone()));
        strategic(kind, &mut object[name], value, path);
        path.pop();
    }
}

fn strategic_list(
    kind: &Kind,
    object: &mut Value,
    items: &[Value],
    keys: &[String],
    path: &mut Path,
) {
    let replaces =
        items.iter().any(|item| item["$patch"] == "replace" && item.get(&keys[0]).is_none());
    let mut there = match replaces {
        true => Vec::new(),
        false => object.as_array().cloned().unwrap_or_default(),
    };
    // Strategic patches go by the first key alone.
    let key = &keys[0];
    for item in items.iter().filter(|item| item.get(key).is_some()) {
        let wanted = key_value(item, key);
        let index = there.iter().position(|one| key_value(one, key) == wanted);
        if item["$patch"] == "delete" {
            index.map(|index| there.remove(index));
            continue;
        }
        let index = index.unwrap_or_else(|| {
            there.push(json!({}));
            there.len() - 1
        });
        path.push(item_step(item, keys));
        strategic(kind, &mut there[index], item, path);
        path.pop();
    }
    *object = Value::Array(there);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::kinds::built_in;

    #[test]
    fn strategic_patches_merge_delete_and_replace() {
        let pod = json!({"metadata": {"finalizers": ["a", "b"]}, "spec": {
            "containers": [{"name": "app", "image": "1"}, {"name": "side", "image": "1"}],
            "nodeSelector": {"a": "1"},
        }});
        let patched = |body: Value| {
            let patched = patch(&built_in("pods"), PatchKind::Strategic, &pod, body);
            patched.expect("it fits")["spec"].clone()
        };

        let merged = patched(json!({"spec": {"containers": [{"name": "app", "image": "2"}]}}));
        assert_eq!(merged["containers"][0], json!({"name": "app", "image": "2"}));
        assert_eq!(merged["containers"][1], json!({"name": "side", "image": "1"}));
        let deleted = json!({"spec": {"containers": [{"name": "side", "$patch": "delete"}]}});
        assert_eq!(patched(deleted)["containers"], json!([{"name": "app", "image": "1"}]));
        let replaced = json!({"spec": {"containers": [{"$patch": "replace"}, {"name": "new"}]}});
        assert_eq!(patched(replaced)["containers"], json!([{"name": "new"}]));
        let selector = json!({"spec": {"nodeSelector": {"b": "2"}}});
        assert_eq!(patched(selector)["nodeSelector"], json!({"a": "1", "b": "2"}));
        let selector = json!({"spec": {"nodeSelector": {"$patch": "replace", "b": "2"}}});
        assert_eq!(patched(selector)["nodeSelector"], json!({"b": "2"}));
        let gone = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}});
        let left = patch(&built_in("pods"), PatchKind::Strategic, &pod, gone).expect("it fits");
        assert_eq!(left["metadata"]["finalizers"], json!(["b"]));
    }
}
