//! The way back: an injected pod comes in, the pod that it was before goes out, by the record that it carries.
//!
//! The record (annotation `weft.dev/replaced`) holds what a pod cannot be asked any more: the handlers of probes,
//! annotations that were set over, and lists that were there and empty. It must never be needed for what the pod
//! says itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    INIT_CONTAINER, PROXY_CONTAINER, VOLUME,
    covers::covers,
    object,
    probes::{PLACES, ours},
    shape::{CONTAINER_LISTS, containers_mut, is_empty, map_at, text},
};
use crate::model::{
    FieldError,
    pod_settings::{INJECTED, REPLACED, WORKLOAD},
};

/// What was replaced in a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    /// The handlers of probes and hooks, by "CONTAINER/KIND".
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    handlers: BTreeMap<String, Value>,
    /// Annotations that were set over, with what they said; none where there was no such annotation.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, Option<Value>>,
    /// Lists and maps that were there and held nothing, by pointer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    empty: BTreeMap<String, Value>,
}

impl Record {
    /// The text for the annotation; none when there is nothing to remember.
    pub(super) fn written(&self) -> Option<String> {
        if *self == Self::default() {
            return None;
        }
        serde_json::to_string(self).ok()
    }

    /// Remembers the handler of a probe.
    pub(super) fn handler(&mut self, key: &str, original: Value) {
        self.handlers.insert(key.to_owned(), original);
    }

    /// A list of the spec, to add to.
    pub(super) fn list<'a>(&mut self, pod: &'a mut Value, field: &str) -> &'a mut Vec<Value> {
        self.note_empty(pod, &format!("/spec/{field}"));
        let list = map_at(pod, "spec").entry(field).or_insert(Value::Null);
        if !list.is_array() {
            *list = Value::Array(Vec::new());
        }
        list.as_array_mut().expect("it was made one")
    }

    /// The pod's annotations, to add to.
    pub(super) fn annotation_map<'a>(&mut self, pod: &'a mut Value) -> &'a mut Map<String, Value> {
        self.note_empty(pod, "/metadata");
        self.note_empty(pod, "/metadata/annotations");
        map_at(pod, "metadata");
        map_at(&mut pod["metadata"], "annotations")
    }

    /// Sets annotations that were asked for beside the pod; what they said before comes back with [`undo`].
    pub(super) fn override_annotations(
        &mut self,
        pod: &mut Value,
        overrides: &BTreeMap<String, String>,
    ) {
        if overrides.is_empty() {
            return;
        }
        let annotations = self.annotation_map(pod);
        let mut previous = BTreeMap::new();
        for (name, value) in overrides {
            let before = annotations.insert(name.clone(), Value::from(value.as_str()));
            previous.insert(name.clone(), before);
        }
        for (name, before) in previous {
            // What an earlier injection has set over is further back.
            self.annotations.entry(name).or_insert(before);
        }
    }

    /// Sets annotations where the pod has none of the name.
    pub(super) fn add_annotations(&mut self, pod: &mut Value, wanted: &BTreeMap<String, String>) {
        let present = self.annotation_map(pod);
        let missing: BTreeMap<_, _> = wanted
            .iter()
            .filter(|(name, _)| !present.contains_key(*name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        self.override_annotations(pod, &missing);
    }

    /// An annotation that [`undo`] removes is the user's own, if it is there.
    pub(super) fn keep_annotation(&mut self, pod: &Value, name: &str) {
        let own = pod.get("metadata").and_then(|metadata| metadata.get("annotations"));
        if let Some(value) = own.and_then(|annotations| annotations.get(name)) {
            self.annotations.entry(name.to_owned()).or_insert_with(|| Some(value.clone()));
        }
    }

    fn note_empty(&mut self, pod: &Value, pointer: &str) {
        if let Some(value) = pod.pointer(pointer)
            && is_empty(value)
        {
            self.empty.entry(pointer.to_owned()).or_insert_with(|| value.clone());
        }
    }
}

/// The pod as it was before it was injected; none when it is not injected.
///
/// # Errors
/// When the record was changed and cannot be read.
pub fn undo(pod: &Value) -> Result<Option<Value>, FieldError> {
    if !is_injected(pod) {
        return Ok(None);
    }
    let (mut pod, record) = take_out(pod)?;
    let annotations = map_at(map_at_metadata(&mut pod), "annotations");
    // Unless the record knows it as the user's own.
    annotations.remove(WORKLOAD);
    for (name, before) in &record.annotations {
        match before {
            Some(value) => annotations.insert(name.clone(), value.clone()),
            None => annotations.remove(name),
        };
    }
    empty_again(&mut pod, &record, &["/metadata/annotations", "/metadata"]);
    Ok(Some(pod))
}

/// The object of a file as it was before its pods were injected; none when they are not.
///
/// # Errors
/// When the record was changed and cannot be read.
pub fn undo_object(object: &Value) -> Result<Option<Value>, FieldError> {
    let Some(template) = object::template(object) else { return Ok(None) };
    let Some(pod) = object.pointer(template.pointer) else { return Ok(None) };
    let undone = undo(pod).map_err(|error| template.around(error))?;
    Ok(undone.map(|pod| template.put(object, pod)))
}

/// Whether the injector has been here.
pub(super) fn is_injected(pod: &Value) -> bool {
    annotation(pod, INJECTED).is_some()
}

/// Takes the sidecar out of a pod and puts the probes back; its settings stay, also those that were given beside it:
/// the record that is returned remembers them on. A pod without a sidecar stays as it is.
pub(super) fn take_out(pod: &Value) -> Result<(Value, Record), FieldError> {
    let mut pod = pod.clone();
    if !is_injected(&pod) {
        return Ok((pod, Record::default()));
    }
    let mut record = read_record(&pod)?;
    for list in CONTAINER_LISTS {
        retain(&mut pod, list, |name| name != INIT_CONTAINER && name != PROXY_CONTAINER);
        for container in containers_mut(&mut pod, list) {
            restore_handlers(container, &record.handlers);
        }
    }
    retain(&mut pod, "volumes", |name| name != VOLUME);
    let annotations = map_at(map_at_metadata(&mut pod), "annotations");
    annotations.remove(INJECTED);
    annotations.remove(REPLACED);
    empty_again(&mut pod, &record, &["/spec/initContainers", "/spec/volumes"]);
    record.handlers.clear();
    Ok((pod, record))
}

fn map_at_metadata(pod: &mut Value) -> &mut Value {
    map_at(pod, "metadata");
    &mut pod["metadata"]
}

fn annotation<'a>(pod: &'a Value, name: &str) -> Option<&'a str> {
    text(pod.get("metadata")?.get("annotations")?, name)
}

fn read_record(pod: &Value) -> Result<Record, FieldError> {
    let Some(text) = annotation(pod, REPLACED) else { return Ok(Record::default()) };
    serde_json::from_str(text).map_err(|error| {
        let field = format!("metadata.annotations[{REPLACED}]");
        let message = format!(
            "is not what the injector wrote ({error}): go back to the manifest from before injection"
        );
        FieldError::new(field, message)
    })
}

fn retain(pod: &mut Value, list: &str, keep: impl Fn(&str) -> bool) {
    let list =
        pod.get_mut("spec").and_then(|spec| spec.get_mut(list)).and_then(Value::as_array_mut);
    if let Some(list) = list {
        list.retain(|item| text(item, "name").is_none_or(&keep));
    }
}

/// Puts the handlers of a container's probes back; one that is not ours any more was changed since, and stays.
fn restore_handlers(container: &mut Value, handlers: &BTreeMap<String, Value>) {
    let name = text(container, "name").unwrap_or_default().to_owned();
    for place in &PLACES {
        let key = format!("{name}/{}", place.kind);
        let original = handlers.get(&key).and_then(Value::as_object);
        let asked = container.pointer_mut(place.pointer).and_then(Value::as_object_mut);
        let (Some(original), Some(asked)) = (original, asked) else { continue };
        if asked.get("httpGet").is_some_and(|handler| covers(handler, &ours(&key))) {
            asked.remove("httpGet");
            asked.extend(original.clone());
        }
    }
}

/// Lists and maps that hold nothing any more become what they were, which most often is nothing at all.
fn empty_again(pod: &mut Value, record: &Record, pointers: &[&str]) {
    for pointer in pointers {
        let Some((parent, field)) = pointer.rsplit_once('/') else { continue };
        let parent = pod.pointer_mut(parent).and_then(Value::as_object_mut);
        let Some(parent) = parent.filter(|map| map.get(field).is_some_and(is_empty)) else {
            continue;
        };
        match record.empty.get(*pointer) {
            Some(before) => parent.insert(field.to_owned(), before.clone()),
            None => parent.remove(field),
        };
    }
}
