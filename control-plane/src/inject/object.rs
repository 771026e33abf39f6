//! The objects of files: which of them make pods, and where their pods' template stands. An object comes in, the same
//! object with an injected template goes out.

use serde_json::Value;

use super::{Context, Outcome, Reason, pod, shape::text};
use crate::model::FieldError;

/// A kind that makes pods.
struct Kind {
    api_group: &'static str,
    name: &'static str,
    pointer: &'static str,
}

const KINDS: [Kind; 9] = [
    kind("", "Pod", ""),
    kind("", "PodTemplate", "/template"),
    kind("", "ReplicationController", "/spec/template"),
    kind("apps", "Deployment", "/spec/template"),
    kind("apps", "StatefulSet", "/spec/template"),
    kind("apps", "DaemonSet", "/spec/template"),
    kind("apps", "ReplicaSet", "/spec/template"),
    kind("batch", "Job", "/spec/template"),
    kind("batch", "CronJob", "/spec/jobTemplate/spec/template"),
];

const fn kind(api_group: &'static str, name: &'static str, pointer: &'static str) -> Kind {
    Kind { api_group, name, pointer }
}

/// Where an object has its pods' template.
pub(super) struct Template {
    /// Where, from the object's top.
    pub(super) pointer: &'static str,
}

/// An object's template; none for an object that makes no pods.
pub(super) fn template(object: &Value) -> Option<Template> {
    let version = text(object, "apiVersion")?;
    let group = version.rsplit_once('/').map_or("", |(group, _)| group);
    let name = text(object, "kind")?;
    let kind = KINDS.iter().find(|kind| kind.name == name && kind.api_group == group)?;
    Some(Template { pointer: kind.pointer })
}

impl Template {
    /// The object with another template.
    pub(super) fn put(&self, object: &Value, pod: Value) -> Value {
        let mut object = object.clone();
        if let Some(place) = object.pointer_mut(self.pointer) {
            *place = pod;
        }
        object
    }

    /// An error in the template, as one of the object.
    pub(super) fn around(&self, error: FieldError) -> FieldError {
        let place = self.pointer.trim_start_matches('/').replace('/', ".");
        if place.is_empty() || error.field.starts_with("the namespace's") {
            return error;
        }
        FieldError { field: format!("{place}.{}", error.field), message: error.message }
    }
}

/// Injects the pods of an object. A `List` is for the caller to take apart.
///
/// The workload is the object's name, whatever the context says.
#[must_use]
pub fn inject_object(object: &Value, context: &Context<'_>) -> Outcome {
    let Some(template) = template(object) else {
        let has_pods = object.pointer("/spec/template/spec/containers").is_some();
        return Outcome::Left(if has_pods { Reason::UnknownKind } else { Reason::NoPods });
    };
    let Some(found) = object.pointer(template.pointer) else {
        let field = template.pointer.trim_start_matches('/').replace('/', ".");
        return Outcome::Refused(vec![FieldError::new(
            field,
            "is missing: give the pods' template",
        )]);
    };
    let workload = name(object);
    match pod(found, &Context { workload: &workload, ..*context }) {
        Outcome::Injected { object: injected, warnings } => {
            Outcome::Injected { object: template.put(object, injected), warnings }
        }
        Outcome::Left(reason) => Outcome::Left(reason),
        Outcome::Refused(errors) => Outcome::Refused(
            errors
                .into_iter()
                .map(|error| match error.field.as_str() {
                    // The workload's name is the object's own.
                    "metadata.name" => error,
                    _ => template.around(error),
                })
                .collect(),
        ),
    }
}

/// An object's name, or what its generated name begins with.
#[must_use]
pub fn name(object: &Value) -> String {
    let metadata = object.get("metadata").unwrap_or(&Value::Null);
    let generated = || text(metadata, "generateName").map(|name| name.trim_end_matches('-'));
    let name = text(metadata, "name").filter(|name| !name.is_empty()).or_else(generated);
    name.unwrap_or_default().to_owned()
}
