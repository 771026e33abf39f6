//! Whether an object's values make sense, kind by kind, and what may not change.
//!
//! In come objects of the right shape with their defaults, out go Kubernetes' refusals. What is checked is what Weft
//! writes, and what its users' objects could get wrong with it; what is not checked here is let through.

mod definition;
mod endpoint_slice;
mod names;
mod pod;
mod service;

use serde_json::{Value, json};

use self::names::{check_annotations, check_labels, is_label, is_subdomain};
use super::{
    failure::{Cause, Failure},
    kinds::Kind,
};

/// Checks the name of a new object.
///
/// # Errors
/// When it has none, or none that the kind takes.
pub fn name(kind: &Kind, object: &Value) -> Result<(), Failure> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        let cause = Cause::required("metadata.name", "name or generateName is required");
        return Err(Failure::invalid(kind, "", &[cause]));
    }
    let cause = match kind.qualified().as_str() {
        "namespaces" if !is_label(name) => names::not_label("metadata.name", name),
        "services" if !is_label(name) => names::not_label("metadata.name", name),
        // RBAC's names may hold colons.
        resource if resource.ends_with("rbac.authorization.k8s.io") => return Ok(()),
        _ if !is_subdomain(name) => names::not_subdomain("metadata.name", name),
        _ => return Ok(()),
    };
    Err(Failure::invalid(kind, name, &[cause]))
}

/// Checks an object as it is to be stored.
///
/// # Errors
/// When a value is not allowed.
pub fn object(kind: &Kind, object: &Value) -> Result<(), Failure> {
    let mut causes = Vec::new();
    check_labels(&object["metadata"]["labels"], "metadata.labels", &mut causes);
    check_annotations(&object["metadata"]["annotations"], &mut causes);
    match kind.qualified().as_str() {
        "pods" => pod::check(&object["spec"], "spec", &mut causes),
        "deployments.apps" | "statefulsets.apps" | "daemonsets.apps" | "replicasets.apps" => {
            pod::check_template(object, &mut causes);
        }
        "jobs.batch" => {
            pod::check(&object["spec"]["template"]["spec"], "spec.template.spec", &mut causes)
        }
        "cronjobs.batch" => pod::check(
            &object["spec"]["jobTemplate"]["spec"]["template"]["spec"],
            "spec.jobTemplate.spec.template.spec",
            &mut causes,
        ),
        "services" => service::check(&object["spec"], &mut causes),
        "endpointslices.discovery.k8s.io" => endpoint_slice::check(object, &mut causes),
        "configmaps" | "secrets" => check_keys(object, &mut causes),
        "customresourcedefinitions.apiextensions.k8s.io" => definition::check(object, &mut causes),
        "mutatingwebhookconfigurations.admissionregistration.k8s.io" => {
            super::admission::check_configuration(object, &mut causes);
        }
        _ => {}
    }
    refuse(kind, object, &causes)
}

/// Checks what of an object may not change.
///
/// # Errors
/// When it does.
pub fn change(kind: &Kind, before: &Value, after: &Value) -> Result<(), Failure> {
    let mut causes = Vec::new();
    let mut fixed = |path: &str| {
        if before.pointer(path) != after.pointer(path) {
            let field = path.trim_start_matches('/').replace('/', ".");
            let value = after.pointer(path).unwrap_or(&Value::Null);
            causes.push(Cause::invalid(field, value, "field is immutable"));
        }
    };
    match kind.qualified().as_str() {
        "endpointslices.discovery.k8s.io" => fixed("/addressType"),
        "deployments.apps" | "replicasets.apps" | "daemonsets.apps" => fixed("/spec/selector"),
        "jobs.batch" => {
            fixed("/spec/selector");
            fixed("/spec/template");
        }
        "secrets" => fixed("/type"),
        "rolebindings.rbac.authorization.k8s.io"
        | "clusterrolebindings.rbac.authorization.k8s.io"
            if before["roleRef"] != after["roleRef"] =>
        {
            causes.push(Cause::invalid("roleRef", &after["roleRef"], "cannot change roleRef"));
        }
        "customresourcedefinitions.apiextensions.k8s.io" => {
            fixed("/spec/group");
            fixed("/spec/scope");
            fixed("/spec/names/plural");
            fixed("/spec/names/kind");
        }
        "configmaps" if before["immutable"] == true && before["data"] != after["data"] => {
            causes.push(Cause::forbidden("data", "field is immutable when `immutable` is set"));
        }
        "pods" => pod::check_change(before, after, &mut causes),
        "services" => service::check_change(before, after, &mut causes),
        "statefulsets.apps" => check_stateful_set_change(before, after, &mut causes),
        _ => {}
    }
    refuse(kind, after, &causes)
}

fn refuse(kind: &Kind, object: &Value, causes: &[Cause]) -> Result<(), Failure> {
    if causes.is_empty() {
        return Ok(());
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    Err(Failure::invalid(kind, name, causes))
}

fn check_stateful_set_change(before: &Value, after: &Value, causes: &mut Vec<Cause>) {
    const MAY: &[&str] = &[
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    ];
    let fixed = |object: &Value| {
        let mut spec = object["spec"].as_object().cloned().unwrap_or_default();
        spec.retain(|field, _| !MAY.contains(&field.as_str()));
        spec
    };
    if fixed(before) != fixed(after) {
        let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                   'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                   'minReadySeconds' are forbidden";
        causes.push(Cause::forbidden("spec", why));
    }
}

fn check_keys(object: &Value, causes: &mut Vec<Cause>) {
    let is_key = |key: &str| {
        let letters = key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        letters && !key.is_empty() && key.len() <= 253 && key != "." && key != ".."
    };
    for field in ["data", "binaryData"] {
        let keys = object[field].as_object().into_iter().flatten().map(|(key, _)| key);
        for key in keys.filter(|key| !is_key(key)) {
            let why = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
            causes.push(Cause::invalid(format!("{field}[{key}]"), &json!(key), why));
        }
    }
}
