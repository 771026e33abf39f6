//! Paths of fields, and sets of them, as `managedFields` holds them.
//!
//! In come objects, out go the paths of what can be owned: scalars, whole lists and maps, and items of keyed lists.
//! The text form is Kubernetes' FieldsV1: `f:name`, `k:{"name":"web"}`, `v:"value"`.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::kubernetes::{
    kinds::Kind,
    lists::{Merging, key_value, merging},
};

/// One step from a value to one inside it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Into a map.
    Field(String),
    /// Into a keyed list: the keys as JSON.
    Item(String),
    /// Into a set: the value as JSON.
    Value(String),
}

/// From an object to a value.
pub type Path = Vec<Step>;

/// Paths of what is owned.
pub type Fields = BTreeSet<Path>;

/// What nobody owns: the server's own fields and the object's identity.
const UNOWNED_METADATA: &[&str] = &[
    "name",
    "namespace",
    "generateName",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
];

/// The paths of an object that can be owned.
#[must_use]
pub fn fields_of(kind: &Kind, object: &Value) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in object.as_object().into_iter().flatten() {
        let path = vec![Step::Field(name.clone())];
        match name.as_str() {
            "apiVersion" | "kind" => {}
            "metadata" => {
                let owned = value.as_object().into_iter().flatten();
                for (name, value) in
                    owned.filter(|(name, _)| !UNOWNED_METADATA.contains(&name.as_str()))
                {
                    let path = vec![Step::Field("metadata".to_owned()), Step::Field(name.clone())];
                    collect(kind, value, path, &mut fields);
                }
            }
            _ => collect(kind, value, path, &mut fields),
        }
    }
    fields
}

fn collect(kind: &Kind, value: &Value, path: Path, fields: &mut Fields) {
    match (merging(kind, &path, value), value) {
        (Merging::Fields, Value::Object(map)) if !map.is_empty() => {
            for (name, value) in map {
                collect(kind, value, longer(&path, Step::Field(name.clone())), fields);
            }
        }
        (Merging::Set, Value::Array(items)) if !items.is_empty() => {
            for item in items {
                fields.insert(longer(&path, Step::Value(item.to_string())));
            }
        }
        (Merging::Keyed(keys), Value::Array(items)) if !items.is_empty() => {
            for item in items {
                let path = longer(&path, item_step(item, &keys));
                for (name, value) in item.as_object().into_iter().flatten() {
                    collect(kind, value, longer(&path, Step::Field(name.clone())), fields);
                }
                fields.insert(path);
            }
        }
        _ => {
            fields.insert(path);
        }
    }
}

/// The step to an item of a keyed list.
#[must_use]
pub fn item_step(item: &Value, keys: &[String]) -> Step {
    let keys: Map<String, Value> =
        keys.iter().map(|key| (key.clone(), key_value(item, key))).collect();
    Step::Item(Value::Object(keys).to_string())
}

fn longer(path: &[Step], step: Step) -> Path {
    path.iter().cloned().chain([step]).collect()
}

/// Whether a step leads to this item of a list.
#[must_use]
pub fn leads_to(step: &Step, item: &Value) -> bool {
    match step {
        Step::Field(_) => false,
        Step::Value(text) => serde_json::from_str::<Value>(text).is_ok_and(|value| value == *item),
        Step::Item(text) => {
            let keys: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
            keys.iter().all(|(key, value)| key_value(item, key) == *value)
        }
    }
}

/// The value at a path.
#[must_use]
pub fn value_at<'a>(object: &'a Value, path: &[Step]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, step| match step {
        Step::Field(name) => value.get(name),
        Step::Item(_) | Step::Value(_) => {
            value.as_array()?.iter().find(|item| leads_to(step, item))
        }
    })
}

/// Removes the value at a path, and the maps and lists that are left empty by it.
pub fn remove_at(object: &mut Value, path: &[Step]) {
    let Some((step, rest)) = path.split_first() else { return };
    match (step, object) {
        (Step::Field(name), Value::Object(map)) => {
            let Some(inner) = map.get_mut(name) else { return };
            if !rest.is_empty() {
                remove_at(inner, rest);
            }
            if rest.is_empty() || is_empty(inner) {
                map.remove(name);
            }
        }
        (Step::Item(_) | Step::Value(_), Value::Array(items)) => {
            let Some(index) = items.iter().position(|item| leads_to(step, item)) else { return };
            if rest.is_empty() {
                items.remove(index);
            } else {
                remove_at(&mut items[index], rest);
            }
        }
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// A set of paths as FieldsV1.
#[must_use]
pub fn fields_v1(fields: &Fields) -> Value {
    let mut root = json!({});
    for path in fields {
        let node = path.iter().fold(&mut root, |node, step| {
            let key = match step {
                Step::Field(name) => format!("f:{name}"),
                Step::Item(keys) => format!("k:{keys}"),
                Step::Value(value) => format!("v:{value}"),
            };
            let node = &mut node[key];
            if node.is_null() {
                *node = json!({});
            }
            node
        });
        // A path that ends where others go on is marked; the set is in order, so it comes before them.
        node["."] = json!({});
    }
    unmark_leaves(&mut root);
    root
}

fn unmark_leaves(node: &mut Value) {
    let Value::Object(map) = node else { return };
    if map.len() == 1 {
        map.remove(".");
    }
    map.values_mut().for_each(unmark_leaves);
}

/// A set of paths of FieldsV1.
#[must_use]
pub fn of_fields_v1(fields: &Value) -> Fields {
    let mut found = Fields::new();
    read(fields, &Path::new(), &mut found);
    found
}

fn read(node: &Value, path: &Path, found: &mut Fields) {
    let Value::Object(map) = node else { return };
    if (map.is_empty() && !path.is_empty()) || map.contains_key(".") {
        found.insert(path.clone());
    }
    for (key, inner) in map {
        let step = match key.split_once(':') {
            Some(("f", name)) => Step::Field(name.to_owned()),
            Some(("k", keys)) => Step::Item(keys.to_owned()),
            Some(("v", value)) => Step::Value(value.to_owned()),
            _ => continue,
        };
        read(inner, &longer(path, step), found);
    }
}

/// Where a path leads, as messages write it: `.spec.ports[port=80].name`.
#[must_use]
pub fn text_of(path: &[Step]) -> String {
    path.iter()
        .map(|step| match step {
            Step::Field(name) => format!(".{name}"),
            Step::Value(value) => format!("[={value}]"),
            Step::Item(keys) => {
                let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                let keys = keys.iter().map(|(key, value)| format!("{key}={value}"));
                format!("[{}]", keys.collect::<Vec<_>>().join(","))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::kinds::built_in;

    #[test]
    fn fields_are_written_as_kubernetes_writes_them_and_read_again() {
        let pod = json!({
            "metadata": {"name": "web", "uid": "1", "labels": {"app": "web"}, "finalizers": ["a/b"]},
            "spec": {
                "nodeName": "a", "tolerations": [{"key": "x"}],
                "containers": [{"name": "app", "ports": [{"containerPort": 80}]}],
            },
        });
        let fields = fields_of(&built_in("pods"), &pod);

        let text = fields_v1(&fields);

        assert_eq!(
            text,
            json!({
                "f:metadata": {"f:labels": {"f:app": {}}, "f:finalizers": {"v:\"a/b\"": {}}},
                "f:spec": {
                    "f:nodeName": {}, "f:tolerations": {},
                    "f:containers": {"k:{\"name\":\"app\"}": {
                        ".": {}, "f:name": {},
                        "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {
                            ".": {}, "f:containerPort": {},
                        }},
                    }},
                },
            })
        );
        assert_eq!(of_fields_v1(&text), fields);
    }

    #[test]
    fn what_is_removed_takes_empty_maps_with_it_and_leaves_the_rest() {
        let containers = json!([{"name": "a"}, {"name": "b"}]);
        let mut pod =
            json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": containers}});
        let field = |name: &str| Step::Field(name.to_owned());
        let item = Step::Item(json!({"name": "a"}).to_string());

        remove_at(&mut pod, &[field("metadata"), field("labels"), field("app")]);
        remove_at(&mut pod, &[field("spec"), field("containers"), item]);

        assert_eq!(pod, json!({"spec": {"containers": [{"name": "b"}]}}));
    }
}
