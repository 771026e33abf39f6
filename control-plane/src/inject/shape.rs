//! How a pod's JSON is read: files may hold anything where Kubernetes wants a list or a map. Whoever reads here gets
//! empty lists for what is none; [`check`] has refused it by name before anything is changed.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::model::{
    FieldError,
    pod_settings::{INJECT, PREFIX},
};

/// The lists of a spec that hold containers which an injector may see. Ephemeral ones are added to running pods.
pub(super) const CONTAINER_LISTS: [&str; 2] = ["initContainers", "containers"];

/// Refuses what is not shaped like a pod.
pub(super) fn check(pod: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut want = |pointer: &str, form: &str, is_right: fn(&Value) -> bool| {
        if pod.pointer(pointer).is_some_and(|value| !value.is_null() && !is_right(value)) {
            let field = pointer[1..].replace('/', ".");
            errors.push(FieldError::new(field, format!("is no {form}: use one")));
        }
    };
    want("/metadata", "map", Value::is_object);
    want("/metadata/annotations", "map", Value::is_object);
    want("/metadata/labels", "map", Value::is_object);
    want("/spec/initContainers", "list", Value::is_array);
    want("/spec/volumes", "list", Value::is_array);
    if containers(pod, "containers").next().is_none() {
        let message = "holds no container: a pod has at least one";
        errors.push(FieldError::new("spec.containers", message));
    }
    for list in CONTAINER_LISTS {
        for (index, container) in containers(pod, list).enumerate() {
            if text(container, "name").is_none_or(str::is_empty) {
                let field = format!("spec.{list}[{index}].name");
                errors.push(FieldError::new(field, "is missing: give the container a name"));
            }
        }
    }
    check_strings(pod, "annotations", |name| name.starts_with(PREFIX), &mut errors);
    check_strings(pod, "labels", |name| name == INJECT, &mut errors);
    errors
}

/// Unquoted, YAML makes numbers and booleans of "22" and "true".
fn check_strings(pod: &Value, map: &str, is_ours: fn(&str) -> bool, errors: &mut Vec<FieldError>) {
    let values = pod.pointer(&format!("/metadata/{map}")).and_then(Value::as_object);
    for (name, value) in values.into_iter().flatten().filter(|(name, _)| is_ours(name)) {
        if !value.is_string() {
            let message = format!("{value} is no string: put it in quotes, \"{value}\"");
            errors.push(FieldError::new(format!("metadata.{map}[{name}]"), message));
        }
    }
}

/// The containers of one list, in order.
pub(super) fn containers<'a>(
    pod: &'a Value,
    list: &str,
) -> impl Iterator<Item = &'a Value> + use<'a> {
    pod.get("spec").and_then(|spec| spec.get(list)).and_then(Value::as_array).into_iter().flatten()
}

/// The same, to change them.
pub(super) fn containers_mut<'a>(
    pod: &'a mut Value,
    list: &str,
) -> impl Iterator<Item = &'a mut Value> + use<'a> {
    pod.get_mut("spec")
        .and_then(|spec| spec.get_mut(list))
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}

/// A field that is text.
pub(super) fn text<'a>(object: &'a Value, field: &str) -> Option<&'a str> {
    object.get(field).and_then(Value::as_str)
}

/// Labels or annotations; what is no text among them is no word of ours.
#[must_use]
pub(super) fn strings(map: Option<&Value>) -> BTreeMap<String, String> {
    let entries = map.and_then(Value::as_object).into_iter().flatten();
    entries.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

/// The map at a place, made where there is none.
pub(super) fn map_at<'a>(object: &'a mut Value, field: &str) -> &'a mut Map<String, Value> {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let inner = &mut object[field];
    if !inner.is_object() {
        *inner = Value::Object(Map::new());
    }
    inner.as_object_mut().expect("it was made one")
}

/// Whether a value says as much as an absent one.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Whether an init container goes on beside the app: another's native sidecar.
pub(super) fn is_restartable(container: &Value) -> bool {
    text(container, "restartPolicy") == Some("Always")
}
