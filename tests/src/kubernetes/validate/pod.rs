//! Pods: what their containers must say, what must be told apart, and what may change in a pod that is there.
//!
//! In comes a pod's spec with its defaults, out go the causes to refuse it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::names::{is_label, is_port_name, is_subdomain, not_label, not_subdomain};
use crate::kubernetes::{failure::Cause, quantity::amount, selector::LabelSelector};

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

fn check_container(
    container: &Value,
    is_init: bool,
    path: &str,
    volumes: &BTreeSet<&str>,
    causes: &mut Vec<Cause>,
) {
    let name = container["name"].as_str().unwrap_or_default();
    match name {
        "" => causes.push(Cause::required(format!("{path}.name"), "")),
        name if !is_label(name) => causes.push(not_label(&format!("{path}.name"), name)),
        _ => {}
    }
    let image = container["image"].as_str().unwrap_or_default();
    if image.is_empty() {
        causes.push(Cause::required(format!("{path}.image"), ""));
    } else if image.trim() != image {
        let why = "must not have leading or trailing whitespace";
        causes.push(Cause::invalid(format!("{path}.image"), &json!(image), why));
    }
    check_restart(container, is_init, path, causes);
    check_ports(container, path, causes);
    check_environment(container, path, causes);
    check_mounts(container, path, volumes, causes);
    check_security(container, path, causes);
    check_resources(container, path, causes);
}

/// Only init containers that go on running have a restart policy of their own, probes and hooks.
fn check_restart(container: &Value, is_init: bool, path: &str, causes: &mut Vec<Cause>) {
    let policy = &container["restartPolicy"];
    let field = format!("{path}.restartPolicy");
    match (is_init, policy) {
        (_, Value::Null) => {}
        (true, policy) if policy == "Always" => {}
        (true, policy) => causes.push(Cause::unsupported(field, policy, &["Always"])),
        (false, _) => {
            causes.push(Cause::forbidden(field, "may not be set for non-init containers"))
        }
    }
    let goes_on = !is_init || policy == "Always";
    for probe in ["livenessProbe", "readinessProbe", "startupProbe", "lifecycle"] {
        let Some(found) = container.get(probe) else { continue };
        let field = format!("{path}.{probe}");
        if !goes_on {
            let why = "may not be set for init containers without restartPolicy=Always";
            causes.push(Cause::forbidden(field, why));
        } else if probe == "lifecycle" {
            for hook in ["postStart", "preStop"] {
                if let Some(handler) = found.get(hook) {
                    check_handler(handler, &format!("{field}.{hook}"), false, causes);
                }
            }
        } else {
            check_handler(found, &field, true, causes);
            check_timings(found, &field, probe != "readinessProbe", causes);
        }
    }
}

fn check_handler(handler: &Value, path: &str, is_probe: bool, causes: &mut Vec<Cause>) {
    let kinds: &[&str] = if is_probe {
        &["exec", "httpGet", "tcpSocket", "grpc"]
    } else {
        &["exec", "httpGet", "tcpSocket", "sleep"]
    };
    let found: Vec<&&str> = kinds.iter().filter(|kind| handler.get(**kind).is_some()).collect();
    match found[..] {
        [] => causes.push(Cause::required(path, "must specify a handler type")),
        [_] => {}
        [_, second, ..] => {
            let why = "may not specify more than 1 handler type";
            causes.push(Cause::forbidden(format!("{path}.{second}"), why));
        }
    }
    for kind in ["httpGet", "tcpSocket", "grpc"] {
        if let Some(inner) = handler.get(kind) {
            check_port(&inner["port"], &format!("{path}.{kind}.port"), causes);
        }
    }
    if let Some(scheme) = handler["httpGet"]["scheme"].as_str()
        && !["HTTP", "HTTPS"].contains(&scheme)
    {
        let field = format!("{path}.httpGet.scheme");
        causes.push(Cause::unsupported(field, &json!(scheme), &["HTTP", "HTTPS"]));
    }
}

fn check_timings(probe: &Value, path: &str, once: bool, causes: &mut Vec<Cause>) {
    for field in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        if probe[field].as_i64().is_some_and(|value| value < 0) {
            let why = "must be greater than or equal to 0";
            causes.push(Cause::invalid(format!("{path}.{field}"), &probe[field], why));
        }
    }
    if once && probe["successThreshold"].as_i64().is_some_and(|value| value != 1) {
        let field = format!("{path}.successThreshold");
        causes.push(Cause::invalid(field, &probe["successThreshold"], "must be 1"));
    }
}

/// A port by number, or by name where names are allowed.
fn check_port(port: &Value, path: &str, causes: &mut Vec<Cause>) {
    let fits = match port {
        Value::String(name) => is_port_name(name),
        port => port.as_i64().is_some_and(|number| (1..=65535).contains(&number)),
    };
    if !fits {
        causes.push(Cause::invalid(path, port, "must be between 1 and 65535, inclusive"));
    }
}

fn check_ports(container: &Value, path: &str, causes: &mut Vec<Cause>) {
    let mut names = BTreeSet::new();
    for (index, port) in list(&container["ports"]).iter().enumerate() {
        let path = format!("{path}.ports[{index}]");
        if let Some(name) = port["name"].as_str().filter(|name| !name.is_empty()) {
            if !is_port_name(name) {
                let why = if name.len() > 15 {
                    "must be no more than 15 characters"
                } else {
                    "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-), with at least one letter"
                };
                causes.push(Cause::invalid(format!("{path}.name"), &json!(name), why));
            }
            if !names.insert(name) {
                causes.push(Cause::duplicate(format!("{path}.name"), &json!(name)));
            }
        }
        let number = &port["containerPort"];
        if !number.as_i64().is_some_and(|number| (1..=65535).contains(&number)) {
            let why = "must be between 1 and 65535, inclusive";
            causes.push(Cause::invalid(format!("{path}.containerPort"), number, why));
        }
        if !["TCP", "UDP", "SCTP"].iter().any(|one| port["protocol"] == *one) {
            let field = format!("{path}.protocol");
            causes.push(Cause::unsupported(field, &port["protocol"], &["SCTP", "TCP", "UDP"]));
        }
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

fn check_environment(container: &Value, path: &str, causes: &mut Vec<Cause>) {
    const FIELDS: &[&str] = &[
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.serviceAccountName",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
    ];
    for (index, variable) in list(&container["env"]).iter().enumerate() {
        let path = format!("{path}.env[{index}]");
        if variable["name"].as_str().unwrap_or_default().is_empty() {
            causes.push(Cause::required(format!("{path}.name"), ""));
        }
        let Some(from) = variable.get("valueFrom") else { continue };
        let path = format!("{path}.valueFrom");
        let sources = from.as_object().map_or(0, serde_json::Map::len);
        if sources != 1 {
            let why = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
            causes.push(Cause::invalid(path.clone(), &json!(""), why));
        }
        if variable["value"].as_str().is_some_and(|value| !value.is_empty()) {
            let why = "may not be specified when `value` is not empty";
            causes.push(Cause::invalid(path.clone(), &json!(""), why));
        }
        if let Some(field) = from["fieldRef"]["fieldPath"].as_str() {
            let of_map = ["metadata.labels['", "metadata.annotations['"];
            if !FIELDS.contains(&field) && !of_map.iter().any(|start| field.starts_with(start)) {
                let field_path = format!("{path}.fieldRef.fieldPath");
                causes.push(Cause::unsupported(field_path, &json!(field), FIELDS));
            }
        }
    }
}

fn check_mounts(container: &Value, path: &str, volumes: &BTreeSet<&str>, causes: &mut Vec<Cause>) {
    let mut places = BTreeSet::new();
    for (index, mount) in list(&container["volumeMounts"]).iter().enumerate() {
        let path = format!("{path}.volumeMounts[{index}]");
        if !volumes.contains(mount["name"].as_str().unwrap_or_default()) {
            causes.push(Cause::not_found(format!("{path}.name"), &mount["name"]));
        }
        let place = mount["mountPath"].as_str().unwrap_or_default();
        if place.is_empty() {
            causes.push(Cause::required(format!("{path}.mountPath"), ""));
        } else if !places.insert(place) {
            let field = format!("{path}.mountPath");
            causes.push(Cause::invalid(field, &json!(place), "must be unique"));
        }
    }
}

fn check_security(container: &Value, path: &str, causes: &mut Vec<Cause>) {
    let security = &container["securityContext"];
    let path = format!("{path}.securityContext");
    for field in ["runAsUser", "runAsGroup"] {
        let id = &security[field];
        if !id.is_null() && !id.as_i64().is_some_and(|id| (0..=2_147_483_647).contains(&id)) {
            let why = "must be between 0 and 2147483647, inclusive";
            causes.push(Cause::invalid(format!("{path}.{field}"), id, why));
        }
    }
    if security["allowPrivilegeEscalation"] == false {
        let adds_admin =
            list(&security["capabilities"]["add"]).iter().any(|one| one == "CAP_SYS_ADMIN");
        if security["privileged"] == true || adds_admin {
            let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            causes.push(Cause::invalid(path, security, why));
        }
    }
}

fn check_resources(container: &Value, path: &str, causes: &mut Vec<Cause>) {
    let resources = &container["resources"];
    let amount_of = |list: &str, name: &str| amount(resources[list][name].as_str()?);
    for list in ["limits", "requests"] {
        for (name, quantity) in resources[list].as_object().into_iter().flatten() {
            if amount_of(list, name).is_some_and(|amount| amount < 0.0) {
                let field = format!("{path}.resources.{list}[{name}]");
                causes.push(Cause::invalid(field, quantity, "must be greater than or equal to 0"));
            }
        }
    }
    for (name, request) in resources["requests"].as_object().into_iter().flatten() {
        let limit = amount_of("limits", name);
        if amount_of("requests", name).zip(limit).is_some_and(|(request, limit)| request > limit) {
            let limit = resources["limits"][name].as_str().unwrap_or_default();
            let why = format!("must be less than or equal to {name} limit of {limit}");
            causes.push(Cause::invalid(format!("{path}.resources.requests"), request, &why));
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
