//! Pods: what their containers must say, what must be told apart, and what may change in a pod that is there.
//!
//! In comes a pod's spec with its defaults, out go the causes to refuse it.

mod container;
mod probe;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use self::container::check_container;
use super::names::{is_label, is_subdomain, not_label, not_subdomain};
use crate::kubernetes::{failure::Cause, selector::LabelSelector};

/// Checks a workload's template: its pods must be selected by its own selector.
pub(super) fn check_template(object: &Value, causes: &mut Vec<Cause>) {
    let (spec, template) = (&object["spec"], &object["spec"]["template"]);
    let selector = LabelSelector::of_object(&spec["selector"]);
    if selector.is_empty() {
        causes.push(Cause::required("spec.selector", ""));
    } else if !selector.selects(template) {
        let why = "`selector` does not match template `labels`";
        causes.push(Cause::invalid(
            "spec.template.metadata.labels",
            &template["metadata"]["labels"],
            why,
        ));
    }
    check(&template["spec"], "spec.template.spec", causes);
    if template["spec"]["restartPolicy"] != "Always" {
        let policy = &template["spec"]["restartPolicy"];
        causes.push(Cause::unsupported("spec.template.spec.restartPolicy", policy, &["Always"]));
    }
}

/// Checks a pod's spec.
pub(super) fn check(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    if list(&spec["containers"]).is_empty() {
        causes.push(Cause::required(format!("{path}.containers"), ""));
    }
    let policy = &spec["restartPolicy"];
    if !["Always", "OnFailure", "Never"].iter().any(|one| policy == one) {
        let field = format!("{path}.restartPolicy");
        causes.push(Cause::unsupported(field, policy, &["Always", "OnFailure", "Never"]));
    }
    if let Some(name) = spec["serviceAccountName"].as_str()
        && !name.is_empty()
        && !is_subdomain(name)
    {
        causes.push(not_subdomain(&format!("{path}.serviceAccountName"), name));
    }
    let volumes = check_volumes(spec, path, causes);
    let mut names = BTreeSet::new();
    for (field, is_init) in [("initContainers", true), ("containers", false)] {
        for (index, container) in list(&spec[field]).iter().enumerate() {
            let path = format!("{path}.{field}[{index}]");
            let name = container["name"].as_str().unwrap_or_default();
            if !names.insert(name) {
                causes.push(Cause::duplicate(format!("{path}.name"), &json!(name)));
            }
            check_container(container, is_init, &path, &volumes, causes);
        }
    }
    check_host_ports(spec, path, causes);
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn check_volumes<'a>(spec: &'a Value, path: &str, causes: &mut Vec<Cause>) -> BTreeSet<&'a str> {
    let mut names = BTreeSet::new();
    for (index, volume) in list(&spec["volumes"]).iter().enumerate() {
        let path = format!("{path}.volumes[{index}]");
        let name = volume["name"].as_str().unwrap_or_default();
        if !is_label(name) {
            causes.push(not_label(&format!("{path}.name"), name));
        }
        if !names.insert(name) {
            causes.push(Cause::duplicate(format!("{path}.name"), &json!(name)));
        }
        let sources = volume.as_object().map_or(0, |fields| fields.len().saturating_sub(1));
        if sources > 1 {
            causes.push(Cause::forbidden(path.clone(), "may not specify more than 1 volume type"));
        }
        for (index, source) in list(&volume["projected"]["sources"]).iter().enumerate() {
            check_projected(source, &format!("{path}.projected.sources[{index}]"), causes);
        }
    }
    names
}

fn check_projected(source: &Value, path: &str, causes: &mut Vec<Cause>) {
    let Some(token) = source.get("serviceAccountToken") else { return };
    let path = format!("{path}.serviceAccountToken");
    if token["path"].as_str().unwrap_or_default().is_empty() {
        causes.push(Cause::required(format!("{path}.path"), ""));
    }
    let seconds = &token["expirationSeconds"];
    if seconds.as_i64().is_some_and(|seconds| seconds < 600) {
        let why = "may not specify a duration less than 10 minutes";
        causes.push(Cause::invalid(format!("{path}.expirationSeconds"), seconds, why));
    }
}

fn check_host_ports(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    let mut taken = BTreeSet::new();
    for (index, container) in list(&spec["containers"]).iter().enumerate() {
        for (port_index, port) in list(&container["ports"]).iter().enumerate() {
            let Some(number) = port["hostPort"].as_i64().filter(|number| *number > 0) else {
                continue;
            };
            let key = (number, port["protocol"].to_string(), port["hostIP"].to_string());
            if !taken.insert(key) {
                let field = format!("{path}.containers[{index}].ports[{port_index}].hostPort");
                causes.push(Cause::duplicate(field, &json!(number)));
            }
        }
    }
}

/// A pod's spec stays as it is, but for images, a deadline and new tolerations; a node may be given once.
pub(super) fn check_change(before: &Value, after: &Value, causes: &mut Vec<Cause>) {
    let plain = |pod: &Value| {
        let mut spec = pod["spec"].clone();
        for list in ["containers", "initContainers"] {
            let containers = spec.get_mut(list).and_then(Value::as_array_mut);
            containers.into_iter().flatten().for_each(|container| container["image"] = Value::Null);
        }
        if let Some(fields) = spec.as_object_mut() {
            for field in ["activeDeadlineSeconds", "tolerations"] {
                fields.remove(field);
            }
            if before["spec"]["terminationGracePeriodSeconds"].as_i64().is_some_and(|it| it < 0) {
                fields.remove("terminationGracePeriodSeconds");
            }
        }
        spec
    };
    if plain(before) != plain(after) {
        let why = "pod updates may not change fields other than `spec.containers[*].image`,\
                   `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to \
                   existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
                   previously negative)";
        causes.push(Cause::forbidden("spec", why));
    }
    let kept = list(&before["spec"]["tolerations"]);
    if !kept.iter().all(|one| list(&after["spec"]["tolerations"]).contains(one)) {
        let why = "existing toleration can not be modified except its tolerationSeconds";
        causes.push(Cause::forbidden("spec.tolerations", why));
    }
}
